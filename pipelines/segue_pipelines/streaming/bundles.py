"""Responds to messages bundle by bundle, as Dataflow requires: many threads, one bundle each.

A bundle is finished completely, and its output is committed with it; so a message is acknowledged
after the ledger has its result and other jobs are notified. The leases of a failed bundle count as
lost in this process, since the bundle comes again at once.
"""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from segue.adapters.connect import connect_ledger
from segue.clock import utc_now
from segue.errors import TransientError
from segue.execution.outbox import clear_pending
from segue.execution.responder import ClearPending, ReceivedMessage, Reply, Responder
from segue.log import Action, log_event
from segue.model.lease_owner import is_lost
from segue.worker.pool import Pool
from segue.worker.shared_pool import SharedPool
from segue_pipelines.streaming.process_cache import ProcessCache
from segue_pipelines.streaming.reply_report import count_replies, log_replies

if TYPE_CHECKING:
    from segue.model.ledger import Ledger
    from segue.model.record import Lease
    from segue_pipelines.streaming.streaming_run import StreamingRun

CLEAR_PENDING = "clear_pending"
START_AT = 32  # messages: a bundle with so many starts without waiting for the rest
MAX_LOST = 100_000


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
    """The ledger, the child processes and the lost owners that all bundles of a process share."""

    def __init__(self, ledger: Ledger, pool: SharedPool) -> None:
        self.ledger = ledger
        self.pool = pool
        self.lost = LostOwners()


class RespondInBundle(beam.DoFn):  # type: ignore[misc]
    """Emits envelopes tagged by their topic, and pending targets to clear once they are sent."""

    def __init__(self, run: StreamingRun) -> None:
        self._run = run
        self._responder: Responder | None = None
        self._timestamp: Any = None

    def setup(self) -> None:
        """Get the resources of this process, and a client of its shared pool."""
        run, resources = self._run, process_resources.get_or_open(self._run)
        self._resources = resources
        self._responder = Responder(
            graph=run.graph,
            jobs=run.jobs,
            ledger=resources.ledger,
            pool=resources.pool.build_client(),
            lost=resources.lost,
        )

    def start_bundle(self) -> None:
        """Give up what is left of the last bundle, which may have failed in a later step."""
        self._give_up()
        self._timestamp = None

    def process(
        self, received: ReceivedMessage, timestamp: Any = beam.DoFn.TimestampParam
    ) -> Iterator[TaggedOutput]:
        """Accept a message; a large bundle is started before it is complete."""
        assert self._responder is not None
        self._timestamp = timestamp
        self._responder.add([received])
        if self._responder.pending >= START_AT:
            with self._give_up_on_error():
                replies = self._responder.step()
            yield from self._emit(replies)

    def finish_bundle(self) -> Iterator[TaggedOutput]:
        """Finish all messages of the bundle."""
        assert self._responder is not None
        replies = self._responder.drain()
        while True:
            with self._give_up_on_error():
                reply = next(replies, None)
            if reply is None:
                return
            for output in self._emit([reply]):
                value = WindowedValue(output.value, self._timestamp, (GlobalWindow(),))
                yield TaggedOutput(output.tag, value)

    def teardown(self) -> None:
        """Give up unfinished work, so that nobody waits for its leases."""
        self._give_up()

    def _give_up(self) -> None:
        if self._responder is not None:
            self._resources.lost.add(self._responder.abandon())

    @contextlib.contextmanager
    def _give_up_on_error(self) -> Iterator[None]:
        """Give up all work on any error, since the messages come again, perhaps elsewhere."""
        try:
            yield
        except TransientError as error:
            self._give_up()
            log_event(Action.UNAVAILABLE, severity="WARNING", kind=error.kind, error=str(error))
            raise
        except BaseException:
            self._give_up()
            raise

    def _emit(self, replies: list[Reply]) -> Iterator[TaggedOutput]:
        log_replies(replies)
        count_replies(replies)
        for reply in replies:
            for envelope in reply.envelopes:
                yield TaggedOutput(envelope.topic, envelope)
            if reply.clear is not None:
                yield TaggedOutput(CLEAR_PENDING, reply.clear)


class ClearPendingTargets(beam.DoFn):  # type: ignore[misc]
    """Emits nothing: clears pending targets in the ledger after they were notified."""

    def __init__(self, run: StreamingRun) -> None:
        self._run = run
        self._cleared: list[ClearPending] = []

    def setup(self) -> None:
        """Get the resources of this process."""
        self._resources = process_resources.get_or_open(self._run)

    def start_bundle(self) -> None:
        """Start with an empty list."""
        self._cleared = []

    def process(self, cleared: ClearPending) -> None:
        """Add one record's targets."""
        self._cleared.append(cleared)

    def finish_bundle(self) -> None:
        """Clear them, with one change per record."""
        clear_pending(self._cleared, ledger=self._resources.ledger, now=utc_now())


def _open(run: StreamingRun, stack: contextlib.ExitStack) -> ProcessResources:
    ledger = connect_ledger(run.ledger)
    stack.callback(ledger.close)
    pool = SharedPool(
        lambda: Pool(run.graph, run.artifacts, processes=run.processes, jobs=run.jobs)
    )
    stack.callback(pool.close)
    # Beam alone is half a million objects; the collector would traverse them again and again.
    gc.collect()
    gc.freeze()
    stack.callback(gc.unfreeze)
    log_event(Action.STARTED, jobs=" ".join(run.jobs), queue=run.queue, processes=pool.processes)
    return ProcessResources(ledger, pool)


process_resources = ProcessCache(_open)
