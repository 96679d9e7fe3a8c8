"""What the steps of a pipeline share in one process.

Beam copies the steps to wherever they run, so they find what they share by the name of the run.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from segue_pipelines.streaming.pipeline import Streaming

T = TypeVar("T")


class ProcessWide(Generic[T]):
    """One thing a run, opened where it is first asked for."""

    def __init__(self, opened: Callable[[Streaming, contextlib.ExitStack], T]) -> None:
        self._open = opened
        self._found: dict[str, tuple[T, contextlib.ExitStack]] = {}
        self._lock = threading.Lock()

    def of(self, run: Streaming) -> T:
        """Return this process's one for a run."""
        with self._lock:
            if run.name not in self._found:
                with contextlib.ExitStack() as stack:
                    self._found[run.name] = self._open(run, stack), stack.pop_all()
            return self._found[run.name][0]

    def find(self, name: str) -> T | None:
        """Return the one for a run if there is one; safe in a signal's handler."""
        found = self._found.get(name)
        return None if found is None else found[0]

    def close(self, name: str) -> None:
        """Close the one for a run, if there is one."""
        with self._lock:
            found = self._found.pop(name, None)
        if found is not None:
            found[1].close()
