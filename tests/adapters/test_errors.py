"""What the message of an error is made of."""

from __future__ import annotations

import pytest

from phasewire.adapters import PhasewireError


@pytest.mark.parametrize(
    ("problem", "remedy", "message"),
    [
        ("It failed.", "Mend it.", "here: It failed. Mend it."),
        ("It failed with KeyError: 'licence'", "Mend it.", "here: It failed with KeyError: 'licence'. Mend it."),
        ("It failed with\n a long story\n", "Mend it.", "here: It failed with\n a long story. Mend it."),
        ("It holds 3 mistakes:\n  one", None, "here: It holds 3 mistakes:\n  one"),
    ],
)
def test_the_remedy_begins_a_sentence_of_its_own(problem: str, remedy: str | None, message: str) -> None:
    error = PhasewireError(problem, where="here", remedy=remedy)
    assert str(error) == message
    assert (error.problem, error.where, error.remedy) == (problem, "here", remedy)
