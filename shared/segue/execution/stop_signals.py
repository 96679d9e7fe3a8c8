"""Stops a stream worker at SIGTERM or SIGINT."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from segue.execution.stream_worker import StreamWorker


@contextlib.contextmanager
def stop_at_signals(find_worker: Callable[[], StreamWorker | None]) -> Iterator[None]:
    """Have running jobs finish at the first SIGTERM or SIGINT, and end at once at the second.

    ``find_worker`` returns None until there is a worker: then nothing has been pulled yet.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _frame: FrameType | None) -> None:
        for each in before:
            signal.signal(each, signal.default_int_handler)
        if worker := find_worker():
            worker.stop()
        else:
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(0)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
