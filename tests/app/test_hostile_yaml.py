"""YAML that is made to break a reader: each was found by fuzzing or by thinking like somebody who wants to."""

from __future__ import annotations

import pytest

from phasewire.adapters.errors import ConfigError, ScheduleError
from phasewire.app import Schedule
from phasewire.app.config_file import parse_yaml

LAUGHS = "\n".join(["a0: &a0 [x, x]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10))])
MERGES = "\n".join(
    ["a0: &a0 {x: 1}", *(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}" for i in range(1, 10))]
)
CHAIN = "\n".join(["- &a0 [x]", *(f"- &a{i} [*a{i - 1}]" for i in range(1, 3000))])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(LAUGHS, "Aliases repeat more than 1,000,000 values", id="aliases of aliases"),
        pytest.param(MERGES, "Aliases repeat more than 1,000,000 values", id="merges of merges"),
        pytest.param(CHAIN, "By aliases, values are nested more than 100 levels deep", id="a chain of aliases"),
        pytest.param("&a [*a]", "recursive", id="a list in itself"),
        pytest.param("!!set x: 1", "cannot be a key", id="a key that is a set"),
        pytest.param("!!seq x: 1", "cannot be a key", id="a key that is a list"),
        pytest.param(f"a: 0x{'f' * 5000}", "cannot be read as a int", id="a number of thousands of digits"),
        pytest.param(f"a: 1{':59' * 3000}", "cannot be read as a int", id="the same to the base of 60"),
    ],
)
def test_it_is_refused_with_its_place(text, message) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse_yaml(text)
    assert caught.value.where.startswith("line ")
    assert len(str(caught.value)) < 500


def test_aliases_within_reason_are_read() -> None:
    values = parse_yaml("sgd: &sgd {lr: 0.1}\nall: [" + ", ".join(["*sgd"] * 1000) + "]").values
    assert values["all"] == [{"lr": 0.1}] * 1000


def test_a_number_of_thousands_of_digits_given_in_code_is_refused() -> None:
    with pytest.raises(ScheduleError, match="too many digits to show"):
        Schedule.from_mapping({0: {"params": [16**5000]}})


@pytest.mark.parametrize(
    "tag",
    [
        "object:pathlib.Path",
        "object/apply:pathlib.Path.touch",
        "object/new:pathlib.Path",
        "name:os.system",
        "module:os",
    ],
)
@pytest.mark.parametrize("prefix", ["!!python/", "!<tag:yaml.org,2002:python/"])
def test_no_tag_makes_an_object(tag, prefix, tmp_path) -> None:
    closed = ">" if prefix.startswith("!<") else ""
    with pytest.raises(ConfigError, match="could not determine a constructor"):
        parse_yaml(f"a: {prefix}{tag}{closed} [{tmp_path / 'canary'}]")
    assert list(tmp_path.iterdir()) == []
