"""The engine in a backfill: batches, leases, and one read and two writes a file."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from segue.errors import DiskFull, Kind, TransientError, Unavailable
from segue.execution.engine import BATCH, SETTLE_S, Engine
from segue.execution.pace import Pace
from segue.execution.work import MAX_ATTEMPTS, Run
from segue.log import LOGGER
from segue.model.ledger import Change, Changed, Snapshot
from segue.model.media_file import MediaFile
from segue.model.outcome import Outcome, RunTotals, Status
from segue.model.record import EVERYONE, NOBODY, Entry, Failure, Record, State, evolve
from segue.model.transitions import (
    Result,
    arrive,
    build_blocked_result,
    claim,
    delete,
    is_current,
    reopen,
    want,
)
from segue.worker.protocol import Task
from segue_support.recording_pool import RecordingPool, complete_jobs
from segue_support.simulator.store import MemoryStore
from segue_support.stream import NOW, Clock, CountingLedger, build_graph, is_lost

GRAPH = build_graph({"a": "", "b": "a", "c": "b", "d": "b"})


class Ledger(CountingLedger):
    """Counts calls; may be away, having done some of what it was asked or nothing."""

    calls = 0
    away = False
    done_first = 0

    def read(self, uris: Sequence[str]) -> list[Snapshot]:
        self.calls += 1
        if self.away:
            raise Unavailable("the ledger is away; try again")
        return super().read(uris)

    def change(self, changes: Sequence[Change[Any]]) -> list[Changed[Any]]:
        self.calls += 1
        if self.away:
            super().change(changes[: self.done_first])
            raise Unavailable("the ledger is away; try again")
        return super().change(changes)

    def damage_record(self, uri: str) -> None:
        self._snapshots[uri] = Snapshot(record=None, revision="9", damage=f"{uri} is damaged")


def files(count: int, order: int = 1) -> list[MediaFile]:
    return [
        MediaFile(uri=f"gs://bucket/{i:05}.wav", version=str(order), order=order)
        for i in range(count)
    ]


MEDIA = files(1)[0]
URI = MEDIA.uri


class System:
    """An engine with all that it needs."""

    def __init__(
        self,
        answer: Callable[[Task], tuple[Result, ...]] = complete_jobs,
        *,
        ledger: Ledger | None = None,
        pool: RecordingPool | None = None,
        **more: Any,
    ) -> None:
        self.ledger = ledger or Ledger()
        self.pool = pool or RecordingPool(answer)
        self.clock = Clock()
        settings = {"graph": GRAPH, "artifacts": MemoryStore("gs://o"), "clock": self.clock}
        settings |= {"owner": lambda: "me", "lost": is_lost} | more
        self.engine = Engine(ledger=self.ledger, pool=self.pool, **settings)

    def run(
        self,
        media: Sequence[MediaFile] = (MEDIA,),
        *targets: str,
        force: bool = False,
        retry: bool = False,
        run: str = "run1",
    ) -> list[Outcome]:
        backfill = Run(id=run, targets=targets or ("c",), force=force, retry=retry)
        self.engine.add_files(media, backfill)
        outcomes = [one for one in self.engine.drain() if isinstance(one, Outcome)]
        assert self.engine.pending == 0
        return outcomes

    def record(self, uri: str = URI) -> Record:
        return self.ledger.records[uri]

    def entry(self, job: str, uri: str = URI) -> Entry:
        return self.record(uri).results[GRAPH.fingerprints[job]]

    def change(self, transition: Callable[[Record | None], Record | None]) -> None:
        """Another process changes the record of the first file."""
        self.ledger.change([Change(uri=URI, transition=lambda found: (transition(found), None))])


def claimed(*jobs: str, owner: str = "other", seconds: float = 60) -> Callable[[Any], Record]:
    def transition(found: Record | None) -> Record:
        record = found or arrive(None, MEDIA, NOW)[0]
        return claim(record, GRAPH, jobs, owner=owner, now=NOW, lease_s=seconds)

    return transition


# --- what it costs ---------------------------------------------------------------------------


def test_a_line_of_three_jobs_costs_one_read_and_two_writes_a_file():
    system = System()
    outcomes = system.run(files(1000))
    assert len(outcomes) == 1000
    assert (system.ledger.reads, system.ledger.writes) == (1000, 2000)
    assert system.ledger.calls < 100
    assert all(o.jobs == {"a": Status.DONE, "b": Status.DONE, "c": Status.DONE} for o in outcomes)


def test_a_second_run_runs_and_writes_nothing():
    ledger = Ledger()
    System(ledger=ledger).run(files(10))
    ledger.reads = ledger.writes = 0
    again = System(ledger=ledger)
    outcomes = again.run(files(10))
    assert again.pool.tasks == []
    assert (ledger.reads, ledger.writes) == (10, 0)
    assert {o.jobs["c"] for o in outcomes} == {Status.CURRENT}


def test_files_are_read_in_batches():
    system = System()
    system.run(files(BATCH + 1))
    system.ledger.calls = 0
    System(ledger=system.ledger).run(files(BATCH + 1))
    assert system.ledger.calls == 2


class OneByOne(RecordingPool):
    """Finishes one task at a time."""

    most = 0
    submissions = 0

    def submit(self, tasks: Sequence[Task]) -> None:
        self.submissions += 1
        super().submit(tasks)

    def collect(self, timeout_s: float) -> Any:
        self.most = max(self.most, len(self._waiting))
        waiting, self._waiting = self._waiting[1:], self._waiting[:1]
        reports = super().collect(timeout_s)
        self._waiting = waiting
        return reports


def slow(task: Task) -> tuple[Result, ...]:
    return tuple(
        Result(job=j, state=State.DONE, artifacts={"x": ""}, seconds=60.0) for j in task.run
    )


def test_several_files_are_claimed_at_once_even_if_they_end_one_by_one():
    pool = OneByOne(slow, processes=8)
    assert len(System(pool=pool).run(files(64), "a")) == 64
    assert pool.submissions <= 64 / 4, "a quarter of the places is free"


def test_little_is_claimed_ahead_of_slow_work():
    pool = OneByOne(slow, processes=2)
    assert len(System(pool=pool).run(files(40), "a")) == 40
    assert pool.most <= 4


def test_little_is_claimed_ahead_of_slow_work_after_fast_work_for_other_targets():
    def answer(task: Task) -> tuple[Result, ...]:
        seconds = 0.001 if task.run == ("a",) else 1.0
        return tuple(Result(job=j, state=State.DONE, seconds=seconds) for j in task.run)

    pool = OneByOne(answer, processes=2)
    system = System(pool=pool)
    system.run(files(40), "a")
    pool.most = 0
    assert len(system.run(files(40), "b")) == 40
    assert pool.most <= 4


def test_much_is_claimed_ahead_of_fast_work():
    def fast(task: Task) -> tuple[Result, ...]:
        return tuple(Result(job=j, state=State.DONE, seconds=0.001) for j in task.run)

    system = System(fast)
    system.run(files(10), "a")
    assert system.engine.room == system.engine.max_ahead == 1024


# --- the line --------------------------------------------------------------------------------


def test_a_sibling_never_runs():
    system = System()
    system.run(files(3))
    assert {task.run for task in system.pool.tasks} == {("a", "b", "c")}
    assert GRAPH.fingerprints["d"] not in system.record().results


def test_a_target_below_finished_work_gets_its_parents_artifact():
    system = System()
    system.run([MEDIA], "b")
    system.pool.tasks.clear()
    system.run([MEDIA], "d")
    (task,) = system.pool.tasks
    assert task.run == ("d",)
    name = f"b/{GRAPH.fingerprints['b']}/00000.wav/1.json"
    assert (task.inputs, task.checksums) == ({"b": name}, {"b": "sha256:b"})


def test_a_task_names_the_version_and_the_owner():
    system = System()
    system.run([MEDIA])
    (task,) = system.pool.tasks
    assert (task.media, task.owner) == (MEDIA, "me")


def test_a_file_whose_versions_have_no_order_gets_the_ledgers():
    system = System()
    media = MediaFile(uri=URI, version="cafe")
    system.run([media])
    assert system.pool.tasks[0].media == MediaFile(uri=URI, version="cafe", order=1)
    system.run([MediaFile(uri=URI, version="beef")])
    assert system.pool.tasks[1].media.order == 2
    (outcome,) = system.run([media])
    assert len(system.pool.tasks) == 2, "the first content is back, and so are its results"
    assert outcome.jobs == {"c": Status.CURRENT}
    assert system.record().version == "cafe"
    system.change(lambda found: delete(found, media, NOW)[0])
    (outcome,) = system.run([media])
    assert outcome.jobs == {"c": Status.CURRENT}
    assert system.record().deleted_at is None


# --- force and retry -------------------------------------------------------------------------


def test_force_computes_only_the_target_again():
    system = System()
    system.run()
    system.pool.tasks.clear()
    (outcome,) = system.run(force=True)
    assert [task.run for task in system.pool.tasks] == [("c",)]
    assert outcome.jobs == {"b": Status.CURRENT, "c": Status.DONE}
    assert system.entry("c").notify == ()


def test_a_run_forces_each_file_once_even_if_it_is_repeated():
    system = System()
    system.run()
    system.pool.tasks.clear()
    system.run([MEDIA, MEDIA], force=True, run="run2")
    system.run([MEDIA], force=True, run="run2")
    assert [task.run for task in system.pool.tasks] == [("c",)]


def test_what_is_forced_while_somebody_computes_it_is_left_to_them():
    system = System()
    system.change(claimed("a"))
    (outcome,) = system.run([MEDIA], "a", force=True)
    assert outcome.jobs == {"a": Status.HELD}
    assert system.pool.tasks == []


def failing(kind: str, state: State = State.FAILED) -> Callable[[Task], tuple[Result, ...]]:
    error = Failure(kind=kind, type="Error", message="it went wrong")
    return lambda task: tuple(
        Result(job=job, state=state, error=error)
        if job == task.run[0] or state is State.QUEUED
        else build_blocked_result(job, task.run[0])
        for job in task.run
    )


def test_a_permanent_failure_is_not_tried_again_unless_asked_to():
    system = System(failing("corrupt_media"))
    (outcome,) = system.run([MEDIA], "b")
    assert outcome.jobs == {"a": Status.FAILED, "b": Status.BLOCKED}
    system.pool.answer = complete_jobs
    system.pool.tasks.clear()
    system.ledger.writes = 0
    (outcome,) = system.run([MEDIA], "b")
    assert system.pool.tasks == []
    assert outcome.jobs == {"a": Status.FAILED_BEFORE, "b": Status.BLOCKED}
    assert system.ledger.writes == 0, "the ledger says so already"
    (outcome,) = system.run([MEDIA], "b", retry=True)
    assert outcome.jobs == {"a": Status.DONE, "b": Status.DONE}
    assert not any(e.notify for e in system.record().results.values())


def test_a_run_tries_a_failure_again_once():
    system = System(failing("corrupt_media"))
    system.run([MEDIA], "a")
    system.run([MEDIA, MEDIA], "a", retry=True)
    assert len(system.pool.tasks) == 2


def test_what_is_below_an_earlier_failure_is_recorded_as_blocked():
    system = System(failing("corrupt_media"))
    system.run([MEDIA], "a")
    (outcome,) = system.run([MEDIA], "d")
    assert outcome.jobs == {"a": Status.FAILED_BEFORE, "b": Status.BLOCKED, "d": Status.BLOCKED}
    assert system.entry("d").state is State.BLOCKED
    assert system.entry("d").error == build_blocked_result("d", "a").error


def test_what_is_not_for_a_file_is_neither_tried_again_nor_a_failure():
    system = System(
        lambda task: tuple(
            Result(job=job, state=State.NOT_APPLICABLE)
            if job == "b"
            else build_blocked_result(job, "b", State.NOT_APPLICABLE)
            if job == "c"
            else Result(job=job, state=State.DONE)
            for job in task.run
        )
    )
    (outcome,) = system.run()
    unfit = Status.NOT_APPLICABLE
    assert outcome.jobs == {"a": Status.DONE, "b": unfit, "c": unfit}
    system.ledger.writes = 0
    (outcome,) = system.run([MEDIA], "c", "d", retry=True)
    assert len(system.pool.tasks) == 1
    assert (outcome.jobs["c"], outcome.jobs["d"]) == (unfit, unfit)
    assert system.entry("d").state is State.NOT_APPLICABLE


def test_a_transient_error_leaves_the_file_for_the_next_run():
    system = System(failing("unavailable", State.QUEUED))
    (outcome,) = system.run()
    assert set(outcome.jobs.values()) == {Status.DEFERRED}
    system.pool.answer = complete_jobs
    (outcome,) = system.run()
    assert set(outcome.jobs.values()) == {Status.DONE}


def test_a_failure_for_lack_of_space_is_tried_again_by_the_next_run():
    system = System(failing("no_space"))
    (outcome,) = system.run([MEDIA], "a")
    assert outcome.jobs["a"] is Status.FAILED
    system.pool.answer = complete_jobs
    (outcome,) = system.run([MEDIA], "b", run="run2")
    assert outcome.jobs == {"a": Status.DONE, "b": Status.DONE}


# --- others ----------------------------------------------------------------------------------


def test_work_under_somebody_elses_lease_is_left_alone_and_the_target_is_left_with_them():
    system = System()
    system.change(claimed("a"))
    (outcome,) = system.run()
    assert system.pool.tasks == []
    assert outcome.jobs == {"a": Status.HELD, "b": Status.WAITING, "c": Status.WAITING}
    assert system.entry("c").notify == (NOBODY,)
    assert system.entry("a").lease.owner == "other"


@pytest.mark.parametrize("lost", [{"seconds": -1}, {"owner": "dead"}], ids=["expired", "dead"])
def test_a_lease_that_is_expired_or_lost_is_taken_over(lost):
    system = System()
    system.change(claimed("a", **lost))
    system.run()
    assert system.pool.tasks[0].run == ("a", "b", "c")
    assert system.entry("a").attempts == 2


def test_what_others_come_to_want_meanwhile_is_computed_too():
    """Whoever finishes what somebody waits for goes on with it: a message may be acknowledged."""
    system = System()

    def answer(task: Task) -> tuple[Result, ...]:
        if "b" in task.run:
            system.change(lambda found: want(found, GRAPH, ["d"], NOBODY, NOW))
        return complete_jobs(task)

    system.pool.answer = answer
    (outcome,) = system.run()
    assert [task.run for task in system.pool.tasks] == [("a", "b", "c"), ("d",)]
    assert system.entry("d").state is State.DONE
    assert outcome.jobs["c"] is Status.DONE
    assert system.ledger.writes == 4, "a settlement claims what comes next"


def test_a_run_leaves_those_whom_an_event_waits_for_to_be_told_by_the_sweep():
    system = System()

    def answer(task: Task) -> tuple[Result, ...]:
        system.change(lambda found: want(found, GRAPH, ["a"], EVERYONE, NOW))
        return complete_jobs(task)

    system.pool.answer = answer
    system.run([MEDIA], "a")
    assert (system.entry("a").state, system.entry("a").notify) == (State.DONE, (EVERYONE,))


def test_a_result_whose_lease_another_took_is_lost():
    system = System()

    def answer(task: Task) -> tuple[Result, ...]:
        system.change(claimed("b"))
        return complete_jobs(task)

    system.pool.answer = answer
    (outcome,) = system.run()
    assert outcome.jobs == {"a": Status.DONE, "b": Status.LOST, "c": Status.DONE}
    assert system.entry("b").lease.owner == "other"


def test_a_result_that_a_request_has_put_back_is_computed_again():
    system = System()
    system.run()
    system.change(lambda found: reopen(found, GRAPH, ["c"], request="r1", now=NOW)[0])
    system.run()
    assert [task.run for task in system.pool.tasks] == [("a", "b", "c"), ("c",)]


def test_a_file_that_is_overwritten_meanwhile_is_superseded():
    system = System()

    def answer(task: Task) -> tuple[Result, ...]:
        system.change(lambda found: arrive(found, files(1, order=2)[0], NOW)[0])
        return complete_jobs(task)

    system.pool.answer = answer
    (outcome,) = system.run([MEDIA], "a")
    assert outcome.jobs["a"] is Status.LOST
    assert (system.record().order, system.record().results) == (2, {})


def test_a_source_that_changes_under_a_job_is_superseded():
    system = System(failing("superseded", State.QUEUED))
    (outcome,) = system.run([MEDIA], "a")
    assert outcome.jobs["a"] is Status.SUPERSEDED


@pytest.mark.parametrize(("gone", "status"), [(True, Status.DELETED), (False, Status.SUPERSEDED)])
def test_a_listing_that_is_older_than_the_ledger_changes_nothing(gone, status):
    system = System()
    newer = files(1, order=1 if gone else 5)[0]
    system.change(lambda _: arrive(None, newer, NOW)[0])
    if gone:
        system.change(lambda found: delete(found, newer, NOW)[0])
    before = system.record()
    (outcome,) = system.run()
    assert system.pool.tasks == []
    assert outcome.jobs == {"c": status}
    assert system.record() is before


def test_a_file_that_is_overwritten_before_it_is_claimed_is_superseded():
    pool = SlowPool(processes=1)
    system = System(pool=pool)
    system.engine.add_files(files(9), Run(id="r", targets=("a",)))
    system.engine.step()
    last = files(9)[8]
    newer = evolve(last, version="2", order=2)
    system.ledger.change([Change(uri=last.uri, transition=lambda found: arrive(found, newer, NOW))])
    pool.ready = True
    outcomes = {o.media.uri: o.jobs["a"] for o in system.engine.drain()}
    assert outcomes.pop(last.uri) is Status.SUPERSEDED
    assert set(outcomes.values()) == {Status.DONE}


def test_a_file_that_is_named_twice_is_computed_once():
    system = System()
    outcomes = system.run([MEDIA, MEDIA, *files(3), MEDIA])
    assert len(system.pool.tasks) == 3
    assert len(outcomes) == 6
    assert [o.jobs["c"] for o in outcomes].count(Status.DONE) == 3
    assert [o.jobs["c"] for o in outcomes].count(Status.CURRENT) == 3


# --- dry runs --------------------------------------------------------------------------------


def test_a_dry_run_writes_nothing_and_says_what_is_to_do():
    system = System(dry_run=True)
    outcomes = system.run(files(5))
    assert system.pool.tasks == []
    assert (system.ledger.reads, system.ledger.writes) == (5, 0)
    tally = RunTotals()
    for outcome in outcomes:
        tally.add(outcome)
    assert tally.files == 5
    assert tally.total(Status.TODO) == 15


def test_a_dry_run_says_what_force_would_compute():
    ledger = Ledger()
    System(ledger=ledger).run()
    system = System(ledger=ledger, dry_run=True)
    (outcome,) = system.run(force=True)
    assert outcome.jobs == {"b": Status.CURRENT, "c": Status.TODO}
    assert is_current(GRAPH, system.record(), "c")


# --- leases ----------------------------------------------------------------------------------


class SlowPool(RecordingPool):
    """Nothing is finished until it may be."""

    ready = False

    def collect(self, timeout_s: float) -> Any:
        return super().collect(timeout_s) if self.ready else []


def test_leases_of_long_work_are_kept_alive_without_a_write_at_each_step():
    system = System(pool=SlowPool(), lease_s=300)
    system.engine.add_files([MEDIA], Run(id="r", targets=("a",)))
    for _ in range(30):
        system.clock.advance(60)
        assert system.engine.step() == []
        assert system.entry("a").lease.expires_at > system.clock.now
    assert system.ledger.writes <= 2 + 30 * 60 / 100
    system.pool.ready = True
    (outcome,) = system.engine.drain()
    assert outcome.jobs["a"] is Status.DONE


# --- full and failing disks ------------------------------------------------------------------


def test_a_full_disk_stops_the_run_after_recording_what_was_done():
    full = failing("disk_full", State.QUEUED)
    system = System(lambda t: (full if t.media.uri.endswith("1.wav") else complete_jobs)(t))
    with pytest.raises(DiskFull, match="it went wrong"):
        system.run(files(2), "a")
    first, second = (system.entry("a", m.uri) for m in files(2))
    assert first.state is State.DONE
    assert (second.state, second.lease) == (State.QUEUED, None)


class Disk(MemoryStore):
    """Notes what the ledger said when the artifacts were synced."""

    def __init__(self) -> None:
        super().__init__("gs://o")
        self.ledger: Ledger | None = None
        self.seen: list[set[State]] = []
        self.error: TransientError | None = None

    def sync(self) -> None:
        assert self.ledger is not None
        records = self.ledger.records.values()
        self.seen.append({e.state for r in records for e in r.results.values()})
        if self.error is not None:
            raise self.error


def with_disk() -> tuple[System, Disk]:
    disk = Disk()
    system = System(artifacts=disk)
    disk.ledger = system.ledger
    return system, disk


def test_artifacts_are_on_the_disk_before_the_ledger_says_done():
    system, disk = with_disk()
    system.run(files(20))
    assert State.DONE not in disk.seen[0]
    disk.seen.clear()
    system.run(files(20))
    assert disk.seen == []  # nothing was computed


def test_nothing_is_done_if_the_disk_fails_and_the_next_run_computes_it_again():
    system, disk = with_disk()
    disk.error = Unavailable("the disk is away; check it")
    outcomes = system.run(files(20))
    assert {s for o in outcomes for s in o.jobs.values()} == {Status.DEFERRED}
    states = {e.state for r in system.ledger.records.values() for e in r.results.values()}
    assert states == {State.QUEUED}
    disk.error = None
    assert {o.jobs["c"] for o in system.run(files(20))} == {Status.DONE}


def test_artifacts_for_which_the_disk_had_no_room_stop_the_run():
    system, disk = with_disk()
    disk.error = DiskFull("no room is left; free some space")
    with pytest.raises(DiskFull, match="no room is left"):
        system.run(files(3))


# --- damaged artifacts and records -----------------------------------------------------------


def damage(parent: str) -> Callable[[Task], tuple[Result, ...]]:
    """Answer that the artifact of a parent has changed, unless the task computes it."""

    def answer(task: Task) -> tuple[Result, ...]:
        message = task.inputs.get(parent, "")
        error = Failure(kind=Kind.DAMAGED_INPUT, type="DamagedInput", message=message)

        def run(result: Result) -> Result:
            if parent not in task.inputs or parent not in GRAPH.find_ancestors(result.job):
                return result
            damaged = parent if parent in GRAPH.jobs[result.job].parents else None
            return Result(job=result.job, state=State.QUEUED, error=error, damaged=damaged)

        return tuple(map(run, complete_jobs(task)))

    return answer


@pytest.mark.parametrize("force", [False, True])
def test_a_damaged_artifact_is_computed_again_with_a_warning(monkeypatch, force):
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    monkeypatch.setattr(LOGGER, "handlers", [handler])
    system = System()
    system.run(files(3), "b")
    system.pool.tasks.clear()
    system.pool.answer = damage("b")
    outcomes = system.run(files(3), "c", force=force)
    assert [task.run for task in system.pool.tasks] == [("c",)] * 3 + [("b", "c")] * 3
    assert [(o.jobs["b"], o.jobs["c"]) for o in outcomes] == [(Status.DONE, Status.DONE)] * 3
    warned = [r.segue for r in records if r.levelname == "WARNING"]  # type: ignore[attr-defined]
    assert {(w["action"], w["job"], w["file"], w["error"]) for w in warned} == {
        ("recomputed", "b", m.uri, f"b/{GRAPH.fingerprints['b']}/{m.name}/1.json") for m in files(3)
    }
    entries = [system.entry("b", m.uri) for m in files(3)]
    assert {(e.state, e.attempts, e.lease) for e in entries} == {(State.DONE, 2, None)}


def test_jobs_below_a_damaged_artifact_run_in_the_same_run():
    """The worker gives up those below, which do not read the artifact themselves."""
    system = System()
    system.run([MEDIA], "a")
    system.pool.tasks.clear()
    system.pool.answer = damage("a")
    (outcome,) = system.run([MEDIA], "c")
    assert [task.run for task in system.pool.tasks] == [("b", "c"), ("a", "b", "c")]
    assert outcome.jobs == dict.fromkeys("abc", Status.DONE)


def test_a_damaged_artifact_beside_a_transient_error_is_left_for_the_next_run():
    system = System()
    system.run([MEDIA], "b")
    away = failing("unavailable", State.QUEUED)

    def answer(task: Task) -> tuple[Result, ...]:
        made = {r.job: r for r in damage("b")(task)}
        return (made["c"], *(r for r in away(task) if r.job == "d"))

    system.pool.answer = answer
    (outcome,) = system.run([MEDIA], "c", "d")
    assert (outcome.jobs["c"], outcome.jobs["d"]) == (Status.DEFERRED, Status.DEFERRED)
    system.pool.answer = complete_jobs
    system.run([MEDIA], "c", "d")
    assert system.pool.tasks[-1].run == ("b", "c", "d")


def test_a_damaged_artifact_that_another_is_making_again_is_left_to_it():
    system = System()
    system.run([MEDIA], "b")

    def answer(task: Task) -> tuple[Result, ...]:
        system.change(lambda found: reopen(found, GRAPH, ["b"], request="r1", now=NOW)[0])
        system.change(claimed("b"))
        return damage("b")(task)

    system.pool.answer = answer
    (outcome,) = system.run()
    assert outcome.jobs == {"b": Status.HELD, "c": Status.WAITING}
    assert system.entry("c").notify == (NOBODY,)


def test_an_artifact_that_is_damaged_each_time_is_a_failure_in_the_end():
    system = System()
    system.run([MEDIA], "b")
    system.pool.tasks.clear()

    def answer(task: Task) -> tuple[Result, ...]:
        error = Failure(kind=Kind.DAMAGED_INPUT, type="DamagedInput", message="changed")
        return tuple(
            Result(job="c", state=State.QUEUED, error=error, damaged="b") if r.job == "c" else r
            for r in complete_jobs(task)
        )

    system.pool.answer = answer
    (outcome,) = system.run()
    assert outcome.jobs["c"] is Status.FAILED
    assert system.entry("c").error.kind == Kind.DAMAGED_INPUT
    assert len(system.pool.tasks) <= 2 * MAX_ATTEMPTS


def test_a_finished_target_is_not_forced_again_because_of_another_ones_parent():
    system = System()
    system.run([MEDIA], "a", "b")
    system.pool.tasks.clear()
    system.pool.answer = damage("b")
    (outcome,) = system.run([MEDIA], "a", "c", force=True)
    runs = [job for task in system.pool.tasks for job in task.run]
    assert runs.count("a") == 1
    assert {outcome.jobs[job] for job in ("a", "c")} == {Status.DONE}


def test_a_damaged_record_costs_its_file_until_it_is_forced():
    system = System()
    system.run(files(3))
    system.pool.tasks.clear()
    system.ledger.damage_record(files(3)[1].uri)
    outcomes = system.run(files(3), "c", "d")
    assert {task.media.uri for task in system.pool.tasks} == {files(3)[0].uri, files(3)[2].uri}
    [failed] = [o for o in outcomes if Status.FAILED in o.jobs.values()]
    assert failed.media == files(3)[1]
    assert {r.error.kind for r in failed.results if r.error} == {Kind.DAMAGED_RECORD}
    outcomes = system.run(files(3), "c", force=True)
    assert {o.jobs["c"] for o in outcomes} == {Status.DONE}
    assert system.entry("c", files(3)[1].uri).state is State.DONE


def damage_when_it_runs(system: System, uri: str) -> Callable[[Task], tuple[Result, ...]]:
    def answer(task: Task) -> tuple[Result, ...]:
        if task.media.uri == uri:
            system.ledger.damage_record(uri)
        return complete_jobs(task)

    return answer


def check_that_one_file_failed(outcomes: Sequence[Outcome], uri: str) -> None:
    failed = [o for o in outcomes if Status.FAILED in o.jobs.values()]
    assert [o.media.uri for o in failed] == [uri]
    assert {r.error.kind for o in failed for r in o.results if r.error} == {Kind.DAMAGED_RECORD}
    assert [o.jobs["a"] for o in outcomes if o not in failed] == [Status.DONE] * 2


def test_a_record_that_is_damaged_before_it_is_claimed_costs_its_file():
    system = System()
    media = files(3)
    snapshots = [Snapshot(record=arrive(None, m, NOW)[0], revision="1") for m in media]
    system.ledger.damage_record(media[1].uri)
    system.engine.add_files([*media, media[1]], Run(id="r", targets=("a",)), [*snapshots, None])
    outcomes = list(system.engine.drain())
    assert outcomes.pop(-1).media == media[1], "what waits for its file goes on"
    check_that_one_file_failed(outcomes, media[1].uri)
    assert len(system.pool.tasks) == 2
    assert system.engine.pending == 0


def test_a_record_that_is_damaged_while_its_jobs_run_costs_its_file():
    system = System()
    media = files(3)
    system.pool.answer = damage_when_it_runs(system, media[1].uri)
    outcomes = system.run(media, "a")
    check_that_one_file_failed(outcomes, media[1].uri)
    assert {e.attempts for m in (0, 2) for e in system.record(media[m].uri).results.values()} == {1}


def test_a_record_that_is_damaged_before_its_lease_is_extended_costs_its_file():
    pool = SlowPool(processes=2)
    system = System(pool=pool)
    media = files(3)
    system.engine.add_files(media, Run(id="r", targets=("a",)))
    system.engine.step()
    system.ledger.damage_record(media[1].uri)
    system.clock.advance(system.engine.lease_s / 2)
    ended = system.engine.step()
    assert system.engine.running == 2
    pool.ready = True
    check_that_one_file_failed([*ended, *system.engine.drain()], media[1].uri)


def test_the_files_of_batches_are_claimed_besides_those_of_ordinary_work():
    pool = SlowPool(processes=2, batch_files=32)
    system = System(pool=pool)
    assert system.engine.room == 2 * 2 + 32
    system.engine.add_files(files(50), Run(id="r", targets=("a",)))
    system.engine.step()
    assert len(pool.tasks) == system.engine.running == 2 * 2 + 32
    assert system.engine.room == 0


class BatchPool(RecordingPool):
    """Reports nothing until it is told that no more comes."""

    def collect(self, timeout_s: float) -> Any:
        return super().collect(timeout_s) if self.flushed else []


def test_no_batch_waits_for_more_once_all_files_are_claimed():
    pool = BatchPool(processes=2, batch_files=10)
    system = System(pool=pool)
    system.engine.add_files(files(10), Run(id="r", targets=("a",)))
    assert system.engine.step() == []  # others may be added
    assert len(pool.tasks) == 10
    assert len(list(system.engine.drain())) == 10
    assert set(pool.flushed) == {10}


def test_nothing_is_flushed_while_files_wait_to_be_claimed():
    pool = BatchPool(processes=2, batch_files=1)
    system = System(pool=pool)
    system.engine.add_files(files(10), Run(id="r", targets=("a",)))
    system.engine.step()
    system.engine.flush()
    assert len(pool.tasks) == 5
    assert pool.flushed == []


def test_results_are_recorded_while_other_files_end_at_once():
    system = System(pool=RecordingPool(processes=8))
    system.run(files(30), "a")
    missing = MediaFile(uri="gs://bucket/missing.wav", version="1", order=1)
    run = Run(id="r", targets=("a",))
    system.engine.add_files([missing], run)
    ended = []
    for media in files(30):
        system.engine.add_files([media], run)
        system.clock.advance(SETTLE_S)
        ended += system.engine.step()
    assert missing in [one.media for one in ended]


# --- a ledger that is away -------------------------------------------------------------------


@pytest.mark.parametrize("done_first", [0, 1, 3])
def test_files_stay_when_the_ledger_is_away_before_they_are_claimed(done_first):
    system = System()
    system.engine.add_files(files(3), Run(id="r", targets=("c",)))
    system.ledger.away, system.ledger.done_first = True, done_first
    for _ in range(3):
        with pytest.raises(Unavailable):
            system.engine.step()
    assert system.engine.pending == 3
    system.ledger.away = False
    outcomes = list(system.engine.drain())
    assert {o.jobs["c"] for o in outcomes} == {Status.DONE}
    assert len(system.pool.tasks) == 3


@pytest.mark.parametrize("done_first", [0, 1, 3])
def test_results_stay_when_the_ledger_is_away_before_they_are_settled(done_first):
    system = System()

    def answer(task: Task) -> tuple[Result, ...]:
        system.ledger.away, system.ledger.done_first = True, done_first
        return complete_jobs(task)

    system.pool.answer = answer
    system.engine.add_files(files(3), Run(id="r", targets=("c",)))
    for _ in range(3):
        with pytest.raises(Unavailable):
            system.engine.step()
    system.ledger.away = False
    outcomes = list(system.engine.drain())
    assert {s for o in outcomes for s in o.jobs.values()} == {Status.DONE}
    assert len(system.pool.tasks) == 3
    assert {e.attempts for e in system.record().results.values()} == {1}


def test_a_claim_that_was_recorded_although_the_ledger_failed_is_one_attempt():
    class FirstAway(Ledger):
        failures = 2

        def change(self, changes: Sequence[Change[Any]]) -> list[Changed[Any]]:
            made = super().change(changes)
            self.failures -= 1
            if self.failures >= 0:
                raise Unavailable("the answer was lost")
            return made

    system = System(ledger=FirstAway())
    system.engine.add_files([MEDIA], Run(id="r", targets=("c",)))
    for _ in range(2):
        with pytest.raises(Unavailable):
            system.engine.step()
    (outcome,) = system.engine.drain()
    assert outcome.jobs["c"] is Status.DONE
    assert system.entry("c").attempts == 1


# --- settling --------------------------------------------------------------------------------


def test_results_wait_a_moment_so_that_many_are_settled_at_once():
    system = System(pool=OneByOne(processes=4))
    system.engine.add_files(files(8), Run(id="r", targets=("a",)))
    assert [len(system.engine.step()) for _ in range(3)] == [0, 0, 0]
    system.clock.advance(SETTLE_S)
    assert len(system.engine.step()) == 4
    assert len(list(system.engine.drain())) == 4


def test_abandoning_forgets_everything_and_returns_the_owners():
    pool = SlowPool(processes=1)
    owners = iter(f"me/{n}" for n in range(9))
    system = System(pool=pool, owner=lambda: next(owners))
    system.engine.add_files([*files(4), MEDIA], Run(id="r", targets=("a",)))
    system.engine.step()
    assert system.engine.running == 2
    assert sorted(system.engine.abandon()) == [f"me/{n}" for n in range(5)]
    assert (system.engine.pending, system.engine.running) == (0, 0)
    pool.ready = True
    assert system.engine.step() == [], "late reports are ignored"


def test_leases_are_timed_from_the_claim():
    system = System(lease_s=90)
    system.engine.pool = SlowPool()
    system.engine.add_files([MEDIA], Run(id="r", targets=("a",)))
    system.engine.step()
    assert system.entry("a").lease.expires_at == NOW + timedelta(seconds=90)


# --- files in folders ------------------------------------------------------------------------


IN_FOLDER = MediaFile(uri="file:///music/a.wav", version="c0ffee", stat="1:1:1:1:1")


def observed(system: System) -> Snapshot:
    """Record a file as whoever observes it does, and return what is in the ledger then."""
    change = Change(uri=IN_FOLDER.uri, transition=lambda found: arrive(found, IN_FOLDER, NOW))
    [changed] = system.ledger.change([change])
    return changed.snapshot


def test_records_that_were_read_already_are_not_read_again():
    system = System()
    snapshot = observed(system)
    assert snapshot.record is not None
    system.ledger.calls = 0
    system.engine.add_files([snapshot.record.media], Run(id="r", targets=("a",)), [snapshot])
    assert [o.jobs for o in system.engine.drain()] == [{"a": Status.DONE}]
    assert system.ledger.calls == 2


def test_a_task_has_the_order_and_the_stat_that_the_ledger_has():
    system = System()
    media = evolve(IN_FOLDER, stat="as listed before it was touched")
    observed(system)
    system.run([evolve(media, order=1)], "a")
    [task] = system.pool.tasks
    assert task.media == evolve(IN_FOLDER, order=1)


@pytest.mark.parametrize("version", ["another", "c0ffee"])
def test_an_observation_that_is_outdated_changes_nothing_back(version):
    """What a backfill has seen is not written over what somebody saw after it."""
    system = System()
    snapshot = observed(system)
    assert snapshot.record is not None
    for newer in ("another", version):
        media = MediaFile(uri=IN_FOLDER.uri, version=newer, stat=newer)
        system.ledger.change(
            [Change(uri=media.uri, transition=lambda found, media=media: arrive(found, media, NOW))]
        )
    before = system.record(IN_FOLDER.uri)
    system.engine.add_files([snapshot.record.media], Run(id="r", targets=("a",)), [snapshot])
    [outcome] = system.engine.drain()
    if version == "another":
        assert outcome.jobs == {"a": Status.SUPERSEDED}
        assert system.record(IN_FOLDER.uri) == before
    else:  # the content is back
        assert outcome.jobs == {"a": Status.DONE}
        assert system.record(IN_FOLDER.uri).order == 3


# --- a pace, and a run that stops early --------------------------------------------------------


class SleepingPace(Pace):
    """A pace whose time passes only while somebody waits."""

    def __init__(self, rate_per_s: float) -> None:
        self.now_s = 0.0
        super().__init__(rate_per_s=rate_per_s, clock_s=lambda: self.now_s, sleep=self._pass)

    def _pass(self, seconds: float) -> None:
        self.now_s += seconds


def test_a_pace_bounds_what_is_claimed():
    pace = SleepingPace(2.0)
    system = System(pace=pace)
    outcomes = system.run(files(21))
    assert len(outcomes) == 21
    assert pace.now_s == pytest.approx(10.0)


def test_files_that_need_nothing_take_no_time_of_the_pace():
    ledger = Ledger()
    System(ledger=ledger).run(files(50))
    pace = SleepingPace(0.001)
    assert len(System(ledger=ledger, pace=pace).run(files(50))) == 50
    assert pace.now_s == 0.0


def test_what_is_not_begun_can_be_withdrawn_and_what_is_goes_on():
    pool = RecordingPool(complete_jobs, processes=2)
    system = System(pool=pool)
    system.engine.add_files([*files(10), MEDIA], Run(id="run1", targets=("c",)))
    ended = system.engine.step()
    begun = len(pool.tasks)
    assert 0 < begun < 10
    left = system.engine.withdraw()
    ended += list(system.engine.drain())
    assert (len(ended), len(left)) == (begun, 11 - begun)
    assert system.engine.pending == 0
    assert len(system.ledger.records) == len(pool.tasks) == begun
    assert len(system.run(files(10))) == 10  # the same engine can go on with them
