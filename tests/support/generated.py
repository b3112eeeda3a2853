"""Generated schedules, seen as the parameters that each phase thaws."""

from __future__ import annotations

from types import SimpleNamespace

from torch import nn

from phasewire.adapters import StrategyAdapter
from phasewire.app import ScheduleValidator
from phasewire.app.schedule import shared_parameter_names


class Block(nn.Module):
    """A residual block with a norm, as transformers have them."""

    def __init__(self, width: int = 2, hidden: int = 3) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x):
        return x + self.down(self.up(self.norm(x)).tanh())


def holding(**children) -> nn.Module:
    """A module with these children, in this order."""
    module = nn.Module()
    for name, child in children.items():
        module.add_module(name, child)
    return module


def adapter_for(module: nn.Module, adapter: StrategyAdapter | None = None) -> StrategyAdapter:
    """An adapter as it is once it is connected, as far as names are concerned."""
    adapter = adapter or StrategyAdapter()
    adapter.connect(SimpleNamespace(pl_module=module))
    return adapter


def thawed(schedule, module, adapter=None) -> list[list[str]]:
    """The names that each phase thaws, sorted, by the validator's judgement, which must have nothing to warn of."""
    resolved = ScheduleValidator().validate(
        schedule,
        (adapter or adapter_for(module)).get_named_params_for_schedule_validation(),
        shared_names=shared_parameter_names(module),
    )
    assert resolved.warnings == ()
    return [sorted(phase.params) for phase in resolved.phases]


def names_in(module, *parts) -> list[str]:
    """The names that a module has for the parameters of its parts (modules or parameters), sorted."""
    wanted = {
        id(parameter)
        for part in parts
        for parameter in ([part] if isinstance(part, nn.Parameter) else part.parameters())
    }
    return sorted(name for name, parameter in module.named_parameters() if id(parameter) in wanted)
