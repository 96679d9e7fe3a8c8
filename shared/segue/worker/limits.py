"""The bounds that a child sets itself: memory a job, no core file, and an end with its parent's."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys

LINUX = sys.platform == "linux"
# What the process holds is looked at again when it has changed by this much.
DRIFT_BYTES = 2**26

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def _prctl(option: int, value: int) -> None:
    if LINUX:
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def end_with(parent: int) -> None:
    """Let the kernel kill this process when its parent dies (Linux); end if it is dead."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def adopt_orphans() -> None:
    """Become the parent of all below whose own parents die (Linux), so that they are found."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def be_expendable() -> None:
    """Write no core file, and be what the kernel kills first when memory runs out."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    if LINUX:
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
            file.write("500")


class Memory:
    """How much memory jobs may add to what the process holds without them (Linux only)."""

    def __init__(self, max_growth_gib: float) -> None:
        self._max_growth_bytes = max_growth_gib * 2**30
        self._bound: float | None = None
        self._soft, self._hard = resource.getrlimit(resource.RLIMIT_DATA)
        self._data_bytes, self._own_bytes = _held()

    def bound(self, gib: float) -> None:
        """From now on, allow so much; more makes an allocation fail."""
        if gib == self._bound or not LINUX:
            return
        soft = self._data_bytes + int(gib * 2**30)
        if self._soft != resource.RLIM_INFINITY:
            soft = min(soft, self._soft)
        resource.setrlimit(resource.RLIMIT_DATA, (soft, self._hard))
        self._bound = gib

    def unbound(self) -> None:
        """Allow what was allowed at the start."""
        if self._bound is not None:
            resource.setrlimit(resource.RLIMIT_DATA, (self._soft, self._hard))
            self._bound = None

    def settle(self) -> None:
        """Count what is held now as the process's own, such as a model that was just loaded."""
        self.unbound()
        self._data_bytes, self._own_bytes = _held()

    def leaks(self) -> bool:
        """Whether the process has grown too large; what it holds between jobs is no job's."""
        data_bytes, own_bytes = _held()
        if abs(data_bytes - self._data_bytes) > DRIFT_BYTES:
            self._data_bytes = data_bytes
            self.unbound()
        return own_bytes - self._own_bytes > self._max_growth_bytes


def _held() -> tuple[int, int]:
    """Bytes of private memory that are mapped, and that are present and not a file's."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            fields = [int(f) for f in file.read().split()]
    except OSError:
        return 0, 0
    page_bytes = resource.getpagesize()
    return fields[5] * page_bytes, (fields[1] - fields[2]) * page_bytes
