"""Messages: what is encoded is decoded, and nothing else is."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.errors import PermanentError
from segue.model.media_file import MediaFile
from segue.model.message import (
    Arrived,
    Message,
    UnreadableMessage,
    build_request_id,
    decode_message,
    describe_arrival,
    encode_message,
)
from segue.model.record import Record

NOW = datetime(2026, 1, 2, 3, 4, 5, 600_000, tzinfo=UTC)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
arrivals = st.builds(
    Arrived,
    at=st.datetimes(timezones=st.just(UTC)),
    revision=names,
    size_bytes=st.integers(0, 2**63 - 1),
    content_type=st.none() | names,
    checksum=st.none() | names,
)
messages = st.builds(
    Message,
    namespace=names,
    uri=names.map("gs://b/{}".format),
    version=st.from_regex(r"[0-9a-f]{1,32}", fullmatch=True),
    order=st.integers(0, 2**63 - 1),
    trigger=st.none() | names,
    arrived=st.none() | arrivals,
    targets=st.lists(names, max_size=3).map(tuple),
    ping=st.booleans(),
    request=st.none() | names,
    attempt=st.integers(1, 100),
    hops=st.integers(0, 100),
)
SMALL = {"format": 2, "uri": "gs://b/a.wav", "version": "7", "order": 7}


@given(messages)
def test_what_is_written_is_read(message):
    assert decode_message(encode_message(message)) == message


def test_a_message_is_small_and_names_its_format():
    message = Message(uri="gs://b/a.wav", version="7", order=7)
    assert json.loads(encode_message(message)) == SMALL


def test_what_a_message_does_not_say_has_a_default():
    message = decode_message(json.dumps(SMALL).encode())
    assert (message.namespace, message.trigger, message.targets) == ("default", None, ())
    assert (message.arrived, message.ping, message.request) == (None, False, None)
    assert (message.attempt, message.hops) == (1, 0)


def test_an_event_of_a_new_file_says_all_that_its_record_contains():
    record = Record(
        uri="gs://b/a.wav",
        version="7",
        order=7,
        stat="1:2:3:4:5",
        size_bytes=5,
        content_type="audio/wav",
        checksum="crc32c:AAAAAA==",
        arrived_at=NOW,
    )
    message = Message(
        uri=record.uri,
        version=record.version,
        order=record.order,
        trigger="source",
        arrived=describe_arrival(record, "r1"),
    )
    read = decode_message(encode_message(message))
    assert read.media == record.media
    assert read.arrived is not None
    assert (read.arrived.at, read.arrived.revision) == (NOW, "r1")


def test_any_other_message_names_the_version_of_the_file():
    message = decode_message(json.dumps(SMALL).encode())
    assert message.media == MediaFile(uri="gs://b/a.wav", version="7", order=7)


@pytest.mark.parametrize("format_", [0, 1, 3, 2.0, "2", True, None])
def test_another_format_is_not_guessed_at(format_):
    with pytest.raises(UnreadableMessage, match="not a message of format 2"):
        decode_message(json.dumps({**SMALL, "format": format_}).encode())


def test_a_message_without_a_format_has_the_present_one():
    plain = {k: v for k, v in SMALL.items() if k != "format"}
    assert decode_message(json.dumps(plain).encode()) == decode_message(json.dumps(SMALL).encode())


def test_a_message_of_the_first_format_is_refused():
    first = {"version": 1, "uri": "gs://b/a.wav", "generation": 7, "job": "beats"}
    with pytest.raises(UnreadableMessage, match="not a message of format 2"):
        decode_message(json.dumps(first).encode())


def test_fields_that_a_later_writer_added_are_passed_over():
    data = json.dumps({**SMALL, "priority": {"level": [1, 2]}}).encode()
    assert decode_message(data) == decode_message(json.dumps(SMALL).encode())


@pytest.mark.parametrize(
    "change",
    [
        {"uri": None},
        {"uri": 1},
        {"version": 7},
        {"version": None},
        {"order": "7"},
        {"order": 1.5},
        {"order": -1},
        {"order": 2**63},
        {"order": None},
        {"attempt": 0},
        {"attempt": 10**30},
        {"namespace": None},
        {"trigger": ["beats"]},
        {"targets": "beats"},
        {"targets": [1]},
        {"targets": None},
        {"ping": "yes"},
        {"arrived": True},
        {"arrived": {"revision": "1"}},
        {"result": {"state": "done"}},
        {"result": {"state": "finished", "fingerprint": "0123456789ab"}},
        {"result": {"state": "done", "fingerprint": "../../a/b/c"}},
        {"result": {"state": "done", "fingerprint": "0123456789ab/../.."}},
        {"result": {"state": "done", "fingerprint": "0123456789ab", "equivalents": ["x"]}},
        {"result": {"state": "done", "fingerprint": "0123456789ab", "checksums": {"a/b": ""}}},
        {"result": {"state": "done", "fingerprint": "0123456789ab", "checksums": {"json\n": ""}}},
        {"version": "../1"},
        {"fingerprint": "0123"},
        {"reply_to": "moods"},
        {"reply_to": "moods/main@pubsub://project\n"},
        {"reply_to": "moods/main@http://example.org"},
        {"reply_to": "moods/main@pubsub://a b"},
        {"arrived": {"at": "today", "revision": "1"}},
        {"arrived": {"at": "2026-01-02T03:04:05", "revision": "1"}},
        {"attempt": None},
        {"hops": -1},
    ],
)
def test_a_field_of_another_type_is_refused_and_named(change):
    (field,) = change
    with pytest.raises(UnreadableMessage, match=field):
        decode_message(json.dumps({**SMALL, **change}).encode())


REQUEST = {
    **SMALL,
    "targets": ["down"],
    "fingerprint": "0123456789ab",
    "reply_to": "moods/main@pubsub://project",
}


@pytest.mark.parametrize(
    "change",
    [
        {"targets": []},
        {"targets": ["down", "other"]},
        {"fingerprint": None},
        {"trigger": "source"},
        {"trigger": "source", "is_deleted": True},
        {"is_deleted": True},
        {"is_response": True},
    ],
)
def test_a_request_of_another_namespace_requests_one_result_and_does_nothing_else(change):
    decode_message(json.dumps(REQUEST).encode())
    with pytest.raises(UnreadableMessage):
        decode_message(json.dumps({**REQUEST, **change}).encode())


@pytest.mark.parametrize("uri", ["", "a.wav", "http://b/a.wav", "gs://", "file://host/a.wav"])
def test_a_message_names_a_file(uri):
    with pytest.raises(UnreadableMessage, match="not a location"):
        decode_message(json.dumps({**SMALL, "uri": uri}).encode())


@pytest.mark.parametrize(
    "queue", ["pubsub://acme/segue", "sqlite:////home/me/My Music/50 %?#@/queue.db"]
)
def test_the_inbox_for_a_response_may_be_in_a_queue_at_any_path(queue):
    inbox = f"moods/main@{queue}"
    assert decode_message(json.dumps({**REQUEST, "reply_to": inbox}).encode()).reply_to == inbox


@pytest.mark.parametrize("field", ["uri", "version", "order"])
def test_a_message_without_what_it_needs_is_refused(field):
    with pytest.raises(UnreadableMessage, match=field):
        decode_message(json.dumps({k: v for k, v in SMALL.items() if k != field}).encode())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"\x80\x81",
        b'{"uri": "\xff", "version": "7", "order": 7}',
        b'{"uri": "\\ud800", "version": "7", "order": 7}',
        json.dumps(SMALL).encode() + b"x",
        json.dumps(SMALL).encode()[:-1],
        json.dumps(SMALL).encode("utf-16"),
        b"[" * 100_000,
        b'{"x":' * 100_000,
        b"\0" * 10_000_000,
    ],
    ids=[
        "empty",
        "null",
        "list",
        "binary",
        "latin",
        "surrogate",
        "trailing",
        "truncated",
        "utf16",
        "deep list",
        "deep mapping",
        "huge",
    ],
)
def test_junk_is_a_permanent_error_with_a_short_message(data):
    with pytest.raises(PermanentError) as caught:
        decode_message(data)
    assert type(caught.value) is UnreadableMessage
    assert len(str(caught.value)) < 1000


@given(st.binary(max_size=200))
def test_no_bytes_get_past_as_another_error(data):
    with pytest.raises(UnreadableMessage):
        decode_message(data)


@given(messages, st.data())
def test_a_damaged_message_is_read_or_refused_but_never_breaks_the_reader(message, data):
    bytes_ = bytearray(encode_message(message))
    place = data.draw(st.integers(0, len(bytes_) - 1))
    bytes_[place] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(UnreadableMessage):
        assert isinstance(decode_message(bytes(bytes_)), Message)


def test_a_very_large_message_is_still_a_message():
    message = Message(uri="gs://b/" + "a" * 1_000_000, version="1", order=1, targets=("x",) * 9)
    assert decode_message(encode_message(message)) == message


def test_request_ids_are_never_the_same_and_grow_with_time():
    start = datetime(2026, 1, 2, 3, 4, 5, 999_999, tzinfo=UTC)
    moments = [start + timedelta(microseconds=n) for n in (0, 1, 10**6, 10**9, 10**13)]
    made = [build_request_id(m) for m in moments]
    assert made == sorted(made)
    assert len({build_request_id(start) for _ in range(100)}) == 100


def test_request_ids_do_not_depend_on_the_time_zone():
    east = datetime(2026, 1, 2, 5, tzinfo=timezone(timedelta(hours=5)))
    assert build_request_id(east).startswith("20260102T000000.000000Z-")
