"""What holds after each fault of the table, and that docs/reliability.md shows the table that was tested."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest

import fault_adapters
import fault_page
import fault_runs
from fault_table import FAULTS, START
from phasewire.adapters import StrategyAdapter
from process_runner import run_script

TIME_LIMIT_SECONDS = 880

# Two minutes of computing, nearly all of it in one fixture, may take minutes beside other tests.
pytestmark = pytest.mark.timeout(TIME_LIMIT_SECONDS + 20)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What came of every fault, all injected into forks of one process."""
    folder = tmp_path_factory.mktemp("faults")
    run_script(Path(fault_runs.__file__), str(folder), time_limit=TIME_LIMIT_SECONDS)
    return json.loads((folder / "results.json").read_text())


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_nothing_is_lost_and_the_run_goes_on_after(fault, results):
    result = results[fault.id]
    if "skipped" in result:
        pytest.skip(result["skipped"])
    assert result["cases"] == len(fault.cases) > 0
    assert result["problems"] == []


def test_an_adapter_raises_in_every_hook_of_the_contract():
    hooks = {name for name, member in vars(StrategyAdapter).items() if inspect.isfunction(member) and name[0] != "_"}

    # What an adapter sets and what it overrides may be called the same way: exec_ft_phase is set in __init__.
    assert {hook for hook, _ in fault_adapters.HOOKS} == {*hooks, "exec_ft_phase"}


def test_only_what_saved_nothing_starts_anew():
    starts = {fault.id for fault in FAULTS for case in fault.cases if (case.goes_on or fault.goes_on) == START}
    raises_first = {f"adapter-raises-in-{hook}" for hook, in_transition in fault_adapters.HOOKS if not in_transition}

    # That no checkpoint is there is looked at before the run starts. Here: that nobody takes the start for an easy way.
    assert starts == raises_first | {
        "read-only-from-the-start",
        "killed-while-saving",
        "interrupted-while-saving",
        "run-folder-deleted",
        "sigkill-at-every-step",
        "sigint-at-every-step",
        "metric-never-logged",
    }
    assert sum((case.goes_on or fault.goes_on) == START for fault in FAULTS for case in fault.cases) == len(starts)


def test_every_fault_has_a_name_of_its_own():
    assert len({fault.id for fault in FAULTS}) == len(FAULTS) >= 30


def test_the_documentation_has_the_table_that_is_tested(repository):
    page = repository / "docs" / "reliability.md"

    assert fault_page.with_table(page.read_text()) == page.read_text(), f"run python {fault_page.__file__}"
