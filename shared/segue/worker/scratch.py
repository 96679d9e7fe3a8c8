"""A folder for temporary files that is removed in the end, even if its owner is killed."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile

PREFIX = "segue-pool-"


class Scratch:
    """A folder that is locked for as long as its owner lives."""

    def __init__(self, above: str | None = None) -> None:
        above = above or tempfile.gettempdir()
        sweep(above)
        while True:
            self.path = tempfile.mkdtemp(prefix=PREFIX, dir=above)
            lock = _lock(self.path)
            if lock is not None:
                self._lock = lock
                return

    def remove(self) -> None:
        """Remove the folder and all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def sweep(above: str) -> None:
    """Remove the folders of pools whose processes are dead."""
    with os.scandir(above) as entries:
        paths = [e.path for e in entries if e.name.startswith(PREFIX)]
    for path in paths:
        lock = _lock(path)
        if lock is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)


def _lock(path: str) -> int | None:
    """Lock a folder, unless another process has it or has removed it."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:  # removed since, or another user's
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(handle), os.stat(path)):
            return handle
    except OSError:
        pass
    os.close(handle)
    return None
