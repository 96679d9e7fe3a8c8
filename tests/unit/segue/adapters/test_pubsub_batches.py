from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.adapters.pubsub_batches import (
    MAX_ACK_IDS,
    MAX_ACK_IDS_SIZE_BYTES,
    MAX_ENVELOPES,
    MAX_ENVELOPES_SIZE_BYTES,
    batch_ack_ids,
    batch_envelopes,
)
from segue.errors import ConfigurationError
from segue.model.queue import Envelope


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from([0, 1, 900_000, 2_000_000, 4_000_000])),
        max_size=20,
    )
)
def test_each_letter_is_in_one_call_of_its_topic_in_order(sizes):
    envelopes = [
        Envelope(topic=topic, data=bytes(size), attributes={"n": str(i)})
        for i, (topic, size) in enumerate(sizes)
    ]
    calls = list(batch_envelopes(envelopes))
    assert all(len({x.topic for x in call}) == 1 for call in calls)
    for topic in "abc":
        sent = [x for call in calls for x in call if x.topic == topic]
        assert sent == [x for x in envelopes if x.topic == topic]
    for call in calls:
        assert len(call) == 1 or sum(len(x.data) for x in call) <= MAX_ENVELOPES_SIZE_BYTES


def test_small_letters_fill_calls_by_number():
    calls = list(batch_envelopes([Envelope(topic="a", data=b"x")] * (2 * MAX_ENVELOPES + 1)))
    assert [len(call) for call in calls] == [MAX_ENVELOPES, MAX_ENVELOPES, 1]


def test_what_attributes_take_counts():
    heavy = {f"key{i}": "é" * 50_000 for i in range(10)}
    calls = list(batch_envelopes([Envelope(topic="a", data=b"", attributes=heavy)] * 6))
    assert [len(call) for call in calls] == [3, 3]


def test_a_letter_larger_than_pubsub_takes_is_refused_with_its_topic():
    with pytest.raises(ConfigurationError, match=r"a letter to 'a' has 10,000,032 bytes"):
        list(batch_envelopes([Envelope(topic="a", data=bytes(10_000_000))]))


def test_receipts_fill_calls_by_number_and_by_size():
    assert [len(c) for c in batch_ack_ids(["r"] * (MAX_ACK_IDS + 1))] == [MAX_ACK_IDS, 1]
    long = ["r" * 1000] * 1000
    calls = list(batch_ack_ids(long))
    assert sum(map(len, calls)) == 1000
    assert all(sum(map(len, call)) <= MAX_ACK_IDS_SIZE_BYTES for call in calls)


def test_nothing_is_no_call():
    assert list(batch_envelopes([])) == []
    assert list(batch_ack_ids([])) == []
