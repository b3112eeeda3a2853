"""Train models of two depths with one schedule, in the names that the installed adapter gives.

python -m pip install ./plugin_adapter
python plugin_adapter/train.py
"""

from __future__ import annotations

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from phasewire.app import FinetuningScheduler

SCHEDULE = {
    0: {"params": [r"head\..*"], "max_transition_epoch": 1},
    1: {"params": [r"layers\.-1\..*"], "max_transition_epoch": 2},
    2: {"params": [r"layers\.-2\..*"], "max_transition_epoch": 3},
}


class Regressor(LightningModule):
    """Learns the sum of eight numbers. In your script: a pretrained model.

    Args:
        depth: The number of layers.
    """

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(depth))
        self.head = nn.Linear(8, 1)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Compute the loss of a batch."""
        numbers, total = batch
        for layer in self.layers:
            numbers = torch.tanh(layer(numbers))
        return functional.mse_loss(self.head(numbers), total)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Optimize what is thawed when training begins; the scheduler adds the later phases."""
        return torch.optim.SGD((weight for weight in self.parameters() if weight.requires_grad), lr=0.05)


def main() -> None:
    """Train both, and print what each of them trained in the end."""
    seed_everything(0)
    numbers = torch.randn(32, 8)
    batches = DataLoader(TensorDataset(numbers, numbers.sum(dim=1, keepdim=True)), batch_size=16)
    for depth in (3, 6):
        module = Regressor(depth)
        scheduler = FinetuningScheduler(
            ft_schedule=SCHEDULE,
            custom_strategy_adapters={"auto": "from_the_end"},  # by its name: nothing has to be imported
            epoch_transitions_only=True,
            restore_best=False,
        )
        trainer = Trainer(
            max_epochs=3,
            accelerator="cpu",
            callbacks=[scheduler],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, batches)
        trained = [name for name, weight in module.named_parameters() if weight.requires_grad]
        print(f"{depth} layers: trained {', '.join(trained)}")


if __name__ == "__main__":
    main()
