"""Each state of a job has its explanation."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from segue.model.graph import parse_graph
from segue.model.lease_owner import build_owner
from segue.model.planner import Verdict
from segue.model.record import Entry, Failure, Lease, Record, State
from segue.reports.explanation import explain_jobs, format_holder

NOW = datetime(2026, 1, 2, tzinfo=UTC)
LATER, BEFORE = NOW + timedelta(hours=1), NOW - timedelta(hours=1)
GRAPH = parse_graph(
    """
jobs:
  beats: {run: "m:f", needs: {media: source}, writes: application/json}
  energy: {run: "m:f", needs: {beats: beats}, writes: application/json}
"""
)
OWNER = "host:4026531836@0badcafe/1234/5678/ab12"
# On this machine, by a number that no process can have.
DEAD_OWNER = f"{build_owner().rsplit('/', 3)[0]}/999999999/1/ab12"


def entry(state: State, *, job: str = "beats", **more) -> Entry:
    return Entry(
        **{"fingerprint": GRAPH.fingerprints[job], "generation": 2, **more, "state": state}
    )


def account(record_jobs, job="beats"):
    record = Record(uri="file:///a", generation=2, arrived_at=NOW, jobs=record_jobs)
    found = explain_jobs(GRAPH, record, tuple(GRAPH.jobs), now=NOW)
    return {a.job: a for a in found}[job]


def running(expires_at, owner=OWNER):
    return entry(State.RUNNING, lease=Lease(owner=owner, expires_at=expires_at))


@pytest.mark.parametrize(
    ("given", "state", "reason", "verdict"),
    [
        (entry(State.DONE), "done", "", Verdict.CURRENT),
        (None, "missing", "never been requested", Verdict.RUN),
        (entry(State.DONE, fingerprint="0" * 12), "stale", "000000000000 then", Verdict.RUN),
        (entry(State.DONE, generation=1), "stale", "generation 1, the file is at 2", Verdict.RUN),
        (entry(State.FAILED), "failed", "run 'segue retry' to try again", Verdict.FAILED),
        (
            entry(State.FAILED, error=Failure(kind="no_space", type="OSError", message="full")),
            "failed",
            "the next backfill tries it again",
            Verdict.RUN,
        ),
        (entry(State.FAILED, fingerprint="0" * 12), "failed", "older version", Verdict.RUN),
        (entry(State.QUEUED), "queued", "no worker has started it", Verdict.RUN),
        (entry(State.RUNNING), "running", "running without a lease", Verdict.RUN),
        (running(LATER), "running", "process 1234 on host holds it until", Verdict.HELD),
        (running(BEFORE), "running", "the next worker takes it over", Verdict.RUN),
    ],
)
def test_each_state_has_its_reason_and_what_follows(given, state, reason, verdict):
    found = account({} if given is None else {"beats": given})
    assert (found.state, found.verdict) == (state, verdict)
    assert reason in found.reason
    assert found.current == (not found.reason)


def test_a_dead_holder_is_reported():
    found = account({"beats": running(LATER, DEAD_OWNER)})
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
    error = Failure(kind="blocked", type="beats", message="")
    jobs = {"beats": entry(above), "energy": entry(State.BLOCKED, job="energy", error=error)}
    found = account(jobs, "energy")
    assert reason in found.reason
    assert found.verdict is verdict


def test_an_owner_of_unknown_form_is_shown_unchanged():
    assert format_holder(Lease(owner="worker-7", expires_at=NOW)) == "worker-7"
