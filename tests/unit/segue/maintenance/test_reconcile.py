"""Discrepancies between a listing and the ledger are found, and repaired once confirmed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.adapters.connect import connect_store
from segue.errors import Unavailable
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
from segue.model.media_file import MediaFile
from segue.model.message import Message, decode_message
from segue.model.record import Entry, Record, State
from segue.model.transitions import arrive
from segue_support.ledger import MemoryLedger
from segue_support.queue import MemoryQueue

NOW = datetime(2026, 3, 1, tzinfo=UTC)
BEFORE = NOW - timedelta(days=1)
HOUR = timedelta(hours=1)
URI = "gs://acme-audio/a.wav"
GRAPH = parse_graph(
    """
    jobs:
      fine: {run: "m:f", needs: {media: source}, writes: application/json}
      beside: {run: "m:f", needs: {media: source}, writes: application/json}
      after: {run: "m:f", needs: {value: fine}, writes: application/json}
    """
)
FINDER = DiscrepancyFinder(graph=GRAPH, started_at=NOW, grace=HOUR)

names = st.lists(st.text("ab/\x7f\ue000\U0001f3b5", max_size=3), unique=True).map(sorted)


def media(generation: int = 5) -> MediaFile:
    return MediaFile(uri=URI, generation=generation, size_bytes=3)


def there(generation: int = 5) -> ListedFile:
    return ListedFile(uri=URI, media=media(generation))


def record(generation: int = 5, age: timedelta = 2 * HOUR, **more) -> Record:
    return Record(uri=URI, generation=generation, arrived_at=NOW - age, **more)


def begun(job: str = "fine", state: State = State.QUEUED, attempts: int = 0) -> dict[str, Entry]:
    return {job: Entry(state=state, fingerprint="0" * 12, generation=5, attempts=attempts)}


@given(names, names)
def test_both_sides_are_paired_completely_and_in_order(listed, recorded):
    objects = [ListedFile(uri=name, media=None) for name in listed]
    known = [Record(uri=name, generation=1, arrived_at=NOW) for name in recorded]
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
        (None, record(5), DiscrepancyKind.GONE),
        (None, record(5, age=timedelta(seconds=1)), DiscrepancyKind.GONE),
    ],
)
def test_a_missed_event_is_found(listed, known, kind):
    found = FINDER.find(listed, known)
    expected = media(listed.media.generation) if listed else known.media
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
    ],
)
def test_what_only_seems_wrong_is_left_alone(listed, known):
    assert FINDER.find(listed, known) is None


@pytest.mark.parametrize(
    ("jobs", "unstarted"),
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
def test_a_file_is_unstarted_if_no_job_that_reads_it_ever_started(jobs, unstarted):
    found = FINDER.find(there(), record(jobs=jobs))
    assert (found is not None) == unstarted


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

    def repair(self, found: list[Discrepancy], *, dry_run: bool = False) -> list[Discrepancy]:
        queue = None if dry_run else self.queue
        return repair(
            found, graph=GRAPH, catalogue=self.store, ledger=self.ledger, queue=queue, now=NOW
        )

    def file(self, name: str, data: bytes = b"sound") -> MediaFile:
        path = self.folder / name
        path.write_bytes(data)
        return MediaFile(uri=f"file://{path}", generation=path.stat().st_ctime_ns)

    def gone(self, name: str = "gone.wav", generation: int = 5) -> MediaFile:
        return MediaFile(uri=f"file://{self.folder}/{name}", generation=generation)

    def record(self, media: MediaFile, **more) -> Record:
        made = Record(uri=media.uri, generation=media.generation, arrived_at=BEFORE, **more)
        self.ledger.change([Change(uri=media.uri, transition=lambda _: (made, None))])
        return made

    def known(self, media: MediaFile) -> Record | None:
        return self.ledger.read([media.uri])[0].record

    def read_messages(self) -> list[Message]:
        return [decode_message(envelope.data) for envelope in self.queue.queued.values()]


@pytest.fixture
def bench(tmp_path) -> Bench:
    return Bench(tmp_path)


def of(kind: DiscrepancyKind, media: MediaFile) -> Discrepancy:
    return Discrepancy(kind=kind, media=media)


def test_an_unrecorded_file_arrives_and_its_jobs_are_notified(bench):
    media = bench.file("new.wav")
    found = [of(DiscrepancyKind.UNRECORDED, media)]
    assert bench.repair(found) == found
    assert bench.known(media).media == media
    assert bench.read_messages() == [
        Message(uri=media.uri, generation=media.generation, job=job) for job in ("fine", "beside")
    ]


def test_an_overwritten_file_arrives_anew(bench):
    media = bench.file("new.wav")
    fine = Entry(state=State.DONE, fingerprint="0" * 12, generation=1)
    bench.record(MediaFile(uri=media.uri, generation=1), jobs={"fine": fine})
    found = [of(DiscrepancyKind.OVERWRITTEN, media)]
    assert bench.repair(found) == found
    assert (bench.known(media).generation, bench.known(media).jobs) == (media.generation, {})
    assert len(bench.read_messages()) == 2


def test_the_jobs_of_an_unstarted_file_are_notified_again_and_its_record_is_kept(bench):
    media = bench.file("known.wav")
    before = bench.record(media)
    found = [of(DiscrepancyKind.UNSTARTED, media)]
    assert bench.repair(found) == found
    assert bench.known(media) is before
    assert len(bench.read_messages()) == 2


def test_a_file_that_moved_on_since_it_was_listed_is_left_alone(bench):
    media = bench.gone(generation=5)
    before = bench.record(MediaFile(uri=media.uri, generation=6))
    assert bench.repair([of(DiscrepancyKind.UNSTARTED, media)]) == []
    assert bench.known(media) is before
    assert bench.read_messages() == []


def test_jobs_are_notified_by_the_next_run_if_a_run_died_before_it(bench):
    """Recorded, but not notified: the grace would hide the young record for an hour."""

    class Away(MemoryQueue):
        def publish(self, envelopes):
            raise Unavailable("the queue is away; try again later")

    media = bench.file("new.wav")
    found = [of(DiscrepancyKind.UNRECORDED, media)]
    queue, bench.queue = bench.queue, Away()
    with pytest.raises(Unavailable):
        bench.repair(found)
    assert bench.known(media) is not None
    bench.queue = queue
    assert bench.repair(found) == found
    assert len(bench.read_messages()) == 2


def test_a_file_that_is_gone_leaves_a_tombstone_and_no_job_is_notified(bench):
    media = bench.gone()
    bench.record(media)
    found = [of(DiscrepancyKind.GONE, media)]
    assert bench.repair(found) == found
    assert bench.known(media).deleted_at == NOW
    assert arrive(bench.known(media), media, NOW)[1] == "stale"
    assert bench.read_messages() == []


def test_a_file_that_is_there_at_the_second_check_is_not_gone(bench):
    there = bench.file("back.wav")
    before = bench.record(MediaFile(uri=there.uri, generation=5))
    assert bench.repair([of(DiscrepancyKind.GONE, before.media)]) == []
    assert bench.known(there) is before


def test_a_name_at_which_a_folder_is_now_is_gone(bench):
    (bench.folder / "a.wav").mkdir()
    media = bench.gone("a.wav")
    bench.record(media)
    assert len(bench.repair([of(DiscrepancyKind.GONE, media)])) == 1


def test_a_file_that_may_not_be_read_is_not_gone(bench, monkeypatch):
    media = bench.gone("locked.wav")
    before = bench.record(media)

    def refused(path, *_args, **_more):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("segue.adapters.folder.os.stat", refused)  # root may look at anything
    assert bench.repair([of(DiscrepancyKind.GONE, media)]) == []
    assert bench.known(media) is before


@pytest.mark.parametrize("generation", [6, 7])
def test_a_newer_version_that_arrived_meanwhile_is_not_deleted(bench, generation):
    media = bench.gone(generation=5)
    before = bench.record(MediaFile(uri=media.uri, generation=generation))
    assert bench.repair([of(DiscrepancyKind.GONE, media)]) == []
    assert bench.known(media) is before


def test_what_the_ledger_has_forgotten_gets_no_tombstone(bench):
    media = bench.gone()
    assert bench.repair([of(DiscrepancyKind.GONE, media)]) == []
    assert bench.known(media) is None


def test_a_dry_run_confirms_and_changes_nothing(bench):
    new, gone, back = bench.file("new.wav"), bench.gone(), bench.file("back.wav")
    bench.record(gone)
    bench.record(back)
    before = bench.ledger.records
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
    for media in gone:
        bench.record(media)
    found = [of(DiscrepancyKind.UNRECORDED, m) for m in new] + [
        of(DiscrepancyKind.GONE, m) for m in gone
    ]
    assert bench.repair(found) == found
    assert {m.uri for m in bench.read_messages()} == {m.uri for m in new}
    assert all(bench.known(m).deleted_at == NOW for m in gone)
