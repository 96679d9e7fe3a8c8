"""Each state of a job has its explanation."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from segue.model.graph import parse_graph
from segue.model.lease_owner import build_owner
from segue.model.planner import Verdict
from segue.model.record import Entry, Failure, Lease, Record, State
from segue.reports.explanation import Standing, explain_jobs, format_holder

NOW = datetime(2026, 1, 2, tzinfo=UTC)
LATER, BEFORE = NOW + timedelta(hours=1), NOW - timedelta(hours=1)
GRAPH = parse_graph(
    """
jobs:
  beats: {run: "m:f", needs: {media: source}, writes: application/json}
  energy: {run: "m:f", needs: {beats: beats}, writes: application/json}
"""
)
BEATS, ENERGY = (GRAPH.fingerprints[job] for job in ("beats", "energy"))
OWNER = "host:4026531836@0badcafe/1234/5678/ab12"
# On this machine, by a number that no process can have.
DEAD_OWNER = f"{build_owner().rsplit('/', 3)[0]}/999999999/1/ab12"


def entry(state: State, *, job: str = "beats", **more) -> Entry:
    return Entry(**{"job": job, "order": 2, "attempts": 1, **more, "state": state})


def build_record(results, version="2", order=2, **more) -> Record:
    """A record of results by fingerprint."""
    known = {"uri": "file:///a", "version": version, "order": order, "arrived_at": NOW}
    return Record(**known, results=results, **more)


def explain(results, job="beats", graph=GRAPH, **more):
    found = explain_jobs(graph, build_record(results), tuple(graph.jobs), now=NOW, **more)
    return {a.job: a for a in found}[job]


def running(expires_at, owner=OWNER):
    return entry(State.RUNNING, lease=Lease(owner=owner, expires_at=expires_at))


def because(kind, type_="E"):
    return Failure(kind=kind, type=type_, message=f"{kind} of {type_}")


@pytest.mark.parametrize(
    ("given", "state", "reason", "verdict"),
    [
        (entry(State.DONE), "done", "", Verdict.CURRENT),
        (None, "missing", "never been requested", Verdict.RUN),
        (entry(State.FAILED), "failed", "run 'segue retry' to try again", Verdict.FAILED),
        (
            entry(State.FAILED, error=because("no_space")),
            "failed",
            "the next backfill tries it again",
            Verdict.RUN,
        ),
        (
            entry(State.NOT_APPLICABLE, error=because("not_applicable")),
            "not_applicable",
            "not_applicable of E",
            Verdict.NOT_APPLICABLE,
        ),
        (entry(State.QUEUED), "queued", "no worker has started it", Verdict.RUN),
        (entry(State.RUNNING), "running", "running without a lease", Verdict.RUN),
        (running(LATER), "running", "process 1234 on host holds it until", Verdict.HELD),
        (running(BEFORE), "running", "the next worker takes it over", Verdict.RUN),
    ],
)
def test_each_state_has_its_reason_and_what_follows(given, state, reason, verdict):
    found = explain({} if given is None else {BEATS: given})
    assert (found.state, found.verdict) == (state, verdict)
    assert reason in found.reason
    assert found.current == (not found.reason)


def test_the_results_of_all_versions_of_a_job_are_listed():
    old, older = "0" * 12, "1" * 12
    results = {
        older: entry(State.DONE, finished_at=BEFORE, checksums={"json": "sha256:1"}),
        old: entry(State.FAILED, finished_at=NOW),
        BEATS: entry(State.RUNNING),
        ENERGY: entry(State.DONE, job="energy"),
    }
    found = explain(results)
    assert [(r.fingerprint, r.standing, r.counts) for r in found.results] == [
        (BEATS, Standing.PRESENT, False),
        (old, Standing.EARLIER, False),
        (older, Standing.EARLIER, False),
    ]
    assert found.entry is results[BEATS]
    assert found.results[2].artifacts == (f"beats/{older}/a/2.json",)


def test_a_result_of_an_earlier_version_of_the_job_is_stale():
    found = explain({"0" * 12: entry(State.DONE)})
    assert (found.state, found.current, found.verdict) == ("stale", False, Verdict.RUN)
    assert f"fingerprint 000000000000 then, {BEATS} now" in found.reason
    assert found.entry is None


def test_a_failure_of_an_earlier_version_of_the_job_says_nothing_about_this_one():
    found = explain({"0" * 12: entry(State.FAILED)})
    assert (found.state, found.verdict) == ("missing", Verdict.RUN)
    assert [r.standing for r in found.results] == [Standing.EARLIER]


def test_an_equivalent_result_counts_in_place_of_the_present_one():
    old = "0" * 12
    beats = replace(GRAPH.jobs["beats"], equivalents=(old,))
    graph = replace(GRAPH, jobs={**GRAPH.jobs, "beats": beats})
    results = {BEATS: entry(State.FAILED), old: entry(State.DONE)}
    found = explain(results, graph=graph)
    assert (found.state, found.current) == ("done", True)
    assert [(r.standing, r.counts) for r in found.results] == [
        (Standing.PRESENT, False),
        (Standing.EQUIVALENT, True),
    ]
    assert found.entry is results[old]


def test_results_of_content_that_the_file_no_longer_has_are_listed_and_do_not_count():
    recorded = build_record(
        {
            BEATS: entry(State.DONE, order=1, checksums={"json": "sha256:1"}),
            "0" * 12: entry(State.FAILED, order=1),
        },
        version="1",
        order=1,
    )
    found = explain({}, recorded=recorded)
    assert found.state == "missing"
    assert found.reason == "it has not been requested for this version of the file"
    (result,) = found.results
    assert (result.standing, result.counts) == (Standing.REPLACED, False)
    assert result.artifacts == (f"beats/{BEATS}/a/1.json",)


def test_what_a_requested_job_waits_for_is_named():
    results = {BEATS: running(LATER), ENERGY: entry(State.QUEUED, job="energy", attempts=0)}
    found = explain(results, "energy")
    assert (found.state, found.verdict) == ("queued", Verdict.WAITING)
    assert found.reason == "it has been requested, and waits for beats"


def test_a_dead_holder_is_reported():
    found = explain({BEATS: running(LATER, DEAD_OWNER)})
    assert found.verdict is Verdict.RUN
    assert "is dead" in found.reason


@pytest.mark.parametrize(
    ("above", "reason", "verdict"),
    [
        (State.FAILED, "'beats' above it failed", Verdict.BLOCKED),
        (State.DONE, "has not been tried since 'beats' was repaired", Verdict.RUN),
    ],
)
def test_a_blocked_job_names_what_blocks_it(above, reason, verdict):
    blocked = entry(State.BLOCKED, job="energy", attempts=0, error=because("blocked", "beats"))
    found = explain({BEATS: entry(above), ENERGY: blocked}, "energy")
    assert reason in found.reason
    assert found.verdict is verdict


def test_an_owner_of_unknown_form_is_shown_unchanged():
    assert format_holder(Lease(owner="worker-7", expires_at=NOW)) == "worker-7"
