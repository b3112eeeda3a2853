"""What installed distributions offer in one entry-point group: metadata in, records out. Nothing is imported.

The metadata is read anew for every question, so that a package installed meanwhile is seen; it costs milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any, ClassVar, Final, Generic, TypeVar

from lightning.pytorch.utilities import rank_zero_warn

from phasewire.adapters.errors import ConfigError, PhasewireError, did_you_mean
from phasewire.app.plugin_record import PluginRecord
from phasewire.app.trust import TrustPolicy, normalised

__all__ = ["OWN_DISTRIBUTION", "EntryPointRegistry", "own_version"]

#: The distribution whose offers no other can replace.
OWN_DISTRIBUTION: Final = "phasewire"


RecordT = TypeVar("RecordT", bound=PluginRecord)


class EntryPointRegistry(Generic[RecordT]):
    """Finds what can be named in one entry-point group.

    A name that several distributions offer means the one whose normalised distribution name comes first in the
    alphabet, and a name of Phasewire's own always means Phasewire's; ``name@distribution`` chooses another. Of a
    distribution that is on the path several times the first counts, as it does for ``importlib``. What the trust
    policy refuses is listed, and is never the meaning of a name that a trusted distribution offers too.

    A subclass says what it finds with the class attributes.

    Args:
        group: The entry-point group; :attr:`default_group` by default.
        native: What ships with Phasewire: name to ``module:attribute``; :attr:`default_native` by default.
        trust: Which distributions may offer anything; all by default.
    """

    default_group: ClassVar[str]
    """The entry-point group."""
    default_native: ClassVar[Mapping[str, str]]
    """What ships with Phasewire: name to ``module:attribute``."""
    # Any: a class variable cannot name the class's own type variable.
    record_class: ClassVar[type[Any]]
    """What describes one that can be named: a :class:`~phasewire.app.plugin_record.PluginRecord`."""
    path_form: ClassVar[str] = "module:Class"
    """How what has no name is written, for messages."""
    unknown_error: ClassVar[type[PhasewireError]] = ConfigError
    """What is raised for a name that nothing has."""

    def __init__(
        self,
        group: str | None = None,
        native: Mapping[str, str] | None = None,
        *,
        trust: TrustPolicy | None = None,
    ) -> None:
        self._group = self.default_group if group is None else group
        # A copy: what a callback holds must be picklable, and a read-only view of a dict is not.
        self._native = dict(self.default_native if native is None else native)
        self._make: type[RecordT] = self.record_class
        self._trust = trust or TrustPolicy()
        self._warned: set[str] = set()

    def records(self) -> tuple[RecordT, ...]:
        """List everything that can be named. Warns of distributions whose entry points cannot be read.

        Returns:
            Phasewire's own, then those of plug-ins by name and distribution; all of them, also where several have one
            name, and those that may not be used.
        """
        records, unreadable = self._scan()
        self._warn_of_unreadable(unreadable)
        return records

    def names(self) -> tuple[str, ...]:
        """List the names.

        Returns:
            Every name that may be used once, in alphabetical order.
        """
        return tuple(sorted({record.name for record in self._scan()[0] if record.refusal is None}))

    def find(self, name: str) -> RecordT | None:
        """Look a name up. Warns, once, when several that may be used have it.

        Args:
            name: A name in any case, or ``name@distribution``.

        Returns:
            Its record, which may be one that may not be used; ``None`` when nothing has the name. Distributions whose
            entry points cannot be read are warned of then, as the name may be theirs.
        """
        wanted = name.lower()
        plain_name, _, distribution = wanted.rpartition("@")
        records, _ = self._scan(mentioning=plain_name or wanted)
        named = [record for record in records if record.name == wanted]
        if not named and plain_name:
            named = [
                record
                for record in records
                if record.name == plain_name and normalised(record.distribution or "") == normalised(distribution)
            ]
        if not named:
            self._warn_of_unreadable(self._scan()[1])
            return None
        usable = [record for record in named if record.refusal is None]
        if len(usable) > 1:
            self._warn_once(self.conflict(usable))
        return (usable or named)[0]

    def record_of(self, reference: str, *, where: str) -> RecordT:
        """Tell what a reference means. Nothing is imported.

        Args:
            reference: A name, ``name@distribution``, ``module:attribute`` or ``module.attribute``.
            where: The setting that gave it, for messages.

        Returns:
            The record, which may be one that may not be used.

        Raises:
            PhasewireError: Nothing is called so.
        """
        found = None if ":" in reference else self.find(reference)
        if found is not None:
            return found
        if ":" in reference or ("." in reference and "@" not in reference):
            return self._make(name=reference, value=reference, refusal=self._trust.refusal_of_path(reference))
        names = self.names()
        raise self.unknown_error(
            f"No {self._make.kind} is called {reference!r}. {did_you_mean(reference, names)}".rstrip(),
            where=where,
            remedy=f"Install the package that offers it, write {self.path_form!r}, or name one of: {', '.join(names)}.",
        )

    def conflict(self, records: Sequence[RecordT]) -> str:
        """Say how it is decided which of several records a name means.

        Args:
            records: The records of the name, the chosen one first; at least two.

        Returns:
            The decision, the reason, and how to choose another, as whole sentences.
        """
        return _conflict(records)

    def _scan(self, *, mentioning: str = "") -> tuple[tuple[RecordT, ...], list[str]]:
        """List Phasewire's own records and those of distributions that mention a text, and what cannot be read."""
        version = own_version()
        native = [
            self._make(name=name.lower(), value=value, distribution=OWN_DISTRIBUTION, version=version, native=True)
            for name, value in self._native.items()
        ]
        plugins: list[RecordT] = []
        unreadable: list[str] = []
        seen: set[str] = set()
        for distribution in metadata.distributions():
            try:
                # Most distributions have nothing for us, and what is wrong with them is no concern of ours. To read
                # who offers an entry takes longer than to find it.
                offered = distribution.read_text("entry_points.txt") or ""
                if self._group not in offered or mentioning not in offered.lower():
                    continue
                name = normalised(distribution.name)
                if name not in seen:
                    seen.add(name)
                    plugins += self._records_of(metadata.distribution(name))
            except Exception as error:  # noqa: BLE001  # other packages' files may hold anything; it is reported
                unreadable.append(f"{_label(distribution)} ({type(error).__name__}: {error})")
        plugins.sort(key=lambda record: (record.name, normalised(record.distribution or ""), record.value))
        return (*native, *plugins), unreadable

    def _records_of(self, distribution: metadata.Distribution) -> list[RecordT]:
        name, version = distribution.name, distribution.version
        refusal = self._trust.refusal_of(name)
        # A dict: one distribution may write the same entry twice.
        return list(
            dict.fromkeys(
                self._make(
                    name=entry.name.lower(), value=entry.value, distribution=name, version=version, refusal=refusal
                )
                for entry in distribution.entry_points.select(group=self._group)
            )
        )

    def _warn_of_unreadable(self, unreadable: Sequence[str]) -> None:
        if unreadable:
            self._warn_once(
                f"The entry points of some distributions cannot be read: {'; '.join(unreadable)}. Plug-ins that they "
                "offer are not found. Install them again if you need one."
            )

    def _warn_once(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            rank_zero_warn(message)


def own_version() -> str | None:
    """Give the version of Phasewire.

    Returns:
        The version; ``None`` when only its source tree is on the path.
    """
    try:
        return metadata.version(OWN_DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return None


def _label(distribution: metadata.Distribution) -> str:
    try:
        return distribution.name or str(distribution.locate_file(""))
    except Exception:  # noqa: BLE001  # its metadata is what cannot be read; the folder is named instead
        return str(distribution.locate_file(""))


def _conflict(records: Sequence[PluginRecord]) -> str:
    chosen, *others = records
    kind = chosen.kind
    pins = " or ".join(repr(f"{record.name}@{record.distribution}") for record in others)
    offered = ", ".join(f"{record.distribution} {record.version} ({record.value})" for record in others)
    if chosen.native:
        return (
            f"{chosen.name!r} means Phasewire's own {kind}; that of {offered} has the same name and is not used. "
            f"To use it, write {pins}."
        )
    if all(record.distribution == chosen.distribution for record in others):
        values = " and ".join(repr(record.value) for record in records)
        return (
            f"{chosen.distribution} {chosen.version} offers the {kind} {chosen.name!r} more than once, as {values}; "
            f"the first is used. To use another, write its class path."
        )
    return (
        f"Several distributions offer {_article(kind)} {chosen.name!r}. That of {chosen.distribution} {chosen.version} "
        f"({chosen.value}) is used, as the first in the alphabet; also offered by {offered}. To choose, write "
        f"'{chosen.name}@{chosen.distribution}' or {pins}."
    )


def _article(kind: str) -> str:
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"
