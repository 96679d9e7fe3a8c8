"""Stops a stream worker at SIGTERM or SIGINT."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from segue.execution.stream_worker import StreamWorker


@contextlib.contextmanager
def stop_at_signals() -> Iterator[Callable[[StreamWorker], None]]:
    """Have running jobs finish at the first SIGTERM or SIGINT, and end at once at the second.

    Yields a function that takes the worker, once it is open. A signal that comes before that stops
    it then: an exception could get lost in any code that it is raised in, such as Beam's.
    """
    is_stopped = False
    workers: list[StreamWorker] = []

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal is_stopped
        is_stopped = True  # no lock, which the interrupted code might have
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, signal.default_int_handler)
        for worker in workers:
            worker.stop()

    def attach(worker: StreamWorker) -> None:
        workers.append(worker)
        if is_stopped:
            worker.stop()

    if threading.current_thread() is not threading.main_thread():
        yield attach
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield attach
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
