"""Which strategy adapters are installed."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from phasewire.app.adapter_record import AdapterRecord
from phasewire.app.entry_points import OWN_DISTRIBUTION, EntryPointRegistry, own_version

__all__ = ["DEFAULT_GROUP", "NATIVE_ADAPTERS", "AdapterRecord", "DiscoveryService", "native_record"]

#: The entry-point group of strategy adapters; the name is that of the documented FTS contract.
DEFAULT_GROUP: Final = "finetuning_scheduler.strategy_adapters"

#: The adapters that ship with Phasewire: name to ``module:Class``.
NATIVE_ADAPTERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "fsdp": "phasewire.adapters.fsdp:FSDPStrategyAdapter",
        "modelparallelstrategy": "phasewire.adapters.model_parallel:ModelParallelStrategyAdapter",
        "transformerbridge": "phasewire.adapters.transformer_bridge:TransformerBridgeStrategyAdapter",
    }
)


def native_record(name: str, value: str | None = None) -> AdapterRecord:
    """Make the record of an adapter that ships with Phasewire.

    Args:
        name: Its name.
        value: Where its class is; looked up in :data:`NATIVE_ADAPTERS` by default.

    Returns:
        The record.

    Raises:
        KeyError: Nothing of that name ships with Phasewire, and no value was given.
    """
    return AdapterRecord(
        name=name.lower(),
        value=NATIVE_ADAPTERS[name] if value is None else value,
        distribution=OWN_DISTRIBUTION,
        version=own_version(),
        native=True,
    )


class DiscoveryService(EntryPointRegistry[AdapterRecord]):
    """Finds the strategy adapters that can be named, by reading the metadata of installed distributions."""

    default_group = DEFAULT_GROUP
    default_native = NATIVE_ADAPTERS
    record_class = AdapterRecord
