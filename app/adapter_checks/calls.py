"""The rule for the calls of hooks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from phasewire.app.adapter_checks.observed import Trial
from phasewire.app.adapter_checks.rule import NotChecked, Rule
from phasewire.app.adapter_checks.subject import Subject

__all__ = ["RULES"]

_BUILT: Final = ("__init__", "connect")
_RESTORED: Final = ("before_restore_model", "load_model_state_dict")
#: These come whenever a checkpoint is written and a metric first logged: their number is what counts.
_ONLY_COUNTED: Final = ("lightning_module_state_dict", "on_validate_monitor_metric")


class HooksInOrder(Rule):
    """The calls that an adapter gets are counted."""

    name = "hooks-in-order"
    sentence = "Each hook runs in its place and as often as the contract says; the adapter calls none of them itself."
    needs = ("connects",)

    def check(self, subject: Subject) -> None:
        """Compare the calls in two fits and a restore with the contract."""
        for where, trial, expected in _trials(subject):
            self._compare(where, trial, expected)

    def _compare(self, where: str, trial: Trial, expected: list[str]) -> None:
        remedy = "Leave calling hooks to the scheduler; in a hook, call only the same hook of super()."
        found = [hook for hook in trial.calls if hook not in _ONLY_COUNTED]
        if trial.error is not None:
            expected = expected[: len(found)]
        if found != expected:
            raise self.broken(
                f"In {where} the calls were {', '.join(found)}; the contract says {', '.join(expected)}.", remedy
            )
        for hook, times in zip(_ONLY_COUNTED, (trial.written, trial.monitors), strict=True):
            found_times = trial.calls.count(hook)
            if found_times > times or (found_times < times and trial.error is None):
                raise self.broken(
                    f"In {where} {hook} was called {found_times} times; the contract says {times}.", remedy
                )


def _trials(subject: Subject) -> Iterator[tuple[str, Trial, list[str]]]:
    """Give each trial there is, what it is, and the calls that the contract says."""
    yield "a fit with a generated schedule", subject.implicit, _calls_of_fit(subject.implicit, "gen_ft_schedule")
    # A fit that stopped may leave nothing for the next trial to begin with.
    with suppress(NotChecked):
        yield "a fit with a given schedule", subject.explicit, _calls_of_fit(subject.explicit)
    with suppress(NotChecked):
        yield "a restore outside a fit", subject.restored, _calls_of_restore(subject.restored)


def _calls_of_fit(trial: Trial, *generating: str) -> list[str]:
    calls = [*_BUILT, "on_before_init_fts", *generating, "validate_ft_sched", "on_after_init_fts"]
    calls.append("on_before_fts_fit_start")
    if trial.optimizes_everything and trial.phases and len(trial.phases[0].trainable) < _parameters(trial):
        calls.append("phase0_optimizer_override")
    calls.append("on_phase_thawed")
    if len(trial.schedule) > 1:
        begins_anew = trial.schedule[1].get("new_optimizer") is not None
        calls += _RESTORED * trial.read
        calls += [] if begins_anew else ["on_before_restore_optimizers_and_lrs"] * trial.read
        calls.append("on_phase_thawed")
    return calls


def _calls_of_restore(trial: Trial) -> list[str]:
    return [*_BUILT, *_RESTORED * trial.read]


def _parameters(trial: Trial) -> int:
    return len(list(trial.module.parameters()))


RULES: Final[tuple[Rule, ...]] = (HooksInOrder(),)
