"""The demo's YAML file, and the configuration of each of its runs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from phasewire.app.config_file import YamlDocument, load_yaml, merge_settings
from phasewire.app.settings_problems import as_error, problems_of

__all__ = ["PRETRAIN", "DemoWiring"]

#: The name of the run that the ways of tuning start from.
PRETRAIN = "pretrain"

# Any: the sections are those of config.yaml, and the container validates them.
Section = dict[str, Any]


class DemoWiring(BaseModel):
    """What ``demo.yaml`` says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seeds: tuple[int, ...] = Field(min_length=1)
    """The experiment is repeated for each of these."""
    common: Section
    """What every training has in common."""
    pretrain: Section
    """What pretraining adds to it."""
    tune: Section
    """What every way of tuning adds to it."""
    ways: dict[str, Section] = Field(min_length=1)
    """What each way of tuning adds to that."""

    @classmethod
    def load(cls, *overrides: Path) -> DemoWiring:
        """Read the demo's own file, and merge others over it.

        Args:
            overrides: Files of the same layout; a later one overrides an earlier one.

        Returns:
            The wiring.

        Raises:
            ConfigError: A file cannot be read, or the result is not laid out like ``demo.yaml``.
        """
        with as_file(files("phasewire.app").joinpath("demo.yaml")) as own:
            documents = [load_yaml(path, resolve_env=True) for path in (own, *overrides)]
        merged: Section = {}
        for document in documents:
            merged = merge_settings(merged, {str(key): value for key, value in document.mapping().items()})
        try:
            return cls.model_validate(merged)
        except ValidationError as error:
            raise as_error(problems_of(error, cls, merged), partial(_place, documents)) from error

    def settings_of(self, run: str, seed: int, folder: Path, pretrained: str | None = None) -> Section:
        """Merge the configuration of one run.

        Args:
            run: ``"pretrain"`` or the name of a way.
            seed: The seed of everything random in it.
            folder: Where the run leaves its logs and checkpoints.
            pretrained: The checkpoint that tuning starts from.

        Returns:
            A complete configuration, as ``phasewire fit --config`` takes it.
        """
        settings = merge_settings(self.common, {})
        for section in [self.pretrain] if run == PRETRAIN else [self.tune, self.ways[run]]:
            settings = merge_settings(settings, section)
        of_this_run: Section = {
            "seed_everything": seed,
            "model": {"init_args": {"pretrained": pretrained}},
            "datamodule": {"init_args": {"seed": seed}},
            "trainer": {"default_root_dir": str(folder), "logger": {"init_args": {"save_dir": str(folder)}}},
        }
        return merge_settings(settings, of_this_run)


def _place(documents: Sequence[YamlDocument], keys: Sequence[str | int]) -> str:
    """Tell the place of a value in the last of the merged files that gives it."""
    return next((each for each in reversed(documents) if each.position_of(keys)), documents[-1]).where(keys)
