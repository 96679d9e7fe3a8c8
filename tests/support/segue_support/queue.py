"""A queue in memory: for tests, and for the simulator, which decides the order of deliveries.

The same calls with the same clock give the same results: envelopes are numbered from 1, and are
pulled oldest first. ``deliver`` returns any envelope at any time, as no order is guaranteed.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count, islice
from typing import TYPE_CHECKING

from segue.clock import Clock, utc_now
from segue.model.queue import (
    Envelope,
    ReceivedEnvelope,
    Subscription,
    rotate,
    take_fair_shares,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DEADLINE_S = 60.0
ALWAYS = datetime.min.replace(tzinfo=UTC)


@dataclass(slots=True, kw_only=True)
class _StoredEnvelope:
    """An envelope in the queue, for one subscription."""

    envelope: Envelope
    subscription: str
    published_at: datetime
    delivery_count: int = 0
    hidden_until: datetime = ALWAYS


class MemoryQueue:
    """Envelopes by subscription.

    A topic without subscriptions keeps its envelopes under its own name: tests look at what was
    published, whoever reads it.

    Parameters
    ----------
    clock : callable
        The clock for publishing and hiding envelopes. A pull waits in real time, so with another
        clock pull with ``wait_s=0``.
    deadline_s : float
        How long a pulled envelope stays hidden.
    """

    def __init__(
        self,
        *,
        clock: Clock = utc_now,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._clock = clock
        self._deadline = timedelta(seconds=deadline_s)
        self._numbers = count(1)
        self._turn = 0
        self._stored: dict[str, _StoredEnvelope] = {}  # by message id, oldest first
        self._subscriptions: dict[str, dict[str, _StoredEnvelope]] = {}
        self._readers: dict[str, dict[str, None]] = {}  # by topic: the subscriptions to it
        self._changed = threading.Condition()

    @property
    def queued(self) -> dict[str, Envelope]:
        """The envelopes that a pull can get now, by message id, oldest first."""
        with self._changed:
            now = self._clock()
            return {i: k.envelope for i, k in self._stored.items() if k.hidden_until <= now}

    @property
    def hidden(self) -> dict[str, Envelope]:
        """The envelopes that were pulled and may still be acknowledged in time."""
        with self._changed:
            now = self._clock()
            return {i: k.envelope for i, k in self._stored.items() if k.hidden_until > now}

    def find_subscription(self, message_id: str) -> str:
        """Return the subscription for which an envelope is stored."""
        return self._stored[message_id].subscription

    def deliver(self, message_id: str) -> ReceivedEnvelope:
        """Deliver one envelope: out of order, or again while a process works on it.

        Raises ``KeyError`` if it was acknowledged.
        """
        with self._changed:
            return self._deliver(message_id, self._stored[message_id], self._clock())

    def subscribe(self, subscriptions: Sequence[Subscription]) -> None:
        """Create subscriptions."""
        with self._changed:
            for one in subscriptions:
                self._readers.setdefault(one.topic, {})[one.name] = None

    def publish(self, envelopes: Sequence[Envelope]) -> None:
        """Store envelopes for each subscription to their topics."""
        with self._changed:
            now = self._clock()
            for envelope in envelopes:
                for name in self._readers.get(envelope.topic, {envelope.topic: None}):
                    message_id = str(next(self._numbers))
                    stored = _StoredEnvelope(envelope=envelope, subscription=name, published_at=now)
                    self._stored[message_id] = stored
                    self._subscriptions.setdefault(name, {})[message_id] = stored
            self._changed.notify_all()

    def pull(
        self, subscriptions: Sequence[str], *, limit: int, wait_s: float = 0.0
    ) -> list[ReceivedEnvelope]:
        """Return the oldest envelopes, with an equal share of each subscription."""
        end = time.monotonic() + wait_s
        with self._changed:
            while not (
                pulled := take_fair_shares(
                    rotate(subscriptions, self._turn), limit, self._pull_shares
                )
            ):
                left_s = end - time.monotonic()
                if left_s <= 0:
                    return []
                self._changed.wait(min(left_s, self._find_wait_s()))
            self._turn += 1
            return pulled

    def _pull_shares(self, shares: Mapping[str, int]) -> dict[str, list[ReceivedEnvelope]]:
        now = self._clock()
        taken = {}
        for name, number in shares.items():
            here = self._subscriptions.get(name, {})
            visible = ((i, k) for i, k in here.items() if k.hidden_until <= now)
            taken[name] = [self._deliver(i, k, now) for i, k in list(islice(visible, number))]
        return taken

    def _deliver(self, message_id: str, stored: _StoredEnvelope, now: datetime) -> ReceivedEnvelope:
        stored.delivery_count += 1
        stored.hidden_until = now + self._deadline
        return ReceivedEnvelope(
            subscription=stored.subscription,
            data=stored.envelope.data,
            attributes=stored.envelope.attributes,
            message_id=message_id,
            ack_id=f"{message_id}.{stored.delivery_count}",
            published_at=stored.published_at,
        )

    def _find_wait_s(self) -> float:
        """Return the seconds until a hidden envelope is visible again."""
        now = self._clock()
        hidden = [k.hidden_until - now for k in self._stored.values() if k.hidden_until > now]
        return min((h.total_seconds() for h in hidden), default=threading.TIMEOUT_MAX)

    def acknowledge(self, envelopes: Sequence[ReceivedEnvelope]) -> None:
        """Remove envelopes, unless they have been delivered again since."""
        with self._changed:
            for envelope in envelopes:
                if self._find_held(envelope) is not None:
                    del self._stored[envelope.message_id]
                    del self._subscriptions[envelope.subscription][envelope.message_id]

    def extend(self, envelopes: Sequence[ReceivedEnvelope], seconds: float) -> None:
        """Hide envelopes, unless they have been delivered again since."""
        with self._changed:
            until = self._clock() + timedelta(seconds=seconds) if seconds > 0 else ALWAYS
            for envelope in envelopes:
                if (stored := self._find_held(envelope)) is not None:
                    stored.hidden_until = until
            self._changed.notify_all()

    def _find_held(self, envelope: ReceivedEnvelope) -> _StoredEnvelope | None:
        stored = self._stored.get(envelope.message_id)
        if stored is None or envelope.ack_id != f"{envelope.message_id}.{stored.delivery_count}":
            return None
        return stored

    def measure_depth(self, subscriptions: Sequence[str]) -> Mapping[str, int] | None:
        """Count envelopes."""
        with self._changed:
            return {name: len(self._subscriptions.get(name, ())) for name in subscriptions}

    def sync(self) -> None:
        """Do nothing, as nothing is on a disk."""

    def close(self) -> None:
        """Do nothing, as nothing is open."""
