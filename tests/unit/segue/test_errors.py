"""The tree of errors has two branches, one kind per leaf; messages suggest known words."""

from __future__ import annotations

import copy
import inspect
import pickle
import re

import pytest

from segue import errors
from segue.errors import (
    ConfigurationError,
    Kind,
    NotApplicable,
    PermanentError,
    Reason,
    RunCancelled,
    SegueError,
    TooManyFailures,
    TransientError,
    suggest,
)

CLASSES = [
    c
    for _, c in inspect.getmembers(errors, inspect.isclass)
    if issubclass(c, SegueError) and c.__module__ == errors.__name__
]
BRANCHES = (
    ConfigurationError,
    TooManyFailures,
    RunCancelled,
    NotApplicable,
    PermanentError,
    TransientError,
)
LEAVES = [c for c in CLASSES if c.__base__ in (PermanentError, TransientError)]


def test_every_error_is_on_exactly_one_branch():
    for each in CLASSES:
        if each is not SegueError:
            assert sum(issubclass(each, branch) for branch in BRANCHES) == 1, each


def test_every_kind_belongs_to_exactly_one_leaf():
    assert sorted(leaf.kind for leaf in LEAVES) == sorted(Kind)


def test_every_reason_belongs_to_one_class():
    found = [c.kind for c in CLASSES if issubclass(c, NotApplicable)]
    assert sorted(found) == sorted(Reason)


def test_the_tree_in_the_docstring_is_the_tree_in_the_code():
    drawn: dict[str, str] = {}
    above = {0: "SegueError"}
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"    ([│ ]*)[├└]── (\w+)  ", line):
            depth = len(found[1]) // 4 + 1
            drawn[found[2]] = above[depth - 1]
            above[depth] = found[2]
    assert drawn == {c.__name__: c.__base__.__name__ for c in CLASSES if c is not SegueError}


@pytest.mark.parametrize("each", CLASSES, ids=lambda c: c.__name__)
def test_an_error_survives_the_way_through_another_process(each):
    error = each("'x' is not y; write z")
    for same in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(same) is each
        assert str(same) == "'x' is not y; write z"


def test_kinds_are_plain_text_for_the_ledger():
    assert f"{Kind.OUT_OF_MEMORY}" == "out_of_memory"
    assert Kind("timeout") is Kind.TIMEOUT


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
