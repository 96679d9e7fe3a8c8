"""Watches a folder, and reports files that are complete or deleted.

The platform's events come from ``segue_cli.local.folder_watches`` and are only hints: a file is
examined again before it is reported, and a folder is compared with the ledger where events are
incomplete.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import stat
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from segue.errors import ConfigurationError
from segue_cli.local.folder_watches import FolderWatches, decode_path

if TYPE_CHECKING:
    from watchdog.events import FileSystemEvent

COALESCE_S = 0.01  # a writer that closes a file and reopens it at once has not finished
SETTLE_S = 0.05  # a file that nobody closes is complete after being unchanged for so long
WRITER_S = 30.0  # the same, while a process seems to be writing to it
ROOT_S = 1.0  # between two checks for a deleted root folder
LIMIT = 50_000  # pending files


class FileChange(StrEnum):
    """A change of a file that the platform reports."""

    APPEARED = "appeared"  # created, linked or found in a new folder; writes may follow
    WRITTEN = "written"  # more writes may follow
    TOUCHED = "touched"  # new attributes, which change its generation
    COMPLETE = "complete"  # closed after writing, or moved here
    GONE = "gone"


@dataclass(slots=True)
class _PendingFile:
    """A changed file that is not reported yet."""

    due: float
    stamp: tuple[int, int] | None  # size and change time when last examined
    is_complete: bool = False
    is_written: bool = False  # a process has it open for writing


class Watcher:
    """Watches a folder and everything below it, following links as the folder store does.

    Parameters
    ----------
    folder : str
        An absolute path.
    is_wanted : callable
        Returns whether to report changes of a path.
    on_change : callable
        Called with the path of each file that is complete or deleted; returns False if it cannot
        accept the path.
    on_rescan : callable
        Called with a folder below which anything may have changed: the platform did not report
        what.
    reports_close : bool, optional
        Whether the platform reports that a file was closed after writing. By default, whether this
        platform does.
    """

    def __init__(
        self,
        folder: str,
        *,
        is_wanted: Callable[[str], bool],
        on_change: Callable[[str], bool],
        on_rescan: Callable[[str], None],
        reports_close: bool | None = None,
    ) -> None:
        self.folder = folder
        self.is_lost = False  # the folder itself was deleted
        self._is_wanted = is_wanted
        self._on_change = on_change
        self._on_rescan = on_rescan
        self._reports_close = hasattr(os, "O_TMPFILE") if reports_close is None else reports_close
        self._pending: dict[str, _PendingFile] = {}
        self._order: list[tuple[float, int, str]] = []
        self._number = itertools.count()
        self._changes = threading.Condition()
        self._stopping = False
        self._watches = FolderWatches(folder, self._handle_event)
        self._is_stale = False  # a folder may be watched under an old name
        self._warnings = _Warnings(self)
        self._settler = threading.Thread(target=self._settle, name="settler", daemon=True)

    def start(self) -> None:
        """Watch from now on; existing files are not reported."""
        logger = logging.getLogger("watchdog")
        logger.addHandler(self._warnings)
        logger.propagate = False
        try:
            self._watches.start()
        except OSError as error:
            raise ConfigurationError(
                f"{self.folder!r} cannot be watched ({error.strerror or error}); check that it is "
                "readable, and that fs.inotify.max_user_watches is above the number of its folders"
            ) from error
        self._settler.start()

    def stop(self) -> None:
        """Stop watching; nothing more is reported."""
        with self._changes:
            self._stopping = True
            self._changes.notify_all()
        self._watches.stop()
        if self._settler.is_alive() and self._settler is not threading.current_thread():
            self._settler.join()
        logging.getLogger("watchdog").removeHandler(self._warnings)

    @property
    def is_idle(self) -> bool:
        """Whether no file is pending."""
        with self._changes:
            return not self._pending

    def is_pending(self, path: str) -> bool:
        """Whether a file is pending, and will be reported."""
        with self._changes:
            return path in self._pending

    def record_change(self, path: str, change: FileChange) -> None:
        """Record a change of a file; it is reported once it is complete or deleted."""
        if not self._is_wanted(path):
            return
        now = time.monotonic()
        stamp = None if change in (FileChange.COMPLETE, FileChange.GONE) else _read_stamp(path)
        with self._changes:
            if path not in self._pending and len(self._pending) >= LIMIT:
                self._on_rescan(self.folder)
                return
            self._add_pending(path, change, stamp, now)

    def _add_pending(
        self, path: str, change: FileChange, stamp: tuple[int, int] | None, now: float
    ) -> None:
        before = self._pending.get(path)
        pending = before or _PendingFile(due=now, stamp=None)
        if change is FileChange.COMPLETE:
            pending.is_complete, pending.is_written = True, False
            pending.due = min(pending.due, now + COALESCE_S) if before else now + COALESCE_S
        elif change is FileChange.GONE:
            pending.is_complete, pending.is_written, pending.due = True, False, now + SETTLE_S
        else:
            pending.is_complete = False
            # The process that creates an empty file will write to it.
            pending.is_written = self._reports_close and (
                pending.is_written
                or change is FileChange.WRITTEN
                or (change is FileChange.APPEARED and stamp is not None and stamp[0] == 0)
            )
            pending.stamp = stamp
            pending.due = now + (WRITER_S if pending.is_written else SETTLE_S)
        self._pending[path] = pending
        heapq.heappush(self._order, (pending.due, next(self._number), path))
        self._changes.notify()

    def _settle(self) -> None:
        """Report each file when it is due."""
        checked_at = time.monotonic()
        while True:
            due: list[str] = []
            with self._changes:
                if self._stopping:
                    return
                now = time.monotonic()
                while self._order and self._order[0][0] <= now:
                    _, _, path = heapq.heappop(self._order)
                    pending = self._pending.get(path)
                    if pending is not None and pending.due <= now:
                        due.append(path)
                if not due:
                    # A deleted root causes no event when it is back.
                    pause = self._order[0][0] - now if self._order else ROOT_S
                    self._changes.wait(min(max(pause, 0.0), ROOT_S))
            for path in dict.fromkeys(due):
                self._report_if_complete(path)
            if self.is_lost and time.monotonic() - checked_at > ROOT_S:
                checked_at = time.monotonic()
                if os.path.isdir(self.folder):
                    self._on_rescan(self.folder)

    def _report_if_complete(self, path: str) -> None:
        """Report a file, unless it has changed since it was last examined."""
        stamp = _read_stamp(path)
        with self._changes:
            pending = self._pending.get(path)
            if pending is None or pending.due > time.monotonic():
                return
            if not pending.is_complete and stamp is not None and stamp != pending.stamp:
                pending.stamp = stamp
                pending.due = time.monotonic() + (WRITER_S if pending.is_written else SETTLE_S)
                heapq.heappush(self._order, (pending.due, next(self._number), path))
                return
            if self._stopping:
                return
            del self._pending[path]  # later changes make it pending again
        if not self._on_change(path):
            self._on_rescan(self.folder)

    def refresh_watches(self, folder: str) -> None:
        """Ensure that a folder is watched completely, links included; for one thread."""
        if self.is_lost:
            if not os.path.isdir(self.folder):
                return
            self.is_lost, self._is_stale = False, True
        try:
            if self._is_stale:
                self._is_stale = False
                self._watches.recreate()
            self._watches.follow(folder)
        except OSError:  # it was deleted again
            self.is_lost = True

    def _handle_event(self, event: FileSystemEvent) -> None:
        """Handle an event of the library."""
        kind = event.event_type
        path, to = decode_path(event.src_path), decode_path(event.dest_path)
        if event.is_directory:
            if kind in {"created", "deleted", "moved"}:
                self._handle_folder_event(path, to, is_gone=kind == "deleted")
        elif kind == "moved":
            self._handle_file_event(path, FileChange.GONE)
            self._handle_file_event(to, FileChange.COMPLETE)
        else:
            self._handle_file_event(path, _CHANGES[kind])

    def _handle_folder_event(self, path: str, to: str, *, is_gone: bool) -> None:
        if is_gone and path == self.folder:
            self.is_lost = True
            return
        self._on_rescan(path)
        if is_gone or to:
            self._request_full_rescan()

    def _request_full_rescan(self) -> None:
        self._is_stale = True
        self._on_rescan(self.folder)

    def _handle_file_event(self, path: str, change: FileChange) -> None:
        """Handle an event of a file, or of a link to a folder, which has the same events."""
        if self._watches.is_link(path) or os.path.isdir(path):
            self._on_rescan(path)
            return
        if change is FileChange.APPEARED and self._is_wanted(path) and _has_other_names(path):
            self._on_rescan(self.folder)  # a new hard link changes the generation of all names
        self.record_change(path, change)


_CHANGES = {
    "created": FileChange.APPEARED,
    "modified": FileChange.WRITTEN,
    "attrib": FileChange.TOUCHED,
    "closed": FileChange.COMPLETE,
    "deleted": FileChange.GONE,
}


class _Warnings(logging.Handler):
    """Requests a full rescan on any warning of the library, such as dropped events."""

    def __init__(self, watcher: Watcher) -> None:
        super().__init__(logging.WARNING)
        self._watcher = watcher

    def emit(self, record: logging.LogRecord) -> None:  # noqa: ARG002
        self._watcher._request_full_rescan()  # noqa: SLF001 - a part of the watcher


def _has_other_names(path: str) -> bool:
    try:
        return os.stat(path).st_nlink > 1
    except OSError:
        return False


def _read_stamp(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (found.st_size, found.st_ctime_ns) if stat.S_ISREG(found.st_mode) else None
