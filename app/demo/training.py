"""One training of the demo: built by the container from a YAML file, trained, and measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from rich.progress import Progress, TaskID
from torch import Tensor

from phasewire.app.config_file import dump_yaml
from phasewire.app.demo.model import read_backbone
from phasewire.app.phases.scheduler import FinetuningScheduler
from phasewire.app.trainer_attributes import callbacks_of
from phasewire.app.wired import Wired

__all__ = ["Training", "read_checkpoint"]


class Training:
    """A model, its data and a Trainer, as a YAML file wires them.

    The configuration is left in the training's folder, where ``phasewire fit --config`` can run it again.

    Args:
        settings: The whole configuration.
        folder: The training's own folder, which is created; it must not exist.
        container: An empty container, which is configured here.

    Raises:
        PhasewireError: The configuration cannot be used.
    """

    # Any: the sections of config.yaml.
    def __init__(self, settings: Mapping[str, Any], folder: Path, container: Wired) -> None:
        folder.mkdir(parents=True)
        config = folder / "config.yaml"
        config.write_text(dump_yaml(dict(settings), escape_env=True), encoding="utf-8")
        container.config.from_yaml(config)
        seed_everything(container.settings().seed_everything, workers=True, verbose=False)
        self._model = container.model()
        self._data = container.datamodule()
        self._trainer = container.trainer()

    @property
    def steps(self) -> int:
        """Optimizer steps taken so far."""
        return self._trainer.global_step

    @property
    def best_checkpoint(self) -> Path:
        """The checkpoint with the lowest validation loss."""
        return Path(getattr(self._trainer.checkpoint_callback, "best_model_path", ""))

    @property
    def schedule(self) -> dict[int, dict[str, Any]]:
        """The schedule as it was resolved against the model; known once trained."""
        scheduler = next(
            callback for callback in callbacks_of(self._trainer) if isinstance(callback, FinetuningScheduler)
        )
        return scheduler.ft_schedule

    def train(self, progress: Progress, task: TaskID) -> float:
        """Train for the configured epochs.

        Args:
            progress: Where each epoch is counted.
            task: The bar that counts it.

        Returns:
            Wall time in seconds.
        """
        callbacks_of(self._trainer).append(_EpochCounter(progress, task))
        begin = time.perf_counter()
        self._trainer.fit(self._model, datamodule=self._data)
        return time.perf_counter() - begin

    def validate_best(self) -> Mapping[str, float]:
        """Measure the best checkpoint on the validation part.

        Returns:
            Name of the metric to its value.
        """
        return self._measure(self._trainer.validate)

    def test_best(self) -> Mapping[str, float]:
        """Measure the best checkpoint on the test part.

        Returns:
            Name of the metric to its value.
        """
        return self._measure(self._trainer.test)

    def parameters_at_start(self, pretrained: Path) -> dict[str, Tensor]:
        """Collect the weights that training will begin with; call it before :meth:`train`.

        Args:
            pretrained: The checkpoint whose backbone is taken over.

        Returns:
            Name to a copy of the parameter's values.
        """
        backbone = read_backbone(pretrained)
        return {
            name: backbone.get(name, parameter.detach().clone()) for name, parameter in self._model.named_parameters()
        }

    def _measure(self, evaluate: Callable[..., list[Mapping[str, float]]]) -> Mapping[str, float]:
        (metrics,) = evaluate(self._model, datamodule=self._data, ckpt_path=self.best_checkpoint, verbose=False)
        return metrics


class _EpochCounter(Callback):
    """Moves a progress bar on by one after every epoch."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._progress.advance(self._task)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint.

    Args:
        path: A file that Lightning wrote.

    Returns:
        Its content, on the CPU.
    """
    # Any: a checkpoint holds tensors, numbers and the states of callbacks.
    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return content
