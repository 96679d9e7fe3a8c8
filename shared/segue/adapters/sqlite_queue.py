"""The embedded queue: one SQLite file, shared by several processes.

There is one row per envelope (a "letter" in the schema) and subscription, in the order of
publishing. A pulled envelope stays in its row, hidden until a deadline, with the number of its
holder, so the envelopes of a killed process are delivered again at once. Two partial indexes, of
visible and of hidden rows, keep the cost of a call proportional to the envelopes that it handles,
however many there are; for the same reason each subscription counts its envelopes.

A pull that waits polls a counter of SQLite's that changes with each write of another process.

After a power cut the envelopes of the last moments may be missing, and acknowledged ones may be
back. So whoever acknowledges one syncs first what came of it.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from segue.adapters.sqlite_file import BUSY_TIMEOUT_S, SqliteFile
from segue.model.lease_owner import build_owner, is_lost
from segue.model.queue import Envelope, ReceivedEnvelope, Subscription, rotate, take_fair_shares
from segue.model.record import Lease

DEFAULT_DEADLINE_S = 60.0
HOLDER_CHECK_S = 1.0  # between two checks whether the holders are alive
# The polling interval of a pull that waits; it is longer if nothing has come for some time.
POLL_S, IDLE_POLL_S, IDLE_AFTER_S = 0.008, 0.035, 5.0
MARK_S = 3600.0  # between two notes that a subscription is read
EXPIRE_S = 31 * 86_400  # a subscription that nobody wants or reads for so long is removed
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, str]).decode


class SqliteQueue(SqliteFile):
    """The queue in a file. What is published to a topic without subscriptions is lost.

    ``deadline_s`` is how long a pulled envelope stays hidden.
    """

    noun = "queue"
    variable = "SEGUE_QUEUE"
    if_damaged = (
        "delete it and run 'segue backfill --all --from-ledger missing', which computes what its "
        "messages were about"
    )
    application_id = 0x53475145
    version = 2
    pragmas = (f"journal_size_limit = {16 << 20}",)  # bytes on disk after a large publication
    schema = """
CREATE TABLE subscriptions (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    topic TEXT NOT NULL,
    letters INTEGER NOT NULL,
    used_at INTEGER NOT NULL  -- about when somebody pulled last, or wanted it to exist
);
CREATE INDEX subscriptions_of_topics ON subscriptions (topic);
CREATE TABLE holders (
    id INTEGER PRIMARY KEY AUTOINCREMENT,  -- a check of a holder may be late
    owner TEXT NOT NULL
);
CREATE TABLE letters (
    id INTEGER PRIMARY KEY AUTOINCREMENT,  -- an ack id must never match a later row
    subscription INTEGER NOT NULL,
    hidden_until INTEGER,  -- microseconds since 1970; NULL: it can be pulled
    holder INTEGER NOT NULL,
    deliveries INTEGER NOT NULL,
    published_at INTEGER NOT NULL,
    attributes BLOB,  -- JSON; NULL: none
    data BLOB NOT NULL
);
CREATE INDEX visible_letters ON letters (subscription) WHERE hidden_until IS NULL;
CREATE INDEX hidden_letters ON letters (hidden_until) WHERE hidden_until IS NOT NULL
"""

    def __init__(
        self, path: str, *, deadline_s: float = DEFAULT_DEADLINE_S, busy_s: float = BUSY_TIMEOUT_S
    ) -> None:
        self._deadline_s = deadline_s
        self._holder: int | None = None
        self._turn = 0
        self._holders_checked_at = self._last_pull_at = -math.inf
        super().__init__(path, busy_s=busy_s)
        self._changed = threading.Condition(self._lock)

    def _forget_rows(self) -> None:
        self._holder = None

    def _describe_new_start(self) -> str:
        sweep = "run 'segue sweep', which republishes what the ledger waits for"
        return f"set {self.variable} to another path and {sweep}"

    def subscribe(self, subscriptions: Sequence[Subscription]) -> None:
        """Create subscriptions that are missing, and remove those that nobody uses any more.

        The file is locked only if there is something to do.
        """
        now = _now_microseconds()
        old = now - int(EXPIRE_S * 1e6)
        with self._session():
            rows = self._db.execute("SELECT name, used_at FROM subscriptions").fetchall()
            recent = {name for name, used_at in rows if used_at >= old}
            if recent.issuperset(one.name for one in subscriptions) and len(recent) == len(rows):
                return
            with self._transaction():
                self._db.executemany(
                    "INSERT INTO subscriptions (name, topic, letters, used_at) "
                    "VALUES (?, ?, 0, ?) ON CONFLICT DO UPDATE SET used_at = excluded.used_at",
                    [(one.name, one.topic, now) for one in subscriptions],
                )
                removed = self._db.execute(
                    "DELETE FROM subscriptions WHERE used_at < ? RETURNING id", (old,)
                ).fetchall()
                self._db.executemany("DELETE FROM letters WHERE subscription = ?", removed)

    def publish(self, envelopes: Sequence[Envelope]) -> None:
        """Store all envelopes, each for every subscription to its topic, or none after an error."""
        if not envelopes:
            return
        now = _now_microseconds()
        with self._session(), self._transaction():
            readers = {topic: self._list_readers(topic) for topic in {x.topic for x in envelopes}}
            self._db.executemany(
                "INSERT INTO letters (subscription, holder, deliveries, published_at, attributes, "
                "data) VALUES (?, 0, 0, ?, ?, ?)",
                [
                    (reader, now, _encode(x.attributes) if x.attributes else None, x.data)
                    for x in envelopes
                    for reader in readers[x.topic]
                ],
            )
            more = Counter(reader for x in envelopes for reader in readers[x.topic])
            self._db.executemany(
                "UPDATE subscriptions SET letters = letters + ? WHERE id = ?",
                [(number, reader) for reader, number in more.items()],
            )
        with self._changed:
            self._changed.notify_all()

    def _list_readers(self, topic: str) -> list[int]:
        """Return the numbers of the subscriptions to a topic."""
        rows = self._db.execute("SELECT id FROM subscriptions WHERE topic = ?", (topic,))
        return [int(number) for (number,) in rows]

    def pull(
        self, subscriptions: Sequence[str], *, limit: int, wait_s: float = 0.0
    ) -> list[ReceivedEnvelope]:
        """Return the oldest envelopes, a fair share of each subscription."""
        end = time.monotonic() + wait_s
        with self._session():
            self._mark_used(subscriptions)
            while True:
                self._release_lost_holders()
                version = self._read_pragma("data_version")
                if pulled := self._pull(subscriptions, limit):
                    self._last_pull_at = time.monotonic()
                    return pulled
                if not self._wait(end, version):
                    return []

    def _pull(self, subscriptions: Sequence[str], limit: int) -> list[ReceivedEnvelope]:
        """Pull without waiting; the file is locked only if there is something to pull."""
        now = _now_microseconds()
        late = self._db.execute(
            "SELECT EXISTS (SELECT 1 FROM letters WHERE hidden_until <= ?)", (now,)
        ).fetchone()[0]
        if not late and not any(map(self._has_visible, subscriptions)):
            return []
        with self._transaction():
            if late:
                self._db.execute(
                    "UPDATE letters SET hidden_until = NULL WHERE hidden_until <= ?", (now,)
                )
            ready = [name for name in rotate(subscriptions, self._turn) if self._has_visible(name)]
            pulled = take_fair_shares(ready, limit, self._hand_over)
        self._turn += 1
        return pulled

    def _mark_used(self, subscriptions: Sequence[str]) -> None:
        """Note, about once an hour, that somebody reads these subscriptions."""
        now = _now_microseconds()
        due = [s for s in subscriptions if self._is_marked_before(s, now - int(MARK_S * 1e6))]
        if not due:
            return
        with self._transaction():
            self._db.executemany(
                "UPDATE subscriptions SET used_at = ? WHERE name = ?", [(now, s) for s in due]
            )

    def _is_marked_before(self, subscription: str, time: int) -> bool:
        found: int = self._db.execute(
            "SELECT EXISTS (SELECT 1 FROM subscriptions WHERE name = ? AND used_at < ?)",
            (subscription, time),
        ).fetchone()[0]
        return bool(found)

    def _has_visible(self, subscription: str) -> bool:
        """Whether a subscription has something to pull."""
        found: int = self._db.execute(
            "SELECT EXISTS (SELECT 1 FROM letters WHERE hidden_until IS NULL AND "
            "subscription = (SELECT id FROM subscriptions WHERE name = ?))",
            (subscription,),
        ).fetchone()[0]
        return bool(found)

    def _hand_over(self, shares: Mapping[str, int]) -> dict[str, list[ReceivedEnvelope]]:
        until, holder = _now_microseconds(self._deadline_s), self._get_holder()
        taken = {}
        for name, number in shares.items():
            rows = self._db.execute(
                "UPDATE letters SET hidden_until = ?, holder = ?, deliveries = deliveries + 1 "
                "WHERE id IN (SELECT id FROM letters WHERE hidden_until IS NULL AND "
                "subscription = (SELECT id FROM subscriptions WHERE name = ?) ORDER BY id LIMIT ?) "
                "RETURNING id, deliveries, published_at, attributes, data",
                (until, holder, name, number),
            ).fetchall()
            taken[name] = [_to_received_envelope(name, *row) for row in sorted(rows)]
        return taken

    def _get_holder(self) -> int:
        """Return the number under which this queue holds envelopes."""
        if self._holder is None:
            cursor = self._db.execute("INSERT INTO holders (owner) VALUES (?)", (build_owner(),))
            self._holder = cursor.lastrowid
        assert self._holder is not None
        return self._holder

    def _release_lost_holders(self) -> None:
        """Make the envelopes of killed holders visible at once."""
        if time.monotonic() < self._holders_checked_at + HOLDER_CHECK_S:
            return
        self._holders_checked_at = time.monotonic()
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

    def _wait(self, end: float, version: int) -> bool:
        """Sleep until there may be something to pull; return False if the time is up.

        ``version`` is the data version before the last pull: reading it costs microseconds, and it
        changes with each write of another process.
        """
        due = end
        if time.monotonic() < end:
            due = min(self._find_next_visible_at(), self._holders_checked_at + HOLDER_CHECK_S)
        while (now := time.monotonic()) < end:
            poll_s = POLL_S if now < self._last_pull_at + IDLE_AFTER_S else IDLE_POLL_S
            notified = self._changed.wait(max(0.0, min(poll_s, end - now, due - now)))
            if self._closed:
                break
            if notified or time.monotonic() >= due or self._read_pragma("data_version") != version:
                return True
        return False

    def _find_next_visible_at(self) -> float:
        """Return when the next hidden envelope becomes visible, by the monotonic clock."""
        until: int | None = self._db.execute(
            "SELECT min(hidden_until) FROM letters WHERE hidden_until IS NOT NULL"
        ).fetchone()[0]
        left_s = math.inf if until is None else (until - _now_microseconds()) / 1e6
        return time.monotonic() + left_s

    def acknowledge(self, envelopes: Sequence[ReceivedEnvelope]) -> None:
        """Delete envelopes, unless they have been redelivered since."""
        if not envelopes:
            return
        by_subscription: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        for envelope in envelopes:
            by_subscription[envelope.subscription].append(_parse_ack_id(envelope))
        with self._session(), self._transaction():
            for name, ack_ids in by_subscription.items():
                gone = self._db.executemany(
                    "DELETE FROM letters WHERE id = ? AND deliveries = ?", ack_ids
                ).rowcount
                self._db.execute(
                    "UPDATE subscriptions SET letters = letters - ? WHERE name = ?", (gone, name)
                )

    def extend(self, envelopes: Sequence[ReceivedEnvelope], seconds: float) -> None:
        """Hide envelopes, unless they have been redelivered since."""
        if not envelopes:
            return
        until = _now_microseconds(seconds) if seconds > 0 else None
        with self._session(), self._transaction():
            holder = self._get_holder()
            self._db.executemany(
                "UPDATE letters SET hidden_until = ?, holder = ? WHERE id = ? AND deliveries = ?",
                [(until, holder, *_parse_ack_id(envelope)) for envelope in envelopes],
            )
        with self._changed:
            self._changed.notify_all()

    def measure_depth(self, subscriptions: Sequence[str]) -> Mapping[str, int] | None:
        """Read the subscriptions' own counts."""
        with self._session():
            counts = dict(self._db.execute("SELECT name, letters FROM subscriptions").fetchall())
        return {name: counts.get(name, 0) for name in subscriptions}

    def close(self) -> None:
        """Close the file; waiting pulls return, held envelopes stay hidden until their deadline."""
        with self._changed:
            super().close()
            self._changed.notify_all()


def _now_microseconds(ahead_s: float = 0.0) -> int:
    """Return the time, so many seconds ahead."""
    return int((time.time() + ahead_s) * 1e6)


def _to_received_envelope(  # in the order of the columns
    subscription: str, number: int, delivery_count: int, published_at: int,
    attributes: bytes | None, data: bytes,
) -> ReceivedEnvelope:  # fmt: skip
    return ReceivedEnvelope(
        subscription=subscription,
        data=data,
        attributes={} if attributes is None else _decode(attributes),
        message_id=str(number),
        ack_id=f"{number}.{delivery_count}",
        published_at=EPOCH + timedelta(microseconds=published_at),
    )


def _parse_ack_id(envelope: ReceivedEnvelope) -> tuple[int, int]:
    """Return the number of an envelope, and of its delivery."""
    number, _, delivery_count = envelope.ack_id.partition(".")
    return int(number), int(delivery_count)
