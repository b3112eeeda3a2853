"""Optimizer parameter groups: one or two for every phase, and lr schedulers kept in line with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from phasewire.adapters.errors import CheckpointError, ConfigError, did_you_mean
from phasewire.app.lightning_seams import restart_lr_scheduler

if TYPE_CHECKING:
    from torch.nn import Parameter
    from torch.optim import Optimizer

__all__ = [
    "LearningRates",
    "add_phase_groups",
    "group_names",
    "rebuild_groups",
    "restart_with_groups",
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
    named_parameters: Mapping[str, Parameter],
    names: Sequence[str],
    *,
    lr: float | torch.Tensor,
    no_decay: Sequence[str] | None = None,
    apply_lambdas: bool = False,
) -> None:
    """Add the groups of one phase and extend the lr schedulers by as many.

    With ``no_decay`` two groups are added, the second without weight decay; either may be empty, so that every phase
    has the same number of groups. Parameters that a group already holds are passed over.

    Args:
        optimizer: The optimizer to extend.
        schedulers: The lr schedulers of that optimizer.
        named_parameters: The module's parameters.
        names: The names of the phase's parameters.
        lr: The learning rate of the new groups.
        no_decay: Parts of names; parameters whose name contains one get no weight decay.
        apply_lambdas: Multiply ``lr`` by the newest lambda of a scheduler that has lambdas.
    """
    first_lr = lr * _lambda_factor(schedulers) if apply_lambdas else lr
    named = any("param_names" in group for group in optimizer.param_groups)
    _append(optimizer, named_parameters, names, lr=first_lr, no_decay=no_decay, named=named)
    for scheduler in schedulers:
        _extend(scheduler, len(optimizer.param_groups), base_lr=lr)


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
    named = any("param_names" in group for group in optimizer.param_groups)
    rebuilt: list[dict[str, Any]] = []  # Any: torch's groups hold options of every type
    for names in names_of_groups:
        group: dict[str, Any] = {**optimizer.defaults, "params": [named_parameters[name] for name in names]}
        if named:
            group["param_names"] = list(names)
        rebuilt.append(group)
    optimizer.param_groups = rebuilt
    for scheduler in schedulers:
        _extend(scheduler, len(rebuilt), base_lr=optimizer.defaults["lr"])


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
    named = any("param_names" in group for group in optimizer.param_groups)
    lr = optimizer.defaults["lr"]
    optimizer.param_groups = []
    _append(optimizer, named_parameters, names, lr=lr, no_decay=no_decay, named=named)
    _drop_state_of_others(optimizer)
    for scheduler in schedulers:
        _shorten(scheduler, 1 if isinstance(scheduler, ReduceLROnPlateau) else 0)
        _extend(scheduler, len(optimizer.param_groups), base_lr=lr)
        if not isinstance(scheduler, ReduceLROnPlateau):
            restart_lr_scheduler(scheduler)


class LearningRates:
    """The learning rates of an optimizer and its schedulers at one moment, to be put back later.

    Between phases the best checkpoint brings back older rates with its optimizer and scheduler state, while training
    goes on from the newest.

    Args:
        optimizer: The optimizer to read.
        schedulers: Its lr schedulers.
    """

    def __init__(self, optimizer: Optimizer, schedulers: Sequence[LRScheduler]) -> None:
        self._rates = [float(group["lr"]) for group in optimizer.param_groups]
        # state_dict() hands out the scheduler's own lists, which later grow with the groups.
        self._states = [_copied(scheduler.state_dict()) for scheduler in schedulers]

    def put_back(self, optimizer: Optimizer, schedulers: Sequence[LRScheduler]) -> None:
        """Set the rates again.

        Args:
            optimizer: An optimizer with the groups it had then.
            schedulers: Its lr schedulers.
        """
        for scheduler, state in zip(schedulers, self._states, strict=True):
            scheduler.load_state_dict(_copied(state))
        for group, rate in zip(optimizer.param_groups, self._rates, strict=False):
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate


def _copied(state: dict[str, Any]) -> dict[str, Any]:  # Any: the state of a scheduler holds values of every type
    return {key: list(value) if isinstance(value, list) else value for key, value in state.items()}


def _append(
    optimizer: Optimizer,
    named_parameters: Mapping[str, Parameter],
    names: Sequence[str],
    *,
    lr: float | torch.Tensor,
    no_decay: Sequence[str] | None,
    named: bool,
) -> None:
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    wanted = frozenset(names)
    new = [
        (name, parameter)
        for name, parameter in named_parameters.items()
        if name in wanted and id(parameter) not in held
    ]
    if not new:
        return
    for members, options in _split_by_decay(new, no_decay):
        group: dict[str, Any] = {"params": [parameter for _, parameter in members], **options}  # Any: as torch's groups
        if named:
            group["param_names"] = [name for name, _ in members]
        optimizer.add_param_group({**group, "lr": lr, "initial_lr": lr})


def _drop_state_of_others(optimizer: Optimizer) -> None:
    """Forget the state of parameters that no group holds: torch cannot save it. Some optimizers make state when built."""
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
    """Give a scheduler one entry for every group; new groups follow the newest lambda and the first minimum."""
    if isinstance(scheduler, ReduceLROnPlateau):
        scheduler.min_lrs.extend(scheduler.min_lrs[:1] * (groups - len(scheduler.min_lrs)))
        return
    scheduler.base_lrs.extend([base_lr] * (groups - len(scheduler.base_lrs)))
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
