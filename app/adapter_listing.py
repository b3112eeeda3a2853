"""What there is to see of the adapters that can be named: where they come from, what uses them, what is wrong."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

from phasewire.adapters.base import StrategyAdapter
from phasewire.adapters.errors import AdapterError
from phasewire.app.adapter_record import AdapterRecord

if TYPE_CHECKING:
    from phasewire.app.resolver import AdapterResolver

__all__ = ["AdapterDescription", "ListedAdapter", "described", "listed"]


@dataclass(frozen=True, slots=True)
class ListedAdapter:
    """A row of the list."""

    name: str
    """How to name it: its name, or ``name@distribution`` where the name means another."""
    distribution: str | None
    """The distribution that offers it; ``None`` for a class path of the configuration."""
    version: str | None
    """The version of the distribution."""
    value: str
    """Where its class is."""
    source: str
    """``"native"``, ``"entry point"`` or ``"class path"``."""
    used_for: tuple[str, ...]
    """The strategy flags that the configuration maps to it."""
    state: str
    """``"not loaded"``, ``"ok"``, ``"does not load"`` or ``"not trusted"``."""
    problem: str | None
    """Why it does not load or is not trusted."""
    conflict: str | None
    """How it is decided what its name means, where several have it."""

    # Any: text, lists of text, and nothing.
    def to_dict(self) -> dict[str, Any]:
        """Give the row as plain data.

        Returns:
            The fields by name.
        """
        return {**asdict(self), "used_for": list(self.used_for)}


class Directory(Protocol):
    """What a list needs of discovery."""

    def records(self) -> Sequence[AdapterRecord]:
        """List everything that can be named."""

    def find(self, name: str) -> AdapterRecord | None:
        """Look an adapter up by its name or ``name@distribution``."""

    def conflict(self, records: Sequence[AdapterRecord]) -> str:
        """Say how it is decided which of several records a name means."""


def listed(
    discovery: Directory, resolver: AdapterResolver, mapping: Mapping[str, str | type] | None, *, load: bool
) -> list[ListedAdapter]:
    """List the adapters.

    Args:
        discovery: Where they are found.
        resolver: Tells which record a reference means.
        mapping: The setting ``custom_strategy_adapters``.
        load: Import every adapter that may be used, to see whether it loads.

    Returns:
        A row for each that is found, and for each class path of the mapping.

    Raises:
        AdapterNotFoundError: The mapping names an adapter that is not installed.
    """
    flags: dict[AdapterRecord, list[str]] = {}
    for flag, reference in (mapping or {}).items():
        record = resolver.record_of(reference, where=f"custom_strategy_adapters[{flag!r}]")
        flags.setdefault(record, []).append(flag)
    found = discovery.records()
    by_name: dict[str, list[AdapterRecord]] = {}
    for record in found:
        if record.refusal is None:
            by_name.setdefault(record.name, []).append(record)
    return [
        _row(discovery, record, by_name.get(record.name, []), tuple(flags.get(record, ())), load=load)
        for record in dict.fromkeys((*found, *flags))
    ]


def _row(
    discovery: Directory, record: AdapterRecord, same_name: list[AdapterRecord], flags: tuple[str, ...], *, load: bool
) -> ListedAdapter:
    state, problem = _state(record, load=load)
    chosen = record.distribution is None or discovery.find(record.name) == record
    source = "native" if record.native else "class path" if record.distribution is None else "entry point"
    return ListedAdapter(
        name=record.name if chosen else f"{record.name}@{record.distribution}",
        distribution=record.distribution,
        version=record.version,
        value=record.value,
        source=source,
        used_for=flags,
        state=state,
        problem=problem,
        conflict=discovery.conflict(same_name) if len(same_name) > 1 and record in same_name else None,
    )


def _state(record: AdapterRecord, *, load: bool) -> tuple[str, str | None]:
    if record.refusal is not None:
        return "not trusted", record.refusal
    if not load:
        return "not loaded", None
    try:
        record.load()
    except AdapterError as error:
        return "does not load", str(error)
    return "ok", None


@dataclass(frozen=True, slots=True)
class AdapterDescription:
    """What an adapter says of itself."""

    record: AdapterRecord
    """Where it comes from."""
    api_version: str
    """The version of the contract that it is written for."""
    documentation: str
    """The docstring of its class; empty if there is none of its own."""
    options: tuple[str, ...]
    """The options that ``strategy_adapter_cfg`` may give, as they stand in its signature."""
    hooks: tuple[str, ...]
    """The hooks of the contract that it overrides."""


def described(record: AdapterRecord) -> AdapterDescription:
    """Describe an adapter; it is imported.

    Args:
        record: The adapter.

    Returns:
        The description.

    Raises:
        AdapterError: It may not be used, does not load, or is no adapter.
    """
    adapter_class = record.load()
    own = adapter_class.__doc__ is not None and adapter_class is not StrategyAdapter
    return AdapterDescription(
        record=record,
        api_version=adapter_class.api_version,
        documentation=(inspect.getdoc(adapter_class) or "") if own else "",
        options=tuple(_shown(option) for option in _options(adapter_class)),
        hooks=tuple(_overridden(adapter_class)),
    )


def _options(adapter_class: type[StrategyAdapter]) -> list[inspect.Parameter]:
    # The base class takes any option, to refuse it in its own words.
    taken = inspect.signature(adapter_class).parameters.values()
    return [option for option in taken if option.kind not in (option.VAR_KEYWORD, option.VAR_POSITIONAL)]


def _shown(option: inspect.Parameter) -> str:
    # Annotations are text where a module postpones their evaluation, and would be shown in quotes.
    kind = option.annotation if isinstance(option.annotation, str) else inspect.formatannotation(option.annotation)
    annotated = option.name if option.annotation is option.empty else f"{option.name}: {kind}"
    return annotated if option.default is option.empty else f"{annotated} = {option.default!r}"


def _overridden(adapter_class: type[StrategyAdapter]) -> list[str]:
    hooks = [name for name in vars(StrategyAdapter) if not name.startswith("_")]
    return [
        name
        for name in hooks
        if inspect.getattr_static(adapter_class, name) is not inspect.getattr_static(StrategyAdapter, name)
    ]
