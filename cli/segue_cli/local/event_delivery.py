"""Builds events of changed files, and delivers them: in order for each file, and without loss.

It stores which files have changed, not how. An event is built when it is sent, from the state of
the file at that time; so a file that changes often causes no more events than can be delivered, and
memory is bounded by the number of files.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from segue.backoff import Backoff, retry
from segue.clock import utc_now
from segue.errors import ConfigurationError, MissingInput, TransientError
from segue.model.media_file import MediaFile
from segue_cli.local.cloud_events import (
    CloudEvent,
    EventPoster,
    Refused,
    build_deleted_event,
    build_finalized_event,
)

if TYPE_CHECKING:
    from segue.model.ledger import Ledger
    from segue.model.object_store import ObjectStore

ARRIVAL, DELETION = "/arrival", "/deletion"
CONNECTIONS = 4
LIMIT = 20_000  # waiting files
REMEMBERED = 20_000  # delivered versions
ATTEMPTS = 8  # before the file goes to the end of the queue
BACKOFF = Backoff(0.1, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveredEvent:
    """An event that the function accepted or refused."""

    event: CloudEvent
    uri: str
    refused: str | None = None  # why the function refused it


class EventBuilder:
    """Builds a file's event: its arrival if it exists, else the deletion of its recorded version.

    Parameters
    ----------
    files : ObjectStore
        The store of the whole file system.
    ledger : Ledger
    is_lost : callable
        Whether the catalogue itself does not exist; then a missing file is not a deleted one.
    """

    def __init__(self, files: ObjectStore, ledger: Ledger, *, is_lost: Callable[[], bool]) -> None:
        self._files = files
        self._ledger = ledger
        self._is_lost = is_lost

    def build(self, path: str) -> tuple[str, MediaFile] | None:
        """Return the endpoint and the version to send to it, or None if there is no event."""
        name = path.removeprefix("/")
        uri = self._files.uri(name)
        try:
            found = self._files.stat(name)
        except ConfigurationError:  # a name that no object can have
            return None
        except MissingInput as error:
            if isinstance(error.__cause__, PermissionError | IsADirectoryError) or self._is_lost():
                return None
            return self._build_deletion(uri)
        return ARRIVAL, found.to_media_file(uri)

    def _build_deletion(self, uri: str) -> tuple[str, MediaFile] | None:
        if not is_unicode(uri):  # the function refused its arrival
            return None
        record = self._ledger.read([uri])[0].record
        if record is None or record.deleted_at is not None:
            return None
        return DELETION, record.media


class EventDelivery:
    """Delivers the events of files over a few connections, and retries until the function accepts.

    Parameters
    ----------
    builder : EventBuilder
    address : callable
        Returns host and port of the function server.
    on_delivered : callable
        Called with each event that was accepted or refused.
    """

    def __init__(
        self,
        builder: EventBuilder,
        *,
        address: Callable[[], tuple[str, int]],
        on_delivered: Callable[[DeliveredEvent], None],
        connections: int = CONNECTIONS,
    ) -> None:
        self._builder = builder
        self._address = address
        self._on_delivered = on_delivered
        self._waiting: OrderedDict[str, bool] = OrderedDict()  # path → whether to send again
        self._in_progress: set[str] = set()
        self._delivered: OrderedDict[str, int] = OrderedDict()  # URI → generation that arrived
        self._changes = threading.Condition()
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._work, name=f"delivery-{n}", daemon=True)
            for n in range(connections)
        ]

    def start(self) -> None:
        """Start to deliver."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Finish the current events; the next comparison finds the files that still wait."""
        with self._changes:
            self._stopping = True
            self._changes.notify_all()
        for thread in self._threads:
            thread.join()

    def put(self, path: str, *, again: bool = False, wait: bool = False) -> bool:
        """Add a changed file; with ``again``, send its version even if it was sent before.

        Returns False if too many files are waiting; with ``wait``, blocks until there is room.
        """
        with self._changes:
            while path not in self._waiting and len(self._waiting) >= LIMIT:
                if not wait or self._stopping:
                    return False
                self._changes.wait()
            self._waiting[path] = again or self._waiting.get(path, False)
            self._changes.notify()
        return True

    @property
    def backlog(self) -> int:
        """The number of files that wait or are in progress."""
        with self._changes:
            return len(self._waiting) + len(self._in_progress)

    def _work(self) -> None:
        poster = EventPoster(self._address)
        try:
            while (next_file := self._take()) is not None:
                path, again = next_file
                try:
                    self._deliver(poster, path, again=again)
                except TransientError:
                    with self._changes:  # to the end of the queue, so that it blocks no other file
                        self._waiting[path] = True
                finally:
                    with self._changes:
                        self._in_progress.discard(path)
                        self._changes.notify_all()
        finally:
            poster.close()

    def _take(self) -> tuple[str, bool] | None:
        """Wait for a file with no event in progress; return None when stopping."""
        with self._changes:
            while not self._stopping:
                for path in self._waiting:
                    if path not in self._in_progress:
                        self._in_progress.add(path)
                        return path, self._waiting.pop(path)
                self._changes.wait()
        return None

    def _deliver(self, poster: EventPoster, path: str, *, again: bool) -> None:
        """Send a file's event, with a limited number of retries."""
        retry(
            lambda: self._deliver_once(poster, path, again=again),
            backoff=BACKOFF,
            should_retry=self._should_retry,
            attempts=ATTEMPTS,
        )

    def _deliver_once(self, poster: EventPoster, path: str, *, again: bool) -> None:
        built = self._builder.build(path)
        if built is None:
            return
        endpoint, media = built
        if endpoint == ARRIVAL and not again and self._is_delivered(media):
            return
        now = utc_now()
        event = (build_finalized_event if endpoint == ARRIVAL else build_deleted_event)(
            media, now=now
        )
        refused = None
        try:
            poster.post(endpoint, event)
        except Refused as error:
            refused = str(error)
        self._remember(media, is_there=endpoint == ARRIVAL)
        self._on_delivered(DeliveredEvent(event=event, uri=media.uri, refused=refused))

    def _should_retry(self, error: Exception) -> bool:
        return isinstance(error, TransientError) and not self._stopping

    def _is_delivered(self, media: MediaFile) -> bool:
        with self._changes:
            return self._delivered.get(media.uri) == media.generation

    def _remember(self, media: MediaFile, *, is_there: bool) -> None:
        with self._changes:
            self._delivered.pop(media.uri, None)
            if is_there:
                self._delivered[media.uri] = media.generation
                if len(self._delivered) > REMEMBERED:
                    self._delivered.popitem(last=False)


def is_unicode(name: str) -> bool:
    """Whether a name is Unicode text; a file system may have others, which no ledger can store."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
