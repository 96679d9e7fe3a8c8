"""The batches within the limits of one call; what needs a server is in the integration tests."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.adapters.pubsub import (
    MAX_ACK_IDS,
    MAX_ACK_IDS_SIZE_BYTES,
    MAX_ENVELOPES,
    MAX_ENVELOPES_SIZE_BYTES,
    batch_ack_ids,
    batch_envelopes,
)
from segue.errors import ConfigurationError
from segue.model.queue import Envelope, ReceivedEnvelope

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from([0, 1, 900_000, 2_000_000, 4_000_000])),
        max_size=20,
    )
)
def test_each_envelope_is_in_one_call_of_its_topic_in_order(sizes):
    envelopes = [
        Envelope(topic=topic, data=bytes(size), attributes={"n": str(i)})
        for i, (topic, size) in enumerate(sizes)
    ]
    calls = list(batch_envelopes(envelopes))
    for topic in "abc":
        sent = [x for name, call in calls for x in call if name == topic]
        assert sent == [x for x in envelopes if x.topic == topic]
    for _, call in calls:
        assert len(call) == 1 or sum(len(x.data) for x in call) <= MAX_ENVELOPES_SIZE_BYTES


def test_small_envelopes_fill_calls_by_number():
    calls = list(batch_envelopes([Envelope(topic="a", data=b"x")] * (2 * MAX_ENVELOPES + 1)))
    assert [len(call) for _, call in calls] == [MAX_ENVELOPES, MAX_ENVELOPES, 1]


def test_the_size_of_attributes_counts():
    heavy = {f"key{i}": "é" * 40_000 for i in range(10)}
    calls = list(batch_envelopes([Envelope(topic="a", data=b"", attributes=heavy)] * 4))
    assert [len(call) for _, call in calls] == [2, 2]


def test_a_message_larger_than_pubsub_takes_is_refused_with_its_topic():
    with pytest.raises(ConfigurationError, match=r"a message to 'a' has 10,000,032 bytes"):
        list(batch_envelopes([Envelope(topic="a", data=bytes(10_000_000))]))


def received(subscription: str, ack_id: str) -> ReceivedEnvelope:
    return ReceivedEnvelope(
        subscription=subscription, data=b"", message_id="1", ack_id=ack_id, published_at=NOW
    )


def test_ack_ids_fill_calls_by_number_and_by_size():
    calls = list(batch_ack_ids([received("a", "r")] * (MAX_ACK_IDS + 1) + [received("b", "q")]))
    assert [(name, len(ids)) for name, ids in calls] == [("a", MAX_ACK_IDS), ("a", 1), ("b", 1)]
    calls = list(batch_ack_ids([received("a", "r" * 1000)] * 1000))
    assert sum(len(ids) for _, ids in calls) == 1000
    assert all(sum(map(len, ids)) <= MAX_ACK_IDS_SIZE_BYTES for _, ids in calls)


def test_nothing_is_no_call():
    assert list(batch_envelopes([])) == []
    assert list(batch_ack_ids([])) == []
