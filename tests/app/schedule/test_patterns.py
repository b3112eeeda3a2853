"""Which parameters the patterns of a schedule take."""

from collections.abc import Mapping

import pytest
import torch
from torch import nn

from phasewire.app import Phase, Schedule, ScheduleError, ScheduleValidator
from phasewire.app.schedule import load_schedule, shared_parameter_names


class Tied(nn.Module):
    """An embedding and an output layer that share their weight, as language models have them."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(3, 2)
        self.body = nn.Linear(2, 2)
        self.out = nn.Linear(2, 3)
        self.out.weight = self.embed.weight


class CountedNames(Mapping):
    """Names that count how often they are passed over as a whole."""

    def __init__(self, names):
        self._names = dict.fromkeys(names, nn.Parameter(torch.zeros(1)))
        self.passes = 0

    def __getitem__(self, name):
        return self._names[name]

    def __iter__(self):
        self.passes += 1
        return iter(self._names)

    def __len__(self):
        return len(self._names)


def named(*names):
    return {name: nn.Parameter(torch.zeros(1)) for name in names}


def schedule(*phases):
    return Schedule(phases=tuple(Phase(params=params) for params in phases))


def params(*phases, names, **options):
    resolved = ScheduleValidator().validate(schedule(*phases), names, **options)
    return [list(phase.params) for phase in resolved.phases]


def tied(*phases):
    module = Tied()
    return ScheduleValidator().validate(
        schedule(*phases), dict(module.named_parameters()), shared_names=shared_parameter_names(module)
    )


def test_a_pattern_takes_what_it_matches_from_the_start_in_registration_order():
    names = named("layer.1.w", "head.w", "layer.10.w", "my.layer.1.w")

    assert params(["layer.1"], names=names) == [["layer.1.w", "layer.10.w"]]
    assert params([r"layer\.1\."], names=names) == [["layer.1.w"]]


def test_a_full_name_takes_that_parameter_alone():
    assert params(["head.w"], ["head.w_g"], names=named("head.w", "head.w_g")) == [["head.w"], ["head.w_g"]]


def test_the_order_in_a_phase_is_that_of_its_patterns_then_of_registration():
    names = named("a.1", "b.1", "a.2", "b.2")

    assert params(["b.*", "a.2", "a.*"], names=names) == [["b.1", "b.2", "a.2", "a.1"]]


def test_a_name_given_twice_in_a_phase_is_thawed_once():
    assert params(["a", "a", "a.*"], names=named("a", "ab")) == [["a", "ab"]]


def test_a_name_in_two_phases_is_refused_with_both_places(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("0:\n  params: [head.w]\n1:\n  params: [b]\n'2':\n  params:\n  - c\n  - .*\n")

    with pytest.raises(ScheduleError) as refused:
        ScheduleValidator().validate(load_schedule(file), named("head.w", "b", "c"))

    message = str(refused.value)
    assert message.startswith(
        f"{file}, line 8, phase 2, params[1]: The parameter 'head.w' stands in two phases: '.*' takes it here, and "
        f"'head.w' in {file}, line 2, phase 0, params[0]. The same holds for 1 more parameter."
    )


def test_a_pattern_that_matches_nothing_is_refused_with_its_line_and_near_names(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("0:\n  params: [head.w]\n1:\n  params:\n  - body.0.weigth\n")

    with pytest.raises(
        ScheduleError,
        match=r"mine\.yaml, line 5, phase 1, params\[0\]: 'body\.0\.weigth' matches no parameter\. "
        r"Did you mean 'body\.0\.weight'",
    ):
        ScheduleValidator().validate(load_schedule(file), named("head.w", "body.0.weight", "body.1.weight"))


def test_lines_are_left_out_once_the_file_has_changed(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("0: {params: [haed]}\n")
    loaded = load_schedule(file)
    file.write_text("# another first line\n0: {params: [haed]}\n")

    with pytest.raises(ScheduleError, match=r"mine\.yaml, phase 0, params\[0\]: 'haed' matches no parameter"):
        ScheduleValidator().validate(loaded, named("head"))


@pytest.mark.parametrize(
    ("given", "nearest"),
    [
        ("model.layers.4321.atn.w", "model.layers.4321.attn.w"),
        ("modl.layers.777.attn.w", "model.layers.777.attn.w"),
        ("model.clasifier.*", "model.classifier.weight"),
        ("MODEL.CLASSIFIER.WEIGHT", "model.classifier.weight"),
    ],
)
def test_near_names_are_found_among_a_hundred_thousand(given, nearest):
    names = named(*(f"model.layers.{index}.attn.w" for index in range(100_000)), "model.classifier.weight")

    with pytest.raises(ScheduleError, match=rf"Did you mean .*'{nearest}'"):
        params([given], names=names)


def test_where_no_name_is_near_some_names_are_shown():
    with pytest.raises(ScheduleError, match=r"There are parameters such as 'a\.w', 'b\.w' and 'c\.w'"):
        params(["zzzzzzzz.*"], names=named("a.w", "b.w", "c.w", "d.w"))


@pytest.mark.parametrize(
    ("pattern", "complaint"),
    [
        (r"head.(weight|bias", r"missing \), unterminated subpattern at position 5.*stops making sense at '\(weight"),
        (r"*", "nothing to repeat at position 0"),
        (r"a{99999999999999999999}", "no regular expression"),
    ],
)
def test_a_bad_regular_expression_is_refused_with_its_position(pattern, complaint):
    with pytest.raises(ScheduleError, match=rf"phase 1, params\[0\]: .*{complaint}"):
        params(["a"], [pattern], names=named("a"))


def test_second_names_of_tied_parameters_are_found():
    assert shared_parameter_names(Tied()) == {"out.weight": "embed.weight"}
    assert shared_parameter_names(nn.Linear(1, 1)) == {}


@pytest.mark.parametrize("pattern", ["out.weight", "out.w.*"])
def test_a_second_name_is_left_out_with_a_warning_that_names_the_registered_one(pattern):
    resolved = tied(["out.bias", pattern], ["body.*"], ["embed.*"])

    assert resolved.phases[0].params == ("out.bias",)
    (warning,) = resolved.warnings
    assert warning.startswith("phase 0, params[1]: second names of tied parameters are left out: ")
    assert warning.endswith("'out.weight' (tied to 'embed.weight', which is thawed in phase 2).")


def test_a_wider_pattern_warns_of_a_second_name_whose_parameter_is_not_thawed_with_it():
    assert "which is thawed in no phase" in tied(["out.*"], ["body.*"]).warnings[0]


def test_a_pattern_that_takes_both_names_of_a_parameter_thaws_it_once_without_a_warning():
    resolved = tied([".*"])

    assert resolved.phases[0].params == ("embed.weight", "body.weight", "body.bias", "out.bias")
    assert resolved.warnings == ()


def test_a_first_phase_of_second_names_alone_is_refused():
    with pytest.raises(ScheduleError, match=r"phase 0, params: Phase 0 thaws nothing.*'embed\.weight'"):
        tied(["out.weight"], ["body.*"])


def test_a_tied_parameter_that_an_adapter_knows_by_its_second_name_only_has_that_name():
    assert params(["out.*"], names=named("out.w"), shared_names={"out.w": "embed.w"}) == [["out.w"]]


def test_integers_which_get_no_gradient_are_left_out_with_a_warning():
    quantized = nn.Parameter(torch.zeros(2, dtype=torch.int8), requires_grad=False)
    names = {
        "head.weight": nn.Parameter(torch.zeros(2)),
        "body.weight": quantized,
        "body.scale": nn.Parameter(torch.zeros(1)),
    }
    schedule = Schedule.from_mapping({0: {"params": ["head.*"]}, 1: {"params": ["body.*"]}})

    resolved = ScheduleValidator().validate(schedule, names)

    assert resolved.phases[1].params == ("body.scale",)
    assert any("hold integers (torch.int8)" in each and each.endswith("body.weight.") for each in resolved.warnings)
    with pytest.raises(ScheduleError, match="phase 0, params: Phase 0 thaws nothing that can be trained"):
        ScheduleValidator().validate(schedule, {**names, "head.weight": quantized})


def test_a_module_without_parameters_is_refused():
    with pytest.raises(ScheduleError, match="No parameter is known, so there is nothing to schedule"):
        params(["a"], names={})


@pytest.mark.parametrize("phases", [10, 2_000])
def test_full_names_cost_no_pass_over_all_names(phases):
    names = CountedNames(f"layer.{index}.w" for index in range(2 * phases))

    resolved = params(*([f"layer.{2 * at}.w", f"layer.{2 * at + 1}.w"] for at in range(phases)), names=names)

    assert resolved[-1] == [f"layer.{2 * phases - 2}.w", f"layer.{2 * phases - 1}.w"]
    assert names.passes == 0


def test_all_regular_expressions_together_cost_one_pass_over_the_mapping():
    names = CountedNames(f"layer.{index}.w" for index in range(100))

    params(*([rf"layer\.{tens}\d\."] for tens in range(1, 10)), names=names)

    assert names.passes == 1


def test_what_is_validated_is_not_changed():
    given = {0: {"params": ["b.*"], "lr": 0.5}, 1: {"params": ["a"]}}
    before = repr(given)
    loaded = Schedule.from_mapping(given)
    as_loaded = repr(loaded)
    names = named("a", "b.1")
    shared = {"c": "a"}

    ScheduleValidator().validate(loaded, names, shared_names=shared)

    assert (repr(given), repr(loaded), list(names), shared) == (before, as_loaded, ["a", "b.1"], {"c": "a"})
