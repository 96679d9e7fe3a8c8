"""The platform's watches on a folder, on all below it, and on what links there lead to.

Built on watchdog. watchfiles, the other kept library, never tells that a file was closed after
writing: its users have to wait until a file seems quiet, and take one half-written if its writer
pauses. watchdog also says when the kernel dropped events, and knows which files a new folder
already holds.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from segue_cli.local.linked_folders import linked_folders

if TYPE_CHECKING:
    from watchdog.events import FileSystemEvent
    from watchdog.observers.api import BaseObserver, ObservedWatch

MAX_LINKS = 200  # each costs a thread; the regular comparison has to do for more
HERE = "/."  # the library watches a link itself, but this is the folder to which it leads


@dataclass(frozen=True, slots=True)
class _Link:
    """A link to a folder, which is watched by itself."""

    watch: ObservedWatch
    identity: tuple[int, int]  # of the folder to which it leads


class FolderWatches:
    """Watches a folder; what is heard comes from a thread of the library's.

    All but ``is_link`` is for one thread at a time, and never for the one that hears.
    """

    def __init__(self, folder: str, heard: Callable[[FileSystemEvent], None]) -> None:
        self._folder = folder
        self._handler = _Handler(heard)
        self._observer: BaseObserver | None = None
        self._root: ObservedWatch | None = None
        self._links: dict[str, _Link] = {}
        self._turn = 0
        self._stopping = False

    def start(self) -> None:
        """Watch from now on; raises ``OSError`` if the platform does not let us."""
        from watchdog.observers import Observer

        # A folder that was moved out and in again is known to the kernel by its old number.
        warnings.filterwarnings("ignore", message="Callback with id", category=RuntimeWarning)
        self._observer = Observer()
        self._observer.start()
        self._root = self._watch(self._folder)
        self.follow(self._folder)

    def stop(self) -> None:
        """Hear nothing more."""
        self._stopping = True
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()

    def is_link(self, path: str) -> bool:
        """Whether a path is a link to a folder that is watched."""
        return path in self._links

    def renew(self) -> None:
        """Watch all anew, and let go of the old watches then, so that nothing is missed.

        The library loses its way when folders are moved in quick succession: it goes on to tell of
        what happens in them under names that they no longer have.
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
        """Watch what links to folders lead to, each as a folder of its own."""
        assert self._observer is not None
        below = f"{folder.rstrip('/')}/"
        for path, link in list(self._links.items()):
            if f"{path}/".startswith(below) and _identity(path) != link.identity:
                del self._links[path]
                self._observer.unschedule(link.watch)
        itself = [folder] if os.path.islink(folder) and folder != self._folder else []
        for path in itertools.chain(itself, linked_folders(folder)):
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
            self._handler,  # type: ignore[arg-type] # all that is asked for is dispatch()
            folder + HERE * (1 + self._turn % 2),  # the library tells watches by their paths
            recursive=True,
            event_filter=[
                *(events.DirCreatedEvent, events.DirDeletedEvent, events.DirMovedEvent),
                *(events.FileCreatedEvent, events.FileDeletedEvent, events.FileMovedEvent),
                *(events.FileModifiedEvent, events.FileAttribEvent, events.FileClosedEvent),
            ],
        )


class _Handler:
    """What the library calls; all events take the same way."""

    def __init__(self, heard: Callable[[Any], None]) -> None:
        self._heard = heard

    def dispatch(self, event: Any) -> None:
        self._heard(event)


def name_of(path: bytes | str) -> str:
    """The name of a file of which was heard."""
    name = os.fsdecode(path).replace(f"{HERE}{HERE}", HERE)
    return name.replace(f"{HERE}/", "/").removesuffix(HERE)


def _identity(folder: str) -> tuple[int, int] | None:
    try:
        found = os.stat(folder)
    except OSError:
        return None
    return found.st_dev, found.st_ino
