"""The pytest plug-in: ``pytest --phasewire-adapter NAME`` adds a test for every rule of the adapter contract.

pytest imports this module in every run of an environment in which Phasewire is installed. What is heavy is therefore
imported only when the option is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from phasewire.adapters.testing import ContractChecker

__all__ = ["pytest_addoption", "pytest_collection_modifyitems"]

_OPTION = "--phasewire-adapter"
_CONFIG_OPTION = "--phasewire-config"


class _RuleItem(pytest.Item):
    """One rule of the contract, for one adapter."""

    rule: str
    checker: ContractChecker

    def runtest(self) -> None:
        """Check the rule."""
        reason = self.checker.verify(self.rule)
        if reason is not None:
            pytest.skip(reason)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: object = None) -> str:
        """Show the message: it names the rule and what to do."""
        return str(excinfo.value)

    def reportinfo(self) -> tuple[str, None, str]:
        """Give what stands in pytest's reports."""
        return "phasewire", None, self.name


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options.

    Args:
        parser: pytest's parser of options.
    """
    group = parser.getgroup("phasewire", "Phasewire adapters")
    group.addoption(_OPTION, metavar="NAME", help="Check this strategy adapter against the contract, rule by rule.")
    group.addoption(
        f"{_OPTION}-cfg", metavar="YAML", help="The options of the adapter, as YAML or JSON text: '{prefix: acme}'."
    )
    group.addoption(
        f"{_OPTION}-model",
        metavar="CLASS_PATH",
        help="What makes the LightningModule to check with, without arguments. A small one by default.",
    )
    group.addoption(
        _CONFIG_OPTION,
        metavar="FILE",
        action="append",
        help="A YAML file whose `discovery` says which adapters are trusted. May be given several times.",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add a test for every rule, when an adapter is named.

    Args:
        session: The session, which owns the tests.
        config: The options.
        items: The tests that were collected.

    Raises:
        pytest.UsageError: The options cannot be used.
    """
    name = config.getoption(_OPTION)
    if name is None:
        return
    from phasewire.adapters.errors import PhasewireError
    from phasewire.adapters.testing import contract_checker_from_text, contract_rules

    try:
        checker = contract_checker_from_text(
            name,
            cfg=config.getoption(f"{_OPTION}-cfg"),
            model=config.getoption(f"{_OPTION}-model"),
            config_files=config.getoption(_CONFIG_OPTION) or (),
            options=f"{_OPTION}-",
        )
    except PhasewireError as error:
        raise pytest.UsageError(f"{_OPTION}: {error}") from error
    config.add_cleanup(checker.close)
    for rule in contract_rules():
        item: _RuleItem = _RuleItem.from_parent(session, name=f"{name}[{rule}]")
        item.rule, item.checker = rule, checker
        items.append(item)
