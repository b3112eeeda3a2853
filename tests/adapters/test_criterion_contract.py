"""The contract that transition criteria are written for does not change without its version."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from contract_table import CRITERION_CLASSES, changes, contract_table
from phasewire.adapters import CRITERION_API_VERSION

TABLES = Path(__file__).parent / "criterion_contract"
RECORDED = sorted((path.stem for path in TABLES.glob("*.json")), key=lambda version: [*map(int, version.split("."))])
WHAT_TO_DO = (
    "A public signature of the contract of transition criteria changed. If that was not meant, take it back. Otherwise "
    "raise CRITERION_API_VERSION in adapters/transitions.py (the minor version for a name that is new, the major one "
    "for all else), record it with `python tests/support/contract_table.py criterion > "
    "tests/adapters/criterion_contract/<version>.json`, and add what changed to the change log in "
    "docs/transition-criteria.md."
)


def table_of(version: str) -> dict[str, str]:
    return json.loads((TABLES / f"{version}.json").read_text())


def page(repository: Path) -> str:
    return (repository / "docs" / "transition-criteria.md").read_text()


def test_no_public_signature_differs_from_what_is_recorded_for_its_version() -> None:
    assert CRITERION_API_VERSION in RECORDED, WHAT_TO_DO
    differences = changes(table_of(CRITERION_API_VERSION), contract_table(CRITERION_CLASSES))
    assert not differences, "\n".join([WHAT_TO_DO, *map(str, differences)])


@pytest.mark.parametrize("version", RECORDED)
def test_a_version_only_adds_to_the_versions_before_it_with_the_same_major(version: str) -> None:
    for earlier in RECORDED[: RECORDED.index(version)]:
        if earlier.partition(".")[0] == version.partition(".")[0]:
            taken_away = [c for c in changes(table_of(earlier), table_of(version)) if not c.keeps_old_adapters_working]
            assert taken_away == [], f"{version} breaks criteria written for {earlier}: its major version must rise."


def test_the_page_of_the_contract_names_every_public_name(repository: Path) -> None:
    named = set(re.findall(r"`(\w+)", page(repository)))
    public = {name for owner in CRITERION_CLASSES for name in vars(owner) if not name.startswith("_")}
    assert public - named == set()


def test_the_change_log_begins_with_the_version_that_this_release_drives(repository: Path) -> None:
    log = page(repository).partition("## Change log")[2]
    assert re.findall(r"^### (\d+\.\d+)", log, re.MULTILINE) == RECORDED[::-1]
    assert RECORDED[-1] == CRITERION_API_VERSION
