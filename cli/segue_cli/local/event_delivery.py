"""Turns files that have changed into events, and delivers them: each file's in order, none lost.

What is kept is which files have changed, not what happened to them. An event is made when it is
sent, of how the file is then; so a file that changes often makes no more events than can be
delivered, and memory is bounded by the number of files.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import stamina

from segue.errors import ConfigurationError, MissingInput, TransientError
from segue.model.media_file import MediaFile
from segue_cli.local.cloud_events import CloudEvent, Poster, Refused, deleted, finalized

if TYPE_CHECKING:
    from segue.model.ledger import Ledger
    from segue.model.object_store import ObjectStore

ARRIVAL, DELETION = "/arrival", "/deletion"
CONNECTIONS = 4
LIMIT = 20_000  # files that wait
REMEMBERED = 20_000  # versions that were delivered
ATTEMPTS = 8  # until the next file has its turn
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """What became of one event."""

    event: CloudEvent
    uri: str
    refused: str | None = None  # why the function did not take it


class EventMaker:
    """Makes a file's event: of the file as it is, else of what the ledger knows of it.

    Parameters
    ----------
    files : ObjectStore
        The whole file system.
    ledger : Ledger
    is_lost : callable
        Whether the catalogue itself is away; then it does not mean that its files are gone.
    """

    def __init__(self, files: ObjectStore, ledger: Ledger, *, is_lost: Callable[[], bool]) -> None:
        self._files = files
        self._ledger = ledger
        self._is_lost = is_lost

    def event(self, path: str) -> tuple[str, MediaFile] | None:
        """Say what is to be told of a file, and to whom; None if there is nothing to tell."""
        name = path.removeprefix("/")
        uri = self._files.uri(name)
        try:
            found = self._files.stat(name)
        except ConfigurationError:  # a name that no object can have
            return None
        except MissingInput as error:
            if isinstance(error.__cause__, PermissionError | IsADirectoryError) or self._is_lost():
                return None
            return self._deletion(uri)
        return ARRIVAL, MediaFile(
            uri=uri,
            generation=found.generation,
            size_bytes=found.size_bytes,
            content_type=found.content_type,
        )

    def _deletion(self, uri: str) -> tuple[str, MediaFile] | None:
        if not is_unicode(uri):  # the function has refused it when it arrived
            return None
        record = self._ledger.read([uri])[0].record
        if record is None or record.deleted_at is not None:
            return None
        return DELETION, record.media


class Delivery:
    """Delivers the events of files over a few connections, until the function has taken each.

    Parameters
    ----------
    maker : EventMaker
    address : callable
        Where the function server is.
    told : callable
        Is told of each event that was delivered, or refused.
    """

    def __init__(
        self,
        maker: EventMaker,
        *,
        address: Callable[[], tuple[str, int]],
        told: Callable[[Delivered], None],
        connections: int = CONNECTIONS,
    ) -> None:
        self._maker = maker
        self._address = address
        self._told = told
        self._waiting: OrderedDict[str, bool] = OrderedDict()  # path → whether to repeat
        self._under_way: set[str] = set()
        self._delivered: OrderedDict[str, int] = OrderedDict()  # URI → generation that arrived
        self._changes = threading.Condition()
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._work, name=f"delivery-{n}", daemon=True)
            for n in range(connections)
        ]

    def start(self) -> None:
        """Begin to deliver."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End with the events that are under way; what waits is found by the next comparison."""
        with self._changes:
            self._stopping = True
            self._changes.notify_all()
        for thread in self._threads:
            thread.join()

    def put(self, path: str, *, again: bool = False, wait: bool = False) -> bool:
        """Take a file that has changed; ``again`` tells of a version that was told of before.

        Answers False if too many wait already, unless it shall ``wait`` for that to pass.
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
        """How many files wait, or are under way."""
        with self._changes:
            return len(self._waiting) + len(self._under_way)

    def _work(self) -> None:
        poster = Poster(self._address)
        try:
            while (taken := self._take()) is not None:
                path, again = taken
                try:
                    self._deliver(poster, path, again=again)
                except TransientError:
                    with self._changes:  # behind all others, which it must not hold up
                        self._waiting[path] = True
                finally:
                    with self._changes:
                        self._under_way.discard(path)
                        self._changes.notify_all()
        finally:
            poster.close()

    def _take(self) -> tuple[str, bool] | None:
        """Wait for a file of which no event is under way; None if it is time to stop."""
        with self._changes:
            while not self._stopping:
                for path in self._waiting:
                    if path not in self._under_way:
                        self._under_way.add(path)
                        return path, self._waiting.pop(path)
                self._changes.wait()
        return None

    def _deliver(self, poster: Poster, path: str, *, again: bool) -> None:
        """Send what is to be told of a file until it is taken, up to some times."""
        for attempt in stamina.retry_context(
            on=self._is_worth_it,
            attempts=ATTEMPTS,
            timeout=None,
            wait_initial=FIRST_PAUSE_S,
            wait_max=LONGEST_PAUSE_S,
            wait_jitter=FIRST_PAUSE_S,
        ):
            with attempt:
                made = self._maker.event(path)
                if made is None:
                    return
                to, media = made
                if to == ARRIVAL and not again and self._knows(media):
                    return
                now = datetime.now(UTC)
                event = (finalized if to == ARRIVAL else deleted)(media, now=now)
                refused = None
                try:
                    poster.post(to, event)
                except Refused as error:
                    refused = str(error)
                self._remember(media, is_there=to == ARRIVAL)
                self._told(Delivered(event=event, uri=media.uri, refused=refused))

    def _is_worth_it(self, error: Exception) -> bool:
        return isinstance(error, TransientError) and not self._stopping

    def _knows(self, media: MediaFile) -> bool:
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
    """Whether a name is text; a file system may hold others, which the ledger cannot."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
