"""The rules for the names of parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from torch import nn

from phasewire.adapters.base import StrategyAdapter
from phasewire.adapters.views import ModelView
from phasewire.app.adapter_checks.rule import Rule
from phasewire.app.adapter_checks.subject import Subject

__all__ = ["RULES"]

_MOST_SHOWN: Final = 3
_DEEPEST: Final = 6
#: What an adapter and a view hold that is not theirs.
_HANDLES: Final = frozenset({"_fts_handle", "adapter"})


class NamesTheModulesParameters(Rule):
    """Names must lead to the module's parameters."""

    name = "names-the-modules-parameters"
    sentence = "get_named_params_for_schedule_validation gives the module's own parameters, each under a text."
    needs = ("connects",)

    def check(self, subject: Subject) -> None:
        """Compare the parameters with the module's."""
        remedy = "Give the objects of pl_module.named_parameters(), never copies."
        given: object = subject.connected.get_named_params_for_schedule_validation()
        if not isinstance(given, Mapping) or not given:
            raise self.broken(f"get_named_params_for_schedule_validation gave {given!r}, which names nothing.", remedy)
        own = {id(parameter) for parameter in subject.implicit.module.parameters()}
        wrong = [name for name, parameter in given.items() if not isinstance(name, str) or id(parameter) not in own]
        if wrong:
            raise self.broken(f"No parameter of the module stands under {_few(wrong)}.", remedy)


class TransformGivesModuleNames(Rule):
    """The transform must not invent names."""

    name = "transform-gives-module-names"
    sentence = "fts_optim_transform gives names of pl_module.named_parameters()."
    needs = ("connects",)

    def check(self, subject: Subject) -> None:
        """Translate the names of the schedule."""
        known = {name for name, _ in subject.implicit.module.named_parameters()}
        for names in subject.schedule_names():
            given: object = subject.connected.fts_optim_transform(list(names), inspect_only=True)
            if not isinstance(given, list):
                raise self.broken(f"For {_few(names)}, fts_optim_transform gave {given!r}.", "Return a list of names.")
            unknown = [name for name in given if name not in known]
            if unknown:
                raise self.broken(
                    f"For {_few(names)}, fts_optim_transform gave {_few(unknown)}, which the module does not have.",
                    "Translate to the names of pl_module.named_parameters().",
                )
            if len(set(given)) < len(given):
                raise self.broken(
                    f"For {_few(names)}, fts_optim_transform gave a name twice: {_few(given)}.", "Give each name once."
                )


class RoundTrip(Rule):
    """The transform and its inverse must undo each other."""

    name = "names-round-trip"
    sentence = "logical_param_translation undoes fts_optim_transform, up to order, and the other way round."
    needs = ("transform-gives-module-names",)

    def check(self, subject: Subject) -> None:
        """Translate there and back, from both sides."""
        adapter = subject.connected
        for names in subject.schedule_names():
            module_names = adapter.fts_optim_inspect(list(names))
            back = adapter.logical_param_translation(list(module_names))
            again = adapter.fts_optim_inspect(list(back)) if set(back) == set(names) else []
            if set(back) != set(names) or set(again) != set(module_names):
                raise self.broken(
                    f"{_few(names)} became {_few(module_names)}, and those became {_few(back)}.",
                    "Make logical_param_translation the inverse of fts_optim_transform.",
                )


class InspectOnlyChangesNothing(Rule):
    """Looking must not change."""

    name = "inspect-only-changes-nothing"
    sentence = "With inspect_only=True the transform changes neither the adapter, nor the module, nor its argument."
    needs = ("transform-gives-module-names",)

    def check(self, subject: Subject) -> None:
        """Compare before and after."""
        adapter, module = subject.connected, subject.implicit.module
        remedy = "Change no state when inspect_only is true, and let fts_optim_inspect pass inspect_only=True on."
        for names in subject.schedule_names():
            first = list(adapter.fts_optim_transform(list(names), inspect_only=True))  # a lazy map may be built here
            for call in (
                lambda given: adapter.fts_optim_transform(given, inspect_only=True),
                adapter.fts_optim_inspect,
            ):
                argument, before = list(names), (_state(adapter), _trainable(module))
                result = list(call(argument))
                if (_state(adapter), _trainable(module)) != before:
                    raise self.broken(f"Looking at {_few(names)} changed the adapter or the module.", remedy)
                if argument != names:
                    raise self.broken(f"Looking at {_few(names)} changed the list to {_few(argument)}.", remedy)
                if result != first:
                    raise self.broken(f"{_few(names)} gave {_few(first)}, and then {_few(result)}.", remedy)


def _trainable(module: nn.Module) -> list[bool]:
    return [parameter.requires_grad for parameter in module.parameters()]


def _state(value: object, depth: int = _DEEPEST) -> object:
    """Give what can be compared of a value: the contents of containers and of the adapter, others by identity."""
    if isinstance(value, (StrategyAdapter, ModelView)):
        value = {name: item for name, item in vars(value).items() if name not in _HANDLES}
    if depth > 0 and isinstance(value, Mapping):
        return [(_state(key, depth - 1), _state(item, depth - 1)) for key, item in value.items()]
    if depth > 0 and isinstance(value, (list, tuple)):
        return [_state(item, depth - 1) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(map(repr, value))
    return value if isinstance(value, (str, int, float, bytes)) else id(value)


def _few(names: Iterable[object]) -> str:
    shown = [repr(name) for name in names]
    more = f" and {len(shown) - _MOST_SHOWN} more" if len(shown) > _MOST_SHOWN else ""
    return ", ".join(shown[:_MOST_SHOWN]) + more if shown else "nothing"


RULES: Final[tuple[Rule, ...]] = (
    NamesTheModulesParameters(),
    TransformGivesModuleNames(),
    RoundTrip(),
    InspectOnlyChangesNothing(),
)
