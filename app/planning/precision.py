"""In which type a Trainer's precision trains parameters, and so keeps their gradients."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import torch

from phasewire.adapters.errors import ConfigError, did_you_mean

__all__ = ["DEFAULT_PRECISION", "TrainedType"]

#: What a Trainer takes where it is given no precision.
DEFAULT_PRECISION: Final = "32-true"

#: Short forms that a Trainer takes, too.
_SHORT: Final[Mapping[str, str]] = MappingProxyType(
    {"16": "16-mixed", "bf16": "bf16-mixed", "32": "32-true", "64": "64-true"}
)
#: The type that a precision converts parameters to; ``None`` leaves them as they are, and autocast casts copies.
_CONVERTS_TO: Final[Mapping[str, torch.dtype | None]] = MappingProxyType(
    {
        "16-mixed": None,
        "bf16-mixed": None,
        "32-true": None,
        "64-true": torch.float64,
        "16-true": torch.float16,
        "bf16-true": torch.bfloat16,
        "transformer-engine": torch.bfloat16,
        "transformer-engine-float16": torch.float16,
    }
)


class TrainedType:
    """Tells in which type parameters are trained.

    Args:
        precision: As ``Trainer(precision=...)`` takes it; ``None`` for its default.
        where: What gave it, for messages.

    Raises:
        ConfigError: There is no such precision.
    """

    def __init__(self, precision: object = None, *, where: str = "--precision or trainer.precision") -> None:
        given = DEFAULT_PRECISION if precision is None else str(precision)
        #: The precision, in its long form.
        self.precision = _SHORT.get(given, given)
        if self.precision not in _CONVERTS_TO:
            raise ConfigError(
                f"There is no precision {given!r}. {did_you_mean(given, _CONVERTS_TO)}".rstrip(),
                where=where,
                remedy=f"Give one of {', '.join(_CONVERTS_TO)}.",
            )

    def of(self, dtype: torch.dtype) -> torch.dtype:
        """Give the type in which a parameter is trained.

        Args:
            dtype: The type that the model gives it.

        Returns:
            That type, or the one that the precision converts it to; integers are never converted.
        """
        wanted = _CONVERTS_TO[self.precision]
        return wanted if wanted is not None and dtype.is_floating_point else dtype
