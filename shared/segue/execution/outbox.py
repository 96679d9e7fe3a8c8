"""Publishes what replies say, and then strikes out what was owed: in this order.

Whoever dies in between publishes again when the message comes again, and a repeated message changes
nothing; the other way round, somebody would never be told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from segue.execution.responder import Reply, Strike
from segue.model.ledger import Change, Ledger, told
from segue.model.queue import Queue
from segue.model.record import Record


def send(
    replies: Sequence[Reply], *, queue: Queue, ledger: Ledger, clock: Callable[[], datetime]
) -> None:
    """Publish all letters in one call, then strike out; then the messages may be acknowledged."""
    if letters := [letter for reply in replies for letter in reply.letters]:
        queue.publish(letters)
    strike([r.strike for r in replies if r.strike is not None], ledger=ledger, now=clock())


def strike(strikes: Iterable[Strike], *, ledger: Ledger, now: datetime) -> None:
    """Strike targets out of their records, each record in one step."""
    by_file: dict[str, list[Strike]] = {}
    for one in strikes:
        by_file.setdefault(one.uri, []).append(one)
    if by_file:
        ledger.change(
            [Change(uri=u, transition=_striking(some, now)) for u, some in by_file.items()]
        )


def _striking(
    strikes: Sequence[Strike], now: datetime
) -> Callable[[Record | None], tuple[Record | None, None]]:
    def transition(found: Record | None) -> tuple[Record | None, None]:
        record = found
        for one in strikes:
            entry = found.jobs.get(one.job) if found is not None else None
            if entry is None or entry.wanted_at != one.wanted_at:
                continue  # whoever comes this late would strike out what others asked for since
            changed, _ = told(
                record, generation=one.generation, owed={one.job: one.targets}, now=now
            )
            record = changed or record
        return record, None

    return transition
