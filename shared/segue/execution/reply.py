"""What comes of a message: whom to tell, what to strike out of the ledger, what to log."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from segue.errors import Kind, UnreadableMessage
from segue.log import Action
from segue.model import dead_letter
from segue.model.dead_letter import Stage
from segue.model.graph import Graph
from segue.model.ledger import Result
from segue.model.message import Message
from segue.model.queue import Letter, letter
from segue.model.record import EVERYTHING, evolve


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """The bytes of a message, as they came on a job's topic."""

    job: str
    data: bytes
    handle: Any = None  # comes back in the reply
    message_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Strike:
    """Targets to strike out of a record once the letters of a reply are published.

    On Dataflow it waits, pickled, behind a durable step: a change of its fields needs a drain.
    """

    uri: str
    generation: int
    job: str
    targets: tuple[str, ...]
    wanted_at: datetime | None  # as it was; what was asked for since stays owed


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came of one message: letters to publish, then perhaps a strike, then acknowledge."""

    received: Received
    action: Action
    message: Message | None = None  # None: unreadable
    letters: tuple[Letter, ...] = ()
    strike: Strike | None = None
    result: Result | None = None
    reason: str | None = None

    @property
    def job(self) -> str:
        """The job that was told."""
        return self.received.job if self.message is None else self.message.job

    def fields(self) -> dict[str, Any]:
        """What is logged of it."""
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


def passed_on(message: Message, job: str, targets: tuple[str, ...] | None) -> Letter:
    """Tell another job the same, for these targets."""
    return letter(evolve(message, job=job, targets=targets, attempt=1))


def to_children(graph: Graph, message: Message) -> Iterator[Letter]:
    """Tell the children through which the targets are reached."""
    for child in graph.children[message.job]:
        if graph.on_line(child, message.targets):
            yield passed_on(message, child, message.targets)


def to_whom_it_is_owed(graph: Graph, message: Message, owed: tuple[str, ...]) -> Iterator[Letter]:
    """Tell what others asked for, on its own and without force.

    The job itself is told, too, in case that an older version of it is what was finished.
    """
    targets = None if EVERYTHING in owed else owed
    for job in (message.job, *graph.children[message.job]) if owed else ():
        if graph.on_line(job, targets):
            yield letter(
                Message(
                    uri=message.uri,
                    generation=message.generation,
                    job=job,
                    targets=targets,
                    lane=message.lane,
                )
            )


def buried(
    received: Received,
    message: Message | None,
    *,
    stage: Stage,
    error: UnreadableMessage,
    at: datetime,
) -> Reply:
    """Put aside what cannot be worked on here."""
    dead = dead_letter.dead_letter(
        stage=stage,
        job=received.job,
        kind=Kind.UNREADABLE_MESSAGE,
        type=type(error).__name__,
        error=str(error),
        data=received.data,
        uri=message.uri if message is not None else None,
        generation=message.generation if message is not None else None,
        at=at,
    )
    return Reply(
        received=received,
        action=Action.DEAD_LETTERED,
        letters=(dead_letter.letter(dead),),
        reason=f"{stage}: {error}",
    )


def of_a_failure(received: Received, message: Message, result: Result, at: datetime) -> Letter:
    """The dead letter of a job that failed for good."""
    error = result.error
    assert error is not None
    return dead_letter.letter(
        dead_letter.dead_letter(
            stage=Stage.RUN,
            job=message.job,
            kind=error.kind,
            type=error.type,
            error=error.message,
            data=received.data,
            uri=message.uri,
            generation=message.generation,
            at=at,
        )
    )
