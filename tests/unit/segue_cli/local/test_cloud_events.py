"""Events are those of Cloud Storage and Pub/Sub, as the functions receive them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cloudevents.http import from_http

from segue.model.media_file import MediaFile
from segue_cli.local.cloud_events import build_file_event, build_sweep_event
from segue_functions.events import DELETED, FINALIZED, parse_media, parse_sweep_order
from segue_support.cloud_events import build_message_event, build_object_event, to_binary

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SONGS = (
    "file:///music/song.wav",
    'file:///mu sic/東京/雨 100% "live".flac',
    "file:///music/new\nline\x1b.wav",
)


@pytest.mark.parametrize("uri", SONGS)
@pytest.mark.parametrize("kind", [FINALIZED, DELETED])
def test_the_functions_parse_the_events(uri, kind):
    event = build_file_event(kind, uri, now=NOW)
    assert parse_media(event, kind) == MediaFile(uri=uri, version="")
    assert event["type"] == kind


def test_a_sweep_event_has_default_options():
    assert parse_sweep_order(build_sweep_event(now=NOW)).limit > 0


@pytest.mark.parametrize(
    ("event", "sent"),
    [
        (
            build_file_event(FINALIZED, SONGS[0], now=NOW),
            build_object_event("finalized", MediaFile(uri=SONGS[0], version="")),
        ),
        (build_sweep_event(now=NOW), build_message_event()),
    ],
    ids=["file", "sweep"],
)
def test_an_event_has_only_the_attributes_and_data_that_one_has_over_http(event, sent):
    received = from_http(*to_binary(sent))
    assert event.get_attributes().keys() == received.get_attributes().keys() | {"time"}
    assert event.data.keys() <= received.data.keys()
