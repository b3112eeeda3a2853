"""What an adapter and a script may read and call while a run goes on is what it is with the peer."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import lightning.pytorch as pl
import pytest
import yaml
from lightning.pytorch.callbacks import Callback

import phasewire.adapters
import phasewire.app as ours
from case_parts import BLOCK_0, BLOCK_1, HEAD, UNEVEN, WORSENING, phases
from parity_case import Batches, Case
from side_by_side import peer, quiet_peer
from tuning import make_trainer

KITS = (ours, peer)


class Watch(Callback):
    """Notes what a function gives in each epoch, when its first batch begins."""

    def __init__(self, look: Callable[[pl.Trainer], Any]) -> None:
        self._look = look
        self.seen: list[Any] = []

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int):
        if batch_idx == 0:
            self.seen.append(self._look(trainer))


def watch(kit: ModuleType, case: Case, folder: Path, look: Callable[..., Any], **settings: Any) -> list[Any]:
    """Fit with the callbacks of a package and look at them in every epoch."""
    scheduler = kit.FinetuningScheduler(copy.deepcopy(case.schedule), **{**case.settings, **settings})
    stopping = kit.FTSEarlyStopping("val_loss", patience=2)
    checkpoint = kit.FTSCheckpoint(folder / "best", monitor="val_loss")
    watching = Watch(lambda trainer: look(trainer, scheduler, stopping, checkpoint))
    trainer = make_trainer(folder, scheduler, stopping, checkpoint, watching, max_epochs=case.max_epochs)
    with quiet_peer():
        trainer.fit(case.module(), train_dataloaders=Batches(case), val_dataloaders=Batches(case))
    return watching.seen


CASE = Case(name="attributes", schedule=phases(one={"lr": 0.02}), val_losses=UNEVEN, norms=(0,), max_epochs=6)

LOOKS: dict[str, Callable[..., Any]] = {
    "curr_depth": lambda trainer, scheduler, *_: scheduler.curr_depth,
    "depth_remaining": lambda trainer, scheduler, *_: scheduler.depth_remaining,
    "max_depth": lambda trainer, scheduler, *_: scheduler.max_depth,
    "epoch_transitions_only": lambda trainer, scheduler, *_: scheduler.epoch_transitions_only,
    "restore_best": lambda trainer, scheduler, *_: scheduler.restore_best,
    "should_transition": lambda trainer, scheduler, *_: scheduler.should_transition(trainer),
    "ft_schedule": lambda trainer, scheduler, *_: copy.deepcopy(scheduler.ft_schedule),
    "pl_module": lambda trainer, scheduler, *_: scheduler.pl_module is trainer.lightning_module,
    "trainer": lambda trainer, scheduler, *_: scheduler.trainer is trainer,
    "log_dir": lambda trainer, scheduler, *_: Path(scheduler.log_dir) == Path(trainer.default_root_dir),
    "strategy_adapter.fts_handle": lambda trainer, scheduler, *_: scheduler.strategy_adapter.fts_handle is scheduler,
    "strategy_adapter.pl_module": lambda trainer, scheduler, *_: (
        scheduler.strategy_adapter.pl_module is trainer.lightning_module
    ),
    "strategy_adapter.trainer": lambda trainer, scheduler, *_: scheduler.strategy_adapter.trainer is trainer,
    "strategy_adapter.pls_handle": lambda trainer, scheduler, *_: (
        scheduler.strategy_adapter.pls_handle is trainer.strategy
    ),
    "strategy_adapter.using_sharded_optimizer": lambda trainer, scheduler, *_: (
        scheduler.strategy_adapter.using_sharded_optimizer
    ),
    "es_phase_complete": lambda trainer, scheduler, stopping, _: stopping.es_phase_complete,
    "final_phase": lambda trainer, scheduler, stopping, _: stopping.final_phase,
    "wait_count": lambda trainer, scheduler, stopping, _: stopping.wait_count,
    "current_ckpt_depth": lambda trainer, scheduler, _, checkpoint: checkpoint.current_ckpt_depth,
    "best_ckpt_depth": lambda trainer, scheduler, _, checkpoint: checkpoint.best_ckpt_depth,
}


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, list[Any]]]:
    def look(*arguments: Any) -> dict[str, Any]:
        return {name: read(*arguments) for name, read in LOOKS.items()}

    runs = {kit.__name__: watch(kit, CASE, tmp_path_factory.mktemp("run"), look, max_depth=7) for kit in KITS}
    return {name: {kit: [epoch[name] for epoch in epochs] for kit, epochs in runs.items()} for name in LOOKS}


@pytest.mark.parametrize("name", LOOKS)
def test_an_attribute_has_the_value_of_the_peer_in_each_epoch(name: str, seen: dict[str, Any]) -> None:
    mine, theirs = (seen[name][kit.__name__] for kit in KITS)

    assert len(mine) == 6
    assert mine == theirs


@pytest.mark.parametrize("tracking", [True, False])
def test_freeze_before_training_freezes_as_the_peer_does(tmp_path: Path, tracking: bool) -> None:
    def frozen(trainer: pl.Trainer, scheduler: Any, *_: Any) -> Any:
        module = CASE.module()
        scheduler.freeze_before_training(module)
        trained = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
        return trained, module.blocks[0]["norm"].track_running_stats

    runs = [watch(kit, CASE, tmp_path / kit.__name__, frozen, frozen_bn_track_running_stats=tracking) for kit in KITS]

    assert runs[0] == runs[1]
    assert runs[0][0] == ([], tracking)


def test_thaw_to_depth_thaws_as_the_peer_does(tmp_path: Path) -> None:
    def thawed(trainer: pl.Trainer, scheduler: Any, *_: Any) -> list[list[str]]:
        found = []
        for depth in (None, 1):
            scheduler.thaw_to_depth(depth)
            found.append([name for name, p in trainer.lightning_module.named_parameters() if p.requires_grad])
        return found

    case = Case(name="thaw", schedule=phases(), max_epochs=1)
    runs = [watch(kit, case, tmp_path / kit.__name__, thawed) for kit in KITS]

    assert runs[0] == runs[1]
    assert [len(names) for names in runs[0][0]] == [2, 4]


def test_schedules_are_saved_and_loaded_as_the_peer_does(tmp_path: Path) -> None:
    schedule = {0: {"params": [HEAD]}, 1: {"params": [BLOCK_1, BLOCK_0], "lr": 1e-4, "max_transition_epoch": 3}}

    def written(trainer: pl.Trainer, scheduler: Any, *_: Any) -> Any:
        path = scheduler.save_schedule("mine.yaml", schedule, trainer.default_root_dir)
        return Path(path).name, yaml.safe_load(Path(path).read_text()), scheduler.load_yaml_schedule(path)

    case = Case(name="save", schedule=phases(), max_epochs=1)
    runs = [watch(kit, case, tmp_path / kit.__name__, written) for kit in KITS]

    assert runs[0] == runs[1] == [("mine.yaml", schedule, schedule)]


# -- the hooks of an adapter -----------------------------------------------------------------------------------------

HOOKS = (
    "connect",
    "on_before_init_fts",
    "gen_ft_schedule",
    "validate_ft_sched",
    "get_named_params_for_schedule_validation",
    "on_after_init_fts",
    "on_before_fts_fit_start",
    "phase0_optimizer_override",
    "on_validate_monitor_metric",
    "before_restore_model",
    "on_before_restore_optimizers_and_lrs",
)
calls: list[str] = []


def noting(base: type) -> type:
    """Make an adapter that notes which hooks are called."""

    def noted(name: str) -> Callable[..., Any]:
        def hook(self: Any, *arguments: Any, **keywords: Any) -> Any:
            calls.append(name)
            return getattr(super(adapter, self), name)(*arguments, **keywords)

        return hook

    adapter = type("Noting", (base,), {name: noted(name) for name in HOOKS})
    return adapter


NotingOurs = noting(phasewire.adapters.StrategyAdapter)
NotingPeers = noting(peer.strategy_adapters.StrategyAdapter)


@pytest.mark.parametrize("schedule", [phases(), None], ids=["explicit", "implicit"])
def test_the_hooks_of_an_adapter_are_called_in_the_order_of_the_peer(tmp_path: Path, schedule: Any) -> None:
    case = Case(name="hooks", schedule=schedule, val_losses=WORSENING, optimizer_gets="all", max_epochs=5)
    runs = []
    for kit, name in ((ours, "NotingOurs"), (peer, "NotingPeers")):
        calls.clear()
        adapters = {"single_device": f"{__name__}:{name}"}
        watch(kit, case, tmp_path / kit.__name__, lambda *_: None, custom_strategy_adapters=adapters)
        # Ours also generates a schedule by the names that the adapter gives.
        asked = calls.index("validate_ft_sched")
        runs.append([name for name in calls[:asked] if not name.startswith("get_named")] + calls[asked:])

    assert runs[0] == runs[1]
    assert set(runs[0]) >= set(HOOKS) - {"gen_ft_schedule"}
