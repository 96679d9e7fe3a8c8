"""Watches a folder, and says which of its files are complete, or gone.

The platform's events come from ``segue_cli.local.folder_watches``. They are taken as hints: what is
told of a file is what it is found to be when it is due, and wherever a hint says too little, its
folder is compared with the ledger.
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
from segue_cli.local.folder_watches import FolderWatches, name_of

if TYPE_CHECKING:
    from watchdog.events import FileSystemEvent

COALESCE_S = 0.01  # a writer that closes and opens again at once is not done
SETTLE_S = 0.05  # how long a file stays unchanged until it counts as complete, if nobody closes it
WRITER_S = 30.0  # the same, while somebody seems to write to it
ROOT_S = 1.0  # between two looks for a folder that went away
LIMIT = 50_000  # files that are waited for at the same time


class Sign(StrEnum):
    """What the platform tells of a file."""

    APPEARED = "appeared"  # made, linked or found in a new folder; perhaps to be written to
    WRITTEN = "written"  # and more may follow
    TOUCHED = "touched"  # its attributes, which are part of its generation
    COMPLETE = "complete"  # closed after writing, or moved here
    GONE = "gone"


@dataclass(slots=True)
class _Awaited:
    """A file about which something was told."""

    due: float
    mark: tuple[int, int] | None  # size and change time when it was last looked at
    is_complete: bool = False
    is_written: bool = False  # somebody has it open for writing


class Watcher:
    """Watches a folder and all that is below it, through links as the folder store follows them.

    Parameters
    ----------
    folder : str
        An absolute path.
    wanted : callable
        Says of a path whether anybody wants to know of it.
    changed : callable
        Is told the path of each file that is complete or gone; answers False if it cannot take it.
    doubtful : callable
        Is told of a folder below which anything may have changed, because the platform did not say
        what.
    closes : bool, optional
        Whether the platform tells that a file was closed after writing. By default, whether this
        one does.
    """

    def __init__(
        self,
        folder: str,
        *,
        wanted: Callable[[str], bool],
        changed: Callable[[str], bool],
        doubtful: Callable[[str], None],
        closes: bool | None = None,
    ) -> None:
        self.folder = folder
        self.is_lost = False  # the folder itself went away
        self._wanted = wanted
        self._changed = changed
        self._doubtful = doubtful
        self._closes = hasattr(os, "O_TMPFILE") if closes is None else closes
        self._awaited: dict[str, _Awaited] = {}
        self._order: list[tuple[float, int, str]] = []
        self._number = itertools.count()
        self._changes = threading.Condition()
        self._stopping = False
        self._watches = FolderWatches(folder, self._heard)
        self._is_stale = False  # something is watched under a name that it no longer has
        self._warnings = _Warnings(self)
        self._settler = threading.Thread(target=self._settle, name="settler", daemon=True)

    def start(self) -> None:
        """Watch from now on; what was there before is not told of."""
        logger = logging.getLogger("watchdog")
        logger.addHandler(self._warnings)
        logger.propagate = False
        try:
            self._watches.start()
        except OSError as error:
            raise ConfigurationError(
                f"{self.folder!r} cannot be watched ({error.strerror or error}); see that it is "
                "readable, and that fs.inotify.max_user_watches is above the number of its folders"
            ) from error
        self._settler.start()

    def stop(self) -> None:
        """Tell nothing more."""
        with self._changes:
            self._stopping = True
            self._changes.notify_all()
        self._watches.stop()
        if self._settler.is_alive() and self._settler is not threading.current_thread():
            self._settler.join()
        logging.getLogger("watchdog").removeHandler(self._warnings)

    @property
    def is_quiet(self) -> bool:
        """Whether no file is being waited for."""
        with self._changes:
            return not self._awaited

    def is_awaited(self, path: str) -> bool:
        """Whether a file is waited for, and will be told of by itself."""
        with self._changes:
            return path in self._awaited

    def saw(self, path: str, sign: Sign) -> None:
        """Take notice of what was told of a file."""
        if not self._wanted(path):
            return
        now = time.monotonic()
        mark = None if sign in (Sign.COMPLETE, Sign.GONE) else _mark(path)
        with self._changes:
            if path not in self._awaited and len(self._awaited) >= LIMIT:
                self._doubtful(self.folder)
                return
            self._await(path, sign, mark, now)

    def _await(self, path: str, sign: Sign, mark: tuple[int, int] | None, now: float) -> None:
        before = self._awaited.get(path)
        known = before or _Awaited(due=now, mark=None)
        if sign is Sign.COMPLETE:
            known.is_complete, known.is_written = True, False
            known.due = min(known.due, now + COALESCE_S) if before else now + COALESCE_S
        elif sign is Sign.GONE:
            known.is_complete, known.is_written, known.due = True, False, now + SETTLE_S
        else:
            known.is_complete = False
            # Who makes an empty file is about to write to it.
            known.is_written = self._closes and (
                known.is_written
                or sign is Sign.WRITTEN
                or (sign is Sign.APPEARED and mark is not None and mark[0] == 0)
            )
            known.mark = mark
            known.due = now + (WRITER_S if known.is_written else SETTLE_S)
        self._awaited[path] = known
        heapq.heappush(self._order, (known.due, next(self._number), path))
        self._changes.notify()

    def _settle(self) -> None:
        """Tell of each file when it is due."""
        looked_at = time.monotonic()
        while True:
            due: list[str] = []
            with self._changes:
                if self._stopping:
                    return
                now = time.monotonic()
                while self._order and self._order[0][0] <= now:
                    _, _, path = heapq.heappop(self._order)
                    known = self._awaited.get(path)
                    if known is not None and known.due <= now:
                        due.append(path)
                if not due:
                    # A root that is lost makes no event when it comes back.
                    pause = self._order[0][0] - now if self._order else ROOT_S
                    self._changes.wait(min(max(pause, 0.0), ROOT_S))
            for path in dict.fromkeys(due):
                self._tell(path)
            if self.is_lost and time.monotonic() - looked_at > ROOT_S:
                looked_at = time.monotonic()
                if os.path.isdir(self.folder):
                    self._doubtful(self.folder)

    def _tell(self, path: str) -> None:
        """Tell of a file, unless it has changed since it was last looked at."""
        mark = _mark(path)
        with self._changes:
            known = self._awaited.get(path)
            if known is None or known.due > time.monotonic():
                return
            if not known.is_complete and mark is not None and mark != known.mark:
                known.mark = mark
                known.due = time.monotonic() + (WRITER_S if known.is_written else SETTLE_S)
                heapq.heappush(self._order, (known.due, next(self._number), path))
                return
            if self._stopping:
                return
            del self._awaited[path]  # what is told from now on is waited for anew
        if not self._changed(path):
            self._doubtful(self.folder)

    def renew(self, folder: str) -> None:
        """See that all of a folder is watched, links included; for one thread."""
        if self.is_lost:
            if not os.path.isdir(self.folder):
                return
            self.is_lost, self._is_stale = False, True
        try:
            if self._is_stale:
                self._is_stale = False
                self._watches.renew()
            self._watches.follow(folder)
        except OSError:  # it went away again
            self.is_lost = True

    def _heard(self, event: FileSystemEvent) -> None:
        """Take notice of an event of the library."""
        kind = event.event_type
        path, to = name_of(event.src_path), name_of(event.dest_path)
        if event.is_directory:
            if kind in {"created", "deleted", "moved"}:
                self._heard_of_folder(path, to, is_gone=kind == "deleted")
        elif kind == "moved":
            self._heard_of_file(path, Sign.GONE)
            self._heard_of_file(to, Sign.COMPLETE)
        else:
            self._heard_of_file(path, _SIGNS[kind])

    def _heard_of_folder(self, path: str, to: str, *, is_gone: bool) -> None:
        if is_gone and path == self.folder:
            self.is_lost = True
            return
        self._doubtful(path)
        if is_gone or to:
            self._doubt_everything()

    def _doubt_everything(self) -> None:
        self._is_stale = True
        self._doubtful(self.folder)

    def _heard_of_file(self, path: str, sign: Sign) -> None:
        """A link to a folder is told of as if it were a file."""
        if self._watches.is_link(path) or os.path.isdir(path):
            self._doubtful(path)
            return
        if sign is Sign.APPEARED and self._wanted(path) and _has_other_names(path):
            self._doubtful(self.folder)  # a further name changes the generation under all others
        self.saw(path, sign)


_SIGNS = {
    "created": Sign.APPEARED,
    "modified": Sign.WRITTEN,
    "attrib": Sign.TOUCHED,
    "closed": Sign.COMPLETE,
    "deleted": Sign.GONE,
}


class _Warnings(logging.Handler):
    """Whatever the library warns of, dropped events above all, puts the whole folder in doubt."""

    def __init__(self, watcher: Watcher) -> None:
        super().__init__(logging.WARNING)
        self._watcher = watcher

    def emit(self, record: logging.LogRecord) -> None:  # noqa: ARG002
        self._watcher._doubt_everything()  # noqa: SLF001 - a part of it


def _has_other_names(path: str) -> bool:
    try:
        return os.stat(path).st_nlink > 1
    except OSError:
        return False


def _mark(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (found.st_size, found.st_ctime_ns) if stat.S_ISREG(found.st_mode) else None
