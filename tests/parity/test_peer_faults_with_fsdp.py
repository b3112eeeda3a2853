"""With FSDP in two processes, where the peer fails or trains something else.

``tests/adapters/test_fsdp_two_processes.py`` has the same trainings with ours.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from process_runner import run_script

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def results(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("peer")
    run_script(repository / "tests" / "support" / "fsdp_run.py", str(folder), "finetuning_scheduler", time_limit=120)
    return json.loads((folder / "results.json").read_text())


@pytest.mark.parametrize("orig", [True, False])
def test_the_peer_fails_when_it_thaws_a_unit_that_was_frozen(results, orig: bool) -> None:
    found = results[f"thaw orig={orig}"]["found"]
    assert found["error"] == "AssertionError"
    assert "Invalid: ``_post_backward_hook_state``" in found["text"]


def test_the_peer_cannot_go_back_to_the_best_of_sharded_checkpoints(results) -> None:
    assert (results["sharded"]["found"]["error"], results["sharded"]["found"]["text"]) == (
        "KeyError",
        "'optimizer_states'",
    )


def test_the_peer_cannot_go_back_to_the_best_with_an_optimizer_without_a_state(results) -> None:
    found = results["stateless"]["found"]
    assert (found["error"], found["text"]) == ("IndexError", "list index out of range")


def test_the_peer_lets_each_process_train_what_the_user_left_outside_of_all_units(results) -> None:
    found = results["WrapsOne"]["found"]
    assert found["depths"] == [0, 1, 1, 2, 2]
    assert max(found["differences"]) > 1e-3
