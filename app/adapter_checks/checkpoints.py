"""The rules for checkpoints."""

from __future__ import annotations

import copy
from typing import Any, Final

import torch

from phasewire.app.adapter_checks.rule import Rule
from phasewire.app.adapter_checks.subject import Subject

__all__ = ["RULES"]


class SavedAndRestoredEqual(Rule):
    """What was saved must come back."""

    name = "checkpoint-round-trip"
    sentence = "A checkpoint that was saved and loaded into another module gives equal parameters and buffers."
    # In that fit nothing is restored between phases, so it ends whatever a restore would do.
    needs = ("explicit-schedule-trains",)

    def check(self, subject: Subject) -> None:
        """Restore another module and compare."""
        remedy = "Let before_restore_model or load_model_state_dict undo what lightning_module_state_dict does."
        error = subject.restored.error
        if error is not None:
            raise self.broken(
                f"A checkpoint that was saved with it cannot be restored. {type(error).__name__}: {error}", remedy
            ) from error
        saved, loaded = subject.explicit.module.state_dict(), subject.restored.module.state_dict()
        wrong = [name for name, value in saved.items() if not torch.equal(value, loaded[name])]
        if wrong:
            raise self.broken(f"{', '.join(wrong)} came back with other values.", remedy)


class BeforeRestoreReturnsTheCheckpoint(Rule):
    """The hook must return what is to be restored."""

    name = "before-restore-returns-the-checkpoint"
    sentence = "before_restore_model returns the checkpoint to go on with."
    needs = ("connects",)

    def check(self, subject: Subject) -> None:
        """Give it a checkpoint."""
        result: object = subject.connected.before_restore_model(_new_checkpoint(subject))
        if not isinstance(result, dict):
            raise self.broken(f"before_restore_model returned {result!r}.", "Return the checkpoint, changed or not.")


class LoadMindsStrict(Rule):
    """strict must be minded."""

    name = "load-minds-strict"
    sentence = "load_model_state_dict refuses a missing key with strict=True, and passes it over with strict=False."
    needs = ("before-restore-returns-the-checkpoint", "checkpoint-round-trip")

    def check(self, subject: Subject) -> None:
        """Load a state from which a key was taken."""
        adapter, remedy = (
            subject.connected,
            "Pass strict on to super().load_model_state_dict(checkpoint, strict=strict).",
        )

        def load(*, strict: bool) -> None:
            checkpoint = _new_checkpoint(subject)
            checkpoint["state_dict"].popitem()
            adapter.load_model_state_dict(adapter.before_restore_model(checkpoint), strict=strict)

        try:
            load(strict=False)
        except Exception as error:
            raise self.broken(
                f"With strict=False a missing key raised {type(error).__name__}: {error}", remedy
            ) from error
        try:
            load(strict=True)
        except Exception:  # noqa: BLE001  # that it is refused is what the rule asks for, whatever the class
            return
        raise self.broken("With strict=True a missing key was passed over.", remedy)


class TellsItsCheckpointNames(Rule):
    """checkpoint_names must be true."""

    name = "tells-its-checkpoint-names"
    sentence = 'checkpoint_names is "module" exactly when the state dict on disk has the module\'s own names.'
    needs = ("connects",)

    def check(self, subject: Subject) -> None:
        """Compare the keys."""
        told: object = subject.connected.names_on_disk
        remedy = 'Write checkpoint_names = "a word of yours" on the class, or keep the module\'s names.'
        if not isinstance(told, str):
            raise self.broken(f"checkpoint_names is {told!r}, and text is expected.", remedy)
        own = set(subject.implicit.module.state_dict())
        other = set(_new_checkpoint(subject)["state_dict"]) - own
        if told == "module" and other:
            raise self.broken(
                f'checkpoint_names is "module", and the state dict names {", ".join(sorted(other))}.', remedy
            )
        if told != "module" and not other:
            raise self.broken(
                f"checkpoint_names is {told!r}, and all names in the state dict are the module's own.",
                'Leave checkpoint_names at "module", so that checkpoints can be used without the adapter, or check '
                "with a model that the adapter renames.",
            )


# Any: a checkpoint holds tensors, numbers, and whatever callbacks and modules put there.
def _new_checkpoint(subject: Subject) -> dict[str, Any]:
    return {"state_dict": copy.deepcopy(dict(subject.connected.lightning_module_state_dict()))}


RULES: Final[tuple[Rule, ...]] = (
    TellsItsCheckpointNames(),
    SavedAndRestoredEqual(),
    BeforeRestoreReturnsTheCheckpoint(),
    LoadMindsStrict(),
)
