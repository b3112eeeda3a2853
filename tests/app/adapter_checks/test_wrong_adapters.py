"""Each rule of the contract fails an adapter that is wrong in just that respect, by its name."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path

import pytest
import torch

from phasewire.adapters import AdapterError, Naming, Piece, Renaming, StrategyAdapter
from phasewire.adapters.tensor_layout import Layout
from phasewire.app.adapter_checks import RULES, BrokenRuleError, ImportProber, checker_for, rule_named
from phasewire.app.import_probe.torch_state import differences, torch_state

# -- adapters that are wrong in one respect ------------------------------------------------------------------------


class PlainClass:
    pass


class OfNoVersion(StrategyAdapter):
    api_version = None


class OfAnotherVersion(StrategyAdapter):
    api_version = "2.0"


class FailsToBuild(StrategyAdapter):
    def __init__(self, **cfg) -> None:
        raise KeyError("licence")


class TakesItsOptionsAway(StrategyAdapter):
    def __init__(self, layers=(), **cfg) -> None:
        super().__init__(**cfg)
        layers.pop()


class AcceptsEveryOption(StrategyAdapter):
    def __init__(self, **cfg) -> None:
        super().__init__()


class RefusesWithoutTheName(StrategyAdapter):
    def __init__(self, **cfg) -> None:
        super().__init__()
        if cfg:
            raise AdapterError("Wrong options.")


class ConnectsWithoutSuper(StrategyAdapter):
    def connect(self, fts_parent) -> None:
        self.parent = fts_parent


class FailsToConnect(StrategyAdapter):
    def connect(self, fts_parent) -> None:
        raise LookupError("no such model")


class NamesCopies(StrategyAdapter):
    def get_named_params_for_schedule_validation(self):
        return {name: copy.deepcopy(parameter) for name, parameter in self.pl_module.named_parameters()}


class InventsNames(StrategyAdapter):
    def fts_optim_transform(self, orig_pl, inspect_only=False):
        return [f"{name}_orig" for name in orig_pl]


class GivesATuple(StrategyAdapter):
    def fts_optim_transform(self, orig_pl, inspect_only=False):
        return tuple(orig_pl)


class GivesNamesTwice(StrategyAdapter):
    def fts_optim_transform(self, orig_pl, inspect_only=False):
        return [*orig_pl, *orig_pl]


class HasNoInverse(StrategyAdapter):
    def get_named_params_for_schedule_validation(self):
        return {f"acme.{name}": parameter for name, parameter in self.pl_module.named_parameters()}

    def fts_optim_transform(self, orig_pl, inspect_only=False):
        return [name.removeprefix("acme.") for name in orig_pl]


class CountsWhenLookedAt(StrategyAdapter):
    seen = 0

    def fts_optim_transform(self, orig_pl, inspect_only=False):
        self.seen += 1
        return orig_pl


class InspectsByTransforming(StrategyAdapter):
    def __init__(self, **cfg) -> None:
        super().__init__(**cfg)
        self.thawed = []

    def fts_optim_transform(self, orig_pl, inspect_only=False):
        if not inspect_only:
            self.thawed.append(list(orig_pl))
        return orig_pl

    def fts_optim_inspect(self, orig_pl):
        return self.fts_optim_transform(orig_pl)


class SortsItsArgument(StrategyAdapter):
    def fts_optim_transform(self, orig_pl, inspect_only=False):
        orig_pl.append(orig_pl.pop(0))
        return list(orig_pl)


class ThawsWhenLookedAt(StrategyAdapter):
    def fts_optim_transform(self, orig_pl, inspect_only=False):
        for parameter in self.pl_module.parameters():
            parameter.requires_grad = not parameter.requires_grad
        return orig_pl


class GeneratesElsewhere(StrategyAdapter):
    def gen_ft_schedule(self, dump_loc):
        return super().gen_ft_schedule(Path(dump_loc).parent / "elsewhere")


class GeneratesNothing(StrategyAdapter):
    def gen_ft_schedule(self, dump_loc):
        super().gen_ft_schedule(dump_loc)


class ForgetsToWrite(StrategyAdapter):
    def gen_ft_schedule(self, dump_loc):
        return Path(dump_loc) / "schedule.yaml"


class GeneratesNoSchedule(StrategyAdapter):
    def gen_ft_schedule(self, dump_loc):
        path = Path(dump_loc) / "schedule.yaml"
        path.write_text("first: [head]")
        return path


class GeneratesOnEveryRank(StrategyAdapter):
    def gen_ft_schedule(self, dump_loc):
        path = Path(dump_loc) / "schedule.yaml"
        path.write_text("0: {params: [head.*]}\n1: {params: [blocks.*]}\n")
        return path


class GeneratesWhatDoesNotValidate(StrategyAdapter):
    def gen_ft_schedule(self, dump_loc):
        return self.fts_handle.save_schedule("schedule.yaml", {0: {"params": ["no_such_layer"]}}, dump_loc)


class ValidatesWithoutAnAnswer(StrategyAdapter):
    def validate_ft_sched(self):
        super().validate_ft_sched()


class TellsAnotherDepth(StrategyAdapter):
    def validate_ft_sched(self):
        depth, epoch = super().validate_ft_sched()
        return depth + 1, epoch


class CallsAHookItself(StrategyAdapter):
    def validate_ft_sched(self):
        self.on_before_init_fts()
        return super().validate_ft_sched()


class BuildsItselfAnew(StrategyAdapter):
    def on_before_init_fts(self) -> None:
        self.__init__()


class StartsTheFitItself(StrategyAdapter):
    def on_after_init_fts(self) -> None:
        super().on_after_init_fts()
        self.on_before_fts_fit_start()


class RebuildsTheOptimizerItself(StrategyAdapter):
    def on_before_fts_fit_start(self) -> None:
        self.phase0_optimizer_override()


class ChecksTheMetricItself(StrategyAdapter):
    def on_phase_thawed(self, depth) -> None:
        self.on_validate_monitor_metric("val_loss")


class CollectsTheStateItself(StrategyAdapter):
    def on_phase_thawed(self, depth) -> None:
        self.state = self.lightning_module_state_dict()


class LoadsWhileItTranslates(StrategyAdapter):
    def before_restore_model(self, checkpoint):
        self.load_model_state_dict(checkpoint)
        return checkpoint


class TranslatesWhileItLoads(StrategyAdapter):
    def load_model_state_dict(self, checkpoint, strict=True) -> None:
        super().load_model_state_dict(self.before_restore_model(checkpoint), strict=strict)


class PreparesOptimizersWhileItLoads(StrategyAdapter):
    def load_model_state_dict(self, checkpoint, strict=True) -> None:
        self.on_before_restore_optimizers_and_lrs()
        super().load_model_state_dict(checkpoint, strict=strict)


class GeneratesBesideAGivenSchedule(StrategyAdapter):
    def validate_ft_sched(self):
        if self.fts_handle.epoch_transitions_only:
            self.gen_ft_schedule(self.fts_handle.log_dir)
        return super().validate_ft_sched()


class PreparesForAFitInEveryStage(StrategyAdapter):
    def connect(self, fts_parent) -> None:
        super().connect(fts_parent)
        if not self.trainer.training:
            self.on_before_init_fts()


class LeavesTheOptimizerAsItIs(StrategyAdapter):
    def phase0_optimizer_override(self) -> None:
        pass


class BeginsWithoutSuper(StrategyAdapter):
    def on_after_init_fts(self) -> None:
        self.ready = True


def thaw_everything(module, thaw_pl, translation_func=None, init_thaw=False):
    return StrategyAdapter.base_ft_phase(module, [name for name, _ in module.named_parameters()])


def thaw_the_first(module, thaw_pl, translation_func=None, init_thaw=False):
    return StrategyAdapter.base_ft_phase(module, thaw_pl[:1])


class ThawsTooMuch(StrategyAdapter):
    def __init__(self, **cfg) -> None:
        super().__init__(**cfg)
        self.exec_ft_phase = partial(thaw_everything)


class ThawsTooLittle(StrategyAdapter):
    def __init__(self, **cfg) -> None:
        super().__init__(**cfg)
        self.exec_ft_phase = partial(thaw_the_first)


class FailsInAPhase(StrategyAdapter):
    def on_phase_thawed(self, depth) -> None:
        if depth == 1:
            raise ZeroDivisionError("scale")


class FailsWithASchedule(StrategyAdapter):
    def on_before_fts_fit_start(self) -> None:
        if self.fts_handle.epoch_transitions_only:
            raise NotImplementedError("only generated schedules")


class TranslatesOneWayOnly(StrategyAdapter):
    checkpoint_names = "acme"

    def lightning_module_state_dict(self):
        return {f"acme.{name}": value for name, value in super().lightning_module_state_dict().items()}


class RestoresOtherValues(StrategyAdapter):
    def before_restore_model(self, checkpoint):
        checkpoint["state_dict"] = {name: value + 1 for name, value in checkpoint["state_dict"].items()}
        return checkpoint


class RenamesInSecret(StrategyAdapter):
    def lightning_module_state_dict(self):
        return {f"acme.{name}": value for name, value in super().lightning_module_state_dict().items()}

    def before_restore_model(self, checkpoint):
        states = checkpoint["state_dict"].items()
        checkpoint["state_dict"] = {name.removeprefix("acme."): value for name, value in states}
        return checkpoint


class SaysItRenamesAndDoesNot(StrategyAdapter):
    checkpoint_names = "acme"


class LoadsLeniently(StrategyAdapter):
    def load_model_state_dict(self, checkpoint, strict=True) -> None:
        super().load_model_state_dict(checkpoint, strict=False)


class LoadsStrictly(StrategyAdapter):
    def load_model_state_dict(self, checkpoint, strict=True) -> None:
        super().load_model_state_dict(checkpoint)


class RestoresNothing(StrategyAdapter):
    def before_restore_model(self, checkpoint) -> None:
        checkpoint["seen"] = True


class GivesADictOfDicts(StrategyAdapter):
    def checkpoint_renamings(self):
        return {"acme": {"blocks": "layers"}}


class TakesTheWordForOwnNames(StrategyAdapter):
    def checkpoint_renamings(self):
        return {"module": Renaming({"blocks": "layers"})}


class RenamesTwoToOne(StrategyAdapter):
    def checkpoint_renamings(self):
        return {"acme": Renaming((lambda name: name.replace("blocks.1", "blocks.0"), lambda name: name))}


class RenamesWithoutAWayBack(StrategyAdapter):
    def checkpoint_renamings(self):
        return {"acme": Renaming((lambda name: f"acme.{name}", lambda name: name))}


class RenamesAnewEachTime(StrategyAdapter):
    calls = 0

    def checkpoint_renamings(self):
        self.calls += 1
        return {"acme": Renaming({"head": f"head{self.calls}"})}


class _OfPieces(Naming):
    """A naming of a plug-in's own, that does what it is told with the name of each tensor."""

    def __init__(self, pieces) -> None:
        self.pieces = pieces

    def layout(self, own_names, *, word=""):
        return Layout(self.pieces(own_names), word=word)

    def own_name(self, stored):
        return stored


class ForgetsATensor(StrategyAdapter):
    def checkpoint_renamings(self):
        return {"acme": _OfPieces(lambda names: {name: Piece(name) for name in names if name != "head.bias"})}


class NamesWhatIsNotThere(StrategyAdapter):
    def checkpoint_renamings(self):
        both = {"head.weight": Piece("head.weight"), "head.scale": Piece("head.weight", derived=True)}
        return {"acme": _OfPieces(lambda names: {**{name: Piece(name) for name in names}, **both})}


class JoinsWhatDoesNotFit(StrategyAdapter):
    def checkpoint_renamings(self):
        joint = {"head.weight": Piece("head", 0, ((0, 1),)), "head.bias": Piece("head", 0, ((1, 1),))}
        return {"acme": _OfPieces(lambda names: {**{name: Piece(name) for name in names}, **joint})}


class _Halved(Layout):
    def stored_value(self, stored, get, *room):
        return super().stored_value(stored, get, *room) / 2


class ChangesValues(StrategyAdapter):
    def checkpoint_renamings(self):
        class Halving(_OfPieces):
            def layout(self, own_names, *, word=""):
                return _Halved(self.pieces(own_names), word=word)

        return {"acme": Halving(lambda names: {name: Piece(name) for name in names})}


WRONG = [
    (PlainClass, "is-an-adapter", "PlainClass"),
    (OfNoVersion, "is-an-adapter", "api_version = None"),
    (OfAnotherVersion, "is-an-adapter", r"version 2\.0 .* drives 1\.x"),
    (FailsToBuild, "constructs-from-cfg", "KeyError: 'licence'"),
    (AcceptsEveryOption, "refuses-unknown-options", "was accepted"),
    (RefusesWithoutTheName, "refuses-unknown-options", r"Wrong options\."),
    (ConnectsWithoutSuper, "connects", r"super\(\)\.connect"),
    (FailsToConnect, "connects", "stopped in connect with LookupError: no such model"),
    (NamesCopies, "names-the-modules-parameters", "'head.weight'|'blocks.0.0.weight'"),
    (InventsNames, "transform-gives-module-names", "_orig"),
    (GivesATuple, "transform-gives-module-names", "list of names"),
    (GivesNamesTwice, "transform-gives-module-names", "twice"),
    (HasNoInverse, "names-round-trip", "'acme.head.bias', 'acme.head.weight' became 'head.bias', 'head.weight', and"),
    (CountsWhenLookedAt, "inspect-only-changes-nothing", "changed the adapter"),
    (InspectsByTransforming, "inspect-only-changes-nothing", "changed the adapter"),
    (SortsItsArgument, "inspect-only-changes-nothing", "changed the list"),
    (ThawsWhenLookedAt, "inspect-only-changes-nothing", "or the module"),
    (GeneratesElsewhere, "generates-in-the-folder", "outside the folder"),
    (GeneratesNothing, "generates-in-the-folder", "returned None"),
    (ForgetsToWrite, "generates-in-the-folder", "no such file exists"),
    (GeneratesNoSchedule, "generates-in-the-folder", "no schedule"),
    (GeneratesOnEveryRank, "generates-on-rank-zero", r"On rank 1 it wrote schedule\.yaml and returned"),
    (GeneratesWhatDoesNotValidate, "generated-schedule-validates", "no_such_layer"),
    (ValidatesWithoutAnAnswer, "generated-schedule-validates", "returned None"),
    (TellsAnotherDepth, "generated-schedule-validates", "deepest phase is 6"),
    (CallsAHookItself, "hooks-in-order", "validate_ft_sched, on_before_init_fts"),
    (BuildsItselfAnew, "hooks-in-order", "on_before_init_fts, __init__, gen_ft_schedule"),
    (StartsTheFitItself, "hooks-in-order", "on_before_fts_fit_start, on_before_fts_fit_start"),
    (RebuildsTheOptimizerItself, "hooks-in-order", "on_before_fts_fit_start, phase0_optimizer_override"),
    (ChecksTheMetricItself, "hooks-in-order", "on_validate_monitor_metric was called 3 times; the contract says 1"),
    (CollectsTheStateItself, "hooks-in-order", "lightning_module_state_dict was called 4 times; the contract says 2"),
    (LoadsWhileItTranslates, "hooks-in-order", "before_restore_model, load_model_state_dict, load_model_state_dict"),
    (TranslatesWhileItLoads, "hooks-in-order", "load_model_state_dict, before_restore_model"),
    (PreparesOptimizersWhileItLoads, "hooks-in-order", "load_model_state_dict, on_before_restore_optimizers_and_lrs"),
    (GeneratesBesideAGivenSchedule, "hooks-in-order", "In a fit with a given schedule .*, gen_ft_schedule"),
    (PreparesForAFitInEveryStage, "hooks-in-order", "In a restore outside a fit .*, on_before_init_fts"),
    (LeavesTheOptimizerAsItIs, "thaws-exactly-the-phase", "In phase 0 the optimizer held too much: blocks"),
    (BeginsWithoutSuper, "thaws-exactly-the-phase", "Phase 0 thawed too little: not head.bias, head.weight"),
    (ThawsTooMuch, "thaws-exactly-the-phase", "too much: blocks"),
    (ThawsTooLittle, "thaws-exactly-the-phase", "too little: not head.weight"),
    (FailsInAPhase, "implicit-schedule-trains", "stopped in on_phase_thawed with ZeroDivisionError: scale"),
    (FailsWithASchedule, "explicit-schedule-trains", "only generated schedules"),
    (GivesADictOfDicts, "renamings-round-trip", "gave {'acme': {'blocks': 'layers'}}"),
    (TakesTheWordForOwnNames, "renamings-round-trip", "calls a naming 'module', the word for the module's own"),
    (RenamesTwoToOne, "renamings-round-trip", r"calls both 'blocks\.0\.0\.weight' and 'blocks\.1\.0\.weight'"),
    (RenamesWithoutAWayBack, "renamings-round-trip", r"'acme' does not go back: 'blocks\.0\.0\.weight' becomes"),
    (RenamesAnewEachTime, "renamings-round-trip", "Called twice, it gave two namings called 'acme'"),
    (ForgetsATensor, "renamings-round-trip", r"'acme' has no place for 'head\.bias'"),
    (NamesWhatIsNotThere, "renamings-round-trip", r"'acme' gives 'head\.scale', which the module does not have"),
    (JoinsWhatDoesNotFit, "renamings-round-trip", r"With 'acme': 'head\.bias' has the shape \(1,\)"),
    (ChangesValues, "renamings-round-trip", r"With 'acme', 'blocks\.0\.0\.weight'.* came back with other values"),
    (RenamesInSecret, "tells-its-checkpoint-names", "acme.head.bias"),
    (SaysItRenamesAndDoesNot, "tells-its-checkpoint-names", "'acme', and all names in the state dict are the module's"),
    (TranslatesOneWayOnly, "checkpoint-round-trip", "cannot be restored"),
    (RestoresOtherValues, "checkpoint-round-trip", "other values"),
    (RestoresNothing, "before-restore-returns-the-checkpoint", "returned None"),
    (LoadsLeniently, "load-minds-strict", "strict=True a missing key was passed over"),
    (LoadsStrictly, "load-minds-strict", "strict=False a missing key raised"),
]
FOUND_AT_IMPORT = {"imports", "leaves-torch-alone"}


@pytest.mark.parametrize(("wrong", "rule", "message"), WRONG, ids=[case[0].__name__ for case in WRONG])
def test_a_wrong_adapter_breaks_the_rule_by_its_name(
    wrong: type, rule: str, message: str, prober: ImportProber
) -> None:
    checker = checker_for(wrong, prober=prober)
    with pytest.raises(BrokenRuleError, match=rf"(?s)^rule {rule}: .*({message})"):
        checker.verify(rule)
    checker.close()


def test_options_that_an_adapter_changes_are_seen(prober: ImportProber) -> None:
    checker = checker_for(TakesItsOptionsAway, {"layers": ["a", "b", "c"]}, prober=prober)
    with pytest.raises(BrokenRuleError, match=r"rule constructs-from-cfg: The options became \{'layers': \['a'\]\}"):
        checker.verify("constructs-from-cfg")
    checker.close()


def test_every_rule_has_a_wrong_adapter() -> None:
    assert {rule.name for rule in RULES} == {rule for _, rule, _ in WRONG} | FOUND_AT_IMPORT


def test_what_a_broken_rule_leaves_nothing_of_is_not_checked(prober: ImportProber) -> None:
    checker = checker_for(PlainClass, prober=prober)
    assert checker.verify("hooks-in-order") == "The rule connects must hold first."
    checker.close()


def test_every_needed_rule_stands_before_the_one_that_needs_it() -> None:
    order = [rule.name for rule in RULES]
    for rule in RULES:
        assert all(rule_named(needed).name in order[: order.index(rule.name)] for needed in rule.needs), rule.name


# -- imports -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "rule", "message"),
    [
        (
            (
                "torch.set_default_dtype(torch.float64)\ntorch.use_deterministic_algorithms(True)\n"
                "torch.set_grad_enabled(False)\ntorch.set_num_threads(3)\ntorch.manual_seed(7)\n"
            ),
            "leaves-torch-alone",
            (
                r"changes the default dtype \(from torch.float32 to torch.float64\), whether gradients are .*, "
                r"the deterministic algorithms .*, the number of threads .*, the random state"
            ),
        ),
        ("import sys\nsys.exit(3)\n", "imports", "SystemExit: 3"),
        ("raise KeyboardInterrupt\n", "imports", "KeyboardInterrupt"),
        ("import os\nos._exit(4)\n", "imports", "ended the process with code 4"),
    ],
    ids=["torch", "exit", "interrupt", "hard exit"],
)
def test_an_import_with_consequences_is_found_in_a_process_of_its_own(
    lines: str, rule: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prober: ImportProber
) -> None:
    (tmp_path / "imported_with_care.py").write_text(
        f"import torch\nfrom phasewire.adapters import StrategyAdapter\n{lines}\nclass Adapter(StrategyAdapter): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    checker = checker_for("imported_with_care:Adapter", prober=prober)
    with pytest.raises(BrokenRuleError, match=rf"^rule {rule}: .*{message}"):
        checker.verify(rule)
    checker.close()
    assert torch.get_default_dtype() == torch.float32


def test_a_change_of_torch_is_named_with_both_values() -> None:
    before = torch_state()
    assert differences(before, torch_state()) == ()
    torch.set_float32_matmul_precision("high")
    try:
        assert differences(before, torch_state()) == ("the precision of float32 products (from highest to high)",)
    finally:
        torch.set_float32_matmul_precision("highest")
