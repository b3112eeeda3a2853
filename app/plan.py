"""What a schedule would do to a model, phase by phase, without training anything."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import nn

from phasewire.adapters.errors import ConfigError
from phasewire.adapters.name_rules import NameRules
from phasewire.app.class_path import BuildError
from phasewire.app.criteria_settings import EARLY_STOPPING, EPOCHS, criteria_of
from phasewire.app.model_views import ModelViews
from phasewire.app.planned_fit import PlannedFit
from phasewire.app.schedule.generate import generate_default
from phasewire.app.schedule.model import Schedule
from phasewire.app.schedule.validate import ResolvedPhase, ResolvedSchedule, ScheduleValidator, shared_parameter_names

if TYPE_CHECKING:
    from rich.table import Table

    from phasewire.adapters.base import StrategyAdapter
    from phasewire.app.settings import SchedulerSettings

__all__ = ["Plan", "PlannedPhase", "build_model", "plan_schedule"]

_MOST_ROWS = 200


@dataclass(frozen=True, slots=True)
class PlannedPhase:
    """One row of a plan."""

    depth: int
    """The phase, from 0."""
    names: int
    """How many parameter tensors the phase thaws."""
    parameters: int
    """How many numbers the phase thaws."""
    thawed: int
    """How many numbers are thawed once the phase begins, those of earlier phases included."""
    lr: float | None
    """The learning rate the phase's groups start with; ``None`` leaves the optimizer's own."""
    moves_on: str
    """When the phase ends, in words."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a schedule would do to a model."""

    model: str
    """The model's class."""
    total: int
    """How many numbers all parameters of the model hold."""
    phases: tuple[PlannedPhase, ...]
    """The phases that would be trained."""
    untrained_phases: int
    """How many phases of the schedule lie beyond ``max_depth``."""
    warnings: tuple[str, ...]
    """What the validator remarked on."""

    def _shown(self) -> Iterator[PlannedPhase | None]:
        """Give the rows: all of a schedule that a person can read, the ends of a longer one around a gap."""
        if len(self.phases) <= _MOST_ROWS:
            yield from self.phases
            return
        yield from self.phases[: _MOST_ROWS // 2]
        yield None
        yield from self.phases[-_MOST_ROWS // 2 :]

    def table(self) -> Table:
        """Render the plan.

        Returns:
            A table with one row a phase.
        """
        from rich.table import Table

        table = Table(title=f"{self.model}: {self.total:,} parameters in {_count(self.phases)}")
        for heading in ("Phase", "Tensors", "Parameters", "Share", "Thawed so far", "Learning rate"):
            table.add_column(heading, justify="right", overflow="fold")
        table.add_column("Moves on", overflow="fold")
        for phase in self._shown():
            if phase is None:
                table.add_row("⋮")
                continue
            table.add_row(
                str(phase.depth),
                f"{phase.names:,}",
                f"{phase.parameters:,}",
                _percent(phase.parameters, self.total),
                _percent(phase.thawed, self.total),
                "the optimizer's" if phase.lr is None else f"{phase.lr:g}",
                phase.moves_on,
            )
        return table


def build_model(build: Callable[[], object], *, on_meta: bool = True) -> nn.Module:
    """Build a model, by default without storage for its parameters.

    ``configure_model`` is called too where the model overrides it, since layers may be built there.

    Args:
        build: Makes the model, such as ``container.model``.
        on_meta: Build on the meta device, where tensors have a shape and no values; otherwise on the CPU.

    Returns:
        The model.

    Raises:
        ConfigError: The model's class cannot be imported, is no module, or its constructor failed.
    """
    with torch.device("meta" if on_meta else "cpu"):
        model = _built(build, on_meta=on_meta)
        if isinstance(model, LightningModule) and is_overridden("configure_model", model):
            _configure(model)
    return model


def plan_schedule(
    model: nn.Module,
    schedule: Schedule | None,
    settings: SchedulerSettings,
    validator: ScheduleValidator,
    *,
    max_epochs: int | None = None,
    adapter: StrategyAdapter | None = None,
    model_views: ModelViews | None = None,
) -> Plan:
    """Work out what a schedule would do to a model.

    Args:
        model: The model; only names, shapes and sharing of its parameters are looked at.
        schedule: The schedule; ``None`` takes the one that would be generated.
        settings: The scheduler's settings; ``base_max_lr``, ``max_depth``, ``epoch_transitions_only`` and
            ``transition_criteria`` matter here. No criterion is imported.
        validator: Checks the schedule against the model.
        max_epochs: That of the Trainer; ``None`` when it is not known, -1 when there is no limit.
        adapter: The adapter whose names the schedule is written in; ``None`` for the model's own.
        model_views: Finds the view that the adapter names.

    Returns:
        The plan.

    Raises:
        ScheduleError: The schedule does not fit the model.
        AdapterError: The adapter gives no names; it is a :class:`~phasewire.app.planned_fit.NeedsFitError` where it
            would in a fit.
    """
    named_parameters = dict(model.named_parameters())
    ends = _Ends.by(settings)

    def validate(given: Schedule, named: Mapping[str, nn.Parameter], rules: NameRules) -> ResolvedSchedule:
        return validator.validate(
            given,
            named,
            base_max_lr=settings.base_max_lr,
            epoch_transitions_only=not ends.others,
            epochs_end_phases=ends.epochs,
            max_epochs=max_epochs,
            rules=rules,
        )

    own_names: Callable[[Sequence[str]], Sequence[str]]
    if adapter is None:
        given = generate_default(list(named_parameters)) if schedule is None else schedule
        resolved = validate(given, named_parameters, NameRules(shared_parameter_names(model)))
        own_names = tuple
    else:
        fit = PlannedFit(adapter, model, validate, model_views or ModelViews(), settings.base_max_lr)
        resolved, own_names = fit.resolve(schedule), fit.own_names
    last = resolved.final_depth if settings.max_depth == -1 else min(settings.max_depth, resolved.final_depth)
    thawed = 0
    planned = []
    for depth, phase in enumerate(resolved.phases[: last + 1]):
        names = own_names(phase.params)
        parameters = _elements(named_parameters[name] for name in names)
        thawed += parameters
        planned.append(
            PlannedPhase(
                depth=depth,
                names=len(names),
                parameters=parameters,
                thawed=thawed,
                lr=phase.lr,
                moves_on=_moves_on(phase, ends, is_last=depth == last),
            )
        )
    return Plan(
        model=type(model).__name__,
        total=_elements(named_parameters.values()),
        phases=tuple(planned),
        untrained_phases=resolved.final_depth - last,
        warnings=(*resolved.warnings, *_out_of_reach(resolved.phases[: last + 1], ends, max_epochs)),
    )


@dataclass(frozen=True, slots=True)
class _Ends:
    """What ends a phase."""

    epochs: bool
    others: str

    @classmethod
    def by(cls, settings: SchedulerSettings) -> _Ends:
        names = [
            choice.reference if isinstance(choice.reference, str) else choice.reference.__name__
            for choice in criteria_of(settings)
        ]
        others = ["early stopping" if name.lower() == EARLY_STOPPING else name for name in names]
        others = [name for name in others if name.lower() != EPOCHS]
        return cls(len(others) < len(names), " or ".join(others))


def _out_of_reach(phases: Sequence[ResolvedPhase], ends: _Ends, max_epochs: int | None) -> Iterator[str]:
    """Say which phase epochs alone cannot reach; an epoch of the last phase raises ``max_epochs``."""
    if not ends.epochs or max_epochs is None or max_epochs < 0 or phases[-1].max_transition_epoch >= 0:
        return
    for depth, phase in enumerate(phases[:-1]):
        if phase.max_transition_epoch >= max_epochs:
            yield (
                f"Phase {depth} may last to epoch {phase.max_transition_epoch}, and max_epochs is {max_epochs}: phase "
                f"{depth + 1} is reached only if {ends.others} ends the phases before it."
            )
            return


def _built(build: Callable[[], object], *, on_meta: bool) -> nn.Module:
    try:
        model = build()
    except BuildError as error:
        if not on_meta:
            raise
        raise ConfigError(
            f"On the meta device, where tensors have no values, {error.problem}",
            where=error.where,
            remedy="Build it on the CPU with --on-cpu if its constructor reads or computes values.",
        ) from error
    if not isinstance(model, nn.Module):
        raise ConfigError(
            f"The model is a {type(model).__name__}, which is no torch module.",
            remedy="Name a LightningModule, or any torch.nn.Module.",
        )
    return model


def _configure(model: LightningModule) -> None:
    try:
        model.configure_model()
    except RuntimeError as error:
        # Sharding is often set up here as well, and needs processes that only a fit has.
        warnings.warn(
            f"{type(model).__name__}.configure_model() cannot run outside a fit ({error}); the plan shows the "
            "parameters that exist without it.",
            stacklevel=3,
        )


def _moves_on(phase: ResolvedPhase, ends: _Ends, *, is_last: bool) -> str:
    has_epoch = ends.epochs and phase.max_transition_epoch >= 0
    if is_last:
        return f"to max_epochs, at least to epoch {phase.max_transition_epoch}" if has_epoch else "to max_epochs"
    if not has_epoch:
        return f"by {ends.others}"
    if not ends.others:
        return f"at epoch {phase.max_transition_epoch}"
    return f"by {ends.others}, at epoch {phase.max_transition_epoch} at the latest"


def _elements(parameters: Iterable[nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def _count(phases: tuple[PlannedPhase, ...]) -> str:
    return "1 phase" if len(phases) == 1 else f"{len(phases):,} phases"


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"
