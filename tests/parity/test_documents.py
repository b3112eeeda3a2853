"""The pages that tell what is the same and what differs name tests and cases that exist, and leave nothing out."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from phasewire.app.schedule.model import ClassInit, LightningLRConfig, LRSchedulerReinit, OptimizerReinit, Phase
from phasewire.app.settings import SchedulerSettings
from test_cases import CASES

FOLDER = Path(__file__).parent
#: Settings that the peer does not have.
OURS_ALONE = {"schedule_generator", "schedule_generator_cfg", "transition_criteria"} | {
    "progress_bar",
    "log_phase_metrics",
    "run_record",
}
TABLE_ROW = re.compile(r"^\|.*\|$", re.MULTILINE)


@pytest.fixture(scope="module")
def compatibility(repository: Path) -> str:
    return (repository / "docs" / "compatibility.md").read_text()


@pytest.fixture(scope="module")
def differences(repository: Path) -> str:
    return (repository / "docs" / "differences.md").read_text()


def defined(files: str) -> set[str]:
    return {
        f"{file.name}::{name}"
        for file in FOLDER.glob(files)
        for name in re.findall(r"^def (test_\w+)", file.read_text(), re.MULTILINE)
    }


def test_every_test_and_case_of_the_compatibility_page_exists(compatibility: str) -> None:
    rows = "\n".join(TABLE_ROW.findall(compatibility))

    assert set(re.findall(r"`(test_\w+\.py::\w+)`", rows)) <= defined("test_*.py")
    assert set(re.findall(r'"([^"]+)"', rows)) == {case.name for case in CASES}


def test_the_compatibility_page_has_every_setting_and_every_key(compatibility: str) -> None:
    keys = [
        field.name
        for section in (Phase, OptimizerReinit, LRSchedulerReinit, ClassInit, LightningLRConfig)
        for field in dataclasses.fields(section)
    ]
    first_cells = " ".join(row.split("|")[1] for row in TABLE_ROW.findall(compatibility))

    settings = SchedulerSettings.model_fields.keys() - OURS_ALONE
    assert {*settings, *keys} <= set(re.findall(r"`(\w+)`", first_cells))


def test_every_fault_in_the_differences_page_is_shown_by_a_test(differences: str) -> None:
    faults = differences[differences.index("## Faults") : differences.index("## From")]
    named = [row.split("|")[3].strip(" `") for row in TABLE_ROW.findall(faults)]
    shown = {test.split("::")[1] for test in defined("test_peer_faults*.py")}

    assert set(named) - {"Test", "---"} == shown - {"test_the_fault_is_told_from_the_case_and_is_documented"}
