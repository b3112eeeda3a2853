"""How the learning rates in the demo's YAML file were chosen: the same grid for each way, judged on validation images.

Every way gets one learning rate for all that it trains, from one grid. Other seeds are used than those the demo shows,
and the test images are never looked at. The rate with the lowest mean validation loss of the best checkpoint wins.

    python benchmarks/demo_learning_rates.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import mean

from measuring import show
from rich.console import Console
from rich.progress import Progress, track

from phasewire.app.config_file import merge_settings
from phasewire.app.demo import DemoWiring
from phasewire.app.demo.surroundings import lightning_errors_only, single_thread
from phasewire.app.demo.training import Training
from phasewire.app.demo.wiring import PRETRAIN
from phasewire.containers import Container

RATES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
SEEDS = range(100, 110)


def best_validation_loss(wiring: DemoWiring, way: str, rate: float, seed: int, folder: Path, pretrained: Path) -> float:
    """Tune once.

    Args:
        wiring: The demo's wiring.
        way: The way to tune.
        rate: The learning rate of everything that is trained.
        seed: The seed of everything random.
        folder: A folder for the logs, which does not exist yet.
        pretrained: The checkpoint to start from.

    Returns:
        The validation loss of the best checkpoint.
    """
    settings = merge_settings(
        wiring.settings_of(way, seed, folder, str(pretrained)),
        {"model": {"init_args": {"lr": rate}}, "scheduler": {"base_max_lr": rate}},
    )
    training = Training(settings, folder, Container())
    with Progress(disable=True) as progress:
        training.train(progress, progress.add_task(""))
    return training.validate_best()["val_loss"]


def pretrain(wiring: DemoWiring, seed: int, folder: Path) -> Path:
    """Pretrain once.

    Args:
        wiring: The demo's wiring.
        seed: The seed of everything random.
        folder: A folder for the logs, which does not exist yet.

    Returns:
        The best checkpoint.
    """
    training = Training(wiring.settings_of(PRETRAIN, seed, folder), folder, Container())
    with Progress(disable=True) as progress:
        training.train(progress, progress.add_task(""))
    return training.best_checkpoint


def main() -> None:
    """Try every rate in every way, and print the mean validation losses."""
    wiring = DemoWiring.load()
    losses: dict[tuple[str, float], list[float]] = {(way, rate): [] for way in wiring.ways for rate in RATES}
    with tempfile.TemporaryDirectory() as folder, lightning_errors_only(), single_thread():
        for seed in track(SEEDS, console=Console(stderr=True)):
            pretrained = pretrain(wiring, seed, Path(folder, f"{seed}-{PRETRAIN}"))
            for (way, rate), of_pair in losses.items():
                own = Path(folder, f"{seed}-{way}-{rate}")
                of_pair.append(best_validation_loss(wiring, way, rate, seed, own, pretrained))
    lowest = {way: min(mean(losses[way, rate]) for rate in RATES) for way in wiring.ways}
    rows = []
    for rate in RATES:
        shown = [mean(losses[way, rate]) for way in wiring.ways]
        marked = (f"{loss:.4f}{' *' if loss == lowest[w] else ''}" for w, loss in zip(wiring.ways, shown, strict=True))
        rows.append([f"{rate:g}", *marked])
    show(f"Mean validation loss over {len(SEEDS)} seeds", ["Learning rate", *wiring.ways], rows)


if __name__ == "__main__":
    main()
