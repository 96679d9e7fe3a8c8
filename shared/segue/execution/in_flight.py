"""The envelopes that a process has pulled: hidden from others until they are acknowledged."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from segue.model.queue import Queue, ReceivedEnvelope

# A queue may hide an envelope for only ten seconds. Most are finished before the first extension,
# and so cost none.
FIRST_EXTENSION_S = 4.0
EXTENSION_S = 60.0
EXTEND_EVERY_S = 20.0


@dataclass(slots=True, kw_only=True)
class InFlight:
    """Envelopes from their pull to their acknowledgement."""

    queue: Queue
    clock: Callable[[], float] = time.monotonic
    # By subscription and delivery: the envelope, and when to extend it.
    _held: dict[tuple[str, str], tuple[ReceivedEnvelope, float]] = field(default_factory=dict)
    _finished: list[ReceivedEnvelope] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._held)

    @property
    def has_finished(self) -> bool:
        """Whether there is something to acknowledge."""
        return bool(self._finished)

    def add(
        self, envelopes: Iterable[ReceivedEnvelope], hidden_s: float = FIRST_EXTENSION_S
    ) -> None:
        """Add envelopes that stay hidden for a while longer than ``hidden_s``."""
        extend_at_s = self.clock() + hidden_s
        self._held.update({_key(envelope): (envelope, extend_at_s) for envelope in envelopes})

    def extend(self) -> None:
        """Keep envelopes hidden that have been held so long that others might soon get them."""
        now_s = self.clock()
        late = [envelope for envelope, extend_at_s in self._held.values() if extend_at_s <= now_s]
        if late:
            self.queue.extend(late, EXTENSION_S)
            self.add(late, EXTEND_EVERY_S)

    def finish(self, envelopes: Iterable[ReceivedEnvelope]) -> None:
        """Mark envelopes to acknowledge: their results are in the ledger, their replies sent."""
        self._finished += envelopes

    def acknowledge(self) -> None:
        """Acknowledge finished envelopes; after an error they stay finished."""
        if not self._finished:
            return
        self.queue.acknowledge(self._finished)
        for envelope in self._finished:
            self._held.pop(_key(envelope), None)
        self._finished = []

    def release(self) -> None:
        """Make unfinished envelopes available to others at once."""
        finished = {_key(envelope) for envelope in self._finished}
        left = [envelope for key, (envelope, _) in self._held.items() if key not in finished]
        if left:
            self.queue.extend(left, 0)
            for envelope in left:
                del self._held[_key(envelope)]


def _key(envelope: ReceivedEnvelope) -> tuple[str, str]:
    return envelope.subscription, envelope.ack_id
