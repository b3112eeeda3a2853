"""What a rule of the contract is, and how it tells that it is broken."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from phasewire.adapters.errors import AdapterContractError

if TYPE_CHECKING:
    from phasewire.app.adapter_checks.subject import Subject

__all__ = ["BrokenRuleError", "NotChecked", "Rule"]


class BrokenRuleError(AdapterContractError):
    """An adapter breaks a rule of the contract.

    Args:
        rule: The name of the rule.
        problem: What was found; whole sentences.
        remedy: What to do about it.
    """

    def __init__(self, rule: str, problem: str, remedy: str) -> None:
        self.rule = rule
        super().__init__(problem, where=f"rule {rule}", remedy=remedy)


class NotChecked(Exception):  # noqa: N818  # it is no error of the adapter, and nobody outside the kit meets it
    """A rule cannot be looked at, because what it looks at is not there.

    Args:
        reason: Why; whole sentences.
        holds_back: Whether the rules that need this one cannot be looked at either.
    """

    def __init__(self, reason: str, *, holds_back: bool = True) -> None:
        self.holds_back = holds_back
        super().__init__(reason)


class Rule(ABC):
    """One rule of the adapter contract."""

    #: The name, as it stands in messages and reports.
    name: ClassVar[str]
    #: The rule, as one sentence.
    sentence: ClassVar[str]
    #: The names of the rules that must hold before this one can be looked at.
    needs: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def check(self, subject: Subject) -> None:
        """Look at an adapter.

        Args:
            subject: The adapter, its options, and what it did in trial fits.

        Raises:
            BrokenRuleError: It breaks the rule.
            NotChecked: There is nothing to look at.
        """

    def broken(self, problem: str, remedy: str) -> BrokenRuleError:
        """Make the error of this rule.

        Args:
            problem: What was found.
            remedy: What to do about it.

        Returns:
            The error, to be raised.
        """
        return BrokenRuleError(self.name, problem, remedy)
