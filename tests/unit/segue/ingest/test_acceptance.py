"""What is wanted is recorded, and each pipeline that can compute something is asked once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from segue.ingest.acceptance import accept_targets, build_requests
from segue.model.graph import parse_graph
from segue.model.message import Message, decode_message
from segue.model.planner import is_never_lost
from segue.model.record import NOBODY, Entry, Lease, Record, State

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
GRAPH = parse_graph(
    """
namespace: team
pipelines: {pair: [b, c]}
jobs:
  a: {run: "m:f", needs: {media: source}, writes: audio/flac}
  b: {run: "m:f", needs: {x: a}, writes: application/json}
  c: {run: "m:f", needs: {x: b}, writes: application/json}
  d: {run: "m:f", needs: {x: c}, writes: application/json}
"""
)


def record(**states: State) -> Record:
    lease = Lease(owner="somebody", expires_at=NOW + timedelta(seconds=60))
    results = {
        GRAPH.fingerprints[job]: Entry(
            job=job,
            state=state,
            order=5,
            attempts=1,
            lease=lease if state is State.RUNNING else None,
        )
        for job, state in states.items()
    }
    return Record(uri="gs://m/a.wav", version="5", order=5, arrived_at=NOW, results=results)


def accept(found: Record, *targets: str) -> tuple[dict[str, str], dict[str, tuple[str, ...]], str]:
    """Return the states of the jobs, whom each is to notify, and which jobs can run."""
    accepted, planned = accept_targets(GRAPH, found, targets, NOW, is_never_lost)
    entries = accepted.results.values()
    states = {e.job: str(e.state) for e in entries}
    return states, {e.job: e.notify for e in entries if e.notify}, " ".join(planned.elsewhere)


@pytest.mark.parametrize(
    ("found", "states", "wanted", "asked"),
    [
        ({}, {"c": "queued"}, "c", "a"),
        ({"a": State.DONE}, {"a": "done", "c": "queued"}, "c", "b"),
        ({"a": State.RUNNING}, {"a": "running", "c": "queued"}, "c", ""),
        ({"c": State.RUNNING}, {"c": "running"}, "c", ""),
        ({"c": State.DONE}, {"c": "done"}, "", ""),
        ({"c": State.FAILED}, {"c": "failed"}, "", ""),
        ({"a": State.FAILED}, {"a": "failed", "b": "blocked", "c": "blocked"}, "", ""),
        (
            {"a": State.NOT_APPLICABLE},
            {"a": "not_applicable", "b": "not_applicable", "c": "not_applicable"},
            "",
            "",
        ),
    ],
)
def test_a_target_is_wanted_unless_it_is_finished_or_cannot_be_computed(
    found, states, wanted, asked
):
    assert accept(record(**found), "c") == (
        states,
        dict.fromkeys(wanted.split(), (NOBODY,)),
        asked,
    )


@pytest.mark.parametrize("found", [{}, {"a": State.DONE}, {"a": State.FAILED}])
def test_what_is_accepted_again_changes_nothing(found):
    once, _ = accept_targets(GRAPH, record(**found), ("c", "d"), NOW, is_never_lost)
    later = NOW + timedelta(seconds=1)
    again, _ = accept_targets(GRAPH, once, ("c", "d"), later, is_never_lost)
    assert again is once


def test_a_pipeline_of_several_jobs_is_asked_once():
    envelopes = build_requests(GRAPH, record(), ("b", "d"), ("b", "c", "d"), request="r")
    assert [one.topic for one in envelopes] == ["inbox-pair", "inbox-d"]
    assert {decode_message(one.data) for one in envelopes} == {
        Message(
            namespace="team",
            uri="gs://m/a.wav",
            version="5",
            order=5,
            targets=("b", "d"),
            request="r",
        )
    }
