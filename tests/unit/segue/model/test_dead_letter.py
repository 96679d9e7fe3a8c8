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
        stage=Stage.RUN, job="beats", error=FAILURE, data=data, uri="gs://b/a.wav", at=NOW
    )


def test_what_is_written_is_read_with_any_bytes_of_a_message():
    dead = build()
    assert decode_dead_letter(dead_letter_to_envelope(dead).data) == dead
    assert dead.data == b"\xff{"


def test_its_json_holds_the_message_in_base64():
    written = json.loads(dead_letter_to_envelope(build()).data)
    assert (written["version"], written["payload"]) == (1, "/3s=")


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
        {"generation": -1},
        {"generation": 10**30},
        {"at": "yesterday"},
        {"version": 2},
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
