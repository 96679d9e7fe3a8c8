"""Totals of log lines."""

from __future__ import annotations

from segue_cli.local.status import ActivityTotals


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
