"""The adapter for FSDP in one process, and what needs no training at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import Callback, LearningRateFinder
from lightning.pytorch.strategies import FSDPStrategy, StrategyRegistry
from torch import nn
from torch.distributed.fsdp import CPUOffload, FullyShardedDataParallel
from torch.distributed.fsdp.wrap import ModuleWrapPolicy

from fsdp_on_cpu import EXPECTED_WARNINGS, CPUFSDPStrategy, fsdp_on_cpu
from fsdp_parts import (
    SCHEDULE,
    EpochEnds,
    NotesBeginnings,
    Prefixed,
    SplitModule,
    WrapsChildren,
    largest_difference,
    plain,
    seeded,
    strategy,
    train,
)
from phasewire.adapters import AdapterError, CheckpointError, FSDPStrategyAdapter, Renaming
from phasewire.adapters.fsdp_policy import ScheduledPolicy
from phasewire.adapters.fsdp_units import FlatParametersError
from phasewire.app import AdapterResolver, FinetuningScheduler, FTSEarlyStopping
from seam_recorder import leaving_no_process_group
from tuning import Batches, TunedModule, fit, make_trainer

pytestmark = [pytest.mark.filterwarnings(each) for each in EXPECTED_WARNINGS]
EITHER = pytest.mark.parametrize("orig", [True, False])


@pytest.fixture(autouse=True)
def _on_the_cpu() -> Iterator[None]:
    with leaving_no_process_group(), fsdp_on_cpu():
        yield


def fsdp_trainer(folder: Path, running: CPUFSDPStrategy, *callbacks: Callback, schedule=SCHEDULE, **settings):
    return make_trainer(
        folder,
        FinetuningScheduler(schedule, restore_best=False, **settings),
        FTSEarlyStopping("val_loss", patience=100),
        *callbacks,
        strategy=running,
        max_epochs=4,
        enable_checkpointing=False,
    )


# -- which adapter -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("flag", "offloads"), [("fsdp", False), ("fsdp_cpu_offload", True)])
def test_lightnings_flags_get_the_native_adapter_or_a_plug_in_mapped_to_them(flag: str, offloads: bool) -> None:
    running = StrategyRegistry.get(flag)
    assert type(running) is FSDPStrategy
    assert running.cpu_offload == CPUOffload(offload_params=offloads)
    resolver = AdapterResolver()
    assert type(resolver.resolve(running, flag=flag)()) is FSDPStrategyAdapter
    mapping = {flag: Prefixed}
    assert type(resolver.resolve(running, flag=flag, custom_strategy_adapters=mapping)()) is Prefixed


def test_the_adapter_is_refused_under_another_strategy(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, FinetuningScheduler(custom_strategy_adapters={"auto": "fsdp"}))
    with pytest.raises(AdapterError, match="drives FSDPStrategy, and the running strategy is SingleDeviceStrategy"):
        fit(trainer, TunedModule())


# -- names ---------------------------------------------------------------------------------------------------------


class AsksForNames(Callback):
    """Notes the names of the module, and what the adapter makes of them, in every phase."""

    def __init__(self) -> None:
        self.raw: list[str] = []
        self.logical: list[str] = []
        self.back: list[str] = []
        self.thawed: list[str] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        adapter = trainer.callbacks[0].strategy_adapter
        self.raw = [name for name, _ in pl_module.named_parameters()]
        self.logical = adapter.logical_param_translation(self.raw)
        self.back = adapter.fts_optim_inspect(self.logical)
        trained = [name for name, parameter in pl_module.named_parameters() if parameter.requires_grad]
        self.thawed = adapter.logical_param_translation(trained)


@EITHER
def test_names_are_those_of_the_module_and_translate_there_and_back(tmp_path: Path, orig: bool) -> None:
    names, module = AsksForNames(), seeded()
    before = [name for name, _ in module.named_parameters()]
    schedule = {0: SCHEDULE[0], 1: SCHEDULE[1] | {"max_transition_epoch": -1}}
    fit(fsdp_trainer(tmp_path, strategy(orig=orig), names, schedule=schedule), module)
    assert names.raw != before
    assert len(names.raw) == (len(before) if orig else 3)
    assert names.logical == before
    assert names.back == names.raw
    assert names.thawed == [name for name in before if name.startswith(("layers.1.", "head."))]


def test_parameters_in_a_flat_one_are_counted_one_by_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fit(fsdp_trainer(tmp_path, strategy(orig=False)), seeded())
    assert (
        "Phase 1 of 2 begins at epoch 1, because max_transition_epoch ended phase 0. Thawed 2 tensors with "
        in caplog.text
    )


@EITHER
def test_a_generated_schedule_has_the_modules_names_where_the_user_wraps_parts(tmp_path: Path, orig: bool) -> None:
    running = strategy(orig=orig, policy=False)
    trainer = fsdp_trainer(tmp_path, running, schedule=None, log_dir=tmp_path)
    fit(trainer, seeded(WrapsChildren))
    scheduled = [name for phase in trainer.callbacks[0].ft_schedule.values() for name in phase["params"]]
    assert sorted(scheduled) == sorted(name for name, _ in seeded().named_parameters())
    assert "_fsdp_wrapped_module" not in (tmp_path / "WrapsChildren_ft_schedule.yaml").read_text()


# -- wrapping ------------------------------------------------------------------------------------------------------


def test_the_strategy_has_the_policy_of_the_user_again_once_the_module_is_wrapped(tmp_path: Path) -> None:
    policy = ModuleWrapPolicy({nn.Linear})
    for given in (policy, None):
        running = strategy(orig=True, policy=False, **({} if given is None else {"auto_wrap_policy": given}))
        trainer = fsdp_trainer(tmp_path, running, strategy_adapter_cfg={"awp_overrides": ["layers.0", "layers.1"]})
        fit(trainer, seeded())
        assert running.kwargs.get("auto_wrap_policy") is given
        assert ("auto_wrap_policy" in running.kwargs) == (given is not None)


def test_a_fit_after_one_that_failed_while_setting_up_plans_from_the_policy_of_the_user(tmp_path: Path) -> None:
    class FailsOnce(SplitModule):
        failed = False

        def configure_optimizers(self):
            if not type(self).failed:
                type(self).failed = True
                raise ArithmeticError("the first time")
            return super().configure_optimizers()

    policy = ModuleWrapPolicy({nn.Linear})
    running = strategy(orig=False, policy=False, auto_wrap_policy=policy)
    trainer = fsdp_trainer(tmp_path, running)
    with pytest.raises(ArithmeticError, match="the first time"):
        fit(trainer, FailsOnce())
    assert running.kwargs["auto_wrap_policy"] is policy
    fit(trainer, seeded(FailsOnce))
    assert running.kwargs["auto_wrap_policy"] is policy


def test_a_part_that_is_replaced_before_wrapping_is_wrapped_by_its_name() -> None:
    module = seeded()
    policy = ScheduledPolicy(module, {"layers.0": {}, "head": {"forward_prefetch": True}}, None)
    module.layers[0] = nn.Linear(4, 4)
    found = policy._run_policy(module, set(), {})
    assert found == {module.layers[0]: {}, module.head: {"forward_prefetch": True}}


def test_phases_beyond_max_depth_count_as_frozen(tmp_path: Path) -> None:
    overrides = {"awp_overrides": ["head"]}
    schedule = {0: SCHEDULE[0], **{depth: {"params": SCHEDULE[depth]["params"]} for depth in (1, 2)}}
    running = strategy(orig=False, policy=False)
    fit(fsdp_trainer(tmp_path, running, schedule=schedule, max_depth=0, strategy_adapter_cfg=overrides), seeded())
    running = strategy(orig=False, policy=False)
    trainer = fsdp_trainer(tmp_path, running, schedule=schedule, max_depth=1, strategy_adapter_cfg=overrides)
    with pytest.raises(FlatParametersError, match=r"layers.1.bias \(phase 1\), .*layers.0.bias \(never trained\)"):
        fit(trainer, seeded())


def test_parameters_of_one_layer_in_two_phases_are_refused_with_what_to_change(tmp_path: Path) -> None:
    schedule = {0: {"params": ["head.weight"]}, 1: {"params": ["head.bias"]}}
    with pytest.raises(
        FlatParametersError,
        match=r"No wrapping parts .*head.weight \(phase 0\), head.bias \(phase 1\)\. Put it in one phase.*use_orig",
    ):
        fit(fsdp_trainer(tmp_path, strategy(orig=False), schedule=schedule), seeded())


def test_overrides_that_have_no_effect_are_said(tmp_path: Path) -> None:
    trainer = fsdp_trainer(
        tmp_path, strategy(orig=True, policy=False), strategy_adapter_cfg={"awp_overrides": ["head"]}
    )
    with pytest.warns(UserWarning, match="awp_overrides have no effect: the module wraps parts of itself"):
        fit(trainer, seeded(WrapsChildren))


# -- training ------------------------------------------------------------------------------------------------------


class LeavesOutTheLastBatch(SplitModule):
    """Its forward pass runs for every batch, and the backward pass not for the last of an epoch."""

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        return loss if batch_idx == 0 else None


class WrapsAndLeavesOut(LeavesOutTheLastBatch, WrapsChildren):
    pass


@pytest.mark.filterwarnings("ignore:`training_step` returned `None`")
@EITHER
@pytest.mark.parametrize("kind", [LeavesOutTheLastBatch, WrapsAndLeavesOut])
def test_a_forward_pass_without_a_backward_pass_before_a_thaw_does_no_harm(tmp_path: Path, orig: bool, kind) -> None:
    expected = train(tmp_path / "whole", "auto", seeded(LeavesOutTheLastBatch)).ends
    running = strategy(orig=orig, policy=kind is LeavesOutTheLastBatch)
    assert largest_difference(train(tmp_path / "fsdp", running, seeded(kind), devices=1).ends, expected) < 1e-6


@EITHER
def test_a_plug_in_that_thaws_in_its_own_way_need_not_know_of_hooks(tmp_path: Path, orig: bool) -> None:
    class ThawsByItself(FSDPStrategyAdapter):
        def __init__(self) -> None:
            super().__init__()
            self.exec_ft_phase = lambda module, thaw_pl, init_thaw=False: self.base_ft_phase(module, thaw_pl)

    expected = train(tmp_path / "whole", "auto", seeded()).ends
    running = strategy(orig=orig, policy=False)
    mapping = {"fsdp": ThawsByItself}
    found = train(tmp_path / "fsdp", running, seeded(WrapsChildren), devices=1, custom_strategy_adapters=mapping)
    assert largest_difference(found.ends, expected) < 1e-6


@EITHER
@pytest.mark.parametrize("finder_is_first", [True, False])
def test_a_learning_rate_finder_leaves_nothing_behind(tmp_path: Path, orig: bool, finder_is_first: bool) -> None:
    class HasRate(SplitModule):
        lr = 0.05

        def configure_optimizers(self):
            trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
            return torch.optim.AdamW(trained, lr=self.lr, weight_decay=0.1)

    def ends_of(folder: Path, running: object) -> list:
        ends, finder = EpochEnds(), LearningRateFinder(num_training_steps=3, update_attr=False)
        ours = FinetuningScheduler(SCHEDULE, restore_best=False)
        order = [finder, ours] if finder_is_first else [ours, finder]
        stopping = FTSEarlyStopping("val_loss", patience=100)
        run = {"strategy": running, "max_epochs": 4, "enable_checkpointing": False}
        trainer = make_trainer(folder, *order, stopping, ends, **run)
        fit(trainer, seeded(HasRate))
        return ends.ends

    assert largest_difference(ends_of(tmp_path, strategy(orig=orig)), ends_of(tmp_path, "auto")) < 1e-6


@pytest.mark.filterwarnings("ignore:Both mixed precision and an auto_wrap_policy were specified")
@EITHER
def test_statistics_of_batch_norm_follow_its_phase(tmp_path: Path, orig: bool) -> None:
    schedule = {
        0: {"params": ["head.*"], "max_transition_epoch": 1},
        1: {"params": [r"layers\.2\..*"], "max_transition_epoch": 2},
        2: {"params": [r"layers\.[01]\..*"]},
    }
    seen: list[float] = []

    class Looks(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            (norm,) = [part for part in pl_module.modules() if isinstance(part, nn.BatchNorm1d)]
            seen.append(float(norm.running_mean.abs().sum()))

    running = strategy(orig=orig, policy=False, auto_wrap_policy={nn.Linear, nn.BatchNorm1d})
    trainer = fsdp_trainer(tmp_path, running, Looks(), schedule=schedule, frozen_bn_track_running_stats=False)
    fit(trainer, TunedModule())
    assert seen[0] == 0
    assert 0 < seen[1] != seen[2]


# -- checkpoints ---------------------------------------------------------------------------------------------------


def test_a_path_that_holds_no_checkpoint_is_refused_with_what_is_expected(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"empty: There is no checkpoint here.*folder of shards"):
        train(tmp_path / "run", strategy(orig=True), devices=1, ckpt_path=tmp_path / "empty")


def test_a_full_checkpoint_without_optimizer_state_is_refused(tmp_path: Path) -> None:
    train(tmp_path / "run", strategy(orig=True), devices=1)
    path = tmp_path / "run" / "epoch=2.ckpt"
    checkpoint = torch.load(path, weights_only=False)
    del checkpoint["optimizer_states"]
    torch.save(checkpoint, path)
    with pytest.raises(CheckpointError, match="holds no optimizer state"):
        train(tmp_path / "resumed", strategy(orig=True), devices=1, ckpt_path=path)


@pytest.mark.filterwarnings("ignore:Training goes on in phase 1 with other transition criteria")
def test_a_criterion_that_a_checkpoint_does_not_know_begins_in_the_phase_that_is_resumed(tmp_path: Path) -> None:
    train(tmp_path / "run", strategy(orig=True), devices=1)
    NotesBeginnings.depths.clear()
    criteria = {"transition_criteria": ["early_stopping", "epochs", "fsdp_parts:NotesBeginnings"]}
    path = tmp_path / "run" / "epoch=1.ckpt"
    found = train(tmp_path / "resumed", strategy(orig=True), devices=1, ckpt_path=path, **criteria)
    assert found.depths == [1, 2, 2]
    assert NotesBeginnings.depths == [1, 2]


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks")
def test_a_plug_in_translates_a_full_checkpoint_before_its_weights_are_loaded(tmp_path: Path) -> None:
    class Doubles(FSDPStrategyAdapter):
        def before_restore_model(self, checkpoint):
            checkpoint["state_dict"] = {name: 2 * value for name, value in checkpoint["state_dict"].items()}
            return checkpoint

    train(tmp_path / "run", strategy(orig=True), devices=1)
    path = tmp_path / "run" / "epoch=2.ckpt"
    module = SplitModule(whole_validation=True)
    trainer = make_trainer(
        tmp_path, FinetuningScheduler(custom_strategy_adapters={"fsdp": Doubles}), strategy=strategy(orig=True)
    )
    trainer.validate(module, Batches(1), ckpt_path=path, verbose=False)
    saved = torch.load(path, weights_only=False)["state_dict"]
    with FullyShardedDataParallel.summon_full_params(trainer.strategy.model):
        loaded = {plain(name): parameter.detach().clone() for name, parameter in module.named_parameters()}
    assert largest_difference([loaded], [{name: 2 * value for name, value in saved.items()}]) == 0


class Renames(FSDPStrategyAdapter):
    def checkpoint_renamings(self):
        return {"blocks": Renaming({"layers": "blocks"})}


class SavesAtTheEnd(Callback):
    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_end(self, trainer, pl_module):
        trainer.save_checkpoint(self.path)


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks")
@EITHER
def test_a_plug_in_that_only_renames_has_its_names_in_full_checkpoints_and_reads_them(
    tmp_path: Path, orig: bool
) -> None:
    settings = {
        "custom_strategy_adapters": {"fsdp": Renames},
        "strategy_adapter_cfg": {"checkpoint_names": "blocks"},
    }
    path = tmp_path / "end.ckpt"
    fit(fsdp_trainer(tmp_path, strategy(orig=orig), SavesAtTheEnd(path), **settings), seeded())
    saved = torch.load(path, weights_only=True)
    names = [name for name, _ in seeded().named_parameters()]
    assert list(saved["state_dict"]) == [name.replace("layers", "blocks") for name in names]
    assert list(saved["phasewire"]["namings"]["blocks"]["tensors"]) == names
    module = SplitModule(whole_validation=True)
    scheduler = FinetuningScheduler(custom_strategy_adapters={"fsdp": Renames})
    trainer = make_trainer(tmp_path, scheduler, strategy=strategy(orig=orig))
    trainer.validate(module, Batches(1), ckpt_path=path, verbose=False)
    with FullyShardedDataParallel.summon_full_params(trainer.strategy.model):
        loaded = {plain(name): parameter.detach().clone() for name, parameter in module.named_parameters()}
    values = zip(loaded.values(), saved["state_dict"].values(), strict=True)
    assert all(torch.equal(one, other) for one, other in values)


def test_shards_have_the_modules_names_so_others_are_refused_when_the_trainer_starts(tmp_path: Path) -> None:
    settings = {
        "custom_strategy_adapters": {"fsdp": Renames},
        "strategy_adapter_cfg": {"checkpoint_names": "blocks"},
    }
    running = strategy(orig=True, kind="sharded")
    with pytest.raises(AdapterError, match=r"Shards have the module's own names, and Renames is to store 'blocks'"):
        fit(fsdp_trainer(tmp_path, running, **settings), seeded())
