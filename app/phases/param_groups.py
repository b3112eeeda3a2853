"""Optimizer parameter groups: one or two for every phase, and lr schedulers kept in line with them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from phasewire.adapters.errors import CheckpointError, ConfigError, did_you_mean
from phasewire.app.lightning_seams import maintain_partition, restart_lr_scheduler

if TYPE_CHECKING:
    from torch.nn import Parameter

__all__ = [
    "LearningRates",
    "add_phase_groups",
    "default_rate",
    "extend_lr_schedulers",
    "group_names",
    "has_names",
    "phase_groups",
    "rebuild_groups",
    "restart_with_groups",
    "set_rate",
]

GroupNames = list[list[str]]


def group_names(optimizer: Optimizer, named_parameters: Mapping[str, Parameter]) -> GroupNames:
    """Name the parameters of every group.

    Args:
        optimizer: The optimizer whose groups are read.
        named_parameters: The module's parameters.

    Returns:
        For every group, the names of its parameters in the group's order.

    Raises:
        ConfigError: The optimizer holds a tensor that is no parameter of the module.
    """
    names = {id(parameter): name for name, parameter in named_parameters.items()}
    for index, group in enumerate(optimizer.param_groups):
        for parameter in group["params"]:
            if id(parameter) not in names:
                raise ConfigError(
                    f"Group {index} of the optimizer holds a tensor of shape {tuple(parameter.shape)} that is no "
                    "parameter of the module, so no phase can thaw it.",
                    where="configure_optimizers",
                    remedy="Register it as a parameter of the LightningModule, or leave it out of the optimizer.",
                )
    return [[names[id(parameter)] for parameter in group["params"]] for group in optimizer.param_groups]


def add_phase_groups(
    optimizer: Optimizer,
    schedulers: Sequence[LRScheduler],
    parameters: Mapping[str, Parameter],
    *,
    lr: float | torch.Tensor,
    held: Collection[int],
    no_decay: Sequence[str] | None = None,
    apply_lambdas: bool = False,
) -> None:
    """Add the groups of one phase and extend the lr schedulers by as many.

    With ``no_decay`` two groups are added, the second without weight decay; either may be empty, so that every phase
    has the same number of groups. Parameters that a group already holds are passed over.

    Args:
        optimizer: The optimizer to extend.
        schedulers: The lr schedulers of that optimizer.
        parameters: The phase's parameters by name, in the order of registration.
        lr: The learning rate of the new groups.
        held: The ``id`` of every parameter that a group already holds.
        no_decay: Parts of names; parameters whose name contains one get no weight decay.
        apply_lambdas: Multiply ``lr`` by the newest lambda of a scheduler that has lambdas.
    """
    first_lr = lr * _lambda_factor(schedulers) if apply_lambdas else lr
    free = {name: parameter for name, parameter in parameters.items() if id(parameter) not in held}
    for group in phase_groups(free, list(free), no_decay=no_decay, with_names=has_names(optimizer)):
        _append_group(optimizer, {**group, "lr": _unshared(first_lr), "initial_lr": _unshared(first_lr)})
    extend_lr_schedulers(schedulers, len(optimizer.param_groups), base_lr=lr)


def extend_lr_schedulers(schedulers: Sequence[LRScheduler], groups: int, *, base_lr: float | torch.Tensor) -> None:
    """Give lr schedulers one entry for every group of their optimizer.

    New groups follow the newest lambda of a scheduler with lambdas, and the first lower bound of one with bounds.

    Args:
        schedulers: The lr schedulers.
        groups: How many groups the optimizer has.
        base_lr: The rate that new groups start with.
    """
    for scheduler in schedulers:
        _extend(scheduler, groups, base_lr=base_lr)


def rebuild_groups(
    optimizer: Optimizer,
    schedulers: Sequence[LRScheduler],
    named_parameters: Mapping[str, Parameter],
    names_of_groups: Sequence[Sequence[str]],
) -> None:
    """Give an optimizer the groups it had when a checkpoint was written.

    Only the members matter: loading the states of optimizer and schedulers sets every option and rate.

    Args:
        optimizer: The optimizer whose groups are replaced.
        schedulers: Its lr schedulers, extended where they have too few entries to load their state into.
        named_parameters: The module's parameters.
        names_of_groups: What :func:`group_names` gave when the checkpoint was written.

    Raises:
        CheckpointError: The module lacks a parameter of that name.
    """
    unknown = [name for names in names_of_groups for name in names if name not in named_parameters]
    if unknown:
        raise CheckpointError(
            f"The checkpoint's optimizer holds {unknown[0]!r}, a parameter that the module does not have. "
            f"{did_you_mean(unknown[0], named_parameters)}".rstrip(),
            remedy="Resume with the module that the checkpoint was written with.",
        )
    named, lr = has_names(optimizer), default_rate(optimizer)
    rebuilt: list[dict[str, Any]] = []  # Any: torch's groups hold options of every type
    for names in names_of_groups:
        members = [named_parameters[name] for name in names]
        group: dict[str, Any] = {**optimizer.defaults, "lr": _unshared(lr), "params": members}
        if named:
            group["param_names"] = list(names)
        rebuilt.append(group)
    optimizer.param_groups = rebuilt
    maintain_partition(optimizer)
    extend_lr_schedulers(schedulers, len(rebuilt), base_lr=lr)


def restart_with_groups(
    optimizer: Optimizer,
    schedulers: Sequence[LRScheduler],
    named_parameters: Mapping[str, Parameter],
    names: Sequence[str],
    *,
    no_decay: Sequence[str] | None = None,
) -> None:
    """Make an optimizer hold the named parameters and no others, as if it had been configured so.

    Args:
        optimizer: An optimizer that has not stepped yet.
        schedulers: Its lr schedulers; they compute the rates of their first step again.
        named_parameters: The module's parameters.
        names: The names of the parameters to hold.
        no_decay: Parts of names; parameters whose name contains one get no weight decay.
    """
    lr = default_rate(optimizer)
    groups = phase_groups(named_parameters, names, no_decay=no_decay, with_names=has_names(optimizer))
    optimizer.param_groups = []
    for group in groups:
        optimizer.add_param_group({**group, "lr": _unshared(lr), "initial_lr": _unshared(lr)})
    maintain_partition(optimizer)
    _drop_state_of_others(optimizer)
    for scheduler in schedulers:
        _shorten(scheduler, 1 if isinstance(scheduler, ReduceLROnPlateau) else 0)
        _extend(scheduler, len(optimizer.param_groups), base_lr=lr)
        if not isinstance(scheduler, ReduceLROnPlateau):
            restart_lr_scheduler(scheduler)


class LearningRates:
    """The rates of an optimizer's groups at one moment, current and initial, to be put back later.

    A restored checkpoint takes weights back to an earlier epoch; the rates go on from the newest one, and so do the
    lr schedulers, which are left as they are.

    Args:
        optimizer: The optimizer.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._rates = [float(group["lr"]) for group in optimizer.param_groups]
        self._initial_rates = [group.get("initial_lr") for group in optimizer.param_groups]

    def put_back(self, optimizer: Optimizer) -> None:
        """Set the rates again.

        Args:
            optimizer: An optimizer that begins with the groups it had then.
        """
        for group, rate, initial in zip(optimizer.param_groups, self._rates, self._initial_rates, strict=False):
            set_rate(group, rate)
            if initial is not None:
                group["initial_lr"] = initial


def default_rate(optimizer: Optimizer) -> float | torch.Tensor:
    """Give the rate of groups that state none.

    Args:
        optimizer: The optimizer.

    Returns:
        The optimizer's default, or the rate of its first group where it has none.
    """
    rate: float | torch.Tensor = optimizer.defaults.get("lr", optimizer.param_groups[0].get("lr", 0.0))
    return rate


# Any: torch's groups hold options of every type.
def set_rate(group: dict[str, Any], rate: float | torch.Tensor) -> None:
    """Set the learning rate of a group; in place where it is a tensor, which compiled optimizers hold on to.

    Args:
        group: A parameter group.
        rate: The rate.
    """
    if isinstance(group["lr"], torch.Tensor):
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate


def phase_groups(
    named_parameters: Mapping[str, Parameter],
    names: Sequence[str],
    *,
    no_decay: Sequence[str] | None = None,
    with_names: bool = False,
) -> list[dict[str, Any]]:
    """Make the groups of one phase, without their learning rates.

    Args:
        named_parameters: The parameters to choose from, in the order of registration.
        names: The names of the phase's parameters.
        no_decay: Parts of names; parameters whose name contains one go to a second group, without weight decay.
        with_names: Put the names into the groups, as torch does for an optimizer of named parameters.

    Returns:
        The groups; none when none of the names is there.
    """
    wanted = frozenset(names)
    new = [(name, parameter) for name, parameter in named_parameters.items() if name in wanted]
    if not new:
        return []
    groups: list[dict[str, Any]] = []
    for members, options in _split_by_decay(new, no_decay):
        group: dict[str, Any] = {"params": [parameter for _, parameter in members], **options}
        if with_names:
            group["param_names"] = [name for name, _ in members]
        groups.append(group)
    return groups


def has_names(optimizer: Optimizer) -> bool:
    """Tell whether an optimizer was made of named parameters.

    Args:
        optimizer: The optimizer.

    Returns:
        Whether its groups hold names.
    """
    # torch refuses to mix groups with and without.
    return "param_names" in next(iter(optimizer.param_groups), {})


def _append_group(optimizer: Optimizer, group: dict[str, Any]) -> None:  # Any: as above
    """Add a group of parameters that no other group holds."""
    if not _adds_as_torch(optimizer):
        optimizer.add_param_group(group)
        return
    # torch looks whether another group holds one of them, at all others for every group that is added. So a stand-in
    # without groups completes the group, and the optimizer is never without its own.
    stand_in = object.__new__(type(optimizer))
    vars(stand_in).update(vars(optimizer), param_groups=[])
    stand_in.add_param_group(group)
    optimizer.param_groups.extend(stand_in.param_groups)


def _adds_as_torch(optimizer: Optimizer) -> bool:
    """Tell whether an optimizer keeps its groups, and adds one, as torch's own optimizers do."""
    kind = type(optimizer)
    is_replaced = "add_param_group" in vars(optimizer) or kind.add_param_group is not Optimizer.add_param_group
    return not is_replaced and not hasattr(kind, "param_groups")


def _drop_state_of_others(optimizer: Optimizer) -> None:
    # Some optimizers make state when they are built, and torch cannot save that of a parameter in no group.
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    for parameter in [parameter for parameter in optimizer.state if id(parameter) not in held]:
        del optimizer.state[parameter]


def _split_by_decay(
    new: Sequence[tuple[str, Parameter]], no_decay: Sequence[str] | None
) -> list[tuple[list[tuple[str, Parameter]], dict[str, float]]]:
    if not no_decay:
        return [(list(new), {})]
    without = [(name, parameter) for name, parameter in new if any(part in name for part in no_decay)]
    exempt = {name for name, _ in without}
    return [([pair for pair in new if pair[0] not in exempt], {}), (without, {"weight_decay": 0.0})]


def _unshared(rate: float | torch.Tensor) -> float | torch.Tensor:
    """Copy a rate that is a tensor: lr schedulers change it in place, for one group at a time."""
    return rate.clone() if isinstance(rate, torch.Tensor) else rate


def _lambdas(scheduler: LRScheduler) -> list[Any] | None:  # Any: a lambda may be any callable object, or None
    return getattr(scheduler, "lr_lambdas", None)


def _lambda_factor(schedulers: Sequence[LRScheduler]) -> float:
    factor = 1.0
    for scheduler in schedulers:
        lambdas = _lambdas(scheduler)
        if lambdas:
            factor *= lambdas[-1](scheduler.last_epoch)
    return factor


def _extend(scheduler: LRScheduler, groups: int, *, base_lr: float | torch.Tensor) -> None:
    if isinstance(scheduler, ReduceLROnPlateau):
        scheduler.min_lrs.extend(scheduler.min_lrs[:1] * (groups - len(scheduler.min_lrs)))
        return
    scheduler.base_lrs.extend(_unshared(base_lr) for _ in range(groups - len(scheduler.base_lrs)))
    lambdas = _lambdas(scheduler)
    if lambdas:
        lambdas.extend(lambdas[-1:] * (groups - len(lambdas)))


def _shorten(scheduler: LRScheduler, groups: int) -> None:
    """Drop the entries of groups that are no more. One lambda stays: the new groups follow it."""
    if isinstance(scheduler, ReduceLROnPlateau):
        del scheduler.min_lrs[groups:]
        return
    del scheduler.base_lrs[groups:]
    lambdas = _lambdas(scheduler)
    if lambdas:
        del lambdas[max(groups, 1) :]
