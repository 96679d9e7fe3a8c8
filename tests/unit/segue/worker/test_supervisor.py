"""A system that is short of processes costs no task, and what a child has sent is not lost."""

from __future__ import annotations

import errno
import os
import selectors
import socket
import time
from collections.abc import Callable, Iterator

import msgspec
import pytest

from segue.errors import Kind
from segue.model.graph import parse_graph
from segue.model.media_file import MediaFile
from segue.model.record import State
from segue.model.transitions import Result
from segue.worker.job_output import ChildPipe
from segue.worker.protocol import (
    Channel,
    Done,
    Phase,
    PoolConfig,
    Started,
    Submission,
    Task,
    Update,
    decode_update,
)
from segue.worker.supervisor import ChildHandle, ChildSupervisor
from segue.worker.task_queue import MESSAGE_S

GRAPH = parse_graph("jobs: {job: {run: 'm:f', needs: {media: source}, writes: application/json}}")
TASK = Task(task_id=1, media=MediaFile(uri="file:///a", version="1", order=1), run=("job",))


CONFIG = PoolConfig(
    graph=GRAPH,
    jobs=frozenset(),
    artifacts="artifacts",
    ledger=None,
    saves_numba_cache=False,
    folder="scratch",
    processes=2,
    setup_s=1.0,
    warmup_s=1.0,
    max_growth_gib=1.0,
    max_tasks=1,
)


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Channel(ours), Channel(theirs)


@pytest.fixture
def pool(ends: tuple[Channel, Channel]) -> Channel:
    """The pool's end of its channel to the supervisor."""
    return ends[0]


@pytest.fixture
def supervisor(ends: tuple[Channel, Channel]) -> Iterator[ChildSupervisor]:
    supervisor = ChildSupervisor(CONFIG, ends[1])
    with supervisor._alarm, supervisor._ring, supervisor._selector:
        yield supervisor


def fail(number: int) -> Callable[[], int]:
    def call() -> int:
        raise OSError(number, os.strerror(number))

    return call


@pytest.mark.parametrize(
    ("call", "number"), [("os.fork", errno.EAGAIN), ("socket.socketpair", errno.EMFILE)]
)
def test_without_any_child_the_pool_is_unavailable(
    supervisor: ChildSupervisor,
    pool: Channel,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    number: int,
) -> None:
    supervisor._scheduler.add([TASK])
    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(call, fail(number))
    supervisor._dispatch()
    assert len(os.listdir("/proc/self/fd")) == before
    supervisor._report()
    [message] = pool.receive() or []
    update: Update = decode_update(message)
    assert update.error is not None
    assert update.error.kind == Kind.UNAVAILABLE
    assert "cannot start a child process" in update.error.message


def test_with_a_child_its_task_waits_for_that(
    supervisor: ChildSupervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    end, other = socket.socketpair()
    with end, other:
        busy = ChildHandle(os.getpid(), Channel(end), ChildPipe(b"mark\n"))
        supervisor._scheduler.add([TASK])
        supervisor._scheduler.assign(busy)
        supervisor._children[busy.process] = busy
        supervisor._scheduler.add([TASK])
        monkeypatch.setattr("os.fork", fail(errno.ENOMEM))
        supervisor._dispatch()
    assert supervisor._scheduler.error is None
    assert len(supervisor._scheduler.plain.entries) == 1


@pytest.fixture
def child(supervisor: ChildSupervisor) -> Iterator[tuple[ChildHandle, Channel]]:
    """A child that runs two tasks, and its end of the channel."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        # No process has this number.
        child = ChildHandle(2**30, Channel(ours), ChildPipe(b"mark\n"))
        supervisor._selector.register(child.output.fd, selectors.EVENT_READ, child)
        supervisor._selector.register(ours, selectors.EVENT_READ, child)
        supervisor._children[child.process] = child
        supervisor._scheduler.plain.add_duration(MESSAGE_S / 2)
        supervisor._scheduler.add([msgspec.structs.replace(TASK, task_id=n) for n in range(8)])
        supervisor._scheduler.assign(child)
        supervisor._scheduler.receive(child, [Started(1, "job", Phase.CALL, 0.0, 1)])
        channel = Channel(theirs)
        done = Done(1, Result(job="job", state=State.DONE))
        channel.send([done, Started(2, "job", Phase.CALL, 1e9, 2)])
        yield child, channel


def test_a_task_is_queued_when_it_comes_however_long_nothing_has_come_before(
    supervisor: ChildSupervisor, pool: Channel
) -> None:
    supervisor._selector.register(supervisor._pool.socket, selectors.EVENT_READ)
    supervisor._scheduler.now_s = 0.0  # the last time that the supervisor looked
    before_s = time.monotonic()
    pool.send(Submission([TASK]))
    supervisor._wait(10.0)
    [entry] = supervisor._scheduler.plain.entries
    assert before_s <= entry.queued_s <= time.monotonic()


def test_a_child_that_has_gone_on_is_not_past_its_deadline(
    supervisor: ChildSupervisor, child: tuple[ChildHandle, Channel]
) -> None:
    supervisor._check_children(1e6)
    assert child[0].kill is None
    [report] = supervisor._scheduler.take_reports()
    assert report.results[0].state is State.DONE


def test_what_a_child_sent_last_decides_what_its_exit_means(
    supervisor: ChildSupervisor, child: tuple[ChildHandle, Channel]
) -> None:
    del supervisor._children[child[0].process]
    supervisor._handle_exit(child[0], -11)  # while another process still has its end
    reports = supervisor._scheduler.take_reports()
    assert [(r.task_id, r.results[0].state) for r in reports] == [
        (0, State.DONE),
        (1, State.FAILED),
    ]
    assert child[0] not in [key.data for key in supervisor._selector.get_map().values()]


def read_updates(supervisor: ChildSupervisor, pool: Channel) -> list[Update]:
    """Let the supervisor send all that it has, and return what arrives."""
    updates = []
    while supervisor._pool.has_unsent:
        updates += [decode_update(message) for message in pool.receive() or []]
        supervisor._pool.flush()
    supervisor._reported_s = 0.0
    supervisor._report()
    return updates + [decode_update(message) for message in pool.receive() or []]


def test_lines_and_progress_are_dropped_while_the_pool_reads_nothing(
    supervisor: ChildSupervisor, pool: Channel, child: tuple[ChildHandle, Channel]
) -> None:
    while not supervisor._pool.has_unsent:
        supervisor._send_update(Update(lines=[]))
        supervisor._pool.send(Update(error=None))
    os.write(child[0].output._child_end, b"a\nb\nc\n")
    supervisor._read_output(child[0])
    assert supervisor._lines == []
    child[0].output.page.report(0.5, "working")
    supervisor._look(2e9)
    assert supervisor._new_running is None
    os.write(child[0].output._child_end, b"d\n")
    updates = read_updates(supervisor, pool)
    lines = [line.text for update in updates for line in update.lines]
    assert lines == ["[3 lines are left out here]"]
    supervisor._read_output(child[0])
    supervisor._look(3e9)
    [update] = read_updates(supervisor, pool)
    assert [line.text for line in update.lines] == ["d"]
    assert update.running is not None
    assert [call.job for call in update.running] == ["job"]


def test_a_call_is_reported_once_it_has_been_running_for_a_while(
    supervisor: ChildSupervisor, pool: Channel, child: tuple[ChildHandle, Channel]
) -> None:
    supervisor._receive(child[0])  # task 2 starts at 1e9
    supervisor._look(1e9 + 0.1)
    assert supervisor._new_running is None
    supervisor._look(1e9 + 0.7)
    [update] = read_updates(supervisor, pool)
    [call] = update.running or []
    assert (call.job, call.uris, call.since_s) == ("job", ("file:///a",), 1e9)
    assert (call.fraction, call.text) == (None, "")
    child[1].send([Done(2, Result(job="job", state=State.DONE))])
    supervisor._receive(child[0])
    supervisor._look(1e9 + 1.3)
    updates = read_updates(supervisor, pool)
    assert [update.running for update in updates] == [[]]
