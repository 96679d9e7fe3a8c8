"""The state of a local streaming pipeline in its process: connections and unfinished work.

A bundle is short and a job may be long, so unfinished work outlives bundles: the three steps of the
pipeline share one stream worker, which has the connections, the child processes, the envelopes that
are not acknowledged and the replies that are not published. When a server is unavailable, the
failed call is retried with the same arguments.
"""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from segue.adapters.connect import connect_ledger, connect_queue, connect_store
from segue.backoff import Backoff
from segue.clock import utc_now
from segue.errors import ConfigurationError, DiskFull, TransientError
from segue.execution.reply import ReceivedMessage, Reply, send
from segue.execution.responder import Responder
from segue.log import Action, log_event
from segue.model.ledger import Ledger
from segue.model.queue import Queue, ReceivedEnvelope, list_topics
from segue.worker.pool import Pool
from segue_pipelines.streaming.in_flight import InFlight
from segue_pipelines.streaming.pools import RestartingPool
from segue_pipelines.streaming.streaming_run import ProcessCache, StreamingRun

T = TypeVar("T")

BUNDLE_S = 0.25  # at most, since messages are acknowledged only when a bundle ends
IDLE_BUNDLE_S = 0.5
FINISHED_BUNDLE_S = 0.03  # with something to acknowledge; not less, as a bundle costs milliseconds
# How often to look for messages while jobs are running, as nothing can wait for both at once.
POLL_S = 0.05
GRACE_S = 15.0
BACKOFF = Backoff(0.1, 10.0)


@dataclass(frozen=True, slots=True)
class PulledBatch:
    """One element of the pipeline: envelopes, perhaps none, and how long to work."""

    envelopes: tuple[ReceivedEnvelope, ...] = ()
    wait_s: float = 0.0


class Outage:
    """The retries of one operation: logged once, with growing pauses, for ever."""

    def __init__(self) -> None:
        self._pauses: Iterator[float] | None = None  # None while there is no outage
        self._until_s = 0.0

    @property
    def is_on(self) -> bool:
        """Whether the last try failed."""
        return self._pauses is not None

    @property
    def left_s(self) -> float:
        """The time until the next try; 0 if it is due."""
        return max(0.0, self._until_s - time.monotonic()) if self.is_on else 0.0

    def record_failure(self, error: TransientError, *, what: str) -> None:
        """Record a failed try, and log it if it is the first of the outage."""
        if self._pauses is None:
            self._pauses = iter(BACKOFF)
            severity = "ERROR" if isinstance(error, DiskFull) else "WARNING"
            log_event(
                Action.UNAVAILABLE, severity=severity, what=what, kind=error.kind, error=str(error)
            )
        self._until_s = time.monotonic() + next(self._pauses)

    def record_success(self) -> None:
        """Record that a try succeeded: the outage is over."""
        self._pauses = None


class StreamWorker:
    """Receives, responds, publishes and acknowledges, one batch at a time.

    ``on_start`` is called once the queue has answered for the first time.
    """

    def __init__(
        self,
        *,
        queue: Queue,
        ledger: Ledger,
        responder: Responder,
        topics: Sequence[str],
        until_idle_s: float | None = None,
        on_start: Callable[[], None] = lambda: None,
    ) -> None:
        self._queue = queue
        self._ledger = ledger
        self._responder = responder
        self._topics = tuple(topics)
        self._until_idle_s = until_idle_s
        self._on_start = on_start
        self._is_started = False
        self._in_flight = InFlight(queue=queue)
        self._unsent: list[Reply] = []
        self._is_disk_full = False  # for a job
        # By operation: each ends when that operation succeeds again.
        self._outages: dict[str, Outage] = defaultdict(Outage)
        self._misconfigured: ConfigurationError | None = None
        self._stop_by_s: float | None = None
        self._idle_since_s: float | None = None  # as of the last pull

    @property
    def _is_busy(self) -> bool:
        return self._responder.pending > 0 or bool(self._unsent)

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to do."""
        now_s = time.monotonic()
        if self._stop_by_s is not None:
            return not self._is_busy or now_s >= self._stop_by_s
        if self._until_idle_s is None or self._idle_since_s is None:
            return False
        return now_s - self._idle_since_s >= self._until_idle_s

    def stop(self) -> None:
        """Pull no more, and give running jobs a grace period to finish."""
        if self._stop_by_s is None:
            self._stop_by_s = time.monotonic() + GRACE_S

    # Called by the steps.

    def pull_batches(self) -> Iterator[PulledBatch]:
        """Yield the batches of one bundle, which ends soon once something is finished."""
        began_s = time.monotonic()
        while True:
            length_s = BUNDLE_S if len(self._in_flight) else IDLE_BUNDLE_S
            if self._in_flight.has_finished and not self._outages["acknowledge"].is_on:
                length_s = FINISHED_BUNDLE_S
            left_s = began_s + length_s - time.monotonic()
            if left_s <= 0 or self.is_over:
                return
            yield self._pull_batch(left_s)

    def respond(self, batch: PulledBatch) -> list[Reply]:
        """Accept the batch's messages, work for a while, and return the replies that are ready."""
        self._responder.add([_envelope_to_message(envelope) for envelope in batch.envelopes])
        if self._is_disk_full and not self._responder.pending:  # it would only raise that again
            return []
        return self._try("work", lambda: self._responder.step(batch.wait_s)) or []

    def publish(self, replies: Sequence[Reply]) -> list[Reply]:
        """Publish the messages of replies, and return the replies that are then finished."""
        self._unsent += replies
        if not self._unsent:
            return []
        sent = self._try("publish", self._send)
        if sent is None:
            return []
        self._unsent = []
        self._in_flight.finish([reply.received.handle for reply in sent])
        return sent

    def acknowledge(self) -> None:
        """Acknowledge finished messages; if that fails, the end of the next bundle retries it.

        Called by Beam, which swallows errors; so a wrong configuration is raised by the next pull.
        """
        try:
            if self._in_flight.has_finished:
                self._try("acknowledge", self._in_flight.acknowledge)
        except ConfigurationError as error:
            self._misconfigured = error

    def close(self) -> None:
        """Acknowledge what is finished, and release what is not."""
        self._responder.abandon()
        with contextlib.suppress(TransientError):
            self._in_flight.acknowledge()
            self._in_flight.release()

    def _pull_batch(self, left_s: float) -> PulledBatch:
        if self._misconfigured is not None:
            raise self._misconfigured
        self._try("extend", self._in_flight.extend)
        self._recover()
        # Until the last failed operation may be retried.
        if pause_s := min(left_s, max(outage.left_s for outage in self._outages.values())):
            if self._outages["work"].left_s or not self._responder.running:
                time.sleep(pause_s)
                return PulledBatch()
            return PulledBatch(wait_s=pause_s)
        limit = self._count_free_slots()
        if not limit:
            return PulledBatch(wait_s=left_s)
        if self._is_busy or len(self._in_flight):
            self._idle_since_s = None
        elif self._idle_since_s is None:
            self._idle_since_s = time.monotonic()
        wait_s = 0.0 if self._is_busy or not self._is_started else left_s
        envelopes = self._try("pull", lambda: self._pull(limit, wait_s))
        if envelopes is None or envelopes:
            self._idle_since_s = None
        return PulledBatch(tuple(envelopes or ()), POLL_S)

    def _count_free_slots(self) -> int:
        if self._stop_by_s is not None or self._is_disk_full or self._unsent:
            return 0
        if any(outage.is_on for what, outage in self._outages.items() if what != "pull"):
            return 0
        return self._responder.room

    def _pull(self, limit: int, wait_s: float) -> list[ReceivedEnvelope]:
        envelopes = self._queue.pull(self._topics, limit=limit, wait_s=wait_s)
        if envelopes:
            # What a message leads to must not outlive, in a power cut, the message itself.
            self._queue.sync()
        self._in_flight.add(envelopes)
        if not self._is_started:
            self._is_started = True
            self._on_start()
        return envelopes

    def _send(self) -> list[Reply]:
        send(self._unsent, queue=self._queue, ledger=self._ledger, clock=utc_now)
        return self._unsent

    def _try(self, what: str, action: Callable[[], T]) -> T | None:
        """Call an operation unless its outage says to wait; None if it was not done."""
        outage = self._outages[what]
        if outage.left_s:
            return None
        try:
            result = action()
        except TransientError as error:
            self._is_disk_full = self._is_disk_full or isinstance(error, DiskFull)
            outage.record_failure(error, what=what)
            return None
        outage.record_success()
        return result

    def _recover(self) -> None:
        """After a full disk, start again once no job is running any more."""
        if self._is_disk_full and not self._is_busy and not self._outages["work"].left_s:
            self._in_flight.release()
            self._responder.abandon()
            self._is_disk_full = False


def _envelope_to_message(envelope: ReceivedEnvelope) -> ReceivedMessage:
    job, _, _ = envelope.topic.rpartition("-")
    return ReceivedMessage(
        job=job, data=envelope.data, handle=envelope, message_id=envelope.message_id
    )


def _open(run: StreamingRun, stack: contextlib.ExitStack) -> StreamWorker:
    queue = connect_queue(run.queue)
    stack.callback(queue.close)
    ledger = connect_ledger(run.ledger)
    stack.callback(ledger.close)
    artifacts = connect_store(run.artifacts)
    stack.callback(artifacts.close)
    pool = RestartingPool(
        lambda: Pool(
            run.graph, run.artifacts, ledger=run.ledger, processes=run.processes, jobs=run.jobs
        )
    )
    stack.callback(pool.close)
    worker = StreamWorker(
        queue=queue,
        ledger=ledger,
        responder=Responder(
            graph=run.graph, jobs=run.jobs, ledger=ledger, pool=pool, artifacts=artifacts
        ),
        topics=list_topics(run.graph, run.jobs),
        until_idle_s=run.until_idle_s,
        on_start=partial(
            log_event,
            Action.STARTED,
            jobs=" ".join(run.jobs),
            queue=run.queue,
            processes=pool.processes,
        ),
    )
    stack.callback(worker.close)
    return worker


stream_workers = ProcessCache(_open)
