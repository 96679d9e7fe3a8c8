"""The streaming pipeline on Dataflow: Beam's own Pub/Sub source and sink, which it runs natively.

Keep the labels: Dataflow updates a running pipeline only if they are the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import apache_beam as beam
from apache_beam.io.gcp.pubsub import PubsubMessage, ReadFromPubSub, WriteToPubSub

from segue.adapters.pubsub import PubsubQueue
from segue.execution.responder import ReceivedMessage
from segue.model.graph import SOURCE, Graph
from segue.model.queue import Envelope, Lane, format_dead_topic, format_topic
from segue_pipelines.streaming.bundles import CLEAR_PENDING, ClearPendingTargets, RespondInBundle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from segue_pipelines.streaming.streaming_run import StreamingRun


def build(pipeline: Any, run: StreamingRun) -> None:
    """Build the pipeline over Beam's Pub/Sub IO."""
    queue = PubsubQueue(run.queue)  # only names topics and subscriptions; it does not connect
    received = [
        pipeline | f"Read {job} {lane}" >> ReadLane(queue, job, lane)
        for job in run.jobs
        for lane in Lane
    ]
    notified = find_notified_jobs(run.graph, run.jobs)
    writes = {format_topic(job, lane): f"Publish {job} {lane}" for job in notified for lane in Lane}
    writes |= {format_dead_topic(job): f"Dead letters of {job}" for job in run.jobs}
    replies = (
        received
        | "Flatten" >> beam.Flatten()
        | "Respond" >> beam.ParDo(RespondInBundle(run)).with_outputs(*writes, CLEAR_PENDING)
    )
    for topic, label in writes.items():
        _ = replies[topic] | label >> WriteTopic(queue, topic)
    # Clear only what has been notified: behind the reshuffle, the publication is committed.
    _ = (
        replies[CLEAR_PENDING]
        | "Commit" >> beam.Reshuffle()
        | "Clear pending" >> beam.ParDo(ClearPendingTargets(run))
    )


def find_notified_jobs(graph: Graph, jobs: Sequence[str]) -> tuple[str, ...]:
    """Return the jobs that get messages from ``jobs``: themselves, their parents and children."""
    notified = set(jobs)
    for job in jobs:
        notified.update(graph.jobs[job].parents, graph.children[job])
    notified.discard(SOURCE)
    return tuple(job for job in graph.jobs if job in notified)


class ReadLane(beam.PTransform):  # type: ignore[misc]
    """Emits the messages of one lane of a job."""

    def __init__(self, queue: PubsubQueue, job: str, lane: str) -> None:
        super().__init__()
        self._job = job
        self._subscription = queue.resource("subscriptions", format_topic(job, lane))

    def expand(self, pipeline: Any) -> Any:
        """Build the read."""
        read = ReadFromPubSub(subscription=self._subscription, with_attributes=True)
        return pipeline | "Read" >> read | "Receive" >> beam.Map(_pubsub_to_message, job=self._job)


class WriteTopic(beam.PTransform):  # type: ignore[misc]
    """Publishes envelopes to one topic."""

    def __init__(self, queue: PubsubQueue, topic: str) -> None:
        super().__init__()
        self._topic = queue.resource("topics", topic)

    def expand(self, envelopes: Any) -> Any:
        """Build the write."""
        write = WriteToPubSub(self._topic, with_attributes=True)
        return envelopes | "Wrap" >> beam.Map(_envelope_to_pubsub) | "Write" >> write


def _pubsub_to_message(message: PubsubMessage, job: str) -> ReceivedMessage:
    return ReceivedMessage(job=job, data=message.data, message_id=message.message_id)


def _envelope_to_pubsub(envelope: Envelope) -> PubsubMessage:
    return PubsubMessage(envelope.data, dict(envelope.attributes))
