"""Totals of log lines, and counts of the ledger and the queue."""

from __future__ import annotations

from segue.model.graph import parse_graph
from segue.model.ledger import LedgerCounts
from segue.model.queue import Envelope, list_subscriptions
from segue_cli.local.status import ActivityTotals, CountReader
from segue_support.ledger import MemoryLedger
from segue_support.queue import MemoryQueue

GROUPED = parse_graph(
    """
pipelines: {rhythm: [beats, tempo]}
jobs:
  beats: {run: "m:f", needs: {media: source}, writes: application/json}
  tempo: {run: "m:f", needs: {beats: beats}, writes: application/json}
  loudness: {run: "m:f", needs: {media: source}, writes: application/json}
"""
)


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_a_rate_covers_only_the_last_seconds():
    clock = Clock()
    totals = ActivityTotals(clock=clock)
    clock.now += 100
    for _ in range(20):
        totals.add({"action": "done", "job": "beats"})
    clock.now += 1
    totals.add({"action": "done", "job": "energy"})
    assert totals.compute_rates() == {"beats": 2.0, "energy": 0.1}
    clock.now += 9.5
    assert totals.compute_rates() == {"energy": 0.1}
    clock.now += 1
    assert totals.compute_rates() == {}


def test_a_rate_at_the_start_covers_the_time_since_then():
    clock = Clock()
    totals = ActivityTotals(clock=clock)
    totals.add({"action": "done", "job": "beats"})
    clock.now += 2
    assert totals.compute_rates() == {"beats": 0.5}


def test_the_last_failures_are_kept_the_newest_first():
    totals = ActivityTotals()
    for number in range(8):
        totals.add({"action": "failed", "job": "beats", "kind": "timeout", "file": str(number)})
    assert [t.uri for t in totals.list_failures()] == ["7", "6", "5", "4", "3"]
    assert totals.count_actions() == {"failed": 8}


def test_lines_of_any_form_are_accepted():
    totals = ActivityTotals()
    totals.add({})
    totals.add({"action": ["done"], "job": None})
    assert totals.compute_rates() == {}


class CountedLedger(MemoryLedger):
    """A ledger with two files in work, whose whole line is claimed."""

    def count(self, accepted):
        assert set(accepted) == {"beats", "tempo", "loudness"}
        states = {"beats": {"running": 2}, "tempo": {"running": 1, "done": 5}}
        return LedgerCounts(files=9, deleted=1, jobs=states)


def test_messages_are_counted_by_pipeline_without_those_in_work_and_results_by_job():
    queue = MemoryQueue()
    queue.subscribe(list_subscriptions(GROUPED))
    topics = ["source", "inbox-rhythm", "inbox-rhythm", "dead"]
    queue.publish([Envelope(topic=topic, data=b"x") for topic in topics])
    found = CountReader(GROUPED, CountedLedger(), queue).read({"tempo": 2.5})
    assert (found.files, found.deleted, found.dead_letters) == (9, 1, 1)
    assert found.queued == {"rhythm": 1, "loudness": 1}
    jobs = {job.name: (job.states.get("done", 0), job.rate) for job in found.jobs}
    assert jobs == {"beats": (0, 0.0), "tempo": (5, 2.5), "loudness": (0, 0.0)}
