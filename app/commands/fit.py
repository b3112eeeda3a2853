"""``phasewire fit``: train what a YAML file describes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from phasewire.app.commands.wiring import ConfigFiles, container_from

__all__ = ["fit"]

_LIGHTNINGS_WORDS = ("hpc", "registry")


def fit(
    config: ConfigFiles = None,
    ckpt_path: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="The checkpoint to resume from."),
    ] = None,
) -> None:
    """Train a model as one or more YAML files describe it.

    The whole configuration is checked before anything is trained, and no file that exists is written over.

    Example: `phasewire fit --config config.yaml --config more-epochs.yaml`
    """
    from lightning.pytorch import seed_everything

    from phasewire.adapters.errors import ConfigError

    if not config:
        raise ConfigError(
            "fit needs to be told what to train.",
            remedy="Give it --config FILE; 'phasewire config init' writes a file to begin with.",
        )
    _require_checkpoint(ckpt_path)
    container = container_from(config)
    settings = container.settings()
    if settings.seed_everything is not None:
        seed_everything(settings.seed_everything, workers=True)
    model = container.model()
    # Without one, the module brings its own loaders.
    datamodule = None if settings.datamodule is None else container.datamodule()
    trainer = container.trainer()
    trainer.fit(model, datamodule=datamodule, ckpt_path=ckpt_path)
    if trainer.is_global_zero:
        _show_outcome(trainer.current_epoch, getattr(trainer.checkpoint_callback, "best_model_path", ""))
    _leave_process_group()


def _require_checkpoint(ckpt_path: str | None) -> None:
    from phasewire.adapters.errors import ConfigError, did_you_mean

    # Lightning resolves its own words, and addresses of remote files. Its "best" and "last" are those of a Trainer that
    # has trained before, which a new process has not.
    if ckpt_path is None or ckpt_path in _LIGHTNINGS_WORDS or "://" in ckpt_path or Path(ckpt_path).exists():
        return
    folder = Path(ckpt_path).parent
    beside = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    raise ConfigError(
        f"There is no checkpoint {ckpt_path!r}. {did_you_mean(Path(ckpt_path).name, beside)}".rstrip(),
        where="--ckpt-path",
        remedy="Give the path of a checkpoint that exists.",
    )


def _show_outcome(epochs: int, best_checkpoint: str) -> None:
    typer.echo(f"Trained {epochs} epoch{'' if epochs == 1 else 's'}.")
    if best_checkpoint and Path(best_checkpoint).exists():
        typer.echo(f"Best checkpoint: {best_checkpoint}")


def _leave_process_group() -> None:
    from torch import distributed

    # Lightning leaves it open, for a script may go on. Threads of gloo that outlive the interpreter abort the process.
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
