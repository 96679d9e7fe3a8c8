"""Responding within bundles, as Dataflow wants it: many threads, each with a bundle of its own.

A bundle is worked off to its end, and what it says is committed with it; so a message is
acknowledged after the ledger has its result and the others are told. What a failed bundle had
claimed is known as lost in this process, since the bundle comes again at once.
"""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from segue.adapters.connect import connect_ledger
from segue.errors import TransientError
from segue.execution.outbox import strike
from segue.execution.responder import Received, Reply, Responder, Strike
from segue.log import Action, say
from segue.model.lease_owner import is_lost
from segue.worker.pool import Pool
from segue.worker.shared_pool import SharedPool
from segue_pipelines.streaming.process_wide import ProcessWide
from segue_pipelines.streaming.reply_report import count, log

if TYPE_CHECKING:
    from segue.model.ledger import Ledger
    from segue.model.record import Lease
    from segue_pipelines.streaming.pipeline import Streaming

STRIKES = "strikes"
START_AT = 32  # messages: a bundle that has so many does not wait for the rest
MAX_LOST = 100_000


class LostOwners:
    """Tells whether a lease's owner is dead, or is one that was given up in this process."""

    def __init__(self) -> None:
        self._given_up: dict[str, None] = {}  # oldest first
        self._lock = threading.Lock()

    def add(self, owners: Iterable[str]) -> None:
        """Give owners up; those of long ago, whose leases have expired, are forgotten."""
        with self._lock:
            self._given_up.update(dict.fromkeys(owners))
            while len(self._given_up) > MAX_LOST:
                del self._given_up[next(iter(self._given_up))]

    def __call__(self, lease: Lease) -> bool:
        """Whether nobody works on what the lease is for."""
        return lease.owner in self._given_up or is_lost(lease)


class Workshop:
    """What all bundles of a process share."""

    def __init__(self, ledger: Ledger, pool: SharedPool) -> None:
        self.ledger = ledger
        self.pool = pool
        self.lost = LostOwners()


class RespondInBundle(beam.DoFn):  # type: ignore[misc]
    """Emits, for messages, letters tagged by their topic, and what is to be struck out then."""

    def __init__(self, run: Streaming) -> None:
        self._run = run
        self._responder: Responder | None = None
        self._timestamp: Any = None

    def setup(self) -> None:
        """Come to the process's workshop, and take a desk."""
        run, shop = self._run, workshops.of(self._run)
        self._shop = shop
        self._responder = Responder(
            graph=run.graph,
            jobs=run.jobs,
            ledger=shop.ledger,
            crew=shop.pool.desk(),
            lost=shop.lost,
        )

    def start_bundle(self) -> None:
        """Begin with nothing: the bundle before may have failed in a later step."""
        self._give_up()
        self._timestamp = None

    def process(
        self, received: Received, timestamp: Any = beam.DoFn.TimestampParam
    ) -> Iterator[TaggedOutput]:
        """Take a message in; a large bundle is begun meanwhile."""
        assert self._responder is not None
        self._timestamp = timestamp
        self._responder.add([received])
        if self._responder.pending >= START_AT:
            with self._giving_up():
                replies = self._responder.step()
            yield from self._told(replies)

    def finish_bundle(self) -> Iterator[TaggedOutput]:
        """Finish what the bundle began."""
        assert self._responder is not None
        replies = self._responder.drain()
        while True:
            with self._giving_up():
                reply = next(replies, None)
            if reply is None:
                return
            for output in self._told([reply]):
                value = WindowedValue(output.value, self._timestamp, (GlobalWindow(),))
                yield TaggedOutput(output.tag, value)

    def teardown(self) -> None:
        """Let nobody wait for what was under way."""
        self._give_up()

    def _give_up(self) -> None:
        if self._responder is not None:
            self._shop.lost.add(self._responder.abandon())

    @contextlib.contextmanager
    def _giving_up(self) -> Iterator[None]:
        """Whatever goes wrong, the messages come again, to anybody."""
        try:
            yield
        except TransientError as error:
            self._give_up()
            say(Action.UNAVAILABLE, severity="WARNING", kind=error.kind, error=str(error))
            raise
        except BaseException:
            self._give_up()
            raise

    def _told(self, replies: list[Reply]) -> Iterator[TaggedOutput]:
        log(replies)
        count(replies)
        for reply in replies:
            for letter in reply.letters:
                yield TaggedOutput(letter.topic, letter)
            if reply.strike is not None:
                yield TaggedOutput(STRIKES, reply.strike)


class StrikeOut(beam.DoFn):  # type: ignore[misc]
    """Emits nothing: strikes out of the ledger what was told to whom it was owed."""

    def __init__(self, run: Streaming) -> None:
        self._run = run
        self._strikes: list[Strike] = []

    def setup(self) -> None:
        """Come to the process's workshop."""
        self._shop = workshops.of(self._run)

    def start_bundle(self) -> None:
        """Begin with nothing."""
        self._strikes = []

    def process(self, one: Strike) -> None:
        """Take one in."""
        self._strikes.append(one)

    def finish_bundle(self) -> None:
        """Strike out, each record once."""
        strike(self._strikes, ledger=self._shop.ledger, now=datetime.now(UTC))


def _open(run: Streaming, stack: contextlib.ExitStack) -> Workshop:
    ledger = connect_ledger(run.ledger)
    stack.callback(ledger.close)
    pool = SharedPool(
        lambda: Pool(run.graph, run.artifacts, processes=run.processes, jobs=run.jobs)
    )
    stack.callback(pool.close)
    # Beam alone is half a million objects; the collector would go through them again and again.
    gc.collect()
    gc.freeze()
    stack.callback(gc.unfreeze)
    say(Action.STARTED, jobs=" ".join(run.jobs), queue=run.queue, processes=pool.processes)
    return Workshop(ledger, pool)


workshops = ProcessWide(_open)
