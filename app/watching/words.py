"""What happened and what is awaited, in words: one line of the log, and a few words for the progress bar."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lightning.pytorch.callbacks import Timer

from phasewire.app.phases.callbacks import FTSEarlyStopping
from phasewire.app.phases.criteria import EarlyStoppingCriterion, EpochCriterion
from phasewire.app.trainer_attributes import callbacks_of
from phasewire.app.watching.criterion_words import ended_by_words

if TYPE_CHECKING:
    import lightning.pytorch as pl

    from phasewire.adapters.transitions import PhaseProgress
    from phasewire.app.transition_criteria import BuiltCriterion
    from phasewire.app.watching.standing import Group, PhaseBegun, Restored, Standing

__all__ = ["phase_line", "trained_words", "what_ends"]

_MOST_NAMES: Final = 3
_MOST_RATES: Final = 4


def what_ends(criteria: Sequence[BuiltCriterion], phase: PhaseProgress) -> str:
    """Tell what ends a phase.

    Args:
        criteria: The criteria of the run.
        phase: Where the run stands.

    Returns:
        A few words, such as ``epoch 3 or val_loss patience 1/3``. What ends the last phase ends the training.
    """
    words = [_limit_of(phase.trainer)] if phase.is_final else []
    for each in criteria:
        if isinstance(each.criterion, EpochCriterion):
            if not phase.is_final and phase.max_transition_epoch >= 0:
                words.append(f"epoch {phase.max_transition_epoch}")
        elif isinstance(each.criterion, EarlyStoppingCriterion):
            words += [
                f"{callback.monitor} patience {callback.wait_count}/{callback.patience}"
                for callback in callbacks_of(phase.trainer)
                if isinstance(callback, FTSEarlyStopping)
            ]
        else:
            words.append(each.label)
    return " or ".join(filter(None, words))


def phase_line(begun: PhaseBegun) -> str:
    """Tell, in one line, how a phase began.

    Args:
        begun: What happened.

    Returns:
        Whole sentences.
    """
    standing = begun.standing
    ended = f", because {ended_by_words(begun.ended_by)} ended phase {standing.depth - 1}" if begun.ended_by else ""
    thawed = f"Thawed {_tensors(begun.names)} with {begun.parameters:,} parameters ({_listed(begun.names)})."
    restored = "" if begun.restored is None else f" {_restored(begun.restored)}"
    return (
        f"Phase {standing.depth} of {standing.final_depth} begins at epoch {begun.epoch}{ended}. {thawed} "
        f"{trained_words(standing)}{restored}"
    )


def trained_words(standing: Standing) -> str:
    """Tell what is trained, and at which rates.

    Args:
        standing: Where the run stands.

    Returns:
        A whole sentence.
    """
    rates = _rates(standing.groups)
    return (
        f"Trained now: {standing.trained:,} of {standing.total:,} parameters ({standing.share:.1%})"
        f"{f', lr {rates}' if rates else ''}."
    )


def _rates(groups: Sequence[Group]) -> str:
    """List the rates, group by group; equal ones that follow each other once."""
    rates = [f"{group.lr:.3g}" for group in groups]
    listed = [rate for number, rate in enumerate(rates) if number == 0 or rate != rates[number - 1]]
    hidden = len(listed) - _MOST_RATES
    left_out = f"... ({hidden} more)" if groups and groups[0].number == 0 else "..."
    return ", ".join([left_out, *listed[-_MOST_RATES:]] if hidden > 0 or left_out == "..." else listed)


def _restored(restored: Restored) -> str:
    score = "" if restored.score is None else f", {restored.monitor} {restored.score:.4g}"
    # No full stop: it would be taken for a part of the path.
    return (
        f"Weights were restored from the best checkpoint (phase {restored.depth}, epoch {restored.epoch}{score}): "
        f"{_short(restored.path)}"
    )


def _short(path: str) -> str:
    """Shorten the path of what is below the working directory."""
    return os.path.relpath(path) if Path(path).is_relative_to(Path.cwd()) else path


def _tensors(names: Sequence[str]) -> str:
    return f"{len(names)} tensor{'' if len(names) == 1 else 's'}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return f"{', '.join(names[:_MOST_NAMES])}{more}"


def _limit_of(trainer: pl.Trainer) -> str:
    limits = []
    if trainer.max_epochs is not None and trainer.max_epochs >= 0:
        limits.append(f"max_epochs {trainer.max_epochs}")
    if trainer.max_steps >= 0:
        limits.append(f"max_steps {trainer.max_steps}")
    timers = (callback for callback in callbacks_of(trainer) if isinstance(callback, Timer))
    if any(timer.time_remaining() is not None for timer in timers):
        limits.append("max_time")
    return " or ".join(limits) or "you stop it"
