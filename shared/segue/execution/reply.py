"""The reply to a message: what to publish, what to clear from the ledger, what to log.

The order matters: envelopes are published first, and the pending targets that they notify are
cleared then. Whoever dies in between publishes again when the message comes again, and a repeated
message changes nothing; the other way round, some targets would never be notified.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from segue.clock import Clock
from segue.log import Action
from segue.model import dead_letter, transitions
from segue.model.dead_letter import Stage
from segue.model.graph import Graph
from segue.model.ledger import Change, Ledger, Transition
from segue.model.message import Message
from segue.model.queue import Envelope, Queue, message_to_envelope
from segue.model.record import EVERYTHING, Failure, Record, evolve
from segue.model.transitions import Result


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedMessage:
    """The bytes of a message, as received on a job's topic."""

    job: str
    data: bytes
    handle: Any = None  # comes back in the reply
    message_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearPending:
    """Pending targets to clear from a record once the envelopes of a reply are published.

    On Dataflow it waits, pickled, behind a durable step: a change of its fields needs a drain.
    """

    uri: str
    generation: int
    job: str
    targets: tuple[str, ...]
    pending_at: datetime | None  # as it was; targets that were added since stay pending


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The outcome of a message: publish its envelopes, then clear, then acknowledge it."""

    received: ReceivedMessage
    action: Action
    message: Message | None = None  # None: unreadable
    envelopes: tuple[Envelope, ...] = ()
    clear: ClearPending | None = None
    result: Result | None = None
    reason: str | None = None

    @property
    def job(self) -> str:
        """The job that the message is for."""
        return self.received.job if self.message is None else self.message.job

    def to_log_fields(self) -> dict[str, Any]:
        """Return the fields to log."""
        message, result = self.message, self.result
        error = result.error if result is not None else None
        return {
            "job": self.job,
            "file": message.uri if message is not None else None,
            "generation": message.generation if message is not None else None,
            "lane": message.lane if message is not None else None,
            "request": message.request if message is not None else None,
            "message_id": self.received.message_id,
            "reason": self.reason,
            "kind": error.kind if error is not None else None,
            "error": error.message if error is not None else None,
            "artifact": result.artifact if result is not None else None,
            "seconds": result.seconds if result is not None else None,
            "cpu_seconds": result.cpu_seconds if result is not None else None,
        }


def forward(message: Message, job: str, targets: tuple[str, ...] | None) -> Envelope:
    """Address a message to another job, for these targets."""
    return message_to_envelope(evolve(message, job=job, targets=targets, attempt=1))


def notify_children(graph: Graph, message: Message) -> Iterator[Envelope]:
    """Yield envelopes for the children through which the targets are reached."""
    for child in graph.children[message.job]:
        if graph.is_on_line(child, message.targets):
            yield forward(message, child, message.targets)


def notify_pending(graph: Graph, message: Message, pending: tuple[str, ...]) -> Iterator[Envelope]:
    """Yield envelopes for the targets that others asked for, apart and without force.

    The job itself gets one, too, in case an older version of it is what was finished.
    """
    targets = None if EVERYTHING in pending else pending
    for job in (message.job, *graph.children[message.job]) if pending else ():
        if graph.is_on_line(job, targets):
            yield message_to_envelope(
                Message(
                    uri=message.uri,
                    generation=message.generation,
                    job=job,
                    targets=targets,
                    lane=message.lane,
                )
            )


def build_dead_letter_envelope(
    received: ReceivedMessage, message: Message | None, stage: Stage, error: Failure, at: datetime
) -> Envelope:
    """Build the dead letter of a message that cannot be processed here, or whose job failed."""
    dead = dead_letter.build_dead_letter(
        stage=stage,
        job=received.job if message is None or stage is Stage.ROUTE else message.job,
        error=error,
        data=received.data,
        uri=message.uri if message is not None else None,
        generation=message.generation if message is not None else None,
        at=at,
    )
    return dead_letter.dead_letter_to_envelope(dead)


def send(replies: Sequence[Reply], *, queue: Queue, ledger: Ledger, clock: Clock) -> None:
    """Publish all envelopes in one call, then clear; after that, messages may be acknowledged.

    A power cut must not undo an earlier one of these steps than a later one, so each waits for the
    disk. A queue undoes acknowledgements before publications.
    """
    if envelopes := [envelope for reply in replies for envelope in reply.envelopes]:
        queue.publish(envelopes)
    if clears := [reply.clear for reply in replies if reply.clear is not None]:
        queue.sync()
        clear_pending(clears, ledger=ledger, now=clock())
    ledger.sync()


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
