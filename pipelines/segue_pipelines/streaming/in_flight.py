"""The deliveries that a process holds: acknowledged when finished, kept from others until then."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from segue.model.queue import Delivery, Queue

# A queue may hide a letter for ten seconds only; what is finished sooner than the first extension,
# as most is, never costs one.
FIRST_EXTENSION_S = 4.0
EXTENSION_S = 60.0
EXTEND_EVERY_S = 20.0


@dataclass(slots=True)
class _Held:
    delivery: Delivery
    extend_at_s: float


@dataclass(slots=True, kw_only=True)
class InFlight:
    """Deliveries, from their pull to their acknowledgement."""

    queue: Queue
    clock: Callable[[], float] = time.monotonic
    _held: dict[tuple[str, str], _Held] = field(default_factory=dict)
    _finished: list[Delivery] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._held)

    @property
    def is_due(self) -> bool:
        """Whether there is something to acknowledge."""
        return bool(self._finished)

    def add(self, deliveries: Sequence[Delivery]) -> None:
        """Take note of what was pulled."""
        extend_at_s = self.clock() + FIRST_EXTENSION_S
        for delivery in deliveries:
            self._held[_key(delivery)] = _Held(delivery, extend_at_s)

    def finish(self, deliveries: Iterable[Delivery]) -> None:
        """Take note of what may be acknowledged: the ledger has it, and the others are told."""
        self._finished += deliveries

    def acknowledge(self) -> None:
        """Acknowledge what is finished; after an error it is so still."""
        if not self._finished:
            return
        self.queue.acknowledge(self._finished)
        for delivery in self._finished:
            self._held.pop(_key(delivery), None)
        self._finished = []

    @property
    def is_late(self) -> bool:
        """Whether something has been worked on for so long that others might get it."""
        return any(True for _ in self._late())

    def extend(self) -> None:
        """Keep hidden what is worked on for long."""
        if late := list(self._late()):
            self.queue.extend([held.delivery for held in late], EXTENSION_S)
            extend_at_s = self.clock() + EXTEND_EVERY_S
            for held in late:
                held.extend_at_s = extend_at_s

    def _late(self) -> Iterator[_Held]:
        now_s = self.clock()
        return (held for held in self._held.values() if held.extend_at_s <= now_s)

    def give_back(self) -> None:
        """Let others have at once what is not finished."""
        finished = {_key(delivery) for delivery in self._finished}
        left = [held.delivery for key, held in self._held.items() if key not in finished]
        if left:
            self.queue.extend(left, 0)
            for delivery in left:
                del self._held[_key(delivery)]


def _key(delivery: Delivery) -> tuple[str, str]:
    return delivery.topic, delivery.receipt
