"""The documentation site: built as `make docs` builds it, and complete without a network."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

from commands import run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

#: What the site is made of.
SOURCES = ("adapters", "app", "benchmarks", "containers", "docs", "examples")
FILES = (
    "CHANGELOG.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "config.yaml",
    "mkdocs.yml",
    "mkdocs_hooks.py",
    "pyproject.toml",
)


@pytest.fixture(scope="module")
def site(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built from a copy: other tests build in the repository."""
    copy = tmp_path_factory.mktemp("site")
    for folder in SOURCES:
        shutil.copytree(repository / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in FILES:
        shutil.copy(repository / file, copy)
    # A warning is an error here: of links, of anchors, of docstrings.
    run(["make", "site", f"BIN={Path(sys.executable).parent}"], cwd=copy, timeout=600)
    return copy / "build" / "site"


def test_every_page_of_the_documentation_is_on_the_site(site: Path, repository: Path) -> None:
    pages = {page.relative_to(repository / "docs").with_suffix("") for page in (repository / "docs").rglob("*.md")}
    built = {page.relative_to(site).with_suffix("") for page in site.rglob("*.html")}
    assert pages <= built
    assert {Path("changelog"), Path("reference/commands")} <= built


def test_every_page_can_be_reached_from_the_start(site: Path) -> None:
    linked = set(re.findall(r'href="([^"#:]+\.html)"', (site / "index.html").read_text()))
    built = {page.relative_to(site).as_posix() for page in site.rglob("*.html")} - {"404.html"}
    assert built <= linked


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        loaded = re.findall(
            r'<(?:script|img|iframe)[^>]* src="(https?:[^"]+)"|<link[^>]* href="(https?:[^"]+)"', page.read_text()
        )
        assert loaded == [], page.name


def test_the_reference_has_the_docstrings_and_no_markup_of_another_kind(site: Path) -> None:
    page = (site / "reference" / "callback.html").read_text()
    assert "Restore the best checkpoint before each new phase." in page
    for reference in (site / "reference").glob("*.html"):
        assert re.findall(r":(?:class|meth|attr|func|data):", reference.read_text()) == [], reference.name


def test_files_of_the_repository_that_pages_link_to_are_on_the_site(site: Path, repository: Path) -> None:
    for name in ("examples/plain_trainer.py", "examples/plugin_adapter/train.py", "config.yaml"):
        assert (site / "repository" / name).read_text() == (repository / name).read_text()
