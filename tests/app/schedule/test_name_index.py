"""A pattern is tried with the names that have its beginning only, and finds what trying all names finds."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from phasewire.app.schedule.name_index import NameIndex

PATTERNS = st.lists(
    st.sampled_from(
        ["a", "b.", r"\.", ".", "*", "?", "+", "{2}", "[ab]", "(a)", "(?!a)", "^", "$", r"\d", "|", "(?i)"]
    ),
    max_size=6,
).map("".join)


class CountedPattern:
    """Stands for a compiled pattern, and counts the names it is tried with."""

    def __init__(self, pattern):
        self._compiled = re.compile(pattern)
        self.pattern, self.flags = self._compiled.pattern, self._compiled.flags
        self.tried = 0

    def match(self, name):
        self.tried += 1
        return self._compiled.match(name)


@settings(max_examples=100, deadline=None)
@given(names=st.lists(st.text("ab.1\n", max_size=5), max_size=30), pattern=PATTERNS)
def test_the_names_found_are_those_that_match_in_their_order(names, pattern):
    try:
        expression = re.compile(pattern)
    except re.error:
        assume(False)
    assert NameIndex(names).matches(expression) == [at for at, name in enumerate(names) if expression.match(name)]


@pytest.mark.parametrize(
    ("pattern", "tried"),
    [
        (r"model\.blocks\.17\..*", 10),
        ("model.blocks.17.*", 10),
        ("^model.blocks.17.w?", 10),
        (r"model.blocks.(?!17\.)\d+", 1000),
        (".*weight", 1000),
        ("model.blocks.17.w|x", 1000),
    ],
)
def test_a_pattern_is_tried_with_the_names_that_have_its_beginning(pattern, tried):
    counted = CountedPattern(pattern)
    NameIndex([f"model.blocks.{block}.weight{at}" for block in range(100) for at in range(10)]).matches(counted)
    assert counted.tried == tried
