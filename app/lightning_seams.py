"""Every place where Phasewire touches a private name of Lightning or torch, for lightning 2.6.6 and torch 2.13.0.

Each function says which private name it uses and why no public one serves. ``tests/app/test_lightning_seams.py`` fails
when one of them changes.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from lightning.pytorch.trainer.states import TrainerFn

from phasewire.adapters.sharding import reshard

if TYPE_CHECKING:
    import lightning.pytorch as pl
    from lightning.pytorch.callbacks import ModelCheckpoint
    from torch.nn.parallel import DistributedDataParallel
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

__all__ = [
    "CommunicationHook",
    "begin_epoch_anew",
    "begin_static_graph_anew",
    "communication_hooks",
    "forget_compiled_code",
    "is_metric_synchronised",
    "last_saved",
    "linking_with",
    "loading_checkpoint",
    "maintain_partition",
    "move_checkpoints_last",
    "overlaps_with_reduction",
    "refuses_several_optimizers",
    "restart_lr_scheduler",
    "restore_model_state",
    "restore_optimizer_state",
    "restore_save_progress",
    "resume_after_epoch",
    "resume_before_validation",
    "save_progress",
    "stands_for_no_optimizer",
    "state_dict_code",
    "step_of_loggers",
    "strategy_flag",
    "validation_follows",
]

C = TypeVar("C", bound="ModelCheckpoint")

#: A communication hook of DistributedDataParallel, and the state that it is called with.
CommunicationHook = tuple[Callable[..., Any], object]  # Any: hooks take a state of their own class


def strategy_flag(trainer: pl.Trainer) -> str | None:
    """Give the strategy flag where Lightning kept it as a string, such as ``"ddp_find_unused_parameters_true"``.

    Uses ``trainer._accelerator_connector._strategy_flag``: the registry builds the same class for many flags, and the
    instance does not remember which one it was built for.

    Args:
        trainer: The running Trainer.

    Returns:
        The flag, or ``None`` when the Trainer was given a strategy instance.
    """
    flag = trainer._accelerator_connector._strategy_flag
    return flag if isinstance(flag, str) else None


def move_checkpoints_last(callbacks: list[pl.Callback]) -> list[pl.Callback]:
    """Order callbacks as the Trainer does: checkpoint callbacks last, so that they save what the others decided.

    Uses ``_CallbackConnector._reorder_callbacks``: callbacks added after the Trainer was made must obey the same rule.

    Args:
        callbacks: The Trainer's callbacks.

    Returns:
        A new list.
    """
    from lightning.pytorch.trainer.connectors.callback_connector import _CallbackConnector

    return _CallbackConnector._reorder_callbacks(callbacks)


def is_metric_synchronised(trainer: pl.Trainer, monitor: str) -> bool:
    """Tell whether a metric logged during a fit holds the same value on every process.

    Uses the ``_results`` of the training and of the validation loop, and ``_forked_name`` of each: only the result
    collections know whether a value was logged with ``sync_dist``. ``trainer._results`` would do for one loop at a
    time: in ``on_train_epoch_end`` it no longer holds what validation logged.

    Args:
        trainer: The running Trainer.
        monitor: A name under which ``trainer.callback_metrics`` gives the metric, such as ``"loss_epoch"``.

    Returns:
        ``False`` only if there are several processes and the metric is a plain value logged without ``sync_dist``.
    """
    if trainer.world_size == 1:
        return True
    training = trainer.fit_loop.epoch_loop
    return all(
        metric.meta.sync.should or not metric.is_tensor
        for results in (training._results, training.val_loop._results)
        for metric in results.result_metrics
        if any(monitor in results._forked_name(metric, on_step) for on_step in (False, True))
    )


def stands_for_no_optimizer(optimizer: Optimizer) -> bool:
    """Tell whether Lightning made up an optimizer because the module configures none.

    Uses ``lightning.pytorch.core.optimizer._MockOptimizer``: nothing else tells it from an optimizer of the user.

    Args:
        optimizer: One of ``trainer.optimizers``.

    Returns:
        Whether it is made up.
    """
    from lightning.pytorch.core.optimizer import _MockOptimizer

    return isinstance(optimizer, _MockOptimizer)


def refuses_several_optimizers(error: RuntimeError) -> bool:
    """Tell whether Lightning refused several optimizers, which it does before any callback can see them.

    Recognises the text of ``lightning.pytorch.core.optimizer._validate_multiple_optimizers_support``: the error has no
    class of its own.

    Args:
        error: What ``strategy.setup`` raised.

    Returns:
        Whether it is that error.
    """
    return "multiple optimizers" in str(error)


def forget_compiled_code(module: pl.LightningModule) -> None:
    """Let ``torch.compile`` begin anew, where a part of a module is compiled.

    What was compiled holds for the parameters that required a gradient then. It would stay, and after
    ``torch._dynamo.config.recompile_limit`` phases (8) nothing more would be compiled.

    Uses the ``_compiled_call_impl`` that ``Module.compile()`` sets, and the ``_torchdynamo_orig_callable`` of what
    ``torch.compile`` returns, which is the ``forward`` of a part, the steps of a LightningModule that was compiled
    whole, or a method that the user compiled: no public name tells what is compiled. ``input_codes`` of
    ``torch._dynamo.convert_frame`` tells whether anything was compiled since it last began anew: looking at every part
    of a module in every phase would be quadratic.

    Args:
        module: The module whose parameters were thawed.
    """
    compiler = sys.modules.get("torch._dynamo.convert_frame")
    if compiler is not None and compiler.input_codes.seen and any(map(_is_compiled, module.modules())):
        torch.compiler.reset()


def _is_compiled(part: torch.nn.Module) -> bool:
    methods = (getattr(part, name, None) for name in ("forward", "training_step"))
    return part._compiled_call_impl is not None or any(
        hasattr(method, "_torchdynamo_orig_callable") for method in methods
    )


def state_dict_code(owner: torch.nn.Module | Optimizer) -> Iterator[Callable[..., object]]:
    """Give what runs when the state of a module or an optimizer is collected or loaded; not that of a module's parts.

    Uses ``Module._save_to_state_dict`` and ``Module._load_from_state_dict``, and the dicts in which modules and
    optimizers keep the hooks that are registered for it: no public name gives what was registered.

    Args:
        owner: The module or the optimizer.

    Yields:
        Its methods and hooks.
    """
    if isinstance(owner, torch.nn.Module):
        yield from (owner.state_dict, owner.get_extra_state, owner.set_extra_state)
        yield from (owner._save_to_state_dict, owner._load_from_state_dict)
        yield from (*owner._state_dict_pre_hooks.values(), *owner._state_dict_hooks.values())
        yield from (*owner._load_state_dict_pre_hooks.values(), *owner._load_state_dict_post_hooks.values())
    else:
        yield from (owner.state_dict, owner.load_state_dict, owner.__setstate__)
        yield from owner._optimizer_state_dict_pre_hooks.values()
        yield from owner._optimizer_state_dict_post_hooks.values()
        yield from owner._optimizer_load_state_dict_pre_hooks.values()
        yield from owner._optimizer_load_state_dict_post_hooks.values()


def restart_lr_scheduler(scheduler: LRScheduler) -> None:
    """Let an lr scheduler compute the rates of its first step again, after its groups were rebuilt.

    Uses ``LRScheduler._initial_step``: ``step()`` alone would warn that it ran before the optimizer.

    Args:
        scheduler: A scheduler whose ``base_lrs`` fit the optimizer's groups.
    """
    scheduler.last_epoch = -1
    scheduler._initial_step()


# Any: a checkpoint holds tensors, numbers, and whatever callbacks and modules put there.
@contextmanager
def loading_checkpoint(trainer: pl.Trainer, path: str) -> Iterator[dict[str, Any]]:
    """Read a checkpoint as ``fit(ckpt_path=...)`` would, and release it when done.

    Uses ``trainer._checkpoint_connector``: its public ``restore`` also restores callbacks and loops, which must go on
    from where they are when a phase ends. Under ``ModelParallelStrategy`` reading a folder of shards loads the weights:
    they are in place when the block is entered, and the module must be sharded before.

    Args:
        trainer: The running Trainer.
        path: The checkpoint to read; it goes through ``strategy.load_checkpoint``.

    Yields:
        The loaded checkpoint.
    """
    connector = trainer._checkpoint_connector
    resumed_from = connector._ckpt_path
    if isinstance(trainer.strategy, ModelParallelStrategy):
        reshard(trainer.lightning_module)
    try:
        connector.resume_start(path)
        yield connector._loaded_checkpoint
        # Only after success: it reports that all was restored, and waits for the other processes.
        connector.resume_end()
    finally:
        connector._loaded_checkpoint = {}
        connector._ckpt_path = resumed_from


def restore_model_state(trainer: pl.Trainer) -> None:
    """Load the module's state from the checkpoint of :func:`loading_checkpoint`, and the precision plugin's.

    Args:
        trainer: The running Trainer.
    """
    trainer._checkpoint_connector.restore_model()
    trainer._checkpoint_connector.restore_precision_plugin_state()


def restore_optimizer_state(trainer: pl.Trainer) -> None:
    """Load the optimizer's state from the checkpoint of :func:`loading_checkpoint`; lr schedulers are left alone.

    Args:
        trainer: The running Trainer, whose optimizer has the groups that the checkpoint was written with.
    """
    # Where Lightning leaves it to load_checkpoint, the strategy's own method does nothing, and one of ours loads.
    if trainer.state.fn == TrainerFn.FITTING:
        trainer._checkpoint_connector.restore_optimizers()


# Any: the values of a callback's state are of several types.
def save_progress(callback: ModelCheckpoint, *, saving_at: int | None) -> dict[str, Any]:
    """Tell what a checkpoint callback keeps of its last save, and leaves out of its state.

    Uses ``ModelCheckpoint._last_global_step_saved``, by which it saves only once in a step, and
    ``_defer_save_until_validation``, by which a save waits for the metric.

    Args:
        callback: The callback.
        saving_at: The step of the Trainer, if the callback itself is saving: it takes note only when it has saved.

    Returns:
        Plain values for :func:`restore_save_progress`.
    """
    return {
        "step": callback._last_global_step_saved if saving_at is None else saving_at,
        "deferred": callback._defer_save_until_validation,
    }


def restore_save_progress(callback: ModelCheckpoint, saved: Mapping[str, Any]) -> None:
    """Let a checkpoint callback go on from what :func:`save_progress` told, the rest of its state restored.

    Uses ``ModelCheckpoint._last_checkpoint_saved`` as well: a callback that has saved nothing saves when training ends.

    Args:
        callback: The callback.
        saved: What was told.
    """
    callback._last_global_step_saved = saved["step"]
    callback._defer_save_until_validation = saved["deferred"]
    callback._last_checkpoint_saved = callback.last_model_path or callback.best_model_path


def last_saved(callback: ModelCheckpoint) -> str:
    """Tell which file a checkpoint callback has saved last.

    Uses ``ModelCheckpoint._last_checkpoint_saved``: the public attributes tell the best and the one called last.

    Args:
        callback: The callback.

    Returns:
        The path; empty if there is none.
    """
    return callback._last_checkpoint_saved


def linking_with(replace_link: Callable[[Path, Path], None]) -> Callable[[type[C]], type[C]]:
    """Make a class decorator that gives a checkpoint callback another way to replace the link of ``save_last="link"``.

    Overrides ``ModelCheckpoint._link_checkpoint``, which removes the old link before it makes the new one.

    Args:
        replace_link: Takes the path of the link, which may exist, and that of the file to point to.

    Returns:
        The decorator.
    """

    def link(trainer: pl.Trainer, filepath: str, linkpath: str) -> None:
        link, target = Path(linkpath), Path(filepath)
        if trainer.is_global_zero and link.absolute() != target.absolute():
            if link.is_dir() and not link.is_symlink():
                shutil.rmtree(link)  # a folder of shards, which no file can replace
            replace_link(link, target)
        trainer.strategy.barrier()

    def decorate(kind: type[C]) -> type[C]:
        type.__setattr__(kind, "_link_checkpoint", staticmethod(link))
        return kind

    return decorate


def validation_follows(trainer: pl.Trainer) -> bool:
    """Tell whether validation comes next, or has begun with no batch yet; asked while a checkpoint is saved.

    Uses ``_should_check_val_fx`` of the training epoch loop and ``_data_fetcher`` of the fit loop: the answer depends
    on six settings of the Trainer and on the time.

    Args:
        trainer: The running Trainer.

    Returns:
        Whether it does: the batch that is just over is followed by it. Before a batch is over, nothing is known of it.
    """
    if trainer.validating:
        return trainer.fit_loop.epoch_loop.val_loop.batch_progress.current.ready == 0
    loop, fetcher = trainer.fit_loop.epoch_loop, trainer.fit_loop._data_fetcher
    batch = loop.batch_progress.current.state_dict()
    is_over = trainer.training and batch["started"] == batch["processed"] == batch["completed"] + 1
    return is_over and fetcher is not None and loop._should_check_val_fx(fetcher)


def resume_before_validation(checkpoint: Mapping[str, Any]) -> None:
    """Let a fit that resumes a checkpoint of ``on_train_batch_end`` begin with the validation that follows.

    Lightning would pass over it. It does return to a validation that was begun, so the progress of the loops is changed
    to say that. Uses the names under which ``_Loop.state_dict`` stores it.

    Args:
        checkpoint: What is about to be restored; changed in place.
    """
    loops = checkpoint["loops"]["fit_loop"]
    for batch in (loops["epoch_loop.batch_progress"]["total"], loops["epoch_loop.batch_progress"]["current"]):
        batch["completed"] = batch["processed"]
    validation = loops["epoch_loop.val_loop.batch_progress"]["total"]
    validation["processed"] = validation["completed"]
    validation["ready"] = validation["started"] = validation["completed"] + 1
    loops["epoch_loop.val_loop.batch_progress"]["current"] = dict.fromkeys(validation, 0)


def resume_after_epoch(checkpoint: Mapping[str, Any]) -> bool:
    """Let a fit that resumes a checkpoint of ``on_train_epoch_end`` begin with the next epoch.

    Lightning does so by itself, except with ``max_steps``, where it ends the same epoch a second time. Uses the names
    under which ``_Loop.state_dict`` stores the progress of the loops.

    Args:
        checkpoint: What is about to be restored; changed in place.

    Returns:
        Whether it was saved there, after all batches of the epoch; otherwise nothing was changed.
    """
    loops = checkpoint["loops"]["fit_loop"]
    epoch = loops["epoch_progress"]["current"]
    if not loops["epoch_loop.batch_progress"]["is_last_batch"] or epoch["processed"] != epoch["completed"] + 1:
        return False
    for progress in loops["epoch_progress"].values():
        progress["completed"] = progress["processed"]
    return True


def begin_epoch_anew(trainer: pl.Trainer) -> None:
    """Let the epoch that a resumed fit begins with be a whole one, whatever the restored progress of its loop says.

    Uses the setter of ``_Loop.restarting``, which type checkers do not see as one.

    Args:
        trainer: The Trainer, in ``on_train_start``.
    """
    type(trainer.fit_loop.epoch_loop).restarting.__set__(trainer.fit_loop.epoch_loop, False)


def communication_hooks(wrapped: DistributedDataParallel) -> list[CommunicationHook]:
    """Give the communication hooks of a wrapped module.

    Uses ``DistributedDataParallel._comm_hooks``: there is no public way to ask for them.

    Args:
        wrapped: The wrapped module.

    Returns:
        Each hook with its state; none when gradients are averaged as they are.
    """
    return list(wrapped._comm_hooks)


def begin_static_graph_anew(strategy: DDPStrategy) -> None:
    """Let a strategy with ``static_graph=True`` and manual optimization start the reduction of a first backward pass.

    Uses ``DDPStrategy._pl_static_graph_delay_done``, by which it does so once in its life. A module that is wrapped
    anew has a first backward pass again.

    Args:
        strategy: The running strategy.
    """
    strategy._pl_static_graph_delay_done = False


def overlaps_with_reduction(optimizer: Optimizer) -> bool:
    """Tell whether a ``ZeroRedundancyOptimizer`` steps while gradients are still being reduced.

    Uses ``ZeroRedundancyOptimizer._overlap_with_ddp``: no public attribute tells the argument.

    Args:
        optimizer: Any optimizer.

    Returns:
        Whether it was made with ``overlap_with_ddp=True``.
    """
    return bool(getattr(optimizer, "_overlap_with_ddp", False))


def maintain_partition(optimizer: Optimizer) -> None:
    """Let a ``ZeroRedundancyOptimizer`` distribute its parameters over processes anew, its groups having been replaced.

    What this process has learned of parameters that stay with it is kept. Uses ``_clear_cache``,
    ``_init_local_optimizer`` and ``_build_param_buckets`` of ``ZeroRedundancyOptimizer``: its public methods can only
    add groups.

    Args:
        optimizer: Any optimizer; all others have nothing to distribute.
    """
    if not hasattr(optimizer, "consolidate_state_dict"):
        return
    sharded: Any = optimizer  # torch annotates none of the names
    learned = sharded.optim.state
    sharded._clear_cache()
    sharded._init_local_optimizer()
    local = {id(parameter) for group in sharded.optim.param_groups for parameter in group["params"]}
    sharded.optim.state.update({each: state for each, state in learned.items() if id(each) in local})
    if sharded.parameters_as_bucket_view:
        sharded._build_param_buckets()


def step_of_loggers(trainer: pl.Trainer) -> int:
    """Give the step under which Lightning passes metrics to the loggers now.

    Uses ``trainer.fit_loop.epoch_loop._batches_that_stepped``: ``global_step`` counts the steps of all optimizers, so
    that with several of them its numbers are not those of what the module logs.

    Args:
        trainer: The running Trainer.

    Returns:
        The step.
    """
    return trainer.fit_loop.epoch_loop._batches_that_stepped
