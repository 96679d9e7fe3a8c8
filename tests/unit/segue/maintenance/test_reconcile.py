"""Discrepancies between a listing and the ledger are found, and repaired once confirmed."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.adapters.connect import connect_store
from segue.errors import Unavailable
from segue.ingest.observation import Observation
from segue.maintenance.reconcile import (
    Discrepancy,
    DiscrepancyFinder,
    DiscrepancyKind,
    ListedFile,
    pair_by_uri,
    repair,
)
from segue.model.graph import parse_graph
from segue.model.ledger import Change
from segue.model.media_file import FileStat, MediaFile
from segue.model.message import Message, decode_message
from segue.model.object_store import LeftOutReason
from segue.model.record import Entry, Record, State, evolve
from segue.model.transitions import arrive
from segue_support.ledger import MemoryLedger
from segue_support.queue import MemoryQueue
from segue_support.simulator.store import MemoryStore

NOW = datetime(2026, 3, 1, tzinfo=UTC)
BEFORE = NOW - timedelta(days=1)
HOUR = timedelta(hours=1)
URI = "gs://acme-audio/a.wav"
GRAPH = parse_graph(
    """
    pipelines: {all: [fine, beside]}
    jobs:
      fine: {run: "m:f", needs: {media: source}, writes: application/json}
      beside: {run: "m:f", needs: {media: source}, writes: application/json}
      after: {run: "m:f", needs: {value: fine}, writes: application/json}
    """
)
FINDER = DiscrepancyFinder(graph=GRAPH, started_at=NOW, grace=HOUR)

names = st.lists(st.text("ab/\x7f\ue000\U0001f3b5", max_size=3), unique=True).map(sorted)


def media(order: int = 5) -> MediaFile:
    return MediaFile(uri=URI, version=str(order), order=order, size_bytes=3)


def there(order: int = 5) -> ListedFile:
    return ListedFile(uri=URI, media=media(order))


STAT = "1:1:1:1:1"


def record(order: int = 5, age: timedelta = 2 * HOUR, **more) -> Record:
    return Record(uri=URI, version=str(order), order=order, arrived_at=NOW - age, **more)


def begun(job: str = "fine", state: State = State.QUEUED, attempts: int = 0) -> dict[str, Entry]:
    return {"0" * 12: Entry(job=job, state=state, order=5, attempts=attempts)}


def in_folder(stat: str = STAT) -> ListedFile:
    """A file in a folder, as it is listed."""
    return ListedFile(uri=URI, media=MediaFile(uri=URI, version="", stat=stat))


@pytest.mark.parametrize("listed", [there(4), there(5), there(6), in_folder("2:2:2:2:2"), None])
def test_a_file_that_was_erased_is_no_discrepancy(listed):
    assert FINDER.find(listed, record(stat=STAT, deleted_at=BEFORE, erased=True)) is None


@given(names, names)
def test_both_sides_are_paired_completely_and_in_order(listed, recorded):
    objects = [ListedFile(uri=name, media=None) for name in listed]
    known = [Record(uri=name, version="1", order=1, arrived_at=NOW) for name in recorded]
    pairs = pair_by_uri(objects, known)
    assert [(file and file.uri, record and record.uri) for file, record in pairs] == [
        (name if name in listed else None, name if name in recorded else None)
        for name in sorted({*listed, *recorded})
    ]


@pytest.mark.parametrize(
    ("listed", "known", "kind"),
    [
        (there(), None, DiscrepancyKind.UNRECORDED),
        (there(6), record(5), DiscrepancyKind.OVERWRITTEN),
        (there(6), record(5, deleted_at=NOW), DiscrepancyKind.OVERWRITTEN),
        (there(5), record(5), DiscrepancyKind.UNSTARTED),
        (in_folder(), None, DiscrepancyKind.UNRECORDED),
        (in_folder("1:1:1:1:2"), record(stat=STAT), DiscrepancyKind.OVERWRITTEN),
        (in_folder(), record(stat=STAT, deleted_at=NOW), DiscrepancyKind.OVERWRITTEN),
        (in_folder(), record(stat=STAT), DiscrepancyKind.UNSTARTED),
        (None, record(5), DiscrepancyKind.GONE),
        (None, record(5, age=timedelta(seconds=1)), DiscrepancyKind.GONE),
    ],
)
def test_a_missed_event_is_found(listed, known, kind):
    found = FINDER.find(listed, known)
    expected = listed.media if listed else known.media
    assert found == Discrepancy(kind=kind, media=expected)


@pytest.mark.parametrize(
    ("listed", "known"),
    [
        pytest.param(there(5), record(6), id="the listing is older"),
        pytest.param(there(5), record(5, deleted_at=NOW), id="deleted since it was listed"),
        pytest.param(None, record(5, deleted_at=NOW), id="its deletion is known"),
        pytest.param(None, record(5, age=timedelta()), id="it arrived since the run began"),
        pytest.param(None, record(5, age=-HOUR), id="it arrived long since the run began"),
        pytest.param(ListedFile(uri=URI, media=None), None, id="no media of the catalogue"),
        pytest.param(
            ListedFile(uri=URI, media=None), record(5), id="media of an earlier catalogue"
        ),
        pytest.param(there(5), record(5, age=HOUR / 2), id="its turn may still come"),
        pytest.param(in_folder(), record(stat=STAT, results=begun(attempts=1)), id="the same"),
    ],
)
def test_what_only_seems_wrong_is_left_alone(listed, known):
    assert FINDER.find(listed, known) is None


@pytest.mark.parametrize(
    ("results", "unstarted"),
    [
        ({}, True),
        (begun(), True),  # asked for by a request whose messages were lost
        (begun(attempts=1), False),
        (begun(state=State.RUNNING), False),
        (begun("beside", State.DONE), False),
        (begun(state=State.FAILED), False),
        (begun("after", State.BLOCKED), True),  # it does not read the source
    ],
)
def test_a_file_is_unstarted_if_no_job_that_reads_it_ever_started(results, unstarted):
    found = FINDER.find(there(), record(results=results))
    assert (found is not None) == unstarted


def test_no_file_is_unstarted_where_an_arrival_starts_nothing():
    jobs = {name: replace(job, on_arrival=False) for name, job in GRAPH.jobs.items()}
    finder = replace(FINDER, graph=replace(GRAPH, jobs=jobs))
    assert finder.find(there(), record()) is None


def test_without_grace_a_file_is_unstarted_at_once():
    finder = DiscrepancyFinder(graph=GRAPH, started_at=NOW, grace=timedelta())
    found = finder.find(there(), record(age=timedelta()))
    assert found == Discrepancy(kind=DiscrepancyKind.UNSTARTED, media=media())


class Bench:
    """A folder of files, with a ledger and a queue."""

    def __init__(self, folder) -> None:
        self.folder = folder
        self.store = connect_store("file:///")
        self.ledger = MemoryLedger()
        self.queue = MemoryQueue()
        self.left_out: list[Observation] = []

    def repair(self, found: list[Discrepancy], **options) -> list[Discrepancy]:
        queue = None if options.pop("dry_run", False) else self.queue
        return repair(
            found,
            graph=GRAPH,
            catalogue=self.store,
            ledger=self.ledger,
            queue=queue,
            now=NOW,
            leave_out=self.left_out.append,
            **options,
        )

    def file(self, name: str, data: bytes = b"sound") -> MediaFile:
        """Write a file, and return it as it is listed."""
        path = self.folder / name
        path.write_bytes(data)
        return self.store.stat(str(path)[1:]).to_media_file(f"file://{path}")

    def record(self, media: MediaFile, **more) -> Record:
        """Record a file as it is."""
        seen = self.store.identify(media.name).to_media_file(media.uri)
        made = evolve(arrive(None, seen, BEFORE)[0], **more)
        self.ledger.change([Change(uri=media.uri, transition=lambda _: (made, None))])
        return made

    def gone(self, name: str = "gone.wav") -> MediaFile:
        """Record a file and delete it; return it as it is recorded."""
        (self.folder / "another.wav").touch()
        record = self.record(self.file(name))
        (self.folder / name).unlink()
        return record.media

    def known(self, media: MediaFile) -> Record | None:
        return self.ledger.read([media.uri])[0].record

    def read_messages(self) -> list[Message]:
        return [decode_message(envelope.data) for envelope in self.queue.queued.values()]


@pytest.fixture
def bench(tmp_path) -> Bench:
    return Bench(tmp_path)


def of(kind: DiscrepancyKind, media: MediaFile) -> Discrepancy:
    return Discrepancy(kind=kind, media=media)


def test_an_unrecorded_file_arrives_and_the_pipelines_are_notified(bench):
    media = bench.file("new.wav")
    found = [of(DiscrepancyKind.UNRECORDED, media)]
    assert bench.repair(found) == found
    record = bench.known(media)
    assert (record.stat, len(record.version), record.order) == (media.stat, 24, 1)
    [event] = bench.read_messages()
    assert (event.trigger, event.media) == ("source", record.media)
    assert event.arrived is not None


def test_an_overwritten_file_arrives_anew(bench):
    media = bench.file("new.wav")
    fine = Entry(job="fine", state=State.DONE, order=1)
    before = bench.record(media, results={"0" * 12: fine})
    media = bench.file("new.wav", b"other")
    found = [of(DiscrepancyKind.OVERWRITTEN, media)]
    assert bench.repair(found) == found
    record = bench.known(media)
    assert (record.order, record.results, record.stat) == (2, {}, media.stat)
    assert record.version != before.version
    assert len(bench.read_messages()) == 1


def test_a_file_that_is_erased_meanwhile_is_not_repaired(bench):
    media = bench.file("erased.wav")
    erased = bench.record(media, deleted_at=BEFORE, erased=True)
    media = bench.file("erased.wav", b"other")
    for kind in (DiscrepancyKind.OVERWRITTEN, DiscrepancyKind.UNSTARTED):
        assert bench.repair([of(kind, media)]) == []
    assert bench.known(media) is erased
    assert bench.read_messages() == []


def test_a_file_that_was_only_touched_is_not_overwritten(bench):
    media = bench.file("a.wav")
    before = bench.record(media)
    touched = bench.file("a.wav")
    found = [of(DiscrepancyKind.OVERWRITTEN, touched)]
    assert bench.repair(found, dry_run=True) == []
    assert bench.repair(found) == []
    assert bench.known(media) == evolve(before, stat=touched.stat)
    assert bench.read_messages() == []


def test_the_pipelines_of_an_unstarted_file_are_notified_again_and_its_record_is_kept(bench):
    media = bench.file("known.wav")
    before = bench.record(media)
    found = [of(DiscrepancyKind.UNSTARTED, media)]
    assert bench.repair(found) == found
    assert bench.known(media) is before
    assert [m.arrived for m in bench.read_messages()] == [None]


def test_a_file_that_was_deleted_since_it_was_listed_is_told_of_to_nobody(bench):
    media = bench.gone()
    assert bench.repair([of(DiscrepancyKind.UNSTARTED, media)]) == []
    assert bench.known(media).deleted_at == NOW
    assert bench.read_messages() == []


@pytest.mark.parametrize("is_known", [False, True])
def test_pipelines_are_notified_by_the_next_run_if_a_run_died_before_it(bench, is_known):
    """Recorded, but not notified: the grace would hide the young record for an hour."""

    class Away(MemoryQueue):
        def publish(self, envelopes):
            raise Unavailable("the queue is away; try again later")

    if is_known:
        bench.record(bench.file("new.wav"))
    media = bench.file("new.wav", b"other")
    kind = DiscrepancyKind.OVERWRITTEN if is_known else DiscrepancyKind.UNRECORDED
    found = [of(kind, media)]
    queue, bench.queue = bench.queue, Away()
    with pytest.raises(Unavailable):
        bench.repair(found)
    assert bench.known(media) is not None
    bench.queue = queue
    assert bench.repair(found) == found
    assert len(bench.read_messages()) == 1


def test_a_file_that_is_gone_leaves_a_tombstone_and_nobody_is_notified(bench):
    media = bench.gone()
    found = [of(DiscrepancyKind.GONE, media)]
    assert bench.repair(found) == found
    assert bench.known(media).deleted_at == NOW
    assert bench.read_messages() == []


def test_a_file_that_is_there_at_the_second_check_is_not_gone(bench):
    before = bench.record(bench.file("back.wav"))
    assert bench.repair([of(DiscrepancyKind.GONE, before.media)]) == []
    assert bench.known(before.media) is before
    assert bench.read_messages() == []


def test_another_content_that_is_there_at_the_second_check_arrives(bench):
    before = bench.record(bench.file("back.wav"))
    bench.file("back.wav", b"other")
    assert bench.repair([of(DiscrepancyKind.GONE, before.media)]) == []
    assert bench.known(before.media).order == 2
    assert len(bench.read_messages()) == 1


def test_a_name_at_which_a_folder_is_now_is_gone(bench):
    media = bench.gone("a.wav")
    (bench.folder / "a.wav").mkdir()
    assert len(bench.repair([of(DiscrepancyKind.GONE, media)])) == 1


def test_a_file_that_may_not_be_read_is_not_gone(bench, monkeypatch):
    media, other = bench.gone("locked.wav"), bench.gone("gone.wav")
    before = bench.known(media)
    look = os.stat

    def refused(path, *args, **more):
        if str(path).endswith("locked.wav"):
            raise PermissionError(13, "Permission denied", path)
        return look(path, *args, **more)

    monkeypatch.setattr("segue.adapters.folder.os.stat", refused)  # root may look at anything
    found = [of(DiscrepancyKind.GONE, one) for one in (media, other)]
    assert bench.repair(found) == found[1:]
    assert bench.known(media) is before
    assert bench.left_out == []  # the listing has named it
    bench.repair([of(DiscrepancyKind.OVERWRITTEN, media)])
    assert [(one.uri, one.reason) for one in bench.left_out] == [
        (media.uri, LeftOutReason.UNREADABLE)
    ]


def test_a_file_of_a_disk_that_is_not_mounted_is_gone_only_if_that_is_trusted(bench):
    (bench.folder / "disk").mkdir()
    media = bench.gone("disk/a.wav")
    elsewhere = FileStat.parse(media.stat)._replace(device=os.makedev(4000, 77))
    record = evolve(bench.known(media), stat=str(elsewhere))
    bench.ledger.change([Change(uri=media.uri, transition=lambda _: (record, None))])
    found = [of(DiscrepancyKind.GONE, media)]
    assert bench.repair(found) == []
    assert [one.reason for one in bench.left_out] == [LeftOutReason.UNMOUNTED]
    assert bench.repair(found, trust_absence=True) == found


def test_what_the_ledger_has_forgotten_gets_no_tombstone(bench):
    media = MediaFile(uri=f"file://{bench.folder}/gone.wav", version="5")
    assert bench.repair([of(DiscrepancyKind.GONE, media)]) == []
    assert bench.known(media) is None


def test_a_dry_run_confirms_and_changes_nothing(bench):
    gone, back = bench.gone(), bench.file("back.wav")
    new = bench.file("new.wav")
    bench.record(back)
    before = dict(bench.ledger.records)
    found = [
        of(DiscrepancyKind.UNRECORDED, new),
        of(DiscrepancyKind.GONE, gone),
        of(DiscrepancyKind.GONE, back),
    ]
    assert bench.repair(found, dry_run=True) == found[:2]
    assert bench.ledger.records == before
    assert bench.read_messages() == []


def test_many_files_of_all_kinds_are_repaired_in_one_call(bench):
    new = [bench.file(f"{i}.wav") for i in range(20)]
    gone = [bench.gone(f"gone {i}.wav") for i in range(20)]
    found = [of(DiscrepancyKind.UNRECORDED, m) for m in new] + [
        of(DiscrepancyKind.GONE, m) for m in gone
    ]
    assert bench.repair(found) == found
    assert {m.uri for m in bench.read_messages()} == {m.uri for m in new}
    assert all(bench.known(m).deleted_at == NOW for m in gone)


# --- buckets --------------------------------------------------------------------------------------


class BucketBench:
    """A bucket, with a ledger and a queue."""

    def __init__(self) -> None:
        self.store = MemoryStore("gs://acme-audio")
        self.ledger = MemoryLedger()
        self.queue = MemoryQueue()

    def repair(self, *found: Discrepancy) -> list[Discrepancy]:
        return repair(
            found, graph=GRAPH, catalogue=self.store, ledger=self.ledger, queue=self.queue, now=NOW
        )

    def record(self, made: Record) -> Record:
        self.ledger.change([Change(uri=URI, transition=lambda _: (made, None))])
        return made

    def messages(self) -> list[Message]:
        return [decode_message(envelope.data) for envelope in self.queue.queued.values()]


def test_files_below_a_link_whose_folder_is_gone_are_named_and_stay(bench, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "linked").symlink_to("there")
    (tmp_path / "there/a.wav").write_bytes(b"sound")
    uri = f"file://{tmp_path}/linked/a.wav"
    seen = bench.store.identify(uri.removeprefix("file:///")).to_media_file(uri)
    bench.ledger.change([Change(uri=uri, transition=lambda _: arrive(None, seen, BEFORE))])
    (tmp_path / "there").rename(tmp_path / "elsewhere")
    assert bench.repair([of(DiscrepancyKind.GONE, seen)]) == []
    assert [(one.uri, one.reason) for one in bench.left_out] == [(uri, LeftOutReason.BROKEN_LINK)]
    assert bench.ledger.records[uri].deleted_at is None


def test_an_overwritten_object_arrives_and_one_that_moved_on_is_left_alone():
    bench = BucketBench()
    bench.record(record(5))
    found = of(DiscrepancyKind.OVERWRITTEN, media(6))
    assert bench.repair(found) == [found]
    assert bench.ledger.records[URI].media == media(6)
    assert [m.order for m in bench.messages()] == [6]
    assert bench.repair(of(DiscrepancyKind.UNSTARTED, media(5))) == []
    assert len(bench.messages()) == 1


def test_an_object_that_is_gone_leaves_a_tombstone_unless_a_newer_version_arrived_meanwhile():
    bench = BucketBench()
    bench.record(record(5))
    found = of(DiscrepancyKind.GONE, media(5))
    assert bench.repair(found) == [found]
    assert bench.ledger.records[URI].deleted_at == NOW
    assert arrive(bench.ledger.records[URI], media(5), NOW)[1] == "stale"
    newer = bench.record(record(6))
    assert bench.repair(found) == []
    assert bench.ledger.records[URI] is newer
    assert bench.messages() == []


def test_an_object_that_is_there_at_the_second_check_is_not_gone():
    bench = BucketBench()
    before = bench.record(record(5))
    bench.store.create("a.wav", b"x", content_type="audio/wav", metadata={})
    assert bench.repair(of(DiscrepancyKind.GONE, media(5))) == []
    assert bench.ledger.records[URI] is before
