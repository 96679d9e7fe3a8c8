"""The queue: the port through which pipelines are notified, and the names of its topics.

Each pipeline has one topic per lane, so that neither live arrivals nor requests starve the other,
and one for its dead letters. Delivery is at least once, in any order: what is not acknowledged is
delivered again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol, TypeVar

from segue.model.message import Message, encode_message

T = TypeVar("T")


class Lane(StrEnum):
    """Why a message is sent; each lane of a pipeline has its own topic."""

    LIVE = "live"  # a file has arrived
    REQUESTS = "requests"  # a result was requested


DEAD = "dead"


def format_topic(pipeline: str, lane: str) -> str:
    """Return the topic of a pipeline's messages on a lane."""
    return f"{pipeline}-{lane}"


def format_dead_topic(pipeline: str) -> str:
    """Return the topic of a pipeline's dead letters."""
    return f"{pipeline}-{DEAD}"


def parse_topic(topic: str) -> str:
    """Return the pipeline of a topic."""
    return topic.rpartition("-")[0]


def list_topics(pipelines: Iterable[str]) -> tuple[str, ...]:
    """Return the topics of pipelines' messages."""
    return tuple(format_topic(pipeline, lane) for pipeline in pipelines for lane in Lane)


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """Bytes and attributes on their way to a topic."""

    topic: str
    data: bytes
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedEnvelope:
    """An envelope as pulled; it is delivered again unless it is acknowledged in time."""

    topic: str
    data: bytes
    attributes: Mapping[str, str] = field(default_factory=dict)
    message_id: str
    ack_id: str  # identifies this one delivery
    published_at: datetime


class Queue(Protocol):
    """Envelopes by topic, delivered at least once.

    An unreachable server raises ``Unavailable``, a topic or subscription that does not exist
    ``ConfigurationError``, a full disk ``DiskFull``.
    """

    def publish(self, envelopes: Sequence[Envelope]) -> None:
        """Publish envelopes; on return all of them are stored.

        After an error some of them may be stored, so the caller publishes all of them again.
        """

    def pull(
        self, topics: Sequence[str], *, limit: int, wait_s: float = 0.0
    ) -> list[ReceivedEnvelope]:
        """Return up to ``limit`` envelopes, with an equal share of each topic if it has enough.

        Returns as soon as there is one, or an empty list after ``wait_s``. The envelopes are hidden
        from others for the queue's deadline, counted from now.
        """

    def acknowledge(self, envelopes: Sequence[ReceivedEnvelope]) -> None:
        """Remove envelopes; one whose deadline has passed may still be delivered again."""

    def extend(self, envelopes: Sequence[ReceivedEnvelope], seconds: float) -> None:
        """Hide envelopes for some seconds from now; 0 releases them at once."""

    def sync(self) -> None:
        """Return once all that was published survives a power cut."""

    def measure_depth(self, topics: Sequence[str]) -> Mapping[str, int] | None:
        """Return how many envelopes each topic holds, delivered ones included; None if unknown."""

    def close(self) -> None:
        """Close connections and files."""


def message_to_envelope(message: Message, pipeline: str) -> Envelope:
    """Wrap a message for a pipeline's topic of its lane."""
    return Envelope(topic=format_topic(pipeline, message.lane), data=encode_message(message))


def rotate(sources: Sequence[str], turn: int) -> list[str]:
    """Return each source once, starting with another one each turn."""
    once = list(dict.fromkeys(sources))
    first = turn % len(once) if once else 0
    return once[first:] + once[:first]


def take_fair_shares(
    sources: Sequence[str],
    limit: int,
    take: Callable[[Mapping[str, int]], Mapping[str, Sequence[T]]],
) -> list[T]:
    """Take up to ``limit`` items in equal shares, and more from the others where one runs out.

    ``take`` gets a number for each of some sources; a source that returns fewer is empty. A
    remainder that cannot be shared equally comes from the first sources.
    """
    items: list[T] = []
    left = list(sources)
    while left and len(items) < limit:
        share, more = divmod(limit - len(items), len(left))
        shares = {s: share + (i < more) for i, s in enumerate(left) if share or i < more}
        taken = take(shares)
        for source in shares:
            items += taken[source]
        next_first = left[more:] + left[:more]
        left = [s for s in next_first if s not in shares or len(taken[s]) == shares[s]]
    return items
