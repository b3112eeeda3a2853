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
from torch.nn.parameter import UninitializedParameter

from phasewire.adapters.bridge_names import joint_projections
from phasewire.adapters.bridge_search import bridge_on
from phasewire.adapters.errors import AdapterError, ConfigError, did_you_mean
from phasewire.adapters.name_rules import NameRules
from phasewire.app.class_path import BuildError
from phasewire.app.criteria_settings import EARLY_STOPPING, EPOCHS, criteria_of
from phasewire.app.model_views import ModelViews
from phasewire.app.planned_fit import PlannedFit, default_schedule
from phasewire.app.planning.estimate import Estimate
from phasewire.app.planning.optimizers import (
    ConfigureError,
    PlannedOptimizer,
    configured_optimizer,
    configures_optimizer,
)
from phasewire.app.planning.precision import TrainedType
from phasewire.app.planning.sources import ParametersOnly
from phasewire.app.planning.values import Plan, PlannedParameter, PlannedPhase
from phasewire.app.reinit_settings import with_reinit_settings
from phasewire.app.schedule.model import ClassInit, Schedule
from phasewire.app.schedule.problems import joined
from phasewire.app.schedule.validate import ResolvedPhase, ResolvedSchedule, ScheduleValidator, shared_parameter_names
from phasewire.app.schedule_generators import ModuleNames

if TYPE_CHECKING:
    from phasewire.adapters.base import StrategyAdapter
    from phasewire.app.schedule.generators import NamedParameters
    from phasewire.app.settings import SchedulerSettings

__all__ = ["Plan", "PlannedParameter", "PlannedPhase", "build_model", "plan_schedule"]


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=4)


def build_model(build: Callable[[], object], *, on_meta: bool = True, warn: Callable[[str], None] = _warn) -> nn.Module:
    """Build a model, by default without storage for its parameters.

    ``configure_model`` is called too where the model overrides it, since layers may be built there.

    Args:
        build: Makes the model, such as ``container.model``.
        on_meta: Build on the meta device, where tensors have a shape and no values; otherwise on the CPU.
        warn: Is told in whole sentences what is missing from the model; a Python warning by default.

    Returns:
        The model.

    Raises:
        ConfigError: The model's class cannot be imported, is no module, or its constructor failed.
    """
    with torch.device("meta" if on_meta else "cpu"):
        model = _built(build, on_meta=on_meta)
        if isinstance(model, LightningModule) and is_overridden("configure_model", model):
            _configure(model, warn)
    return model


def plan_schedule(
    model: nn.Module,
    schedule: Schedule | None,
    settings: SchedulerSettings,
    validator: ScheduleValidator,
    *,
    max_epochs: int | None = None,
    precision: object = None,
    optimizer: ClassInit | None = None,
    adapter: StrategyAdapter | None = None,
    model_views: ModelViews | None = None,
    generate: Callable[[NamedParameters], Schedule] = default_schedule,
) -> Plan:
    """Work out what a schedule would do to a model.

    Args:
        model: The model; only names, shapes, types and sharing of its parameters are looked at, and its
            ``configure_optimizers`` is called with parameters that stand for them.
        schedule: The schedule; ``None`` takes the one that would be generated.
        settings: The scheduler's settings; those that say what the phases are and how they begin and end matter here.
            No criterion is imported.
        validator: Checks the schedule against the model.
        max_epochs: That of the Trainer; ``None`` when it is not known, -1 when there is no limit.
        precision: That of the Trainer; ``None`` for its default.
        optimizer: The optimizer of phase 0; ``None`` asks the model.
        adapter: The adapter whose names the schedule is written in; ``None`` for the model's own.
        model_views: Finds the view that the adapter names.
        generate: Makes the schedule where none is given, from what gives the names.

    Returns:
        The plan.

    Raises:
        ScheduleError: The schedule does not fit the model.
        AdapterError: The adapter gives no names; it is a :class:`~phasewire.app.planned_fit.NeedsFitError` where it
            would in a fit.
        ConfigError: There is no such precision, or the optimizer that was given cannot be built.
    """
    trained_type = TrainedType(precision)
    named_parameters, shapeless = _with_shapes(model)
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
    shown_names: Callable[[Sequence[str]], Sequence[str]]
    if adapter is None:
        given = generate(ModuleNames(model)) if schedule is None else schedule
        resolved = validate(given, named_parameters, NameRules(shared_parameter_names(model)))
        own_names = shown_names = tuple
    else:
        fit = PlannedFit(adapter, model, validate, model_views or ModelViews(), settings.base_max_lr)
        resolved, own_names = fit.resolve(schedule, generate), fit.own_names
        shown_names = fit.shown_names
    resolved = with_reinit_settings(resolved, settings)
    last = resolved.final_depth if settings.max_depth == -1 else min(settings.max_depth, resolved.final_depth)
    phases = resolved.phases[: last + 1]
    untrained = _never_trained(model, adapter)
    trained = {name: parameter for name, parameter in named_parameters.items() if name not in untrained}
    names_of = [
        tuple(name for name in _known(own_names(phase.params), named_parameters, depth) if name not in untrained)
        for depth, phase in enumerate(phases)
    ]
    first, groups, problems = _optimizer_of(model, names_of[0], trained_type, optimizer, settings)
    estimate = Estimate(first, groups, trained, trained_type, has_no_decay=bool(getattr(model, "no_decay", None)))
    planned = [
        estimate.begin(depth, phase, names, moves_on=_moves_on(phase, ends, is_last=depth == last))
        for depth, (phase, names) in enumerate(zip(phases, names_of, strict=True))
    ]
    depth_of = {name: depth for depth, names in enumerate(names_of) for name in names}
    return Plan(
        model=type(model).__name__,
        total=_elements(trained.values()),
        never_trained=_elements(named_parameters[name] for name in untrained),
        weight_bytes=sum(
            parameter.numel() * trained_type.of(parameter.dtype).itemsize for parameter in named_parameters.values()
        ),
        precision=trained_type.precision,
        optimizer=None if first is None else first.name,
        phases=tuple(planned),
        untrained_phases=resolved.final_depth - last,
        parameters=tuple(
            PlannedParameter(shown, parameter.numel(), depth_of.get(name))
            for shown, (name, parameter) in zip(shown_names(list(trained)), trained.items(), strict=True)
        ),
        assumes_optimizer=optimizer is None and not configures_optimizer(model),
        may_count_buffers=any(isinstance(module, ParametersOnly) for module in model.modules()),
        schedule_warnings=(*resolved.warnings, *_out_of_reach(phases, ends, max_epochs)),
        estimate_warnings=(*_uncounted(shapeless), *problems, *estimate.problems),
    )


def _with_shapes(model: nn.Module) -> tuple[dict[str, nn.Parameter], list[str]]:
    """Give the parameters by name, empty ones in the place of those that get a shape with the first batch alone."""
    named = dict(model.named_parameters())
    shapeless = [name for name, parameter in named.items() if isinstance(parameter, UninitializedParameter)]
    empty = {name: nn.Parameter(torch.empty(0, device="meta", dtype=named[name].dtype)) for name in shapeless}
    return {**named, **empty}, shapeless


def _uncounted(shapeless: Sequence[str]) -> Iterator[str]:
    if shapeless:
        yield (
            f"Lazy modules get the shapes of their parameters with the first batch, so {joined(shapeless)} "
            f"{'is' if len(shapeless) == 1 else 'are'} counted as empty here: the run needs more memory than is shown."
        )


def _known(names: Sequence[str], named: Mapping[str, nn.Parameter], depth: int) -> Sequence[str]:
    """See that names, which an adapter may have translated, are those of the model."""
    unknown = next((name for name in names if name not in named), None)
    if unknown is None:
        return names
    raise AdapterError(
        f"The adapter translates a name of phase {depth} to {unknown!r}, and the model has no such parameter. "
        f"{did_you_mean(unknown, named)}".rstrip(),
        where="custom_strategy_adapters",
        remedy="Let its fts_optim_transform give names of pl_module.named_parameters().",
    )


def _optimizer_of(
    model: nn.Module,
    phase_zero: Sequence[str],
    trained_type: TrainedType,
    wanted: ClassInit | None,
    settings: SchedulerSettings,
) -> tuple[PlannedOptimizer | None, Mapping[str, int], list[str]]:
    """Make the optimizer of phase 0, or say why what it comes to is not known."""
    try:
        optimizer, groups = configured_optimizer(
            model, phase_zero, trained_type, wanted=wanted, enforce_phase_zero=settings.enforce_phase0_params
        )
    except ConfigureError as error:
        return None, {}, [f"What the optimizer keeps, and the learning rates of phase 0, are not known: {error}"]
    return optimizer, groups, []


def _never_trained(model: nn.Module, adapter: StrategyAdapter | None) -> frozenset[str]:
    """Find the joint projections of a bridge, which get no gradient whatever a schedule says."""
    bridge = bridge_on(model, getattr(adapter, "bridge_attribute", None))
    return frozenset() if bridge is None else frozenset(joint_projections(model, bridge))


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
            f"What was named for the model gives an object of type {type(model).__name__}, which is no torch module.",
            remedy="Name the class of a LightningModule, or of any torch.nn.Module.",
        )
    return model


def _configure(model: LightningModule, warn: Callable[[str], None]) -> None:
    try:
        model.configure_model()
    except Exception as error:  # noqa: BLE001  # it is the user's code, and a fit is where it should run; it is said
        # Sharding is often set up here as well, and needs processes and a device mesh that only a fit has.
        problem = str(error).rstrip(".")
        warn(
            f"{type(model).__name__}.configure_model() cannot run outside a fit ({type(error).__name__}: {problem}), "
            "so the layers that it makes are missing here. Make them without asking for the Trainer, or in the "
            "constructor; a fit is not affected."
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
