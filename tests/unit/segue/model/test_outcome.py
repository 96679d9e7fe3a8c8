"""Outcomes of files, and the totals of a run, which are the same however the run was divided."""

from __future__ import annotations

import pickle
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.errors import TooManyFailures
from segue.model.media_file import MediaFile
from segue.model.outcome import (
    FROM_VERDICT,
    UNFINISHED,
    FirstFailures,
    Outcome,
    RunTotals,
    Status,
)
from segue.model.passed_over import PassedOver
from segue.model.planner import Verdict
from segue.model.record import Failure, State
from segue.model.transitions import Result, build_blocked_result

MEDIA = MediaFile(uri="gs://b/a.wav", version="1", order=1)


def failed(job: str, kind: str, state: State = State.FAILED) -> Result:
    return Result(job=job, state=state, error=Failure(kind=kind, type="E", message="m"))


def test_every_verdict_has_a_status():
    assert set(FROM_VERDICT) == set(Verdict)
    verdicts = {str(v): v for v in Verdict}
    outcome = Outcome.from_results(MEDIA, verdicts, [], [])
    assert outcome.media == MEDIA
    assert outcome.jobs == {
        "run": "todo",
        "current": "current",
        "held": "held",
        "elsewhere": "waiting",
        "waiting": "waiting",
        "foreign": "waiting",
        "paused": "paused",
        "failed": "failed_before",
        "blocked": "blocked",
        "not_applicable": "not_applicable",
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
        (Result(job="a", state=State.NOT_APPLICABLE), Status.NOT_APPLICABLE),
    ],
)
def test_what_happened_goes_before_what_was_planned(result, status):
    planned = {"a": Verdict.RUN, "b": Verdict.CURRENT}
    outcome = Outcome.from_results(MEDIA, planned, [result], [])
    assert outcome.jobs == {"a": status, "b": "current"}
    assert (outcome.media, list(outcome.results)) == (MEDIA, [result])
    assert Outcome.from_results(MEDIA, planned, [result], ["a"]).jobs["a"] is Status.LOST


def test_a_refusal_holds_for_all_jobs():
    outcome = Outcome.from_status(MEDIA, ["a", "b"], Status.DELETED)
    assert outcome.jobs == {"a": "deleted", "b": "deleted"}
    assert outcome.results == ()
    assert outcome.media == MEDIA


def test_only_what_failed_is_tallied_as_a_failure():
    results = [
        failed("a", "timeout"),
        failed("b", "unavailable", State.QUEUED),
        failed("c", "crashed"),
        build_blocked_result("d", "a"),
    ]
    tally = RunTotals()
    planned = {**{r.job: Verdict.RUN for r in results}, "e": Verdict.FAILED}
    tally.add(Outcome.from_results(MEDIA, planned, results, late=["c"]))
    assert tally.failures == {"a": Counter(timeout=1)}
    assert (tally.files, tally.failed_files) == (1, 1)
    tally.add(Outcome.from_status(MEDIA, ["e"], Status.FAILED_BEFORE))
    assert (tally.files, tally.failed_files) == (2, 2)
    assert {j: dict(c) for j, c in tally.jobs.items()} == {
        "a": {"failed": 1},
        "b": {"deferred": 1},
        "c": {"lost": 1},
        "d": {"blocked": 1},
        "e": {"failed_before": 2},
    }


@pytest.mark.parametrize(
    ("status", "failed_files", "unfinished"),
    [
        (Status.DONE, 0, False),
        (Status.CURRENT, 0, False),
        (Status.TODO, 0, False),
        (Status.FAILED, 1, False),
        (Status.FAILED_BEFORE, 1, False),
        (Status.BLOCKED, 1, False),
        (Status.NOT_APPLICABLE, 0, False),
        (Status.HELD, 0, True),
        (Status.WAITING, 0, True),
        (Status.DEFERRED, 0, True),
        (Status.LOST, 0, True),
        (Status.SUPERSEDED, 0, True),
        (Status.DELETED, 0, True),
    ],
)
def test_a_file_counts_as_failed_or_unfinished_unless_its_results_are_there(
    status, failed_files, unfinished
):
    totals = RunTotals()
    totals.add(Outcome.from_status(MEDIA, ["a", "b"], status))
    assert (totals.failed_files, totals.unfinished) == (failed_files, unfinished)


def test_processor_time_is_summed_also_of_what_failed_or_was_lost():
    results = [
        Result(job="a", state=State.DONE, cpu_seconds=1.5),
        Result(job="b", state=State.FAILED, cpu_seconds=2.0),
        Result(job="c", state=State.DONE),
    ]
    tally = RunTotals()
    for _ in range(2):
        tally.add(Outcome.from_results(MEDIA, {}, results, late=["a"]))
    assert tally.cpu_seconds == {"a": 3.0, "b": 4.0}


@pytest.mark.parametrize("status", Status)
def test_a_run_is_unfinished_while_somebody_could_do_more(status):
    tally = RunTotals()
    tally.add(Outcome.from_status(MEDIA, ["a"], Status.DONE))
    tally.add(Outcome.from_status(MEDIA, ["a"], status))
    unfinished = {"held", "paused", "waiting", "deferred", "lost", "superseded", "deleted"}
    assert tally.unfinished == (status in unfinished)
    assert {str(s) for s in UNFINISHED} == unfinished


def test_files_that_are_left_out_count_as_failed():
    assert RunTotals().failed_share == 0
    assert RunTotals(files=4, failed_files=1).failed_share == 0.25
    assert RunTotals(files=3, left_out={"missing": 1}).failed_share == 0.25
    assert RunTotals(left_out={"missing": 1}).failed_share == 1


jobs = st.sampled_from("abc")
results = st.builds(
    Result,
    job=jobs,
    state=st.sampled_from(sorted(set(State) - {State.RUNNING})),
    error=st.none() | st.builds(Failure, kind=st.sampled_from("xy"), type=jobs, message=jobs),
    cpu_seconds=st.none() | st.integers(0, 8).map(float),
)
outcomes = st.builds(
    Outcome.from_results,
    st.just(MEDIA),
    st.dictionaries(jobs, st.sampled_from(Verdict)),
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
    first.left_out, first.left_out_names = {"missing": 1}, {"missing": ["b"]}
    second.left_out, second.left_out_names = {"missing": 2}, {"missing": ["a", "b"]}
    first.passed_over = PassedOver(not_included={".opus": 1}, not_selected={"match": 2})
    second.passed_over = PassedOver(
        not_included={".opus": 2, ".txt": 1}, excluded={".wav": 1}, not_selected={"match": 1}
    )
    first.merge(pickle.loads(pickle.dumps(second)))
    whole.left_out, whole.left_out_names = {"missing": 3}, {"missing": ["a", "b"]}
    whole.passed_over = PassedOver(
        not_included={".opus": 3, ".txt": 1}, excluded={".wav": 1}, not_selected={"match": 3}
    )
    assert first == whole
    assert whole.total(*Status) == sum(len(o.jobs) for o in all_)
    assert sum(sum(k.values()) for k in whole.failures.values()) <= whole.total(Status.FAILED)


def add_to_first_failures(
    first: FirstFailures, status: Status, *, job: str = "a", kind: str = "job_raised"
) -> None:
    error = Failure(kind=kind, type="E", message="no model")
    result = Result(job=job, state=State.FAILED, error=error)
    is_failed = status is Status.FAILED
    first.add(Outcome(media=MEDIA, jobs={job: status}, results=[result] if is_failed else []))


def test_the_first_failures_of_a_job_say_which_kind_and_what_to_do():
    first = FirstFailures()
    for job in "aba":
        add_to_first_failures(first, Status.FAILED, job=job)
        first.check(3)
    add_to_first_failures(first, Status.FAILED)
    with pytest.raises(TooManyFailures) as caught:
        first.check(3)
    message = str(caught.value)
    assert "the first 3 files all failed in job 'a' (job_raised 3)" in message
    assert f"{MEDIA.uri}: no model" in message
    assert "segue retry --job a" in message
    assert "--tolerate 100%" in message


@pytest.mark.parametrize("status", [Status.DONE, Status.CURRENT])
def test_failures_after_a_success_are_not_the_first(status):
    first = FirstFailures()
    for each in [Status.FAILED, status, Status.FAILED, Status.FAILED]:
        add_to_first_failures(first, each)
    first.check(2)


@pytest.mark.parametrize("kind", ["corrupt_media", "too_large"])
def test_files_that_are_at_fault_themselves_do_not_count_as_first_failures(kind):
    first = FirstFailures()
    for _ in range(3):
        add_to_first_failures(first, Status.FAILED, kind=kind)
    first.check(2)
    for _ in range(2):
        add_to_first_failures(first, Status.FAILED)
    with pytest.raises(TooManyFailures, match="the first 2 files"):
        first.check(2)


def test_jobs_that_were_not_tried_are_neither_failures_nor_successes():
    first = FirstFailures()
    for each in [Status.FAILED_BEFORE, Status.BLOCKED, Status.DEFERRED, Status.HELD]:
        add_to_first_failures(first, each)
    first.check(1)
    add_to_first_failures(first, Status.FAILED)
    with pytest.raises(TooManyFailures):
        first.check(1)
