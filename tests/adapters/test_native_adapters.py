"""The adapters that ship with Phasewire, as far as this release takes them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from phasewire.adapters import (
    AdapterError,
    CanonicalModelView,
    FSDPStrategyAdapter,
    ModelParallelStrategyAdapter,
    ModelView,
    ScheduleError,
    StrategyAdapter,
    TLNamesModelView,
    TransformerBridgeStrategyAdapter,
)
from phasewire.app import FinetuningScheduler, FTSCheckpoint, FTSEarlyStopping
from tuning import Batches, Notes, TunedModule, fit, make_trainer, state_of

Bridge = TransformerBridgeStrategyAdapter


class ShoutedView(ModelView):
    """The module's names in capitals; notes when it was built, and what for."""

    def __init__(self, adapter: StrategyAdapter, mark: str = "!") -> None:
        super().__init__(adapter)
        self.mark = mark
        self.sizes_when_built: list[int] = []

    def build_param_mapping(self) -> None:
        names = [name for name, _ in self.adapter.pl_module.named_parameters()]
        self.sizes_when_built.append(len(names))
        self._canonical = {name.upper() + self.mark: name for name in names}

    def get_named_params(self):
        parameters = dict(self.adapter.pl_module.named_parameters())
        return {name: parameters[canonical] for name, canonical in self._canonical.items()}

    def transform_to_canonical(self, names, inspect_only=False):
        return [self._canonical[name] for name in names]

    def transform_from_canonical(self, names):
        return [name.upper() + self.mark for name in names]


class LateModule(TunedModule):
    """Gets a layer when Lightning asks it to complete itself."""

    def configure_model(self) -> None:
        if not hasattr(self, "late"):
            self.late = torch.nn.Linear(1, 1)

    def forward(self, x):
        return self.late(super().forward(x))


def callbacks() -> list[Callback]:
    """Early stopping that never stops, so that phases end by their epochs; and the best checkpoint to restore."""
    return [FTSEarlyStopping(monitor="val_loss", patience=100), FTSCheckpoint(monitor="val_loss")]


def scheduler_with(adapter: object, **settings) -> FinetuningScheduler:
    cfg = settings.pop("cfg", None)
    return FinetuningScheduler(
        custom_strategy_adapters={"single_device": adapter}, strategy_adapter_cfg=cfg, **settings
    )


# -- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("adapter_class", "option", "nearest"),
    [
        (FSDPStrategyAdapter, "awp_override", "awp_overrides"),
        (ModelParallelStrategyAdapter, "fsdp_plans", "fsdp_plan"),
        (Bridge, "use_tl_name", "use_tl_names"),
    ],
)
def test_a_misspelt_option_is_refused_with_the_nearest(adapter_class, option: str, nearest: str) -> None:
    with pytest.raises(AdapterError, match=f"no option named '{option}'.*Did you mean '{nearest}'"):
        adapter_class(**{option: None})


# -- the options of the bridge adapter -----------------------------------------------------------------------------


def test_importing_the_bridge_adapter_imports_no_transformer_lens() -> None:
    program = (
        "import sys; sys.modules['transformer_lens'] = None\n"
        "from phasewire.adapters import TransformerBridgeStrategyAdapter\n"
        "TransformerBridgeStrategyAdapter(use_tl_names=True, model_view_cfg={'implicit_ln_thaw': False})\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_view_and_tl_names_exclude_each_other() -> None:
    with pytest.raises(AdapterError, match="each choose a view"):
        Bridge(model_view=CanonicalModelView, use_tl_names=True)


@pytest.mark.parametrize("model_view", [CanonicalModelView, None])
def test_a_view_is_given_as_a_class(model_view) -> None:
    adapter = Bridge(model_view=model_view)
    assert type(adapter.model_view) is CanonicalModelView
    assert adapter.model_view.adapter is adapter


@pytest.mark.parametrize("model_view", [int, 3, StrategyAdapter])
def test_what_is_no_view_is_refused(model_view) -> None:
    with pytest.raises(AdapterError, match=r"no subclass of phasewire\.adapters\.ModelView"):
        Bridge(model_view=model_view)


def test_a_view_gets_its_options() -> None:
    view = TLNamesModelView(StrategyAdapter(), implicit_ln_thaw=False)
    assert not view.implicit_ln_thaw
    assert Bridge(model_view=CanonicalModelView, model_view_cfg={}).fts_optim_transform(["a"]) == ["a"]


def test_a_misspelt_option_of_a_view_is_refused_with_the_nearest() -> None:
    with pytest.raises(AdapterError, match=r"model_view_cfg: .*implicit_ln_thaw.*Did you mean 'implicit_ln_thaw'\?"):
        Bridge(use_tl_names=True, model_view_cfg={"implicit_ln_thw": False})


def test_an_abstract_view_is_refused() -> None:
    with pytest.raises(AdapterError, match="ModelView cannot be built"):
        Bridge(model_view=ModelView)


# -- the canonical view --------------------------------------------------------------------------------------------


def test_the_canonical_view_is_the_identity() -> None:
    adapter = Bridge()
    names = ["b.weight", "a.weight"]
    assert adapter.fts_optim_transform(names) == names
    assert adapter.fts_optim_inspect(names) == names
    assert adapter.logical_param_translation(names) == names


EPOCH_SCHEDULE = {
    0: {"params": ["head.*"], "max_transition_epoch": 1},
    1: {"params": [r"layers\.1\..*"], "max_transition_epoch": 2},
    2: {"params": [r"layers\.[02]\..*"]},
}


def tuned(folder: Path, adapter: object) -> tuple[TunedModule, Notes]:
    torch.manual_seed(1)
    module, notes = TunedModule(), Notes()
    scheduler = scheduler_with(adapter, log_dir=folder, ft_schedule=EPOCH_SCHEDULE)
    fit(make_trainer(folder, scheduler, notes, *callbacks(), max_epochs=3), module)
    return module, notes


def test_with_the_canonical_view_a_fit_is_the_same_as_with_the_base_adapter(tmp_path: Path) -> None:
    base_module, base_notes = tuned(tmp_path / "base", StrategyAdapter)
    module, notes = tuned(tmp_path / "bridge", "transformerbridge")
    assert notes.epochs == base_notes.epochs
    assert notes.depths == [0, 1, 2]
    for name, value in state_of(base_module).items():
        torch.testing.assert_close(state_of(module)[name], value, rtol=0, atol=0)


def test_with_the_canonical_view_the_default_schedule_is_that_of_the_base_adapter(tmp_path: Path) -> None:
    texts = []
    for adapter in (StrategyAdapter, Bridge):
        folder = tmp_path / adapter.__name__
        scheduler = scheduler_with(adapter, gen_ft_sched_only=True, log_dir=folder)
        with pytest.raises(SystemExit):
            fit(make_trainer(folder, scheduler), TunedModule())
        texts.append((folder / "TunedModule_ft_schedule.yaml").read_text())
    assert texts[0] == texts[1]
    assert "head.weight" in texts[1]


# -- a view of one's own -------------------------------------------------------------------------------------------


def test_a_view_names_the_parameters_of_a_schedule(tmp_path: Path) -> None:
    schedule = {
        0: {"params": ["HEAD.*"], "max_transition_epoch": 1},
        1: {"params": [r"LAYERS\.1\..*#"]},
    }
    scheduler = scheduler_with(
        "transformerbridge",
        cfg={"model_view": ShoutedView, "model_view_cfg": {"mark": "#"}},
        ft_schedule=schedule,
    )
    notes = Notes()
    fit(make_trainer(tmp_path, scheduler, notes, *callbacks(), max_epochs=2), TunedModule())
    assert [epoch.trainable for epoch in notes.epochs] == [
        ("head.weight", "head.bias"),
        ("layers.1.weight", "layers.1.bias", "head.weight", "head.bias"),
    ]
    assert scheduler.ft_schedule[1]["params"] == ["LAYERS.1.WEIGHT#", "LAYERS.1.BIAS#"]


def test_a_schedule_in_the_modules_names_does_not_fit_another_view(tmp_path: Path) -> None:
    scheduler = scheduler_with(Bridge, cfg={"model_view": ShoutedView}, ft_schedule={0: {"params": ["head.*"]}})
    with pytest.raises(ScheduleError, match=r"head\.\*"):
        fit(make_trainer(tmp_path, scheduler, *callbacks()), TunedModule())


def test_a_generated_schedule_uses_the_names_of_the_view(tmp_path: Path) -> None:
    scheduler = scheduler_with(Bridge, cfg={"model_view": ShoutedView}, gen_ft_sched_only=True, log_dir=tmp_path)
    with pytest.raises(SystemExit):
        fit(make_trainer(tmp_path, scheduler), TunedModule())
    assert "HEAD.WEIGHT!" in (tmp_path / "TunedModule_ft_schedule.yaml").read_text()


def test_a_view_builds_its_maps_once_for_a_run_and_for_the_complete_module(tmp_path: Path) -> None:
    scheduler = scheduler_with(Bridge, cfg={"model_view": ShoutedView}, max_depth=0)
    module = LateModule()
    fit(make_trainer(tmp_path, scheduler, *callbacks(), max_epochs=1), module)
    view = scheduler.strategy_adapter.model_view
    assert view.sizes_when_built == [len(list(module.named_parameters()))]


# -- TransformerLens names -----------------------------------------------------------------------------------------


def test_outside_a_fit_tl_names_are_not_needed(tmp_path: Path) -> None:
    scheduler = scheduler_with("transformerbridge", cfg={"use_tl_names": True})
    results = make_trainer(tmp_path, scheduler).validate(TunedModule([0.25]), dataloaders=Batches(1), verbose=False)
    assert results[0]["val_loss"] == 0.25
