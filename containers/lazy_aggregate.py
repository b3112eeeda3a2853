"""An aggregate of factories that is joined, when it is called, by what discovery finds."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from dependency_injector import providers

from phasewire.adapters.errors import AdapterNotFoundError, did_you_mean

__all__ = ["LazyAggregate"]


# Any, here and below: an adapter takes its own options, and dependency-injector describes a provider of anything so.
class LazyAggregate(providers.Aggregate[Any]):
    """Factories by lowercased name; a name that is not declared is looked up in discovery, at every call anew.

    Nothing that discovery gives is kept, so a later override of it is seen. ``providers`` are the declared ones.

    Args:
        declared: Lowercased name to the provider of the factory.
        discovery: The provider of what looks names up, by ``find(name)`` and ``names()``.
    """

    def __init__(
        self,
        declared: Mapping[str, providers.Provider[Any]] | None = None,
        discovery: providers.Provider[Any] | None = None,
    ) -> None:
        super().__init__(declared)
        self.set_discovery(discovery)

    def set_discovery(self, discovery: providers.Provider[Any] | None) -> LazyAggregate:
        """Set where names are looked up that are not declared.

        Args:
            discovery: The provider of what looks names up; ``None`` knows no more than what is declared.

        Returns:
            Itself.
        """
        self._discovery = discovery
        return self

    # dependency-injector's aggregates refuse to be overridden; every other provider can be.
    override = providers.Provider.override

    def __deepcopy__(self, memo: dict[int, Any] | None) -> LazyAggregate:
        memo = {} if memo is None else memo
        if id(self) in memo:
            known: LazyAggregate = memo[id(self)]
            return known
        copied = type(self)()
        memo[id(self)] = copied
        copied.set_providers(copy.deepcopy(self.providers, memo))
        copied.set_discovery(copy.deepcopy(self._discovery, memo))
        self._copy_overridings(copied, memo)
        return copied

    @property
    def related(self) -> Iterator[providers.Provider[Any]]:
        """The providers this one depends on."""
        yield from filter(None, [self._discovery])
        yield from super().related

    def _provide(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
        """Build the adapter that goes by the first argument, in any case, from the other arguments."""
        if not args or not isinstance(args[0], str):
            raise AdapterNotFoundError(
                f"An adapter is asked for by its name, and {f'{args[0]!r} is' if args else 'none is'} given.",
                remedy="Give its name as text, and after it the arguments of the adapter.",
            )
        name, *options = args
        build = self.providers.get(name.lower()) or self._discovered(name)
        return build(*options, **kwargs)

    def _discovered(self, name: str) -> Any:  # noqa: ANN401  # a record, or whatever an overridden discovery gives
        discovery = self._discovery() if self._discovery else None
        found = discovery.find(name) if discovery else None
        if found is None:
            names = sorted({*self.providers, *(discovery.names() if discovery else ())})
            raise AdapterNotFoundError(
                f"No adapter is called {name!r}. {did_you_mean(name, names)}".strip(),
                remedy=f"Install the package that offers it, or name one of: {', '.join(names)}.",
            )
        return found
