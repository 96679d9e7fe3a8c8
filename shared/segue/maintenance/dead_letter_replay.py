"""Dead letters are looked at, and sent on their way again.

They are taken from the queue in batches and given back unless they were sent again, so that looking
changes nothing.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from segue.errors import UnreadableMessage
from segue.model.dead_letter import DeadLetter, Stage, decode
from segue.model.graph import Graph
from segue.model.ledger import Change, Ledger, requeue, want
from segue.model.message import Message
from segue.model.message import decode as decode_message
from segue.model.queue import Delivery, Lane, Letter, Queue, dead_topic, letter, topic_of
from segue.model.record import Record, State, evolve

BATCH = 200
LIMIT = 10_000
WAIT_S = 2.0  # for the first of a batch: a queue in the cloud may be slow to answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Which dead letters are meant; all that is given must hold."""

    jobs: tuple[str, ...]
    kinds: frozenset[str] = frozenset()
    prefix: str = ""

    def fits(self, dead: DeadLetter) -> bool:
        """Whether one is meant."""
        if self.kinds and dead.kind not in self.kinds:
            return False
        return (dead.uri or "").startswith(self.prefix)


@dataclass(slots=True, kw_only=True)
class Exhumed:
    """How many dead letters were found, by job, stage and kind."""

    found: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    ids: set[str] = field(default_factory=set)  # as the queue names them
    unreadable: int = 0  # which somebody else published
    examples: list[DeadLetter] = field(default_factory=list)

    @property
    def total(self) -> int:
        """All that are meant."""
        return self.found.total()


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhumation:
    """Looks through the dead letters of jobs."""

    graph: Graph
    ledger: Ledger
    queue: Queue
    chosen: Chosen
    clock: Callable[[], datetime] = _utc_now
    wait_s: float = WAIT_S

    def run(
        self, *, dry_run: bool, limit: int = LIMIT, only: Collection[str] | None = None
    ) -> Exhumed:
        """Send again, or only count, up to a number of them.

        With ``only``, the ids of an earlier count, all others are left alone: what is sent and
        fails again at once would else be found here again, for ever.
        """
        exhumed = Exhumed()
        held: list[Delivery] = []
        try:
            for deliveries in self._batches(limit):
                again: list[tuple[Delivery, DeadLetter]] = []
                for one in deliveries:
                    dead = self._read(one, exhumed)
                    is_meant = only is None or one.message_id in only
                    if dead is None or not is_meant or not self.chosen.fits(dead):
                        held.append(one)
                        continue
                    exhumed.ids.add(one.message_id)
                    exhumed.found[dead.job, str(dead.stage), dead.kind] += 1
                    exhumed.examples += [dead] * (len(exhumed.examples) < BATCH)
                    again.append((one, dead))
                if dry_run:
                    held += [one for one, _ in again]
                else:
                    self._send(again)
        finally:
            if held:
                self.queue.extend(held, 0)
        return exhumed

    def _batches(self, limit: int) -> Iterator[list[Delivery]]:
        topics = [dead_topic(job) for job in self.chosen.jobs]
        seen: set[str] = set()
        while len(seen) < limit:
            room = min(BATCH, limit - len(seen))
            found = self.queue.pull(topics, limit=room, wait_s=self.wait_s)
            fresh = [one for one in found if one.message_id not in seen]
            seen.update(one.message_id for one in fresh)
            if not fresh:
                if found:
                    self.queue.extend(found, 0)
                return
            yield fresh

    def _read(self, delivery: Delivery, exhumed: Exhumed) -> DeadLetter | None:
        try:
            return decode(delivery.data)
        except UnreadableMessage:
            exhumed.unreadable += 1
            return None

    def _send(self, again: Sequence[tuple[Delivery, DeadLetter]]) -> None:
        """Forget the failure, publish, and only then acknowledge: nothing is lost on the way."""
        messages = {id(one): self._message(dead) for one, dead in again}
        failed: dict[str, dict[str, Message]] = {}
        for one, dead in again:
            message = messages[id(one)]
            if message is not None and dead.stage is Stage.RUN:
                failed.setdefault(message.uri, {})[message.job] = message
        now = self.clock()
        self.ledger.change(
            [
                Change(uri=uri, transition=self._forgetting(list(some.values()), now))
                for uri, some in failed.items()
            ]
        )
        letters = [self._letter(dead, messages[id(one)]) for one, dead in again]
        if letters:
            self.queue.publish(letters)
            self.queue.acknowledge([one for one, _ in again])

    def _message(self, dead: DeadLetter) -> Message | None:
        """The message as it came, with its attempts forgotten; None for bytes that are none."""
        with contextlib.suppress(UnreadableMessage):
            return evolve(decode_message(dead.data), attempt=1)
        return None

    def _letter(self, dead: DeadLetter, message: Message | None) -> Letter:
        if message is None or message.job not in self.graph.jobs:  # a newer version may read it
            return Letter(topic=topic_of(dead.job, Lane.REQUESTS), data=dead.data)
        return letter(message)

    def _forgetting(
        self, messages: Collection[Message], now: datetime
    ) -> Callable[[Record | None], tuple[Record | None, None]]:
        """Forget the failures of jobs and of what they block, and leave word for the sweeper."""

        def transition(found: Record | None) -> tuple[Record | None, None]:
            if found is None:
                return None, None
            record = found
            for message in messages:
                entry = record.jobs.get(message.job)
                if message.generation != record.generation or entry is None:
                    continue
                if entry.state is not State.FAILED:
                    continue
                blocked = [
                    job
                    for job, other in record.jobs.items()
                    if other.state is State.BLOCKED
                    and other.error is not None
                    and other.error.type == message.job
                ]
                record = requeue(record, (message.job, *blocked))[0] or record
                record = want(record, self.graph, message.job, message.targets, now)
            return record, None

        return transition
