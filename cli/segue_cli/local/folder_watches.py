"""The platform's watches on a folder, on everything below it, and on the targets of links there.

Built on watchdog. watchfiles, the other maintained library, never reports that a file was closed
after writing: its users have to wait until a file is unchanged for a while, and get half a file if
its writer pauses. watchdog also reports when the kernel dropped events, and the files that a new
folder already has.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from segue_cli.local.linked_folders import find_linked_folders

if TYPE_CHECKING:
    from watchdog.events import FileSystemEvent
    from watchdog.observers.api import BaseObserver, ObservedWatch

MAX_LINKS = 200  # each costs a thread; beyond that, the regular comparison has to suffice
HERE = "/."  # appended to a link, which the library would watch itself, it means its target


@dataclass(frozen=True, slots=True)
class _Link:
    """A link to a folder, with its own watch."""

    watch: ObservedWatch
    identity: tuple[int, int]  # of its target


class FolderWatches:
    """Watches a folder; events are reported from a thread of the library.

    All methods but ``is_link`` are for one thread at a time, and never for the library's thread.
    """

    def __init__(self, folder: str, on_event: Callable[[FileSystemEvent], None]) -> None:
        self._folder = folder
        self._handler = _EventHandler(on_event)
        self._observer: BaseObserver | None = None
        self._root: ObservedWatch | None = None
        self._links: dict[str, _Link] = {}
        self._turn = 0
        self._stopping = False

    def start(self) -> None:
        """Watch from now on; raise ``OSError`` if the platform refuses."""
        from watchdog.observers import Observer

        # The kernel keeps the number of a folder that was moved out and in again.
        warnings.filterwarnings("ignore", message="Callback with id", category=RuntimeWarning)
        self._observer = Observer()
        self._observer.start()
        self._root = self._watch(self._folder)
        self.follow(self._folder)

    def stop(self) -> None:
        """Stop watching."""
        self._stopping = True
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()

    def is_link(self, path: str) -> bool:
        """Whether a path is a link to a folder that is watched."""
        return path in self._links

    def recreate(self) -> None:
        """Create all watches again, and remove the old ones only then, so that nothing is missed.

        After folders are moved in quick succession, the library reports events in them under their
        old names.
        """
        assert self._observer is not None
        old = [self._root, *(link.watch for link in self._links.values())]
        self._turn += 1
        self._root, self._links = None, {}
        try:
            self._root = self._watch(self._folder)
            self.follow(self._folder)
        finally:
            for watch in old:
                if watch is not None:
                    self._observer.unschedule(watch)

    def follow(self, folder: str) -> None:
        """Watch the targets of links to folders, each with its own watch."""
        assert self._observer is not None
        below = f"{folder.rstrip('/')}/"
        for path, link in list(self._links.items()):
            if f"{path}/".startswith(below) and _identity(path) != link.identity:
                del self._links[path]
                self._observer.unschedule(link.watch)
        own_link = [folder] if os.path.islink(folder) and folder != self._folder else []
        for path in itertools.chain(own_link, find_linked_folders(folder)):
            if len(self._links) >= MAX_LINKS or self._stopping:
                return
            identity = _identity(path)
            if path not in self._links and identity is not None:
                with contextlib.suppress(OSError):
                    self._links[path] = _Link(watch=self._watch(path), identity=identity)

    def _watch(self, folder: str) -> ObservedWatch:
        from watchdog import events

        assert self._observer is not None
        return self._observer.schedule(
            self._handler,  # type: ignore[arg-type] # the library only calls dispatch()
            folder + HERE * (1 + self._turn % 2),  # the library identifies watches by their paths
            recursive=True,
            event_filter=[
                *(events.DirCreatedEvent, events.DirDeletedEvent, events.DirMovedEvent),
                *(events.FileCreatedEvent, events.FileDeletedEvent, events.FileMovedEvent),
                *(events.FileModifiedEvent, events.FileAttribEvent, events.FileClosedEvent),
            ],
        )


class _EventHandler:
    """Passes all events of the library to one function."""

    def __init__(self, on_event: Callable[[Any], None]) -> None:
        self._on_event = on_event

    def dispatch(self, event: Any) -> None:
        self._on_event(event)


def decode_path(path: bytes | str) -> str:
    """Return the path in an event, without the marks of links."""
    name = os.fsdecode(path).replace(f"{HERE}{HERE}", HERE)
    return name.replace(f"{HERE}/", "/").removesuffix(HERE)


def _identity(folder: str) -> tuple[int, int] | None:
    try:
        found = os.stat(folder)
    except OSError:
        return None
    return found.st_dev, found.st_ino
