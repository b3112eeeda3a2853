"""One run into which a fault is injected, and what must hold of what it leaves behind, whatever the fault was."""

from __future__ import annotations

import json
import traceback
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import yaml

from resuming import Job, Knife, Moment, Outcome, differences

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


class Scene:
    """One run, in a folder of its own.

    Args:
        folder: What belongs to the case; the run's own files are in ``run``.
        job: What is trained.
        whole: What the run leaves that is not hit.
    """

    trainer: pl.Trainer

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
            return self.job.start(self.run, ckpt_path=newest)
        finally:
            self.close()

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
        names = {str(path.relative_to(self.run)) for path in files_of(self.run)} - self._damaged
        note = {"files": sorted(names), "damaged": sorted(self._damaged)}
        (self.folder / "before.json").write_text(json.dumps(note))

    def _read_note(self) -> dict[str, list[str]]:
        path = self.folder / "before.json"
        note: dict[str, list[str]] = json.loads(path.read_text()) if path.exists() else {"files": [], "damaged": []}
        return note

    # -- what must hold ------------------------------------------------------------------------------------------

    def lost(self) -> list[str]:
        """Say which files were lost: gone or unreadable, and not replaced by what the run goes on from."""
        noted = self._read_note()
        needed = self._named_by_newest()
        problems = []
        for name in noted["files"]:
            path = self.run / name
            if path.is_file():
                problems += [f"{name} cannot be read: {reason}" for reason in unreadable(path)]
            elif path.parent.name != "best" or path.name in needed:
                problems.append(f"{name} is gone")
        return problems + [
            f"{path.name} is half a file"
            for path in (self.run / "recovery").glob("*.ckpt")
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

    def go_on(self, goes_on: str) -> list[str]:
        """Resume without the fault, and say what differs from a run that was never hit.

        Args:
            goes_on: From where it must be possible: the ``newest`` checkpoint, an ``earlier`` one, the newest from
                ``before`` the fault, or the ``start``; or one of several.
        """
        before = {Path(name).name for name in self._read_note()["files"]}
        candidates = [path for path in self.recovery if "before" not in goes_on or path.name in before]
        tried: list[str] = []
        attempts = ((path, self._resumed(path, tried)) for path in [*candidates, None])
        path, resumed = next((attempt for attempt in attempts if attempt[1] is not None), (None, None))
        if resumed is None:
            return [f"no resume is possible: {tried}"]
        used = "start" if path is None else "earlier" if path != candidates[0] else goes_on.split(maxsplit=1)[0]
        found = [] if used in goes_on.split() else [f"goes on from the {used}, not the {goes_on}: {tried}"]
        strict = used == "newest"
        found += differences(_lasting(self.whole, strict=strict), _lasting(resumed, strict=strict))
        found += differences(best_weights(self.whole), best_weights(resumed))
        return found + [f"{path.name} is left" for path in files_of(self.run) if "draft" in path.name]

    def _resumed(self, path: Path | None, tried: list[str]) -> Outcome | None:
        try:
            job = replace(self.job, adapter=None, schedule=SCHEDULE if self.job.schedule is None else self.job.schedule)
            return job.start(self.run, seed=None if path is None else 99, ckpt_path=path)
        except Exception as error:  # noqa: BLE001 - another checkpoint may do, and the test says if it should not
            tried.append(f"{path and path.name}: {said(error)}")
            return None


class Injecting(Knife):
    """Acts at a moment instead of cutting off."""

    def __init__(self, scene: Scene, moment: Moment | None, act: Callable[[Scene], Any]) -> None:
        super().__init__(moment)
        self._scene, self._act = scene, act

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._scene.trainer = trainer

    def act(self, hook: str) -> None:
        self._act(self._scene)
        self._scene.note_before()


def step_of(path: Path) -> int:
    """The step in the name of a checkpoint."""
    return int(path.stem.partition("step=")[2].partition("-")[0] or -1)


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def best_weights(outcome: Outcome) -> dict[str, Any]:
    """What is in the best checkpoint of a run."""
    checkpoint = torch.load(outcome.trainer.checkpoint_callback.best_model_path, weights_only=True)
    return {key: checkpoint[key] for key in ("epoch", "global_step", "state_dict", "optimizer_states")}


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
