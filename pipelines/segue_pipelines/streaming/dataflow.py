"""The streaming pipeline on Dataflow, with Beam's own Pub/Sub source and sink, which it runs
natively.

It responds to messages bundle by bundle, in many threads. A bundle is finished completely, and its
output is committed with it; so a message is acknowledged after the ledger has its result and other
jobs are notified. The leases of a failed bundle count as lost in this process, since the bundle
comes again at once.

Keep the labels: Dataflow updates a running pipeline only if they are the same.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.io.gcp.pubsub import PubsubMessage, ReadFromPubSub, WriteToPubSub
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from segue.adapters.connect import connect_ledger, connect_store
from segue.adapters.pubsub import PubsubQueue
from segue.clock import utc_now
from segue.errors import TransientError
from segue.execution.reply import ClearPending, ReceivedMessage, clear_pending
from segue.execution.responder import Responder
from segue.log import Action, log_event
from segue.model.graph import SOURCE, Graph
from segue.model.lease_owner import is_lost
from segue.model.ledger import Ledger
from segue.model.object_store import ObjectStore
from segue.model.queue import Envelope, Lane, format_dead_topic, format_topic
from segue.model.record import Lease
from segue.worker.pool import Pool
from segue_pipelines.streaming.pools import SharedPool
from segue_pipelines.streaming.streaming_run import ProcessCache, StreamingRun, report_replies

CLEAR_PENDING = "clear_pending"
MAX_LOST = 100_000


def build(pipeline: Any, run: StreamingRun) -> None:
    """Build the pipeline over Beam's Pub/Sub IO."""
    queue = PubsubQueue(run.queue)  # only names topics and subscriptions; it does not connect
    received = [
        pipeline | f"Read {job} {lane}" >> read_lane(queue, job, lane)
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
        _ = replies[topic] | label >> write_topic(queue, topic)
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


@beam.ptransform_fn  # type: ignore[untyped-decorator]
def read_lane(pipeline: Any, queue: PubsubQueue, job: str, lane: str) -> Any:
    """Read the messages of one lane of a job."""
    subscription = queue.resource("subscriptions", format_topic(job, lane))
    read = ReadFromPubSub(subscription=subscription, with_attributes=True)
    return pipeline | "Read" >> read | "Receive" >> beam.Map(_pubsub_to_message, job=job)


@beam.ptransform_fn  # type: ignore[untyped-decorator]
def write_topic(envelopes: Any, queue: PubsubQueue, topic: str) -> Any:
    """Publish envelopes to one topic."""
    write = WriteToPubSub(queue.resource("topics", topic), with_attributes=True)
    return envelopes | "Wrap" >> beam.Map(_envelope_to_pubsub) | "Write" >> write


def _pubsub_to_message(message: PubsubMessage, job: str) -> ReceivedMessage:
    return ReceivedMessage(job=job, data=message.data, message_id=message.message_id)


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


class ProcessResources:
    """The connections, child processes and lost owners that all bundles of a process share."""

    def __init__(self, ledger: Ledger, artifacts: ObjectStore, pool: SharedPool) -> None:
        self.ledger = ledger
        self.artifacts = artifacts
        self.pool = pool
        self.lost = LostOwners()


class RespondInBundle(beam.DoFn):  # type: ignore[misc]
    """Emits envelopes tagged by their topic, and pending targets to clear once they are sent."""

    def __init__(self, run: StreamingRun) -> None:
        self._run = run

    def setup(self) -> None:
        """Get the resources of this process, and a client of its shared pool."""
        self._resources = process_resources.get_or_open(self._run)
        self._responder = Responder(
            graph=self._run.graph,
            jobs=self._run.jobs,
            ledger=self._resources.ledger,
            pool=self._resources.pool.build_client(),
            artifacts=self._resources.artifacts,
            lost=self._resources.lost,
        )

    def start_bundle(self) -> None:
        """Give up what is left of the last bundle, which may have failed in a later step."""
        self._give_up()
        self._timestamp: Any = None

    def process(self, received: ReceivedMessage, timestamp: Any = beam.DoFn.TimestampParam) -> None:
        """Accept a message."""
        self._timestamp = timestamp
        self._responder.add([received])

    def finish_bundle(self) -> Iterator[TaggedOutput]:
        """Finish all messages of the bundle.

        On any error, give all its work up, since its messages come again, perhaps elsewhere.
        """
        try:
            for reply in self._responder.drain():
                report_replies([reply])
                outputs: list[tuple[str, Any]] = [(e.topic, e) for e in reply.envelopes]
                if reply.clear is not None:
                    outputs.append((CLEAR_PENDING, reply.clear))
                for tag, output in outputs:
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
        self._resources.lost.add(self._responder.abandon())


class ClearPendingTargets(beam.DoFn):  # type: ignore[misc]
    """Emits nothing: clears pending targets in the ledger after they were notified."""

    def __init__(self, run: StreamingRun) -> None:
        self._run = run

    def setup(self) -> None:
        """Get the resources of this process."""
        self._resources = process_resources.get_or_open(self._run)

    def start_bundle(self) -> None:
        """Start with an empty list."""
        self._cleared: list[ClearPending] = []

    def process(self, cleared: ClearPending) -> None:
        """Add one record's targets."""
        self._cleared.append(cleared)

    def finish_bundle(self) -> None:
        """Clear them, with one change per record."""
        clear_pending(self._cleared, ledger=self._resources.ledger, now=utc_now())


def _open(run: StreamingRun, stack: contextlib.ExitStack) -> ProcessResources:
    ledger = connect_ledger(run.ledger)
    stack.callback(ledger.close)
    artifacts = connect_store(run.artifacts)
    stack.callback(artifacts.close)
    pool = SharedPool(
        lambda: Pool(
            run.graph, run.artifacts, ledger=run.ledger, processes=run.processes, jobs=run.jobs
        )
    )
    stack.callback(pool.close)
    log_event(Action.STARTED, jobs=" ".join(run.jobs), queue=run.queue, processes=pool.processes)
    return ProcessResources(ledger, artifacts, pool)


process_resources = ProcessCache(_open)
