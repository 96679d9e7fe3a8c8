"""A batch fills while there is work, and never waits for longer than it may."""

from __future__ import annotations

import math

import pytest

from segue.model.graph import parse_graph
from segue.model.job_code import Batching
from segue.model.media_file import MediaFile
from segue.model.record import State
from segue.model.transitions import Result
from segue.worker.protocol import Done, Phase, Started, Task
from segue.worker.scheduler import ChildState, Scheduler
from segue.worker.task_queue import LATE_S

GRAPH = parse_graph("""
jobs:
  before: {run: "m:f", needs: {media: source}, writes: application/json}
  many: {run: "m:f", needs: {value: before}, writes: application/json, timeout_s: 5}
  beside: {run: "m:f", needs: {media: source}, writes: application/json}
  after: {run: "m:f", needs: {value: many}, writes: application/json}
  last: {run: "m:f", needs: {value: after}, writes: application/json}
""")
LINE = tuple(GRAPH.jobs)
SIZE = 4
WAIT_S = 1.0
MEDIA = MediaFile(uri="file:///a", version="1", order=1)


class Case:
    """A scheduler whose clock the test sets, and which knows which jobs take batches."""

    def __init__(
        self,
        *jobs: str,
        gpu_children: int = 0,
        batching: Batching | None = None,
    ) -> None:
        self.scheduler = Scheduler(
            GRAPH,
            processes=2,
            setup_s=100.0,
            warmup_s=0.0,
            batching=dict.fromkeys(
                jobs or ("many",), batching or Batching(size=SIZE, wait_s=WAIT_S)
            ),
            gpu_children={"many": gpu_children} if gpu_children else {},
        )
        self._task_id = 0

    def add(self, count: int, *run: str) -> None:
        numbers = range(self._task_id, self._task_id + count)
        self._task_id += count
        self.scheduler.add(
            Task(task_id=n, media=MEDIA, run=run or ("many",), inputs={"before": "u"})
            for n in numbers
        )

    def at(self, now_s: float) -> Case:
        self.scheduler.now_s = now_s
        return self

    def next(self, place: str | None = None) -> list[int] | None:
        """Give a child the next message, and return the ids of its tasks; None if there is none."""
        if not self.scheduler.may_assign(place, is_any_busy=True):
            return None
        self.child = ChildState(place)
        self.tasks = self.scheduler.assign(self.child)
        return [entry.task.task_id for entry in self.child.tasks.values()]

    def finish(self, child: ChildState) -> None:
        """Let a child finish what it has to run of its tasks."""
        for serial, entry in list(child.tasks.items()):
            results = [
                Result(job=job, state=State.DONE, artifacts={f"u-{job}": ""}, seconds=0.1)
                for job in entry.here or entry.list_left()
            ]
            self.scheduler.receive(child, [Done(serial, result) for result in results])

    def report(self) -> dict[int, dict[str, State]]:
        reports = self.scheduler.take_reports()
        return {r.task_id: {x.job: x.state for x in r.results} for r in reports}


def test_a_full_batch_runs_at_once_and_the_rest_waits() -> None:
    case = Case().at(10.0)
    case.add(SIZE + 1)
    assert case.next() == [0, 1, 2, 3]
    assert [(task.run, task.here) for task in case.tasks] == [(("many",), ("many",))] * SIZE
    assert case.next() is None
    assert case.scheduler.find_due_s() == 10.0 + WAIT_S
    assert case.at(10.9).next() is None
    assert case.at(11.0).next() == [4]
    assert case.scheduler.find_due_s() == math.inf


def test_the_first_file_of_a_batch_says_when_it_runs() -> None:
    case = Case().at(0.0)
    for number in range(3):
        case.at(0.4 * number).add(1)
        assert case.next() is None
    assert case.at(WAIT_S).next() == [0, 1, 2]


def test_a_file_that_comes_each_second_waits_for_no_other() -> None:
    case = Case()
    for number in range(5):
        case.at(1.1 * number).add(1)
        assert case.next() is None
        assert case.at(1.1 * number + WAIT_S).next() == [number]


def test_a_flush_runs_what_waits_until_more_is_added() -> None:
    case = Case().at(0.0)
    case.add(2)
    case.scheduler.flush()
    assert case.next() == [0, 1]
    case.add(1)
    assert case.next() is None
    assert case.at(WAIT_S).next() == [2]


def test_a_line_is_cut_at_the_job_that_takes_batches() -> None:
    case = Case().at(0.0)
    case.add(1, *LINE)
    assert case.next() == [0]
    [first] = case.tasks
    # What does not need the batch runs with what comes before it: the source is fetched once.
    assert (first.run, first.here) == (LINE, ("before", "beside"))
    case.finish(case.child)
    assert not case.child.tasks
    assert case.next() is None
    assert case.at(WAIT_S).next() == [0]
    [second] = case.tasks
    assert (second.run, second.here) == (("many", "after", "last"), ("many",))
    assert second.inputs["before"] == "u-before"
    case.finish(case.child)
    assert case.next() == [0]
    [third] = case.tasks
    assert (third.run, third.here) == (("after", "last"), ())
    case.finish(case.child)
    assert case.report() == {0: dict.fromkeys(LINE, State.DONE)}


def test_what_has_no_batch_is_sent_whole() -> None:
    case = Case().at(0.0)
    case.add(1, "before", "beside")
    assert case.next() == [0]
    assert case.tasks[0].here == ()


def test_a_batch_waits_for_the_files_that_are_on_their_way() -> None:
    case = Case().at(0.0)
    case.add(3, *LINE)
    children = []
    for number in range(3):
        assert case.next() == [number]
        children.append(case.child)
    case.finish(children[0])
    case.finish(children[1])
    case.at(WAIT_S - LATE_S / 2)
    case.add(1, *LINE)  # within the time
    assert case.at(WAIT_S).next() == [3]
    late = case.child
    assert case.next() is None
    case.finish(children[2])
    assert case.next() is None
    case.finish(late)
    assert case.next() == [0, 1, 2, 3]


def test_a_batch_does_not_wait_for_files_that_came_too_late() -> None:
    case = Case().at(0.0)
    case.add(1, *LINE)
    case.next()
    case.finish(case.child)
    case.at(WAIT_S + 0.01)
    case.add(1, *LINE)
    assert case.next() == [0]  # the batch
    assert case.tasks[0].here == ("many",)


def test_a_batch_does_not_wait_for_a_file_that_takes_unusually_long() -> None:
    case = Case().at(0.0)
    case.add(2, *LINE)
    case.next()
    quick = case.child
    case.next()
    case.finish(quick)
    case.at(WAIT_S)
    assert case.next() == [0]


def test_a_batch_does_not_wait_for_a_message_of_short_tasks_one_of_which_hangs() -> None:
    case = Case().at(0.0)
    case.scheduler.plain.mean_s = 0.001
    case.add(34, *LINE)
    hanging = case.next()
    assert hanging is not None
    assert len(hanging) == 9
    while case.next():
        case.scheduler.plain.mean_s = 0.001
        case.finish(case.child)
    assert case.at(WAIT_S).next() == [33]


def test_a_batch_does_not_wait_for_a_file_whose_line_has_failed() -> None:
    case = Case().at(0.0)
    case.add(2, *LINE)
    case.next()
    quick = case.child
    case.at(WAIT_S - 0.01).next()
    failed = case.child
    case.finish(quick)
    [serial] = failed.tasks
    results = [Result(job=job, state=State.FAILED) for job in LINE]
    case.at(WAIT_S).scheduler.receive(failed, [Done(serial, result) for result in results])
    assert case.next() is None  # the first file has just come
    assert case.at(2 * WAIT_S).next() == [0]


def test_the_jobs_below_a_failed_one_are_reported_before_the_rest_is_queued() -> None:
    case = Case().at(0.0)
    case.add(1, "many", "after", "last")
    case.at(WAIT_S).next()
    [serial] = case.child.tasks
    failed = [
        Done(serial, Result(job="many", state=State.FAILED)),
        Done(serial, Result(job="after", state=State.BLOCKED)),
        Done(serial, Result(job="last", state=State.BLOCKED)),
    ]
    case.scheduler.receive(case.child, failed)
    assert case.report() == {
        0: {"many": State.FAILED, "after": State.BLOCKED, "last": State.BLOCKED}
    }
    assert case.next() is None


def test_a_batch_goes_before_other_work() -> None:
    case = Case().at(0.0)
    case.add(2, "before")
    case.add(SIZE)
    assert case.next() == [2, 3, 4, 5]
    assert case.next() == [0]


def test_the_files_of_a_batch_that_crashed_run_alone_and_before_others() -> None:
    case = Case().at(0.0)
    case.add(SIZE + 1)
    assert case.next() == [0, 1, 2, 3]
    serials = list(case.child.tasks)
    started = Started(serials[0], "many", Phase.CALL, 0.0, serials[-1], SIZE)
    case.scheduler.receive(case.child, [started])
    assert case.scheduler.find_deadline_s(case.child) == SIZE * 5.0
    assert case.scheduler.find_late_s(case.child) == math.inf
    case.scheduler.handle_exit(case.child, -11)
    assert [case.next() for _ in range(SIZE + 1)] == [[0], [1], [2], [3], None]
    assert case.at(WAIT_S).next() == [4]


def test_files_of_a_batch_that_crashed_make_batches_of_the_next_job() -> None:
    case = Case("many", "last").at(0.0)
    case.add(SIZE, "many", "last")
    case.next()
    serials = list(case.child.tasks)
    started = Started(serials[0], "many", Phase.CALL, 0.0, serials[-1], SIZE)
    case.scheduler.receive(case.child, [started])
    case.scheduler.handle_exit(case.child, -11)
    for number in range(SIZE):
        assert case.next() == [number]
        case.finish(case.child)
    assert case.next() == [0, 1, 2, 3]
    assert {task.here for task in case.tasks} == {("last",)}


def test_a_setup_takes_no_tasks_from_a_batch() -> None:
    case = Case().at(0.0)
    case.add(SIZE)
    case.next()
    first = next(iter(case.child.tasks))
    case.scheduler.receive(case.child, [Started(first, "many", Phase.SETUP, 0.0, first)])
    assert case.scheduler.find_late_s(case.child) == math.inf


def test_a_child_on_a_gpu_gets_only_its_job() -> None:
    case = Case(gpu_children=1).at(0.0)
    assert case.scheduler.list_places() == ["many", None]
    case.add(SIZE, *LINE)
    case.add(SIZE)
    assert case.next("many") == [4, 5, 6, 7]
    assert case.next("many") is None
    assert case.next() == [0]
    assert case.tasks[0].here == ("before", "beside")


@pytest.mark.parametrize(
    ("gpu_children", "files"),
    [(0, 2 * SIZE + SIZE), (1, SIZE + SIZE), (3, SIZE + 3 * SIZE)],
)
def test_the_pool_asks_for_the_files_of_all_batches_that_run_or_fill(
    gpu_children: int, files: int
) -> None:
    assert Case(gpu_children=gpu_children).scheduler.count_batch_files() == files


def test_a_pool_without_batches_asks_for_no_more_files() -> None:
    plain = Scheduler(GRAPH, processes=2, setup_s=1.0, warmup_s=1.0)
    assert plain.count_batch_files() == 0
    assert plain.list_places() == [None]
    assert plain.find_due_s() == math.inf


def test_what_is_tried_alone_waits_for_a_batch_that_runs_and_then_for_no_file() -> None:
    case = Case().at(0.0)
    case.add(1)
    case.at(WAIT_S).next()
    child = case.child
    [serial] = child.tasks
    case.scheduler.receive(child, [Started(serial, "many", Phase.CALL, WAIT_S, serial)])
    case.scheduler.handle_exit(child, -9)
    assert not case.scheduler.may_assign(is_any_busy=True)
    assert case.scheduler.may_assign(is_any_busy=False)
    assert len(case.scheduler.assign(ChildState())) == 1
