"""What the steps of a streaming run share in a process.

Beam copies the steps to wherever they run. They carry the run with them, and look up what they
share by its name.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from segue.execution.streaming_run import StreamingRun

T = TypeVar("T")


class ProcessCache(Generic[T]):
    """One object per run in this process, opened by the first step that needs it."""

    def __init__(self, open_: Callable[[StreamingRun, contextlib.ExitStack], T]) -> None:
        self._open = open_
        self._entries: dict[str, tuple[T, contextlib.ExitStack]] = {}
        self._lock = threading.Lock()

    def get_or_open(self, run: StreamingRun) -> T:
        """Return the run's object, and open it if this process has none yet."""
        with self._lock:
            if run.name not in self._entries:
                with contextlib.ExitStack() as stack:
                    self._entries[run.name] = self._open(run, stack), stack.pop_all()
            return self._entries[run.name][0]

    def close(self, name: str) -> None:
        """Close a run's object, if there is one."""
        with self._lock:
            entry = self._entries.pop(name, None)
        if entry is not None:
            entry[1].close()
