"""Whoever forges an event cannot outrank the versions of an object that are to come."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from segue.errors import ConfigurationError, Unavailable
from segue.ingest.observation import Look
from segue.model.media_file import MediaFile
from segue_functions.arrival import handle_arrival
from segue_functions.deletion import handle_deletion
from segue_functions.events import MalformedEvent
from segue_functions.generations import check_arrival, is_later_than_now
from segue_support.cloud_events import build_object_event

GREATEST = 2**63 - 1
NOW = datetime(2026, 1, 2, tzinfo=UTC)
URI = "gs://b/a.wav"


def claim(generation: int) -> MediaFile:
    """What an event claims about an object."""
    return MediaFile(uri=URI, version=str(generation), order=generation, size_bytes=1)


def find(monkeypatch, media: MediaFile | None) -> None:
    """Have a look at the object find something."""
    seen = Look(uri=URI, media=media)
    monkeypatch.setattr("segue_functions.generations.look_up", lambda _uri: seen)


@pytest.mark.parametrize("found", [None, claim(5)])
def test_a_generation_from_the_future_is_refused_if_the_object_has_another(found, monkeypatch):
    find(monkeypatch, found)
    with pytest.raises(MalformedEvent, match="later than now"):
        check_arrival(claim(GREATEST), NOW)


def test_an_object_that_has_a_generation_from_the_future_arrives_and_can_be_deleted(
    memory, monkeypatch
):
    """Perhaps a clock was wrong."""
    media = claim(GREATEST)
    find(monkeypatch, media)
    handle_arrival(build_object_event("finalized", media))
    assert memory.ledger.records[URI].order == GREATEST
    handle_deletion(build_object_event("deleted", media))
    assert memory.ledger.records[URI].deleted_at is not None


def test_the_object_of_a_plausible_event_is_not_looked_up_in_its_bucket(monkeypatch):
    """A function in the cloud may not read the catalogue."""
    monkeypatch.delattr("segue_functions.generations.look_up")
    check_arrival(claim(int(NOW.timestamp() * 1e6)), NOW)


def test_a_forged_deletion_does_not_bury_an_object_or_its_next_version(memory, logged):
    handle_arrival(build_object_event("finalized", claim(5)))
    handle_deletion(build_object_event("deleted", claim(GREATEST)))
    assert logged[-1]["action"] == "malformed"
    assert memory.ledger.records[URI].deleted_at is None
    handle_deletion(build_object_event("deleted", claim(5)))
    handle_arrival(build_object_event("finalized", claim(6)))
    record = memory.ledger.records[URI]
    assert (record.order, record.deleted_at) == (6, None)


def test_a_generation_is_a_time():
    at = {days: int((NOW + timedelta(days=days)).timestamp()) * 10**6 for days in (-1, 0, 1)}
    later = {days: is_later_than_now(claim(at[days]), NOW) for days in at}
    assert later == {-1: False, 0: False, 1: True}


def test_what_cannot_be_looked_up_is_malformed_where_the_generation_is_in_doubt(monkeypatch):
    def deny(_uri):
        raise ConfigurationError("access to gs://b is denied")

    monkeypatch.setattr("segue_functions.generations.look_up", deny)
    with pytest.raises(MalformedEvent, match="cannot be confirmed: access to gs://b is denied"):
        check_arrival(claim(GREATEST), NOW)


def test_a_bucket_that_is_away_has_the_event_delivered_again(monkeypatch):
    away = Look(uri=URI, error=Unavailable("the bucket is away"))
    monkeypatch.setattr("segue_functions.generations.look_up", lambda _uri: away)
    with pytest.raises(Unavailable, match="away"):
        check_arrival(claim(GREATEST), NOW)
