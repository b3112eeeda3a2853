"""One run into which a fault is injected, and what must hold of what it leaves behind, whatever the fault was."""

from __future__ import annotations

import hashlib
import json
import traceback
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import yaml

from fault_watch import Stand, Watching, standing
from phasewire.app import CheckpointError
from resuming import Job, Moment, Outcome, differences

SCHEDULE = {
    0: {"params": ["head.*"], "max_transition_epoch": 2},
    1: {"params": ["layers.[12].*"]},
    2: {"params": ["layers.0.*"], "max_transition_epoch": 6},
}
#: Phase 1 begins with epoch 2 and restores that of epoch 1; phase 2 begins with epoch 5.
JOB = Job(
    SCHEDULE,
    val_losses=(3.0, 2.0, 1.0, 4.0, 4.0, 0.5),
    lr_scheduler="lambda by step",
    patience=2,
)


@dataclass(frozen=True)
class Place:
    """From where a run goes on: exactly one file, or the start.

    Attributes:
        kind: The ``newest`` checkpoint of those to resume from, or the ``previous`` one, for the newest must be
            refused; the newest from ``before`` the fault, or the one ``previous to before``, for that must be refused;
            the newest ``best`` checkpoint, or the ``link`` to it; or the ``start``, where no checkpoint may be there.
        step: The global step at which it was saved.
    """

    kind: str
    step: int = 0


class Scene:
    """One run, in a folder of its own.

    Args:
        folder: What belongs to the case; the run's own files are in ``run``.
        job: What is trained.
        whole: What the run leaves that is not hit.
    """

    trainer: pl.Trainer
    knife: Injecting

    def __init__(self, folder: Path, job: Job, whole: Outcome) -> None:
        self.folder, self.job, self.whole = folder, job, whole
        self.run = folder / "run"
        self._damaged: set[str] = set()
        self._noted = False
        self._at_end: list[Callable[[], object]] = []

    @property
    def best(self) -> Path:
        """The best checkpoint there is now."""
        return max((self.run / "best").glob("*.ckpt"), key=step_of)

    @property
    def recovery(self) -> list[Path]:
        """The checkpoints to resume from, newest first: by what they hold, for a clock may be wrong."""
        return sorted((self.run / "recovery").glob("*.ckpt"), key=step_of, reverse=True)

    # -- while it trains -----------------------------------------------------------------------------------------

    def train(self, moment: Moment | None, act: Callable[[Scene], Any]) -> Outcome:
        """Train until the moment, act, and go on; with no moment, act on a run that was cut off, and resume it."""
        try:
            if moment is not None:
                return self.job.start(self.run, knife=Injecting(self, moment, act))
            self.job.start(self.run, cut=Moment("epoch saved", 2))
            newest = self.recovery[0]
            act(self)
            self.note_before()
            return self.job.start(self.run, knife=Injecting(self, None, act), ckpt_path=newest)
        finally:
            self.close()
            self._note_end()

    def spoil(self, path: Path) -> Path:
        """Note that a file is about to be destroyed by the fault."""
        self._damaged.add(str(path.relative_to(self.run)))
        return path

    def at_end(self, undo: Callable[[], object]) -> None:
        """Take a fault back when the run has ended."""
        self._at_end.append(undo)

    def close(self) -> None:
        """Take the fault back."""
        while self._at_end:
            self._at_end.pop()()

    def note_before(self) -> None:
        """Note the files that exist when the fault strikes; the first time counts."""
        if self._noted:
            return
        self._noted = True
        files = {str(path.relative_to(self.run)): digest_of(path) for path in files_of(self.run)}
        whole = {name: digest for name, digest in files.items() if name not in self._damaged}
        (self.folder / "before.json").write_text(json.dumps({"files": whole, "damaged": sorted(self._damaged)}))

    def _note_end(self) -> None:
        """Note where the run stands that was hit, with its weights, however it ended."""
        with suppress(AttributeError):  # it did not come as far as having a Trainer
            torch.save(
                {"stand": standing(self.trainer), "batches": self.knife.calls.get("batch starts", 0)},
                self._end_of(self.trainer.global_rank),
            )

    def _end_of(self, rank: int) -> Path:
        return self.folder / f"end{rank}.pt"

    def has_ended(self, rank: int) -> bool:
        """Whether the run of a process is over, in which no error is swallowed that the process ends with."""
        return self._end_of(rank).exists()

    def ended(self, rank: int = 0) -> tuple[Stand, int]:
        """Where the run that was hit ended, and how many batches it had begun."""
        end = torch.load(self._end_of(rank), weights_only=False)
        return end["stand"], end["batches"]

    @property
    def before(self) -> dict[str, str]:
        """The files that were there when the fault struck and that it left alone, with the digests of their bytes."""
        return self._read_note()["files"]

    @property
    def damaged(self) -> list[str]:
        """The files that the fault destroyed."""
        return self._read_note()["damaged"]

    def _read_note(self) -> dict[str, Any]:
        path = self.folder / "before.json"
        note: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"files": {}, "damaged": []}
        return note

    # -- what must hold ------------------------------------------------------------------------------------------

    def lost(self) -> list[str]:
        """Say which files were lost: gone, changed or unreadable, and not replaced by what the run goes on from."""
        noted = self._read_note()
        needed = self._named_by_newest()
        problems = []
        for name, digest in noted["files"].items():
            path = self.run / name
            if path.is_file():
                problems += [f"{name} cannot be read: {reason}" for reason in unreadable(path)]
                if path.suffix == ".ckpt" and not path.is_symlink() and digest_of(path) != digest != "":
                    problems.append(f"{name} was changed")
            elif path.parent.name != "best" or path.name in needed:
                problems.append(f"{name} is gone")
        return problems + [
            f"{path.name} is half a file"
            for path in self.run.rglob("*.ckpt")
            if str(path.relative_to(self.run)) not in noted["damaged"]
            for _ in unreadable(path)
        ]

    def _named_by_newest(self) -> set[str]:
        for path in self.recovery:
            if not list(unreadable(path)):
                states = torch.load(path, weights_only=True)["callbacks"]
                return {
                    Path(file).name
                    for key, state in states.items()
                    if key.startswith("FTSCheckpoint")
                    for file in state["best_k_models"]
                }
        return set()

    def drafts(self) -> list[str]:
        """Say what was left of files that were not finished."""
        return [f"{path.name} is left" for path in files_of(self.run) if "draft" in path.name]

    def go_on(self, place: Place, *, leaves_draft: bool = False) -> list[str]:
        """Resume without the fault from one place, and say what differs from a run that was never hit.

        Args:
            place: From where it must be possible. The run must stand there as one that was never hit stood after that
                step (phase, trained parameters, optimizer groups and their rates, weights), and end as that one does.
            leaves_draft: A half file stays, because a file of its name is not saved again.
        """
        if place.kind == "start":
            paths, problems = [None], [f"{path.name} was saved" for path in self.run.rglob("*.ckpt")]
        else:
            paths, problems = self._find(place)
        if problems:
            return problems
        *refused, path = paths
        there = {file: digest_of(file) for file in files_of(self.run / "best")}
        try:
            problems = [problem for newer in refused for problem in self._refused(newer)]
            resumed = self._resume(path)
        except Exception as error:  # noqa: BLE001 - it is told, whatever it is
            return [*problems, f"cannot go on from the {place.kind} of step {place.step}: {said(error)}"]
        problems += self._compared(resumed, place)
        if place.kind.endswith("before"):
            # The run that was hit went on, and saved other weights under the names that this one gives.
            changed = [file.name for file, digest in there.items() if file.is_file() and digest_of(file) != digest]
            problems += [f"{name} was written over" for name in changed]
        if leaves_draft:
            return problems + ([] if self.drafts() else ["the half file is gone"])
        return problems + self.drafts()

    def _find(self, place: Place) -> tuple[Sequence[Path | None], list[str]]:
        """Find the one file that a place means after those that must be refused, and say if it is another."""
        if place.kind == "link":
            path = self.run / "best" / "last.ckpt"
            step = torch.load(path, weights_only=True)["global_step"] if path.is_symlink() else None
            return [path], [] if step == place.step else [f"the link points to step {step}, not {place.step}"]
        folder = "best" if place.kind == "best" else "recovery"
        note = self._read_note()
        known = {name for name in (*note["files"], *note["damaged"]) if name.startswith(f"{folder}/")}
        if not place.kind.endswith("before"):
            known |= {f"{folder}/{path.name}" for path in (self.run / folder).glob("*.ckpt")}
        paths = sorted({self.run / name for name in known if name.endswith(".ckpt")}, key=step_of, reverse=True)
        steps = [step_of(path) for path in paths]
        index = 1 if place.kind.startswith("previous") else 0
        if len(steps) <= index or steps[index] != place.step:
            return [], [f"the {place.kind} checkpoint is not of step {place.step}: there are those of {steps}"]
        return paths[: index + 1], []

    def _refused(self, path: Path) -> list[str]:
        """Say if a run resumes from a checkpoint that must be refused."""
        try:
            self._resume(path)
        except CheckpointError:
            return []
        return [f"goes on from {path.name}, which was to be refused"]

    def _resume(self, path: Path | None) -> Outcome:
        schedule = SCHEDULE if self.job.schedule is None else self.job.schedule
        job = replace(self.job, adapter=None, schedule=schedule)
        return job.start(self.run, knife=Watching(), seed=None if path is None else 99, ckpt_path=path)

    def _compared(self, resumed: Outcome, place: Place) -> list[str]:
        whole, seen = self.whole.knife.seen, resumed.knife.seen
        found = []
        if seen.began is not None:
            found += differences(vars(whole.after[place.step]), vars(seen.began), "where it goes on")
        elif place.step < self.whole.everything()["global step"]:
            found.append("nothing is trained")
        found += differences(
            {step: stand for step, stand in whole.batches.items() if step >= place.step}, seen.batches, "batches"
        )
        found += differences([step for step in whole.restored if step >= place.step], seen.restored, "restored at")
        strict = place.kind in ("newest", "start", "link")
        found += differences(_lasting(self.whole, strict=strict), _lasting(resumed, strict=strict))
        if place.kind in ("newest", "link"):
            # What a run saved after that checkpoint is saved again, under the same names.
            found += differences(best_names(self.whole), best_names(resumed), "names of the best")
        return found + differences(best_weights(self.whole), best_weights(resumed))


class Injecting(Watching):
    """Acts at a moment instead of cutting off."""

    def __init__(self, scene: Scene, moment: Moment | None, act: Callable[[Scene], Any]) -> None:
        super().__init__(moment)
        self._scene, self._act = scene, act

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._scene.trainer, self._scene.knife = trainer, self

    def act(self, hook: str) -> None:
        self._act(self._scene)
        self._scene.note_before()

    def act_next(self, moment: Moment, act: Callable[[Scene], Any]) -> None:
        """Act once more, at a later moment."""
        self.moment, self._act = moment, act


def step_of(path: Path) -> int:
    """The step in the name of a checkpoint."""
    return int(path.stem.partition("step=")[2].partition("-")[0] or -1)


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def digest_of(path: Path) -> str:
    """A digest of the bytes of a file; empty where they may not be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except PermissionError:
        return ""


def best_weights(outcome: Outcome) -> dict[str, Any]:
    """What is in the best checkpoint of a run."""
    checkpoint = torch.load(outcome.trainer.checkpoint_callback.best_model_path, weights_only=True)
    return {key: checkpoint[key] for key in ("epoch", "global_step", "state_dict", "optimizer_states")}


def best_names(outcome: Outcome) -> list[str]:
    """The names of the files that are left in the folder of the best checkpoint."""
    return sorted(path.name for path in Path(outcome.trainer.checkpoint_callback.best_model_path).parent.iterdir())


def unreadable(path: Path) -> Iterator[str]:
    """Say why a file cannot be read, if it cannot."""
    try:
        if path.suffix == ".ckpt":
            torch.load(path, weights_only=True)
            with zipfile.ZipFile(path) as archive:
                if archive.testzip() is not None:
                    yield "a checksum is wrong"
        elif path.suffix == ".yaml":
            yaml.safe_load(path.read_text())
    except Exception as error:  # noqa: BLE001 - it is told, whatever it is
        yield f"{type(error).__name__}: {error}"


def said(error: BaseException) -> str:
    """What a user reads last: the error with its notes."""
    return "".join(traceback.format_exception_only(error)).strip()


def _lasting(outcome: Outcome, *, strict: bool) -> dict[str, Any]:
    everything = outcome.everything()
    if not strict:
        # What is called -v1 because another file is there, and counts of what was done twice.
        everything.pop("callbacks")
    return everything
