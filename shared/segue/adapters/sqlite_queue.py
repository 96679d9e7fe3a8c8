"""The embedded queue: one SQLite file, shared by several processes.

What a process held that was killed comes again at once, since its letters are held in its name. A
pull that waits polls a counter of SQLite's that changes with each write of another process.

After a loss of power the letters of the last moments may be gone, and acknowledged ones be back
(``synchronous = NORMAL``, as in the ledger); the sweep publishes again what the ledger waits for.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from segue.adapters.sqlite_queue_file import errors, open_file, pragma, transaction
from segue.errors import ConfigurationError
from segue.model.fair_share import deal, turned
from segue.model.lease_owner import is_lost, new_owner
from segue.model.queue import Delivery, Letter
from segue.model.record import Lease

BUSY_S = 60.0
DEADLINE_S = 60.0
LOOK_S = 1.0  # between two looks at whether the holders are alive
# How soon a waiting pull sees what another process published: soon, unless nothing came for long.
NAP_S, LONG_NAP_S, LONG_S = 0.008, 0.035, 5.0
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, str]).decode


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
        self._looked_at = self._busy_at = -math.inf
        self._changed = threading.Condition()
        self._closed = False
        self._db = open_file(self._path, busy_s=busy_s)

    @contextlib.contextmanager
    def _session(self) -> Iterator[None]:
        """One thread at a time, with errors in Segue's terms."""
        with self._changed:
            if self._closed:
                raise ConfigurationError(f"the queue {self._path!r} is closed; connect again")
            with errors(self._path):
                yield

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            with transaction(self._db):
                yield
        except BaseException:
            self._topics.clear()  # some of them may have been taken back
            self._holder = None
            raise

    def publish(self, letters: Sequence[Letter]) -> None:
        """Keep letters: all, or after an error none."""
        if not letters:
            return
        now = _microseconds()
        with self._session(), self._transaction():
            counts = Counter(letter.topic for letter in letters)
            ids = {topic: self._made(topic) for topic in counts}
            self._db.executemany(
                "INSERT INTO letters (topic, holder, deliveries, published_at, attributes, data) "
                "VALUES (?, 0, 0, ?, ?, ?)",
                [
                    (ids[x.topic], now, _encode(x.attributes) if x.attributes else None, x.data)
                    for x in letters
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
                version = pragma(self._db, "data_version")
                if pulled := self._pull(topics, limit):
                    self._busy_at = time.monotonic()
                    return pulled
                if not self._nap(end, version):
                    return []

    def _pull(self, topics: Sequence[str], limit: int) -> list[Delivery]:
        """Look first: only what finds something locks the file."""
        now = _microseconds()
        late = self._db.execute(
            "SELECT EXISTS (SELECT 1 FROM letters WHERE hidden_until <= ?)", (now,)
        ).fetchone()[0]
        if not late and not any(map(self._has_letters, topics)):
            return []
        with self._transaction():
            if late:
                self._db.execute(
                    "UPDATE letters SET hidden_until = NULL WHERE hidden_until <= ?", (now,)
                )
            full = [topic for topic in turned(topics, self._turn) if self._has_letters(topic)]
            pulled = deal(full, limit, self._take)
        self._turn += 1
        return pulled

    def _has_letters(self, topic: str) -> bool:
        """Whether there is something to pull."""
        found: int = self._db.execute(
            "SELECT EXISTS (SELECT 1 FROM letters WHERE topic = ? AND hidden_until IS NULL)",
            (self._known(topic),),
        ).fetchone()[0]
        return bool(found)

    def _take(self, shares: Mapping[str, int]) -> dict[str, list[Delivery]]:
        until, holder = _microseconds(self._deadline_s), self._named()
        taken = {}
        for topic, number in shares.items():
            rows = self._db.execute(
                "UPDATE letters SET hidden_until = ?, holder = ?, deliveries = deliveries + 1 "
                "WHERE id IN (SELECT id FROM letters WHERE topic = ? AND hidden_until IS NULL "
                "ORDER BY id LIMIT ?) RETURNING id, deliveries, published_at, attributes, data",
                (until, holder, self._known(topic), number),
            ).fetchall()
            taken[topic] = [_delivery(topic, *row) for row in sorted(rows)]
        return taken

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
        due = end
        if time.monotonic() < end:
            due = min(self._comes_again_at(), self._looked_at + LOOK_S)
        while (now := time.monotonic()) < end:
            nap_s = NAP_S if now < self._busy_at + LONG_S else LONG_NAP_S
            told = self._changed.wait(max(0.0, min(nap_s, end - now, due - now)))
            if self._closed:
                break
            if told or time.monotonic() >= due or pragma(self._db, "data_version") != version:
                return True
        return False

    def _comes_again_at(self) -> float:
        """When the next hidden letter can be pulled, by the monotonic clock."""
        until: int | None = self._db.execute(
            "SELECT min(hidden_until) FROM letters WHERE hidden_until IS NOT NULL"
        ).fetchone()[0]
        left_s = math.inf if until is None else (until - _microseconds()) / 1e6
        return time.monotonic() + left_s

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


def _microseconds(ahead_s: float = 0.0) -> int:
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
