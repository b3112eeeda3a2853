"""Where the schedule of a fit comes from: the user's file, dict or object, or one generated for the module."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from phasewire.adapters import rank_zero
from phasewire.adapters.errors import AdapterError, ScheduleError
from phasewire.adapters.sharding import class_name
from phasewire.app.schedule.files import NotPlainError, load_schedule, save_schedule
from phasewire.app.trainer_attributes import is_dry_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import lightning.pytorch as pl

    from phasewire.app.schedule.model import Schedule

__all__ = [
    "generate_schedule_file",
    "log_folder",
    "obtain_schedule",
    "save_repaired_schedule",
    "save_used_schedule",
]

if TYPE_CHECKING:
    Generate = Callable[[str], os.PathLike[str] | None]


def log_folder(trainer: pl.Trainer, wanted: str | os.PathLike[str] | None) -> str:
    """Choose the folder for schedules; call it on all ranks.

    Args:
        trainer: The running Trainer.
        wanted: The setting ``log_dir``.

    Returns:
        What is wanted, or else the folder of the first logger, or else ``default_root_dir``.
    """
    return os.fspath(wanted) if wanted is not None else trainer.log_dir or trainer.default_root_dir


def generate_schedule_file(trainer: pl.Trainer, generate: Generate, folder: str) -> Path | None:
    """Let a schedule be generated and written; call it on all ranks.

    Args:
        trainer: The running Trainer.
        generate: Writes the schedule to a folder, and gives the path on rank 0.
        folder: The folder to write to.

    Returns:
        The path of the file; ``None`` on ranks other than 0.
    """
    path = generate(folder)
    if not trainer.is_global_zero:
        return None
    if path is None:
        return None
    # No full stop, here and below: it would be taken for a part of the path.
    rank_zero.info(
        f"No ft_schedule was given, so one was generated for {class_name(trainer.lightning_module)}. To change it, "
        f"edit the file and give it as ft_schedule: {os.fspath(path)}"
    )
    return Path(path)


def obtain_schedule(
    trainer: pl.Trainer,
    generate: Generate,
    given: str | os.PathLike[str] | Mapping[object, object] | Schedule | None,
    folder: str,
) -> Schedule:
    """Load the schedule that was given, or generate one; all ranks get what rank 0 read.

    Args:
        trainer: The running Trainer.
        generate: Writes a generated schedule to a folder, and gives the path on rank 0.
        given: The setting ``ft_schedule``.
        folder: The folder a generated schedule is written to.

    Returns:
        The schedule as it stands in the file.

    Raises:
        ScheduleError: The schedule cannot be read.
        AdapterError: None was given, and none was generated.
    """
    if given is not None:
        return load_schedule(given)
    with _nothing_left_of_a_dry_run(trainer, folder) as written_to:
        path = generate_schedule_file(trainer, generate, written_to)
        schedule = None if path is None else load_schedule(path)
    shared: Schedule | None = trainer.strategy.broadcast(schedule)
    if shared is None:
        raise AdapterError("Rank 0 generated no schedule.", remedy="See the error of rank 0.")
    return shared


@contextmanager
def _nothing_left_of_a_dry_run(trainer: pl.Trainer, folder: str) -> Iterator[str]:
    """Give the folder to generate in: with ``fast_dev_run`` one that is removed afterwards."""
    if not is_dry_run(trainer):
        yield folder
        return
    with TemporaryDirectory() as temporary:
        yield temporary


def save_repaired_schedule(error: ScheduleError, given: object, folder: str) -> Path | None:
    """Write the repaired schedule that an error proposes, beside no file that exists.

    Args:
        error: The error; only one that carries a repaired schedule is acted on.
        given: The setting ``ft_schedule``; its file name gives the stem.
        folder: The folder to write to.

    Returns:
        The path of the file; ``None`` when there is nothing to write.
    """
    repaired = getattr(error, "repaired", None)
    if repaired is None:
        return None
    stem = Path(given).stem if isinstance(given, (str, os.PathLike)) else "ft_schedule"
    path = save_schedule(repaired, Path(folder) / f"{stem}_valid.yaml")
    rank_zero.info(
        "The schedule cannot be used, as the error below says. One that is mended was written for you to check and to "
        f"give as ft_schedule: {path}"
    )
    return path


def save_used_schedule(schedule: Schedule, module: pl.LightningModule, folder: str) -> Path | None:
    """Keep the schedule of a run beside its logs.

    Args:
        schedule: The schedule as it was given.
        module: The module, whose class names the file.
        folder: The folder to write to.

    Returns:
        The path of the file; ``None`` if the schedule holds what only code can give, such as a function.

    Raises:
        ScheduleError: The file cannot be written.
    """
    try:
        return save_schedule(schedule, Path(folder) / f"{class_name(module)}_ft_schedule.yaml")
    except NotPlainError as error:
        rank_zero.info(
            f"The log folder gets no copy of the schedule, because it holds what only code can give. Training is not "
            f"affected. {error}"
        )
        return None
