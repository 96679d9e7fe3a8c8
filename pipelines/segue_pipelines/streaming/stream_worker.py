"""What one process of a local streaming pipeline works with, and what it has not finished yet.

A bundle is short and a job may be long, so unfinished work outlives bundles: the three steps of the
pipeline share one station, which has the connections, the child processes, the deliveries that are
not acknowledged and the replies that are not published. A server that is away stops nothing for
good: what failed is tried again, with what it was tried with.
"""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from segue.adapters.connect import connect_ledger, connect_queue
from segue.errors import ConfigurationError, DiskFull, TransientError
from segue.execution.outbox import send
from segue.execution.responder import Received, Reply, Responder
from segue.log import Action, say
from segue.model.queue import Delivery, Queue, topics_of
from segue.worker.pool import Pool
from segue.worker.restarting_pool import LastingPool
from segue_pipelines.streaming.in_flight import InFlight
from segue_pipelines.streaming.outage import Outage
from segue_pipelines.streaming.process_wide import ProcessWide

if TYPE_CHECKING:
    from segue.model.ledger import Ledger
    from segue_pipelines.streaming.pipeline import Streaming

T = TypeVar("T")

BUNDLE_S = 0.25  # at most, as only its end acknowledges; idle ones are longer
IDLE_BUNDLE_S = 0.5
WORTH_S = 0.03  # a bundle costs milliseconds, so one with something to acknowledge lasts so long
# How soon a new message is seen while jobs are running, as nothing waits for both at once: soon,
# unless nothing came for a while.
POLL_S, LONGEST_POLL_S = 0.01, 0.05
GRACE_S = 15.0


@dataclass(frozen=True, slots=True)
class Tick:
    """What goes through the pipeline: deliveries, perhaps none, and a time to work on them."""

    deliveries: tuple[Delivery, ...] = ()
    wait_s: float = 0.0


class Station:
    """Receives, responds, publishes and acknowledges, a tick at a time."""

    def __init__(
        self,
        *,
        queue: Queue,
        ledger: Ledger,
        responder: Callable[[], Responder],
        topics: Sequence[str],
        until_idle_s: float | None = None,
        grace_s: float = GRACE_S,
    ) -> None:
        self._queue = queue
        self._ledger = ledger
        self._new_responder = responder
        self._responder = responder()
        self._topics = tuple(topics)
        self._until_idle_s = until_idle_s
        self._grace_s = grace_s
        self._in_flight = InFlight(queue=queue)
        self._unsent: list[Reply] = []
        self._is_full = False  # the disk, for a job
        # Each ends when what had failed succeeds; another call's success says nothing.
        self._pull_outage, self._work_outage, self._publish_outage = Outage(), Outage(), Outage()
        self._receipt_outage = Outage()
        self._misconfigured: ConfigurationError | None = None
        self._stop_by_s: float | None = None
        self._idle_since_s: float | None = None  # as far as pulls have shown
        self._poll_s = POLL_S

    @property
    def _is_busy(self) -> bool:
        return self._responder.pending > 0 or bool(self._unsent)

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to do here."""
        now_s = time.monotonic()
        if self._stop_by_s is not None:
            return not self._is_busy or now_s >= self._stop_by_s
        if self._until_idle_s is None or self._idle_since_s is None:
            return False
        return now_s - self._idle_since_s >= self._until_idle_s

    def stop(self) -> None:
        """Pull no more; what is being worked on may be finished within a grace."""
        if self._stop_by_s is None:
            self._stop_by_s = time.monotonic() + self._grace_s

    # What the steps do.

    def ticks(self) -> Iterator[Tick]:
        """Yield what there is to do in one bundle, which ends soon once something is finished."""
        began_s = time.monotonic()
        while True:
            length_s = BUNDLE_S if len(self._in_flight) else IDLE_BUNDLE_S
            if self._in_flight.is_due and not self._receipt_outage.is_on:
                length_s = WORTH_S
            left_s = began_s + length_s - time.monotonic()
            if left_s <= 0 or self.is_over:
                return
            yield self._tick(left_s)

    def respond(self, tick: Tick) -> list[Reply]:
        """Take deliveries in, work for a while, and return the replies that are ready."""
        self._responder.add([_received(delivery) for delivery in tick.deliveries])
        if self._is_full and not self._responder.pending:  # it would only say so again
            return []
        step = self._responder.step
        return self._try(self._work_outage, "work", lambda: step(tick.wait_s)) or []

    def publish(self, replies: Sequence[Reply]) -> list[Reply]:
        """Publish what replies say, and return those that are finished by that."""
        self._unsent += replies
        if not self._unsent:
            return []
        sent = self._try(self._publish_outage, "publish", self._send)
        if sent is None:
            return []
        self._unsent = []
        self._in_flight.finish([reply.received.handle for reply in sent])
        return sent

    def acknowledge(self) -> None:
        """Acknowledge what is finished; what cannot be now is so when the next bundle ends.

        Called by Beam, which lets no error out.
        """
        try:
            if self._in_flight.is_due:
                self._try(self._receipt_outage, "acknowledge", self._in_flight.acknowledge)
        except ConfigurationError as error:
            self._misconfigured = error

    def close(self) -> None:
        """Give back what is not finished."""
        self._responder.abandon()
        with contextlib.suppress(TransientError):
            self._in_flight.acknowledge()
            self._in_flight.give_back()

    # How.

    def _tick(self, left_s: float) -> Tick:
        if self._misconfigured is not None:
            raise self._misconfigured
        if self._in_flight.is_late:
            self._try(self._receipt_outage, "extend", self._in_flight.extend)
        self._recover()
        if pause_s := min(left_s, self._pause_s()):
            if self._work_outage.left_s or not self._responder.running:
                time.sleep(pause_s)
                return Tick()
            return Tick(wait_s=pause_s)
        room = self._room()
        if not room:
            return Tick(wait_s=left_s)
        if self._is_busy or len(self._in_flight):
            self._idle_since_s = None
        elif self._idle_since_s is None:
            self._idle_since_s = time.monotonic()
        wait_s = 0.0 if self._is_busy else left_s
        deliveries = self._try(self._pull_outage, "pull", lambda: self._pull(room, wait_s))
        if deliveries is None or deliveries:
            self._idle_since_s = None
        self._poll_s = POLL_S if deliveries else min(2 * self._poll_s, LONGEST_POLL_S)
        return Tick(tuple(deliveries or ()), self._poll_s)

    def _room(self) -> int:
        if self._stop_by_s is not None or self._is_full or self._unsent:
            return 0
        if self._work_outage.is_on or self._receipt_outage.is_on:
            return 0
        return self._responder.room

    def _pull(self, room: int, wait_s: float) -> list[Delivery]:
        deliveries = self._queue.pull(self._topics, limit=room, wait_s=wait_s)
        self._in_flight.add(deliveries)
        return deliveries

    def _pause_s(self) -> float:
        """How long it is until something that failed is tried again."""
        outages = self._pull_outage, self._work_outage, self._publish_outage, self._receipt_outage
        return max(outage.left_s for outage in outages)

    def _send(self) -> list[Reply]:
        send(self._unsent, queue=self._queue, ledger=self._ledger, clock=lambda: datetime.now(UTC))
        return self._unsent

    def _try(self, outage: Outage, what: str, action: Callable[[], T]) -> T | None:
        """Do something, unless it failed a moment ago; None if it could not be done."""
        if outage.left_s:
            return None
        try:
            done = action()
        except TransientError as error:
            self._is_full = self._is_full or isinstance(error, DiskFull)
            outage.failed(error, what=what)
            return None
        outage.is_over()
        return done

    def _recover(self) -> None:
        """Once nothing is running any more for which the disk is full, begin anew."""
        if self._is_full and not self._is_busy and not self._work_outage.left_s:
            self._in_flight.give_back()
            self._responder = self._new_responder()
            self._is_full = False


def _received(delivery: Delivery) -> Received:
    job, _, _ = delivery.topic.rpartition("-")
    return Received(job=job, data=delivery.data, handle=delivery, message_id=delivery.message_id)


def _open(run: Streaming, stack: contextlib.ExitStack) -> Station:
    queue = connect_queue(run.queue)
    stack.callback(queue.close)
    ledger = connect_ledger(run.ledger)
    stack.callback(ledger.close)
    crew = LastingPool(
        lambda: Pool(run.graph, run.artifacts, processes=run.processes, jobs=run.jobs)
    )
    stack.callback(crew.close)
    station = Station(
        queue=queue,
        ledger=ledger,
        responder=lambda: Responder(graph=run.graph, jobs=run.jobs, ledger=ledger, crew=crew),
        topics=topics_of(run.graph, run.jobs),
        until_idle_s=run.until_idle_s,
    )
    stack.callback(station.close)
    # Beam alone is half a million objects; the collector would go through them again and again.
    gc.collect()
    gc.freeze()
    stack.callback(gc.unfreeze)
    say(Action.STARTED, jobs=" ".join(run.jobs), queue=run.queue, processes=crew.processes)
    return station


stations = ProcessWide(_open)
