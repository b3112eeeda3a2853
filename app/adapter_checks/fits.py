"""The rules for schedules, and for what the phases train."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from phasewire.adapters.errors import ScheduleError
from phasewire.app.adapter_checks.observed import Trial
from phasewire.app.adapter_checks.rule import NotChecked, Rule
from phasewire.app.adapter_checks.subject import Subject
from phasewire.app.schedule.files import load_schedule

__all__ = ["RULES", "SCHEDULE_RULES"]


class GeneratesInTheFolder(Rule):
    """The default schedule must be a file where it was asked for."""

    name = "generates-in-the-folder"
    sentence = "gen_ft_schedule writes a schedule into the folder it is given, and returns its path."
    needs = ("connects",)

    def check(self, subject: Subject) -> None:
        """Look at what was generated."""
        trial = subject.implicit
        remedy = "Write with fts_handle.save_schedule(name, schedule, dump_loc), and return what it returns."
        if trial.running == "gen_ft_schedule":
            raise self.broken(trial.stopped, remedy)
        if "gen_ft_schedule" not in trial.calls:
            raise NotChecked(trial.stopped)
        path = trial.generated
        if not isinstance(path, (str, os.PathLike)):
            raise self.broken(f"gen_ft_schedule returned {path!r}, which is no path.", remedy)
        if not Path(path).is_file():
            raise self.broken(f"gen_ft_schedule returned {os.fspath(path)!r}, and no such file exists.", remedy)
        if not Path(path).resolve().is_relative_to(trial.folder.resolve()):
            raise self.broken(f"gen_ft_schedule wrote {os.fspath(path)!r}, outside the folder it was given.", remedy)
        try:
            load_schedule(path)
        except ScheduleError as error:
            raise self.broken(f"What gen_ft_schedule wrote is no schedule. {error}", remedy) from error


class GeneratesOnRankZero(Rule):
    """One process writes."""

    name = "generates-on-rank-zero"
    sentence = "gen_ft_schedule writes nothing and returns None on ranks other than 0."
    needs = ("generates-in-the-folder",)

    def check(self, subject: Subject) -> None:
        """Look at what was done on another rank."""
        if subject.implicit.other_rank:
            raise self.broken(
                f"On rank 1 it {' and '.join(subject.implicit.other_rank)}.",
                "Write with fts_handle.save_schedule, which does it on rank 0 alone, or ask trainer.is_global_zero.",
            )


class GeneratedValidates(Rule):
    """The default schedule must be valid."""

    name = "generated-schedule-validates"
    sentence = "validate_ft_sched accepts what gen_ft_schedule wrote, and returns two whole numbers."
    needs = ("generates-in-the-folder",)

    def check(self, subject: Subject) -> None:
        """Look at how validation ended."""
        trial = subject.implicit
        if trial.running == "validate_ft_sched":
            raise self.broken(trial.stopped, "Generate in the names that validation knows.")
        if "validate_ft_sched" not in trial.calls:
            raise NotChecked(trial.stopped)
        remedy = "Return the deepest phase and the highest max_transition_epoch, or -1."
        result = trial.validated
        if not isinstance(result, tuple) or [type(item) for item in result] != [int, int]:
            raise self.broken(
                f"validate_ft_sched returned {result!r}, and a tuple of two whole numbers is expected.", remedy
            )
        if result[0] != max(trial.schedule):
            raise self.broken(
                f"validate_ft_sched returned the depth {result[0]}, and the deepest phase is {max(trial.schedule)}.",
                remedy,
            )


class _Trains(Rule):
    """A fit must end well."""

    needs = ("connects",)

    def _must_have_ended(self, trial: Trial) -> None:
        if trial.error is not None:
            raise self.broken(
                trial.stopped, "Mend what the rules above name, or what the hook raises."
            ) from trial.error


class ImplicitTrains(_Trains):
    """A generated schedule must train."""

    name = "implicit-schedule-trains"
    sentence = "A fit without a schedule trains the one that the adapter generates."

    def check(self, subject: Subject) -> None:
        """Look at how the fit ended."""
        self._must_have_ended(subject.implicit)


class ExplicitTrains(_Trains):
    """A given schedule must train."""

    name = "explicit-schedule-trains"
    sentence = "A fit with a schedule of the user's, in the adapter's names, trains it."
    needs = ("generates-in-the-folder",)

    def check(self, subject: Subject) -> None:
        """Look at how the fit ended."""
        self._must_have_ended(subject.explicit)


class ThawsThePhase(Rule):
    """Phases must train what the schedule says."""

    name = "thaws-exactly-the-phase"
    sentence = "In phase n exactly the parameters of phases 0 to n require a gradient and are in the optimizer."
    needs = ("transform-gives-module-names",)

    def check(self, subject: Subject) -> None:
        """Compare what each phase trained with the schedule."""
        trial = subject.implicit
        if not trial.phases:
            raise NotChecked(trial.stopped if trial.error else "No phase began.")
        self._compare_phases(subject, trial, subject.schedule_names())
        with suppress(NotChecked):  # then the generated schedule is all that there is
            # A view may complete a schedule that names less than the whole model, so what counts is as it was resolved.
            resolved = [list(phase["params"]) for _, phase in sorted(subject.explicit.schedule.items())]
            self._compare_phases(subject, subject.explicit, resolved or subject.schedule_names())

    def _compare_phases(self, subject: Subject, trial: Trial, schedule: list[list[str]]) -> None:
        for phase in trial.phases:
            expected = {
                name for names in schedule[: phase.depth + 1] for name in subject.connected.fts_optim_inspect(names)
            }
            self._compare(f"Phase {phase.depth} thawed", phase.trainable, expected)
            if phase.optimized is not None:
                self._compare(f"In phase {phase.depth} the optimizer held", phase.optimized, expected)

    def _compare(self, subject: str, found: frozenset[str], expected: set[str]) -> None:
        parts = [
            f"{kind} {', '.join(sorted(names))}"
            for kind, names in (("too much:", found - expected), ("too little: not", expected - found))
            if names
        ]
        if parts:
            raise self.broken(
                f"{subject} {'; '.join(parts)}.",
                "Let exec_ft_phase thaw the names it is given and no others, as base_ft_phase does, and call super() "
                "in on_after_init_fts and phase0_optimizer_override.",
            )


SCHEDULE_RULES: Final[tuple[Rule, ...]] = (GeneratesInTheFolder(), GeneratesOnRankZero(), GeneratedValidates())
RULES: Final[tuple[Rule, ...]] = (ThawsThePhase(), ImplicitTrains(), ExplicitTrains())
