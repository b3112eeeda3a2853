"""Checkpoints in other names than the module's are written by option, and read on every path."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from phasewire.adapters import AdapterError, CheckpointError, Renaming, StrategyAdapter
from phasewire.app import FinetuningScheduler, FTSCheckpoint, FTSEarlyStopping
from tuning import Batches, TunedModule, fit, make_trainer

SCHEDULE = {0: {"params": ["head.*"], "max_transition_epoch": 1}, 1: {"params": ["layers.1.*"]}}
pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty:UserWarning")


class Blocks(StrategyAdapter):
    def checkpoint_renamings(self):
        slashes = Renaming((lambda name: name.replace(".", "/"), lambda name: name.replace("/", ".")))
        return {"blocks": Renaming({"layers": "blocks"}), "slashes": slashes}


class OtherBlocks(StrategyAdapter):
    checkpoint_names = "blocks"

    def checkpoint_renamings(self):
        return {"blocks": Renaming({"layers": "stem"})}


def trainer_for(folder, adapter=Blocks, **cfg):
    scheduler = FinetuningScheduler(SCHEDULE, custom_strategy_adapters={"auto": adapter}, strategy_adapter_cfg=cfg)
    best = FTSCheckpoint(folder, monitor="val_loss", filename="best", save_last=True)
    stopping = FTSEarlyStopping("val_loss", patience=99)
    return make_trainer(folder, scheduler, stopping, best, max_epochs=2)


@pytest.fixture(scope="module", params=["module", "blocks", "slashes"])
def trained(request, tmp_path_factory):
    """A run that went back to its best checkpoint between two phases, with each kind of names."""
    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    module = TunedModule([2.0, 1.0])
    fit(trainer_for(folder, checkpoint_names=request.param), module)
    return request.param, folder / "last.ckpt", module.state_dict()


def same(state, other):
    return state.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in state.items())


def test_the_file_has_the_names_that_were_chosen_says_which_and_tells_of_all(trained):
    word, path, state = trained
    saved = torch.load(path, weights_only=True)
    spelled = {
        "module": list(state),
        "blocks": [name.replace("layers", "blocks") for name in state],
        "slashes": [name.replace(".", "/") for name in state],
    }
    assert list(saved["state_dict"]) == spelled[word]
    assert saved["phasewire"]["parameter_names"] == word
    recorded = saved["phasewire"]["namings"]
    assert {each: list(recorded[each]["tensors"].values()) for each in recorded} == {
        each: names for each, names in spelled.items() if each != "module"
    }


@pytest.mark.parametrize("entry_point", ["validate", "test", "predict"])
def test_evaluation_reads_every_kind_whatever_it_would_write(trained, tmp_path, entry_point):
    _, path, state = trained
    module = TunedModule([1.0])
    getattr(trainer_for(tmp_path, checkpoint_names="slashes"), entry_point)(module, Batches(), ckpt_path=path)
    assert same(module.state_dict(), state)


def test_a_fit_resumes_from_every_kind_and_writes_its_own(trained, tmp_path):
    _, path, state = trained
    module = TunedModule([1.0])
    began = []
    module.on_train_start = lambda: began.append({name: value.clone() for name, value in module.state_dict().items()})
    trainer = trainer_for(tmp_path, checkpoint_names="blocks")
    trainer.fit_loop.max_epochs = 3
    fit(trainer, module, ckpt_path=path)
    assert same(began[0], state)
    trainer.save_checkpoint(tmp_path / "own.ckpt")
    assert "blocks.0.weight" in torch.load(tmp_path / "own.ckpt", weights_only=True)["state_dict"]


def test_an_adapter_without_namings_reads_by_what_the_file_records(trained, tmp_path):
    _, path, state = trained
    module = TunedModule([1.0])
    trainer_for(tmp_path, StrategyAdapter).validate(module, Batches(), ckpt_path=path)
    assert same(module.state_dict(), state)


def write(path, state, **content):
    torch.save(
        {"state_dict": state, "pytorch-lightning_version": "2.6.0", "epoch": 0, "global_step": 0, **content}, path
    )
    return path


def renamed(state, old, new):
    return {name.replace(old, new): value for name, value in state.items()}


@pytest.mark.parametrize("replaced", [("layers", "blocks"), (".", "/"), ("", "")])
def test_a_file_without_a_record_is_read_in_whatever_names_it_has(tmp_path, replaced):
    state = TunedModule().state_dict()
    path = write(tmp_path / "foreign.ckpt", renamed(state, *replaced))
    module = TunedModule([1.0])
    trainer_for(tmp_path).validate(module, Batches(), ckpt_path=path)
    assert same(module.state_dict(), state)


def test_what_does_not_fit_is_listed_in_both_namings_and_nothing_is_loaded(tmp_path):
    state = renamed(TunedModule().state_dict(), "layers", "blocks")
    state["blocks.7.weight"] = state.pop("blocks.1.weight")
    state["blocks.0.weight"] = torch.ones(2, 3)
    path = write(tmp_path / "odd.ckpt", state)
    module = TunedModule([1.0])
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(CheckpointError) as raised:
        trainer_for(tmp_path).validate(module, Batches(), ckpt_path=path)
    told = str(raised.value)
    assert told.startswith(f"{path}: The checkpoint does not fit TunedModule: ")
    assert "missing layers.1.weight (blocks.1.weight in the file)" in told
    assert "unexpected layers.7.weight" in told
    assert "layers.0.weight (blocks.0.weight in the file) has the shape (2, 3), and (4, 4) in the module" in told
    assert "The file has the names 'blocks'. Nothing was loaded." in told
    assert isinstance(raised.value.__cause__, RuntimeError)
    assert same(module.state_dict(), before)


@pytest.mark.parametrize("stage", ["fit", "validate"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1], "The file holds a list, and a checkpoint is a dict|cannot be read .*list"),
        (
            {"layers.0.weight": torch.ones(1)},
            "no checkpoint of Lightning.*'layers.0.weight'|no state of",
        ),
    ],
)
def test_a_file_that_is_no_checkpoint_is_refused_with_its_path_and_nothing_is_loaded(tmp_path, stage, content, message):
    torch.save(content, tmp_path / "foreign.pt")
    module = TunedModule([1.0])
    before = {name: value.clone() for name, value in module.state_dict().items()}
    loaders = [Batches()] if stage == "validate" else [Batches(), Batches()]
    with pytest.raises(CheckpointError, match=rf"^{tmp_path / 'foreign.pt'}: .*({message})"):
        getattr(trainer_for(tmp_path), stage)(module, *loaders, ckpt_path=tmp_path / "foreign.pt")
    assert same(module.state_dict(), before)


def test_missing_names_are_passed_over_where_the_module_says_so(tmp_path):
    class Lenient(TunedModule):
        def __init__(self):
            super().__init__([1.0])
            self.strict_loading = False

    state = renamed(TunedModule().state_dict(), "layers", "blocks")
    del state["blocks.1.weight"]
    module = Lenient()
    trainer_for(tmp_path).validate(module, Batches(), ckpt_path=write(tmp_path / "part.ckpt", state))
    assert torch.equal(module.layers[0].weight, state["blocks.0.weight"])


def test_a_module_that_mends_old_names_itself_still_does(tmp_path):
    class Mending(TunedModule):
        def __init__(self):
            super().__init__([1.0])
            self.head.register_load_state_dict_pre_hook(
                lambda module, state, prefix, *rest: state.update({prefix + "bias": state.pop(prefix + "shift")})
            )

    state = renamed(TunedModule().state_dict(), "head.bias", "head.shift")
    module = Mending()
    trainer_for(tmp_path).validate(module, Batches(), ckpt_path=write(tmp_path / "old.ckpt", state))
    assert torch.equal(module.head.bias, state["head.shift"])


def test_a_file_that_lacks_a_tied_tensor_is_read_by_its_other_name(tmp_path):
    class Tied(TunedModule):
        def __init__(self):
            super().__init__([1.0])
            self.out = nn.Linear(4, 4)
            self.out.weight = self.layers[0].weight

    state = renamed(Tied().state_dict(), "layers", "blocks")
    del state["out.weight"]
    module = Tied()
    trainer_for(tmp_path).validate(module, Batches(), ckpt_path=write(tmp_path / "once.ckpt", state))
    assert torch.equal(module.out.weight, state["blocks.0.weight"])
    assert module.out.weight is module.layers[0].weight


def test_names_that_nobody_knows_are_refused_with_those_that_are_known(tmp_path):
    path = write(tmp_path / "x.ckpt", {"a": torch.ones(1)}, phasewire={"format": 1, "parameter_names": "block"})
    with pytest.raises(CheckpointError, match=r"names 'block', which Blocks does not know\. Did you mean 'blocks'\?"):
        trainer_for(tmp_path).validate(TunedModule([1.0]), Batches(), ckpt_path=path)


def test_a_record_of_names_that_was_changed_is_refused_with_the_path(tmp_path):
    record = {"format": 1, "parameter_names": "x", "namings": {"x": {"tensors": 3}}}
    path = write(tmp_path / "x.ckpt", {"a": torch.ones(1)}, phasewire=record)
    with pytest.raises(CheckpointError, match=r"x\.ckpt: .* does not tell where they stand"):
        trainer_for(tmp_path, StrategyAdapter).validate(TunedModule([1.0]), Batches(), ckpt_path=path)


def test_a_file_is_read_by_its_record_where_the_adapter_called_names_otherwise_then(tmp_path):
    trained, module = TunedModule([2.0, 1.0]), TunedModule([1.0])
    fit(trainer_for(tmp_path, OtherBlocks), trained)
    assert "stem.0.weight" in torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    trainer_for(tmp_path).validate(module, Batches(), ckpt_path=tmp_path / "last.ckpt")
    assert same(module.state_dict(), trained.state_dict())


class Colliding(StrategyAdapter):
    def checkpoint_renamings(self):
        return {"one": Renaming((lambda name: name[-6:], str))}


@pytest.mark.parametrize(
    ("adapter", "names", "error", "message"),
    [
        (Blocks, "blcks", AdapterError, r"no names called 'blcks' for checkpoints\. Did you mean 'blocks'\?"),
        (StrategyAdapter, "hf", AdapterError, r"no names called 'hf' .* It has module"),
        (Blocks, 3, AdapterError, "checkpoint_names: 3 is no text"),
        (Colliding, None, CheckpointError, r"'one' calls both 'layers\.0\.weight' and 'layers\.1\.weight' 'weight'"),
    ],
)
def test_names_that_cannot_be_written_stop_a_fit_before_it_trains(tmp_path, adapter, names, error, message):
    trained = []
    module = TunedModule([1.0])
    module.on_train_start = lambda: trained.append(True)
    with pytest.raises(error, match=message):
        fit(trainer_for(tmp_path, adapter, **({} if names is None else {"checkpoint_names": names})), module)
    assert trained == []
    assert not list(tmp_path.glob("*.ckpt"))
