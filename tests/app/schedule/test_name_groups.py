"""Names put together by their modules, at a cost that grows with the names asked for and not with the model."""

from __future__ import annotations

from typing import ClassVar

import pytest

from phasewire.app.planning.diff import diff_tree
from phasewire.app.planning.values import Plan, PlannedParameter, PlannedPhase
from phasewire.app.schedule.explain import ExplainedPattern, Explanation
from phasewire.app.schedule.lint import lint_schedule
from phasewire.app.schedule.model import Schedule
from phasewire.app.schedule.name_groups import NameGroups


class Counted(str):
    """A name that counts how often one is looked up in a set or a dict."""

    __slots__ = ()

    looked_up: ClassVar[list[int]] = [0]

    def __hash__(self):
        self.looked_up[0] += 1
        return super().__hash__()

    @classmethod
    def during(cls, work):
        before = cls.looked_up[0]
        work()
        return cls.looked_up[0] - before


def counted_names(layers):
    return [Counted(f"layers.{n}.{leaf}") for n in range(layers) for leaf in ("w", "b")]


@pytest.mark.parametrize(
    ("wanted", "groups"),
    [
        (["head.w"], ["head.w"]),
        (["layers.0.w"], ["layers.0.w"]),
        (["layers.0.w", "layers.0.b"], ["layers.0.* (2 tensors)"]),
        (["layers.1.w", "layers.1.b", "layers.2.w", "layers.2.b"], ["layers.1-2.* (4 tensors)"]),
        (
            ["layers.0.w", "layers.0.b", "layers.2.w", "layers.2.b"],
            ["layers.0.* (2 tensors)", "layers.2.* (2 tensors)"],
        ),
        ([f"layers.{n}.{leaf}" for n in range(3) for leaf in "wb"], ["layers.* (6 tensors)"]),
        ([], []),
    ],
)
def test_names_are_told_by_the_largest_modules_that_hold_no_others(wanted, groups):
    known = ["embed", *(f"layers.{n}.{leaf}" for n in range(3) for leaf in "wb"), "head.w", "head.b"]
    found = NameGroups(known).of(wanted)
    assert [str(group) for group in found] == groups
    assert sorted(name for group in found for name in group.names) == sorted(wanted)


@pytest.mark.parametrize("layers", [10, 1000])
def test_few_names_of_a_large_model_cost_as_much_as_of_a_small_one(layers):
    names = counted_names(layers)
    groups = NameGroups(names)
    assert Counted.during(lambda: groups.of(names[:4])) <= 5 * 4


def plan_of(names, depth_of):
    parameters = tuple(PlannedParameter(name, 1, depth_of(place)) for place, name in enumerate(names))
    phases = tuple(
        PlannedPhase(depth, 2, 2, 2 * depth + 2, 8, 8, (0.1,), None, (), "to max_epochs")
        for depth in range(len(names) // 2)
    )
    return Plan("M", len(names), 0, 0, "32-true", "SGD", phases, 0, parameters, False, False, (), ())


def lookups_of_diff(layers):
    names = counted_names(layers)
    plans = plan_of(names, lambda place: place // 2), plan_of(names, lambda place: layers - 1 - place // 2)
    return Counted.during(lambda: diff_tree(*plans, ("a", "b")))


def test_a_difference_of_twice_the_phases_costs_twice_as_much():
    assert lookups_of_diff(80) <= 2.2 * lookups_of_diff(40)


def overlapping(layers):
    names = tuple(counted_names(layers))
    patterns = tuple(
        ExplainedPattern(depth, index, "x.*", is_name=False, names=names[2 * depth : 2 * depth + 2])
        for depth in range(layers)
        for index in range(2)
    )
    whole = ExplainedPattern(layers, 0, "y.*", is_name=False, names=names)
    return Explanation((*patterns, whole), tuple(range(layers + 1)), names)


def lookups_of_lint(layers):
    explained = overlapping(layers)
    schedule = Schedule.from_mapping({depth: {"params": ["x.*"]} for depth in range(layers + 1)})
    return Counted.during(lambda: lint_schedule(schedule, explained))


def test_overlaps_in_twice_the_phases_cost_twice_as_much_to_find():
    assert lookups_of_lint(80) <= 2.2 * lookups_of_lint(40)


def test_the_patterns_of_all_phases_are_gone_through_once():
    class Walked(tuple):
        __slots__ = ()
        walks: ClassVar[list[None]] = []

        def __iter__(self):
            self.walks.append(None)
            return super().__iter__()

    found = overlapping(5)
    explained = Explanation(Walked(found.patterns), found.depths, found.names)
    assert [len(explained.of_phase(depth)) for depth in explained.depths] == [2, 2, 2, 2, 2, 1]
    assert len(Walked.walks) == 1
