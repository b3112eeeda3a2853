"""The contract kit: every rule of the adapter contract as a check that anybody can run on an adapter.

The command ``phasewire adapters check``, the pytest base class and the pytest plug-in run these same rules.
"""

from __future__ import annotations

from phasewire.app.adapter_checks.rule import BrokenRuleError, NotChecked, Rule
from phasewire.app.adapter_checks.run import (
    RULES,
    Checker,
    Outcome,
    State,
    checker_for,
    checker_from_text,
    rule_named,
    rule_names,
)
from phasewire.app.adapter_checks.subject import Subject
from phasewire.app.import_probe import ImportProber

__all__ = [
    "RULES",
    "BrokenRuleError",
    "Checker",
    "ImportProber",
    "NotChecked",
    "Outcome",
    "Rule",
    "State",
    "Subject",
    "checker_for",
    "checker_from_text",
    "rule_named",
    "rule_names",
]
