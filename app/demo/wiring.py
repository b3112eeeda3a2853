"""The demo's YAML file, and the configuration of each of its runs."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from phasewire.adapters.errors import ConfigError, did_you_mean
from phasewire.app.config_file import load_yaml, merge_settings

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
            merged = _mapping_of(own)
        for path in overrides:
            merged = merge_settings(merged, _mapping_of(path))
        try:
            return cls.model_validate(merged)
        except ValidationError as error:
            raise ConfigError(
                "; ".join(_describe(problem["loc"], problem["msg"]) for problem in error.errors()),
                where=", ".join(str(path) for path in overrides) or "demo.yaml",
                remedy="Its sections are seeds, common, pretrain, tune and ways.",
            ) from error

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


def _mapping_of(path: Path) -> Section:
    return {str(key): value for key, value in load_yaml(path).mapping().items()}


def _describe(location: tuple[int | str, ...], message: str) -> str:
    hint = did_you_mean(str(location[0]), DemoWiring.model_fields) if location else ""
    return f"{'.'.join(map(str, location))}: {message}{f'. {hint}' if hint else ''}"
