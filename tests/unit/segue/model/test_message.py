"""Messages: what is encoded is decoded, and nothing else is."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.errors import PermanentError
from segue.model.message import (
    Message,
    UnreadableMessage,
    build_request_id,
    decode_message,
    encode_message,
)

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
messages = st.builds(
    Message,
    uri=names,
    generation=st.integers(0, 2**63 - 1),
    job=names,
    targets=st.none() | st.lists(names, max_size=3).map(tuple),
    force=st.booleans(),
    ping=st.booleans(),
    request=st.none() | names,
    lane=st.sampled_from(["live", "requests"]),
    attempt=st.integers(1, 100),
)
SMALL = {"version": 1, "uri": "gs://b/a.wav", "generation": 7, "job": "beats"}


@given(messages)
def test_what_is_written_is_read(message):
    assert decode_message(encode_message(message)) == message


def test_a_message_is_small_and_names_its_version():
    message = Message(uri="gs://b/a.wav", generation=7, job="beats")
    assert json.loads(encode_message(message)) == SMALL


def test_a_message_asks_for_everything_below_unless_it_says_otherwise():
    message = decode_message(json.dumps(SMALL).encode())
    assert (message.targets, message.force, message.ping) == (None, False, False)
    assert (message.request, message.lane, message.attempt) == (None, "live", 1)


def test_no_targets_and_an_empty_list_of_targets_are_different_things():
    assert decode_message(json.dumps(SMALL).encode()).targets is None
    assert decode_message(json.dumps({**SMALL, "targets": []}).encode()).targets == ()


@pytest.mark.parametrize("version", [0, 2, 1.0, "1", True, None])
def test_another_version_is_not_guessed_at(version):
    with pytest.raises(UnreadableMessage, match="not a message of version 1"):
        decode_message(json.dumps({**SMALL, "version": version}).encode())


def test_a_message_without_a_version_is_read_as_the_first():
    plain = {k: v for k, v in SMALL.items() if k != "version"}
    assert decode_message(json.dumps(plain).encode()) == decode_message(json.dumps(SMALL).encode())


def test_fields_that_a_later_writer_added_are_passed_over():
    data = json.dumps({**SMALL, "priority": {"level": [1, 2]}}).encode()
    assert decode_message(data) == decode_message(json.dumps(SMALL).encode())


@pytest.mark.parametrize(
    "change",
    [
        {"uri": None},
        {"uri": 1},
        {"generation": "7"},
        {"generation": 1.5},
        {"generation": -1},
        {"generation": 2**63},
        {"attempt": 0},
        {"attempt": 10**30},
        {"job": ["beats"]},
        {"targets": "beats"},
        {"targets": [1]},
        {"force": "yes"},
        {"lane": "slow"},
        {"attempt": None},
    ],
)
def test_a_field_of_another_type_is_refused_and_named(change):
    (field,) = change
    with pytest.raises(UnreadableMessage, match=field):
        decode_message(json.dumps({**SMALL, **change}).encode())


@pytest.mark.parametrize("field", ["uri", "generation", "job"])
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
        b'{"uri": "\xff", "generation": 7, "job": "beats"}',
        b'{"uri": "\\ud800", "generation": 7, "job": "beats"}',
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
    message = Message(
        uri="gs://b/" + "a" * 1_000_000, generation=1, job="beats", targets=("x",) * 9
    )
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
