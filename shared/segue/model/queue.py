"""The queue: the port through which pipelines are notified, and the names of its topics.

A topic is what somebody publishes: ``source`` the arrivals of files, ``done-JOB`` what a job has
finished, ``inbox-PIPELINE`` requests to a pipeline, ``dead`` what could not be processed. A
pipeline has a subscription to each topic that it reads, and gets every envelope that is published
from then on; whoever publishes does not know who reads. Subscriptions are pulled in equal shares,
so neither arrivals nor requests starve the other. Delivery is at least once, in any order: what is
not acknowledged is delivered again.

Each namespace has a queue of its own. A pipeline also has subscriptions to what the jobs that it
needs of other namespaces have finished, whose topics are in the others' queues.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, TypeVar

from segue.model.graph import SOURCE, Graph
from segue.model.manifest import split_reference
from segue.model.message import Message, encode_message

T = TypeVar("T")

SOURCE_TOPIC = "source"
DEAD_TOPIC = "dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """What is published to a topic, for one reader."""

    name: str
    topic: str
    queue: str | None = None  # URL of the other namespace's queue that has the topic; None: its own


DEAD_SUBSCRIPTION = Subscription(name=DEAD_TOPIC, topic=DEAD_TOPIC)


def format_done_topic(job: str) -> str:
    """Return the topic of what a job has finished."""
    return f"done-{job}"


def format_inbox(pipeline: str) -> str:
    """Return the topic of a pipeline's requests."""
    return f"inbox-{pipeline}"


def parse_subscription(name: str) -> str:
    """Return the pipeline that has a subscription."""
    return name.partition(".")[0]


def list_subscriptions(
    graph: Graph, pipelines: Iterable[str] | None = None
) -> tuple[Subscription, ...]:
    """Return the subscriptions of some pipelines; None: of all, and that to the dead letters."""
    found = [
        one
        for pipeline in (graph.pipelines if pipelines is None else pipelines)
        for one in _list_pipeline_subscriptions(graph, pipeline)
    ]
    return (*found, DEAD_SUBSCRIPTION) if pipelines is None else tuple(found)


def _list_pipeline_subscriptions(graph: Graph, pipeline: str) -> Iterable[Subscription]:
    for trigger in graph.find_triggers(pipeline):
        if trigger == SOURCE and graph.source_namespace is not None:
            continue
        topic = SOURCE_TOPIC if trigger == SOURCE else format_done_topic(trigger)
        yield Subscription(name=f"{pipeline}.{topic}", topic=topic)
    for reference in graph.find_foreign_parents(pipeline):
        namespace, job = split_reference(reference)
        yield _subscribe_elsewhere(graph, pipeline, namespace, format_done_topic(job))
    # New versions and tombstones concern jobs that run on request only, too.
    needs_source = any(graph.jobs[job].needs_source for job in graph.pipelines[pipeline])
    if needs_source and graph.source_namespace is not None:
        yield _subscribe_elsewhere(graph, pipeline, graph.source_namespace, SOURCE_TOPIC)
    yield Subscription(name=f"{pipeline}.inbox", topic=format_inbox(pipeline))


def _subscribe_elsewhere(graph: Graph, pipeline: str, namespace: str, topic: str) -> Subscription:
    queue = graph.imports[namespace].queue
    return Subscription(name=f"{pipeline}.{namespace}.{topic}", topic=topic, queue=queue)


def list_topics(graph: Graph) -> tuple[str, ...]:
    """Return the topics of a graph."""
    done = [format_done_topic(job) for job in graph.jobs if graph.has_readers(job)]
    inboxes = [format_inbox(pipeline) for pipeline in graph.pipelines]
    return (SOURCE_TOPIC, *done, *inboxes, DEAD_TOPIC)


def list_published_topics(graph: Graph, pipelines: Iterable[str]) -> tuple[str, ...]:
    """Return the topics to which some pipelines publish."""
    done: set[str] = set()
    asked: set[str] = set()
    for pipeline in pipelines:
        done.update(graph.find_published(pipeline))
        if graph.locked_references:  # what others delete, any pipeline passes on for the graph
            done.update(job.name for job in graph.jobs.values() if job.publish)
        asked.update(graph.find_notified(pipeline))
    return (
        *(format_done_topic(job) for job in graph.jobs if job in done),
        *(format_inbox(pipeline) for pipeline in graph.pipelines if pipeline in asked),
        DEAD_TOPIC,
    )


def list_deletion_topics(graph: Graph) -> tuple[str, ...]:
    """Return the topics to which the deletion of a file is published, for other namespaces."""
    if not graph.is_shared:
        return ()
    published = [job.name for job in graph.jobs.values() if job.publish]
    return (SOURCE_TOPIC, *map(format_done_topic, published))


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """Bytes and attributes on their way to a topic."""

    topic: str
    data: bytes
    attributes: Mapping[str, str] = field(default_factory=dict)
    queue: str | None = None  # URL of the other namespace's queue that has the topic; None: the own


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedEnvelope:
    """An envelope as pulled; it is delivered again unless it is acknowledged in time."""

    subscription: str  # its name
    data: bytes
    attributes: Mapping[str, str] = field(default_factory=dict)
    message_id: str
    ack_id: str  # identifies this one delivery
    published_at: datetime


class Queue(Protocol):
    """Envelopes by topic, delivered to each subscription at least once.

    An unreachable server raises ``Unavailable``, a full disk ``DiskFull``, and in the cloud a topic
    or subscription that does not exist ``ConfigurationError``.
    """

    def subscribe(self, subscriptions: Sequence[Subscription]) -> None:
        """Create subscriptions that do not exist; in the cloud, Terraform creates them."""

    def publish(self, envelopes: Sequence[Envelope]) -> None:
        """Publish envelopes; on return all of them are stored for each subscription.

        After an error some of them may be stored, so the caller publishes all of them again.
        """

    def pull(
        self, subscriptions: Sequence[str], *, limit: int, wait_s: float = 0.0
    ) -> list[ReceivedEnvelope]:
        """Return up to ``limit`` envelopes, an equal share of each subscription that has enough.

        Returns as soon as there is one, or an empty list after ``wait_s``. The envelopes are hidden
        from others for the queue's deadline, counted from now.
        """

    def acknowledge(self, envelopes: Sequence[ReceivedEnvelope]) -> None:
        """Remove envelopes; one whose deadline has passed may still be delivered again."""

    def extend(self, envelopes: Sequence[ReceivedEnvelope], seconds: float) -> None:
        """Hide envelopes for some seconds from now; 0 releases them at once."""

    def sync(self) -> None:
        """Return once all that was published survives a power cut."""

    def measure_depth(self, subscriptions: Sequence[str]) -> Mapping[str, int] | None:
        """Return how many envelopes each subscription holds, with delivered ones; None: unknown."""

    def close(self) -> None:
        """Close connections and files."""


def event_to_envelope(event: Message) -> Envelope:
    """Wrap an event for the topic of what has happened."""
    assert event.trigger is not None
    topic = SOURCE_TOPIC if event.trigger == SOURCE else format_done_topic(event.trigger)
    return Envelope(topic=topic, data=encode_message(event))


def message_to_envelope(message: Message, pipeline: str) -> Envelope:
    """Wrap a message for a pipeline's inbox."""
    return Envelope(topic=format_inbox(pipeline), data=encode_message(message))


def respond_to_envelope(response: Message, address: str) -> Envelope:
    """Wrap a response for an inbox of another namespace: ``namespace/pipeline@queue``."""
    reader, _, queue = address.partition("@")
    pipeline = reader.partition("/")[2]
    return Envelope(topic=format_inbox(pipeline), data=encode_message(response), queue=queue)


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
