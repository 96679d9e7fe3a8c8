"""Counts dead letters, and publishes their messages again.

Dead letters are pulled in batches, and returned to the queue unless they were published again:
counting changes nothing.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from segue.clock import Clock, utc_now
from segue.errors import UnreadableMessage
from segue.model.dead_letter import DeadLetter, Stage, decode_dead_letter
from segue.model.graph import Graph
from segue.model.ledger import Change, Ledger
from segue.model.message import Message, decode_message
from segue.model.queue import (
    Envelope,
    Lane,
    Queue,
    ReceivedEnvelope,
    format_dead_topic,
    format_topic,
    message_to_envelope,
)
from segue.model.record import Record, State, evolve
from segue.model.transitions import add_pending, requeue

BATCH = 200
LIMIT = 10_000
WAIT_S = 2.0  # for the first message of a batch: a cloud queue may be slow to answer


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterSelection:
    """Selects dead letters; all criteria must hold."""

    jobs: tuple[str, ...]
    kinds: frozenset[str] = frozenset()
    prefix: str = ""

    def is_selected(self, dead: DeadLetter) -> bool:
        """Whether a dead letter matches all criteria."""
        if self.kinds and dead.kind not in self.kinds:
            return False
        return (dead.uri or "").startswith(self.prefix)


@dataclass(slots=True, kw_only=True)
class ReplayedLetters:
    """The dead letters that were found, counted by job, stage and kind."""

    found: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    ids: set[str] = field(default_factory=set)  # the queue's message ids
    unreadable: int = 0  # not written by Segue
    examples: list[DeadLetter] = field(default_factory=list)

    @property
    def total(self) -> int:
        """The number of selected dead letters."""
        return self.found.total()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterReplay:
    """Counts the dead letters of jobs, or publishes their messages again."""

    graph: Graph
    ledger: Ledger
    queue: Queue
    selection: DeadLetterSelection
    clock: Clock = utc_now
    wait_s: float = WAIT_S

    def run(
        self, *, dry_run: bool, limit: int = LIMIT, only: Collection[str] | None = None
    ) -> ReplayedLetters:
        """Replay, or only count, the selected dead letters, up to a limit.

        ``only`` (the ids of an earlier count) excludes all others: a message that fails again at
        once would otherwise be replayed forever.
        """
        replayed = ReplayedLetters()
        unsent: list[ReceivedEnvelope] = []
        try:
            for envelopes in self._read_batches(limit):
                replays: list[tuple[ReceivedEnvelope, DeadLetter]] = []
                for one in envelopes:
                    dead = self._decode(one, replayed)
                    is_allowed = only is None or one.message_id in only
                    if dead is None or not is_allowed or not self.selection.is_selected(dead):
                        unsent.append(one)
                        continue
                    replayed.ids.add(one.message_id)
                    replayed.found[dead.job, str(dead.stage), dead.kind] += 1
                    replayed.examples += [dead] * (len(replayed.examples) < BATCH)
                    replays.append((one, dead))
                if dry_run:
                    unsent += [one for one, _ in replays]
                else:
                    self._send(replays)
        finally:
            if unsent:
                self.queue.extend(unsent, 0)
        return replayed

    def _read_batches(self, limit: int) -> Iterator[list[ReceivedEnvelope]]:
        topics = [format_dead_topic(job) for job in self.selection.jobs]
        known: set[str] = set()
        while len(known) < limit:
            room = min(BATCH, limit - len(known))
            found = self.queue.pull(topics, limit=room, wait_s=self.wait_s)
            new = [one for one in found if one.message_id not in known]
            known.update(one.message_id for one in new)
            if not new:
                if found:
                    self.queue.extend(found, 0)
                return
            yield new

    def _decode(self, envelope: ReceivedEnvelope, replayed: ReplayedLetters) -> DeadLetter | None:
        try:
            return decode_dead_letter(envelope.data)
        except UnreadableMessage:
            replayed.unreadable += 1
            return None

    def _send(self, replays: Sequence[tuple[ReceivedEnvelope, DeadLetter]]) -> None:
        """Reset the failures, publish, and only then acknowledge: a crash loses nothing."""
        messages = {id(one): self._decode_message(dead) for one, dead in replays}
        failed: dict[str, dict[str, Message]] = {}
        for one, dead in replays:
            message = messages[id(one)]
            if message is not None and dead.stage is Stage.RUN:
                failed.setdefault(message.uri, {})[message.job] = message
        now = self.clock()
        self.ledger.change(
            [
                Change(uri=uri, transition=self._build_transition(list(by_job.values()), now))
                for uri, by_job in failed.items()
            ]
        )
        envelopes = [self._build_envelope(dead, messages[id(one)]) for one, dead in replays]
        if envelopes:
            self.queue.publish(envelopes)
            self.queue.acknowledge([one for one, _ in replays])

    def _decode_message(self, dead: DeadLetter) -> Message | None:
        """Decode the original message with its attempts reset; None if it is unreadable."""
        with contextlib.suppress(UnreadableMessage):
            return evolve(decode_message(dead.data), attempt=1)
        return None

    def _build_envelope(self, dead: DeadLetter, message: Message | None) -> Envelope:
        if message is None or message.job not in self.graph.jobs:  # a newer version may read it
            return Envelope(topic=format_topic(dead.job, Lane.REQUESTS), data=dead.data)
        return message_to_envelope(message)

    def _build_transition(
        self, messages: Collection[Message], now: datetime
    ) -> Callable[[Record | None], tuple[Record | None, None]]:
        """Reset failed jobs and those that they block, and add their targets as pending."""

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
                record = add_pending(record, self.graph, message.job, message.targets, now)
            return record, None

        return transition
