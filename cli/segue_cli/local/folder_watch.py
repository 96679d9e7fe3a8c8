"""Watches a folder, and reports which files may have changed.

Built on watchdog. watchfiles, the other maintained library, never reports that a file was closed
after writing: its users have to wait until a file is unchanged for a while, and get half a file if
its writer pauses. watchdog also reports when the kernel dropped events, and the files that a new
folder already has.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import sys
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

from segue.adapters.folder_walk import FolderWalk
from segue.errors import ConfigurationError

if TYPE_CHECKING:
    from watchdog.events import FileSystemEvent
    from watchdog.observers.api import BaseObserver

REPORTS_CLOSE = sys.platform == "linux"  # whether the platform reports that a file was closed
SETTLE_S = 0.5  # a file that nobody closes is complete after being unchanged for so long
WRITER_S = 30.0  # the same, while a process seems to be writing to it
MAX_LINKS = 200  # each costs a thread; beyond that, the regular comparison has to suffice
HERE = "/."  # appended to a link, which the library would watch itself, it means its target

Identity = tuple[int, int]


class FolderWatch:
    """Watches a folder and everything below it, following links as the folder store does.

    Its events are hints: an event may be repeated, or name a file that does not exist.

    Parameters
    ----------
    folder : str
        An absolute path.
    on_change : callable
        Called with the path of a file that may have changed, and how many seconds it has to stay
        unchanged until it counts as complete: None if it is complete, or deleted.
    on_unclear : callable
        Called if anything may have changed: the platform did not report what.
    """

    def __init__(
        self,
        folder: str,
        *,
        on_change: Callable[[str, float | None], None],
        on_unclear: Callable[[], None],
    ) -> None:
        self._folder = folder
        self._on_change = on_change
        self._on_unclear = on_unclear
        self._observer: BaseObserver | None = None
        self._identity: Identity | None = None  # of the folder that is watched
        self._links: dict[str, Identity | None] = {}  # to folders, with their targets
        self._is_stale = False
        self._warnings = logging.Handler(logging.WARNING)  # such as dropped events
        self._warnings.emit = lambda record: on_unclear()  # type: ignore[method-assign] # noqa: ARG005

    def start(self) -> None:
        """Watch from now on; existing files are not reported."""
        # The kernel keeps the number of a folder that was moved out and in again.
        warnings.filterwarnings("ignore", message="Callback with id", category=RuntimeWarning)
        logger = logging.getLogger("watchdog")
        logger.addHandler(self._warnings)
        logger.propagate = False
        self._watch()

    def stop(self) -> None:
        """Stop watching."""
        _stop(self._observer)
        logging.getLogger("watchdog").removeHandler(self._warnings)

    @property
    def is_outdated(self) -> bool:
        """Whether the folder was replaced, has gone, or is back, which no event reports."""
        return identify(self._folder) != self._identity

    def refresh(self) -> None:
        """Watch everything anew if that is necessary; then anything may have changed meanwhile."""
        are_moved = any(identify(link) != target for link, target in self._links.items())
        if self._is_stale or self.is_outdated or are_moved:
            self._watch()

    def _watch(self) -> None:
        from watchdog.observers import Observer

        before, self._observer = self._observer, None
        self._is_stale, self._identity = False, identify(self._folder)
        try:
            broken = [link for link in self._links if _is_broken(link)]  # a disk that may return
            self._links = {**dict.fromkeys(broken), **_find_linked_folders(self._folder)}
            if self._identity is not None:
                self._observer = Observer()
                self._observer.start()
                self._schedule_all()
        finally:
            _stop(before)  # only now, so that nothing is missed

    def _schedule_all(self) -> None:
        try:
            self._schedule(self._folder)
        except OSError as error:
            self._identity = None  # so that it is outdated
            raise ConfigurationError(
                f"{self._folder!r} cannot be watched ({error.strerror or error}); check that it is "
                "readable, and that fs.inotify.max_user_watches is above the number of its folders"
            ) from error
        for link in itertools.islice(self._links, MAX_LINKS):
            with contextlib.suppress(OSError):
                self._schedule(link)

    def _schedule(self, folder: str) -> None:
        from watchdog import events

        assert self._observer is not None
        handler = events.FileSystemEventHandler()
        handler.on_any_event = self._handle_event  # type: ignore[method-assign]
        self._observer.schedule(
            handler,
            folder + HERE,
            recursive=True,
            event_filter=[
                *(events.DirCreatedEvent, events.DirDeletedEvent, events.DirMovedEvent),
                events.DirAttribEvent,  # a folder that becomes readable is not watched yet
                *(events.FileCreatedEvent, events.FileDeletedEvent, events.FileMovedEvent),
                *(events.FileModifiedEvent, events.FileAttribEvent, events.FileClosedEvent),
            ],
        )

    def _handle_event(self, event: FileSystemEvent) -> None:
        kind, path = event.event_type, _decode_path(event.src_path)
        # A link to a folder has a file's events.
        is_link = path in self._links or (os.path.islink(path) and os.path.isdir(path))
        if event.is_directory or is_link:
            # The library reports events in folders that were moved under their old names.
            self._is_stale = self._is_stale or is_link or kind != "created"
            self._on_unclear()
        elif kind == "moved":
            self._report(path, None)
            self._report(_decode_path(event.dest_path), None)
        else:
            is_complete = kind in {"closed", "deleted"}
            self._report(path, None if is_complete else _choose_settle_s(kind, path))

    def _report(self, path: str, settle_s: float | None) -> None:
        """Report a file, unless a link outside leads back to it: then it has a name already."""
        if self._links:
            folder = os.path.dirname(path)
            top, real = os.path.realpath(self._folder).rstrip("/"), os.path.realpath(folder)
            inside = top + folder.removeprefix(self._folder.rstrip("/"))
            if f"{real}/".startswith(f"{top}/") and real != inside:
                return
        self._on_change(path, settle_s)


def _stop(observer: BaseObserver | None) -> None:
    if observer is not None:
        observer.stop()
        observer.join()


def _choose_settle_s(kind: str, path: str) -> float:
    """Return how long a file has to stay unchanged that may be being written."""
    is_written = kind == "modified"
    if kind == "created":  # the process that creates an empty file will write to it
        with contextlib.suppress(OSError):
            is_written = os.stat(path).st_size == 0
    return WRITER_S if is_written and REPORTS_CLOSE else SETTLE_S


def _decode_path(path: bytes | str) -> str:
    """Return the path in an event, without the mark of a link."""
    return os.fsdecode(path).replace(f"{HERE}/", "/").removesuffix(HERE)


def identify(folder: str) -> Identity | None:
    """Return the device and inode of a folder, or None if there is none."""
    try:
        found = os.stat(folder)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _is_broken(link: str) -> bool:
    return os.path.islink(link) and not os.path.exists(link)


def _find_linked_folders(folder: str) -> dict[str, Identity | None]:
    """Find the links to folders that the folder store follows, with their targets."""
    links = (found.path for found in FolderWalk(folder, leave_out=lambda _: None) if found.is_link)
    return {link: identify(link) for link in links}
