"""Which adapters are installed: entry-point metadata in, records out. Nothing is imported before it is asked for.

The metadata is read anew for every question, so that a package installed meanwhile is seen; it costs milliseconds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import metadata
from types import MappingProxyType
from typing import Final

from lightning.pytorch.utilities import rank_zero_warn

from phasewire.app.adapter_record import AdapterRecord

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

_OWN_DISTRIBUTION: Final = "phasewire"


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
    try:
        version = metadata.version(_OWN_DISTRIBUTION)
    except metadata.PackageNotFoundError:  # the source tree is on the path, and nothing is installed
        version = None
    return AdapterRecord(
        name=name.lower(),
        value=NATIVE_ADAPTERS[name] if value is None else value,
        distribution=_OWN_DISTRIBUTION,
        version=version,
        native=True,
    )


class DiscoveryService:
    """Finds the adapters that can be named, by reading the metadata of installed distributions.

    A name that several distributions offer means the one whose normalised distribution name comes first in the
    alphabet, and a name of Phasewire's own always means Phasewire's; ``name@distribution`` chooses another. Of a
    distribution that is on the path several times the first counts, as it does for ``importlib``.

    Args:
        group: The entry-point group.
        native: The adapters that ship with Phasewire: name to ``module:Class``.
    """

    def __init__(self, group: str = DEFAULT_GROUP, native: Mapping[str, str] = NATIVE_ADAPTERS) -> None:
        self._group = group
        # A copy: what a callback holds must be picklable, and a read-only view of a dict is not.
        self._native = dict(native)
        self._warned: set[str] = set()

    def records(self) -> tuple[AdapterRecord, ...]:
        """List everything that can be named. Warns of distributions whose entry points cannot be read.

        Returns:
            Phasewire's own adapters, then those of plug-ins by name and distribution; all of them, also where several
            have one name.
        """
        records, unreadable = self._scan()
        self._warn_of_unreadable(unreadable)
        return records

    def names(self) -> tuple[str, ...]:
        """List the names.

        Returns:
            Every name once, in alphabetical order.
        """
        return tuple(sorted({record.name for record in self._scan()[0]}))

    def find(self, name: str) -> AdapterRecord | None:
        """Look an adapter up. Warns, once, when several have the name.

        Args:
            name: A name in any case, or ``name@distribution``.

        Returns:
            Its record; ``None`` when nothing has the name. Distributions whose entry points cannot be read are
            warned of then, as the name may be theirs.
        """
        records, unreadable = self._scan()
        wanted = name.lower()
        named = [record for record in records if record.name == wanted]
        if not named and "@" in wanted:
            plain_name, _, distribution = wanted.rpartition("@")
            named = [
                record
                for record in records
                if record.name == plain_name and _normalised(record.distribution or "") == _normalised(distribution)
            ]
        if not named:
            self._warn_of_unreadable(unreadable)
            return None
        if len(named) > 1:
            self._warn_once(_conflict(named))
        return named[0]

    def _scan(self) -> tuple[tuple[AdapterRecord, ...], list[str]]:
        native = [native_record(name, value) for name, value in self._native.items()]
        plugins: list[AdapterRecord] = []
        unreadable: list[str] = []
        seen: set[str] = set()
        for distribution in metadata.distributions():
            try:
                # Most distributions have nothing for us, and what is wrong with them is no concern of ours.
                if self._group not in (distribution.read_text("entry_points.txt") or ""):
                    continue
                name = _normalised(distribution.name)
                if name not in seen:
                    seen.add(name)
                    plugins += self._records_of(metadata.distribution(name))
            except Exception as error:  # noqa: BLE001  # other packages' files may hold anything; it is reported
                unreadable.append(f"{_label(distribution)} ({type(error).__name__}: {error})")
        plugins.sort(key=lambda record: (record.name, _normalised(record.distribution or ""), record.value))
        return (*native, *plugins), unreadable

    def _records_of(self, distribution: metadata.Distribution) -> list[AdapterRecord]:
        # A dict: one distribution may write the same entry twice.
        return list(
            dict.fromkeys(
                AdapterRecord(entry.name.lower(), entry.value, distribution.name, distribution.version)
                for entry in distribution.entry_points.select(group=self._group)
            )
        )

    def _warn_of_unreadable(self, unreadable: Sequence[str]) -> None:
        if unreadable:
            self._warn_once(f"The entry points of some distributions cannot be read: {'; '.join(unreadable)}.")

    def _warn_once(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            rank_zero_warn(message)


def _normalised(distribution: str) -> str:
    """Normalise the name of a distribution as PEP 503 says."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _label(distribution: metadata.Distribution) -> str:
    try:
        return distribution.name or str(distribution.locate_file(""))
    except Exception:  # noqa: BLE001  # its metadata is what cannot be read; the folder is named instead
        return str(distribution.locate_file(""))


def _conflict(records: Sequence[AdapterRecord]) -> str:
    chosen, *others = records
    pins = " or ".join(repr(f"{record.name}@{record.distribution}") for record in others)
    offered = ", ".join(f"{record.distribution} {record.version} ({record.value})" for record in others)
    if chosen.native:
        return (
            f"{chosen.name!r} means Phasewire's own adapter; that of {offered} has the same name and is not used. "
            f"To use it, write {pins}."
        )
    if all(record.distribution == chosen.distribution for record in others):
        values = " and ".join(repr(record.value) for record in records)
        return (
            f"{chosen.distribution} {chosen.version} offers the adapter {chosen.name!r} more than once, as {values}; "
            f"the first is used. To use another, write its class path."
        )
    return (
        f"Several distributions offer an adapter {chosen.name!r}. That of {chosen.distribution} {chosen.version} "
        f"({chosen.value}) is used, as the first in the alphabet; also offered by {offered}. To choose, write "
        f"'{chosen.name}@{chosen.distribution}' or {pins}."
    )
