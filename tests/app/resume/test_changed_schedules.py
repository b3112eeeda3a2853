"""Going on with another schedule than that of the checkpoint: what changed is said, and mapped or refused."""

from dataclasses import replace
from importlib.metadata import version

import pytest
import torch

from phasewire.app import CheckpointError
from phasewire.app.phases.schedule_changes import changes_between, record_of
from phasewire.app.schedule.resolved import ResolvedSchedule
from resuming import Job, Moment
from tuning import names_of_groups

SCHEDULE = {
    0: {"params": ["head.weight", "head.bias"], "max_transition_epoch": 2},
    1: {"params": ["layers.1.weight", "layers.1.bias"], "max_transition_epoch": 4, "lr": 0.001},
    2: {"params": ["layers.0.weight", "layers.0.bias"]},
}
JOB = Job(SCHEDULE, epochs=6, patience=99, no_decay=False)


def changed(**phases):
    """The schedule with keys of some phases changed: ``changed(phase_1={"lr": 0.1})``."""
    return {depth: {**phase, **phases.get(f"phase_{depth}", {})} for depth, phase in SCHEDULE.items()}


@pytest.fixture(scope="module")
def in_phase_1(tmp_path_factory):
    """A checkpoint of the second of three phases."""
    run = JOB.start(tmp_path_factory.mktemp("run"), cut=Moment("epoch saved", 2))
    return run.newest()


def test_the_order_of_names_makes_no_difference(in_phase_1, tmp_path):
    schedule = changed(phase_1={"params": ["layers.1.bias", "layers.1.weight"]})

    resumed = replace(JOB, schedule=schedule).start(tmp_path, ckpt_path=in_phase_1)

    assert resumed.scheduler.curr_depth == 2


def test_later_phases_may_change_which_is_said_once(in_phase_1, tmp_path):
    schedule = changed(phase_1={"max_transition_epoch": 5, "lr": 0.01}, phase_2={"params": ["layers.0.weight"]})
    schedule |= {2: {**schedule[2], "max_transition_epoch": 6}, 3: {"params": ["layers.0.bias", "layers.2.*"]}}

    with pytest.warns(UserWarning, match="goes on in phase 1 with another schedule") as warned:
        resumed = replace(JOB, schedule=schedule, epochs=7).start(tmp_path, ckpt_path=in_phase_1)

    (said,) = [str(warning.message) for warning in warned if "another schedule" in str(warning.message)]
    assert said == (
        "Training goes on in phase 1 with another schedule than that of the checkpoint. Changed: "
        "phase 1: max_transition_epoch 4 -> 5, lr 0.001 -> 0.01; "
        "phase 2: no longer layers.0.bias, max_transition_epoch none -> 6; "
        "phase 3 is new (layers.0.bias, layers.2.weight, layers.2.bias). "
        "What has begun keeps the optimizer, groups and rates that the checkpoint holds."
    )
    assert [depth for _, depth, *_ in list(resumed.knife.epochs.values())[::2]] == [1, 1, 2, 3]
    assert names_of_groups(resumed.trainer.optimizers[0], resumed.module)[1:] == (
        ("layers.1.weight", "layers.1.bias"),
        ("layers.0.weight",),
        ("layers.0.bias", "layers.2.weight", "layers.2.bias"),
    )


@pytest.mark.filterwarnings("ignore:Training goes on in phase 1 with another schedule:UserWarning")
def test_a_later_phase_may_go(in_phase_1, tmp_path):
    schedule = {depth: SCHEDULE[depth] for depth in (0, 1)}

    resumed = replace(JOB, schedule=schedule).start(tmp_path, ckpt_path=in_phase_1)

    assert resumed.scheduler.curr_depth == 1


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (
            changed(phase_0={"params": ["head.weight"]}, phase_2={"params": ["layers.0.*", "head.bias"]}),
            r"Phase 0 .* since then: phase 0: no longer head\.bias; phase 2: now also head\.bias\. Resume with",
        ),
        (
            changed(phase_1={"params": ["layers.1.*", "layers.2.*"]}),
            r"Phase 1 .* phase 1: now also layers\.2\.weight, layers\.2\.bias\. Resume",
        ),
        (
            {0: SCHEDULE[0]},
            r"to train is 0\. Changed .* phase 1 is gone \(layers\.1\.weight, layers\.1\.bias\); phase 2 is gone",
        ),
    ],
)
def test_other_parameters_in_a_phase_that_has_begun_are_refused(in_phase_1, tmp_path, schedule, message):
    with pytest.raises(CheckpointError, match=message):
        replace(JOB, schedule=schedule).start(tmp_path, ckpt_path=in_phase_1)


def test_other_versions_are_said(in_phase_1, tmp_path, caplog):
    checkpoint = torch.load(in_phase_1, weights_only=True)
    checkpoint["callbacks"]["phasewire.FinetuningScheduler"]["versions"]["torch"] = "2.0.0"
    torch.save(checkpoint, tmp_path / "old.ckpt")

    with caplog.at_level("INFO"):
        JOB.start(tmp_path, ckpt_path=tmp_path / "old.ckpt")

    assert f"The checkpoint was written with torch 2.0.0 (now {version('torch')})" in caplog.text


def test_many_names_are_shortened():
    names = [f"layers.{number}.weight" for number in range(6)]
    saved = [{"params": names, "max_transition_epoch": -1}]

    assert changes_between(saved, []) == [
        "phase 0 is gone (layers.0.weight, layers.1.weight, layers.2.weight, layers.3.weight and 2 more)"
    ]


def reinitialised(optimizer, **phase):
    init = {"class_path": f"torch.optim.{optimizer}", "init_args": {"lr": 0.1, **phase}}
    return {0: {"params": ["a"]}, 1: {"params": ["b"], "new_optimizer": {"optimizer_init": init}}}


@pytest.mark.parametrize(
    ("saved", "now", "said"),
    [
        (
            reinitialised("SGD", momentum=0.9),
            reinitialised("SGD", momentum=0.8),
            "phase 1: new_optimizer.optimizer_init.init_args.momentum 0.9 -> 0.8",
        ),
        (
            reinitialised("SGD"),
            reinitialised("Adam"),
            "phase 1: new_optimizer.optimizer_init.class_path torch.optim.SGD -> torch.optim.Adam",
        ),
        (
            {0: {"params": ["a"]}, 1: {"params": ["b"]}},
            reinitialised("SGD"),
            "phase 1: new_optimizer none -> torch.optim.SGD",
        ),
    ],
)
def test_a_changed_reinitialisation_is_said_key_by_key(saved, now, said):
    records = [record_of(ResolvedSchedule.from_dict(schedule)) for schedule in (saved, now)]

    assert changes_between(*records) == [said]


class Odd:
    """Something that no file should hold."""

    def __call__(self, step):
        return 1.0


def test_the_record_of_a_schedule_is_plain_whatever_its_arguments_are(tmp_path):
    init = {
        "class_path": "torch.optim.lr_scheduler.LambdaLR",
        "init_args": {"lr_lambda": [Odd(), len, Odd, lambda step: 1.0], "last_epoch": -1},
    }
    phase = {"params": ["b"], "new_lr_scheduler": {"lr_scheduler_init": init}}
    torch.save(record_of(ResolvedSchedule.from_dict({0: {"params": ["a"]}, 1: phase})), tmp_path / "record.pt")

    record = torch.load(tmp_path / "record.pt", weights_only=True)

    arguments = record[1]["new_lr_scheduler"]["lr_scheduler_init"]["init_args"]
    assert arguments["last_epoch"] == -1
    instance, function, kind, nameless = arguments["lr_lambda"]
    assert instance.endswith("Odd object>")
    assert function == "builtins:len"
    assert kind.endswith(":Odd")
    assert nameless.endswith("<lambda>")
    # The same objects are others in another process, at other addresses.
    assert " at 0x" not in str(record)


def test_a_checkpoint_records_the_schedule_and_the_versions(in_phase_1):
    state = torch.load(in_phase_1, weights_only=True)["callbacks"]["phasewire.FinetuningScheduler"]

    assert state["schedule"] == [
        {"params": SCHEDULE[0]["params"], "max_transition_epoch": 2},
        {"params": SCHEDULE[1]["params"], "max_transition_epoch": 4, "lr": 0.001},
        {"params": SCHEDULE[2]["params"], "max_transition_epoch": -1, "lr": 1e-5},
    ]
    assert state["versions"] == {name: version(name) for name in ("phasewire", "lightning", "torch")}
