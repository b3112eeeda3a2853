"""The adapter for ``ModelParallelStrategy`` (FSDP2 and tensor parallelism)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.strategies import ModelParallelStrategy

from phasewire.adapters.base import StrategyAdapter
from phasewire.adapters.errors import AdapterError
from phasewire.adapters.fsdp_plan import ShardingPlan
from phasewire.adapters.lightning_seams import unwrapped_name
from phasewire.adapters.parallel_checks import require_trainable_phases
from phasewire.adapters.shadows import shadow

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule
    from lightning.pytorch.strategies import Strategy
    from torch.nn import Parameter

    from phasewire.adapters.scheduler_handle import SchedulerHandle

__all__ = ["ModelParallelStrategyAdapter"]


class ModelParallelStrategyAdapter(StrategyAdapter):
    """Drives ``ModelParallelStrategy``: shards what a plan names, and lets phases thaw sharded parameters.

    Args:
        fsdp_plan: Names of parts of the module, or regular expressions matched from the start of a name, each with the
            keyword arguments of ``torch.distributed.fsdp.fully_shard`` for it, and beside them ``act_ckpt``
            (``composable``, ``wrapped`` or ``wrapped_offload``, or a pair of it and options) and
            ``cpu_offload_policy`` (the arguments of ``CPUOffloadPolicy``). It is applied after the module's own
            ``configure_model``, to what that has not sharded.
        fsdp_default_kwargs: The same for every entry of the plan that does not set them.
        unknown: No further options exist.

    Raises:
        AdapterError: An option does not exist, or has a value that cannot be used.
    """

    # Any: the arguments of fully_shard have many types.
    def __init__(
        self,
        fsdp_plan: Mapping[str, Mapping[str, Any] | None] | None = None,
        fsdp_default_kwargs: Mapping[str, Any] | None = None,
        **unknown: object,
    ) -> None:
        super().__init__(**unknown)
        self._plan = ShardingPlan(fsdp_plan or {}, fsdp_default_kwargs or {})
        self.fsdp_plan = dict(fsdp_plan or {})
        self.fsdp_default_kwargs = dict(fsdp_default_kwargs or {})
        self._wrapped_names: dict[str, str] | None = None
        self.exec_ft_phase = partial(StrategyAdapter.base_ft_phase, translation_func=self.logical_param_translation)

    def connect(self, fts_parent: SchedulerHandle) -> None:
        """Take the handle of the scheduler, and let the plan follow the module's ``configure_model``.

        Args:
            fts_parent: The :class:`~phasewire.app.FinetuningScheduler` that drives this adapter.

        Raises:
            AdapterError: There is a plan, and the running strategy has no device mesh to shard over.
        """
        super().connect(fts_parent)
        self._wrapped_names = None
        strategy = self.pls_handle
        if isinstance(strategy, ModelParallelStrategy):
            module = self.pl_module
            _after_configure_model(module, strategy, lambda: self._plan.apply(module, strategy.device_mesh))
        elif not self._plan.is_empty:
            raise AdapterError(
                f"fsdp_plan shards over the device mesh of a ModelParallelStrategy, and {type(strategy).__name__} is "
                "running.",
                where="strategy_adapter_cfg, fsdp_plan",
                remedy="Use Trainer(strategy=ModelParallelStrategy(...)), or remove the plan.",
            )

    def on_before_init_fts(self) -> None:
        """Refuse callbacks that copy the module, which cannot be done when it is sharded.

        Raises:
            AdapterError: There is one.
        """
        super().on_before_init_fts()
        copying = [callback for callback in vars(self.trainer)["callbacks"] if isinstance(callback, WeightAveraging)]
        if copying and isinstance(self.pls_handle, ModelParallelStrategy):
            raise AdapterError(
                f"{type(copying[0]).__name__} copies the module, and a sharded module cannot be copied.",
                where="Trainer(callbacks=...)",
                remedy="Leave it out, or use a strategy that keeps parameters whole.",
            )

    def on_before_fts_fit_start(self) -> None:
        """Refuse phases whose parameters torch could not train together.

        Raises:
            AdapterError: Some are sharded and others are not, and the optimizer or the clipping of gradients takes
                them all at once.
        """
        super().on_before_fts_fit_start()
        if isinstance(self.pls_handle, ModelParallelStrategy):
            require_trainable_phases(self, self.pls_handle.device_mesh)

    # -- names: a schedule has those of the module without wrappers ---------------------------------------------------

    def get_named_params_for_schedule_validation(self) -> dict[str, Parameter]:
        """Give the module's parameters under the names they have where nothing is wrapped.

        Returns:
            Name to parameter, in registration order.
        """
        return {unwrapped_name(name): parameter for name, parameter in self.pl_module.named_parameters()}

    def fts_optim_transform(self, orig_pl: list[str], inspect_only: bool = False) -> list[str]:
        """Translate names to those of ``pl_module.named_parameters()``, where wrappers stand in them.

        Args:
            orig_pl: Names as they stand in the schedule.
            inspect_only: Without effect: nothing is changed.

        Returns:
            The module's names.
        """
        names = self._wrapped_names
        if names is None:
            names = {unwrapped_name(name): name for name, _ in self.pl_module.named_parameters()}
            self._wrapped_names = None if inspect_only else names
        return [names.get(name, name) for name in orig_pl]

    def logical_param_translation(self, param_names: list[str]) -> list[str]:
        """Translate the module's names to those without wrappers.

        Args:
            param_names: Names of ``pl_module.named_parameters()``.

        Returns:
            Names as they would stand in a schedule.
        """
        return [unwrapped_name(name) for name in param_names]


def _after_configure_model(module: LightningModule, strategy: Strategy, act: Callable[[], None]) -> None:
    """Let something follow a module's ``configure_model`` until the strategy is torn down.

    Lightning calls that hook at every stage once the module's ``setup`` is over, and demands that there is one.
    """
    configure_model, tear_down = module.configure_model, strategy.teardown

    def configured() -> None:
        configure_model()
        act()

    def torn_down() -> None:
        for take_off in shadows:
            take_off()
        tear_down()

    shadows = [shadow(module, "configure_model", configured), shadow(strategy, "teardown", torn_down)]
