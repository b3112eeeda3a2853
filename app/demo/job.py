"""The demo's experiment: pretrain once a seed, tune in every way, measure, and leave a run folder."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.progress import Progress, TaskID
from torch import Tensor

from phasewire.adapters.errors import ConfigError
from phasewire.app.demo.report import RunResult, summarize, write_metrics
from phasewire.app.demo.surroundings import lightning_errors_only, single_thread
from phasewire.app.demo.training import Training, read_checkpoint
from phasewire.app.demo.wiring import PRETRAIN, DemoWiring
from phasewire.app.plan import build_model, plan_schedule
from phasewire.app.report import REPORT_NAME, write_report
from phasewire.app.schedule.files import load_schedule, save_schedule
from phasewire.app.watching.run_record import RECORD_NAME
from phasewire.app.wired import Wired

__all__ = ["BEST_CHECKPOINT", "DemoJob", "new_run_folder", "report_of"]

#: The copy of the best checkpoint in the run folder.
BEST_CHECKPOINT = "best.ckpt"


class DemoJob:
    """Runs the experiment that ``demo.yaml`` describes.

    Args:
        wiring: What to run.
        new_container: Makes an empty container; each training is configured and built by its own.
        progress: Where progress is shown.

    Raises:
        PhasewireError: The configuration of a training cannot be used; nothing was trained or written.
    """

    def __init__(self, wiring: DemoWiring, new_container: Callable[[], Wired], progress: Progress) -> None:
        self._wiring = wiring
        self._new_container = new_container
        self._progress = progress
        with lightning_errors_only():
            for run in (PRETRAIN, *wiring.ways):
                _check(new_container(), wiring.settings_of(run, wiring.seeds[0], Path(run)))

    def run(self, folder: Path) -> tuple[RunResult, ...]:
        """Train everything, and write metrics, schedules and the best checkpoint.

        Args:
            folder: An empty folder, such as :func:`new_run_folder` makes.

        Returns:
            One result for each seed and way.

        Raises:
            PhasewireError: A training cannot be set up.
        """
        results: list[RunResult] = []
        task = self._progress.add_task("", total=self._epochs())
        with lightning_errors_only(), single_thread():
            for seed in self._wiring.seeds:
                pretrained = self._pretrain(seed, folder, task)
                results += [self._tune(way, seed, folder, pretrained, task) for way in self._wiring.ways]
        write_metrics(folder, results, summarize(results))
        best = min(results, key=lambda result: result.val_loss)
        shutil.copyfile(folder / best.checkpoint, folder / BEST_CHECKPOINT)
        return tuple(results)

    def _pretrain(self, seed: int, folder: Path, task: TaskID) -> Path:
        training = self._training(PRETRAIN, seed, folder, pretrained=None)
        self._progress.update(task, description=f"seed {seed}: {PRETRAIN}")
        training.train(self._progress, task)
        return training.best_checkpoint

    def _tune(self, way: str, seed: int, folder: Path, pretrained: Path, task: TaskID) -> RunResult:
        training = self._training(way, seed, folder, pretrained)
        self._progress.update(task, description=f"seed {seed}: {way}")
        start = training.parameters_at_start(pretrained)
        seconds = training.train(self._progress, task)
        steps = training.steps
        save_schedule(training.schedule, folder / f"{way}_schedule.yaml")
        best = read_checkpoint(training.best_checkpoint)
        validated = training.validate_best()
        return RunResult(
            way=way,
            seed=seed,
            test_accuracy=training.test_best()["test_accuracy"],
            val_accuracy=validated["val_accuracy"],
            val_loss=validated["val_loss"],
            trained_parameters=_elements_changed(start, best["state_dict"]),
            total_parameters=sum(tensor.numel() for tensor in start.values()),
            best_epoch=best["epoch"],
            steps=steps,
            seconds=round(seconds, 3),
            checkpoint=training.best_checkpoint.relative_to(folder).as_posix(),
        )

    def _training(self, run: str, seed: int, folder: Path, pretrained: Path | None) -> Training:
        own_folder = folder / f"seed-{seed}" / run
        settings = self._wiring.settings_of(run, seed, own_folder, None if pretrained is None else str(pretrained))
        return Training(settings, own_folder, self._new_container())

    def _epochs(self) -> int:
        one_seed = sum(
            self._wiring.settings_of(run, 0, Path())["trainer"].get("max_epochs") or 0
            for run in (PRETRAIN, *self._wiring.ways)
        )
        return one_seed * len(self._wiring.seeds)


def report_of(folder: Path, results: Sequence[RunResult]) -> Path | None:
    """Write the report of the run that went through the most phases; of several, of the one with the lowest loss.

    Args:
        folder: The run folder.
        results: What was trained.

    Returns:
        The page; ``None`` without matplotlib, or where the configuration lets runs leave no record.
    """
    if find_spec("matplotlib") is None:
        return None
    phases = {way: len(load_schedule(folder / f"{way}_schedule.yaml").phases) for way in {each.way for each in results}}
    shown = min(results, key=lambda result: (-phases[result.way], result.val_loss))
    record = next((folder / shown.checkpoint).parents[2].rglob(RECORD_NAME), None)
    return None if record is None else write_report(record, folder / REPORT_NAME)


def new_run_folder(wanted: Path) -> Path:
    """Create a folder that did not exist.

    Args:
        wanted: The folder; where it exists, a number is added to its name.

    Returns:
        The absolute path of the folder that was created.

    Raises:
        ConfigError: The folder cannot be created.
    """
    wanted = wanted.absolute()
    try:
        wanted.parent.mkdir(parents=True, exist_ok=True)
        return next(folder for folder in _numbered(wanted) if _create(folder))
    except OSError as error:
        raise ConfigError(
            f"The run folder {wanted} cannot be created: {error.strerror}.",
            where="--output",
            remedy="Give --output a folder that you may write to.",
        ) from error


def _numbered(path: Path) -> Iterator[Path]:
    yield path
    for number in itertools.count(1):
        yield path.with_name(f"{path.name}-{number}")


def _create(folder: Path) -> bool:
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    return True


# Any: the sections of config.yaml.
def _check(container: Wired, settings: Mapping[str, Any]) -> None:
    """Build everything a training needs but its weights, and see whether the schedule fits the model."""
    container.config.from_dict(settings)
    scheduler = container.settings().scheduler
    schedule = None if scheduler.ft_schedule is None else load_schedule(scheduler.ft_schedule)
    plan_schedule(build_model(container.model), schedule, scheduler, container.validator())
    data = container.datamodule()
    if data is not None:
        data.setup("fit")
    container.trainer()


def _elements_changed(start: Mapping[str, Tensor], end: Mapping[str, Tensor]) -> int:
    return sum(before.numel() for name, before in start.items() if not before.equal(end[name]))
