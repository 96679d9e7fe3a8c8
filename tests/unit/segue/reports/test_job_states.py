"""Results are counted by state, and failures listed, as the graph now defines the jobs."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from segue.errors import ConfigurationError
from segue.model.graph import parse_graph
from segue.model.record import Entry, Failure, Record, State
from segue.reports.job_states import count_jobs, find_failures, select_kinds
from segue_support.ledger import MemoryLedger

NOW = datetime(2026, 1, 2, tzinfo=UTC)
OLD, ACCEPTED = "0123456789ab", "ba9876543210"
GRAPH = parse_graph(
    f"""
jobs:
  a: {{run: "m:f", needs: {{m: source}}, writes: application/json, equivalents: [{ACCEPTED}]}}
"""
)
OWN = GRAPH.fingerprints["a"]


def record(name: str, *, deleted: bool = False, **states: State) -> Record:
    """A file with results by fingerprint; ``own`` stands for the job's own."""
    return Record(
        uri=f"gs://bucket/{name}",
        version="7",
        order=7,
        arrived_at=NOW,
        deleted_at=NOW if deleted else None,
        results={
            {"own": OWN, "old": OLD, "accepted": ACCEPTED}[key]: Entry(
                job="a",
                state=state,
                order=7,
                attempts=1,
                error=Failure(kind="timeout", type="E", message=key)
                if state is State.FAILED
                else None,
            )
            for key, state in states.items()
        },
    )


RECORDS = [
    record("a/done", own=State.DONE, old=State.DONE),
    record("a/accepted", accepted=State.DONE),
    record("a/for others", own=State.NOT_APPLICABLE),
    record("a/stale", old=State.DONE),
    record("a/stale and running", own=State.RUNNING, old=State.DONE),
    record("b/failed", own=State.FAILED),
    record("b/failed before", old=State.FAILED),
    record("b/blocked", own=State.BLOCKED),
    record("b/queued", own=State.QUEUED),
    record("b/missing"),
    record("b/deleted", own=State.DONE, deleted=True),
]


def test_the_states_add_up_to_all_files_and_stale_ones_are_counted_beside_them():
    found = count_jobs(MemoryLedger(RECORDS), GRAPH)
    assert (found.files, found.deleted) == (10, 1)
    counts = dict(found.jobs["a"])
    assert counts.pop("stale") == 2
    assert counts == {
        "done": 2,
        "not_applicable": 1,
        "failed": 1,
        "blocked": 1,
        "running": 1,
        "queued": 1,
        "missing": 3,
    }


@pytest.mark.parametrize("prefix", ["gs://bucket/", "gs://bucket/b/"])
def test_counting_below_a_prefix_agrees_with_counting_everything(prefix):
    below = MemoryLedger([r for r in RECORDS if r.uri.startswith(prefix)])
    assert count_jobs(MemoryLedger(RECORDS), GRAPH, prefix) == count_jobs(below, GRAPH)


def test_a_file_with_an_accepted_result_counts_as_done_whatever_else_it_has():
    both = record("a", own=State.FAILED, accepted=State.DONE)
    found = count_jobs(MemoryLedger([both]), GRAPH, "gs://bucket/").jobs["a"]
    assert {state: n for state, n in found.items() if n} == {"done": 1}


def test_only_failures_of_the_present_version_are_listed():
    (found,) = find_failures(MemoryLedger(RECORDS), GRAPH, jobs=("a",))
    assert (found.uri, found.version, found.fingerprint) == ("gs://bucket/b/failed", "7", OWN)
    assert found.error.message == "own"
    assert list(find_failures(MemoryLedger(RECORDS), GRAPH, jobs=("a",), kinds=("crashed",))) == []


def test_what_failed_although_an_accepted_result_is_there_is_no_failure():
    both = record("a", own=State.FAILED, accepted=State.DONE)
    assert list(find_failures(MemoryLedger([both]), GRAPH, jobs=("a",))) == []


def test_an_unknown_kind_is_refused():
    assert select_kinds(["timeout"]) == {"timeout"}
    with pytest.raises(ConfigurationError, match="did you mean 'timeout'"):
        select_kinds(["timeot"])
