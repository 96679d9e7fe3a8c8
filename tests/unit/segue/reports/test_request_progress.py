"""A request is watched until its results exist, or never will."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from segue.model.graph import SOURCE, Graph, Job
from segue.model.ledger import Change, Snapshot
from segue.model.record import Entry, Failure, Ping, Record, State
from segue.model.run import RunKind, RunRecord, RunSelection, RunState
from segue.reports.request_progress import RequestWatcher
from segue_support.ledger import MemoryLedger

NOW = datetime(2026, 1, 2, tzinfo=UTC)
GRAPH = Graph(
    jobs={
        name: Job(name=name, run="m:f", needs={"x": above}, writes="application/json")
        for name, above in {"load": SOURCE, "beats": "load"}.items()
    }
)
URI = "gs://b/a.wav"
ID = "20260102T000000.000000Z-00000001"
EARLIER = "20260101T000000.000000Z-00000001"
LATER = "20260103T000000.000000Z-00000001"


def entry(job: str, state: State, *requests: str, kind: str = "") -> Entry:
    error = Failure(kind=kind, type="E", message="m") if kind else None
    return Entry(job=job, state=state, order=1, attempts=1, error=error, requests=requests)


def record(*entries: Entry, uri: str = URI, **more: object) -> Record:
    results = {GRAPH.fingerprints[e.job]: e for e in entries}
    known = {"uri": uri, "version": "1", "order": 1, "arrived_at": NOW, "results": results}
    return Record(**{**known, **more})


def watcher(ledger: MemoryLedger, *, prefix: str | None = None, **more: bool) -> RequestWatcher:
    request = RunRecord(
        id=ID,
        kind=RunKind.REQUEST,
        state=RunState.ACCEPTED,
        started_at=NOW,
        selection=RunSelection(prefix=prefix, files=() if prefix else (URI,)),
        jobs=("beats",),
        **more,
    )
    return RequestWatcher(graph=GRAPH, ledger=ledger, request=request, clock=lambda: NOW)


DONE = entry("beats", State.DONE)
FAILED = entry("load", State.FAILED, kind="timeout")


@pytest.mark.parametrize(
    ("entries", "state", "is_over"),
    [
        ([], "waiting", False),
        ([entry("beats", State.QUEUED)], "queued", False),
        ([entry("beats", State.RUNNING)], "running", False),
        ([DONE], "done", True),
        ([entry("beats", State.FAILED, kind="crashed")], "failed", True),
        ([FAILED], "blocked", True),
        ([entry("beats", State.NOT_APPLICABLE)], "not_applicable", True),
        ([entry("load", State.NOT_APPLICABLE)], "not_applicable", True),
    ],
)
def test_a_file_is_over_when_its_targets_are_there_or_will_not_be(entries, state, is_over):
    progress = watcher(MemoryLedger([record(*entries)])).read_progress()
    assert dict(progress.jobs["beats"]) == {state: 1}
    assert progress.is_over is is_over
    assert progress.failures == (state in {"failed", "blocked"})


def test_a_result_of_an_equivalent_version_is_there():
    old = "0123456789ab"
    graph = Graph(jobs={**GRAPH.jobs, "beats": replace(GRAPH.jobs["beats"], equivalents=(old,))})
    ledger = MemoryLedger([record(results={old: DONE})])
    watching = replace(watcher(ledger), graph=graph)
    assert watching.read_progress().is_over
    assert not watcher(ledger).read_progress().is_over


def test_a_file_that_the_ledger_does_not_know_is_waited_for():
    ledger = MemoryLedger()
    watching = watcher(ledger)
    assert dict(watching.read_progress().jobs["beats"]) == {"unknown": 1}
    ledger.change([Change(uri=URI, transition=lambda _: (record(DONE), None))])
    assert watching.read_progress().is_over


@pytest.mark.parametrize(
    ("requests", "is_over"),
    [
        ((), False),
        ((EARLIER,), False),
        ((EARLIER, ID), True),
        ((ID, LATER), True),
        ((LATER,), True),
    ],
)
def test_a_forced_result_must_have_been_asked_for_again(requests, is_over):
    found = record(entry("beats", State.DONE, *requests))
    assert watcher(MemoryLedger([found]), force=True).read_progress().is_over is is_over


def test_a_forced_result_of_a_newer_version_of_the_file_is_new_enough():
    newer = record(DONE, arrived_at=NOW + timedelta(seconds=1))
    assert watcher(MemoryLedger([newer]), force=True).read_progress().is_over


def test_a_ping_is_over_when_each_job_of_the_line_has_a_trace():
    here = Ping(request=ID, at=NOW)
    progress = watcher(MemoryLedger([record(pings={"load": here})]), ping=True).read_progress()
    assert {job: dict(c) for job, c in progress.jobs.items()} == {
        "load": {"done": 1},
        "beats": {"waiting": 1},
    }
    later = Ping(request=LATER, at=NOW, before={ID: "load@beats"})
    both = record(pings={"load": here, "beats": later})
    assert watcher(MemoryLedger([both]), ping=True).read_progress().is_over


def test_a_later_ping_does_not_stand_for_one_that_is_still_on_its_way():
    pings = {"load": Ping(request=ID, at=NOW), "beats": Ping(request=LATER, at=NOW)}
    watching = watcher(MemoryLedger([record(pings=pings)]), ping=True)
    assert dict(watching.read_progress().jobs["beats"]) == {"waiting": 1}


def test_a_file_whose_record_is_damaged_is_not_waited_for():
    class Damaged(MemoryLedger):
        def read(self, uris):
            return [Snapshot(record=None, damage="it is damaged") for _ in uris]

    progress = watcher(Damaged()).read_progress()
    assert (progress.is_over, progress.failures) == (True, 1)
    (failed,) = progress.failed
    assert (failed.job, failed.kind, failed.message) == ("beats", "damaged_record", "it is damaged")


def test_what_is_over_is_not_looked_at_again():
    class Counting(MemoryLedger):
        looked = 0

        def read(self, uris):
            self.looked += len(uris)
            return super().read(uris)

    others = [record(DONE, uri=f"gs://b/{n}.wav") for n in range(9)]
    ledger = Counting([*others, record(uri="gs://b/x.wav")])
    watching = watcher(ledger, prefix="gs://b/")
    assert watching.read_progress().finished == 9
    watching.read_progress()
    assert ledger.looked == 11
    gone = record(uri="gs://b/x.wav", deleted_at=NOW)
    ledger.change([Change(uri=gone.uri, transition=lambda _: (gone, None))])
    assert watching.read_progress().is_over


def test_of_a_request_that_selects_files_only_those_with_something_recorded_are_followed():
    ledger = MemoryLedger(
        [
            record(entry("beats", State.QUEUED), uri="gs://b/1.wav"),
            record(DONE, uri="gs://b/2.wav"),
            record(entry("load", State.DONE), uri="gs://b/3.wav"),
            record(uri="gs://b/4.wav"),
        ]
    )
    watching = watcher(ledger, prefix="gs://b/")
    assert watching.read_progress().files == 4
    watching = watcher(ledger, prefix="gs://b/")
    watching.request = msgspec.structs.replace(
        watching.request, selection=RunSelection(prefix="gs://b/", match=("*.wav",))
    )
    progress = watching.read_progress()
    assert (progress.files, dict(progress.jobs["beats"])) == (2, {"queued": 1, "done": 1})
