"""Criteria that end phases in a fit, and what becomes of the callbacks and settings beside them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from dependency_injector import providers
from lightning.pytorch.callbacks import EarlyStopping, StochasticWeightAveraging

from phasewire.adapters import ConfigError, CriterionError, PhaseProgress, ScheduleError, TransitionCriterion
from phasewire.app import FinetuningScheduler, FTSCheckpoint, FTSEarlyStopping
from phasewire.app.phases.phase_criteria import PhaseCriteria
from phasewire.app.phases.plateau import PlateauCriterion
from phasewire.app.transition_criteria import TransitionCriteria
from phasewire.containers import Container
from tuning import Notes, TunedModule, fit, make_trainer

NO_EPOCHS = {0: {"params": ["head.*"]}, 1: {"params": ["layers.1.*"]}, 2: {"params": ["layers.0.*"]}}
EPOCHS = {depth: {**phase, "max_transition_epoch": 2 * depth + 2} for depth, phase in NO_EPOCHS.items()}
FLAT = {"plateau": {"window": 2, "min_relative_slope": 0.01}}
LOSSES = [5.0, 4.0, 4.0, 3.0, 2.0, 2.0, 1.0, 0.5, 0.5, 0.5]


def train(folder: Path, *callbacks, schedule=NO_EPOCHS, module=None, settings=None, **options):
    scheduler = FinetuningScheduler(schedule, **{"restore_best": False, **(settings or {})})
    notes = Notes()
    trainer = make_trainer(folder, scheduler, notes, *callbacks, **{"max_epochs": 20, **options})
    fit(trainer, module or TunedModule(LOSSES))
    return notes, trainer


def by(*criteria):
    return {"transition_criteria": list(criteria)}


# -- moving on ---------------------------------------------------------------------------------------------------------


def test_a_plateau_ends_phases_and_in_the_last_phase_the_training(tmp_path):
    notes, trainer = train(tmp_path, settings=by(FLAT))

    assert notes.depths == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert trainer.current_epoch == 9
    assert not any(isinstance(callback, EarlyStopping) for callback in trainer.callbacks)


def test_it_is_said_which_criterion_ended_a_phase(tmp_path, caplog):
    with caplog.at_level("INFO"):
        train(tmp_path, settings=by(FLAT, "epochs"))

    assert "because plateau(window=2, min_relative_slope=0.01) ended phase 0." in caplog.text
    assert "Training ends with phase 2, the last one, because plateau(window=2, " in caplog.text


def test_naming_early_stopping_and_epochs_is_the_default(tmp_path):
    runs = []
    for name, settings in (("default", {}), ("named", by("early_stopping", "Epochs"))):
        stopping = FTSEarlyStopping("val_loss", patience=1)
        schedule = {**NO_EPOCHS, 1: EPOCHS[1]}
        notes, trainer = train(
            tmp_path / name, stopping, schedule=schedule, settings=settings, module=TunedModule([1.0, 2.0, 0.5, 3.0])
        )
        runs.append((notes.epochs, trainer.current_epoch, stopping.state_dict()))

    assert runs[0] == runs[1]
    assert [epoch.depth for epoch in runs[0][0]] == [0, 0, 1, 1, 2]


def test_whichever_criterion_comes_first_ends_the_phase(tmp_path):
    schedule = {**NO_EPOCHS, 0: {"params": ["head.*"], "max_transition_epoch": 1}}

    notes, _ = train(tmp_path, schedule=schedule, settings=by("epochs", FLAT))

    assert notes.depths == [0, 1, 1, 2, 2, 2]


def test_several_of_a_kind_may_watch_different_metrics(tmp_path):
    class TwoMetrics(TunedModule):
        def validation_step(self, batch, batch_idx):
            super().validation_step(batch, batch_idx)
            self.log("accuracy", min(0.1 * self.current_epoch, 0.4))

    criteria = by(FLAT, {"plateau": {"monitor": "accuracy", "mode": "max", "window": 2, "min_relative_slope": 0.001}})

    notes, _ = train(tmp_path, settings=criteria, module=TwoMetrics([2.0**-n for n in range(20)]))

    assert notes.depths == [0, 0, 0, 0, 0, 0, 1, 1, 2, 2]


def test_epochs_do_not_end_the_last_phase(tmp_path):
    schedule = {0: {"params": ["head.*"], "max_transition_epoch": 2}}
    with pytest.warns(UserWarning, match="no phase follows phase 0"):
        notes, _ = train(tmp_path, schedule=schedule, settings=by("epochs", FLAT), module=TunedModule([1.0, 0.1, 0.01]))

    assert len(notes.epochs) == 4  # 0.01 comes twice


def test_a_validation_within_an_epoch_decides_and_the_next_phase_begins_with_the_next_epoch(tmp_path):
    notes, trainer = train(tmp_path, settings=by(FLAT), module=TunedModule([1.0]), val_check_interval=1)

    # Two validations an epoch.
    assert notes.depths == [0, 1, 2]
    assert trainer.global_step == 6


def test_the_training_may_end_within_an_epoch(tmp_path):
    class Falling(TunedModule):
        values: ClassVar[list[float]] = []

        def validation_step(self, batch, batch_idx):
            if batch_idx == 0:
                self.values.append([4.0, 2.0, 2.0, 1.0][len(self.values)])
            self.log("val_loss", self.values[-1])

    _, trainer = train(tmp_path, schedule={0: NO_EPOCHS[0]}, settings=by(FLAT), module=Falling(), val_check_interval=1)

    assert (trainer.global_step, trainer.should_stop) == (3, True)


def test_with_a_validation_every_second_epoch_the_window_fills_every_second_epoch(tmp_path):
    notes, _ = train(tmp_path, settings=by(FLAT), module=TunedModule([1.0]), check_val_every_n_epoch=2)

    assert notes.depths == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]


@pytest.mark.parametrize("options", [{}, {"check_val_every_n_epoch": 2}])
def test_without_validation_what_training_logs_is_looked_at_after_each_epoch(tmp_path, options):
    class TrainingOnly(TunedModule):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            self.log("train_loss", loss.detach() * 0 + LOSSES[self.current_epoch], on_step=False, on_epoch=True)
            return loss

    notes, scheduler = (
        Notes(),
        FinetuningScheduler(
            NO_EPOCHS, restore_best=False, **by({"plateau": {**FLAT["plateau"], "monitor": "train_loss"}})
        ),
    )
    fit(make_trainer(tmp_path, scheduler, notes, limit_val_batches=0, max_epochs=20, **options), TrainingOnly())

    assert notes.depths == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_min_epochs_are_trained_though_the_last_phase_is_over(tmp_path):
    _, trainer = train(tmp_path, schedule={0: NO_EPOCHS[0]}, settings=by(FLAT), module=TunedModule([1.0]), min_epochs=5)

    assert trainer.current_epoch == 5


def test_the_sanity_check_fills_no_window(tmp_path):
    every_second_epoch = {"check_val_every_n_epoch": 2, "max_epochs": 5}
    notes, _ = train(
        tmp_path, settings=by(FLAT), module=TunedModule([1.0]), num_sanity_val_steps=1, **every_second_epoch
    )

    assert notes.depths == [0, 0, 0, 0, 1]


def test_one_scheduler_begins_each_fit_anew(tmp_path):
    scheduler = FinetuningScheduler(NO_EPOCHS, restore_best=False, **by(FLAT))
    depths = []
    for name in ("first", "second"):
        notes = Notes()
        fit(make_trainer(tmp_path / name, scheduler, notes, max_epochs=4), TunedModule([1.0]))
        depths.append(notes.depths)

    assert depths == [[0, 0, 1, 1]] * 2


# -- callbacks ---------------------------------------------------------------------------------------------------------


def test_the_best_checkpoint_watches_what_the_criterion_watches(tmp_path):
    criterion = {"plateau": {"window": 2, "mode": "max", "min_relative_slope": 0.01}}

    notes, trainer = train(
        tmp_path, settings={"restore_best": True, **by(criterion)}, module=TunedModule([1.0, 2.0, 2.0])
    )

    (checkpoint,) = [callback for callback in trainer.callbacks if isinstance(callback, FTSCheckpoint)]
    assert (checkpoint.monitor, checkpoint.mode) == ("val_loss", "max")
    assert notes.depths[:4] == [0, 0, 0, 1]


def test_lightnings_early_stopping_ends_the_training_where_it_is_no_criterion(tmp_path):
    stopping = EarlyStopping("val_loss", patience=1)

    notes, trainer = train(tmp_path, stopping, settings=by({"plateau": {"window": 9}}), module=TunedModule([1.0]))

    assert type(stopping) is EarlyStopping
    assert notes.depths == [0, 0]
    assert trainer.should_stop


def test_an_early_stopping_for_phases_that_is_no_criterion_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"FTSEarlyStopping\(monitor='val_loss'\), .* does not name 'early_stopping'"):
        train(tmp_path, FTSEarlyStopping("val_loss"), settings=by("plateau"))


def test_a_barebones_trainer_is_refused_when_a_criterion_watches_a_metric(tmp_path):
    bare = dict.fromkeys(("enable_progress_bar", "enable_model_summary", "logger", "num_sanity_val_steps"))
    with pytest.raises(ConfigError, match="no metric can end a phase"):
        train(tmp_path, settings=by("plateau"), barebones=True, **bare)


def test_that_processes_may_disagree_about_the_metric_is_checked(tmp_path):
    from phasewire.adapters import StrategyAdapter

    class Checking(StrategyAdapter):
        seen: ClassVar[list[str]] = []

        def on_validate_monitor_metric(self, monitor):
            self.seen.append(monitor)

    train(tmp_path, settings={**by(FLAT), "custom_strategy_adapters": {"auto": Checking}}, max_epochs=2)

    assert Checking.seen == ["val_loss"]


def test_averaging_that_waits_for_an_epoch_is_refused_where_no_epoch_ends_phases(tmp_path):
    averaging = StochasticWeightAveraging(swa_lrs=0.01, swa_epoch_start=10)
    train(tmp_path / "epochs", averaging, schedule=EPOCHS, settings=by("epochs"), max_epochs=12)

    schedule = {**EPOCHS, 2: NO_EPOCHS[2]}
    with (
        pytest.warns(UserWarning, match="ends nothing"),
        pytest.raises(ConfigError, match=r"begins when early stopping or another criterion ends the phase before"),
    ):
        train(tmp_path, averaging, schedule=schedule, settings=by("plateau"), max_epochs=12)


# -- settings ----------------------------------------------------------------------------------------------------------


def test_epochs_that_nothing_looks_at_are_said(tmp_path):
    with pytest.warns(
        UserWarning, match=r"phases 0, 1 and 2 have a max_transition_epoch, which ends nothing"
    ) as warned:
        notes, _ = train(tmp_path, schedule=EPOCHS, settings=by({"plateau": {"window": 9}}), max_epochs=5)

    assert notes.depths == [0] * 5
    assert len([each for each in warned if "max_transition_epoch" in str(each.message)]) == 1


def test_epochs_alone_want_an_epoch_for_every_phase(tmp_path):
    with pytest.raises(ScheduleError, match=r"Epochs alone end phases, and phases 0, 1 and 2 have no max_"):
        train(tmp_path, settings=by("epochs"))


def test_epochs_alone_train_as_epoch_transitions_only_does(tmp_path):
    runs = [
        train(tmp_path / name, schedule=EPOCHS, settings=settings, max_epochs=4)[0].epochs
        for name, settings in (
            ("setting", {"epoch_transitions_only": True}),
            ("named", by("epochs")),
            ("both", {"epoch_transitions_only": True, **by("epochs")}),
        )
    ]

    assert runs[0] == runs[1] == runs[2]
    assert [epoch.depth for epoch in runs[0]] == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("plateau", r"A list of criteria is expected, and 'plateau' is given\. Write \[plateau, epochs\]"),
        ({"plateau": {}}, "A list of criteria is expected"),
        ([], "The list is empty, so nothing would end a phase"),
        ([3], r"Item 0 is 3; a criterion is named by text"),
        (["epochs", {"plateau": {}, "epochs": {}}], r"Item 1 is a mapping of 2 keys \(plateau, epochs\)"),
        ([{"plateau": 3}], r"The options of 'plateau' \(item 0\) are a mapping by name, and 3 is given"),
        ([{"plateau": {3: 4}}], r"The options of 'plateau' .* are a mapping by name, and \{3: 4\} is given"),
    ],
)
def test_another_form_of_the_setting_is_refused(value, message):
    with pytest.raises(ConfigError, match=r"transition_criteria: " + message):
        FinetuningScheduler(transition_criteria=value)


def test_epoch_transitions_only_excludes_other_criteria():
    with pytest.raises(ConfigError, match=r"epoch_transitions_only is on, .* and 'plateau' is named here"):
        FinetuningScheduler(epoch_transitions_only=True, **by("epochs", FLAT))


def test_a_yaml_file_names_criteria(tmp_path):
    (tmp_path / "config.yaml").write_text(
        "scheduler:\n  restore_best: false\n  transition_criteria:\n  - plateau: {window: 2}\n  - epochs\n"
    )
    container = Container()
    container.config.from_yaml(tmp_path / "config.yaml")
    notes = Notes()
    scheduler = container.scheduler(ft_schedule=NO_EPOCHS)

    fit(make_trainer(tmp_path, scheduler, notes, max_epochs=4), TunedModule([1.0]))

    assert notes.depths == [0, 0, 1, 1]


def test_the_registry_of_the_container_can_be_replaced(tmp_path):
    container = Container()
    container.config.from_dict({"scheduler": {"transition_criteria": ["always"], "restore_best": False}})
    registry = TransitionCriteria(native={"always": f"{Always.__module__}:{Always.__qualname__}"})
    notes = Notes()
    with container.transition_criteria.override(providers.Object(registry)):
        fit(make_trainer(tmp_path, container.scheduler(ft_schedule=NO_EPOCHS), notes), TunedModule())

    assert notes.depths == [0, 1, 2]


# -- criteria of one's own ---------------------------------------------------------------------------------------------


class Always(TransitionCriterion):
    """A phase lasts one epoch."""

    def after_validation(self, phase):
        return True


class Noting(TransitionCriterion):
    """Notes what it is told."""

    told: ClassVar[list[tuple[object, ...]]] = []

    def begin_phase(self, phase):
        self._note("begin", phase)

    def after_validation(self, phase):
        self._note("look", phase)
        return phase.epoch == phase.began_at_epoch + 1

    def before_epoch(self, phase):
        self._note("ask", phase)
        return False

    def _note(self, hook, phase):
        self.told.append((hook, phase.epoch, phase.depth, phase.began_at_epoch, phase.is_final))


def test_a_criterion_is_told_of_phases_epochs_and_validations_in_their_order(tmp_path):
    Noting.told = []
    schedule = {depth: NO_EPOCHS[depth] for depth in (0, 1)}

    train(tmp_path, schedule=schedule, settings=by(Noting))

    assert Noting.told == [
        ("begin", 0, 0, 0, False),
        ("ask", 0, 0, 0, False),
        ("look", 0, 0, 0, False),
        ("ask", 1, 0, 0, False),
        ("look", 1, 0, 0, False),
        ("begin", 2, 1, 2, True),
        ("look", 2, 1, 2, True),
        ("look", 3, 1, 2, True),
    ]


def test_a_run_that_is_gone_on_from_knows_when_its_phase_began(tmp_path):
    settings, schedule = by(Noting), {depth: NO_EPOCHS[depth] for depth in (0, 1)}
    train(tmp_path, FTSCheckpoint(tmp_path, save_last=True), schedule=schedule, settings=settings, max_epochs=3)
    Noting.told = []
    scheduler = FinetuningScheduler(schedule, restore_best=False, **settings)

    resumed = make_trainer(tmp_path, scheduler, max_epochs=5)
    fit(resumed, TunedModule(LOSSES), ckpt_path=tmp_path / "last.ckpt")

    assert [note for note in Noting.told if note[0] == "look"] == [("look", 3, 1, 2, True)]


def test_a_criterion_that_has_ended_its_phase_is_not_asked_again(tmp_path):
    class Once(TransitionCriterion):
        asked: ClassVar[list[int]] = []

        def after_validation(self, phase):
            self.asked.append(phase.epoch)
            return True

    _, trainer = train(tmp_path, schedule={0: NO_EPOCHS[0]}, settings=by(Once), min_epochs=3)

    assert trainer.current_epoch == 3
    assert Once.asked == [0]


class Never(TransitionCriterion):
    """Sees no reason to end a phase; its state is a tensor that it changes in place."""

    def __init__(self):
        self.seen = torch.zeros(())

    def after_validation(self, phase):
        self.seen += 1
        return False

    def state_dict(self):
        return {"seen": self.seen}


def test_what_another_process_decides_stands_in_the_checkpoint_of_this_one():
    criteria = PhaseCriteria([TransitionCriteria().build(Never, {}, where="here")])

    criteria.look(PhaseProgress(None, 0, 1, 0, -1), lambda decision: not decision)

    assert criteria.is_over
    assert criteria.snapshot(0)[0]["over"] is True


def test_a_state_that_is_being_written_does_not_change():
    criteria = PhaseCriteria([TransitionCriteria().build(Never, {}, where="here")])
    (stored,) = criteria.snapshot(0)

    criteria.look(PhaseProgress(None, 0, 1, 0, -1), lambda decision: decision)

    assert stored["state"]["seen"] == 0
    assert criteria.snapshot(0)[0]["state"]["seen"] == 1


class WithHook(TransitionCriterion):
    """Does in one hook what a test wants."""

    def __init__(self, *, hook: str, does: object) -> None:
        def act(*_: object) -> object:
            if isinstance(does, Exception):
                raise does
            return does

        setattr(self, hook, act)

    def after_validation(self, phase):
        return False


@pytest.mark.parametrize("hook", ["begin_phase", "before_epoch", "after_validation", "state_dict"])
def test_a_criterion_that_raises_is_named_with_its_phase(tmp_path, hook):
    criterion = {WithHook: {"hook": hook, "does": LookupError("no such thing")}}
    with pytest.raises(
        CriterionError, match=r"^phase 0: The transition criterion '.*WithHook' failed with LookupError: no"
    ):
        train(tmp_path, settings=by(criterion))


@pytest.mark.parametrize("hook", ["before_epoch", "after_validation"])
@pytest.mark.parametrize("answer", [None, 1, "no"])
def test_an_answer_that_is_no_truth_value_is_refused(tmp_path, hook, answer):
    criterion = {WithHook: {"hook": hook, "does": answer}}
    with pytest.raises(
        CriterionError, match=rf"gave {re.escape(repr(answer))} from {hook}, and True or False is expected"
    ):
        train(tmp_path, settings=by(criterion))


@pytest.mark.parametrize(
    ("state", "problem"),
    [
        (7, r"state is 7, which is no dict"),
        ({"a": [1, {"b": {1, 2}}]}, r"state\['a'\]\[1\]\['b'\] is \{1, 2\}"),
        ({"a": np.float64(0.5)}, r"state\['a'\] is np\.float64\(0\.5\)"),
        ({3: 4}, r"state is \{3: 4\}"),
    ],
)
def test_a_state_that_is_not_plain_is_refused(tmp_path, state, problem):
    criterion = {WithHook: {"hook": "state_dict", "does": state}}
    with pytest.raises(CriterionError, match=rf"gave a state that no checkpoint can hold: {problem}"):
        train(tmp_path, settings=by(criterion))


def test_a_metric_that_is_not_logged_is_named_with_those_that_are(tmp_path):
    with pytest.raises(
        CriterionError,
        match=r"'plateau' .*monitors 'val_los', which is not logged\. Logged metrics: 'val_loss'\. Did you mean",
    ):
        train(tmp_path, settings=by({"plateau": {"monitor": "val_los"}}))


def test_the_same_criterion_twice_is_refused_unless_its_options_differ(tmp_path):
    with pytest.raises(
        ConfigError, match=r"transition_criteria\[1\]: The transition criterion plateau\(window=2\) is named twice"
    ):
        train(tmp_path, settings=by({"plateau": {"window": 2}}, {"Plateau": {"window": 2}}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"windw": 2}, r"transition_criteria\[0\]: .*'plateau' .* takes no argument 'windw'\. Did you mean|It takes"),
        ({"window": "2"}, r"transition_criteria\[0\]: .* takes int as 'window', and '2' is text"),
        ({"window": 1}, r"transition_criteria\[0\]: The window of plateau is 1"),
    ],
)
def test_a_wrong_option_is_refused_before_training(tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        train(tmp_path, settings=by({"plateau": options}))


def test_a_subclass_of_what_ships_is_given_as_a_class(tmp_path):
    class Impatient(PlateauCriterion):
        def __init__(self, *, epochs: int = 2) -> None:
            super().__init__(window=epochs)

    notes, _ = train(tmp_path, settings=by({Impatient: {"epochs": 3}}), module=TunedModule([1.0]), max_epochs=5)

    assert notes.depths == [0, 0, 0, 1, 1]
