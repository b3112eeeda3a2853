"""The translator stands in the path of every checkpoint that is written or read."""

from typing import Any, ClassVar

import pytest
import torch
from lightning.pytorch.callbacks import OnExceptionCheckpoint

from phasewire.adapters import CheckpointError, StrategyAdapter
from phasewire.app import CheckpointTranslator, FinetuningScheduler, FTSCheckpoint, FTSEarlyStopping
from phasewire.app.checkpoint import CHECKPOINT_KEY, FORMAT_VERSION
from tuning import Batches, TunedModule, fit, make_trainer

pytestmark = [
    pytest.mark.filterwarnings(r"ignore:\.fit\(ckpt_path=.last.\) is set, but there is no last:UserWarning"),
    pytest.mark.filterwarnings("ignore:The dirpath has changed:UserWarning"),
    pytest.mark.filterwarnings(r"ignore:`\.fit\(ckpt_path=None\)` was called without a model:UserWarning"),
]

SCHEDULE = {0: {"params": ["head.*"], "max_transition_epoch": 1}, 1: {"params": ["layers.1.*"]}}


class Renaming(StrategyAdapter):
    """Stores every name with a prefix and notes which hook was called."""

    checkpoint_names: ClassVar[str] = "renamed"

    def __init__(self, calls: list[str] | None = None) -> None:
        super().__init__()
        self.calls = [] if calls is None else calls

    def lightning_module_state_dict(self) -> dict[str, Any]:
        self.calls.append("collect")
        return {f"renamed.{name}": value for name, value in super().lightning_module_state_dict().items()}

    def before_restore_model(self, checkpoint: dict[str, Any]) -> dict[str, Any]:
        self.calls.append("translate")
        state = {name.removeprefix("renamed."): value for name, value in checkpoint["state_dict"].items()}
        return {**checkpoint, "state_dict": state}

    def load_model_state_dict(self, checkpoint: dict[str, Any], strict: bool = True) -> None:
        self.calls.append("load")
        super().load_model_state_dict(checkpoint, strict=strict)


class Raising(StrategyAdapter):
    def before_restore_model(self, checkpoint: dict[str, Any]) -> dict[str, Any]:
        raise ValueError("no translation for layers.0")


class Forgetful(StrategyAdapter):
    def before_restore_model(self, checkpoint: dict[str, Any]) -> Any:
        checkpoint["state_dict"] = {}


def build(tmp_path, adapter=Renaming, calls=None, **options):
    cfg = {"calls": calls} if adapter is Renaming else None
    scheduler = FinetuningScheduler(
        SCHEDULE, custom_strategy_adapters={"single_device": adapter}, strategy_adapter_cfg=cfg
    )
    stopping = FTSEarlyStopping("val_loss", patience=99)
    checkpoint = FTSCheckpoint(tmp_path / "best", monitor="val_loss", filename="best", save_last=True)
    return make_trainer(tmp_path, scheduler, stopping, checkpoint, **{"max_epochs": 2, **options})


@pytest.fixture(scope="module")
def renamed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("renamed")
    calls: list[str] = []
    torch.manual_seed(0)
    module = TunedModule([2.0, 1.0])
    trainer = build(folder, calls=calls)
    fit(trainer, module)
    return folder, calls, module


def test_every_checkpoint_is_signed_once_and_no_hook_changes_what_is_signed(tmp_path):
    class Counting(CheckpointTranslator):
        signed = 0

        def sign(self, checkpoint, adapter):
            self.signed += 1
            super().sign(checkpoint, adapter)

    class Changing(TunedModule):
        def on_save_checkpoint(self, checkpoint):
            checkpoint[CHECKPOINT_KEY] = {"format": 99}

    translator, checkpoint = Counting(), FTSCheckpoint(tmp_path, monitor="val_loss", save_top_k=-1, filename="{epoch}")
    stopping = FTSEarlyStopping("val_loss", patience=99)
    trainer = make_trainer(
        tmp_path, FinetuningScheduler(SCHEDULE, translator=translator), stopping, checkpoint, max_epochs=2
    )
    fit(trainer, Changing([2.0, 1.0]))

    records = [torch.load(path, weights_only=True)[CHECKPOINT_KEY] for path in tmp_path.glob("*.ckpt")]
    assert [record["format"] for record in records] == [FORMAT_VERSION] * 2
    assert translator.signed == 2

    trainer.save_checkpoint(tmp_path / "after.ckpt")
    assert translator.signed == 3


def test_a_fit_collects_every_checkpoint_and_restores_between_phases_through_the_adapter(renamed):
    _, calls, _ = renamed

    assert calls == ["collect", "collect", "translate", "load", "collect", "collect"]


def test_the_file_holds_the_adapters_names_and_says_so(renamed):
    folder, _, module = renamed
    saved = torch.load(folder / "best" / "last.ckpt", weights_only=True)

    assert set(saved["state_dict"]) == {f"renamed.{name}" for name in module.state_dict()}
    assert saved["phasewire"]["parameter_names"] == "renamed"
    assert saved["phasewire"]["adapter"].endswith(":Renaming")


@pytest.mark.parametrize("entry_point", ["validate", "test", "predict"])
def test_evaluation_reads_a_checkpoint_through_the_adapter_and_touches_nothing_else(renamed, tmp_path, entry_point):
    folder, _, trained = renamed
    calls: list[str] = []
    module = TunedModule([1.0])
    trainer = build(tmp_path, calls=calls)
    callbacks = list(trainer.callbacks)

    getattr(trainer, entry_point)(module, Batches(), ckpt_path=folder / "best" / "last.ckpt")

    assert calls == ["translate", "load"]
    assert all(torch.equal(value, trained.state_dict()[name]) for name, value in module.state_dict().items())
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert trainer.callbacks == callbacks
    assert not list(tmp_path.iterdir())


def test_a_resumed_fit_reads_through_the_adapter(renamed, tmp_path):
    folder, _, _ = renamed
    calls: list[str] = []
    trainer = build(tmp_path, calls=calls, max_epochs=3)

    fit(trainer, TunedModule([1.0]), ckpt_path=folder / "best" / "last.ckpt")

    assert calls[:2] == ["translate", "load"]


def test_an_emergency_checkpoint_is_written_through_the_adapter(tmp_path):
    class Broken(TunedModule):
        def on_train_epoch_start(self):
            raise RuntimeError("the power went out")

    calls: list[str] = []
    trainer = build(tmp_path, calls=calls)
    trainer.callbacks.append(OnExceptionCheckpoint(tmp_path))
    with pytest.raises(RuntimeError, match="power"):
        fit(trainer, Broken())

    assert calls == ["collect"]
    saved = torch.load(tmp_path / "on_exception.ckpt", weights_only=True)
    assert all(name.startswith("renamed.") for name in saved["state_dict"])
    assert saved["phasewire"]["parameter_names"] == "renamed"


def test_a_finished_trainer_writes_through_the_adapter(tmp_path):
    trainer = build(tmp_path)
    fit(trainer, TunedModule([1.0]))

    trainer.save_checkpoint(tmp_path / "final.ckpt")

    saved = torch.load(tmp_path / "final.ckpt", weights_only=True)
    assert all(name.startswith("renamed.") for name in saved["state_dict"])
    assert saved["phasewire"]["parameter_names"] == "renamed"


def test_weights_alone_say_how_they_were_written_too(tmp_path):
    class SavesWeights(TunedModule):
        def on_train_end(self):
            self.trainer.save_checkpoint(tmp_path / "weights.ckpt", weights_only=True)

    fit(build(tmp_path), SavesWeights([1.0]))

    assert torch.load(tmp_path / "weights.ckpt", weights_only=True)["phasewire"]["parameter_names"] == "renamed"


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        (Raising, r"Raising\.before_restore_model failed with ValueError: no translation for layers\.0"),
        (Forgetful, r"Forgetful\.before_restore_model returned NoneType, not a checkpoint"),
    ],
)
def test_an_adapter_that_fails_stops_the_restore_between_phases(tmp_path, adapter, message):
    module = TunedModule([2.0, 1.0])

    with pytest.raises(CheckpointError, match=rf"best\.ckpt: {message}") as raised:
        fit(build(tmp_path, adapter), module)

    if adapter is Raising:
        assert isinstance(raised.value.__cause__, ValueError)


@pytest.mark.parametrize(
    ("give", "message"),
    [
        (lambda: None, "Writer.lightning_module_state_dict returned NoneType, not a dict"),
        (lambda: {}[1], "Writer.lightning_module_state_dict failed with KeyError: 1. No checkpoint was written"),
    ],
)
def test_an_adapter_that_gives_no_state_stops_the_save(tmp_path, give, message):
    class Writer(StrategyAdapter):
        def lightning_module_state_dict(self):
            return give()

    with pytest.raises(CheckpointError, match=message):
        fit(build(tmp_path, Writer), TunedModule([1.0]))


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty:UserWarning")
def test_a_subclass_of_the_scheduler_may_have_a_state_of_its_own(tmp_path):
    class Counting(FinetuningScheduler):
        loaded = None

        def state_dict(self):
            return {"count": 7}

        def load_state_dict(self, state_dict):
            self.loaded = state_dict["count"]

    def build_counting():
        stopping = FTSEarlyStopping("val_loss", patience=99)
        return make_trainer(tmp_path, Counting(SCHEDULE, restore_best=False), stopping, max_epochs=1)

    trainer = build_counting()
    fit(trainer, TunedModule([1.0]))
    trainer.save_checkpoint(tmp_path / "own.ckpt")
    again = build_counting()
    fit(again, TunedModule([1.0]), ckpt_path=tmp_path / "own.ckpt")

    assert again.callbacks[0].loaded == 7


def test_a_state_dict_that_does_not_fit_the_module_stops_a_test(renamed, tmp_path):
    folder, _, _ = renamed
    trainer = build(tmp_path, adapter=StrategyAdapter)

    with pytest.raises(CheckpointError, match=r"last\.ckpt: The checkpoint has the names 'renamed', which StrategyAd"):
        trainer.test(TunedModule([1.0]), Batches(), ckpt_path=folder / "best" / "last.ckpt")


def test_a_checkpoint_of_the_default_adapter_is_read_without_phasewire(tmp_path):
    trainer = build(tmp_path, adapter=StrategyAdapter)
    module = TunedModule([2.0, 1.0])
    fit(trainer, module)

    loaded = TunedModule.load_from_checkpoint(tmp_path / "best" / "last.ckpt")
    plain = make_trainer(tmp_path / "plain")
    with pytest.warns(UserWarning, match="callbacks used to create the checkpoint"):
        plain.test(TunedModule([1.0]), Batches(), ckpt_path=tmp_path / "best" / "last.ckpt")

    assert all(torch.equal(value, module.state_dict()[name]) for name, value in loaded.state_dict().items())


def test_the_strategy_has_its_own_methods_again_after_each_run(tmp_path):
    trainer = build(tmp_path, adapter=StrategyAdapter)
    before = dict(vars(trainer.strategy))

    fit(trainer, TunedModule([1.0]))
    trainer.test(TunedModule([1.0]), Batches(), verbose=False)

    assert {name for name in vars(trainer.strategy) if name not in before} == set()
