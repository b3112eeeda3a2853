"""What happened in a run, put together from its record: phases from their beginning to their end, epochs, checkpoints.

A fit that goes on from a checkpoint takes over what the fit before had done up to there; that fit stands in the same
record, or in the one beside the checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Final

from phasewire.adapters.errors import ConfigError
from phasewire.app.report.events import CheckpointSaved, EpochEnded, FitBegan, FitEnded, PhaseBegan, parsed
from phasewire.app.watching.run_record import RECORD_NAME, read_record

__all__ = ["PhaseSpan", "Story", "find_record", "read_story"]

#: How many folders above a checkpoint its record is looked for.
_LEVELS_ABOVE: Final = 3
_MOST_LISTED: Final = 10


@dataclass(slots=True)
class PhaseSpan:
    """A phase, as it was trained."""

    began: PhaseBegan
    """How it began."""
    end_epoch: float
    """The first epoch after it."""
    end_step: int
    """The step at which it ended."""
    seconds: float = 0.0
    """How long it was trained."""


@dataclass(slots=True)
class Story:
    """A run, fits that it was resumed by included."""

    record: Path
    """The newest record."""
    fit: FitBegan
    """How the newest fit began."""
    began: datetime
    """When the first fit began."""
    spans: list[PhaseSpan] = field(default_factory=list)
    """The phases."""
    epochs: dict[int, EpochEnded] = field(default_factory=dict)
    """The epochs, by their number."""
    checkpoints: list[CheckpointSaved] = field(default_factory=list)
    """The checkpoints, as they were saved; a file may be written anew."""
    resumes: list[FitBegan] = field(default_factory=list)
    """The fits that went on from a checkpoint."""
    ended: FitEnded | None = None
    """How the newest fit ended; ``None`` for one that was cut off, or still runs."""
    last_time: datetime | None = None
    """When the last thing was written."""
    remarks: list[str] = field(default_factory=list)
    """What the reader should know of the record itself."""

    @property
    def seconds(self) -> float:
        """How long the phases were trained, pauses between fits left out."""
        return sum(span.seconds for span in self.spans)

    @property
    def end_epoch(self) -> float:
        """The first epoch after the run."""
        return max((span.end_epoch for span in self.spans), default=0)


def find_record(run_dir: Path) -> Path:
    """Find the record of a run.

    Args:
        run_dir: The log folder, one above it, or the record itself.

    Returns:
        The file.

    Raises:
        ConfigError: There is none, or there are several.
    """
    if run_dir.is_file() and run_dir.name == RECORD_NAME:
        return run_dir
    if not run_dir.is_dir():
        raise ConfigError(
            "There is no such folder." if not run_dir.exists() else "This is a file, and no record of a run.",
            where=str(run_dir),
            remedy="Name the folder that the logger of the run wrote to, such as lightning_logs/version_0.",
        )
    if (run_dir / RECORD_NAME).is_file():
        return run_dir / RECORD_NAME
    found = sorted(run_dir.rglob(RECORD_NAME))
    if len(found) == 1:
        return found[0]
    if not found:
        raise ConfigError(
            f"There is no run here: a fit with the FinetuningScheduler leaves {RECORD_NAME} in its log folder.",
            where=str(run_dir),
            remedy="Name the folder that the logger of the run wrote to. A run with run_record=False leaves none.",
        )
    listed = "".join(f"\n  {path.parent}" for path in found[:_MOST_LISTED])
    more = f"\n  and {len(found) - _MOST_LISTED} more" if len(found) > _MOST_LISTED else ""
    raise ConfigError(
        f"There are {len(found)} runs here.", where=str(run_dir), remedy=f"Name the folder of one:{listed}{more}"
    )


def read_story(record: Path) -> Story:
    """Read what happened in the newest run of a record.

    Args:
        record: The file.

    Returns:
        The run.

    Raises:
        ConfigError: It cannot be read, or holds no run.
    """
    story = _newest(record)
    if story is None:
        raise ConfigError(
            "The record tells of no fit that began.",
            where=str(record),
            remedy="The run was cut off before its first step, or the file was changed: train again.",
        )
    return story


def _newest(record: Path) -> Story | None:
    stories, remarks = _stories_of(record, frozenset())
    if not stories:
        return None
    before = sum(each.resumed_story is None for each in stories) - 1
    if before:
        remarks.insert(
            0, f"{before} earlier run{'s' if before > 1 else ''} wrote to the same record; only the newest is shown."
        )
    stories[-1].story.remarks.extend(remarks)
    return stories[-1].story


@dataclass(frozen=True, slots=True)
class _Told:
    """A fit of a record, with what it took over."""

    story: Story
    resumed_story: Story | None
    """The story in the same record that it goes on from."""


def _stories_of(record: Path, seen: frozenset[Path]) -> tuple[list[_Told], list[str]]:
    """Tell what each fit of a record had done when it ended, and what there is to say of the record."""
    stored = read_record(record)
    told: list[_Told] = []
    unreadable = stored.unreadable
    previous: datetime | None = None
    for event in map(parsed, stored.events):
        if event is None:
            unreadable += 1
            continue
        if isinstance(event, FitBegan):
            told.append(_begun(event, record, [each.story for each in told], seen))
            previous = None
        if not told:
            unreadable += 1
            continue
        story = told[-1].story
        if previous is not None and story.spans:
            story.spans[-1].seconds += (event.time - previous).total_seconds()
        previous = story.last_time = event.time
        _take(story, event)
    remarks = []
    if unreadable:
        remarks.append(
            f"{unreadable} line{'s' if unreadable > 1 else ''} of the record could not be read and "
            f"{'are' if unreadable > 1 else 'is'} left out: a killed process leaves its last line unfinished."
        )
    return told, remarks


def _begun(event: FitBegan, record: Path, before: list[Story], seen: frozenset[Path]) -> _Told:
    """Begin a story, or go on with the one that wrote the checkpoint which a fit resumes."""
    if event.resumed_from is None:
        return _Told(Story(record, event, event.time), None)
    checkpoint = event.resumed_from
    here = _writer(checkpoint, before, record)
    found = here or _earlier(checkpoint, record, seen)
    if found is None:
        story = Story(record, event, event.time, resumes=[event])
        story.remarks.append(
            "The run was resumed, and the record of what came before was not found beside the checkpoint."
        )
        return _Told(story, None)
    return _Told(_going_on(found, event, record), here)


def _going_on(before: Story, event: FitBegan, record: Path) -> Story:
    """Take over what was done before a fit; another one may go on from the same story, so that stays as it is."""
    return replace(
        before,
        record=record,
        fit=event,
        ended=None,
        resumes=[*before.resumes, event],
        epochs={number: epoch for number, epoch in before.epochs.items() if number < event.epoch},
        spans=[replace(span) for span in before.spans if span.began.step <= event.step],
        checkpoints=[each for each in before.checkpoints if each.epoch < event.epoch],
        remarks=list(before.remarks),
    )


def _writer(checkpoint: str, stories: list[Story], record: Path) -> Story | None:
    """Find the run of a record that wrote a checkpoint: the newest that tells of the file, or else of its folder."""
    path = _absolute(checkpoint)
    newest_first = stories[::-1]
    for story in newest_first:
        if path in {_absolute(each.path) for each in story.checkpoints}:
            return story
    nearest = next(_records_above(path), record)
    for story in newest_first:
        folders = {_absolute(each.path).parent for each in story.checkpoints}
        folders.update(map(_absolute, story.fit.checkpoint_folders))
        own = {_absolute(str(record)).parent, _absolute(story.fit.folder or str(record.parent))}
        # Lightning saves for SLURM in default_root_dir, above the folders of all loggers.
        is_signalled = path.name.startswith("hpc_ckpt") and any(path.parent in each.parents for each in own)
        is_below = nearest.resolve() == record.resolve() and not own.isdisjoint(path.parents)
        if path.parent in folders or is_below or is_signalled:
            return story
    return None


def _absolute(path: str) -> Path:
    return Path(path).absolute()


def _records_above(checkpoint: Path) -> Iterator[Path]:
    """Give the records in the folders above a checkpoint, the nearest first."""
    for folder in list(checkpoint.parents)[:_LEVELS_ABOVE]:
        if (folder / RECORD_NAME).is_file():
            yield folder / RECORD_NAME


def _earlier(checkpoint: str, record: Path, seen: frozenset[Path]) -> Story | None:
    """Find the run that wrote a checkpoint in the record beside it."""
    passed = seen | {record.resolve()}
    for earlier in _records_above(_absolute(checkpoint)):
        if earlier.resolve() not in passed:
            told, remarks = _stories_of(earlier, passed)
            story = _writer(checkpoint, [each.story for each in told], earlier)
            return None if story is None else replace(story, remarks=[*story.remarks, *remarks])
    return None


def _take(story: Story, event: FitBegan | PhaseBegan | EpochEnded | CheckpointSaved | FitEnded) -> None:
    if isinstance(event, PhaseBegan):
        while story.spans and story.spans[-1].began.phase > event.phase:
            story.spans.pop()  # it began at the very step from which a fit goes on in the phase before
        last = story.spans[-1] if story.spans else None
        if last is not None and last.began.phase == event.phase:
            last.end_epoch, last.end_step = event.epoch, event.step  # a resumed fit goes on in it
            return
        if last is not None:
            last.end_epoch, last.end_step = event.epoch, event.step
        story.spans.append(PhaseSpan(event, event.epoch, event.step))
    elif isinstance(event, EpochEnded):
        story.epochs[event.epoch] = event
        _extend(story, event.epoch + 1, event.step)
    elif isinstance(event, CheckpointSaved):
        story.checkpoints.append(event)
    elif isinstance(event, FitEnded):
        story.ended = event
        _extend(story, event.epoch, event.step)


def _extend(story: Story, epoch: int, step: int) -> None:
    for span in story.spans[-1:]:
        span.end_epoch, span.end_step = max(span.end_epoch, epoch), max(span.end_step, step)
