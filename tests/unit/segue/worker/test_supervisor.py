"""A system that is short of processes or of file descriptors costs no task."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator

import pytest

from segue.model.graph import parse_graph
from segue.model.media_file import MediaFile
from segue.worker.protocol import Channel, PoolConfig, Task, Update, decode_update
from segue.worker.supervisor import ChildHandle, ChildSupervisor

GRAPH = parse_graph(
    "jobs: {job: {run: 'm:f', needs: {media: source}, writes: application/json}}", path=None
)
TASK = Task(task_id=1, media=MediaFile(uri="file:///a", generation=1), run=("job",))


CONFIG = PoolConfig(
    graph=GRAPH,
    jobs=frozenset(),
    artifacts="artifacts",
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
    assert update.error.transient
    assert "cannot start a child process" in update.error.message


def test_with_a_child_its_task_waits_for_that(
    supervisor: ChildSupervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    end, other = socket.socketpair()
    with end, other:
        busy = ChildHandle(os.getpid(), Channel(end))
        supervisor._scheduler.add([TASK])
        supervisor._scheduler.assign(busy)
        supervisor._children[busy.process] = busy
        supervisor._scheduler.add([TASK])
        monkeypatch.setattr("os.fork", fail(errno.ENOMEM))
        supervisor._dispatch()
    assert supervisor._scheduler.error is None
    assert len(supervisor._scheduler.queue) == 1
