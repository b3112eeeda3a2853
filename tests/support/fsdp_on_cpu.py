"""FSDP1 on the CPU, in one process or two, for tests: Lightning and torch ask for a GPU in three places.

The check of Lightning's flag lets a subclass pass. torch takes no device id for a GPU that is there, and Lightning
offloads full state dicts in a way that crashes on the CPU.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from lightning.pytorch.strategies import FSDPStrategy
from torch.distributed.fsdp import (
    FullOptimStateDictConfig,
    FullStateDictConfig,
    FullyShardedDataParallel,
    StateDictType,
    _init_utils,
)


class CPUFSDPStrategy(FSDPStrategy):
    """Passes the check of ``Trainer(strategy=...)``, which looks at the class alone."""


@contextmanager
def fsdp_on_cpu() -> Iterator[None]:
    """Let ``CPUFSDPStrategy`` run on the CPU inside the block."""
    own = _init_utils._init_device_handle

    def init_device_handle(state: Any, module: Any, ignored_params: Any, device_id: Any) -> Any:
        return own(state, module, ignored_params, torch.device("cpu") if device_id is None else device_id)

    def full_context(module: Any, world_size: int, rank0_only: bool = True) -> Any:
        return FullyShardedDataParallel.state_dict_type(
            module,
            StateDictType.FULL_STATE_DICT,
            FullStateDictConfig(offload_to_cpu=False, rank0_only=rank0_only),
            FullOptimStateDictConfig(offload_to_cpu=False, rank0_only=rank0_only),
        )

    # Others may import what is not installed when they are asked for a name.
    known = [
        module for name, module in sys.modules.items() if name.startswith(("lightning.", "torch.distributed.fsdp"))
    ]
    holders = [module for module in known if "_get_full_state_dict_context" in vars(module)]
    users = [module for module in known if vars(module).get("_init_device_handle") is own]
    with (
        _all_patched(users, _init_device_handle=init_device_handle),
        _all_patched(holders, _get_full_state_dict_context=full_context),
    ):
        yield


@contextmanager
def _all_patched(modules: list[Any], **replacements: Any) -> Iterator[None]:
    patches = [patch.multiple(module, **replacements) for module in modules]
    for each in patches:
        each.start()
    try:
        yield
    finally:
        for each in patches:
            each.stop()


def in_two_processes(work: Callable[[int], None]) -> None:
    """Run a function in two forked processes that Lightning takes for those of one job.

    Args:
        work: Gets the rank.

    Raises:
        SystemExit: One failed.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=functools.partial(_run_as, rank, port, work)) for rank in range(2)]
    for process in processes:
        process.start()
    while any(process.is_alive() for process in processes):
        for process in processes:
            process.join(0.1)
        if any(process.exitcode for process in processes):
            # The other one waits for it for ever.
            for process in processes:
                process.kill()
    if any(process.exitcode for process in processes):
        raise SystemExit(1)


def _run_as(rank: int, port: int, work: Callable[[int], None]) -> None:
    surroundings = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "WORLD_SIZE": 2,
        "NODE_RANK": 0,
        "LOCAL_RANK": rank,
    }
    os.environ.update({name: str(value) for name, value in surroundings.items()})
    torch.set_num_threads(1)
    with fsdp_on_cpu():
        work(rank)


#: For ``pytest.mark.filterwarnings``: what torch and Lightning say of the CPU, of a single process, and of torch's own
#: deprecated ways that Lightning's strategy takes.
EXPECTED_WARNINGS = (
    "ignore:The passed-in `module` is on CPU:UserWarning",
    "ignore:FSDP is switching to use `NO_SHARD`:UserWarning",
    "ignore:When using ``NO_SHARD``:UserWarning",
    "ignore:FSDP.state_dict_type:FutureWarning",
    "ignore:Please use DTensor instead:FutureWarning",
    "ignore:`load_state_dict` is deprecated:FutureWarning",
    "ignore:`_get_pg_default_device` will be deprecated:UserWarning",
    "ignore:Multiple backends are registered with this ProcessGroup:UserWarning",
    "ignore:It is recommended to use .*sync_dist=True",
)
