"""The streaming pipeline on Dataflow, with Beam's own Pub/Sub source and sink, which it runs
natively.

It responds to messages bundle by bundle, in many threads. A bundle is finished completely, and its
output is committed with it; so a message is acknowledged after the ledger has its result and other
jobs are notified. The leases of a failed bundle count as lost in this process, since the bundle
comes again at once.

What goes to other namespaces is published by a step of its own, since Beam's sink needs to know its
topic when the pipeline is built. So a queue that is away there holds up nothing here.

Keep the labels: Dataflow updates a running pipeline only if they are the same.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.io.gcp.pubsub import PubsubMessage, ReadFromPubSub, WriteToPubSub
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from segue.adapters.connect import connect_queue
from segue.adapters.pubsub import PubsubQueue
from segue.errors import TransientError
from segue.execution.reply import ClearNotify, Reply, clear_all
from segue.execution.streaming_run import SharedResources, StreamingRun, open_resources
from segue.execution.work import ReceivedMessage
from segue.log import Action, log_event
from segue.model.lease_owner import is_lost
from segue.model.queue import (
    Envelope,
    Queue,
    Subscription,
    list_published_topics,
    list_subscriptions,
    parse_subscription,
)
from segue.model.record import Lease
from segue_pipelines.streaming.process_cache import ProcessCache
from segue_pipelines.streaming.reply_metrics import report

CLEAR = "clear"
ELSEWHERE = "elsewhere"
MAX_LOST = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """What a reply has for other namespaces, and whom to clear once that is published, too.

    It waits, pickled, behind a durable step: a change of its fields needs a drain.
    """

    envelopes: tuple[Envelope, ...]
    clear: ClearNotify | None


def build(pipeline: Any, run: StreamingRun) -> None:
    """Build the pipeline over Beam's Pub/Sub IO."""
    queue = PubsubQueue(run.queue)  # only names topics and subscriptions; it does not connect
    received = [
        pipeline | f"Read {one.name}" >> read_subscription(queue, one)
        for one in list_subscriptions(run.graph, run.pipelines)
    ]
    writes = {
        topic: f"Publish {topic}" for topic in list_published_topics(run.graph, run.pipelines)
    }
    replies = (
        received
        | "Flatten" >> beam.Flatten()
        | "Respond" >> beam.ParDo(RespondInBundle(run)).with_outputs(*writes, ELSEWHERE, CLEAR)
    )
    for topic, label in writes.items():
        _ = replies[topic] | label >> write_topic(queue, topic)
    # Clear only whom was notified: behind a reshuffle, the publication before it is committed.
    sent = replies[ELSEWHERE] | "Publish elsewhere" >> publish_elsewhere(run)
    cleared = (replies[CLEAR], sent) | "Flatten clear" >> beam.Flatten()
    _ = cleared | "Commit" >> beam.Reshuffle() | "Clear" >> beam.ParDo(ClearNotified(run))


@beam.ptransform_fn  # type: ignore[untyped-decorator]
def read_subscription(pipeline: Any, queue: PubsubQueue, one: Subscription) -> Any:
    """Read the messages of one subscription, which is in the own project, wherever its topic is."""
    read = ReadFromPubSub(
        subscription=queue.resource("subscriptions", one.name), with_attributes=True
    )
    receive = beam.Map(_pubsub_to_message, name=parse_subscription(one.name))
    return pipeline | "Read" >> read | "Receive" >> receive


@beam.ptransform_fn  # type: ignore[untyped-decorator]
def write_topic(envelopes: Any, queue: PubsubQueue, topic: str) -> Any:
    """Publish envelopes to one topic."""
    write = WriteToPubSub(queue.resource("topics", topic), with_attributes=True)
    return envelopes | "Wrap" >> beam.Map(_envelope_to_pubsub) | "Write" >> write


@beam.ptransform_fn  # type: ignore[untyped-decorator]
def publish_elsewhere(replies: Any, run: StreamingRun) -> Any:
    """Publish to other namespaces, once all else is published; returns whom to clear then."""
    return replies | "Commit" >> beam.Reshuffle() | "Publish" >> beam.ParDo(PublishElsewhere(run))


def list_outputs(reply: Reply) -> Iterator[tuple[str, Any]]:
    """Yield the tag and the value of each output for a reply."""
    there = tuple(envelope for envelope in reply.envelopes if envelope.queue is not None)
    for envelope in reply.envelopes:
        if envelope.queue is None:
            yield envelope.topic, envelope
    if there:
        yield ELSEWHERE, Elsewhere(envelopes=there, clear=reply.clear)
    elif reply.clear is not None:
        yield CLEAR, reply.clear


def _pubsub_to_message(message: PubsubMessage, name: str) -> ReceivedMessage:
    return ReceivedMessage(pipeline=name, data=message.data, message_id=message.message_id)


def _envelope_to_pubsub(envelope: Envelope) -> PubsubMessage:
    return PubsubMessage(envelope.data, dict(envelope.attributes))


class LostOwners:
    """Decides whether a lease is lost: its owner is dead, or was given up in this process."""

    def __init__(self) -> None:
        self._given_up: dict[str, None] = {}  # oldest first
        self._lock = threading.Lock()

    def add(self, owners: Iterable[str]) -> None:
        """Give owners up; the oldest are forgotten, since their leases have expired."""
        with self._lock:
            self._given_up.update(dict.fromkeys(owners))
            while len(self._given_up) > MAX_LOST:
                del self._given_up[next(iter(self._given_up))]

    def __call__(self, lease: Lease) -> bool:
        """Whether nobody works under this lease any more."""
        return lease.owner in self._given_up or is_lost(lease)


class RespondInBundle(beam.DoFn):  # type: ignore[misc]
    """Emits envelopes tagged by their topic or as elsewhere, and whom to clear once all is sent."""

    def __init__(self, run: StreamingRun) -> None:
        self._run = run

    def setup(self) -> None:
        """Get the resources of this process, and a client of its shared pool."""
        resources, self._lost = processes.get_or_open(self._run)
        self._client = resources.pool.build_client()
        self._engine = resources.build_engine(self._client, self._lost)

    def start_bundle(self) -> None:
        """Give up what is left of the last bundle, which may have failed in a later step."""
        self._give_up()
        self._timestamp: Any = None

    def process(self, received: ReceivedMessage, timestamp: Any = beam.DoFn.TimestampParam) -> None:
        """Accept a message."""
        self._timestamp = timestamp
        self._engine.add_messages([received])

    def finish_bundle(self) -> Iterator[TaggedOutput]:
        """Finish all messages of the bundle.

        On any error, give all its work up, since its messages come again, perhaps elsewhere.
        """
        try:
            for reply in self._engine.drain():
                assert isinstance(reply, Reply)
                report(reply)
                for tag, output in list_outputs(reply):
                    value = WindowedValue(output, self._timestamp, (GlobalWindow(),))
                    yield TaggedOutput(tag, value)
        except Exception as error:
            self._give_up()
            if isinstance(error, TransientError):
                log_event(Action.UNAVAILABLE, severity="WARNING", kind=error.kind, error=str(error))
            raise

    def teardown(self) -> None:
        """Give up unfinished work, so that nobody waits for its leases."""
        self._give_up()

    def _give_up(self) -> None:
        self._lost.add(self._engine.abandon())
        self._client.abandon()


class PublishElsewhere(beam.DoFn):  # type: ignore[misc]
    """Emits whom to clear, after it has published what there is for other namespaces."""

    def __init__(self, run: StreamingRun) -> None:
        self._run = run

    def setup(self) -> None:
        """Get the queue of this process; it connects to others' at their first use."""
        self._queue = queues.get_or_open(self._run)

    def start_bundle(self) -> None:
        """Start with an empty list."""
        self._waiting: list[Elsewhere] = []
        self._timestamp: Any = None

    def process(self, reply: Elsewhere, timestamp: Any = beam.DoFn.TimestampParam) -> None:
        """Add what one reply has for other namespaces."""
        self._waiting.append(reply)
        self._timestamp = timestamp

    def finish_bundle(self) -> Iterator[WindowedValue]:
        """Publish all; what another namespace's queue does not take is logged and lost."""
        self._queue.publish([x for reply in self._waiting for x in reply.envelopes])
        for reply in self._waiting:
            if reply.clear is not None:
                yield WindowedValue(reply.clear, self._timestamp, (GlobalWindow(),))


class ClearNotified(beam.DoFn):  # type: ignore[misc]
    """Emits nothing: clears whom to notify from the ledger after they were notified."""

    def __init__(self, run: StreamingRun) -> None:
        self._run = run

    def setup(self) -> None:
        """Get the resources of this process."""
        resources, _ = processes.get_or_open(self._run)
        self._ledger = resources.ledger

    def start_bundle(self) -> None:
        """Start with an empty list."""
        self._clears: list[ClearNotify] = []

    def process(self, clear: ClearNotify) -> None:
        """Add one record's."""
        self._clears.append(clear)

    def finish_bundle(self) -> None:
        """Clear them, with one change per record."""
        clear_all(self._clears, ledger=self._ledger)


def _open(run: StreamingRun, stack: Any) -> tuple[SharedResources, LostOwners]:
    """Open what all bundles of a process share."""
    resources = open_resources(run, stack)
    resources.log_start()
    return resources, LostOwners()


processes = ProcessCache(_open)


def _open_queue(run: StreamingRun, stack: Any) -> Queue:
    """Open the queue from which those of other namespaces are reached."""
    queue = connect_queue(run.queue, run.graph)
    stack.callback(queue.close)
    return queue


queues = ProcessCache(_open_queue)
