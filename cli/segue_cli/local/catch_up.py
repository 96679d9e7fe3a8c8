"""Finds what happened to a folder while nobody watched: it is held against the ledger.

At the start, wherever the platform said that something happened but not what, and now and then, as
no platform tells all: what is written on another machine to a shared disk, above all.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from segue.errors import SegueError
from segue.maintenance.discrepancy import Discrepancy, Judge, Kind, Listed, side_by_side
from segue.model.ledger import Query
from segue.model.media_file import MediaFile
from segue.reports.job_counts import records
from segue_cli.local.event_delivery import is_unicode
from segue_cli.local.watcher import Sign

if TYPE_CHECKING:
    from segue.ingest.arrivals import Intake
    from segue.model.graph import Graph
    from segue.model.ledger import Ledger
    from segue.model.object_store import ObjectStore
    from segue_cli.local.event_delivery import Delivery
    from segue_cli.local.watcher import Watcher

GRACE = timedelta(minutes=15)  # as the sweep's; at the start nobody else has begun with a file
SOON_S = 1.0  # more may be told of the same folder, and most of it will be told file by file
FRESH_NS = 10**9  # a file that was changed within this time may still be written to
REGULARLY_S = 300.0
SHARE = 20  # a comparison that takes a second is made every 20 seconds at most


class CatchUp:
    """Compares a folder, or a part of it, with the ledger, in a thread of its own.

    Parameters
    ----------
    folder : str
        The catalogue.
    graph, files, ledger, intake : Graph, ObjectStore, Ledger, Intake
        ``files`` is the whole file system.
    watcher, delivery : Watcher, Delivery
        Who is told: the watcher of what may not be complete yet, the delivery of all else.
    note : callable
        Is told what a person should know.
    """

    def __init__(
        self,
        folder: str,
        *,
        graph: Graph,
        files: ObjectStore,
        ledger: Ledger,
        intake: Intake,
        watcher: Watcher,
        delivery: Delivery,
        note: Callable[[str], None],
    ) -> None:
        self._folder = folder
        self._graph = graph
        self._files = files
        self._ledger = ledger
        self._intake = intake
        self._watcher = watcher
        self._delivery = delivery
        self._note = note
        self._noted: str | None = None
        self._due: dict[str, float] = {folder: 0.0}  # what is asked for, and not before when
        self._regularly_at = float("inf")
        self._changes = threading.Condition()
        self._is_busy = False
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="catch-up", daemon=True)

    def start(self) -> None:
        """Begin with all that is there."""
        self._thread.start()

    def stop(self) -> None:
        """Give up; the next start compares anew."""
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
    def is_quiet(self) -> bool:
        """Whether nothing is compared, or about to be."""
        with self._changes:
            return not self._is_busy and not self._due

    def _work(self) -> None:
        grace = timedelta(0)
        while (folder := self._take()) is not None:
            began = time.monotonic()
            try:
                self._compare(folder, grace)
            except SegueError as error:
                self._tell(f"{folder!r} could not be compared with the ledger: {error}")
            now = time.monotonic()
            pause_s = (now - began) * SHARE
            if folder == self._folder:
                grace = GRACE
                self._regularly_at = now + max(REGULARLY_S, pause_s)
            with self._changes:
                self._is_busy = False
                for waiting, due in self._due.items():
                    self._due[waiting] = max(due, now + min(pause_s, REGULARLY_S))

    def _take(self) -> str | None:
        """Wait for a folder that is due; those below it are done with it."""
        with self._changes:
            while not self._stopping:
                now = time.monotonic()
                if self._regularly_at <= now:
                    self._due[self._folder] = now
                due = [folder for folder, at in self._due.items() if at <= now]
                if due:
                    folder = min(due, key=len)
                    below = folder.rstrip("/") + "/"
                    for done in [f for f in due if f == folder or f.startswith(below)]:
                        del self._due[done]
                    self._is_busy = True
                    return folder
                next_at = min(self._regularly_at, *self._due.values(), now + REGULARLY_S)
                self._changes.wait(next_at - now)
        return None

    def _compare(self, folder: str, grace: timedelta) -> None:
        self._watcher.renew(folder)
        prefix = folder.removeprefix("/").rstrip("/") + "/"
        judge = Judge.of(self._graph, started_at=datetime.now(UTC), grace=grace)
        recorded = records(self._ledger, Query(prefix=self._files.uri(prefix), deleted=None))
        listed = self._listed(prefix)
        if folder == self._folder:
            first = next(listed, None)
            if first is None:
                self._find_empty(next(recorded, None) is not None)
                return
            listed = itertools.chain([first], listed)
        for pair in side_by_side(listed, recorded):
            if self._stopping:
                return
            found = judge.discrepancy(pair)
            if found is not None:
                self._pass_on(found)

    def _listed(self, prefix: str) -> Iterator[Listed]:
        for found in self._files.list(prefix):
            uri = self._files.uri(found.name)
            if not is_unicode(uri):
                continue
            is_media = self._intake.refusal(uri) is None
            media = MediaFile(uri=uri, generation=found.generation, size_bytes=found.size_bytes)
            yield Listed(uri=uri, media=media if is_media else None)

    def _find_empty(self, is_known: bool) -> None:
        """Bury nothing where nothing at all is left: a disk that is not mounted looks like that."""
        if is_known:
            self._tell(
                f"nothing is in {self._folder!r}, but the ledger knows files there; if they are "
                "all gone for good, run 'segue reconcile --allow-empty'"
            )

    def _pass_on(self, found: Discrepancy) -> None:
        path = found.media.uri.removeprefix("file://")
        if self._watcher.is_awaited(path):
            return
        if found.kind is not Kind.GONE and time.time_ns() - found.media.generation < FRESH_NS:
            self._watcher.saw(path, Sign.APPEARED)
        else:
            self._delivery.put(path, again=found.kind is Kind.UNSTARTED, wait=True)

    def _tell(self, text: str) -> None:
        """Tell it once, until there is something else to tell."""
        if text != self._noted:
            self._note(text)
        self._noted = text
