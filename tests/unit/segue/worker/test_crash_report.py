"""Each death has one cause, and only that is blamed."""

from __future__ import annotations

import signal

import pytest

from segue.errors import Kind
from segue.model.graph import parse
from segue.model.ledger import Result
from segue.model.media_file import MediaFile
from segue.model.record import State
from segue.worker.crash_report import MAX_DEATHS, MAX_STILLBIRTHS, Inquest, Remains, ended
from segue.worker.shared_state import Phase, Place
from segue.worker.task import Report, Task
from segue.worker.task_table import Docket, Item
from segue.worker.timeouts import Deadlines

GRAPH = parse("""
jobs:
  first: {run: "m:f", needs: {media: source}, writes: application/json, timeout_s: 5}
  second: {run: "m:f", needs: {media: first}, writes: application/json, timeout_s: 7}
  third: {run: "m:f", needs: {media: second}, writes: application/json}
""")
NAMES = tuple(GRAPH.jobs)
MEDIA = MediaFile(uri="file:///a", generation=1)


class Court:
    def __init__(self) -> None:
        self.docket = Docket(GRAPH)
        self.deadlines = Deadlines(GRAPH, setup_s=100.0, warmup_s=10.0)
        self.inquest = Inquest(GRAPH, self.docket, self.deadlines)
        self.docket.add([Task(ticket=n, media=MEDIA, run=NAMES) for n in range(4)])
        self.items: dict[int, Item] = {n: self.docket.queue.popleft() for n in range(1, 5)}

    def hold(self, place: Place | None, status: int = -11, **more: object) -> Exception | None:
        remains = {"taken": 2, "items": self.items, "killed": None, "has_worked": True, **more}
        return self.inquest.hold(Remains(status=status, place=place, **remains))  # type: ignore[arg-type]

    def states(self) -> dict[int, dict[str, State]]:
        return {
            r.ticket: {x.job: x.state for x in r.results}
            for r in self.docket.reports()
            if r.results
        }


def place(job: int, phase: Phase = Phase.CALL, *, serial: int = 2, files: int = 1) -> Place:
    return Place(serial, job, phase, files, 50.0)


def test_the_job_that_was_run_is_blamed_for_its_file_and_what_is_below_is_blocked() -> None:
    court = Court()
    court.docket.record(court.items[2], Result(job="first", state=State.DONE, artifact="u"))
    assert court.hold(place(1)) is None
    [report] = court.docket.reports()
    assert isinstance(report, Report)
    assert report.finished
    assert [(r.job, r.state) for r in report.results] == [
        ("first", State.DONE),
        ("second", State.FAILED),
        ("third", State.BLOCKED),
    ]


def test_a_job_that_was_stopped_is_late_and_not_crashed() -> None:
    court = Court()
    court.hold(place(1), status=-9, killed=(place(1), 7.5))
    [report] = court.docket.reports()
    error = report.results[0].error
    assert error is not None
    assert error.kind == Kind.TIMEOUT
    assert "7.5 s" in error.message
    assert "timeout_s is 7" in error.message
    assert report.results[0].seconds == 7.5


def test_a_job_that_began_when_another_was_killed_is_innocent() -> None:
    court = Court()
    court.hold(place(2), status=-9, killed=(place(1), 7.5))
    assert court.states() == {}


def test_a_batch_is_tried_again_file_by_file() -> None:
    court = Court()
    court.hold(place(0, serial=1, files=2))
    assert court.states() == {}
    assert [item.alone for item in court.items.values()] == [True, True, False, False]


def test_a_job_whose_result_was_told_is_not_blamed_for_what_came_after() -> None:
    court = Court()
    court.docket.record(court.items[2], Result(job="first", state=State.DONE))
    court.docket.reports()
    court.hold(place(0))
    assert court.states() == {}


def test_a_death_between_jobs_is_nobodys_fault_until_it_goes_on() -> None:
    court = Court()
    for _ in range(MAX_DEATHS):
        assert court.hold(None) is None
        assert court.states() == {}
    court.hold(None)
    states = court.states()
    assert list(states) == [0]  # the first that it had taken up
    assert states[0]["first"] is State.FAILED


def test_children_that_die_at_once_stop_the_run() -> None:
    court = Court()
    for _ in range(MAX_STILLBIRTHS):
        assert court.hold(None, taken=0, has_worked=False) is None
    error = court.hold(None, taken=0, has_worked=False)
    assert "before they had done anything" in str(error)


def test_a_setup_may_die_once() -> None:
    court = Court()
    assert court.hold(place(1, Phase.SETUP)) is None
    court.inquest.worked("second")
    assert court.hold(place(1, Phase.SETUP)) is None
    assert "job 'second' cannot start" in str(court.hold(place(1, Phase.SETUP)))
    assert court.states() == {}


def test_a_first_call_has_more_time_until_one_was_seen() -> None:
    deadlines = Deadlines(GRAPH, setup_s=100.0, warmup_s=10.0)
    assert deadlines.limit_s(place(0, Phase.SETUP)) == 100.0
    assert deadlines.limit_s(place(0, Phase.COLD)) == 15.0
    assert deadlines.limit_s(place(0, files=3)) == 15.0
    deadlines.warmed("first", 2.0)
    assert deadlines.limit_s(place(0, Phase.COLD)) == 9.0
    deadlines.warmed("second")
    assert deadlines.limit_s(place(1, Phase.COLD)) == 7.0


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (3, "ended by exit code 3"),
        (-signal.SIGSEGV, r"killed by signal 11 \(SIGSEGV\)$"),
        (-signal.SIGKILL, "the kernel ran out of memory"),
        (-63, r"killed by signal 63 \("),
    ],
)
def test_an_end_is_put_into_words(status: int, said: str) -> None:
    import re

    assert re.search(said, ended(status))
