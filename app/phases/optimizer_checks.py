"""What a schedule needs of the optimizer and the lr schedulers that the module configures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.optim import LBFGS
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
from phasewire.app.lightning_seams import stands_for_no_optimizer

if TYPE_CHECKING:
    import lightning.pytorch as pl

__all__ = [
    "SUPPORTED_LR_SCHEDULERS",
    "require_supported_lr_scheduler",
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
        ConfigError: There is not exactly one optimizer, or it cannot hold several groups, or an lr scheduler keeps a
            state for each group that cannot be kept in line.
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
    for config in trainer.lr_scheduler_configs:
        require_supported_lr_scheduler(type(config.scheduler), where, allow_untested=allow_untested)


def require_supported_lr_scheduler(kind: type, where: str, *, allow_untested: bool) -> None:
    """Make sure that the per-group state of an lr scheduler can be kept in line when groups are added.

    Args:
        kind: The class of the lr scheduler.
        where: The place that asks for it, for messages.
        allow_untested: Let any class pass.

    Raises:
        ConfigError: The class is not known to work.
    """
    if issubclass(kind, SUPPORTED_LR_SCHEDULERS) or allow_untested:
        return
    supported = ", ".join(each.__name__ for each in SUPPORTED_LR_SCHEDULERS)
    raise ConfigError(
        f"{kind.__name__} keeps a state for every parameter group that cannot be kept in line when a phase adds "
        "groups.",
        where=where,
        remedy=f"Use one of {supported}, a subclass of one, or set allow_untested=True.",
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
