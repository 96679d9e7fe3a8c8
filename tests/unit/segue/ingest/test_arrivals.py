"""What is taken in, and who is notified of it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.errors import Unavailable
from segue.ingest.arrivals import Arrivals
from segue.model.graph import parse_graph
from segue.model.ledger import Change
from segue.model.media_file import MediaFile
from segue.model.message import Message, decode_message
from segue.model.transitions import Arrival, delete
from segue_support.ledger import MemoryLedger
from segue_support.queue import MemoryQueue

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
URI = "gs://music/masters/a.wav"
GRAPH = parse_graph(
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
    return [decode_message(envelope.data) for envelope in queue.queued.values()]


class System:
    """Arrivals, with the ledger and the queue behind them."""

    def __init__(self) -> None:
        self.ledger = MemoryLedger()
        self.queue = MemoryQueue()
        self.arrivals = Arrivals(
            graph=GRAPH, ledger=self.ledger, queue=self.queue, clock=lambda: NOW
        )

    def record(self, *files: MediaFile) -> list[Arrival]:
        return self.arrivals.record(files)

    def delete(self, version: MediaFile) -> None:
        self.ledger.change(
            [Change(uri=version.uri, transition=lambda found: delete(found, version, NOW))]
        )


@pytest.fixture
def system() -> System:
    return System()


# --- arrivals ---------------------------------------------------------------------------------


def test_a_new_file_is_recorded_and_the_jobs_that_read_the_source_are_notified(system):
    assert system.record(media()) == [Arrival.NEW]
    record = system.ledger.records[URI]
    assert (record.generation, record.size_bytes, record.arrived_at) == (5, 10, NOW)
    assert messages(system.queue) == [Message(uri=URI, generation=5, job=job) for job in ("a", "c")]
    assert [x.topic for x in system.queue.queued.values()] == ["a-live", "c-live"]


def test_a_repeated_event_notifies_again_and_records_nothing(system):
    system.record(media())
    record = system.ledger.records[URI]
    assert system.record(media()) == [Arrival.DUPLICATE]
    assert system.ledger.records[URI] is record
    assert len(messages(system.queue)) == 4


def test_an_older_version_notifies_no_job(system):
    system.record(media(6))
    assert system.record(media(5)) == [Arrival.STALE]
    assert system.ledger.records[URI].generation == 6
    assert {m.generation for m in messages(system.queue)} == {6}


def test_a_file_that_was_deleted_before_its_arrival_came_notifies_no_job(system):
    system.delete(media(5))
    assert system.record(media(5)) == [Arrival.STALE]
    assert messages(system.queue) == []
    assert system.record(media(6)) == [Arrival.NEWER]
    assert system.ledger.records[URI].deleted_at is None


def test_of_a_file_that_is_named_twice_the_newest_version_counts(system):
    other = media(1, "gs://music/masters/b.wav")
    notified = system.record(media(5), other, media(7), media(6))
    assert notified == [Arrival.STALE, Arrival.NEW, Arrival.NEW, Arrival.STALE]
    assert system.ledger.records[URI].generation == 7
    assert len(messages(system.queue)) == 4


def test_the_same_version_twice_in_one_call_is_a_duplicate(system):
    assert system.record(media(), media()) == [Arrival.NEW, Arrival.DUPLICATE]
    assert len(messages(system.queue)) == 2


def test_no_files_change_nothing(system):
    assert system.record() == []
    assert messages(system.queue) == []


def test_what_was_recorded_while_the_queue_was_away_is_notified_by_the_next_event(
    system, monkeypatch
):
    def away(_envelopes):
        raise Unavailable("the queue is away; try again later")

    with monkeypatch.context() as patched:
        patched.setattr(system.queue, "publish", away)
        with pytest.raises(Unavailable):
            system.record(media())
    assert URI in system.ledger.records
    assert system.record(media()) == [Arrival.DUPLICATE]
    assert [m.job for m in messages(system.queue)] == ["a", "c"]


@given(st.permutations([("arrive", 5), ("arrive", 6), ("delete", 5), ("arrive", 5)]))
def test_an_overwritten_file_ends_with_its_newest_version_in_any_order(events):
    system = System()
    for what, generation in events:
        if what == "arrive":
            system.record(media(generation))
        else:
            system.delete(media(generation))
    record = system.ledger.records[URI]
    assert (record.generation, record.deleted_at) == (6, None)
    assert Message(uri=URI, generation=6, job="a") in messages(system.queue)
