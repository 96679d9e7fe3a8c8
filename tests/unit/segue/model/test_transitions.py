"""The transitions of a record: each alone, and in any order against a model of the promises."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from segue.model.graph import Graph, parse_graph
from segue.model.media_file import MediaFile
from segue.model.record import (
    EVERYONE,
    FINISHED,
    NOBODY,
    UNFINISHED,
    Entry,
    Failure,
    Lease,
    Ping,
    Record,
    State,
    evolve,
)
from segue.model.transitions import (
    MAX_EARLIER,
    MAX_REQUESTS,
    Arrival,
    Notified,
    Result,
    arrive,
    block,
    build_blocked_result,
    claim,
    clear_notify,
    delete,
    erase,
    extend_leases,
    find_current,
    find_entry,
    forget_results,
    is_current,
    move_wanted,
    record_pings,
    release,
    reopen,
    settle,
    trigger,
    want,
)

URI = "gs://b/a.wav"
OLD = "00000000001d"
ACCEPTED = "0000000000e4"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LATER = NOW + timedelta(seconds=1)
GRAPH: Graph = parse_graph(
    f"""
jobs:
  a: {{run: "m:f", needs: {{media: source}}, writes: audio/flac}}
  b: {{run: "m:f", needs: {{x: a}}, writes: audio/flac, equivalents: ["{ACCEPTED}"]}}
  c: {{run: "m:f", needs: {{x: b}}, writes: audio/flac}}
"""
)
# The same graph with another version of b: another one may be deployed, and this one come back.
CHANGED = Graph(
    jobs={**GRAPH.jobs, "b": replace(GRAPH.jobs["b"], version=2, equivalents=())},
)
PRINT = GRAPH.fingerprints["b"]
FAILURE = Failure(kind="timeout", type="JobTimeout", message="m")


def media(order: int | None, version: str | None = None, **more: object) -> MediaFile:
    return MediaFile(uri=URI, version=version or str(order), order=order, **more)  # type: ignore[arg-type]


def record_of(order: int = 5, /, **results: Entry) -> Record:
    """A record with some results, by their jobs' names in place of their fingerprints."""
    found = {GRAPH.fingerprints.get(e.job, name): e for name, e in results.items()}
    return Record(uri=URI, version=str(order), order=order, arrived_at=NOW, results=found)


def entry(state: State = State.DONE, job: str = "b", **more: object) -> Entry:
    return Entry(**{"job": job, "state": state, "order": 5, **more})  # type: ignore[arg-type]


def of(record: Record | None, job: str = "b") -> Entry:
    """A job's result as the graph defines it."""
    assert record is not None
    return record.results[GRAPH.fingerprints[job]]


def leased(owner: str = "me", seconds: float = 60) -> Lease:
    return Lease(owner=owner, expires_at=NOW + timedelta(seconds=seconds))


def claimed(record: Record, *jobs: str, owner: str = "me", seconds: float = 60) -> Record:
    return claim(record, GRAPH, jobs, owner=owner, now=NOW, lease_s=seconds)


def settled(
    record: Record | None, *results: Result, **more: object
) -> tuple[Record | None, tuple[str, ...]]:
    about = {"order": 5, "owner": "me", "results": results, "now": LATER, **more}
    return settle(record, GRAPH, **about)  # type: ignore[arg-type]


def wanted(record: Record, *jobs: str, whom: str = NOBODY, now: datetime = NOW) -> Record:
    return want(record, GRAPH, jobs, whom, now)


ARTIFACT = f"b/{PRINT}/a.wav/5.flac"
DONE = Result(job="b", state=State.DONE, artifacts={ARTIFACT: "sha256:0"}, seconds=2.0)
FAILED = Result(job="b", state=State.FAILED, error=FAILURE)


# --- arrival and deletion --------------------------------------------------------------------


def test_an_arrival_is_recorded_with_all_that_is_known_of_the_file():
    seen = media(5, size_bytes=7, content_type="audio/wav", checksum="crc32c:0")
    record, said = arrive(None, seen, NOW)
    assert said is Arrival.NEW
    assert record.media == seen
    assert (record.arrived_at, record.deleted_at, record.results) == (NOW, None, {})


def test_a_repeated_or_an_older_arrival_changes_nothing():
    record = record_of(b=entry())
    assert arrive(record, media(5, size_bytes=9), LATER) == (record, Arrival.DUPLICATE)
    assert arrive(record, media(4), LATER) == (record, Arrival.STALE)
    assert arrive(record, media(5), LATER)[0] is record, (
        "the very record, so that nothing is written"
    )


def test_a_newer_arrival_drops_what_was_computed_and_keeps_what_is_wanted():
    running = entry(
        State.RUNNING, notify=(EVERYONE, NOBODY), lease=leased(), attempts=3, requests=("r1",)
    )
    record, said = arrive(record_of(a=entry(job="a"), b=running), media(6), LATER)
    assert said is Arrival.NEWER
    queued = entry(
        State.QUEUED, order=6, notify=(EVERYONE, NOBODY), notify_at=LATER, requests=("r1",)
    )
    assert record.results == {PRINT: queued}
    assert record.arrived_at == LATER


@pytest.mark.parametrize(
    ("deleted", "then", "lives"),
    [(5, 4, False), (5, 5, False), (5, 6, True), (7, 6, False), (7, 7, False), (7, 8, True)],
)
def test_only_a_newer_version_lifts_a_tombstone(deleted, then, lives):
    record, did = delete(record_of(), media(deleted), LATER)
    assert did
    assert record is not None
    assert record.deleted_at == LATER
    after, said = arrive(record, media(then), LATER)
    assert (after.deleted_at is None) == lives
    assert said is (Arrival.NEWER if lives else Arrival.STALE)


def test_a_deletion_of_an_older_version_changes_nothing():
    record = record_of()
    assert delete(record, media(4), NOW) == (record, False)
    tombstone, _ = delete(record, media(5), NOW)
    assert delete(tombstone, media(5), LATER)[0] is tombstone, (
        "the very record, so that nothing is written"
    )


@pytest.mark.parametrize(("then", "lives"), [(4, False), (5, False), (6, True)])
def test_a_deletion_that_overtook_its_files_arrival_makes_that_stale(then, lives):
    gone = media(5, size_bytes=7, content_type="audio/wav", checksum="crc32c:0")
    tombstone, did = delete(None, gone, NOW)
    assert did
    assert tombstone is not None
    assert tombstone.media == gone
    assert (tombstone.arrived_at, tombstone.deleted_at, tombstone.results) == (NOW, NOW, {})
    after, said = arrive(tombstone, media(then), LATER)
    assert (after is tombstone) == (not lives)
    assert said is (Arrival.NEWER if lives else Arrival.STALE)


def test_a_tombstone_moves_up_so_that_a_late_arrival_does_not_lift_it():
    """Deleted, put back, and deleted again, of which the arrival in between comes last."""
    tombstone, _ = delete(record_of(), media(5), NOW)
    tombstone, did = delete(tombstone, media(7), LATER)
    assert did
    assert arrive(tombstone, media(6), LATER) == (tombstone, Arrival.STALE)


@pytest.mark.parametrize("found", [None, "record", "tombstone"])
def test_nothing_lifts_or_changes_the_tombstone_of_a_file_that_was_erased(found):
    record = record_of() if found else None
    if found == "tombstone":
        record, _ = delete(record, media(5), NOW, event="other@a")
    erased, did = erase(record, media(5), LATER, event="x/y@a")
    assert did
    assert erased is not None
    assert (erased.erased, erased.deleted_by) == (True, "x/y@a")
    assert erased.deleted_at == (NOW if found == "tombstone" else LATER)
    assert erase(erased, media(5), LATER, event="x/z@a") == (erased, False)
    for order in (4, 5, 6):
        assert arrive(erased, media(order), LATER) == (erased, Arrival.STALE)
        assert delete(erased, media(order), LATER, event="x/z@a") == (erased, False)
    assert arrive(erased, media(None, "new"), LATER) == (erased, Arrival.STALE)
    assert delete(erased, media(None, "new"), LATER) == (erased, False)


def test_the_results_of_a_file_that_was_erased_are_forgotten_but_for_those_that_still_run():
    record = evolve(finished(put(None, "x")[0]), pings={"a": Ping(request="r", at=NOW)})
    record, _ = put(record, "y", LATER)
    running = claim(record, GRAPH, ["a"], owner="me", now=NOW, lease_s=60)
    assert forget_results(running, is_held=lambda _: True) == (None, ()), "it was not erased"
    erased, _ = erase(running, media(None, "y"), LATER)
    left, jobs = forget_results(erased, is_held=lambda lease: lease.owner == "me")
    assert jobs == ("a",)
    assert left is not None
    assert {e.job for e in left.results.values()} == {"a"}
    assert (left.earlier, left.pings) == ({}, {})
    assert forget_results(left, is_held=lambda _: True) == (None, ("a",))
    empty, jobs = forget_results(left, is_held=lambda _: False)
    assert empty is not None
    assert (empty.results, jobs, empty.erased) == ({}, (), True)


# --- contents without an order of their own --------------------------------------------------


def put(record: Record | None, version: str, now: datetime = NOW) -> tuple[Record, Arrival]:
    return arrive(record, media(None, version), now)


def finished(record: Record, job: str = "b") -> Record:
    made, late = settled(claimed(record, job), replace(DONE, job=job), order=record.order)
    assert made is not None
    assert not late
    return made


def test_contents_are_numbered_in_the_order_in_which_they_come():
    record, said = put(None, "x")
    assert (said, record.version, record.order) == (Arrival.NEW, "x", 1)
    again, said = put(record, "x", LATER)
    assert said is Arrival.DUPLICATE
    assert again is record, "the very record, so that nothing is written"
    record, said = put(record, "y", LATER)
    assert (said, record.version, record.order) == (Arrival.NEWER, "y", 2)
    assert record.arrived_at == LATER


def test_a_content_that_comes_back_has_its_results_again():
    first = finished(put(None, "x")[0])
    second, _ = put(first, "y")
    assert not is_current(GRAPH, second, "b")
    second = finished(second)
    third, said = put(second, "x")
    assert said is Arrival.NEWER
    assert (third.version, third.order) == ("x", 3)
    assert is_current(GRAPH, third, "b")
    assert third.name_artifact(PRINT, "flac") == f"b/{PRINT}/a.wav/x.flac"
    assert of(third).checksums == of(first).checksums
    assert set(third.earlier) == {"y"}, "what is present is not also an earlier one"
    fourth, _ = put(third, "y")
    assert is_current(GRAPH, fourth, "b")
    assert set(fourth.earlier) == {"x"}


def test_how_a_file_looks_that_is_the_same_is_kept_up_to_date():
    """As long as it looks the same, nobody has to read it again."""
    record, _ = arrive(None, media(None, "x", stat="1"), NOW)
    record = finished(record)
    touched, said = arrive(record, media(None, "x", stat="2"), LATER)
    assert said is Arrival.DUPLICATE
    assert touched == evolve(record, stat="2")
    assert arrive(touched, media(None, "x", stat="2"), LATER)[0] is touched
    gone, _ = delete(touched, media(None, "x"), LATER)
    assert arrive(gone, media(None, "x", stat="3"), LATER)[0] == evolve(record, stat="3")
    other, _ = arrive(touched, media(None, "y", stat="4"), LATER)
    assert (other.version, other.stat) == ("y", "4")


def test_of_an_earlier_content_only_what_is_done_is_kept():
    record = finished(put(None, "x")[0], "a")
    record = wanted(claimed(record, "b"), "c")
    record, _ = put(record, "y")
    assert [e.job for e in record.earlier["x"].values()] == ["a"]
    assert [(e.job, e.state, e.order) for e in record.results.values()] == [("c", State.QUEUED, 2)]
    record, _ = put(put(None, "z")[0], "y")
    assert record.earlier == {}


def test_what_is_wanted_of_a_content_is_told_of_the_one_that_comes_back():
    """A request that waits has its result then, and whoever waits for an event is to get it."""
    record, _ = put(finished(put(None, "x")[0]), "y")
    record = wanted(wanted(record, "b"), "b", whom=EVERYONE)
    record, _ = put(record, "x", LATER)
    assert (of(record).state, of(record).notify, of(record).notify_at) == (
        State.DONE,
        (EVERYONE,),
        LATER,
    )
    record, _ = put(wanted(put(finished(put(None, "x")[0]), "y")[0], "b"), "x", LATER)
    assert (of(record).state, of(record).notify, of(record).notify_at) == (State.DONE, (), None)


def test_a_file_that_is_put_back_after_its_deletion_has_its_results_again():
    record = finished(put(None, "x")[0])
    tombstone, did = delete(record, media(None, "x"), LATER)
    assert did
    assert delete(tombstone, media(None, "x"), LATER) == (tombstone, False)
    assert delete(None, media(None, "x"), LATER) == (None, False)
    back, said = put(tombstone, "x", LATER)
    assert said is Arrival.NEWER
    assert back.deleted_at is None
    assert is_current(GRAPH, back, "b")
    other, said = put(tombstone, "y", LATER)
    assert (said, other.order) == (Arrival.NEWER, 2)
    assert is_current(GRAPH, put(other, "x")[0], "b")


def test_only_so_many_earlier_contents_are_kept_the_latest_ones():
    record = finished(put(None, "v00")[0])
    for number in range(1, MAX_EARLIER + 5):
        record = finished(put(record, f"v{number:02}")[0])
    assert list(record.earlier) == [f"v{n:02}" for n in range(4, MAX_EARLIER + 4)]
    record = finished(put(record, "v04")[0])
    record = finished(put(record, "new")[0])
    assert list(record.earlier)[-2:] == [f"v{MAX_EARLIER + 4:02}", "v04"]


def test_a_result_of_another_content_is_lost():
    first = claimed(put(None, "x")[0], "b")
    assert settled(put(first, "y")[0], DONE, order=1) == (None, ("b",))
    back, _ = put(put(first, "y")[0], "x")
    assert settled(back, DONE, order=1) == (None, ("b",)), "even if it has come back since"


# --- what counts as current ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fingerprint", "known", "expected"),
    [
        (PRINT, None, False),
        (PRINT, entry(), True),
        (ACCEPTED, entry(), True),
        (OLD, entry(), False),
        (PRINT, entry(order=4), False),
        (PRINT, entry(order=6), False),
        *((PRINT, entry(state), False) for state in State if state is not State.DONE),
    ],
)
def test_current_is_what_was_done_for_this_version_by_an_accepted_fingerprint(
    fingerprint, known, expected
):
    record = evolve(record_of(), results={} if known is None else {fingerprint: known})
    assert is_current(GRAPH, record, "b") is expected
    assert find_current(GRAPH, record, "b") == (fingerprint if expected else None)


def test_a_jobs_own_result_goes_before_an_equivalent_one():
    record = evolve(record_of(), results={ACCEPTED: entry(), PRINT: entry()})
    assert find_current(GRAPH, record, "b") == PRINT
    assert find_current(CHANGED, record, "b") is None


def test_the_entry_of_a_job_is_that_of_its_own_fingerprint_and_of_this_version():
    assert find_entry(GRAPH, record_of(b=entry(State.FAILED)), "b") == entry(State.FAILED)
    assert find_entry(GRAPH, record_of(b=entry(order=4)), "b") is None
    assert find_entry(GRAPH, evolve(record_of(), results={ACCEPTED: entry()}), "b") is None


def test_two_graphs_share_a_record_and_each_has_its_own_results():
    """So that a rollback, or two deployments at once, compute nothing twice."""
    record = finished(record_of())
    newer = claim(record, CHANGED, ["b"], owner="me", now=NOW, lease_s=60)
    assert is_current(GRAPH, newer, "b")
    assert not is_current(CHANGED, newer, "b")
    both, late = settle(newer, CHANGED, order=5, owner="me", results=[DONE], now=LATER)
    assert both is not None
    assert late == ()
    assert is_current(GRAPH, both, "b")
    assert is_current(CHANGED, both, "b")
    assert len(both.results) == 2
    failed, _ = settle(newer, CHANGED, order=5, owner="me", results=[FAILED], now=LATER)
    assert failed is not None
    assert is_current(GRAPH, failed, "b"), "another version's failure is not this one's"


def test_the_results_of_two_graphs_are_held_apart():
    record = claimed(record_of(), "b")
    record = claim(record, CHANGED, ["b"], owner="other", now=NOW, lease_s=60)
    assert of(record).lease == leased()
    assert settled(record, DONE)[1] == ()


# --- claiming and settling -------------------------------------------------------------------


def test_a_claim_gives_leases_and_keeps_what_is_wanted():
    old = entry(State.QUEUED, notify=(NOBODY,), notify_at=NOW, error=FAILURE, triggered_by="a")
    record = record_of(b=old)
    taken = claimed(record, "b", "c")
    assert of(taken) == entry(
        State.RUNNING, lease=leased(), attempts=1, notify=(NOBODY,), notify_at=NOW, started_at=NOW
    )
    assert of(taken, "c").job == "c"
    assert of(record).lease is None, "the record that was read stays as it was"


@pytest.mark.parametrize(
    ("old", "attempts"),
    [
        (entry(State.FAILED, attempts=3), 4),
        (entry(State.RUNNING, attempts=2, lease=leased("gone", 0)), 3),
        (entry(State.RUNNING, attempts=2, lease=leased("me")), 2),
        (entry(State.QUEUED, attempts=1), 2),
        (entry(State.FAILED, attempts=3, order=4), 1),
        (entry(State.DONE, attempts=3), 1),
    ],
)
def test_attempts_are_counted_as_long_as_it_is_the_same_work(old, attempts):
    assert of(claimed(record_of(b=old), "b")).attempts == attempts


def test_claiming_again_changes_nothing():
    """The ledger may have failed after it had recorded the claim."""
    once = claimed(record_of(b=entry(State.FAILED, attempts=2)), "b", "c")
    assert claimed(once, "b", "c") == once


def test_a_result_is_recorded_and_the_lease_is_gone():
    record, late = settled(claimed(record_of(), "b"), DONE, triggered={"b": "a", "c": "a"})
    assert late == ()
    assert of(record) == entry(
        checksums={"flac": "sha256:0"},
        seconds=2.0,
        attempts=1,
        triggered_by="a",
        started_at=NOW,
        finished_at=LATER,
    )
    assert record is not None
    assert record.name_artifacts(PRINT) == [ARTIFACT]


def test_an_artifact_of_a_job_with_several_outputs_is_found_by_its_suffix():
    made = replace(DONE, artifacts={f"b/{PRINT}/a.wav/5.vocals.flac": "sha256:0"})
    record, _ = settled(claimed(record_of(), "b"), made)
    assert of(record).checksums == {"vocals.flac": "sha256:0"}


def test_a_failure_leaves_no_trace_once_it_is_done():
    failed, _ = settled(claimed(record_of(), "b"), FAILED)
    assert failed is not None
    assert of(failed).error == FAILURE
    record, _ = settled(claimed(failed, "b"), DONE)
    assert of(record).error is None
    assert of(record).attempts == 2


@pytest.mark.parametrize("state", [State.BLOCKED, State.NOT_APPLICABLE])
def test_what_another_job_kept_from_running_was_never_tried(state):
    record, _ = settled(claimed(record_of(), "b"), build_blocked_result("b", "a", state))
    assert (of(record).state, of(record).attempts) == (state, 0)
    assert record is not None
    assert of(claimed(record, "b")).attempts == 1


def test_a_job_that_is_not_for_the_file_by_itself_was_tried():
    record, _ = settled(claimed(record_of(), "b"), Result(job="b", state=State.NOT_APPLICABLE))
    assert (of(record).state, of(record).attempts) == (State.NOT_APPLICABLE, 1)


@pytest.mark.parametrize(
    "record",
    [
        None,
        record_of(),
        record_of(b=entry()),
        claimed(record_of(), "b", owner="other"),
        claimed(record_of(6), "b"),
        delete(claimed(record_of(), "b"), media(5), NOW)[0],
        arrive(claimed(record_of(), "b"), media(6), NOW)[0],
        claimed(arrive(claimed(record_of(), "b"), media(6), NOW)[0], "b"),
        settled(claimed(record_of(), "b"), DONE)[0],
        claimed(claimed(record_of(), "b"), "b", owner="other"),
        claim(record_of(), CHANGED, ["b"], owner="me", now=NOW, lease_s=60),
    ],
    ids=[
        "unknown",
        "never claimed",
        "done by others",
        "taken over",
        "another version",
        "deleted",
        "overwritten",
        "overwritten and claimed again",
        "settled before",
        "lost",
        "claimed by another graph",
    ],
)
def test_a_result_that_comes_too_late_changes_nothing(record):
    assert settled(record, DONE) == (None, ("b",))


def test_a_lease_that_expired_and_that_nobody_took_still_counts():
    record, _ = settled(claimed(record_of(), "b", seconds=-100), DONE)
    assert record is not None
    assert is_current(GRAPH, record, "b")


def test_of_many_results_those_that_were_not_lost_are_recorded():
    record = claimed(claimed(record_of(), "a", "b"), "a", owner="other")
    after, late = settled(record, Result(job="a", state=State.DONE), DONE)
    assert late == ("a",)
    assert of(after, "a") == of(record, "a")
    assert of(after).state is State.DONE


def test_a_lease_that_is_given_back_leaves_the_work_and_whoever_wants_it():
    record = wanted(claimed(record_of(), "b"), "b")
    after, late = settled(record, Result(job="b", state=State.QUEUED, error=FAILURE))
    assert late == ()
    assert of(after) == entry(
        State.QUEUED,
        attempts=1,
        notify=(NOBODY,),
        notify_at=NOW,
        error=FAILURE,
        started_at=NOW,
    )


# --- damaged artifacts -----------------------------------------------------------------------

DAMAGED = Result(job="c", state=State.QUEUED, error=FAILURE, damaged="b")


@pytest.mark.parametrize("fingerprint", [PRINT, ACCEPTED])
def test_a_parent_whose_artifact_is_damaged_is_missing_again(fingerprint):
    parent = entry(checksums={"flac": "x"}, attempts=2, finished_at=NOW)
    record = claimed(evolve(record_of(), results={fingerprint: parent}), "c")
    after, _ = settled(record, DAMAGED, claimed=record)
    assert after is not None
    found = after.results[fingerprint]
    assert (found.state, found.checksums, found.attempts) == (State.QUEUED, {}, 2)
    assert not is_current(GRAPH, after, "b")


def test_a_damaged_parent_of_which_others_were_told_tells_them_again():
    parent = entry(checksums={"flac": "x"}, triggered_by="a@b")
    record = claimed(record_of(b=parent), "c")
    after, _ = settled(record, DAMAGED, claimed=record)
    assert (of(after).notify, of(after).notify_at) == ((EVERYONE,), LATER)


def test_a_parent_that_was_computed_again_meanwhile_is_kept():
    record = claimed(record_of(b=entry(checksums={"flac": "x"})), "c")
    fresh = entry(checksums={"flac": "y"})
    meanwhile = evolve(record, results={**record.results, PRINT: fresh})
    after, _ = settled(meanwhile, DAMAGED, claimed=record)
    assert of(after) == fresh


# --- what is wanted --------------------------------------------------------------------------


def test_requests_for_the_same_result_coalesce():
    record = wanted(record_of(), "b")
    assert of(record) == entry(State.QUEUED, notify=(NOBODY,), notify_at=NOW)
    assert wanted(record, "b", now=LATER) is record, "the very record, so that nothing is written"
    record = wanted(record, "b", whom=EVERYONE, now=LATER)
    assert (of(record).notify, of(record).notify_at) == ((NOBODY, EVERYONE), LATER)


@pytest.mark.parametrize("state", sorted(UNFINISHED))
def test_wanting_changes_nothing_else_of_work_that_is_not_finished(state):
    old = entry(state, attempts=2, lease=leased() if state is State.RUNNING else None)
    assert of(wanted(record_of(b=old), "b")) == evolve(old, notify=(NOBODY,), notify_at=NOW)


@pytest.mark.parametrize("state", sorted(FINISHED))
def test_a_result_that_is_wanted_although_it_is_finished_is_to_be_computed_again(state):
    old = entry(state, checksums={"flac": "x"}, attempts=2, requests=("r1",), triggered_by="a")
    made = of(wanted(record_of(b=old), "b"))
    assert made == entry(State.QUEUED, notify=(NOBODY,), notify_at=NOW, requests=("r1",))


def test_what_is_wanted_of_another_version_is_wanted_under_the_fingerprint_of_this_one():
    record = wanted(evolve(record_of(), results={OLD: entry()}), "b")
    assert record.results[OLD] == entry()
    assert of(record).state is State.QUEUED


@pytest.mark.parametrize("result", [DONE, FAILED, build_blocked_result("b", "a")])
def test_whoever_is_to_be_told_stays_until_it_is_done_and_the_others_do_not(result):
    record = wanted(wanted(claimed(record_of(), "b"), "b"), "b", whom=EVERYONE, now=LATER)
    after, _ = settled(record, result)
    assert (of(after).notify, of(after).notify_at) == ((EVERYONE,), LATER)
    only, _ = settled(wanted(claimed(record_of(), "b"), "b"), result)
    assert (of(only).notify, of(only).notify_at) == ((), None)


def cleared(record: Record, notify_at: datetime | None, order: int = 5) -> Record | None:
    one = Notified(fingerprint=PRINT, notify_at=notify_at)
    return clear_notify(record, order=order, notified=[one])[0]


def test_whoever_was_told_is_cleared_once():
    record = record_of(b=entry(notify=(EVERYONE,), notify_at=NOW))
    after = cleared(record, NOW)
    assert after is not None
    assert of(after) == entry(triggered_by=EVERYONE), "they know of this result"
    assert cleared(after, NOW) is None, "nothing is written"
    event = record_of(b=entry(notify=(EVERYONE,), notify_at=NOW, triggered_by="a@b"))
    assert of(cleared(event, NOW)) == entry(triggered_by="a@b")


@pytest.mark.parametrize(
    ("found", "order", "notify_at"),
    [
        (entry(notify=(EVERYONE,), notify_at=LATER), 5, NOW),
        (entry(State.QUEUED, notify=(EVERYONE,), notify_at=NOW), 5, NOW),
        (entry(State.RUNNING, notify=(EVERYONE,), notify_at=NOW, lease=leased()), 5, NOW),
        (entry(notify=(EVERYONE,), notify_at=NOW), 4, NOW),
    ],
    ids=["added since", "wanted again", "being computed again", "another version"],
)
def test_whoever_is_still_to_be_told_is_not_cleared(found, order, notify_at):
    assert cleared(record_of(b=found), notify_at, order) is None


def test_clearing_what_is_gone_changes_nothing():
    assert cleared(record_of(), NOW) is None
    assert clear_notify(None, order=5, notified=[]) == (None, None)


def test_a_result_becomes_that_of_the_first_event_that_tells_of_it():
    record = record_of(b=entry())
    assert of(trigger(record, [PRINT], "a@b")).triggered_by == "a@b"
    assert trigger(record, [], "a@b") is record


# --- wanted under another fingerprint --------------------------------------------------------


def moved(record: Record) -> Record:
    return move_wanted(record, GRAPH, NOW, lambda lease: lease.owner == "dead")


@pytest.mark.parametrize("fingerprint", [OLD, ACCEPTED])
@pytest.mark.parametrize("state", sorted(State))
def test_what_is_wanted_of_a_version_that_nobody_makes_is_wanted_of_the_present_one(
    fingerprint, state
):
    old = entry(state, notify=(EVERYONE, NOBODY), lease=leased("dead"), checksums={"flac": "x"})
    record = evolve(record_of(), results={fingerprint: old})
    after = moved(record)
    if (fingerprint, state) == (ACCEPTED, State.DONE):
        assert after is record, "it is current"
        return
    assert of(after) == entry(State.QUEUED, notify=(EVERYONE, NOBODY), notify_at=NOW)
    if state in FINISHED:
        assert after.results[fingerprint] == evolve(old, notify=(), notify_at=None)
    else:
        assert fingerprint not in after.results
    assert moved(after) == after


def test_what_is_wanted_of_an_old_version_is_told_of_the_present_result():
    old = entry(State.QUEUED, notify=(EVERYONE, NOBODY))
    after = moved(evolve(record_of(), results={OLD: old, PRINT: entry()}))
    assert after.results == {PRINT: entry(notify=(EVERYONE,), notify_at=NOW)}
    after = moved(
        evolve(record_of(), results={OLD: entry(State.QUEUED, notify=(NOBODY,)), PRINT: entry()})
    )
    assert after.results == {PRINT: entry()}


def test_what_is_wanted_is_told_of_an_equivalent_result_if_that_is_the_current_one():
    queued = entry(State.QUEUED, notify=(EVERYONE,))
    after = moved(evolve(record_of(), results={PRINT: queued, ACCEPTED: entry()}))
    assert after.results == {ACCEPTED: entry(notify=(EVERYONE,), notify_at=NOW)}


@pytest.mark.parametrize("owner", ["other", "me"])
def test_what_somebody_computes_under_an_old_fingerprint_stays_there(owner):
    running = entry(State.RUNNING, notify=(EVERYONE,), lease=leased(owner))
    record = evolve(record_of(), results={OLD: running})
    assert moved(record) is record


def test_what_nobody_wants_and_jobs_that_are_gone_stay_as_they_are():
    gone = entry(State.QUEUED, job="gone", notify=(EVERYONE,))
    record = evolve(record_of(), results={OLD: entry(), "00000000000f": gone})
    assert moved(record) is record


# --- computing again -------------------------------------------------------------------------


def reopened(record: Record, *jobs: str, request: str = "r1", **more: object) -> Record:
    return reopen(record, GRAPH, jobs, request=request, now=NOW, **more)[0]  # type: ignore[arg-type]


@pytest.mark.parametrize("state", sorted(FINISHED))
def test_a_result_that_is_reopened_is_missing_and_wanted_and_remembers_the_request(state):
    old = entry(state, checksums={"flac": "x"}, attempts=2, notify=(EVERYONE,), error=FAILURE)
    record, which = reopen(record_of(b=old), GRAPH, ["b"], request="r1", now=NOW)
    assert which == ("b",)
    assert of(record) == entry(
        State.QUEUED, notify=(EVERYONE, NOBODY), notify_at=NOW, requests=("r1",)
    )


def test_a_request_for_a_missing_result_is_remembered_too():
    assert of(reopened(record_of(), "b")) == entry(
        State.QUEUED, notify=(NOBODY,), notify_at=NOW, requests=("r1",)
    )


def test_a_request_reopens_a_result_once_however_often_it_comes():
    record = finished(reopened(record_of(b=entry()), "b"))
    assert reopen(record, GRAPH, ["b"], request="r1", now=LATER) == (record, ())
    other, which = reopen(record, GRAPH, ["b"], request="r0", now=LATER)
    assert which == ("b",), "ids have no order"
    assert of(other).requests == ("r1", "r0")
    record = finished(other)
    assert reopen(record, GRAPH, ["b"], request="r1", now=LATER) == (record, ())


def test_only_so_many_requests_are_remembered_the_latest_ones():
    record = record_of(b=entry())
    for number in range(MAX_REQUESTS + 2):
        record = finished(reopened(record, "b", request=f"r{number}"))
    assert of(record).requests == tuple(f"r{n}" for n in range(2, MAX_REQUESTS + 2))


def test_work_under_way_is_not_reopened_and_counts_for_the_request():
    old = entry(State.RUNNING, lease=leased(), attempts=2)
    record, which = reopen(record_of(b=old), GRAPH, ["b"], request="r1", now=NOW)
    assert which == ()
    assert of(record) == evolve(old, requests=("r1",))
    assert reopen(finished(record), GRAPH, ["b"], request="r1", now=LATER)[1] == ()


def test_an_equivalent_result_does_not_stand_in_for_one_that_is_reopened():
    record = reopened(evolve(record_of(), results={ACCEPTED: entry(), OLD: entry()}), "b")
    assert not is_current(GRAPH, record, "b")
    assert record.results[OLD] == entry(), "that of another version is none of its business"


def test_only_results_in_some_states_are_reopened():
    states = [State.FAILED, State.BLOCKED]
    for state in State:
        record = record_of(b=entry(state))
        after, which = reopen(record, GRAPH, ["b", "c"], request="r1", now=NOW, states=states)
        assert which == (("b",) if state in states else ())
        assert (after is record) == (state not in states)


def test_other_namespaces_that_were_told_of_a_result_are_told_again():
    """Jobs of theirs may wait for another parent; that jobs here do is noted in the record."""
    told = entry(triggered_by="a@b")
    jobs = {**GRAPH.jobs, "b": replace(GRAPH.jobs["b"], publish=True)}
    published = replace(GRAPH, jobs=jobs)
    for graph, whom in ((published, (EVERYONE, NOBODY)), (GRAPH, (NOBODY,))):
        after, _ = reopen(record_of(b=told), graph, ["b"], request="r1", now=NOW)
        assert of(after).notify == whom
    after, _ = reopen(record_of(b=entry()), published, ["b"], request="r1", now=NOW)
    assert of(after).notify == (NOBODY,), "nobody was told"


# --- blocking --------------------------------------------------------------------------------


def blocked(
    record: Record, state: State = State.BLOCKED, triggered: dict[str, str] | None = None
) -> Record:
    return block(record, GRAPH, {"b": "a"}, now=LATER, triggered=triggered or {}, state=state)


def test_what_cannot_run_is_recorded_with_the_cause_and_the_remedy():
    record = blocked(record_of(), triggered={"b": "a@b", "c": "a@b"})
    error = build_blocked_result("b", "a").error
    assert of(record) == entry(State.BLOCKED, error=error, triggered_by="a@b", finished_at=LATER)
    assert error is not None
    assert (error.kind, error.type) == ("blocked", "a")
    assert error.message == "'a' above it failed; fix that, then 'segue retry' runs both"


def test_what_cannot_run_stands_for_older_versions_of_a_published_job():
    b = replace(GRAPH.jobs["b"], publish=True, equivalents=("0123456789ab",))
    graph = replace(GRAPH, jobs={**GRAPH.jobs, "b": b})
    record = block(record_of(), graph, {"b": "a"}, now=LATER, triggered={})
    assert of(record).equivalents == ("0123456789ab",)


def test_what_is_not_for_a_file_needs_no_remedy():
    record = blocked(record_of(), State.NOT_APPLICABLE)
    assert of(record).state is State.NOT_APPLICABLE
    error = of(record).error
    assert error is not None
    assert (error.kind, error.type) == ("not_applicable", "a")
    assert error.message == "'a' above it is not for this file"


@pytest.mark.parametrize("state", [State.BLOCKED, State.NOT_APPLICABLE])
def test_what_was_blocked_before_stays_as_it_is(state):
    record = blocked(record_of(), state, {"b": "a@b"})
    assert blocked(record, state, {"b": "x@b"}) is record, "so that nothing is written"


@pytest.mark.parametrize(
    "old",
    [
        entry(State.QUEUED, notify=(NOBODY, EVERYONE), notify_at=NOW, requests=("r1",)),
        entry(State.NOT_APPLICABLE, notify=(EVERYONE,), notify_at=NOW, requests=("r1",)),
        entry(
            State.RUNNING,
            lease=leased("dead", 0),
            attempts=1,
            notify=(EVERYONE,),
            notify_at=NOW,
            requests=("r1",),
        ),
    ],
    ids=["queued", "another reason", "its worker has died"],
)
def test_whoever_waits_for_what_is_blocked_is_to_be_told(old):
    found = of(blocked(record_of(b=old)))
    assert (found.state, found.notify, found.notify_at) == (State.BLOCKED, (EVERYONE,), NOW)
    assert (found.lease, found.attempts, found.requests) == (None, 0, ("r1",))


# --- leases ----------------------------------------------------------------------------------


def test_a_released_lease_leaves_no_trace_of_a_job_that_nobody_waits_for():
    record = claimed(record_of(a=entry(job="a")), "b", "c")
    released, jobs = release(record, owns=lambda lease: lease.owner == "me")
    assert jobs == ("b", "c")
    assert released == record_of(a=entry(job="a"))


def test_a_released_lease_leaves_what_others_wait_for_and_earlier_attempts():
    waiting = claimed(record_of(b=entry(State.QUEUED, notify=(NOBODY,))), "b")
    released, _ = release(waiting, owns=lambda _: True)
    assert of(released) == entry(State.QUEUED, notify=(NOBODY,), started_at=NOW)
    tried = claimed(record_of(b=entry(State.QUEUED, attempts=2)), "b")
    released, _ = release(tried, owns=lambda _: True)
    assert (of(released).state, of(released).attempts) == (State.QUEUED, 2)
    asked = claimed(record_of(b=entry(State.QUEUED, requests=("r1",))), "b")
    released, _ = release(asked, owns=lambda _: True)
    assert (of(released).state, of(released).requests) == (State.QUEUED, ("r1",))


def test_the_leases_of_others_are_not_released():
    record = claimed(record_of(a=entry(job="a")), "b", owner="another")
    assert release(record, owns=lambda lease: lease.owner == "me") == (None, ())
    assert release(None, owns=lambda _: True) == (None, ())


def test_an_owner_extends_its_leases_and_no_others():
    record = claimed(claimed(record_of(), "a", "b"), "c", owner="other")
    until = NOW + timedelta(seconds=300)
    after, held = extend_leases(record, owner="me", jobs=["a", "c"], expires_at=until)
    assert held
    assert of(after, "a").lease == leased("me", 300)
    assert of(after, "b").lease == leased("me", 60), "it was not asked for"
    assert of(after, "c").lease == leased("other", 60)
    soon = NOW + timedelta(seconds=1)
    shorter, held = extend_leases(after, owner="me", jobs=["a"], expires_at=soon)
    assert held
    assert of(shorter, "a").lease == leased("me", 300), "a lease is never cut short"


def test_leases_that_are_lost_are_not_extended():
    until = NOW + timedelta(seconds=300)
    record = claimed(record_of(), "a", owner="other")
    assert extend_leases(record, owner="me", jobs=["a", "b"], expires_at=until) == (None, False)
    assert extend_leases(None, owner="me", jobs=["a"], expires_at=until) == (None, False)
    overwritten, _ = arrive(claimed(record_of(), "a"), media(6), NOW)
    assert extend_leases(overwritten, owner="me", jobs=["a"], expires_at=until) == (None, False)


# --- pings -----------------------------------------------------------------------------------


def ping(
    record: Record | None, request: str, *jobs: str, by: str = "a", order: int = 5
) -> tuple[Record | None, tuple[str, ...]]:
    return record_pings(
        record, order=order, jobs=jobs or ("b",), request=request, triggered_by=by, now=NOW
    )


def test_a_ping_leaves_its_trace_at_each_job_and_changes_nothing_else():
    record = record_of(b=entry())
    trace = Ping(request="r1", at=NOW, triggered_by="a")
    expected = evolve(record, pings={"b": trace, "c": trace})
    assert ping(record, "r1", "b", "c") == (expected, ("b", "c"))


def test_a_job_passes_a_ping_on_once_and_again_when_that_very_message_comes_again():
    record, _ = ping(record_of(), "r1")
    assert ping(record, "r1", by="x") == (None, ()), "another parent's"
    assert ping(record, "r1", by="a") == (None, ("b",)), "nothing is written"
    after, passing = ping(record, "r2", by="x")
    assert passing == ("b",)
    assert after is not None
    assert after.pings["b"].request == "r2"


@pytest.mark.parametrize(
    "record",
    [None, record_of(4), record_of(6), delete(record_of(), media(5), NOW)[0]],
    ids=["unknown", "older", "newer", "deleted"],
)
def test_a_ping_of_another_version_leaves_no_trace(record):
    assert ping(record, "r1") == (None, ())


def test_the_traces_are_those_of_one_version():
    record, _ = ping(record_of(), "r1")
    assert arrive(record, media(6), LATER)[0].pings == {}


# --- any order -------------------------------------------------------------------------------

JOBS = st.sampled_from(["a", "b", "c"])
GRAPHS = st.sampled_from([GRAPH, CHANGED])
OWNERS = st.sampled_from(["one", "two", "three"])
ORDERS = st.integers(1, 8)
WHOM = st.sampled_from([EVERYONE, NOBODY])
STATES = st.sampled_from([State.DONE, State.FAILED, State.BLOCKED, State.QUEUED])


class Life(RuleBasedStateMachine):
    """One file, whose events come in any order, beside a model that keeps what was promised.

    Two versions of b are deployed at once; b and c are then two jobs each.
    """

    def __init__(self) -> None:
        super().__init__()
        self.record: Record | None = None
        self.now = NOW
        self.order = 0
        self.deleted = False
        self.told: dict[str, bool] = {}  # fingerprint → whether everybody is to be told of it
        self.wanted: set[str] = set()  # fingerprints whose results are wanted
        self.holder: dict[str, str] = {}
        self.claims: list[tuple[str, str, int, Graph]] = []
        self.made: dict[str, str] = {}  # fingerprint → the checksum that a reader may be given
        self.count = 0

    def keep(self, changed: Record | None) -> None:
        self.record = self.record if changed is None else changed

    @property
    def alive(self) -> bool:
        return self.record is not None and not self.deleted

    @rule(order=ORDERS)
    def arrive(self, order: int) -> None:
        before = self.record
        self.record, said = arrive(before, media(order), self.now)
        if order > self.order:
            assert said is (Arrival.NEW if before is None else Arrival.NEWER)
            self.order, self.deleted = order, False
            self.holder, self.made = {}, {}
            self.wanted |= {fingerprint for fingerprint, told in self.told.items() if told}
        else:
            assert self.record is before
            stale = order < self.order or self.deleted
            assert said is (Arrival.STALE if stale else Arrival.DUPLICATE)

    @rule(order=ORDERS)
    def delete(self, order: int) -> None:
        self.record, did = delete(self.record, media(order), self.now)
        if order >= self.order:
            assert did == (not self.deleted or order > self.order)
            self.order, self.deleted = order, True
        else:
            assert not did

    @precondition(lambda self: self.alive)
    @rule(job=JOBS, graph=GRAPHS, owner=OWNERS)
    def claim(self, job: str, graph: Graph, owner: str) -> None:
        fingerprint = graph.fingerprints[job]
        found = self.record.results.get(fingerprint)
        if found is not None and found.lease is not None and found.lease.expires_at > self.now:
            return  # the planner says that it is held
        self.record = claim(self.record, graph, [job], owner=owner, now=self.now, lease_s=60)
        self.holder[fingerprint] = owner
        self.made.pop(fingerprint, None)
        if self.told.get(fingerprint):  # it is computed again, and they are to hear of that
            self.wanted.add(fingerprint)
        self.claims.append((owner, job, self.order, graph))

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), state=STATES)
    def settle(self, data: st.DataObject, state: State) -> None:
        owner, job, order, graph = data.draw(st.sampled_from(self.claims))
        fingerprint = graph.fingerprints[job]
        self.count += 1
        made = {f"{job}/x/a/1.flac": str(self.count)} if state is State.DONE else {}
        result = Result(job=job, state=state, artifacts=made)
        changed, late = settle(
            self.record, graph, order=order, owner=owner, results=[result], now=self.now
        )
        holds = self.holder.get(fingerprint) == owner
        in_time = self.alive and order == self.order and holds
        assert late == (() if in_time else (job,))
        if not in_time:
            assert changed is None
            return
        self.keep(changed)
        del self.holder[fingerprint]
        if state is not State.QUEUED:
            self.wanted.discard(fingerprint)
        if state is State.DONE:
            self.made[fingerprint] = str(self.count)

    @precondition(lambda self: self.alive)
    @rule(job=JOBS, graph=GRAPHS, whom=WHOM)
    def want(self, job: str, graph: Graph, whom: str) -> None:
        fingerprint = graph.fingerprints[job]
        self.record = want(self.record, graph, [job], whom, self.now)
        self.made.pop(fingerprint, None)
        self.wanted.add(fingerprint)
        self.told[fingerprint] = self.told.get(fingerprint, False) or whom == EVERYONE

    @rule(job=JOBS, graph=GRAPHS, late=st.booleans())
    def clear_notify(self, job: str, graph: Graph, late: bool) -> None:
        fingerprint = graph.fingerprints[job]
        found = self.record.results.get(fingerprint) if self.record is not None else None
        notify_at = found.notify_at if found is not None else None
        one = Notified(fingerprint=fingerprint, notify_at=NOW - timedelta(1) if late else notify_at)
        changed, _ = clear_notify(self.record, order=self.order, notified=[one])
        self.keep(changed)
        if found is not None and found.state in FINISHED and not late:
            self.told[fingerprint] = False
        else:
            assert changed is None

    @rule(job=JOBS, owner=OWNERS)
    def extend_leases(self, job: str, owner: str) -> None:
        until = self.now + timedelta(seconds=60)
        changed, held = extend_leases(self.record, owner=owner, jobs=[job], expires_at=until)
        mine = {graph.fingerprints[job] for graph in (GRAPH, CHANGED)}
        assert held == any(self.holder.get(fingerprint) == owner for fingerprint in mine)
        assert held == (changed is not None)
        self.keep(changed)

    @precondition(lambda self: self.alive)
    @rule(job=JOBS, graph=GRAPHS, request=st.sampled_from(["r1", "r2"]))
    def reopen(self, job: str, graph: Graph, request: str) -> None:
        fingerprint = graph.fingerprints[job]
        old = find_entry(graph, self.record, job)
        self.record, which = reopen(self.record, graph, [job], request=request, now=self.now)
        known = old is not None and request in old.requests
        running = old is not None and old.state is State.RUNNING
        assert which == (() if known or running else (job,))
        if which:
            self.made.pop(fingerprint, None)
            self.wanted.add(fingerprint)
            # Those who were told of the old result may have to be told of the new one.
            again = EVERYONE in self.record.results[fingerprint].notify
            assert again or not self.told.get(fingerprint)
            assert not again or self.told.get(fingerprint) or old.triggered_by == EVERYONE
            self.told[fingerprint] = again

    @rule(seconds=st.sampled_from([1, 100]))
    def wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @invariant()
    def the_newest_version_stands(self) -> None:
        if self.record is None:
            assert self.order == 0
        else:
            assert (self.record.order, self.record.version) == (self.order, str(self.order))
            assert (self.record.deleted_at is not None) == self.deleted

    @invariant()
    def nobody_who_is_to_be_told_is_forgotten(self) -> None:
        for fingerprint, told in self.told.items():
            found = self.record.results.get(fingerprint)
            assert (found is not None and EVERYONE in found.notify) == told

    @invariant()
    def what_is_wanted_is_wanted_until_it_is_finished(self) -> None:
        results = self.record.results if self.record is not None else {}
        found = {f for f, e in results.items() if e.notify and e.state in UNFINISHED}
        assert found == self.wanted
        assert all(NOBODY not in e.notify for e in results.values() if e.state in FINISHED)
        assert all((e.notify_at is None) == (not e.notify) for e in results.values())

    @invariant()
    def one_holds_what_is_running(self) -> None:
        for fingerprint, found in self.record.results.items() if self.record is not None else ():
            assert (found.state is State.RUNNING) == (found.lease is not None)
            owner = found.lease.owner if found.lease is not None else None
            assert owner == self.holder.get(fingerprint)

    @invariant()
    def a_reader_gets_what_was_made_of_this_version_or_nothing(self) -> None:
        for graph in (GRAPH, CHANGED) if self.alive else ():
            for job in graph.jobs:
                given = None
                if is_current(graph, self.record, job):
                    given = self.record.results[graph.fingerprints[job]].checksums["flac"]
                assert given == self.made.get(graph.fingerprints[job])


Life.TestCase.settings = settings(max_examples=150, stateful_step_count=40)
TestLife = Life.TestCase


@given(st.lists(ORDERS.filter(lambda order: order <= 6), max_size=4), st.data())
def test_arrivals_and_deletions_in_any_order_end_with_the_newest(deletions, data):
    """Whatever the order, the newest version is recorded; it is gone only if that was deleted."""
    events = [(True, o) for o in range(1, 7)] + [(False, o) for o in deletions]
    record: Record | None = None
    for arrival, order in data.draw(st.permutations(events * 2)):
        if arrival:
            record, _ = arrive(record, media(order), NOW)
        else:
            record, _ = delete(record, media(order), NOW)
    assert record is not None
    assert record.order == 6
    assert (record.deleted_at is not None) == (6 in deletions)


# --- jobs that come to accept a file -----------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "job", "triggered_by", "told"),
    [
        ("not_accepted", "b", "a@b", ("*",)),
        ("not_accepted", "b", None, ()),  # nobody was told
        ("not_accepted", "c", "b@c", ()),  # nobody depends on it
        ("declined", "b", "a@b", ()),  # it may decline again
    ],
)
def test_those_who_were_told_that_a_job_is_not_for_a_file_are_told_once_it_is(
    kind, job, triggered_by, told
):
    refused = entry(
        State.NOT_APPLICABLE,
        job,
        attempts=1,
        error=Failure(kind=kind, type="video/mp4", message="m"),
        triggered_by=triggered_by,
    )
    found = of(claimed(record_of(**{job: refused}), job), job)
    assert found.notify == told
    assert found.notify_at == (NOW if told else None)
    if told:
        record, _ = settled(claimed(record_of(b=refused), "b"), DONE)
        assert of(record).notify == told
