"""The transition criteria of one fit: asked in turn, their answers checked, and their states kept for checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor

from phasewire.adapters.errors import CheckpointError, ConfigError, CriterionError, PhasewireError
from phasewire.adapters.transitions import TransitionCriterion
from phasewire.app.criteria_settings import criteria_of
from phasewire.app.phases.schedule_changes import plain

if TYPE_CHECKING:
    import lightning.pytorch as pl

    from phasewire.adapters.transitions import PhaseProgress
    from phasewire.app.settings import SchedulerSettings
    from phasewire.app.transition_criteria import BuiltCriterion, TransitionCriteria

__all__ = ["PhaseCriteria", "looks_at_epoch_end"]

# Any: the options and the state of a criterion are its own.
CriterionRecording = dict[str, Any]


class PhaseCriteria:
    """Asks every criterion of a run.

    Args:
        criteria: The criteria.

    Raises:
        ConfigError: Two are the same, with the same options.
    """

    def __init__(self, criteria: Sequence[BuiltCriterion]) -> None:
        self._criteria = list(criteria)
        self._identities = [_identity(each) for each in criteria]
        for index, identity in enumerate(self._identities):
            if identity in self._identities[:index]:
                raise ConfigError(
                    f"The transition criterion {criteria[index].label} is named twice.",
                    where=f"transition_criteria[{index}]",
                    remedy="Leave one of them out, or give them different options.",
                )
        self._over = [False] * len(self._criteria)
        self._begun = [False] * len(self._criteria)

    @classmethod
    def of(cls, settings: SchedulerSettings, registry: TransitionCriteria) -> PhaseCriteria:
        """Build the criteria that settings name.

        Args:
            settings: The settings of the scheduler.
            registry: Finds and builds them.

        Returns:
            The criteria of a run.

        Raises:
            PhasewireError: One is not found, does not load, or cannot be built; or two are the same.
        """
        choices = criteria_of(settings)
        return cls([registry.build(choice.reference, choice.options, where=choice.where) for choice in choices])

    # -- what is asked -------------------------------------------------------------------------------------------

    def uses(self, kind: type[TransitionCriterion]) -> bool:
        """Tell whether one is of a class.

        Args:
            kind: The class.

        Returns:
            Whether one is.
        """
        return any(isinstance(each.criterion, kind) for each in self._criteria)

    def are_all(self, kind: type[TransitionCriterion]) -> bool:
        """Tell whether all are of a class.

        Args:
            kind: The class.

        Returns:
            Whether they are.
        """
        return all(isinstance(each.criterion, kind) for each in self._criteria)

    @property
    def built(self) -> tuple[BuiltCriterion, ...]:
        """The criteria."""
        return tuple(self._criteria)

    @property
    def watched(self) -> dict[str, str]:
        """The metrics they monitor, with the mode of each."""
        criteria = [each.criterion for each in self._criteria]
        return {criterion.monitor: criterion.mode for criterion in criteria if criterion.monitor is not None}

    @property
    def is_over(self) -> bool:
        """Whether one has said, after a validation, that the phase is over; the same on all processes."""
        return any(self._over)

    @property
    def over(self) -> list[str]:
        """Those that have said so, by their labels."""
        return [each.label for each, is_over in zip(self._criteria, self._over, strict=True) if is_over]

    def ending(self, phase: PhaseProgress) -> list[str]:
        """Ask before an epoch.

        Args:
            phase: Where the run stands.

        Returns:
            The criteria by which the phase is over, as this process sees it.
        """
        over = [
            has_ended or self._ask(each, "before_epoch", each.criterion.before_epoch, phase)
            for each, has_ended in zip(self._criteria, self._over, strict=True)
        ]
        return [each.label for each, is_over in zip(self._criteria, over, strict=True) if is_over]

    def begin_phase(self, phase: PhaseProgress) -> None:
        """Let all begin anew.

        Args:
            phase: Where the run stands.
        """
        self._over = [False] * len(self._criteria)
        self._begun = [False] * len(self._criteria)
        self.begin_new(phase)

    def begin_new(self, phase: PhaseProgress) -> None:
        """Let those begin that have not begun the phase, nor resumed it.

        Args:
            phase: Where the run stands.
        """
        for index, each in enumerate(self._criteria):
            if not self._begun[index]:
                _guarded(each, phase.depth, partial(each.criterion.begin_phase, phase))
                self._begun[index] = True

    def look(self, phase: PhaseProgress, agree: Callable[[bool], bool]) -> None:
        """Ask after a validation.

        Args:
            phase: Where the run stands.
            agree: Takes a decision for all processes.
        """
        for index, each in enumerate(self._criteria):
            never_looks = type(each.criterion).after_validation is TransitionCriterion.after_validation
            if not never_looks and not self._over[index]:
                # Each by itself, so that a checkpoint, which one process writes, tells of all of them.
                self._over[index] = agree(self._ask(each, "after_validation", each.criterion.after_validation, phase))

    # -- checkpoints ---------------------------------------------------------------------------------------------

    def snapshot(self, depth: int) -> list[CriterionRecording]:
        """Give what a checkpoint stores.

        Args:
            depth: The phase being trained, for messages.

        Returns:
            One entry for every criterion; plain values, and tensors in a state.

        Raises:
            CriterionError: The state of one cannot be stored.
        """
        return [
            {**identity, "over": over, "state": _stored(each, depth)}
            for each, identity, over in zip(self._criteria, self._identities, self._over, strict=True)
        ]

    def resume(self, saved: Sequence[CriterionRecording], depth: int) -> list[str]:
        """Take what :meth:`snapshot` gave. What was not stored, with these options, begins by :meth:`begin_new`.

        Args:
            saved: What a checkpoint stored.
            depth: The phase that is resumed, for messages.

        Returns:
            What differs, in words.

        Raises:
            CheckpointError: A criterion cannot take its state.
        """
        stored = dict(enumerate(saved))
        new = []
        for index, (each, identity) in enumerate(zip(self._criteria, self._identities, strict=True)):
            found = next((key for key, entry in stored.items() if _identity_of(entry) == identity), None)
            if found is None:
                new.append(f"now also {each.label}")
                continue
            entry = stored.pop(found)
            _load(each, entry["state"], depth)
            self._over[index], self._begun[index] = entry["over"], True
        return [*(f"no longer {_label(entry)}" for entry in stored.values()), *new]

    # -- asking --------------------------------------------------------------------------------------------------

    @staticmethod
    def _ask(each: BuiltCriterion, hook: str, ask: Callable[[PhaseProgress], object], phase: PhaseProgress) -> bool:
        answer = _guarded(each, phase.depth, lambda: ask(phase))
        if not isinstance(answer, bool):
            raise CriterionError(
                f"{each.record.description} gave {answer!r} from {hook}, and True or False is expected.",
                where=f"phase {phase.depth}",
                remedy=f"Let {hook} return a truth value, such as bool(...).",
            )
        return answer


def looks_at_epoch_end(trainer: pl.Trainer) -> bool:
    """Tell when the metrics are complete.

    Args:
        trainer: The Trainer.

    Returns:
        Whether at the end of each epoch; otherwise after each validation.
    """
    interval = trainer.val_check_interval
    # The number 1.0 means one epoch, and 1 means one batch.
    once_an_epoch = isinstance(interval, float) and interval == 1.0 and trainer.check_val_every_n_epoch == 1
    return once_an_epoch or not trainer.enable_validation


def _guarded(each: BuiltCriterion, depth: int, call: Callable[[], object]) -> object:
    where = f"phase {depth}"
    try:
        return call()
    except PhasewireError as error:
        raise CriterionError(
            f"{each.record.description} fails. {error.problem}", where=where, remedy=error.remedy
        ) from error
    except Exception as error:
        raise CriterionError(
            f"{each.record.description} failed with {type(error).__name__}: {error}",
            where=where,
            remedy="Change its options, or take it out of transition_criteria.",
        ) from error


def _identity(each: BuiltCriterion) -> CriterionRecording:
    return {"name": each.record.name, "distribution": each.record.distribution, "options": plain(dict(each.options))}


def _identity_of(entry: Mapping[str, Any]) -> CriterionRecording:
    return {key: entry[key] for key in ("name", "distribution", "options")}


def _label(entry: Mapping[str, Any]) -> str:
    options = ", ".join(f"{name}={value!r}" for name, value in entry["options"].items())
    return f"{entry['name']}({options})" if options else str(entry["name"])


def _stored(each: BuiltCriterion, depth: int) -> object:
    state = _guarded(each, depth, each.criterion.state_dict)
    try:
        return _copied(state, "state", among=(dict,))
    except TypeError as error:
        raise CriterionError(
            f"{each.record.description} gave a state that no checkpoint can hold: {error}.",
            where=f"phase {depth}",
            remedy="Let state_dict return plain values and tensors, in dicts with text as keys, lists and tuples.",
        ) from error


def _copied(value: object, path: str, among: tuple[type, ...] = (object,)) -> object:
    """Copy a state: a checkpoint may be written while training goes on."""
    if not isinstance(value, among):
        raise TypeError(f"{path} is {value!r}, which is no {among[0].__name__}")
    # Subclasses, such as NumPy's float64, do not load with weights_only=True.
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, list | tuple):
        copies = [_copied(item, f"{path}[{index}]") for index, item in enumerate(value)]
        return copies if isinstance(value, list) else tuple(copies)
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _copied(item, f"{path}[{key!r}]") for key, item in value.items()}
    raise TypeError(f"{path} is {value!r}")


def _load(each: BuiltCriterion, state: Any, depth: int) -> None:  # noqa: ANN401  # the state is the criterion's own
    try:
        each.criterion.load_state_dict(_copied(state, "state"))  # type: ignore[arg-type]  # a dict, when it was saved
    except Exception as error:
        raise CheckpointError(
            f"{each.record.description} cannot take the state that the checkpoint of phase {depth} holds: "
            f"{type(error).__name__}: {error}",
            remedy="Resume with the version of it that the checkpoint was written with, or leave it out.",
        ) from error
