"""What the documentation shows is true: every block is run, and every command prints what is shown."""

from __future__ import annotations

import ast
import re
import sys
from functools import cache
from pathlib import Path

import lightning.pytorch as lightning  # its log goes to the stderr of its first import, and a runner's is soon closed
import pytest
import yaml
from lightning.pytorch.cli import LightningCLI

from doc_pages import PageRun, blocks_of
from phasewire.app import FinetuningScheduler, FTSCheckpoint, FTSEarlyStopping, Schedule
from phasewire.containers import Container

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

#: Pages that a test of their own follows, in an environment of their own.
FOLLOWED_ELSEWHERE = {"writing-an-adapter.md": "tests/app/starter/test_starter_project.py"}
#: Pages whose commands are, because they need what a fit of a bridge leaves, or a folder of a model.
COMMANDS_ELSEWHERE = {
    "checkpoint-names.md": "tests/test_bridge_page.py",
    "planning.md": "tests/test_planning_pages.py",
    "schedules.md": "tests/test_planning_pages.py",
    "transformer-bridge.md": "tests/test_bridge_page.py",
}


def blocks(language):
    found = [block for page in PAGES for block in blocks_of(page) if block.language == language]
    return [pytest.param(block.text, id=f"{block.page.name}-{block.line}") for block in found]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with what the pages take for granted: a model, a schedule for it, a configuration."""
    (tmp_path / "my_project").symlink_to(ROOT / "tests" / "data" / "docs" / "my_project")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    schedule = next(block for block in blocks_of(ROOT / "docs" / "schedules.md") if block.language == "yaml")
    (tmp_path / "schedule.yaml").write_text(schedule.text)
    (tmp_path / "config.yaml").write_text((ROOT / "config.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    loaded = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - loaded:
        if str(getattr(sys.modules[name], "__file__", "")).startswith((str(tmp_path), str(ROOT / "tests" / "data"))):
            del sys.modules[name]


def with_code():
    pages = [page for page in PAGES if page.name not in FOLLOWED_ELSEWHERE]
    return [pytest.param(page, id=page.name) for page in pages if blocks_of(page)]


@pytest.mark.filterwarnings("ignore")  # what the pages show is run as a user runs it
@pytest.mark.parametrize("page", with_code())
def test_every_block_of_a_page_runs_and_prints_what_is_shown(page, folder):
    from my_project.models import Classifier, Data, Layer

    given = {
        "L": lightning,
        "FinetuningScheduler": FinetuningScheduler,
        "FTSCheckpoint": FTSCheckpoint,
        "FTSEarlyStopping": FTSEarlyStopping,
        "Block": Layer,
        "module": Classifier(),
        "data": Data(),
    }
    PageRun(page, folder, given, commands=page.name not in COMMANDS_ELSEWHERE).follow()


def test_what_follows_a_page_elsewhere_exists_and_reads_it():
    for page, test in {**FOLLOWED_ELSEWHERE, **COMMANDS_ELSEWHERE}.items():
        assert page in (ROOT / test).read_text()


def test_the_testing_page_lists_the_blocks_that_are_not_run_with_their_reasons():
    listed = set(
        re.findall(r"^\| ([\w/.-]+\.md) \| (.+) \|$", (ROOT / "docs" / "testing.md").read_text(), re.MULTILINE)
    )
    not_run = {
        (page.relative_to(ROOT).as_posix(), block.reason) for page in PAGES for block in blocks_of(page) if block.reason
    }
    assert listed == not_run


def test_the_testing_page_names_every_file_that_skips():
    testing = (ROOT / "docs" / "testing.md").read_text()
    skips = re.compile(r"pytest\.(mark\.skip|mark\.xfail|skip\(|importorskip)")
    files = [file for part in ("tests", "examples") for file in (ROOT / part).rglob("test_*.py")]
    skipping = {file.relative_to(ROOT).as_posix() for file in files if skips.search(file.read_text())}
    assert skipping - {"tests/test_docs.py"} == {name for name in skipping if f"`{name}`" in testing}


@pytest.mark.parametrize("text", blocks("yaml"))
def test_every_yaml_block_loads_as_a_schedule_or_a_configuration(text, tmp_path):
    values = yaml.safe_load(text)
    if all(isinstance(key, int) for key in values):
        assert len(Schedule.from_mapping(values).phases) == len(values)
        return
    (tmp_path / "config.yaml").write_text(text)
    container = Container()
    container.config.from_yaml(tmp_path / "config.yaml")
    assert container.settings()


@pytest.mark.filterwarnings("ignore")  # LightningCLI uses what its parser deprecates
@pytest.mark.parametrize("text", blocks("yml"))
def test_every_yml_block_configures_lightning_cli(text, folder):
    from my_project.models import Classifier, Data

    (folder / "cli.yaml").write_text(text)
    cli = LightningCLI(
        Classifier, Data, run=False, save_config_callback=None, args=["--config", "cli.yaml", "--seed_everything", "0"]
    )
    assert any(isinstance(callback, FinetuningScheduler) for callback in cli.trainer.callbacks)


def test_links_between_pages_lead_somewhere():
    made_for_the_site = {"commands.md", "changelog.md"}
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            exists = (page.parent / target).exists() or target in made_for_the_site
            assert exists, f"{page.name}: {target}"


def named_in_the_pages():
    return sorted({match for page in PAGES for match in re.findall(r"tests/[\w/]+\.py::\w+", page.read_text())})


@pytest.mark.parametrize("named", named_in_the_pages())
def test_tests_that_the_documentation_names_exist(named):
    path, _, name = named.partition("::")
    tree = ast.parse((ROOT / path).read_text())
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_feature_of_lightning_has_a_test():
    page = (ROOT / "docs" / "lightning-features.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| ")][1:]

    assert len(rows) > 50
    assert [row for row in rows if not re.search(r"\| `tests/[\w/]+\.py::test_\w+` \|$", row)] == []


@cache
def error_classes():
    """The errors of ours, by their definitions."""
    known, found = {"PhasewireError"}, {"PhasewireError": "adapters/errors.py"}
    sources = [file for part in ("adapters", "app", "containers") for file in sorted((ROOT / part).rglob("*.py"))]
    trees = {file.relative_to(ROOT).as_posix(): ast.parse(file.read_text()) for file in sources}
    while True:
        new = {
            node.name: file
            for file, tree in trees.items()
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef)
            and node.name not in known
            and {base.id for base in node.bases if isinstance(base, ast.Name)} & known
        }
        if not new:
            return found
        known |= set(new)
        found |= new


def test_troubleshooting_has_an_entry_for_each_class_of_error():
    page = ROOT / "docs" / "troubleshooting.md"
    headings = set(re.findall(r"^## `(\w+)`$", page.read_text(), re.MULTILINE))
    in_the_table = set(re.findall(r"^\| \[`(\w+)`\]", page.read_text(), re.MULTILINE))
    assert headings == set(error_classes())
    assert in_the_table == headings - {"PhasewireError"}


def test_troubleshooting_shows_a_message_of_each_class_that_is_raised_without_more_processes():
    shown = {block.detail for block in blocks_of(ROOT / "docs" / "troubleshooting.md") if block.marker == "raises"}
    # The base is never raised, two are shown as a command reports them, and the last needs FSDP.
    others = {"PhasewireError", "BrokenRuleError", "ConfigureError", "FlatParametersError"}
    assert set(error_classes()) - shown == others
