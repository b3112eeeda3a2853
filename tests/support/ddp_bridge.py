"""Trains a real bridge in three phases, in two processes and in one: ``python ddp_bridge.py FOLDER``.

Once with a schedule in the module's names, which thaws joint projections that no forward pass uses, and once in
TransformerLens names, which does not, and so needs no search for unused parameters.
"""

import sys
from pathlib import Path

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader

from ddp_run import SaveRank
from phasewire.app import FinetuningScheduler, FTSCheckpoint, FTSEarlyStopping
from tuning import make_trainer

VOCABULARY, CONTEXT = 32, 6

SCHEDULE = {
    0: {"params": [r"model\.(unembed|ln_final)\..*"], "max_transition_epoch": 1},
    1: {"params": [r"model\.blocks\.1\..*"], "max_transition_epoch": 2, "lr": 0.1},
    2: {"params": [r"model\.blocks\.0\..*"], "lr": 0.05},
}

TL_SCHEDULE = {
    0: {"params": [r"(unembed|ln_final)\..*"], "max_transition_epoch": 1},
    1: {"params": [r"blocks\.1\..*"], "max_transition_epoch": 2, "lr": 0.1},
    2: {"params": [r"blocks\.0\..*"], "lr": 0.05},
}


class BridgedModule(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        from transformer_lens.model_bridge.sources import build_bridge_from_module
        from transformers import GPT2Config, GPT2LMHeadModel

        torch.manual_seed(0)
        config = GPT2Config(
            n_layer=2,
            n_embd=8,
            n_head=2,
            vocab_size=VOCABULARY,
            n_positions=CONTEXT,
            tie_word_embeddings=False,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
        )
        self.model = build_bridge_from_module(GPT2LMHeadModel(config), "GPT2LMHeadModel", hf_config=config)

    def training_step(self, tokens, batch_idx):
        return self.model(tokens[self.global_rank :: self.trainer.world_size], return_type="loss")

    def validation_step(self, tokens, batch_idx):
        self.log("val_loss", float(-self.current_epoch), sync_dist=True)

    def configure_optimizers(self):
        return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=0.1)


def train(folder: Path, strategy: str, devices: int, *, tl_names: bool = False) -> None:
    folder.mkdir()
    trainer = make_trainer(
        folder,
        FinetuningScheduler(
            TL_SCHEDULE if tl_names else SCHEDULE,
            custom_strategy_adapters={"auto": "transformerbridge"},
            strategy_adapter_cfg={"use_tl_names": tl_names},
        ),
        FTSEarlyStopping("val_loss"),
        FTSCheckpoint(folder / "best", monitor="val_loss"),
        SaveRank(folder),
        strategy=strategy,
        devices=devices,
        max_epochs=3,
        use_distributed_sampler=False,
    )
    tokens = torch.randint(0, VOCABULARY, (2, 4, CONTEXT), generator=torch.Generator().manual_seed(0))
    loader = DataLoader(tokens, batch_size=None)  # every rank takes its own rows of each batch
    trainer.fit(BridgedModule(), loader, loader)


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    torch.save(BridgedModule().state_dict(), folder / "initial.pt")
    # First: a process that has computed gradients cannot be forked.
    train(folder / "two", "ddp_fork_find_unused_parameters_true", 2)
    train(folder / "two_tl", "ddp_fork", 2, tl_names=True)
    train(folder / "one", "auto", 1)
    train(folder / "one_tl", "auto", 1, tl_names=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
