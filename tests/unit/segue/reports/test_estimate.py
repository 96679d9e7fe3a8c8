"""A run's estimated cost is the measured mean times the work left to do."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from segue.model.graph import parse_graph
from segue.model.ledger import Change
from segue.model.media_file import MediaFile
from segue.model.outcome import RunTotals, Status
from segue.model.record import State
from segue.model.transitions import Result, arrive, claim, settle
from segue.reports.estimate import estimate
from segue_support.ledger import MemoryLedger

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TEXT = """
jobs:
  a: {{run: "m:f", needs: {{m: source}}, writes: application/json, version: {version}}}
  b: {{run: "m:f", needs: {{x: a}}, writes: application/json}}
"""
THEN, TODAY = (parse_graph(TEXT.format(version=version)) for version in (1, 2))


def ledger_with(*measured: tuple[object, float]) -> MemoryLedger:
    """A ledger of files whose job ``a`` took so many CPU seconds, by some graph."""
    ledger = MemoryLedger()

    def change(number: int, graph, seconds: float) -> Change:
        media = MediaFile(uri=f"gs://bucket/{number}", generation=1)

        def transition(_found):
            record, _ = arrive(None, media, NOW)
            record = claim(record, graph, ("a",), owner="me", now=NOW, lease_s=9)
            result = Result(job="a", state=State.DONE, cpu_seconds=seconds)
            return settle(record, generation=1, owner="me", results=[result])

        return Change(uri=media.uri, transition=transition)

    ledger.change([change(i, graph, seconds) for i, (graph, seconds) in enumerate(measured)])
    return ledger


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
