"""Notices that a graph, its lock or the code of its jobs has changed since it was read."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Iterable

GONE = (FileNotFoundError, NotADirectoryError)
Stat = tuple[int, int, int] | None  # None: there is no such file


class CodeWatch:
    """Compares some files with what they were when it was built: by stat, and if that differs by
    their bytes, so ``touch`` and an editor that saves the same text change nothing. A file that
    cannot be read for now, as on a disk elsewhere that does not respond, has not changed.
    """

    def __init__(self, paths: Iterable[str] = ()) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, tuple[Stat, bytes | None]] = {}
        self._changed: dict[str, None] = {}
        self.add(paths)

    def add(self, paths: Iterable[str]) -> None:
        """Watch more files, as they are now."""
        with self._lock:
            for path in map(os.path.abspath, paths):
                with contextlib.suppress(OSError):
                    self._known.setdefault(path, (_read_stat(path), _read_digest(path)))

    def find_changes(self) -> tuple[str, ...]:
        """Return the files that have changed; once changed, a file stays so."""
        with self._lock:
            for path, (stat, digest) in self._known.items():
                if path in self._changed:
                    continue
                with contextlib.suppress(OSError):
                    now = _read_stat(path)
                    if now == stat:
                        continue
                    if _read_digest(path) == digest:
                        self._known[path] = (now, digest)
                    else:
                        self._changed[path] = None
            return tuple(self._changed)


def _read_stat(path: str) -> Stat:
    try:
        found = os.stat(path)
    except GONE:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _read_digest(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except GONE:
        return None
