"""What is taken in, and who is told of it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.errors import Unavailable
from segue.ingest.arrivals import Arrivals, Intake
from segue.model.graph import parse
from segue.model.ledger import Arrival, Change, delete
from segue.model.media_file import MediaFile
from segue.model.message import Message, decode
from segue_support.ledger import MemoryLedger
from segue_support.queue import MemoryQueue

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
URI = "gs://music/masters/a.wav"
GRAPH = parse(
    """
include: ["*.wav", "*.flac"]
jobs:
  a: {run: "m:f", needs: {media: source}, writes: audio/flac}
  b: {run: "m:f", needs: {x: a}, writes: application/json}
  c: {run: "m:f", needs: {x: a, media: source}, writes: application/json}
"""
)


def media(generation: int = 5, uri: str = URI) -> MediaFile:
    return MediaFile(uri=uri, generation=generation, size_bytes=10)


def messages(queue: MemoryQueue) -> list[Message]:
    return [decode(letter.data) for letter in queue.queued.values()]


class Ear:
    """Arrivals, with the ledger and the queue behind them."""

    def __init__(self) -> None:
        self.ledger = MemoryLedger()
        self.queue = MemoryQueue()
        self.arrivals = Arrivals(
            graph=GRAPH, ledger=self.ledger, queue=self.queue, clock=lambda: NOW
        )

    def take(self, *files: MediaFile) -> list[Arrival]:
        return self.arrivals.take(files)

    def delete(self, version: MediaFile) -> None:
        self.ledger.change(
            [Change(uri=version.uri, transition=lambda found: delete(found, version, NOW))]
        )


@pytest.fixture
def ear() -> Ear:
    return Ear()


# --- arrivals ---------------------------------------------------------------------------------


def test_a_new_file_is_recorded_and_the_jobs_that_read_the_source_are_told(ear):
    assert ear.take(media()) == [Arrival.NEW]
    record = ear.ledger.records[URI]
    assert (record.generation, record.size_bytes, record.arrived_at) == (5, 10, NOW)
    assert messages(ear.queue) == [Message(uri=URI, generation=5, job=job) for job in ("a", "c")]
    assert [x.topic for x in ear.queue.queued.values()] == ["a-live", "c-live"]


def test_a_repeated_event_tells_again_and_records_nothing(ear):
    ear.take(media())
    record = ear.ledger.records[URI]
    assert ear.take(media()) == [Arrival.DUPLICATE]
    assert ear.ledger.records[URI] is record
    assert len(messages(ear.queue)) == 4


def test_an_older_version_tells_nobody(ear):
    ear.take(media(6))
    assert ear.take(media(5)) == [Arrival.STALE]
    assert ear.ledger.records[URI].generation == 6
    assert {m.generation for m in messages(ear.queue)} == {6}


def test_a_file_that_was_deleted_before_its_arrival_came_tells_nobody(ear):
    ear.delete(media(5))
    assert ear.take(media(5)) == [Arrival.STALE]
    assert messages(ear.queue) == []
    assert ear.take(media(6)) == [Arrival.NEWER]
    assert ear.ledger.records[URI].deleted_at is None


def test_of_a_file_that_is_named_twice_the_newest_version_counts(ear):
    other = media(1, "gs://music/masters/b.wav")
    told = ear.take(media(5), other, media(7), media(6))
    assert told == [Arrival.STALE, Arrival.NEW, Arrival.NEW, Arrival.STALE]
    assert ear.ledger.records[URI].generation == 7
    assert len(messages(ear.queue)) == 4


def test_the_same_version_twice_in_one_call_is_a_duplicate(ear):
    assert ear.take(media(), media()) == [Arrival.NEW, Arrival.DUPLICATE]
    assert len(messages(ear.queue)) == 2


def test_nothing_to_take_touches_nothing(ear):
    assert ear.take() == []
    assert messages(ear.queue) == []


def test_what_was_recorded_while_the_queue_was_away_is_told_by_the_next_event(ear, monkeypatch):
    def away(_letters):
        raise Unavailable("the queue is away; try again later")

    with monkeypatch.context() as patched:
        patched.setattr(ear.queue, "publish", away)
        with pytest.raises(Unavailable):
            ear.take(media())
    assert URI in ear.ledger.records
    assert ear.take(media()) == [Arrival.DUPLICATE]
    assert [m.job for m in messages(ear.queue)] == ["a", "c"]


@given(st.permutations([("arrive", 5), ("arrive", 6), ("delete", 5), ("arrive", 5)]))
def test_an_overwritten_file_ends_with_its_newest_version_in_any_order(events):
    ear = Ear()
    for what, generation in events:
        if what == "arrive":
            ear.take(media(generation))
        else:
            ear.delete(media(generation))
    record = ear.ledger.records[URI]
    assert (record.generation, record.deleted_at) == (6, None)
    assert Message(uri=URI, generation=6, job="a") in messages(ear.queue)


# --- what is taken in -------------------------------------------------------------------------


def intake(catalogue: str | None = "gs://music/masters", *ours: str) -> Intake:
    return Intake.of(GRAPH, catalogue=catalogue, ours=ours)


@pytest.mark.parametrize(
    "uri",
    ["gs://music/masters/a.wav", "gs://music/masters/b/A.WAV", "gs://music/masters-2/a//../b.flac"],
)
def test_media_below_the_catalogues_prefix_is_taken(uri):
    assert intake().refusal(uri) is None


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("gs://music/masters/", "folder"),
        ("gs://music", "folder"),
        ("gs://music/masters/a.wav/", "folder"),
        ("gs://music/masters/a.txt", "suffix"),
        ("gs://music/masters/wav", "suffix"),
        ("gs://music/other/a.wav", "not below the catalogue gs://music/masters"),
        ("gs://music-2/masters/a.wav", "not below the catalogue"),
        ("gs://music/masters/features/a/0/a.wav/5.flac", "Segue itself"),
        ("https://music/masters/a.wav", "no URI"),
        ("masters/a.wav", "no URI"),
        ("", "no URI"),
    ],
)
def test_what_is_no_media_of_the_catalogue_is_refused_with_a_reason(uri, reason):
    assert reason in (
        intake("gs://music/masters", "gs://music/masters/features").refusal(uri) or ""
    )


def test_a_folders_catalogue_ends_where_the_folder_does():
    music = intake("file:///home/me/music", "file:///home/me/music/.segue")
    assert music.refusal("file:///home/me/music/a.wav") is None
    assert "not below" in (music.refusal("file:///home/me/music-2/a.wav") or "")
    assert "Segue itself" in (music.refusal("file:///home/me/music/.segue/a.wav") or "")


@pytest.mark.parametrize("name", ["../secret.wav", "a/../../secret.wav", "./a.wav", "a//b.wav"])
def test_a_path_that_could_lead_out_of_the_catalogue_is_refused(name):
    assert "parts" in (
        intake("file:///home/me/music").refusal(f"file:///home/me/music/{name}") or ""
    )


def test_without_a_catalogue_media_anywhere_is_taken_but_segues_own():
    anywhere = intake(None, "gs://features")
    assert anywhere.refusal("gs://music/a.wav") is None
    assert anywhere.refusal("file:///music/a.wav") is None
    assert "Segue itself" in (anywhere.refusal("gs://features/a/0/a.wav/5.flac") or "")
