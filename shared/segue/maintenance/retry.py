"""Retries on request: resets failures in the ledger, and publishes dead letters again.

Dead letters are pulled in batches, and returned to the queue unless they were published again:
counting changes nothing.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import islice

from segue.clock import Clock, utc_now
from segue.errors import UnreadableMessage
from segue.model.dead_letter import DeadLetter, Stage, decode_dead_letter
from segue.model.graph import Graph
from segue.model.ledger import Change, Ledger, find_records_by_state
from segue.model.media_file import is_below
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

BATCH = 256  # files
LETTER_BATCH = 200
LETTER_LIMIT = 10_000
WAIT_S = 2.0  # for the first message of a batch: a cloud queue may be slow to answer


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrySelection:
    """Selects what to retry: failed jobs (of some kinds), and the jobs that they block."""

    jobs: tuple[str, ...]
    kinds: frozenset[str] = frozenset()  # none: all
    prefix: str = ""

    def find_jobs(self, record: Record) -> tuple[str, ...]:
        """Return the jobs of one file to retry.

        A selected job that is blocked adds the failed job above it, without which it cannot run.
        """
        if record.deleted_at is not None:
            return ()
        failing = {job: e.error for job, e in record.jobs.items() if e.state is State.FAILED}
        failed = {
            job
            for job, error in failing.items()
            if not self.kinds or (error is not None and error.kind in self.kinds)
        }
        causes = {
            job: entry.error.type if entry.error is not None else ""
            for job, entry in record.jobs.items()
            if entry.state is State.BLOCKED
        }
        again = {job for job in self.jobs if job in failed}
        again |= {causes[job] for job in self.jobs if causes.get(job) in failed}
        again |= {job for job, cause in causes.items() if cause in again}
        if not self.kinds:  # blocked by a job that no longer fails
            again |= {job for job in self.jobs if job in causes and causes[job] not in failing}
        return tuple(sorted(again))

    def matches(self, dead: DeadLetter) -> bool:
        """Whether a dead letter is selected."""
        is_kind = not self.kinds or dead.kind in self.kinds
        return is_kind and is_below(dead.uri or "", self.prefix)


@dataclass(slots=True, kw_only=True)
class RetryCounts:
    """The number of files and jobs to retry."""

    files: int = 0
    failed: Counter[str] = field(default_factory=Counter)  # job → files
    blocked: Counter[str] = field(default_factory=Counter)

    @property
    def jobs(self) -> int:
        """All jobs of all files."""
        return self.failed.total() + self.blocked.total()

    def add(self, states: Mapping[str, State]) -> None:
        """Count one file, by the states of its jobs before the retry."""
        self.files += bool(states)
        self.failed.update(job for job, state in states.items() if state is State.FAILED)
        self.blocked.update(job for job, state in states.items() if state is not State.FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRetry:
    """Requeues the selected jobs in the ledger and, with a queue, notifies the pipelines."""

    graph: Graph
    ledger: Ledger
    selection: RetrySelection
    queue: Queue | None = None
    clock: Clock = utc_now

    def count(self) -> RetryCounts:
        """Count the selected jobs without changing them."""
        total = RetryCounts()
        for record in self._find_records():
            total.add({job: record.jobs[job].state for job in self.selection.find_jobs(record)})
        return total

    def run(self) -> RetryCounts:
        """Reset the failures and publish messages.

        The targets are first recorded as pending in the ledger: if the process dies before it
        publishes, the sweep does.
        """
        total = RetryCounts()
        found = self._find_records()
        while records := list(islice(found, BATCH)):
            changes = [Change(uri=r.uri, transition=self._requeue) for r in records]
            envelopes: list[Envelope] = []
            for changed in self.ledger.change(changes):
                states, messages = changed.answer
                total.add(states)
                envelopes += map(message_to_envelope, messages)
            if self.queue is not None and envelopes:
                self.queue.publish(envelopes)
        return total

    def _find_records(self) -> Iterator[Record]:
        states = (State.FAILED, State.BLOCKED)
        return find_records_by_state(
            self.ledger, self.selection.jobs, states, self.selection.prefix
        )

    def _requeue(
        self, found: Record | None
    ) -> tuple[Record | None, tuple[dict[str, State], list[Message]]]:
        """Select and requeue jobs on the record as it is written; return states and messages."""
        if found is None:
            return None, ({}, [])
        jobs = self.selection.find_jobs(found)
        states = {job: found.jobs[job].state for job in jobs}
        record, _ = requeue(found, jobs)
        if record is None or self.queue is None:
            return record, (states, [])
        # The jobs become pending targets of the topmost ones, and those get messages.
        known = tuple(job for job in self.graph.jobs if job in jobs)
        messages = []
        for job in known:
            if self.graph.find_ancestors(job) & set(known):
                continue
            targets = tuple(t for t in known if self.graph.is_on_line(job, (t,)))
            record = add_pending(record, self.graph, job, targets, self.clock())
            messages.append(
                Message(
                    uri=record.uri,
                    generation=record.generation,
                    job=job,
                    targets=targets,
                    lane=Lane.REQUESTS.value,
                )
            )
        return record, (states, messages)


@dataclass(slots=True, kw_only=True)
class ReplayedLetters:
    """The dead letters that were found, counted by job, stage and kind."""

    found: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    ids: set[str] = field(default_factory=set)  # the queue's message ids
    unreadable: int = 0  # not written by Segue
    obsolete: int = 0  # about files that have been overwritten or deleted since
    examples: list[DeadLetter] = field(default_factory=list)

    @property
    def total(self) -> int:
        """The number of selected dead letters."""
        return self.found.total()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterReplay:
    """Counts the dead letters of jobs, or publishes their messages again.

    A letter about a file that has since been overwritten or deleted is obsolete: it is not
    replayed, and is removed unless it is a dry run.
    """

    graph: Graph
    ledger: Ledger
    queue: Queue
    selection: RetrySelection
    clock: Clock = utc_now
    wait_s: float = WAIT_S

    def run(self, *, dry_run: bool, only: Collection[str] | None = None) -> ReplayedLetters:
        """Replay, or only count, the selected dead letters, up to a limit.

        ``only`` (the ids of an earlier count) excludes all others: a message that fails again at
        once would otherwise be replayed forever.
        """
        replayed = ReplayedLetters()
        unsent: list[ReceivedEnvelope] = []
        try:
            for envelopes in self._read_batches():
                unsent += envelopes
                selected: list[tuple[ReceivedEnvelope, DeadLetter]] = []
                for one in envelopes:
                    try:
                        dead = decode_dead_letter(one.data)
                    except UnreadableMessage:
                        replayed.unreadable += 1
                        continue
                    if self.selection.matches(dead):
                        selected.append((one, dead))
                obsolete = self._find_obsolete(selected)
                replayed.obsolete += len(obsolete)
                selected = [
                    (one, dead)
                    for one, dead in selected
                    if one.message_id not in obsolete and (only is None or one.message_id in only)
                ]
                for one, dead in selected:
                    replayed.ids.add(one.message_id)
                    replayed.found[dead.job, str(dead.stage), dead.kind] += 1
                    replayed.examples += [dead] * (len(replayed.examples) < LETTER_BATCH)
                if dry_run:
                    continue
                if selected:
                    self._send(selected)
                if obsolete:
                    self.queue.acknowledge(list(obsolete.values()))
                sent = {one.message_id for one, _ in selected} | obsolete.keys()
                unsent = [one for one in unsent if one.message_id not in sent]
        finally:
            if unsent:
                self.queue.extend(unsent, 0)
        return replayed

    def _find_obsolete(
        self, letters: Sequence[tuple[ReceivedEnvelope, DeadLetter]]
    ) -> dict[str, ReceivedEnvelope]:
        """Return the letters that are obsolete, by the ids of their messages."""
        failed = [(one, dead) for one, dead in letters if dead.stage is Stage.RUN and dead.uri]
        uris = list(dict.fromkeys(str(dead.uri) for _, dead in failed))
        snapshots = zip(uris, self.ledger.read(uris), strict=True) if uris else ()
        records = {uri: snapshot.record for uri, snapshot in snapshots}
        return {
            one.message_id: one
            for one, dead in failed
            if _is_obsolete(dead, records[str(dead.uri)])
        }

    def _read_batches(self) -> Iterator[list[ReceivedEnvelope]]:
        topics = [format_dead_topic(job) for job in self.selection.jobs]
        known: set[str] = set()
        while len(known) < LETTER_LIMIT:
            room = min(LETTER_BATCH, LETTER_LIMIT - len(known))
            found = self.queue.pull(topics, limit=room, wait_s=self.wait_s)
            new = [one for one in found if one.message_id not in known]
            known.update(one.message_id for one in new)
            if not new:
                if found:
                    self.queue.extend(found, 0)
                return
            yield new

    def _send(self, letters: Sequence[tuple[ReceivedEnvelope, DeadLetter]]) -> None:
        """Reset the failures, publish, and only then acknowledge: a crash loses nothing."""
        failed: dict[str, dict[str, Message]] = {}
        envelopes = []
        for _, dead in letters:
            message = _decode_message(dead)
            if message is not None and dead.stage is Stage.RUN:
                failed.setdefault(message.uri, {})[message.job] = message
            if message is None or message.job not in self.graph.jobs:  # a newer version may read it
                topic = format_topic(dead.job, Lane.REQUESTS)
                envelopes.append(Envelope(topic=topic, data=dead.data))
            else:
                envelopes.append(message_to_envelope(message))
        now = self.clock()
        self.ledger.change(
            [
                Change(uri=uri, transition=partial(self._reset, by_job=by_job, now=now))
                for uri, by_job in failed.items()
            ]
        )
        self.queue.publish(envelopes)
        self.ledger.sync()
        self.queue.acknowledge([one for one, _ in letters])

    def _reset(
        self, record: Record | None, *, by_job: Mapping[str, Message], now: datetime
    ) -> tuple[Record | None, None]:
        """Reset failed jobs and those that they block, and add their targets as pending."""
        if record is None or record.deleted_at is not None:
            return None, None
        for job, message in by_job.items():
            entry = record.jobs.get(job)
            if entry is None or entry.state is not State.FAILED:
                continue
            if message.generation != record.generation:
                continue
            jobs = RetrySelection(jobs=(job,)).find_jobs(record)
            record = requeue(record, jobs)[0] or record
            record = add_pending(record, self.graph, job, message.targets, now)
        return record, None


def _is_obsolete(dead: DeadLetter, record: Record | None) -> bool:
    if record is None or dead.generation is None:
        return False
    is_deleted = record.deleted_at is not None and record.generation == dead.generation
    return is_deleted or record.generation > dead.generation


def _decode_message(dead: DeadLetter) -> Message | None:
    """Decode the original message with its attempts reset; None if it is unreadable."""
    with contextlib.suppress(UnreadableMessage):
        return evolve(decode_message(dead.data), attempt=1)
    return None
