"""Publishes the envelopes of replies, and then clears the pending targets that they notified.

The order matters: whoever dies in between publishes again when the message comes again, and a
repeated message changes nothing; the other way round, some targets would never be notified.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from segue.clock import Clock
from segue.execution.responder import ClearPending, Reply
from segue.model import transitions
from segue.model.ledger import Change, Ledger, Transition
from segue.model.queue import Queue
from segue.model.record import Record


def send(replies: Sequence[Reply], *, queue: Queue, ledger: Ledger, clock: Clock) -> None:
    """Publish all envelopes in one call, then clear; after that, messages may be acknowledged."""
    if envelopes := [envelope for reply in replies for envelope in reply.envelopes]:
        queue.publish(envelopes)
    clear_pending([r.clear for r in replies if r.clear is not None], ledger=ledger, now=clock())


def clear_pending(clears: Iterable[ClearPending], *, ledger: Ledger, now: datetime) -> None:
    """Clear pending targets from their records, each record in one step."""
    by_file: dict[str, list[ClearPending]] = {}
    for clear in clears:
        by_file.setdefault(clear.uri, []).append(clear)
    if by_file:
        ledger.change(
            [Change(uri=u, transition=_build_clear(some, now)) for u, some in by_file.items()]
        )


def _build_clear(clears: Sequence[ClearPending], now: datetime) -> Transition[None]:
    def transition(found: Record | None) -> tuple[Record | None, None]:
        record = found
        for clear in clears:
            entry = found.jobs.get(clear.job) if found is not None else None
            if entry is None or entry.pending_at != clear.pending_at:
                continue  # too late: it would clear targets that were added since
            changed, _ = transitions.clear_pending(
                record, generation=clear.generation, targets={clear.job: clear.targets}, now=now
            )
            record = changed or record
        return record, None

    return transition
