"""Which parts of a module are to be wrapped by FSDP: what a user gives for it, and the policy made of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch.distributed.fsdp.wrap import CustomPolicy
from torch.nn import Module, Parameter

from phasewire.adapters.errors import AdapterError, did_you_mean
from phasewire.adapters.fsdp_units import has_no_forward
from phasewire.adapters.lightning_seams import name_before_wrapping
from phasewire.adapters.name_patterns import NamePattern, name_pattern

__all__ = ["ScheduledPolicy", "checked_overrides", "ignored_by", "matched"]

_OVERRIDES = "strategy_adapter_cfg, awp_overrides"


def checked_overrides(given: Sequence[str] | None) -> tuple[str, ...]:
    """Check what was given as ``awp_overrides``.

    Args:
        given: Names of modules, or regular expressions for them.

    Returns:
        The same.

    Raises:
        AdapterError: It is no list of text, or holds what is no regular expression.
    """
    # The annotation promises a list of text; YAML and dicts hold whatever was written.
    value: object = () if given is None else given
    if isinstance(value, str):
        value = (value,)
    if not isinstance(value, Sequence) or not all(isinstance(each, str) for each in value):
        raise AdapterError(
            f"{given!r} is no list of names of modules.", where=_OVERRIDES, remedy="Write a list of text."
        )
    for each in value:
        _compiled(each)
    return tuple(value)


def matched(overrides: Sequence[str], module: Module) -> Iterator[str]:
    """Find the parts of a module that overrides mean.

    A name means itself, and a regular expression every whole name that it matches, except those of containers.

    Args:
        overrides: The overrides.
        module: The module.

    Yields:
        The names of the parts.

    Raises:
        AdapterError: One means nothing that can be wrapped, or takes too long to match.
    """
    # What is wrapped by activation checkpointing has its name twice; the outer part is the one that is called.
    actual: dict[str, str] = {}
    for name, _ in module.named_modules():
        actual.setdefault(name_before_wrapping(name), name)
    parts = {known: module.get_submodule(name) for known, name in actual.items() if known}
    for override in overrides:
        names = [override] if override in parts else list(filter(_compiled(override).fullmatch, parts))
        if not names:
            raise AdapterError(
                f"{override!r} names no module. {did_you_mean(override, parts)}".rstrip(),
                where=_OVERRIDES,
                remedy="Write the name of a module (not of a parameter), or a regular expression for whole names.",
            )
        called = [name for name in names if not has_no_forward(parts[name])]
        if not called:
            raise AdapterError(
                f"{names[0]!r} is a {type(parts[names[0]]).__name__}, which is never called, so FSDP could not gather "
                "its parameters.",
                where=_OVERRIDES,
                remedy=f"Name what is in it, such as '{names[0]}.[0-9]+'.",
            )
        yield from (actual[name] for name in called)


def _compiled(override: str) -> NamePattern:
    return name_pattern(override, error=AdapterError, where=lambda: _OVERRIDES)


# Any, here and below: the options of FullyShardedDataParallel have many types.
def ignored_by(options: dict[str, Any]) -> tuple[list[Module], list[Parameter]]:
    """Tell what FSDP was told to leave alone.

    Args:
        options: The options of FSDP; what can be read only once is replaced by a list.

    Returns:
        The modules, with those below them, and all their parameters and those that were named themselves.
    """
    given = []
    for name in ("ignored_modules", "ignored_states"):
        if options.get(name) is not None:
            options[name] = list(options[name])
            given += options[name]
    modules = [part for each in given if isinstance(each, Module) for part in each.modules()]
    parameters = [each for each in given if isinstance(each, Parameter)]
    return modules, parameters + [each for part in modules for each in part.parameters(recurse=False)]


class ScheduledPolicy(CustomPolicy):
    """Wraps the named parts; they are looked up when the first is asked for, because SyncBatchNorm replaces some."""

    def __init__(self, module: Module, chosen: Mapping[str, dict[str, Any]], of_user: Any) -> None:  # noqa: ANN401
        super().__init__(self._options_of)
        self.of_user = of_user
        self._module = module
        self._chosen = chosen
        self._targets: dict[int, dict[str, Any]] = {}

    def _options_of(self, part: Module) -> bool | dict[str, Any]:
        if not self._targets:
            self._targets = {id(self._module.get_submodule(name)): options for name, options in self._chosen.items()}
        return self._targets.get(id(part)) or id(part) in self._targets
