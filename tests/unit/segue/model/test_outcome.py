"""Outcomes of files, and the totals of a run, which are the same however the run was divided."""

from __future__ import annotations

import pickle
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.model.media_file import MediaFile
from segue.model.outcome import (
    FROM_VERDICT,
    UNFINISHED,
    Outcome,
    RunTotals,
    Status,
    build_blocked_result,
)
from segue.model.planner import Line, Verdict
from segue.model.record import Failure, State
from segue.model.transitions import Result

MEDIA = MediaFile(uri="gs://b/a.wav", generation=1)


def plan(**verdicts: Verdict) -> Line:
    run = tuple(j for j, v in verdicts.items() if v is Verdict.RUN)
    return Line(run=run, verdicts=verdicts, blockers={}, holders={})


def failed(job: str, kind: str, state: State = State.FAILED) -> Result:
    return Result(job=job, state=state, error=Failure(kind=kind, type="E", message="m"))


def test_every_verdict_has_a_status():
    assert set(FROM_VERDICT) == set(Verdict)
    outcome = Outcome.from_plan(MEDIA, plan(**{v: v for v in Verdict}))
    assert outcome.media == MEDIA
    assert outcome.jobs == {
        "run": "todo",
        "current": "current",
        "held": "held",
        "waiting": "waiting",
        "failed": "failed_before",
        "blocked": "blocked",
        "idle": "idle",
    }


@pytest.mark.parametrize(
    ("result", "status"),
    [
        (Result(job="a", state=State.DONE), Status.DONE),
        (failed("a", "timeout"), Status.FAILED),
        (failed("a", "unavailable", State.QUEUED), Status.DEFERRED),
        (failed("a", "superseded", State.QUEUED), Status.SUPERSEDED),
        (Result(job="a", state=State.QUEUED), Status.DEFERRED),
        (build_blocked_result("a", "z"), Status.BLOCKED),
    ],
)
def test_what_happened_goes_before_what_was_planned(result, status):
    planned = plan(a=Verdict.RUN, b=Verdict.CURRENT)
    outcome = Outcome.from_results(MEDIA, planned, [result], [])
    assert outcome.jobs == {"a": status, "b": "current"}
    assert (outcome.media, list(outcome.results)) == (MEDIA, [result])
    assert Outcome.from_results(MEDIA, planned, [result], ["a"]).jobs["a"] is Status.LOST


def test_a_refusal_holds_for_all_jobs():
    outcome = Outcome.from_status(MEDIA, ["a", "b"], Status.DELETED)
    assert outcome.jobs == {"a": "deleted", "b": "deleted"}
    assert outcome.results == ()
    assert outcome.media == MEDIA


def test_blocked_names_the_cause_and_the_remedy():
    result = build_blocked_result("energy", "beats")
    assert result.state is State.BLOCKED
    assert result.error is not None
    assert (result.error.kind, result.error.type) == ("blocked", "beats")
    assert "'beats' above it failed" in result.error.message
    assert "segue retry" in result.error.message


def test_only_what_failed_is_tallied_as_a_failure():
    results = [
        failed("a", "timeout"),
        failed("b", "unavailable", State.QUEUED),
        failed("c", "crashed"),
        build_blocked_result("d", "a"),
    ]
    tally = RunTotals()
    planned = plan(**{r.job: Verdict.RUN for r in results}, e=Verdict.FAILED)
    tally.add(Outcome.from_results(MEDIA, planned, results, lost=["c"]))
    assert tally.failures == {"a": Counter(timeout=1)}
    assert (tally.files, tally.failed_files) == (1, 1)
    tally.add(Outcome.from_status(MEDIA, ["e"], Status.FAILED_BEFORE))
    assert (tally.files, tally.failed_files) == (2, 1)
    assert {j: dict(c) for j, c in tally.jobs.items()} == {
        "a": {"failed": 1},
        "b": {"deferred": 1},
        "c": {"lost": 1},
        "d": {"blocked": 1},
        "e": {"failed_before": 2},
    }


def test_processor_time_is_summed_also_of_what_failed_or_was_lost():
    results = [
        Result(job="a", state=State.DONE, cpu_seconds=1.5),
        Result(job="b", state=State.FAILED, cpu_seconds=2.0),
        Result(job="c", state=State.DONE),
    ]
    tally = RunTotals()
    for _ in range(2):
        tally.add(Outcome.from_results(MEDIA, plan(), results, lost=["a"]))
    assert tally.cpu_seconds == {"a": 3.0, "b": 4.0}


@pytest.mark.parametrize("status", Status)
def test_a_run_is_unfinished_while_somebody_could_do_more(status):
    tally = RunTotals()
    tally.add(Outcome.from_status(MEDIA, ["a"], Status.DONE))
    tally.add(Outcome.from_status(MEDIA, ["a"], status))
    unfinished = {"held", "waiting", "deferred", "lost", "superseded"}
    assert tally.unfinished == (status in unfinished)
    assert {str(s) for s in UNFINISHED} == unfinished


jobs = st.sampled_from("abc")
results = st.builds(
    Result,
    job=jobs,
    state=st.sampled_from([State.DONE, State.FAILED, State.BLOCKED, State.QUEUED]),
    error=st.none() | st.builds(Failure, kind=st.sampled_from("xy"), type=jobs, message=jobs),
    cpu_seconds=st.none() | st.integers(0, 8).map(float),
)
outcomes = st.builds(
    Outcome.from_results,
    st.just(MEDIA),
    st.dictionaries(jobs, st.sampled_from(Verdict)).map(lambda v: plan(**v)),
    st.lists(results, max_size=3, unique_by=lambda r: r.job),
    st.lists(jobs, max_size=2),
)


@given(st.lists(outcomes, max_size=8), st.integers(0, 8))
def test_tallies_of_parts_add_up_to_that_of_the_whole(all_, cut):
    whole, first, second = RunTotals(), RunTotals(), RunTotals()
    for outcome in all_:
        whole.add(outcome)
    for outcome in all_[:cut]:
        first.add(outcome)
    for outcome in all_[cut:]:
        second.add(outcome)
    first.left_out["folder"] = 1
    second.left_out["folder"] = 2
    first.merge(pickle.loads(pickle.dumps(second)))
    whole.left_out["folder"] = 3
    assert first == whole
    assert whole.total(*Status) == sum(len(o.jobs) for o in all_)
    assert sum(sum(k.values()) for k in whole.failures.values()) <= whole.total(Status.FAILED)
