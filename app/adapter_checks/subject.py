"""The adapter that is checked: its class, its options, a model, and what it did in trial fits."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import lightning.pytorch as pl
import torch

from phasewire.adapters.errors import ConfigError
from phasewire.app.adapter_checks.observed import Trial
from phasewire.app.adapter_checks.rule import NotChecked
from phasewire.app.adapter_checks.sample import SampleModule
from phasewire.app.adapter_checks.trial import restored_trial, run_trial
from phasewire.app.adapter_record import AdapterRecord
from phasewire.app.import_probe import ImportProber, ImportReport
from phasewire.app.schedule.files import load_schedule

if TYPE_CHECKING:
    from phasewire.adapters.base import StrategyAdapter

__all__ = ["Subject"]


class Subject:
    """An adapter under test. Trial fits run when a rule first asks for them, each once.

    Args:
        record: The adapter.
        cfg: Its options.
        make_module: Makes the model, equal at every call but for its values; a small one by default.
        prober: Imports the adapter in another process; one of its own by default, which it closes.

    Raises:
        AdapterLoadError: The configuration does not trust the adapter.
    """

    def __init__(
        self,
        record: AdapterRecord,
        cfg: Mapping[str, object] | None = None,
        make_module: Callable[[], object] | None = None,
        prober: ImportProber | None = None,
    ) -> None:
        record.require_trusted("the contract kit")  # before any rule looks at an import
        self.record = record
        self.cfg = dict(cfg or {})
        self._make_module = make_module or SampleModule
        self._prober = prober or ImportProber()
        self._owns_prober = prober is None
        self._work = TemporaryDirectory(prefix="phasewire-check-")

    @property
    def adapter_class(self) -> type[StrategyAdapter]:
        """The class of the adapter; importing it may raise."""
        return self.record.load()

    @cached_property
    def imported(self) -> ImportReport:
        """What importing the adapter's module does to a new process."""
        module = re.split(r"\s*[:\[]", self.record.value.strip(), maxsplit=1)[0]
        if ":" not in self.record.value:
            module = module.rpartition(".")[0] or module
        given = self.record.given is not None
        if given and module == "__main__":
            return ImportReport(absent=True)  # another process has a main module of its own
        report = self._prober.report(module)
        if given and report.error is None and report.file != getattr(sys.modules.get(module), "__file__", report.file):
            return ImportReport(absent=True)  # another module has the name there
        return report

    @cached_property
    def implicit(self) -> Trial:
        """A fit with the schedule that the adapter generates."""
        return run_trial(self.adapter_class, self.cfg, self.new_module(), self.folder("implicit"))

    @cached_property
    def explicit(self) -> Trial:
        """A fit with the first two phases of the generated schedule, given as a schedule of the user's.

        Raises:
            NotChecked: No schedule was generated.
        """
        path = self.implicit.generated
        if not isinstance(path, (str, Path)) or not Path(path).is_file():
            raise NotChecked("The adapter generated no schedule to start from.")
        generated = load_schedule(path).to_dict()
        schedule = {
            depth: {"params": generated[depth]["params"], "max_transition_epoch": depth + 1}
            for depth in sorted(generated)[:2]
        }
        return run_trial(self.adapter_class, self.cfg, self.new_module(), self.folder("explicit"), schedule)

    @cached_property
    def restored(self) -> Trial:
        """Another module, of other values, restored from the checkpoint of the explicit fit to be validated.

        Raises:
            NotChecked: There is no checkpoint.
        """
        checkpoint = self.explicit.checkpoint
        if checkpoint is None:
            raise NotChecked(self.explicit.stopped)
        other = self.new_module()
        with torch.no_grad():
            for value in other.state_dict().values():
                value.fill_(1)
        return restored_trial(checkpoint, self.adapter_class, self.cfg, other)

    @property
    def connected(self) -> StrategyAdapter:
        """The adapter of the first trial fit, with its schedule valid or not.

        Raises:
            NotChecked: There is none.
        """
        trial = self.implicit
        if trial.adapter is None or "on_before_init_fts" not in trial.calls:
            raise NotChecked(trial.stopped)
        return trial.adapter

    def schedule_names(self) -> list[list[str]]:
        """Give the names of the phases, as the adapter left them in the schedule.

        Returns:
            The names of each phase.

        Raises:
            NotChecked: The adapter gives no names.
        """
        schedule = self.implicit.schedule
        if schedule:
            return [list(phase["params"]) for _, phase in sorted(schedule.items())]
        try:
            return [[name] for name in self.connected.get_named_params_for_schedule_validation()]
        except Exception as error:
            raise NotChecked(f"No schedule was validated, and the adapter gives no names: {error}") from error

    def new_module(self) -> pl.LightningModule:
        """Make a model.

        Returns:
            The model.

        Raises:
            ConfigError: What was given makes no ``LightningModule``.
        """
        module = self._make_module()
        if not isinstance(module, pl.LightningModule):
            raise ConfigError(
                f"The model to check with is a {type(module).__name__}, which is no LightningModule.",
                remedy="Give the class, or a function that returns a new lightning.pytorch.LightningModule.",
            )
        return module

    def folder(self, name: str) -> Path:
        """Make a folder to work in, that is removed with the subject.

        Args:
            name: Its name.

        Returns:
            The folder.
        """
        folder = Path(self._work.name) / name
        folder.mkdir(exist_ok=True)
        return folder

    def close(self) -> None:
        """Remove what the trial fits wrote, and end what the prober started."""
        self._work.cleanup()
        if self._owns_prober:
            self._prober.close()
