"""The names of topics, and the queue's fair shares."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.model.message import Message, decode_message
from segue.model.queue import (
    Lane,
    format_dead_topic,
    format_topic,
    list_topics,
    message_to_envelope,
    parse_topic,
    rotate,
    take_fair_shares,
)


def test_a_pipeline_has_a_topic_for_each_lane_and_one_for_dead_letters():
    topics = list_topics(["rhythm", "tempo_map"])
    assert topics == ("rhythm-live", "rhythm-requests", "tempo_map-live", "tempo_map-requests")
    assert format_dead_topic("rhythm") == "rhythm-dead"
    assert {parse_topic(t) for t in (*topics, "rhythm-dead")} == {"rhythm", "tempo_map"}


@pytest.mark.parametrize("lane", Lane)
def test_a_message_goes_to_the_topic_of_its_lane(lane):
    message = Message(uri="gs://b/a.wav", version="7", order=7, lane=lane)
    envelope = message_to_envelope(message, "rhythm")
    assert envelope.topic == format_topic("rhythm", lane)
    assert decode_message(envelope.data) == message


def dealt(held: dict[str, int], limit: int) -> dict[str, int]:
    """How many come of each source, and that none gave more than asked, or more than it had."""
    left = dict(held)

    def take(shares):
        given = {s: min(n, left[s]) for s, n in shares.items()}
        for source, number in given.items():
            left[source] -= number
        return {s: [s] * n for s, n in given.items()}

    things = take_fair_shares(list(held), limit, take)
    return {source: things.count(source) for source in held}


def test_full_sources_share_equally():
    assert dealt({"a": 100, "b": 100, "c": 100}, 12) == {"a": 4, "b": 4, "c": 4}


def test_what_cannot_be_shared_comes_from_the_first():
    assert dealt({"a": 100, "b": 100, "c": 100}, 5) == {"a": 2, "b": 2, "c": 1}
    assert dealt({"a": 100, "b": 100, "c": 100}, 1) == {"a": 1, "b": 0, "c": 0}


def test_what_one_lacks_the_others_give():
    assert dealt({"a": 1, "b": 100, "c": 3}, 20) == {"a": 1, "b": 16, "c": 3}
    assert dealt({"a": 0, "b": 0, "c": 9}, 2) == {"a": 0, "b": 0, "c": 2}


def test_full_sources_are_asked_once():
    asked = []
    take_fair_shares(
        ["a", "b"], 10, lambda shares: asked.append(dict(shares)) or {"a": [1] * 5, "b": [1] * 5}
    )
    assert asked == [{"a": 5, "b": 5}]


@given(
    st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 30)),
    st.integers(0, 100),
)
def test_the_limit_is_reached_if_there_is_enough_and_nobody_is_starved(held, limit):
    got = dealt(held, limit)
    assert sum(got.values()) == min(limit, sum(held.values()))
    for source, number in got.items():
        if number < held[source]:  # it could have given more: then no other gave two more
            assert max(got.values()) <= number + 1


def test_each_turn_begins_with_another_and_names_each_once():
    assert [rotate(["a", "b", "b", "c"], t) for t in range(4)] == [
        ["a", "b", "c"],
        ["b", "c", "a"],
        ["c", "a", "b"],
        ["a", "b", "c"],
    ]
    assert rotate([], 3) == []
