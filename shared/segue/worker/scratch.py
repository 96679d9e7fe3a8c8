"""A folder for temporary files that is removed at the end, even if its owner is killed."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile

PREFIX = "segue-pool-"


class Scratch:
    """A folder that stays locked as long as its owner runs."""

    def __init__(self, parent: str | None = None) -> None:
        parent = parent or tempfile.gettempdir()
        remove_stale(parent)
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


def remove_stale(parent: str) -> None:
    """Remove the folders of pools whose processes have ended."""
    with os.scandir(parent) as entries:
        paths = [e.path for e in entries if e.name.startswith(PREFIX)]
    for path in paths:
        lock = _lock(path)
        if lock is not None:
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
