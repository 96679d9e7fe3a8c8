"""The queue: the port through which jobs are told, and the names of its topics.

Each job has a topic a lane, so that neither live arrivals nor requests starve the other, and one
for its dead letters. Delivery is at least once: what is not acknowledged comes again, in any order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from segue.model.graph import Graph
from segue.model.message import Message, encode


class Lane(StrEnum):
    """Why a message is sent; each lane of a job has a topic of its own."""

    LIVE = "live"  # a file has arrived
    REQUESTS = "requests"  # somebody asked for a result


DEAD = "dead"


def topic_of(job: str, lane: str) -> str:
    """Return the topic on which a job is told."""
    return f"{job}-{lane}"


def dead_topic(job: str) -> str:
    """Return the topic that keeps what a job could not work on."""
    return f"{job}-{DEAD}"


def topics_of(graph: Graph, jobs: Iterable[str] | None = None) -> tuple[str, ...]:
    """Return the topics on which jobs are told: by default, all of a graph."""
    chosen = graph.jobs if jobs is None else jobs
    return tuple(topic_of(job, lane) for job in chosen for lane in Lane)


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """What is published: bytes on a topic."""

    topic: str
    data: bytes
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A letter that was handed over, and will be again unless it is acknowledged in time."""

    topic: str
    data: bytes
    attributes: Mapping[str, str] = field(default_factory=dict)
    message_id: str
    receipt: str  # names this one delivery to the queue
    published_at: datetime


class Queue(Protocol):
    """Letters by topic, delivered at least once.

    A server that is away raises ``Unavailable``, a topic or subscription that does not exist
    ``ConfigurationError``, a full disk ``DiskFull``.
    """

    def publish(self, letters: Sequence[Letter]) -> None:
        """Take over letters; on return all of them are kept.

        After an error some of them may be, so whoever publishes does it again.
        """

    def pull(self, topics: Sequence[str], *, limit: int, wait_s: float = 0.0) -> list[Delivery]:
        """Return up to ``limit`` letters, of each topic its share if it has so many.

        Returns as soon as there is one, and after ``wait_s`` with none. What is returned is hidden
        from others for the queue's deadline, counted from now.
        """

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Remove letters for good; one whose deadline has passed may come again all the same."""

    def extend(self, deliveries: Sequence[Delivery], seconds: float) -> None:
        """Hide letters for so long from now; with 0, give them back at once."""

    def depth(self, topics: Sequence[str]) -> Mapping[str, int] | None:
        """Return how many letters each topic holds, delivered ones included; None: not known."""

    def close(self) -> None:
        """Let go of connections and files."""


def letter(message: Message) -> Letter:
    """Put a message on its way: to its job, on its lane."""
    return Letter(topic=topic_of(message.job, message.lane), data=encode(message))
