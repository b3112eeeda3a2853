"""What an adapter would make of a schedule in a fit, asked without one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, cast

from phasewire.adapters.errors import AdapterError, PhasewireError
from phasewire.adapters.lightning_seams import unwrapped_name
from phasewire.adapters.name_rules import NameRules
from phasewire.app.phases.adapter_calls import require_names
from phasewire.app.schedule.generate import generate_default
from phasewire.app.schedule.model import Schedule
from phasewire.app.schedule.validate import ResolvedPhase, ResolvedSchedule, shared_parameter_names

if TYPE_CHECKING:
    from torch import nn

    from phasewire.adapters.base import StrategyAdapter
    from phasewire.adapters.scheduler_handle import SchedulerHandle
    from phasewire.adapters.views import ModelView
    from phasewire.app.model_views import ModelViews
    from phasewire.app.schedule.generators import NamedParameters

__all__ = ["NeedsFitError", "PlannedFit", "Validate", "default_schedule", "names_of_adapter"]

#: Resolves a schedule against named parameters, under what else holds for the names.
Validate = Callable[[Schedule, "Mapping[str, nn.Parameter]", NameRules], ResolvedSchedule]


def default_schedule(names: NamedParameters) -> Schedule:
    """Make the schedule that is used when none is given.

    Args:
        names: Gives the names that the schedule is written in.

    Returns:
        Two parameters a phase, last layers first.

    Raises:
        ScheduleError: There are no parameters.
    """
    return generate_default([unwrapped_name(name) for name in names.get_named_params_for_schedule_validation()])


def names_of_adapter(
    adapter: StrategyAdapter, model: nn.Module, model_views: ModelViews
) -> tuple[Mapping[str, nn.Parameter], NameRules]:
    """Ask an adapter which names a schedule may use.

    Args:
        adapter: The adapter.
        model: The model that would be tuned.
        model_views: Finds the view that the adapter names.

    Returns:
        Name to parameter, and what else holds for the names.

    Raises:
        NeedsFitError: The adapter asks for the Trainer or another thing that only a fit has.
        AdapterError: The adapter fails.
    """
    found: list[tuple[Mapping[str, nn.Parameter], NameRules]] = []

    def note(_schedule: Schedule, named: Mapping[str, nn.Parameter], rules: NameRules) -> ResolvedSchedule:
        found.append((named, rules))
        return ResolvedSchedule((ResolvedPhase((), -1, None),))

    fit = PlannedFit(adapter, model, note, model_views, None)
    fit.resolve(None)
    own = adapter.get_named_params_for_schedule_validation(), NameRules(shared_parameter_names(model))
    return found[-1] if found else own


class NeedsFitError(AdapterError):
    """An adapter asked for something that only a running fit has."""


@contextmanager
def _asking_for_names(adapter: StrategyAdapter) -> Iterator[None]:
    try:
        yield
    except PhasewireError:
        raise
    except Exception as error:
        raise AdapterError(
            f"{type(adapter).__name__} failed with {type(error).__name__} when it was asked for names: {error}",
            where="custom_strategy_adapters",
            remedy="Correct it, or leave the adapter out of the configuration to plan with the module's own names.",
        ) from error


class PlannedFit:
    """Is the ``fts_handle`` of an adapter, as far as names and schedules go.

    Args:
        adapter: The adapter, which is connected to it.
        model: The model that would be tuned.
        validate: Resolves a schedule.
        model_views: Finds the view that the adapter names.
        base_max_lr: The learning rate of phases after the first that give none.
    """

    def __init__(
        self,
        adapter: StrategyAdapter,
        model: nn.Module,
        validate: Validate,
        model_views: ModelViews,
        base_max_lr: float | None,
    ) -> None:
        self.pl_module = model
        # Any: as in the schedule file.
        self.ft_schedule: dict[int, dict[str, Any]] = {}
        self.strategy_adapter = adapter
        self._validate = validate
        self._model_views = model_views
        self._base_max_lr = base_max_lr
        self._given: Schedule | None = None
        self._resolved: ResolvedSchedule | None = None

    def resolve(
        self, schedule: Schedule | None, generate: Callable[[NamedParameters], Schedule] | None = None
    ) -> ResolvedSchedule:
        """Let the adapter resolve a schedule.

        Args:
            schedule: The schedule; ``None`` takes one that is generated, in the adapter's names.
            generate: Makes that one, from the connected adapter; by default two parameters a phase.

        Returns:
            The schedule as it would be trained.

        Raises:
            ScheduleError: It does not fit the model.
            NeedsFitError: The adapter asks for the Trainer or another thing that only a fit has.
            AdapterError: The adapter fails.
        """
        adapter = self.strategy_adapter
        with _asking_for_names(adapter):
            adapter.connect(cast("SchedulerHandle", self))
            adapter.on_before_init_fts()
            self._given = schedule or (generate or default_schedule)(adapter)
            self.ft_schedule = self._given.to_dict()
            adapter.validate_ft_sched()
        if self._resolved is None or self._resolved.to_dict() != self.ft_schedule:
            return ResolvedSchedule.from_dict(self.ft_schedule, base_max_lr=self._base_max_lr)
        return self._resolved

    def generate(self, make: Callable[[NamedParameters], Schedule]) -> Schedule:
        """Make a schedule in the adapter's names, one that the adapter accepts.

        Args:
            make: Makes it, from the connected adapter.

        Returns:
            The schedule as it was made.

        Raises:
            PhasewireError: As :meth:`resolve`.
        """
        made: list[Schedule] = []

        def noted(names: NamedParameters) -> Schedule:
            made.append(make(names))
            return made[-1]

        self.resolve(None, noted)
        return made[-1]

    def own_names(self, names: Sequence[str]) -> list[str]:
        """Translate names of the schedule to those of the model.

        Args:
            names: Names as the resolved schedule has them.

        Returns:
            Names of ``model.named_parameters()``, each once.

        Raises:
            AdapterError: The adapter fails, or gives no names.
        """
        adapter = self.strategy_adapter
        with _asking_for_names(adapter):
            given = adapter.fts_optim_inspect(list(names))
        return list(dict.fromkeys(require_names(adapter, "fts_optim_inspect", given, where="custom_strategy_adapters")))

    def shown_names(self, names: Sequence[str]) -> list[str]:
        """Translate names of the model to those that a schedule has.

        Args:
            names: Names of ``model.named_parameters()``.

        Returns:
            As many names; the given ones where the adapter gives another number of them.

        Raises:
            AdapterError: The adapter fails, or gives no names.
        """
        adapter = self.strategy_adapter
        with _asking_for_names(adapter):
            given = adapter.logical_param_translation(list(names))
        shown = require_names(adapter, "logical_param_translation", given, where="custom_strategy_adapters")
        return shown if len(shown) == len(names) else list(names)

    # -- what an adapter asks of its handle ----------------------------------------------------------------------

    def validate_schedule(self, rules: NameRules | None = None) -> tuple[int, int]:
        """Resolve the schedule against the names the adapter gives."""
        if self._given is None:
            raise NeedsFitError(
                f"{type(self.strategy_adapter).__name__} asks for a schedule to be validated, and there is none yet.",
                where="custom_strategy_adapters",
                remedy="Let it do so in validate_ft_sched, not before.",
            )
        edited = self.ft_schedule != self._given.to_dict()
        self._resolved = self._validate(
            Schedule.from_mapping(self.ft_schedule) if edited else self._given,
            self.strategy_adapter.get_named_params_for_schedule_validation(),
            rules or NameRules(shared_parameter_names(self.pl_module)),
        )
        self.ft_schedule = self._resolved.to_dict()
        return self._resolved.final_depth, self._resolved.highest_transition_epoch

    # Any: as in the schedule file.
    def default_schedule(self, names: Sequence[str]) -> dict[int, dict[str, Any]]:
        """Give the default schedule for named parameters."""
        return generate_default(list(map(unwrapped_name, names))).to_dict()

    def find_model_view(self, reference: str, *, where: str) -> type[ModelView]:
        """Look a model view up, under the rules of trust."""
        return self._model_views.record_of(reference, where=where).load(where=where)

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # Python asks for these by itself
            raise AttributeError(name)
        raise NeedsFitError(
            f"{type(self.strategy_adapter).__name__} asks for fts_handle.{name}, which only a fit has.",
            where="custom_strategy_adapters",
            remedy="To have its names outside a fit, let it find them from pl_module alone.",
        )
