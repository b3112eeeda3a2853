"""How a model is divided into the rows of a picture."""

from __future__ import annotations

import pytest

from phasewire.app.planning.rows import module_rows
from phasewire.app.planning.values import PlannedParameter


def labels(parameters, most):
    return [row.label for row in module_rows(parameters, most)]


def deep(layers, phase_of):
    names = ["embed.weight", *(f"model.layers.{n}.{part}" for n in range(layers) for part in ("a.w", "b.w")), "head.w"]
    return [PlannedParameter(name, 10, phase_of(name)) for name in names]


def by_layer(name):
    return int(name.split(".")[2]) if "layers" in name else 100


def test_a_model_is_opened_where_phases_differ_and_no_further():
    assert labels(deep(4, by_layer), 24) == ["embed.weight", *(f"model.layers.{n}" for n in range(4)), "head.w"]
    assert labels(deep(4, lambda name: 0 if name == "head.w" else 1), 24) == ["embed.weight", "model.layers", "head.w"]
    assert labels(deep(4, lambda _name: None), 24) == ["all"]


def test_members_of_a_list_are_opened_together():
    assert labels(deep(2, lambda name: int(name.endswith("a.w"))), 24) == [
        *("embed.weight", "model.layers.0.a.w", "model.layers.0.b.w", "model.layers.1.a.w", "model.layers.1.b.w"),
        "head.w",
    ]
    assert labels(deep(8, lambda name: int(name.endswith("a.w"))), 12)[1:-1] == [f"model.layers.{n}" for n in range(8)]


@pytest.mark.parametrize("most", [3, 5, 10, 24])
def test_there_are_never_more_rows_than_wanted_and_they_hold_everything(most):
    parameters = deep(80, by_layer)
    rows = module_rows(parameters, most)
    assert len(rows) <= most
    assert sum(row.elements for row in rows) == sum(each.elements for each in parameters)
    assert {depth for row in rows for depth in row.by_depth} == {each.depth for each in parameters}


def test_a_long_list_is_shown_in_ranges():
    assert labels(deep(80, by_layer), 10) == [
        "embed.weight",
        *(f"model.layers.{start}-{start + 9}" for start in range(0, 80, 10)),
        "head.w",
    ]


def test_a_row_knows_which_share_of_it_phases_thaw():
    (row,) = module_rows([PlannedParameter("a.x", 30, 0), PlannedParameter("a.y", 10, 2)], 1)
    assert [row.share(depth, depth) for depth in range(3)] == [0.75, 0.0, 0.25]
    assert row.share(0, 2) == 1.0
