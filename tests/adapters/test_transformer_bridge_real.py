"""The bridge adapter with a real ``TransformerBridge``: a small GPT-2, made from its configuration alone."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
import yaml
from lightning.pytorch.callbacks import Callback
from torch.utils.data import DataLoader

from bridges import SmallBridge, token_loader
from phasewire.adapters import ScheduleError, TransformerBridgeStrategyAdapter
from phasewire.app import FinetuningScheduler, FTSCheckpoint, FTSEarlyStopping, Schedule, ScheduleValidator
from phasewire.app.plan import plan_schedule
from phasewire.app.settings import SchedulerSettings
from tuning import Notes, make_trainer, state_of

ADAPTERS = {"single_device": "transformerbridge", "auto": "transformerbridge"}
VOCABULARY, CONTEXT = 64, 8

# GPT-2 uses the embedding as its output layer too: `unembed` is a second name of `embed`.
SCHEDULE = {
    0: {"params": [r"model\.(ln_final|unembed)\..*"], "max_transition_epoch": 2},
    1: {"params": [r"model\.blocks\.1\..*"], "max_transition_epoch": 3, "lr": 0.1},
    2: {"params": [r"model\.blocks\.0\..*", r"model\.(pos_)?embed\..*"], "lr": 0.1},
}
# Epoch 0 is the best of phase 0, so phase 1 begins with its weights; later every epoch is the best so far.
VAL_LOSSES = [2.0, 3.0, 1.5, 1.0]
FINAL_NORM = ("model.ln_final._original_component.weight", "model.ln_final._original_component.bias")


class BridgedModule(pl.LightningModule):
    """Next-token training of two GPT-2 blocks behind a bridge. A bridge needs no tokenizer for token ids."""

    def __init__(self) -> None:
        super().__init__()
        # Here and not above: the import takes seconds, and every process of the tests imports this file.
        from transformer_lens.model_bridge.sources import build_bridge_from_module
        from transformers import GPT2Config, GPT2LMHeadModel

        config = GPT2Config(n_layer=2, n_embd=16, n_head=2, vocab_size=VOCABULARY, n_positions=CONTEXT)
        self.model = build_bridge_from_module(GPT2LMHeadModel(config), "GPT2LMHeadModel", hf_config=config)

    def training_step(self, tokens, batch_idx):
        return self.model(tokens, return_type="loss")

    def validation_step(self, tokens, batch_idx):
        self.log("val_loss", torch.tensor(VAL_LOSSES[self.current_epoch]))

    def configure_optimizers(self):
        return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=0.1)


class Weights(Notes):
    """Keeps the weights that each epoch began and ended with."""

    def __init__(self) -> None:
        super().__init__()
        self.first: list[dict[str, torch.Tensor]] = []
        self.last: list[dict[str, torch.Tensor]] = []

    def on_train_epoch_start(self, trainer, pl_module):
        self.first.append(parameters_of(pl_module))

    def on_train_epoch_end(self, trainer, pl_module):
        self.last.append(parameters_of(pl_module))

    def changed_in(self, epoch: int) -> set[str]:
        first, last = self.first[epoch], self.last[epoch]
        return {name for name, value in last.items() if not torch.equal(value, first[name])}


@dataclass(frozen=True)
class Tuned:
    """A module after three phases, and what was noted meanwhile."""

    module: BridgedModule
    scheduler: FinetuningScheduler
    notes: Weights
    best: Path
    warnings: tuple[str, ...]


def parameters_of(module: pl.LightningModule) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


def tokens() -> DataLoader:
    rows = torch.randint(0, VOCABULARY, (4, CONTEXT), generator=torch.Generator().manual_seed(0))
    return DataLoader(rows, batch_size=2)


def fit(folder: Path, module: BridgedModule, scheduler: FinetuningScheduler, *callbacks, max_epochs: int) -> None:
    stopping = FTSEarlyStopping("val_loss", patience=99)
    trainer = make_trainer(folder, scheduler, stopping, *callbacks, max_epochs=max_epochs)
    trainer.fit(module, train_dataloaders=tokens(), val_dataloaders=tokens())


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    folder = tmp_path_factory.mktemp("bridge")
    torch.manual_seed(0)
    module, notes = BridgedModule(), Weights()
    scheduler = FinetuningScheduler(SCHEDULE, custom_strategy_adapters=ADAPTERS, log_dir=folder)
    checkpoint = FTSCheckpoint(folder / "best", monitor="val_loss")
    with warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("always", message=".*second names of tied parameters")
        fit(folder, module, scheduler, checkpoint, notes, max_epochs=4)
    return Tuned(module, scheduler, notes, Path(checkpoint.best_model_path), tuple(str(w.message) for w in caught))


def test_each_phase_thaws_its_own_names_on_top_of_the_earlier(tuned: Tuned) -> None:
    names = [name for name, _ in tuned.module.named_parameters()]
    second = tuple(name for name in names if name.startswith("model.blocks.1.")) + FINAL_NORM
    assert type(tuned.scheduler.strategy_adapter) is TransformerBridgeStrategyAdapter
    assert [(epoch.depth, epoch.trainable) for epoch in tuned.notes.epochs] == [
        (0, FINAL_NORM),
        (0, FINAL_NORM),
        (1, second),
        (2, tuple(names)),
    ]
    assert len(second) == 20
    assert len(names) == 40


def test_what_is_frozen_keeps_its_values(tuned: Tuned) -> None:
    assert tuned.notes.changed_in(0) == set(FINAL_NORM)
    assert set(FINAL_NORM) < tuned.notes.changed_in(2) <= set(tuned.notes.epochs[2].trainable)
    assert "model.embed._original_component.weight" in tuned.notes.changed_in(3)


def test_a_tied_embedding_is_left_out_of_the_phase_of_its_second_name(tuned: Tuned) -> None:
    (warning,) = tuned.warnings
    assert "'model.unembed._original_component.weight' (tied to 'model.embed._original_component.weight'" in warning
    assert "which is thawed in phase 2" in warning
    assert tuned.scheduler.ft_schedule[0]["params"] == list(FINAL_NORM)


def test_a_first_phase_of_the_tied_output_layer_alone_is_refused(tmp_path: Path) -> None:
    scheduler = FinetuningScheduler(
        {0: {"params": [r"model\.unembed\..*"]}}, custom_strategy_adapters=ADAPTERS, log_dir=tmp_path
    )
    with pytest.raises(ScheduleError, match=r"Phase 0 thaws nothing.*'model\.embed\._original_component\.weight'"):
        fit(tmp_path, BridgedModule(), scheduler, max_epochs=1)


def test_a_phase_begins_with_the_best_weights_of_the_one_before(tuned: Tuned) -> None:
    best, after, begun = tuned.notes.last[0], tuned.notes.last[1], tuned.notes.first[2]
    for name, value in begun.items():
        torch.testing.assert_close(value, best[name], rtol=0, atol=0)
    assert any(not torch.equal(value, after[name]) for name, value in begun.items())


def test_a_checkpoint_has_the_names_of_the_module_and_loads_without_phasewire(tuned: Tuned) -> None:
    state = torch.load(tuned.best, weights_only=True)["state_dict"]
    assert list(state) == list(tuned.module.state_dict())

    loaded = BridgedModule.load_from_checkpoint(tuned.best)
    for name, value in state_of(loaded).items():
        torch.testing.assert_close(value, state[name], rtol=0, atol=0)
    batch, trained = next(iter(tokens())), tuned.module.eval()
    torch.testing.assert_close(loaded.eval().model(batch), trained.model(batch), rtol=0, atol=0)


def test_the_default_schedule_names_every_parameter_once_and_trains(tmp_path: Path) -> None:
    module, notes = BridgedModule(), Notes()
    scheduler = FinetuningScheduler(custom_strategy_adapters={"auto": "transformerbridge"}, log_dir=tmp_path)
    fit(tmp_path, module, scheduler, FTSCheckpoint(tmp_path, monitor="val_loss"), notes, max_epochs=1)
    (file,) = tmp_path.glob("BridgedModule_ft_schedule*.yaml")
    phases = [phase["params"] for phase in yaml.safe_load(file.read_text()).values()]
    listed = [name for params in phases for name in params]
    assert sorted(listed) == sorted(name for name, _ in module.named_parameters())
    assert sorted(phases[0]) == sorted(FINAL_NORM)
    assert notes.epochs[0].trainable == FINAL_NORM


class MemoryOfTheLastStep(Callback):
    """Notes the bytes of gradients and of the optimizer's state after each step."""

    gradients = 0

    def on_before_zero_grad(self, trainer, pl_module, optimizer):
        gradients = [parameter.grad for parameter in pl_module.parameters() if parameter.grad is not None]
        self.gradients = sum(gradient.numel() * gradient.element_size() for gradient in gradients) or self.gradients
        self.state = sum(
            each.numel() * each.element_size() for kept in optimizer.state.values() for each in kept.values()
        )


@pytest.mark.parametrize("use_tl_names", [False, True])
def test_a_plan_counts_no_joint_projections_which_get_no_gradient(tmp_path, use_tl_names):
    module = SmallBridge("GPT2LMHeadModel")
    module.configure_optimizers = lambda: torch.optim.Adam([p for p in module.parameters() if p.requires_grad])
    everything = Schedule.from_mapping({0: {"params": [".*"]}})
    settings = SchedulerSettings()
    adapter = TransformerBridgeStrategyAdapter(use_tl_names=use_tl_names)
    plan = plan_schedule(module, everything, settings, ScheduleValidator(), adapter=adapter)
    assert plan.total == plan.phases[0].thawed
    joint = sum(p.numel() for name, p in module.named_parameters() if ".qkv." in name)
    assert plan.never_trained == joint > 0
    assert plan.total + joint == sum(parameter.numel() for parameter in module.parameters())
    assert plan.weight_bytes == 4 * (plan.total + joint)

    measured = MemoryOfTheLastStep()
    scheduler = FinetuningScheduler(
        ft_schedule=everything,
        custom_strategy_adapters={"single_device": "transformerbridge"},
        strategy_adapter_cfg={"use_tl_names": use_tl_names},
        restore_best=False,
    )
    stopping = FTSEarlyStopping(monitor="val_loss")
    trainer = make_trainer(tmp_path, scheduler, measured, stopping, max_epochs=1, enable_checkpointing=False)
    trainer.fit(module, token_loader(), token_loader())
    assert plan.phases[0].gradient_bytes == measured.gradients
    assert plan.phases[0].optimizer_bytes == measured.state
