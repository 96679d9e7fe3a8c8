"""The executor: batches, leases, and one read and two writes a file."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from segue.adapters.sqlite_ledger import SqliteLedger
from segue.errors import DiskFull, TooManyFailures, Unavailable
from segue.execution.executor import Executor
from segue.log import LOGGER
from segue.model.graph import parse_graph
from segue.model.ledger import Change, Changed
from segue.model.media_file import MediaFile
from segue.model.outcome import Outcome, RunTotals, Status
from segue.model.record import Failure, State
from segue.model.transitions import Result, arrive, claim, delete, reopen
from segue.worker.protocol import Task
from segue_support.recording_pool import RecordingPool, complete_jobs
from segue_support.simulator.store import MemoryStore

GRAPH = parse_graph(
    """
jobs:
  a: {run: "m:f", needs: {media: source}, writes: application/json}
  b: {run: "m:f", needs: {x: a}, writes: application/json}
  c: {run: "m:f", needs: {x: b}, writes: application/json}
  d: {run: "m:f", needs: {x: b}, writes: application/json}
"""
)
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class CountingLedger(SqliteLedger):
    """Counts what is asked of the store."""

    reads = 0
    writes = 0
    calls = 0

    def read(self, uris: Sequence[str]) -> Any:
        self.reads += len(uris)
        self.calls += 1
        return super().read(uris)

    def change(self, changes: Sequence[Change[Any]]) -> list[Changed[Any]]:
        self.writes += len(changes)
        self.calls += 1
        return super().change(changes)


@pytest.fixture
def ledger(tmp_path) -> Iterator[CountingLedger]:
    ledger = CountingLedger(str(tmp_path / "ledger.db"))
    yield ledger
    ledger.close()


def files(count: int, generation: int = 1) -> list[MediaFile]:
    return [MediaFile(uri=f"gs://bucket/{i:05}.wav", generation=generation) for i in range(count)]


def executor(ledger, pool, targets=("c",), **more) -> Executor:
    artifacts = MemoryStore("gs://o")
    settings = {
        "graph": GRAPH,
        "owner": "me",
        "clock": lambda: NOW,
        "artifacts": artifacts,
    } | more
    return Executor(ledger=ledger, pool=pool, targets=targets, **settings)


def run(worker: Executor, media: Sequence[MediaFile]) -> list[Outcome]:
    return [*worker.add(media), *worker.drain()]


def test_a_line_of_three_jobs_costs_one_read_and_two_writes_a_file(ledger):
    pool = RecordingPool()
    outcomes = run(executor(ledger, pool), files(1000))
    assert len(outcomes) == 1000
    assert ledger.reads == 1000
    assert ledger.writes == 2000
    assert ledger.calls < 100
    assert all(o.jobs == {"a": Status.DONE, "b": Status.DONE, "c": Status.DONE} for o in outcomes)


def test_a_sibling_is_never_given_away(ledger):
    pool = RecordingPool()
    run(executor(ledger, pool), files(3))
    assert {task.run for task in pool.tasks} == {("a", "b", "c")}
    assert "d" not in ledger.read([files(1)[0].uri])[0].record.jobs


def test_a_second_run_gives_nothing_away_and_writes_nothing(ledger):
    run(executor(ledger, RecordingPool()), files(10))
    ledger.writes = 0
    pool = RecordingPool()
    outcomes = run(executor(ledger, pool, owner="another"), files(10))
    assert pool.tasks == []
    assert ledger.writes == 0
    assert {o.jobs["c"] for o in outcomes} == {Status.CURRENT}


def test_a_target_below_finished_work_gets_its_parents_artifact(ledger):
    run(executor(ledger, RecordingPool(), targets=("b",)), files(1))
    pool = RecordingPool()
    run(executor(ledger, pool, targets=("d",)), files(1))
    (task,) = pool.tasks
    assert task.run == ("d",)
    assert task.inputs == {"b": "file:///artifacts/b/00000.wav/1"}


def test_force_computes_only_the_target_again(ledger):
    run(executor(ledger, RecordingPool()), files(1))
    pool = RecordingPool()
    run(executor(ledger, pool, force=True), files(1))
    (task,) = pool.tasks
    assert task.run == ("c",)
    assert task.owner == "me"


def test_work_under_somebody_elses_lease_is_left_alone_and_the_target_is_left_with_them(ledger):
    (media,) = files(1)

    def transition(_record):
        record, _ = arrive(None, media, NOW)
        return claim(record, GRAPH, ("a",), owner="other", now=NOW, lease_s=60), None

    ledger.change([Change(uri=media.uri, transition=transition)])
    pool = RecordingPool()
    (outcome,) = run(executor(ledger, pool), [media])
    assert pool.tasks == []
    assert outcome.jobs == {"a": Status.HELD, "b": Status.WAITING, "c": Status.WAITING}
    assert ledger.read([media.uri])[0].record.jobs["a"].pending_targets == ("c",)


@pytest.mark.parametrize("how", ["expired", "lost"])
def test_a_lease_that_is_expired_or_lost_is_taken_over(ledger, how):
    (media,) = files(1)
    since = NOW - timedelta(hours=1) if how == "expired" else NOW

    def transition(_record):
        record, _ = arrive(None, media, since)
        return claim(record, GRAPH, ("a",), owner="dead", now=since, lease_s=60), None

    ledger.change([Change(uri=media.uri, transition=transition)])
    pool = RecordingPool()
    lost = (lambda lease: lease.owner == "dead") if how == "lost" else (lambda _lease: False)
    run(executor(ledger, pool, lost=lost), [media])
    assert pool.tasks[0].run == ("a", "b", "c")
    assert ledger.read([media.uri])[0].record.jobs["a"].attempts == 2


def failing(kind: str, state: State):
    def answer(task):
        error = Failure(kind=kind, type="Error", message="it went wrong")
        return (Result(job="a", state=state, error=error),)

    return answer


def test_a_transient_error_leaves_the_file_for_the_next_run(ledger):
    pool = RecordingPool(failing("unavailable", State.QUEUED))
    (outcome,) = run(executor(ledger, pool, targets=("a",)), files(1))
    assert outcome.jobs["a"] is Status.DEFERRED
    pool = RecordingPool()
    (outcome,) = run(executor(ledger, pool, targets=("a",), owner="next"), files(1))
    assert outcome.jobs["a"] is Status.DONE


def test_a_permanent_failure_is_not_tried_again_unless_asked_to(ledger):
    pool = RecordingPool(failing("corrupt_media", State.FAILED))
    (outcome,) = run(executor(ledger, pool, targets=("a",)), files(1))
    assert outcome.jobs["a"] is Status.FAILED
    pool = RecordingPool()
    (outcome,) = run(executor(ledger, pool, targets=("b",)), files(1))
    assert pool.tasks == []
    assert outcome.jobs == {"a": Status.FAILED_BEFORE, "b": Status.BLOCKED}
    (outcome,) = run(executor(ledger, pool, targets=("b",), retry=True), files(1))
    assert outcome.jobs == {"a": Status.DONE, "b": Status.DONE}


def test_a_failure_for_lack_of_space_is_tried_again_by_the_next_run(ledger):
    pool = RecordingPool(failing("no_space", State.FAILED))
    (outcome,) = run(executor(ledger, pool, targets=("a",)), files(1))
    assert outcome.jobs["a"] is Status.FAILED
    (outcome,) = run(executor(ledger, RecordingPool(), targets=("b",), owner="next"), files(1))
    assert outcome.jobs == {"a": Status.DONE, "b": Status.DONE}


def test_a_run_stops_once_its_first_files_have_all_failed_in_a_job_and_records_them(ledger):
    pool = RecordingPool(failing("job_raised", State.FAILED))
    stopping = executor(ledger, pool, targets=("a",), max_first_failures=3)
    outcomes = []

    def work() -> None:
        outcomes.extend(stopping.add(files(9)))
        outcomes.extend(stopping.drain())

    with pytest.raises(TooManyFailures, match=r"files all failed in job 'a' \(job_raised"):
        work()
    failed = [s.record for s in ledger.read([m.uri for m in files(9)]) if s.record is not None]
    assert len([r for r in failed if r.jobs["a"].state is State.FAILED]) >= 3


def test_a_run_goes_on_if_fewer_fail_or_any_succeeds(ledger):
    fails = failing("job_raised", State.FAILED)
    pool = RecordingPool(fails)
    assert len(run(executor(ledger, pool, targets=("a",), max_first_failures=4), files(3))) == 3
    pool = RecordingPool(lambda t: (complete_jobs if "00003" in t.media.uri else fails)(t))
    again = executor(ledger, pool, targets=("a",), max_first_failures=4, retry=True)
    assert len(run(again, files(9))) == 9


def test_a_full_disk_stops_the_run_after_recording_what_was_done(ledger):
    def answer(task):
        if task.media.uri.endswith("1.wav"):
            return failing("disk_full", State.QUEUED)(task)
        return complete_jobs(task)

    pool = RecordingPool(answer)
    with pytest.raises(DiskFull, match="it went wrong"):
        run(executor(ledger, pool, targets=("a",)), files(2))
    first, second = (s.record.jobs["a"] for s in ledger.read([m.uri for m in files(2)]))
    assert first.state is State.DONE
    assert second.state is State.QUEUED
    assert second.lease is None


def test_a_file_that_is_overwritten_meanwhile_is_superseded(ledger):
    (media,) = files(1)

    def answer(task):
        newer = MediaFile(uri=media.uri, generation=2)
        ledger.change([Change(uri=media.uri, transition=lambda r: (arrive(r, newer, NOW)[0], 0))])
        return complete_jobs(task)

    (outcome,) = run(executor(ledger, RecordingPool(answer), targets=("a",)), [media])
    assert outcome.jobs["a"] is Status.LOST
    record = ledger.read([media.uri])[0].record
    assert record.generation == 2
    assert "a" not in record.jobs


@pytest.mark.parametrize(("gone", "status"), [(True, Status.DELETED), (False, Status.SUPERSEDED)])
def test_a_listing_that_is_older_than_the_ledger_changes_nothing(ledger, gone, status):
    newer = MediaFile(uri="gs://bucket/00000.wav", generation=1 if gone else 5)

    def transition(_record):
        record, _ = arrive(None, newer, NOW)
        return (delete(record, newer, NOW)[0] if gone else record), None

    ledger.change([Change(uri=newer.uri, transition=transition)])
    pool = RecordingPool()
    (outcome,) = run(executor(ledger, pool), files(1))
    assert pool.tasks == []
    assert set(outcome.jobs.values()) == {status}


def test_leases_of_long_work_are_kept_alive(ledger):
    clock = [NOW]

    class SlowPool(RecordingPool):
        rounds = 0

        def collect(self, timeout_s):
            clock[0] += timedelta(seconds=60)
            self.rounds += 1
            return super().collect(timeout_s) if self.rounds > 30 else []

    pool = SlowPool()
    worker = executor(ledger, pool, targets=("a",), clock=lambda: clock[0], lease_s=300)
    (outcome,) = run(worker, files(1))
    assert clock[0] - NOW > timedelta(seconds=5 * 300)
    assert outcome.jobs["a"] is Status.DONE


def test_a_dry_run_writes_nothing_and_says_what_is_to_do(ledger):
    pool = RecordingPool()
    outcomes = run(executor(ledger, pool, dry_run=True), files(5))
    assert pool.tasks == []
    assert ledger.writes == 0
    tally = RunTotals()
    for outcome in outcomes:
        tally.add(outcome)
    assert tally.files == 5
    assert tally.total(Status.TODO) == 15


def test_little_is_claimed_ahead_of_slow_work(ledger):
    def slow(task):
        return tuple(Result(job=j, state=State.DONE, artifact="x", seconds=60.0) for j in task.run)

    class OneByOne(RecordingPool):
        most = 0

        def collect(self, timeout_s):
            self.most = max(self.most, len(self._waiting))
            waiting, self._waiting = self._waiting[1:], self._waiting[:1]
            reports = super().collect(timeout_s)
            self._waiting = waiting
            return reports

    pool = OneByOne(slow, processes=2)
    outcomes = run(executor(ledger, pool, targets=("a",)), files(40))
    assert len(outcomes) == 40
    assert pool.most <= 4


def test_a_file_that_is_named_twice_is_computed_once(ledger):
    pool = RecordingPool()
    (media,) = files(1)
    outcomes = run(executor(ledger, pool), [media, media, *files(3), media])
    assert len(pool.tasks) == 3
    assert len(outcomes) == 6
    assert [o.jobs["c"] for o in outcomes].count(Status.DONE) == 3
    assert [o.jobs["c"] for o in outcomes].count(Status.CURRENT) == 3


def test_a_result_that_a_request_has_put_back_is_computed_again(ledger):
    pool = RecordingPool()
    run(executor(ledger, pool), files(1))
    uri = files(1)[0].uri
    ledger.change([Change(uri=uri, transition=lambda r: (reopen(r, GRAPH, "c", "r1"), None))])
    run(executor(ledger, pool), files(1))
    assert [task.run for task in pool.tasks] == [("a", "b", "c"), ("c",)]


class Disk(MemoryStore):
    """Notes what the ledger said when the artifacts were synced."""

    def __init__(self, ledger: SqliteLedger, media: Sequence[MediaFile]) -> None:
        super().__init__("gs://o")
        self.ledger, self.media = ledger, media
        self.seen: list[set[State]] = []
        self.fails = False

    def sync(self) -> None:
        records = [s.record for s in self.ledger.read([m.uri for m in self.media])]
        self.seen.append({e.state for r in records if r is not None for e in r.jobs.values()})
        if self.fails:
            raise Unavailable("the disk is away; check it")


def test_artifacts_are_on_the_disk_before_the_ledger_says_done(ledger):
    disk = Disk(ledger, files(20))
    run(executor(ledger, RecordingPool(), artifacts=disk), files(20))
    assert State.DONE not in disk.seen[0]
    disk.seen.clear()
    run(executor(ledger, RecordingPool(), artifacts=disk), files(20))
    assert disk.seen == []  # nothing was computed


def test_nothing_is_done_if_the_disk_fails(ledger):
    disk = Disk(ledger, files(20))
    disk.fails = True
    with pytest.raises(Unavailable):
        run(executor(ledger, RecordingPool(), artifacts=disk), files(20))
    records = [s.record for s in ledger.read([m.uri for m in files(20)])]
    assert not any(e.state is State.DONE for r in records if r for e in r.jobs.values())


def damage(parent: str) -> Callable[[Task], tuple[Result, ...]]:
    """Answer that the artifact of a parent has changed, unless the task computes it."""

    def answer(task: Task) -> tuple[Result, ...]:
        message = task.inputs.get(parent, "")
        error = Failure(kind="damaged_input", type="DamagedInput", message=message)
        return tuple(
            Result(job=result.job, state=State.QUEUED, error=error, damaged=parent)
            if parent in task.inputs and parent in GRAPH.jobs[result.job].parents
            else result
            for result in complete_jobs(task)
        )

    return answer


@pytest.mark.parametrize("force", [False, True])
def test_a_damaged_artifact_is_computed_again_with_a_warning(ledger, monkeypatch, force):
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append
    monkeypatch.setattr(LOGGER, "handlers", [handler])
    run(executor(ledger, RecordingPool(), targets=("b",)), files(3))
    pool = RecordingPool(damage("b"))
    outcomes = run(executor(ledger, pool, targets=("c",), force=force), files(3))
    assert [task.run for task in pool.tasks] == [("c",)] * 3 + [("b", "c")] * 3
    assert [(o.jobs["b"], o.jobs["c"]) for o in outcomes] == [(Status.DONE, Status.DONE)] * 3
    warned = [r.segue for r in records if r.levelname == "WARNING"]
    assert {(w["action"], w["job"], w["file"], w["error"]) for w in warned} == {
        ("recomputed", "b", m.uri, f"file:///artifacts/b/{m.name}/1") for m in files(3)
    }
    entries = [s.record.jobs["b"] for s in ledger.read([m.uri for m in files(3)])]
    assert {(e.state, e.attempts, e.lease) for e in entries} == {(State.DONE, 2, None)}


def test_a_finished_target_is_not_forced_again_because_of_another_ones_parent(ledger):
    run(executor(ledger, RecordingPool(), targets=("a", "b")), files(1))
    pool = RecordingPool(damage("b"))
    (outcome,) = run(executor(ledger, pool, targets=("a", "c"), force=True), files(1))
    runs = [job for task in pool.tasks for job in task.run]
    assert runs.count("a") == 1
    assert {outcome.jobs[job] for job in ("a", "c")} == {Status.DONE}


def test_a_damaged_record_costs_its_file_until_it_is_forced(ledger):
    run(executor(ledger, RecordingPool()), files(3))
    with ledger._session(), ledger._transaction():
        ledger._db.execute("UPDATE files SET record = '{' WHERE uri = ?", (files(3)[1].uri,))
    pool = RecordingPool()
    outcomes = run(executor(ledger, pool, targets=("c", "d")), files(3))
    assert {task.media.uri for task in pool.tasks} == {files(3)[0].uri, files(3)[2].uri}
    [failed] = [o for o in outcomes if Status.FAILED in o.jobs.values()]
    assert failed.media == files(3)[1]
    assert {r.error.kind for r in failed.results} == {"damaged_record"}
    assert files(3)[1].uri in failed.results[0].error.message
    outcomes = run(executor(ledger, RecordingPool(), targets=("c",), force=True), files(3))
    assert {o.jobs["c"] for o in outcomes} == {Status.DONE}
    assert ledger.read([files(3)[1].uri])[0].record.jobs["c"].state is State.DONE
