"""A StrategySeam takes off what it put on, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.strategies import SingleDeviceStrategy

from phasewire.app.strategy_seam import StrategySeam
from seam_recorder import Batches, Journal, RecordedModule, Recorder, make_trainer, shadowed_methods


class CountedStrategy(SingleDeviceStrategy):
    """Says of itself who answers, and counts how often it is torn down."""

    def __init__(self) -> None:
        super().__init__("cpu", accelerator=CPUAccelerator())
        self.teardowns = 0

    def lightning_module_state_dict(self) -> dict[str, str]:
        return {"from": "strategy"}

    def teardown(self) -> None:
        self.teardowns += 1
        super().teardown()


def replaced_by(name: str) -> dict[str, Callable[[], dict[str, str]]]:
    return {"lightning_module_state_dict": lambda: {"from": name}}


def test_the_replacement_is_called_until_the_strategy_is_torn_down() -> None:
    strategy = CountedStrategy()
    seam = StrategySeam(strategy, replaced_by("seam"))

    assert strategy.lightning_module_state_dict() == {"from": "seam"}
    assert seam.lightning_module_state_dict() == {"from": "strategy"}
    assert shadowed_methods(strategy) == {"lightning_module_state_dict", "teardown"}

    strategy.teardown()

    assert strategy.lightning_module_state_dict() == {"from": "strategy"}
    assert shadowed_methods(strategy) == set()
    assert strategy.teardowns == 1


def test_all_methods_of_the_strategy_stay_reachable_through_the_seam() -> None:
    strategy = CountedStrategy()
    names = ("setup", "save_checkpoint", "load_checkpoint", "load_model_state_dict", "lightning_module_state_dict")
    originals = {name: getattr(strategy, name) for name in names}

    seam = StrategySeam(strategy, dict.fromkeys(names, pytest.fail))

    assert {name: getattr(seam, name) for name in names} == originals
    assert shadowed_methods(strategy) == {*names, "teardown"}


def test_a_name_that_the_strategy_does_not_have_is_refused() -> None:
    strategy = CountedStrategy()

    with pytest.raises(AttributeError, match="load_state"):
        StrategySeam(strategy, {"load_state": dict})

    assert shadowed_methods(strategy) == set()


def test_removing_twice_changes_nothing_more() -> None:
    strategy = CountedStrategy()
    first = StrategySeam(strategy, replaced_by("first"))
    first.remove()
    StrategySeam(strategy, replaced_by("second"))

    first.remove()

    assert strategy.lightning_module_state_dict() == {"from": "second"}


def test_a_removed_seam_that_is_still_asked_to_tear_down_only_tears_down() -> None:
    strategy = CountedStrategy()
    seam = StrategySeam(strategy, replaced_by("seam"))
    tear_down = strategy.teardown
    seam.remove()

    tear_down()

    assert strategy.teardowns == 1
    assert shadowed_methods(strategy) == set()


def test_the_methods_are_back_when_the_strategys_own_teardown_fails() -> None:
    class Failing(CountedStrategy):
        def teardown(self) -> None:
            raise RuntimeError("stop here")

    strategy = Failing()
    StrategySeam(strategy, replaced_by("seam"))

    with pytest.raises(RuntimeError, match="stop here"):
        strategy.teardown()

    assert shadowed_methods(strategy) == set()


def test_a_shadow_that_was_there_before_is_called_and_comes_back() -> None:
    strategy = CountedStrategy()
    strategy.lightning_module_state_dict = lambda: {"from": "other tool"}
    other_tool = strategy.lightning_module_state_dict

    seam = StrategySeam(strategy, replaced_by("seam"))

    assert strategy.lightning_module_state_dict() == {"from": "seam"}
    assert seam.lightning_module_state_dict() == {"from": "other tool"}
    strategy.teardown()
    seam.remove()
    assert strategy.lightning_module_state_dict is other_tool
    assert shadowed_methods(strategy) == {"lightning_module_state_dict"}


def test_stacked_seams_leave_nothing_behind() -> None:
    strategy = CountedStrategy()
    StrategySeam(strategy, replaced_by("first"))
    second = StrategySeam(strategy, replaced_by("second"))
    assert second.lightning_module_state_dict() == {"from": "first"}

    strategy.teardown()

    assert shadowed_methods(strategy) == set()
    assert strategy.teardowns == 1


@pytest.mark.parametrize("restores_last", [True, False])
def test_a_shadow_put_over_a_seam_by_a_tool_that_keeps_no_order_reaches_the_strategy_afterwards(
    restores_last: bool,
) -> None:
    strategy = CountedStrategy()
    StrategySeam(strategy, replaced_by("seam"))
    covered, tear_down = strategy.lightning_module_state_dict, strategy.teardown
    strategy.lightning_module_state_dict = lambda: {**covered(), "over": "other tool"}
    assert strategy.lightning_module_state_dict() == {"from": "seam", "over": "other tool"}

    tear_down()
    if restores_last:
        strategy.lightning_module_state_dict = covered

    over = {} if restores_last else {"over": "other tool"}
    assert strategy.lightning_module_state_dict() == {"from": "strategy", **over}


def test_one_trainer_runs_again_and_again_with_a_fresh_seam_each_time(tmp_path: Path) -> None:
    journal = Journal()
    trainer = make_trainer("auto", Recorder(journal))
    module = RecordedModule(journal)
    events = []
    for _ in range(2):
        journal.events.clear()
        trainer.validate(module, Batches(), verbose=False)
        events.append(tuple(journal.events))
        assert shadowed_methods(trainer.strategy) == set()

    assert events[0] == events[1]
    assert events[0].count("strategy.setup: entered") == events[0].count("strategy.teardown") == 1


def test_one_strategy_serves_two_trainers_one_of_which_failed() -> None:
    strategy = CountedStrategy()
    failing = Journal(fail_at="module.training_step")
    with pytest.raises(RuntimeError, match="stop here"):
        make_trainer(strategy, Recorder(failing), accelerator="auto").fit(RecordedModule(failing), Batches(), Batches())
    journal = Journal()

    make_trainer(strategy, Recorder(journal), accelerator="auto").fit(RecordedModule(journal), Batches(), Batches())

    assert shadowed_methods(strategy) == set()
    assert journal.events.count("strategy.setup: entered") == journal.events.count("strategy.teardown") == 1
    assert failing.events.count("strategy.setup: entered") == failing.events.count("strategy.teardown") == 1
