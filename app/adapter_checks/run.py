"""Running the rules: each once, after those it needs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from phasewire.adapters.errors import ConfigError
from phasewire.app.adapter_checks import calls, checkpoints, fits, loading, names, renamings
from phasewire.app.adapter_checks.rule import BrokenRuleError, NotChecked, Rule
from phasewire.app.adapter_checks.subject import Subject
from phasewire.app.given_text import mapping_from_text, model_from_text
from phasewire.app.import_probe import ImportProber
from phasewire.app.wired import container_from

__all__ = ["RULES", "Checker", "Outcome", "State", "checker_for", "checker_from_text", "rule_named", "rule_names"]

#: Every rule of the contract, in the order in which an author mends them best.
RULES: Final[tuple[Rule, ...]] = (
    *loading.RULES,
    *fits.SCHEDULE_RULES,
    *names.RULES,
    *calls.RULES,
    *fits.RULES,
    *renamings.RULES,
    *checkpoints.RULES,
)


class State(Enum):
    """How a rule came out."""

    KEPT = "kept"
    BROKEN = "broken"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one rule came out."""

    rule: Rule
    state: State
    message: str = ""
    """Why it is broken or was not checked."""
    error: BrokenRuleError | None = None
    """How it is broken."""
    holds_back: bool = True
    """Whether rules that need this one cannot be looked at, unless it is kept."""


def rule_named(name: str) -> Rule:
    """Find a rule.

    Args:
        name: Its name.

    Returns:
        The rule.

    Raises:
        KeyError: There is none of that name.
    """
    return {rule.name: rule for rule in RULES}[name]


def rule_names() -> list[str]:
    """List the names of all rules.

    Returns:
        The names, in the order in which an author mends them best.
    """
    return [rule.name for rule in RULES]


def checker_for(
    reference: str | type,
    cfg: Mapping[str, object] | None = None,
    make_module: Callable[[], object] | None = None,
    *,
    config_files: Sequence[str | os.PathLike[str]] = (),
    prober: ImportProber | None = None,
) -> Checker:
    """Make the checker of an adapter that is installed or importable.

    Args:
        reference: Its name, ``module:Class``, ``module.Class``, or the class.
        cfg: Its options.
        make_module: Makes the model to check with; a small one by default.
        config_files: YAML files that say which adapters are trusted; by default all are.
        prober: Imports the adapter in another process; by default the checker has one of its own. Whoever gives one
            closes it.

    Returns:
        The checker; nothing has been imported or checked.

    Raises:
        AdapterNotFoundError: Nothing has that name.
        AdapterLoadError: The configuration does not trust it.
        ConfigError: The configuration cannot be used.
    """
    record = container_from(config_files).resolver().record_of(reference, where="the contract kit")
    return Checker(Subject(record, cfg, make_module, prober))


def checker_from_text(
    reference: str,
    *,
    cfg: str | None,
    model: str | None,
    config_files: Sequence[str | os.PathLike[str]],
    options: str,
) -> Checker:
    """Make the checker of an adapter from what a person typed.

    Args:
        reference: Its name, ``module:Class`` or ``module.Class``.
        cfg: Its options, as a YAML or JSON mapping.
        model: The class path of what makes the model, without arguments; a small one by default.
        config_files: YAML files that say which adapters are trusted.
        options: What the options of the command begin with, for messages.

    Returns:
        The checker; of the adapter, nothing has been imported.

    Raises:
        PhasewireError: As :func:`checker_for`; or the options cannot be read.
    """
    make_module = None if model is None else model_from_text(model, option=f"{options}model")
    return checker_for(reference, mapping_from_text(cfg, f"{options}cfg"), make_module, config_files=config_files)


class Checker:
    """Checks one adapter, and remembers how each rule came out.

    Args:
        subject: The adapter.
    """

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self._outcomes: dict[str, Outcome] = {}

    def outcomes(self, rules: Iterable[Rule] = RULES) -> Iterator[Outcome]:
        """Check rules, one at a time.

        Args:
            rules: The rules; all by default.

        Yields:
            How each came out.
        """
        for rule in rules:
            yield self.outcome(rule)

    def outcome(self, rule: Rule) -> Outcome:
        """Check one rule, and those it needs.

        Args:
            rule: The rule.

        Returns:
            How it came out.
        """
        if rule.name not in self._outcomes:
            self._outcomes[rule.name] = self._checked(rule)
        return self._outcomes[rule.name]

    def verify(self, name: str) -> str | None:
        """Check one rule by its name.

        Args:
            name: The name of the rule.

        Returns:
            Why it was not checked; ``None`` when the adapter keeps it.

        Raises:
            BrokenRuleError: The adapter breaks it.
        """
        outcome = self.outcome(rule_named(name))
        if outcome.error is not None:
            raise outcome.error
        return outcome.message if outcome.state is State.NOT_CHECKED else None

    def close(self) -> None:
        """Remove what the trial fits wrote."""
        self.subject.close()

    def _checked(self, rule: Rule) -> Outcome:
        for needed in rule.needs:
            found_before = self.outcome(rule_named(needed))
            if found_before.state is not State.KEPT and found_before.holds_back:
                return Outcome(rule, State.NOT_CHECKED, f"The rule {needed} must hold first.")
        try:
            rule.check(self.subject)
        except BrokenRuleError as error:
            return Outcome(rule, State.BROKEN, str(error), error)
        except NotChecked as reason:
            return Outcome(rule, State.NOT_CHECKED, str(reason), holds_back=reason.holds_back)
        except ConfigError:
            raise  # what the kit was given to check with, not the adapter
        except (Exception, SystemExit) as error:  # noqa: BLE001  # what an adapter raises where it must not is reported
            found = rule.broken(f"{type(error).__name__}: {error}", "Mend what the adapter raises here.")
            found.__cause__ = error
            return Outcome(rule, State.BROKEN, str(found), found)
        return Outcome(rule, State.KEPT)
