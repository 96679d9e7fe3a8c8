"""The fork server's process: forks children, kills them, and reaps them with their descendants.

It has imported the modules that the children need, but runs no job. It starts no thread: a process
with threads must not fork.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import sys
from typing import TYPE_CHECKING, NamedTuple

from segue.model.job_code import make_importable
from segue.worker import numba_cache
from segue.worker.child import run_child
from segue.worker.fork_server_client import COMMAND, EXITED, KILL, NOTICE, STARTED
from segue.worker.limits import adopt_orphans
from segue.worker.preload import preload, watch_parent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from segue.worker.child_config import ChildConfig


def main(fd: int, config: ChildConfig, parent: int, excluded: Sequence[str]) -> None:
    """Run the fork server in a new process; each child, too, runs inside this call.

    ``excluded`` are modules that started threads when they were imported here.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the parent decides
    sys.stdout = sys.stderr
    adopt_orphans()
    make_importable(config.graph)
    cache = numba_cache.use_private_cache(config.folder)
    with watch_parent(parent):
        preload(config.graph, config.artifacts, config.jobs, excluded)
        if config.saves_numba_cache:
            numba_cache.save([cache])
    os.set_inheritable(fd, False)
    gc.collect()
    gc.freeze()  # else the collector writes to, and so copies, every shared page
    forked = ForkServer(socket.socket(fileno=fd)).serve()
    if forked is not None:
        run_child(
            config,
            forked.child,
            channel=forked.channel,
            memory=forked.memory,
            parent=forked.parent,
        )


class _ForkedChild(NamedTuple):
    """What a child gets from the fork server: its number, two file descriptors, its parent."""

    child: int
    channel: int
    memory: int
    parent: int


class ForkServer:
    """Forks, kills and reaps children, as the pool commands."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._children: dict[int, int] = {}  # by process
        self._alarm, self._ring = socket.socketpair()

    def serve(self) -> _ForkedChild | None:
        """Serve commands until the parent closes the channel; also return in each child."""
        self._alarm.setblocking(False)
        self._ring.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._ring.fileno(), warn_on_full_buffer=False)
        while True:
            ready, _, _ = select.select([self._channel, self._alarm], [], [])
            if self._alarm in ready:
                self._alarm.recv(4096)
                self._reap()
            if self._channel in ready:
                data, fds, _, _ = socket.recv_fds(self._channel, COMMAND.size, 2)
                if len(data) < COMMAND.size:
                    break
                command, child = COMMAND.unpack(data)
                if command == KILL:
                    self._kill(child)
                elif (forked := self._fork_child(child, *fds)) is not None:
                    return forked
        signal.set_wakeup_fd(-1)
        self._kill_all()
        return None

    def _kill_all(self) -> None:
        for child in tuple(self._children.values()):
            self._kill(child)
        while self._children:
            self._children.pop(os.waitpid(-1, 0)[0], None)
        self._kill_orphans()

    def _fork_child(self, child: int, channel: int, memory: int) -> _ForkedChild | None:
        """Fork a child; return its settings in the child, and None in the fork server."""
        parent = os.getpid()
        try:
            process = os.fork()
        except OSError as error:
            print(f"segue: cannot fork a child process: {error}", file=sys.stderr)
            self._notify(EXITED, child, os.EX_OSERR)
        else:
            if process == 0:
                os.setsid()
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for inherited in (self._channel, self._alarm, self._ring):
                    inherited.close()
                return _ForkedChild(child, channel, memory, parent)
            self._children[process] = child
            self._notify(STARTED, child, process)
        os.close(channel)
        os.close(memory)
        return None

    def _kill(self, child: int) -> None:
        for process, found in self._children.items():
            if found == child:
                _kill_group(process)
                os.kill(process, signal.SIGKILL)  # just forked, it has no group yet

    def _reap(self) -> None:
        """Reap exited children, kill the processes that they left, and notify the parent."""
        with contextlib.suppress(ChildProcessError):
            while (exited := os.waitpid(-1, os.WNOHANG))[0]:
                process, status = exited
                child = self._children.pop(process, None)
                if child is not None:
                    _kill_group(process)
                self._kill_orphans()
                if child is not None:
                    self._notify(EXITED, child, os.waitstatus_to_exitcode(status))

    def _kill_orphans(self) -> None:
        """Kill orphans that left their process group, except descendants of running children."""
        try:
            with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
                below = [int(p) for p in file.read().split()]
        except OSError:  # not Linux
            return
        for process in below:
            with contextlib.suppress(ProcessLookupError):
                if process not in self._children and os.getsid(process) not in self._children:
                    os.kill(process, signal.SIGKILL)

    def _notify(self, kind: bytes, child: int, value: int) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._channel.sendall(NOTICE.pack(kind, child, value))


def _kill_group(process: int) -> None:
    # The kernel does not reuse a process's number while its group has members.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process, signal.SIGKILL)
