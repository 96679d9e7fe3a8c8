"""The nursery's own process: forks children, kills them, buries them with all that they started.

It has imported what the children need, and runs none of it. It begins no thread: a process with
threads must not fork.
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
from segue.worker import numba_cache as compiled
from segue.worker.child import be_child
from segue.worker.fork_server_client import BORN, COMMAND, DEAD, KILL, NOTICE
from segue.worker.limits import adopt_orphans
from segue.worker.preload import ending_with, preload

if TYPE_CHECKING:
    from collections.abc import Sequence

    from segue.worker.child_config import Upbringing


def main(handle: int, upbringing: Upbringing, parent: int, untouched: Sequence[str]) -> None:
    """Be the nursery, in a new process; each child, too, lives its whole life in this function.

    ``untouched`` are modules that started threads when they were imported here.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the parent decides
    sys.stdout = sys.stderr
    adopt_orphans()
    make_importable(upbringing.graph)
    own = compiled.use_own(upbringing.folder)
    with ending_with(parent):
        preload(upbringing.graph, upbringing.artifacts, upbringing.jobs, untouched)
        if upbringing.leaves_compiled:
            compiled.leave([own])
    os.set_inheritable(handle, False)
    gc.collect()
    gc.freeze()  # the collector would write to, and so copy, every page that is shared
    newborn = Brood(socket.socket(fileno=handle)).serve()
    if newborn is not None:
        be_child(
            upbringing,
            newborn.child,
            channel=newborn.channel,
            cell=newborn.cell,
            parent=newborn.parent,
        )


class _Newborn(NamedTuple):
    """What a child learns at its birth."""

    child: int
    channel: int
    cell: int
    parent: int


class Brood:
    """All living children, as the nursery sees them."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._children: dict[int, int] = {}  # by process
        self._alarm, self._ring = socket.socketpair()

    def serve(self) -> _Newborn | None:
        """Fork and kill as the parent asks until it hangs up; returns in each child, too."""
        self._alarm.setblocking(False)
        self._ring.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._ring.fileno(), warn_on_full_buffer=False)
        while True:
            ready, _, _ = select.select([self._channel, self._alarm], [], [])
            if self._alarm in ready:
                self._alarm.recv(4096)
                self._bury()
            if self._channel in ready:
                data, handles, _, _ = socket.recv_fds(self._channel, COMMAND.size, 2)
                if len(data) < COMMAND.size:
                    break
                what, child = COMMAND.unpack(data)
                if what == KILL:
                    self._kill(child)
                elif (newborn := self._bear(child, *handles)) is not None:
                    return newborn
        signal.set_wakeup_fd(-1)
        self._kill_all()
        return None

    def _kill_all(self) -> None:
        for child in tuple(self._children.values()):
            self._kill(child)
        while self._children:
            self._children.pop(os.waitpid(-1, 0)[0], None)
        self._kill_strays()

    def _bear(self, child: int, channel: int, cell: int) -> _Newborn | None:
        """Fork; answers in the child."""
        parent = os.getpid()
        try:
            process = os.fork()
        except OSError as error:
            print(f"segue: no child process could be started: {error}", file=sys.stderr)
            self._tell(DEAD, child, os.EX_OSERR)
        else:
            if process == 0:
                os.setsid()
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for mine in (self._channel, self._alarm, self._ring):
                    mine.close()
                return _Newborn(child, channel, cell, parent)
            self._children[process] = child
            self._tell(BORN, child, process)
        os.close(channel)
        os.close(cell)
        return None

    def _kill(self, child: int) -> None:
        for process, found in self._children.items():
            if found == child:
                _kill_group(process)
                os.kill(process, signal.SIGKILL)  # just born, it has no group yet

    def _bury(self) -> None:
        """Tell of the dead, and kill what they have left behind."""
        with contextlib.suppress(ChildProcessError):
            while (dead := os.waitpid(-1, os.WNOHANG))[0]:
                process, status = dead
                child = self._children.pop(process, None)
                if child is not None:
                    _kill_group(process)
                self._kill_strays()
                if child is not None:
                    self._tell(DEAD, child, os.waitstatus_to_exitcode(status))

    def _kill_strays(self) -> None:
        """Kill orphans that have left their group and come to us, but none of a living child's."""
        try:
            with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
                below = [int(p) for p in file.read().split()]
        except OSError:  # not Linux
            return
        for process in below:
            with contextlib.suppress(ProcessLookupError):
                if process not in self._children and os.getsid(process) not in self._children:
                    os.kill(process, signal.SIGKILL)

    def _tell(self, what: bytes, child: int, value: int) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._channel.sendall(NOTICE.pack(what, child, value))


def _kill_group(process: int) -> None:
    # A dead process's number is not given away while its group has members.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process, signal.SIGKILL)
