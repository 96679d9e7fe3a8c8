"""The streaming pipelines of a graph in one process: an engine each, one ledger, and one queue.

Tests decide which envelope is delivered next, and count what everything costs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from segue.execution.engine import Engine
from segue.execution.foreign import ForeignLedgers
from segue.execution.reply import Reply, send
from segue.execution.work import ReceivedMessage
from segue.ingest.acceptance import accept_targets, build_requests
from segue.ingest.sweep import GRACE_S, Sweeper
from segue.model.dead_letter import DeadLetter, decode_dead_letter
from segue.model.graph import SOURCE, Graph, Job
from segue.model.ledger import Change, Changed, Snapshot
from segue.model.media_file import MediaFile
from segue.model.message import Message, decode_message, describe_arrival
from segue.model.planner import Plan
from segue.model.queue import (
    DEAD_TOPIC,
    Envelope,
    event_to_envelope,
    list_published_topics,
    list_subscriptions,
    message_to_envelope,
    parse_subscription,
)
from segue.model.record import Lease, Record
from segue.model.transitions import Arrival, Result, arrive, claim, reopen
from segue.worker.protocol import Task
from segue_support.ledger import MemoryLedger
from segue_support.queue import MemoryQueue
from segue_support.recording_pool import RecordingPool, complete_jobs
from segue_support.simulator.store import MemoryStore

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
URI = "gs://b/a.wav"

T = TypeVar("T")


def build_graph(
    parents: Mapping[str, Collection[str]], groups: Mapping[str, tuple[str, ...]] | None = None
) -> Graph:
    """Build a graph of jobs with their parents; one without any reads the source."""
    return Graph(
        jobs={
            name: Job(
                name=name,
                run="m:f",
                needs={f"from_{p}": p for p in above} or {"media": SOURCE},
                writes="application/json",
            )
            for name, above in parents.items()
        },
        groups=groups or {},
    )


def is_lost(lease: Lease) -> bool:
    """Return whether a lease's owner is known to be dead."""
    return lease.owner == "dead"


class CountingLedger(MemoryLedger):
    """Counts reads and writes as a store does that is paid for them."""

    reads = 0
    writes = 0

    def read(self, uris: Sequence[str]) -> list[Snapshot]:
        """Read many records."""
        self.reads += len(uris)
        return super().read(uris)

    def _change(self, change: Change[T]) -> Changed[T]:
        present = self._snapshots.get(change.uri)
        revision = present.revision if present is not None else None
        self.reads += change.known is None or change.known.revision != revision
        changed = super()._change(change)
        self.writes += changed.snapshot.revision != revision
        return changed


class CountingQueue(MemoryQueue):
    """Counts the envelopes that are published to each topic, and drops what nobody reads."""

    def __init__(self) -> None:
        super().__init__()
        self.published: Counter[str] = Counter()

    def publish(self, envelopes: Sequence[Envelope]) -> None:
        """Store envelopes for each subscription to their topics."""
        self.published.update(envelope.topic for envelope in envelopes)
        super().publish([envelope for envelope in envelopes if envelope.topic in self._readers])


@dataclass(kw_only=True)
class Clock:
    """A clock that stands still until it is told otherwise."""

    now: datetime = NOW

    def __call__(self) -> datetime:
        """Return the time."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let some time pass."""
        self.now += timedelta(seconds=seconds)


@dataclass(kw_only=True)
class Stream:
    """The pipelines of a graph, and the envelopes on their way to them."""

    graph: Graph
    answer: Callable[[Task], tuple[Result, ...]] = complete_jobs
    lease_s: float = 60.0
    clock: Clock = field(default_factory=Clock)
    ledger: CountingLedger = field(default_factory=CountingLedger)
    queue: CountingQueue = field(default_factory=CountingQueue)
    url: str = ""  # of the queue
    foreign: ForeignLedgers | None = None
    artifacts: MemoryStore = field(default_factory=lambda: MemoryStore("gs://o"))
    engines: dict[str, Engine] = field(default_factory=dict)  # by pipeline
    computed: Counter[str] = field(default_factory=Counter)  # by job
    delivered: int = 0
    _owners: int = 0

    def __post_init__(self) -> None:
        """Build an engine for each pipeline, and its subscriptions."""
        self.queue.subscribe(list_subscriptions(self.graph))
        for pipeline, jobs in self.graph.pipelines.items():
            self.engines[pipeline] = self.build_engine(frozenset(jobs))

    def build_engine(self, served: frozenset[str] | None) -> Engine:
        """Build an engine that runs some jobs; None: all."""
        return Engine(
            graph=self.graph,
            ledger=self.ledger,
            pool=RecordingPool(self._run),
            artifacts=self.artifacts,
            foreign=self.foreign,
            queue=self.url,
            served=served,
            clock=self.clock,
            owner=self._name_owner,
            lost=is_lost,
            lease_s=self.lease_s,
        )

    def _name_owner(self) -> str:
        self._owners += 1
        return f"me/{self._owners}"

    def _run(self, task: Task) -> tuple[Result, ...]:
        self.computed.update(task.run)
        return self.answer(task)

    @property
    def record(self) -> Record:
        """The record of the one file that most tests are about."""
        return self.ledger.records[URI]

    def arrive(self, order: int = 1, uri: str = URI) -> None:
        """Record a version of a file, and notify the pipelines that read the source."""
        media = MediaFile(uri=uri, version=str(order), order=order)
        [changed] = self.ledger.change(
            [
                Change(
                    uri=uri,
                    known=Snapshot(record=None),
                    transition=lambda found: arrive(found, media, self.clock()),
                )
            ]
        )
        record, revision = changed.snapshot.record, changed.snapshot.revision
        assert record is not None
        assert revision is not None
        event = Message(
            namespace=self.graph.namespace,
            uri=uri,
            version=media.version,
            order=order,
            trigger=SOURCE,
            arrived=describe_arrival(record, revision) if changed.answer is Arrival.NEW else None,
        )
        self.queue.publish([event_to_envelope(event)])

    def request(
        self, *targets: str, force: bool = False, request: str = "r1", order: int = 1
    ) -> None:
        """Accept a request: one write, and a message to each pipeline that can begin."""

        def accept(found: Record | None) -> tuple[Record | None, Plan]:
            now = self.clock()
            record, _ = arrive(found, MediaFile(uri=URI, version=str(order), order=order), now)
            if force:
                record, _ = reopen(record, self.graph, targets, request=request, now=now)
            return accept_targets(self.graph, record, targets, now, is_lost)

        [changed] = self.ledger.change([Change(uri=URI, transition=accept)])
        record, planned = changed.snapshot.record, changed.answer
        assert record is not None
        self.queue.publish(build_requests(self.graph, record, targets, planned.elsewhere, request))

    def hold(self, *jobs: str, owner: str = "other") -> None:
        """Have jobs claimed by another process."""

        def hold(found: Record | None) -> tuple[Record, None]:
            assert found is not None
            now, lease_s = self.clock(), self.lease_s
            return claim(found, self.graph, jobs, owner=owner, now=now, lease_s=lease_s), None

        self.ledger.change([Change(uri=URI, transition=hold)])

    def sweep(self) -> None:
        """Ask again for what is unfinished, once it has been so for long enough."""
        self.clock.advance(GRACE_S + self.lease_s)
        Sweeper(
            graph=self.graph, ledger=self.ledger, queue=self.queue, clock=self.clock, lost=is_lost
        ).run()

    def publish(self, message: Message, jobs: Collection[str]) -> None:
        """Send a message to the pipelines of some jobs."""
        pipelines = self.graph.find_pipelines(jobs)
        self.queue.publish([message_to_envelope(message, pipeline) for pipeline in pipelines])

    @property
    def messages(self) -> list[tuple[str, Message]]:
        """The messages on their way, oldest first, each with its pipeline."""
        return [
            (parse_subscription(self.queue.find_subscription(i)), decode_message(envelope.data))
            for i, envelope in self._list_envelopes()
        ]

    @property
    def dead(self) -> list[DeadLetter]:
        """The dead letters."""
        found = self.queue.queued.values()
        return [decode_dead_letter(e.data) for e in found if e.topic == DEAD_TOPIC]

    def _list_envelopes(self) -> list[tuple[str, Envelope]]:
        return [i for i in self.queue.queued.items() if i[1].topic != DEAD_TOPIC]

    def drop_messages(self) -> None:
        """Lose all messages on their way."""
        for number, _ in self._list_envelopes():
            self.queue.acknowledge([self.queue.deliver(number)])

    def reply(self, index: int = 0) -> Reply:
        """Deliver the message at an index, and return the reply, which is yet to be sent."""
        number, envelope = self._list_envelopes()[index]
        self.delivered += 1
        pipeline = parse_subscription(self.queue.find_subscription(number))
        engine = self.engines[pipeline]
        engine.add_messages([ReceivedMessage(pipeline=pipeline, data=envelope.data)])
        [reply] = engine.drain()
        assert isinstance(reply, Reply)
        published = {envelope.topic for envelope in reply.envelopes if envelope.queue is None}
        assert published.issubset(list_published_topics(self.graph, [pipeline]))
        return reply

    def deliver(self, index: int = 0, *, again: bool = False) -> Reply:
        """Deliver the message at an index, and send the reply; the message may stay to come again.

        Afterwards it is a little later.
        """
        number = self._list_envelopes()[index][0]
        reply = self.reply(index)
        send([reply], queue=self.queue, ledger=self.ledger)
        if not again:
            self.queue.acknowledge([self.queue.deliver(number)])
        self.clock.advance(0.001)
        return reply

    def run(self) -> list[Reply]:
        """Deliver messages, oldest first, until none is left."""
        replies = []
        while self.messages:
            replies.append(self.deliver())
        return replies
