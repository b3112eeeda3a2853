"""Phases that start with a new optimizer, a new lr scheduler, or both."""

from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch.optim import lr_scheduler

from phasewire.app import ConfigError, FinetuningScheduler, FTSCheckpoint, FTSEarlyStopping, ScheduleError
from tuning import Notes, TunedModule, fit, make_trainer, state_of

# A resumed run finds the files of the run before it.
pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty:UserWarning")


def phases(*changes):
    """Three phases of an epoch each; ``changes`` are the further keys of phases 1 and 2."""
    params = (["head.*"], ["layers.1.*"], ["layers.0.*"])
    extra = ({}, *changes, *({} for _ in range(2 - len(changes))))
    return {
        depth: {"params": names, **({} if depth == 2 else {"max_transition_epoch": depth + 1}), **keys}
        for depth, (names, keys) in enumerate(zip(params, extra, strict=True))
    }


def optimizer(class_path, **init_args):
    return {"optimizer_init": {"class_path": f"torch.optim.{class_path}", "init_args": init_args}}


def scheduler(class_path, *, keys=None, **init_args):
    class_path = f"torch.optim.lr_scheduler.{class_path}"
    return {"lr_scheduler_init": {"class_path": class_path, "init_args": init_args}, **(keys or {})}


HALVING = scheduler("StepLR", step_size=1, gamma=0.5)
ADAM = optimizer("Adam", lr=0.03)


def decaying(optimizer):
    return lr_scheduler.ExponentialLR(optimizer, gamma=0.5)


class Optimizers(Callback):
    """Notes the optimizer and the lr schedulers of every epoch, when its first batch begins."""

    def __init__(self):
        self.epochs = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == 0:
            self.epochs.append((trainer.optimizers[0], [config.scheduler for config in trainer.lr_scheduler_configs]))

    @property
    def kinds(self):
        return [type(optimizer).__name__ for optimizer, _ in self.epochs]

    @property
    def scheduler_kinds(self):
        return [[type(each).__name__ for each in schedulers] for _, schedulers in self.epochs]


def run(tmp_path, module, schedule, *callbacks, epochs=4, restore_best=False, **settings):
    torch.manual_seed(0)
    notes, optimizers = Notes(), Optimizers()
    callback = FinetuningScheduler(schedule, restore_best=restore_best, base_max_lr=0.01, **settings)
    trainer = make_trainer(
        tmp_path, callback, notes, optimizers, FTSEarlyStopping("val_loss", patience=99), *callbacks, max_epochs=epochs
    )
    fit(trainer, module)
    return notes, optimizers, trainer


def initial_lrs(trainer):
    return [group["initial_lr"] for group in trainer.optimizers[0].param_groups]


class TestNewLRScheduler:
    def test_groups_go_back_to_their_initial_rates(self, tmp_path):
        notes, optimizers, _ = run(tmp_path, TunedModule(scheduler=decaying), phases({}, {"new_lr_scheduler": HALVING}))

        assert optimizers.scheduler_kinds == [["ExponentialLR"], ["ExponentialLR"], ["StepLR"], ["StepLR"]]
        assert notes.epochs[1].lrs == pytest.approx((0.05, 0.01))
        assert notes.epochs[2].lrs == pytest.approx((0.1, 0.01, 0.01))
        assert notes.epochs[3].lrs == pytest.approx((0.05, 0.005, 0.005))

    def test_groups_keep_their_rates_if_told_so(self, tmp_path):
        new = {**HALVING, "use_current_optimizer_pg_lrs": True}

        notes, _, trainer = run(tmp_path, TunedModule(scheduler=decaying), phases({}, {"new_lr_scheduler": new}))

        assert notes.epochs[2].lrs == pytest.approx((0.025, 0.005, 0.01))
        assert initial_lrs(trainer) == [0.1, 0.01, 0.01]

    def test_given_rates_come_before_current_ones_and_become_the_initial_ones(self, tmp_path):
        new = {**HALVING, "use_current_optimizer_pg_lrs": True, "init_pg_lrs": [0.3, 0.2]}

        notes, _, trainer = run(tmp_path, TunedModule(scheduler=decaying), phases({}, {"new_lr_scheduler": new}))

        assert notes.epochs[2].lrs == pytest.approx((0.3, 0.2, 0.01))
        assert initial_lrs(trainer) == [0.3, 0.2, 0.01]

    def test_too_few_given_rates_draw_a_warning(self, tmp_path):
        new = {**HALVING, "init_pg_lrs": [0.3]}

        with pytest.warns(UserWarning, match="phase 2, new_lr_scheduler: init_pg_lrs gives 1 learning rate"):
            notes, _, _ = run(tmp_path, TunedModule(scheduler=decaying), phases({}, {"new_lr_scheduler": new}))

        assert notes.epochs[2].lrs == pytest.approx((0.3, 0.005, 0.01))

    def test_the_module_need_not_have_one_before(self, tmp_path):
        notes, optimizers, _ = run(tmp_path, TunedModule(), phases({"new_lr_scheduler": HALVING}))

        assert optimizers.scheduler_kinds == [[], ["StepLR"], ["StepLR"], ["StepLR"]]
        assert [epoch.lrs[0] for epoch in notes.epochs] == pytest.approx([0.1, 0.1, 0.05, 0.025])

    def test_it_takes_the_place_of_all_there_were(self, tmp_path):
        module = TunedModule()

        def configure_optimizers():
            sgd = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=0.1)
            return [sgd], [decaying(sgd), decaying(sgd)]

        module.configure_optimizers = configure_optimizers

        _, optimizers, _ = run(tmp_path, module, phases({}, {"new_lr_scheduler": HALVING}))

        assert optimizers.scheduler_kinds[1:3] == [["ExponentialLR"] * 2, ["StepLR"]]
        assert [len(each.base_lrs) for each in optimizers.epochs[1][1]] == [3, 3]

    def test_lightning_drives_it_as_configured(self, tmp_path):
        new = {**HALVING, "pl_lrs_cfg": {"interval": "step", "frequency": 2, "name": "halving"}}

        notes, _, trainer = run(tmp_path, TunedModule(), phases({"new_lr_scheduler": new}))

        (config,) = trainer.lr_scheduler_configs
        assert (config.interval, config.frequency, config.name, config.monitor) == ("step", 2, "halving", None)
        assert [epoch.lrs[0] for epoch in notes.epochs] == pytest.approx([0.1, 0.1, 0.05, 0.025])

    def test_a_plateau_scheduler_follows_its_metric(self, tmp_path):
        new = scheduler(
            "ReduceLROnPlateau",
            patience=0,
            factor=0.5,
            min_lr=[0.0, 0.008],
            keys={"pl_lrs_cfg": {"monitor": "val_loss"}},
        )

        notes, _, trainer = run(tmp_path, TunedModule([1.0]), phases({"new_lr_scheduler": new}))

        assert notes.epochs[3].lrs == pytest.approx((0.05, 0.008, 0.005))
        assert trainer.lr_scheduler_configs[0].scheduler.min_lrs == [0.0, 0.008, 0.0]

    def test_the_setting_renews_it_in_every_phase(self, tmp_path):
        notes, optimizers, _ = run(tmp_path, TunedModule(scheduler=decaying), phases(), reinit_lr_cfg=HALVING)

        schedulers = [schedulers[0] for _, schedulers in optimizers.epochs]
        assert optimizers.scheduler_kinds == [["ExponentialLR"], ["StepLR"], ["StepLR"], ["StepLR"]]
        assert schedulers[1] is not schedulers[2]
        assert schedulers[2] is schedulers[3]
        assert [epoch.lrs[0] for epoch in notes.epochs] == pytest.approx([0.1, 0.1, 0.1, 0.05])

    def test_the_setting_comes_before_the_key_of_a_phase_and_says_so(self, tmp_path):
        schedule = phases({"new_lr_scheduler": scheduler("ConstantLR")})

        with pytest.warns(UserWarning, match=r"new_lr_scheduler of phase 1 does not count: a setting"):
            _, optimizers, _ = run(tmp_path, TunedModule(), schedule, reinit_lr_cfg=HALVING)

        assert optimizers.scheduler_kinds[1] == ["StepLR"]

    def test_a_function_may_be_given_in_code(self, tmp_path):
        new = scheduler("LambdaLR", lr_lambda=lambda epoch: 1 / (1 + epoch))

        notes, _, _ = run(tmp_path, TunedModule(), phases({"new_lr_scheduler": new}))

        assert notes.epochs[3].lrs == pytest.approx((0.1 / 3, 0.01 / 3, 0.01 / 3))


class TestNewOptimizer:
    def test_it_holds_all_groups_with_the_newest_rates(self, tmp_path):
        notes, optimizers, trainer = run(
            tmp_path, TunedModule(scheduler=decaying), phases({}, {"new_optimizer": ADAM, "lr": 0.002})
        )

        assert optimizers.kinds == ["SGD", "SGD", "Adam", "Adam"]
        assert notes.epochs[2].groups == (
            ("head.weight", "head.bias"),
            ("layers.1.weight", "layers.1.bias"),
            ("layers.0.weight", "layers.0.bias"),
        )
        assert notes.epochs[2].lrs == pytest.approx((0.025, 0.005, 0.002))
        assert initial_lrs(trainer) == [0.03, 0.01, 0.002]

    def test_the_lr_scheduler_goes_on_with_it(self, tmp_path):
        notes, optimizers, _ = run(
            tmp_path, TunedModule(scheduler=decaying), phases({}, {"new_optimizer": ADAM}), epochs=5
        )

        assert len({id(schedulers[0]) for _, schedulers in optimizers.epochs}) == 1
        assert all(schedulers[0].optimizer is optimizer for optimizer, schedulers in optimizers.epochs[2:][:1])
        assert notes.epochs[4].lrs == pytest.approx((0.1 / 16, 0.01 / 8, 0.01 / 4))

    def test_an_lr_scheduler_that_has_not_stepped_yet_goes_on_without_a_warning(self, tmp_path):
        module = TunedModule(scheduler=lambda optimizer: {"scheduler": decaying(optimizer), "frequency": 3})

        notes, _, _ = run(tmp_path, module, phases({"new_optimizer": ADAM}))

        assert [epoch.lrs[0] for epoch in notes.epochs] == pytest.approx([0.1, 0.1, 0.1, 0.05])

    def test_it_begins_without_a_state(self, tmp_path):
        class Steps(Callback):
            seen = ()

            def on_train_epoch_end(self, trainer, pl_module):
                states = trainer.optimizers[0].state.values()
                self.seen += (sorted({float(state["step"]) for state in states if "step" in state}),)

        steps = Steps()

        run(tmp_path, TunedModule(), phases({"new_optimizer": ADAM}, {"new_optimizer": ADAM}), steps)

        assert steps.seen == ([], [2.0], [2.0], [4.0])

    def test_its_options_come_from_the_schedule_and_groups_exempt_from_decay_stay_so(self, tmp_path):
        module = TunedModule(
            optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1, weight_decay=0.5, momentum=0.9),
            only_trainable=False,
        )
        module.no_decay = ["bias"]

        notes, _, trainer = run(
            tmp_path, module, phases({}, {"new_optimizer": optimizer("AdamW", lr=0.03, weight_decay=0.2)})
        )

        assert [group["weight_decay"] for group in trainer.optimizers[0].param_groups] == [0.2, 0.0] * 3
        assert "momentum" not in trainer.optimizers[0].param_groups[0]
        assert notes.epochs[2].groups[:2] == (("head.weight",), ("head.bias",))

    def test_groups_of_the_module_are_kept(self, tmp_path):
        module = TunedModule(scheduler=decaying)

        def configure_optimizers():
            head = module.head
            groups = [{"params": [head.weight]}, {"params": [head.bias], "weight_decay": 0.0, "lr": 0.04}]
            sgd = torch.optim.SGD(groups, lr=0.1, weight_decay=0.5)
            return {"optimizer": sgd, "lr_scheduler": decaying(sgd)}

        module.configure_optimizers = configure_optimizers

        notes, _, trainer = run(tmp_path, module, phases({"new_optimizer": optimizer("AdamW", lr=0.03)}), epochs=3)

        assert notes.epochs[1].groups == (("head.weight",), ("head.bias",), ("layers.1.weight", "layers.1.bias"))
        assert notes.epochs[1].lrs == pytest.approx((0.05, 0.02, 0.01))
        assert [group["weight_decay"] for group in trainer.optimizers[0].param_groups] == [0.01, 0.0, 0.01, 0.01]

    def test_the_setting_renews_it_in_every_phase(self, tmp_path):
        _, optimizers, _ = run(tmp_path, TunedModule(), phases(), reinit_optim_cfg=ADAM)

        assert optimizers.kinds == ["SGD", "Adam", "Adam", "Adam"]
        assert len({id(optimizer) for optimizer, _ in optimizers.epochs}) == 3

    @pytest.mark.filterwarnings("ignore:The optimizer does not hold exactly the parameters of phase 0:UserWarning")
    @pytest.mark.parametrize("keys", [{"new_optimizer": ADAM}, {"new_lr_scheduler": HALVING}], ids=str)
    def test_an_optimizer_that_holds_later_phases_already_holds_each_parameter_once(self, tmp_path, keys):
        notes, _, _ = run(
            tmp_path, TunedModule(only_trainable=False), phases(keys), epochs=3, enforce_phase0_params=False
        )

        assert [len(epoch.groups) for epoch in notes.epochs] == [1, 1, 1]
        assert len(notes.epochs[2].groups[0]) == 8

    def test_the_setting_works_with_a_generated_schedule(self, tmp_path):
        _, optimizers, _ = run(
            tmp_path, TunedModule([1.0]), None, epochs=3, reinit_optim_cfg=ADAM, reinit_lr_cfg=HALVING, max_depth=1
        )

        assert optimizers.kinds == ["SGD"] * 3
        assert optimizers.scheduler_kinds == [[]] * 3

    def test_both_may_start_at_once(self, tmp_path):
        notes, optimizers, trainer = run(
            tmp_path,
            TunedModule(scheduler=decaying),
            phases({}, {"new_optimizer": ADAM, "new_lr_scheduler": HALVING}),
        )

        assert (optimizers.kinds[2], optimizers.scheduler_kinds[2]) == ("Adam", ["StepLR"])
        assert optimizers.epochs[2][1][0].optimizer is optimizers.epochs[2][0]
        assert notes.epochs[2].lrs == pytest.approx((0.03, 0.01, 0.01))
        assert initial_lrs(trainer) == [0.03, 0.01, 0.01]

    def test_rates_that_a_phase_gave_outlive_the_optimizer(self, tmp_path):
        first = {"new_lr_scheduler": {**HALVING, "init_pg_lrs": [0.5]}}
        second = {"new_optimizer": ADAM, "new_lr_scheduler": HALVING}

        notes, _, _ = run(tmp_path, TunedModule(), phases(first, second))

        assert notes.epochs[2].lrs == pytest.approx((0.5, 0.01, 0.01))


class TestRestoringTheBest:
    def best(self, folder):
        return FTSCheckpoint(folder, monitor="val_loss", filename="{epoch}")

    def test_an_optimizer_that_was_started_since_the_best_starts_once_more(self, tmp_path):
        class States(Callback):
            seen = ()

            def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
                if batch_idx == 0:
                    self.seen += (len(trainer.optimizers[0].state),)

        states = States()

        notes, optimizers, trainer = run(
            tmp_path,
            TunedModule([1.0, 2.0, 3.0, 4.0], scheduler=decaying),
            phases({"new_optimizer": ADAM}),
            states,
            self.best(tmp_path),
            restore_best=True,
        )

        assert optimizers.kinds == ["SGD", "Adam", "Adam", "Adam"]
        assert trainer.checkpoint_callback.best_model_path.endswith("epoch=0.ckpt")
        # Phase 2 goes back to epoch 0, whose optimizer was another.
        assert states.seen == (0, 0, 0, 6)
        assert notes.epochs[2].lrs == pytest.approx((0.025, 0.005, 0.01))

    def test_the_state_of_the_same_optimizer_is_restored(self, tmp_path):
        class Steps(Callback):
            seen = ()

            def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
                if batch_idx == 0:
                    states = trainer.optimizers[0].state.values()
                    self.seen += (sorted(float(state["step"]) for state in states if "step" in state),)

        steps = Steps()
        schedule = phases({"new_optimizer": ADAM, "max_transition_epoch": 3})

        run(tmp_path, TunedModule([3.0, 1.0, 2.0, 4.0]), schedule, steps, self.best(tmp_path), restore_best=True)

        assert steps.seen == ([], [], [2.0] * 4, [2.0] * 4)

    def test_an_lr_scheduler_that_was_started_since_the_best_goes_on(self, tmp_path):
        notes, optimizers, _ = run(
            tmp_path,
            TunedModule([1.0, 2.0, 3.0, 4.0], scheduler=decaying),
            phases({"new_lr_scheduler": scheduler("LambdaLR", lr_lambda=lambda epoch: 0.1**epoch)}),
            self.best(tmp_path),
            restore_best=True,
        )

        assert optimizers.epochs[1][1][0] is optimizers.epochs[3][1][0]
        assert notes.epochs[3].lrs == pytest.approx((0.001, 0.0001, 0.0001))
        assert not hasattr(optimizers.epochs[3][1][0], "gamma")


class TestResuming:
    SCHEDULE = phases(
        {"new_optimizer": optimizer("AdamW", lr=0.03), "new_lr_scheduler": scheduler("ConstantLR", total_iters=1)},
        {
            "new_lr_scheduler": scheduler(
                "ReduceLROnPlateau",
                patience=0,
                min_lr=[1e-4, 1e-5, 1e-6],
                keys={"pl_lrs_cfg": {"monitor": "val_loss"}, "init_pg_lrs": [0.02, 0.01]},
            )
        },
    )

    def resumable(self, folder, **settings):
        # Their folders stay those of the first run, as they do for a user who starts the same script again.
        return run(
            folder,
            TunedModule([1.0, 3.0, 2.0, 2.5, 2.7], scheduler=decaying),
            self.SCHEDULE,
            FTSCheckpoint(folder / "best", monitor="val_loss", filename="{epoch}", save_top_k=-1),
            ModelCheckpoint(folder / "every", save_top_k=-1, filename="{epoch}"),
            epochs=5,
            **settings,
        )

    @pytest.mark.parametrize("restore_best", [True, False], ids=["restoring the best", "going on"])
    def test_a_run_with_new_optimizers_resumes_to_the_bit(self, tmp_path, restore_best):
        notes, _, trainer = self.resumable(tmp_path, restore_best=restore_best)
        expected, groups = state_of(trainer.lightning_module), trainer.optimizers[0].state_dict()

        for epoch in range(4):
            torch.manual_seed(epoch)
            module = TunedModule([1.0, 3.0, 2.0, 2.5, 2.7], scheduler=decaying)
            again, resumed = (
                Notes(),
                make_trainer(
                    tmp_path,
                    FinetuningScheduler(self.SCHEDULE, restore_best=restore_best, base_max_lr=0.01),
                    FTSEarlyStopping("val_loss", patience=99),
                    FTSCheckpoint(tmp_path / "best", monitor="val_loss", filename="{epoch}", save_top_k=-1),
                    ModelCheckpoint(tmp_path / "every", save_top_k=-1, filename="{epoch}"),
                    max_epochs=5,
                ),
            )
            resumed.callbacks.insert(0, again)
            fit(resumed, module, ckpt_path=tmp_path / "every" / f"epoch={epoch}.ckpt")

            assert again.epochs == notes.epochs[epoch + 1 :]
            assert all(torch.equal(value, expected[name]) for name, value in module.state_dict().items())
            assert resumed.optimizers[0].state_dict()["param_groups"] == groups["param_groups"]
            assert type(resumed.optimizers[0]).__name__ == "AdamW"


class TestRefusals:
    @pytest.mark.parametrize(
        ("keys", "message"),
        [
            (
                {"new_optimizer": optimizer("SGD", lr=-1.0)},
                r"phase 1, new_optimizer: torch\.optim\.SGD could not .* -1",
            ),
            (
                {"new_optimizer": optimizer("SGD", lr=float("nan"))},
                "phase 1, new_optimizer: .*(?i:the learning rate) .* nan",
            ),
            (
                {"new_optimizer": optimizer("SGD", lr=True)},
                "phase 1, new_optimizer: .*(?i:the learning rate) .* truth value",
            ),
            ({"new_optimizer": optimizer("SGD", lr=10**400)}, "phase 1, new_optimizer: .*(?i:the learning rate)"),
            (
                {"new_lr_scheduler": scheduler("StepLR", step_size=0)},
                "phase 1, new_lr_scheduler: StepLR could not be stepped: ZeroDivisionError",
            ),
            (
                {"new_optimizer": optimizer("LBFGS")},
                "phase 1, new_optimizer: LBFGS holds a single parameter group",
            ),
            (
                {"new_lr_scheduler": scheduler("ReduceLROnPlateau")},
                "phase 1, new_lr_scheduler: ReduceLROnPlateau is stepped with a metric, and none is named",
            ),
            (
                {"new_lr_scheduler": scheduler("ReduceLROnPlateau", min_lr=[0.1] * 5)},
                r"phase 1, new_lr_scheduler: .*ReduceLROnPlateau could not be constructed",
            ),
            (
                {"new_lr_scheduler": {**HALVING, "init_pg_lrs": [0.1, 0.1, 0.1]}},
                "init_pg_lrs gives 3 learning rates, and the optimizer has 2 parameter groups in this phase",
            ),
        ],
        ids=[
            "bad argument",
            "no number",
            "truth value",
            "infinite",
            "no step",
            "single group",
            "no metric",
            "bounds for other groups",
            "too many rates",
        ],
    )
    def test_what_would_fail_in_its_phase_is_refused_before_training(self, tmp_path, keys, message):
        optimizers = Optimizers()

        with pytest.raises(ScheduleError, match=message):
            run(tmp_path, TunedModule(), phases(keys), optimizers)

        assert optimizers.epochs == []

    def test_an_lr_scheduler_that_cannot_be_kept_in_line_is_refused(self, tmp_path):
        new = {"new_lr_scheduler": scheduler("OneCycleLR", max_lr=0.1, total_steps=10)}

        with pytest.raises(ConfigError, match=r"phase 1, new_lr_scheduler: OneCycleLR .* allow_untested=True"):
            run(tmp_path, TunedModule(), phases(new))

    def test_what_lies_beyond_max_depth_is_not_tried(self, tmp_path):
        _, optimizers, _ = run(
            tmp_path, TunedModule(), phases({}, {"new_optimizer": optimizer("SGD", lr=-1.0)}), max_depth=1
        )

        assert optimizers.kinds == ["SGD"] * 4

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"reinit_optim_cfg": {"optimiser_init": {}}}, "reinit_optim_cfg.*Did you mean 'optimizer_init'"),
            (
                {"reinit_lr_cfg": {**HALVING, "init_pg_lrs": [0.1]}},
                "reinit_lr_cfg: init_pg_lrs gives a learning rate for every parameter group there is",
            ),
        ],
    )
    def test_a_setting_of_another_form_is_refused_at_once(self, settings, message):
        with pytest.raises(ConfigError, match=message):
            FinetuningScheduler(**settings)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            (
                {"reinit_optim_cfg": optimizer("Adan")},
                r"FinetuningScheduler, reinit_optim_cfg.optimizer_init.class_path",
            ),
            (
                {"reinit_lr_cfg": scheduler("StepLR")},
                r"reinit_lr_cfg.lr_scheduler_init.init_args: StepLR needs .*step_size",
            ),
        ],
    )
    def test_a_setting_that_names_no_class_or_lacks_arguments_is_refused_in_a_fit(self, tmp_path, settings, message):
        with pytest.raises(ScheduleError, match=message):
            run(tmp_path, TunedModule(), phases(), **settings)


class NoRate(torch.optim.Optimizer):
    """An optimizer without learning rates."""

    def __init__(self, params):
        super().__init__(params, {})


class RateOfGroups(torch.optim.SGD):
    """An optimizer whose learning rate stands in its groups alone."""

    def __init__(self, params, rate=0.03):
        super().__init__(params, lr=rate)
        del self.defaults["lr"]

    def add_param_group(self, param_group):
        super().add_param_group({"lr": 0.03, **param_group})


class Around(torch.optim.SGD):
    """An optimizer that takes the class of another, as ``ZeroRedundancyOptimizer`` does."""

    def __init__(self, params: Any, optimizer_class: type[torch.optim.Optimizer], lr: float = 0.1) -> None:
        super().__init__(params, lr)
        self.inner = optimizer_class(params, lr=lr)


class TestUnusualOptimizers:
    def test_text_names_the_class_that_an_optimizer_takes(self, tmp_path):
        init_args = {"optimizer_class": "torch.optim.Adam", "lr": 0.01}
        new = {"new_optimizer": {"optimizer_init": {"class_path": f"{__name__}.Around", "init_args": init_args}}}

        _, _, trainer = run(tmp_path, TunedModule(), phases(new, {}))

        assert type(trainer.optimizers[0].inner) is torch.optim.Adam

    def test_text_that_names_no_class_is_refused_before_training(self, tmp_path):
        init_args = {"optimizer_class": "torch.optim.Adma"}
        new = {"new_optimizer": {"optimizer_init": {"class_path": f"{__name__}.Around", "init_args": init_args}}}

        with pytest.raises(ScheduleError, match=r"phase 1, new_opt.*optimizer_class: .* has no 'Adma'.* 'Adam' "):
            run(tmp_path, TunedModule(), phases(new, {}))

    def test_one_without_learning_rates_is_refused_before_training(self, tmp_path):
        new = {"new_optimizer": {"optimizer_init": {"class_path": f"{__name__}.NoRate"}}}

        with pytest.raises(ScheduleError, match=r"phase 1, new_optimizer: .*NoRate keeps no learning rate"):
            run(tmp_path, TunedModule(), phases(new))

    def test_one_without_learning_rates_cannot_be_the_modules(self, tmp_path):
        with pytest.raises(ConfigError, match=r"configure_optimizers: NoRate keeps no learning rate"):
            run(tmp_path, TunedModule(optimizer=NoRate), phases())

    def test_the_rate_may_stand_in_the_groups_alone(self, tmp_path):
        new = {"new_optimizer": {"optimizer_init": {"class_path": f"{__name__}.RateOfGroups"}}}
        module = TunedModule([1.0, 2.0, 3.0], optimizer=RateOfGroups, only_trainable=False)

        notes, _, trainer = run(tmp_path, module, phases({}, new), restore_best=True)

        assert notes.epochs[3].lrs == (0.03, 0.01, 0.01)
        assert initial_lrs(trainer) == [0.03, 0.01, 0.01]

    def test_parameters_that_it_refuses_are_found_whichever_phase_thaws_them(self, tmp_path):
        schedule = {
            0: {"params": ["head.weight"], "max_transition_epoch": 1},
            1: {"params": ["layers.0.weight"], "max_transition_epoch": 2, "new_optimizer": optimizer("Muon", lr=0.01)},
            2: {"params": ["layers.0.bias"]},
        }

        with pytest.raises(ScheduleError, match=r"phase 1, new_optimizer: torch\.optim\.Muon could not be constructed"):
            run(tmp_path, TunedModule(), schedule)

    @pytest.mark.parametrize("default_decay", [0.0, 0.5])
    def test_a_group_that_the_module_exempts_from_decay_stays_exempt_through_an_optimizer_without(
        self, tmp_path, default_decay
    ):
        module = TunedModule()

        def configure_optimizers():
            groups = [{"params": [module.head.weight], "weight_decay": 0.5}, {"params": [module.head.bias]}]
            groups[1]["weight_decay"] = 0.0
            return torch.optim.SGD(groups, lr=0.1, weight_decay=default_decay)

        module.configure_optimizers = configure_optimizers
        schedule = phases(
            {"new_optimizer": optimizer("SGD", lr=0.1)},
            {"new_optimizer": optimizer("AdamW", lr=0.1, weight_decay=0.2)},
        )

        _, _, trainer = run(tmp_path, module, schedule)

        assert [group["weight_decay"] for group in trainer.optimizers[0].param_groups] == [0.2, 0.0, 0.2, 0.2]


class Rates(Callback):
    """Notes the rates of every epoch as numbers: a tensor would go on changing."""

    def __init__(self):
        self.epochs = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == 0:
            self.epochs.append([round(float(group["lr"]), 6) for group in trainer.optimizers[0].param_groups])


class TestRatesThatAreTensors:
    def test_groups_do_not_share_one(self, tmp_path):
        module = TunedModule(
            optimizer=lambda parameters: torch.optim.SGD(parameters, lr=torch.tensor(0.1), foreach=False),
            scheduler=decaying,
            only_trainable=False,
        )
        callback, rates = FinetuningScheduler(phases(), restore_best=False, base_max_lr=None), Rates()
        trainer = make_trainer(tmp_path, callback, FTSEarlyStopping("val_loss", patience=99), rates, max_epochs=4)

        fit(trainer, module)

        assert rates.epochs == [[0.1], [0.05, 0.1], [0.025, 0.05, 0.1], [0.0125, 0.025, 0.05]]

    def test_a_new_optimizer_starts_from_its_own(self, tmp_path):
        new = optimizer("SGD", lr=torch.tensor(0.03), foreach=False)
        rates = Rates()

        run(tmp_path, TunedModule(), phases({"new_optimizer": new, "new_lr_scheduler": HALVING}), rates)

        assert rates.epochs == [[0.1], [0.03, 0.01], [0.015, 0.005, 0.01], [0.0075, 0.0025, 0.005]]


class TestSteppingWithAMetric:
    @pytest.mark.parametrize(
        ("new", "message"),
        [
            (
                scheduler(
                    "ReduceLROnPlateau", keys={"pl_lrs_cfg": {"monitor": "val_loss", "reduce_on_plateau": False}}
                ),
                "ReduceLROnPlateau is stepped with a metric, and reduce_on_plateau is off",
            ),
            (
                {**HALVING, "pl_lrs_cfg": {"monitor": "val_loss", "reduce_on_plateau": True}},
                "reduce_on_plateau steps an lr scheduler with a metric, and StepLR takes none",
            ),
        ],
    )
    def test_an_lr_scheduler_that_cannot_be_stepped_so_is_refused(self, tmp_path, new, message):
        with pytest.raises(ScheduleError, match=message):
            run(tmp_path, TunedModule(), phases({"new_lr_scheduler": new}))


def test_an_lr_scheduler_of_lr_schedulers_is_refused_even_if_untested_ones_are_allowed(tmp_path):
    def warm_up(optimizer):
        parts = [lr_scheduler.LinearLR(optimizer), lr_scheduler.ExponentialLR(optimizer, 0.9)]
        return lr_scheduler.SequentialLR(optimizer, parts, milestones=[2])

    with pytest.raises(ConfigError, match="SequentialLR drives other lr schedulers"):
        run(tmp_path, TunedModule(scheduler=warm_up), phases(), allow_untested=True)


@pytest.mark.filterwarnings("ignore:Training goes on in phase 1 with another schedule:UserWarning")
def test_what_later_phases_start_is_tried_when_a_run_resumes(tmp_path):
    def train(schedule, **options):
        trainer = make_trainer(
            tmp_path,
            FinetuningScheduler(schedule, restore_best=False),
            FTSEarlyStopping("val_loss", patience=99),
            ModelCheckpoint(tmp_path / "every", save_top_k=-1, filename="{epoch}"),
            max_epochs=2,
        )
        fit(trainer, TunedModule(), **options)

    train(phases())

    with pytest.raises(ScheduleError, match=r"phase 2, new_optimizer: torch\.optim\.SGD could not be constructed"):
        train(phases({}, {"new_optimizer": optimizer("SGD", lr=-1.0)}), ckpt_path=tmp_path / "every" / "epoch=1.ckpt")
