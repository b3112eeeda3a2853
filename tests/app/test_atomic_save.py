"""Checkpoints are written beside their place and renamed, and nothing half done is left where anyone looks."""

import fcntl
import os
from pathlib import Path

import pytest
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins import AsyncCheckpointIO

from phasewire.app import FinetuningScheduler, FTSCheckpoint, FTSEarlyStopping
from phasewire.app.atomic_save import AtomicCheckpointIO, replace_link
from tuning import TunedModule, fit, make_trainer


class Unsavable:
    """What makes a save fail in the middle."""

    def __reduce__(self):
        raise OSError("the disk is full")


def save(content, path):
    AtomicCheckpointIO().save_checkpoint({"content": content}, path)


def content_of(path):
    return torch.load(path, weights_only=True)["content"]


def leftover_of(path):
    """What a process leaves that is killed while it saves a file."""
    draft = path.with_name(f".{path.name}.0123456789abcdef.phasewire-draft")
    draft.write_bytes(b"half a check")
    return draft


def test_a_checkpoint_replaces_the_one_before_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "deep" / "er" / "a.ckpt"

    save(1, path)
    save(2, path)

    assert content_of(path) == 2
    assert list(path.parent.iterdir()) == [path]


def test_a_save_that_fails_leaves_the_checkpoint_before_it(tmp_path):
    save(1, tmp_path / "a.ckpt")

    with pytest.raises(OSError, match="the disk is full"):
        save([torch.ones(9), Unsavable()], tmp_path / "a.ckpt")

    assert content_of(tmp_path / "a.ckpt") == 1
    assert list(tmp_path.iterdir()) == [tmp_path / "a.ckpt"]


def test_the_file_is_on_the_disk_before_it_gets_its_name_and_the_name_after(tmp_path, monkeypatch):
    events = []
    sync, rename = os.fsync, os.replace

    def noting_sync(descriptor):
        events.append(("sync", Path(f"/proc/self/fd/{descriptor}").readlink()))
        sync(descriptor)

    def noting_rename(source, target):
        events.append(("rename", Path(source)))
        rename(source, target)

    monkeypatch.setattr(os, "fsync", noting_sync)
    monkeypatch.setattr(os, "replace", noting_rename)

    save(1, tmp_path / "a.ckpt")

    (_, draft), *_ = events
    assert draft.parent == tmp_path
    assert events == [("sync", draft), ("rename", draft), ("sync", tmp_path)]


@pytest.mark.parametrize("name", ["a.ckpt", "last.ckpt", "hpc_ckpt_3.ckpt"])
def test_nobody_takes_a_half_written_file_for_a_checkpoint(tmp_path, monkeypatch, name):
    seen = []
    sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (seen.extend(tmp_path.iterdir()), sync(descriptor)))

    save(1, tmp_path / name)

    draft, _ = seen
    assert draft.suffix != ".ckpt"
    assert not draft.name.startswith("last")
    assert "hpc_ckpt_" not in draft.name


def test_what_a_killed_save_left_is_removed_by_the_next_save_of_that_file(tmp_path):
    abandoned = leftover_of(tmp_path / "a.ckpt")
    of_another = leftover_of(tmp_path / "b.ckpt")
    of_the_user = tmp_path / ".a.ckpt.swp"
    of_the_user.write_text("mine")

    save(1, tmp_path / "a.ckpt")

    assert not abandoned.exists()
    assert of_another.exists()
    assert of_the_user.exists()


def test_what_another_process_is_saving_is_not_removed(tmp_path):
    draft = leftover_of(tmp_path / "a.ckpt")
    with draft.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)

        save(1, tmp_path / "a.ckpt")

        assert draft.exists()


def test_a_file_that_another_process_took_for_left_over_before_it_was_locked_is_begun_again(tmp_path, monkeypatch):
    lock, taken = fcntl.flock, []

    def locked_too_late(file, operation):
        if not taken:
            taken.extend(tmp_path.glob(".a.ckpt.*"))
            taken[0].unlink()  # as another run does that saves a file of this name
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", locked_too_late)

    save(1, tmp_path / "a.ckpt")

    assert taken
    assert content_of(tmp_path / "a.ckpt") == 1
    assert list(tmp_path.iterdir()) == [tmp_path / "a.ckpt"]


def test_the_home_folder_may_be_written_as_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))

    save(1, "~/a.ckpt")

    assert content_of(tmp_path / "a.ckpt") == 1


def test_what_is_no_local_path_goes_lightnings_way():
    save(1, "memory://folder/a.ckpt")

    assert AtomicCheckpointIO().load_checkpoint("memory://folder/a.ckpt", weights_only=True) == {"content": 1}


def test_storage_options_are_refused_as_lightning_does(tmp_path):
    with pytest.raises(TypeError, match="storage_options"):
        AtomicCheckpointIO().save_checkpoint({}, tmp_path / "a.ckpt", storage_options={})


def test_a_link_is_replaced_with_no_moment_without_one(tmp_path, monkeypatch):
    first, second, link = tmp_path / "1", tmp_path / "2", tmp_path / "link"
    first.write_text("1")
    second.write_text("2")
    replace_link(link, first)
    there = []
    rename = os.replace
    monkeypatch.setattr(os, "replace", lambda *paths: (there.append(link.read_text()), rename(*paths)))

    replace_link(link, second)

    assert there == ["1"]
    assert link.readlink() == Path("2")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2", "link"]


def test_where_links_are_not_allowed_the_file_is_copied(tmp_path, monkeypatch):
    def refused(*_):
        raise OSError("a privilege is not held")

    monkeypatch.setattr(os, "symlink", refused)
    (tmp_path / "1").write_text("1")

    replace_link(tmp_path / "link", tmp_path / "1")

    assert (tmp_path / "link").read_text() == "1"
    assert not (tmp_path / "link").is_symlink()


# -- in a fit ------------------------------------------------------------------------------------------------------

SAVED = ["best-epoch=0.ckpt", "epoch=0.ckpt", "best-epoch=1.ckpt", "epoch=1.ckpt"]


def run(folder, **options):
    trainer = make_trainer(
        folder,
        FinetuningScheduler({0: {"params": ["head.*"]}}, restore_best=False),
        FTSEarlyStopping("val_loss"),
        FTSCheckpoint(folder / "best", monitor="val_loss", filename="best-{epoch}", save_top_k=-1),
        ModelCheckpoint(folder / "recovery", filename="{epoch}", save_top_k=-1),
        max_epochs=2,
        **options,
    )
    fit(trainer, TunedModule())
    return trainer


@pytest.fixture
def renames(monkeypatch):
    """The names of the files that were renamed to something."""
    names = []
    rename = os.replace
    monkeypatch.setattr(os, "replace", lambda source, target: (names.append(Path(target).name), rename(source, target)))
    return names


def test_every_checkpoint_of_a_fit_is_saved_so(tmp_path, renames):
    trainer = run(tmp_path)
    trainer.save_checkpoint(tmp_path / "after.ckpt")  # the run is over: Lightning's own way again

    assert renames == SAVED
    assert type(trainer.strategy.checkpoint_io) is TorchCheckpointIO


class Own(TorchCheckpointIO):
    """A plug-in of the user."""

    def __init__(self):
        self.saved = []

    def save_checkpoint(self, checkpoint, path, storage_options=None):
        self.saved.append(Path(path).name)
        super().save_checkpoint(checkpoint, path, storage_options)


def test_a_plug_in_of_the_user_saves_by_itself(tmp_path, renames):
    plugin = Own()

    trainer = run(tmp_path, plugins=[plugin])

    assert plugin.saved == SAVED
    assert renames == []
    assert trainer.strategy.checkpoint_io is plugin


def test_an_asynchronous_plug_in_saves_as_what_it_wraps_does(tmp_path, renames):
    run(tmp_path, plugins=[AsyncCheckpointIO(AtomicCheckpointIO())])

    assert renames == SAVED
