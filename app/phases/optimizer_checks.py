"""What a schedule needs of the optimizer and the lr schedulers that the module configures."""

from __future__ import annotations

import reprlib
from typing import TYPE_CHECKING

from torch.optim import LBFGS, Optimizer
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiplicativeLR,
    MultiStepLR,
    ReduceLROnPlateau,
    StepLR,
)

from phasewire.adapters.errors import ConfigError
from phasewire.app.lightning_seams import overlaps_with_reduction, stands_for_no_optimizer

if TYPE_CHECKING:
    import lightning.pytorch as pl
    from torch.optim.lr_scheduler import LRScheduler

__all__ = [
    "SUPPORTED_LR_SCHEDULERS",
    "malformation_of",
    "refuse_overlap",
    "require_usable_lr_scheduler",
    "require_usable_optimizer",
    "several_optimizers",
]

#: Schedulers, with their subclasses, whose per-group state is known to be kept in line when groups are added.
SUPPORTED_LR_SCHEDULERS = (
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiplicativeLR,
    MultiStepLR,
    ReduceLROnPlateau,
    StepLR,
)


def require_usable_optimizer(
    trainer: pl.Trainer, module: pl.LightningModule, *, adds_groups: bool, allow_untested: bool
) -> None:
    """Make sure that groups can be added to what the module configured.

    Args:
        trainer: The Trainer, whose optimizers and lr schedulers exist.
        module: The module that configured them.
        adds_groups: The schedule has a phase that adds groups.
        allow_untested: Let lr schedulers pass that are not known to work.

    Raises:
        ConfigError: There is not exactly one optimizer, or it cannot hold several groups with rates, or an lr scheduler
            keeps a state for each group that cannot be kept in line.
    """
    where = f"{type(module).__name__}.configure_optimizers"
    optimizers = trainer.optimizers
    if not optimizers or stands_for_no_optimizer(optimizers[0]):
        raise ConfigError(
            "The module configures no optimizer, so there is none to add phases to.",
            where=where,
            remedy="Return one optimizer.",
        )
    if len(optimizers) > 1:
        raise several_optimizers(module)
    if isinstance(optimizers[0], LBFGS) and adds_groups:
        raise ConfigError(
            "LBFGS holds a single parameter group, so no phase can add one.",
            where=where,
            remedy="Use another optimizer, or a schedule of one phase.",
        )
    refuse_overlap(optimizers[0], where)
    malformed = malformation_of(optimizers[0]) if adds_groups else None
    if malformed is not None:
        raise ConfigError(
            f"{malformed} A phase adds a parameter group with a learning rate of its own.",
            where=where,
            remedy="Return an optimizer that has them, or use a schedule of one phase.",
        )
    if adds_groups and not all("lr" in group for group in optimizers[0].param_groups):
        raise ConfigError(
            f"{type(optimizers[0]).__name__} keeps no learning rate ('lr') in its parameter groups, and a schedule "
            "gives every phase one.",
            where=where,
            remedy="Use an optimizer that has one, or a schedule of one phase.",
        )
    for config in trainer.lr_scheduler_configs:
        require_usable_lr_scheduler(config.scheduler, where, adds_groups=adds_groups, allow_untested=allow_untested)


def malformation_of(optimizer: object) -> str | None:
    """Tell what an optimizer lacks that every optimizer of torch has: groups of parameters, and numbers as rates.

    Args:
        optimizer: What a constructor or ``configure_optimizers`` gave.

    Returns:
        What is wrong, as a sentence; ``None`` if nothing is.
    """
    name, groups = type(optimizer).__name__, getattr(optimizer, "param_groups", None)
    if not isinstance(optimizer, Optimizer):
        return f"{name} is no optimizer of torch."
    if not isinstance(getattr(optimizer, "defaults", None), dict):
        return f"{name} has no options for new parameter groups: its defaults are no dict."
    is_sound = isinstance(groups, list) and all(
        isinstance(group, dict) and isinstance(group.get("params"), list) for group in groups
    )
    if not is_sound or not groups:
        return f"{name} has no parameter groups: its param_groups are no list of dicts with 'params'."
    for group in groups:
        try:
            float(group.get("lr", 0.0))
        except (TypeError, ValueError, RuntimeError, OverflowError):
            return f"{name} has {reprlib.repr(group['lr'])} as the learning rate of a parameter group, and no number."
    return None


def refuse_overlap(optimizer: Optimizer, where: str) -> None:
    """Refuse an optimizer that steps while gradients are still being reduced.

    Args:
        optimizer: The optimizer.
        where: The place that asks for it, for messages.

    Raises:
        ConfigError: It is a ``ZeroRedundancyOptimizer`` with ``overlap_with_ddp=True``.
    """
    if overlaps_with_reduction(optimizer):
        raise ConfigError(
            f"{type(optimizer).__name__}(overlap_with_ddp=True) holds a single parameter group, and is tied to the "
            "parameters that required a gradient when training began, so no phase can add any.",
            where=where,
            remedy="Set overlap_with_ddp=False.",
        )


def require_usable_lr_scheduler(scheduler: LRScheduler, where: str, *, adds_groups: bool, allow_untested: bool) -> None:
    """Make sure that the per-group state of an lr scheduler can be kept in line when groups are added.

    Args:
        scheduler: The lr scheduler.
        where: The place that asks for it, for messages.
        adds_groups: A phase adds groups while it is in use.
        allow_untested: Let classes pass that are not known to work.

    Raises:
        ConfigError: The class is not known to work, or holds other lr schedulers and no state of its own.
    """
    name, supported = type(scheduler).__name__, ", ".join(each.__name__ for each in SUPPORTED_LR_SCHEDULERS)
    if isinstance(scheduler, SUPPORTED_LR_SCHEDULERS):
        return
    if not allow_untested:
        raise ConfigError(
            f"{name} keeps a state for every parameter group that cannot be kept in line when a phase adds groups.",
            where=where,
            remedy=f"Use one of {supported}, a subclass of one, or set allow_untested=True.",
        )
    if adds_groups and not hasattr(scheduler, "base_lrs"):
        raise ConfigError(
            f"{name} drives other lr schedulers, which would not learn of the groups that a phase adds.",
            where=where,
            remedy=f"Use one of {supported}, or a subclass of one; LambdaLR can describe any course.",
        )


def several_optimizers(module: pl.LightningModule) -> ConfigError:
    """Make the error for a module with more than one optimizer.

    Args:
        module: The module.

    Returns:
        The error to raise.
    """
    return ConfigError(
        "The module configures several optimizers; a schedule adds its phases to exactly one.",
        where=f"{type(module).__name__}.configure_optimizers",
        remedy="Return one optimizer; groups in it can have different options.",
    )
