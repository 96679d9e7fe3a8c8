"""The engine: plans, claims, runs and settles files in batches, and keeps every child busy.

Backfill and streaming both use it. The unit of work is a file: all jobs of its line that may run
here run in one task. A file costs one read (none if the message tells what its record contains) and
two writes, however many jobs its line has: the claim writes to the record that was just read, and
settling writes to the record that the claim left, and claims whatever is wanted next.

A message must not be acknowledged before ``segue.execution.reply`` has published its reply.
"""

from __future__ import annotations

import functools
import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from segue.adapters.connect import connect_store
from segue.clock import Clock, utc_now
from segue.errors import (
    ConfigurationError,
    DamagedRecord,
    DiskFull,
    Kind,
    SegueError,
    TransientError,
    Unavailable,
    UnreadableMessage,
)
from segue.execution.foreign import ForeignLedgers, find_told_result
from segue.execution.pace import Pace
from segue.execution.rate_limit import RateLimit
from segue.execution.reply import Reply, ReplyBuilder
from segue.execution.task import build_task
from segue.execution.work import (
    MAX_ATTEMPTS,
    ReceivedMessage,
    Run,
    Step,
    Steps,
    Work,
    is_deferred,
    limit_attempts,
    list_wanted,
)
from segue.ingest.control_reader import ControlReader
from segue.ingest.file_artifacts import list_known_folders, remove_file_artifacts
from segue.ingest.observation import Observation, observe
from segue.log import Action, log_event
from segue.model.dead_letter import Stage
from segue.model.graph import SOURCE, Graph
from segue.model.lease_owner import build_owner, is_lost
from segue.model.ledger import Change, Ledger, Snapshot, Transition
from segue.model.media_file import (
    MediaFile,
    find_bucket_location,
    is_below,
    parse_location,
    split_uri,
)
from segue.model.message import Message, decode_message
from segue.model.object_store import LeftOutReason, ObjectStore
from segue.model.outcome import Outcome, Status
from segue.model.planner import NO_JOBS, Verdict, find_needed_foreign
from segue.model.queue import Envelope
from segue.model.record import FINISHED, Failure, Lease, Record, State
from segue.model.transitions import (
    Result,
    arrive,
    extend_leases,
    forget_results,
)
from segue.worker.protocol import Report, Task

T = TypeVar("T")

LEASE_S = 900.0
BATCH = 256
WORTH_A_WRITE = frozenset({Verdict.WAITING, Verdict.BLOCKED, Verdict.NOT_APPLICABLE})
SETTLE_S = 0.25  # a killed run loses the results of at most this time, and what was running


class WorkerPool(Protocol):
    """Runs tasks: a pool of child processes, or a fake."""

    processes: int

    @property
    def batch_files(self) -> int:
        """How many files to submit besides those of ordinary work, so that batches fill."""

    def submit(self, tasks: Sequence[Task]) -> None:
        """Accept tasks; their ids come back in reports."""

    def flush(self) -> None:
        """Let no batch wait for further tasks: none come, unless some are submitted after all."""

    def collect(self, timeout_s: float) -> list[Report]:
        """Return reports as soon as there are any, or none after the timeout."""


@dataclass(slots=True, kw_only=True)
class Engine:
    """Works on files until their targets are finished.

    ``add_files`` and ``add_messages`` accept work; ``step`` works on it, and returns the outcomes
    of files and the replies to messages that are ready; ``drain`` yields the rest. A caller that
    gives up in between calls ``abandon``.
    """

    graph: Graph
    ledger: Ledger
    pool: WorkerPool
    artifacts: ObjectStore
    foreign: ForeignLedgers | None = None  # None: the graph depends on no other namespace
    queue: str = ""  # its URL, at which other namespaces respond to requests
    open_store: Callable[[str], ObjectStore] = connect_store  # by location: where the files are
    served: frozenset[str] | None = None  # the jobs that may run here; None: all
    clock: Clock = utc_now
    owner: Callable[[], str] = build_owner  # called for each file
    lost: Callable[[Lease], bool] = is_lost
    lease_s: float = LEASE_S
    ahead_s: float = 2.0  # of work that is claimed before it starts
    max_ahead: int = 1024
    dry_run: bool = False
    pace: Pace | None = None  # None: as many files are started as there is room for
    controls: ControlReader = field(init=False)
    _paused: frozenset[str] = NO_JOBS
    _steps: Steps = field(init=False)
    _replies: ReplyBuilder = field(init=False)
    _inbox: deque[Work] = field(default_factory=deque)
    _ready: deque[Work] = field(default_factory=deque)  # planned, and to be claimed
    _running: dict[int, Work] = field(default_factory=dict)
    _finished: list[Work] = field(default_factory=list)
    _waiting_for_others: list[Work] = field(default_factory=list)  # to look once more
    _erased: list[Work] = field(default_factory=list)  # whose files' artifacts are to be removed
    _under_way: set[str] = field(default_factory=set)  # the URIs of what has left the inbox
    # By URI: what waits for other work on the same file to end, which is ahead of it.
    _waiting: dict[str, deque[Work]] = field(default_factory=dict)
    _waiting_count: int = 0
    _ended: list[Outcome | Reply] = field(default_factory=list)
    _requests: list[Envelope] = field(default_factory=list)  # to other namespaces, of a backfill
    _limit: RateLimit = field(default_factory=RateLimit)
    _last_task_id: int = 0
    _last_step: int = 0
    _means_s: dict[tuple[str, ...], float] = field(default_factory=dict)  # by kind of work
    _last_kind: tuple[str, ...] = ()
    _settled_at: datetime | None = None
    _stop_error: SegueError | None = None

    def __post_init__(self) -> None:
        self.controls = ControlReader(ledger=self.ledger, clock=self.clock)
        self._steps = Steps(
            graph=self.graph,
            served=self.served,
            lost=self.lost,
            paused=lambda: self._paused,
            lease_s=self.lease_s,
        )
        self._replies = ReplyBuilder(
            graph=self.graph, steps=self._steps, clock=self.clock, queue=self.queue
        )

    @property
    def pending(self) -> int:
        """How many files and messages have no outcome or reply yet."""
        begun = len(self._list_begun())
        return len(self._inbox) + self._waiting_count + begun + len(self._ended)

    @property
    def running(self) -> int:
        """How many files are claimed and running."""
        return len(self._running)

    @property
    def room(self) -> int:
        """How many more files or messages to add to keep every child busy.

        What waits for other work on its file takes no room from others, up to a limit.
        """
        free = self._capacity() - len(self._inbox) - len(self._ready) - len(self._running)
        return max(0, min(free, self.max_ahead - self._waiting_count))

    def _capacity(self) -> int:
        """Return how many files to claim at once: work for ``ahead_s``, at least two per child,
        and what fills batches.
        """
        least, batch_files = 2 * self.pool.processes, self.pool.batch_files
        kind = _find_kind(self._ready[0]) if self._ready else self._last_kind
        mean_s = self._means_s.get(kind)
        if mean_s is None:
            return least + batch_files
        ahead = self.ahead_s * self.pool.processes / max(mean_s, 1e-6)
        return int(min(max(least, ahead), self.max_ahead)) + batch_files

    # Accept work.

    def add_files(
        self, files: Sequence[MediaFile], run: Run, snapshots: Sequence[Snapshot] | None = None
    ) -> None:
        """Accept files of a backfill, with their records if they were read already."""
        known: Sequence[Snapshot | None] = snapshots or [None] * len(files)
        for media, snapshot in zip(files, known, strict=True):
            self._inbox.append(
                Work(
                    media=media,
                    targets=run.targets,
                    owner=self.owner(),
                    added_at=self._count_step(),
                    run=run,
                    snapshot=snapshot,
                )
            )

    def add_messages(self, received: Sequence[ReceivedMessage]) -> None:
        """Accept messages; dead-letter those that are unreadable, or requests to others."""
        for one in received:
            try:
                message = decode_message(one.data)
            except UnreadableMessage as error:
                self._ended.append(self._replies.build_dead_letter(one, Stage.DECODE, error))
                continue
            if fault := self._find_route_fault(message):
                misrouted = UnreadableMessage(fault)
                dead = self._replies.build_dead_letter(one, Stage.ROUTE, misrouted, message)
                self._ended.append(dead)
                continue
            work = self._build_work(one, message)
            if self._is_idle_event(work):
                work.refusal = f"nothing here runs on an event of {message.trigger}"
                self._ended.append(self._replies.build(work, message))
                continue
            if message.reply_to is not None:
                work.is_over_limit = not self._limit.admits(
                    message.reply_to.partition("/")[0],
                    self.graph.requests_per_minute,
                    self.clock(),
                )
            self._inbox.append(work)

    def _find_route_fault(self, message: Message) -> str | None:
        """Return why a message is not for this graph, or None.

        Of buckets, another namespace may have computed only what is in the catalogue: the jobs run
        with the rights of this one.
        """
        graph = self.graph
        is_known = message.trigger is not None and message.namespace in graph.imports
        if message.namespace != graph.namespace and not is_known:
            return (
                f"the message is of namespace {message.namespace!r}, and this pipeline is of "
                f"{graph.namespace!r}; publish it to a topic of its own namespace"
            )
        if message.reply_to is None or graph.catalogue is None or not split_uri(message.uri)[0]:
            return None
        catalogue = parse_location(graph.catalogue).removesuffix("/") + "/"
        if is_below(message.uri, catalogue):
            return None
        return f"{message.reply_to} requests a file that is not below the catalogue {catalogue}"

    def _is_idle_event(self, work: Work) -> bool:
        """Whether it is an event of another namespace that leads to no job, or a deletion of ours.

        Such a deletion is in the ledger, and the event is for others. A result that the graph is
        not locked to leads to nothing, either.
        """
        if work.message is not None and work.message.namespace == self.graph.namespace:
            return work.is_deletion
        if work.trigger in (None, SOURCE) or work.is_deletion:
            return False  # what is known of the file may have another version now
        is_unlocked = work.message is not None and work.message.result is not None
        return not work.targets or (is_unlocked and not work.foreign)

    def _build_work(self, one: ReceivedMessage, message: Message) -> Work:
        work = Work(
            media=message.media,
            targets=tuple(t for t in message.targets if t in self.graph.jobs),
            owner=self.owner(),
            added_at=self._count_step(),
            received=one,
            message=message,
            is_from_others=message.namespace != self.graph.namespace
            or message.reply_to is not None,
        )
        if work.trigger is not None:
            work.targets = self._steps.list_event_targets(work.trigger, is_ping=message.ping)
        if told := find_told_result(self.graph, message):
            work.foreign = dict([told])
        is_hint = work.is_from_others and work.media.is_in_folder
        if message.arrived is None or work.is_deletion or is_hint:
            return work
        if work.is_from_others:  # whose record is not this one
            work.snapshot, work.is_guess = Snapshot(record=None), True
        elif message.arrived.revision:
            record, _ = arrive(None, message.media, message.arrived.at)
            work.snapshot = Snapshot(record=record, revision=message.arrived.revision)
        return work

    # Work.

    def step(self, timeout_s: float = 0.0) -> list[Outcome | Reply]:
        """Work, wait for running jobs up to the timeout, and return what has ended.

        If the ledger is unavailable, call it again: nothing is lost, and nothing ends twice.

        Raises
        ------
        DiskFull
            If a job could not write its result; a message then gets no reply, and is redelivered.
        Unavailable, Contended
            If the ledger is unavailable.
        """
        self._paused = self.controls.select_paused(self.graph.jobs)
        self._extend()
        self._decide()
        self._start()
        if self._running:
            for report in self.pool.collect(0.0 if self._ended else timeout_s):
                self._receive(report)
        elif self.pace is not None and self._ready and not self._ended:
            self.pace.wait(timeout_s)
        self._settle()
        self._look_again()
        self._clean()
        ended, self._ended = self._ended, []
        if self._stop_error is not None and not ended:
            raise self._stop_error
        return ended

    def take_requests(self) -> list[Envelope]:
        """Return the requests to other namespaces of the files of a backfill that have ended."""
        requests, self._requests = self._requests, []
        return requests

    def drain(self) -> Iterator[Outcome | Reply]:
        """Finish everything that was added."""
        while self.has_work:
            self.flush()
            yield from self.step(0.25)

    @property
    def has_work(self) -> bool:
        """Whether anything is to be done, or an error to be raised."""
        return self.pending > 0 or self._stop_error is not None

    def withdraw(self) -> list[str]:
        """Give up the files of a backfill of which nothing was claimed; return their URIs.

        What is running goes on. Whatever has been recorded of a file, ends with that.
        """
        waiting = itertools.chain.from_iterable(self._waiting.values())
        left = [*self._inbox, *waiting, *(work for work in self._ready if not work.settled)]
        assert all(work.message is None for work in left)
        begun = [work for work in self._ready if work.settled]
        for work in self._ready:
            self._under_way.discard(work.media.uri)
        self._inbox.clear()
        self._waiting.clear()
        self._waiting_count = 0
        self._ready.clear()
        for work in begun:
            self._end(work)
        return [work.media.uri for work in left]

    def flush(self) -> None:
        """Run what waits for others to fill a batch, as no more are added."""
        if not (self._inbox or self._ready or self._waiting_count):
            self.pool.flush()

    def abandon(self) -> list[str]:
        """Forget all work, and return the owners whose leases are now abandoned."""
        works = self._list_works()
        for part in (self._inbox, self._ready, self._running, self._finished, self._erased):
            part.clear()
        self._waiting_for_others.clear()
        self._ended.clear()
        self._under_way.clear()
        self._waiting.clear()
        self._requests.clear()
        self._waiting_count = 0
        self._stop_error = None
        return [work.owner for work in works]

    def _list_works(self) -> list[Work]:
        waiting = itertools.chain.from_iterable(self._waiting.values())
        return [*self._inbox, *waiting, *self._list_begun()]

    def _list_begun(self) -> list[Work]:
        begun = (
            self._ready,
            self._running.values(),
            self._finished,
            self._waiting_for_others,
            self._erased,
        )
        return [*itertools.chain.from_iterable(begun)]

    def _decide(self) -> None:
        """Read and plan; what needs neither a job nor a write ends here."""
        while self._inbox and len(self._ready) < max(BATCH, self._capacity()):
            batch = self._take_batch()
            if not batch:
                return
            try:
                self._read(batch)
            except BaseException:
                self._put_back(batch)
                raise
            now = self.clock()
            for work in batch:
                self._decide_one(work, now)

    def _decide_one(self, work: Work, now: datetime) -> None:
        snapshot = work.snapshot
        assert snapshot is not None
        is_forced = work.run is not None and work.run.force
        if snapshot.damage is not None and not (is_forced or work.is_erasure):
            self._end_damaged(work, snapshot.damage)
            return
        if work.is_unclear:
            self._end(work)
            return
        if (work.message is not None and work.message.ping) or work.is_deletion:
            self._ready.append(work)
            return
        record, step = self._steps.decide(work, snapshot.record, now)
        if work.is_guess and (step.plan is None or not step.plan.run):
            work.snapshot, work.is_guess = None, False  # what is there decides, and not a guess
            self._put_back([work])
            return
        self._note(work, step)
        if self.dry_run or not _is_worth_a_write(work, snapshot.record, record):
            self._end(work)
        elif self.pace is not None and work.has_begun:
            self._ready.appendleft(work)  # the others wait for their time
        else:
            self._ready.append(work)

    def _take_batch(self) -> list[Work]:
        """Take work on different files, none of which is under way."""
        batch: list[Work] = []
        while self._inbox and len(batch) < BATCH:
            work = self._inbox.popleft()
            uri = work.media.uri
            if uri in self._under_way:
                self._waiting.setdefault(uri, deque()).append(work)
                self._waiting_count += 1
            else:
                self._under_way.add(uri)
                batch.append(work)
        return batch

    def _count_step(self) -> int:
        """Return the number of a step; later ones have greater numbers."""
        self._last_step += 1
        return self._last_step

    def _put_back(self, batch: Sequence[Work]) -> None:
        for work in reversed(batch):
            self._under_way.discard(work.media.uri)
            self._inbox.appendleft(work)

    def _free(self, work: Work) -> None:
        """Let the first of what waits for a file go on.

        It need not read the record if that was seen since it came: whatever its sender has written
        is in there. If somebody is yet to be notified, that is about to change.
        """
        uri = work.media.uri
        self._under_way.discard(uri)
        if waiting := self._waiting.get(uri):
            following = waiting.popleft()
            is_new = work.seen_at > following.added_at and not following.media.is_in_folder
            if is_new and work.record is not None and not _has_marks(work.record):
                following.snapshot, following.seen_at = work.snapshot, work.seen_at
                following.is_guess = False
            self._inbox.appendleft(following)
            self._waiting_count -= 1
            if not waiting:
                del self._waiting[uri]

    def _read(self, batch: Sequence[Work]) -> None:
        unread = [work for work in batch if work.snapshot is None]
        if unread:
            snapshots = self.ledger.read([work.media.uri for work in unread])
            for work, snapshot in zip(unread, snapshots, strict=True):
                work.snapshot, work.seen_at = snapshot, self._count_step()
        told = [work for work in unread if work.is_from_others and not work.is_erasure]
        self._observe([work for work in told if work.media.is_in_folder])
        for work in batch:
            if work.is_response and work.record is not None:
                work.targets = list_wanted(self.graph, work.record)
        self._look_up(batch, [self._list_needed(work) for work in batch])

    def _look_up(self, works: Sequence[Work], needed: Sequence[Sequence[str]]) -> None:
        """Read what other namespaces have of some jobs, unless a message has told of it."""
        if self.foreign is None:
            return
        missing = [
            [reference for reference in references if reference not in work.foreign]
            for work, references in zip(works, needed, strict=True)
        ]
        found, unknown = self.foreign.look_up([work.media for work in works], missing)
        for work, results, strangers in zip(works, found, unknown, strict=True):
            work.foreign = {**results, **work.foreign}
            work.unknown_to = {*work.unknown_to, *strangers}

    def _observe(self, works: Sequence[Work]) -> None:
        """Look at the files in folders that others tell of, or ask about: that is only a hint.

        Each namespace has an order of its own for their contents.
        """
        if not works:
            return
        try:
            observed = self._look_at(works)
        except BaseException:
            for work in works:
                work.snapshot = None  # to be looked at again
            raise
        for work, seen in zip(works, observed, strict=True):
            work.snapshot = seen.snapshot
            record = seen.snapshot.record
            attempt = work.message.attempt if work.message is not None else MAX_ATTEMPTS
            if isinstance(seen.error, TransientError) and attempt < MAX_ATTEMPTS:
                work.is_unclear = True
            elif seen.error is not None:
                work.snapshot = Snapshot(record=record, damage=str(seen.error))
            elif record is not None and record.version == work.media.version:
                work.media = record.media

    def _look_at(self, works: Sequence[Work]) -> list[Observation]:
        with closing(self.open_store(find_bucket_location(works[0].media.uri))) as store:
            known = [work.snapshot for work in works if work.snapshot is not None]
            files = [work.media for work in works]
            events = [work.cause for work in works]
            observed = observe(
                store, self.ledger, files, self.clock(), snapshots=known, events=events
            )
        for seen in observed:
            if seen.error is not None and _concerns_all(seen):
                raise seen.error
        return observed

    def _list_needed(self, work: Work) -> tuple[str, ...]:
        """Return the jobs of other namespaces on which it depends what is to be done."""
        record = work.record
        if work.is_deletion:
            return ()
        if (work.run is not None and work.run.force) or record is None:
            return self.graph.find_foreign(work.targets)
        if record.version != work.media.version:
            return self.graph.find_foreign(work.targets)
        return find_needed_foreign(self.graph, record, self._list_targets(work))

    def _list_targets(self, work: Work) -> tuple[str, ...]:
        """Return what the work is for; once it has settled something, also what others want."""
        wanted = list_wanted(self.graph, work.record) if work.settled and work.record else ()
        return tuple(dict.fromkeys((*work.targets, *wanted)))

    def _note(self, work: Work, step: Step) -> None:
        work.refusal, work.late = step.refusal, step.late
        if step.plan is not None:
            work.plan = step.plan
            work.verdicts = work.verdicts or step.plan.verdicts

    def _start(self) -> None:
        """Claim as many files as there is room for, and submit them to the pool."""
        capacity = self._capacity()
        room = capacity - len(self._running)
        # A claim for each slot that becomes free would cost many writes.
        if not self._ready or room < max(1, capacity // 4):
            return
        pace = None if self._ready[0].has_begun else self.pace
        if pace is not None:
            room = min(room, pace.room)
            if not room:
                return
        now = self.clock()
        kind = self._find_start(self._ready[0])
        alike = itertools.takewhile(lambda work: self._find_start(work) == kind, self._ready)
        batch = list(itertools.islice(alike, room))
        if pace is not None:
            pace.start(len(batch))
        started = self._change(batch, lambda work: self._steps.build_start(work, now))
        for work, step in started:
            self._ready.popleft()
            work.verdicts = {}
            self._note(work, step)
        self._submit([work for work, _ in started], now)

    def _find_start(self, work: Work) -> tuple[object, ...]:
        """Return what work is started together with: at a pace, only what counts for it alike."""
        return _find_kind(work), self.pace is not None and work.has_begun

    def _change(
        self, works: Sequence[Work], build: Callable[[Work], Transition[T]]
    ) -> list[tuple[Work, T]]:
        """Change the records of files, and return the answers; what has a damaged one ends."""
        while True:
            changes = [
                Change(uri=work.media.uri, known=work.snapshot, transition=build(work))
                for work in works
            ]
            try:
                made = self.ledger.change(changes)
            except DamagedRecord as error:
                damaged = [work for work in works if work.media.uri in error.uris]
                if not damaged:
                    raise
                for work in damaged:
                    self._forget(work)
                    reason = self.ledger.damage.reasons.get(work.media.uri, str(error))
                    self._end_damaged(work, reason)
                works = [work for work in works if work.media.uri not in error.uris]
                continue
            for work, changed in zip(works, made, strict=True):
                work.snapshot, work.seen_at = changed.snapshot, self._count_step()
            return [(work, one.answer) for work, one in zip(works, made, strict=True)]

    def _forget(self, work: Work) -> None:
        """Leave no trace of work that has begun; a late report on it is ignored."""
        self._ready = deque(one for one in self._ready if one is not work)
        self._running = {n: one for n, one in self._running.items() if one is not work}
        self._finished = [one for one in self._finished if one is not work]
        self._erased = [one for one in self._erased if one is not work]

    def _submit(self, works: Sequence[Work], now: datetime) -> None:
        """Run what was claimed; work without any ends."""
        tasks = []
        for work in works:
            if work.plan is None or not work.plan.run or work.refusal is not None:
                self._end(work)
                continue
            self._last_task_id += 1
            work.claimed = work.record
            work.leased_until = now + timedelta(seconds=self.lease_s)
            work.results = []
            self._running[self._last_task_id] = work
            tasks.append(build_task(self._last_task_id, self.graph, work))
        if tasks:
            self.pool.submit(tasks)

    def _receive(self, report: Report) -> None:
        work = self._running.get(report.task_id)
        if work is None:  # of a task that was abandoned
            return
        work.results += report.results
        if not report.finished:
            return
        del self._running[report.task_id]
        work.results = limit_attempts(self.graph, work)
        self._finished.append(work)
        seconds = sum(r.seconds or 0.0 for r in work.results)
        self._last_kind = kind = _find_kind(work)
        self._means_s[kind] = 0.95 * self._means_s.get(kind, seconds) + 0.05 * seconds

    def _settle(self) -> None:
        """Record results in batches, once their artifacts are on the disk, and continue."""
        if not self._finished or not self._is_time_to_settle():
            return
        self._settled_at = self.clock()
        self._sync_artifacts()
        for work in self._finished:
            work.damaged.update(r.damaged for r in work.results if r.damaged is not None)
        damaged = [work for work in self._finished if work.damaged]  # is made again from these
        self._look_up(damaged, [self.graph.find_foreign(work.damaged) for work in damaged])
        now = self.clock()
        made = self._change(self._finished, lambda work: self._steps.build_settlement(work, now))
        self._finished = []
        for work, step in made:
            self._note(work, step)
            self._log_damage(work)
            latest = step.plan.verdicts if step.plan is not None else {}
            work.verdicts = {job: latest.get(job, v) for job, v in work.verdicts.items()}
            work.settled += [r for r in work.results if r.state in FINISHED]
            queued = [r for r in work.results if r.state is State.QUEUED]
            work.results = queued if any(map(is_deferred, queued)) else []
        for work, _ in made:
            if _is_over(work) and self._waits_for_others(work):
                self._waiting_for_others.append(work)
            elif _is_over(work):
                self._end(work)
        self._submit([work for work, _ in made if not _is_over(work)], now)

    def _look_again(self) -> None:
        """Go on with files of which other namespaces have finished what they need meanwhile.

        Their event may have come while a job here was running, and have found that unfinished.
        """
        works = self._waiting_for_others
        if self.foreign is None or not works:
            return
        needed = [self._list_needed(work) for work in works]
        found, _ = self.foreign.look_up([work.media for work in works], needed)
        self._waiting_for_others = []
        for work, results in zip(works, found, strict=True):
            if any(work.foreign.get(reference) != results[reference] for reference in results):
                work.foreign = {**work.foreign, **results}
                self._ready.append(work)
            else:
                self._end(work)

    def _waits_for_others(self, work: Work) -> bool:
        verdicts = work.plan.verdicts if work.plan is not None else {}
        is_first = bool(work.settled) and not (work.late or work.results)
        return is_first and Verdict.FOREIGN in map(verdicts.get, self._list_targets(work))

    def _is_time_to_settle(self) -> bool:
        """Whether enough results, or results for long enough, wait; replies never wait."""
        if len(self._finished) >= BATCH or not (self._running or self._ready):
            return True
        if any(work.message is not None for work in self._finished):
            return True
        now = self.clock()
        self._settled_at = self._settled_at or now
        return (now - self._settled_at).total_seconds() >= SETTLE_S

    def _sync_artifacts(self) -> None:
        """Have the artifacts of finished jobs on the disk before the ledger says done.

        If that fails, their jobs run again: a later sync would succeed without what is lost, as
        the system reports a lost write only once.
        """
        done = [w for w in self._finished if any(r.state is State.DONE for r in w.results)]
        if not done:
            return
        try:
            self.artifacts.sync()
        except TransientError as error:
            failure = Failure(kind=error.kind, type=type(error).__name__, message=str(error))
            for work in done:
                work.results = [
                    Result(job=r.job, state=State.QUEUED, error=failure) for r in work.results
                ]

    def _log_damage(self, work: Work) -> None:
        for result in work.results:
            if result.damaged is not None and result.error is not None:
                log_event(
                    Action.RECOMPUTED,
                    severity="WARNING",
                    file=work.media.uri,
                    job=result.damaged,
                    error=result.error.message,
                )

    def _extend(self) -> None:
        """Extend the leases of files under way, each once a third of its time has passed."""
        now = self.clock()
        soon = now + timedelta(seconds=self.lease_s * 2 / 3)
        due = [
            work for work in (*self._running.values(), *self._finished) if work.leased_until <= soon
        ]
        if not due:
            return
        until = now + timedelta(seconds=self.lease_s)

        def extend(work: Work) -> Transition[bool]:
            jobs = work.plan.run if work.plan is not None else ()
            return functools.partial(extend_leases, owner=work.owner, jobs=jobs, expires_at=until)

        for work, _ in self._change(due, extend):
            work.leased_until = until

    # End work: outcomes of files, and replies to messages.

    def _end_damaged(self, work: Work, damage: str) -> None:
        work.seen_at = 0  # the next one reads it again
        self._free(work)
        one, kind = work.received, Kind.DAMAGED_RECORD
        self._ended.append(
            Outcome.from_failure(work.media, work.targets, kind=kind, message=damage)
            if one is None
            else self._replies.build_dead_letter(
                one, Stage.RUN, DamagedRecord(damage), work.message
            )
        )

    def _end(self, work: Work) -> None:
        """End work; if its file was erased, once no artifacts of it are left."""
        if work.is_to_be_cleaned and not self.dry_run:
            self._erased.append(work)
        else:
            self._close(work)

    def _clean(self) -> None:
        """Remove the artifacts of files that were erased, and end the work on them.

        Their tombstones were written before: whoever is still running a job finds it, and does the
        same.
        """
        while self._erased:
            work = self._erased[0]
            self._remove_artifacts(work)
            if work in self._erased:  # its record could be read
                self._erased.remove(work)
                self._close(work)

    def _remove_artifacts(self, work: Work) -> None:
        """Remove a file's artifacts, and then what its record says of them."""
        record = work.record
        assert record is not None
        folders = list_known_folders(self.graph, record)
        try:
            work.removed += remove_file_artifacts(self.artifacts, record.uri, folders)
        except ConfigurationError as error:  # of no concern to other files
            work.unremoved = str(error)
            log_event(Action.MISCONFIGURED, severity="ERROR", file=record.uri, error=str(error))
            return
        if work.removed:
            self.artifacts.sync()
        now = self.clock()

        def is_held(lease: Lease) -> bool:
            return lease.owner != work.owner and lease.expires_at > now and not self.lost(lease)

        self._change([work], lambda _: functools.partial(forget_results, is_held=is_held))

    def _close(self, work: Work) -> None:
        self._free(work)
        errors = [result.error for result in work.results if result.error is not None]
        full = [error for error in errors if error.kind == Kind.DISK_FULL]
        if full:
            self._stop_error = DiskFull(full[0].message)
        if work.message is None:
            if work.record is not None and not self.dry_run:
                self._requests += self._replies.request_parents(work)
            self._ended.append(_build_outcome(work))
        elif not full:
            self._ended.append(self._replies.build(work, work.message))


def _concerns_all(seen: Observation) -> bool:
    """Whether a file cannot be seen because of its disk or server, and not of itself."""
    error = seen.error
    is_of_file = isinstance(error.__cause__, OSError) if error is not None else False
    is_away = isinstance(error, Unavailable) and not is_of_file
    return seen.reason is LeftOutReason.UNMOUNTED or (
        is_away and seen.reason is LeftOutReason.UNREADABLE
    )


def _has_marks(record: Record) -> bool:
    return any(entry.notify for entry in record.results.values())


def _find_kind(work: Work) -> tuple[str, ...]:
    """Return what tells how long work takes: of a backfill, whose files may be probed first, its
    targets. Messages are of one kind.
    """
    return work.targets if work.message is None else ()


def _is_over(work: Work) -> bool:
    """Whether nothing is left to run for now: all is finished, too late, or to be tried again."""
    return bool(work.late or work.results) or work.plan is None or not work.plan.run


def _is_worth_a_write(work: Work, found: Record | None, record: Record | None) -> bool:
    """Whether to claim, or to write a changed record: a backfill does not write each change."""
    planned = work.plan
    if planned is not None and planned.run:
        return True
    if record is None or record is found or planned is None:
        return False
    if work.message is not None:
        return found is not None or bool(record.results)
    if found is not None and (found.media, found.deleted_at) != (record.media, record.deleted_at):
        return True  # another content, whose results may all be there
    if work.may_request and Verdict.FOREIGN in planned.verdicts.values():
        return True
    return not WORTH_A_WRITE.isdisjoint(planned.verdicts.values())


def _build_outcome(work: Work) -> Outcome:
    if work.refusal is not None:
        return Outcome.from_status(work.media, work.targets, Status(work.refusal))
    results = [*work.settled, *work.results]
    return Outcome.from_results(work.media, work.verdicts, results, work.late)
