"""Files are converted to the bit, one tensor at a time, and whole or not at all."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from phasewire.adapters import CheckpointError, Piece, Renaming
from phasewire.adapters.tensor_layout import Layout
from phasewire.app import tensor_writers
from phasewire.app.convert import KnownNames, convert
from phasewire.app.steady_writer import SteadyWriter

DTYPES = [
    "float64",
    "float32",
    "float16",
    "bfloat16",
    "float8_e4m3fn",
    "float8_e5m2",
    "int64",
    "int32",
    "int16",
    "int8",
]
DTYPES += ["uint8", "uint16", "uint32", "uint64", "bool", "complex64"]


def known(own, pieces=None, tied=None) -> KnownNames:
    layout = Renaming({"layers": "blocks"}).layout(own)
    return KnownNames({"blocks": Layout({**layout.pieces, **(pieces or {})})}, tied or {})


JOINT = {"q": Piece("qk", 1, ((0, 2),), transposed=True), "k": Piece("qk", 1, ((2, 2),), transposed=True)}


@pytest.fixture
def state():
    generator = torch.Generator().manual_seed(0)
    state = {f"layers.{n}.weight": torch.randn(3, n + 1, generator=generator) for n in range(3)}
    state |= {"q": torch.randn(2, 5, generator=generator), "k": torch.randn(2, 5, generator=generator)}
    state |= {"step": torch.tensor(3), "empty": torch.empty(0, 4)}
    return {**state, "tied": state["layers.0.weight"]}


@pytest.fixture
def checkpoint(state, tmp_path):
    """A Lightning checkpoint that records its names."""
    names = known(state, JOINT, {"tied": "layers.0.weight"})
    record = {**names.record(), "parameter_names": "module"}
    optimizer = {"state": {0: {"exp_avg": torch.ones(3, 1)}, 1: {"exp_avg": state["q"][:, :2]}}}
    path = tmp_path / "in.ckpt"
    torch.save({"state_dict": state, "optimizer_states": [optimizer], "epoch": 4, "phasewire": record}, path)
    return path


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert value.dtype == other[name].dtype
        assert torch.equal(value, other[name]), name


def load(path: Path, **options):
    return torch.load(path, weights_only=True, **options)


@pytest.mark.parametrize("mmap", [True, False])
def test_a_checkpoint_keeps_all_that_it_holds_and_gets_other_names(checkpoint, state, tmp_path, mmap):
    done = convert(checkpoint, tmp_path / "out.ckpt", "blocks")
    assert (done.given, done.written, done.tensors, done.left_out) == ("module", "blocks", 7, ())
    converted = load(tmp_path / "out.ckpt", mmap=mmap)
    stored = converted["state_dict"]
    assert list(stored) == [*(f"blocks.{n}.weight" for n in range(3)), "qk", "step", "empty", "tied"]
    assert torch.equal(stored["qk"], torch.cat([state["q"], state["k"]]).T)
    assert stored["qk"].is_contiguous()
    assert stored["tied"].data_ptr() == stored["blocks.0.weight"].data_ptr()
    assert converted["epoch"] == 4
    assert torch.equal(converted["optimizer_states"][0]["state"][0]["exp_avg"], torch.ones(3, 1))
    assert torch.equal(converted["optimizer_states"][0]["state"][1]["exp_avg"], state["q"][:, :2])
    assert converted["phasewire"]["parameter_names"] == "blocks"


def test_there_and_back_by_both_formats_is_equal_to_the_bit(checkpoint, state, tmp_path):
    steps = ["a.safetensors", "b.ckpt", "c.safetensors", "d.ckpt"]
    for before, after, to in zip([checkpoint.name, *steps], steps, ["blocks", "canonical"] * 2, strict=False):
        convert(tmp_path / before, tmp_path / after, to)
    back = load(tmp_path / "d.ckpt")["state_dict"]
    assert_equal(state, back)
    assert back["tied"].data_ptr() == back["layers.0.weight"].data_ptr()
    assert (tmp_path / "b.ckpt").stat().st_size == (tmp_path / "d.ckpt").stat().st_size


def test_a_written_checkpoint_is_a_zip_archive_whose_checksums_are_right(checkpoint, tmp_path):
    convert(checkpoint, tmp_path / "out.ckpt", "blocks")
    with zipfile.ZipFile(tmp_path / "out.ckpt") as archive:
        assert archive.testzip() is None
        held = [info.CRC for info in archive.infolist() if "/data/" in info.filename and info.file_size]
    # What reads an archive from its beginning finds them behind the data.
    content = (tmp_path / "out.ckpt").read_bytes()
    assert len(held) == 7
    assert all(content.count(b"PK\x07\x08" + checksum.to_bytes(4, "little")) == 1 for checksum in held)


def test_where_torch_writes_no_checksums_none_are_written(checkpoint, state, tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        convert(checkpoint, tmp_path / "out.ckpt", "canonical")
    finally:
        torch.serialization.set_crc32_options(True)
    assert_equal(load(tmp_path / "out.ckpt")["state_dict"], state)
    with zipfile.ZipFile(tmp_path / "out.ckpt") as archive:
        assert {info.CRC for info in archive.infolist()} == {0}


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_of_the_safetensors_format_is_written_as_the_library_does(tmp_path, dtype):
    values = torch.arange(6).reshape(2, 3).to(getattr(torch, dtype))
    state = {"layers.0.a": torch.ones(3, dtype=torch.uint8), "layers.0.b": values, "c": torch.tensor(1.5)}
    torch.save(state, tmp_path / "in.pt")
    convert(tmp_path / "in.pt", tmp_path / "out.safetensors", "canonical", known=known(state))
    written = load_file(tmp_path / "out.safetensors")
    assert {name: (v.dtype, v.tolist()) for name, v in written.items()} == {
        name: (v.dtype, v.tolist()) for name, v in state.items()
    }
    with safe_open(tmp_path / "out.safetensors", "pt") as file:
        assert file.metadata()["format"] == "pt"
        assert json.loads(file.metadata()["phasewire"])["parameter_names"] == "module"


@pytest.mark.parametrize("to", ["canonical", "blocks"])
@pytest.mark.parametrize("suffix", ["ckpt", "safetensors"])
def test_conjugated_and_negated_views_are_written_as_what_they_stand_for(tmp_path, suffix, to):
    values = torch.view_as_complex(torch.arange(12.0).reshape(2, 3, 2))
    state = {"layers.conjugate": values.conj(), "layers.adjoint": values.mH, "layers.plain": values}
    state["layers.negative"] = (values + 1).conj().imag
    assert state["layers.negative"].is_neg()
    torch.save(state, tmp_path / "in.pt")
    names = known(state, {"layers.adjoint": Piece("adjoint", transposed=True)})
    convert(tmp_path / "in.pt", tmp_path / f"out.{suffix}", to, known=names)
    convert(tmp_path / f"out.{suffix}", tmp_path / "back.ckpt", "canonical", known=names)
    back = load(tmp_path / "back.ckpt")["state_dict"]
    assert_equal({name: back[name] for name in state}, state)


def test_a_state_dict_of_the_library_becomes_a_checkpoint_to_begin_with(state, tmp_path):
    del state["tied"]
    names = known([*state, "tied"], tied={"tied": "layers.0.weight"})
    save_file({name.replace("layers", "blocks"): value for name, value in state.items()}, tmp_path / "in.safetensors")
    done = convert(tmp_path / "in.safetensors", tmp_path / "start.ckpt", "canonical", known=names)
    assert done.given == "blocks"
    start = load(tmp_path / "start.ckpt")
    assert_equal(start["state_dict"], {**state, "tied": state["layers.0.weight"]})
    assert {"pytorch-lightning_version", "epoch", "global_step"} <= start.keys()


@pytest.mark.parametrize("suffix", ["ckpt", "safetensors"])
def test_no_more_than_one_tensor_is_made_at_a_time(tmp_path, monkeypatch, suffix):
    parts = {f"{n}.{part}": torch.randn(64, 32) for n in range(8) for part in "qk"}
    pieces = {
        f"{n}.{part}": Piece(f"{n}.qk", 1, ((64 * at, 64),), transposed=True)
        for n in range(8)
        for at, part in enumerate("qk")
    }
    torch.save(parts, tmp_path / "in.pt")
    written, storages = [], set()
    original = tensor_writers._bytes_of

    def bytes_of(tensor):
        written.append(tensor.nbytes)
        storages.add((tensor.untyped_storage().data_ptr(), tensor.untyped_storage().nbytes()))
        return original(tensor)

    monkeypatch.setattr(tensor_writers, "_bytes_of", bytes_of)
    convert(tmp_path / "in.pt", tmp_path / f"out.{suffix}", "blocks", known=known(parts, pieces))
    joint = 2 * 64 * 32 * 4
    assert written == [joint] * 8
    assert [size for _, size in storages] == [joint]


def test_a_tensor_that_stays_as_it_is_is_written_from_the_mapped_file(state, tmp_path, monkeypatch):
    torch.save(state, tmp_path / "in.pt")
    made = []
    for name in ("new_empty", "clone", "contiguous"):
        original = getattr(torch.Tensor, name)
        monkeypatch.setattr(
            torch.Tensor,
            name,
            lambda tensor, *args, original=original, **kwargs: made.append(tensor) or original(tensor, *args, **kwargs),
        )
    for suffix in ("ckpt", "safetensors"):
        convert(tmp_path / "in.pt", tmp_path / f"out.{suffix}", "blocks", known=known(state))
    assert made == []


def test_what_is_written_fails_whole_and_leaves_nothing(checkpoint, tmp_path, monkeypatch):
    def fail(writer, data):
        raise OSError("the disk is full")

    monkeypatch.setattr(SteadyWriter, "write", fail)
    (tmp_path / "old.ckpt").write_text("old")
    for target in ("new.ckpt", "new.safetensors", "old.ckpt"):
        with pytest.raises(CheckpointError, match=rf"{target}: .*the disk is full") as raised:
            convert(checkpoint, tmp_path / target, "blocks", force=True)
        assert isinstance(raised.value.__cause__, OSError)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.ckpt", "old.ckpt"]
    assert (tmp_path / "old.ckpt").read_text() == "old"


def test_a_file_is_replaced_only_by_force_and_may_be_the_one_that_is_read(checkpoint, state, tmp_path):
    before = checkpoint.read_bytes()
    with pytest.raises(CheckpointError, match=r"in\.ckpt: There is a file already\. Give another name, or --force"):
        convert(checkpoint, checkpoint, "blocks")
    assert checkpoint.read_bytes() == before
    convert(checkpoint, checkpoint, "blocks", force=True)
    convert(checkpoint, checkpoint, "canonical", force=True)
    assert_equal(load(checkpoint)["state_dict"], state)


def truncated(path: Path, source: Path) -> None:
    path.write_bytes(source.read_bytes()[: source.stat().st_size // 2])


def foreign(name):
    def make(path: Path, source: Path) -> None:
        path.write_bytes(name)

    return make


def saved(content):
    return lambda path, source: torch.save(content, path)


def changed(**values):
    def make(path: Path, source: Path) -> None:
        content = torch.load(source, weights_only=True)
        content["state_dict"].update(values)
        torch.save(content, path)

    return make


def renamed_record(path: Path, source: Path) -> None:
    content = torch.load(source, weights_only=True)
    content["phasewire"]["format"] = 99
    torch.save(content, path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (truncated, "The file is cut off, or none that torch.save has written"),
        (foreign(b"{}"), "The file is cut off, or of no format that is known"),
        (foreign(b""), "The file is cut off, or of no format that is known"),
        (foreign(b"\x80\x02}q"), "of the format that torch wrote before version 1.6"),
        (lambda path, source: path.mkdir(), "This is a folder"),
        (lambda path, source: None, "The file cannot be read: No such file"),
        (saved([1]), "The file holds an object of type list, and names with their tensors are expected"),
        (saved({"a": 1}), "The file is no state dict, and has no 'state_dict'. It holds: 'a'"),
        (saved({"a": torch.ones(1)}), "The file does not tell what names there are.*--model package.Class --adapter"),
        (saved({"a": Path}), "The file holds more than tensors and plain values.*--unsafe"),
        (renamed_record, "format 99, and this release of Phasewire reads up to 1"),
        (changed(**{"layers.7.weight": torch.ones(1)}), r"holds 'layers\.7\.weight', which the module does not have"),
        (changed(k=torch.ones(3, 5)), r"'k' has the shape \(5, 3\) \(transposed\), and takes 2 of dimension 1 of 'qk'"),
        (changed(k=torch.ones(2, 5).half()), r"'k' is torch\.float16 and 'q' is torch\.float32; both are parts of"),
    ],
)
def test_what_cannot_be_converted_is_refused_with_the_path_and_nothing_is_written(checkpoint, tmp_path, make, message):
    source = tmp_path / "odd.ckpt"
    make(source, checkpoint)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(CheckpointError, match=rf"^{source}: .*{message}"):
        convert(source, tmp_path / "out.ckpt", "blocks")
    assert sorted(tmp_path.iterdir()) == before


def test_a_truncated_safetensors_file_is_refused(checkpoint, tmp_path):
    convert(checkpoint, tmp_path / "whole.safetensors", "blocks")
    truncated(tmp_path / "part.safetensors", tmp_path / "whole.safetensors")
    with pytest.raises(CheckpointError, match=r"part\.safetensors: The file is cut off, or of no format"):
        convert(tmp_path / "part.safetensors", tmp_path / "out.ckpt", "canonical")


def test_a_part_that_is_missing_is_told(checkpoint, tmp_path):
    content = load(checkpoint)
    del content["state_dict"]["k"]
    torch.save(content, tmp_path / "part.ckpt")
    with pytest.raises(CheckpointError, match=r"part\.ckpt: 'qk' is made of 'q', 'k', and 'k' is not there"):
        convert(tmp_path / "part.ckpt", tmp_path / "out.ckpt", "blocks")


@pytest.mark.parametrize(
    ("target", "to", "message"),
    [
        ("out.bin", "blocks", r"out\.bin: The name of the file to write ends in \.bin"),
        ("out.ckpt", "block", r"--to: No naming is called 'block'\. Did you mean 'blocks'\?.*canonical, blocks"),
    ],
)
def test_a_target_that_cannot_be_is_refused(checkpoint, tmp_path, target, to, message):
    with pytest.raises(CheckpointError, match=message):
        convert(checkpoint, tmp_path / target, to)
    assert [path.name for path in tmp_path.iterdir()] == ["in.ckpt"]


def test_a_dtype_or_an_object_that_the_safetensors_format_does_not_have_is_told(tmp_path):
    state = {"wide": torch.ones(1, dtype=torch.complex128)}
    torch.save(state, tmp_path / "in.pt")
    with pytest.raises(CheckpointError, match=r"'wide' is a tensor of torch\.complex128"):
        convert(tmp_path / "in.pt", tmp_path / "out.safetensors", "blocks", known=known(state))
    convert(tmp_path / "in.pt", tmp_path / "out.ckpt", "blocks", known=known(state))
    state = {"layers.extra": {"any": 3}, "weight": torch.ones(1)}
    torch.save({"state_dict": state}, tmp_path / "in.ckpt")
    with pytest.raises(CheckpointError, match=r"'blocks\.extra' is no tensor"):
        convert(tmp_path / "in.ckpt", tmp_path / "out.safetensors", "blocks", known=known(state))
    convert(tmp_path / "in.ckpt", tmp_path / "other.ckpt", "blocks", known=known(state))
    assert load(tmp_path / "other.ckpt")["state_dict"]["blocks.extra"] == {"any": 3}
    assert not (tmp_path / "out.safetensors").exists()


def test_objects_are_kept_where_the_user_trusts_the_file(checkpoint, tmp_path):
    content = load(checkpoint)
    torch.save({**content, "hyper_parameters": {"path": Path("x"), "buffer": torch.ones(2)}}, tmp_path / "objects.ckpt")
    with pytest.raises(CheckpointError, match="more than tensors"):
        convert(tmp_path / "objects.ckpt", tmp_path / "out.ckpt", "blocks")
    convert(tmp_path / "objects.ckpt", tmp_path / "out.ckpt", "blocks", unsafe=True)
    kept = torch.load(tmp_path / "out.ckpt", weights_only=False)["hyper_parameters"]
    assert kept["path"] == Path("x")
    assert kept["buffer"].tolist() == [1, 1]


@pytest.mark.parametrize("name", ["out.ckpt", "out.safetensors"])
def test_who_watches_is_told_of_every_byte_until_all_are_written(checkpoint, tmp_path, name):
    told: list[tuple[int, int]] = []

    convert(checkpoint, tmp_path / name, "blocks", watch=lambda done, total: told.append((done, total)))

    done, totals = zip(*told, strict=True)
    assert len(set(totals)) == 1
    assert list(done) == sorted(done)
    assert done[-1] == totals[0] > 0


@pytest.mark.parametrize("target", ["out.ckpt", "out.safetensors"])
def test_a_damaged_source_does_not_become_a_file_with_right_checksums(checkpoint, tmp_path, target):
    with zipfile.ZipFile(checkpoint) as archive:
        largest = max(archive.infolist(), key=lambda info: ("/data/" in info.filename, info.file_size))
        weights = archive.read(largest)
    content = checkpoint.read_bytes()
    at = content.index(weights)
    checkpoint.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    with pytest.raises(CheckpointError, match="damaged: data/"):
        convert(checkpoint, tmp_path / target, "blocks")
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint.name]
