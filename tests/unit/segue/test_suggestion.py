"""Suggestions: similar words, else what else there is."""

from __future__ import annotations

import pytest

from segue.suggestion import suggest


@pytest.mark.parametrize(
    ("word", "known", "expected"),
    [
        ("enregy", ["beats", "energy"], "did you mean 'energy'?"),
        ("colour", ["beats", "energy"], "use one of beats, energy"),
        ("colour", [], "there are none to choose from"),
    ],
)
def test_a_suggestion_names_a_similar_word_or_all_words(word, known, expected):
    assert suggest(word, known) == expected


def test_several_similar_words_are_joined():
    assert suggest("beat", ["beats", "beat2", "key"], limit=3) in {
        "did you mean 'beats' or 'beat2'?",
        "did you mean 'beat2' or 'beats'?",
    }


def test_without_a_similar_word_the_caller_may_say_what_else_to_do():
    assert suggest("colour", ["energy"], otherwise="see --help") == "see --help"
