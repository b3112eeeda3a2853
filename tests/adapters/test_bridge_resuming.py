"""A run in TransformerLens names goes on where it was cut off, and a compiled bridge trains as one that is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from bridges import CONTEXT, VOCABULARY, BridgedModule, bridged
from phasewire.app import FinetuningScheduler, FTSCheckpoint, FTSEarlyStopping
from resuming import StatefulBatches, differences
from tuning import Notes, make_trainer

SCHEDULE = {
    0: {"params": [r"blocks\.1\.attn\..*"], "max_transition_epoch": 2},
    1: {"params": [r"blocks\.1\.mlp\..*", "blocks.0.attn.W_K"], "max_transition_epoch": 4, "lr": 0.01},
    2: {"params": [r"blocks\.0\.(?!attn\.W_K).*", r"embed\..*"], "lr": 0.02},
}
STEPS_PER_EPOCH = 2


class Adam(BridgedModule):
    """An optimizer whose every parameter has a state."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW([p for p in self.parameters() if p.requires_grad], lr=0.02)


class TokenBatches(StatefulBatches):
    """Batches of tokens, from where a checkpoint was taken on."""

    def __init__(self) -> None:
        super().__init__()
        rows = torch.randint(3, VOCABULARY, (2 * STEPS_PER_EPOCH, CONTEXT), generator=torch.Generator().manual_seed(0))
        self._batches = list(rows.split(2))


@dataclass(frozen=True)
class Ended:
    """What a run came to."""

    state: dict[str, Any]
    notes: Notes
    depth: int
    thawed: list[str]


def run(folder: Path, architecture: str, names: str, resumed: Path | None = None) -> Ended:
    scheduler = FinetuningScheduler(
        SCHEDULE,
        custom_strategy_adapters={"auto": "transformerbridge"},
        strategy_adapter_cfg={"use_tl_names": True, "checkpoint_names": names},
        log_dir=folder,
    )
    best = FTSCheckpoint(folder / "best", monitor="val_loss", filename="{epoch}")
    every = ModelCheckpoint(folder / "steps", filename="{step}", every_n_train_steps=1, save_top_k=-1)
    notes, module = Notes(), Adam(bridged(architecture).bridge)
    stopping = FTSEarlyStopping("val_loss", patience=99)
    trainer = make_trainer(folder, scheduler, stopping, best, every, notes, max_epochs=6)
    trainer.fit(module, TokenBatches(), TokenBatches(), ckpt_path=resumed)
    (optimizer,) = trainer.optimizers
    state = {"module": module.state_dict(), "optimizer": optimizer.state_dict(), "step": trainer.global_step}
    thawed = [name for depth in range(scheduler.curr_depth + 1) for name in scheduler.ft_schedule[depth]["params"]]
    return Ended(state, notes, scheduler.curr_depth, thawed)


Whole = tuple[Path, tuple[str, str], Ended]


@pytest.fixture(scope="module", params=[("LlamaForCausalLM", "tl"), ("GPT2LMHeadModel", "module")], ids="-".join)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """A run that nothing cut off: shared keys and separate embeddings, or joint projections and tied ones."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, request.param, run(folder, *request.param)


@pytest.mark.filterwarnings("ignore:The dirpath has changed from:UserWarning")
@pytest.mark.parametrize("step", [3, 6, 9], ids=["mid-epoch in phase 0", "mid-phase 1", "mid-epoch in phase 2"])
def test_a_run_in_transformer_lens_names_resumes_to_the_bit(whole: Whole, tmp_path: Path, step: int) -> None:
    folder, how, ended = whole
    saved = folder / "steps" / f"step={step}.ckpt"
    resumed = run(tmp_path, *how, saved)
    assert differences(ended.state, resumed.state) == []
    assert (resumed.depth, resumed.thawed) == (ended.depth, ended.thawed)
    assert resumed.notes.depths == ended.notes.depths[-len(resumed.notes.depths) :]
    assert len(resumed.notes.depths) == 6 - -(
        -step // STEPS_PER_EPOCH
    )  # the epoch in which it was cut is not noted anew
    assert "blocks.0.attn.W_K" in resumed.thawed


# -- torch.compile -------------------------------------------------------------------------------------------------


def bridge_alone(module: BridgedModule) -> pl.LightningModule:
    module.model = torch.compile(module.model, backend="eager")
    return module


def whole_module(module: BridgedModule) -> pl.LightningModule:
    return torch.compile(module, backend="eager")


def trained(folder: Path, compiled: Callable[[BridgedModule], pl.LightningModule]) -> tuple[dict[str, Any], list[Any]]:
    schedule = {
        0: {"params": [r"blocks\.0\.attn\..*"], "max_transition_epoch": 1},
        1: {"params": [r"embed\..*"], "lr": 0.1, "max_transition_epoch": 2},
    }
    scheduler = FinetuningScheduler(
        schedule,
        custom_strategy_adapters={"auto": "transformerbridge"},
        strategy_adapter_cfg={"use_tl_names": True},
        epoch_transitions_only=True,
        restore_best=False,
        log_dir=folder,
    )
    source, notes = bridged("LlamaForCausalLM", num_hidden_layers=1), Notes()
    trainer = make_trainer(folder, scheduler, notes, max_epochs=2, limit_train_batches=1, limit_val_batches=0)
    trainer.fit(compiled(BridgedModule(source.bridge)), TokenBatches(), TokenBatches())
    now = {name: value.detach() for name, value in source.hf_now().items()}
    return now, [(epoch.depth, len(epoch.trainable)) for epoch in notes.epochs]


# The code is not traced, which takes ten seconds a phase: what is looked at is all that finds the bridge and its names.
@pytest.mark.parametrize("compiled", [bridge_alone, whole_module])
def test_a_compiled_bridge_trains_as_one_that_is_not(
    tmp_path: Path, compiled: Callable[[BridgedModule], pl.LightningModule]
) -> None:
    expected, phases = trained(tmp_path / "plain", lambda module: module)
    with torch.compiler.set_stance("force_eager"):
        found, its_phases = trained(tmp_path / "compiled", compiled)
    assert its_phases == phases == [(0, 6), (1, 7)]
    assert differences(expected, found) == []
