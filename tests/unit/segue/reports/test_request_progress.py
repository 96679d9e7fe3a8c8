"""A request is watched until its results exist, or never will."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from segue.ingest.requests import RequestDocument
from segue.model.graph import SOURCE, Graph, Job
from segue.model.ledger import Change
from segue.model.record import Entry, Failure, Ping, Record, State
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


def entry(job: str, state: State, request: str | None = None, kind: str = "") -> Entry:
    error = Failure(kind=kind, type="E", message="m") if kind else None
    print_ = GRAPH.fingerprints[job]
    return Entry(state=state, fingerprint=print_, generation=1, error=error, request=request)


def record(uri: str = URI, **jobs: Entry) -> Record:
    return Record(uri=uri, generation=1, arrived_at=NOW, jobs=jobs)


def watcher(ledger: MemoryLedger, **more: object) -> RequestWatcher:
    document = RequestDocument(
        **{"request": ID, "targets": ("beats",), "files": (URI,), "made_at": NOW, **more}
    )
    return RequestWatcher(graph=GRAPH, ledger=ledger, document=document, clock=lambda: NOW)


DONE = entry("beats", State.DONE)
FAILED = entry("load", State.FAILED, kind="timeout")


@pytest.mark.parametrize(
    ("jobs", "state", "is_over"),
    [
        ({}, "waiting", False),
        ({"beats": entry("beats", State.QUEUED)}, "queued", False),
        ({"beats": entry("beats", State.RUNNING)}, "running", False),
        ({"beats": DONE}, "done", True),
        ({"beats": entry("beats", State.FAILED, kind="crashed")}, "failed", True),
        ({"load": FAILED}, "blocked", True),
    ],
)
def test_a_file_is_over_when_its_targets_are_there_or_will_not_be(jobs, state, is_over):
    progress = watcher(MemoryLedger([record(**jobs)])).read_progress()
    assert dict(progress.jobs["beats"]) == {state: 1}
    assert progress.is_over is is_over
    assert progress.failures == (state in {"failed", "blocked"})


def test_a_file_that_the_ledger_does_not_know_is_waited_for():
    ledger = MemoryLedger()
    watching = watcher(ledger)
    assert dict(watching.read_progress().jobs["beats"]) == {"unknown": 1}
    ledger.change([Change(uri=URI, transition=lambda _: (record(beats=DONE), None))])
    assert watching.read_progress().is_over


def test_a_forced_result_must_be_newer_than_the_request():
    old = entry("beats", State.DONE, request=EARLIER)
    assert not watcher(MemoryLedger([record(beats=old)]), force=True).read_progress().is_over
    new = entry("beats", State.DONE, request=ID)
    assert watcher(MemoryLedger([record(beats=new)]), force=True).read_progress().is_over


def test_a_ping_is_over_when_each_job_of_the_line_has_a_trace():
    here = Ping(request=ID, at=NOW)
    one = Record(uri=URI, generation=1, arrived_at=NOW, pings={"load": here})
    progress = watcher(MemoryLedger([one]), ping=True).read_progress()
    assert {job: dict(c) for job, c in progress.jobs.items()} == {
        "load": {"done": 1},
        "beats": {"waiting": 1},
    }
    both = Record(uri=URI, generation=1, arrived_at=NOW, pings={"load": here, "beats": here})
    assert watcher(MemoryLedger([both]), ping=True).read_progress().is_over


def test_what_is_over_is_not_looked_at_again():
    class Counting(MemoryLedger):
        looked = 0

        def read(self, uris):
            self.looked += len(uris)
            return super().read(uris)

    others = [record(f"gs://b/{n}.wav", beats=DONE) for n in range(9)]
    ledger = Counting([*others, record("gs://b/x.wav")])
    watching = watcher(ledger, files=(), prefix="gs://b/")
    assert watching.read_progress().finished == 9
    watching.read_progress()
    assert ledger.looked == 11
    gone = Record(uri="gs://b/x.wav", generation=1, arrived_at=NOW, deleted_at=NOW)
    ledger.change([Change(uri=gone.uri, transition=lambda _: (gone, None))])
    assert watching.read_progress().is_over
