"""Adapters that raise in one hook of the contract."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fault_injections import FireError
from fault_scene import JOB
from phasewire.adapters import StrategyAdapter
from resuming import CutAdapter, Job

NAME = "BurningAdapter"

#: Hook, and whether it raises in the transition only: else when it is called first.
HOOKS: list[tuple[str, bool]] = [
    ("connect", False),
    ("on_before_init_fts", False),
    ("gen_ft_schedule", False),
    ("get_named_params_for_schedule_validation", False),
    ("validate_ft_sched", False),
    ("on_after_init_fts", False),
    ("on_before_fts_fit_start", False),
    ("fts_optim_inspect", False),
    ("phase0_optimizer_override", False),
    ("checkpoint_renamings", False),
    ("exec_ft_phase", False),
    ("on_validate_monitor_metric", False),
    ("lightning_module_state_dict", False),
    ("before_restore_model", True),
    ("load_model_state_dict", True),
    ("on_before_restore_optimizers_and_lrs", True),
    ("fts_optim_transform", True),
    ("exec_ft_phase", True),
    ("logical_param_translation", True),
    ("on_phase_thawed", True),
]

#: With which schedule a hook is called that is not called with every one.
SCHEDULES: dict[str, Any] = {
    "gen_ft_schedule": None,
    "fts_optim_inspect": {
        **JOB.schedule,
        1: {**JOB.schedule[1], "new_optimizer": {"optimizer_init": {"class_path": "torch.optim.SGD"}}},
    },
}


def job_raising_in(hook: str, *, in_transition: bool) -> Job:
    """A job whose adapter raises in a hook; the job that goes on has one that does not."""

    class BurningAdapter(CutAdapter):
        """Raises in a hook."""

        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            if hook == "exec_ft_phase":
                self.exec_ft_phase = lambda *a, **k: burn(self, StrategyAdapter.base_ft_phase, *a, **k)

    def burn(adapter: StrategyAdapter, original: Any, *arguments: Any, **options: Any) -> Any:
        if not in_transition or (adapter.trainer.training and adapter.fts_handle.curr_depth > 0):
            raise FireError("the disk is on fire")
        return original(*arguments, **options)

    if hook != "exec_ft_phase":
        original = getattr(CutAdapter, hook)
        setattr(
            BurningAdapter,
            hook,
            lambda self, *arguments, **options: burn(self, original, self, *arguments, **options),
        )
    schedule = SCHEDULES.get(hook, JOB.schedule)
    return replace(JOB, schedule=schedule, adapter=BurningAdapter)
