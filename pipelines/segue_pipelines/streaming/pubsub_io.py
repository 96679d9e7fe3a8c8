"""The streaming pipeline on Dataflow: Beam's own Pub/Sub source and sink, which it runs natively.

Labels stay as they are, so that a running pipeline can be updated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import apache_beam as beam
from apache_beam.io.gcp.pubsub import PubsubMessage, ReadFromPubSub, WriteToPubSub

from segue.adapters.pubsub import PubsubQueue
from segue.execution.responder import Received
from segue.model.graph import SOURCE, Graph
from segue.model.queue import Lane, Letter, dead_topic, topic_of
from segue_pipelines.streaming.bundles import STRIKES, RespondInBundle, StrikeOut

if TYPE_CHECKING:
    from collections.abc import Sequence

    from segue_pipelines.streaming.pipeline import Streaming


def build(pipeline: Any, run: Streaming) -> None:
    """Build the pipeline over Beam's Pub/Sub IO."""
    queue = PubsubQueue(run.queue)  # for the names of its topics; it is not connected
    received = [
        pipeline | f"Read {job} {lane}" >> ReadLane(queue, job, lane)
        for job in run.jobs
        for lane in Lane
    ]
    told = told_jobs(run.graph, run.jobs)
    writes = {topic_of(job, lane): f"Publish {job} {lane}" for job in told for lane in Lane}
    writes |= {dead_topic(job): f"Dead letters of {job}" for job in run.jobs}
    replies = (
        received
        | "Flatten" >> beam.Flatten()
        | "Respond" >> beam.ParDo(RespondInBundle(run)).with_outputs(*writes, STRIKES)
    )
    for topic, label in writes.items():
        _ = replies[topic] | label >> WriteTopic(queue, topic)
    # Nothing is struck out before it was told: behind the barrier, the publication is committed.
    _ = replies[STRIKES] | "Commit" >> beam.Reshuffle() | "Strike out" >> beam.ParDo(StrikeOut(run))


def told_jobs(graph: Graph, jobs: Sequence[str]) -> tuple[str, ...]:
    """The jobs that some jobs tell: themselves, parents that are asked, children."""
    told = set(jobs)
    for job in jobs:
        told.update(graph.jobs[job].parents, graph.children[job])
    told.discard(SOURCE)
    return tuple(job for job in graph.jobs if job in told)


class ReadLane(beam.PTransform):  # type: ignore[misc]
    """Emits what comes on one lane of a job."""

    def __init__(self, queue: PubsubQueue, job: str, lane: str) -> None:
        super().__init__()
        self._job = job
        self._subscription = queue.resource("subscriptions", topic_of(job, lane))

    def expand(self, pipeline: Any) -> Any:
        """Build the read."""
        read = ReadFromPubSub(subscription=self._subscription, with_attributes=True)
        return pipeline | "Read" >> read | "Receive" >> beam.Map(_received, job=self._job)


class WriteTopic(beam.PTransform):  # type: ignore[misc]
    """Publishes letters on one topic."""

    def __init__(self, queue: PubsubQueue, topic: str) -> None:
        super().__init__()
        self._topic = queue.resource("topics", topic)

    def expand(self, letters: Any) -> Any:
        """Build the write."""
        write = WriteToPubSub(self._topic, with_attributes=True)
        return letters | "Wrap" >> beam.Map(_wrapped) | "Write" >> write


def _received(message: PubsubMessage, job: str) -> Received:
    return Received(job=job, data=message.data, message_id=message.message_id)


def _wrapped(letter: Letter) -> PubsubMessage:
    return PubsubMessage(letter.data, dict(letter.attributes))
