"""Calls the functions with the events of a folder's changes: in order for each file, without loss.

The watch only says which file may differ from the ledger. One thread compares it, and builds an
event from what it finds at that time; so a file that changes often causes no more events than the
functions can process. The whole folder is compared at the start, when the watch does not know what
has changed, and regularly, as no platform reports everything: writes of another machine to a shared
disk, above all.
"""

from __future__ import annotations

import itertools
import math
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import TYPE_CHECKING

from segue.adapters.connect import connect_store
from segue.clock import utc_now
from segue.errors import (
    ConfigurationError,
    DamagedRecord,
    SegueError,
    TransientError,
)
from segue.ingest.catalogue import EXCLUDED, NOT_INCLUDED
from segue.ingest.exclusions import describe_passed_over, find_suffix, suggest_patterns
from segue.ingest.observation import look
from segue.log import Action, add_common_fields, log_event
from segue.maintenance.reconcile import (
    Discrepancy,
    DiscrepancyFinder,
    DiscrepancyKind,
    ListedFile,
    pair_by_uri,
)
from segue.model.ledger import Query, find_records
from segue.model.media_file import FileStat, MediaFile, format_name, is_unicode
from segue.model.object_store import LeftOut, LeftOutReason
from segue.model.passed_over import PassedOver
from segue_cli.local.cloud_events import build_file_event
from segue_cli.local.folder_watch import FolderWatch, Identity, identify
from segue_functions.events import DELETED, FINALIZED

if TYPE_CHECKING:
    from cloudevents.http import CloudEvent

    from segue_functions.stack import Services

TICK_S = 0.1
COALESCE_S = 0.05  # a writer that closes a file and reopens it at once has not finished
SOON_S = 1.0  # more may change at once, and most changes have their own event
FRESH_S = 1.0  # a file that was changed within this time may still be being written
RETRY_S = 2.0
FAILURE_PAUSE_S = 0.2  # for everything, so that many failures cost little
REGULARLY_S = 300.0
PAUSE_FACTOR = 20  # a comparison that takes a second is made at most every 20 seconds
GRACE = timedelta(minutes=15)  # as the sweep's; not needed at the start, when no job is running
LIMIT = 50_000  # waiting files


class FolderEvents:
    """Watches the catalogue, compares it with the ledger, and calls the functions.

    While the folder does not exist, a missing file is not a deleted one. Once ``is_outdated``
    returns True, since the graph has changed, no more functions are called: the next start does.
    """

    def __init__(
        self,
        folder: str,
        services: Services,
        *,
        is_outdated: Callable[[], bool] = lambda: False,
    ) -> None:
        self._folder = folder
        self._services = services
        self._is_outdated = is_outdated
        self.compared = threading.Event()  # the whole folder, at least once
        self._files = connect_store("file:///")
        self._watch = FolderWatch(
            folder, on_change=self.put_file, on_unclear=self.request_comparison
        )
        # The folder that was compared last. A disk that is no longer mounted leaves another one.
        self._compared: Identity | None = None
        self._warned: set[str] = set()
        # By reason: suffix → files whose names say that they are no media, as they were listed.
        self._passed_over = {reason: Counter[str]() for reason in (NOT_INCLUDED, EXCLUDED)}
        self._suffixes: set[str] = set()  # of those that are not included: those that were met
        self._has_compared = False
        self._has_media = False  # whether any file was listed that is media
        self._waiting: dict[str, float] = {}  # changed file → when to compare it, at the earliest
        self._again: set[str] = set()  # those whose arrival is sent even if the ledger has it
        self._is_requested = True  # a comparison of the folder
        self._next_at, self._next_regular_at = 0.0, math.inf
        self._grace = timedelta(0)
        self._calls_s = 0.0  # how much of the comparison was spent in the functions
        self._lock = threading.Lock()
        self._is_busy = False
        self._stopping = threading.Event()
        self.thread = threading.Thread(target=self._work, name="folder-events", daemon=True)

    def start(self) -> None:
        """Watch from now on, and compare the whole folder."""
        self._watch.start()
        self.thread.start()

    def stop(self) -> None:
        """Let the thread end after the current event; the next start finds what waits."""
        self._stopping.set()

    def put_file(self, path: str, settle_s: float | None) -> None:
        """Compare a file once it has settled: None if it is complete, or deleted."""
        with self._label_events():
            self._put_file(path, settle_s)

    def _put_file(self, path: str, settle_s: float | None) -> None:
        reason = self._services.media_filter.find_reason_to_ignore(f"file://{path}")
        if reason is not None:
            if reason == NOT_INCLUDED:
                self._report_passed_over(PassedOver(not_included={find_suffix(path): 1}))
            return
        if not is_unicode(path):
            self._warn_left_out(LeftOut(name=path, reason=LeftOutReason.NOT_UTF8))
            return
        if _has_other_names(path):  # a change under one name changes the content under all
            self.request_comparison()
        due = time.monotonic() + (COALESCE_S if settle_s is None else settle_s)
        with self._lock:
            if path in self._waiting or len(self._waiting) < LIMIT:
                if settle_s is not None:  # it is not due earlier than after another change
                    due = max(due, self._waiting.get(path, due))
                self._waiting[path] = due
                return
        self.request_comparison()

    def request_comparison(self) -> None:
        """Compare the whole folder soon."""
        with self._lock:
            if not self._is_requested:
                self._is_requested = True
                self._next_at = max(self._next_at, time.monotonic() + SOON_S)

    @property
    def backlog(self) -> int:
        """The number of files that wait."""
        with self._lock:
            return len(self._waiting)

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits or is being compared."""
        with self._lock:
            return not (self._is_busy or self._waiting or self._is_requested)

    def _label_events(self) -> AbstractContextManager[None]:
        """Log which namespace's events they are: several may be watched by one process."""
        return add_common_fields(namespace=self._services.graph.namespace)

    def _work(self) -> None:
        with self._label_events():
            self._compare_changes()
        self._watch.stop()

    def _compare_changes(self) -> None:
        while not self._stopping.wait(TICK_S):
            self._compare_files()
            began = time.monotonic()
            if began >= self._next_regular_at or self._watch.is_outdated:
                self.request_comparison()
            with self._lock:
                self._is_busy = self._is_requested and began >= self._next_at
                self._is_requested = self._is_requested and not self._is_busy
            if self._is_busy:
                self._calls_s = 0.0
                self._try_comparison()
                now = time.monotonic()
                cost_s = now - began - self._calls_s  # many new files do not delay the next one
                pause_s = min(cost_s * PAUSE_FACTOR, REGULARLY_S)
                self._next_at = now + max(pause_s, SOON_S)
                self._is_busy = False

    def _try_comparison(self) -> None:
        """Compare the folder with the ledger; again soon if a server is unavailable."""
        try:
            self._watch.refresh()
        except ConfigurationError as error:  # the next comparison tries it again
            self._warn(str(error))
        try:
            if os.path.isdir(self._folder):
                self._compare_folder()
            else:
                self._warn(f"{self._folder!r} is missing; it is watched again once it is back")
        except (SegueError, OSError) as error:
            self._warn(f"{self._folder!r} could not be compared with the ledger: {error}")
            if isinstance(error, TransientError):
                self.request_comparison()
                return
        self._grace, self._next_regular_at = GRACE, time.monotonic() + REGULARLY_S

    def _compare_folder(self) -> None:
        prefix = self._folder.removeprefix("/").rstrip("/") + "/"
        identity = identify(self._folder)
        finder = DiscrepancyFinder(
            graph=self._services.graph, started_at=utc_now(), grace=self._grace
        )
        recorded = find_records(
            self._services.ledger, Query(prefix=self._files.uri(prefix), deleted=None)
        )
        for counts in self._passed_over.values():
            counts.clear()
        listed = self._list(prefix)
        first = next(listed, None)
        if first is None and any(record.deleted_at is None for record in recorded):
            # Delete no records: a disk that is not mounted looks like that.
            self._warn(
                f"{self._folder!r} is empty, but the ledger has files there; if they were all "
                "deleted, run 'segue reconcile --allow-empty --apply'"
            )
            return
        self._compared = identity
        pairs = pair_by_uri(itertools.chain([first], listed), recorded) if first else ()
        next_at = 0.0
        for file, record in pairs:
            if self._stopping.is_set():
                return
            if time.monotonic() >= next_at:  # changed files do not wait for a long comparison
                self._compare_files()
                next_at = time.monotonic() + TICK_S
            found = finder.find(file, record)
            if found is not None:
                self._handle_discrepancy(found)
        not_included, excluded = ({**counts} for counts in self._passed_over.values())
        passed_over = PassedOver(not_included=not_included, excluded=excluded)
        self._report_passed_over(passed_over, is_start=not self._has_compared)
        self._has_compared = True
        self.compared.set()

    def _list(self, prefix: str) -> Iterator[ListedFile]:
        for found in self._files.list(prefix, leave_out=self._warn_left_out):
            uri = self._files.uri(found.name)
            reason = self._services.media_filter.find_reason_to_ignore(uri)
            if reason in self._passed_over:
                self._passed_over[reason][find_suffix(found.name)] += 1
            elif reason is None:
                self._has_media = True
            yield ListedFile(uri=uri, media=found.to_media_file(uri) if reason is None else None)

    def _report_passed_over(self, found: PassedOver, *, is_start: bool = False) -> None:
        """Log which files are no media: all at the start, then those that may have sound.

        These are said once for each suffix. It is a warning if they may have been meant.
        """
        is_new = not self._suffixes.issuperset(found.not_included)
        self._suffixes.update(found.not_included)
        has_sound = bool(suggest_patterns(found.not_included))
        if not is_start and not (is_new and has_sound):
            return
        for line in describe_passed_over(found):
            is_meant = line.startswith("not included") and (has_sound or not self._has_media)
            severity = "WARNING" if is_meant else "INFO"
            log_event(Action.LEFT_OUT, severity=severity, process="up", reason=line)

    def _handle_discrepancy(self, found: Discrepancy) -> None:
        path = found.media.uri.removeprefix("file://")
        changed_ns = FileStat.parse(found.media.stat).ctime_ns if found.media.stat else 0
        age_s = time.time() - changed_ns / 1e9
        with self._lock:
            if path in self._waiting:
                return
            if found.kind is DiscrepancyKind.UNSTARTED:
                self._again.add(path)
            is_fresh = found.kind is not DiscrepancyKind.GONE and age_s < FRESH_S
            if is_fresh and len(self._waiting) < LIMIT:
                self._waiting[path] = time.monotonic() + FRESH_S
                return
        self._compare_file(path)

    def _compare_files(self) -> None:
        """Compare the files that are due now."""
        now = time.monotonic()
        with self._lock:
            paths = [path for path, due in self._waiting.items() if due <= now]
        for path in paths:
            if self._stopping.is_set():
                return
            with self._lock:
                if self._waiting[path] > now:  # it has changed again
                    continue
                self._is_busy = True
                del self._waiting[path]
            self._compare_file(path)

    def _compare_file(self, path: str) -> None:
        """Call the function of a file's change, if it has one; again later if that fails."""
        if self._is_outdated():
            return
        began = time.monotonic()
        self._call_function(path)
        self._calls_s += time.monotonic() - began

    def _call_function(self, path: str) -> None:
        from segue_functions.failures import log_failures

        about = {"file": f"file://{path}"}
        try:
            with log_failures(about):
                call = self._find_call(path)
            if call is not None:
                function, event = call
                function(event, self._services)
        except (TransientError, ConfigurationError):  # logged; time or an operator repairs it
            with self._lock:
                self._waiting[path] = time.monotonic() + RETRY_S
                self._again.add(path)
            self._stopping.wait(FAILURE_PAUSE_S)
        except DamagedRecord:
            pass  # logged, and found again by the next comparison
        except Exception as error:  # noqa: BLE001 - what one event does must not stop the others
            reason = f"{type(error).__name__}: {error}; the event is dropped"
            log_event(Action.MALFORMED, severity="ERROR", reason=reason, **about)

    def _find_call(
        self, path: str
    ) -> tuple[Callable[[CloudEvent, Services], None], CloudEvent] | None:
        """Return the function to call, and its event; None if the ledger has it."""
        from segue_functions.arrival import handle_arrival
        from segue_functions.deletion import handle_deletion

        again = path in self._again
        self._again.discard(path)
        name = path.removeprefix("/")
        uri = self._files.uri(name)
        record = self._services.ledger.read([uri])[0].record
        if record is not None and record.erased:
            return None
        recorded = None if record is None or record.deleted_at is not None else record
        found = look(self._files, MediaFile(uri=uri, version=""), recorded, read=False)
        if isinstance(found.error, TransientError) and found.reason is LeftOutReason.UNREADABLE:
            raise found.error
        if found.error is not None:
            self._warn_left_out(LeftOut(name=name, reason=found.reason))
            return None
        if found.media is None:
            is_away = identify(self._folder) != self._compared
            if recorded is None or is_away:
                return None
            return handle_deletion, build_file_event(DELETED, uri, now=utc_now())
        is_recorded = recorded is not None and recorded.stat == found.media.stat and not again
        if recorded is not None and is_recorded and self._services.arrivals.is_announced(recorded):
            return None
        return handle_arrival, build_file_event(FINALIZED, uri, now=utc_now())

    def _warn_left_out(self, found: LeftOut) -> None:
        uri = self._files.uri(found.name.removeprefix("/"))
        if self._services.media_filter.concerns(uri):
            name = format_name(uri.removeprefix("file://"))
            self._warn(f"left out: {name}: {found.explanation}", Action.LEFT_OUT)

    def _warn(self, text: str, action: Action = Action.UNAVAILABLE) -> None:
        """Log a warning once."""
        if text not in self._warned:
            self._warned.add(text)
            log_event(action, severity="WARNING", process="up", reason=text)


def _has_other_names(path: str) -> bool:
    """Whether a file has other names, by hard links."""
    try:
        return os.stat(path).st_nlink > 1
    except OSError:
        return False
