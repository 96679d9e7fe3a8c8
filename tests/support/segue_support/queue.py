"""A queue in memory: for tests, and for the simulator, which decides what comes when.

Given the same calls and the same clock, it gives the same answers: letters are numbered from 1, and
come oldest first. ``deliver`` does what no order promises: it hands over any letter, at any time.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count, islice
from typing import TYPE_CHECKING

from segue.model.fair_share import deal, turned
from segue.model.queue import Delivery, Letter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

DEADLINE_S = 60.0
EVER = datetime.min.replace(tzinfo=UTC)


@dataclass(slots=True, kw_only=True)
class _Kept:
    """A letter in the queue."""

    letter: Letter
    published_at: datetime
    deliveries: int = 0
    hidden_until: datetime = EVER


class MemoryQueue:
    """Letters by topic; a topic is made by its first letter.

    Parameters
    ----------
    clock : callable
        The time by which letters are published and hidden. A pull that waits does so in real
        time; with a clock of your own, pull with ``wait_s=0``.
    deadline_s : float
        How long a letter that was pulled stays hidden.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._clock = clock
        self._deadline = timedelta(seconds=deadline_s)
        self._numbers = count(1)
        self._turn = 0
        self._kept: dict[str, _Kept] = {}  # by message id, oldest first
        self._topics: dict[str, dict[str, _Kept]] = {}
        self._changed = threading.Condition()

    @property
    def queued(self) -> dict[str, Letter]:
        """The letters that a pull can get now, by message id, oldest first."""
        with self._changed:
            now = self._clock()
            return {i: k.letter for i, k in self._kept.items() if k.hidden_until <= now}

    @property
    def hidden(self) -> dict[str, Letter]:
        """The letters that were handed over and may still be acknowledged in time."""
        with self._changed:
            now = self._clock()
            return {i: k.letter for i, k in self._kept.items() if k.hidden_until > now}

    def deliver(self, message_id: str) -> Delivery:
        """Hand over this very letter: out of order, or again while somebody works on it.

        Raises ``KeyError`` if it was acknowledged.
        """
        with self._changed:
            return self._hand_over(message_id, self._kept[message_id], self._clock())

    def publish(self, letters: Sequence[Letter]) -> None:
        """Keep letters."""
        with self._changed:
            now = self._clock()
            for letter in letters:
                message_id = str(next(self._numbers))
                kept = _Kept(letter=letter, published_at=now)
                self._kept[message_id] = kept
                self._topics.setdefault(letter.topic, {})[message_id] = kept
            self._changed.notify_all()

    def pull(self, topics: Sequence[str], *, limit: int, wait_s: float = 0.0) -> list[Delivery]:
        """Hand over the oldest letters, of each topic its share."""
        end = time.monotonic() + wait_s
        with self._changed:
            while not (pulled := deal(turned(topics, self._turn), limit, self._take)):
                left_s = end - time.monotonic()
                if left_s <= 0:
                    return []
                self._changed.wait(min(left_s, self._next_s()))
            self._turn += 1
            return pulled

    def _take(self, shares: Mapping[str, int]) -> dict[str, list[Delivery]]:
        now = self._clock()
        taken = {}
        for topic, number in shares.items():
            here = self._topics.get(topic, {})
            visible = ((i, k) for i, k in here.items() if k.hidden_until <= now)
            taken[topic] = [self._hand_over(i, k, now) for i, k in list(islice(visible, number))]
        return taken

    def _hand_over(self, message_id: str, kept: _Kept, now: datetime) -> Delivery:
        kept.deliveries += 1
        kept.hidden_until = now + self._deadline
        return Delivery(
            topic=kept.letter.topic,
            data=kept.letter.data,
            attributes=kept.letter.attributes,
            message_id=message_id,
            receipt=f"{message_id}.{kept.deliveries}",
            published_at=kept.published_at,
        )

    def _next_s(self) -> float:
        """How long it is until a hidden letter comes again."""
        now = self._clock()
        hidden = [k.hidden_until - now for k in self._kept.values() if k.hidden_until > now]
        return min((h.total_seconds() for h in hidden), default=threading.TIMEOUT_MAX)

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Remove letters, unless they were delivered anew since."""
        with self._changed:
            for delivery in deliveries:
                if self._held(delivery) is not None:
                    del self._kept[delivery.message_id]
                    del self._topics[delivery.topic][delivery.message_id]

    def extend(self, deliveries: Sequence[Delivery], seconds: float) -> None:
        """Hide letters, unless they were delivered anew since."""
        with self._changed:
            until = self._clock() + timedelta(seconds=seconds) if seconds > 0 else EVER
            for delivery in deliveries:
                if (kept := self._held(delivery)) is not None:
                    kept.hidden_until = until
            self._changed.notify_all()

    def _held(self, delivery: Delivery) -> _Kept | None:
        kept = self._kept.get(delivery.message_id)
        if kept is None or delivery.receipt != f"{delivery.message_id}.{kept.deliveries}":
            return None
        return kept

    def depth(self, topics: Sequence[str]) -> Mapping[str, int] | None:
        """Count letters."""
        with self._changed:
            return {topic: len(self._topics.get(topic, ())) for topic in topics}

    def close(self) -> None:
        """Nothing is held open."""
