"""A GPT-2 whose embedding and head are one parameter, trained in phases."""

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from transformers import GPT2Config, GPT2LMHeadModel

from by_hand import EpochStates, same, train_by_hand
from phasewire.app import FinetuningScheduler, FTSCheckpoint, FTSEarlyStopping, ScheduleError
from tuning import FEATURES, Notes, TunedModule, fit, make_trainer, state_of

EMBEDDING, HEAD = "gpt.transformer.wte.weight", "gpt.lm_head.weight"
BY_NAME = {
    0: {"params": ["gpt.transformer.ln_f.weight", "gpt.transformer.ln_f.bias"], "max_transition_epoch": 2},
    1: {"params": [EMBEDDING], "max_transition_epoch": 4, "lr": 0.05},
    2: {"params": ["gpt.transformer.wpe.weight"], "lr": 0.01},
}
BY_PATTERN = {
    0: {"params": [r"gpt\.transformer\.ln_f\..*"], "max_transition_epoch": 2},
    1: {"params": [r"gpt\.(transformer\.wte|lm_head)\..*"], "max_transition_epoch": 4, "lr": 0.05},
    2: {"params": [r"gpt\.transformer\.wpe\..*"], "lr": 0.01},
}
LOSSES = [2.0, 3.0, 1.0, 4.0, 5.0, 6.0]
STARTS, BEST = {2: 1, 4: 2}, {1: 0, 2: 2}


class TiedModule(TunedModule):
    """Reads the signs of a row as tokens, and answers with the logit of one word."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        del self.layers, self.head
        self.gpt = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=3,
                n_positions=FEATURES,
                n_embd=4,
                n_layer=1,
                n_head=2,
                resid_pdrop=0.0,
                embd_pdrop=0.0,
                attn_pdrop=0.0,
            )
        )

    def forward(self, x):
        return self.gpt((x > 0).long()).logits[:, -1, :1]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def build(folder, *callbacks, schedule=BY_NAME, epochs=6, patience=99, **settings):
    notes = Notes()
    trainer = make_trainer(
        folder,
        FinetuningScheduler(schedule, **settings),
        FTSEarlyStopping("val_loss", patience=patience),
        FTSCheckpoint(folder / "best", monitor="val_loss", filename="{epoch}", save_top_k=-1),
        notes,
        *callbacks,
        max_epochs=epochs,
    )
    return trainer, notes


def trained_by_hand():
    torch.manual_seed(0)
    return train_by_hand(TiedModule(), BY_NAME, STARTS, epochs=6, best=BEST)


@pytest.mark.parametrize("schedule", [BY_NAME, BY_PATTERN], ids=["names", "patterns"])
def test_a_tied_parameter_is_trained_once_and_stays_tied_when_the_best_is_restored(tmp_path, schedule):
    states = EpochStates()
    trainer, notes = build(tmp_path, states, schedule=schedule)
    module = TiedModule(LOSSES)

    fit(trainer, module)

    assert notes.depths == [0, 0, 1, 1, 2, 2]
    assert notes.epochs[4].groups == (
        ("gpt.transformer.ln_f.weight", "gpt.transformer.ln_f.bias"),
        (EMBEDDING,),
        ("gpt.transformer.wpe.weight",),
    )
    assert module.gpt.lm_head.weight is module.gpt.transformer.wte.weight
    assert same(state_of(module), trained_by_hand())
    assert torch.equal(states.ends[1][EMBEDDING], states.beginnings[0][EMBEDDING])
    assert not torch.equal(states.ends[3][EMBEDDING], states.beginnings[2][EMBEDDING])


def test_a_second_name_is_left_out_with_a_warning_that_names_the_first(tmp_path):
    schedule = {**BY_NAME, 2: {"params": [HEAD, "gpt.transformer.wpe.weight"], "lr": 0.01}}
    trainer, _ = build(tmp_path, schedule=schedule)
    module = TiedModule(LOSSES)

    with pytest.warns(UserWarning, match=rf"'{HEAD}' \(tied to '{EMBEDDING}', which is thawed in phase 1\)"):
        fit(trainer, module)

    assert same(state_of(module), trained_by_hand())


def test_a_phase_zero_of_a_second_name_alone_is_refused_with_the_first(tmp_path):
    trainer, _ = build(tmp_path, schedule={0: {"params": [HEAD]}})

    with pytest.raises(ScheduleError, match=rf"Phase 0 thaws nothing: .*'{HEAD}' \(tied to '{EMBEDDING}'"):
        fit(trainer, TiedModule())


def test_the_generated_schedule_has_every_parameter_once(tmp_path):
    trainer, notes = build(tmp_path, schedule=None, epochs=30, patience=1)
    module = TiedModule([1.0])
    names = [name for name, _ in module.named_parameters()]

    fit(trainer, module)

    assert HEAD not in names
    scheduler = trainer.callbacks[0]
    assert set(scheduler.ft_schedule[scheduler.max_depth]["params"]) == {EMBEDDING, "gpt.transformer.wpe.weight"}
    assert notes.depths[-1] == scheduler.max_depth == len(names) // 2 - 1
    assert sorted(name for group in notes.epochs[-1].groups for name in group) == sorted(names)


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty:UserWarning")
@pytest.mark.parametrize("epoch", [0, 1, 2, 3])
def test_a_resumed_run_ends_with_the_same_bits(tmp_path, epoch):
    every = {"save_top_k": -1, "filename": "{epoch}"}
    trainer, whole = build(tmp_path, ModelCheckpoint(tmp_path / "every", **every))
    fit(trainer, TiedModule(LOSSES))
    again, notes = build(tmp_path, ModelCheckpoint(tmp_path / "every", **every))
    module = TiedModule(LOSSES)

    fit(again, module, ckpt_path=tmp_path / "every" / f"epoch={epoch}.ckpt")

    assert notes.epochs == whole.epochs[epoch + 1 :]
    assert module.gpt.lm_head.weight is module.gpt.transformer.wte.weight
    assert same(state_of(module), trained_by_hand())
