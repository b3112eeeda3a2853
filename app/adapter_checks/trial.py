"""Trial fits: a short training that notes which hooks of an adapter are called and what the phases train."""

from __future__ import annotations

import copy
import logging
import types
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, cast

import lightning.pytorch as pl
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.utilities import rank_zero_only

from phasewire.adapters.rank_zero import LOGGER_NAME
from phasewire.app.adapter_checks.sample import MONITOR, RowlessBatches, train_without_data
from phasewire.app.phases.callbacks import FTSCheckpoint, FTSEarlyStopping
from phasewire.app.phases.scheduler import FinetuningScheduler

if TYPE_CHECKING:
    from phasewire.adapters.base import StrategyAdapter

__all__ = ["COUNTED_HOOKS", "Phase", "Trial", "module_restored_from", "run_trial"]

#: The hooks whose number of calls in a fit is part of the contract.
COUNTED_HOOKS: Final = (
    "connect",
    "on_before_init_fts",
    "gen_ft_schedule",
    "validate_ft_sched",
    "on_after_init_fts",
    "on_before_fts_fit_start",
    "on_phase_thawed",
)

_MOST_EPOCHS: Final = 8
_LOGGERS: Final = ("lightning.pytorch", LOGGER_NAME)

# Any: to a type checker it is an overloaded function, on which Lightning keeps the rank.
_ranked: Any = rank_zero_only


@dataclass(frozen=True, slots=True)
class Phase:
    """What held when a phase had been thawed."""

    depth: int
    trainable: frozenset[str]
    optimized: frozenset[str] | None
    """What the optimizer holds; ``None`` before there is one."""


@dataclass(slots=True)
class Trial:
    """What was noted in a fit."""

    folder: Path
    module: pl.LightningModule
    trainer: pl.Trainer
    adapter: StrategyAdapter | None = None
    calls: list[str] = field(default_factory=list)
    running: str | None = None
    """The hook that was entered last and has not returned."""
    phases: list[Phase] = field(default_factory=list)
    generated: object = None
    """What ``gen_ft_schedule`` returned."""
    validated: object = None
    """What ``validate_ft_sched`` returned."""
    schedule: dict[int, dict[str, Any]] = field(default_factory=dict)  # Any: the values of a schedule file
    """The schedule as the adapter left it when it had validated it."""
    other_rank: list[str] = field(default_factory=list)
    """What ``gen_ft_schedule`` did on a rank other than 0; empty when it did nothing."""
    checkpoint: Path | None = None
    error: Exception | SystemExit | None = None
    """What stopped the fit."""

    @property
    def stopped(self) -> str:
        """Why the fit stopped, as a sentence."""
        place = f" in {self.running}" if self.running else ""
        return f"The fit stopped{place} with {type(self.error).__name__}: {self.error}"


class _OneOfTwo(SingleDeviceStrategy):
    """A single device that answers as a rank other than 0 when it is given one."""

    def __init__(self) -> None:
        super().__init__(device="cpu")

    @property
    def is_global_zero(self) -> bool:
        return self.global_rank == 0


@contextmanager
def _as_other_rank(strategy: _OneOfTwo) -> Iterator[None]:
    before = _ranked.rank
    strategy.global_rank = _ranked.rank = 1
    try:
        yield
    finally:
        strategy.global_rank, _ranked.rank = 0, before


def run_trial(
    adapter_class: type[StrategyAdapter],
    cfg: Mapping[str, object],
    module: pl.LightningModule,
    folder: Path,
    schedule: dict[int, dict[str, Any]] | None = None,  # Any: the values of a schedule file
) -> Trial:
    """Train a module through two phases, and note what the adapter does.

    Args:
        adapter_class: The class of the adapter.
        cfg: Its options.
        module: The module; it is trained without data.
        folder: An empty folder.
        schedule: The schedule, whose phases then end by epochs; without one, it is generated.

    Returns:
        What was noted, of a fit that failed too.
    """
    notes: list[Trial] = []
    companions: list[pl.Callback] = []
    if schedule is None:
        companions = [FTSEarlyStopping(monitor=MONITOR, patience=1), FTSCheckpoint(dirpath=folder, monitor=MONITOR)]
    with _quiet():
        scheduler = FinetuningScheduler(
            schedule,
            max_depth=1,
            epoch_transitions_only=schedule is not None,
            restore_best=schedule is None,
            logging_level=logging.ERROR,
            custom_strategy_adapters={"auto": _observed(adapter_class, notes)},
            strategy_adapter_cfg=dict(cfg),
            log_dir=folder,
        )
        trainer = _quiet_trainer(folder, scheduler, *companions, checkpoints=schedule is None)
        trial = Trial(folder, module, trainer)
        notes.append(trial)
        try:
            trainer.fit(train_without_data(module), RowlessBatches(), RowlessBatches())
            trial.checkpoint = folder / "trained.ckpt"
            trainer.save_checkpoint(trial.checkpoint)
        except (Exception, SystemExit) as error:  # noqa: BLE001  # the rules report it, whatever it is
            trial.error = error
    return trial


def module_restored_from(
    checkpoint: Path, adapter_class: type[StrategyAdapter], cfg: Mapping[str, object], module: pl.LightningModule
) -> pl.LightningModule:
    """Restore another module from a checkpoint, as ``trainer.validate(ckpt_path=...)`` does.

    Args:
        checkpoint: A checkpoint that was written with the adapter.
        adapter_class: The class of the adapter.
        cfg: Its options.
        module: The module to restore.

    Returns:
        The module.
    """
    with _quiet():
        scheduler = FinetuningScheduler(
            logging_level=logging.ERROR,
            custom_strategy_adapters={"auto": adapter_class},
            strategy_adapter_cfg=dict(cfg),
            log_dir=checkpoint.parent,
        )
        trainer = _quiet_trainer(checkpoint.parent, scheduler)
        trainer.validate(train_without_data(module), RowlessBatches(), ckpt_path=checkpoint, verbose=False)
    return module


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep to itself what Lightning and Phasewire remark on the way: what counts is in the rules."""
    levels = {logger: logger.level for logger in map(logging.getLogger, _LOGGERS)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in levels:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in levels.items():
                logger.setLevel(level)


def _quiet_trainer(folder: Path, *callbacks: pl.Callback, checkpoints: bool = False) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu",
        strategy=_OneOfTwo(),
        callbacks=list(callbacks),
        default_root_dir=folder,
        enable_checkpointing=checkpoints,
        enable_model_summary=False,
        enable_progress_bar=False,
        logger=False,
        max_epochs=_MOST_EPOCHS,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
    )


def _observed(adapter_class: type[StrategyAdapter], notes: list[Trial]) -> type[StrategyAdapter]:
    """Make a subclass, of the same name, that notes the calls it gets."""
    hooks = {hook: _noting(hook, getattr(adapter_class, hook), notes) for hook in COUNTED_HOOKS}
    names = {"__module__": adapter_class.__module__, "__qualname__": adapter_class.__qualname__}
    made = types.new_class(adapter_class.__name__, (adapter_class,), exec_body=lambda body: body.update(names | hooks))
    return cast("type[StrategyAdapter]", made)


def _noting(hook: str, original: Callable[..., object], notes: list[Trial]) -> Callable[..., object]:
    def noted(adapter: StrategyAdapter, *args: object, **kwargs: object) -> object:
        trial = notes[-1]
        trial.adapter = adapter
        trial.calls.append(hook)
        outer, trial.running = trial.running, hook
        result = original(adapter, *args, **kwargs)
        if hook == "gen_ft_schedule" and trial.generated is None:
            trial.generated = result
            trial.other_rank = _done_on_another_rank(trial, lambda folder: original(adapter, folder))
        trial.running = outer
        _note_outcome(trial, adapter, hook, result, args)
        return result

    return noted


def _note_outcome(trial: Trial, adapter: StrategyAdapter, hook: str, result: object, args: tuple[object, ...]) -> None:
    if hook == "validate_ft_sched":
        trial.validated = result
        trial.schedule = copy.deepcopy(adapter.fts_handle.ft_schedule)
    elif hook == "on_after_init_fts":
        trial.phases.append(_phase(trial, 0))
    elif hook == "on_phase_thawed" and args and isinstance(args[0], int):
        trial.phases.append(_phase(trial, args[0]))


def _done_on_another_rank(trial: Trial, generate: Callable[[str], object]) -> list[str]:
    strategy = trial.trainer.strategy
    if not isinstance(strategy, _OneOfTwo):
        return []
    with TemporaryDirectory() as folder, _as_other_rank(strategy):
        path = generate(folder)
        done = [f"wrote {file.name}" for file in Path(folder).rglob("*")]
    return done if path is None else [*done, f"returned {path!r}"]


def _phase(trial: Trial, depth: int) -> Phase:
    names = {id(parameter): name for name, parameter in trial.module.named_parameters()}
    optimized = [
        names.get(id(parameter), "a parameter that the module does not have")
        for optimizer in trial.trainer.optimizers
        for group in optimizer.param_groups
        for parameter in group["params"]
    ]
    trainable = frozenset(name for name, parameter in trial.module.named_parameters() if parameter.requires_grad)
    return Phase(depth, trainable, frozenset(optimized) if trial.trainer.optimizers else None)
