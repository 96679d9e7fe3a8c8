"""Each exit of a child has one cause, and only that job is blamed."""

from __future__ import annotations

import signal

import pytest

from segue.errors import Kind
from segue.model.graph import parse_graph
from segue.model.media_file import MediaFile
from segue.model.record import State
from segue.model.transitions import Result
from segue.worker.crash_report import (
    MAX_CRASHES,
    MAX_FAILED_STARTS,
    CrashReport,
    ExitInfo,
    describe_exit,
)
from segue.worker.shared_state import Phase, Progress
from segue.worker.task import Report, Task
from segue.worker.task_table import TaskEntry, TaskTable
from segue.worker.timeouts import Timeouts

GRAPH = parse_graph("""
jobs:
  first: {run: "m:f", needs: {media: source}, writes: application/json, timeout_s: 5}
  second: {run: "m:f", needs: {media: first}, writes: application/json, timeout_s: 7}
  third: {run: "m:f", needs: {media: second}, writes: application/json}
""")
NAMES = tuple(GRAPH.jobs)
MEDIA = MediaFile(uri="file:///a", generation=1)


class CrashCase:
    def __init__(self) -> None:
        self.task_table = TaskTable(GRAPH)
        self.timeouts = Timeouts(GRAPH, setup_s=100.0, warmup_s=10.0)
        self.crash_report = CrashReport(GRAPH, self.task_table, self.timeouts)
        self.task_table.add([Task(task_id=n, media=MEDIA, run=NAMES) for n in range(4)])
        self.entries: dict[int, TaskEntry] = {
            n: self.task_table.queue.popleft() for n in range(1, 5)
        }

    def blame(
        self, progress: Progress | None, status: int = -11, **more: object
    ) -> Exception | None:
        exit_info = {
            "last_taken": 2,
            "entries": self.entries,
            "killed": None,
            "has_worked": True,
            **more,
        }
        return self.crash_report.blame(ExitInfo(status=status, progress=progress, **exit_info))  # type: ignore[arg-type]

    def states(self) -> dict[int, dict[str, State]]:
        return {
            r.task_id: {x.job: x.state for x in r.results}
            for r in self.task_table.take_reports()
            if r.results
        }


def progress(job: int, phase: Phase = Phase.CALL, *, serial: int = 2, files: int = 1) -> Progress:
    return Progress(serial, job, phase, files, 50.0)


def test_the_running_job_fails_for_its_file_and_the_jobs_below_are_blocked() -> None:
    case = CrashCase()
    case.task_table.record(case.entries[2], Result(job="first", state=State.DONE, artifact="u"))
    assert case.blame(progress(1)) is None
    [report] = case.task_table.take_reports()
    assert isinstance(report, Report)
    assert report.finished
    assert [(r.job, r.state) for r in report.results] == [
        ("first", State.DONE),
        ("second", State.FAILED),
        ("third", State.BLOCKED),
    ]


def test_a_job_that_was_killed_at_its_timeout_has_not_crashed() -> None:
    case = CrashCase()
    case.blame(progress(1), status=-9, killed=(progress(1), 7.5))
    [report] = case.task_table.take_reports()
    error = report.results[0].error
    assert error is not None
    assert error.kind == Kind.TIMEOUT
    assert "7.5 s" in error.message
    assert "timeout_s is 7" in error.message
    assert report.results[0].seconds == 7.5


def test_a_job_that_started_while_another_was_killed_is_not_at_fault() -> None:
    case = CrashCase()
    case.blame(progress(2), status=-9, killed=(progress(1), 7.5))
    assert case.states() == {}


def test_a_crashed_batch_is_retried_file_by_file() -> None:
    case = CrashCase()
    case.blame(progress(0, serial=1, files=2))
    assert case.states() == {}
    assert [entry.alone for entry in case.entries.values()] == [True, True, False, False]


def test_a_job_with_a_reported_result_is_not_blamed_for_a_later_crash() -> None:
    case = CrashCase()
    case.task_table.record(case.entries[2], Result(job="first", state=State.DONE))
    case.task_table.take_reports()
    case.blame(progress(0))
    assert case.states() == {}


def test_an_exit_between_jobs_blames_no_job_until_it_recurs() -> None:
    case = CrashCase()
    for _ in range(MAX_CRASHES):
        assert case.blame(None) is None
        assert case.states() == {}
    case.blame(None)
    states = case.states()
    assert list(states) == [0]  # the first that the child had taken
    assert states[0]["first"] is State.FAILED


def test_children_that_exit_at_once_stop_the_run() -> None:
    case = CrashCase()
    for _ in range(MAX_FAILED_STARTS):
        assert case.blame(None, last_taken=0, has_worked=False) is None
    error = case.blame(None, last_taken=0, has_worked=False)
    assert "before they finished a job" in str(error)


def test_a_setup_may_crash_once() -> None:
    case = CrashCase()
    assert case.blame(progress(1, Phase.SETUP)) is None
    case.crash_report.record_success("second")
    assert case.blame(progress(1, Phase.SETUP)) is None
    assert "job 'second' cannot start" in str(case.blame(progress(1, Phase.SETUP)))
    assert case.states() == {}


def test_a_first_call_gets_more_time_until_one_has_finished() -> None:
    timeouts = Timeouts(GRAPH, setup_s=100.0, warmup_s=10.0)
    assert timeouts.find_limit_s(progress(0, Phase.SETUP)) == 100.0
    assert timeouts.find_limit_s(progress(0, Phase.COLD)) == 15.0
    assert timeouts.find_limit_s(progress(0, files=3)) == 15.0
    timeouts.record_first_call("first", 2.0)
    assert timeouts.find_limit_s(progress(0, Phase.COLD)) == 9.0
    timeouts.record_first_call("second")
    assert timeouts.find_limit_s(progress(1, Phase.COLD)) == 7.0


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (3, "exited with code 3"),
        (-signal.SIGSEGV, r"killed by signal 11 \(SIGSEGV\)$"),
        (-signal.SIGKILL, "the machine probably ran out of memory"),
        (-63, r"killed by signal 63 \("),
    ],
)
def test_an_exit_is_described(status: int, text: str) -> None:
    import re

    assert re.search(text, describe_exit(status))
