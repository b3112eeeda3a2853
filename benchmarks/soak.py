"""What a long life leaves behind: ``python benchmarks/soak.py``, or with ``transitions`` or ``fits`` one part of it.

``transitions`` goes through 10,000 transitions in one process, 50 a fit, each of which restores the best checkpoint.
``fits`` trains 1,000 times with one container, and every tenth time the training fails. Both print what the process
holds, as it goes on: resident memory, objects that Python's collector knows, open files, and what was logged; and fail
where something grows that should not. Linux alone tells the memory and the open files.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import logging
import os
import shutil
import signal
import sys
import tempfile
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, OnExceptionCheckpoint
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from phasewire.adapters.rank_zero import LOGGER_NAME
from phasewire.app import FinetuningScheduler, FTSCheckpoint
from phasewire.containers import Container

PHASES_PER_FIT: Final = 51
TRANSITIONS_PER_FIT: Final = PHASES_PER_FIT - 1
PHASES_OF_A_SHORT_FIT: Final = 3
MOST_GROWTH_BYTES: Final = 1_000_000
#: How often a fit fails: every tenth time.
FAILS_EVERY: Final = 10


class Chain(pl.LightningModule):
    """Multiplies by one number after the other; each phase thaws one of them."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.factors = nn.ParameterList(nn.Parameter(torch.ones(1)) for _ in range(length))

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """Give the loss."""
        product = batch
        for factor in self.factors:
            product = product * factor
        return (product - 2 * batch).square().mean()

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        """Log the loss."""
        self.log("val_loss", self.training_step(batch, batch_idx))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Train what phase 0 thaws."""
        return torch.optim.SGD([each for each in self.parameters() if each.requires_grad], lr=0.01, momentum=0.9)


class Batches:
    """One batch, always the same; a list of batches would be taken for a list of dataloaders."""

    def __iter__(self) -> Iterator[Tensor]:
        yield torch.ones(2)

    def __len__(self) -> int:
        return 1


class FailingError(Exception):
    """What a training fails with here."""


class Failing(Callback):
    """Fails in the middle of a training."""

    def __init__(self, at_step: int) -> None:
        self.at_step = at_step

    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        """Fail, when it is time."""
        if trainer.global_step >= self.at_step:
            raise FailingError


def schedule_of(phases: int) -> dict[int, dict[str, Any]]:
    """Give a schedule that thaws one number in every epoch."""
    schedule: dict[int, dict[str, Any]] = {
        depth: {"params": [rf"factors\.{phases - 1 - depth}$"], "max_transition_epoch": depth + 1}
        for depth in range(phases)
    }
    return schedule


def fit_once(scheduler: FinetuningScheduler, phases: int, folder: Path, *others: Callback) -> tuple[pl.Trainer, Chain]:
    """Train a chain through its schedule, with a checkpoint after every epoch."""
    module = Chain(phases)
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=phases,
        limit_train_batches=1,
        limit_val_batches=1,
        num_sanity_val_steps=0,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=[scheduler, FTSCheckpoint(folder, monitor="val_loss", filename="{epoch}"), *others],
    )
    with suppress(FailingError):
        trainer.fit(module, Batches(), Batches())  # type: ignore[arg-type]  # any iterable will do
    return trainer, module


# -- what a process holds ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Held:
    """What a process holds at one moment."""

    memory: int
    """Resident memory in bytes that is the process's own, after what is free was given back to the system: without the
    pages of libraries and files, which the system drops and reads again as it likes. 0 where nobody tells."""
    objects: int
    """Objects that Python's garbage collector knows."""
    files: int
    """Open files; 0 where nobody tells."""
    logged: int
    """Bytes that were logged."""


def held_now(log: Path) -> Held:
    """Tell what this process holds."""
    gc.collect()
    if sys.platform != "linux":
        return Held(0, len(gc.get_objects()), 0, log.stat().st_size)
    ctypes.CDLL(None).malloc_trim(0)
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    memory = int(status["RssAnon"].split()[0]) * 1024
    return Held(memory, len(gc.get_objects()), len(os.listdir("/proc/self/fd")), log.stat().st_size)  # noqa: PTH208


def shared_state() -> dict[str, object]:
    """Tell what a fit could change for the whole process."""
    loggers = {
        name: (logger.level, tuple(map(id, logger.handlers)), logger.propagate, tuple(map(id, logger.filters)))
        for name, logger in logging.root.manager.loggerDict.items()
        if isinstance(logger, logging.Logger) and name.startswith(("lightning", "phasewire", "torch"))
    }
    return {
        "loggers": loggers,
        "root logger": (logging.root.level, tuple(map(id, logging.root.handlers))),
        "warnings filters": list(warnings.filters),
        "signal handlers": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "methods of Trainer": _methods(pl.Trainer),
        "methods of LightningModule": _methods(pl.LightningModule),
        "methods of the module": _methods(Chain),
        "methods of the callback": _methods(FinetuningScheduler),
        "methods of the strategy": _methods(pl.strategies.SingleDeviceStrategy),
        "methods of the optimizer": _methods(torch.optim.SGD),
        "hooks of all modules": _global_hooks(),
        "default dtype": torch.get_default_dtype(),
        "gradients are recorded": torch.is_grad_enabled(),
        "exception hook": sys.excepthook,
    }


def _methods(kind: type) -> dict[str, int]:
    return {name: id(member) for base in kind.__mro__[:-1] for name, member in vars(base).items() if callable(member)}


def _global_hooks() -> dict[str, int]:
    from torch.nn.modules import module

    return {name: len(hooks) for name, hooks in vars(module).items() if name.startswith("_global_") and hooks}


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Write all that Lightning and Phasewire tell to a file, and nothing to the screen."""
    logger, handler = logging.getLogger("lightning.pytorch"), logging.FileHandler(path)
    before = logger.handlers[:], logger.propagate, logger.level
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.INFO)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.handlers, logger.propagate = before[:2]
        logger.setLevel(before[2])
        handler.close()


# -- the two soaks -------------------------------------------------------------------------------------------------


@dataclass
class Soak:
    """What was seen in a soak."""

    title: str
    counted: str
    seen: list[tuple[int, Held]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def growth(self, *, after: int) -> Held:
        """Tell what was added from one count on to the end."""
        first, last = next(held for count, held in self.seen if count >= after), self.seen[-1][1]
        return Held(
            last.memory - first.memory,
            last.objects - first.objects,
            last.files - first.files,
            last.logged - first.logged,
        )

    def log_is_linear(self) -> bool:
        """Tell whether the second half logged as much as the first, to the tenth."""
        (begun, first), (middle, half), (ended, last) = self.seen[0], self.seen[len(self.seen) // 2], self.seen[-1]
        if first is half or half is last:
            return True
        rates = (half.logged - first.logged) / (middle - begun), (last.logged - half.logged) / (ended - middle)
        return max(rates) <= 1.1 * min(rates)

    def print(self) -> None:
        """Print the table."""
        table = Table(title=self.title)
        for heading in (self.counted, "memory, MB", "objects", "open files", "logged, kB"):
            table.add_column(heading, justify="right")
        for count, held in self.seen:
            table.add_row(
                f"{count:,}",
                f"{held.memory / 1e6:.2f}",
                f"{held.objects:,}",
                f"{held.files}",
                f"{held.logged / 1e3:.1f}",
            )
        Console().print(table)


def soak_transitions(transitions: int, *, looks: int = 10) -> Soak:
    """Go through transitions, many in a fit.

    Args:
        transitions: How many.
        looks: How often to look at what the process holds.
    """
    soak = Soak(f"{transitions:,} transitions, {TRANSITIONS_PER_FIT} a fit", "transitions")
    fits = transitions // TRANSITIONS_PER_FIT
    schedule, seen = schedule_of(PHASES_PER_FIT), 0

    def fit(folder: Path) -> None:
        nonlocal seen
        scheduler = FinetuningScheduler(schedule, epoch_transitions_only=True, log_dir=folder)
        fit_once(scheduler, PHASES_PER_FIT, folder)
        seen += scheduler.curr_depth

    _soak(soak, fits, fit, looks=looks, counts=TRANSITIONS_PER_FIT)
    seen -= TRANSITIONS_PER_FIT  # those of the fit that begins
    if seen != fits * TRANSITIONS_PER_FIT:
        soak.problems.append(f"{seen} transitions happened, not {fits * TRANSITIONS_PER_FIT}")
    return soak


def soak_fits(fits: int, *, looks: int = 10) -> Soak:
    """Train again and again with one container.

    Args:
        fits: How often.
        looks: How often to look at what the process holds.
    """
    soak = Soak(f"{fits:,} fits with one container, every tenth of which fails", "fits")
    container = Container()
    container.config.from_dict({"scheduler": {"epoch_transitions_only": True}})
    schedule, number = schedule_of(PHASES_OF_A_SHORT_FIT), 0
    alive: list[tuple[str, weakref.ref[object]]] = []

    def fit(folder: Path) -> None:
        nonlocal number
        number += 1
        # Half of those that fail do so in the middle of a transition's epoch, and leave a checkpoint.
        failing = (Failing(1 + number // FAILS_EVERY % 3),) if number % FAILS_EVERY == 0 else ()
        saving = OnExceptionCheckpoint(folder / "exception")
        scheduler = container.scheduler(ft_schedule=schedule, log_dir=folder)
        trainer, module = fit_once(scheduler, PHASES_OF_A_SHORT_FIT, folder, *failing, saving)
        replaced = sorted(
            f"{type(each).__name__}.{name}"
            for each in (module, trainer, trainer.strategy)
            for name, value in vars(each).items()
            if callable(value) and hasattr(type(each), name)
        )
        if replaced:
            soak.problems.append(f"fit {number}: {', '.join(replaced)} is still replaced")
        if failing and not (folder / "exception" / "on_exception.ckpt").is_file():
            soak.problems.append(f"fit {number}: no checkpoint was saved on the exception")
        alive[:] = [
            (type(each).__name__, weakref.ref(each))
            for each in (module, trainer, trainer.strategy, scheduler, trainer.optimizers[0], module.factors[0])
        ]

    _soak(soak, fits, fit, looks=looks, counts=1)
    soak.problems += [f"a {name} is still alive" for name, reference in alive if reference() is not None]
    return soak


def _soak(soak: Soak, fits: int, fit: Callable[[Path], None], *, looks: int, counts: int) -> None:
    every = max(1, fits // looks)
    with tempfile.TemporaryDirectory() as name:
        log, work = Path(name, "log.txt"), Path(name, "work")
        with logging_to(log):
            fit(work)  # what is imported and cached once
            shutil.rmtree(work)
            state = shared_state()
            for number in range(fits):
                if number % every == 0:
                    soak.seen.append((number * counts, held_now(log)))
                fit(work)
                shutil.rmtree(work)
            soak.seen.append((fits * counts, held_now(log)))
            now = shared_state()
            soak.problems += [f"{name} changed" for name in state if state[name] != now[name]]


def checked(soak: Soak, *, after: int) -> Soak:
    """Note what grew that should not."""
    growth = soak.growth(after=after)
    if growth.memory > MOST_GROWTH_BYTES:
        soak.problems.append(f"memory grew by {growth.memory / 1e6:.2f} MB after the first {after:,} {soak.counted}")
    if growth.files > 0:
        soak.problems.append(f"{growth.files} more files are open")
    if not soak.log_is_linear():
        soak.problems.append("what is logged does not grow in proportion")
    return soak


def main() -> None:
    """Run what is asked for, and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=("transitions", "fits"), help="only this part")
    parser.add_argument("--transitions", type=int, default=10_000, help="how many (10,000)")
    parser.add_argument("--fits", type=int, default=1_000, help="how many (1,000)")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    soaks = []
    if asked.part != "fits":
        soaks.append(checked(soak_transitions(asked.transitions), after=asked.transitions // 10))
        soaks[-1].print()
    if asked.part != "transitions":
        soaks.append(checked(soak_fits(asked.fits), after=asked.fits // 10))
        soaks[-1].print()
    problems = [problem for soak in soaks for problem in soak.problems]
    if problems:
        sys.exit("\n".join(problems[:20]))
    sys.stdout.write(f"Nothing is left over. (Phasewire's logger is {LOGGER_NAME}.)\n")


if __name__ == "__main__":
    main()
