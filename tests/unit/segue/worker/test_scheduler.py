"""Each exit of a child has one cause, and only that job is blamed; no task waits for a late one."""

from __future__ import annotations

import math
import re
import signal

import pytest

from segue.errors import Kind
from segue.model.graph import parse_graph
from segue.model.media_file import MediaFile
from segue.model.record import Failure, State
from segue.model.transitions import Result, build_blocked_result
from segue.worker.failure import describe_crash
from segue.worker.protocol import Done, Phase, Started, Task
from segue.worker.scheduler import MAX_FAILED_STARTS, ChildState, FreeSpace, Scheduler
from segue.worker.task_queue import LATE_S, MAX_MESSAGE, MESSAGE_S

GRAPH = parse_graph("""
jobs:
  first: {run: "m:f", needs: {media: source}, writes: application/json, timeout_s: 5}
  second: {run: "m:f", needs: {media: first}, writes: application/json, timeout_s: 7}
  third: {run: "m:f", needs: {media: second}, writes: application/json}
""")
NAMES = tuple(GRAPH.jobs)
MEDIA = MediaFile(uri="file:///a", version="1", order=1)
START_S = 50.0


def tasks(count: int, *run: str) -> list[Task]:
    return [Task(task_id=n, media=MEDIA, run=run or NAMES) for n in range(count)]


def started(
    job: str = "first", phase: Phase = Phase.CALL, *, serial: int = 2, files: int = 1, last: int = 0
) -> Started:
    return Started(serial, job, phase, START_S, last or serial, files)


def done(serial: int, job: str, seconds: float = 0.001) -> Done:
    return Done(
        serial, Result(job=job, state=State.DONE, artifacts={f"u-{job}": ""}, seconds=seconds)
    )


class Case:
    """A child with four tasks, of which it has started two."""

    def __init__(self) -> None:
        self.scheduler = Scheduler(GRAPH, processes=1, setup_s=100.0, warmup_s=10.0)
        self.scheduler.plain.add_duration(MESSAGE_S / 4)
        self.child = self.assign(8)
        self.scheduler.receive(self.child, [started(serial=2)])

    def assign(self, queued: int) -> ChildState:
        """Return a child that has got half of so many tasks."""
        self.scheduler.add(tasks(queued))
        child = ChildState()
        self.scheduler.assign(child)
        assert list(child.tasks) == [1, 2, 3, 4]
        return child

    def exit(self, *frames: object, status: int = -11) -> None:
        """Let the child send a message and exit."""
        self.scheduler.receive(self.child, frames)  # type: ignore[arg-type]
        self.scheduler.handle_exit(self.child, status)

    def report(self) -> dict[int, dict[str, State]]:
        reports = self.scheduler.take_reports()
        return {r.task_id: {x.job: x.state for x in r.results} for r in reports}

    def next_tasks(self) -> list[list[int]]:
        """Return the ids that messages to other children would have from now on."""
        messages = []
        while self.scheduler.may_assign(is_any_busy=False):
            child = ChildState()
            self.scheduler.assign(child)
            messages.append([entry.task.task_id for entry in child.tasks.values()])
        return messages


@pytest.fixture
def case() -> Case:
    return Case()


def test_the_running_job_fails_for_its_file_and_the_jobs_below_are_blocked(case: Case) -> None:
    case.exit(done(2, "first"), started("second"))
    [report] = case.scheduler.take_reports()
    assert (report.task_id, report.finished) == (1, True)
    assert [(r.job, r.state) for r in report.results] == [
        ("first", State.DONE),
        ("second", State.FAILED),
        ("third", State.BLOCKED),
    ]
    assert case.next_tasks() == [[0, 2, 3, 4], [5, 6], [7]]


def test_a_job_that_was_killed_at_its_timeout_has_not_crashed(case: Case) -> None:
    case.scheduler.receive(case.child, [started("second")])
    assert case.scheduler.find_deadline_s(case.child) == START_S + 7
    case.scheduler.record_timeout(case.child, START_S + 7.5)
    assert case.scheduler.find_deadline_s(case.child) == math.inf  # it is killed only once
    case.scheduler.handle_exit(case.child, -9)
    [report] = case.scheduler.take_reports()
    error = report.results[0].error
    assert error is not None
    assert error.kind == Kind.TIMEOUT
    assert "7.5 s" in error.message
    assert "timeout_s is 7" in error.message
    assert report.results[0].seconds == 7.5


def test_a_timeout_of_a_first_call_says_how_much_longer_it_was_given(case: Case) -> None:
    case.scheduler.receive(case.child, [started("second", Phase.COLD)])
    case.scheduler.record_timeout(case.child, START_S + 17.5)
    case.scheduler.handle_exit(case.child, -9)
    [report] = case.scheduler.take_reports()
    error = report.results[0].error
    assert error is not None
    assert "17.5 s; its timeout_s is 7 (and 7 s more for a process's first call)" in error.message


def test_a_job_that_started_while_another_was_killed_is_not_at_fault(case: Case) -> None:
    case.scheduler.record_timeout(case.child, START_S + 7.5)
    case.exit(done(2, "first"), started("second"), status=-9)
    assert case.report() == {1: {"first": State.DONE}}
    assert case.next_tasks()[0][:2] == [0, 1]


def test_a_child_that_sends_garbage_is_killed_and_its_job_is_at_fault(case: Case) -> None:
    case.scheduler.record_corrupt(case.child)
    case.scheduler.handle_exit(case.child, -9)
    [report] = case.scheduler.take_reports()
    error = report.results[0].error
    assert error is not None
    assert error.kind == Kind.CRASHED
    assert "writes to file descriptors" in error.message


def test_a_crashed_batch_is_retried_file_by_file(case: Case) -> None:
    case.exit(started(serial=1, files=2, last=2))
    assert case.report() == {}
    case.scheduler.plain.entries.rotate(1)
    assert case.next_tasks() == [[7], [0], [1], [2, 3, 4], [5], [6]]


def test_a_job_that_is_blocked_already_is_not_reported_again(case: Case) -> None:
    blocked = Done(2, build_blocked_result("third", "another parent"))
    case.exit(done(2, "first"), blocked, started("second"))
    [report] = case.scheduler.take_reports()
    assert [r.job for r in report.results] == ["first", "third", "second"]
    assert report.finished


def test_a_job_with_a_result_is_not_blamed_for_a_later_crash(case: Case) -> None:
    case.exit(done(2, "first"), started("first"))
    assert case.report() == {1: {"first": State.DONE}}


def test_a_requeued_task_goes_on_after_its_results(case: Case) -> None:
    case.exit(done(1, "first"), started("first", Phase.SETUP))
    [task, *_] = case.scheduler.assign(ChildState())
    assert (task.run, task.inputs) == (("second", "third"), {"first": "u-first"})


def test_an_exit_between_messages_blames_no_job(case: Case) -> None:
    case.exit(done(1, "first"), done(2, "first"))
    assert case.report() == {0: {"first": State.DONE}, 1: {"first": State.DONE}}
    assert case.next_tasks()[0][:2] == [0, 1]
    assert case.scheduler.error is None


def test_a_child_that_exits_by_itself_between_jobs_is_not_at_fault(case: Case) -> None:
    for _ in range(2 * MAX_FAILED_STARTS):
        case.exit(status=0)
        case.scheduler.assign(case.child)
    assert case.report() == {}
    assert case.scheduler.error is None


def test_children_that_exit_at_once_stop_the_run(case: Case) -> None:
    for _ in range(MAX_FAILED_STARTS):
        case.scheduler.handle_exit(ChildState(), -11)
        assert case.scheduler.error is None
    case.scheduler.handle_exit(ChildState(), -11)
    assert "before they finished a job" in str(case.scheduler.error)


def test_children_that_exit_after_their_jobs_do_not_stop_the_run(case: Case) -> None:
    for _ in range(MAX_FAILED_STARTS):
        case.scheduler.handle_exit(ChildState(), -11)
    for _ in range(2 * MAX_FAILED_STARTS):
        case.scheduler.add(tasks(1, "first"))
        case.child = ChildState()
        [task, *_] = case.scheduler.assign(case.child)
        case.exit(done(task.task_id, task.run[0]))
    for _ in range(MAX_FAILED_STARTS):
        case.scheduler.handle_exit(ChildState(), -11)
    assert case.scheduler.error is None


def test_a_setup_may_crash_once(case: Case) -> None:
    case.exit(started("second", Phase.SETUP))
    child = ChildState()
    case.scheduler.assign(child)
    case.scheduler.receive(child, [done(next(iter(child.tasks)), "second")])
    case.exit(started("second", Phase.SETUP))
    assert case.scheduler.error is None
    case.exit(started("second", Phase.SETUP))
    assert "job 'second' cannot start" in str(case.scheduler.error)


def test_a_first_call_gets_more_time_until_one_has_finished(case: Case) -> None:
    scheduler = case.scheduler
    assert scheduler.find_limit_s(started("first", Phase.SETUP)) == 100.0
    assert scheduler.find_limit_s(started("first", Phase.COLD)) == 10.0  # twice, as 5 < warmup_s
    assert scheduler.find_limit_s(started("first", files=3)) == 15.0
    scheduler.record_first_call("first", 2.0)
    assert scheduler.find_limit_s(started("first", Phase.COLD)) == 9.0
    scheduler.receive(case.child, [started("second", Phase.COLD)])
    scheduler.record_timeout(case.child, START_S + 17)
    scheduler.handle_exit(case.child, -9)
    assert scheduler.find_limit_s(started("second", Phase.COLD)) == 7.0


def test_a_first_call_gets_no_more_than_the_warm_up_in_addition() -> None:
    scheduler = Scheduler(GRAPH, processes=1, setup_s=100.0, warmup_s=3.0)
    assert scheduler.find_limit_s(started("first", Phase.COLD)) == 8.0


def test_what_waits_behind_a_late_task_goes_to_another_child_and_counts_there(case: Case) -> None:
    scheduler, late, other = case.scheduler, case.child, ChildState()
    assert scheduler.find_late_s(late) == START_S + LATE_S
    scheduler.take_back(late)
    assert scheduler.find_late_s(late) == math.inf  # nothing waits behind it any more
    scheduler.assign(other)
    assert [entry.task.task_id for entry in other.tasks.values()][:2] == [2, 3]
    scheduler.receive(late, [done(2, "first"), done(3, "first"), started("first", serial=3)])
    assert case.report() == {1: {"first": State.DONE}}
    scheduler.receive(other, [done(5, "first")])
    assert case.report() == {2: {"first": State.DONE}}


def test_more_quick_tasks_than_slow_ones_go_into_a_message_but_never_all() -> None:
    sizes = []
    for seconds in (0.000001, 0.001, 0.01, 10.0):
        scheduler = Scheduler(GRAPH, processes=2, setup_s=1.0, warmup_s=1.0)
        scheduler.add(tasks(1, "first"))
        child = ChildState()
        scheduler.assign(child)
        scheduler.receive(child, [done(1, "first", seconds)])
        scheduler.add(tasks(1, "first"))
        scheduler.assign(child)
        first_call = Result(job="first", state=State.DONE, seconds=100.0)
        scheduler.receive(child, [Done(2, first_call, cold=True)])  # not typical
        scheduler.add(tasks(10_000, "first"))
        sizes.append(len(scheduler.assign(ChildState())))
    assert sizes == [MAX_MESSAGE, 50, 5, 1]
    scheduler.add(tasks(1, "first"))
    fair = Scheduler(GRAPH, processes=2, setup_s=1.0, warmup_s=1.0)
    fair.plain.add_duration(0.001)
    fair.add(tasks(8, "first"))
    assert len(fair.assign(ChildState())) == 2


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (3, "exited with code 3: the job, or code that it calls, ends the process"),
        (-signal.SIGSEGV, r"was killed by signal 11 \(SIGSEGV\)$"),
        (-signal.SIGKILL, "the machine probably ran out of memory"),
        (-63, r"killed by signal 63 \("),
    ],
)
def test_an_exit_is_described(status: int, text: str) -> None:
    assert re.search(text, describe_crash(status))


def in_doubt(serial: int, job: str, kind: Kind = Kind.DISK_FULL) -> Done:
    """Return a failure whose cause may be what else runs."""
    error = Failure(kind=kind, type="Error", message="it went wrong")
    state = State.QUEUED if kind is Kind.DISK_FULL else State.FAILED
    return Done(serial, Result(job=job, state=state, error=error), in_doubt=True)


def run_alone(case: Case) -> ChildState:
    """Return a child that gets the next task, which nothing may run beside."""
    assert case.scheduler.may_assign(is_any_busy=False)
    assert not case.scheduler.may_assign(is_any_busy=True)
    child = ChildState()
    [task] = case.scheduler.assign(child)
    assert not case.scheduler.may_assign(is_any_busy=True)
    case.scheduler.receive(child, [started(task.run[0], serial=task.task_id)])
    return child


@pytest.mark.parametrize(
    "how",
    [
        "a kill from outside",
        "a polite kill",
        "a crash on a full disk",
        "no space",
        "a killed helper",
    ],
)
def test_what_other_processes_may_have_caused_is_tried_once_more_alone(
    case: Case, how: str
) -> None:
    case.scheduler.receive(case.child, [done(1, "first"), started(serial=2)])
    match how:
        case "a kill from outside":
            case.scheduler.handle_exit(case.child, -signal.SIGKILL)
        case "a polite kill":
            case.scheduler.handle_exit(case.child, -signal.SIGTERM)
        case "a crash on a full disk":
            case.scheduler.handle_exit(case.child, -signal.SIGBUS, FreeSpace(was_full=True))
        case "no space":
            case.exit(in_doubt(2, "first"), status=0)
        case _:
            case.exit(in_doubt(2, "first", Kind.CRASHED), status=0)
    assert case.report() == {0: {"first": State.DONE}}
    child = run_alone(case)
    assert [entry.task.task_id for entry in child.tasks.values()] == [1]
    [serial] = child.tasks
    case.scheduler.receive(child, [done(serial, job) for job in NAMES])
    assert case.scheduler.may_assign(is_any_busy=True)
    assert case.report() == {1: dict.fromkeys(NAMES, State.DONE)}


def test_a_file_that_fails_alone_is_to_blame(case: Case) -> None:
    case.scheduler.handle_exit(case.child, -signal.SIGKILL)
    case.scheduler.handle_exit(run_alone(case), -signal.SIGKILL)
    [report] = case.scheduler.take_reports()
    assert [r.state for r in report.results] == [State.FAILED, State.BLOCKED, State.BLOCKED]
    assert report.results[0].error is not None
    assert "nothing else was running" in report.results[0].error.message
    assert case.scheduler.may_assign(is_any_busy=True)


def test_a_helper_that_is_killed_alone_blocks_the_jobs_below(case: Case) -> None:
    case.scheduler.handle_exit(case.child, -signal.SIGKILL)
    child = run_alone(case)
    [serial] = child.tasks
    case.scheduler.receive(child, [in_doubt(serial, "first", Kind.CRASHED)])
    [report] = case.scheduler.take_reports()
    assert [r.state for r in report.results] == [State.FAILED, State.BLOCKED, State.BLOCKED]
    assert report.finished


@pytest.mark.parametrize(
    ("space", "kind", "state"),
    [
        (FreeSpace(text="5 GiB in /tmp"), Kind.NO_SPACE, State.FAILED),
        (FreeSpace(is_full=True, text="/tmp is full"), Kind.DISK_FULL, State.QUEUED),
    ],
)
@pytest.mark.parametrize("how", ["error", "crash"])
def test_a_disk_that_is_full_without_the_file_is_not_the_files_fault(
    case: Case, space: FreeSpace, kind: Kind, state: State, how: str
) -> None:
    case.exit(in_doubt(2, "first"), status=0)
    child = run_alone(case)
    if how == "error":
        case.scheduler.receive(child, [in_doubt(next(iter(child.tasks)), "first")])
        case.scheduler.handle_exit(child, 0, space)
    else:
        case.scheduler.handle_exit(child, -signal.SIGBUS, space._replace(was_full=True))
    [report] = case.scheduler.take_reports()
    first, *below = report.results
    assert report.finished
    assert (first.state, first.error and first.error.kind) == (state, kind)
    assert space.text in first.error.message
    assert {r.state for r in below} == {State.BLOCKED if state is State.FAILED else State.QUEUED}


def test_a_batch_that_is_killed_is_first_tried_file_by_file(case: Case) -> None:
    case.exit(started(serial=1, files=2, last=2), status=-signal.SIGKILL)
    assert case.scheduler.may_assign(is_any_busy=True)
