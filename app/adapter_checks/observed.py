"""Watching an adapter in a fit: which of its hooks are called, and what holds when they are."""

from __future__ import annotations

import copy
import functools
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, cast

import lightning.pytorch as pl
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.utilities import rank_zero_only

if TYPE_CHECKING:
    from phasewire.adapters.base import StrategyAdapter

__all__ = ["COUNTED_HOOKS", "Phase", "Trial", "WatchedStrategy", "observed"]

#: The hooks whose place or number of calls is part of the contract. Those that translate names are called wherever
#: names are needed, and an adapter may call them itself.
COUNTED_HOOKS: Final = (
    "__init__",
    "connect",
    "on_before_init_fts",
    "gen_ft_schedule",
    "validate_ft_sched",
    "on_after_init_fts",
    "on_before_fts_fit_start",
    "phase0_optimizer_override",
    "on_validate_monitor_metric",
    "lightning_module_state_dict",
    "before_restore_model",
    "load_model_state_dict",
    "on_before_restore_optimizers_and_lrs",
    "on_phase_thawed",
)

# Any: to a type checker it is an overloaded function, on which Lightning keeps the rank.
_ranked: Any = rank_zero_only


class WatchedStrategy(SingleDeviceStrategy):
    """A single device that counts checkpoints, and answers as a rank other than 0 when it is given one."""

    def __init__(self) -> None:
        super().__init__(device="cpu")
        self.written = 0
        """How many checkpoints were written."""
        self.read = 0
        """How many were read."""

    @property
    def is_global_zero(self) -> bool:
        """Whether this is the process that writes."""
        return self.global_rank == 0

    # Any, here and below: the arguments and the values of a checkpoint are Lightning's.
    def save_checkpoint(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Write a checkpoint, and count it."""
        self.written += 1
        super().save_checkpoint(*args, **kwargs)

    def load_checkpoint(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # noqa: ANN401
        """Read a checkpoint, and count it."""
        self.read += 1
        return super().load_checkpoint(*args, **kwargs)


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
    optimizes_everything: bool = False
    """Whether the module gave its optimizer every parameter, thawed or not."""
    monitors: int = 0
    """How many metrics are monitored."""
    over: bool = False
    """Whether what is called from now on is no longer a part of it."""
    error: Exception | SystemExit | None = None
    """What stopped the fit."""

    @property
    def written(self) -> int:
        """How many checkpoints were written."""
        return self._strategy().written

    @property
    def read(self) -> int:
        """How many checkpoints were read."""
        return self._strategy().read

    def _strategy(self) -> WatchedStrategy:
        return cast("WatchedStrategy", self.trainer.strategy)

    @property
    def stopped(self) -> str:
        """Why the fit stopped, as a sentence."""
        place = f" in {self.running}" if self.running else ""
        return f"The fit stopped{place} with {type(self.error).__name__}: {self.error}"


@contextmanager
def _as_other_rank(strategy: WatchedStrategy) -> Iterator[None]:
    before = _ranked.rank
    strategy.global_rank = _ranked.rank = 1
    try:
        yield
    finally:
        strategy.global_rank, _ranked.rank = 0, before


def observed(adapter_class: type[StrategyAdapter], notes: list[Trial]) -> type[StrategyAdapter]:
    """Make a subclass, of the same name, that notes the calls it gets.

    Args:
        adapter_class: The class of the adapter.
        notes: Where to note them: the last one.

    Returns:
        The subclass.
    """
    hooks = {hook: _noting(hook, getattr(adapter_class, hook), notes) for hook in COUNTED_HOOKS}
    names = {"__module__": adapter_class.__module__, "__qualname__": adapter_class.__qualname__}
    made = types.new_class(adapter_class.__name__, (adapter_class,), exec_body=lambda body: body.update(names | hooks))
    return cast("type[StrategyAdapter]", made)


def _noting(hook: str, original: Callable[..., object], notes: list[Trial]) -> Callable[..., object]:
    @functools.wraps(original)  # the signature of the constructor tells which options there are
    def noted(adapter: StrategyAdapter, *args: object, **kwargs: object) -> object:
        trial = notes[-1]
        if trial.over:
            return original(adapter, *args, **kwargs)
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
    strategy = cast("WatchedStrategy", trial.trainer.strategy)
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
