"""Retries on request: reopens failures in the ledger, and replays dead letters.

Dead letters are pulled in batches, and returned to the queue unless they were replayed: counting
changes nothing.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import islice

from segue.clock import Clock, utc_now
from segue.errors import UnreadableMessage
from segue.ingest.acceptance import accept_targets, build_requests
from segue.model.dead_letter import DeadLetter, Stage, decode_dead_letter
from segue.model.graph import Graph
from segue.model.lease_owner import is_lost
from segue.model.ledger import Change, Ledger, find_records_by_state
from segue.model.media_file import is_below
from segue.model.message import Message, build_request_id, decode_message
from segue.model.queue import (
    DEAD_TOPIC,
    Envelope,
    Queue,
    ReceivedEnvelope,
    format_inbox,
    message_to_envelope,
)
from segue.model.record import Lease, Record, State, evolve
from segue.model.transitions import find_entry, is_current, reopen

BATCH = 256  # files
LETTER_BATCH = 200
LETTER_LIMIT = 10_000
WAIT_S = 2.0  # for the first message of a batch: a cloud queue may be slow to answer
RETRIED = frozenset({State.FAILED, State.BLOCKED})


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrySelection:
    """Selects what to retry: failed jobs (of some kinds), and the jobs that they block."""

    jobs: tuple[str, ...]
    kinds: frozenset[str] = frozenset()  # none: all
    prefix: str = ""

    def find_jobs(self, graph: Graph, record: Record) -> tuple[str, ...]:
        """Return the jobs of one file to retry.

        A selected job that is blocked adds the failed job above it, without which it cannot run.
        """
        if record.deleted_at is not None:
            return ()
        entries = {
            job: entry
            for job in graph.jobs
            if (entry := find_entry(graph, record, job)) is not None
            and entry.state in RETRIED
            and not is_current(graph, record, job)
        }
        failing = {job: e.error for job, e in entries.items() if e.state is State.FAILED}
        failed = {
            job
            for job, error in failing.items()
            if not self.kinds or (error is not None and error.kind in self.kinds)
        }
        causes = {
            job: entry.error.type if entry.error is not None else ""
            for job, entry in entries.items()
            if entry.state is State.BLOCKED
        }
        again = {job for job in self.jobs if job in failed}
        again |= {causes[job] for job in self.jobs if causes.get(job) in failed}
        again |= {job for job, cause in causes.items() if cause in again}
        if not self.kinds:  # blocked by a job that no longer fails
            again |= {job for job in self.jobs if job in causes and causes[job] not in failing}
        return tuple(job for job in graph.jobs if job in again)

    def matches(self, graph: Graph, dead: DeadLetter) -> bool:
        """Whether a dead letter is selected: one without a job, or whose job is gone, by pipeline.

        Nobody would read what is sent again to a pipeline that is gone.
        """
        if dead.job in graph.jobs:
            if dead.job not in self.jobs:
                return False
        elif dead.pipeline not in graph.find_pipelines(self.jobs):
            return False
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
    """Reopens the selected jobs in the ledger and, with a queue, asks the pipelines for them."""

    graph: Graph
    ledger: Ledger
    selection: RetrySelection
    queue: Queue | None = None
    clock: Clock = utc_now
    lost: Callable[[Lease], bool] = is_lost

    def count(self) -> RetryCounts:
        """Count the selected jobs without changing them."""
        total = RetryCounts()
        for record in self._find_records():
            total.add(_find_states(self.graph, record, self.selection))
        return total

    def run(self) -> RetryCounts:
        """Reopen the failures and publish messages.

        The jobs are first recorded as wanted in the ledger: if the process dies before it
        publishes, the sweep does.
        """
        total = RetryCounts()
        now = self.clock()
        reopen_selected = partial(self._reopen, request=build_request_id(now), now=now)
        found = self._find_records()
        while records := list(islice(found, BATCH)):
            envelopes: list[Envelope] = []
            for changed in self.ledger.change(
                [Change(uri=record.uri, transition=reopen_selected) for record in records]
            ):
                states, requests = changed.answer
                total.add(states)
                envelopes += requests
            if self.queue is not None and envelopes:
                self.queue.publish(envelopes)
        return total

    def _find_records(self) -> Iterator[Record]:
        selection = self.selection
        return find_records_by_state(
            self.ledger, self.graph, selection.jobs, RETRIED, selection.prefix
        )

    def _reopen(
        self, found: Record | None, *, request: str, now: datetime
    ) -> tuple[Record | None, tuple[dict[str, State], list[Envelope]]]:
        """Select and reopen jobs on the record as it is written; return states and requests."""
        if found is None:
            return None, ({}, [])
        states = _find_states(self.graph, found, self.selection)
        if not states:
            return None, ({}, [])
        jobs = tuple(states)
        record, requests = request_again(
            self.graph, found, jobs, jobs, request=request, now=now, lost=self.lost
        )
        return record, (states, requests)


def _find_states(graph: Graph, record: Record, selection: RetrySelection) -> dict[str, State]:
    """Return the states of the jobs of one file to retry."""
    results = record.results
    jobs = selection.find_jobs(graph, record)
    return {job: results[graph.fingerprints[job]].state for job in jobs}


def request_again(
    graph: Graph,
    record: Record,
    failed: Sequence[str],
    targets: Sequence[str],
    *,
    request: str,
    now: datetime,
    lost: Callable[[Lease], bool],
) -> tuple[Record, list[Envelope]]:
    """Reopen failed and blocked jobs of a file; return the requests for targets, too."""
    record, _ = reopen(record, graph, failed, request=request, now=now, states=RETRIED)
    record, planned = accept_targets(graph, record, targets, now, lost)
    return record, build_requests(graph, record, targets, planned.elsewhere, request=request)


@dataclass(slots=True, kw_only=True)
class ReplayedLetters:
    """The dead letters that were found, counted by pipeline, job, stage and kind."""

    found: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)
    ids: set[str] = field(default_factory=set)  # the queue's message ids
    unreadable: int = 0  # not written by Segue
    obsolete: int = 0  # about files that have been overwritten, deleted or erased since
    examples: list[DeadLetter] = field(default_factory=list)

    @property
    def total(self) -> int:
        """The number of selected dead letters."""
        return self.found.total()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterReplay:
    """Counts the dead letters of jobs, or replays them.

    A job that failed is reopened in the ledger and requested, and an event that led to it is
    published again, with all that follows from it. A letter about a file that has since been
    overwritten or deleted is obsolete: it is not replayed, and is removed unless it is a dry run.
    """

    graph: Graph
    ledger: Ledger
    queue: Queue
    selection: RetrySelection
    clock: Clock = utc_now
    lost: Callable[[Lease], bool] = is_lost
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
                    if self.selection.matches(self.graph, dead):
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
                    replayed.found[_describe(dead)] += 1
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
        known: set[str] = set()
        while len(known) < LETTER_LIMIT:
            room = min(LETTER_BATCH, LETTER_LIMIT - len(known))
            found = self.queue.pull([DEAD_TOPIC], limit=room, wait_s=self.wait_s)
            new = [one for one in found if one.message_id not in known]
            known.update(one.message_id for one in new)
            if not new:
                if found:
                    self.queue.extend(found, 0)
                return
            yield new

    def _send(self, letters: Sequence[tuple[ReceivedEnvelope, DeadLetter]]) -> None:
        """Reopen the failures, publish, and only then acknowledge: a crash loses nothing."""
        failed: dict[str, list[DeadLetter]] = {}
        envelopes = []
        for _, dead in letters:
            if dead.uri is not None and dead.job in self.graph.jobs:
                failed.setdefault(dead.uri, []).append(dead)
            else:
                envelopes.append(_build_original(self.graph, dead))
        now = self.clock()
        request = build_request_id(now)
        changes = [
            Change(
                uri=uri,
                transition=partial(self._reopen, letters=some, request=request, now=now),
            )
            for uri, some in failed.items()
        ]
        for changed in self.ledger.change(changes):
            envelopes += changed.answer
        if envelopes:
            self.queue.publish(envelopes)
        self.ledger.sync()
        self.queue.acknowledge([one for one, _ in letters])

    def _reopen(
        self,
        found: Record | None,
        *,
        letters: Sequence[DeadLetter],
        request: str,
        now: datetime,
    ) -> tuple[Record | None, list[Envelope]]:
        """Reopen failed jobs, and those that they block; return the requests and events.

        Whatever a message asked for is requested again: the graph may have changed since.
        """
        current = [dead for dead in letters if found is not None and dead.order == found.order]
        events = [
            _build_original(self.graph, d) for d in letters if d not in current or _is_event(d)
        ]
        if found is None or found.deleted_at is not None or not current:
            return None, events
        failed = tuple(str(dead.job) for dead in current)
        again = RetrySelection(jobs=failed).find_jobs(self.graph, found)
        messages = filter(None, map(_decode_message, current))
        wanted = {*failed, *again, *(target for m in messages for target in m.targets)}
        targets = [job for job in self.graph.jobs if job in wanted]
        record, requests = request_again(
            self.graph, found, again, targets, request=request, now=now, lost=self.lost
        )
        return record, [*requests, *events]


def _is_obsolete(dead: DeadLetter, record: Record | None) -> bool:
    if record is None or dead.order is None:
        return False
    if record.erased:  # only the removal of its artifacts is still to be done
        message = _decode_message(dead)
        return message is not None and not message.is_erased
    is_deleted = record.deleted_at is not None and record.order == dead.order
    return is_deleted or record.order > dead.order


def _describe(dead: DeadLetter) -> tuple[str, str, str, str]:
    return dead.pipeline, dead.job or "", str(dead.stage), dead.kind


def _is_event(dead: DeadLetter) -> bool:
    message = _decode_message(dead)
    return message is not None and message.trigger is not None


def _build_original(graph: Graph, dead: DeadLetter) -> Envelope:
    """Return the message of a letter as if it were sent for the first time.

    It goes to the pipeline that has the job by now.
    """
    pipeline = graph.pipeline_of.get(dead.job or "", dead.pipeline)
    message = _decode_message(dead)
    if message is None:  # a newer version may read it
        return Envelope(topic=format_inbox(pipeline), data=dead.data)
    return message_to_envelope(evolve(message, attempt=1, hops=0, arrived=None), pipeline)


def _decode_message(dead: DeadLetter) -> Message | None:
    """Decode the original message; None if it is unreadable."""
    with contextlib.suppress(UnreadableMessage):
        return decode_message(dead.data)
    return None
