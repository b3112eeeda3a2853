"""A checkpoint whose bytes changed since it was written is refused wherever it is read."""

import zipfile

import pytest
import torch

from fault_injections import flip_bit
from phasewire.adapters import Piece
from phasewire.adapters.tensor_layout import Layout
from phasewire.app import CheckpointError, FinetuningScheduler, FTSCheckpoint, FTSEarlyStopping
from phasewire.app.convert import KnownNames, convert
from phasewire.app.phases.undamaged import SavedFiles, require_undamaged
from tuning import Batches, TunedModule, fit, make_trainer

SCHEDULE = {0: {"params": ["head.*"], "max_transition_epoch": 1}, 1: {"params": ["layers.1.*"]}}


def trainer_for(folder):
    return make_trainer(
        folder,
        FinetuningScheduler(SCHEDULE),
        FTSEarlyStopping("val_loss", patience=9),
        FTSCheckpoint(folder / "best", monitor="val_loss", filename="best"),
        max_epochs=2,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    fit(trainer_for(folder), TunedModule())
    return folder / "best" / "best.ckpt"


@pytest.fixture
def flipped(trained, tmp_path):
    path = tmp_path / "flipped.ckpt"
    path.write_bytes(trained.read_bytes())
    flip_bit(path, "data/0")
    return path


@pytest.fixture
def converted(trained, tmp_path):
    """The checkpoint under other names, one tensor transposed, and back under its own."""
    own = torch.load(trained, weights_only=True)["state_dict"]
    pieces = {name: Piece(f"other.{name}") for name in own}
    known = KnownNames({"other": Layout({**pieces, "head.weight": Piece("other.head", transposed=True)})}, {})
    convert(trained, tmp_path / "other.ckpt", "other", known=known)
    convert(tmp_path / "other.ckpt", tmp_path / "converted.ckpt", "canonical", known=known)
    return tmp_path / "converted.ckpt"


def test_torch_itself_loads_a_weight_with_a_flipped_bit(trained, flipped):
    # If it no longer does, the comparison is of no use.
    states = [torch.load(path, weights_only=True)["state_dict"] for path in (trained, flipped)]
    assert any(not torch.equal(value, states[1][name]) for name, value in states[0].items())


@pytest.mark.parametrize("entry_point", ["fit", "validate", "test", "predict"])
def test_it_is_refused_wherever_it_is_read(flipped, tmp_path, entry_point):
    trainer = trainer_for(tmp_path)
    data = [Batches(), Batches(1)] if entry_point == "fit" else [Batches()]
    with pytest.raises(CheckpointError, match=r"flipped\.ckpt: The checkpoint is damaged: data/0 .* earlier one"):
        getattr(trainer, entry_point)(TunedModule(), *data, ckpt_path=flipped)


def test_a_whole_one_is_read(trained):
    require_undamaged(trained)


@pytest.mark.parametrize("entry_point", ["fit", "validate", "test", "predict"])
def test_a_converted_one_is_read_wherever_checkpoints_are(converted, tmp_path, entry_point):
    module = TunedModule()
    trainer = trainer_for(tmp_path)
    data = [Batches(), Batches(1)] if entry_point == "fit" else [Batches()]
    getattr(trainer, entry_point)(module, *data, ckpt_path=converted)
    if entry_point != "fit":
        for name, value in torch.load(converted, weights_only=True)["state_dict"].items():
            assert torch.equal(value, module.state_dict()[name]), name


def test_a_converted_one_with_a_flipped_bit_is_refused(converted, tmp_path):
    flip_bit(converted, "data/0")
    with pytest.raises(CheckpointError, match=r"converted\.ckpt: The checkpoint is damaged: data/0 "):
        trainer_for(tmp_path).fit(TunedModule(), Batches(), Batches(1), ckpt_path=converted)


def test_a_file_that_was_saved_just_now_is_not_looked_at_until_it_changes(trained, tmp_path, monkeypatch):
    path, files, looks = tmp_path / "own.ckpt", SavedFiles(), []
    path.write_bytes(trained.read_bytes())
    files.note(path)
    is_zipfile = zipfile.is_zipfile
    monkeypatch.setattr(zipfile, "is_zipfile", lambda file: (looks.append(file), is_zipfile(file))[1])

    files.require_undamaged(path)
    assert looks == []
    flip_bit(path, "data/0")
    with pytest.raises(CheckpointError, match="damaged"):
        files.require_undamaged(path)
    assert len(looks) == 1


@pytest.fixture
def without_checksums(trained, tmp_path):
    content = torch.load(trained, weights_only=True)
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(content, tmp_path / "without.ckpt")
    finally:
        torch.serialization.set_crc32_options(True)
    return tmp_path / "without.ckpt"


@pytest.mark.parametrize("is_on", [True, False])
def test_a_file_saved_without_checksums_is_read_whatever_the_option_is_now(without_checksums, tmp_path, is_on):
    torch.serialization.set_crc32_options(is_on)
    try:
        trainer_for(tmp_path).fit(TunedModule(), Batches(), Batches(1), ckpt_path=without_checksums)
    finally:
        torch.serialization.set_crc32_options(True)


def test_a_file_with_checksums_is_compared_also_where_new_ones_get_none(flipped):
    torch.serialization.set_crc32_options(False)
    try:
        with pytest.raises(CheckpointError, match="damaged: data/0"):
            require_undamaged(flipped)
    finally:
        torch.serialization.set_crc32_options(True)


def test_of_a_file_saved_without_its_data_the_rest_is_compared(tmp_path):
    with torch.serialization.skip_data():
        torch.save({"weight": torch.rand(9)}, tmp_path / "a.ckpt")
    require_undamaged(tmp_path / "a.ckpt")
    flip_bit(tmp_path / "a.ckpt", "data.pkl")
    with pytest.raises(CheckpointError, match=r"damaged: data\.pkl"):
        require_undamaged(tmp_path / "a.ckpt")


def test_what_is_no_archive_is_left_to_what_reads_it(tmp_path):
    (tmp_path / "text").write_text("no archive")
    (tmp_path / "folder").mkdir()
    for place in (tmp_path / "text", tmp_path / "folder", "memory://a.ckpt"):
        require_undamaged(place)


def test_of_a_page_of_text_nobody_is_told_to_allow_more(tmp_path):
    (tmp_path / "a.ckpt").write_text("<html>404</html>")
    with pytest.raises(CheckpointError, match=r"cannot be read \(it is no checkpoint of torch, or damaged\)") as raised:
        trainer_for(tmp_path).validate(TunedModule(), Batches(), ckpt_path=tmp_path / "a.ckpt")
    assert "weights_only" not in str(raised.value)
