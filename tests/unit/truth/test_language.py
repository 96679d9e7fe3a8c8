"""Words of texts, and how many are wrong."""

from __future__ import annotations

import pytest
from truth.language import count_errors, list_words


def test_words_have_no_case_no_punctuation_and_no_digits():
    assert list_words("Press 1, then #42. It's DONE…") == [
        *("press", "one", "then", "four", "two", "its", "done")
    ]
    assert list_words("Вы набрали") == ["вы", "набрали"]


@pytest.mark.parametrize(
    ("written", "errors"),
    [("a b c d", 0), ("a b d", 1), ("a b c c d", 1), ("a x c d", 1), ("", 4), ("d c b a", 4)],
)
def test_errors_are_the_fewest_changes(written, errors):
    assert count_errors(["a", "b", "c", "d"], written.split()) == errors


def test_all_that_is_written_without_a_text_is_wrong():
    assert count_errors([], ["a", "b"]) == 2
