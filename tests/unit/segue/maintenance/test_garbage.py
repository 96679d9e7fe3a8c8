"""Unreferenced artifacts are found and deleted, and nothing else is."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.adapters.folder import FolderStore
from segue.adapters.sqlite_ledger import SqliteLedger
from segue.errors import DamagedRecord
from segue.maintenance.garbage import GarbageCollector, GarbageReason, list_artifacts
from segue.model.artifact import Lineage, build_artifact_name, quote_name
from segue.model.graph import parse_graph
from segue.model.lease_owner import build_owner
from segue.model.ledger import Change, Snapshot
from segue.model.media_file import split_uri
from segue.model.record import Entry, Lease, Record, State
from segue_support.ledger import MemoryLedger

NOW = datetime.now(UTC)
LONG_AGO = NOW - timedelta(days=10)
GRAPH = parse_graph(
    """
jobs:
  beats: {run: "m:f", needs: {media: source}, writes: application/json}
  energy: {run: "m:f", needs: {beats: beats}, writes: application/json}
"""
)
BEATS = GRAPH.fingerprints["beats"]
OLD = "0" * 12
URI = "file:///music/song.flac"
# On this machine, by a number that no process can have.
DEAD_OWNER = f"{build_owner().rsplit('/', 3)[0]}/999999999/1/ab12"


class Yard:
    """A folder of artifacts that are ten days old, and a ledger."""

    def __init__(self, folder: str) -> None:
        self.store = FolderStore(folder)
        self.folder = folder
        self.ledger = MemoryLedger()

    def put(
        self,
        job: str = "beats",
        fingerprint: str = BEATS,
        uri: str = URI,
        generation: int = 2,
        *,
        metadata: dict[str, str] | None = None,
        age: timedelta = NOW - LONG_AGO,
    ) -> str:
        name = build_artifact_name(job, fingerprint, split_uri(uri)[1], generation, "json")
        made = Lineage(job=job, fingerprint=fingerprint, uri=uri, generation=generation)
        self.store.create(
            name,
            b"{}",
            content_type="application/json",
            metadata=made.to_metadata() if metadata is None else metadata,
        )
        self.touch(name, age)
        return name

    def touch(self, name: str, age: timedelta) -> None:
        at = (NOW - age).timestamp()
        os.utime(f"{self.folder}/{name}", (at, at))

    def know(self, uri: str = URI, *, deleted_at: datetime | None = None, **jobs: Entry) -> None:
        record = Record(
            uri=uri, generation=2, arrived_at=LONG_AGO, deleted_at=deleted_at, jobs=jobs
        )
        self.ledger = MemoryLedger([*self.ledger.records.values(), record])

    def done(self, name: str, fingerprint: str = BEATS) -> Entry:
        return Entry(
            state=State.DONE,
            fingerprint=fingerprint,
            generation=2,
            artifact=self.store.uri(name),
        )

    def collector(self, ledger=None, age: timedelta = timedelta(days=1)) -> GarbageCollector:
        return GarbageCollector(
            graph=GRAPH,
            ledger=ledger or self.ledger,
            artifacts=self.store,
            before=NOW - age,
            clock=lambda: NOW,
        )

    def found(self, **options) -> dict[str, GarbageReason]:
        return {g.object.name: g.reason for g in self.collector(**options).find()}

    def left(self) -> list[str]:
        return [o.name for o in self.store.list()]


@pytest.fixture
def yard(tmp_path) -> Yard:
    return Yard(str(tmp_path))


def test_referenced_artifacts_are_kept_whatever_made_them(yard):
    now, old = yard.put(), yard.put("energy", OLD)
    yard.know(beats=yard.done(now), energy=yard.done(old, OLD))
    assert yard.found() == {}


def test_each_reason_is_reported(yard):
    named = yard.put()
    stale = yard.put(fingerprint=OLD)
    overwritten = yard.put(generation=1)
    leftover = yard.put("energy", GRAPH.fingerprints["energy"])
    deleted = yard.put(uri="file:///music/deleted.flac")
    unknown = yard.put(uri="file:///music/unknown.flac")
    yard.know(beats=yard.done(named))
    yard.know("file:///music/deleted.flac", deleted_at=LONG_AGO, beats=yard.done(deleted))
    assert yard.found() == {
        stale: GarbageReason.OLD_FINGERPRINT,
        overwritten: GarbageReason.OLD_GENERATION,
        leftover: GarbageReason.LEFTOVER,
        deleted: GarbageReason.DELETED_FILE,
        unknown: GarbageReason.UNKNOWN_FILE,
    }


def test_only_what_is_found_is_removed(yard):
    kept = yard.put()
    yard.put(fingerprint=OLD)
    yard.know(beats=yard.done(kept))
    collector = yard.collector()
    gone = list(collector.collect(collector.find()))
    assert [g.reason for g in gone] == [GarbageReason.OLD_FINGERPRINT]
    assert yard.left() == [kept]


def test_what_is_young_is_left_alone(yard):
    yard.put(fingerprint=OLD, age=timedelta(hours=23))
    yard.know()
    assert yard.found() == {}
    assert yard.found(age=timedelta(hours=22))


def test_a_file_deleted_a_moment_ago_keeps_its_artifacts_for_now(yard):
    yard.put()
    yard.know(deleted_at=NOW - timedelta(hours=1))
    assert yard.found() == {}


def test_a_generation_that_the_ledger_does_not_know_is_kept(yard):
    yard.put(generation=3)
    yard.know()
    assert yard.found() == {}


@pytest.mark.parametrize("named", [True, False])
def test_an_object_without_lineage_is_never_deleted(yard, named):
    foreign = Lineage(job="energy", fingerprint=OLD, uri=URI, generation=2)
    yard.put(fingerprint=OLD, metadata=foreign.to_metadata() if named else {})
    yard.know()
    assert yard.found() == {}


@pytest.mark.parametrize(
    "name",
    [
        "notes.txt",
        "beats/notes.txt",
        f"beats/{OLD}/notes.txt",
        f"beats/{OLD}/music/song.flac/notes.txt",
        "beats/not a fingerprint/music/song.flac/2.json",
        f"Beats/{OLD}/music/song.flac/2.json",
    ],
)
def test_a_users_own_file_among_the_artifacts_survives(yard, name):
    garbage = yard.put(fingerprint=OLD)
    yard.store.create(name, b"mine", content_type="text/plain", metadata={})
    yard.touch(name, timedelta(days=1000))
    yard.know()
    collector = yard.collector()
    assert [g.object.name for g in collector.collect(collector.find())] == [garbage]
    assert yard.left() == [name]


def test_names_that_had_to_be_quoted_are_found_by_their_lineage(yard):
    uris = ["gs://other/a//b.flac", "gs://other/100%.flac", f"gs://other/{'x' * 300}.flac"]
    kept = [yard.put(uri=uri) for uri in uris]
    gone = [yard.put(fingerprint=OLD, uri=uri) for uri in uris]
    for uri, name in zip(uris, kept, strict=True):
        yard.know(uri, beats=yard.done(name))
    assert yard.found() == dict.fromkeys(gone, GarbageReason.OLD_FINGERPRINT)


def test_files_of_the_same_name_in_two_buckets_are_not_confused(yard):
    here, there = "gs://here/song.flac", "gs://there/song.flac"
    name = yard.put(uri=here)
    yard.know(there)
    assert yard.found() == {name: GarbageReason.UNKNOWN_FILE}
    yard.know(here, beats=yard.done(name))
    assert yard.found() == {}


@pytest.mark.parametrize(
    ("owner", "expires_at", "kept"),
    [
        (build_owner(), NOW + timedelta(minutes=5), True),
        (build_owner(), NOW - timedelta(minutes=5), False),
        ("elsewhere/1/1/a", NOW + timedelta(minutes=5), True),
        (DEAD_OWNER, NOW + timedelta(minutes=5), False),
    ],
    ids=["held here", "expired here", "held elsewhere", "of a dead process"],
)
def test_what_a_live_run_may_be_about_to_record_is_kept(yard, owner, expires_at, kept):
    name = yard.put()
    lease = Lease(owner=owner, expires_at=expires_at)
    yard.know(beats=Entry(state=State.RUNNING, fingerprint=BEATS, generation=2, lease=lease))
    assert yard.found() == ({} if kept else {name: GarbageReason.LEFTOVER})


class Hasty(MemoryLedger):
    """A ledger in which something happens behind the back of whoever has read it."""

    def __init__(self, records, then: Callable[[], list[Record]]) -> None:
        super().__init__(records)
        self._then = then
        self._reads = 0

    def read(self, uris) -> list[Snapshot]:
        found = super().read(uris)
        self._reads += 1
        if self._reads == 2:  # all that is known has been read: for names, and for lineages
            for record in self._then():
                self._snapshots[record.uri] = Snapshot(record=record, revision=9)
        return found


def test_an_artifact_that_is_referenced_between_the_two_reads_survives(yard):
    name = yard.put()
    yard.know()
    taken = Record(uri=URI, generation=2, arrived_at=NOW, jobs={"beats": yard.done(name)})
    ledger = Hasty(yard.ledger.records.values(), lambda: [taken])
    collector = yard.collector(ledger)
    found = list(collector.find())
    assert [g.reason for g in found] == [GarbageReason.LEFTOVER]
    assert list(collector.collect(found)) == []
    assert yard.left() == [name]


def test_an_artifact_that_is_written_again_meanwhile_survives(yard):
    name = yard.put(fingerprint=OLD)
    yard.know()
    collector = yard.collector()
    found = list(collector.find())
    yard.store.create(name, b"new", content_type="a/b", metadata={}, replace=True)
    assert list(collector.collect(found)) == []
    assert yard.left() == [name]


def test_what_is_gone_already_is_not_counted_as_removed(yard):
    name = yard.put(fingerprint=OLD)
    yard.know()
    collector = yard.collector()
    found = list(collector.find())
    yard.store.delete(name)
    assert list(collector.collect(found)) == []


def test_each_files_record_is_read_once_for_all_its_artifacts(yard):
    for number in range(600):
        uri = f"file:///music/{number:03}.flac"
        entries = {}
        for job in GRAPH.jobs:
            name = yard.put(job, GRAPH.fingerprints[job], uri)
            entries[job] = yard.done(name, GRAPH.fingerprints[job])
        yard.know(uri, **entries) if number % 100 == 0 else None

    reads: list[int] = []

    class Counting(MemoryLedger):
        def read(self, uris):
            reads.append(len(uris))
            return super().read(uris)

    seen: list[int] = []
    collector = yard.collector(Counting(yard.ledger.records.values()))
    assert len(list(collector.find(seen.append))) == 594 * 2
    assert sum(seen) == 1200
    assert sum(reads) == 600 + 594


PRINTS = ["0123456789ab", "ba9876543210"]
PARTS = st.sampled_from(["a", "b", "a b", "é", "1.json", "…", "%"])
NAMES = st.lists(PARTS, min_size=1, max_size=3).map("/".join)


def create(store: FolderStore, name: str) -> None:
    store.create(name, b"", content_type="a/b", metadata={})


@given(st.sets(NAMES, min_size=1, max_size=8))
@settings(max_examples=25, deadline=None)
def test_all_artifacts_are_listed_by_their_files(tmp_path_factory, names):
    store = FolderStore(str(tmp_path_factory.mktemp("artifacts")))
    expected: dict[str, set[str]] = {}
    for name in names:
        for job in ("beats", "energy"):
            for fingerprint in PRINTS:
                made = build_artifact_name(job, fingerprint, name, 7, "json")
                create(store, made)
                expected.setdefault(quote_name(name), set()).add(made)
    found: dict[str, set[str]] = {}
    for name, artifact in list_artifacts(store):
        found.setdefault(name.file, set()).add(artifact.name)
    assert found == expected


@pytest.mark.parametrize("stray", ["a.txt", "beats/a.txt", "beats/0123456789ab/a.txt", "z/y/x.txt"])
def test_other_objects_are_skipped(tmp_path, stray):
    store = FolderStore(str(tmp_path))
    name = build_artifact_name("energy", PRINTS[0], "song.flac", 7, "json")
    create(store, name)
    create(store, stray)
    assert [artifact.name for _, artifact in list_artifacts(store)] == [name]


@pytest.mark.parametrize("folder", ["", "beats", f"energy/{PRINTS[0]}", f"energy/{PRINTS[0]}/a"])
@pytest.mark.parametrize("stray", [b"caf\xe9", b"\xff"])
def test_names_that_are_not_text_are_skipped(tmp_path, folder, stray):
    store = FolderStore(str(tmp_path))
    names = [
        build_artifact_name(job, PRINTS[0], "a.flac", 7, "json") for job in ("energy", "tempo")
    ]
    for name in names:
        create(store, name)
    place = os.path.join(os.fsencode(tmp_path), folder.encode(), stray)
    os.makedirs(place)
    with open(os.path.join(place, b"7.json"), "w"):
        pass
    assert [artifact.name for _, artifact in list_artifacts(store)] == names


def test_an_empty_store_has_no_artifacts(tmp_path):
    assert list(list_artifacts(FolderStore(str(tmp_path / "nothing")))) == []


def test_nothing_is_deleted_if_one_record_cannot_be_read(yard, tmp_path):
    kept, garbage = yard.put(), yard.put(generation=1)
    ledger = SqliteLedger(str(tmp_path / "ledger.db"))
    other = "file:///music/other.flac"
    for uri in (URI, other):
        whole = Record(uri=uri, generation=2, arrived_at=LONG_AGO, jobs={"beats": yard.done(kept)})
        ledger.change([Change(uri=uri, transition=lambda _, whole=whole: (whole, None))])
    assert [g.object.name for g in yard.collector(ledger).find()] == [garbage]
    with ledger._session(), ledger._transaction():
        ledger._db.execute("UPDATE files SET record = '{' WHERE uri = ?", (other,))
    collector = yard.collector(ledger)
    with pytest.raises(DamagedRecord, match=rf"nothing more is deleted: the record of {other}"):
        list(collector.collect(collector.find()))
    assert garbage in yard.left()
    ledger.close()


def test_nothing_is_deleted_if_a_record_is_damaged_after_the_ledger_was_read(yard, tmp_path):
    kept, garbage = yard.put(), yard.put(generation=1)
    ledger = SqliteLedger(str(tmp_path / "ledger.db"))
    whole = Record(uri=URI, generation=2, arrived_at=LONG_AGO, jobs={"beats": yard.done(kept)})
    ledger.change([Change(uri=URI, transition=lambda _: (whole, None))])
    collector = yard.collector(ledger)
    found = list(collector.find())
    with ledger._session(), ledger._transaction():
        ledger._db.execute("UPDATE files SET record = '{' WHERE uri = ?", (URI,))
    with pytest.raises(DamagedRecord, match=rf"nothing more is deleted: the record of {URI}"):
        list(collector.collect(found))
    assert garbage in yard.left()
    ledger.close()
