"""Phase, trained parameters and rates go to whatever logger there is, once an epoch."""

import csv
from collections import Counter

import pytest
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

from phasewire.app.watching.standing import Group, Standing, metrics_of
from tuning import Batches, TunedModule
from watched import events_in

KEYS = {
    "phasewire/phase",
    "phasewire/phases_to_come",
    "phasewire/trained_parameters",
    "phasewire/trained_share",
    "phasewire/lr/group0",
}


class Noting(Logger):
    """A logger of a user."""

    name = version = "own"

    def __init__(self):
        super().__init__()
        self.logged = []

    def log_hyperparams(self, params, *args, **kwargs):
        pass

    def log_metrics(self, metrics, step=None):
        self.logged.append((step, dict(metrics)))


class TenBatches(Batches):
    def __init__(self):
        super().__init__()
        self._batches *= 5


def of_ours(logged):
    return [(step, metrics) for step, metrics in logged if "phasewire/phase" in metrics]


def test_a_logger_is_told_once_an_epoch(train):
    logger = Noting()

    train(logger=logger, max_epochs=6)

    told = of_ours(logger.logged)
    assert [step for step, _ in told] == [0, 2, 4, 6, 8, 10]
    assert [metrics["phasewire/phase"] for _, metrics in told] == [0, 1, 1, 1, 2, 2]
    assert [metrics["phasewire/phases_to_come"] for _, metrics in told] == [2, 1, 1, 1, 0, 0]
    assert [metrics["phasewire/trained_parameters"] for _, metrics in told] == [5, 25, 25, 25, 45, 45]
    assert [metrics["epoch"] for _, metrics in told] == [0, 1, 2, 3, 4, 5]
    assert told[0][1].keys() == KEYS | {"epoch"}
    assert told[-1][1]["phasewire/lr/group2"] == 0.03


@pytest.mark.parametrize(("count", "told"), [(64, 64), (65, 2), (5000, 2)])
def test_of_very_many_groups_the_lowest_and_the_highest_rate_are_told(count, told):
    groups = tuple(Group(number, (number + 1) / 8, number) for number in range(count))[-64:]
    standing = Standing(1, 2, 3, 4, groups, (1 / 8, count / 8), "")

    rates = {name: rate for name, rate in metrics_of(standing).items() if "/lr/" in name}

    assert len(rates) == told
    assert (min(rates.values()), max(rates.values())) == (1 / 8, count / 8)


def test_what_is_done_does_not_grow_with_the_number_of_steps(tmp_path):
    import torch

    from phasewire.app import FinetuningScheduler, FTSCheckpoint
    from tuning import make_trainer

    counts = []
    for batches in (Batches(), TenBatches()):
        folder = tmp_path / str(len(batches))
        torch.manual_seed(0)
        logger = Noting()
        scheduler = FinetuningScheduler(
            {0: {"params": ["head.*"], "max_transition_epoch": 1}, 1: {"params": ["layers.1.*"]}}
        )
        trainer = make_trainer(folder, scheduler, FTSCheckpoint(monitor="val_loss"), logger=logger, max_epochs=3)
        trainer.fit(TunedModule([3.0, 2.0, 1.0]), batches, Batches(1))
        counts.append((len(of_ours(logger.logged)), Counter(event["event"] for event in events_in(folder))))

    assert counts[0] == counts[1]
    assert counts[0][0] == 3


def test_the_csv_logger_has_them(train, tmp_path):
    train(logger=CSVLogger(tmp_path / "csv", name="", version=""), max_epochs=4)

    with (tmp_path / "csv" / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["phasewire/phase"]]
    assert [(row["phasewire/phase"], row["phasewire/lr/group1"]) for row in rows] == [
        ("0", ""),
        ("1", "0.02"),
        ("1", "0.02"),
        ("1", "0.02"),
    ]


def test_tensorboard_has_them(train, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(logger=TensorBoardLogger(tmp_path / "tb", name="", version=""), max_epochs=4)

    events = EventAccumulator(str(tmp_path / "tb"))
    events.Reload()
    assert set(events.Tags()["scalars"]) >= KEYS
    assert [(each.step, each.value) for each in events.Scalars("phasewire/phase")] == [(0, 0), (2, 1), (4, 1), (6, 1)]


@pytest.mark.parametrize("wanted", [True, False])
def test_it_can_be_switched_off(train, wanted):
    logger = Noting()

    train(logger=logger, max_epochs=2, settings={"log_phase_metrics": wanted})

    assert bool(of_ours(logger.logged)) == wanted


def test_a_resumed_epoch_is_told_of_in_its_middle(train, tmp_path):
    class Stop(TunedModule):
        def on_train_batch_end(self, outputs, batch, batch_idx):
            if self.current_epoch == 2 and batch_idx == 0:
                self.trainer.save_checkpoint(tmp_path / "middle.ckpt")

    train(module=Stop([3.0, 2.0, 1.0]), max_epochs=3)
    logger = Noting()

    train(logger=logger, max_epochs=4, resume=tmp_path / "middle.ckpt")

    assert [(step, metrics["epoch"]) for step, metrics in of_ours(logger.logged)] == [(4, 2), (6, 3)]
