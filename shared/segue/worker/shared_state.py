"""Memory that a child shares with its parent: what the child is doing, and its unsent frames.

The parent can read it whatever the child is doing, even after the child has crashed. So a timeout
costs the child no system call, and a crash loses no result: results are stored here one by one, and
sent together.

Each word is written by one side only, and atomically. A child that takes orders writes ``taken``,
then reads ``revoked``; a parent that revokes orders writes ``revoked``, waits longer than any
processor delays a write, then reads ``taken``. So an order never has two owners.
"""

from __future__ import annotations

import mmap
import os
import socket
import tempfile
import time
from enum import IntEnum
from typing import NamedTuple

UNSENT_BYTES = 64 * 1024
_WORDS_BYTES = 128
_SIZE_BYTES = _WORDS_BYTES + UNSENT_BYTES
# The buffers that delay a processor's writes drain within microseconds.
_SETTLING_S = 0.0005

_AT, _SINCE, _FILES, _TAKEN, _REVOKED, _SENT, _UNSENT = range(7)


class Phase(IntEnum):
    """What a child is doing with a job."""

    SETUP = 1  # import, construction, setup()
    COLD = 2  # the first call in this process, which compiles and loads things
    CALL = 3


_PHASES = frozenset(Phase)


class Progress(NamedTuple):
    """What a child is doing: which job of which order, and since when."""

    serial: int
    job: int  # its index in the graph
    phase: Phase
    files: int  # more than one in a batch
    since_s: float  # on the monotonic clock, which is the same in all processes


def create_memory() -> int:
    """Return a file descriptor of new shared memory, which is freed with its last process."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("segue")
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, _SIZE_BYTES)
    return fd


class SharedState:
    """The shared memory of one child; both sides use this class."""

    def __init__(self, fd: int) -> None:
        self._map = mmap.mmap(fd, _SIZE_BYTES)
        self._view = memoryview(self._map)
        self._words = self._view[:_WORDS_BYTES].cast("Q")
        self._times = self._view[:_WORDS_BYTES].cast("d")
        self._unsent = self._view[_WORDS_BYTES:]

    def close(self) -> None:
        """Release the memory."""
        for view in (self._words, self._times, self._unsent, self._view):
            view.release()
        self._map.close()

    # The child's side.

    def set_progress(
        self, serial: int, job: int, phase: int, since_s: float, files: int = 1
    ) -> None:
        """Record which job starts now."""
        words = self._words
        # Time first: a parent that read the new job with the old time would kill the child.
        self._times[_SINCE] = since_s
        words[_FILES] = files
        words[_AT] = serial << 20 | job << 4 | phase

    def clear_progress(self) -> None:
        """Record that no job is running."""
        self._words[_AT] = 0

    def take(self, serial: int) -> bool:
        """Take all orders up to this one; return False if they were revoked."""
        self._words[_TAKEN] = serial
        return self._words[_REVOKED] < serial

    def append(self, frame: bytes) -> bool:
        """Buffer a frame to be sent; return False if there is no room."""
        start = self._words[_UNSENT]
        end = start + len(frame)
        if end > UNSENT_BYTES:
            return False
        self._unsent[start:end] = frame
        self._words[_UNSENT] = end  # only now is the frame visible, and it is complete
        return True

    def flush(self, channel: socket.socket) -> None:
        """Send the buffered frames."""
        size = self._words[_UNSENT]
        if size:
            channel.sendall(self._unsent[:size])
            self.mark_sent(size)

    def mark_sent(self, size: int) -> None:
        """Clear the buffer, and add to the number of bytes sent."""
        self._words[_UNSENT] = 0
        self._words[_SENT] += size

    # The parent's side.

    @property
    def last_taken(self) -> int:
        """The last order that the child has taken."""
        return self._words[_TAKEN]

    def revoke(self, serial: int) -> int:
        """Revoke all orders up to this one; return the last one that the child has taken."""
        self._words[_REVOKED] = serial
        time.sleep(_SETTLING_S)
        return self._words[_TAKEN]

    def read_progress(self) -> Progress | None:
        """Return what the child is doing; None between jobs, or while it is changing."""
        at = self._words[_AT]
        since_s, files = self._times[_SINCE], self._words[_FILES]
        if not at or at != self._words[_AT] or at & 0xF not in _PHASES:
            return None
        return Progress(at >> 20, at >> 4 & 0xFFFF, Phase(at & 0xF), files, since_s)

    def read_unsent(self, read_bytes: int) -> bytes:
        """Return the buffered bytes that were not read before; none while they are being sent."""
        words = self._words
        sent = words[_SENT]
        if read_bytes < sent:
            return b""  # the bytes in between are still in the channel
        data = bytes(self._unsent[: words[_UNSENT]])
        return data[read_bytes - sent :] if words[_SENT] == sent else b""
