"""Starts a fork server for a pool, and asks it to fork and kill children.

The fork server has imported what children need: a child starts in milliseconds and shares that
memory. ``multiprocessing``'s fork server imports the parent's main module (such as Beam's) into
each child, has one list of preloaded modules per process, and inherits the environment unchanged;
so each pool has a fork server of its own. When a child exits, all processes that it started are
killed; when the fork server or the pool's process exits, all children are killed.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import struct
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

from segue.errors import ConfigurationError

if TYPE_CHECKING:
    from segue.worker.child_config import ChildConfig

# Many threads in each of many processes compete for the cores. The order of a set of strings
# changes from run to run unless Python's hash seed is fixed, and it might show in an artifact.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
}
COMMAND = struct.Struct("<cq")  # command, child
NOTICE = struct.Struct("<cqq")  # kind, child, its process or status
FORK, KILL, STARTED, EXITED = b"f", b"k", b"s", b"e"
CLOSE_S = 5.0
_START = """
import pickle, sys
with open(sys.argv[2], "rb") as file:
    sys.path[:] = pickle.load(file)
    from segue.worker.fork_server import main
    main(int(sys.argv[1]), pickle.load(file), int(sys.argv[3]), sys.argv[4:])
"""


class ChildStarted(NamedTuple):
    """A child has been forked."""

    child: int
    process: int


class ChildExited(NamedTuple):
    """A child has exited, and all processes that it started are dead."""

    child: int
    status: int  # exit code, or minus the signal


class ForkServerClient:
    """Sends commands to the fork server, and receives notices of started and exited children."""

    def __init__(self, config: ChildConfig) -> None:
        if not hasattr(os, "fork"):
            raise ConfigurationError(
                f"{sys.platform} cannot fork processes; run Segue on Linux, macOS or WSL"
            )
        self.channel, server_end = socket.socketpair()
        try:
            path = os.path.join(config.folder, "child_config")
            with open(path, "wb") as file:
                pickle.dump(sys.path, file)
                pickle.dump(config, file)
            self._process = subprocess.Popen(
                [sys.executable, "-c", _START, str(server_end.fileno()), path, str(os.getpid())],
                env={**ENVIRONMENT, **os.environ},
                pass_fds=[server_end.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=_standard_error(),  # jobs' output must not mix with Segue's
                start_new_session=True,
            )
        finally:
            server_end.close()
        self._rest = b""
        self.has_forked = False

    def fork_child(self, child: int, channel: int, memory: int) -> None:
        """Ask for a child that gets these two file descriptors."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            socket.send_fds(self.channel, [COMMAND.pack(FORK, child)], [channel, memory])

    def kill(self, child: int) -> None:
        """Ask to kill a child and all processes that it started; a notice of its exit follows."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.channel.sendall(COMMAND.pack(KILL, child))

    def receive_notices(self) -> list[ChildStarted | ChildExited] | None:
        """Return the notices received; None if the fork server itself has exited."""
        try:
            data = self.channel.recv(2**16)
        except (ConnectionResetError, BrokenPipeError):
            data = b""
        if not data:
            return None
        data = self._rest + data
        whole = len(data) // NOTICE.size * NOTICE.size
        self._rest = data[whole:]
        self.has_forked = self.has_forked or whole > 0
        return [
            ChildStarted(child, value) if kind == STARTED else ChildExited(child, value)
            for kind, child, value in NOTICE.iter_unpack(data[:whole])
        ]

    def close(self, *, is_graceful: bool) -> int:
        """Stop the fork server and its children; return its exit code. Kill it unless graceful."""
        self.channel.close()
        if not is_graceful:
            self._process.kill()
        try:
            return self._process.wait(timeout=CLOSE_S)
        except subprocess.TimeoutExpired:  # perhaps a signal has stopped it
            self._process.kill()
            return self._process.wait()


def _standard_error() -> int:
    try:
        os.fstat(2)
    except OSError:
        return subprocess.DEVNULL
    return 2
