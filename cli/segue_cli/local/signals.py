"""Receives SIGINT and SIGTERM for a loop that waits for them."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from types import FrameType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """Counts the signals that ask this process to end; a context manager, for the main thread.

    The handler only writes to a pipe, which is safe at any time.
    """

    def __init__(self) -> None:
        self.count = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(self, *_error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._read)
        os.close(self._write)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._write, b"!")

    def wait(self, seconds: float) -> int:
        """Wait up to so many seconds for a signal, and return the number received so far."""
        if select.select([self._read], [], [], max(seconds, 0.0))[0]:
            self.count += len(os.read(self._read, 100))
        return self.count
