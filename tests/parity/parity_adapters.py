"""One strategy adapter, once on the peer's base class and once on ours: it names parameters with a prefix."""

from __future__ import annotations

from typing import Any

import phasewire.adapters
from side_by_side import peer


class _Prefixing:
    """Names of a schedule begin with what ``strategy_adapter_cfg`` says."""

    def __init__(self, prefix: str) -> None:
        super().__init__()
        self._prefix = prefix

    def get_named_params_for_schedule_validation(self) -> dict[str, Any]:
        return {f"{self._prefix}{name}": parameter for name, parameter in self.pl_module.named_parameters()}

    def fts_optim_transform(self, orig_pl: list[str], inspect_only: bool = False) -> list[str]:
        return [name.removeprefix(self._prefix) for name in orig_pl]

    def fts_optim_inspect(self, orig_pl: list[str]) -> list[str]:
        # The peer's own calls the transform of its base class, whatever a subclass overrides.
        return self.fts_optim_transform(orig_pl, inspect_only=True)

    def logical_param_translation(self, param_names: list[str]) -> list[str]:
        return [f"{self._prefix}{name}" for name in param_names]


class Ours(_Prefixing, phasewire.adapters.StrategyAdapter):
    """On our base class."""


class Peers(_Prefixing, peer.strategy_adapters.StrategyAdapter):
    """On the peer's base class."""
