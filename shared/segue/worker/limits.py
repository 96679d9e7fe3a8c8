"""Limits that a child sets for itself: memory per job, no core files, exit with its parent."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys

LINUX = sys.platform == "linux"
# The baseline is measured again when the process's memory has changed by this much.
DRIFT_BYTES = 2**26

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def _prctl(option: int, value: int) -> None:
    if LINUX:
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def exit_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent dies (Linux); exit if it has died."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def adopt_orphans() -> None:
    """Become the parent of orphaned descendants (Linux), so that they can be found and killed."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def set_process_limits() -> None:
    """Disable core files, and make the kernel kill this process first when memory runs out."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    if LINUX:
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
            file.write("500")


class MemoryLimit:
    """Limits the memory that a job adds to what the process holds without it (Linux only)."""

    def __init__(self, max_growth_gib: float) -> None:
        self._max_growth_bytes = max_growth_gib * 2**30
        self._limit_gib: float | None = None
        self._soft, self._hard = resource.getrlimit(resource.RLIMIT_DATA)
        self._data_bytes, self._own_bytes = _measure_memory()

    def set_limit(self, gib: float) -> None:
        """Allow so much more memory than the baseline; allocations beyond it fail."""
        if gib == self._limit_gib or not LINUX:
            return
        soft = self._data_bytes + int(gib * 2**30)
        if self._soft != resource.RLIM_INFINITY:
            soft = min(soft, self._soft)
        resource.setrlimit(resource.RLIMIT_DATA, (soft, self._hard))
        self._limit_gib = gib

    def clear_limit(self) -> None:
        """Restore the limit that the process started with."""
        if self._limit_gib is not None:
            resource.setrlimit(resource.RLIMIT_DATA, (self._soft, self._hard))
            self._limit_gib = None

    def reset_baseline(self) -> None:
        """Count the current memory as the process's own, such as a model that was just loaded."""
        self.clear_limit()
        self._data_bytes, self._own_bytes = _measure_memory()

    def is_leaking(self) -> bool:
        """Return whether the process has grown too large; to be called between jobs."""
        data_bytes, own_bytes = _measure_memory()
        if abs(data_bytes - self._data_bytes) > DRIFT_BYTES:
            self._data_bytes = data_bytes
            self.clear_limit()
        return own_bytes - self._own_bytes > self._max_growth_bytes


def _measure_memory() -> tuple[int, int]:
    """Return the mapped private bytes, and the resident bytes that are not file-backed."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            fields = [int(f) for f in file.read().split()]
    except OSError:
        return 0, 0
    page_bytes = resource.getpagesize()
    return fields[5] * page_bytes, (fields[1] - fields[2]) * page_bytes
