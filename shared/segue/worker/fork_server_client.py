"""The process from which all children are forked, as their parent sees it.

It has imported what they need, so a child starts in milliseconds, and they share that memory.
Python's own fork server would import the parent's main module into each child (Beam's, say), has
one list of imports for all of a process, and takes the environment as it happens to be; so this is
one of our own, one for each pool. A child's death takes with it all that the child started; the
death of this process, or of the pool's, takes all children.
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
    from segue.worker.child_config import Upbringing

# Many threads a process times many processes fight for the cores. A set of strings has an order
# that changes from run to run unless Python's hashes are the same, and an artifact might show it.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
}
COMMAND = struct.Struct("<cq")  # what, child
NOTICE = struct.Struct("<cqq")  # what, child, its process or status
BEAR, KILL, BORN, DEAD = b"b", b"k", b"n", b"d"
CLOSE_S = 5.0
_START = """
import pickle, sys
with open(sys.argv[2], "rb") as file:
    sys.path[:] = pickle.load(file)
    from segue.worker.fork_server import main
    main(int(sys.argv[1]), pickle.load(file), int(sys.argv[3]), sys.argv[4:])
"""


class Birth(NamedTuple):
    """A child has been forked."""

    child: int
    process: int


class Death(NamedTuple):
    """A child is dead, and all that it started."""

    child: int
    status: int  # exit code, or minus the signal


class Nursery:
    """The parent's end: asks for children and kills, hears of births and deaths."""

    def __init__(self, upbringing: Upbringing) -> None:
        if not hasattr(os, "fork"):
            raise ConfigurationError(
                f"{sys.platform} cannot fork processes; run Segue on Linux, macOS or WSL"
            )
        self.channel, theirs = socket.socketpair()
        try:
            path = os.path.join(upbringing.folder, "upbringing")
            with open(path, "wb") as file:
                pickle.dump(sys.path, file)
                pickle.dump(upbringing, file)
            self._process = subprocess.Popen(
                [sys.executable, "-c", _START, str(theirs.fileno()), path, str(os.getpid())],
                env={**ENVIRONMENT, **os.environ},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=_standard_error(),  # what a job prints is not part of Segue's output
                start_new_session=True,
            )
        finally:
            theirs.close()
        self._rest = b""
        self.has_borne = False

    def bear(self, child: int, channel: int, cell: int) -> None:
        """Ask for a child with these two handles."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            socket.send_fds(self.channel, [COMMAND.pack(BEAR, child)], [channel, cell])

    def kill(self, child: int) -> None:
        """Ask for a child, and all that it started, to be killed; its death is told."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.channel.sendall(COMMAND.pack(KILL, child))

    def notices(self) -> list[Birth | Death] | None:
        """Receive what has happened; None if this process is dead itself."""
        try:
            data = self.channel.recv(2**16)
        except (ConnectionResetError, BrokenPipeError):
            data = b""
        if not data:
            return None
        data = self._rest + data
        whole = len(data) // NOTICE.size * NOTICE.size
        self._rest = data[whole:]
        self.has_borne = self.has_borne or whole > 0
        return [
            Birth(child, value) if what == BORN else Death(child, value)
            for what, child, value in NOTICE.iter_unpack(data[:whole])
        ]

    def close(self, *, gently: bool) -> int:
        """End it with all its children, and return its exit code; ``gently`` lets it do so."""
        self.channel.close()
        if not gently:
            self._process.kill()
        try:
            return self._process.wait(timeout=CLOSE_S)
        except subprocess.TimeoutExpired:  # it was stopped, perhaps
            self._process.kill()
            return self._process.wait()


def _standard_error() -> int:
    try:
        os.fstat(2)
    except OSError:
        return subprocess.DEVNULL
    return 2
