"""The view of TransformerLens names: ``blocks.9.attn.W_Q`` for any architecture that a ``TransformerBridge`` wraps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from phasewire.adapters import rank_zero
from phasewire.adapters.bridge_names import BridgeNames, bridge_names
from phasewire.adapters.bridge_search import find_bridge
from phasewire.adapters.errors import AdapterError, did_you_mean
from phasewire.adapters.name_rules import NameRules
from phasewire.adapters.views import ModelView

if TYPE_CHECKING:
    from torch.nn import Parameter

    from phasewire.adapters.base import StrategyAdapter

__all__ = ["TLNamesModelView"]

_MOST_SHOWN: Final = 4
_EMBEDDINGS: Final = ("embed", "unembed")
_MADE_UP: Final = (
    "the model has no such parameter, and TransformerLens makes up zeros in its place, which nothing trains"
)


class TLNamesModelView(ModelView):
    """TransformerLens names, such as ``blocks.9.attn.W_Q``.

    They are those of ``bridge.tl_named_parameters()`` that a parameter stands behind. A parameter that has none there,
    such as the norm of the queries in Qwen3 or an expert in Mixtral, goes by the path of its component in the bridge
    (``blocks.9.attn.q_norm.weight``), and one outside of the bridge by the module's own name.

    Args:
        adapter: The adapter that asks. Its ``bridge_attribute``, if it has one, says where the bridge is.
        implicit_ln_thaw: Thaw norms that no phase names along with what they belong to: those of a block in the first
            phase that thaws any of the block, the final one with ``unembed`` (with ``embed`` where these are tied),
            and one before all blocks with ``embed``. Without it, norms are thawed where the schedule names them alone.

    Raises:
        AdapterError: ``implicit_ln_thaw`` is neither true nor false.
    """

    def __init__(self, adapter: StrategyAdapter, implicit_ln_thaw: bool = True) -> None:
        super().__init__(adapter)
        given: object = implicit_ln_thaw
        if not isinstance(given, bool):
            raise AdapterError(
                f"{given!r} is neither true nor false.", where="model_view_cfg.implicit_ln_thaw", remedy="Give a bool."
            )
        self.implicit_ln_thaw = implicit_ln_thaw
        self._names: BridgeNames | None = None
        self._own: Mapping[str, str] = {}
        self._shown: Mapping[str, str] = {}

    @property
    def names(self) -> BridgeNames:
        """All names of the parameters, found when they are first asked for.

        Raises:
            AdapterError: There is no bridge, or it gives no names.
        """
        if self._names is None:
            self.build_param_mapping()
        if self._names is None:  # a subclass may build something else
            raise AdapterError(
                f"{type(self).__name__}.build_param_mapping found no names.",
                remedy="Let it call super().build_param_mapping().",
            )
        return self._names

    def build_param_mapping(self) -> None:
        """Find the bridge in the module, and the names of what is behind it.

        Raises:
            AdapterError: There is no bridge, or it gives no names.
        """
        module = self.adapter.pl_module
        attribute = getattr(self.adapter, "bridge_attribute", None)
        self._names = names = bridge_names(module, find_bridge(module, attribute))
        self._shown = names.shown
        self._own = {shown: own for own, shown in names.shown.items()}
        self._report(names)

    def get_named_params(self) -> dict[str, Parameter]:
        """Give the names that a schedule may use, in the order in which the module registers the parameters.

        Joint projections, which no forward pass uses, are left out.

        Returns:
            Name to parameter.
        """
        shown = self.names.shown
        return {shown[own]: p for own, p in self.adapter.pl_module.named_parameters() if own in shown}

    def transform_to_canonical(self, names: list[str], inspect_only: bool = False) -> list[str]:
        """Translate names of the view to the module's.

        Args:
            names: Names as they stand in a resolved schedule.
            inspect_only: Without effect: there is no state but the map.

        Returns:
            Names of ``pl_module.named_parameters()``, each once.

        Raises:
            AdapterError: A name leads to no parameter.
        """
        second = self.names.second_tl
        return list(dict.fromkeys(self._own_name(second.get(name, name)) for name in names))

    def transform_from_canonical(self, names: list[str]) -> list[str]:
        """Translate the module's names to those of the view.

        Args:
            names: Names of ``pl_module.named_parameters()``.

        Returns:
            Names as they would stand in a schedule. A joint projection, which can stand in none, keeps its own.
        """
        second = self.names.second_own
        return list(dict.fromkeys(self._shown.get(second.get(name, name), name) for name in names))

    def validate_schedule(self) -> tuple[int, int]:
        """Validate the schedule against the names of the view.

        Returns:
            The deepest phase, and the highest ``max_transition_epoch`` (-1 when no phase has one).

        Raises:
            ScheduleError: The schedule does not fit the module, or asks for what cannot be thawed.
        """
        return self.adapter.fts_handle.validate_schedule(self.name_rules())

    def name_rules(self) -> NameRules:
        """Say what holds for names in a schedule.

        Returns:
            The second names of tied parameters, what cannot be scheduled and why, and which norms are thawed along.
        """
        names = self.names
        refused = {
            own: f"it is the module's own name, and the schedule is in those of TransformerLens, where it is {shown!r}"
            for own, shown in self._module_names()
            if own != shown
        }
        refused |= {
            joint: f"no forward pass uses this joint projection, the bridge computes with {self._few(parts)} instead"
            for joint, parts in names.joint.items()
        }
        refused |= {
            name: f"it is put together from {self._few(parts)}; name these"
            for name, parts in names.tl_to_own.items()
            if len(parts) > 1
        }
        refused |= dict.fromkeys(sorted(names.made_up), _MADE_UP)
        return NameRules(names.second_tl, refused, self._thawed_along() if self.implicit_ln_thaw else {})

    def _module_names(self) -> Iterable[tuple[str, str]]:
        yield from self._shown.items()
        for second, own in self.names.second_own.items():
            if own in self._shown:
                yield second, self._shown[own]

    def _few(self, own: tuple[str, ...]) -> str:
        return shown_names(self.transform_from_canonical(list(own)))

    def _own_name(self, name: str) -> str:
        own = self._own.get(name)
        if own is not None:
            return own
        reason = _MADE_UP if name in self.names.made_up else "it leads to no parameter of the module"
        raise AdapterError(
            f"{name!r} cannot be used: {reason}. {did_you_mean(name, self._own)}".rstrip(),
            remedy="Use the names that get_named_params gives.",
        )

    def _thawed_along(self) -> dict[str, tuple[str, ...]]:
        """Give, for all that is in a block or an embedding, the norms that belong to it."""
        names = self.names
        norms: dict[str, list[str]] = {}
        for own, part in names.norms.items():
            norms.setdefault(part, []).append(self._shown[own])
        parts = {own: [block] for own, block in names.blocks.items()}
        for name, owns in names.tl_to_own.items():
            part = name.partition(".")[0]
            if part in _EMBEDDINGS:
                for own in owns:
                    parts.setdefault(own, []).append(part)  # both, where the two are tied
        return {
            self._shown[own]: tuple(norm for part in held_by for norm in norms.get(part, ()))
            for own, held_by in parts.items()
            if own in self._shown
        }

    def _report(self, names: BridgeNames) -> None:
        if names.joint:
            rank_zero.info(
                f"{len(names.joint)} joint projections stay frozen, because the bridge computes with the parts they "
                f"were split into, and no forward pass uses them: {shown_names(names.joint, 1)}."
            )
        without = [names.shown[own] for own in names.without_tl]
        if without:
            rank_zero.info(
                f"{len(without)} parameters have no name in TransformerLens and go by that of their component or "
                f"module: {shown_names(without)}."
            )
        if names.second_tl:
            tied = ", ".join(f"{second!r} is {first!r}" for second, first in names.second_tl.items())
            rank_zero.info(
                f"Some TransformerLens names are second names of one parameter, so that thawing one thaws both: {tied}."
            )
        if names.made_up:
            rank_zero.debug(f"TransformerLens makes up what the model does not have: {sorted(names.made_up)}.")


def shown_names(names: Iterable[str], most: int = _MOST_SHOWN) -> str:
    """Join names for a message, and say how many more there are.

    Args:
        names: The names.
        most: How many to show.

    Returns:
        The text.
    """
    listed = list(names)
    more = f" and {len(listed) - most:,} more" if len(listed) > most else ""
    return ", ".join(map(repr, listed[:most])) + more
