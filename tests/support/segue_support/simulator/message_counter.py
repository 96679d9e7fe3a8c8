"""Counts messages: one for each event, which each pipeline that is to know of it gets, no more."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from segue.model.message import decode_message
from segue.model.queue import format_inbox

if TYPE_CHECKING:
    from segue.model.graph import Graph
    from segue.model.message import Message
    from segue.model.queue import Envelope

# URI, version, request of a ping, event, topic
Edge = tuple[str, str, str | None, str, str]


class MessageCounter:
    """The number of messages about a file that are published to each topic.

    An event is published once, and each subscription to its topic gets it. A message that is
    delivered once more may be passed on once more, along the whole way below, and so adds one to
    each topic, not more. A request does the same, as it may find something finished of which nobody
    is notified yet.

    A request is passed on to a pipeline once for each of its jobs, by whoever has finished the last
    parent of that job.
    """

    def __init__(self, deployments: int) -> None:
        self._rounds = 1 + deployments
        self._published: Counter[Edge] = Counter()
        self._passed_on: Counter[tuple[str, str, str]] = Counter()
        self._deliveries: Counter[str] = Counter()  # by URI: what is delivered or sent once more
        self._asked: Counter[str] = Counter()  # by URI: how often something was wanted of a file
        self._requests: Counter[str] = Counter()  # by URI: messages

    def excuse(self, uri: str) -> None:
        """Allow what follows from a message that is delivered or sent once more."""
        self._deliveries[uri] += 1

    def ask(self, uri: str) -> None:
        """Allow what follows from something that is wanted of a file."""
        self._asked[uri] += 1

    def add(self, envelope: Envelope, graph: Graph, *, passes_on: bool) -> str | None:
        """Add a message that is published; return what is wrong with it, if anything."""
        message = decode_message(envelope.data)
        what: object
        if message.trigger is not None:
            what = edge = build_edge(message, envelope.topic)
            self._published[edge] += 1
            number = self._published[edge]
            bound = self._rounds + self._deliveries[message.uri] + self._requests[message.uri]
        else:
            self._requests[message.uri] += 1
            if not passes_on:
                return None
            what = where = (message.uri, message.version, envelope.topic)
            self._passed_on[where] += 1
            number = self._passed_on[where]
            asked = [
                jobs for p, jobs in graph.pipelines.items() if format_inbox(p) == envelope.topic
            ]
            ways = sum(map(len, asked))
            if self._rounds > 1:  # each event asks for what its own deployment lacks
                ways += self._rounds * sum(1 + len(job.parents) for job in graph.jobs.values())
            bound = self._asked[message.uri] * ways + self._deliveries[message.uri]
        if number <= bound:
            return None
        return f"{what} was published {number} times, and {bound} are enough"


def build_edge(message: Message, topic: str) -> Edge:
    """Return what an event is counted as."""
    assert message.trigger is not None
    request = message.request if message.ping else None
    return message.uri, message.version, request, message.trigger, topic
