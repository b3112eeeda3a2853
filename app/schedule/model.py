"""What a schedule is: phases, and what each of them thaws and changes.

The values are immutable and light, since a schedule of 50,000 phases is normal. They hold what was given; expanding
patterns and filling in defaults is the validator's work.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import wraps
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, ConfigDict, InstanceOf, StrictBool, StrictStr, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from phasewire.adapters.errors import ScheduleError
from phasewire.app.config_file import key_path
from phasewire.app.schedule.fields import (
    Frequency,
    InitArgs,
    LearningRate,
    LearningRates,
    Patterns,
    TransitionEpoch,
    plain_data,
)
from phasewire.app.schedule.numbering import ordered_phases
from phasewire.app.schedule.places import Places, ScheduleFile
from phasewire.app.schedule.problems import KnownKeys, Location, schedule_error
from phasewire.app.schedule.values import kind_of, plain_copy, shortened

__all__ = [
    "ClassInit",
    "LRSchedulerReinit",
    "LightningLRConfig",
    "OptimizerReinit",
    "Phase",
    "Schedule",
    "reinit_to_dict",
]

_Value = TypeVar("_Value")

# The docstrings of the fields are what an editor shows: see json_schema.py.
_STRICT = ConfigDict(extra="forbid", use_attribute_docstrings=True)


def _raising_schedule_errors(value_class: type[_Value]) -> type[_Value]:
    """Let the constructor of a pydantic dataclass raise our error instead of pydantic's."""
    validating_init = value_class.__init__

    @wraps(validating_init)
    def init(self: _Value, *args: object, **kwargs: object) -> None:
        try:
            validating_init(self, *args, **kwargs)
        except ValidationError as error:
            known_keys = {**_known_keys(), "": _keys_of(value_class)}
            raise schedule_error(error, known_keys, lambda location: key_path(location) or None) from error

    type.__setattr__(value_class, "__init__", init)
    return value_class


@_raising_schedule_errors
@dataclass(frozen=True, slots=True, config=_STRICT)
class ClassInit:
    """A class and the arguments it is constructed with."""

    class_path: StrictStr
    """Where the class is, such as ``"torch.optim.SGD"``."""
    init_args: InitArgs = dataclasses.field(default_factory=dict)
    """Keyword arguments, without the parameters or the optimizer that Phasewire gives."""


@_raising_schedule_errors
@dataclass(frozen=True, slots=True, config=_STRICT)
class OptimizerReinit:
    """The optimizer that a phase starts with in place of the one before."""

    optimizer_init: ClassInit
    """The optimizer."""


@_raising_schedule_errors
@dataclass(frozen=True, slots=True, config=_STRICT)
class LightningLRConfig:
    """How Lightning drives a new lr scheduler; the fields are those of Lightning's own lr scheduler configuration.

    ``None`` stands for what was not given, and leaves Lightning's default.
    """

    interval: Literal["epoch", "step"] | None = None
    """The unit of ``frequency``; Lightning's default is ``"epoch"``."""
    frequency: Frequency = None
    """Step the scheduler after every so many epochs or batches; Lightning's default is 1."""
    name: StrictStr | None = None
    """The name under which the learning rate is logged."""
    monitor: StrictStr | None = None
    """The metric that ``ReduceLROnPlateau`` follows."""
    strict: StrictBool | None = None
    """Whether a missing ``monitor`` is an error; Lightning's default is true."""
    reduce_on_plateau: StrictBool | None = None
    """Whether the scheduler is stepped with the metric; by default if it is a ``ReduceLROnPlateau``."""


@_raising_schedule_errors
@dataclass(frozen=True, slots=True, config=_STRICT)
class LRSchedulerReinit:
    """The lr scheduler that a phase starts with in place of the one before.

    The existing groups start with ``init_pg_lrs`` if given, else with their current rates if
    ``use_current_optimizer_pg_lrs``, else with their initial ones.
    """

    lr_scheduler_init: ClassInit
    """The scheduler."""
    pl_lrs_cfg: LightningLRConfig | None = None
    """How Lightning drives it."""
    use_current_optimizer_pg_lrs: StrictBool | None = None
    """Whether existing groups start with their current learning rates; not, if not given."""
    init_pg_lrs: LearningRates = None
    """The learning rates that the existing groups start with, in the order of the groups."""


@_raising_schedule_errors
@dataclass(frozen=True, slots=True, config=_STRICT)
class Phase:
    """One phase of a schedule, as it was given.

    Raises:
        ScheduleError: A value cannot be used, or there is no such field.
    """

    params: Patterns = ()
    """Full parameter names, or regular expressions matched from the start of a name."""
    max_transition_epoch: TransitionEpoch = -1
    """The epoch, from 0, at which the next phase begins at the latest; -1: only early stopping moves on."""
    lr: LearningRate = None
    """The learning rate of the phase's groups; ``None`` takes ``base_max_lr``. Phase 0 keeps the optimizer's own."""
    new_optimizer: Annotated[OptimizerReinit | None, BeforeValidator(plain_data)] = None
    """The optimizer the phase starts with; ``None`` keeps the one that is there."""
    new_lr_scheduler: Annotated[LRSchedulerReinit | None, BeforeValidator(plain_data)] = None
    """The lr scheduler the phase starts with; ``None`` keeps the one that is there."""

    # Any: the values are those of the schedule file.
    def to_dict(self) -> dict[str, Any]:
        """Give the phase as it would stand in a schedule file.

        Returns:
            The keys that were given, ``params`` always; nothing in it is shared with the phase.
        """
        content: dict[str, Any] = {"params": list(self.params)}
        if self.max_transition_epoch != -1:
            content["max_transition_epoch"] = self.max_transition_epoch
        if self.lr is not None:
            content["lr"] = self.lr
        content.update(reinit_to_dict(self.new_optimizer, self.new_lr_scheduler))
        return content


@_raising_schedule_errors
@dataclass(frozen=True, slots=True, config=_STRICT)
class Schedule:
    """A fine-tuning schedule, as it was given.

    Raises:
        ScheduleError: There is no phase, or the numbers do not belong to the phases.
    """

    phases: tuple[Phase, ...]
    """The phases in the order in which they are trained."""
    depths: tuple[int, ...] = ()
    """The numbers the phases were given, ascending; 0, 1, 2, ... by default. Gaps are the validator's to refuse."""
    file: InstanceOf[ScheduleFile] | None = dataclasses.field(default=None, compare=False, repr=False)
    """The file it was read from, where it was."""

    def __post_init__(self) -> None:
        """Number the phases where no numbers were given."""
        if not self.phases:
            raise ScheduleError("The schedule has no phases.", remedy="Give at least one.")
        if not self.depths:
            object.__setattr__(self, "depths", tuple(range(len(self.phases))))
        elif len(self.depths) != len(self.phases) or list(self.depths) != sorted(set(self.depths)):
            raise ScheduleError(
                f"{len(self.phases)} phases cannot have the numbers {shortened(self.depths)}.",
                remedy="Give each phase a number, in ascending order, or give no numbers.",
            )

    @classmethod
    def from_mapping(cls, mapping: Mapping[Any, Any], *, places: Places | None = None) -> Schedule:
        """Read a schedule from plain Python, such as a dict or the content of a file. The mapping is not changed.

        Args:
            mapping: Phase number to the keys of a phase. Any: what is in it is checked here.
            places: Where things stand in the file it came from.

        Returns:
            The schedule.

        Raises:
            ScheduleError: A key or a value cannot be used; the message names file, line and phase where known.
        """
        # The annotation promises a mapping; code holds whatever was computed.
        given: object = mapping
        if not isinstance(given, Mapping):
            raise ScheduleError(
                f"{shortened(given)} is {kind_of(given)}, and a schedule is expected.",
                remedy="Give a dict with the phases.",
            )
        places = places or Places()
        phases = ordered_phases(mapping, places)
        depths = tuple(phases)

        def where(location: Location) -> str | None:
            _, index, *keys = location
            return places.phase(depths[int(index)], *keys)

        contents = [_phase_content(phase) for phase in phases.values()]
        try:
            return TypeAdapter(cls).validate_python({"phases": contents, "depths": depths, "file": places.file})
        except ValidationError as error:
            raise schedule_error(error, _known_keys(), where) from error

    def to_dict(self) -> dict[int, dict[str, Any]]:
        """Give the schedule as plain Python.

        Returns:
            Phase number, as given, to the keys that were given.
        """
        return {depth: phase.to_dict() for depth, phase in zip(self.depths, self.phases, strict=True)}

    def renumbered(self) -> Schedule:
        """Number the phases from 0 without gaps, in their order.

        Returns:
            The schedule with right numbers; it belongs to no file.
        """
        return Schedule(phases=self.phases)


# Any: as in Phase.to_dict.
def reinit_to_dict(optimizer: OptimizerReinit | None, lr_scheduler: LRSchedulerReinit | None) -> dict[str, Any]:
    """Give what a phase starts anew, as it would stand in a schedule file.

    Args:
        optimizer: The new optimizer, if any.
        lr_scheduler: The new lr scheduler, if any.

    Returns:
        The keys that were given.
    """
    given = {"new_optimizer": optimizer, "new_lr_scheduler": lr_scheduler}
    return {key: _given(value) for key, value in given.items() if value is not None}


def _given(value: object) -> object:
    """Plain Python from a value of this module, without what was not given."""
    if not dataclasses.is_dataclass(value):
        return plain_copy(value)
    values = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return {name: _given(item) for name, item in values.items() if item is not None and item != {}}


def _phase_content(phase: object) -> object:
    if phase is None:
        return {}
    return dict(phase) if isinstance(phase, Mapping) else phase


def _keys_of(value_class: type) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(value_class))


def _known_keys() -> KnownKeys:
    return {
        "phases": _keys_of(Phase),
        "new_optimizer": _keys_of(OptimizerReinit),
        "optimizer_init": _keys_of(ClassInit),
        "new_lr_scheduler": _keys_of(LRSchedulerReinit),
        "lr_scheduler_init": _keys_of(ClassInit),
        "pl_lrs_cfg": _keys_of(LightningLRConfig),
    }
