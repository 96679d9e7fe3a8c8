"""Arrivals are recorded, and their jobs notified; deletions leave a tombstone."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.adapters.folder import FolderStore
from segue.adapters.sqlite_ledger import SqliteLedger
from segue.errors import DamagedRecord, Unavailable
from segue.ingest.events import Arrivals, DeletionResult, Deletions
from segue.model.artifact import build_artifact_name
from segue.model.graph import parse_graph
from segue.model.ledger import Change
from segue.model.media_file import MediaFile
from segue.model.message import Message, decode_message
from segue.model.record import Entry, Record, State, evolve
from segue.model.transitions import Arrival, arrive, delete
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


# --- deletions --------------------------------------------------------------------------------


PRINT, OLD_PRINT = "00000000000a", "00000000000b"


@pytest.fixture
def store(tmp_path) -> FolderStore:
    return FolderStore(str(tmp_path / "artifacts"))


@pytest.fixture
def ledger() -> MemoryLedger:
    return MemoryLedger()


@pytest.fixture
def deletions(ledger, store) -> Deletions:
    return Deletions(ledger=ledger, artifacts=store, clock=lambda: NOW)


def write(store: FolderStore, job: str, generation: int = 5, *, file: str = "a.wav", made=PRINT):
    name = build_artifact_name(job, made, file, generation, "json")
    store.create(name, b"{}", content_type="application/json", metadata={})
    return store.uri(name)


def recorded(ledger: MemoryLedger, artifact: str, generation: int = 5) -> Record:
    """A file whose job 'a' is done."""
    entry = Entry(
        state=State.DONE, fingerprint=PRINT, generation=generation, artifact=artifact, attempts=1
    )
    record = evolve(arrive(None, media(generation), NOW)[0], jobs={"a": entry})
    ledger.change([Change(uri=URI, transition=lambda _: (record, None))])
    return record


def left(store: FolderStore) -> list[str]:
    return [found.name for found in store.list()]


def test_a_tombstone_is_left_and_the_artifacts_of_all_versions_go(ledger, store, deletions):
    recorded(ledger, write(store, "a"))
    write(store, "a", 4)
    assert deletions.record(media()) == DeletionResult(is_new=True, removed=2)
    assert ledger.records[URI].deleted_at == NOW
    assert left(store) == []


def test_without_a_store_artifacts_are_kept(ledger, store):
    recorded(ledger, write(store, "a"))
    deletions = Deletions(ledger=ledger, clock=lambda: NOW)
    assert deletions.record(media()) == DeletionResult(is_new=True, removed=0)
    assert len(left(store)) == 1


def test_what_belongs_to_others_stays(ledger, store, deletions):
    recorded(ledger, write(store, "a"))
    others = [
        write(store, "a", file="b.wav"),
        write(store, "a", file="a.wav/b.wav"),  # its folder lies in the folder of a.wav
        write(store, "a", made=OLD_PRINT),
        write(store, "b"),
        write(store, "a", 6),  # a newer version, whose arrival is on its way
    ]
    assert deletions.record(media()) == DeletionResult(is_new=True, removed=1)
    assert sorted(left(store)) == sorted(u.removeprefix(store.uri("")) for u in others)


def test_an_artifact_elsewhere_is_not_touched(ledger, store, deletions, tmp_path):
    elsewhere = FolderStore(str(tmp_path / "elsewhere"))
    recorded(ledger, write(elsewhere, "a"))
    assert deletions.record(media()) == DeletionResult(is_new=True, removed=0)
    assert len(left(elsewhere)) == 1


def test_a_repeated_event_removes_what_the_first_one_left(ledger, store, deletions, monkeypatch):
    recorded(ledger, write(store, "a"))

    def killed(*_arguments, **_options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(store, "delete", killed)
        with pytest.raises(KeyboardInterrupt):
            deletions.record(media())
    assert len(left(store)) == 1
    assert deletions.record(media()) == DeletionResult(is_new=False, removed=1)
    assert left(store) == []
    assert deletions.record(media()) == DeletionResult(is_new=False, removed=0)


def test_the_deletion_of_an_overwritten_version_changes_nothing(ledger, store, deletions):
    record = recorded(ledger, write(store, "a", 6), 6)
    assert deletions.record(media(5)) == DeletionResult(is_new=False)
    assert ledger.records[URI] == record
    assert len(left(store)) == 1


def test_a_deletion_before_its_arrival_leaves_a_tombstone(ledger, deletions):
    assert deletions.record(media()) == DeletionResult(is_new=True)
    assert ledger.records[URI].deleted_at == NOW
    assert ledger.records[URI].generation == 5


def test_a_deletion_of_a_version_that_never_arrived_moves_the_tombstone_up(ledger, deletions):
    deletions.record(media(5))
    assert deletions.record(media(7)) == DeletionResult(is_new=True)
    assert deletions.record(media(6)) == DeletionResult(is_new=False)
    assert ledger.records[URI].generation == 7


def test_a_damaged_record_costs_its_file_only(tmp_path):
    queue, other = MemoryQueue(), media(uri="gs://music/masters/b.wav")
    ledger = SqliteLedger(str(tmp_path / "ledger.db"))
    Arrivals(graph=GRAPH, ledger=ledger, queue=MemoryQueue()).record([media(), other])
    arrivals = Arrivals(graph=GRAPH, ledger=ledger, queue=queue, clock=lambda: NOW)
    with ledger._session(), ledger._transaction():
        ledger._db.execute("UPDATE files SET record = '{' WHERE uri = ?", (URI,))
    assert arrivals.record([media(), other]) == [Arrival.STALE, Arrival.DUPLICATE]
    assert {m.uri for m in messages(queue)} == {other.uri}
    with pytest.raises(DamagedRecord, match=URI):
        arrivals.record([media()])
    ledger.close()
