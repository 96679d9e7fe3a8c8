"""The embedded queue: one SQLite file, shared by several processes.

A row a letter, in the order of publishing. A letter that was handed over stays in its row, hidden
until a deadline and under the name of who holds it, so that what a killed process held comes again
at once. Two partial indexes, one of what can be pulled and one of what is hidden, keep each call's
cost that of the letters it is about, however many there are. Topics count their letters.

After a loss of power the letters of the last moments may be gone, and acknowledged ones be back
(``synchronous = NORMAL``, as in the ledger); the sweep publishes again what the ledger waits for.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

import msgspec

from shared.errors import ConfigurationError, Contended, DiskFull, Unavailable
from shared.fairness import deal, turned
from shared.owner import is_lost, new_owner
from shared.queue import Delivery, Letter
from shared.record import Lease

APPLICATION_ID = 0x53475145  # tells it from another SQLite file, the ledger's for one
SCHEMA_VERSION = 1
SCHEMA = """
CREATE TABLE topics (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    letters INTEGER NOT NULL
);
CREATE TABLE holders (id INTEGER PRIMARY KEY, owner TEXT NOT NULL);
CREATE TABLE letters (
    id INTEGER PRIMARY KEY AUTOINCREMENT,  -- a receipt must never fit a later letter
    topic INTEGER NOT NULL,
    hidden_until INTEGER,  -- microseconds since 1970; NULL: it can be pulled
    holder INTEGER NOT NULL,
    deliveries INTEGER NOT NULL,
    published_at INTEGER NOT NULL,
    attributes BLOB,  -- JSON; NULL: none
    data BLOB NOT NULL
);
CREATE INDEX visible_letters ON letters (topic) WHERE hidden_until IS NULL;
CREATE INDEX hidden_letters ON letters (hidden_until) WHERE hidden_until IS NOT NULL
"""
BUSY_S = 60.0
DEADLINE_S = 60.0
LOOK_S = 1.0  # between two looks at whether the holders are alive
# How soon a waiting pull sees what another process published: soon, unless nothing came for long.
NAP_S, LONG_NAP_S, LONG_S = 0.008, 0.035, 5.0
LOG_SIZE_BYTES = 16 << 20  # what a large publication leaves on the disk
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, str]).decode
_Row: TypeAlias = tuple[int, int, int, bytes | None, bytes]


class SqliteQueue:
    """The queue in a file; a topic is made by its first letter.

    Parameters
    ----------
    path : str
        The file, made with its folder if it does not exist.
    deadline_s : float
        How long a letter that was pulled stays hidden.
    busy_s : float
        How long to wait for other processes that write.
    """

    def __init__(
        self, path: str, *, deadline_s: float = DEADLINE_S, busy_s: float = BUSY_S
    ) -> None:
        self._path = os.path.abspath(os.path.expanduser(path))
        self._deadline_s = deadline_s
        self._topics: dict[str, int] = {}
        self._holder: int | None = None
        self._turn = 0
        self._looked_at = self._busy_at = -float("inf")
        self._changed = threading.Condition()
        self._closed = False
        with _errors(self._path):
            os.makedirs(os.path.dirname(self._path), exist_ok=True)
            self._db = sqlite3.connect(
                self._path, timeout=busy_s, isolation_level=None, check_same_thread=False
            )
            try:
                self._prepare()
            except BaseException:
                self._db.close()
                raise

    def _prepare(self) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute(f"PRAGMA journal_size_limit = {LOG_SIZE_BYTES}")
        if self._pragma("user_version") == 0:
            with self._transaction():
                if self._pragma("user_version") == 0:
                    for statement in SCHEMA.split(";\n"):
                        self._db.execute(statement)
                    self._db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                    self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        if self._pragma("application_id") != APPLICATION_ID:
            raise ConfigurationError(
                f"{self._path!r} is another database, not a queue; choose another with SEGUE_QUEUE"
            )
        version = self._pragma("user_version")
        if version != SCHEMA_VERSION:
            raise ConfigurationError(
                f"the queue {self._path!r} has schema {version}, this version of Segue reads "
                f"{SCHEMA_VERSION}; use the Segue that wrote it, or another SEGUE_QUEUE"
            )

    def _pragma(self, name: str) -> int:
        return int(self._db.execute(f"PRAGMA {name}").fetchone()[0])

    @contextlib.contextmanager
    def _session(self) -> Iterator[None]:
        """One thread at a time, with errors in Segue's terms."""
        with self._changed:
            if self._closed:
                raise ConfigurationError(f"the queue {self._path!r} is closed; connect again")
            with _errors(self._path):
                yield

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # a full disk has rolled it back already
                self._db.execute("ROLLBACK")
            self._topics.clear()  # some of them may have been taken back
            self._holder = None
            raise

    def publish(self, letters: Sequence[Letter]) -> None:
        """Keep letters: all, or after an error none."""
        if not letters:
            return
        now = _microseconds(0)
        with self._session(), self._transaction():
            counts = Counter(letter.topic for letter in letters)
            ids = {topic: self._made(topic) for topic in counts}
            self._db.executemany(
                "INSERT INTO letters (topic, holder, deliveries, published_at, attributes, data) "
                f"VALUES (?, 0, 0, {now}, ?, ?)",
                [
                    (ids[one.topic], _encode(one.attributes) if one.attributes else None, one.data)
                    for one in letters
                ],
            )
            self._count(counts)
        with self._changed:
            self._changed.notify_all()

    def _made(self, topic: str) -> int:
        """The number of a topic, made if need be."""
        if (known := self._known(topic)) is not None:
            return known
        self._db.execute("INSERT INTO topics (name, letters) VALUES (?, 0)", (topic,))
        return self._known(topic) or 0

    def _known(self, topic: str) -> int | None:
        known = self._topics.get(topic)
        if known is None:
            row = self._db.execute("SELECT id FROM topics WHERE name = ?", (topic,)).fetchone()
            if row is not None:
                known = self._topics[topic] = int(row[0])
        return known

    def _count(self, more: Mapping[str, int]) -> None:
        self._db.executemany(
            "UPDATE topics SET letters = letters + ? WHERE name = ?",
            [(number, topic) for topic, number in more.items()],
        )

    def pull(self, topics: Sequence[str], *, limit: int, wait_s: float = 0.0) -> list[Delivery]:
        """Hand over the oldest letters, of each topic its share."""
        end = time.monotonic() + wait_s
        with self._session():
            while True:
                self._look_at_holders()
                version = self._pragma("data_version")
                if pulled := self._pull(topics, limit):
                    self._busy_at = time.monotonic()
                    return pulled
                if not self._nap(end, version):
                    return []

    def _pull(self, topics: Sequence[str], limit: int) -> list[Delivery]:
        """Look first: only what finds something locks the file."""
        now = _microseconds(0)
        late = self._db.execute("SELECT 1 FROM letters WHERE hidden_until <= ? LIMIT 1", (now,))
        if late.fetchone() is None and not self._any(topics):
            return []
        with self._transaction():
            self._db.execute(
                "UPDATE letters SET hidden_until = NULL WHERE hidden_until <= ?", (now,)
            )
            pulled = deal(turned(topics, self._turn), limit, self._take_all)
        self._turn += 1
        return pulled

    def _any(self, topics: Sequence[str]) -> bool:
        return any(
            self._db.execute(
                "SELECT 1 FROM letters WHERE topic = ? AND hidden_until IS NULL LIMIT 1", (known,)
            ).fetchone()
            for topic in topics
            if (known := self._known(topic)) is not None
        )

    def _take_all(self, shares: Mapping[str, int]) -> dict[str, list[Delivery]]:
        return {topic: self._take(topic, number) for topic, number in shares.items()}

    def _take(self, topic: str, number: int) -> list[Delivery]:
        rows: list[_Row] = self._db.execute(
            "UPDATE letters SET hidden_until = ?, holder = ?, deliveries = deliveries + 1 "
            "WHERE id IN (SELECT id FROM letters WHERE topic = ? AND hidden_until IS NULL "
            "ORDER BY id LIMIT ?) RETURNING id, deliveries, published_at, attributes, data",
            (_microseconds(self._deadline_s), self._named(), self._known(topic), number),
        ).fetchall()
        rows.sort()
        return [_delivery(topic, *row) for row in rows]

    def _named(self) -> int:
        """The number under which this queue holds letters."""
        if self._holder is None:
            cursor = self._db.execute("INSERT INTO holders (owner) VALUES (?)", (new_owner(),))
            self._holder = cursor.lastrowid
        assert self._holder is not None
        return self._holder

    def _look_at_holders(self) -> None:
        """Give back at once what those held who were killed."""
        if time.monotonic() < self._looked_at + LOOK_S:
            return
        self._looked_at = time.monotonic()
        holders = self._db.execute("SELECT id, owner FROM holders").fetchall()
        lost = [(i,) for i, owner in holders if is_lost(Lease(owner=owner, expires_at=EPOCH))]
        if lost:
            with self._transaction():
                self._db.executemany(
                    "UPDATE letters SET hidden_until = NULL WHERE hidden_until IS NOT NULL AND "
                    "holder = ?",
                    lost,
                )
                self._db.executemany("DELETE FROM holders WHERE id = ?", lost)

    def _nap(self, end: float, version: int) -> bool:
        """Sleep until there may be something to pull; False when the time is over.

        ``version`` tells what others had written before this queue looked: reading it costs
        microseconds, and it changes with each of their writes.
        """
        due = self._due()
        while not self._closed:
            now = time.monotonic()
            if now >= end:
                return False
            if now >= min(due, self._looked_at + LOOK_S):
                return True
            nap_s = NAP_S if now < self._busy_at + LONG_S else LONG_NAP_S
            if self._changed.wait(max(0.0, min(nap_s, end - now, due - now))):
                return True
            if not self._closed and self._pragma("data_version") != version:
                return True
        return False

    def _due(self) -> float:
        """When the next hidden letter comes again, by the monotonic clock."""
        (until,) = self._db.execute(
            "SELECT min(hidden_until) FROM letters WHERE hidden_until IS NOT NULL"
        ).fetchone()
        if until is None:
            return float("inf")
        return time.monotonic() + (until - _microseconds(0)) / 1e6

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Remove letters, unless they were delivered anew since."""
        if not deliveries:
            return
        by_topic: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        for delivery in deliveries:
            by_topic[delivery.topic].append(_receipt(delivery))
        with self._session(), self._transaction():
            gone: dict[str, int] = {}
            for topic, receipts in by_topic.items():
                gone[topic] = -self._db.executemany(
                    "DELETE FROM letters WHERE id = ? AND deliveries = ?", receipts
                ).rowcount
            self._count(gone)

    def extend(self, deliveries: Sequence[Delivery], seconds: float) -> None:
        """Hide letters, unless they were delivered anew since."""
        if not deliveries:
            return
        until = _microseconds(seconds) if seconds > 0 else None
        with self._session(), self._transaction():
            holder = self._named()
            self._db.executemany(
                "UPDATE letters SET hidden_until = ?, holder = ? WHERE id = ? AND deliveries = ?",
                [(until, holder, *_receipt(delivery)) for delivery in deliveries],
            )
        with self._changed:
            self._changed.notify_all()

    def depth(self, topics: Sequence[str]) -> Mapping[str, int] | None:
        """Read the topics' own counts."""
        with self._session():
            counts = dict(self._db.execute("SELECT name, letters FROM topics").fetchall())
        return {topic: counts.get(topic, 0) for topic in topics}

    def close(self) -> None:
        """Close the file; pulls that wait return, and what is held stays so until its deadline."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._db.close()


def _microseconds(ahead_s: float) -> int:
    """The time, so many seconds ahead."""
    return int((time.time() + ahead_s) * 1e6)


def _delivery(  # in the order of the columns
    topic: str, number: int, deliveries: int, published_at: int, attributes: bytes | None,
    data: bytes,
) -> Delivery:  # fmt: skip
    return Delivery(
        topic=topic,
        data=data,
        attributes={} if attributes is None else _decode(attributes),
        message_id=str(number),
        receipt=f"{number}.{deliveries}",
        published_at=EPOCH + timedelta(microseconds=published_at),
    )


def _receipt(delivery: Delivery) -> tuple[int, int]:
    """Which delivery of which letter this is."""
    number, _, deliveries = delivery.receipt.partition(".")
    return int(number), int(deliveries)


@contextlib.contextmanager
def _errors(path: str) -> Iterator[None]:
    """Say in Segue's terms what SQLite said."""
    try:
        yield
    except sqlite3.OperationalError as error:
        text = str(error)
        if "locked" in text or "busy" in text:
            raise Contended(
                f"the queue {path!r} is locked by another process ({text}); try again when it "
                "has finished"
            ) from error
        if "full" in text:
            raise DiskFull(
                f"no room is left for the queue {path!r}; free some, and run again"
            ) from error
        if "unable to open" in text or "readonly" in text:
            raise ConfigurationError(
                f"the queue {path!r} cannot be written ({text}); choose another with SEGUE_QUEUE"
            ) from error
        raise Unavailable(f"the queue {path!r}: {text}") from error
    except sqlite3.DatabaseError as error:
        raise ConfigurationError(
            f"{path!r} is not a queue, or is damaged ({error}); remove it, and 'segue sweep' "
            "publishes anew what the ledger waits for; or use another SEGUE_QUEUE"
        ) from error
    except (PermissionError, FileExistsError, NotADirectoryError) as error:
        raise ConfigurationError(
            f"the queue {path!r} cannot be made ({error.strerror}); choose another with SEGUE_QUEUE"
        ) from error
