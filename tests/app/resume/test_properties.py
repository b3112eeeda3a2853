"""A run that is cut off anywhere, any number of times, ends with the same bits as one that is not."""

import itertools

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from resuming import LR_SCHEDULERS, OPTIMIZERS, Job, Moment, differences

NEW_OPTIMIZERS = [
    {"optimizer_init": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.01, "momentum": 0.9}}},
    {"optimizer_init": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.01}}},
]
NEW_LR_SCHEDULERS = [
    {
        "lr_scheduler_init": {
            "class_path": "torch.optim.lr_scheduler.StepLR",
            "init_args": {"step_size": 1, "gamma": 0.7},
        },
        "pl_lrs_cfg": {"interval": interval},
    }
    for interval in ("epoch", "step")
]
PARAMETERS = ("head.*", "layers.2.*", "layers.1.*", "layers.0.*")
EPOCHS = 6


@st.composite
def schedules(draw, mode):
    """The layers, last ones first, in two to four phases that end by epochs, by early stopping, or by both."""
    ends = sorted(draw(st.sets(st.integers(1, len(PARAMETERS) - 1), min_size=1)))
    phases = [list(PARAMETERS[i:j]) for i, j in itertools.pairwise([0, *ends, len(PARAMETERS)])]
    epochs = sorted(draw(st.sets(st.integers(1, EPOCHS), min_size=len(phases), max_size=len(phases))))
    schedule = {}
    for depth, (params, epoch) in enumerate(zip(phases, epochs, strict=True)):
        schedule[depth] = {"params": params}
        if mode == "epochs" or (mode == "both" and draw(st.booleans())):
            schedule[depth]["max_transition_epoch"] = epoch
        if depth > 0 and draw(st.booleans()):
            schedule[depth]["lr"] = draw(st.sampled_from([1e-3, 1e-2]))
        for key, choices in (("new_optimizer", NEW_OPTIMIZERS), ("new_lr_scheduler", NEW_LR_SCHEDULERS)):
            if depth > 0 and draw(st.integers(0, 4)) == 0:
                schedule[depth][key] = draw(st.sampled_from(choices))
    return schedule


@st.composite
def jobs(draw):
    mode = draw(st.sampled_from(["epochs", "stopping", "both"]))
    rates = draw(st.sampled_from(sorted(LR_SCHEDULERS)))
    often = [{}, {"val_check_interval": 1}, {"accumulate_grad_batches": 2}, {"max_steps": 2 * EPOCHS}]
    # A ReduceLROnPlateau that finds no metric in the first epochs is an error of Lightning's.
    seldom = [] if rates == "plateau" else [{"check_val_every_n_epoch": 2}]
    by_epochs = [
        {"every_n_epochs": 1},
        {"every_n_epochs": 2},
        {"every_n_epochs": 1, "save_on_train_epoch_end": False},
    ]
    by_steps = [
        {"every_n_train_steps": 1},
        {"every_n_train_steps": 3},
        {"every_n_train_steps": 1, "save_top_k": 1},
    ]
    options = draw(st.sampled_from(often + seldom))
    # Gradients that are being accumulated are in no checkpoint.
    recovery = by_epochs if "accumulate_grad_batches" in options else by_epochs + by_steps
    return Job(
        draw(schedules(mode)),
        epochs=EPOCHS,
        val_losses=tuple(draw(st.lists(st.sampled_from([1.0, 2.0, 3.0, 4.0]), max_size=EPOCHS))),
        optimizer=draw(st.sampled_from(sorted(OPTIMIZERS))),
        lr_scheduler=rates,
        no_decay=draw(st.booleans()),
        restore_best=draw(st.booleans()),
        epoch_transitions_only=mode == "epochs" and draw(st.booleans()),
        patience=draw(st.integers(1, 2)),
        save_top_k=draw(st.sampled_from([1, 2, -1])),
        tracks_frozen_statistics=draw(st.booleans()),
        recovery=draw(st.sampled_from(recovery)),
        recovery_first=draw(st.booleans()),
        checkpoint=draw(st.sampled_from([{}, {"save_last": True}, {"every_n_train_steps": 2}])),
        trainer=options,
    )


@pytest.fixture
def folders(tmp_path):
    return map(tmp_path.joinpath, map(str, itertools.count()))


@given(jobs(), st.data())
@settings(
    derandomize=True,
    max_examples=100,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],  # an example takes too long to make it smaller
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
def test_a_run_that_is_cut_off_and_resumed_ends_with_the_same_bits(folders, job, data):
    whole = job.start(next(folders))
    folder, run, checkpoint = next(folders), whole, None
    for attempt in range(data.draw(st.integers(1, 2), label="cuts")):
        hook = data.draw(st.sampled_from(sorted(run.knife.calls)), label="hook")
        moment = Moment(hook, data.draw(st.integers(0, run.knife.calls[hook] - 1), label="calls before"))
        run = job.start(folder, seed=attempt, cut=moment, **checkpoint or {})
        newest = run.newest()
        # A run that has made its last step is over for Lightning, whatever was to follow that step.
        assume(newest is None or not newest.stem.endswith(f"step={job.trainer.get('max_steps')}"))
        if newest is None:
            folder = next(folders)  # cut off before the first checkpoint: it begins again
        else:
            checkpoint = {data.draw(st.sampled_from(["ckpt_path", "attribute"])): newest}

    resumed = job.start(folder, seed=None if checkpoint is None else 99, **checkpoint or {})

    assert differences(whole.everything(), resumed.everything()) == []
    assert differences(whole.best_files(), resumed.best_files()) == []
    assert resumed.knife.epochs == {step: whole.knife.epochs[step] for step in resumed.knife.epochs}
