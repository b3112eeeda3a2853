"""The optimizer that a fit would have, and what it keeps for each parameter.

What an optimizer keeps is not looked up by class: it makes a step on the meta device, where tensors have a shape and no
values, and what it then holds for the parameter is counted. So any optimizer is measured with the options that it has.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import nn
from torch.nn.parameter import UninitializedParameter
from torch.optim import Optimizer

from phasewire.adapters.errors import ConfigError
from phasewire.app.nested_tensors import tensors_in
from phasewire.app.phases.optimizer_checks import malformation_of
from phasewire.app.phases.param_groups import phase_groups, restart_with_groups
from phasewire.app.phases.reinit import construct_optimizer
from phasewire.app.schedule.model import ClassInit, OptimizerReinit

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from phasewire.app.planning.precision import TrainedType

__all__ = [
    "ASSUMED_OPTIMIZER",
    "ConfigureError",
    "ParameterKind",
    "PlannedOptimizer",
    "configured_optimizer",
    "configures_optimizer",
    "new_optimizer",
]

#: What is taken where neither the model nor the user names an optimizer.
ASSUMED_OPTIMIZER: Final = "torch.optim.AdamW"

#: Options that choose an implementation for a device; the state is the same without them.
_IMPLEMENTATIONS: Final = ("capturable", "foreach", "fused")

#: Lightning takes an optimizer, a dict of one, a list of those, and a pair of lists.
_MOST_NESTED: Final = 3


class ConfigureError(ConfigError):
    """``configure_optimizers`` of a module fails outside a fit."""


@dataclass(frozen=True, slots=True)
class ParameterKind:
    """All that the state of a parameter depends on."""

    shape: tuple[int, ...]
    """Its shape."""
    dtype: torch.dtype
    """The type it is trained in."""
    options: int = 0
    """Which of the optimizer's groups it is in, as :meth:`PlannedOptimizer.group_of` tells."""

    @property
    def gradient_bytes(self) -> int:
        """What its gradient takes."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize


class PlannedOptimizer:
    """An optimizer that trains nothing, and tells what it would keep.

    Args:
        optimizer: The optimizer; its state and groups are the same after every call.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._options = [dict(optimizer.defaults), *({**group, "params": []} for group in optimizer.param_groups)]
        self._groups = {
            id(parameter): number
            for number, group in enumerate(optimizer.param_groups, start=1)
            for parameter in group["params"]
        }
        self._measured: dict[ParameterKind, int] = {}
        #: Why the state of a parameter could not be measured, once it could not.
        self.problem: str | None = None

    @property
    def name(self) -> str:
        """Its class, and the options that change what it keeps in most optimizers."""
        defaults = self._optimizer.defaults
        shown = [
            f"{key}={defaults[key]}" for key in ("momentum", "amsgrad", "centered", "nesterov") if defaults.get(key)
        ]
        return f"{type(self._optimizer).__name__}({', '.join(shown)})" if shown else type(self._optimizer).__name__

    @property
    def rates(self) -> tuple[float, ...]:
        """The learning rates of its groups, before an lr scheduler changes them."""
        return tuple(float(group.get("initial_lr", group.get("lr", 0.0))) for group in self._optimizer.param_groups)

    def group_of(self, parameter: nn.Parameter) -> int:
        """Tell which group holds a parameter.

        Args:
            parameter: The parameter, which may be in none.

        Returns:
            The number of the group from 1; 0 where there is none, and the options are the optimizer's defaults.
        """
        return self._groups.get(id(parameter), 0)

    def state_bytes(self, kind: ParameterKind) -> int | None:
        """Measure what the optimizer keeps for a parameter after a step.

        Args:
            kind: The parameter.

        Returns:
            Bytes; ``None`` when the optimizer makes no step without values, as :attr:`problem` then tells.
        """
        if self.problem is None and kind not in self._measured:
            try:
                self._measured[kind] = self._measure(kind)
            # Any optimizer may be named; what it raises is shown to the user.
            except (Exception, SystemExit) as error:  # noqa: BLE001
                self.problem = f"{self.name} cannot be measured: {type(error).__name__}: {error}"
        return None if self.problem is not None else self._measured[kind]

    def _measure(self, kind: ParameterKind) -> int:
        optimizer = self._optimizer
        probe = nn.Parameter(torch.empty(kind.shape, dtype=kind.dtype, device="meta"))
        probe.grad = torch.empty_like(probe)
        options = self._options[kind.options]
        portable: dict[str, Any] = {key: False for key in _IMPLEMENTATIONS if key in options}
        before = optimizer.param_groups, optimizer.state
        optimizer.param_groups = [{**options, **portable, "params": [probe]}]
        optimizer.state = defaultdict(dict)
        try:
            optimizer.step()
        except RuntimeError:
            # Some read a value in the middle of a step, when all that they keep is there.
            if not optimizer.state.get(probe):
                raise
        finally:
            kept = optimizer.state
            optimizer.param_groups, optimizer.state = before
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors_in(kept.get(probe, {})))


def configured_optimizer(
    model: nn.Module,
    phase_zero: Sequence[str],
    trained_type: TrainedType,
    *,
    wanted: ClassInit | None = None,
    enforce_phase_zero: bool = True,
) -> tuple[PlannedOptimizer, dict[str, int]]:
    """Make the optimizer that a fit begins with.

    The model configures it over parameters that stand for its own: on the CPU, of the right shape and type, and
    without storage.

    Args:
        model: The model; it is as before afterwards.
        phase_zero: The names of the parameters that phase 0 thaws.
        trained_type: Tells in which type parameters are trained.
        wanted: The optimizer, where it is not that of ``configure_optimizers``.
        enforce_phase_zero: Whether the optimizer is made to hold the parameters of phase 0.

    Returns:
        The optimizer, and the group of each parameter it holds.

    Raises:
        ConfigureError: ``configure_optimizers`` fails, gives not exactly one optimizer, or one that has no groups and
            rates.
        ScheduleError: The optimizer that is wanted cannot be built.
    """
    with _stand_ins(model, frozenset(phase_zero), trained_type) as named:
        no_decay = getattr(model, "no_decay", None)
        optimizer: Optimizer
        if wanted is None and configures_optimizer(model):
            optimizer = _only_optimizer(_configured(cast("LightningModule", model)), model)
        else:
            groups = phase_groups(named, phase_zero, no_decay=no_decay)
            reinit = OptimizerReinit(optimizer_init=wanted or ClassInit(ASSUMED_OPTIMIZER))
            optimizer = construct_optimizer(reinit, groups, where="the optimizer of phase 0")
        malformed = malformation_of(optimizer)
        if malformed is not None:
            raise _unusable(model, malformed)
        held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        if enforce_phase_zero and held != {id(named[name]) for name in phase_zero}:
            try:
                restart_with_groups(optimizer, [], named, phase_zero, no_decay=no_decay)
            except Exception as error:
                problem = f"{type(optimizer).__name__} takes no parameter group: {type(error).__name__}: {error}"
                raise _unusable(model, problem) from error
        planned = PlannedOptimizer(optimizer)
        return planned, {name: planned.group_of(parameter) for name, parameter in named.items()}


def configures_optimizer(model: nn.Module) -> bool:
    """Tell whether a model says itself which optimizer it is trained with.

    Args:
        model: The model.

    Returns:
        Whether it does; :data:`ASSUMED_OPTIMIZER` is taken for one that does not.
    """
    return isinstance(model, LightningModule) and is_overridden("configure_optimizers", model)


def new_optimizer(reinit: OptimizerReinit, *, where: str) -> PlannedOptimizer:
    """Make an optimizer that a phase starts with.

    Args:
        reinit: The optimizer.
        where: The place that asks for it, for messages.

    Returns:
        The optimizer, with one group that has its default options.

    Raises:
        ScheduleError: The constructor refused its arguments.
    """
    alone = nn.Parameter(torch.empty(1, 1, device="meta"))
    return PlannedOptimizer(construct_optimizer(reinit, [{"params": [alone]}], where=where))


def _shape_of(parameter: nn.Parameter) -> torch.Size:
    """Tell a shape; that of an empty tensor where a lazy module gets it with the first batch alone."""
    return torch.Size([0]) if isinstance(parameter, UninitializedParameter) else parameter.shape


@contextmanager
def _stand_ins(
    model: nn.Module, thawed: frozenset[str], trained_type: TrainedType
) -> Iterator[Mapping[str, nn.Parameter]]:
    """Put parameters without storage in the place of a model's own, for as long as the block runs."""
    named = dict(model.named_parameters())
    stand_ins = {
        id(parameter): nn.Parameter(
            torch.zeros((), dtype=trained_type.of(parameter.dtype)).expand(_shape_of(parameter)),
            requires_grad=name in thawed and (parameter.is_floating_point() or parameter.is_complex()),
        )
        for name, parameter in named.items()
    }
    places = [
        (module, leaf, parameter)
        for module in model.modules()
        for leaf, parameter in nn.Module.named_parameters(module, recurse=False, remove_duplicate=False)
        if id(parameter) in stand_ins
    ]
    try:
        for module, leaf, parameter in places:
            setattr(module, leaf, stand_ins[id(parameter)])
        yield {name: stand_ins[id(parameter)] for name, parameter in named.items()}
    finally:
        for module, leaf, parameter in places:
            setattr(module, leaf, parameter)


class _NoTrainer:
    """Answers what ``configure_optimizers`` asks of a Trainer to make lr schedulers; no answer changes what is kept."""

    max_epochs = 1000
    max_steps = -1
    estimated_stepping_batches = 1000
    num_training_batches = 1
    accumulate_grad_batches = 1
    check_val_every_n_epoch = 1
    current_epoch = 0
    global_step = 0
    num_devices = 1
    num_nodes = 1
    world_size = 1
    global_rank = 0
    is_global_zero = True

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a plan has no Trainer, and so no {name!r} of it")


# Any: what the method may return is Lightning's to say.
def _configured(model: LightningModule) -> Any:  # noqa: ANN401  # as the comment says
    attached = _trainer_of(model)
    model.trainer = attached or cast("Trainer", _NoTrainer())
    try:
        return model.configure_optimizers()
    except (Exception, SystemExit) as error:
        raise ConfigureError(
            f"{type(model).__name__}.configure_optimizers fails outside a fit: {type(error).__name__}: {error}",
            where=type(model).__name__,
            remedy="Name the optimizer with --optimizer.",
        ) from error
    finally:
        model.trainer = attached


def _trainer_of(model: LightningModule) -> Trainer | None:
    try:
        return model.trainer
    except RuntimeError:
        return None  # Lightning says so of a module that is attached to none


def _unusable(model: nn.Module, problem: str) -> ConfigureError:
    return ConfigureError(
        f"The optimizer of phase 0 cannot be planned with: {problem}",
        where=type(model).__name__,
        remedy="Name the optimizer with --optimizer.",
    )


def _only_optimizer(configured: object, model: nn.Module) -> Optimizer:
    """Take the one optimizer that a fit needs; what a fit refuses is not planned with as if it were fine."""
    found = list({id(each): each for each in _optimizers_in(configured)}.values())
    if len(found) == 1:
        return found[0]
    how_many = "several optimizers" if found else "no optimizer"
    raise ConfigureError(
        f"The module configures {how_many}, and a schedule adds its phases to exactly one: a fit is refused.",
        where=f"{type(model).__name__}.configure_optimizers",
        remedy="Return one optimizer; for a plan alone, name one with --optimizer.",
    )


def _optimizers_in(configured: object, *, depth: int = _MOST_NESTED) -> Iterator[Optimizer]:
    if isinstance(configured, Optimizer):
        yield configured
    elif depth and isinstance(configured, Mapping):
        yield from _optimizers_in(configured.get("optimizer"), depth=depth - 1)
    elif depth and isinstance(configured, list | tuple):
        for each in configured:
            yield from _optimizers_in(each, depth=depth - 1)
