"""Random cases, the same for the same number: modules, schedules, optimizers, lr schedulers, metrics and settings."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from case_timeline import phases_of
from parity_case import Case, Options, inverse, lr_scheduler, shrinking, warm
from peer_faults import first_groups, keeps_layout


def random_case(number: int) -> Case:
    """Make the case of a number."""
    return _Maker(Random(f"parity {number}"), number).case()  # noqa: S311 - nothing is kept secret


@dataclass
class _Maker:
    random: Random
    number: int

    def case(self) -> Case:
        case = self._module()
        case = self._phases(case)
        case = replace(case, **self._training(case), settings={**case.settings, **self._settings()})
        return self._reinitialisations(case)

    def _is(self, probability: float) -> bool:
        return self.random.random() < probability

    def _module(self) -> Case:
        tied = self._is(0.2)
        count = self.random.randint(2 if tied else 1, 4)
        widths = (4,) * count if tied else tuple(self.random.randint(2, 5) for _ in range(count))
        return Case(
            name=f"random {self.number}",
            schedule=None,
            widths=widths,
            norms=tuple(index for index in range(count) if self._is(0.3)),
            tied=tied,
            no_decay=self.random.choice([("bias",), ("norm",), ("bias", "norm")]) if self._is(0.35) else (),
            seed=self.number,
            batches=self.random.randint(1, 3),
        )

    # -- schedules -----------------------------------------------------------------------------------------------

    def _phases(self, case: Case) -> Case:
        only_epochs = self._is(0.2)
        rates = {"base_max_lr": self.random.choice([0.02, 0.005])} if self._is(0.6) else {}
        if self._is(0.2) and not only_epochs:
            return replace(case, settings=rates)
        names = [name for name, _ in case.module().named_parameters()]
        parts = self._partition(names)
        epochs = self._epochs(len(parts), every=only_epochs)
        schedule = {}
        for depth, part in enumerate(parts):
            phase: dict[str, Any] = {"params": self._patterns(part, names)}
            if epochs[depth] is not None:
                phase["max_transition_epoch"] = epochs[depth]
            if depth > 0 and self._is(0.5):
                phase["lr"] = self.random.choice([0.03, 0.01, 1e-3])
            schedule[depth] = phase
        if case.tied and self._is(0.3):
            schedule[0]["params"].append(f"blocks.{len(case.widths) - 1}.linear.weight")
        return replace(
            case, schedule=schedule, settings={**rates, **({"epoch_transitions_only": True} if only_epochs else {})}
        )

    def _partition(self, names: Sequence[str]) -> list[list[str]]:
        """Deal parameters out to phases, layer by layer from the last one; some are left out."""
        count = min(self.random.choice([1, 2, 2, 2, 3, 3, 3, 3, 4, 4]), len(names))
        order = list(reversed(names))
        if self._is(0.25):
            self.random.shuffle(order)
        cuts = sorted(self.random.sample(range(1, len(order)), count - 1))
        parts = [order[start:end] for start, end in zip([0, *cuts], [*cuts, len(order)], strict=True)]
        if self._is(0.2):
            parts[-1] = parts[-1][:-1]
        if len(parts) > 2 and self._is(0.1):
            parts[self.random.randrange(1, len(parts))] = []
        return parts if parts[0] else [list(names)]

    def _patterns(self, wanted: Sequence[str], names: Sequence[str]) -> list[str]:
        """Write a phase as patterns and names that take what is wanted, each parameter once."""
        layers = {name.rpartition(".")[0] for name in names}
        blocks = {name.split(".linear")[0].split(".norm")[0] for name in names}
        candidates = [rf"{re.escape(part)}\..*" for part in sorted(layers | blocks)]
        candidates += [*sorted(blocks), r"blocks\.\d\.linear\.weight", r".*bias$", r"blocks\.(?!0)\d\..*", "head|blo"]
        candidates += [r"blocks\.[12]\.(linear|norm)\.\w+", r"blocks\.\d\.norm", ".*"]
        self.random.shuffle(candidates)
        missing, patterns = list(wanted), []
        for pattern in candidates[: self.random.randint(0, len(candidates))]:
            taken = [name for name in names if re.match(pattern, name)]
            if taken and pattern not in names and all(name in missing for name in taken):
                patterns.append(pattern)
                missing = [name for name in missing if name not in taken]
        return patterns + missing

    def _epochs(self, count: int, *, every: bool) -> list[int | None]:
        epoch, epochs = 0, []
        for depth in range(count):
            # The peer fails where phase 0 ends at epoch 0.
            epoch += self.random.choice([1, 1, 2, 2, 3]) if not self._is(0.01 if depth == 0 else 0.1) else 0
            epochs.append(epoch if every or self._is(0.65) else self.random.choice([None, None, -1]))
        return epochs

    # -- training ------------------------------------------------------------------------------------------------

    def _training(self, case: Case) -> dict[str, Any]:
        optimizer = self._optimizer()
        # The peer fails where phase 0 is rebuilt of an Adagrad, or a new optimizer splits groups that were one.
        rebuilt = 0.05 if optimizer["class_path"].endswith("Adagrad") else 0.75 if case.no_decay else 0.35
        only_epochs = case.settings.get("epoch_transitions_only", False)
        return {
            "val_losses": tuple(self.random.randint(1, 12) / 4 for _ in range(9)),
            "max_epochs": self.random.randint(4, 8),
            "optimizer": optimizer,
            "optimizer_gets": "all" if self._is(rebuilt) else self.random.choice(["trainable"] * 5 + ["one by one"]),
            "lr_schedulers": () if self._is(0.3) else (self._lr_scheduler(),),
            "stopping": None
            if only_epochs
            else {
                "patience": self.random.choice([1, 1, 1, 2, 2, 3]),
                "min_delta": self.random.choice([0.0, 0.0, 0.5]),
            },
            "checkpoint": {"save_top_k": self.random.choice([1, 1, 2, -1])},
        }

    def _settings(self) -> dict[str, Any]:
        settings: dict[str, Any] = {}
        if self._is(0.25):
            settings["restore_best"] = False
        if self._is(0.15):
            settings["max_depth"] = self.random.randint(0, 3)
        if self._is(0.1):
            settings["enforce_phase0_params"] = False
        # With restore_best, the peer lets the batch norm layers of all later phases update their statistics.
        if self._is(0.07 if settings.get("restore_best", True) else 0.5):
            settings["frozen_bn_track_running_stats"] = False
        if self._is(0.25):
            settings["apply_lambdas_new_pgs"] = True
        return settings

    def _optimizer(self) -> dict[str, Any]:
        decay = {"weight_decay": 0.1} if self._is(0.5) else {}
        kinds: list[tuple[str, dict[str, Any]]] = [
            ("SGD", {"lr": 0.05}),
            ("SGD", {"lr": 0.05, "momentum": 0.9}),
            ("SGD", {"lr": 0.02, "momentum": 0.8, "nesterov": True}),
            ("Adam", {"lr": 0.01}),
            ("Adam", {"lr": 0.01, "amsgrad": True}),
            ("AdamW", {"lr": 0.01, "betas": [0.8, 0.99]}),
            ("RMSprop", {"lr": 0.01, "momentum": 0.5}),
            ("Adagrad", {"lr": 0.05}),
            ("Adadelta", {"lr": 1.0}),
            ("NAdam", {"lr": 0.01}),
            ("RAdam", {"lr": 0.01}),
            ("Adamax", {"lr": 0.01}),
        ]
        name, arguments = self.random.choice(kinds)
        return {"class_path": f"torch.optim.{name}", "init_args": {**arguments, **decay}}

    def _lr_scheduler(self) -> dict[str, Any]:
        choose = self.random.choice
        makers: list[Callable[[], Options]] = [
            lambda: lr_scheduler("LambdaLR", lr_lambda=choose([inverse, warm])),
            lambda: lr_scheduler("MultiplicativeLR", lr_lambda=shrinking),
            lambda: lr_scheduler("StepLR", step_size=choose([1, 2, 3]), gamma=choose([0.5, 0.7])),
            lambda: lr_scheduler("MultiStepLR", milestones=choose([[1, 3], [2, 4, 5]]), gamma=0.5),
            lambda: lr_scheduler("ExponentialLR", gamma=choose([0.7, 0.9])),
            lambda: lr_scheduler("CosineAnnealingLR", T_max=choose([3, 6]), eta_min=choose([0.0, 1e-4])),
            lambda: lr_scheduler("CosineAnnealingWarmRestarts", T_0=choose([2, 3]), T_mult=choose([1, 2])),
            lambda: lr_scheduler("ConstantLR", factor=0.5, total_iters=choose([2, 4])),
            lambda: lr_scheduler("LinearLR", start_factor=0.25, total_iters=choose([3, 6])),
            lambda: lr_scheduler("ReduceLROnPlateau", patience=choose([0, 1]), factor=0.5, min_lr=choose([0.0, 2e-3])),
        ]
        given = dict(choose(makers)())
        if given["class_path"].endswith("ReduceLROnPlateau"):
            return {**given, "monitor": "val_loss"}
        if self._is(0.4):
            given["interval"] = "step"
        if self._is(0.2):
            given["frequency"] = 2
        return given

    # -- new optimizers and lr schedulers ------------------------------------------------------------------------

    def _reinitialisations(self, case: Case) -> Case:
        if case.schedule is None:
            return self._settings_for_every_phase(case)
        schedule = {depth: dict(phase) for depth, phase in case.schedule.items()}
        # The peer loads state of before a new optimizer into it, unless the phase that restores starts another one.
        again = 0.7 if case.settings.get("restore_best", True) else 0.2
        for depth, phase in list(schedule.items())[1:]:
            renewed = any("new_optimizer" in schedule[earlier] for earlier in range(depth))
            if self._is(again if renewed else self._new_optimizers(case)):
                phase["new_optimizer"] = {"optimizer_init": self._optimizer()}
            if case.lr_schedulers and self._is(0.35):
                phase["new_lr_scheduler"] = self._new_lr_scheduler()
                if self._is(0.25):
                    rates = [self.random.choice([0.02, 0.01, 5e-3]) for _ in range(group_count(case, schedule, depth))]
                    phase["new_lr_scheduler"]["init_pg_lrs"] = rates
        return replace(case, schedule=schedule)

    def _settings_for_every_phase(self, case: Case) -> Case:
        settings = dict(case.settings)
        if self._is(2 * self._new_optimizers(case)):
            settings["reinit_optim_cfg"] = {"optimizer_init": self._optimizer()}
        if case.lr_schedulers and self._is(0.45):
            settings["reinit_lr_cfg"] = self._new_lr_scheduler()
        return replace(case, settings=settings)

    def _new_optimizers(self, case: Case) -> float:
        """How often a phase starts with a new optimizer; the peer mixes up groups that it would not make itself."""
        return 0.2 if keeps_layout(case) else 0.02

    def _new_lr_scheduler(self) -> dict[str, Any]:
        given = self._lr_scheduler()
        options = {key: given.pop(key) for key in ("interval", "frequency", "monitor") if key in given}
        config: dict[str, Any] = {"lr_scheduler_init": given}
        if options:
            config["pl_lrs_cfg"] = options
        if self._is(0.4):
            config["use_current_optimizer_pg_lrs"] = True
        return config


def group_count(case: Case, schedule: Options, depth: int) -> int:
    """Tell how many parameter groups the optimizer has in a phase."""
    case = replace(case, schedule=schedule)
    if case.optimizer_gets == "all" and not case.settings.get("enforce_phase0_params", True):
        return 1
    per_phase = 2 if case.no_decay else 1
    return len(first_groups(case)) + sum(per_phase for phase in phases_of(case)[1 : depth + 1] if phase["params"])
