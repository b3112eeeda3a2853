"""The contract kit passes right adapters, from the command line and from pytest."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from types import ModuleType, SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch
import typer
from torch import nn
from typer.testing import CliRunner

from commands import run
from phasewire.adapters import AdapterLoadError, AdapterNotFoundError, ConfigError, StrategyAdapter
from phasewire.adapters.pytest_plugin import pytest_collection_modifyitems
from phasewire.adapters.testing import AdapterContract, contract_checker_from_text
from phasewire.app.adapter_checks import RULES, Checker, ImportProber, State, checker_for, rule_named
from phasewire.app.commands.adapter_check import check_adapter
from phasewire.app.commands.reporting import USER_ERROR_EXIT_CODE, ErrorReportingGroup


class Reversed(pl.LightningModule):
    """A model whose registration order, shared weights and buffers are not those of the kit's."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(3, 3)
        self.norm = nn.BatchNorm1d(3)
        self.inside = nn.Linear(3, 3)
        self.inside.weight = self.out.weight


class TestBaseAdapter(AdapterContract):
    adapter = StrategyAdapter


class TestBridgeWithAModelOfItsOwn(AdapterContract):
    adapter = "TransformerBridge"

    @classmethod
    def make_module(cls) -> pl.LightningModule:
        return Reversed()


@pytest.mark.parametrize(
    ("name", "cfg"),
    [("AcmeNames", {"prefix": "tests"}), ("fiveline", {}), ("layerwise", {}), ("twin@twin-beta", {}), ("dotted", {})],
)
def test_the_good_plug_ins_keep_every_rule(name: str, cfg: dict, plugins: Path, prober: ImportProber) -> None:
    checker = checker_for(name, cfg, prober=prober)
    assert {o.rule.name: o.message for o in checker.outcomes() if o.state is not State.KEPT} == {}
    checker.close()


def test_a_model_that_is_no_lightning_module_is_refused_by_what_it_is(prober: ImportProber) -> None:
    checker = checker_for(StrategyAdapter, make_module=lambda: nn.Linear(1, 1), prober=prober)
    with pytest.raises(ConfigError, match="is a Linear, which is no LightningModule"):
        checker.verify("connects")
    checker.close()


@pytest.mark.parametrize("options", ["--", "--phasewire-adapter-"])
def test_a_model_that_is_nowhere_is_refused_by_the_option_that_named_it(options: str) -> None:
    checker = contract_checker_from_text("base_adapter:Any", model="no_such_package.Model", options=options)
    with pytest.raises(ConfigError, match=f"^{options}model: There is no module 'no_such_package'"):
        checker.subject.new_module()
    checker.close()


def test_an_adapter_that_is_not_installed_is_refused_with_the_nearest_name(plugins: Path) -> None:
    with pytest.raises(AdapterNotFoundError, match="Did you mean 'fiveline'"):
        checker_for("fivelines")


# -- a class that is given -------------------------------------------------------------------------------------------


def states(checker: Checker, *names: str) -> list[State]:
    outcomes = [checker.outcome(rule_named(name)) for name in names]
    checker.close()
    return [outcome.state for outcome in outcomes]


def test_the_module_of_a_given_class_is_imported_elsewhere_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prober: ImportProber
) -> None:
    (tmp_path / "given_with_care.py").write_text(
        "import torch\nfrom phasewire.adapters import StrategyAdapter\n"
        "torch.set_float32_matmul_precision('high')\nclass Adapter(StrategyAdapter): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    try:
        module = importlib.import_module("given_with_care")
    finally:
        torch.set_float32_matmul_precision("highest")
    checker = checker_for(module.Adapter, prober=prober)
    assert states(checker, "imports", "leaves-torch-alone") == [State.KEPT, State.BROKEN]


@pytest.mark.parametrize("module", ["__main__", "no_such_module", "json.tool"])
def test_what_another_process_cannot_import_is_not_called_kept_and_holds_nothing_else_back(
    module: str, prober: ImportProber, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A module that is another one there: a test module may well have the name of an installed one.
    monkeypatch.setitem(sys.modules, "json.tool", ModuleType("json.tool"))
    sys.modules["json.tool"].__file__ = __file__
    checker = checker_for(type("Adapter", (StrategyAdapter,), {"__module__": module}), prober=prober)
    assert states(checker, "imports", "leaves-torch-alone", "is-an-adapter", "connects") == [
        State.NOT_CHECKED,
        State.NOT_CHECKED,
        State.KEPT,
        State.KEPT,
    ]


# -- trust -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def denied(tmp_path: Path, plugins: Path) -> Iterator[Path]:
    """A configuration that denies the plug-in ``slow``, none of whose code may run."""
    config = tmp_path / "trust.yaml"
    config.write_text("discovery: {deny: [slow-start]}\n")
    yield config
    assert not (tmp_path / "slow_start.log").exists()


def test_the_command_runs_no_code_of_a_plug_in_that_is_denied(denied: Path) -> None:
    result = check("slow", "--config", str(denied))
    assert result.exit_code == USER_ERROR_EXIT_CODE
    assert "may not be used: discovery.deny names it. None of its code has run." in result.stderr


def test_the_base_class_runs_no_code_of_a_plug_in_that_is_denied(denied: Path, pytestconfig: pytest.Config) -> None:
    contract = type("Denied", (AdapterContract,), {"adapter": "slow", "config_files": [denied]})
    with pytest.raises(AdapterLoadError, match=r"discovery\.deny names it"):
        contract().test_contract("imports", pytestconfig)


def test_the_pytest_plug_in_runs_no_code_of_a_plug_in_that_is_denied(
    denied: Path, request: pytest.FixtureRequest
) -> None:
    given = {"--phasewire-adapter": "slow", "--phasewire-config": [str(denied)]}
    with pytest.raises(pytest.UsageError, match=r"discovery\.deny names it"):
        pytest_collection_modifyitems(request.session, SimpleNamespace(getoption=given.get), [])


# -- the command ---------------------------------------------------------------------------------------------------


def check(*arguments: str):
    app = typer.Typer(cls=ErrorReportingGroup)
    app.command("check")(check_adapter)
    app.command("other")(lambda: None)
    return CliRunner().invoke(app, ["check", *arguments])


CARELESS = """
from pathlib import Path

import lightning.pytorch as pl
import torch

from phasewire.adapters import StrategyAdapter


class Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.body, self.head = torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)
        Path(__file__).with_name("made").touch()


class Careless(StrategyAdapter):
    def __init__(self, prefix, **cfg):
        super().__init__()
"""


@pytest.fixture
def careless(tmp_path: Path) -> Path:
    """A folder with the module ``careless``: an adapter that breaks one rule, and a model that leaves a trace."""
    (tmp_path / "careless.py").write_text(CARELESS)
    return tmp_path


def test_the_command_shows_every_rule_names_the_broken_one_and_fails(
    careless: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(careless)
    result = check("careless:Careless", "--cfg", "{prefix: tests}", "--model", "careless.Model")
    sys.modules.pop("careless")
    lines = result.stdout.splitlines()
    broken = "refuses-unknown-options"
    assert [line.split()[:2] for line in lines[:-1]] == [
        ["broken" if rule.name == broken else "kept", rule.name] for rule in RULES
    ]
    assert "  The option 'phasewire_check_no_such_option' was accepted." in result.stdout
    assert (lines[-1], result.exit_code) == (f"{len(RULES)} rules: 1 broken, 0 not checked.", 1)
    assert (careless / "made").exists()


def test_an_adapter_that_ends_its_process_is_broken_and_nothing_else_of_it_is_checked(
    plugins: Path, prober: ImportProber
) -> None:
    checker = checker_for("exits", prober=prober)
    first, *others = checker.outcomes()
    checker.close()
    assert "rule imports: SystemExit: " in first.message
    assert {outcome.state for outcome in others} == {State.NOT_CHECKED}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fivelines"], "Did you mean 'fiveline'"),
        (["fiveline", "--cfg", "[1"], "--cfg"),
    ],
)
def test_what_the_command_cannot_use_is_an_error_of_one_paragraph(
    arguments: list[str], message: str, plugins: Path
) -> None:
    result = check(*arguments)
    assert result.exit_code == USER_ERROR_EXIT_CODE
    assert message in result.stderr


# -- the pytest plug-in --------------------------------------------------------------------------------------------


def run_pytest(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", "-rA", *arguments]
    return run(command, cwd=folder, timeout=120, check=False, env={"PYTHONPATH": str(folder)}).output


def test_the_pytest_plug_in_adds_a_test_for_every_rule_and_names_the_broken_one(careless: Path) -> None:
    options = {
        "--phasewire-adapter": "careless:Careless",
        "--phasewire-adapter-cfg": "{prefix: 1}",
        "--phasewire-adapter-model": "careless.Model",
    }
    output = run_pytest(careless, *(word for option in options.items() for word in option))
    assert (careless / "made").exists()
    assert f"1 failed, {len(RULES) - 1} passed" in output
    assert "rule refuses-unknown-options: The option 'phasewire_check_no_such_option' was accepted." in output


def test_the_pytest_plug_in_imports_nothing_heavy_until_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(
        dedent(
            """
            import sys

            def test_start(pytestconfig):
                assert pytestconfig.pluginmanager.hasplugin("phasewire")
                assert not {"torch", "lightning", "pydantic", "phasewire.app"} & set(sys.modules)
            """
        )
    )
    assert "1 passed" in run_pytest(tmp_path)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("no_such_adapter", "{}", "No adapter is called 'no_such_adapter'"),
        ("transformerbridge", "{", "--phasewire-adapter-cfg, line 1"),
        ("transformerbridge", "[1]", "--phasewire-adapter-cfg.* mapping"),
    ],
)
def test_what_the_pytest_plug_in_cannot_use_is_a_usage_error(
    name: str, options: str, message: str, request: pytest.FixtureRequest
) -> None:
    given = {"--phasewire-adapter": name, "--phasewire-adapter-cfg": options}
    with pytest.raises(pytest.UsageError, match=message):
        pytest_collection_modifyitems(request.session, SimpleNamespace(getoption=given.get), [])
