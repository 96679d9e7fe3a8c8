"""Counts messages: one for each event, which each pipeline that is to know of it gets, no more."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from segue.model.message import decode_message
from segue.model.queue import format_inbox

if TYPE_CHECKING:
    from segue.model.message import Message
    from segue.model.queue import Envelope
    from segue_support.simulator.world import Caller

# URI, version, request of a ping, event, topic, whether it is a deletion
Edge = tuple[str, str, str | None, str, str, bool]
Where = tuple[str, str]  # namespace and URI


class MessageCounter:
    """The number of messages about a file that are published to each topic.

    An event is published once, and each subscription to its topic gets it. A message that is
    delivered once more may be passed on once more, along the whole way below, and so adds one to
    each topic, not more. A request does the same, as it may find something finished of which nobody
    is notified yet.

    Each delivery of the event that a result was computed for tells of the result. One that is
    computed again, as it was forced, may be so for another event. Then each delivery of that tells
    of it, too, and so on below: all that is told may be told as often again.

    A request is passed on to a pipeline once for each of its jobs, by whoever has finished the last
    parent of that job. Whoever gets a request may ask the namespaces above once for each job, and
    they respond once to each request.
    """

    def __init__(self, deployments: int) -> None:
        self._rounds = 1 + deployments
        self._published: Counter[Edge] = Counter()
        self._passed_on: Counter[tuple[str, str, str]] = Counter()
        self._deliveries: Counter[str] = Counter()  # by URI: what is delivered or sent once more
        # The events that each result was computed for: namespace, URI, version and fingerprint.
        self._triggers: defaultdict[tuple[str, str, str, str], set[str]] = defaultdict(set)
        self._retriggered: Counter[tuple[str, str]] = Counter()  # by URI and version
        self._asked: Counter[Where] = Counter()  # how often something was wanted of a file
        self._requests: Counter[Where] = Counter()  # messages
        self._crossing: Counter[Where] = Counter()  # requests and responses of other namespaces
        # By URI, inbox and job: the requests to another namespace less its responses.
        self._unanswered: Counter[tuple[str, str, str]] = Counter()

    def excuse(self, uri: str) -> None:
        """Allow what follows from a message that is delivered or sent once more."""
        self._deliveries[uri] += 1

    def ask(self, namespace: str, uri: str) -> None:
        """Allow what follows from something that is wanted of a file in a namespace."""
        self._asked[namespace, uri] += 1

    def note_trigger(
        self, namespace: str, uri: str, version: str, fingerprint: str, event: str
    ) -> None:
        """Note the event that a result was computed for; it may have been another one before."""
        known = self._triggers[namespace, uri, version, fingerprint]
        if known and event not in known:
            self._retriggered[uri, version] += 1
        known.add(event)

    def add(self, envelope: Envelope, caller: Caller) -> str | None:
        """Add a message that is published; return what is wrong with it, if anything."""
        message = decode_message(envelope.data)
        topic = f"{envelope.queue or caller.home.queue}/{envelope.topic}"
        if message.is_response:
            return self._add_response(message, topic)
        if message.trigger is not None:
            return self._add_event(message, topic, caller)
        return self._add_request(message, topic, envelope.topic, caller)

    def _add_event(self, message: Message, topic: str, caller: Caller) -> str | None:
        edge = build_edge(message, topic)
        self._published[edge] += 1
        bound = self._rounds + self._deliveries[message.uri]
        if not message.is_deleted:
            bound *= 1 + self._retriggered[message.uri, message.version]
        if message.result is not None:  # a pipeline gets what it has published itself, perhaps
            bound *= self._rounds
        for home in caller.home.world.homes:  # here and above
            bound += self._requests[home.name, message.uri]
        if message.is_deleted:  # each namespace above may be told, and find out itself
            bound += len(caller.home.world.homes)
        return _compare(edge, self._published[edge], bound)

    def _add_request(self, message: Message, topic: str, inbox: str, caller: Caller) -> str | None:
        uri, home = message.uri, caller.home.world.find_home(message.namespace)
        where = (uri, message.version, f"{caller.home.name} to {topic}")
        self._requests[home.name, uri] += 1
        if caller.serves:
            self._passed_on[where] += 1
        number = self._passed_on[where]
        if message.reply_to is not None:
            self._crossing[home.name, uri] += 1
            for job in message.targets:
                self._unanswered[uri, message.reply_to.partition("@")[0], job] += 1
            here = (caller.home.name, uri)
            bound = self._requests[here] + self._asked[here] + self._deliveries[uri]
            return _compare(where, number, bound * len(home.graph.jobs))
        graph = home.graph
        asked = [jobs for p, jobs in graph.pipelines.items() if format_inbox(p) == inbox]
        ways = sum(map(len, asked))
        if self._rounds > 1:  # each event asks for what its own deployment lacks
            ways += self._rounds * sum(1 + len(job.parents) for job in graph.jobs.values())
        times = self._asked[home.name, uri] + self._crossing[home.name, uri]
        bound = times * ways + self._deliveries[uri]
        return _compare(where, number, bound)

    def _add_response(self, message: Message, topic: str) -> str | None:
        queue, _, inbox = topic.rpartition("/")
        namespace = queue.rpartition("/")[2]
        self._crossing[namespace, message.uri] += 1
        reader = f"{namespace}/{inbox.removeprefix('inbox-')}"
        where = (message.uri, reader, f"{message.trigger}")
        self._unanswered[where] -= 1
        return _compare(where, -self._unanswered[where], self._deliveries[message.uri])


def _compare(what: object, number: int, bound: int) -> str | None:
    if number <= bound:
        return None
    return f"{what} was published {number} times, and {bound} are enough"


def build_edge(message: Message, topic: str) -> Edge:
    """Return what an event is counted as."""
    assert message.trigger is not None
    request = message.request if message.ping else None
    uri, version, trigger = message.uri, message.version, message.trigger
    return uri, version, request, trigger, topic, message.is_deleted
