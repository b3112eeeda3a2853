"""The adapter for ``ModelParallelStrategy``, with real sharded parameters in one process."""

from __future__ import annotations

from collections.abc import Iterator

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging
from torch import nn
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, MixedPrecisionPolicy, OffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor

from parallel_run import (
    DEPTHS,
    LAYERS,
    LOSSES,
    SCHEDULE,
    ParallelModule,
    adam_w,
    model_parallel,
    shard_layers,
    split_layers,
    train,
    whole_state,
)
from phasewire.adapters import AdapterError, ConfigError, ModelParallelStrategyAdapter
from phasewire.adapters.fsdp_options import part_options
from phasewire.app import FinetuningScheduler, FTSCheckpoint, FTSEarlyStopping, ScheduleError
from seam_recorder import leaving_no_process_group
from tuning import Batches, TunedModule, fit, make_trainer

SETTINGS = {"epoch_transitions_only": True, "restore_best": False}
BY_EPOCHS = {**SCHEDULE, 2: {**SCHEDULE[2], "max_transition_epoch": 6}}
WITH_NEW_PARTS = {
    0: SCHEDULE[0],
    1: {
        **SCHEDULE[1],
        "new_optimizer": {
            "optimizer_init": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1, "momentum": 0.9}}
        },
        "new_lr_scheduler": {
            "lr_scheduler_init": {"class_path": "torch.optim.lr_scheduler.ExponentialLR", "init_args": {"gamma": 0.5}}
        },
    },
    2: SCHEDULE[2],
}


@pytest.fixture(autouse=True)
def _no_process_group_is_left() -> Iterator[None]:
    with leaving_no_process_group():
        yield


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one device trains."""
    return train(tmp_path_factory.mktemp("alone")).state


def plan(*, defaults=None, **entries):
    return {"fsdp_plan": entries.pop("entries", entries), "fsdp_default_kwargs": defaults}


def sharded_names(module: nn.Module) -> list[str]:
    return [name for name, part in module.named_modules() if isinstance(part, FSDPModule)]


# -- phases ------------------------------------------------------------------------------------------------------------

CFGS = {
    "every layer": plan(entries={**LAYERS, "head": {}}),
    "layers alone": plan(entries=LAYERS),
    "kept whole after the forward pass": plan(entries=LAYERS, defaults={"reshard_after_forward": False}),
    "a part and what holds it": plan(entries={"layers": {}, r"layers\.0": {}}),
    "the whole module": plan(entries={"": {}}),
    "activations computed again": plan(entries=LAYERS, defaults={"act_ckpt": "composable"}),
    "activations computed again, wrapped": plan(entries={r"layers\.[01]": {"act_ckpt": ["wrapped", None]}}),
    "activations on the CPU": plan(entries={r"layers\.[01]": {"act_ckpt": {"mode": "wrapped_offload"}}}),
    "parameters on the CPU": plan(entries=LAYERS, defaults={"cpu_offload_policy": {"pin_memory": False}}),
}


@pytest.mark.parametrize("cfg", CFGS.values(), ids=CFGS)
def test_every_phase_trains_what_one_device_trains(tmp_path, alone, cfg) -> None:
    run = train(tmp_path, model_parallel(), cfg=cfg)

    assert run.notes.depths == DEPTHS
    torch.testing.assert_close(run.state, alone)


def test_a_user_who_shards_some_layers_in_configure_model_needs_no_plan(tmp_path, alone) -> None:
    run = train(tmp_path, model_parallel(), ParallelModule(shard_layers))

    torch.testing.assert_close(run.state, alone)


def test_a_generated_schedule_is_named_after_the_class_that_its_author_wrote(tmp_path) -> None:
    only = {"gen_ft_sched_only": True, "log_dir": tmp_path}
    with pytest.raises(SystemExit):
        train(tmp_path, model_parallel(), ParallelModule(shard_layers), schedule=None, settings=only, saves=False)

    assert [path.name for path in tmp_path.glob("*.yaml")] == ["ParallelModule_ft_schedule.yaml"]


def test_what_configure_model_sharded_is_left_as_it_is_and_the_rest_of_the_plan_is_applied(tmp_path, alone) -> None:
    run = train(
        tmp_path,
        model_parallel(),
        ParallelModule(lambda module: fully_shard(module.layers[0], mesh=module.device_mesh["data_parallel"])),
        cfg=plan(entries={r"layers\.0": {"mp_policy": {"param_dtype": "bfloat16"}}, "head": {}}),
    )

    assert sharded_names(run.module) == ["", "layers.0", "head"]
    torch.testing.assert_close(run.state, alone)


@pytest.mark.parametrize("parallelize", [None, split_layers], ids=["FSDP2", "tensor parallel"])
def test_what_is_thawed_after_a_validation_is_trained_without_a_restore_too(tmp_path, parallelize) -> None:
    # A validation leaves parameters whole. Saving and restoring would shard them again.
    options = {"schedule": BY_EPOCHS, "settings": SETTINGS, "saves": False}
    expected = train(tmp_path / "alone", **options).state

    run = train(
        tmp_path / "sharded",
        model_parallel(),
        ParallelModule(parallelize),
        cfg=plan(entries={} if parallelize else {"": {}}),
        **options,
    )

    torch.testing.assert_close(run.state, expected)


def test_phases_start_with_new_optimizers_and_lr_schedulers(tmp_path) -> None:
    def build() -> ParallelModule:
        return ParallelModule(scheduler=lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.7))

    expected = train(tmp_path / "alone", module=build(), schedule=WITH_NEW_PARTS)

    run = train(tmp_path / "sharded", model_parallel(), build(), cfg=plan(entries=LAYERS), schedule=WITH_NEW_PARTS)

    assert [epoch.lrs for epoch in run.notes.epochs] == [epoch.lrs for epoch in expected.notes.epochs]
    torch.testing.assert_close(run.state, expected.state)


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_phases_train_in_half_precision(tmp_path, precision: str) -> None:
    expected = train(tmp_path / "alone", precision=precision).state

    run = train(tmp_path / "sharded", model_parallel(), cfg=plan(entries=LAYERS), precision=precision)

    torch.testing.assert_close(run.state, expected)


def test_gradients_are_clipped_in_every_phase(tmp_path) -> None:
    expected = train(tmp_path / "alone", gradient_clip_val=0.05).state

    run = train(tmp_path / "sharded", model_parallel(), cfg=plan(entries=LAYERS), gradient_clip_val=0.05)

    torch.testing.assert_close(run.state, expected)


class Nested(ParallelModule):
    """Keeps its layers in a model of its own, which its steps call."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(self.layers, self.head)
        del self.layers, self.head

    def forward(self, x):
        return self.model(x)

    def training_step(self, batch, batch_idx):
        return nn.functional.mse_loss(self.model(batch[0]), batch[1])


class Formless(ParallelModule):
    """Has no ``forward``; its steps call its parts."""

    forward = pl.LightningModule.forward

    def training_step(self, batch, batch_idx):
        return nn.functional.mse_loss(self.head(self.layers(batch[0])), batch[1])

    def validation_step(self, batch, batch_idx):
        loss = torch.tensor(LOSSES[self.current_epoch]) + 0 * self.head(self.layers(batch[0])).sum()
        self.log("val_loss", loss, sync_dist=True)


@pytest.mark.parametrize(
    ("build", "prefix", "root"), [(Nested, "model.", "model"), (Formless, "", ""), (ParallelModule, "", "")]
)
def test_the_smallest_part_that_holds_all_parameters_is_sharded_too(tmp_path, alone, build, prefix, root) -> None:
    names = {"model.": {"head": "model.1", "layers": "model.0"}, "": {"head": "head", "layers": "layers"}}[prefix]
    schedule = {
        depth: {
            **phase,
            "params": [
                pattern.replace("head", names["head"]).replace("layers", names["layers"]) for pattern in phase["params"]
            ],
        }
        for depth, phase in SCHEDULE.items()
    }

    run = train(
        tmp_path, model_parallel(), build(), cfg=plan(entries={names["layers"] + r"\.[01]": {}}), schedule=schedule
    )

    assert sharded_names(run.module) == [root, f"{names['layers']}.0", f"{names['layers']}.1"]
    torch.testing.assert_close(list(run.state.values()), list(alone.values()))


def test_a_part_that_holds_all_parameters_needs_no_root_above_it(tmp_path) -> None:
    schedule = {0: {"params": ["model.1.*"], "max_transition_epoch": 1}, 1: {"params": ["model.0.*"]}}
    run = train(tmp_path, model_parallel(), Nested(), cfg=plan(model={}), schedule=schedule, max_epochs=2)

    assert sharded_names(run.module) == ["model"]


# -- the plan ----------------------------------------------------------------------------------------------------------


class Deep(TunedModule):
    """Twelve blocks of two layers in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)) for _ in range(12))


class Tied(TunedModule):
    """Two layers that share a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.layers[1].weight = self.layers[0].weight


def set_up(tmp_path, module: pl.LightningModule, cfg, **options) -> FinetuningScheduler:
    """Let Lightning set up a fit of no epoch."""
    schedule = options.pop("schedule", {0: {"params": ["head.*"]}})
    scheduler = FinetuningScheduler(schedule, strategy_adapter_cfg=cfg, log_dir=tmp_path)
    companions = FTSEarlyStopping("val_loss"), FTSCheckpoint(tmp_path / "best", monitor="val_loss")
    options = {"strategy": model_parallel(), "max_epochs": 0, **options}
    fit(make_trainer(tmp_path, scheduler, *companions, **options), module)
    return scheduler


@pytest.mark.parametrize(
    ("entries", "taken"),
    [
        ({"blocks.1": {}}, ["", "blocks.1"]),
        ({r"blocks\.1": {}}, ["", "blocks.1", "blocks.10", "blocks.11"]),
        ({r"blocks\.1$": {}}, ["", "blocks.1"]),
        ({r"blocks\.[12]\.1": {}}, ["", "blocks.1.1", "blocks.2.1"]),
        ({"blocks.0": {}, "blocks.0.1": {}}, ["", "blocks.0", "blocks.0.1"]),
        ({"blocks.0.1": {}, r"blocks\.0": {}}, ["", "blocks.0", "blocks.0.1"]),
        ({".*": {}}, [""]),
        ({"lay": {}, "head": None}, ["", "layers", "head"]),
    ],
)
def test_a_name_takes_one_part_and_a_pattern_the_outermost_parts_it_matches(tmp_path, entries, taken) -> None:
    module = Deep()
    set_up(tmp_path, module, plan(entries=entries))

    assert sorted(sharded_names(module)) == sorted(taken)
    assert all(isinstance(parameter, DTensor) for parameter in module.parameters())


REFUSED = {
    "nothing of that name": (
        plan(entries={"block.0": {}}),
        r"'block.0' matches no part of the module. Did you mean 'blo",
    ),
    "no regular expression": (plan(entries={"blocks.[": {}}), r"fsdp_plan\['blocks.\['\]: 'blocks.\[' is no regular"),
    "an option that is not": (
        plan(entries={"head": {"reshard_after": True}}),
        "no option named 'reshard_after'. Did you mean 'reshard_after_forward'",
    ),
    "a default that is not": (
        plan(head={}, defaults={"mp_polcy": {}}),
        "fsdp_default_kwargs: .*Did you mean 'mp_policy'",
    ),
    "a list": (
        {"fsdp_plan": ["head"]},
        r"A mapping is expected, of names or patterns to options, and \['head'\] is given",
    ),
    "a number": (plan(entries={0: {}}), "A mapping is expected, of names or patterns to options, and 0 is given"),
    "no mapping": (plan(head=True), r"fsdp_plan\['head'\]: Options are expected as a mapping, and True is given"),
    "a list of modules": (plan(blocks={}), r"'blocks' is a ModuleList, which is never called .*'blocks\\.\\d\+'"),
    "an unknown type": (plan(head={"mp_policy": {"param_dtype": "bfloat1"}}), "mp_policy, param_dtype: .*'bfloat16'"),
    "an unknown argument": (
        plan(head={"mp_policy": {"param_type": "half"}}),
        "MixedPrecisionPolicy takes no argument named 'param_type'. Did you mean 'param_dtype'",
    ),
    "another class": (
        plan(head={"offload_policy": {"class_path": "torch.nn.Linear"}}),
        "'torch.nn.Linear' is no OffloadP",
    ),
    "no class": (
        plan(head={"offload_policy": {"class_path": "torch.nn.Liner"}}),
        "'torch.nn.Liner' cannot be imported",
    ),
    "a key beside the class": (plan(head={"mp_policy": {"class_path": "x", "args": {}}}), "there is no 'args'"),
    "no policy": (plan(head={"mp_policy": "half"}), "A MixedPrecisionPolicy is expected"),
    "two policies": (plan(head={"cpu_offload_policy": {}, "offload_policy": {}}), "each choose a policy"),
    "checkpointing unknown": (plan(head={"act_ckpt": "composabel"}), "act_ckpt: .*Did you mean 'composable'"),
    "checkpointing, three": (
        plan(head={"act_ckpt": ["composable", {}, {}]}),
        "A way of activation checkpointing is exp",
    ),
    "checkpointing reentrant": (
        plan(head={"act_ckpt": ["composable", {"use_reentrant": True}]}),
        "Reentrant activation",
    ),
    "checkpointing REENTRANT": (
        plan(head={"act_ckpt": ["wrapped", {"checkpoint_impl": "REENTRANT"}]}),
        "Reentrant activ",
    ),
    "offload with options": (
        plan(head={"act_ckpt": ["wrapped_offload", {"a": 1}]}),
        "wrapped_offload takes no options",
    ),
    "resharding": (
        plan(head={"reshard_after_forward": "yes"}),
        "a number of processes is expected, and 'yes' is given",
    ),
    "a placement": (plan(head={"shard_placement_fn": 3}), "A function of a parameter is expected, and 3"),
    "an unknown mesh": (
        plan(head={"mesh": "data_paralel"}),
        "no dimension 'data_paralel'. Did you mean 'data_parallel'",
    ),
    "an unknown parameter": (
        plan(head={"ignored_params": ["hed.weight"]}),
        "'hed.weight' matches no parameter. Did you m",
    ),
    "what torch refuses": (plan(head={"reshard_after_forward": 7}), "head cannot be sharded: .*factor of 1, not 7"),
}


@pytest.mark.parametrize(("cfg", "message"), REFUSED.values(), ids=REFUSED)
def test_a_plan_that_cannot_be_carried_out_is_refused_with_its_place(tmp_path, cfg, message: str) -> None:
    with pytest.raises(AdapterError, match=message) as error:
        set_up(tmp_path, Deep(), cfg)

    assert error.value.where.startswith("strategy_adapter_cfg, fsdp_")
    assert error.value.remedy


@pytest.mark.filterwarnings("ignore:.*tied:UserWarning")
def test_parts_that_share_a_parameter_are_not_sharded_apart(tmp_path) -> None:
    with pytest.raises(AdapterError, match=r"'layers.0.weight' and 'layers.1.weight' are one parameter"):
        set_up(tmp_path, Tied(), plan(entries={"layers.0": {}}))

    module = Tied()
    set_up(tmp_path, module, plan(entries={"layers": {}}))
    assert module.layers[0].weight is module.layers[1].weight


def test_a_plan_needs_a_device_mesh(tmp_path) -> None:
    mapping = {"auto": "modelparallelstrategy"}
    scheduler = FinetuningScheduler(custom_strategy_adapters=mapping, strategy_adapter_cfg=plan(head={}))
    with pytest.raises(AdapterError, match="and SingleDeviceStrategy is running"):
        fit(make_trainer(tmp_path, scheduler), TunedModule())


def options(given, defaults=None):
    return part_options(
        given, None if defaults is None else part_options(defaults, None, where="defaults"), where="here"
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"mp_policy": {"param_dtype": "bfloat16"}}, {"mp_policy": MixedPrecisionPolicy(torch.bfloat16)}),
        (
            {
                "mp_policy": {
                    "class_path": "torch.distributed.fsdp.MixedPrecisionPolicy",
                    "init_args": {"reduce_dtype": "torch.float32", "cast_forward_inputs": False},
                }
            },
            {"mp_policy": MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False)},
        ),
        ({"mp_policy": MixedPrecisionPolicy(torch.half)}, {"mp_policy": MixedPrecisionPolicy(torch.half)}),
        ({"mp_policy": None}, {"mp_policy": MixedPrecisionPolicy()}),
        ({"cpu_offload_policy": {}}, {"offload_policy": CPUOffloadPolicy()}),
        ({"cpu_offload_policy": True}, {"offload_policy": CPUOffloadPolicy()}),
        ({"cpu_offload_policy": None}, {"offload_policy": OffloadPolicy()}),
        ({"offload_policy": {"pin_memory": False}}, {"offload_policy": CPUOffloadPolicy(pin_memory=False)}),
        (
            {"offload_policy": {"class_path": "torch.distributed.fsdp:OffloadPolicy"}},
            {"offload_policy": OffloadPolicy()},
        ),
        ({"reshard_after_forward": 2}, {"reshard_after_forward": 2}),
        ({"shard_placement_fn": "operator:itemgetter"}, {"shard_placement_fn": __import__("operator").itemgetter}),
        (None, {}),
    ],
)
def test_options_are_what_yaml_can_hold_or_what_torch_takes(given, expected) -> None:
    assert options(given).sharding == expected
    assert options(None, given).sharding == expected


def test_an_entry_comes_before_the_defaults() -> None:
    found = options(
        {"reshard_after_forward": False, "act_ckpt": None, "offload_policy": None},
        {"reshard_after_forward": True, "act_ckpt": "wrapped", "cpu_offload_policy": {}, "ignored_params": []},
    )
    assert found.sharding == {"reshard_after_forward": False, "offload_policy": OffloadPolicy(), "ignored_params": []}
    assert found.checkpointing is None


@pytest.mark.parametrize(
    "checkpointing", ["wrapped", ["wrapped"], ("wrapped", None), {"mode": "wrapped"}, {"mode": "wrapped", "cfg": {}}]
)
def test_checkpointing_is_given_in_the_forms_of_fts(checkpointing) -> None:
    found = options({"act_ckpt": checkpointing}).checkpointing
    assert (found.mode, dict(found.options)) == ("wrapped", {})


def test_a_policy_of_mixed_precision_reaches_the_parts_it_is_for(tmp_path) -> None:
    types = {}

    class NotesTypes(Callback):
        def on_train_start(self, trainer, pl_module):
            for name in ("layers.0", "layers.1", "head"):
                pl_module.get_submodule(name).register_forward_hook(
                    lambda part, args, output, name=name: types.update({name: (args[0].dtype, output.dtype)})
                )

    half, single = torch.bfloat16, torch.float32
    entries = {
        "layers.0": {"mp_policy": {"param_dtype": "bfloat16", "output_dtype": "float32"}},
        "layers.1": {"mp_policy": {"param_dtype": "bfloat16"}, "ignored_params": [r"layers\.0"]},
        "head": {"mp_policy": {"param_dtype": "float32"}, "mesh": "data_parallel"},
    }
    run = train(tmp_path, model_parallel(), cfg=plan(entries=entries), max_epochs=1, callbacks=(NotesTypes(),))

    assert types == {"layers.0": (half, single), "layers.1": (half, half), "head": (single, single)}
    assert {value.dtype for value in run.state.values()} == {single}


@pytest.mark.parametrize("defaults", [None, {"act_ckpt": "wrapped"}, {"act_ckpt": "composable"}])
def test_a_module_is_sharded_once_for_all_entry_points(tmp_path, alone, defaults) -> None:
    module, cfg = ParallelModule(), plan(entries={r"layers\.[01]": {}}, defaults=defaults)
    trainer = make_trainer(tmp_path, FinetuningScheduler(strategy_adapter_cfg=cfg), strategy=model_parallel())
    trainer.validate(module, dataloaders=Batches(1), verbose=False)
    names = sharded_names(module)
    # The validation has left parameters whole.
    run = train(tmp_path / "fit", model_parallel(), module, cfg=cfg)

    assert sharded_names(module) == names == ["", "layers.0", "layers.1"]
    torch.testing.assert_close(list(run.state.values()), list(alone.values()))
    assert "configure_model" not in vars(module)


class WithPlan(ModelParallelStrategyAdapter):
    """What a plug-in does: a plan of its own, and names of its own."""

    def __init__(self) -> None:
        super().__init__(fsdp_plan=LAYERS)
        self.thawed = []

    def get_named_params_for_schedule_validation(self):
        return {name.upper(): p for name, p in super().get_named_params_for_schedule_validation().items()}

    def fts_optim_transform(self, orig_pl, inspect_only=False):
        return super().fts_optim_transform([name.lower() for name in orig_pl], inspect_only)

    def on_phase_thawed(self, depth):
        self.thawed.append(depth)


def test_a_plug_in_extends_the_adapter(tmp_path, alone) -> None:
    mapping = {"modelparallelstrategy": WithPlan}
    schedule = {depth: {**phase, "params": [phase["params"][0].upper()]} for depth, phase in SCHEDULE.items()}

    run = train(tmp_path, model_parallel(), schedule=schedule, settings={"custom_strategy_adapters": mapping})

    assert sharded_names(run.module) == ["", "layers.0", "layers.1", "layers.2"]
    assert run.scheduler.strategy_adapter.thawed == [0, 1, 2]
    torch.testing.assert_close(run.state, alone)


def test_a_callback_that_would_copy_a_sharded_module_is_refused(tmp_path) -> None:
    with pytest.raises(AdapterError, match="EMAWeightAveraging copies the module"):
        train(tmp_path, model_parallel(), cfg=plan(entries=LAYERS), callbacks=(EMAWeightAveraging(),))


# -- names -------------------------------------------------------------------------------------------------------------


def test_names_are_those_of_the_module_without_wrappers(tmp_path) -> None:
    cfg = plan(entries={r"layers\.[01]": {"act_ckpt": "wrapped"}})
    module = ParallelModule()
    names = list(dict(module.named_parameters()))

    run = train(tmp_path, model_parallel(), module, cfg=cfg, schedule=None, max_epochs=1)

    assert "layers.0._checkpoint_wrapped_module.weight" in dict(module.named_parameters())
    schedule = run.scheduler.ft_schedule
    assert sorted(name for phase in schedule.values() for name in phase["params"]) == sorted(names)
    checkpoint = torch.load(run.checkpoint(0), weights_only=True)
    assert list(checkpoint["state_dict"]) == names
    assert checkpoint["callbacks"]["phasewire.FinetuningScheduler"]["groups"] == [["head.weight", "head.bias"]]
    with pytest.raises(ScheduleError, match="matches no parameter"):
        set_up(tmp_path / "again", ParallelModule(), cfg, schedule={0: {"params": ["layers.0._checkpoint.*"]}})


@pytest.mark.parametrize("defaults", [None, {"act_ckpt": "wrapped"}], ids=["", "wrapped"])
def test_groups_of_the_module_are_kept_after_a_validation_and_where_parts_are_wrapped(tmp_path, defaults) -> None:
    def two_groups(parameters):
        weight, bias = parameters
        return torch.optim.SGD([{"params": [weight], "lr": 0.1}, {"params": [bias], "lr": 0.2}])

    module, cfg = ParallelModule(optimizer=two_groups), plan(head={}, defaults=defaults)
    trainer = make_trainer(tmp_path, FinetuningScheduler(strategy_adapter_cfg=cfg), strategy=model_parallel())
    trainer.validate(module, dataloaders=Batches(1), verbose=False)
    run = train(tmp_path, model_parallel(), module, cfg=cfg, max_epochs=1)

    assert run.notes.epochs[0].lrs == (0.1, 0.2)


# -- sharded and plain parameters together -----------------------------------------------------------------------------

MIXED = {0: {"params": ["layers.0.*"], "max_transition_epoch": 1}, 1: {"params": ["layers.1.weight", "head.*"]}}


def at_once(**options):
    return lambda parameters: adam_w(parameters, **options)


@pytest.mark.parametrize("option", ["foreach", "fused"])
def test_an_optimizer_that_takes_sharded_and_plain_parameters_at_once_is_refused(tmp_path, option: str) -> None:
    module = ParallelModule(split_layers, optimizer=at_once(**{option: True}))
    with pytest.raises(AdapterError) as error:
        set_up(tmp_path, module, None, schedule=MIXED)

    message = str(error.value)
    assert message.startswith(f"phase 1: AdamW({option}=True) takes the parameters of a group all at once")
    assert "Group 1 has sharded 'layers.1.weight' and plain 'head.weight', 'head.bias', from phase 1" in message


def test_a_module_without_an_optimizer_is_refused_as_elsewhere(tmp_path) -> None:
    with pytest.warns(UserWarning, match="no optimizer"), pytest.raises(ConfigError, match="configures no optimizer"):
        set_up(tmp_path, ParallelModule(shard_layers, optimizer=lambda parameters: None), None)


def test_a_new_optimizer_is_looked_at_too(tmp_path) -> None:
    new = {"optimizer_init": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1, "foreach": True}}}
    schedule = {**MIXED, 1: {**MIXED[1], "new_optimizer": new}}
    with pytest.raises(AdapterError, match=r"phase 1: SGD\(foreach=True\)"):
        set_up(tmp_path, ParallelModule(split_layers), None, schedule=schedule)


@pytest.mark.parametrize(("algorithm", "kind"), [("norm", "plain"), ("value", "plain")])
def test_clipping_that_takes_sharded_and_plain_gradients_at_once_is_refused(tmp_path, algorithm, kind) -> None:
    with pytest.raises(
        AdapterError, match=rf"phase 1: gradient_clip_val=0.5 .*tensor_parallel: .*; {kind}: 'head.weight'"
    ):
        set_up(
            tmp_path,
            ParallelModule(split_layers),
            None,
            schedule=MIXED,
            gradient_clip_val=0.5,
            gradient_clip_algorithm=algorithm,
        )


def test_what_torch_can_do_with_sharded_and_plain_parameters_is_left_alone(tmp_path) -> None:
    expected = train(tmp_path / "alone", schedule=MIXED, max_epochs=3).state

    run = train(tmp_path / "one by one", model_parallel(), ParallelModule(split_layers), schedule=MIXED, max_epochs=3)
    torch.testing.assert_close(run.state, expected)

    apart = {0: {"params": ["layers.*"], "max_transition_epoch": 2}, 1: {"params": ["head.*"]}}
    module = ParallelModule(split_layers, optimizer=at_once(foreach=True))
    train(tmp_path / "in groups of their own", model_parallel(), module, schedule=apart, max_epochs=3)


def test_with_everything_sharded_parameters_are_taken_at_once(tmp_path, alone) -> None:
    module = ParallelModule(optimizer=at_once(foreach=True))
    run = train(tmp_path, model_parallel(), module, cfg=plan(entries=LAYERS), gradient_clip_val=100.0)

    torch.testing.assert_close(run.state, alone)
    assert all(isinstance(parameter, DTensor) for parameter in run.module.parameters())
    assert whole_state(run.module).keys() == alone.keys()
