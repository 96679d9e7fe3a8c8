"""Memory that a child shares with its parent: what it is at, and what it has not sent yet.

The parent reads it whatever the child is doing, even when the child is dead. So a deadline costs
the child no system call, and a crash loses no result: they are put here one by one, and sent
together.

Each word is written by one side only, and in one piece. A child that takes up orders writes
``taken``, then reads ``revoked``; a parent that takes orders back writes ``revoked``, waits for
longer than any processor delays a write, then reads ``taken``. So the two never both believe that
they have an order.
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

    SETUP = 1  # importing, constructing, setup()
    COLD = 2  # the first call in this process, in which things compile and load
    CALL = 3


_PHASES = frozenset(Phase)


class Place(NamedTuple):
    """Where a child is: in which job of which order, and since when."""

    serial: int
    job: int  # its number in the graph
    phase: Phase
    files: int  # more than one in a batch
    since_s: float  # on the monotonic clock, which all processes share


def new_handle() -> int:
    """Return a handle of memory for a child; it is gone with the last process that has it."""
    if hasattr(os, "memfd_create"):
        handle = os.memfd_create("segue")
    else:
        with tempfile.TemporaryFile() as file:
            handle = os.dup(file.fileno())
    os.ftruncate(handle, _SIZE_BYTES)
    return handle


class Cell:
    """The shared memory of one child, as both sides see it."""

    def __init__(self, handle: int) -> None:
        self._map = mmap.mmap(handle, _SIZE_BYTES)
        self._view = memoryview(self._map)
        self._words = self._view[:_WORDS_BYTES].cast("Q")
        self._times = self._view[:_WORDS_BYTES].cast("d")
        self._unsent = self._view[_WORDS_BYTES:]

    def close(self) -> None:
        """Let go of the memory."""
        for view in (self._words, self._times, self._unsent, self._view):
            view.release()
        self._map.close()

    # The child's side.

    def enter(self, serial: int, job: int, phase: int, since_s: float, files: int = 1) -> None:
        """Say what begins now."""
        words = self._words
        # A parent that sees the new place must not see the old time, and would kill at once.
        self._times[_SINCE] = since_s
        words[_FILES] = files
        words[_AT] = serial << 20 | job << 4 | phase

    def leave(self) -> None:
        """Say that no job is being run."""
        self._words[_AT] = 0

    def take(self, serial: int) -> bool:
        """Take up the orders as far as this one; answers False if they were revoked."""
        self._words[_TAKEN] = serial
        return self._words[_REVOKED] < serial

    def put(self, frame: bytes) -> bool:
        """Keep a frame to be sent; answers False if there is no room."""
        start = self._words[_UNSENT]
        end = start + len(frame)
        if end > UNSENT_BYTES:
            return False
        self._unsent[start:end] = frame
        self._words[_UNSENT] = end  # now the frame counts, and is whole
        return True

    def flush(self, channel: socket.socket) -> None:
        """Send what is kept, if the other side still listens."""
        size = self._words[_UNSENT]
        if size:
            channel.sendall(self._unsent[:size])
            self.sent(size)

    def sent(self, size: int) -> None:
        """Forget what is kept; so many bytes more have been sent."""
        self._words[_UNSENT] = 0
        self._words[_SENT] += size

    # The parent's side.

    @property
    def taken(self) -> int:
        """The last order that the child took up."""
        return self._words[_TAKEN]

    def revoke(self, serial: int) -> int:
        """Take back the orders as far as this one; returns the last that the child has taken up."""
        self._words[_REVOKED] = serial
        time.sleep(_SETTLING_S)
        return self._words[_TAKEN]

    def place(self) -> Place | None:
        """Where the child is; None between jobs, and when it goes on just now."""
        at = self._words[_AT]
        since_s, files = self._times[_SINCE], self._words[_FILES]
        if not at or at != self._words[_AT] or at & 0xF not in _PHASES:
            return None
        return Place(at >> 20, at >> 4 & 0xFFFF, Phase(at & 0xF), files, since_s)

    def unsent(self, heard: int) -> bytes:
        """What the child keeps, but for what was heard; nothing if it is just being sent."""
        words = self._words
        sent = words[_SENT]
        if heard < sent:
            return b""  # what lies between is on its way
        data = bytes(self._unsent[: words[_UNSENT]])
        return data[heard - sent :] if words[_SENT] == sent else b""
