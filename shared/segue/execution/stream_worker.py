"""The work of a local streaming process: receives, responds, publishes and acknowledges.

Whatever fails for a while is tried again with the same arguments, so nothing is lost or done twice.
A message is acknowledged once its results are in the ledger and its reply is published.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence

from segue.backoff import Backoff
from segue.errors import DiskFull, TransientError
from segue.execution.engine import Engine
from segue.execution.in_flight import InFlight
from segue.execution.leases import release_leases
from segue.execution.reply import Reply, send
from segue.execution.work import ReceivedMessage
from segue.log import Action, log_event
from segue.model.ledger import Ledger
from segue.model.queue import Queue, ReceivedEnvelope, parse_subscription

WAIT_S = 0.5  # at most, for a message or for a job
# How often to look for messages while jobs are running, as nothing can wait for both at once.
POLL_S = 0.05
ACKNOWLEDGE_S = 0.03  # between two acknowledgements, each of which costs milliseconds
GRACE_S = 15.0
BACKOFF = Backoff(0.1, 10.0)


class Outage:
    """The time while something is unavailable: logged once, with growing pauses between tries."""

    def __init__(self) -> None:
        self._pauses: Iterator[float] | None = None  # None while there is no outage
        self._until_s = 0.0

    @property
    def left_s(self) -> float:
        """The time until the next try; 0 if it is due."""
        return max(0.0, self._until_s - time.monotonic())

    def record_failure(self, error: TransientError) -> None:
        """Record a failed try, and log it if it is the first of the outage."""
        if self._pauses is None:
            self._pauses = iter(BACKOFF)
            severity = "ERROR" if isinstance(error, DiskFull) else "WARNING"
            log_event(Action.UNAVAILABLE, severity=severity, kind=error.kind, error=str(error))
        self._until_s = time.monotonic() + next(self._pauses)

    def record_success(self) -> None:
        """Record that a try succeeded: the outage is over."""
        self._pauses, self._until_s = None, 0.0


class StreamWorker:
    """Works on the messages of some subscriptions, for as long as it is asked to at a time.

    ``on_start`` is called once the queue has answered for the first time. While ``is_loading``, no
    job can have begun, so none is waited for when it stops.
    """

    def __init__(
        self,
        *,
        queue: Queue,
        ledger: Ledger,
        engine: Engine,
        subscriptions: Sequence[str],
        until_idle_s: float | None = None,
        on_start: Callable[[], None] = lambda: None,
        is_loading: Callable[[], bool] = lambda: False,
    ) -> None:
        self._queue = queue
        self._ledger = ledger
        self._engine = engine
        self._subscriptions = tuple(subscriptions)
        self._until_idle_s = until_idle_s
        self._on_start = on_start
        self._is_loading = is_loading
        self._is_started = False
        self._in_flight = InFlight(queue=queue)
        self._unsent: list[Reply] = []
        self._is_disk_full = False  # for a job
        self._outage = Outage()
        self._acknowledged_s = 0.0
        self._stop_by_s: float | None = None
        self._idle_since_s: float | None = None  # as of the last pull

    @property
    def _is_busy(self) -> bool:
        return self._engine.pending > 0 or bool(self._unsent)

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to do."""
        now_s = time.monotonic()
        if self._stop_by_s is not None:
            is_idle = not self._is_busy or (self._is_loading() and not self._unsent)
            return is_idle or now_s >= self._stop_by_s
        if self._until_idle_s is None or self._idle_since_s is None:
            return False
        return now_s - self._idle_since_s >= self._until_idle_s

    @property
    def running(self) -> int:
        """How many files have jobs running."""
        return self._engine.running

    def stop(self) -> None:
        """Pull no more, and give running jobs a grace period to finish."""
        if self._stop_by_s is None:
            self._stop_by_s = time.monotonic() + GRACE_S

    def work(self, seconds: float) -> Iterator[Reply]:
        """Work for some seconds, or until it is over, and yield the replies that are sent."""
        until_s = time.monotonic() + seconds
        while not self.is_over and (left_s := until_s - time.monotonic()) > 0:
            wait_s = min(left_s, WAIT_S)
            with contextlib.suppress(TransientError):  # there is still time, and it tries again
                self._in_flight.extend()
            if pause_s := self._outage.left_s:
                time.sleep(min(wait_s, pause_s))
                continue
            try:
                yield from self._take_turn(wait_s)
            except TransientError as error:
                self._is_disk_full = self._is_disk_full or isinstance(error, DiskFull)
                self._idle_since_s = None
                self._outage.record_failure(error)

    def close(self) -> None:
        """Acknowledge what is finished, and release what is not.

        Leases go first: whoever got a message before would leave its jobs to their holder.
        """
        owners = frozenset(self._engine.abandon())
        with contextlib.suppress(TransientError):
            self._in_flight.acknowledge()
            if owners:
                release_leases(self._ledger, lambda lease: lease.owner in owners)
            self._in_flight.release()

    def _take_turn(self, wait_s: float) -> Iterator[Reply]:
        """Work on what there is, and receive more; after an error, the next turn does the rest."""
        if self._is_disk_full and not self._engine.pending:  # start again: no job runs any more
            self._engine.abandon()
            if not self._unsent:
                self._in_flight.release()
                self._is_disk_full = False
        if self._stop_by_s is not None:
            self._engine.flush()
        ended = self._engine.step(POLL_S if self._count_free_slots() else wait_s)
        self._unsent += [reply for reply in ended if isinstance(reply, Reply)]
        if self._unsent:
            send(self._unsent, queue=self._queue, ledger=self._ledger)
            sent, self._unsent = self._unsent, []
            self._in_flight.finish(reply.received.handle for reply in sent)
            self._outage.record_success()
            yield from sent
        self._acknowledge()
        if limit := self._count_free_slots():
            self._pull(limit, 0.0 if self._is_busy or not self._is_started else wait_s)
        if not self._is_busy:
            self._outage.record_success()

    def _count_free_slots(self) -> int:
        if self._stop_by_s is not None or self._is_disk_full:
            return 0
        return self._engine.room

    def _acknowledge(self) -> None:
        is_due = not self._is_busy or time.monotonic() - self._acknowledged_s >= ACKNOWLEDGE_S
        if self._in_flight.has_finished and is_due:
            self._in_flight.acknowledge()
            self._acknowledged_s = time.monotonic()

    def _pull(self, limit: int, wait_s: float) -> None:
        if self._is_busy or len(self._in_flight):
            self._idle_since_s = None
        elif self._idle_since_s is None:
            self._idle_since_s = time.monotonic()
        envelopes = self._queue.pull(self._subscriptions, limit=limit, wait_s=wait_s)
        if envelopes:
            self._idle_since_s = None
            # What a message leads to must not outlive, in a power cut, the message itself.
            self._queue.sync()
            self._in_flight.add(envelopes)
            self._engine.add_messages([_envelope_to_message(envelope) for envelope in envelopes])
        if not self._is_started:
            self._is_started = True
            self._on_start()


def _envelope_to_message(envelope: ReceivedEnvelope) -> ReceivedMessage:
    return ReceivedMessage(
        pipeline=parse_subscription(envelope.subscription),
        data=envelope.data,
        handle=envelope,
        message_id=envelope.message_id,
    )
