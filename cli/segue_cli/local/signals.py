"""Receives SIGINT and SIGTERM for a loop that waits for them."""

from __future__ import annotations

import signal
import time
from types import FrameType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)
TICK_S = 0.05


class Signals:
    """Counts the signals that ask this process to end; a context manager, for the main thread."""

    def __init__(self) -> None:
        self.count = 0
        self._seen = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(self, *_error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1  # a handler must not take a lock, as to wake the loop would

    def wait(self, seconds: float) -> int:
        """Wait up to so many seconds for a signal, and return the number received so far."""
        end_s = time.monotonic() + seconds
        while self.count == self._seen and (left_s := end_s - time.monotonic()) > 0:
            time.sleep(min(left_s, TICK_S))
        self._seen = self.count
        return self._seen
