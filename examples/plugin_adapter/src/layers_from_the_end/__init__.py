"""A strategy adapter whose schedules count layers from the end."""

from __future__ import annotations

import re

from torch import nn

from phasewire.adapters import StrategyAdapter

__all__ = ["FromTheEndAdapter"]


class FromTheEndAdapter(StrategyAdapter):
    """Lets schedules say ``layers.-1.weight`` for a parameter of the last member of the ``ModuleList`` ``layers``.

    Args:
        layers: The name of the list.
        cfg: Options that are not this class's own; the base class refuses them with a clear error.
    """

    api_version = "1.0"

    def __init__(self, layers: str = "layers", **cfg: object) -> None:
        super().__init__(**cfg)
        self.layers = layers

    def get_named_params_for_schedule_validation(self) -> dict[str, nn.Parameter]:
        """Give the names that a schedule may use, and the parameter that each one means."""
        return {self._counted(name): parameter for name, parameter in self.pl_module.named_parameters()}

    def fts_optim_transform(self, orig_pl: list[str], inspect_only: bool = False) -> list[str]:
        """Translate names of a schedule to names of the module."""
        own_names = {self._counted(name): name for name, _ in self.pl_module.named_parameters()}
        return [own_names.get(name, name) for name in orig_pl]

    def logical_param_translation(self, param_names: list[str]) -> list[str]:
        """Translate names of the module to those of a schedule: the inverse of ``fts_optim_transform``."""
        return [self._counted(name) for name in param_names]

    def _counted(self, name: str) -> str:
        depth = sum(1 for _ in self.pl_module.get_submodule(self.layers).children())
        return re.sub(
            rf"^({re.escape(self.layers)})\.(\d+)\.",
            lambda found: f"{found[1]}.{int(found[2]) - depth}.",
            name,
        )
