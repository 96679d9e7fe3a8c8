"""A start requests page after page, while few requests wait, and once the folder is compared."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime

import pytest

from segue.errors import Unavailable
from segue.ingest.catalogue import MediaFilter
from segue.ingest.catch_up import CatchUp
from segue.model.graph import parse_graph
from segue.model.queue import list_subscriptions
from segue.model.record import Record
from segue.reports.job_states import JobCounts
from segue_cli.local import catch_up as module
from segue_cli.local.catch_up import CatchUpThread, count_gaps, describe_gaps, leave_out_requests
from segue_support.ledger import MemoryLedger
from segue_support.queue import MemoryQueue

PATIENCE_S = 20.0
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
GRAPH = parse_graph(
    'jobs:\n  a: {run: "m:f", needs: {media: source}, writes: application/json}\n'
    '  b: {run: "m:f", needs: {x: a}, writes: application/json, on_arrival: false}\n'
)
NAMES = [f"{number:03}.wav" for number in range(100)]
PAGE = 10
STATES = dict.fromkeys(("done", "failed", "blocked", "not_applicable", "running", "queued"), 0)


class Unmeasured(MemoryQueue):
    """A queue that does not know how many messages wait, as Pub/Sub does not."""

    def measure_depth(self, _subscriptions):
        return None


@pytest.fixture
def queue(request):
    made = getattr(request, "param", MemoryQueue)()
    made.subscribe(list_subscriptions(GRAPH))
    return made


@pytest.fixture
def make(queue, monkeypatch):
    """Return a function that builds the thread, and stops it at the end."""
    monkeypatch.setattr(module, "CHECK_S", 0.01)
    monkeypatch.setattr(module, "RETRY_S", 0.01)
    records = [
        Record(uri=f"file:///m/{name}", version="1", order=1, arrived_at=NOW) for name in NAMES
    ]
    stopping = threading.Event()
    made: list[CatchUpThread] = []

    def make(ledger=None, **changes):
        catch_up = CatchUp(
            graph=GRAPH,
            ledger=ledger or MemoryLedger(records),
            queue=queue,
            media_filter=MediaFilter(),
            page=PAGE,
        )
        compared = changes.pop("compared", None) or threading.Event()
        thread = CatchUpThread(catch_up, compared=compared, stopping=stopping, **changes)
        made.append(thread)
        thread.thread.start()
        return thread, compared

    make.records = records
    yield make
    stopping.set()
    for thread in made:
        thread.thread.join(PATIENCE_S)
        assert not thread.thread.is_alive()


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_nothing_is_requested_before_the_folder_is_compared(make, queue):
    thread, compared = make()
    assert thread.is_idle
    assert queue.queued == {}
    compared.set()
    wait_until(lambda: thread.is_idle and thread.files)
    assert thread.files == len(NAMES)


def test_only_so_many_requests_wait_at_once_and_in_the_end_all_were_made(make, queue):
    thread, compared = make(most_waiting=20)
    compared.set()
    seen = 0
    while seen < len(NAMES):
        wait_until(lambda: queue.queued)
        assert len(queue.queued) < 20 + PAGE
        pulled = queue.pull(["a.inbox"], limit=5)
        queue.acknowledge(pulled)
        seen += len(pulled)
    wait_until(lambda: thread.is_idle)
    assert queue.queued == {}


@pytest.mark.parametrize("queue", [Unmeasured], indirect=True)
def test_a_queue_that_cannot_count_is_not_flooded_either(make):
    thread, compared = make(most_waiting=20)
    compared.set()
    wait_until(lambda: thread.files >= 20)
    assert not thread.thread.join(0.1)
    assert (thread.files, thread.is_idle) == (20, False)


def test_a_ledger_that_is_away_for_a_while_is_asked_again(make):
    class Shaky(MemoryLedger):
        failures = 3

        def find(self, query, *, after="", limit=500):
            if self.failures:
                self.failures -= 1
                raise Unavailable("no server")
            return super().find(query, after=after, limit=limit)

    thread, compared = make(Shaky(make.records))
    compared.set()
    wait_until(lambda: thread.is_idle)
    assert thread.files == len(NAMES)


def test_gaps_are_counted_for_jobs_that_run_on_arrival_and_say_how_many_are_stale():
    counts = JobCounts(
        files=1500,
        deleted=0,
        jobs={
            "a": {**STATES, "queued": 100, "missing": 1300, "stale": 2},
            "b": {**STATES, "missing": 1500, "stale": 0},
        },
    )
    gaps = count_gaps(GRAPH, counts)
    assert gaps == {"a": (1300, 2)}
    left = leave_out_requests(gaps, counts)
    assert describe_gaps(left) == "a 1,200 (2 stale)"
    assert leave_out_requests({"a": (100, 0)}, counts) == {}
