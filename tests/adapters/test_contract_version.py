"""The contract that plug-ins are written for does not change without its version."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from contract_table import Change, Table, changes, contract_table
from phasewire.adapters import API_VERSION, ModelView, StrategyAdapter
from phasewire.app.adapter_checks import RULES

TABLES = Path(__file__).parent / "contract"
RECORDED = sorted((path.stem for path in TABLES.glob("*.json")), key=lambda version: [*map(int, version.split("."))])
WHAT_TO_DO = (
    "A public signature of the adapter contract changed. If that was not meant, take it back. Otherwise raise "
    "API_VERSION in adapters/base.py (the minor version for a name that is new, the major one for all else), record it "
    "with `python tests/support/contract_table.py > tests/adapters/contract/<version>.json`, and add what changed to "
    "the change log in docs/adapter-contract.md."
)


def table_of(version: str) -> Table:
    return json.loads((TABLES / f"{version}.json").read_text())


def page(repository: Path) -> str:
    return (repository / "docs" / "adapter-contract.md").read_text()


def test_no_public_signature_differs_from_what_is_recorded_for_its_version() -> None:
    assert API_VERSION in RECORDED, WHAT_TO_DO
    differences = changes(table_of(API_VERSION), contract_table())
    assert not differences, "\n".join([WHAT_TO_DO, *map(str, differences)])


@pytest.mark.parametrize("version", RECORDED)
def test_a_version_only_adds_to_the_versions_before_it_with_the_same_major(version: str) -> None:
    major = version.partition(".")[0]
    for earlier in RECORDED[: RECORDED.index(version)]:
        if earlier.partition(".")[0] == major:
            taken_away = [c for c in changes(table_of(earlier), table_of(version)) if not c.keeps_old_adapters_working]
            assert taken_away == [], f"{version} breaks adapters written for {earlier}: its major version must rise."


class _Changed(StrategyAdapter):
    def connect(self, fts_parent, eager=False) -> None: ...

    def on_something_new(self) -> None: ...

    connect_later = StrategyAdapter.connect


def test_a_changed_a_new_and_a_missing_signature_are_each_told_apart() -> None:
    original = {"A.connect": "(self, fts_parent)", "A.gone": "(self)"}
    found = {name.replace("_Changed", "A"): text for name, text in contract_table([_Changed]).items()}
    del found["A.connect_later"]
    assert changes(original, found) == [
        Change("A.connect", "(self, fts_parent)", "(self, fts_parent, eager=False) -> 'None'"),
        Change("A.gone", "(self)", None),
        Change("A.on_something_new", None, "(self) -> 'None'"),
    ]
    assert [each.keeps_old_adapters_working for each in changes(original, found)] == [False, False, True]


def test_the_page_of_the_contract_names_every_public_name(repository: Path) -> None:
    named = set(re.findall(r"`(\w+)", page(repository)))
    public = {name for owner in (StrategyAdapter, ModelView) for name in vars(owner) if not name.startswith("_")}
    assert public - named == set()


def test_the_page_of_the_contract_lists_every_rule_of_the_kit(repository: Path) -> None:
    listed = re.findall(r"^\| `([\w-]+)` \| (.*) \|$", page(repository).partition("## Checking")[2], re.MULTILINE)
    assert listed == [(rule.name, rule.sentence) for rule in RULES]


def test_the_change_log_begins_with_the_version_that_this_release_drives(repository: Path) -> None:
    log = page(repository).partition("## Change log")[2]
    assert re.findall(r"^### (\d+\.\d+)", log, re.MULTILINE) == RECORDED[::-1]
    assert RECORDED[-1] == API_VERSION
