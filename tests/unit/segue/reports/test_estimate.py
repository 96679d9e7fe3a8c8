"""A run's estimated cost follows from what was measured and the size of the work left to do."""

from __future__ import annotations

from collections.abc import Callable
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


SECOND = 100_000  # bytes of FLAC


def ledger_of_lengths(
    *lengths_s: float, cost: Callable[[float], float], suffix: str = "flac"
) -> MemoryLedger:
    """A ledger of files whose job ``a`` took what a length of FLAC costs."""
    return MemoryLedger(
        Record(
            uri=f"gs://bucket/a/{number}.{suffix}",
            version="1",
            order=1,
            arrived_at=NOW,
            size_bytes=round(length * SECOND),
            results={
                TODAY.fingerprints["a"]: Entry(
                    job="a", state=State.DONE, order=1, cpu_seconds=cost(length)
                )
            },
        )
        for number, length in enumerate(lengths_s)
    )


def estimate_s(ledger: MemoryLedger, files: int, length_s: float, kind: str = "flac") -> float:
    totals = RunTotals(
        files=files,
        jobs={"a": {Status.TODO: files}},
        todo_files={f"a.{kind}": files},
        todo_s={f"a.{kind}": files * length_s},
    )
    return estimate(TODAY, ledger, totals, vcpus=1, price=1).vcpu_hours * 3600


def test_files_are_estimated_by_those_of_their_suffix_if_there_are_enough():
    dear = ledger_of_lengths(*range(1, 11), cost=lambda s: 0.5 + 0.1 * s)
    cheap = ledger_of_lengths(*range(1, 11), cost=lambda s: 0.2 + 0.01 * s, suffix="dat")
    few = ledger_of_lengths(1, 2, 3, cost=lambda s: 90.0, suffix="ogg")
    both = MemoryLedger([*dear.records.values(), *cheap.records.values(), *few.records.values()])
    assert estimate_s(both, 7, 60.0) == pytest.approx(7 * (0.5 + 6.0))
    assert estimate_s(both, 7, 60.0, kind="") == pytest.approx(7 * (0.2 + 0.6))
    common = estimate_s(both, 7, 60.0, kind="mp3")
    assert estimate_s(both, 7, 60.0, kind="ogg") == common > 7 * 6.5


def test_short_and_long_files_tell_what_is_the_same_for_all_and_what_grows():
    ledger = ledger_of_lengths(*range(1, 11), cost=lambda s: 0.2 + 0.01 * s)
    assert estimate_s(ledger, 7, 600.0) == pytest.approx(7 * (0.2 + 6.0))


@pytest.mark.parametrize("length_s", [5.0, 30.0, 180.0])
@pytest.mark.parametrize(("fixed", "per_s"), [(0.02, 0.003), (0.02, 0.01), (0.0, 0.01)])
def test_files_of_one_length_are_enough_for_files_that_are_ten_times_longer(length_s, fixed, per_s):
    ledger = ledger_of_lengths(*[length_s] * 20, cost=lambda s: fixed + per_s * s)
    found = estimate_s(ledger, 50, 10 * length_s)
    taken = 50 * (fixed + per_s * 10 * length_s)
    # Nobody can know what of five seconds' cost is the same for all files: half of it is assumed.
    assert taken / 1.9 < found < taken * 1.5


def test_what_costs_less_for_long_files_is_not_extrapolated_below_zero():
    ledger = ledger_of_lengths(*range(1, 11), cost=lambda s: 1.0 / s)
    mean = sum(1.0 / s for s in range(1, 11)) / 10
    assert estimate_s(ledger, 1, 600.0) == pytest.approx(mean)


def test_what_grows_faster_than_the_length_has_no_fixed_part():
    ledger = ledger_of_lengths(*range(1, 11), cost=lambda s: s * s)
    assert estimate_s(ledger, 1, 5.5) == pytest.approx(38.5)


def test_files_without_a_size_cost_the_mean():
    ledger = ledger_of_lengths(*[0.0] * 10, cost=lambda _: 2.0)
    assert estimate_s(ledger, 3, 0.0) == pytest.approx(6.0 / 2 * 2)
