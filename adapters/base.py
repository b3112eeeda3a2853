"""The strategy adapter contract: what a plug-in subclasses, and every hook it may override.

An adapter stands between the :class:`~phasewire.app.FinetuningScheduler` callback and the Lightning strategy that is
running. The defaults here suit every strategy that keeps a module's parameters whole and under their own names.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from lightning.pytorch.utilities import rank_zero_warn

from phasewire.adapters import checkpoint_names as names
from phasewire.adapters import rank_zero
from phasewire.adapters.errors import AdapterError, did_you_mean
from phasewire.adapters.sharding import class_name

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.strategies import Strategy

    from phasewire.adapters.renaming import Naming
    from phasewire.adapters.scheduler_handle import SchedulerHandle

__all__ = ["API_VERSION", "PhaseExecutor", "StrategyAdapter", "thaw_parameters"]

#: The version of the adapter contract that this release drives. Adapters of the same major version work.
API_VERSION = "1.1"

#: Thaws a list of parameters: ``(module, thaw_pl, translation_func=None, init_thaw=False) -> (newly thawed, all
#: thawed)``. Keyword arguments differ between wrapped and replaced executors, so they are not spelled out here.
PhaseExecutor = Callable[..., tuple[list[str], list[str]]]


class StrategyAdapter:
    """Teaches the scheduler a training strategy, a model architecture, or a way to name parameters.

    Subclass it, override the hooks you need, and name the class in the ``finetuning_scheduler.strategy_adapters``
    entry-point group or in ``custom_strategy_adapters``. Hooks are listed in the order in which a run calls them.

    Args:
        cfg: The options of ``strategy_adapter_cfg``. The base adapter has one: ``checkpoint_names``, the names that
            checkpoints have on disk, ``"module"`` or one of :meth:`checkpoint_renamings`.

    Raises:
        AdapterError: An option was given that the adapter's ``__init__`` does not take.
    """

    #: The contract version the adapter was written for; this release drives the same major version.
    api_version: ClassVar[str] = API_VERSION

    #: Which names :meth:`lightning_module_state_dict` gives by default: ``"module"`` for the module's own, which any
    #: Trainer and ``load_from_checkpoint`` can read; one of :meth:`checkpoint_renamings`; or a word of the adapter's
    #: choice, where its hooks translate. It is recorded in every checkpoint.
    checkpoint_names: ClassVar[str] = "module"

    # On the class, so that an adapter whose __init__ calls no super().__init__() gets clear errors.
    _fts_handle: SchedulerHandle | None = None
    _chosen_names: str | None = None
    _names_read: names.NamesRead | None = None

    def __init__(self, **cfg: object) -> None:
        chosen = cfg.pop("checkpoint_names", None)
        if chosen is not None and not isinstance(chosen, str):
            raise AdapterError(
                f"{chosen!r} is no text.",
                where="strategy_adapter_cfg, checkpoint_names",
                remedy="Give 'module' or the word for one of the adapter's namings.",
            )
        self._chosen_names = chosen
        if cfg:
            given = sorted(cfg)
            raise AdapterError(
                f"{type(self).__name__} has no option named {', '.join(map(repr, given))}. "
                f"{_options_sentence(type(self), given)}",
                where="strategy_adapter_cfg",
                remedy="Remove what the adapter does not take.",
            )

    # -- handles -------------------------------------------------------------------------------------------------

    @property
    def fts_handle(self) -> SchedulerHandle:
        """The connected :class:`~phasewire.app.FinetuningScheduler`.

        Raises:
            AdapterError: The adapter is not connected yet.
        """
        if self._fts_handle is None:
            raise AdapterError(
                f"{type(self).__name__} was used before it was connected to a FinetuningScheduler.",
                remedy="Use the handle in connect() or later, not in __init__. In yours, call super().__init__() and "
                "super().connect().",
            )
        return self._fts_handle

    @property
    def pl_module(self) -> LightningModule:
        """The module being tuned."""
        return self.fts_handle.pl_module

    @property
    def trainer(self) -> Trainer:
        """The Trainer that runs."""
        return self.fts_handle.trainer

    @property
    def pls_handle(self) -> Strategy:
        """The running Lightning strategy."""
        return self.trainer.strategy

    @property
    def using_sharded_optimizer(self) -> bool:
        """Whether the first optimizer shards its state over processes (it has ``consolidate_state_dict``)."""
        return hasattr(self.trainer.optimizers[0], "consolidate_state_dict")

    # -- hooks, in the order of a run ----------------------------------------------------------------------------

    def connect(self, fts_parent: SchedulerHandle) -> None:
        """Take the handle of the scheduler; called right after construction, at every stage.

        Outside ``fit`` only the three checkpoint hooks follow, so name maps are built here or lazily.

        Args:
            fts_parent: The :class:`~phasewire.app.FinetuningScheduler` that drives this adapter.
        """
        self._fts_handle = fts_parent

    def on_before_init_fts(self) -> None:
        """Prepare before the schedule exists; called in ``setup`` of a fit."""

    def gen_ft_schedule(self, dump_loc: str | os.PathLike[str]) -> os.PathLike[str] | None:
        """Write the default schedule: two parameters a phase, last layers first.

        The names are those of :meth:`get_named_params_for_schedule_validation`, so that an adapter which only renames
        parameters generates schedules in its own names.

        Args:
            dump_loc: The folder to write to.

        Returns:
            The path of the file, named ``<ModuleClass>_ft_schedule.yaml``; ``None`` on ranks other than 0.

        Raises:
            ScheduleError: The file cannot be written.
        """
        schedule = self.fts_handle.default_schedule(list(self.get_named_params_for_schedule_validation()))
        return self.fts_handle.save_schedule(f"{class_name(self.pl_module)}_ft_schedule.yaml", schedule, dump_loc)

    def get_named_params_for_schedule_validation(self) -> dict[str, torch.nn.Parameter]:
        """Give the names that a schedule may use, in registration order.

        Returns:
            Name to parameter; the module's ``named_parameters()`` by default.
        """
        return dict(self.pl_module.named_parameters())

    def validate_ft_sched(self) -> tuple[int, int]:
        """Validate the schedule after it was loaded.

        Override it whole only when naming is not enough. An override reads ``fts_handle.ft_schedule`` as it stands in
        the file and leaves it with every ``params`` entry expanded to names that :meth:`fts_optim_transform` takes.

        Returns:
            The deepest phase, and the highest ``max_transition_epoch`` (-1 when no phase has one).

        Raises:
            ScheduleError: The schedule does not fit the module.
        """
        return self.fts_handle.validate_schedule()

    def on_after_init_fts(self) -> None:
        """Thaw phase 0; called in ``setup`` of a fit, once the schedule is valid and everything is frozen."""
        self.fts_handle.begin_phase_zero()

    def on_before_fts_fit_start(self) -> None:
        """Act before the scheduler's own ``on_fit_start``, when optimizers exist."""

    # Both names and the positional order are the documented FTS contract.
    def fts_optim_transform(self, orig_pl: list[str], inspect_only: bool = False) -> list[str]:
        """Translate names of the schedule to names of ``pl_module.named_parameters()``.

        Called before every thaw and before every change of the parameter groups.

        Args:
            orig_pl: Names as they stand in the schedule.
            inspect_only: Change no state of the adapter.

        Returns:
            The module's names, in an order of the adapter's choice.
        """
        return orig_pl

    def fts_optim_inspect(self, orig_pl: list[str]) -> list[str]:
        """Do what :meth:`fts_optim_transform` does, without changing any state.

        Args:
            orig_pl: Names as they stand in the schedule.

        Returns:
            The module's names.
        """
        return self.fts_optim_transform(orig_pl, inspect_only=True)

    def logical_param_translation(self, param_names: list[str]) -> list[str]:
        """Translate the module's names to those a person should see; the inverse of the transform.

        Args:
            param_names: Names of ``pl_module.named_parameters()``.

        Returns:
            Names as they would stand in a schedule.
        """
        return param_names

    def phase0_optimizer_override(self) -> None:
        """Rebuild the parameter groups from phase 0.

        Called when the optimizer that the module configured does not hold exactly the parameters of phase 0, and
        ``enforce_phase0_params`` is on.
        """
        self.fts_handle.rebuild_phase0_groups()

    def on_phase_thawed(self, depth: int) -> None:
        """Act after a phase's parameters were thawed and entered the optimizer.

        Args:
            depth: The phase that now trains.
        """

    def on_validate_monitor_metric(self, monitor: str) -> None:
        """Check the monitored metric before it is first used; warns when processes may disagree about it.

        Args:
            monitor: The name of the metric.
        """
        if self.fts_handle.is_metric_unsynchronised(monitor):
            rank_zero_warn(
                f"The monitored metric {monitor!r} is logged without sync_dist=True, so processes may each find "
                "another checkpoint the best. Log it with self.log(..., sync_dist=True)."
            )

    # -- checkpoints ---------------------------------------------------------------------------------------------

    @property
    def names_on_disk(self) -> str:
        """Which names checkpoints are written with: the option ``checkpoint_names``, or what the class says."""
        return self._chosen_names or self.checkpoint_names

    def checkpoint_renamings(self) -> Mapping[str, Naming]:
        """Give other names for the tensors of a checkpoint; called after ``connect``, also while the module is built.

        With one of these words in ``checkpoint_names``, or given by the user as that option, checkpoints are written
        under its names. Files in any of them are read on every path, and ``phasewire checkpoint convert`` translates
        files to them.

        Returns:
            A word to a :class:`~phasewire.adapters.Renaming`, or another :class:`~phasewire.adapters.Naming`; none by
            default.
        """
        return {}

    # Any: the values of a checkpoint are tensors, numbers, and whatever callbacks and modules put there.
    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Collect the module's state, whenever a checkpoint is written.

        Returns:
            The state dict to store; the strategy's own by default, under the names of :attr:`names_on_disk`.
        """
        return names.stored_state(self, self.fts_handle.strategy_checkpoint_io.lightning_module_state_dict())

    def before_restore_model(self, checkpoint: dict[str, Any]) -> dict[str, Any]:
        """Translate a checkpoint right after it was read, before the module's ``on_load_checkpoint``.

        Called on every path on which a checkpoint is read. Whatever is raised here stops the restore.

        Args:
            checkpoint: The whole checkpoint.

        Returns:
            The checkpoint to go on with; by default one whose state dict has the module's own names, if it has those of
            any naming that the adapter knows or the file records.
        """
        checkpoint, self._names_read = names.own_checkpoint(self, checkpoint)
        return checkpoint

    def load_model_state_dict(self, checkpoint: dict[str, Any], strict: bool = True) -> None:
        """Load the module's state from a checkpoint.

        Args:
            checkpoint: The whole checkpoint, as :meth:`before_restore_model` returned it.
            strict: Refuse missing and unexpected keys.

        Raises:
            CheckpointError: The state does not fit the module; none of it was loaded.
        """
        names.refuse_misfit(self, checkpoint, self._names_read, strict=strict)
        self.fts_handle.strategy_checkpoint_io.load_model_state_dict(checkpoint, strict=strict)

    def on_before_restore_optimizers_and_lrs(self) -> None:
        """Act before optimizer and lr-scheduler state is restored between phases."""

    # -- thawing -------------------------------------------------------------------------------------------------

    @staticmethod
    def base_ft_phase(
        module: torch.nn.Module,
        thaw_pl: list[str],
        translation_func: Callable[[list[str]], list[str]] | None = None,
        init_thaw: bool = False,
    ) -> tuple[list[str], list[str]]:
        """Thaw the named parameters of a module. Linear in the number of parameters.

        Args:
            module: The module whose parameters are thawed.
            thaw_pl: Names of ``module.named_parameters()``; names it does not have are passed over.
            translation_func: Makes names readable for the log, for example ``logical_param_translation``.
            init_thaw: This is phase 0; only the log message differs.

        Returns:
            The names thawed by this call, and all names thawed now, both in registration order.
        """
        named, wanted = dict(module.named_parameters()), frozenset(thaw_pl)
        to_thaw = {name: parameter for name, parameter in named.items() if name in wanted}
        newly_thawed = thaw_parameters(to_thaw, translation_func, init_thaw)
        return newly_thawed, [name for name, parameter in named.items() if parameter.requires_grad]

    #: The callable that thaws a list of names; an adapter that wraps it sets its own in ``__init__``.
    exec_ft_phase: PhaseExecutor = base_ft_phase


def thaw_parameters(
    parameters: Mapping[str, torch.nn.Parameter],
    translation_func: Callable[[list[str]], list[str]] | None = None,
    init_thaw: bool = False,
) -> list[str]:
    """Thaw parameters, as :meth:`StrategyAdapter.base_ft_phase` does once it has found them in a module.

    Args:
        parameters: Those to thaw, by name.
        translation_func: Makes names readable for the log.
        init_thaw: This is phase 0; only the log message differs.

    Returns:
        The names of those that were frozen.
    """
    newly_thawed: list[str] = []
    for name, parameter in parameters.items():
        if not parameter.requires_grad:
            parameter.requires_grad = True
            newly_thawed.append(name)
    shown = translation_func(newly_thawed) if translation_func else newly_thawed
    rank_zero.debug(f"{'Training begins with' if init_thaw else 'Thawed'} {len(shown)} parameters: {shown}")
    return newly_thawed


def _options_sentence(adapter_class: type, given: list[str]) -> str:
    import inspect

    options = [
        name
        for name, parameter in inspect.signature(adapter_class).parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]
    if not options:
        return "It takes no options."
    return f"Its options are {', '.join(options)}. {did_you_mean(given[0], options)}".strip()
