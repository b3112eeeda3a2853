"""What the documentation shows is true: its YAML loads, its Python compiles, and its commands print what they show."""

import ast
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import pages
from phasewire.app import Schedule
from phasewire.containers import Container

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language):
    pattern = re.compile(rf"^```{language}\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    found = [(page, text) for page in PAGES for text in pattern.findall(page.read_text())]
    return [pytest.param(text, id=f"{page.name}-{number}") for number, (page, text) in enumerate(found)]


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


@pytest.mark.parametrize("text", blocks("python"))
def test_every_python_block_compiles_and_imports_names_that_exist(text):
    compile(text, "<docs>", "exec")
    for line in re.findall(r"^from phasewire\..*", text, re.MULTILINE):
        exec(line)  # noqa: S102 - the line is in our own documentation


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


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


def test_the_plan_in_the_readme_is_what_the_command_prints():
    shown = re.search(
        r"^\$ phasewire (plan .*?)\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL
    )
    command, output = shown.groups()

    finished = subprocess.run(
        [sys.executable, "-m", "phasewire.app", *shlex.split(command)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env={**os.environ, **pages.TERMINAL, "COLUMNS": "132"},
    )

    assert pages.lines(finished.stdout.splitlines()) == pages.lines(output.splitlines())
