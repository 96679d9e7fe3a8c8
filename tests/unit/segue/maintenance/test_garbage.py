"""Results that nothing needs, and artifacts of no result, are removed; nothing else is."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.adapters.folder import FolderStore
from segue.adapters.sqlite_ledger import SqliteLedger
from segue.errors import DamagedRecord, Unavailable
from segue.maintenance.garbage import GarbageCollector, GarbageReason, list_artifacts
from segue.model.artifact import Lineage, build_artifact_name, quote_name
from segue.model.graph import Graph, parse_graph
from segue.model.lease_owner import build_owner
from segue.model.ledger import Change, Changed, Snapshot
from segue.model.media_file import MediaFile, split_uri
from segue.model.object_store import Object
from segue.model.record import EVERYONE, Entry, Lease, Record, State, evolve
from segue.model.transitions import Result, arrive, claim, is_current, settle
from segue_support.ledger import MemoryLedger

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
LONG_AGO = NOW - 10 * DAY
RECENTLY = NOW - timedelta(hours=1)
TEXT = """
jobs:
  beats: {run: "m:f", needs: {media: source}, writes: application/json}
  energy: {run: "m:f", needs: {beats: beats}, writes: application/json}
"""
GRAPH = parse_graph(TEXT)
# The same with another version of both jobs.
NEXT = parse_graph(TEXT.replace("beats: {run", "beats: {version: 2, run"))
BEATS = GRAPH.fingerprints["beats"]
ENERGY = GRAPH.fingerprints["energy"]
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
        version: str = "2",
        *,
        suffix: str = "json",
        metadata: dict[str, str] | None = None,
        age: timedelta = NOW - LONG_AGO,
    ) -> str:
        name = build_artifact_name(job, fingerprint, split_uri(uri)[1], version, suffix)
        made = Lineage(job=job, fingerprint=fingerprint, uri=uri, version=version)
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

    def know(self, *entries: tuple[str, Entry], uri: str = URI, **more) -> None:
        record = Record(
            **{"uri": uri, "version": "2", "order": 2, "arrived_at": LONG_AGO, **more},
            results=dict(entries),
        )
        self.ledger = MemoryLedger([*self.ledger.records.values(), record])

    def record(self, uri: str = URI) -> Record:
        return self.ledger.records[uri]

    def collector(
        self, ledger=None, age: timedelta = DAY, graph: Graph = GRAPH, store=None
    ) -> GarbageCollector:
        return GarbageCollector(
            graph=graph,
            ledger=ledger or self.ledger,
            artifacts=store or self.store,
            before=NOW - age,
            clock=lambda: NOW,
        )

    def found(self, **options) -> dict[str, GarbageReason]:
        return {g.artifact.object.name: g.reason for g in self.collector(**options).find()}

    def remove(self, **options) -> list[str]:
        collector = self.collector(**options)
        return [g.artifact.object.name for g in collector.collect(collector.find())]

    def left(self) -> list[str]:
        return [o.name for o in self.store.list()]


@pytest.fixture
def yard(tmp_path) -> Yard:
    return Yard(str(tmp_path))


def done(job: str = "beats", fingerprint: str = BEATS, **more) -> tuple[str, Entry]:
    entry = Entry(
        job=job,
        state=State.DONE,
        order=2,
        checksums={"json": "sha256:0"},
        finished_at=LONG_AGO,
    )
    return fingerprint, evolve(entry, **more)


def running(
    job: str = "beats",
    fingerprint: str = BEATS,
    *,
    owner: str = "elsewhere/1/1/a",
    expires_at: datetime = NOW + timedelta(minutes=5),
    **more,
) -> tuple[str, Entry]:
    lease = Lease(owner=owner, expires_at=expires_at)
    entry = Entry(job=job, state=State.RUNNING, order=2, attempts=1, lease=lease)
    return fingerprint, evolve(entry, **more)


# What is garbage.


def test_each_reason_is_reported(yard):
    yard.put()
    yard.put("energy", ENERGY)
    stale = yard.put(fingerprint=OLD)
    removed = yard.put("tempo", OLD)
    overwritten = yard.put(version="1")
    leftover = yard.put("energy", ENERGY, suffix="flac")
    deleted = yard.put(uri="file:///music/deleted.flac")
    unknown = yard.put(uri="file:///music/unknown.flac")
    yard.know(done(), done("energy", ENERGY), done(fingerprint=OLD), done("tempo", "f" * 12))
    yard.know(done(), uri="file:///music/deleted.flac", deleted_at=LONG_AGO)
    expected = {
        stale: GarbageReason.OLD_FINGERPRINT,
        removed: GarbageReason.REMOVED_JOB,
        overwritten: GarbageReason.OLD_VERSION,
        leftover: GarbageReason.LEFTOVER,
        deleted: GarbageReason.DELETED_FILE,
        unknown: GarbageReason.UNKNOWN_FILE,
    }
    assert yard.found() == expected


@pytest.mark.parametrize(
    ("job", "reason"),
    [("beats", GarbageReason.OLD_FINGERPRINT), ("tempo", GarbageReason.REMOVED_JOB)],
)
def test_a_result_that_the_graph_does_not_accept_goes_with_its_artifact(yard, job, reason):
    needed, old = yard.put(), yard.put(job, OLD)
    yard.know(done(), done(job, OLD))
    assert yard.found() == {old: reason}
    assert yard.remove() == [old]
    assert yard.left() == [needed]
    assert dict(yard.record().results) == dict([done()])


def test_a_result_of_an_accepted_old_fingerprint_is_kept(yard):
    text = TEXT.replace("beats: {run", f"beats: {{equivalents: ['{OLD}'], run")
    yard.put(fingerprint=OLD)
    yard.know(done(fingerprint=OLD))
    assert yard.found(graph=parse_graph(text)) == {}
    assert yard.found(graph=GRAPH) != {}


def test_all_artifacts_of_a_result_go_together(yard):
    names = [yard.put(fingerprint=OLD, suffix=s) for s in ("left.flac", "right.flac")]
    checksums = {"left.flac": "sha256:0", "right.flac": "sha256:1"}
    yard.know(done(fingerprint=OLD, checksums=checksums))
    assert sorted(yard.remove()) == names
    assert yard.record().results == {}


def test_only_what_is_found_is_removed(yard):
    kept = yard.put()
    yard.put(fingerprint=OLD)
    yard.know(done())
    collector = yard.collector()
    gone = list(collector.collect(collector.find()))
    assert [g.reason for g in gone] == [GarbageReason.OLD_FINGERPRINT]
    assert yard.left() == [kept]
    assert yard.record().results == dict([done()])


def failed(job: str = "beats", fingerprint: str = OLD, **more) -> tuple[str, Entry]:
    return done(job, fingerprint, **{"state": State.FAILED, "checksums": {}, **more})


@pytest.mark.parametrize(
    "entry",
    [
        failed(),
        failed(state=State.BLOCKED),
        failed(state=State.NOT_APPLICABLE),
        failed("removed_job"),
    ],
)
def test_what_failed_in_an_older_version_of_a_job_is_forgotten_on_request(yard, entry):
    yard.know(entry, failed(fingerprint=BEATS))
    before = yard.record()
    assert list(yard.collector().find()) == []
    assert yard.record() == before
    assert list(yard.collector().find(forget=True)) == []
    assert list(yard.record().results) == [BEATS]


@pytest.mark.parametrize(
    "entries",
    [
        [failed(finished_at=RECENTLY)],
        [failed(notify=(EVERYONE,))],
        [failed(state=State.QUEUED)],
        [failed(), running()],
        [done(fingerprint=OLD)],  # it goes with its artifact
    ],
)
def test_what_is_young_or_in_use_is_not_forgotten(yard, entries):
    yard.know(*entries)
    before = yard.record()
    assert list(yard.collector().find(forget=True)) == []
    assert yard.record() == before


def test_a_failure_that_another_namespace_is_locked_to_is_not_forgotten(yard):
    yard.know(failed())
    before = yard.record()
    collector = dataclasses.replace(yard.collector(), pinned=frozenset({OLD}))
    assert list(collector.find(forget=True)) == []
    assert yard.record() == before


def test_a_failure_that_is_recorded_again_meanwhile_is_not_forgotten(yard):
    yard.know(failed())
    again = evolve(yard.record(), results=dict([failed(finished_at=NOW)]))

    class Late(MemoryLedger):
        def change(self, changes):
            super().change([Change(uri=URI, transition=lambda _: (again, None))])
            return super().change(changes)

    ledger = Late(yard.ledger.records.values())
    assert list(yard.collector(ledger).find(forget=True)) == []
    assert ledger.records[URI] == again


# Its age.


@pytest.mark.parametrize("known", [True, False])
def test_an_artifact_that_is_young_is_left_alone(yard, known):
    yard.put(fingerprint=OLD, age=timedelta(hours=23))
    yard.know(*[done(fingerprint=OLD)] * known)
    assert yard.found() == {}
    assert yard.found(age=timedelta(hours=22))


def test_an_artifact_that_was_written_again_after_the_listing_is_young(yard):
    name = yard.put(fingerprint=OLD)
    yard.know()

    class Listed(FolderStore):
        def stat(self, name: str) -> Object:
            yard.touch(name, timedelta())
            return super().stat(name)

    assert yard.found(store=Listed(yard.folder)) == {}
    assert yard.left() == [name]


@pytest.mark.parametrize("moment", ["finished_at", "notify_at"])
def test_a_result_that_is_young_is_left_alone(yard, moment):
    yard.put(fingerprint=OLD)
    yard.know(done(fingerprint=OLD, **{moment: RECENTLY}, notify=(EVERYONE,)))
    assert yard.found() == {}
    assert yard.found(age=timedelta(minutes=59))


def test_the_age_of_a_result_is_checked_again_when_it_is_removed(yard):
    name = yard.put(fingerprint=OLD)
    yard.know(done(fingerprint=OLD))
    collector = yard.collector()
    found = list(collector.find())
    again = evolve(yard.record(), results=dict([done(fingerprint=OLD, finished_at=NOW)]))
    yard.ledger.change([Change(uri=URI, transition=lambda _: (again, None))])
    assert list(collector.collect(found)) == []
    assert yard.record() == again
    assert yard.left() == [name]


def test_what_a_deleted_file_has_left_goes_once_that_is_long_ago(yard):
    yard.put()
    yard.know(done(), deleted_at=RECENTLY)
    assert yard.remove() == []
    assert yard.remove(age=timedelta(minutes=59)) != []
    assert yard.record().results == {}
    assert yard.left() == []


def test_a_content_that_may_come_back_keeps_its_results_for_now(yard):
    kept = {"1": dict([done()]), "0": dict([done()])}
    names = [yard.put(version=v) for v in ("1", "0")]
    yard.know(arrived_at=RECENTLY, earlier=kept)
    assert yard.found() == {}
    assert sorted(yard.remove(age=timedelta(minutes=59))) == sorted(names)
    assert yard.record().earlier == {}


def test_what_is_kept_of_contents_keeps_its_order(yard):
    """The first ones are forgotten first."""
    kept = {v: dict([done(), done("energy", ENERGY)]) for v in ("5", "3", "4")}
    yard.put(version="3")
    yard.know(earlier=kept)
    yard.remove()
    assert list(yard.record().earlier) == ["5", "3", "4"]
    assert list(yard.record().earlier["3"]) == [ENERGY]
    assert yard.record().earlier["4"] == kept["4"]


@pytest.mark.parametrize("deleted_at", [None, LONG_AGO])
def test_a_generation_of_which_the_ledger_has_not_heard_yet_is_kept(yard, deleted_at):
    """Its event is on its way, the ledger was restored, or another one has the same artifacts."""
    yard.put(version="9999")
    yard.know(deleted_at=deleted_at)
    assert yard.found() == {}


def test_an_artifact_of_a_forgotten_content_is_garbage(yard):
    name = yard.put(version="1")
    yard.know(arrived_at=RECENTLY, earlier={"3": dict([done()])})
    assert yard.found() == {name: GarbageReason.OLD_VERSION}


# Who may be using it.


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
@pytest.mark.parametrize("fingerprint", [BEATS, OLD])
def test_what_a_live_run_may_be_about_to_record_is_kept(yard, owner, expires_at, kept, fingerprint):
    name = yard.put(fingerprint=fingerprint)
    yard.know(running(fingerprint=fingerprint, owner=owner, expires_at=expires_at))
    reason = GarbageReason.LEFTOVER if fingerprint == BEATS else GarbageReason.OLD_FINGERPRINT
    assert yard.found() == ({} if kept else {name: reason})


def test_a_slow_worker_whose_artifact_was_removed_can_no_longer_record_it(yard):
    yard.put()
    yard.know(running(expires_at=NOW - timedelta(minutes=5), notify=(EVERYONE,), notify_at=NOW))
    assert len(yard.remove()) == 1
    entry = yard.record().results[BEATS]
    assert (entry.state, entry.lease, entry.notify) == (State.QUEUED, None, (EVERYONE,))
    result = Result(job="beats", state=State.DONE, artifacts={"2.json": "sha256:0"})
    record, late = settle(
        yard.record(), GRAPH, order=2, owner="elsewhere/1/1/a", results=[result], now=NOW
    )
    assert (record, late) == (None, ("beats",))


def test_a_job_of_another_graph_that_runs_is_left_alone(yard):
    yard.put("tempo", OLD)
    yard.know(running("tempo", OLD))
    assert yard.remove() == []
    assert OLD in yard.record().results


def test_what_a_job_of_another_graph_may_read_is_left_alone_while_it_runs(yard):
    """Its parent is done under a fingerprint that this graph does not accept."""
    yard.put(fingerprint=OLD)
    yard.know(done(fingerprint=OLD), running("energy", "f" * 12))
    collector = yard.collector()
    assert list(collector.find()) == []
    idle = evolve(yard.record(), results=dict([done(fingerprint=OLD)]))
    found = list(yard.collector(MemoryLedger([idle])).find())
    assert len(found) == 1
    assert list(collector.collect(found)) == []
    assert OLD in yard.record().results


def test_what_is_garbage_for_two_graphs_in_turn_is_what_the_other_one_made(yard):
    following = NEXT.fingerprints["beats"]
    ours, theirs = yard.put(), yard.put(fingerprint=following)
    yard.know(done(), done(fingerprint=following))
    assert list(yard.found(graph=GRAPH)) == [theirs]
    assert list(yard.found(graph=NEXT)) == [ours]


# What is written and read meanwhile.


class Meddled(MemoryLedger):
    """A ledger in which something happens right after its records were read or changed."""

    def __init__(self, ledger: MemoryLedger, **then: Callable[[], object]) -> None:
        super().__init__(ledger.records.values())
        self._then = then

    def read(self, uris) -> list[Snapshot]:
        found = super().read(uris)
        self._meddle("read")
        return found

    def change(self, changes) -> list[Changed]:
        changed = super().change(changes)
        self._meddle("change")
        return changed

    def _meddle(self, call: str) -> None:
        if (then := self._then.pop(call, None)) is not None:
            then()


def plan_energy(yard: Yard, ledger: MemoryLedger, known: Snapshot | None = None) -> Record:
    """Claim a job if its parent is current, as another process does."""

    def start(record: Record | None):
        assert record is not None
        if not is_current(GRAPH, record, "beats"):
            return None, None
        return claim(record, GRAPH, ["energy"], owner="other", now=NOW, lease_s=60.0), None

    [changed] = ledger.change([Change(uri=URI, transition=start, known=known)])
    assert changed.snapshot.record is not None
    return changed.snapshot.record


def test_a_planner_that_read_before_the_removal_plans_again(yard):
    yard.put()
    yard.know(done())
    [known] = yard.ledger.read([URI])
    assert len(yard.remove(graph=NEXT)) == 1
    assert plan_energy(yard, yard.ledger, known).results == {}


@pytest.mark.parametrize("call", ["read", "change"])
def test_what_a_planner_claims_work_for_before_the_removal_is_kept(yard, call):
    name = yard.put()
    yard.know(done())
    if call == "change":  # between the last look of gc and its claim
        collector = yard.collector(graph=NEXT)
        found = list(collector.find())
        plan_energy(yard, yard.ledger)
        assert list(collector.collect(found)) == []
    else:
        yard.ledger = Meddled(yard.ledger, read=lambda: plan_energy(yard, yard.ledger))
        assert yard.remove(graph=NEXT) == []
    assert set(yard.record().results) == {BEATS, ENERGY}
    assert yard.left() == [name]


def test_an_artifact_that_is_recorded_after_gc_has_read_survives(yard):
    name = yard.put()
    yard.know()
    collector = yard.collector()
    found = list(collector.find())
    assert [g.reason for g in found] == [GarbageReason.LEFTOVER]
    taken = evolve(yard.record(), results=dict([done()]))
    yard.ledger.change([Change(uri=URI, transition=lambda _: (taken, None))])
    assert list(collector.collect(found)) == []
    assert yard.left() == [name]


@pytest.mark.parametrize("known", [True, False], ids=["claimed", "leftover"])
def test_an_artifact_that_is_written_again_before_its_deletion_survives(yard, known):
    """Whoever writes it has claimed the job after gc had removed the old result."""
    name = yard.put(fingerprint=OLD)
    yard.know(*[done(fingerprint=OLD)] * known)

    def write() -> None:
        assert OLD not in yard.record().results
        seen = yard.store.stat(name).generation
        yard.store.create(
            name, b"new", content_type="a/b", metadata={}, replace=True, generation=seen
        )

    yard.ledger = Meddled(yard.ledger, change=write)
    assert yard.remove() == []
    assert yard.store.read(name) == b"new"


def test_what_is_gone_already_is_not_counted_as_removed(yard):
    name = yard.put(fingerprint=OLD)
    yard.know()
    collector = yard.collector()
    found = list(collector.find())
    yard.store.delete(name)
    assert list(collector.collect(found)) == []


def test_a_content_that_came_back_before_the_removal_keeps_its_results(yard):
    name = yard.put(version="1")
    yard.know(earlier={"1": dict([done()])})
    collector = yard.collector()
    found = list(collector.find())
    back = MediaFile(uri=URI, version="1")
    yard.ledger.change([Change(uri=URI, transition=lambda r: (arrive(r, back, NOW)[0], None))])
    assert list(collector.collect(found)) == []
    assert is_current(GRAPH, yard.record(), "beats")
    assert yard.left() == [name]


def test_a_content_that_comes_back_after_the_removal_has_no_results(yard):
    yard.put(version="1")
    yard.know(earlier={"1": dict([done()])})
    assert len(yard.remove()) == 1
    record, _ = arrive(yard.record(), MediaFile(uri=URI, version="1"), NOW)
    assert record.results == {}


def test_a_deleted_file_that_comes_back_before_the_removal_keeps_its_results(yard):
    name = yard.put()
    yard.know(done(), deleted_at=LONG_AGO)
    collector = yard.collector()
    found = list(collector.find())
    alive = evolve(yard.record(), deleted_at=None)
    yard.ledger.change([Change(uri=URI, transition=lambda _: (alive, None))])
    assert list(collector.collect(found)) == []
    assert yard.left() == [name]


class Broken(FolderStore):
    """A store in which nothing can be deleted."""

    def delete(self, name: str, *, generation: int | None = None) -> bool:
        raise Unavailable("the store is away")


def test_after_a_crash_between_claim_and_deletion_the_next_run_deletes_the_artifact(yard):
    name = yard.put(fingerprint=OLD)
    yard.know(done(fingerprint=OLD))
    with pytest.raises(Unavailable):
        yard.remove(store=Broken(yard.folder))
    assert yard.record().results == {}
    assert yard.left() == [name]
    assert yard.found() == {name: GarbageReason.OLD_FINGERPRINT}
    assert yard.remove() == [name]
    assert yard.left() == []


def test_the_claim_survives_a_power_cut_before_anything_is_deleted(yard):
    calls: list[str] = []

    class Watched(MemoryLedger):
        def change(self, changes):
            calls.append("change")
            return super().change(changes)

        def sync(self) -> None:
            calls.append("sync")

    class WatchedStore(FolderStore):
        def delete(self, name: str, *, generation: int | None = None) -> bool:
            calls.append("delete")
            return super().delete(name, generation=generation)

    yard.put(fingerprint=OLD)
    yard.know(done(fingerprint=OLD))
    yard.remove(ledger=Watched(yard.ledger.records.values()), store=WatchedStore(yard.folder))
    assert calls == ["change", "sync", "delete"]


def test_a_dry_run_changes_nothing(yard):
    name = yard.put(fingerprint=OLD)
    yard.know(done(fingerprint=OLD))
    before = yard.record()
    assert yard.found() == {name: GarbageReason.OLD_FINGERPRINT}
    assert yard.record() is before
    assert yard.left() == [name]


# Rollbacks.


def compute(yard: Yard, graph: Graph) -> None:
    """Have a graph's first job done, unless it is."""
    fingerprint = graph.fingerprints["beats"]
    if not is_current(graph, yard.record(), "beats"):
        yard.put(fingerprint=fingerprint)
        record = yard.record()
        results = {**record.results, **dict([done(fingerprint=fingerprint)])}
        changed = evolve(record, results=results)
        yard.ledger.change([Change(uri=URI, transition=lambda _: (changed, None))])


def test_a_rollback_before_gc_keeps_what_was_done_and_frees_the_other(yard):
    yard.know()
    compute(yard, GRAPH)
    compute(yard, NEXT)
    [gone] = yard.remove(graph=GRAPH)
    assert NEXT.fingerprints["beats"] in gone
    assert is_current(GRAPH, yard.record(), "beats")


def test_a_rollback_after_gc_computes_it_again(yard):
    yard.know()
    compute(yard, GRAPH)
    compute(yard, NEXT)
    [gone] = yard.remove(graph=NEXT)
    assert BEATS in gone
    assert not is_current(GRAPH, yard.record(), "beats")
    assert is_current(NEXT, yard.record(), "beats")
    compute(yard, GRAPH)
    assert yard.found(graph=GRAPH).keys() == {gone.replace(BEATS, NEXT.fingerprints["beats"])}


# Objects and names.


@pytest.mark.parametrize("named", [True, False])
def test_an_object_without_lineage_is_never_deleted(yard, named):
    foreign = Lineage(job="energy", fingerprint=OLD, uri=URI, version="2")
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
    assert yard.remove() == [garbage]
    assert yard.left() == [name]


def test_names_that_had_to_be_quoted_are_found_by_their_lineage(yard):
    uris = ["gs://other/a//b.flac", "gs://other/100%.flac", f"gs://other/{'x' * 300}.flac"]
    gone = [yard.put(fingerprint=OLD, uri=uri) for uri in uris]
    for uri in uris:
        yard.put(uri=uri)
        yard.know(done(), done(fingerprint=OLD), uri=uri)
    assert yard.found() == dict.fromkeys(gone, GarbageReason.OLD_FINGERPRINT)
    assert sorted(yard.remove()) == sorted(gone)
    assert all(set(yard.record(uri).results) == {BEATS} for uri in uris)


def test_files_of_the_same_name_in_two_buckets_are_not_confused(yard):
    here, there = "gs://here/song.flac", "gs://there/song.flac"
    name = yard.put(uri=here)
    yard.know(uri=there)
    assert yard.found() == {name: GarbageReason.UNKNOWN_FILE}
    yard.know(done(), uri=here)
    assert yard.found() == {}


def test_artifacts_of_an_unknown_file_are_removed_without_a_record(yard):
    name = yard.put()
    assert yard.remove() == [name]
    assert yard.ledger.records == {}


def test_each_files_record_is_read_once_for_all_its_artifacts(yard):
    for number in range(600):
        uri = f"file:///music/{number:03}.flac"
        for job in GRAPH.jobs:
            yard.put(job, GRAPH.fingerprints[job], uri)
        if number % 100 == 0:
            yard.know(done(), done("energy", ENERGY), uri=uri)

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


def test_many_results_are_removed_in_small_batches(yard):
    for number in range(100):
        uri = f"file:///music/{number:03}.flac"
        yard.put(fingerprint=OLD, uri=uri)
        yard.know(done(fingerprint=OLD), uri=uri)
    sizes: list[int] = []

    class Counting(MemoryLedger):
        def change(self, changes):
            sizes.append(len(changes))
            return super().change(changes)

    ledger = Counting(yard.ledger.records.values())
    assert len(yard.remove(ledger=ledger)) == 100
    assert sizes == [32, 32, 32, 4]
    assert not any(record.results for record in ledger.records.values())


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
                made = build_artifact_name(job, fingerprint, name, "7", "json")
                create(store, made)
                expected.setdefault(quote_name(name), set()).add(made)
    found: dict[str, set[str]] = {}
    for name, artifact in list_artifacts(store):
        found.setdefault(name.file, set()).add(artifact.name)
    assert found == expected


@pytest.mark.parametrize("stray", ["a.txt", "beats/a.txt", "beats/0123456789ab/a.txt", "z/y/x.txt"])
def test_other_objects_are_skipped(tmp_path, stray):
    store = FolderStore(str(tmp_path))
    name = build_artifact_name("energy", PRINTS[0], "song.flac", "7", "json")
    create(store, name)
    create(store, stray)
    assert [artifact.name for _, artifact in list_artifacts(store)] == [name]


@pytest.mark.parametrize("folder", ["", "beats", f"energy/{PRINTS[0]}", f"energy/{PRINTS[0]}/a"])
@pytest.mark.parametrize("stray", [b"caf\xe9", b"\xff"])
def test_names_that_are_not_text_are_skipped(tmp_path, folder, stray):
    store = FolderStore(str(tmp_path))
    names = [
        build_artifact_name(job, PRINTS[0], "a.flac", "7", "json") for job in ("energy", "tempo")
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


@pytest.fixture
def damaged(yard, tmp_path):
    """A ledger in a file, in which two files have a result, and a function that damages one."""
    ledger = SqliteLedger(str(tmp_path / "ledger.db"))
    for uri in (URI, OTHER):
        whole = Record(uri=uri, version="2", order=2, arrived_at=LONG_AGO, results=dict([done()]))
        ledger.change([Change(uri=uri, transition=lambda _, whole=whole: (whole, None))])

    def damage(uri: str) -> None:
        with ledger._session(), ledger._transaction():
            ledger._db.execute("UPDATE files SET record = '{' WHERE uri = ?", (uri,))

    yield ledger, damage
    ledger.close()


OTHER = "file:///music/other.flac"


def test_nothing_is_deleted_if_one_record_cannot_be_read(yard, damaged):
    ledger, damage = damaged
    yard.put()
    garbage = yard.put(version="1")
    assert list(yard.found(ledger=ledger)) == [garbage]
    damage(OTHER)
    with pytest.raises(DamagedRecord, match=rf"nothing more is deleted: the record of {OTHER}"):
        yard.remove(ledger=ledger)
    assert garbage in yard.left()


def test_nothing_is_deleted_if_a_record_is_damaged_after_the_ledger_was_read(yard, damaged):
    ledger, damage = damaged
    yard.put()
    garbage = [yard.put(version="1"), yard.put(version="1", uri=OTHER)]
    collector = yard.collector(ledger)
    found = list(collector.find())
    assert len(found) == 2
    damage(URI)
    with pytest.raises(DamagedRecord, match=rf"nothing more is deleted: the record of {URI}"):
        list(collector.collect(found))
    assert set(garbage) <= set(yard.left())
