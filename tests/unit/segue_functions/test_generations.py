"""Whoever forges an event cannot outrank the versions to come, or bury a file that is there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from segue.errors import ConfigurationError, Unavailable
from segue.ingest.catalogue import MediaStat
from segue.model.media_file import MediaFile
from segue_functions.arrival import handle_arrival
from segue_functions.deletion import handle_deletion
from segue_functions.events import MalformedEvent
from segue_functions.generations import check_arrival, is_later_than_now
from segue_support.cloud_events import build_object_event

GREATEST = 2**63 - 1
NOW = datetime(2026, 1, 2, tzinfo=UTC)


def write(memory, name: str = "a.wav") -> MediaFile:
    """Write a file, and return its version."""
    memory.music.create(name, b"sound", content_type="audio/wav", metadata={}, replace=True)
    return memory.music.stat(name).to_media_file(memory.music.uri(name))


def forge(media: MediaFile, generation: int) -> MediaFile:
    return MediaFile(uri=media.uri, generation=generation, size_bytes=1)


def arrive(media: MediaFile) -> None:
    handle_arrival(build_object_event("finalized", media))


def delete(media: MediaFile) -> None:
    handle_deletion(build_object_event("deleted", media))


@pytest.mark.parametrize("generation", [1, 10**18, GREATEST])
def test_a_local_file_arrives_with_the_generation_that_it_has(memory, generation):
    media = write(memory)
    arrive(forge(media, generation))
    assert memory.ledger.records[media.uri].media == media


@pytest.mark.parametrize("uri", ["file:///music/gone.wav", "gs://b/a.wav"])
def test_a_generation_from_the_future_is_refused_if_the_object_has_another(uri, monkeypatch):
    media = MediaFile(uri=uri, generation=GREATEST)
    other = MediaFile(uri=uri, generation=5)
    found = None if uri.startswith("file") else other
    monkeypatch.setattr("segue_functions.generations._find", lambda _media: found)
    with pytest.raises(MalformedEvent, match="later than now"):
        check_arrival(media, NOW)


def test_an_object_that_has_a_generation_from_the_future_arrives(monkeypatch):
    media = MediaFile(uri="gs://b/a.wav", generation=GREATEST)
    monkeypatch.setattr("segue_functions.generations._find", lambda _media: media)
    assert check_arrival(media, NOW) == media


def test_the_object_of_a_plausible_event_is_not_looked_up_in_its_bucket(monkeypatch):
    """A function in the cloud may not read the catalogue."""
    monkeypatch.delattr("segue_functions.generations._find")
    media = MediaFile(uri="gs://b/a.wav", generation=int(NOW.timestamp() * 1e6))
    assert check_arrival(media, NOW) == media


def test_a_forged_deletion_does_not_bury_a_file_that_is_there(memory, logged):
    media = write(memory)
    arrive(media)
    for generation in (media.generation, media.generation + 1, GREATEST):
        delete(forge(media, generation))
    assert memory.ledger.records[media.uri].deleted_at is None
    assert [line.get("reason") for line in logged[1:]] == ["the file is there"] * 3


def test_a_forged_deletion_of_a_file_that_is_gone_does_not_bury_its_next_version(memory, logged):
    media = write(memory)
    arrive(media)
    memory.music.delete("a.wav")
    delete(forge(media, GREATEST))
    assert logged[-1]["action"] == "malformed"
    delete(media)
    assert memory.ledger.records[media.uri].deleted_at is not None
    again = write(memory)
    arrive(again)
    record = memory.ledger.records[media.uri]
    assert (record.generation, record.deleted_at) == (again.generation, None)


def test_a_file_whose_clock_was_ahead_can_be_deleted(memory):
    """Its generation is later than now, but the ledger has it."""
    uri = memory.music.uri("a.wav")
    ahead = MediaFile(uri=uri, generation=GREATEST)
    memory.services.arrivals.record([ahead])
    delete(ahead)
    assert memory.ledger.records[uri].deleted_at is not None


@pytest.mark.parametrize(("place", "scale"), [("gs://b/a.wav", 10**6), ("file:///a.wav", 10**9)])
def test_a_generation_is_a_time(place, scale):
    at = {days: int((NOW + timedelta(days=days)).timestamp()) * scale for days in (-1, 0, 1)}
    later = {days: is_later_than_now(MediaFile(uri=place, generation=at[days]), NOW) for days in at}
    assert later == {-1: False, 0: False, 1: True}


def test_what_cannot_be_looked_up_is_malformed_where_the_generation_is_in_doubt(monkeypatch):
    def deny(_uri):
        raise ConfigurationError("access to gs://b is denied")

    monkeypatch.setattr("segue_functions.generations.stat_media", deny)
    with pytest.raises(MalformedEvent, match="cannot be confirmed: access to gs://b is denied"):
        check_arrival(MediaFile(uri="gs://b/a.wav", generation=GREATEST), NOW)


def test_a_bucket_that_is_away_has_the_event_delivered_again(monkeypatch):
    away = MediaStat(uri="gs://b/a.wav", unknown="the bucket is away")
    monkeypatch.setattr("segue_functions.generations.stat_media", lambda _uri: away)
    with pytest.raises(Unavailable, match="away"):
        check_arrival(MediaFile(uri="gs://b/a.wav", generation=GREATEST), NOW)
