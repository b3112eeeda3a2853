"""The contract kit passes right adapters, from the command line and from pytest."""

from __future__ import annotations

import sys
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import typer
from torch import nn
from typer.testing import CliRunner

from commands import run
from phasewire.adapters import AdapterNotFoundError, ConfigError, StrategyAdapter
from phasewire.adapters.pytest_plugin import pytest_collection_modifyitems
from phasewire.adapters.testing import AdapterContract
from phasewire.app.adapter_checks import RULES, State, checker_for
from phasewire.app.commands.adapter_check import check_adapter
from phasewire.app.commands.reporting import USER_ERROR_EXIT_CODE, ErrorReportingGroup
from phasewire.app.discovery import DiscoveryService


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
def test_the_good_plug_ins_keep_every_rule(name: str, cfg: dict, plugins: Path) -> None:
    record = DiscoveryService().find(name)
    assert record is not None
    checker = checker_for(record.load(), cfg)
    # An import in a process of its own takes seconds, and has its own tests.
    rules = [rule for rule in RULES if rule.name != "leaves-torch-alone"]
    assert {o.rule.name: o.message for o in checker.outcomes(rules) if o.state is not State.KEPT} == {}
    checker.close()


def test_a_model_that_is_no_lightning_module_is_refused_by_what_it_is() -> None:
    checker = checker_for(StrategyAdapter, make_module=lambda: nn.Linear(1, 1))
    with pytest.raises(ConfigError, match="is a Linear, which is no LightningModule"):
        checker.verify("connects")
    checker.close()


def test_an_adapter_that_is_not_installed_is_refused_with_the_nearest_name(plugins: Path) -> None:
    with pytest.raises(AdapterNotFoundError, match="Did you mean 'fiveline'"):
        checker_for("fivelines")


# -- the command ---------------------------------------------------------------------------------------------------


def check(*arguments: str):
    app = typer.Typer(cls=ErrorReportingGroup)
    app.command("check")(check_adapter)
    app.command("other")(lambda: None)
    return CliRunner().invoke(app, ["check", *arguments])


def test_the_command_shows_every_rule_kept_by_an_installed_plug_in(plugins: Path) -> None:
    result = check("acmenames", "--cfg", "{prefix: tests}", "--model", f"{__name__}.Reversed")
    lines = result.stdout.splitlines()
    assert [line.split()[:2] for line in lines[:-1]] == [["kept", rule.name] for rule in RULES]
    assert (lines[-1], result.exit_code) == (f"{len(RULES)} rules: 0 broken, 0 not checked.", 0)


def test_the_command_names_the_rule_that_a_plug_in_breaks_and_fails(plugins: Path) -> None:
    result = check("exits")
    assert result.exit_code == 1
    assert "rule imports: SystemExit: " in result.stdout
    assert f"{len(RULES)} rules: 1 broken, {len(RULES) - 1} not checked." in result.stdout


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


def test_the_pytest_plug_in_adds_a_test_for_every_rule_and_names_the_broken_one(tmp_path: Path) -> None:
    (tmp_path / "careless.py").write_text(
        dedent(
            """
            from phasewire.adapters import StrategyAdapter

            class Careless(StrategyAdapter):
                def __init__(self, prefix, **cfg):
                    super().__init__()
            """
        )
    )
    output = run_pytest(
        tmp_path, "--phasewire-adapter", "careless:Careless", "--phasewire-adapter-cfg", '{"prefix": 1}'
    )
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
        ("transformerbridge", "{", "is no JSON"),
        ("transformerbridge", "[1]", r"must be a JSON object, and \[1\] is given"),
    ],
)
def test_what_the_pytest_plug_in_cannot_use_is_a_usage_error(
    name: str, options: str, message: str, request: pytest.FixtureRequest
) -> None:
    given = {"--phasewire-adapter": name, "--phasewire-adapter-cfg": options}
    with pytest.raises(pytest.UsageError, match=message):
        pytest_collection_modifyitems(request.session, SimpleNamespace(getoption=given.get), [])
