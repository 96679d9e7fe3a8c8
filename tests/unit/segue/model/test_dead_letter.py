"""Dead letters: what is written is read, and nothing else is."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from segue.errors import UnreadableMessage
from segue.model.dead_letter import (
    MAX_PAYLOAD_BYTES,
    Stage,
    build_dead_letter,
    dead_letter_to_envelope,
    decode_dead_letter,
)
from segue.model.record import Failure

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
FAILURE = Failure(kind="crashed", type="JobCrashed", message="it died")


def build(data: bytes = b"\xff{"):
    return build_dead_letter(
        stage=Stage.RUN,
        pipeline="rhythm",
        job="beats",
        error=FAILURE,
        data=data,
        uri="gs://b/a.wav",
        version="7",
        order=7,
        at=NOW,
    )


def test_what_is_written_is_read_with_any_bytes_of_a_message():
    dead = build()
    assert decode_dead_letter(dead_letter_to_envelope(dead).data) == dead
    assert dead.data == b"\xff{"


def test_it_goes_to_the_dead_letters_and_says_why_in_its_attributes():
    envelope = dead_letter_to_envelope(build())
    assert envelope.topic == "dead"
    assert envelope.attributes == {"stage": "run", "kind": "crashed"}


def test_bytes_that_are_no_message_belong_to_no_job_and_no_file():
    dead = build_dead_letter(
        stage=Stage.DECODE, pipeline="rhythm", error=FAILURE, data=b"?", at=NOW
    )
    assert (dead.job, dead.uri, dead.version, dead.order) == (None, None, None, None)
    assert decode_dead_letter(dead_letter_to_envelope(dead).data) == dead


def test_its_json_names_its_format_and_holds_the_message_in_base64():
    written = json.loads(dead_letter_to_envelope(build()).data)
    assert (written["format"], written["payload"]) == (2, "/3s=")


def test_a_message_is_cut_to_a_bounded_size():
    assert len(build(b"x" * 10**6).data) == MAX_PAYLOAD_BYTES


@pytest.mark.parametrize(
    "change",
    [
        {"payload": "!"},
        {"payload": "a"},
        {"payload": None},
        {"payload": "é"},
        {"stage": "sleep"},
        {"pipeline": None},
        {"job": 1},
        {"version": 7},
        {"order": -1},
        {"order": 10**30},
        {"at": "yesterday"},
        {"format": 1},
    ],
    ids=str,
)
def test_a_field_of_another_kind_is_refused(change):
    written = json.loads(dead_letter_to_envelope(build()).data)
    with pytest.raises(UnreadableMessage):
        decode_dead_letter(json.dumps({**written, **change}).encode())


@pytest.mark.parametrize("data", [b"", b"\xff", b"[" * 100_000, b"1" * 10_000, b"null", b"{}"])
def test_what_is_no_dead_letter_is_refused(data):
    with pytest.raises(UnreadableMessage):
        decode_dead_letter(data)
