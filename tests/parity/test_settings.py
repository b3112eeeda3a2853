"""Settings that a case cannot show: generated schedules, folders, logging levels, adapters; and what both refuse."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from lightning.pytorch.utilities.exceptions import MisconfigurationException

import phasewire.app as ours
from case_parts import BLOCK_1, HEAD, STEPS, UNEVEN, new_lr, new_optimizer, phases
from parity_case import Batches, Case
from side_by_side import differences, peer, quiet_peer, train, train_both
from tuning import make_trainer

KITS = pytest.mark.parametrize("kit", [ours, peer], ids=["ours", "peer"])


def fit(kit: ModuleType, case: Case, folder: Path, **settings: Any) -> Any:
    scheduler = kit.FinetuningScheduler(copy.deepcopy(case.schedule), **{**case.settings, **settings})
    with quiet_peer():
        make_trainer(folder, scheduler, max_epochs=1).fit(
            case.module(), train_dataloaders=Batches(case), val_dataloaders=Batches(case)
        )
    return scheduler


def generated(kit: ModuleType, case: Case, folder: Path) -> dict[str, Any]:
    with pytest.raises(SystemExit) as left:
        fit(kit, case, folder, gen_ft_sched_only=True)
    assert left.value.code == 0
    return {path.name: yaml.safe_load(path.read_text()) for path in folder.iterdir()}


@pytest.mark.parametrize("norms", [(), (0,)], ids=["an even number of parameters", "with batch norm"])
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied, an odd number"])
def test_gen_ft_sched_only_writes_the_same_file_and_trains_nothing(
    tmp_path: Path, norms: tuple[int, ...], tied: bool
) -> None:
    case = Case(name="generated", schedule=None, norms=norms, tied=tied)

    assert generated(ours, case, tmp_path / "ours") == generated(peer, case, tmp_path / "peer")


def test_a_schedule_file_trains_as_it_does_with_the_peer(tmp_path: Path) -> None:
    file = tmp_path / "schedule.yaml"
    file.write_text(yaml.safe_dump(phases(one={"lr": 0.02, **new_lr(STEPS), **new_optimizer("SGD", lr=0.01)})))
    case = Case(name="file", schedule=None, val_losses=UNEVEN, lr_schedulers=(STEPS,), settings={"restore_best": False})

    outcomes = [train(case, kit, tmp_path / kit.__name__, ft_schedule=str(file)) for kit in (ours, peer)]

    assert not differences(*outcomes)
    assert outcomes[0].epochs[2].groups[1].lr == 0.02


@KITS
def test_log_dir_holds_the_schedule_of_the_run(tmp_path: Path, kit: ModuleType) -> None:
    case = Case(name="log_dir", schedule=phases())
    scheduler = fit(kit, case, tmp_path / "root", log_dir=tmp_path / "chosen")

    assert Path(scheduler.log_dir) == tmp_path / "chosen"
    (written,) = (tmp_path / "chosen").glob("*.yaml")
    assert written.name == "Blocks_ft_schedule.yaml"
    assert list(yaml.safe_load(written.read_text())) == [0, 1, 2]


@KITS
def test_logging_level_decides_what_is_said(tmp_path: Path, kit: ModuleType, caplog: pytest.LogCaptureFixture) -> None:
    said = {}
    for level in (logging.ERROR, logging.INFO):
        caplog.clear()
        fit(kit, Case(name="level", schedule=None), tmp_path / str(level), logging_level=level)
        said[level] = [record for record in caplog.records if "schedule" in record.getMessage()]

    assert not said[logging.ERROR]
    assert said[logging.INFO]


def test_an_adapter_with_options_is_used_as_the_peer_uses_it(tmp_path: Path) -> None:
    schedule = {0: {"params": [f"x.{HEAD}"], "max_transition_epoch": 2}, 1: {"params": [f"x.{BLOCK_1}"]}}
    case = Case(
        name="adapter", schedule=schedule, val_losses=UNEVEN, settings={"strategy_adapter_cfg": {"prefix": "x."}}
    )

    outcomes = [
        train(case, kit, tmp_path / name, custom_strategy_adapters={"single_device": f"parity_adapters:{name}"})
        for kit, name in ((ours, "Ours"), (peer, "Peers"))
    ]

    assert not differences(*outcomes)
    assert outcomes[0].epochs[0].thawed == ("head.weight", "head.bias")


@pytest.mark.parametrize(
    "case",
    [
        Case(name="new_optimizer in phase 0", schedule={0: {"params": [HEAD], **new_optimizer("SGD", lr=0.1)}}),
        Case(name="new_lr_scheduler in phase 0", schedule={0: {"params": [HEAD], **new_lr(STEPS)}}),
        Case(name="a parameter in two phases", schedule={0: {"params": [HEAD]}, 1: {"params": ["head.bias"]}}),
        Case(name="a pattern without a match", schedule={0: {"params": ["tail.*"]}}),
        Case(name="phases with a gap", schedule={0: {"params": [HEAD]}, 2: {"params": [BLOCK_1]}}),
        Case(name="a lr that is no number", schedule=phases(one={"lr": "fast"})),
        Case(
            name="epoch_transitions_only without epochs",
            schedule=phases(),
            settings={"epoch_transitions_only": True},
            stopping=None,
        ),
        Case(
            name="untested", schedule=phases(), lr_schedulers=({"class_path": "torch.optim.lr_scheduler.PolynomialLR"},)
        ),
        Case(
            name="untested new",
            schedule=phases(one=new_lr({"class_path": "torch.optim.lr_scheduler.PolynomialLR", "init_args": {}})),
            lr_schedulers=(STEPS,),
        ),
        Case(name="a class that does not exist", schedule=phases(one=new_optimizer("Nadam", lr=0.1))),
        Case(name="arguments that the class does not take", schedule=phases(one=new_optimizer("Adam", momentum=0.1))),
        Case(
            name="init_pg_lrs for every phase",
            schedule=None,
            lr_schedulers=(STEPS,),
            settings={"reinit_lr_cfg": {"lr_scheduler_init": STEPS, "init_pg_lrs": [0.1]}},
        ),
        Case(name="save_top_k=0 with restore_best", schedule=phases(), checkpoint={"save_top_k": 0}),
    ],
    ids=lambda case: case.name,
)
def test_what_the_peer_refuses_is_refused(case: Case, tmp_path: Path) -> None:
    mine, theirs = train_both(case, tmp_path)

    assert isinstance(theirs.error, MisconfigurationException)
    assert isinstance(mine.error, ours.PhasewireError)
    assert mine.epochs == []
