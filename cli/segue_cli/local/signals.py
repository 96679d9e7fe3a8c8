"""Hears SIGINT and SIGTERM, where a loop can wait for them."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from types import FrameType
from typing import Any, Self

HEARD = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """Counts the signals that ask this process to end; a context manager, for the main thread.

    A handler only writes into a pipe: whatever the process is just doing, that is safe.
    """

    def __init__(self) -> None:
        self.count = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._before = {number: signal.signal(number, self._heard) for number in HEARD}
        return self

    def __exit__(self, *_error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._read)
        os.close(self._write)

    def _heard(self, _number: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._write, b"!")

    def wait(self, seconds: float) -> int:
        """Wait until a signal comes, or so long; returns how many have come so far."""
        if select.select([self._read], [], [], max(seconds, 0.0))[0]:
            self.count += len(os.read(self._read, 100))
        return self.count
