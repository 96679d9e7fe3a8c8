"""Counts messages: one for each event and each pipeline that is to know of it, and no more."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from segue.model.message import decode_message
from segue.model.queue import parse_topic

if TYPE_CHECKING:
    from segue.model.graph import Graph
    from segue.model.message import Message
    from segue.model.queue import Envelope

# URI, version, request of a ping, event, pipeline
Edge = tuple[str, str, str | None, str, str]


class MessageCounter:
    """The number of messages about a file that each pipeline gets.

    An event is published once to each pipeline. A message that is delivered once more may be passed
    on once more, along the whole way below, and so adds one to each edge, not more. A request does
    the same, as it may find something finished of which nobody is notified yet.

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
        pipeline = parse_topic(envelope.topic)
        what: object
        if message.trigger is not None:
            what = edge = build_edge(message, pipeline)
            self._published[edge] += 1
            number = self._published[edge]
            bound = self._rounds + self._deliveries[message.uri] + self._requests[message.uri]
        else:
            self._requests[message.uri] += 1
            if not passes_on:
                return None
            what = where = (message.uri, message.version, pipeline)
            self._passed_on[where] += 1
            number = self._passed_on[where]
            ways = len(graph.pipelines[pipeline])
            if self._rounds > 1:  # each event asks for what its own deployment lacks
                ways += self._rounds * sum(1 + len(job.parents) for job in graph.jobs.values())
            bound = self._asked[message.uri] * ways + self._deliveries[message.uri]
        if number <= bound:
            return None
        return f"{what} was published {number} times, and {bound} are enough"


def build_edge(message: Message, pipeline: str) -> Edge:
    """Return what an event is counted as."""
    assert message.trigger is not None
    request = message.request if message.ping else None
    return message.uri, message.version, request, message.trigger, pipeline
