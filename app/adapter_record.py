"""One adapter that can be named: imported, checked against the contract, and built on demand."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from phasewire.adapters.base import API_VERSION, StrategyAdapter
from phasewire.adapters.errors import (
    AdapterContractError,
    AdapterLoadError,
    PhasewireError,
    did_you_mean,
)
from phasewire.app.contract_version import require_version
from phasewire.app.plugin_record import IMPORT_TO_CHANGE, PEER_PACKAGE, PluginRecord

__all__ = ["AdapterRecord"]


@dataclass(frozen=True, slots=True)
class AdapterRecord(PluginRecord):
    """One adapter that can be named; it is imported by :meth:`load`, and built by calling the record."""

    kind: ClassVar[str] = "adapter"
    load_error: ClassVar[type[PhasewireError]] = AdapterLoadError

    given: object = None
    """The class, where the class itself was given; ``None`` where it is to be imported."""

    @classmethod
    def of_class(cls, adapter_class: type, name: str | None = None) -> AdapterRecord:
        """Make the record of a class that is already at hand.

        Args:
            adapter_class: The adapter's class.
            name: The name it goes by; its path by default.

        Returns:
            The record. Whether the class keeps the contract is checked by :meth:`load`.
        """
        path = f"{adapter_class.__module__}:{adapter_class.__qualname__}"
        return cls(name=path if name is None else name.lower(), value=path, given=adapter_class)

    def load(self, *, where: str | None = None) -> type[StrategyAdapter]:
        """Import the adapter's class and check it against the contract.

        Args:
            where: The setting that named it, for messages.

        Returns:
            The class.

        Raises:
            AdapterLoadError: It may not be used, or cannot be imported; the cause is chained. A plug-in that exits
                while it is imported is reported so too; ``KeyboardInterrupt`` passes.
            AdapterContractError: It is no :class:`~phasewire.adapters.StrategyAdapter` of a contract version that
                this release drives.
        """
        loaded = self.imported(where) if self.given is None else self.given
        adapter_class = _adapter_class(loaded, self.description, where)
        require_version(
            adapter_class.api_version,
            API_VERSION,
            self,
            contract="adapter contract",
            page="docs/adapter-contract.md",
            error=AdapterContractError,
            where=where,
        )
        return adapter_class

    def __call__(self, *args: object, **cfg: object) -> StrategyAdapter:
        """Build the adapter.

        Args:
            args: Positional options of the adapter.
            cfg: The options of ``strategy_adapter_cfg``.

        Returns:
            A new adapter, not connected yet.

        Raises:
            AdapterLoadError: It cannot be imported, does not take these options, or fails while it is built.
            AdapterContractError: It is no adapter that this release drives.
            PhasewireError: The adapter refuses its options.
        """
        adapter_class = self.load()
        _check_options(adapter_class, args, cfg)
        try:
            return adapter_class(*args, **cfg)
        except PhasewireError:
            raise
        except (Exception, SystemExit) as error:
            raise AdapterLoadError(
                f"{self.description} cannot be built: {type(error).__name__}: {error}.",
                where="strategy_adapter_cfg" if cfg else None,
                remedy="Change its options, or name another adapter.",
            ) from error


def _adapter_class(loaded: object, description: str, where: str | None) -> type[StrategyAdapter]:
    if isinstance(loaded, type) and issubclass(loaded, StrategyAdapter):
        return loaded
    remedy = "Name a subclass of phasewire.adapters.StrategyAdapter."
    if not isinstance(loaded, type):
        problem = f"names {loaded!r}, which is no class"
    elif any(base.__module__.partition(".")[0] == PEER_PACKAGE for base in loaded.__mro__):
        problem = f"is a subclass of the StrategyAdapter of the finetuning-scheduler package ({loaded.__qualname__})"
        remedy = IMPORT_TO_CHANGE
    else:
        problem = f"names the class {loaded.__qualname__}, which is no subclass of phasewire.adapters.StrategyAdapter"
    raise AdapterContractError(f"{description} {problem}.", where=where, remedy=remedy)


def _check_options(adapter_class: type[StrategyAdapter], args: tuple[object, ...], cfg: Mapping[str, object]) -> None:
    signature = inspect.signature(adapter_class)
    try:
        signature.bind(*args, **cfg)
    except TypeError as error:
        options = [
            name for name, parameter in signature.parameters.items() if parameter.kind is not parameter.VAR_KEYWORD
        ]
        unknown = next((name for name in cfg if name not in options), "")
        listed = f"Its options are {', '.join(options)}." if options else "It takes no options."
        raise AdapterLoadError(
            f"{adapter_class.__name__} does not take the options it was given: {error}. {listed} "
            f"{did_you_mean(unknown, options)}".rstrip(),
            where="strategy_adapter_cfg",
            remedy="Give the options that the adapter takes.",
        ) from error
