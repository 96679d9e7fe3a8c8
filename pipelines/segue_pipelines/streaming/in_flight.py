"""The envelopes that a process has pulled: hidden from others until they are acknowledged."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from segue.model.queue import Queue, ReceivedEnvelope

# A queue may hide an envelope for only ten seconds. Most are finished before the first extension,
# and so cost none.
FIRST_EXTENSION_S = 4.0
EXTENSION_S = 60.0
EXTEND_EVERY_S = 20.0


@dataclass(slots=True)
class _HeldEnvelope:
    envelope: ReceivedEnvelope
    extend_at_s: float


@dataclass(slots=True, kw_only=True)
class InFlight:
    """Envelopes from their pull to their acknowledgement."""

    queue: Queue
    clock: Callable[[], float] = time.monotonic
    _held: dict[tuple[str, str], _HeldEnvelope] = field(default_factory=dict)
    _finished: list[ReceivedEnvelope] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._held)

    @property
    def has_finished(self) -> bool:
        """Whether there is something to acknowledge."""
        return bool(self._finished)

    def add(self, envelopes: Sequence[ReceivedEnvelope]) -> None:
        """Add pulled envelopes."""
        extend_at_s = self.clock() + FIRST_EXTENSION_S
        for envelope in envelopes:
            self._held[_key(envelope)] = _HeldEnvelope(envelope, extend_at_s)

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

    @property
    def needs_extension(self) -> bool:
        """Whether an envelope has been held so long that others might soon get it."""
        return any(True for _ in self._late())

    def extend(self) -> None:
        """Keep envelopes hidden that have been held for long."""
        if late := list(self._late()):
            self.queue.extend([held.envelope for held in late], EXTENSION_S)
            extend_at_s = self.clock() + EXTEND_EVERY_S
            for held in late:
                held.extend_at_s = extend_at_s

    def _late(self) -> Iterator[_HeldEnvelope]:
        now_s = self.clock()
        return (held for held in self._held.values() if held.extend_at_s <= now_s)

    def release(self) -> None:
        """Make unfinished envelopes available to others at once."""
        finished = {_key(envelope) for envelope in self._finished}
        left = [held.envelope for key, held in self._held.items() if key not in finished]
        if left:
            self.queue.extend(left, 0)
            for envelope in left:
                del self._held[_key(envelope)]


def _key(envelope: ReceivedEnvelope) -> tuple[str, str]:
    return envelope.topic, envelope.ack_id
