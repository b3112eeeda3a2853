"""The adapter that names a model's parameters through a view, made for TransformerLens' ``TransformerBridge``."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from phasewire.adapters import rank_zero
from phasewire.adapters.base import StrategyAdapter
from phasewire.adapters.bridge_checkpoints import BridgeNamings
from phasewire.adapters.bridge_names import joint_projections
from phasewire.adapters.bridge_search import bridge_on, find_bridge
from phasewire.adapters.errors import AdapterError, did_you_mean
from phasewire.adapters.tl_names import TLNamesModelView
from phasewire.adapters.views import CanonicalModelView, ModelView

if TYPE_CHECKING:
    from torch.nn import Parameter

    from phasewire.adapters.renaming import Naming
    from phasewire.adapters.scheduler_handle import SchedulerHandle

__all__ = ["TransformerBridgeStrategyAdapter"]

_WHERE: Final = "strategy_adapter_cfg, model_view"


class TransformerBridgeStrategyAdapter(StrategyAdapter):
    """Lets a schedule name parameters as a :class:`~phasewire.adapters.ModelView` does.

    With the canonical view, the default, it works for any module. With :class:`~phasewire.adapters.TLNamesModelView`
    one schedule in TransformerLens names drives any model behind a ``TransformerBridge``.

    Args:
        model_view: The view: a subclass of :class:`~phasewire.adapters.ModelView`; or text, which is looked up when a
            Trainer runs: ``"canonical"``, ``"tl_names"``, the name of an installed view, ``module:Class`` or
            ``module.Class``. The module's own names by default.
        model_view_cfg: Further keyword arguments of the view.
        use_tl_names: Use :class:`~phasewire.adapters.TLNamesModelView`; excludes ``model_view``.
        bridge_attribute: The attribute of the module that holds the bridge, with dots for one deeper down. By default
            ``model``, or the module itself where it is a bridge.
        unknown: ``checkpoint_names``: the names that checkpoints have on disk, ``"module"``, ``"tl"`` or ``"hf"``. No
            further options exist.

    Raises:
        AdapterError: An option does not exist, two exclude each other, or the view cannot be built.
    """

    # Any: the options of a view are its own.
    def __init__(
        self,
        model_view: type[ModelView] | str | None = None,
        model_view_cfg: Mapping[str, Any] | None = None,
        use_tl_names: bool = False,
        bridge_attribute: str | None = None,
        **unknown: object,
    ) -> None:
        super().__init__(**unknown)
        if use_tl_names and model_view is not None:
            raise AdapterError(
                f"model_view={model_view!r} and use_tl_names=True each choose a view.",
                where="strategy_adapter_cfg",
                remedy="Give one of them.",
            )
        given: object = bridge_attribute
        if given is not None and not (isinstance(given, str) and given):
            raise AdapterError(
                f"{given!r} is no name of an attribute.",
                where="strategy_adapter_cfg, bridge_attribute",
                remedy="Give the attribute of the module that holds the bridge, such as 'model'.",
            )
        #: The attribute of the module that holds the bridge; ``None`` looks at ``model`` and the module itself.
        self.bridge_attribute = bridge_attribute
        self._view_cfg = dict(model_view_cfg or {})
        self._view_name = model_view if isinstance(model_view, str) else None
        self._built_view: ModelView | None = None
        if self._view_name is None:
            named = TLNamesModelView if use_tl_names else CanonicalModelView if model_view is None else model_view
            self._built_view = _built(_view_class(named), self, self._view_cfg)
        self._mapping_is_built = False
        self._namings = BridgeNamings()
        self.exec_ft_phase = partial(StrategyAdapter.base_ft_phase, translation_func=self.logical_param_translation)

    @property
    def model_view(self) -> ModelView:
        """The view; its maps are built when it is first used in a run.

        Raises:
            AdapterError: It is given by name, and no Trainer runs yet that could look it up.
        """
        if self._built_view is None:
            raise AdapterError(
                f"The model view {self._view_name!r} is looked up when a Trainer runs, and none does yet.",
                where=_WHERE,
                remedy="Give the class of the view to use the adapter by itself.",
            )
        if not self._mapping_is_built:
            self._built_view.build_param_mapping()
            self._mapping_is_built = True
        return self._built_view

    def connect(self, fts_parent: SchedulerHandle) -> None:
        """Take the handle of the scheduler.

        Args:
            fts_parent: The :class:`~phasewire.app.FinetuningScheduler` that drives this adapter.

        Raises:
            AdapterError: The view is given by name and cannot be found, loaded or built.
        """
        super().connect(fts_parent)
        if self._view_name is not None:
            view_class = fts_parent.find_model_view(self._view_name, where=_WHERE)
            self._built_view = _built(view_class, self, self._view_cfg)
        self._mapping_is_built = False

    def get_named_params_for_schedule_validation(self) -> dict[str, Parameter]:
        """Give the names of the view.

        Returns:
            Name to parameter, in registration order.
        """
        return self.model_view.get_named_params()

    def gen_ft_schedule(self, dump_loc: str | os.PathLike[str]) -> os.PathLike[str] | None:
        """Write the default schedule of the view.

        Args:
            dump_loc: The folder to write to.

        Returns:
            The path of the file; ``None`` on ranks other than 0.

        Raises:
            ScheduleError: The file cannot be written.
        """
        return self.model_view.gen_schedule(dump_loc)

    def validate_ft_sched(self) -> tuple[int, int]:
        """Let the view validate the schedule.

        Returns:
            The deepest phase, and the highest ``max_transition_epoch`` (-1 when no phase has one).

        Raises:
            ScheduleError: The schedule does not fit the module.
            AdapterError: There is no bridge where ``bridge_attribute`` says.
        """
        found = self.model_view.validate_schedule()
        self._report_joint_projections()
        return found

    def _report_joint_projections(self) -> None:
        """Say which parameters are thawed in vain; the view of TransformerLens names thaws none of them."""
        bridge = bridge_on(self.pl_module, self.bridge_attribute)
        if bridge is None:
            if self.bridge_attribute is not None:
                find_bridge(self.pl_module, self.bridge_attribute)  # the user says that there is one, so it tells why
            return
        joint = joint_projections(self.pl_module, bridge)
        for depth, phase in self.fts_handle.ft_schedule.items():
            vain = [name for name in self.fts_optim_inspect(list(phase["params"])) if name in joint]
            if vain:
                rank_zero.info(
                    f"Phase {depth} thaws joint projections that no forward pass uses, such as {vain[0]!r}. They get "
                    "no gradient: the bridge computes with the parts they were split into. Plain 'ddp' refuses that; "
                    "leave them out, or use the strategy 'ddp_find_unused_parameters_true'."
                )
                return

    def fts_optim_transform(self, orig_pl: list[str], inspect_only: bool = False) -> list[str]:
        """Translate names of the view to names of the module.

        Args:
            orig_pl: Names as they stand in the schedule.
            inspect_only: Change no state of the view.

        Returns:
            Names of ``pl_module.named_parameters()``.
        """
        return self.model_view.transform_to_canonical(orig_pl, inspect_only=inspect_only)

    def logical_param_translation(self, param_names: list[str]) -> list[str]:
        """Translate names of the module to names of the view.

        Args:
            param_names: Names of ``pl_module.named_parameters()``.

        Returns:
            Names as they would stand in a schedule.
        """
        return self.model_view.transform_from_canonical(param_names)

    def checkpoint_renamings(self) -> Mapping[str, Naming]:
        """Give the names of what is behind a bridge.

        Returns:
            ``"tl"``, the names of TransformerLens, and ``"hf"``, those of the Hugging Face model; none where the module
            has no bridge.
        """
        return self._namings.of(self.pl_module, self.bridge_attribute, wanted=self.names_on_disk)


def _view_class(named: object) -> type[ModelView]:
    if not (isinstance(named, type) and issubclass(named, ModelView)):
        raise AdapterError(
            f"{named!r} is no subclass of phasewire.adapters.ModelView.",
            where=_WHERE,
            remedy="Subclass ModelView, or leave model_view out for the module's own names.",
        )
    return named


# Any: the options of a view are its own.
def _built(view_class: type[ModelView], adapter: StrategyAdapter, cfg: Mapping[str, Any]) -> ModelView:
    try:
        return view_class(adapter, **cfg)
    except TypeError as error:
        options = list(inspect.signature(view_class).parameters)[1:]
        unknown = next((name for name in cfg if name not in options), "")
        listed = f"Its options are {', '.join(options)}." if options else "It takes no options."
        raise AdapterError(
            f"{view_class.__name__} cannot be built: {error}. {listed} {did_you_mean(unknown, options)}".rstrip(),
            where="strategy_adapter_cfg, model_view_cfg",
            remedy="Give the options that the view takes.",
        ) from error
