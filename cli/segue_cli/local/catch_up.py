"""Finds changes of a folder that no event reported: compares it with the ledger.

It does so at the start, where the platform reported a change without details, and regularly, as no
platform reports everything: writes of another machine to a shared disk, above all.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

from segue.clock import utc_now
from segue.errors import SegueError
from segue.maintenance.discrepancy import (
    Discrepancy,
    DiscrepancyFinder,
    DiscrepancyKind,
    ListedFile,
    pair_by_uri,
)
from segue.model.ledger import Query, find_records
from segue_cli.local.event_delivery import is_unicode
from segue_cli.local.watcher import FileChange

if TYPE_CHECKING:
    from segue.ingest.media_filter import MediaFilter
    from segue.model.graph import Graph
    from segue.model.ledger import Ledger
    from segue.model.object_store import ObjectStore
    from segue_cli.local.event_delivery import EventDelivery
    from segue_cli.local.watcher import Watcher

GRACE = timedelta(minutes=15)  # as the sweep's; not needed at the start, when no job is running
SOON_S = 1.0  # more events may come for the same folder, and most changes have their own event
FRESH_NS = 10**9  # a file that was changed within this time may still be being written
REGULARLY_S = 300.0
PAUSE_FACTOR = 20  # a comparison that takes a second is made at most every 20 seconds


class CatchUp:
    """Compares a folder, or a part of it, with the ledger, in its own thread.

    Parameters
    ----------
    folder : str
        The catalogue.
    graph, files, ledger, media_filter : Graph, ObjectStore, Ledger, MediaFilter
        ``files`` is the store of the whole file system.
    watcher, delivery : Watcher, EventDelivery
        The watcher gets files that may be incomplete, the delivery all other changes.
    on_warning : callable
        Called with a text for the user.
    """

    def __init__(
        self,
        folder: str,
        *,
        graph: Graph,
        files: ObjectStore,
        ledger: Ledger,
        media_filter: MediaFilter,
        watcher: Watcher,
        delivery: EventDelivery,
        on_warning: Callable[[str], None],
    ) -> None:
        self._folder = folder
        self._graph = graph
        self._files = files
        self._ledger = ledger
        self._media_filter = media_filter
        self._watcher = watcher
        self._delivery = delivery
        self._on_warning = on_warning
        self._last_warning: str | None = None
        self._due: dict[str, float] = {folder: 0.0}  # folder → when to compare it at the earliest
        self._next_full_at = float("inf")
        self._changes = threading.Condition()
        self._is_busy = False
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="catch-up", daemon=True)

    def start(self) -> None:
        """Start, with a comparison of the whole folder."""
        self._thread.start()

    def stop(self) -> None:
        """Stop; the next start compares again."""
        with self._changes:
            self._stopping = True
            self._changes.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def put(self, folder: str) -> None:
        """Compare a folder soon."""
        with self._changes:
            self._due.setdefault(folder, time.monotonic() + SOON_S)
            self._changes.notify_all()

    @property
    def is_idle(self) -> bool:
        """Whether no comparison is running or due."""
        with self._changes:
            return not self._is_busy and not self._due

    def _work(self) -> None:
        grace = timedelta(0)
        while (folder := self._take()) is not None:
            began = time.monotonic()
            try:
                self._compare(folder, grace)
            except SegueError as error:
                self._warn_once(f"{folder!r} could not be compared with the ledger: {error}")
            now = time.monotonic()
            pause_s = (now - began) * PAUSE_FACTOR
            if folder == self._folder:
                grace = GRACE
                self._next_full_at = now + max(REGULARLY_S, pause_s)
            with self._changes:
                self._is_busy = False
                for waiting, due in self._due.items():
                    self._due[waiting] = max(due, now + min(pause_s, REGULARLY_S))

    def _take(self) -> str | None:
        """Wait for a folder that is due; it includes those below it."""
        with self._changes:
            while not self._stopping:
                now = time.monotonic()
                if self._next_full_at <= now:
                    self._due[self._folder] = now
                due = [folder for folder, at in self._due.items() if at <= now]
                if due:
                    folder = min(due, key=len)
                    below = folder.rstrip("/") + "/"
                    for done in [f for f in due if f == folder or f.startswith(below)]:
                        del self._due[done]
                    self._is_busy = True
                    return folder
                next_at = min(self._next_full_at, *self._due.values(), now + REGULARLY_S)
                self._changes.wait(next_at - now)
        return None

    def _compare(self, folder: str, grace: timedelta) -> None:
        self._watcher.refresh_watches(folder)
        prefix = folder.removeprefix("/").rstrip("/") + "/"
        finder = DiscrepancyFinder.for_graph(self._graph, started_at=utc_now(), grace=grace)
        recorded = find_records(self._ledger, Query(prefix=self._files.uri(prefix), deleted=None))
        listed = self._list(prefix)
        if folder == self._folder:
            first = next(listed, None)
            if first is None:
                self._handle_empty(has_records=next(recorded, None) is not None)
                return
            listed = itertools.chain([first], listed)
        for pair in pair_by_uri(listed, recorded):
            if self._stopping:
                return
            found = finder.find(pair)
            if found is not None:
                self._report(found)

    def _list(self, prefix: str) -> Iterator[ListedFile]:
        for found in self._files.list(prefix):
            uri = self._files.uri(found.name)
            if not is_unicode(uri):
                continue
            is_media = self._media_filter.accepts(uri)
            media = found.to_media_file(uri)
            yield ListedFile(uri=uri, media=media if is_media else None)

    def _handle_empty(self, *, has_records: bool) -> None:
        """Delete no records if the folder is empty: a disk that is not mounted looks like that."""
        if has_records:
            self._warn_once(
                f"{self._folder!r} is empty, but the ledger has files there; if they were all "
                "deleted, run 'segue reconcile --allow-empty --apply'"
            )

    def _report(self, found: Discrepancy) -> None:
        path = found.media.uri.removeprefix("file://")
        if self._watcher.is_pending(path):
            return
        if (
            found.kind is not DiscrepancyKind.GONE
            and time.time_ns() - found.media.generation < FRESH_NS
        ):
            self._watcher.record_change(path, FileChange.APPEARED)
        else:
            self._delivery.put(path, again=found.kind is DiscrepancyKind.UNSTARTED, wait=True)

    def _warn_once(self, text: str) -> None:
        """Report a warning, unless it is the same as the last one."""
        if text != self._last_warning:
            self._on_warning(text)
        self._last_warning = text
