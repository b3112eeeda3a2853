"""The contract kit as pytest tests: subclass :class:`AdapterContract`, and every rule of the contract is a test.

The rules need a scheduler and a Trainer, so they live in ``phasewire.app.adapter_checks``. They are named by their path
when a test runs: no import of ``adapters`` points to ``app``.
"""

from __future__ import annotations

import os
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Final, Protocol, cast

import pytest

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule

    from phasewire.adapters.base import StrategyAdapter

__all__ = [
    "AdapterContract",
    "ContractChecker",
    "ImportProber",
    "contract_checker",
    "contract_checker_from_text",
    "contract_rules",
    "shared_prober",
]


class ImportProber(Protocol):
    """Imports modules in other processes, to tell what that does."""

    def close(self) -> None:
        """End those processes."""


_PROBER: Final = pytest.StashKey[ImportProber]()


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
    *,
    config_files: Sequence[str | os.PathLike[str]] = (),
    prober: ImportProber | None = None,
) -> ContractChecker:
    """Make what checks an adapter.

    Args:
        adapter: Its name, ``module:Class``, ``module.Class``, or the class.
        cfg: The options of ``strategy_adapter_cfg``.
        make_module: Makes the model to check with; a small one by default.
        config_files: YAML files whose ``discovery`` says which adapters are trusted; by default all are.
        prober: Imports adapters in other processes, for several checkers; by default each has its own.

    Returns:
        The checker; close it when done.

    Raises:
        AdapterNotFoundError: Nothing has that name.
        AdapterLoadError: The configuration does not trust it, and none of its code has run.
        ConfigError: The configuration cannot be used.
    """
    make = cast("Callable[..., ContractChecker]", pkgutil.resolve_name("phasewire.app.adapter_checks:checker_for"))
    return make(adapter, cfg, make_module, config_files=config_files, prober=prober)


def contract_checker_from_text(
    adapter: str,
    *,
    cfg: str | None = None,
    model: str | None = None,
    config_files: Sequence[str | os.PathLike[str]] = (),
    options: str = "--",
) -> ContractChecker:
    """Make what checks an adapter, from what a person typed.

    Args:
        adapter: Its name, ``module:Class`` or ``module.Class``.
        cfg: The options of ``strategy_adapter_cfg``, as YAML or JSON.
        model: The class path of what makes the model, without arguments; a small one by default.
        config_files: YAML files whose ``discovery`` says which adapters are trusted; by default all are.
        options: What the options of the command begin with, for messages.

    Returns:
        The checker; close it when done.

    Raises:
        PhasewireError: As :func:`contract_checker`; or the text cannot be read.
    """
    make = cast(
        "Callable[..., ContractChecker]", pkgutil.resolve_name("phasewire.app.adapter_checks:checker_from_text")
    )
    return make(adapter, cfg=cfg, model=model, config_files=config_files, options=options)


def shared_prober(config: pytest.Config) -> ImportProber:
    """Give the one prober of a pytest session; it is closed with the session.

    Args:
        config: pytest's configuration.

    Returns:
        The prober.
    """
    if _PROBER not in config.stash:
        make = cast("Callable[[], ImportProber]", pkgutil.resolve_name("phasewire.app.adapter_checks:ImportProber"))
        config.stash[_PROBER] = make()
        config.add_cleanup(config.stash[_PROBER].close)
    return config.stash[_PROBER]


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
    #: YAML files whose ``discovery`` says which adapters are trusted; by default all are.
    config_files: ClassVar[Sequence[str | os.PathLike[str]]] = ()

    _checker: ClassVar[ContractChecker | None] = None

    @classmethod
    def make_module(cls) -> LightningModule | None:
        """Make the model to check with, a new one at every call; it is trained without data.

        Returns:
            The model; ``None`` for a small one of the kit's.
        """
        return None

    @classmethod
    def setup_class(cls) -> None:
        """Begin without a checker; the first test makes the one that the tests of the class share."""
        cls._checker = None

    @classmethod
    def teardown_class(cls) -> None:
        """Remove what the checks wrote."""
        if cls._checker is not None:
            cls._checker.close()

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Make a test of every rule.

        Args:
            metafunc: What pytest knows of the test function.
        """
        if "contract_rule" in metafunc.fixturenames:
            metafunc.parametrize("contract_rule", contract_rules())

    def test_contract(self, contract_rule: str, pytestconfig: pytest.Config) -> None:
        """Check one rule.

        Args:
            contract_rule: Its name.
            pytestconfig: pytest's configuration.

        Raises:
            AdapterContractError: The adapter breaks it.
        """
        reason = self._shared_checker(pytestconfig).verify(contract_rule)
        if reason is not None:
            pytest.skip(reason)

    @classmethod
    def _shared_checker(cls, config: pytest.Config) -> ContractChecker:
        if cls._checker is None:
            own_module = cls.make_module() is not None
            cls._checker = contract_checker(
                cls.adapter,
                cls.cfg,
                cls.make_module if own_module else None,
                config_files=cls.config_files,
                prober=shared_prober(config),
            )
        return cls._checker
