"""Every hook of the adapter contract is called, in the order the contract gives."""

import pytest

from phasewire.adapters import StrategyAdapter
from phasewire.app import FinetuningScheduler, FTSCheckpoint, FTSEarlyStopping
from tuning import Batches, TunedModule, fit, make_trainer

SCHEDULE = {0: {"params": ["head.*"], "max_transition_epoch": 1}, 1: {"params": ["layers.1.*"]}}
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
    "lightning_module_state_dict",
    "before_restore_model",
    "load_model_state_dict",
    "on_before_restore_optimizers_and_lrs",
    "on_phase_thawed",
)


class Recording(StrategyAdapter):
    """Notes the hooks that are called, with the arguments that say something."""

    def __init__(self, calls):
        super().__init__()
        self.calls = calls
        thaw = self.exec_ft_phase

        def exec_ft_phase(module, thaw_pl, **options):
            calls.append(f"thaw {len(thaw_pl)}")
            return thaw(module, thaw_pl, **options)

        self.exec_ft_phase = exec_ft_phase


def _recorded(name):
    def hook(self, *args, **kwargs):
        shown = [str(arg) for arg in args if isinstance(arg, int | str) and name != "gen_ft_schedule"]
        self.calls.append(" ".join([name, *shown]))
        return getattr(StrategyAdapter, name)(self, *args, **kwargs)

    return hook


for _name in HOOKS:
    setattr(Recording, _name, _recorded(_name))


def run(tmp_path, calls, *, only_trainable=True, ft_schedule=SCHEDULE, ckpt_path=None, epochs=2):
    trainer = make_trainer(
        tmp_path,
        FinetuningScheduler(
            ft_schedule, custom_strategy_adapters={"auto": Recording}, strategy_adapter_cfg={"calls": calls}
        ),
        FTSEarlyStopping("val_loss", patience=9),
        FTSCheckpoint(tmp_path / "best", monitor="val_loss", filename="{epoch}", save_top_k=-1),
        max_epochs=epochs,
    )
    fit(trainer, TunedModule([2.0, 1.0], only_trainable=only_trainable), ckpt_path=ckpt_path)
    return trainer


BEGIN = ["connect", "on_before_init_fts"]
RESOLVE = ["validate_ft_sched", "get_named_params_for_schedule_validation", "on_after_init_fts", "thaw 2"]
FIRST_EPOCH = ["on_validate_monitor_metric val_loss", "lightning_module_state_dict"]
TRANSITION = [
    "before_restore_model",
    "load_model_state_dict",
    "on_before_restore_optimizers_and_lrs",
    "thaw 2",
    "on_phase_thawed 1",
]


def test_a_fit_calls_the_hooks_in_the_order_of_the_contract(tmp_path):
    calls = []

    run(tmp_path, calls)

    assert calls == [
        *BEGIN,
        *RESOLVE,
        "on_before_fts_fit_start",
        "on_phase_thawed 0",
        *FIRST_EPOCH,
        *TRANSITION,
        "lightning_module_state_dict",
    ]


def test_an_optimizer_that_does_not_match_phase_zero_is_the_adapters_to_override(tmp_path):
    calls = []

    run(tmp_path, calls, only_trainable=False, epochs=1)

    assert calls[len(BEGIN + RESOLVE) :][:3] == [
        "on_before_fts_fit_start",
        "phase0_optimizer_override",
        "on_phase_thawed 0",
    ]


def test_a_schedule_that_was_not_given_is_the_adapters_to_generate(tmp_path):
    calls = []

    run(tmp_path, calls, ft_schedule=None, epochs=1)

    assert calls[: len(BEGIN) + 2] == [
        *BEGIN,
        "gen_ft_schedule",
        "get_named_params_for_schedule_validation",
    ]


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty:UserWarning")
def test_a_resumed_fit_reads_the_checkpoint_before_it_resolves_the_schedule(tmp_path):
    run(tmp_path, [])
    calls = []

    run(tmp_path, calls, ckpt_path=tmp_path / "best" / "epoch=1.ckpt", epochs=3)

    assert calls == [
        *BEGIN,
        "before_restore_model",
        "load_model_state_dict",
        *RESOLVE,
        "on_before_fts_fit_start",
        "thaw 4",
        "on_phase_thawed 1",
        *FIRST_EPOCH,
    ]


@pytest.mark.parametrize("entry_point", ["validate", "test", "predict"])
def test_outside_fit_only_the_hooks_for_reading_a_checkpoint_follow(tmp_path, entry_point):
    calls = []
    trainer = run(tmp_path, calls)
    calls.clear()

    getattr(trainer, entry_point)(TunedModule([1.0]), Batches(), ckpt_path=tmp_path / "best" / "epoch=1.ckpt")

    assert calls == ["connect", "before_restore_model", "load_model_state_dict"]
