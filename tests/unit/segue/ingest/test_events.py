"""Arrivals are recorded, and the pipelines notified; deletions leave a tombstone."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.adapters.folder import FolderStore
from segue.adapters.sqlite_ledger import SqliteLedger
from segue.errors import DamagedRecord, Unavailable
from segue.ingest.events import Arrivals, DeletionResult, Deletions
from segue.model.artifact import Lineage, build_artifact_name
from segue.model.graph import parse_graph
from segue.model.ledger import Change, Snapshot
from segue.model.media_file import MediaFile
from segue.model.message import Arrived, Message, decode_message
from segue.model.record import Entry, Record, State, evolve
from segue.model.transitions import Arrival, arrive, delete
from segue_support.ledger import MemoryLedger
from segue_support.queue import MemoryQueue

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
URI = "gs://music/masters/a.wav"
GRAPH = parse_graph(
    """
namespace: team
include: ["*.wav", "*.flac"]
pipelines: {rest: [c, d]}
jobs:
  a: {run: "m:f", needs: {media: source}, writes: audio/flac}
  b: {run: "m:f", needs: {x: a}, writes: application/json}
  c: {run: "m:f", needs: {x: a, media: source}, writes: application/json}
  d: {run: "m:f", needs: {media: source}, writes: application/json}
"""
)


def media(order: int = 5, uri: str = URI) -> MediaFile:
    return MediaFile(
        uri=uri,
        version=str(order),
        order=order,
        size_bytes=10,
        content_type="audio/wav",
        checksum="crc32c:AAAAAA==",
    )


def event(order: int = 5, arrived: Arrived | None = None) -> Message:
    return Message(
        namespace="team",
        uri=URI,
        version=str(order),
        order=order,
        trigger="source",
        arrived=arrived,
    )


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


def test_a_new_file_is_recorded_and_its_arrival_published_once(system):
    assert system.record(media()) == [Arrival.NEW]
    record = system.ledger.records[URI]
    assert (record.media, record.arrived_at) == (media(), NOW)
    assert [x.topic for x in system.queue.queued.values()] == ["source"]


def test_the_event_of_a_new_file_tells_what_its_record_contains(system):
    system.record(media())
    [snapshot] = system.ledger.read([URI])
    arrived = Arrived(
        at=NOW,
        revision=snapshot.revision,
        size_bytes=10,
        content_type="audio/wav",
        checksum="crc32c:AAAAAA==",
    )
    [told] = messages(system.queue)
    assert told == event(arrived=arrived)
    assert arrive(None, told.media, arrived.at)[0] == snapshot.record


def test_a_repeated_event_notifies_again_and_records_nothing(system):
    system.record(media())
    record = system.ledger.records[URI]
    assert system.record(media()) == [Arrival.DUPLICATE]
    assert system.ledger.records[URI] is record
    assert len(messages(system.queue)) == 2


@pytest.mark.parametrize("order", [5, 6])
def test_an_event_of_a_file_that_was_recorded_before_does_not_tell_what_its_record_contains(
    system, order
):
    """Results may be in it by now, and would be computed again."""
    system.record(media())
    system.record(media(order))
    assert messages(system.queue)[1:] == [event(order)]


def test_a_file_that_somebody_else_recorded_meanwhile_is_not_vouched_for(system, monkeypatch):
    change = system.ledger.change

    def change_late(changes):
        theirs = Record(uri=URI, version="5", order=5, arrived_at=NOW)
        change([Change(uri=URI, transition=lambda _: (theirs, None))])
        return change(changes)

    monkeypatch.setattr(system.ledger, "change", change_late)
    assert system.record(media()) == [Arrival.DUPLICATE]
    assert messages(system.queue) == [event()]


def test_a_new_file_is_recorded_without_reading(system, monkeypatch):
    monkeypatch.delattr(MemoryLedger, "read")
    known = []
    change = system.ledger.change

    def change_known(changes):
        known.extend(one.known for one in changes)
        return change(changes)

    monkeypatch.setattr(system.ledger, "change", change_known)
    system.record(media())
    assert known == [Snapshot(record=None)]


def test_versions_without_an_order_of_their_own_get_one_in_the_ledger(system):
    for version in ("a", "b", "a"):
        system.record(MediaFile(uri=URI, version=version))
    told = messages(system.queue)
    assert [(m.version, m.order) for m in told] == [("a", 1), ("b", 2), ("a", 3)]
    assert [m.arrived is not None for m in told] == [True, False, False]


def test_an_older_version_notifies_nobody(system):
    system.record(media(6))
    assert system.record(media(5)) == [Arrival.STALE]
    assert system.ledger.records[URI].version == "6"
    assert {m.version for m in messages(system.queue)} == {"6"}


def test_a_file_that_was_deleted_before_its_arrival_came_notifies_nobody(system):
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
    assert messages(system.queue) == [event()]


@given(st.permutations([("arrive", 5), ("arrive", 6), ("delete", 5), ("arrive", 5)]))
def test_an_overwritten_file_ends_with_its_newest_version_in_any_order(events):
    system = System()
    for what, order in events:
        if what == "arrive":
            system.record(media(order))
        else:
            system.delete(media(order))
    record = system.ledger.records[URI]
    assert (record.order, record.deleted_at) == (6, None)
    assert 6 in {m.order for m in messages(system.queue)}


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
    return Deletions(
        graph=GRAPH, ledger=ledger, queue=MemoryQueue(), artifacts=store, clock=lambda: NOW
    )


def write(store: FolderStore, job: str, order: int = 5, *, file: str = "a.wav", made=PRINT) -> str:
    name = build_artifact_name(job, made, f"masters/{file}", str(order), "json")
    store.create(name, b"{}", content_type="application/json", metadata={})
    return name


def recorded(ledger: MemoryLedger, order: int = 5) -> Record:
    """A file whose job 'a' is done."""
    entry = Entry(job="a", state=State.DONE, order=order, checksums={"json": ""}, attempts=1)
    record = evolve(arrive(None, media(order), NOW)[0], results={PRINT: entry})
    ledger.change([Change(uri=URI, transition=lambda _: (record, None))])
    return record


def left(store: FolderStore) -> list[str]:
    return [found.name for found in store.list()]


def test_a_tombstone_is_left_and_the_artifacts_of_all_versions_go(ledger, store, deletions):
    recorded(ledger)
    write(store, "a")
    write(store, "a", 4)
    assert deletions.record(media()) == DeletionResult(is_new=True, removed=2)
    assert ledger.records[URI].deleted_at == NOW
    assert left(store) == []


def test_without_a_store_artifacts_are_kept(ledger, store):
    recorded(ledger)
    write(store, "a")
    deletions = Deletions(graph=GRAPH, ledger=ledger, queue=MemoryQueue(), clock=lambda: NOW)
    assert deletions.record(media()) == DeletionResult(is_new=True, removed=0)
    assert len(left(store)) == 1


def test_what_belongs_to_others_stays(ledger, store, deletions):
    recorded(ledger)
    write(store, "a")
    others = [
        write(store, "a", file="b.wav"),
        write(store, "a", file="a.wav/b.wav"),  # its folder lies in the folder of a.wav
        write(store, "a", made=OLD_PRINT),
        write(store, "b"),
        write(store, "a", 6),  # a newer version, whose arrival is on its way
    ]
    assert deletions.record(media()) == DeletionResult(is_new=True, removed=1)
    assert sorted(left(store)) == sorted(others)


def test_the_artifact_of_a_file_of_the_same_name_in_another_bucket_stays(ledger, store, deletions):
    recorded(ledger)
    name = build_artifact_name("a", PRINT, "masters/a.wav", "4", "json")
    other = Lineage(job="a", fingerprint=PRINT, uri="gs://others/masters/a.wav", version="4")
    metadata = other.to_metadata()
    store.create(name, b"{}", content_type="application/json", metadata=metadata)
    assert deletions.record(media()) == DeletionResult(is_new=True, removed=0)
    assert left(store) == [name]


def test_the_artifacts_of_all_recorded_results_go(ledger, store, deletions):
    """Old ones of a job, too, and those of older versions of a file whose job is queued again."""
    record = recorded(ledger)
    old = Entry(job="a", state=State.DONE, order=5, checksums={"json": ""})
    queued = Entry(job="b", state=State.QUEUED, order=5)
    record = evolve(record, results={**record.results, OLD_PRINT: old, "0" * 12: queued})
    ledger.change([Change(uri=URI, transition=lambda _: (record, None))])
    write(store, "a")
    write(store, "a", made=OLD_PRINT)
    write(store, "b", 4, made="0" * 12)
    assert deletions.record(media()).removed == 3
    assert left(store) == []


def test_the_artifacts_of_contents_that_may_come_back_are_kept(ledger, store, deletions):
    record = evolve(recorded(ledger), version="ab", order=1)
    ledger.change([Change(uri=URI, transition=lambda _: (record, None))])
    name = build_artifact_name("a", PRINT, "masters/a.wav", "ab", "json")
    store.create(name, b"{}", content_type="application/json", metadata={})
    assert deletions.record(MediaFile(uri=URI, version="ab")) == DeletionResult(is_new=True)
    assert left(store) == [name]


def test_a_repeated_event_removes_what_the_first_one_left(ledger, store, deletions, monkeypatch):
    recorded(ledger)
    write(store, "a")

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
    record = recorded(ledger, 6)
    write(store, "a", 6)
    assert deletions.record(media(5)) == DeletionResult(is_new=False)
    assert ledger.records[URI] == record
    assert len(left(store)) == 1


def test_a_deletion_before_its_arrival_leaves_a_tombstone(ledger, deletions):
    assert deletions.record(media()) == DeletionResult(is_new=True)
    assert ledger.records[URI].deleted_at == NOW
    assert ledger.records[URI].order == 5


def test_a_deletion_of_a_version_that_never_arrived_moves_the_tombstone_up(ledger, deletions):
    deletions.record(media(5))
    assert deletions.record(media(7)) == DeletionResult(is_new=True)
    assert deletions.record(media(6)) == DeletionResult(is_new=False)
    assert ledger.records[URI].order == 7


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
