"""The rule for the names that an adapter gives the tensors of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor

from phasewire.adapters.errors import CheckpointError
from phasewire.adapters.renaming import OWN_NAMES, Naming
from phasewire.adapters.tensor_layout import Layout
from phasewire.app.adapter_checks.rule import NotChecked, Rule
from phasewire.app.adapter_checks.subject import Subject

__all__ = ["RULES"]

_REMEDY: Final = "Every tensor needs a name of its own, and the way back must lead to it."


class RenamingsRoundTrip(Rule):
    """Other names must lead back."""

    name = "renamings-round-trip"
    sentence = (
        "Each naming of checkpoint_renamings gives every tensor of the module a name of its own, the same at every "
        "call, and leads back from it to the equal tensor."
    )
    needs = ("connects",)

    def check(self, subject: Subject) -> None:
        """Translate the state of the module, and back by what a checkpoint records."""
        adapter = subject.implicit.adapter  # a wrong naming may have stopped the fit before there was a schedule
        if adapter is None:
            raise NotChecked(subject.implicit.stopped)
        state = subject.implicit.module.state_dict()
        before = list(state)
        first = self._layouts(adapter.checkpoint_renamings(), state)
        again = self._layouts(adapter.checkpoint_renamings(), state)
        for word, layout in first.items():
            if word not in again or again[word].to_plain() != layout.to_plain():
                raise self.broken(
                    f"Called twice, it gave two namings called {word!r}.", "Let the names follow from the module alone."
                )
            try:
                self._compare(word, layout, state)
            except CheckpointError as error:
                raise self.broken(f"With {word!r}: {error.problem}", error.remedy or _REMEDY) from error
        if list(state) != before:
            raise self.broken("The state dict that the names are for was changed.", "Leave the arguments as they are.")

    def _layouts(self, given: object, state: dict[str, Any]) -> dict[str, Layout]:
        if not isinstance(given, Mapping) or not all(
            isinstance(word, str) and isinstance(naming, Naming) for word, naming in given.items()
        ):
            raise self.broken(
                f"checkpoint_renamings gave {given!r}.",
                "Return a dict of a word to a Renaming, as in {'acme': Renaming({'layers': 'blocks'})}.",
            )
        if OWN_NAMES in given:
            raise self.broken(
                f"It calls a naming {OWN_NAMES!r}, the word for the module's own names.", "Call it otherwise."
            )
        try:
            return {word: naming.layout(state, word=word) for word, naming in given.items()}
        except CheckpointError as error:
            raise self.broken(error.problem, error.remedy or _REMEDY) from error

    # Any, here and below: a state dict holds tensors, and whatever modules keep as their extra state.
    def _compare(self, word: str, layout: Layout, state: dict[str, Any]) -> None:
        recorded = Layout.from_plain(layout.to_plain(), word=word)
        own, unknown = recorded.own_state(layout.stored_state(state))
        if unknown:
            raise self.broken(f"{word!r} stores {_listed(unknown)}, which no tensor is read from.", _REMEDY)
        missing = [name for name in state if name not in own]
        if missing:
            raise self.broken(f"{word!r} has no place for {_listed(missing)}.", _REMEDY)
        invented = [name for name in own if name not in state]
        if invented:
            raise self.broken(f"{word!r} gives {_listed(invented)}, which the module does not have.", _REMEDY)
        # A derived tensor comes back as those that it is derived from were trained to be.
        derived = {name for name, piece in layout.pieces.items() if piece.derived}
        wrong = [name for name, value in state.items() if name not in derived and not _same(value, own[name])]
        if wrong:
            raise self.broken(f"With {word!r}, {_listed(wrong)} came back with other values.", _REMEDY)


def _same(one: Any, other: Any) -> bool:  # noqa: ANN401  # as the comment above
    if not isinstance(one, Tensor) or not isinstance(other, Tensor):
        return one is other
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.equal(_bits(one), _bits(other))


def _bits(tensor: Tensor) -> Tensor:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def _listed(names: list[str]) -> str:
    return ", ".join(map(repr, names))


RULES: Final[tuple[Rule, ...]] = (RenamingsRoundTrip(),)
