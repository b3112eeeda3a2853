"""The data of the demo: scikit-learn's handwritten digits, split by class, label budget and seed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from phasewire.adapters.errors import ConfigError

__all__ = ["DigitsDataModule"]

_HIGHEST_GREY_VALUE = 16.0


class DigitsDataModule(LightningDataModule):
    """Some of the ten digits, with a training part of few labels.

    1,797 images of 8 x 8 grey values by 43 writers come with scikit-learn [1]_. Each class is shuffled by the seed,
    then cut into a training, a validation and a test part, so the parts never overlap and are the same for every model
    that is given the same seed.

    Args:
        classes: The digits to tell apart; the label of a digit is its place in this list.
        train_per_class: Labelled images a class to train on; ``None`` takes all but the validation part, and leaves
            the test part empty.
        val_per_class: Images a class to choose the best checkpoint by.
        batch_size: Training images a step.
        seed: Decides which images fall into which part.

    Raises:
        ConfigError: ``classes`` names something that is no digit, or there are not enough images.

    .. [1] E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository,
       1998.
    """

    def __init__(
        self,
        classes: Sequence[int] = (0, 1, 2, 3, 4),
        train_per_class: int | None = None,
        val_per_class: int = 20,
        batch_size: int = 64,
        seed: int = 0,
    ) -> None:
        super().__init__()
        strangers = sorted(set(classes) - set(range(10)))
        if strangers or not classes:
            raise ConfigError(
                f"DigitsDataModule was given classes={list(classes)}.",
                remedy="Give it a list of digits from 0 to 9.",
            )
        self.classes = tuple(classes)
        self.train_per_class = train_per_class
        self.val_per_class = val_per_class
        self.batch_size = batch_size
        self.seed = seed
        self._parts: dict[str, TensorDataset] = {}

    def setup(self, stage: str) -> None:
        """Cut the data into its parts; done once, whatever the stage.

        Args:
            stage: ``"fit"``, ``"validate"``, ``"test"`` or ``"predict"``.

        Raises:
            ConfigError: A class has fewer images than were asked for, or scikit-learn is not installed.
        """
        if self._parts:
            return
        images, digits = _read_digits()
        order = torch.Generator().manual_seed(self.seed)
        rows: dict[str, list[Tensor]] = {"train": [], "val": [], "test": []}
        for digit in self.classes:
            of_digit = torch.nonzero(digits == digit).squeeze(1)
            shuffled = of_digit[torch.randperm(len(of_digit), generator=order)]
            for part, chosen in self._cut(digit, shuffled).items():
                rows[part].append(chosen)
        label_of_digit = torch.full((10,), -1)
        label_of_digit[list(self.classes)] = torch.arange(len(self.classes))
        for part, of_classes in rows.items():
            chosen = torch.cat(of_classes)
            self._parts[part] = TensorDataset(images[chosen], label_of_digit[digits[chosen]])

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """Give the training part, shuffled anew each epoch."""
        return DataLoader(self._parts["train"], batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """Give the validation part as one batch."""
        return _in_one_batch(self._parts["val"])

    def test_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """Give the test part as one batch."""
        return _in_one_batch(self._parts["test"])

    def _cut(self, digit: int, shuffled: Tensor) -> dict[str, Tensor]:
        train = len(shuffled) - self.val_per_class if self.train_per_class is None else self.train_per_class
        if min(train, self.val_per_class) < 1 or train + self.val_per_class > len(shuffled):
            raise ConfigError(
                f"DigitsDataModule was asked for {train} training and {self.val_per_class} validation images of the "
                f"digit {digit}, and there are {len(shuffled)}.",
                remedy="Ask for at least 1 of each, and for fewer than there are.",
            )
        return {
            "train": shuffled[:train],
            "val": shuffled[train : train + self.val_per_class],
            "test": shuffled[train + self.val_per_class :],
        }


def _read_digits() -> tuple[Tensor, Tensor]:
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise ConfigError(
            "The demo reads the handwritten digits of scikit-learn, which is not installed.",
            remedy="Install it with: pip install 'phasewire[demo]'",
        ) from error
    bunch = load_digits()
    images = torch.tensor(bunch.images / _HIGHEST_GREY_VALUE, dtype=torch.float32).unsqueeze(1)
    return images, torch.tensor(bunch.target, dtype=torch.long)


def _in_one_batch(part: TensorDataset) -> DataLoader[tuple[Tensor, ...]]:
    return DataLoader(part, batch_size=max(1, len(part)))
