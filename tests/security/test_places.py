"""Whatever names a schedule, a module or a checkpoint has, a run writes into its own folder and nowhere else."""

from __future__ import annotations

import os
import re
import stat
import tempfile
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import nn

from phasewire.adapters import ScheduleError, StrategyAdapter
from phasewire.app import FinetuningScheduler, FTSCheckpoint, FTSEarlyStopping
from phasewire.app.atomic_save import draft_of
from phasewire.app.new_file import write_new_text
from phasewire.app.schedule.files import load_schedule, save_schedule
from tuning import TunedModule, fit, make_trainer

HOSTILE = ["../../escaped", "/escaped", "a/../../escaped", "x\0y", "n" * 300, "~/escaped", "$HOME", "<b>&amp;"]
pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty:UserWarning")


def files_in(folder: Path) -> dict[Path, int]:
    return {path: path.lstat().st_mtime_ns for path in folder.rglob("*") if not path.is_dir()}


@pytest.fixture
def run_folder(tmp_path, monkeypatch) -> Path:
    """A folder beside which lies what must not be touched; temporary files go there, too."""
    for name in ("victim.ckpt", "victim.yaml"):
        tmp_path.joinpath(name).write_text("keep me")
    folder = tmp_path / "deep" / "run"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


class Named(TunedModule):
    """Has parts with the names that Python and torch allow, slashes and all."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({name: nn.Linear(4, 4)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(next(iter(self.parts.values()))(x))


@pytest.mark.parametrize("name", ["a/b", "/escaped", "x\0y", "n" * 300, "~", "$HOME", "<b>&amp;"])
def test_names_of_modules_lead_nowhere(name, run_folder, tmp_path) -> None:
    outside = {path for path in files_in(tmp_path) if run_folder not in path.parents}
    scheduler = FinetuningScheduler(max_depth=1, base_max_lr=0.1)
    trainer = make_trainer(run_folder, scheduler, FTSCheckpoint(run_folder, monitor="val_loss"), max_epochs=1)
    fit(trainer, Named(name))
    after = {path for path in files_in(tmp_path) if run_folder not in path.parents}
    assert after == outside
    assert list(run_folder.rglob("*.ckpt"))


@pytest.mark.parametrize("name", HOSTILE)
def test_names_in_a_schedule_lead_nowhere(name, run_folder, tmp_path) -> None:
    outside = {path for path in files_in(tmp_path) if run_folder not in path.parents}
    step = {"class_path": "torch.optim.lr_scheduler.StepLR", "init_args": {"step_size": 1}}
    renewed = {"lr_scheduler_init": step, "pl_lrs_cfg": {"name": name}}
    schedule = {
        0: {"params": ["head.*"], "max_transition_epoch": 1},
        1: {"params": ["layers.1.*"], "new_lr_scheduler": renewed},
    }
    checkpoint = FTSCheckpoint(run_folder, monitor="val_loss", save_last=True)
    trainer = make_trainer(run_folder, FinetuningScheduler(ft_schedule=schedule), checkpoint, max_epochs=2)
    fit(trainer, TunedModule(scheduler=lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 1)))
    assert {path for path in files_in(tmp_path) if run_folder not in path.parents} == outside


class Logging(TunedModule):
    """Logs its validation loss under another name."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def validation_step(self, batch: list[torch.Tensor], batch_idx: int) -> None:
        self.log(self.name, nn.functional.mse_loss(self(batch[0]), batch[1]))


@pytest.mark.parametrize("name", ["../../escaped", "/escaped", "x\0y", "n" * 300, "<b>&amp;"])
def test_names_of_metrics_lead_nowhere(name, run_folder, tmp_path) -> None:
    outside = {path for path in files_in(tmp_path) if run_folder not in path.parents}
    callbacks = FTSEarlyStopping(name, patience=1), FTSCheckpoint(run_folder, monitor=name, save_last=True)
    scheduler = FinetuningScheduler(ft_schedule={0: {"params": ["head.*"]}})
    trainer = make_trainer(run_folder, scheduler, *callbacks, logger=CSVLogger(run_folder), max_epochs=1)
    fit(trainer, Logging(name))
    assert {path for path in files_in(tmp_path) if run_folder not in path.parents} == outside
    assert trainer.checkpoint_callback.best_model_score is not None


@pytest.mark.parametrize("name", HOSTILE)
def test_what_stands_in_a_phase_leads_nowhere(name, run_folder, tmp_path) -> None:
    """The schedule has a gap, so that a repaired one is written."""
    outside = {path for path in files_in(tmp_path) if run_folder not in path.parents}
    schedule = {0: {"params": ["head.*"]}, 2: {"params": [name]}}
    callbacks = FinetuningScheduler(ft_schedule=schedule), FTSCheckpoint(run_folder, monitor="val_loss")
    trainer = make_trainer(run_folder, *callbacks, max_epochs=1)
    with pytest.raises(ScheduleError):
        fit(trainer, TunedModule())
    assert {path for path in files_in(tmp_path) if run_folder not in path.parents} == outside


@pytest.mark.parametrize("victim", ["../../victim.ckpt", "{folder}/../../victim.ckpt", "{outside}/victim.ckpt"])
@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`:UserWarning")
def test_a_checkpoint_cannot_have_files_of_others_removed(victim, run_folder, tmp_path) -> None:
    schedule = {0: {"params": ["head.*"]}}

    def run(epochs: int, ckpt_path: Path | None = None) -> None:
        checkpoint = FTSCheckpoint(run_folder, monitor="val_loss", save_last=True)
        trainer = make_trainer(run_folder, FinetuningScheduler(ft_schedule=schedule), checkpoint, max_epochs=epochs)
        fit(trainer, TunedModule([5.0, 4.0, 3.0]), ckpt_path=ckpt_path)

    run(1)
    saved = torch.load(run_folder / "last.ckpt", weights_only=True)
    named = victim.format(folder=run_folder, outside=tmp_path)
    for key, state in saved["callbacks"].items():
        if "best_k_models" in state:
            score = torch.tensor(9.0)
            saved["callbacks"][key] = {
                **state,
                "best_k_models": {named: score},
                "kth_best_model_path": named,
                "kth_value": score,
                "best_model_path": named,
                "best_model_score": score,
                "last_model_path": named,
            }
    saved["callbacks"]["phasewire.FinetuningScheduler"]["put_off"] = [named]
    torch.save(saved, crafted := run_folder / "crafted.ckpt")
    run(3, crafted)
    assert tmp_path.joinpath("victim.ckpt").read_text() == "keep me"


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`:UserWarning")
def test_nor_through_a_link_in_the_folder(run_folder, tmp_path) -> None:
    tmp_path.joinpath("logs").mkdir()
    run_folder.joinpath("logs").symlink_to(tmp_path / "logs")

    def run(epochs: int, ckpt_path: Path | None = None) -> None:
        scheduler = FinetuningScheduler(ft_schedule={0: {"params": ["head.*"]}})
        checkpoint = FTSCheckpoint(run_folder, monitor="val_loss", save_last=True)
        fit(make_trainer(run_folder, scheduler, checkpoint, max_epochs=epochs), TunedModule(), ckpt_path=ckpt_path)

    run(1)
    saved = torch.load(run_folder / "last.ckpt", weights_only=True)
    saved["callbacks"]["phasewire.FinetuningScheduler"]["put_off"] = [f"{run_folder}/logs/../victim.ckpt"]
    torch.save(saved, crafted := run_folder / "crafted.ckpt")
    run(3, crafted)
    assert tmp_path.joinpath("victim.ckpt").read_text() == "keep me"


@pytest.mark.parametrize("name", ["x\0y.yaml", "n" * 300 + ".yaml"])
@pytest.mark.parametrize("use", [load_schedule, lambda path: save_schedule({0: {"params": ["a"]}}, path)])
def test_a_name_that_no_file_can_have_is_refused(use, name, run_folder) -> None:
    with pytest.raises(ScheduleError):
        use(run_folder / name)


def test_the_home_folder_of_nobody_is_refused() -> None:
    with pytest.raises(ScheduleError, match="no home folder"):
        load_schedule("~nobody-of-that-name/schedule.yaml")


def test_a_link_in_the_place_of_a_file_is_replaced_and_not_followed(run_folder, tmp_path) -> None:
    link = run_folder / "best.ckpt"
    link.symlink_to(tmp_path / "victim.ckpt")
    with draft_of(link) as file:
        file.write(b"new")
    assert tmp_path.joinpath("victim.ckpt").read_text() == "keep me"
    assert link.read_bytes() == b"new"


@pytest.mark.parametrize(("mask", "mode"), [(0o077, 0o600), (0o022, 0o644)])
def test_a_draft_is_as_private_as_the_file_will_be(mask, mode, run_folder) -> None:
    before = os.umask(mask)
    try:
        with draft_of(run_folder / "best.ckpt") as file:
            assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) == mode
        written = [run_folder / "best.ckpt", write_new_text(run_folder / "schedule.yaml", "0:")]
    finally:
        os.umask(before)
    assert [stat.S_IMODE(path.stat().st_mode) for path in written] == [mode, mode]


class NotesTheMode(StrategyAdapter):
    """Notes who may read the folder that it writes a schedule to."""

    modes: ClassVar[list[int]] = []

    def gen_ft_schedule(self, dump_loc):
        self.modes.append(stat.S_IMODE(Path(dump_loc).stat().st_mode))
        return super().gen_ft_schedule(dump_loc)


def test_a_temporary_folder_is_private_whatever_the_umask(run_folder) -> None:
    before = os.umask(0)
    try:
        scheduler = FinetuningScheduler(custom_strategy_adapters={"auto": NotesTheMode})
        checkpoint = FTSCheckpoint(run_folder, monitor="val_loss")
        fit(make_trainer(run_folder, scheduler, checkpoint, fast_dev_run=True), TunedModule())
    finally:
        os.umask(before)
    assert NotesTheMode.modes == [0o700]


def test_every_temporary_file_is_made_by_tempfile(repository) -> None:
    """``tempfile`` makes folders and files that nobody else may read; only the names of other ways are looked for."""
    sources = [path for folder in ("app", "adapters", "containers") for path in (repository / folder).rglob("*.py")]
    assert [path for path in sources if re.search(r"mktemp\(|gettempdir|[\"']/tmp", path.read_text())] == []
