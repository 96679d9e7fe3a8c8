"""How a message is answered in the ledger: the transitions of the responder, each one atomic step.

Deciding and claiming, or leaving word, are one step, on the record as it then is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from segue.execution.reply import Received
from segue.model.graph import Graph
from segue.model.ledger import Result, Settled, Snapshot, Transition, claim, extend, pinged, settle
from segue.model.message import Message
from segue.model.outcome import blocked
from segue.model.planner import Ask, Decision, Drop, Forward, Run, Wait, decide, forced, leave
from segue.model.record import Entry, Lease, Record, State

NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(slots=True, kw_only=True)
class Item:
    """A message that is being worked on."""

    received: Received
    message: Message
    owner: str
    snapshot: Snapshot = field(default_factory=lambda: Snapshot(record=None))
    claimed_at: datetime = NEVER
    leased_until: datetime = NEVER  # what is being run holds a lease
    result: Result | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What was decided about a message, on the record as it then was."""

    decision: Decision
    record: Record | None  # from before
    replaces: bool = False
    claimed_at: datetime = NEVER
    settled: Settled = field(default_factory=Settled)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answering:
    """What all answers of a responder have in common."""

    graph: Graph
    lost: Callable[[Lease], bool]
    lease_s: float

    def deciding(self, item: Item, now: datetime) -> Transition[Answer]:
        """Decide; then claim, leave word, pass on a block, or leave the trace of a ping."""
        message = item.message

        def transition(found: Record | None) -> tuple[Record | None, Answer]:
            decision = decide(self.graph, found, message, now, owner=item.owner, lost=self.lost)
            answer = Answer(decision=decision, record=found)
            if found is None:
                return None, answer
            match decision:
                case Run():
                    replaces = forced(found, message, message.job) or _was_reopened(found, message)
                    return self._claimed(item, found, now), Answer(
                        decision=decision, record=found, replaces=replaces, claimed_at=now
                    )
                case Ask() | Wait():
                    return leave(self.graph, found, message, decision, now), answer
                case Drop(_, cause, _) if cause not in (None, message.job):
                    assert cause is not None
                    record, settled = settle(
                        self._claimed(item, found, now),
                        generation=message.generation,
                        owner=item.owner,
                        results=[blocked(message.job, cause)],
                    )
                    return record, Answer(decision=decision, record=found, settled=settled)
                case Forward() if message.ping and message.request is not None:
                    record, _ = pinged(
                        found,
                        generation=message.generation,
                        job=message.job,
                        request=message.request,
                        now=now,
                    )
                    return record, answer
            return None, answer

        return transition

    def _claimed(self, item: Item, record: Record, now: datetime) -> Record:
        return claim(
            record,
            self.graph,
            [item.message.job],
            owner=item.owner,
            now=now,
            lease_s=self.lease_s,
            request=item.message.request,
        )


def remembered(
    transition: Transition[Answer], seen: Record | None, decided: tuple[Record | None, Answer]
) -> Transition[Answer]:
    """Decide once only, as long as the record is the very one that was decided on."""
    return lambda found: decided if found is seen else transition(found)


def settling(item: Item, result: Result) -> Transition[Settled]:
    """Record a result; if it stands there already, it is not lost."""
    message = item.message

    def transition(found: Record | None) -> tuple[Record | None, Settled]:
        entry = found.jobs.get(message.job) if found is not None else None
        if entry is not None and _is_recorded(entry, item, result):
            return None, Settled(owed={message.job: entry.wanted})
        return settle(found, generation=message.generation, owner=item.owner, results=[result])

    return transition


def keeping(item: Item, expires_at: datetime) -> Transition[bool]:
    """Keep a lease alive."""
    return lambda found: extend(
        found, owner=item.owner, jobs=[item.message.job], expires_at=expires_at
    )


def _is_recorded(entry: Entry, item: Item, result: Result) -> bool:
    """Whether the result stands there: the ledger may have gone away after recording it."""
    return (
        entry.lease is None
        and entry.generation == item.message.generation
        and entry.started_at == item.claimed_at
        and (entry.state, entry.artifact, entry.error)
        == (result.state, result.artifact, result.error)
    )


def _was_reopened(record: Record, message: Message) -> bool:
    """Whether a request wants the job's result anew, and whoever began with it did not end it."""
    entry = record.jobs.get(message.job)
    return entry is not None and entry.state is not State.DONE and entry.request is not None
