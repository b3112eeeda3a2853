"""FSDP in two processes: what every scene of ``fsdp_run.py`` found, compared with one process that keeps parameters.

All scenes run in one group of processes; the tests look at what they left.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from fsdp_on_cpu import EXPECTED_WARNINGS, fsdp_on_cpu
from fsdp_parts import EPOCHS, SplitModule, largest_difference, strategy, train
from phasewire.app.checkpoint import SCHEDULER_STATE_KEY
from process_runner import run_script
from seam_recorder import leaving_no_process_group

pytestmark = [pytest.mark.filterwarnings(each) for each in EXPECTED_WARNINGS]
SUPPORT = Path(__file__).parents[1] / "support"
#: What float32 rounds away when gradients are added up in another order.
ROUNDING = 1e-6
WAYS = ["orig=True full", "orig=True sharded", "orig=False full", "orig=False sharded"]
DEPTHS = [0, 1, 1, 2, 2]
LINEAR = ["layers.0", "layers.1", "head"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all scenes, with their checkpoints."""
    place = tmp_path_factory.mktemp("fsdp")
    run_script(SUPPORT / "fsdp_run.py", str(place), time_limit=240)
    return place


@pytest.fixture(scope="module")
def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text())


@pytest.fixture(scope="module")
def equal(results: dict[str, Any]):
    """Asserts that a scene trained what one process trains, in every epoch, and gives what it found."""

    def check(scene: str, *, last: int = EPOCHS) -> dict[str, Any]:
        found = results[scene]["found"]
        assert "error" not in found, found["traceback"]
        assert found["depths"] == DEPTHS[-last:]
        assert len(found["differences"]) == last
        assert max(found["differences"]) < ROUNDING
        return found

    return check


def refusal(results: dict[str, Any], scene: str) -> dict[str, Any]:
    found = results[scene]["found"]
    assert "error" in found, f"{scene} trained"
    return found


# -- training ------------------------------------------------------------------------------------------------------


def test_every_parameter_is_trained_by_far_more_than_is_rounded_away(results) -> None:
    assert results["smallest change of a parameter"]["found"] > 1000 * ROUNDING


@pytest.mark.parametrize("way", WAYS)
def test_each_phase_trains_what_one_process_trains_and_goes_back_to_the_best(equal, way: str) -> None:
    assert equal(f"train {way}")["units"] == LINEAR


@pytest.mark.parametrize("kind", ["full", "sharded"])
def test_an_optimizer_without_a_state_goes_back_to_the_best(equal, kind: str) -> None:
    equal(f"an optimizer without a state, {kind}")


@pytest.mark.parametrize("kind", ["full", "sharded"])
@pytest.mark.parametrize("wrapped", ["orig=True policy=True", "orig=True policy=False", "orig=False policy=True"])
def test_every_phase_goes_back_to_a_best_checkpoint_of_phase_zero(equal, wrapped: str, kind: str) -> None:
    equal(f"the first is the best {wrapped} {kind}")


@pytest.mark.parametrize("orig", [True, False])
def test_gradients_are_accumulated_over_batches(equal, orig: bool) -> None:
    equal(f"accumulated orig={orig}")


def test_phases_end_together_when_the_patience_of_one_rank_is_over(results) -> None:
    assert results["phases that end by patience on one rank"]["found"] == [0, 0, 1, 2]


# -- units that phases share ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["full", "sharded"])
def test_with_original_parameters_a_unit_of_several_phases_trains_right_and_is_warned_of(equal, results, kind) -> None:
    equal(f"mixed {kind}")
    (warning,) = [text for text in results[f"mixed {kind}"]["warnings"] if "several phases" in text]
    assert "the module itself holds head.weight, head.bias (phase 0), layers.1.weight" in warning
    assert "'awp_overrides': ['layers.0', 'layers.1']" in warning


@pytest.mark.parametrize("kind", ["full", "sharded"])
def test_a_unit_of_several_phases_can_be_saved_before_the_first_step_of_a_phase(equal, kind: str) -> None:
    equal(f"mixed {kind}, resumed right after a thaw", last=4)


def test_flat_parameters_that_phases_share_are_refused_with_phase_module_parameter_and_mend(results) -> None:
    found = refusal(results, "shared")
    assert found["error"] == "FlatParametersError"
    assert (
        "the module itself holds head.weight, head.bias (phase 0), layers.1.weight, layers.1.bias (phase 1), "
        "layers.0.weight, layers.0.bias (phase 2)"
    ) in found["text"]
    assert "strategy_adapter_cfg={'awp_overrides': ['layers.0', 'layers.1']}" in found["text"]


def test_the_run_works_when_the_proposed_overrides_are_applied(equal) -> None:
    assert equal("shared, mended")["units"] == ["layers.0", "layers.1"]


# -- the user's own wrapping ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("orig", [True, False])
def test_children_wrapped_by_the_user_stay_as_they_are_and_thaw_without_a_common_root(equal, orig: bool) -> None:
    found = equal(f"WrapsChildren orig={orig}")
    assert found["units"] == LINEAR
    assert not found["module_is_wrapped"]


def test_a_unit_of_the_user_with_several_phases_is_warned_of_or_refused(equal, results) -> None:
    assert equal("WrapsLayersTogether orig=True")["units"] == ["layers", "head"]
    assert any("configure_model" in text for text in results["WrapsLayersTogether orig=True"]["warnings"])
    text = refusal(results, "WrapsLayersTogether orig=False")["text"]
    assert "'layers' holds layers.1.weight, layers.1.bias (phase 1), layers.0.weight, layers.0.bias (phase 2)" in text
    assert "Wrap parts of one phase each in configure_model" in text


def test_parameters_that_the_user_left_outside_of_all_units_are_refused(results) -> None:
    found = refusal(results, "WrapsOne")
    assert found["error"] == "AdapterError"
    assert "(phase 1) stands in no part that is wrapped by FSDP" in found["text"]


# -- ways to shard -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orig", [True, False])
def test_gradients_and_optimizer_alone_are_sharded(equal, orig: bool) -> None:
    equal(f"SHARD_GRAD_OP orig={orig}")


@pytest.mark.parametrize("orig", [True, False])
def test_layers_built_without_memory_are_frozen_and_thawed_as_others(results, orig: bool) -> None:
    second, third = (
        [f"{layer}.{name}" for layer in layers for name in ("bias", "weight")]
        for layers in (["head", "layers.1"], ["head", "layers.0", "layers.1"])
    )
    assert results[f"meta orig={orig}"]["found"] == [second, second, third, third]


def test_parameters_that_fsdp_was_told_to_ignore_are_refused_where_a_phase_trains_them(results) -> None:
    found = refusal(results, "ignored")
    assert found["error"] == "AdapterError"
    assert "FSDP was told to ignore layers.1.weight, which phase 1 trains" in found["text"]


# -- checkpoints ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("saved", "last"), [("begins 1.ckpt", 4), ("begins 3.ckpt", 2), ("epoch=1.ckpt", 3), ("epoch=3.ckpt", 1)]
)
def test_a_resumed_run_ends_as_the_whole_one(equal, way: str, saved: str, last: int) -> None:
    equal(f"resume {way} {saved}", last=last)


@pytest.mark.parametrize("way", WAYS)
def test_validate_loads_the_weights_of_a_checkpoint(results, way: str) -> None:
    found = results[f"validate {way}"]["found"]
    assert found["val_loss"] == pytest.approx(found["by_hand"], rel=1e-5)


@pytest.mark.parametrize(
    "scene",
    [
        "from one device to orig=True",
        "from one device to orig=False",
        "from orig=True to one device",
        "from orig=False to one device",
        "from orig=True to orig=False",
        "from orig=False to orig=True",
    ],
)
def test_a_full_checkpoint_resumes_under_another_wrapping_and_on_one_device(equal, scene: str) -> None:
    equal(scene, last=2)


@pytest.mark.parametrize("way", WAYS)
def test_a_checkpoint_of_two_processes_resumes_in_one(folder: Path, tmp_path: Path, way: str) -> None:
    full = folder / way.replace("sharded", "full")
    expected = [torch.load(full / f"epoch={epoch}.ckpt", weights_only=False)["state_dict"] for epoch in (3, 4)]
    with leaving_no_process_group(), fsdp_on_cpu():
        run = strategy(orig="True" in way, kind=way.rsplit(maxsplit=1)[-1])
        ends = train(tmp_path, run, devices=1, ckpt_path=folder / way / "epoch=2.ckpt").ends
    assert largest_difference(ends, expected) < ROUNDING


@pytest.mark.parametrize("orig", [True, False])
def test_a_full_checkpoint_holds_the_modules_own_names_and_no_numbers(folder: Path, orig: bool) -> None:
    path = folder / f"orig={orig} full" / "epoch=3.ckpt"
    checkpoint = torch.load(path, weights_only=False)
    groups = [["head.weight", "head.bias"], ["layers.1.weight", "layers.1.bias"], ["layers.0.weight", "layers.0.bias"]]
    (state,) = checkpoint["optimizer_states"]
    assert [group["params"] for group in state["param_groups"]] == groups
    assert sorted(state["state"]) == sorted(name for names in groups for name in names)
    assert checkpoint["callbacks"][SCHEDULER_STATE_KEY]["groups"] == groups
    assert SplitModule.load_from_checkpoint(path).state_dict().keys() == checkpoint["state_dict"].keys()


# -- optimizers and names ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orig", [True, False])
def test_new_optimizers_and_lr_schedulers_start_and_resume(equal, orig: bool) -> None:
    equal(f"reinit orig={orig}")
    equal(f"reinit orig={orig}, resumed", last=2)


def test_no_decay_is_kept_with_original_parameters_and_refused_with_flat_ones(equal, results) -> None:
    equal("no_decay orig=True")
    found = refusal(results, "no_decay orig=False")
    assert found["error"] == "AdapterError"
    assert "no_decay is not supported under FSDP with use_orig_params=False" in found["text"]


@pytest.mark.parametrize("orig", [True, False])
def test_a_plug_in_that_subclasses_the_adapter_renames_parameters(equal, orig: bool) -> None:
    equal(f"plug-in orig={orig}")


@pytest.mark.parametrize("orig", [True, False])
def test_activation_checkpointing_changes_no_names_in_the_schedule(equal, orig: bool) -> None:
    equal(f"activation checkpointing orig={orig}")
