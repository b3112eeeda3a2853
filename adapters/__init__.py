"""The plug-in contract, its errors, and the adapters that ship with Phasewire.

Names are imported on first use: no adapter is loaded that a run does not use, and the extra of one may be absent.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from phasewire.adapters.base import API_VERSION, StrategyAdapter
    from phasewire.adapters.errors import (
        AdapterContractError,
        AdapterError,
        AdapterLoadError,
        AdapterNotFoundError,
        CheckpointError,
        ConfigError,
        CriterionError,
        PhasewireError,
        ScheduleError,
    )
    from phasewire.adapters.fsdp import FSDPStrategyAdapter
    from phasewire.adapters.model_parallel import ModelParallelStrategyAdapter
    from phasewire.adapters.renaming import MappedNaming, Naming, Renaming
    from phasewire.adapters.tensor_pieces import Piece
    from phasewire.adapters.tl_names import TLNamesModelView
    from phasewire.adapters.transformer_bridge import TransformerBridgeStrategyAdapter
    from phasewire.adapters.transitions import CRITERION_API_VERSION, PhaseProgress, TransitionCriterion
    from phasewire.adapters.views import CanonicalModelView, ModelView

__all__ = [
    "API_VERSION",
    "CRITERION_API_VERSION",
    "AdapterContractError",
    "AdapterError",
    "AdapterLoadError",
    "AdapterNotFoundError",
    "CanonicalModelView",
    "CheckpointError",
    "ConfigError",
    "CriterionError",
    "FSDPStrategyAdapter",
    "MappedNaming",
    "ModelParallelStrategyAdapter",
    "ModelView",
    "Naming",
    "PhaseProgress",
    "PhasewireError",
    "Piece",
    "Renaming",
    "ScheduleError",
    "StrategyAdapter",
    "TLNamesModelView",
    "TransformerBridgeStrategyAdapter",
    "TransitionCriterion",
]

_ELSEWHERE: Final = {
    "API_VERSION": "phasewire.adapters.base",
    "CRITERION_API_VERSION": "phasewire.adapters.transitions",
    "CanonicalModelView": "phasewire.adapters.views",
    "FSDPStrategyAdapter": "phasewire.adapters.fsdp",
    "MappedNaming": "phasewire.adapters.renaming",
    "ModelParallelStrategyAdapter": "phasewire.adapters.model_parallel",
    "ModelView": "phasewire.adapters.views",
    "Naming": "phasewire.adapters.renaming",
    "PhaseProgress": "phasewire.adapters.transitions",
    "Piece": "phasewire.adapters.tensor_pieces",
    "Renaming": "phasewire.adapters.renaming",
    "StrategyAdapter": "phasewire.adapters.base",
    "TLNamesModelView": "phasewire.adapters.tl_names",
    "TransformerBridgeStrategyAdapter": "phasewire.adapters.transformer_bridge",
    "TransitionCriterion": "phasewire.adapters.transitions",
}

if not TYPE_CHECKING:  # a type checker must not take any name for one of ours

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_ELSEWHERE.get(name, "phasewire.adapters.errors")), name)
