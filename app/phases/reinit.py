"""Constructs the optimizers and lr schedulers that phases start with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lightning.pytorch.utilities.types import LRSchedulerConfig
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from phasewire.adapters.errors import ConfigError, PhasewireError, ScheduleError
from phasewire.app.class_path import construct, import_attribute, resolve, with_classes
from phasewire.app.phases.optimizer_checks import malformation_of
from phasewire.app.phases.param_groups import set_rate
from phasewire.app.schedule.reinit import named_in_arguments
from phasewire.app.schedule.values import learning_rate

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from phasewire.app.schedule.model import ClassInit, LRSchedulerReinit, OptimizerReinit

__all__ = ["attach", "construct_lr_scheduler", "construct_optimizer", "set_starting_rates"]

# Any, here and below: torch's groups hold options of every type.
Groups = Sequence[dict[str, Any]]


def construct_optimizer(reinit: OptimizerReinit, groups: Groups, *, where: str) -> Optimizer:
    """Construct a new optimizer.

    Args:
        reinit: The optimizer.
        groups: Its parameter groups; options that a group gives come before those of the optimizer.
        where: The place that asks for it, for messages.

    Returns:
        The optimizer. The rate of each group stands in it as ``initial_lr``, too.

    Raises:
        ScheduleError: The constructor refused its arguments, or what it made has no parameter groups or no learning
            rates, or one that is not a finite number of 0 or more.
    """
    optimizer: Optimizer = _constructed(reinit.optimizer_init, list(groups), where=where)
    malformed = malformation_of(optimizer)
    if malformed is not None:
        raise ScheduleError(
            f"What {reinit.optimizer_init.class_path} makes cannot be used: {malformed}",
            where=where,
            remedy="Use another optimizer, or correct its init_args.",
        )
    for group in optimizer.param_groups:
        if "lr" not in group:
            raise ScheduleError(
                f"{reinit.optimizer_init.class_path} keeps no learning rate ('lr') in its parameter groups, and a "
                "schedule gives every phase one.",
                where=where,
                remedy="Use an optimizer that has one.",
            )
        group["initial_lr"] = _checked_rate(group["lr"], where)
        if isinstance(group["lr"], Tensor):
            # All groups have got the one that is the optimizer's default.
            group["lr"] = group["lr"].clone()
    return optimizer


def construct_lr_scheduler(reinit: LRSchedulerReinit, optimizer: Optimizer, *, where: str) -> LRSchedulerConfig:
    """Construct a new lr scheduler around an optimizer.

    Args:
        reinit: The lr scheduler.
        optimizer: The optimizer; every group has the rate to start with, and ``initial_lr`` where the scheduler is to
            compute from another.
        where: The place that asks for it, for messages.

    Returns:
        The lr scheduler, with how Lightning drives it.

    Raises:
        ScheduleError: The constructor refused its arguments.
    """
    scheduler: LRScheduler = _constructed(reinit.lr_scheduler_init, optimizer, where=where)
    given = reinit.pl_lrs_cfg
    driven = {} if given is None else {name: value for name in _DRIVEN if (value := getattr(given, name)) is not None}
    return LRSchedulerConfig(scheduler, **{"reduce_on_plateau": isinstance(scheduler, ReduceLROnPlateau), **driven})


def set_starting_rates(reinit: LRSchedulerReinit, optimizer: Optimizer) -> None:
    """Set the rates that the groups of an optimizer start with under a new lr scheduler.

    What is given in ``init_pg_lrs`` comes first. Else the groups keep their rates if ``use_current_optimizer_pg_lrs``,
    and go back to their initial ones if not. This order is documented by FTS.

    Args:
        reinit: The new lr scheduler.
        optimizer: The optimizer.
    """
    if reinit.init_pg_lrs is not None:
        for group, rate in zip(optimizer.param_groups, reinit.init_pg_lrs, strict=False):
            set_rate(group, rate)
            group["initial_lr"] = rate
    elif not reinit.use_current_optimizer_pg_lrs:
        for group in optimizer.param_groups:
            set_rate(group, group.get("initial_lr", group["lr"]))


def attach(schedulers: Sequence[LRScheduler], optimizer: Optimizer) -> None:
    """Let lr schedulers go on with a new optimizer, where they are.

    Args:
        schedulers: The lr schedulers.
        optimizer: The new optimizer.
    """
    if not schedulers:
        return
    # An lr scheduler warns at its first step about an optimizer that none was constructed with.
    rates = [float(group["lr"]) for group in optimizer.param_groups]
    LambdaLR(optimizer, lambda _epoch: 1.0)
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        set_rate(group, rate)
    for scheduler in schedulers:
        scheduler.optimizer = optimizer


def _checked_rate(rate: object, where: str) -> float:
    try:
        return learning_rate(rate.item() if isinstance(rate, Tensor) else rate)
    except ValueError as error:
        raise ScheduleError(
            f"The learning rate of the optimizer cannot be used: {error}", where=where, remedy="Correct its lr."
        ) from error


_DRIVEN = ("name", "interval", "frequency", "reduce_on_plateau", "monitor", "strict")


# Any: the class is the user's choice; the schedule was checked to name one of the right kind.
def _constructed(init: ClassInit, first_argument: object, *, where: str) -> Any:  # noqa: ANN401  # as above
    try:
        named: Any = import_attribute(init.class_path, where=where)
        only = named_in_arguments()
        arguments: Any = construct(resolve(with_classes(named, init.init_args, only=only), only=only))
        return named(first_argument, **arguments)
    except ConfigError as error:
        raise ScheduleError(error.problem, where=where, remedy=error.remedy) from error
    except PhasewireError:
        raise
    except (Exception, SystemExit) as error:
        raise ScheduleError(
            f"{init.class_path} could not be constructed: {type(error).__name__}: {error}",
            where=where,
            remedy="Check its init_args.",
        ) from error
