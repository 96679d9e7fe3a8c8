"""The transitions of a record: each alone, and in any order against a model of the promises."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from segue.model.graph import Graph, parse_graph
from segue.model.media_file import MediaFile
from segue.model.record import EVERYTHING, Entry, Failure, Lease, Ping, Record, State, evolve
from segue.model.transitions import (
    Arrival,
    Result,
    Settled,
    add_pending,
    arrive,
    claim,
    clear_pending,
    delete,
    extend_leases,
    is_current,
    record_ping,
    release,
    reopen,
    requeue,
    settle,
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
  b: {{run: "m:f", needs: {{x: a}}, writes: audio/flac, equivalent: ["{ACCEPTED}"]}}
  c: {{run: "m:f", needs: {{x: b}}, writes: audio/flac}}
"""
)
PRINT = GRAPH.fingerprints["b"]
FAILURE = Failure(kind="timeout", type="JobTimeout", message="m")


def media(generation: int, **more: object) -> MediaFile:
    return MediaFile(uri=URI, generation=generation, **more)  # type: ignore[arg-type]


def record_of(generation: int = 5, **jobs: Entry) -> Record:
    return Record(uri=URI, generation=generation, arrived_at=NOW, jobs=jobs)


def entry(state: State = State.DONE, **more: object) -> Entry:
    return Entry(**{"state": state, "fingerprint": PRINT, "generation": 5, **more})  # type: ignore[arg-type]


def leased(owner: str = "me", seconds: float = 60) -> Lease:
    return Lease(owner=owner, expires_at=NOW + timedelta(seconds=seconds))


def claimed(record: Record, *jobs: str, owner: str = "me", **more: object) -> Record:
    return claim(record, GRAPH, jobs, owner=owner, now=NOW, lease_s=60, **more)  # type: ignore[arg-type]


def settled(
    record: Record | None, *results: Result, **more: object
) -> tuple[Record | None, Settled]:
    about = {"generation": 5, "owner": "me", "results": results, **more}
    return settle(record, **about)  # type: ignore[arg-type]


DONE = Result(job="b", state=State.DONE, artifact="gs://o/b", checksum="sha256:0", seconds=2.0)


# --- arrival and deletion --------------------------------------------------------------------


def test_an_arrival_is_recorded_with_all_that_is_known_of_the_file():
    seen = media(5, size_bytes=7, content_type="audio/wav", checksum="crc32c:0")
    record, said = arrive(None, seen, NOW)
    assert said is Arrival.NEW
    assert record.media == seen
    assert (record.arrived_at, record.deleted_at, record.jobs) == (NOW, None, {})


def test_a_repeated_or_an_older_arrival_changes_nothing():
    record = record_of(b=entry())
    assert arrive(record, media(5, size_bytes=9), LATER) == (record, Arrival.DUPLICATE)
    assert arrive(record, media(4), LATER) == (record, Arrival.STALE)
    assert arrive(record, media(5), LATER)[0] is record, (
        "the very record, so that nothing is written"
    )


def test_a_newer_arrival_drops_what_was_computed_and_keeps_pending_targets():
    running = entry(State.RUNNING, pending_targets=("c",), lease=leased(), attempts=3, request="r1")
    record, said = arrive(record_of(a=entry(), b=running), media(6), LATER)
    assert said is Arrival.NEWER
    queued = entry(
        State.QUEUED, generation=6, pending_targets=("c",), pending_at=LATER, request="r1"
    )
    assert record.jobs == {"b": queued}
    assert record.arrived_at == LATER


@pytest.mark.parametrize(
    ("deleted", "then", "lives"),
    [(5, 4, False), (5, 5, False), (5, 6, True), (7, 6, False), (7, 7, False), (7, 8, True)],
)
def test_only_a_newer_version_lifts_a_tombstone(deleted, then, lives):
    record, did = delete(record_of(), media(deleted), LATER)
    assert did
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
    assert tombstone.media == gone
    assert (tombstone.arrived_at, tombstone.deleted_at, tombstone.jobs) == (NOW, NOW, {})
    after, said = arrive(tombstone, media(then), LATER)
    assert (after is tombstone) == (not lives)
    assert said is (Arrival.NEWER if lives else Arrival.STALE)


def test_a_tombstone_moves_up_so_that_a_late_arrival_does_not_lift_it():
    """Deleted, put back, and deleted again, of which the arrival in between comes last."""
    tombstone, _ = delete(record_of(), media(5), NOW)
    tombstone, did = delete(tombstone, media(7), LATER)
    assert did
    assert arrive(tombstone, media(6), LATER) == (tombstone, Arrival.STALE)


# --- what counts as current ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (None, False),
        (entry(), True),
        (entry(fingerprint=ACCEPTED), True),
        (entry(fingerprint=OLD), False),
        (entry(generation=4), False),
        (entry(generation=6), False),
        *((entry(state), False) for state in State if state is not State.DONE),
    ],
)
def test_current_is_what_was_done_for_this_version_by_an_accepted_fingerprint(known, expected):
    record = record_of(**({} if known is None else {"b": known}))
    assert is_current(GRAPH, record, "b") is expected


# --- claiming and settling -------------------------------------------------------------------


def test_a_claim_gives_leases_and_keeps_pending_targets():
    record = record_of(b=entry(State.QUEUED, pending_targets=("c",), error=FAILURE))
    taken = claimed(record, "b", "c")
    assert taken.jobs["b"] == entry(
        State.RUNNING, lease=leased(), attempts=1, pending_targets=("c",), started_at=NOW
    )
    assert taken.jobs["c"].fingerprint == GRAPH.fingerprints["c"]
    assert record.jobs["b"].lease is None, "the record that was read stays as it was"


@pytest.mark.parametrize(
    ("old", "attempts"),
    [
        (entry(State.FAILED, attempts=3), 4),
        (entry(State.RUNNING, attempts=2, lease=leased("gone", 0)), 3),
        (entry(State.QUEUED, attempts=1), 2),
        (entry(State.FAILED, attempts=3, fingerprint=OLD), 1),
        (entry(State.FAILED, attempts=3, generation=4), 1),
        (entry(State.DONE, attempts=3), 1),
    ],
)
def test_attempts_are_counted_as_long_as_it_is_the_same_work(old, attempts):
    assert claimed(record_of(b=old), "b").jobs["b"].attempts == attempts


def test_attempts_of_an_older_version_are_not_counted_by_way_of_the_queue():
    stale = add_pending(record_of(b=entry(fingerprint=OLD, attempts=3)), GRAPH, "b", ["c"], NOW)
    assert claimed(stale, "b").jobs["b"].attempts == 1


@pytest.mark.parametrize(
    ("old", "new", "kept"),
    [
        (None, None, None),
        (None, "r1", "r1"),
        ("r1", None, "r1"),
        ("r1", "r2", "r2"),
        ("r2", "r1", "r2"),
    ],
)
def test_the_latest_request_is_remembered(old, new, kept):
    record = record_of(b=entry(request=old))
    assert claimed(record, "b", request=new).jobs["b"].request == kept
    assert settled(claimed(record, "b", request=new), DONE)[0].jobs["b"].request == kept
    running = record_of(b=entry(State.RUNNING, request=old, lease=leased()))
    assert reopen(running, GRAPH, "b", new).jobs["b"].request == kept


def test_a_result_is_recorded_and_the_lease_is_gone():
    record, said = settled(claimed(record_of(), "b"), DONE)
    assert said == Settled()
    assert record.jobs["b"] == entry(
        artifact="gs://o/b", checksum="sha256:0", seconds=2.0, attempts=1, started_at=NOW
    )


def test_a_failure_leaves_no_trace_once_it_is_done():
    failed, _ = settled(
        claimed(record_of(), "b"), Result(job="b", state=State.FAILED, error=FAILURE)
    )
    assert failed.jobs["b"].error == FAILURE
    record, _ = settled(claimed(failed, "b"), DONE)
    assert record.jobs["b"].error is None
    assert record.jobs["b"].attempts == 2


def test_what_was_blocked_was_never_tried():
    blocked, _ = settled(claimed(record_of(), "b"), Result(job="b", state=State.BLOCKED))
    assert blocked.jobs["b"].attempts == 0
    assert claimed(blocked, "b").jobs["b"].attempts == 1


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
    ],
    ids=[
        "unknown",
        "never claimed",
        "done by others",
        "taken over",
        "another generation",
        "deleted",
        "overwritten",
        "overwritten and claimed again",
        "settled before",
        "lost",
    ],
)
def test_a_result_that_comes_too_late_changes_nothing(record):
    assert settled(record, DONE) == (None, Settled(lost=("b",)))


def test_a_lease_that_expired_and_that_nobody_took_still_counts():
    record = claim(record_of(), GRAPH, ["b"], owner="me", now=NOW, lease_s=-100)
    assert is_current(GRAPH, settled(record, DONE)[0], "b")


def test_of_many_results_those_that_were_not_lost_are_recorded():
    record = claimed(claimed(record_of(), "a", "b"), "a", owner="other")
    after, said = settled(record, Result(job="a", state=State.DONE), DONE)
    assert said.lost == ("a",)
    assert after.jobs["a"] == record.jobs["a"]
    assert after.jobs["b"].state is State.DONE


def test_a_lease_that_is_given_back_leaves_the_work_and_its_pending_targets():
    record = add_pending(claimed(record_of(), "b"), GRAPH, "b", ["c"], NOW)
    after, said = settled(record, Result(job="b", state=State.QUEUED, error=FAILURE))
    assert said == Settled()
    assert after.jobs["b"] == entry(
        State.QUEUED,
        attempts=1,
        pending_targets=("c",),
        pending_at=NOW,
        error=FAILURE,
        started_at=NOW,
    )


# --- pending targets -------------------------------------------------------------------------


def test_a_released_lease_leaves_no_trace_of_a_job_that_nobody_waits_for():
    record = claimed(record_of(a=entry()), "b", "c")
    released, jobs = release(record, owns=lambda lease: lease.owner == "me")
    assert jobs == ("b", "c")
    assert released == record_of(a=entry())


def test_a_released_lease_leaves_what_others_wait_for_and_earlier_attempts():
    waiting = claimed(record_of(b=entry(State.QUEUED, pending_targets=("c",))), "b")
    released, _ = release(waiting, owns=lambda _: True)
    assert released.jobs["b"] == entry(State.QUEUED, pending_targets=("c",), started_at=NOW)
    tried = claimed(record_of(b=entry(State.QUEUED, attempts=2)), "b")
    released, _ = release(tried, owns=lambda _: True)
    assert (released.jobs["b"].state, released.jobs["b"].attempts) == (State.QUEUED, 2)
    asked = claimed(record_of(), "b", request="r1")
    released, _ = release(asked, owns=lambda _: True)
    assert (released.jobs["b"].state, released.jobs["b"].request) == (State.QUEUED, "r1")


def test_the_leases_of_others_are_not_released():
    record = claimed(record_of(a=entry()), "b", owner="another")
    assert release(record, owns=lambda lease: lease.owner == "me") == (None, ())
    assert release(None, owns=lambda _: True) == (None, ())


def test_requests_for_the_same_job_coalesce():
    record = add_pending(record_of(), GRAPH, "b", ["c"], NOW)
    assert record.jobs["b"] == entry(State.QUEUED, pending_targets=("c",), pending_at=NOW)
    record = add_pending(add_pending(record, GRAPH, "b", ["b", "c"], NOW), GRAPH, "b", None, NOW)
    assert record.jobs["b"].pending_targets == ("c", "b", EVERYTHING)
    assert add_pending(record, GRAPH, "b", None, NOW) == record


@pytest.mark.parametrize("state", [State.RUNNING, State.QUEUED, State.FAILED, State.BLOCKED])
def test_adding_pending_targets_changes_nothing_else_of_a_job(state):
    old = entry(state, attempts=2, lease=leased() if state is State.RUNNING else None)
    assert add_pending(record_of(b=old), GRAPH, "b", ["c"], NOW).jobs["b"] == evolve(
        old, pending_targets=("c",), pending_at=NOW
    )


def test_adding_targets_to_a_stale_result_puts_the_job_back():
    old = entry(
        fingerprint=OLD, artifact="gs://o/old", attempts=2, pending_targets=("b",), request="r1"
    )
    made = add_pending(record_of(b=old), GRAPH, "b", ["c"], NOW).jobs["b"]
    assert made == entry(State.QUEUED, pending_targets=("b", "c"), pending_at=NOW, request="r1")


def test_pending_targets_stay_until_they_are_cleared():
    record = add_pending(claimed(record_of(), "b"), GRAPH, "b", ["c", "b"], NOW)
    after, said = settled(record, DONE)
    assert said.pending_targets == {"b": ("c", "b")}
    assert after.jobs["b"].pending_targets == ("c", "b")
    half, _ = clear_pending(after, generation=5, targets={"b": ["c"]}, now=NOW)
    assert half.jobs["b"].pending_targets == ("b",)
    rest, _ = clear_pending(half, generation=5, targets={"b": ["b", "c"], "x": ["c"]}, now=NOW)
    assert rest.jobs["b"].pending_targets == ()
    assert clear_pending(rest, generation=5, targets={"b": ["b", "c"]}, now=NOW) == (None, None)


def test_a_failure_returns_pending_targets_as_a_result_does():
    record = add_pending(claimed(record_of(), "b"), GRAPH, "b", ["c"], NOW)
    after, said = settled(record, Result(job="b", state=State.FAILED, error=FAILURE))
    assert said.pending_targets == {"b": ("c",)}
    assert after.jobs["b"].pending_targets == ("c",)


@pytest.mark.parametrize(("seconds", "left"), [(1, ("c",)), (0, ())])
def test_targets_of_a_job_that_is_being_computed_again_stay_pending(seconds, left):
    running = entry(State.RUNNING, pending_targets=("c",), lease=leased("other", seconds))
    record = record_of(b=running)
    after, _ = clear_pending(record, generation=5, targets={"b": ["c"]}, now=NOW)
    assert (after or record).jobs["b"].pending_targets == left


@pytest.mark.parametrize(
    "record", [None, record_of(6, b=entry(State.QUEUED, pending_targets=("c",)))]
)
def test_clearing_targets_of_an_older_version_changes_nothing_of_a_newer_one(record):
    assert clear_pending(record, generation=5, targets={"b": ["c"]}, now=NOW) == (None, None)


# --- extending, putting back, trying again ---------------------------------------------------


def test_only_the_holder_extends_a_lease():
    record = claimed(claimed(record_of(), "a", "b"), "b", owner="other")
    until = NOW + timedelta(hours=1)
    after, held = extend_leases(record, owner="me", jobs=["a", "b", "c"], expires_at=until)
    assert held
    assert after.jobs["a"].lease == Lease(owner="me", expires_at=until)
    assert after.jobs["b"] == record.jobs["b"]
    assert extend_leases(record, owner="me", jobs=["b", "c"], expires_at=until) == (None, False)
    assert extend_leases(None, owner="me", jobs=["a"], expires_at=until) == (None, False)
    overwritten, _ = arrive(record, media(6), NOW)
    assert extend_leases(overwritten, owner="me", jobs=["a"], expires_at=until) == (None, False)


@pytest.mark.parametrize("state", [State.DONE, State.FAILED])
def test_a_result_that_is_put_back_is_missing_and_remembers_the_request(state):
    old = entry(state, artifact="gs://o/b", attempts=2, pending_targets=("c",), error=FAILURE)
    put = reopen(record_of(b=old), GRAPH, "b", "r1").jobs["b"]
    assert put == entry(State.QUEUED, pending_targets=("c",), request="r1")
    assert reopen(record_of(), GRAPH, "b", "r1").jobs["b"] == entry(State.QUEUED, request="r1")


def test_work_under_way_is_not_put_back():
    old = entry(State.RUNNING, lease=leased(), attempts=2)
    assert reopen(record_of(b=old), GRAPH, "b", "r1").jobs["b"] == evolve(old, request="r1")


def test_only_what_failed_or_is_blocked_is_tried_again():
    states = {s: entry(s, attempts=3, pending_targets=("c",), error=FAILURE) for s in State}
    record = record_of(**states)
    after, again = requeue(record, [*State, "unknown"])
    assert again == ("failed", "blocked")
    for state, old in states.items():
        expected = entry(State.QUEUED, pending_targets=("c",)) if state in again else old
        assert after.jobs[state] == expected
    assert requeue(record_of(b=entry()), ["b"]) == (None, ())
    assert requeue(None, ["b"]) == (None, ())


def test_a_failure_that_is_forgotten_keeps_the_request_that_it_was_computed_for():
    record = record_of(b=entry(State.FAILED, request="r1"))
    assert requeue(record, ["b"])[0].jobs["b"] == entry(State.QUEUED, request="r1")


# --- pings -----------------------------------------------------------------------------------


def ping(record: Record | None, request: str, job: str = "b", generation: int = 5) -> Record | None:
    at = NOW if request == "r1" else LATER
    return record_ping(record, generation=generation, job=job, request=request, now=at)[0]


def test_a_ping_leaves_its_trace_and_changes_nothing_else():
    record = record_of(b=entry())
    trace = {"b": Ping(request="r1", at=NOW)}
    assert ping(record, "r1") == evolve(record, pings=trace)


@pytest.mark.parametrize(("first", "second"), [("r1", "r2"), ("r2", "r1")])
def test_of_several_pings_the_latest_leaves_its_trace_at_each_job(first, second):
    record = ping(record_of(), "r1", job="a")
    assert record is not None
    record = ping(record, first)
    record = ping(record, second) or record
    assert record is not None
    assert record.pings == {"a": Ping(request="r1", at=NOW), "b": Ping(request="r2", at=LATER)}


def test_a_ping_that_comes_again_writes_nothing():
    record = ping(record_of(), "r1")
    assert record is not None
    assert ping(record, "r1") is None


@pytest.mark.parametrize(
    "record",
    [None, record_of(4), record_of(6), delete(record_of(), media(5), NOW)[0]],
    ids=["unknown", "older", "newer", "deleted"],
)
def test_a_ping_of_another_version_leaves_no_trace(record):
    assert ping(record, "r1") is None


def test_the_traces_are_those_of_one_version():
    record = ping(record_of(), "r1")
    assert arrive(record, media(6), LATER)[0].pings == {}


# --- any order -------------------------------------------------------------------------------

JOBS = st.sampled_from(["a", "b", "c"])
OWNERS = st.sampled_from(["one", "two", "three"])
GENERATIONS = st.integers(1, 8)
TARGETS = st.lists(st.sampled_from(["a", "b", "c", EVERYTHING]), max_size=2, unique=True)


class Life(RuleBasedStateMachine):
    """One file, whose events come in any order, beside a model that keeps what was promised."""

    def __init__(self) -> None:
        super().__init__()
        self.record: Record | None = None
        self.now = NOW
        self.generation = 0
        self.deleted = False
        self.pending: dict[str, set[str]] = {"a": set(), "b": set(), "c": set()}
        self.holder: dict[str, str] = {}
        self.claims: list[tuple[str, str, int]] = []
        self.made: dict[str, str] = {}  # job → the artifact that a reader may be given
        self.count = 0

    def keep(self, changed: Record | None) -> None:
        self.record = self.record if changed is None else changed

    @property
    def alive(self) -> bool:
        return self.record is not None and not self.deleted

    @rule(generation=GENERATIONS)
    def arrive(self, generation: int) -> None:
        before = self.record
        self.record, said = arrive(before, media(generation), self.now)
        if generation > self.generation:
            assert said is (Arrival.NEW if before is None else Arrival.NEWER)
            self.generation, self.deleted = generation, False
            self.holder, self.made = {}, {}
        else:
            assert self.record is before
            stale = generation < self.generation or self.deleted
            assert said is (Arrival.STALE if stale else Arrival.DUPLICATE)

    @rule(generation=GENERATIONS)
    def delete(self, generation: int) -> None:
        self.record, did = delete(self.record, media(generation), self.now)
        if generation >= self.generation:
            assert did == (not self.deleted or generation > self.generation)
            self.generation, self.deleted = generation, True
        else:
            assert not did

    @precondition(lambda self: self.alive)
    @rule(job=JOBS, owner=OWNERS)
    def claim(self, job: str, owner: str) -> None:
        lease = getattr(self.record.jobs.get(job), "lease", None)
        if lease is not None and lease.expires_at > self.now:
            return  # the planner says that it is held
        self.record = claim(self.record, GRAPH, [job], owner=owner, now=self.now, lease_s=60)
        self.holder[job] = owner
        self.made.pop(job, None)
        self.claims.append((owner, job, self.generation))

    @precondition(lambda self: self.claims)
    @rule(
        data=st.data(),
        state=st.sampled_from([State.DONE, State.FAILED, State.BLOCKED, State.QUEUED]),
    )
    def settle(self, data: st.DataObject, state: State) -> None:
        owner, job, generation = data.draw(st.sampled_from(self.claims))
        self.count += 1
        artifact = f"gs://o/{self.count}" if state is State.DONE else None
        changed, said = settle(
            self.record,
            generation=generation,
            owner=owner,
            results=[Result(job=job, state=state, artifact=artifact)],
        )
        in_time = self.alive and generation == self.generation and self.holder.get(job) == owner
        assert said.lost == (() if in_time else (job,))
        if not in_time:
            assert changed is None
            assert not said.pending_targets
            return
        self.keep(changed)
        del self.holder[job]
        if state is not State.QUEUED:
            assert set(said.pending_targets.get(job, ())) == self.pending[job]
        if artifact is not None:
            self.made[job] = artifact

    @precondition(lambda self: self.alive)
    @rule(job=JOBS, added=st.none() | TARGETS)
    def add_pending(self, job: str, added: list[str] | None) -> None:
        self.record = add_pending(self.record, GRAPH, job, added, NOW)
        self.pending[job] |= {EVERYTHING} if added is None else set(added)

    @rule(job=JOBS, cleared=TARGETS, generation=GENERATIONS)
    def clear_pending(self, job: str, cleared: list[str], generation: int) -> None:
        lease = getattr(self.record.jobs.get(job), "lease", None) if self.record else None
        changed, _ = clear_pending(
            self.record, generation=generation, targets={job: cleared}, now=self.now
        )
        self.keep(changed)
        busy = lease is not None and lease.expires_at > self.now
        if generation == self.generation and not busy:
            self.pending[job] -= set(cleared)
        else:
            assert changed is None

    @rule(job=JOBS, owner=OWNERS)
    def extend_leases(self, job: str, owner: str) -> None:
        until = self.now + timedelta(seconds=60)
        changed, held = extend_leases(self.record, owner=owner, jobs=[job], expires_at=until)
        assert held == (self.holder.get(job) == owner)
        assert held == (changed is not None)
        self.keep(changed)

    @rule(job=JOBS)
    def requeue(self, job: str) -> None:
        changed, again = requeue(self.record, [job])
        assert (changed is not None) == (again == (job,))
        self.keep(changed)

    @precondition(lambda self: self.alive)
    @rule(job=JOBS)
    def reopen(self, job: str) -> None:
        self.record = reopen(self.record, GRAPH, job, "r1")
        self.made.pop(job, None)

    @rule(seconds=st.sampled_from([1, 100]))
    def wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @invariant()
    def the_newest_version_stands(self) -> None:
        if self.record is None:
            assert self.generation == 0
        else:
            assert self.record.generation == self.generation
            assert (self.record.deleted_at is not None) == self.deleted

    @invariant()
    def nothing_that_is_owed_is_lost(self) -> None:
        for job, pending in self.pending.items():
            found = self.record.jobs.get(job) if self.record is not None else None
            assert set(found.pending_targets if found is not None else ()) == pending

    @invariant()
    def one_holds_what_is_running(self) -> None:
        for job, found in self.record.jobs.items() if self.record is not None else ():
            assert (found.state is State.RUNNING) == (found.lease is not None)
            assert (found.lease.owner if found.lease is not None else None) == self.holder.get(job)

    @invariant()
    def a_reader_gets_what_was_made_of_this_version_or_nothing(self) -> None:
        for job in GRAPH.jobs if self.alive else ():
            given = self.record.jobs[job].artifact if is_current(GRAPH, self.record, job) else None
            assert given == self.made.get(job)


Life.TestCase.settings = settings(max_examples=150, stateful_step_count=40)
TestLife = Life.TestCase


@given(st.lists(st.integers(1, 6), max_size=4), st.data())
def test_arrivals_and_deletions_in_any_order_end_with_the_newest(deletions, data):
    """Whatever the order, the newest version is recorded; it is gone only if that was deleted."""
    events = [(True, g) for g in range(1, 7)] + [(False, g) for g in deletions]
    record: Record | None = None
    for arrival, generation in data.draw(st.permutations(events * 2)):
        if arrival:
            record, _ = arrive(record, media(generation), NOW)
        else:
            record, _ = delete(record, media(generation), NOW)
    assert record is not None
    assert record.generation == 6
    assert (record.deleted_at is not None) == (6 in deletions)
