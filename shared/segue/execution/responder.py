"""The responder decides on messages, claims, runs and settles in batches, and keeps children busy.

It is the streaming counterpart of ``segue.execution.executor``: both plan with the same planner,
claim and settle in the same ledger, and submit tasks to the same pool. Its replies contain the
envelopes to publish; a message must not be acknowledged before ``segue.execution.reply`` has
published them.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from segue.clock import Clock, utc_now
from segue.errors import (
    DamagedRecord,
    DiskFull,
    Kind,
    PermanentError,
    SegueError,
    TransientError,
    UnreadableMessage,
)
from segue.execution.executor import WorkerPool, build_task, count_ahead
from segue.execution.message_transitions import (
    ActiveMessage,
    MessageDecision,
    build_decision,
    settle,
)
from segue.execution.reply import (
    ClearPending,
    ReceivedMessage,
    Reply,
    build_dead_letter_envelope,
    forward,
    notify_children,
    notify_pending,
)
from segue.log import Action
from segue.model.dead_letter import Stage
from segue.model.graph import Graph
from segue.model.lease_owner import build_owner, is_lost
from segue.model.ledger import Change, Ledger
from segue.model.message import Message, decode_message
from segue.model.object_store import ObjectStore
from segue.model.planner import Ask, Drop, Forward, Run, Wait
from segue.model.queue import Envelope, message_to_envelope
from segue.model.record import EVERYTHING, Failure, Lease, Record, State, evolve
from segue.model.transitions import Result, Settled, extend_leases
from segue.worker.protocol import Report, Task

LEASE_S = 300.0
DECIDE_BATCH = 256
AHEAD_S = 0.5  # of work that is claimed before it starts
MAX_AHEAD = 256
# Attempts on a message before a transient error counts as permanent; the worker has already retried
# each of them.
MAX_ATTEMPTS = 5
_FINISHED = frozenset({State.DONE, State.FAILED, State.BLOCKED})


@dataclass(slots=True, kw_only=True)
class Responder:
    """Processes messages for some jobs.

    ``add`` accepts messages; ``step`` works and returns the replies that are ready; ``drain``
    yields the rest. A caller that gives up in between calls ``abandon``.
    """

    graph: Graph
    jobs: Collection[str]  # that are served here
    ledger: Ledger
    pool: WorkerPool
    artifacts: ObjectStore
    clock: Clock = utc_now
    owner: Callable[[], str] = build_owner
    lost: Callable[[Lease], bool] = is_lost
    lease_s: float = LEASE_S
    _inbox: deque[ActiveMessage] = field(default_factory=deque)
    _running: dict[int, ActiveMessage] = field(default_factory=dict)
    _finished: list[ActiveMessage] = field(default_factory=list)
    _replies: list[Reply] = field(default_factory=list)
    _last_task_id: int = 0
    _mean_s: float | None = None
    _stop_error: SegueError | None = None

    @property
    def pending(self) -> int:
        """How many messages are waiting for their replies."""
        return len(self._inbox) + len(self._running) + len(self._finished) + len(self._replies)

    @property
    def running(self) -> int:
        """How many jobs are claimed and running."""
        return len(self._running)

    @property
    def room(self) -> int:
        """How many more messages to add to keep every child busy."""
        return max(0, self._capacity() - len(self._inbox) - len(self._running))

    def add(self, received: Sequence[ReceivedMessage]) -> None:
        """Accept messages; dead-letter those that are unreadable or for another pipeline's jobs."""
        for one in received:
            try:
                message = decode_message(one.data)
            except UnreadableMessage as error:
                self._dead_letter(one, None, Stage.DECODE, error)
                continue
            if message.job not in self.jobs and message.job in self.graph.jobs:
                served = ", ".join(self.jobs)
                misrouted = UnreadableMessage(
                    f"the message is for {message.job!r}, and this pipeline runs {served}; "
                    "publish it to its own job's topic"
                )
                self._dead_letter(one, message, Stage.ROUTE, misrouted)
                continue
            self._inbox.append(ActiveMessage(received=one, message=message, owner=self.owner()))

    def _dead_letter(
        self, one: ReceivedMessage, message: Message | None, stage: Stage, error: PermanentError
    ) -> None:
        failure = Failure(kind=error.kind, type=type(error).__name__, message=str(error))
        envelope = build_dead_letter_envelope(one, message, stage, failure, self.clock())
        self._replies.append(
            Reply(
                received=one,
                action=Action.DEAD_LETTERED,
                envelopes=(envelope,),
                reason=f"{stage}: {error}",
            )
        )

    def step(self, timeout_s: float = 0.0) -> list[Reply]:
        """Process messages, wait for running jobs up to the timeout, and return the replies.

        If the ledger is unavailable, call it again: no message is lost, and none gets two replies.

        Raises
        ------
        DiskFull
            If a job could not write its result; its message gets no reply, and is redelivered.
        Unavailable, Contended
            If the ledger is unavailable.
        """
        self._extend()
        self._start()
        if self._running and not self._replies:
            for report in self.pool.collect(timeout_s):
                self._receive(report)
        self._settle()
        replies, self._replies = self._replies, []
        if self._stop_error is not None and not replies:
            raise self._stop_error
        return replies

    def drain(self) -> Iterator[Reply]:
        """Finish everything that was added."""
        while self.pending:
            yield from self.step(0.25)

    def abandon(self) -> list[str]:
        """Forget all messages, and return the owners whose leases are now abandoned."""
        messages = [*self._inbox, *self._running.values(), *self._finished]
        self._inbox.clear()
        self._running.clear()
        self._finished.clear()
        self._replies.clear()
        self._stop_error = None
        return [active.owner for active in messages]

    def _capacity(self) -> int:
        """Return how many jobs to claim at once."""
        return count_ahead(self.pool.processes, self._mean_s, AHEAD_S, MAX_AHEAD)

    # Decide on messages, and start jobs.

    def _start(self) -> None:
        """Decide on messages while there is room, one per file at a time."""
        while self._inbox and len(self._running) < self._capacity():
            batch: dict[str, ActiveMessage] = {}
            later: list[ActiveMessage] = []
            room = min(DECIDE_BATCH, self._capacity() - len(self._running))
            while self._inbox and len(batch) < room:
                active = self._inbox.popleft()
                if active.message.uri in batch:
                    later.append(active)
                else:
                    batch[active.message.uri] = active
            try:
                answers = self._decide(list(batch.values()))
            except BaseException:
                self._inbox.extendleft(reversed([*batch.values(), *later]))
                raise
            self._inbox.extendleft(reversed(later))
            tasks = [
                t for active, answer in answers if (t := self._act(active, answer)) is not None
            ]
            if tasks:
                self.pool.submit(tasks)

    def _decide(
        self, messages: Sequence[ActiveMessage]
    ) -> list[tuple[ActiveMessage, MessageDecision]]:
        now = self.clock()
        snapshots = self.ledger.read([i.message.uri for i in messages])
        writing: list[ActiveMessage] = []
        changes: list[Change[MessageDecision]] = []
        answers: list[tuple[ActiveMessage, MessageDecision]] = []
        for active, snapshot in zip(messages, snapshots, strict=True):
            if snapshot.damage is not None:
                error = DamagedRecord(snapshot.damage)
                self._dead_letter(active.received, active.message, Stage.RUN, error)
                continue
            active.snapshot = snapshot
            transition = build_decision(
                active, now, graph=self.graph, lost=self.lost, lease_s=self.lease_s
            )
            record, answer = transition(snapshot.record)
            if record is None or record is snapshot.record:
                answers.append((active, answer))
                continue
            writing.append(active)
            changes.append(Change(uri=active.message.uri, known=snapshot, transition=transition))
        changed = self.ledger.change(changes)
        for active, made in zip(writing, changed, strict=True):
            active.snapshot = made.snapshot
            answers.append((active, made.answer))
        return answers

    def _act(self, active: ActiveMessage, answer: MessageDecision) -> Task | None:
        """Carry out a decision; return the task to run, if there is one."""
        message = active.message
        match answer.decision:
            case Run():
                self._last_task_id += 1
                active.claimed_at = answer.claimed_at
                active.leased_until = answer.claimed_at + timedelta(seconds=self.lease_s)
                self._running[self._last_task_id] = active
                return self._build_task(active)
            case Ask(parents, targets):
                envelopes = [forward(message, p, targets) for p in parents]
                self._reply(active, Action.ASKED, envelopes, reason=" ".join(parents))
            case Wait(holder, job, _):
                self._reply(active, Action.WAITING, reason=f"{job} is held by {holder}")
            case Forward(children):
                envelopes = [forward(message, c, message.targets) for c in children]
                if message.ping:
                    self._reply(active, Action.PINGED, envelopes)
                else:
                    pending = self._find_pending(answer.record, message)
                    self._notify(active, Action.FORWARDED, envelopes, pending)
            case Drop(reason, None, _):
                self._reply(active, Action.DROPPED, reason=reason)
            case Drop(reason, cause, children):
                envelopes = [forward(message, c, message.targets) for c in children]
                if cause == message.job:
                    pending = self._find_pending(answer.record, message)
                    self._notify(active, Action.DROPPED, envelopes, pending, reason=reason)
                else:
                    pending = answer.settled.pending_targets.get(message.job, ())
                    self._notify(active, Action.BLOCKED, envelopes, pending, reason=reason)
        return None

    def _build_task(self, active: ActiveMessage) -> Task:
        record = active.snapshot.record
        assert record is not None
        job = active.message.job
        active.claimed = record
        return build_task(
            self._last_task_id,
            record,
            (job,),
            self.graph.jobs[job].parents,
            media=record.media,
            owner=active.owner,
        )

    # Receive results, and record them.

    def _receive(self, report: Report) -> None:
        active = self._running.get(report.task_id)
        if active is None:  # of a task that was abandoned
            return
        for result in report.results:
            active.result = result
        if not report.finished:
            return
        del self._running[report.task_id]
        self._finished.append(active)
        assert active.result is not None
        seconds = active.result.seconds or 0.0
        self._mean_s = seconds if self._mean_s is None else 0.95 * self._mean_s + 0.05 * seconds

    def _settle(self) -> None:
        """Record the results of finished jobs, one per file at a time."""
        self._sync_artifacts()
        while self._finished:
            some = _first_per_file(self._finished)
            changes = []
            for active in some:
                active.result = _limit_attempts(active)
                recorded = settle(active, active.result)
                changes.append(
                    Change(uri=active.message.uri, known=active.snapshot, transition=recorded)
                )
            changed = self.ledger.change(changes)
            taken = {id(active) for active in some}
            self._finished = [active for active in self._finished if id(active) not in taken]
            for active, made in zip(some, changed, strict=True):
                active.snapshot = made.snapshot
                self._reply_to_result(active, made.answer)

    def _sync_artifacts(self) -> None:
        """Have the artifacts of finished jobs on the disk before the ledger says done.

        If that fails, their jobs run again: a later sync would succeed without what is lost, as
        the system reports a lost write only once.
        """
        done = [i for i in self._finished if i.result and i.result.state is State.DONE]
        if not done:
            return
        try:
            self.artifacts.sync()
        except TransientError as error:
            failure = Failure(kind=error.kind, type=type(error).__name__, message=str(error))
            for active in done:
                active.result = Result(job=active.message.job, state=State.QUEUED, error=failure)

    def _reply_to_result(self, active: ActiveMessage, settled: Settled) -> None:
        message, result = active.message, active.result
        assert result is not None
        if settled.lost:  # send the message again, to decide anew
            self._reply(active, Action.LOST, [message_to_envelope(message)])
            return
        if result.state is State.QUEUED:
            self._defer(active, result)
            return
        envelopes = [*notify_children(self.graph, message)]
        action = Action.DONE
        if result.state is State.FAILED:
            action = Action.FAILED
            assert result.error is not None
            envelopes.append(
                build_dead_letter_envelope(
                    active.received, message, Stage.RUN, result.error, self.clock()
                )
            )
        self._notify(active, action, envelopes, settled.pending_targets.get(message.job, ()))

    def _defer(self, active: ActiveMessage, result: Result) -> None:
        """Send a message again after a transient error."""
        message, error = active.message, result.error
        if error is not None and error.kind == Kind.DISK_FULL:
            self._stop_error = DiskFull(error.message)
            return
        if result.damaged is not None:  # the next decision asks for the parent
            self._reply(active, Action.DEFERRED, [message_to_envelope(message)])
            return
        superseded = error is not None and error.kind == Kind.SUPERSEDED
        if superseded and message.attempt >= MAX_ATTEMPTS:
            # The arrival of the newer version, or else a reconciliation, starts its jobs.
            self._reply(active, Action.DROPPED, reason="superseded")
            return
        again = evolve(message, attempt=message.attempt + 1)
        self._reply(active, Action.DEFERRED, [message_to_envelope(again)])

    # Build replies.

    def _find_pending(self, record: Record | None, message: Message) -> tuple[str, ...]:
        """Return a finished entry's pending targets: its worker died before it notified them."""
        entry = record.jobs.get(message.job) if record is not None else None
        if entry is None or entry.lease is not None or entry.state not in _FINISHED:
            return ()
        return entry.pending_targets

    def _notify(
        self,
        active: ActiveMessage,
        action: Action,
        envelopes: Sequence[Envelope],
        pending: tuple[str, ...],
        reason: str | None = None,
    ) -> None:
        """Reply with envelopes for the children and for pending targets, which are then cleared."""
        message = active.message
        carried = (EVERYTHING,) if message.targets is None else message.targets
        others = tuple(t for t in pending if t not in carried)
        envelopes = [*envelopes, *notify_pending(self.graph, message, others)]
        record = active.snapshot.record
        entry = record.jobs.get(message.job) if record is not None else None
        clear = None
        if entry is not None and entry.pending_targets:
            clear = ClearPending(
                uri=message.uri,
                generation=message.generation,
                job=message.job,
                targets=(*carried, *others),
                pending_at=entry.pending_at,
            )
        self._reply(active, action, envelopes, clear=clear, reason=reason)

    def _reply(
        self,
        active: ActiveMessage,
        action: Action,
        envelopes: Sequence[Envelope] = (),
        *,
        clear: ClearPending | None = None,
        reason: str | None = None,
    ) -> None:
        self._replies.append(
            Reply(
                received=active.received,
                message=active.message,
                action=action,
                envelopes=tuple(envelopes),
                clear=clear,
                result=active.result,
                reason=reason,
            )
        )

    def _extend(self) -> None:
        """Extend the leases of running jobs, each once a third of its time has passed."""
        now = self.clock()
        soon = now + timedelta(seconds=self.lease_s * 2 / 3)
        expires_at = now + timedelta(seconds=self.lease_s)
        while due := _first_per_file(i for i in self._running.values() if i.leased_until <= soon):
            changes = [
                Change(
                    uri=active.message.uri,
                    known=active.snapshot,
                    transition=functools.partial(
                        extend_leases,
                        owner=active.owner,
                        jobs=[active.message.job],
                        expires_at=expires_at,
                    ),
                )
                for active in due
            ]
            changed = self.ledger.change(changes)
            for active, made in zip(due, changed, strict=True):
                active.snapshot = made.snapshot
                active.leased_until = expires_at


def _first_per_file(messages: Iterable[ActiveMessage]) -> list[ActiveMessage]:
    """Return the first message of each file: a call of the ledger may name a file only once."""
    first: dict[str, ActiveMessage] = {}
    for active in messages:
        first.setdefault(active.message.uri, active)
    return list(first.values())


def _limit_attempts(active: ActiveMessage) -> Result:
    """Return a message's result; after its last attempt, a transient error is a failure."""
    result = active.result
    assert result is not None
    if result.damaged is not None:
        assert active.claimed is not None
        # A disk that damages whatever is written would have it written for ever.
        computed = active.claimed.jobs[result.damaged].attempts
        return replace(result, state=State.FAILED) if computed >= MAX_ATTEMPTS else result
    if active.message.attempt < MAX_ATTEMPTS:
        is_transient = result.error is not None and result.error.kind == Kind.NO_SPACE
        return replace(result, state=State.QUEUED) if is_transient else result
    if result.state is not State.QUEUED:
        return result
    if result.error is None or result.error.kind in {Kind.SUPERSEDED, Kind.DISK_FULL}:
        return result
    return replace(result, state=State.FAILED)
