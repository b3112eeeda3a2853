"""The contract kit as pytest tests: subclass :class:`AdapterContract`, and every rule of the contract is a test.

The rules need a scheduler and a Trainer, so they live in ``phasewire.app.adapter_checks``. They are named by their path
when a test runs: no import of ``adapters`` points to ``app``.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar, Protocol, cast

import pytest

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule

    from phasewire.adapters.base import StrategyAdapter

__all__ = ["AdapterContract", "ContractChecker", "contract_checker", "contract_rules"]


class ContractChecker(Protocol):
    """Checks one adapter."""

    def verify(self, name: str) -> str | None:
        """Check the rule of a name; returns why it was not checked, and raises when the adapter breaks it."""

    def close(self) -> None:
        """Remove what the checks wrote."""


def contract_rules() -> list[str]:
    """List the rules of the contract.

    Returns:
        Their names, in the order in which an author mends them best.
    """
    return cast("Callable[[], list[str]]", pkgutil.resolve_name("phasewire.app.adapter_checks:rule_names"))()


def contract_checker(
    adapter: str | type[StrategyAdapter],
    cfg: Mapping[str, object] | None = None,
    make_module: Callable[[], object] | None = None,
) -> ContractChecker:
    """Make what checks an adapter.

    Args:
        adapter: Its name, ``module:Class``, ``module.Class``, or the class.
        cfg: The options of ``strategy_adapter_cfg``.
        make_module: Makes the model to check with; a small one by default.

    Returns:
        The checker; close it when done.

    Raises:
        AdapterNotFoundError: Nothing has that name.
    """
    make = cast("Callable[..., ContractChecker]", pkgutil.resolve_name("phasewire.app.adapter_checks:checker_for"))
    return make(adapter, cfg, make_module)


class AdapterContract:
    """The contract of an adapter as tests, one for each rule.

    Subclass it in a test file, under a name that begins with ``Test``::

        class TestMyAdapter(AdapterContract):
            adapter = "my_adapter"
            cfg = {"prefix": "acme"}
    """

    #: The adapter: its name, ``module:Class``, ``module.Class``, or the class.
    adapter: ClassVar[str | type[StrategyAdapter]]
    #: The options of ``strategy_adapter_cfg``.
    cfg: ClassVar[Mapping[str, object]] = {}

    _checker: ClassVar[ContractChecker]

    @classmethod
    def make_module(cls) -> LightningModule | None:
        """Make the model to check with, a new one at every call; it is trained without data.

        Returns:
            The model; ``None`` for a small one of the kit's.
        """
        return None

    @classmethod
    def setup_class(cls) -> None:
        """Make the checker that the tests of the class share."""
        own_module = cls.make_module() is not None
        cls._checker = contract_checker(cls.adapter, cls.cfg, cls.make_module if own_module else None)

    @classmethod
    def teardown_class(cls) -> None:
        """Remove what the checks wrote."""
        cls._checker.close()

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Make a test of every rule.

        Args:
            metafunc: What pytest knows of the test function.
        """
        if "contract_rule" in metafunc.fixturenames:
            metafunc.parametrize("contract_rule", contract_rules())

    def test_contract(self, contract_rule: str) -> None:
        """Check one rule.

        Args:
            contract_rule: Its name.

        Raises:
            AdapterContractError: The adapter breaks it.
        """
        reason = self._checker.verify(contract_rule)
        if reason is not None:
            pytest.skip(reason)
