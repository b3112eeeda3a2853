"""The adapters that can be named, as a mapping: what the entry-point specification calls ``STRATEGY_ADAPTERS``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from phasewire.adapters.base import StrategyAdapter

if TYPE_CHECKING:
    from phasewire.app.resolver import AdapterDirectory

__all__ = ["KnownAdapters"]


class KnownAdapters(Mapping[str, type[StrategyAdapter]]):
    """Lowercased name to class, read-only. A class is imported when it is looked up, and no other with it.

    Args:
        discovery: Where names are looked up.
    """

    def __init__(self, discovery: AdapterDirectory) -> None:
        self._discovery = discovery

    def __getitem__(self, name: str) -> type[StrategyAdapter]:
        """Import an adapter.

        Args:
            name: Its name in any case, or ``name@distribution``.

        Returns:
            The class.

        Raises:
            KeyError: Nothing has the name.
            AdapterLoadError: It may not be used, or cannot be imported.
            AdapterContractError: It is no adapter that this release drives.
        """
        record = self._discovery.find(name)
        if record is None:
            raise KeyError(name)
        return record.load()

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._discovery.find(name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._discovery.names())

    def __len__(self) -> int:
        return len(self._discovery.names())
