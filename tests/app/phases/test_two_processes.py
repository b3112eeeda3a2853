"""Two processes hold the same weights in every phase, and those that one process would have."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

import ddp_cases
from process_runner import run_module, run_script
from resuming import expected_warnings

SUPPORT = Path(__file__).parents[2] / "support"
DEPTHS = [0, 0, 1, 1, 2, 2]
#: Cases that train what plain SGD in one process trains.
AS_PLAIN_SGD = (
    "ddp",
    "plug-in",
    "unused parameters",
    "static graph",
    "static graph, optimized by hand",
    "bucket views",
    "small buckets",
    "ZeRO",
    "ZeRO with bucket views",
    "ZeRO of all parameters",
)


@dataclass(frozen=True)
class Runs:
    """What two processes saw in every case, and what one process trained."""

    folder: Path
    ranks: tuple[dict[str, Any], ...]
    alone: list[dict[str, Any]]

    def case(self, name: str) -> tuple[list[dict[str, Any]], ...]:
        return tuple(rank["cases"][name] for rank in self.ranks)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """All cases of ``ddp_cases.py``, in one group of two processes that torchrun starts."""
    folder = tmp_path_factory.mktemp("ddp")
    alone = ddp_cases.train(folder / "alone", "auto", devices=1)
    checkpoint = folder / "alone" / "recovery" / "step=6.ckpt"
    run_module(
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        str(SUPPORT / "ddp_cases.py"),
        str(folder),
        str(checkpoint),
        time_limit=240,
    )
    ranks = tuple(torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    return Runs(folder, ranks, alone)


def assert_equal_ranks(first, second):
    assert [epoch["depth"] for epoch in first] == [epoch["depth"] for epoch in second]
    for one, other in zip(first, second, strict=True):
        assert all(torch.equal(value, other["state"][name]) for name, value in one["state"].items())


def assert_as_alone(epochs, alone):
    assert [(epoch["depth"], epoch["step"]) for epoch in epochs] == [(epoch["depth"], epoch["step"]) for epoch in alone]
    for one, other in zip(epochs, alone, strict=True):
        torch.testing.assert_close(one["state"], other["state"])


@pytest.mark.slow
@pytest.mark.parametrize("case", AS_PLAIN_SGD)
def test_in_every_epoch_ranks_hold_the_same_bits_and_what_one_process_trains(case, runs):
    first, second = runs.case(case)

    assert [epoch["depth"] for epoch in first] == DEPTHS
    assert_equal_ranks(first, second)
    assert_as_alone(first, runs.alone)


@pytest.mark.slow
def test_a_phase_may_start_with_a_new_optimizer_and_lr_scheduler(runs, tmp_path):
    first, second = runs.case("new optimizer")

    assert_equal_ranks(first, second)
    assert_as_alone(first, ddp_cases.train(tmp_path, "auto", schedule=ddp_cases.WITH_NEW_ONES, devices=1))


@pytest.mark.slow
def test_only_what_is_thawed_is_reduced_in_every_step_through_the_hook_of_the_user(runs):
    for rank in runs.ranks:
        assert rank["bytes"] == rank["thawed bytes"]
        assert sorted(set(rank["bytes"].values())) == [4 * 5, 4 * 25, 4 * 45]


@pytest.mark.slow
def test_what_was_thawed_first_is_reduced_before_the_backward_pass_is_over(runs):
    for rank in runs.ranks:
        events = rank["events"]
        assert events.count("reduce") == 5  # a bucket for each of the thawed parameters whose gradients come one by one
        assert "reduce" in events[: events.index("gradient of the first layer")]


@pytest.mark.slow
def test_powersgd_compresses_in_every_phase(runs):
    first, second = runs.case("PowerSGD")

    assert_equal_ranks(first, second)
    assert [epoch["depth"] for epoch in first] == DEPTHS
    assert runs.ranks[0]["compressed"]
    # Gradients behind a head with one output have rank one, so nothing is lost by compressing them.
    assert_as_alone(first, runs.alone)


@pytest.mark.slow
def test_ranks_that_disagree_about_the_metric_restore_one_file_and_are_warned(runs, tmp_path):
    first, second = runs.case("unsynchronised")

    assert_equal_ranks(first, second)
    assert_as_alone(first, ddp_cases.train(tmp_path, "auto", make_module=ddp_cases.Unsynchronised, devices=1))
    warned = [text for text in runs.ranks[0]["warnings"] if "without sync_dist=True" in text]
    assert [name for name in ("'score'", "'val_loss'") for text in warned if name in text] == ["'score'", "'val_loss'"]


@pytest.mark.slow
def test_zero_that_overlaps_with_the_reduction_is_refused(runs):
    for rank in runs.ranks:
        assert "overlap_with_ddp=True" in rank["refusal"]
        assert "Set overlap_with_ddp=False" in rank["refusal"]


@pytest.mark.slow
def test_a_run_of_one_process_is_resumed_in_two(runs):
    first, second = runs.case("resumed")

    assert_equal_ranks(first, second)
    assert_as_alone(first, runs.alone[2:])


@pytest.mark.slow
@pytest.mark.parametrize("case", ["ddp", "zero"])
def test_a_run_of_two_processes_is_resumed_in_one(case, runs, tmp_path):
    checkpoint = runs.folder / case / "recovery" / "step=6.ckpt"

    with expected_warnings():
        resumed = ddp_cases.train(tmp_path, "auto", devices=1, ckpt_path=checkpoint)

    assert_as_alone(resumed, runs.alone[2:])


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "ddp_spawn", "ddp_fork"])
def test_every_launcher_trains_what_torchrun_does(strategy, runs, tmp_path):
    run_script(SUPPORT / "ddp_run.py", str(tmp_path), strategy, "2", time_limit=120)

    for path in (tmp_path / "rank0.pt", tmp_path / "rank1.pt"):
        seen = torch.load(path, weights_only=True)
        assert seen["depths"] == DEPTHS
        torch.testing.assert_close(seen["state"], runs.alone[-1]["state"])
        assert all(torch.equal(value, runs.case("ddp")[0][-1]["state"][name]) for name, value in seen["state"].items())


@pytest.mark.slow
def test_no_rank_goes_through_a_checkpoint_for_its_checksums_that_the_run_itself_saved(tmp_path):
    run_script(SUPPORT / "ddp_run.py", str(tmp_path), "ddp", "2", time_limit=120)

    ranks = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert [rank["depths"] for rank in ranks] == [DEPTHS] * 2  # which the best checkpoint of two phases was read for
    assert [rank["compared"] for rank in ranks] == [[], []]


@pytest.fixture(scope="module")
def bridge_runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bridge")
    run_script(SUPPORT / "ddp_bridge.py", str(folder), time_limit=240)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("names", ["", "_tl"])
def test_ranks_hold_the_same_bits_of_a_bridge(names, bridge_runs):
    two = bridge_runs / f"two{names}"
    first, second = (torch.load(two / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    alone = torch.load(bridge_runs / f"one{names}" / "rank0.pt", weights_only=True)
    initial = torch.load(bridge_runs / "initial.pt", weights_only=True)
    assert first["depths"] == second["depths"] == alone["depths"] == [0, 1, 2]
    assert all(torch.equal(value, second["state"][name]) for name, value in first["state"].items())
    torch.testing.assert_close(first["state"], alone["state"])
    changed = {name for name, value in first["state"].items() if not torch.equal(value, initial[name])}
    assert {name.split(".")[2] for name in changed if name.startswith("model.blocks.")} == {"0", "1"}


@pytest.mark.slow
def test_names_of_transformer_lens_train_a_bridge_as_the_modules_own_do(bridge_runs):
    own, in_tl = (torch.load(bridge_runs / name / "rank0.pt", weights_only=True) for name in ("two", "two_tl"))
    torch.testing.assert_close(own["state"], in_tl["state"])


@pytest.mark.slow
def test_a_phase_is_over_on_all_ranks_when_a_criterion_says_so_on_one(tmp_path):
    run_script(SUPPORT / "ddp_criteria.py", str(tmp_path), time_limit=120)

    first, second = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    # Rank 1 ends phase 0; rank 0 ends phase 1, and in phase 2 the training.
    assert first["depths"] == second["depths"] == [0, 0, 1, 1, 1, 2, 2, 2]
    assert all(torch.equal(value, second["state"][name]) for name, value in first["state"].items())


@pytest.mark.slow
def test_a_run_of_two_processes_is_resumed_to_the_bit(tmp_path):
    run_script(SUPPORT / "ddp_resume.py", str(tmp_path), time_limit=120)

    for rank in ("rank0.pt", "rank1.pt"):
        whole, resumed = (torch.load(tmp_path / name / rank, weights_only=True) for name in ("whole", "cut"))
        assert resumed["depths"] == whole["depths"][3:]
        assert all(torch.equal(value, whole["state"][name]) for name, value in resumed["state"].items())
    assert {path.name for path in (tmp_path / "cut" / "best").iterdir()} == {
        path.name for path in (tmp_path / "whole" / "best").iterdir()
    }


@pytest.mark.slow
def test_one_of_two_processes_records_the_run_and_all_of_it(runs):
    events = [json.loads(line) for line in (runs.folder / "ddp" / "phasewire_run.jsonl").read_text().splitlines()]

    assert [event["processes"] for event in events if event["event"] == "fit_began"] == [2]
    assert [event["phase"] for event in events if event["event"] == "phase_began"] == [0, 1, 2]
    assert [event["epoch"] for event in events if event["event"] == "epoch_ended"] == [0, 1, 2, 3, 4, 5]
    assert [event["trained"] for event in events if event["event"] == "phase_began"] == [5, 25, 45]
