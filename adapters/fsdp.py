"""The adapter for ``FSDPStrategy`` (FSDP1): wraps a module in line with its schedule, and keeps its names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from lightning.pytorch.strategies import FSDPStrategy
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch.distributed.fsdp import FullyShardedDataParallel

from phasewire.adapters import lightning_seams as seams
from phasewire.adapters.base import StrategyAdapter
from phasewire.adapters.errors import AdapterError
from phasewire.adapters.fsdp_checkpoints import FSDPCheckpoints
from phasewire.adapters.fsdp_policy import ScheduledPolicy, checked_overrides, ignored_by, matched
from phasewire.adapters.fsdp_units import (
    FlatParametersError,
    Phase,
    Unit,
    mended,
    planned_units,
    report,
)
from phasewire.adapters.shadows import at_teardown

if TYPE_CHECKING:
    from torch.nn import Module, Parameter

    from phasewire.adapters.scheduler_handle import SchedulerHandle

__all__ = ["FSDPStrategyAdapter"]

_STRATEGY = "Trainer(strategy=...)"


class FSDPStrategyAdapter(FSDPCheckpoints, StrategyAdapter):
    """Drives ``FSDPStrategy``: its wrapping follows the schedule, and names stay those of the module.

    Parameters are frozen, and those of phase 0 thawed, before the strategy wraps the module. With
    ``use_orig_params=False`` each flat parameter must belong to one phase, and a schedule for which that does not hold
    is refused. With ``use_orig_params=True``, Lightning's default, torch trains such a unit correctly and keeps
    gradients for all of it, which a warning tells.

    A subclass that renames parameters passes the module's names to ``super().fts_optim_transform``, and gets them from
    ``super().logical_param_translation``.

    Args:
        awp_overrides: Names of modules, or regular expressions for whole names, to wrap apart from what the
            auto-wrap policy of the strategy wraps, so that no flat parameter mixes phases.
        unknown: No further options exist.

    Raises:
        AdapterError: An option does not exist, or is no list of names.
    """

    def __init__(self, awp_overrides: Sequence[str] | None = None, **unknown: object) -> None:
        super().__init__(**unknown)
        self.awp_overrides = checked_overrides(awp_overrides)
        self.exec_ft_phase = partial(StrategyAdapter.base_ft_phase, translation_func=self.logical_param_translation)
        self._before_wrapping: dict[str, list[str]] = {}
        self._now: dict[str, str] = {}
        self._names_hold_for: int | None = None

    def connect(self, fts_parent: SchedulerHandle) -> None:
        """Take the handle of the scheduler.

        Args:
            fts_parent: The :class:`~phasewire.app.FinetuningScheduler` that drives this adapter.

        Raises:
            AdapterError: The running strategy is not ``FSDPStrategy``.
        """
        super().connect(fts_parent)
        strategy = self.pls_handle
        if not isinstance(strategy, FSDPStrategy):
            raise AdapterError(
                f"{type(self).__name__} drives FSDPStrategy, and the running strategy is {type(strategy).__name__}.",
                where="custom_strategy_adapters",
                remedy="Map it to 'fsdp' alone, or leave the mapping out: it is found by itself.",
            )
        self._fsdp = strategy
        self._names_hold_for = None

    def on_before_init_fts(self) -> None:
        """Refuse what flat parameters cannot do.

        Raises:
            AdapterError: The module defines ``no_decay``, and parameters are flattened.
        """
        if not self._keeps_parameters and getattr(self.pl_module, "no_decay", None):
            raise AdapterError(
                "no_decay is not supported under FSDP with use_orig_params=False: a flat parameter has one weight "
                "decay for all that is in it.",
                where=f"{type(self.pl_module).__name__}.no_decay",
                remedy="Set FSDPStrategy(use_orig_params=True), or no_decay = None.",
            )

    def get_named_params_for_schedule_validation(self) -> dict[str, Parameter]:
        """Give the names that parameters have before the module is wrapped, also where the user wrapped parts of it.

        Returns:
            Name to parameter, in registration order; flattened ones all have their flat parameter.
        """
        self._names_hold_for = None
        self._learn_names()
        parameters = dict(self.pl_module.named_parameters())
        return {each: parameters[name] for name, held in self._before_wrapping.items() for each in held}

    def on_after_init_fts(self) -> None:
        """Thaw phase 0, and let the strategy wrap the module in line with the schedule.

        Raises:
            AdapterError: An override names no module; parameters would be in no unit; a parameter would be in two; or
                phases share flat parameters.
        """
        super().on_after_init_fts()
        if self._is_wrapped_by_user:
            self._check_wrapping_of_user()
        else:
            self._plan_wrapping()

    def on_before_fts_fit_start(self) -> None:
        """Leave the strategy as the user made it, now that the module is wrapped."""
        self._names_hold_for = None
        self._put_policy_back()

    def fts_optim_transform(self, orig_pl: list[str], inspect_only: bool = False) -> list[str]:
        """Give the names of now: those in the wrapped module, or of the flat parameters.

        Args:
            orig_pl: Names before the module is wrapped.
            inspect_only: Nothing is changed in either case.

        Returns:
            Names of ``pl_module.named_parameters()``, each once.
        """
        return self.names_of_recorded(orig_pl)

    def logical_param_translation(self, param_names: list[str]) -> list[str]:
        """Give the names before the module was wrapped.

        Args:
            param_names: Names of ``pl_module.named_parameters()``.

        Returns:
            The names as they stand in a schedule; those of all parameters in a flat one.
        """
        return self.recorded_names(param_names)

    def recorded_names(self, param_names: Sequence[str]) -> list[str]:
        """Give the names before the module was wrapped.

        Args:
            param_names: Names of ``pl_module.named_parameters()``.

        Returns:
            The names of the parameters; those of all parameters in a flat one.
        """
        self._learn_names()
        return [each for name in param_names for each in self._before_wrapping.get(name, [name])]

    def recorded_module_name(self, name: str) -> str:
        """Give the name of a part before the module was wrapped.

        Args:
            name: A name of ``pl_module.named_modules()``.

        Returns:
            The name without what wrappers put in.
        """
        return seams.name_before_wrapping(name)

    def names_of_recorded(self, recorded: Sequence[str]) -> list[str]:
        """Give the names of now.

        Args:
            recorded: Names before the module is wrapped.

        Returns:
            Names of ``pl_module.named_parameters()``, each once.
        """
        self._learn_names()
        return list(dict.fromkeys(self._now.get(name, name) for name in recorded))

    # -- names ---------------------------------------------------------------------------------------------------

    def _learn_names(self) -> None:
        """Look at how the module is wrapped now; it changes while the strategy sets up."""
        model = self._model
        if self._names_hold_for == id(model):
            return
        flattened = {id(flat): held for _, flat, held in seams.flat_parameters(model)}
        self._before_wrapping = {
            name: flattened.get(id(parameter), [seams.name_before_wrapping(name)])
            for name, parameter in self.pl_module.named_parameters()
        }
        self._now = {each: name for name, held in self._before_wrapping.items() for each in held}
        self._names_hold_for = id(model)

    @property
    def _model(self) -> Module:
        model = self._fsdp.model
        return self.pl_module if model is None else model

    @property
    def _keeps_parameters(self) -> bool:
        return bool(self._fsdp.kwargs.get("use_orig_params"))

    # -- wrapping ------------------------------------------------------------------------------------------------

    @property
    def _is_wrapped_by_user(self) -> bool:
        """Whether Lightning will wrap nothing: a part is wrapped, or the module says that it does it itself."""
        return is_overridden("configure_sharded_model", self.pl_module) or any(
            isinstance(part, FullyShardedDataParallel) for part in self.pl_module.modules()
        )

    def _check_wrapping_of_user(self) -> None:
        units = [Unit(name, held) for name, _, held in seams.flat_parameters(self.pl_module)]
        if self.awp_overrides:
            rank_zero_warn(
                "awp_overrides have no effect: the module wraps parts of itself, so that is left as it is. Wrap the "
                "parts in configure_model."
            )
        phase_of = self._phases_before_wrapping()
        self._require_units(units, phase_of)
        mixed = [unit for unit in units if len(unit.by_phase(phase_of)) > 1]
        if mixed:
            self._tell_of_mixed(mixed, phase_of, [], "Wrap parts of one phase each in configure_model.")

    def _require_units(self, units: Sequence[Unit], phase_of: Mapping[str, Phase]) -> None:
        held = {name for unit in units for name in unit.parameters}
        outside = [name for name in phase_of if name not in held]
        if outside and self.trainer.world_size > 1:
            raise AdapterError(
                f"{outside[0]} (phase {phase_of[outside[0]]}) stands in no part that is wrapped by FSDP, so each "
                f"process would train a copy of its own ({len(outside)} parameters). Where parts are wrapped in "
                "configure_model, Lightning wraps nothing else.",
                where=f"{type(self.pl_module).__name__}.configure_model",
                remedy="Wrap the rest as well, or one part that holds all that trains.",
            )

    def _plan_wrapping(self) -> None:
        self._put_policy_back()
        module, options = self.pl_module, self._fsdp.kwargs
        ignored_modules, ignored = ignored_by(options)
        policy = options.get("auto_wrap_policy")
        parts = dict(module.named_modules())
        name_of = {id(part): name for name, part in parts.items()}
        chosen: dict[str, dict[str, Any]] = {}
        if policy is not None:
            found = seams.auto_wrapped(module, policy, ignored_modules=ignored_modules, ignored_parameters=ignored)
            chosen = {name_of[id(part)]: kwargs for part, kwargs in found.items()}
        for name in matched(self.awp_overrides, module):
            chosen.setdefault(name, {})
        apart = set(chosen)
        if chosen or policy is not None:
            by_precision = seams.wrapped_apart_for_precision(self._fsdp)
            apart.update(name for name, part in parts.items() if isinstance(part, by_precision))
        self._check_plan(apart, ignored, self._phases())
        if chosen:
            options["auto_wrap_policy"] = ScheduledPolicy(module, chosen, policy)
            at_teardown(self._fsdp, self._put_policy_back)  # where the module is never wrapped

    def _check_plan(self, apart: set[str], ignored: Sequence[Parameter], phase_of: Mapping[str, Phase]) -> None:
        module = self.pl_module
        units = planned_units(module, apart, ignored)
        left_alone = {id(parameter) for parameter in ignored}
        alone = [n for n, p in module.named_parameters() if id(p) in left_alone and n in phase_of]
        if alone and self.trainer.world_size > 1:
            raise AdapterError(
                f"FSDP was told to ignore {alone[0]}, which phase {phase_of[alone[0]]} trains: its gradient would not "
                f"be reduced, and each process would train a copy of its own ({len(alone)} parameters).",
                where="FSDPStrategy(ignored_modules=..., ignored_states=...)",
                remedy="Leave it out of the schedule, or let FSDP shard it.",
            )
        mixed = [unit for unit in units if len(unit.by_phase(phase_of)) > 1]
        if not mixed:
            return
        overrides, left = mended(module, apart, ignored, phase_of)
        remedies = []
        if overrides:
            overrides = list(dict.fromkeys(map(seams.name_before_wrapping, overrides)))
            wanted = [*self.awp_overrides, *overrides]
            remedies.append(f"Set strategy_adapter_cfg={{'awp_overrides': {wanted!r}}}.")
        if left:
            remedies.append(f"No wrapping parts what one module holds: {report(left, phase_of)}. Put it in one phase.")
        self._tell_of_mixed(mixed, phase_of, overrides, " ".join(remedies))

    def _tell_of_mixed(
        self, mixed: Sequence[Unit], phase_of: Mapping[str, Phase], overrides: Sequence[str], remedy: str
    ) -> None:
        shared = report(mixed, phase_of)
        if self._keeps_parameters:
            rank_zero_warn(
                "Parts that FSDP shards as one hold parameters of several phases. That trains correctly, and keeps "
                f"gradients of the frozen ones too: {shared}. To spare the memory: {remedy}"
            )
            return
        raise FlatParametersError(
            "With use_orig_params=False a flat parameter is frozen or trained as a whole, and phases share these: "
            f"{shared}.",
            awp_overrides=[*self.awp_overrides, *overrides],
            where=_STRATEGY,
            remedy=f"{remedy} Or set FSDPStrategy(use_orig_params=True).",
        )

    def _phases(self) -> dict[str, Phase]:
        """Tell which phase trains a parameter, by its name of now; those that never train are left out."""
        return {
            name: depth
            for depth, phase in self.fts_handle.ft_schedule.items()
            if depth <= self.fts_handle.max_depth
            for name in self.fts_optim_inspect(list(phase["params"]))
        }

    def _phases_before_wrapping(self) -> dict[str, Phase]:
        """Do the same by names before wrapping: that of a flat parameter would not tell which of its own are meant."""
        self._learn_names()
        known = self._now
        try:
            self._now = {}
            return self._phases()
        finally:
            self._now = known

    def _put_policy_back(self) -> None:
        policy = self._fsdp.kwargs.get("auto_wrap_policy")
        if isinstance(policy, ScheduledPolicy):
            del self._fsdp.kwargs["auto_wrap_policy"]
            if policy.of_user is not None:
                self._fsdp.kwargs["auto_wrap_policy"] = policy.of_user
