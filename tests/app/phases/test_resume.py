"""Continuing a run from a checkpoint with ``fit(ckpt_path=...)``."""

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, OnExceptionCheckpoint

from phasewire.app import CheckpointError, FinetuningScheduler, FTSCheckpoint, FTSEarlyStopping
from tuning import Notes, TunedModule, fit, make_trainer, state_of

# A resumed run finds the files of the run before it.
pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty:UserWarning")

SCHEDULE = {
    0: {"params": ["head.*"], "max_transition_epoch": 2},
    1: {"params": ["layers.1.*"]},
    2: {"params": ["layers.0.*"]},
}
LOSSES = [3.0, 2.0, 1.0, 4.0, 4.0, 0.5, 6.0, 7.0]
EPOCHS = 8


def build_module():
    module = TunedModule(
        LOSSES,
        optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=0.05),
        scheduler=lambda optimizer: torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.9**epoch),
        only_trainable=False,
    )
    module.no_decay = ["bias"]
    return module


def build_trainer(folder, *, epochs=EPOCHS, restore_best=True):
    notes = Notes()
    trainer = make_trainer(
        folder,
        FinetuningScheduler(SCHEDULE, restore_best=restore_best),
        FTSEarlyStopping("val_loss", patience=2),
        FTSCheckpoint(folder / "best", monitor="val_loss", filename="{epoch}", save_top_k=-1),
        ModelCheckpoint(folder / "every", save_top_k=-1, filename="{epoch}", every_n_epochs=1),
        notes,
        max_epochs=epochs,
    )
    return trainer, notes


def saved_after(folder, epoch):
    return folder / "every" / f"epoch={epoch}.ckpt"


@pytest.fixture(scope="module", params=[True, False], ids=["restoring the best", "going on"])
def whole_run(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    torch.manual_seed(0)
    module = build_module()
    trainer, notes = build_trainer(folder, restore_best=request.param)
    fit(trainer, module)
    return request.param, folder, notes, state_of(module), trainer.optimizers[0].state_dict()


@pytest.mark.parametrize("epoch", range(EPOCHS - 1))
def test_a_run_resumed_after_any_epoch_ends_with_the_same_bits(whole_run, tmp_path, epoch):
    restore_best, folder, whole, expected, optimizer_state = whole_run
    checkpoint = saved_after(folder, epoch)
    torch.manual_seed(123)
    module = build_module()
    # The folders stay those of the first run, as they do for a user who starts the same script again.
    trainer, notes = build_trainer(folder, restore_best=restore_best)

    fit(trainer, module, ckpt_path=checkpoint)

    assert notes.epochs == whole.epochs[epoch + 1 :]
    assert all(torch.equal(value, expected[name]) for name, value in module.state_dict().items())
    resumed = trainer.optimizers[0].state_dict()
    assert resumed["param_groups"] == optimizer_state["param_groups"]
    for index, state in optimizer_state["state"].items():
        assert all(torch.equal(state[key], resumed["state"][index][key]) for key in state)


def test_the_checkpoint_path_may_be_set_on_the_trainer(whole_run):
    restore_best, folder, whole, expected, _ = whole_run
    checkpoint = saved_after(folder, 3)
    module = build_module()
    trainer, notes = build_trainer(folder, restore_best=restore_best)
    trainer.ckpt_path = str(checkpoint)

    fit(trainer, module)

    assert notes.epochs == whole.epochs[4:]
    assert all(torch.equal(value, expected[name]) for name, value in module.state_dict().items())


@pytest.mark.filterwarnings(r"ignore:\.fit\(ckpt_path=.last.\) is set, but there is no last:UserWarning")
@pytest.mark.filterwarnings(r"ignore:`\.fit\(ckpt_path=None\)` was called without a model:UserWarning")
def test_a_checkpoint_saved_on_an_exception_is_resumed_in_its_phase(tmp_path):
    class Broken(TunedModule):
        def training_step(self, batch, batch_idx):
            if self.current_epoch == 3:
                raise RuntimeError("the power went out")
            return super().training_step(batch, batch_idx)

    trainer = make_trainer(
        tmp_path,
        FinetuningScheduler(SCHEDULE, restore_best=False),
        FTSEarlyStopping("val_loss", patience=99),
        OnExceptionCheckpoint(tmp_path),
    )
    with pytest.raises(RuntimeError, match="power"):
        fit(trainer, Broken())
    notes = Notes()
    again = make_trainer(
        tmp_path,
        FinetuningScheduler(SCHEDULE, restore_best=False),
        FTSEarlyStopping("val_loss", patience=99),
        notes,
        max_epochs=5,
    )

    fit(again, TunedModule(), ckpt_path=tmp_path / "on_exception.ckpt")

    assert notes.depths == [1, 1]
    assert set(notes.epochs[0].trainable) == {"layers.1.weight", "layers.1.bias", "head.weight", "head.bias"}


def test_a_run_resumed_from_the_last_batch_of_an_epoch_moves_on_at_the_next(tmp_path):
    def build(*callbacks, **options):
        scheduler, stopping = (
            FinetuningScheduler(SCHEDULE, restore_best=False),
            FTSEarlyStopping("val_loss", patience=99),
        )
        return make_trainer(tmp_path, scheduler, stopping, *callbacks, **options)

    def recovery():
        return ModelCheckpoint(tmp_path / "steps", every_n_train_steps=2, save_top_k=-1, filename="{step}")

    fit(build(recovery(), max_epochs=3), TunedModule())
    notes = Notes()

    fit(build(recovery(), notes, max_epochs=4), TunedModule(), ckpt_path=tmp_path / "steps" / "step=4.ckpt")

    assert [(epoch.number, epoch.depth) for epoch in notes.epochs] == [(2, 1), (3, 1)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_depth": 0}, "was written in phase 1, and the last phase to train is 0"),
        ({"ft_schedule": {0: {"params": ["head.*"]}}}, "was written in phase 1, and the last phase to train is 0"),
        (
            {"ft_schedule": {0: SCHEDULE[0], 1: SCHEDULE[2], 2: SCHEDULE[1]}},
            r"phase 1: no longer layers\.1\.weight, layers\.1\.bias, now also layers\.0\.weight, layers\.0\.bias",
        ),
    ],
    ids=["smaller max_depth", "shorter schedule", "reordered schedule"],
)
def test_resuming_with_other_phases_is_refused(whole_run, tmp_path, settings, message):
    _, folder, *_ = whole_run
    scheduler = FinetuningScheduler(**{"ft_schedule": SCHEDULE, **settings}, restore_best=False)
    trainer = make_trainer(tmp_path, scheduler, FTSEarlyStopping("val_loss"))

    with (
        pytest.warns(UserWarning, match="callbacks used to create the checkpoint"),
        pytest.raises(CheckpointError, match=message),
    ):
        fit(trainer, build_module(), ckpt_path=saved_after(folder, 3))


def test_our_state_is_plain(whole_run):
    _, folder, *_ = whole_run
    checkpoint = torch.load(saved_after(folder, 4), weights_only=True)

    assert checkpoint["callbacks"]["phasewire.FinetuningScheduler"]["depth"] == 1
    assert checkpoint["phasewire"] == {
        "format": 1,
        "parameter_names": "module",
        "adapter": "phasewire.adapters.base:StrategyAdapter",
    }


def test_a_checkpoint_written_by_the_peer_is_refused_with_the_remedy(tmp_path):
    path = tmp_path / "fts.ckpt"
    # What finetuning-scheduler 2.14.1 leaves among a checkpoint's callbacks.
    state = {"internal_optimizer_metadata": {}, "fts_metadata": {"current_ckpt_depth": 1, "best_ckpt_depth": 0}}
    torch.save(
        {
            "state_dict": TunedModule().state_dict(),
            "callbacks": {"FinetuningScheduler": state},
            "pytorch-lightning_version": "2.6.6",
        },
        path,
    )
    trainer, _ = build_trainer(tmp_path)

    with pytest.raises(CheckpointError, match=r"fts\.ckpt: .* finetuning-scheduler package, .*load_state_dict"):
        fit(trainer, build_module(), ckpt_path=path)


def test_a_checkpoint_without_a_schedule_is_refused_with_the_remedy(tmp_path):
    plain = make_trainer(tmp_path, max_epochs=1)
    fit(plain, TunedModule())
    plain.save_checkpoint(tmp_path / "plain.ckpt")
    trainer, _ = build_trainer(tmp_path)

    with pytest.raises(CheckpointError, match=r"plain\.ckpt: .* holds no state of phasewire\.app\.FinetuningScheduler"):
        fit(trainer, build_module(), ckpt_path=tmp_path / "plain.ckpt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"phasewire": {"format": 99}}, "The checkpoint has format 99, .* Upgrade Phasewire"),
        ({"phasewire": {}}, "The record under 'phasewire' is not one that Phasewire writes"),
        ({"phasewire": 7}, "The record under 'phasewire' is not one that Phasewire writes"),
        ({"callbacks": None}, "holds no state of phasewire.app.FinetuningScheduler"),
        (
            {  # a phase that the schedule beside it does not have
                "callbacks": {
                    "phasewire.FinetuningScheduler": {
                        "format": 1,
                        "depth": 9,
                        "started_at_epoch": 0,
                        "groups": [],
                        "schedule": [{"params": ["head.weight"]}],
                        "loop": {},
                        "put_off": [],
                        "versions": {},
                        "begun": True,
                    }
                }
            },
            "The state of the FinetuningScheduler, .* cannot be read",
        ),
    ],
)
def test_a_checkpoint_with_a_foreign_record_is_refused(whole_run, tmp_path, change, message):
    _, folder, *_ = whole_run
    checkpoint = torch.load(saved_after(folder, 4), weights_only=True)
    torch.save({**checkpoint, **change}, tmp_path / "odd.ckpt")
    trainer, _ = build_trainer(tmp_path)

    with pytest.raises(CheckpointError, match=rf"odd\.ckpt: .*{message}"):
        fit(trainer, build_module(), ckpt_path=tmp_path / "odd.ckpt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda recorded, optimizer: recorded.pop(), "ValueError: .* different number of parameter groups"),
        (lambda recorded, optimizer: recorded[0].pop(), "ValueError: .* doesn't match the size of optimizer's group"),
        (lambda recorded, optimizer: optimizer["param_groups"][0]["params"].pop(), "ValueError: .* doesn't match"),
        (lambda recorded, optimizer: optimizer.pop("param_groups"), "KeyError: 'param_groups'"),
    ],
)
@pytest.mark.filterwarnings("ignore:The dirpath has changed from:UserWarning")
def test_groups_that_were_changed_by_hand_are_refused(whole_run, tmp_path, change, message):
    _, folder, *_ = whole_run
    checkpoint = torch.load(saved_after(folder, 4), weights_only=True)
    change(checkpoint["callbacks"]["phasewire.FinetuningScheduler"]["groups"], checkpoint["optimizer_states"][0])
    torch.save(checkpoint, tmp_path / "odd.ckpt")
    trainer, _ = build_trainer(tmp_path)

    with pytest.raises(CheckpointError, match=rf"odd\.ckpt: The state of the optimizer cannot be restored \({message}"):
        fit(trainer, build_module(), ckpt_path=tmp_path / "odd.ckpt")


@pytest.mark.parametrize("count", [0, 2])
@pytest.mark.filterwarnings("ignore:The dirpath has changed from:UserWarning")
def test_a_checkpoint_with_states_of_fewer_or_more_optimizers_is_refused(whole_run, tmp_path, count):
    _, folder, *_ = whole_run
    checkpoint = torch.load(saved_after(folder, 4), weights_only=True)
    torch.save({**checkpoint, "optimizer_states": checkpoint["optimizer_states"] * count}, tmp_path / "odd.ckpt")
    trainer, _ = build_trainer(tmp_path)

    with pytest.raises(CheckpointError, match=rf"odd\.ckpt: .* states of {count} optimizers, and the run has 1"):
        fit(trainer, build_module(), ckpt_path=tmp_path / "odd.ckpt")


def test_a_checkpoint_that_cannot_be_read_is_refused_with_its_path(tmp_path):
    (tmp_path / "torn.ckpt").write_bytes(b"not a checkpoint")
    trainer, _ = build_trainer(tmp_path)

    with pytest.raises(CheckpointError, match=r"torn\.ckpt: The checkpoint cannot be read"):
        fit(trainer, build_module(), ckpt_path=tmp_path / "torn.ckpt")
