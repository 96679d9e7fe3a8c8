"""What is read from events, and which are refused."""

from __future__ import annotations

import base64
import json

import pytest
from cloudevents.http import from_http
from hypothesis import given
from hypothesis import strategies as st

from segue.ingest.sweep import LIMIT
from segue.model.media_file import MediaFile, split_uri, uri_to_file_id
from segue_functions.events import (
    ARCHIVED,
    DELETED,
    FINALIZED,
    MAX_SWEEP_LIMIT,
    MalformedEvent,
    SweepOrder,
    parse_media,
    parse_sweep_order,
)
from segue_support.cloud_events import (
    build_event,
    build_message_event,
    build_notification_event,
    build_object_event,
    to_binary,
    to_structured,
)

MEDIA = MediaFile(
    uri="gs://acme-audio/masters/ä b.wav",
    version="1767000000123456",
    order=1_767_000_000_123_456,
    size_bytes=123,
    content_type="audio/wav",
    checksum="crc32c:yZRlqg==",
)
DATA = build_object_event("finalized", MEDIA).data


# --- objects ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [to_binary, to_structured])
def test_an_event_of_cloud_storage_is_about_a_version_of_a_file(mode):
    headers, body = mode(build_object_event("finalized", MEDIA))
    assert parse_media(from_http(headers, body), FINALIZED) == MEDIA


def test_a_folders_event_has_an_empty_bucket():
    uri = "file:///home/me/music/a.wav"
    media = MediaFile(uri=uri, version="5", order=5, size_bytes=1)
    found = parse_media(build_object_event("finalized", media), FINALIZED)
    assert (found.uri, split_uri(found.uri)) == (uri, ("", "home/me/music/a.wav"))


def test_numbers_may_come_as_numbers_and_what_segue_does_not_need_may_be_missing():
    payload = {"bucket": "b", "name": "a.wav", "generation": 5, "new": {"field": 1}}
    assert parse_media(build_event(DELETED, payload), DELETED, ARCHIVED) == MediaFile(
        uri="gs://b/a.wav", version="5", order=5
    )


def test_data_that_comes_as_bytes_of_json_is_read_too():
    encoded = base64.b64encode(json.dumps(DATA).encode()).decode()
    envelope = {**build_event(FINALIZED, None).get_attributes(), "data_base64": encoded}
    sent = from_http(
        {"content-type": "application/cloudevents+json"}, json.dumps(envelope).encode()
    )
    assert parse_media(sent, FINALIZED) == MEDIA
    assert parse_media(build_event(FINALIZED, json.dumps(DATA).encode()), FINALIZED) == MEDIA


@pytest.mark.parametrize(
    "change",
    [
        {"generation": None},
        {"generation": "0"},
        {"generation": "-5"},
        {"generation": "new"},
        {"generation": True},
        {"generation": str(2**63)},
        {"size": "-1"},
        {"size": "big"},
        {"name": ""},
        {"name": None},
        {"name": 5},
        {"name": "x" * 5000},
        {"name": "\ud800.wav"},
        {"bucket": None},
        {"bucket": "a/b"},
        {"bucket": "a\n"},
        {"contentType": 5},
        {"contentType": "x" * 1_000_000},
        {"crc32c": "x" * 1_000_000},
    ],
    ids=lambda change: str(change)[:40],
)
def test_an_object_that_is_none_is_malformed(change):
    with pytest.raises(MalformedEvent):
        parse_media(build_event(FINALIZED, {**DATA, **change}), FINALIZED)


@pytest.mark.parametrize("missing", ["bucket", "name", "generation"])
def test_an_object_without_an_identity_is_malformed(missing):
    payload = {key: value for key, value in DATA.items() if key != missing}
    with pytest.raises(MalformedEvent, match=missing):
        parse_media(build_event(FINALIZED, payload), FINALIZED)


@pytest.mark.parametrize("data", [None, "", "text", b"\xff", 5, [], [DATA], b"[" * 100_000])
def test_data_that_is_no_object_is_malformed(data):
    with pytest.raises(MalformedEvent):
        parse_media(build_event(FINALIZED, data), FINALIZED)


def test_an_event_of_another_type_says_that_the_trigger_is_wrong():
    with pytest.raises(MalformedEvent, match="correct the trigger"):
        parse_media(build_object_event("deleted", MEDIA), FINALIZED)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)


@given(key=st.sampled_from(sorted(DATA)), value=json_values)
def test_any_value_in_an_object_gives_a_file_or_is_malformed(key, value):
    try:
        media = parse_media(build_event(FINALIZED, {**DATA, key: value}), FINALIZED)
    except MalformedEvent as error:
        assert "check the sender" in str(error) or "rename" in str(error)  # noqa: PT017
    else:
        assert media.order > 0
        assert len(uri_to_file_id(media.uri)) == 32
        assert split_uri(media.uri)[1]


# --- notifications of a bucket of another project ---------------------------------------------


@pytest.mark.parametrize("mode", [to_binary, to_structured])
@pytest.mark.parametrize(
    ("event_type", "types"),
    [
        ("OBJECT_FINALIZE", (FINALIZED,)),
        ("OBJECT_DELETE", (DELETED, ARCHIVED)),
        ("OBJECT_ARCHIVE", (DELETED, ARCHIVED)),
    ],
)
def test_a_notification_is_about_the_same_version_as_an_event(mode, event_type, types):
    headers, body = mode(build_notification_event(event_type, MEDIA))
    assert parse_media(from_http(headers, body), *types) == MEDIA


@pytest.mark.parametrize("event_type", ["OBJECT_DELETE", "OBJECT_METADATA_UPDATE", ""])
def test_a_notification_of_another_kind_is_malformed(event_type):
    with pytest.raises(MalformedEvent):
        parse_media(build_notification_event(event_type, MEDIA), FINALIZED)


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", b"[" * 100_000])
def test_a_notification_without_an_object_is_malformed(data):
    with pytest.raises(MalformedEvent):
        parse_media(build_message_event(data, eventType="OBJECT_FINALIZE"), FINALIZED)


def test_a_message_that_is_no_notification_is_no_media():
    with pytest.raises(MalformedEvent, match="let only the bucket publish"):
        parse_media(build_message_event(), FINALIZED)


# --- orders to sweep --------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b" \n", b"{}"])
def test_an_empty_message_is_an_order_with_the_default_limit(data):
    assert parse_sweep_order(build_message_event(data)) == SweepOrder(limit=LIMIT)


def test_a_message_may_give_the_limit():
    assert parse_sweep_order(build_message_event(b'{"limit": 7}')).limit == 7


@pytest.mark.parametrize(
    "data",
    [
        b"sweep",
        b"7",
        b"\xff",
        b"[" * 100_000,
        b'{"limit": 0}',
        b'{"limit": "7"}',
        b'{"limit": 1.5}',
        b'{"limit": null}',
        b'{"limits": 7}',
        b'{"limit": %d}' % (MAX_SWEEP_LIMIT + 1),
    ],
    ids=lambda data: data[:20].decode("latin-1"),
)
def test_a_message_that_is_no_order_is_malformed(data):
    with pytest.raises(MalformedEvent, match="let the schedule send"):
        parse_sweep_order(build_message_event(data))


@pytest.mark.parametrize("data", [{}, {"message": {"data": "a!"}}, {"message": None}, "x", None])
def test_an_event_without_a_message_is_malformed(data):
    sent = build_event("google.cloud.pubsub.topic.v1.messagePublished", data)
    with pytest.raises(MalformedEvent):
        parse_sweep_order(sent)


def test_a_message_without_data_says_nothing():
    sent = build_event(
        "google.cloud.pubsub.topic.v1.messagePublished", {"message": {"messageId": "1"}}
    )
    assert parse_sweep_order(sent) == SweepOrder()
