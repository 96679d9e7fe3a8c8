"""The two steps by which the ledger advances a file: what each does, and that twice is once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from segue.errors import Kind
from segue.execution.work import (
    MAX_ATTEMPTS,
    ReceivedMessage,
    Run,
    Step,
    Steps,
    Work,
    check_version,
    find_finished,
    limit_attempts,
    list_wanted,
)
from segue.model.graph import Graph
from segue.model.ledger import Snapshot
from segue.model.media_file import MediaFile
from segue.model.message import Message, encode_message
from segue.model.outcome import Status
from segue.model.record import EVERYONE, NOBODY, Entry, Failure, Lease, Record, State, evolve
from segue.model.transitions import Result, build_blocked_result
from segue_support.stream import NOW, URI, build_graph, is_lost

LATER = NOW + timedelta(seconds=5)
MEDIA = MediaFile(uri=URI, version="5", order=5)
CHAIN = build_graph({"a": "", "b": "a", "c": "b"})
FORK = build_graph({"a": "", "b": "a", "c": "b", "d": "b"})
JOIN = build_graph({"a": "", "b": "", "c": "ab", "d": "c"})
FAILURE = Failure(kind="timeout", type="E", message="m")
LEASE = Lease(owner="other", expires_at=NOW + timedelta(seconds=30))


def record_of(graph: Graph, *entries: Entry) -> Record:
    results = {graph.fingerprints[entry.job]: entry for entry in entries}
    return Record(uri=URI, version="5", order=5, arrived_at=NOW, results=results)


def entry(job: str, state: State = State.DONE, **more: Any) -> Entry:
    attempts = int(state in (State.DONE, State.FAILED, State.RUNNING))
    return Entry(**{"job": job, "state": state, "order": 5, "attempts": attempts, **more})


def build_steps(graph: Graph, served: str | None = None) -> Steps:
    jobs = frozenset(served) if served is not None else None
    return Steps(graph=graph, served=jobs, lost=is_lost, lease_s=60.0)


def work_for(message: Message, targets: Sequence[str], pipeline: str = "a") -> Work:
    received = ReceivedMessage(pipeline=pipeline, data=encode_message(message))
    return Work(media=MEDIA, targets=tuple(targets), owner="me", message=message, received=received)


def of_event(trigger: str, *targets: str) -> Work:
    return work_for(Message(uri=URI, version="5", order=5, trigger=trigger), targets)


def of_request(*targets: str) -> Work:
    return work_for(Message(uri=URI, version="5", order=5, targets=targets), targets)


def of_run(*targets: str, **more: Any) -> Work:
    backfill = Run(id="r1", targets=targets, **more)
    return Work(media=MEDIA, targets=targets, owner="me", run=backfill)


def start(steps: Steps, work: Work, found: Record | None) -> tuple[Record | None, Step]:
    """Apply the first step, and note what it did, as the engine does."""
    record, step = steps.build_start(work, NOW)(found)
    work.snapshot, work.plan = Snapshot(record=record if record is not None else found), step.plan
    work.claimed = work.record
    return record, step


def settle(steps: Steps, work: Work, found: Record, *results: Result) -> tuple[Record | None, Step]:
    """Apply a settlement, and note what it did."""
    work.results = list(results)
    record, step = steps.build_settlement(work, LATER)(found)
    work.snapshot, work.plan = Snapshot(record=record), step.plan
    work.settled += results
    return record, step


def done(job: str) -> Result:
    artifact = f"{job}/000000000000/a.wav/5.json"
    return Result(job=job, state=State.DONE, artifacts={artifact: f"sha256:{job}"})


def at(graph: Graph, record: Record | None, job: str) -> Entry:
    assert record is not None
    return record.results[graph.fingerprints[job]]


# --- the start -------------------------------------------------------------------------------


def test_a_backfill_records_the_arrival_and_claims_in_one_step():
    record, step = start(build_steps(CHAIN), of_run("c"), None)
    assert record is not None
    assert record.media == MEDIA
    assert step.plan is not None
    assert step.plan.run == ("a", "b", "c")
    assert {e.lease.owner for e in record.results.values() if e.lease is not None} == {"me"}
    assert all(e.notify == () for e in record.results.values())


def test_a_message_never_records_an_arrival():
    assert start(build_steps(CHAIN), of_event("source", "a"), None) == (
        None,
        Step(refusal="unknown file"),
    )


@pytest.mark.parametrize(
    ("version", "deleted_at", "expected"),
    [("5", None, None), ("6", None, Status.SUPERSEDED), ("5", NOW, Status.DELETED)],
)
def test_a_version_that_can_no_longer_be_processed_is_refused(version, deleted_at, expected):
    record = evolve(record_of(CHAIN), version=version, deleted_at=deleted_at)
    assert check_version(record, MEDIA) == expected
    found, step = start(build_steps(CHAIN), of_event("source", "a"), record)
    assert step.refusal == expected
    assert (found is record) == (expected is not None)


@pytest.mark.parametrize("served", [None, "ab"])
@pytest.mark.parametrize(
    "work", [of_event("source", "a", "b"), of_request("b"), of_run("b")], ids=str
)
def test_starting_twice_is_starting_once(served, work):
    """The ledger may have failed after it had applied the step."""
    steps = build_steps(CHAIN, served)
    once, first = start(steps, work, record_of(CHAIN, entry("a", State.QUEUED, notify=(NOBODY,))))
    twice, second = start(steps, work, once)
    assert (twice, second) == (once, first)


def test_a_claim_that_was_recorded_although_the_ledger_failed_is_given_up_if_it_cannot_run_now():
    steps, work = build_steps(CHAIN, "b"), of_request("b")
    once, _ = start(steps, work, record_of(CHAIN, entry("a")))
    assert at(CHAIN, once, "b").lease is not None
    reopened = entry("a", State.QUEUED, notify=(NOBODY,), notify_at=NOW)
    results = {**once.results, CHAIN.fingerprints["a"]: reopened}
    twice, step = start(steps, work, evolve(once, results=results))
    assert step.plan.run == ()
    assert (at(CHAIN, twice, "b").state, at(CHAIN, twice, "b").lease) == (State.QUEUED, None)


def test_a_lease_that_expires_between_the_decision_and_the_claim_is_taken_over():
    steps, work = build_steps(CHAIN), of_request("b")
    found = record_of(CHAIN, entry("a", State.RUNNING, lease=LEASE))
    assert steps.decide(work, found, NOW)[1].plan.run == ()
    _, step = steps.build_start(work, LEASE.expires_at)(found)
    assert step.plan.run == ("a", "b")


def test_a_forced_start_twice_is_a_forced_start_once():
    steps, work = build_steps(CHAIN), of_run("b", force=True)
    once, first = start(steps, work, record_of(CHAIN, entry("a"), entry("b")))
    assert first.plan is not None
    assert first.plan.run == ("b",)
    assert at(CHAIN, once, "b").requests == ("r1",)
    assert start(steps, work, once) == (once, first)


def test_blocking_twice_is_blocking_once():
    steps, work = build_steps(CHAIN, "bc"), of_event("a", "b", "c")
    once, first = start(steps, work, record_of(CHAIN, entry("a", State.FAILED)))
    assert at(CHAIN, once, "b").state is at(CHAIN, once, "c").state is State.BLOCKED
    twice, second = start(steps, work, once)
    assert twice is once, "the very record, so that nothing is written"
    assert second == first


def test_what_is_blocked_belongs_to_the_event_that_found_it():
    steps = build_steps(CHAIN, "b")
    record, _ = start(steps, of_event("a", "b"), record_of(CHAIN, entry("a", State.FAILED)))
    assert at(CHAIN, record, "b").triggered_by == "a@a"
    record, _ = start(steps, of_request("c"), record_of(CHAIN, entry("a", State.FAILED)))
    assert at(CHAIN, record, "b").triggered_by is None
    assert at(CHAIN, record, "c").triggered_by is None


def test_a_result_of_no_event_becomes_that_of_the_first_one_that_can_tell_of_it():
    steps = build_steps(JOIN, "c")
    found = record_of(JOIN, entry("a"), entry("b"), entry("c"))
    record, _ = start(steps, of_event("a", "c"), found)
    assert at(JOIN, record, "c").triggered_by == "a@a"
    assert start(steps, of_event("b", "c"), record)[0] is record
    alone = build_steps(JOIN, "cd")
    found = record_of(JOIN, entry("a"), entry("b"), entry("c"), entry("d"))
    assert start(alone, of_event("a", "c", "d"), found)[0] is found, "there is nobody to tell"


# --- whom to continue with -------------------------------------------------------------------


def wanted(record: Record | None) -> dict[str, tuple[str, ...]]:
    assert record is not None
    return {e.job: e.notify for e in record.results.values() if e.notify}


HELD_A = entry("a", State.RUNNING, lease=LEASE)


@pytest.mark.parametrize(
    ("graph", "served", "found", "work", "expected"),
    [
        # A request's targets wait wherever their line goes on; the held job itself does not.
        (CHAIN, "a", [HELD_A], of_request("c"), {"c": (NOBODY,)}),
        (CHAIN, "a", [HELD_A], of_request("a"), {}),
        (CHAIN, "a", [], of_request("c"), {"c": (NOBODY,)}),
        (CHAIN, "a", [], of_request("a"), {}),
        (CHAIN, "c", [], of_request("c"), {"c": (NOBODY,)}),
        (CHAIN, "a", [entry("a")], of_request("b"), {"b": (NOBODY,)}),
        (CHAIN, None, [HELD_A], of_run("c"), {"c": (NOBODY,)}),
        (CHAIN, None, [HELD_A], of_run("a"), {}),
        # An event's own targets wait for whoever holds them, or what they need among them.
        (CHAIN, "a", [HELD_A], of_event("source", "a"), {"a": (EVERYONE,)}),
        (CHAIN, "ab", [HELD_A], of_event("source", "a", "b"), {"a": (EVERYONE,), "b": (EVERYONE,)}),
        # They wait for their own event's line if that is stale, and for no other parent.
        (CHAIN, "c", [], of_event("b", "c"), {"c": (EVERYONE,)}),
        (JOIN, "c", [entry("a")], of_event("a", "c"), {}),
        (JOIN, "c", [entry("a"), entry("b", State.RUNNING, lease=LEASE)], of_event("a", "c"), {}),
        # What this very work runs is not waited for.
        (CHAIN, "ac", [], of_event("source", "a"), {}),
        (build_graph({"a": "", "b": "a", "c": "ab"}), "ac", [], of_event("source", "a", "c"), {}),
    ],
)
def test_only_what_somebody_else_has_to_go_on_with_is_wanted(graph, served, found, work, expected):
    record, _ = start(build_steps(graph, served), work, record_of(graph, *found))
    assert wanted(record) == expected


def test_an_event_waits_for_what_another_deployment_has_told_of():
    """That parent's own event came already, and found nothing that counts here."""
    old = {"00000000001d": entry("b")}
    found = record_of(JOIN, entry("a"))
    found = evolve(found, results={**found.results, **old})
    record, _ = start(build_steps(JOIN, "c"), of_event("a", "c"), found)
    assert wanted(record) == {"c": (EVERYONE,)}


def test_what_is_wanted_already_is_not_written_again():
    found = record_of(CHAIN, HELD_A, entry("c", State.QUEUED, notify=(NOBODY,), notify_at=NOW))
    assert start(build_steps(CHAIN, "a"), of_request("c"), found)[0] is found


def test_the_results_that_are_wanted_are_those_that_are_not_finished():
    record = record_of(
        CHAIN,
        entry("a", notify=(EVERYONE,)),
        entry("b", State.QUEUED, notify=(NOBODY,)),
        entry("c", State.QUEUED),
    )
    assert list_wanted(CHAIN, record) == ("b",)
    old = evolve(record, results={"00000000001d": entry("b", State.QUEUED, notify=(NOBODY,))})
    assert list_wanted(CHAIN, old) == (), "nobody makes that one"


@pytest.mark.parametrize("state", sorted(State))
def test_finished_is_what_is_current_or_has_failed_for_this_version(state):
    finished = state not in (State.QUEUED, State.RUNNING)
    record = record_of(CHAIN, entry("b", state))
    assert find_finished(CHAIN, record, "b") == (CHAIN.fingerprints["b"] if finished else None)
    other = record_of(CHAIN, entry("b", state, order=4))
    assert find_finished(CHAIN, other, "b") is None


def test_an_equivalent_result_is_finished():
    old = "0000000000e4"
    job = replace(CHAIN.jobs["b"], equivalents=(old,))
    graph = Graph(jobs={**CHAIN.jobs, "b": job})
    failed = {graph.fingerprints["b"]: entry("b", State.FAILED), old: entry("b")}
    assert find_finished(graph, evolve(record_of(graph), results=failed), "b") == old


# --- the settlement --------------------------------------------------------------------------


def test_a_settlement_records_results_and_ends_with_nothing_more_to_run():
    steps, work = build_steps(CHAIN), of_run("c")
    claimed, _ = start(steps, work, None)
    assert claimed is not None
    record, step = settle(steps, work, claimed, done("a"), done("b"), done("c"))
    assert step.plan is not None
    assert (step.plan.run, step.late) == ((), ())
    assert {e.state for e in record.results.values()} == {State.DONE}
    assert {e.triggered_by for e in record.results.values()} == {None}


def test_the_results_of_an_event_are_its_own_and_others_are_nobodys():
    steps, work = build_steps(FORK, "abd"), of_event("source", "a", "b")
    want_d = entry("d", State.QUEUED, notify=(NOBODY,), notify_at=NOW)
    claimed, _ = start(steps, work, record_of(FORK, want_d))
    assert claimed is not None
    record, step = settle(steps, work, claimed, done("a"), done("b"))
    assert step.plan is not None
    assert step.plan.run == ("d",), "it goes on with what is wanted"
    assert at(FORK, record, "d").lease is not None
    assert record is not None
    work.claimed = record
    record, step = settle(steps, work, record, done("d"))
    by = {e.job: e.triggered_by for e in record.results.values()}
    assert by == {"a": "source@a", "b": "source@a", "d": None}


@pytest.mark.parametrize(
    ("triggered_by", "again"),
    [
        (None, True),
        (EVERYONE, False),  # they were notified
        ("source@b", False),  # that event comes again, and then notifies
        ("source@removed", True),  # a pipeline whose messages are gone
    ],
)
def test_an_event_notifies_of_a_result_whose_own_event_cannot_come_again(triggered_by, again):
    work = work_for(Message(uri=URI, version="5", order=5, trigger="source"), ["a"], "a")
    found = record_of(CHAIN, entry("a", triggered_by=triggered_by))
    record, _ = start(build_steps(CHAIN, "a"), work, found)
    assert record is not None
    expected = "source@a" if again else triggered_by
    assert at(CHAIN, record, "a").triggered_by == expected


@pytest.mark.parametrize(
    "results",
    [
        [done("a"), done("b")],
        [Result(job="a", state=State.FAILED, error=FAILURE), build_blocked_result("b", "a")],
        [done("a"), Result(job="b", state=State.QUEUED, error=FAILURE)],
        [done("a"), Result(job="b", state=State.NOT_APPLICABLE)],
    ],
    ids=["done", "failed", "deferred", "not applicable"],
)
@pytest.mark.parametrize("want", [(), ("c",)], ids=["at the end", "with more to do"])
def test_settling_twice_is_settling_once(results, want):
    """The ledger may have failed after it had applied the step, and claimed what comes next."""
    steps, work = build_steps(FORK, "abc"), of_event("source", "a", "b")
    more = [entry(job, State.QUEUED, notify=(NOBODY,), notify_at=NOW) for job in want]
    claimed, _ = start(steps, work, record_of(FORK, *more))
    assert claimed is not None
    work.results = results
    once, first = steps.build_settlement(work, LATER)(claimed)
    again = steps.build_settlement(work, LATER + timedelta(seconds=1))
    twice, second = again(once)
    assert first.plan is not None
    assert second.plan is not None
    assert (second.plan.run, second.late) == (first.plan.run, first.late)
    assert twice is not None
    assert once is not None
    unclaimed = [
        {f: evolve(e, started_at=None, lease=None) for f, e in r.results.items()}
        for r in (once, twice)
    ]
    assert unclaimed[0] == unclaimed[1]


def test_a_deferred_result_ends_the_work_for_now_whatever_else_is_wanted():
    steps, work = build_steps(FORK, "abd"), of_event("source", "a", "b")
    want_d = entry("d", State.QUEUED, notify=(NOBODY,), notify_at=NOW)
    claimed, _ = start(steps, work, record_of(FORK, want_d))
    assert claimed is not None
    away = Failure(kind=Kind.UNAVAILABLE, type="E", message="m")
    record, _ = settle(
        steps, work, claimed, done("a"), Result(job="b", state=State.QUEUED, error=away)
    )
    assert at(FORK, record, "d").lease is None
    assert at(FORK, record, "a").state is State.DONE


def test_results_that_are_lost_are_named_and_nothing_goes_on():
    steps, work = build_steps(CHAIN), of_request("c")
    claimed, _ = start(steps, work, record_of(CHAIN))
    assert claimed is not None
    taken = evolve(at(CHAIN, claimed, "a"), lease=LEASE)
    found = evolve(claimed, results={**claimed.results, CHAIN.fingerprints["a"]: taken})
    record, step = settle(steps, work, found, done("a"), done("b"), done("c"))
    assert step.late == ("a",)
    assert at(CHAIN, record, "a") == taken
    overwritten = evolve(claimed, version="6", order=6, results={})
    record, step = settle(steps, work, overwritten, done("a"), done("b"), done("c"))
    assert record is overwritten
    assert step.late == ("a", "b", "c")


# --- whom to ask next ------------------------------------------------------------------------


def list_next(
    graph: Graph, served: str, work: Work, found: Record, *results: Result
) -> tuple[str, ...]:
    """Whom a work asks at its end, with these results if it has run anything."""
    steps = build_steps(graph, served)
    record, _ = start(steps, work, found)
    if results:
        assert record is not None
        settle(steps, work, record, *results)
    return steps.find_next_jobs(work)


WANT_D = entry("d", State.QUEUED, notify=(NOBODY,), notify_at=NOW)


def test_whoever_finishes_the_last_parent_of_a_join_asks_for_it():
    one = record_of(JOIN, WANT_D, entry("b"))
    assert list_next(JOIN, "a", of_request("d"), one, done("a")) == ("c",)
    both = record_of(JOIN, WANT_D)
    assert list_next(JOIN, "a", of_request("d"), both, done("a")) == (), "b was asked already"


def test_a_request_that_finds_nothing_begun_asks_all_who_can_begin():
    assert list_next(JOIN, "d", of_request("d"), record_of(JOIN)) == ("a", "b")
    held = record_of(JOIN, entry("a", State.RUNNING, lease=LEASE))
    assert list_next(JOIN, "a", of_request("d"), held) == (), "whoever holds it does"


def test_an_event_asks_for_what_is_wanted_only_where_no_event_tells():
    graph = build_graph({"a": "", "b": "a", "c": "b", "d": "a"})
    want_c = entry("c", State.QUEUED, notify=(NOBODY,), notify_at=NOW)
    found = record_of(graph, want_c)
    assert list_next(graph, "a", of_event("source", "a"), found, done("a")) == ()
    steps, work = build_steps(graph, "bd"), of_event("a", "d")
    record, _ = start(steps, work, record_of(graph, want_c, entry("a")))
    for job in ("d", "b"):  # the event is about d only, and b is wanted for c
        assert record is not None
        record, _ = settle(steps, work, record, done(job))
        work.claimed = record
    assert steps.find_next_jobs(work) == ("c",)


def test_an_event_asks_for_its_own_line():
    assert list_next(CHAIN, "c", of_event("b", "c"), record_of(CHAIN)) == ("a",)
    assert list_next(CHAIN, "c", of_event("b", "c"), record_of(CHAIN, entry("a"))) == ("b",)
    assert list_next(JOIN, "c", of_event("a", "c"), record_of(JOIN, entry("a"))) == ()


def test_what_is_wanted_off_the_way_is_not_asked_for():
    """Another pipeline is responsible for it."""
    graph = build_graph({"a": "", "b": "a", "x": "", "y": "x"})
    want_y = entry("y", State.QUEUED, notify=(NOBODY,), notify_at=NOW)
    found = record_of(graph, want_y)
    assert list_next(graph, "a", of_request("a"), found, done("a")) == ()


# --- events ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("served", "trigger", "expected"),
    [
        (None, "source", ("a", "b", "c", "d")),
        ("abcd", "a", ("b", "c", "d")),
        ("abd", "source", ("a", "b", "d")),
        ("acd", "source", ("a",)),
        ("acd", "b", ("c", "d")),
        ("cd", "source", ()),
        ("b", "gone", ()),
        ("b", "c", ()),
    ],
)
def test_an_event_leads_to_the_jobs_that_can_be_reached_without_leaving_the_process(
    served, trigger, expected
):
    assert build_steps(FORK, served).list_event_targets(trigger) == expected


def test_an_event_reaches_a_join_through_any_of_its_parents():
    assert build_steps(JOIN, "acd").list_event_targets("source") == ("a", "c", "d")


# --- attempts --------------------------------------------------------------------------------


def limited(work: Work, *results: Result, graph: Graph = CHAIN) -> list[tuple[str, State]]:
    work.claimed = work.claimed or record_of(graph)
    work.results = list(results)
    return [(r.job, r.state) for r in limit_attempts(graph, work)]


def transient(job: str, kind: Kind = Kind.UNAVAILABLE, **more: Any) -> Result:
    error = Failure(kind=kind, type="E", message="m")
    return Result(job=job, state=State.QUEUED, error=error, **more)


def on_attempt(attempt: int) -> Work:
    message = Message(uri=URI, version="5", order=5, targets=("c",), attempt=attempt)
    return work_for(message, ("c",))


def test_a_transient_error_is_a_failure_after_the_last_attempt_and_blocks_those_below():
    results = [transient("a"), transient("b"), transient("c")]
    assert limited(on_attempt(MAX_ATTEMPTS - 1), *results) == [(job, State.QUEUED) for job in "abc"]
    work = on_attempt(MAX_ATTEMPTS)
    assert limited(work, *results) == [
        ("a", State.FAILED),
        ("b", State.BLOCKED),
        ("c", State.BLOCKED),
    ]
    assert limit_attempts(CHAIN, work)[2] == build_blocked_result("c", "a")


@pytest.mark.parametrize("kind", [Kind.SUPERSEDED, Kind.DISK_FULL, Kind.DAMAGED_INPUT], ids=str)
def test_what_is_no_fault_of_the_job_is_tried_for_ever(kind):
    result = transient("a", kind)
    assert limited(on_attempt(MAX_ATTEMPTS), result) == [("a", State.QUEUED)]


def test_a_backfill_leaves_a_transient_error_to_the_next_run():
    assert limited(of_run("a"), transient("a")) == [("a", State.QUEUED)]


def test_lack_of_space_is_transient_for_a_message_and_recorded_by_a_backfill():
    error = Failure(kind=Kind.NO_SPACE, type="E", message="m")
    result = Result(job="a", state=State.FAILED, error=error)
    assert limited(on_attempt(1), result) == [("a", State.QUEUED)]
    assert limited(on_attempt(MAX_ATTEMPTS), result) == [("a", State.FAILED)]
    assert limited(of_run("a"), result) == [("a", State.FAILED)]


@pytest.mark.parametrize("make", [lambda: of_run("c"), lambda: on_attempt(1)])
def test_a_parent_that_is_damaged_whenever_it_is_computed_fails_those_that_read_it(make):
    result = transient("b", Kind.DAMAGED_INPUT, damaged="a")
    below = transient("c", Kind.DAMAGED_INPUT)
    work = make()
    work.claimed = record_of(CHAIN, entry("a", attempts=MAX_ATTEMPTS - 1))
    assert limited(work, result, below) == [("b", State.QUEUED), ("c", State.QUEUED)]
    work.claimed = record_of(CHAIN, entry("a", attempts=MAX_ATTEMPTS))
    assert limited(work, result, below) == [("b", State.FAILED), ("c", State.BLOCKED)]


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING])
def test_an_event_notes_what_waits_for_a_result_that_is_computed_again(state):
    """A request has its other parent computed again, after which no event is sent."""
    lease = LEASE if state is State.RUNNING else None
    again = entry("b", state, lease=lease, requests=("r1",))
    steps, work = build_steps(JOIN, "cd"), of_event("a", "c")
    record, _ = start(steps, work, record_of(JOIN, entry("a"), again))
    assert at(JOIN, record, "c").state == State.QUEUED


def test_an_event_notes_nothing_that_waits_for_what_sends_an_event_of_its_own():
    first = entry("b", State.RUNNING, lease=LEASE, requests=("r1",), notify=(EVERYONE,))
    steps, work = build_steps(JOIN, "cd"), of_event("a", "c")
    start(steps, work, before := record_of(JOIN, entry("a"), first))
    assert work.record == before
