"""Patterns for names mean what they mean to ``re``, and end."""

import re
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasewire.adapters.errors import ScheduleError
from phasewire.adapters.name_patterns import LimitedPattern, name_pattern
from phasewire.app.schedule.files import load_schedule
from random_cases import random_case

#: Neither ``re`` nor ``regex`` gets to the end of this one with a name of some length that has no "!".
ENDLESS = r"(?:\w|\w\w|\.)+!?(?<=!)"
LONG_NAME = "encoder.layer.11.attention.self.query.weight"

PARTS = (
    *("a", "b", "1", "_", "A", "é", "-", " ", "\n", "#", "|", "^", "$", ".", "}", "]"),
    *(r"\.", r"\d", r"\w", r"\W", r"\b", r"\s", r"\A", r"\Z", r"\1", r"\{", r"\[", r"\x61", r"\141", r"\N{DIGIT ONE}"),
    *("[ab]", "[^a]", "[[:alpha:]]", "[[a]", "[]a]", "[^]a]", "[a-b--1]", "[a&&b]", "[a||b]", r"[\]a]", r"[\w.]"),
    *("*", "+", "?", "*?", "+?", "*+", "++", "{2}", "{1,2}", "{,2}", "{1,}", "{,}", "{1,2}?"),
    *("{}", "{e}", "{e<=1}", "{i}", "{1"),
    *("(", "(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?P<x>", "(?P=x)", "(?(1)a|b)", "(?i:", "(?-i:", "(?a:"),
    *(")", ")", ")", "(?i)", "(?s)", "(?x)", "(?a)", "(?#", "(?#note)"),
)
#: Short, so that ``re`` comes to an end with every pattern made of these parts.
NAMES = (
    "",
    "a",
    "ab",
    "aab",
    "a.b",
    "a.1.b_1",
    "{e}",
    "a{e}",
    "aB",
    "[a",
    "a]",
    "b.{1",
    "aaaa",
    "a&b",
    " a",
    "a:]",
    "a\n",
)


def matches_by_re(pattern: str) -> list[tuple[bool, bool]] | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        try:
            expression = re.compile(pattern)
        except re.error:
            return None
    return [(bool(expression.match(name)), bool(expression.fullmatch(name))) for name in NAMES]


def stopped(name: str) -> ScheduleError:
    return ScheduleError(f"stopped at {name}")


@given(st.lists(st.sampled_from(PARTS), min_size=1, max_size=8).map("".join))
def test_every_pattern_takes_the_names_that_re_takes(pattern):
    expected = matches_by_re(pattern)
    if expected is None:
        with pytest.raises(ScheduleError, match="is no regular expression"):
            name_pattern(pattern, error=ScheduleError, where=lambda: None)
        return
    ours = name_pattern(pattern, error=ScheduleError, where=lambda: None)
    by_regex = LimitedPattern(ours if isinstance(ours, re.Pattern) else re.compile(ours.pattern), stopped)
    assert [(bool(ours.match(name)), bool(ours.fullmatch(name))) for name in NAMES] == expected
    assert [(by_regex.match(name), by_regex.fullmatch(name)) for name in NAMES] == expected


@pytest.mark.parametrize(
    "pattern", [r"layer\.1\..*", r"(?!layer\.1\.).*", r"model\.(?!.*bias).*", ".*", r"(layer|norm)\.[0-9]+\.weight"]
)
def test_patterns_as_schedules_have_them_are_matched_by_re_itself(pattern):
    assert isinstance(name_pattern(pattern, error=ScheduleError, where=lambda: None), re.Pattern)


@pytest.mark.parametrize(
    "pattern", ["(a+)+b", "(?:a*)*", "(a|ab){9}", "(?x)(a+) +", "(a+)(?#of a)+", "a*b*c*", "a?b?c?"]
)
def test_patterns_that_may_back_track_for_long_are_matched_within_a_limit(pattern):
    assert isinstance(name_pattern(pattern, error=ScheduleError, where=lambda: None), LimitedPattern)


def test_a_pattern_that_does_not_end_is_stopped():
    pattern = LimitedPattern(re.compile(ENDLESS), stopped, for_a_name=0.05)
    with pytest.raises(ScheduleError, match=f"stopped at {re.escape(LONG_NAME)}") as caught:
        pattern.match(LONG_NAME)
    assert isinstance(caught.value.__cause__, TimeoutError)
    assert pattern.match("a!"), "an ending name is matched all the same"


def test_a_pattern_that_is_slow_with_every_name_is_stopped_too():
    pattern = LimitedPattern(re.compile(ENDLESS), stopped, for_all=0.05)
    for _ in range(2):
        with pytest.raises(ScheduleError):
            pattern.fullmatch(LONG_NAME)


def test_the_error_names_pattern_name_and_place():
    pattern = name_pattern(ENDLESS, error=ScheduleError, where=lambda: "mine.yaml, line 3", for_a_name=0.05)
    with pytest.raises(ScheduleError, match="takes too long") as caught:
        pattern.match(LONG_NAME)
    assert repr(ENDLESS) in caught.value.problem
    assert repr(LONG_NAME) in caught.value.problem
    assert caught.value.where == "mine.yaml, line 3"


def patterns_and_names_of_the_parity_cases():
    for number in range(60):
        case = random_case(number)
        patterns = [pattern for phase in (case.schedule or {}).values() for pattern in phase["params"]]
        yield patterns, [name for name, _ in case.module().named_parameters()]
    schedule = load_schedule(Path(__file__).parents[1] / "data" / "full_schedule.yaml")
    layers = [f"model.encoder.layer.{number}.attention.self.query.weight" for number in range(12)]
    others = ["model.classifier.weight", "model.embeddings.word.weight", "model.pooler.dense.bias"]
    yield [pattern for phase in schedule.phases for pattern in phase.params], [*layers, *others]


def test_regex_takes_the_names_that_re_takes_in_the_schedules_of_the_parity_cases():
    compared = 0
    for patterns, names in patterns_and_names_of_the_parity_cases():
        for pattern in patterns:
            expression = re.compile(pattern)
            limited = LimitedPattern(expression, stopped)
            assert [name for name in names if limited.match(name)] == [name for name in names if expression.match(name)]
            compared += len(names)
    assert compared > 1000
