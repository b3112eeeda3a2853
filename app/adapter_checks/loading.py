"""The rules for importing and building an adapter."""

from __future__ import annotations

from typing import Final

from phasewire.adapters.errors import AdapterContractError, AdapterLoadError, PhasewireError
from phasewire.app.adapter_checks.rule import NotChecked, Rule
from phasewire.app.adapter_checks.subject import Subject

__all__ = ["RULES"]

_NOT_IMPORTABLE: Final = "The class is defined where another process cannot import it."
_NO_OPTION: Final = "phasewire_check_no_such_option"


class Imports(Rule):
    """Importing must not end the process."""

    name = "imports"
    sentence = "Importing the adapter raises nothing and does not end the process."

    def check(self, subject: Subject) -> None:
        """Look at an import in a new process."""
        report = subject.imported
        if report.absent and subject.record.given is not None:
            # The class is at hand, so all that needs it can be looked at.
            raise NotChecked(_NOT_IMPORTABLE, holds_back=False)
        if report.error is not None:
            raise self.broken(f"{report.error}.".replace("..", "."), "Do at import nothing that can fail or exit.")


class LeavesTorchAlone(Rule):
    """Importing must not change torch for everybody."""

    name = "leaves-torch-alone"
    sentence = "Importing the adapter changes nothing in torch for the whole process."
    needs = ("imports",)

    def check(self, subject: Subject) -> None:
        """Look at what an import in a new process changed."""
        report = subject.imported
        if report.absent:
            raise NotChecked(_NOT_IMPORTABLE)
        if report.changes:
            raise self.broken(
                f"Importing {subject.record.value} changes {', '.join(report.changes)}.",
                "Set it in a hook while it is needed and put it back, or leave it to the user.",
            )


class IsAnAdapter(Rule):
    """What is named must be an adapter of this contract."""

    name = "is-an-adapter"
    sentence = "It is a subclass of phasewire.adapters.StrategyAdapter whose api_version this release drives."
    needs = ("imports",)

    def check(self, subject: Subject) -> None:
        """Load the class."""
        try:
            subject.record.load()
        except (AdapterContractError, AdapterLoadError) as error:
            raise self.broken(error.problem, error.remedy or "") from error


class Constructs(Rule):
    """Options must build an adapter."""

    name = "constructs-from-cfg"
    sentence = "strategy_adapter_cfg builds a new adapter each time, and is not changed by it."
    needs = ("is-an-adapter",)

    def check(self, subject: Subject) -> None:
        """Build two adapters."""
        before = repr(subject.cfg)
        try:
            first, second = subject.record(**subject.cfg), subject.record(**subject.cfg)
        except PhasewireError as error:
            raise self.broken(error.problem, error.remedy or "Accept the options in __init__.") from error
        if first is second:
            raise self.broken("Two calls gave one object.", "Build a new adapter at every call.")
        if repr(subject.cfg) != before:
            raise self.broken(f"The options became {subject.cfg!r}.", "Copy options before changing them.")


class RefusesUnknownOptions(Rule):
    """A misspelt option must be a clear error."""

    name = "refuses-unknown-options"
    sentence = "An option that the adapter does not have is an error that names the option."
    needs = ("constructs-from-cfg",)

    def check(self, subject: Subject) -> None:
        """Give an option that no adapter has."""
        remedy = "Hand **cfg that __init__ does not know to super().__init__(**cfg)."
        try:
            subject.record(**{**subject.cfg, _NO_OPTION: 1})
        except PhasewireError as error:
            if _NO_OPTION not in str(error):
                raise self.broken(f"The error does not name {_NO_OPTION!r}: {error}", remedy) from error
            return
        raise self.broken(f"The option {_NO_OPTION!r} was accepted.", remedy)


class Connects(Rule):
    """The handle must be kept."""

    name = "connects"
    sentence = "connect keeps the handle: after it, fts_handle is the scheduler that drives the adapter."
    needs = ("constructs-from-cfg",)

    def check(self, subject: Subject) -> None:
        """Ask a connected adapter for its handle."""
        trial = subject.implicit
        remedy = "Call super().connect(fts_parent) in connect, and super().__init__() in __init__."
        if trial.adapter is None:
            raise NotChecked(trial.stopped)
        if trial.running == "connect":
            raise self.broken(trial.stopped, remedy)
        try:
            handle = trial.adapter.fts_handle
        except PhasewireError as error:
            raise self.broken("The adapter has no fts_handle after connect.", remedy) from error
        if handle not in trial.trainer.callbacks:  # type: ignore[attr-defined]  # Trainer sets it outside __init__
            raise self.broken(f"fts_handle is {handle!r}.", remedy)


RULES: Final[tuple[Rule, ...]] = (
    Imports(),
    LeavesTorchAlone(),
    IsAnAdapter(),
    Constructs(),
    RefusesUnknownOptions(),
    Connects(),
)
