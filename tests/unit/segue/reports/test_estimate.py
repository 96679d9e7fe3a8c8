"""A run's estimated cost is the measured mean times the work left to do."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from segue.model.graph import Graph, parse_graph
from segue.model.outcome import RunTotals, Status
from segue.model.record import Entry, Record, State
from segue.reports import estimate as module
from segue.reports.estimate import estimate
from segue_support.ledger import MemoryLedger

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TEXT = """
jobs:
  a: {{run: "m:f", needs: {{m: source}}, writes: application/json, version: {version}}}
  b: {{run: "m:f", needs: {{x: a}}, writes: application/json}}
"""
THEN, TODAY = (parse_graph(TEXT.format(version=version)) for version in (1, 2))


def ledger_with(*measured: tuple[Graph, float], folder: str = "a") -> MemoryLedger:
    """A ledger of files whose job ``a`` took so many CPU seconds, by some graph."""
    return MemoryLedger(
        Record(
            uri=f"gs://bucket/{folder}/{number}",
            version="1",
            order=1,
            arrived_at=NOW,
            results={
                graph.fingerprints["a"]: Entry(
                    job="a", state=State.DONE, order=1, cpu_seconds=seconds
                )
            },
        )
        for number, (graph, seconds) in enumerate(measured)
    )


def test_the_mean_times_what_is_to_do_gives_hours_cost_and_time():
    tally = RunTotals(files=900, jobs={"a": {Status.TODO: 900, Status.CURRENT: 3}})
    ledger = ledger_with((TODAY, 1.0), (TODAY, 3.0))
    found = estimate(TODAY, ledger, tally, vcpus=4, price=0.5)
    (job,) = found.jobs
    assert (job.todo, job.measured_on, job.cpu_seconds) == (900, 2, 2.0)
    assert found.vcpu_hours == pytest.approx(0.5)
    assert found.cost == pytest.approx(0.25)
    assert found.eta_s == pytest.approx(450.0)
    assert found.complete


def test_results_of_this_version_count_before_older_ones_and_older_ones_if_need_be():
    tally = RunTotals(files=1, jobs={"a": {Status.TODO: 1}})
    both = ledger_with((THEN, 100.0), (TODAY, 2.0))
    assert estimate(TODAY, both, tally, vcpus=1, price=1).jobs[0].cpu_seconds == 2.0
    old = ledger_with((THEN, 100.0))
    assert estimate(TODAY, old, tally, vcpus=1, price=1).jobs[0].cpu_seconds == 100.0


def test_results_below_the_prefix_count_before_others_and_others_if_need_be():
    tally = RunTotals(files=1, jobs={"a": {Status.TODO: 1}})
    ledger = ledger_with((TODAY, 100.0))
    ledger = MemoryLedger(
        [*ledger.records.values(), *ledger_with((TODAY, 2.0), folder="b").records.values()]
    )
    found = [
        estimate(TODAY, ledger, tally, vcpus=1, price=1, prefix=f"gs://bucket/{folder}/").jobs[0]
        for folder in ("b", "c")
    ]
    assert [job.cpu_seconds for job in found] == [2.0, 51.0]


def test_no_more_files_are_read_than_needed(monkeypatch):
    monkeypatch.setattr(module, "MEASURED_ON", 2)
    monkeypatch.setattr(module, "READ_AT_MOST", 3)
    tally = RunTotals(files=9, jobs={"a": {Status.TODO: 9}, "b": {Status.TODO: 9}})
    ledger = ledger_with(*[(TODAY, 1.0)] * 9)
    found = estimate(TODAY, ledger, RunTotals(jobs={"a": tally.jobs["a"]}), vcpus=1, price=1)
    assert found.jobs[0].measured_on == 2
    unmeasured = estimate(TODAY, ledger, tally, vcpus=1, price=1)
    assert [job.measured_on for job in unmeasured.jobs] == [3, 0]


def test_a_job_that_was_never_measured_leaves_the_estimate_incomplete():
    tally = RunTotals(files=5, jobs={"a": {Status.TODO: 5}, "b": {Status.TODO: 5}})
    found = estimate(TODAY, ledger_with((TODAY, 3600.0)), tally, vcpus=1, price=1)
    assert not found.complete
    assert {j.job: j.vcpu_hours for j in found.jobs} == {"a": 5.0, "b": None}
    assert found.vcpu_hours == 5.0


def test_with_nothing_to_do_it_costs_nothing():
    tally = RunTotals(files=5, jobs={"a": {Status.CURRENT: 5}})
    found = estimate(TODAY, MemoryLedger(), tally, vcpus=1, price=1)
    assert found.complete
    assert found.cost == 0.0
