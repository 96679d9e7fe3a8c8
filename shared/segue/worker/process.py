"""What processes set for themselves and do to each other: limits, kills, temporary files, time."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Collection

LINUX = sys.platform == "linux"
PREFIX = "segue-pool-"
# The baseline is measured again when the process's memory has changed by this much.
DRIFT_BYTES = 2**26
NO_BYTES = 2**20  # with less space than this, nothing can be written
FEW_BYTES = 2**24  # and with less than this, a disk is full whatever a job does
FEW_PARTS = 10  # or than so many parts of a small disk

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

    def accept_growth(self) -> None:
        """Count the resident memory as the process's own, such as a library's buffers."""
        _, self._own_bytes = _measure_memory()

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


def kill_group(process: int) -> None:
    """Kill a child and all processes in its group, even if the child itself is dead."""
    # The kernel does not reuse a process's number while its group has members.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process, signal.SIGKILL)


def kill_orphans(children: Collection[int]) -> None:
    """Kill the processes that were adopted, except those in the sessions of these children."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
            below = [int(p) for p in file.read().split()]
    except OSError:  # not Linux
        return
    for process in below:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if process not in children and os.getsid(process) not in children:
                os.kill(process, signal.SIGKILL)


def kill_users(folder: str) -> None:
    """Kill all processes whose ``TMPDIR`` was in a folder when they started (Linux).

    They are what a supervisor and its children have started, in whatever session they are now.
    """
    mark = b"\0TMPDIR=" + os.fsencode(folder)
    with contextlib.suppress(OSError):
        for name in filter(str.isdecimal, os.listdir("/proc")):
            # Of another user, or gone: neither can be read.
            with contextlib.suppress(OSError), open(f"/proc/{name}/environ", "rb") as file:
                if mark in b"\0" + file.read() and int(name) != os.getpid():
                    os.kill(int(name), signal.SIGKILL)


def find_full_disk(folders: Collection[str], *, bytes_left: int = NO_BYTES) -> str | None:
    """Return the first folder that has less free space than so many bytes, or None.

    On a small disk, a part of the disk's size counts instead.
    """
    for folder in folders:
        with contextlib.suppress(OSError):
            found = os.statvfs(folder)
            limit_bytes = min(bytes_left, found.f_blocks * found.f_frsize // FEW_PARTS)
            if found.f_bavail * found.f_frsize < limit_bytes:
                return folder
    return None


def measure_free_gib(folder: str) -> float:
    """Return how much space a folder's disk has left for this user."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize / 2**30


class Scratch:
    """A folder for temporary files; if its owner is killed, the next owner of one removes it."""

    def __init__(self, parent: str | None = None) -> None:
        parent = parent or tempfile.gettempdir()
        _remove_stale(parent)
        while True:
            self.path = tempfile.mkdtemp(prefix=PREFIX, dir=parent)
            lock = _lock(self.path)
            if lock is not None:
                self._lock = lock
                return

    def remove(self) -> None:
        """Remove the folder and all its files."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _remove_stale(parent: str) -> None:
    """Remove the folders whose owners have ended, since nobody has locked them."""
    with os.scandir(parent) as entries:
        paths = [e.path for e in entries if e.name.startswith(PREFIX)]
    for path in paths:
        lock = _lock(path)
        if lock is not None:
            kill_users(path)
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)


def _lock(path: str) -> int | None:
    """Lock a folder; return None if another process has locked or removed it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:  # removed since, or another user's
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(fd), os.stat(path)):
            return fd
    except OSError:
        pass
    os.close(fd)
    return None


class Timer:
    """Measures the time from one mark to the next."""

    def __init__(self) -> None:
        self.marked_s = 0.0
        self._marked_cpu_s = 0.0
        self.mark()

    def mark(self) -> None:
        """Start to measure now."""
        self.marked_s = time.monotonic()
        self._marked_cpu_s = _read_cpu_s()

    def lap(self) -> tuple[float, float]:
        """Return wall and processor time since the last mark, with child processes; set a mark."""
        before_s, before_cpu_s = self.marked_s, self._marked_cpu_s
        self.mark()
        return self.marked_s - before_s, self._marked_cpu_s - before_cpu_s


def _read_cpu_s() -> float:
    below = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + below.ru_utime + below.ru_stime
