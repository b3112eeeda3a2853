"""Which adapter drives the running strategy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Protocol

from lightning.pytorch.strategies import (
    DDPStrategy,
    DeepSpeedStrategy,
    FSDPStrategy,
    ModelParallelStrategy,
    SingleDeviceStrategy,
    Strategy,
    StrategyRegistry,
)
from lightning.pytorch.strategies.single_xla import SingleDeviceXLAStrategy
from lightning.pytorch.strategies.xla import XLAStrategy
from lightning.pytorch.utilities import rank_zero_warn

from phasewire.adapters.errors import AdapterContractError, AdapterError, AdapterNotFoundError, did_you_mean
from phasewire.app.discovery import AdapterRecord, DiscoveryService, native_record
from phasewire.app.trust import TrustPolicy

if TYPE_CHECKING:
    from phasewire.adapters.base import StrategyAdapter

__all__ = ["AdapterDirectory", "AdapterResolver"]

_CATCH_ALL: Final = "auto"
_SETTING: Final = "custom_strategy_adapters"

#: Strategies that keep parameters whole, for which the base adapter is right.
_SUPPORTED: Final[tuple[type[Strategy], ...]] = (SingleDeviceStrategy, DDPStrategy)
#: Subclasses of those in Lightning that shard, or run on devices we have not tried.
_UNTESTED: Final = (DeepSpeedStrategy, XLAStrategy, SingleDeviceXLAStrategy)
#: Sharded strategies, and the native adapter each needs.
_SHARDED: Final[Mapping[type[Strategy], str]] = MappingProxyType(
    {FSDPStrategy: "fsdp", ModelParallelStrategy: "modelparallelstrategy"}
)
#: Lightning registers no name for these.
_NAMED_HERE: Final[Mapping[type, str]] = MappingProxyType({ModelParallelStrategy: "modelparallelstrategy"})

_BASE_ADAPTER: Final = "phasewire.adapters.base:StrategyAdapter"


class AdapterDirectory(Protocol):
    """What the resolver needs of discovery."""

    def records(self) -> Sequence[AdapterRecord]:
        """List everything that can be named."""

    def names(self) -> Sequence[str]:
        """List the names."""

    def find(self, name: str) -> AdapterRecord | None:
        """Look an adapter up by its name or ``name@distribution``."""


class AdapterResolver:
    """Chooses the adapter for a strategy.

    Args:
        discovery: Where adapters are looked up by name; the installed ones by default.
        trust: Which modules a class path in a mapping may name; all by default.
    """

    def __init__(self, discovery: AdapterDirectory | None = None, *, trust: TrustPolicy | None = None) -> None:
        self._discovery = DiscoveryService() if discovery is None else discovery
        self._trust = trust or TrustPolicy()

    def resolve(
        self,
        strategy: Strategy,
        *,
        flag: str | None = None,
        custom_strategy_adapters: Mapping[str, str | type[StrategyAdapter]] | None = None,
        allow_untested: bool = False,
    ) -> Callable[..., StrategyAdapter]:
        """Choose the adapter for the running strategy, and import it: it is the only one that is imported.

        With a mapping, its keys are looked up in this order: the flag; the name under which Lightning registers the
        strategy's class, or its nearest registered base; ``"auto"``. An empty mapping is no mapping.

        Args:
            strategy: The running strategy.
            flag: What was given as ``Trainer(strategy=...)``, where it was text.
            custom_strategy_adapters: Strategy flag, in any case, to an adapter: its name, ``name@distribution``,
                ``module:Class``, ``module.Class``, or the class.
            allow_untested: Use the base adapter for a strategy that is not known to work.

        Returns:
            A record that builds the adapter when it is called with the options.

        Raises:
            AdapterNotFoundError: The mapping has no key for the strategy, or names an adapter that is not installed.
            AdapterLoadError: The adapter cannot be imported; the cause is chained.
            AdapterContractError: It is no adapter that can drive the strategy.
            AdapterError: The strategy is not supported, or the mapping is malformed.
        """
        if not custom_strategy_adapters:
            return _default_record(strategy, allow_untested=allow_untested)
        key, reference = _mapped(custom_strategy_adapters, type(strategy), flag)
        where = f"{_SETTING}[{key!r}]"
        record = self.record_of(reference, where=where)
        _check_suits(record.load(where=where), strategy, where)
        return record

    def planned(
        self,
        custom_strategy_adapters: Mapping[str, str | type[StrategyAdapter]],
        *,
        strategy: object = _CATCH_ALL,
        devices: object = _CATCH_ALL,
    ) -> AdapterRecord | None:
        """Tell which adapter a mapping gives for a strategy that does not run. Nothing is imported.

        Args:
            custom_strategy_adapters: As for :meth:`resolve`.
            strategy: ``Trainer(strategy=...)``; ``"auto"`` is taken to be what Lightning chooses on a CPU.
            devices: ``Trainer(devices=...)``.

        Returns:
            The record; ``None`` where that is known only when the strategy runs: it is an object, or ``"auto"`` and not
            mapped.

        Raises:
            AdapterNotFoundError: The mapping has no key for the strategy, or names an adapter that is not installed.
            AdapterError: The mapping is malformed.
        """
        if not isinstance(strategy, str):
            return None
        kind: type[Strategy] = DDPStrategy if _are_several(devices) else SingleDeviceStrategy
        if strategy in StrategyRegistry:
            kind = StrategyRegistry[strategy]["strategy"]
        elif not _by_folded_key(custom_strategy_adapters).keys() & {strategy.lower(), *_lookup_names(kind, None)}:
            return None
        key, reference = _mapped(custom_strategy_adapters, kind, strategy)
        return self.record_of(reference, where=f"{_SETTING}[{key!r}]")

    def record_of(self, reference: object, *, where: str) -> AdapterRecord:
        """Tell which adapter a reference means. Nothing is imported.

        Args:
            reference: A name, ``name@distribution``, ``module:Class``, ``module.Class``, or the class.
            where: The setting that gave it, for messages.

        Returns:
            The record, which may be one that may not be used.

        Raises:
            AdapterNotFoundError: It names an adapter that is not installed.
            AdapterError: It is no reference.
        """
        if isinstance(reference, type):
            return AdapterRecord.of_class(reference)
        if not isinstance(reference, str):
            raise AdapterError(
                f"{reference!r} is no reference to an adapter.",
                where=where,
                remedy="Write its name, 'module:Class' or 'module.Class', or give the class.",
            )
        if ":" in reference:
            return self._record_of_path(reference)
        record = self._discovery.find(reference)
        if record is not None:
            return record
        if "." in reference and "@" not in reference:
            return self._record_of_path(reference)
        raise self._not_found(reference, where)

    def _record_of_path(self, class_path: str) -> AdapterRecord:
        return AdapterRecord(name=class_path, value=class_path, refusal=self._trust.refusal_of_path(class_path))

    def _not_found(self, reference: str, where: str) -> AdapterNotFoundError:
        choices = self._discovery.names()
        if "@" in reference:
            choices = [f"{record.name}@{record.distribution}" for record in self._discovery.records()]
        installed = f"Installed are {', '.join(choices)}." if choices else "None is installed."
        return AdapterNotFoundError(
            f"No adapter is called {reference!r}. {did_you_mean(reference, choices)} {installed}".replace("  ", " "),
            where=where,
            remedy="Install the package that offers it, or write 'module:Class'.",
        )


def _default_record(strategy: Strategy, *, allow_untested: bool) -> AdapterRecord:
    for sharded, name in _SHARDED.items():
        if isinstance(strategy, sharded):
            return native_record(name)
    supported = isinstance(strategy, _SUPPORTED) and not isinstance(strategy, _UNTESTED)
    kind = type(strategy).__name__
    if not supported and not allow_untested:
        names = ", ".join(known.__name__ for known in (*_SUPPORTED, *_SHARDED))
        raise AdapterError(
            f"{kind} is not a strategy that Phasewire is known to work with; those are {names} and their subclasses.",
            where="Trainer(strategy=...)",
            remedy=f"Map an adapter to it in {_SETTING}, or set allow_untested=True to try the base adapter.",
        )
    if not supported:
        rank_zero_warn(
            f"The base adapter is used with {kind}, which is untested, because allow_untested=True. What a phase "
            "trains, or what a checkpoint holds, may be wrong: compare a short run with one on a single device."
        )
    return native_record("base", _BASE_ADAPTER)


def _are_several(devices: object) -> bool:
    if isinstance(devices, str) and devices.isdecimal():
        devices = int(devices)
    if isinstance(devices, (list, tuple)):
        return len(devices) > 1
    return isinstance(devices, int) and devices > 1


def _mapped(mapping: Mapping[str, object], strategy: type[Strategy], flag: str | None) -> tuple[str, object]:
    by_folded_key = _by_folded_key(mapping)
    names = list(_lookup_names(strategy, flag))
    for name in names:
        if name in by_folded_key:
            _warn_of_unknown_keys(by_folded_key, names)
            return by_folded_key[name]
    running = [name for name in dict.fromkeys(names) if name != _CATCH_ALL]
    shown = " or ".join(map(repr, running)) or "no registered name"
    keys = [key for key, _ in by_folded_key.values()]
    near = next(filter(None, (did_you_mean(key, running) for key in keys if key.lower() not in _known_names())), "")
    raise AdapterNotFoundError(
        f"No adapter is mapped to the running strategy {strategy.__name__}, which goes by {shown}; mapped are "
        f"{', '.join(map(repr, keys))}. {near}".rstrip(),
        where=_SETTING,
        remedy=f"Map one of these names, or {_CATCH_ALL!r}, which takes every strategy.",
    )


def _by_folded_key(mapping: Mapping[str, object]) -> dict[str, tuple[str, object]]:
    by_folded_key: dict[str, tuple[str, object]] = {}
    for key, reference in mapping.items():
        # The annotation promises text; YAML and dicts hold whatever was written.
        text: object = key
        if not isinstance(text, str):
            raise AdapterError(
                f"{text!r} is no strategy flag.", where=_SETTING, remedy="Write flags as text, such as 'ddp'."
            )
        folded = text.lower()
        if folded in by_folded_key:
            raise AdapterError(
                f"{by_folded_key[folded][0]!r} and {text!r} are the same strategy flag.",
                where=_SETTING,
                remedy="Keep one of them.",
            )
        by_folded_key[folded] = (text, reference)
    return by_folded_key


def _lookup_names(strategy: type[Strategy], flag: str | None) -> Iterator[str]:
    """Give the lowercased names a strategy is looked up by, most specific first; some may come twice."""
    if flag is not None and flag.lower() != _CATCH_ALL:
        yield flag.lower()
    for kind in strategy.__mro__:
        declared = vars(kind).get("strategy_name")
        registered = [name for name in StrategyRegistry if StrategyRegistry[name]["strategy"] is kind]
        if isinstance(declared, str):
            yield declared.lower()
        if kind in _NAMED_HERE:
            yield _NAMED_HERE[kind]
            break
        if registered:
            # The first is the plain one: variants such as "ddp_spawn" are registered after it. Where the first is a
            # variant ("xla_debug"), the class declares the plain name, which came before.
            if declared not in registered:
                yield registered[0].lower()
            break
    yield _CATCH_ALL


def _known_names() -> set[str]:
    return {name.lower() for name in StrategyRegistry} | {*_NAMED_HERE.values(), _CATCH_ALL}


def _warn_of_unknown_keys(keys: Mapping[str, tuple[str, object]], running: Sequence[str]) -> None:
    known = _known_names().union(running)
    for folded, (key, _) in keys.items():
        if folded not in known:
            near = did_you_mean(key, known)
            rank_zero_warn(
                f"{_SETTING}: no strategy is registered as {key!r}, so nothing uses it. {near} Correct or remove "
                "it.".replace("  ", " ")
            )


def _check_suits(adapter_class: type[StrategyAdapter], strategy: Strategy, where: str) -> None:
    for sharded, name in _SHARDED.items():
        if isinstance(strategy, sharded):
            native_class = native_record(name).load()
            if not issubclass(adapter_class, native_class):
                raise AdapterContractError(
                    f"{adapter_class.__name__} cannot drive {type(strategy).__name__}, which shards parameters.",
                    where=where,
                    remedy=f"Let it subclass phasewire.adapters.{native_class.__name__}.",
                )
