"""Which files criteria select, by name, time, duration and tags."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import msgspec
import pytest

from segue.errors import ConfigurationError
from segue.model.criteria import Criteria, MediaFacts, Unselected
from segue.model.run import RunSelection

LONG = MediaFacts(duration_s=210.0, tags={"artist": "Queen", "title": "Live \x1b[31m\n at Wembley"})


@pytest.mark.parametrize(
    ("pattern", "name", "is_selected"),
    [
        ("*.flac", "home/ann/a.FLAC", True),
        ("LIVE*", "home/ann/live at.flac", True),
        ("live*", "live/ann/a.flac", False),
        ("ann/*", "home/ann/a.flac", True),
        ("nn/*", "home/ann/a.flac", False),
        ("/home/ann/*", "home/ann/a.flac", True),
        ("/ann/*", "home/ann/a.flac", False),
        ("home/*/a.flac", "home/ann/b/a.flac", True),
        ("take [12].flac", "m/take 2.flac", True),
        ("take [12].flac", "m/take [12].flac", True),
        ("take [[]12].flac", "m/take [12].flac", True),
        ("take [12].flac", "m/take 3.flac", False),
        ("take [.flac", "m/take [.flac", True),
        ("?.flac", "m/é.flac", True),
        ("caf\u00e9*", "m/cafe\u0301.flac", True),
        ("a\nb*", "m/a\nb.flac", True),
        ("*", "m/a", True),
    ],
)
def test_a_pattern_is_for_the_last_part_of_a_name_or_with_a_slash_for_its_end(
    pattern, name, is_selected
):
    found = Criteria(match=(pattern,)).find_reason(name, None)
    assert found is (None if is_selected else Unselected.MATCH)


def test_one_of_several_patterns_has_to_match():
    criteria = Criteria(match=("a*", "m/b*"))
    names = ("x/a.wav", "m/b.wav", "m/c.wav")
    assert [criteria.find_reason(name, None) is None for name in names] == [True, True, False]


def test_a_file_that_was_changed_since_then_is_newer():
    then = datetime(2026, 1, 2, tzinfo=UTC)
    criteria = Criteria(newer_than=then)
    found = [criteria.find_reason("a", then.timestamp() + s) for s in (-1, 0, 1)]
    assert found == [Unselected.NEWER_THAN, None, None]
    assert criteria.find_reason("a", None) is None  # it is not known yet


@pytest.mark.parametrize(
    ("criteria", "facts", "reason"),
    [
        ({"min_duration_s": 210}, LONG, None),
        ({"min_duration_s": 211}, LONG, "duration"),
        ({"max_duration_s": 210}, LONG, None),
        ({"max_duration_s": 209.9}, LONG, "duration"),
        ({"min_duration_s": 0}, MediaFacts(), "duration"),
        ({"min_duration_s": 0}, None, "no_probe"),
        ({"tags": {"artist": ("queen",)}}, None, "no_probe"),
        ({"tags": {"ARTIST": ("QUEEN",)}}, LONG, None),
        ({"tags": {"artist": ("abba", "que*")}}, LONG, None),
        ({"tags": {"artist": ("que",)}}, LONG, "tags"),
        ({"tags": {"artist": ("queen",), "title": ("*wembley",)}}, LONG, None),
        ({"tags": {"artist": ("queen",), "genre": ("*",)}}, LONG, "tags"),
        ({"match": ("x",)}, None, None),
    ],
)
def test_durations_and_tags_are_those_of_the_probe(criteria, facts, reason):
    assert Criteria(**criteria).find_reason_by_probe(facts) == reason


@pytest.mark.parametrize(
    ("criteria", "message"),
    [
        ({"match": ("",)}, "'' is not a pattern or tag"),
        ({"match": ("\udcff*",)}, r"'\xff*' is not a pattern or tag"),
        ({"tags": {"": ("x",)}}, "'' is not a pattern or tag"),
        ({"match": "*.flac"}, "'*.flac' is one text; write patterns"),
        ({"tags": {"artist": "queen"}}, "'queen' is one text; write patterns"),
        ({"newer_than": datetime(2026, 1, 2)}, "which has no time zone"),  # noqa: DTZ001
        ({"tags": {"artist": ()}}, "the tag 'artist' has no pattern"),
        ({"min_duration_s": -1}, "the duration is -1 s; write 0 s or more"),
        ({"max_duration_s": math.inf}, "the duration is inf s"),
        ({"max_duration_s": math.nan}, "the duration is nan s"),
        ({"min_duration_s": 3, "max_duration_s": 2}, "at least 3 s and at most 2 s; exchange"),
    ],
)
def test_what_means_nothing_is_refused(criteria, message):
    with pytest.raises(ConfigurationError) as error:
        Criteria(**criteria).check()
    assert message in str(error.value)


def test_the_criteria_of_a_run_are_in_its_selection():
    criteria = Criteria(match=("*.flac",), tags={"genre": ("rock",)})
    selection = RunSelection(prefix="gs://b/", **msgspec.structs.asdict(criteria))
    assert selection.criteria == criteria
    assert msgspec.json.decode(msgspec.json.encode(selection), type=RunSelection) == selection
