"""How checkpoints are written and read: asynchronously, by a plugin, in part."""

import io
import time
from pathlib import Path

import pytest
import torch
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import AsyncCheckpointIO, TorchCheckpointIO

from by_hand import EpochStates, same, train_by_hand
from phasewire.app import CheckpointError, FinetuningScheduler, FTSCheckpoint, FTSEarlyStopping
from phasewire.app.phases.pending_saves import load_when_written
from tuning import Notes, TunedModule, fit, make_trainer, state_of

SCHEDULE = {
    0: {"params": ["head.*"], "max_transition_epoch": 2},
    1: {"params": ["layers.1.*"], "max_transition_epoch": 4, "lr": 0.05},
    2: {"params": ["layers.0.*"], "lr": 0.01},
}
# The best epoch is always the newest one, so when a phase ends its file is the youngest there can be.
LOSSES = [6.0, 5.0, 4.0, 3.0, 2.0]
# A second run, or a file that is written over.
pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty:UserWarning")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def train(tmp_path, *callbacks, plugins=(), module=None, filename="{epoch}", settings=None, checkpoint=None, **options):
    notes, states = Notes(), EpochStates()
    checkpoint = checkpoint or FTSCheckpoint(
        tmp_path / "best", monitor="val_loss", filename=filename, enable_version_counter=False
    )
    trainer = make_trainer(
        tmp_path,
        FinetuningScheduler(SCHEDULE, **(settings or {})),
        FTSEarlyStopping("val_loss", patience=99),
        checkpoint,
        notes,
        states,
        *callbacks,
        max_epochs=5,
        plugins=list(plugins),
    )
    module = TunedModule(LOSSES) if module is None else module
    fit(trainer, module, **options)
    return notes, states, module


def trained_by_hand():
    torch.manual_seed(0)
    return train_by_hand(TunedModule(), SCHEDULE, {2: 1, 4: 2}, epochs=5, best={1: 1, 2: 3})


def halves_of(checkpoint):
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    written = buffer.getvalue()
    return written[: len(written) // 2], written[len(written) // 2 :]


# -- asynchronous --------------------------------------------------------------------------------------------------


class SlowIO(TorchCheckpointIO):
    """Writes a file in two halves, with a pause before each."""

    def save_checkpoint(self, checkpoint, path, storage_options=None):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with Path(path).open("wb") as file:
            for half in halves_of(checkpoint):
                time.sleep(0.03)
                file.write(half)
                file.flush()


@pytest.mark.parametrize("filename", ["{epoch}", "newest"], ids=["a new file", "a file written over"])
def test_a_transition_waits_until_an_asynchronous_save_is_whole(tmp_path, filename):
    notes, _, module = train(tmp_path, plugins=[AsyncCheckpointIO(SlowIO())], filename=filename)

    assert notes.depths == [0, 0, 1, 1, 2]
    assert same(state_of(module), trained_by_hand())


def test_an_asynchronous_run_resumes_from_what_it_saved(tmp_path):
    every = ModelCheckpoint(tmp_path / "every", save_top_k=-1, filename="{epoch}")
    _, _, whole = train(tmp_path, every, plugins=[AsyncCheckpointIO(SlowIO())])

    saved = tmp_path / "every" / "epoch=2.ckpt"
    every = ModelCheckpoint(tmp_path / "every", save_top_k=-1, filename="{epoch}")
    notes, _, resumed = train(tmp_path, every, plugins=[AsyncCheckpointIO()], ckpt_path=saved)

    assert notes.depths == [1, 2]
    assert same(state_of(resumed), state_of(whole))


def test_an_asynchronous_save_that_failed_stops_the_transition(tmp_path):
    class FullDisk(TorchCheckpointIO):
        saves = 0

        def save_checkpoint(self, checkpoint, path, storage_options=None):
            self.saves += 1
            if self.saves == 2:
                raise OSError("no space left")
            super().save_checkpoint(checkpoint, path, storage_options)

    notes = Notes()
    with pytest.raises(OSError, match="no space left"):
        train(tmp_path, notes, plugins=[AsyncCheckpointIO(FullDisk())])

    assert notes.depths == [0, 0]


# -- plugins -------------------------------------------------------------------------------------------------------


class LaggingIO(CheckpointIO):
    """A plugin of a user that writes in its own time: a file is whole when it is asked for the third time."""

    def __init__(self):
        self.pending = {}
        self.asked = []

    def save_checkpoint(self, checkpoint, path, storage_options=None):
        self.pending[str(path)] = ["later", *halves_of(checkpoint)]

    def load_checkpoint(self, path, map_location=None, weights_only=None):
        self.asked.append(Path(path).name)
        steps = self.pending[str(path)]
        if steps and (half := steps.pop(0)) != "later":
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            with Path(path).open("ab" if not steps else "wb") as file:
                file.write(half)
        return torch.load(path, weights_only=False)

    def remove_checkpoint(self, path):
        self.pending.pop(str(path))


@pytest.mark.parametrize("filename", ["{epoch}", "newest"], ids=["a new file", "a file written over"])
def test_a_transition_waits_until_the_file_of_a_plugin_is_whole(tmp_path, filename):
    plugin = LaggingIO()

    notes, _, module = train(tmp_path, plugins=[plugin], filename=filename)

    assert notes.depths == [0, 0, 1, 1, 2]
    assert same(state_of(module), trained_by_hand())
    best = ["epoch=1.ckpt", "epoch=3.ckpt"] if filename == "{epoch}" else ["newest.ckpt"] * 2
    assert plugin.asked == [best[0]] * 3 + [best[1]] * 3


def test_a_plugin_that_keeps_checkpoints_elsewhere_works(tmp_path):
    class InMemory(CheckpointIO):
        files: dict[str, bytes]

        def __init__(self):
            self.files = {}

        def save_checkpoint(self, checkpoint, path, storage_options=None):
            self.files[str(path)] = b"".join(halves_of(checkpoint))

        def load_checkpoint(self, path, map_location=None, weights_only=None):
            return torch.load(io.BytesIO(self.files[str(path)]), weights_only=False)

        def remove_checkpoint(self, path):
            del self.files[str(path)]

    _, _, module = train(tmp_path, plugins=[InMemory()])

    assert same(state_of(module), trained_by_hand())
    assert not list(tmp_path.rglob("*.ckpt"))


@pytest.mark.parametrize(
    ("loaded", "problem"),
    [(FileNotFoundError("gone"), "FileNotFoundError: gone"), ({"global_step": 3}, "it holds step 3, and step 4 was")],
    ids=["missing", "stale"],
)
def test_a_file_that_never_becomes_whole_is_named_with_the_plugin(loaded, problem):
    def load():
        if isinstance(loaded, Exception):
            raise loaded
        return loaded

    with pytest.raises(CheckpointError, match=rf"LaggingIO: .*0\.01 seconds after it was wanted \(.*{problem}"):
        load_when_written(load, LaggingIO(), saved_at_step=4, longest_wait=0.01)


@pytest.mark.parametrize(
    ("plugin", "saved_at_step"),
    [(TorchCheckpointIO(), 4), (AsyncCheckpointIO(TorchCheckpointIO()), 4), (LaggingIO(), None)],
    ids=["Lightning's", "Lightning's asynchronous", "a file of another run"],
)
def test_what_cannot_be_pending_is_read_once(plugin, saved_at_step):
    attempts = []

    def load():
        attempts.append(1)
        raise FileNotFoundError("gone")

    with pytest.raises(FileNotFoundError):
        load_when_written(load, plugin, saved_at_step=saved_at_step)

    assert len(attempts) == 1


# -- parts of a state ----------------------------------------------------------------------------------------------


class SavesWhatItTrains(TunedModule):
    """Leaves everything out of its state that no phase has thawed."""

    def state_dict(self, *arguments, **options):
        state = super().state_dict(*arguments, **options)
        frozen = {name for name, parameter in self.named_parameters() if not parameter.requires_grad}
        return {name: value for name, value in state.items() if name not in frozen}


def test_a_partial_state_is_restored_with_strict_loading_off(tmp_path):
    module = SavesWhatItTrains(LOSSES)
    module.strict_loading = False

    notes, _, _ = train(tmp_path, module=module)

    assert notes.depths == [0, 0, 1, 1, 2]
    assert same(
        dict(module.named_parameters()), {k: v for k, v in trained_by_hand().items() if "weight" in k or "bias" in k}
    )
    saved = torch.load(tmp_path / "best" / "epoch=4.ckpt", weights_only=True)["state_dict"]
    assert "layers.2.weight" not in saved


def test_a_partial_state_is_refused_with_strict_loading_on(tmp_path):
    with pytest.raises(
        CheckpointError, match=r"best.epoch=1\.ckpt: (?s:.*)Missing key\(s\) in state_dict: \"layers\.0\.w"
    ):
        train(tmp_path, module=SavesWhatItTrains(LOSSES))


def test_checkpoints_of_weights_alone_are_saved_when_nothing_is_restored(tmp_path):
    checkpoint = ModelCheckpoint(tmp_path / "best", monitor="val_loss", filename="{epoch}", save_weights_only=True)

    notes, _, module = train(tmp_path, checkpoint=checkpoint, settings={"restore_best": False})

    saved = torch.load(checkpoint.best_model_path, weights_only=True)
    assert notes.depths == [0, 0, 1, 1, 2]
    assert same(saved["state_dict"], state_of(module))
    assert "optimizer_states" not in saved


def test_a_checkpoint_of_weights_alone_cannot_be_resumed(tmp_path):
    checkpoint = ModelCheckpoint(tmp_path / "best", monitor="val_loss", save_weights_only=True)
    settings = {"restore_best": False}
    train(tmp_path, checkpoint=checkpoint, settings=settings)

    with pytest.raises(CheckpointError, match=r"save_weights_only=True\. .*load them into the module before fit"):
        train(tmp_path, settings=settings, ckpt_path=checkpoint.best_model_path)
