"""The transitions by which the responder changes a message's record, each one atomic step.

Deciding and claiming, or adding pending targets, are one step, on the record as it then is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from segue.execution.reply import ReceivedMessage
from segue.model import planner, transitions
from segue.model.graph import Graph
from segue.model.ledger import Snapshot, Transition
from segue.model.message import Message
from segue.model.outcome import build_blocked_result
from segue.model.planner import (
    Ask,
    Decision,
    Drop,
    Forward,
    Run,
    Wait,
    register_targets,
)
from segue.model.record import Entry, Lease, Record
from segue.model.transitions import Result, Settled

NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(slots=True, kw_only=True)
class ActiveMessage:
    """A message that is being worked on."""

    received: ReceivedMessage
    message: Message
    owner: str
    snapshot: Snapshot = field(default_factory=lambda: Snapshot(record=None))
    claimed: Record | None = None  # as it was when the job was claimed
    claimed_at: datetime = NEVER
    leased_until: datetime = NEVER  # a job that is running holds a lease
    result: Result | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageDecision:
    """The decision on a message, and the record that it was made on."""

    decision: Decision
    record: Record | None  # before the transition
    claimed_at: datetime = NEVER
    settled: Settled = field(default_factory=Settled)


def build_decision(
    active: ActiveMessage,
    now: datetime,
    *,
    graph: Graph,
    lost: Callable[[Lease], bool],
    lease_s: float,
) -> Transition[MessageDecision]:
    """Build the transition that decides on a message, and carries the decision out.

    It claims the job, adds pending targets, records that the job is blocked, or records a ping.
    """
    message = active.message

    def claim(record: Record) -> Record:
        return transitions.claim(
            record,
            graph,
            [message.job],
            owner=active.owner,
            now=now,
            lease_s=lease_s,
            request=message.request,
        )

    def transition(found: Record | None) -> tuple[Record | None, MessageDecision]:
        decision = planner.decide(graph, found, message, now, owner=active.owner, lost=lost)
        answer = MessageDecision(decision=decision, record=found)
        if found is None:
            return None, answer
        match decision:
            case Run():
                return claim(found), replace(answer, claimed_at=now)
            case Ask() | Wait():
                return register_targets(graph, found, message, decision, now), answer
            case Drop(_, cause, _) if cause not in (None, message.job):
                assert cause is not None
                record, settled = transitions.settle(
                    claim(found),
                    generation=message.generation,
                    owner=active.owner,
                    results=[build_blocked_result(message.job, cause)],
                )
                return record, replace(answer, settled=settled)
            case Forward() if message.ping and message.request is not None:
                record, _ = transitions.record_ping(
                    found,
                    generation=message.generation,
                    job=message.job,
                    request=message.request,
                    now=now,
                )
                return record, answer
        return None, answer

    return transition


def settle(active: ActiveMessage, result: Result) -> Transition[Settled]:
    """Build the transition that records a result; one that is already recorded is not lost."""
    message = active.message

    def transition(found: Record | None) -> tuple[Record | None, Settled]:
        entry = found.jobs.get(message.job) if found is not None else None
        if entry is not None and _has_result(entry, active, result):
            return None, Settled(pending_targets={message.job: entry.pending_targets})
        return transitions.settle(
            found,
            generation=message.generation,
            owner=active.owner,
            results=[result],
            claimed=active.claimed,
        )

    return transition


def _has_result(entry: Entry, active: ActiveMessage, result: Result) -> bool:
    """Return whether the result is recorded: the ledger may have failed after recording it."""
    return (
        entry.lease is None
        and entry.generation == active.message.generation
        and entry.started_at == active.claimed_at
        and (entry.state, entry.artifact, entry.error)
        == (result.state, result.artifact, result.error)
    )
