"""Answers messages: decide, claim, run, settle, always in batches, with every child process busy.

It is the streaming twin of ``shared.executor``: both plan with the same planner, claim and settle
in the same ledger, and give work to the same crew. What is to be published comes back in replies;
once that is done (``shared.outbox``), and not before, a message may be acknowledged.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from shared import dead_letter
from shared.dead_letter import Stage
from shared.errors import DiskFull, Kind, SegueError
from shared.executor import Crew
from shared.graph import Graph
from shared.ledger import (
    Change,
    Ledger,
    Result,
    Settled,
    Snapshot,
    claim,
    extend,
    pinged,
    settle,
)
from shared.log import Action
from shared.message import Message, UnreadableMessage, decode
from shared.outcome import blocked
from shared.owner import is_lost, new_owner
from shared.planner import Ask, Decision, Drop, Forward, Run, Wait, decide, forced, leave
from shared.queue import Letter, letter
from shared.record import EVERYTHING, Lease, Record, State, evolve
from shared.worker.work import Report, Task

T = TypeVar("T")

LEASE_S = 300.0
DECIDE_BATCH = 256
AHEAD_S = 0.5  # of work that is claimed before it starts
MAX_AHEAD = 256
# How often a message comes back after transient errors, each of which outlived the worker's own
# retries, before they are taken for a permanent one.
MAX_ATTEMPTS = 5
_FINISHED = frozenset({State.DONE, State.FAILED, State.BLOCKED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """The bytes of a message, as they came on a job's topic."""

    job: str
    data: bytes
    handle: Any = None  # comes back in the reply
    message_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Strike:
    """Targets to strike out of a record once the letters of a reply are published."""

    uri: str
    generation: int
    job: str
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came of one message: letters to publish, then perhaps a strike, then acknowledge."""

    received: Received
    action: Action
    message: Message | None = None  # None: unreadable
    letters: tuple[Letter, ...] = ()
    strike: Strike | None = None
    result: Result | None = None
    reason: str | None = None

    @property
    def job(self) -> str:
        """The job that was told."""
        return self.received.job if self.message is None else self.message.job

    def fields(self) -> dict[str, Any]:
        """What is logged of it."""
        message, result = self.message, self.result
        error = result.error if result is not None else None
        return {
            "job": self.job,
            "file": message.uri if message is not None else None,
            "generation": message.generation if message is not None else None,
            "lane": message.lane if message is not None else None,
            "request": message.request if message is not None else None,
            "message_id": self.received.message_id,
            "reason": self.reason,
            "kind": error.kind if error is not None else None,
            "error": error.message if error is not None else None,
            "artifact": result.artifact if result is not None else None,
            "seconds": result.seconds if result is not None else None,
            "cpu_seconds": result.cpu_seconds if result is not None else None,
        }


@dataclass(slots=True, kw_only=True)
class _Item:
    """A message that is being worked on."""

    received: Received
    message: Message
    owner: str
    snapshot: Snapshot = field(default_factory=lambda: Snapshot(record=None))
    result: Result | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """What was decided about a message, on the record as it then was."""

    decision: Decision
    record: Record | None  # from before
    replaces: bool = False
    settled: Settled = field(default_factory=Settled)


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True, kw_only=True)
class Responder:
    """Works on messages for some jobs.

    ``add`` takes messages in; ``step`` works and returns the replies that are ready; ``drain``
    yields the rest. Whoever gives up in between calls ``abandon``.
    """

    graph: Graph
    jobs: Collection[str]  # that are served here
    ledger: Ledger
    crew: Crew
    clock: Callable[[], datetime] = _utc_now
    owner: Callable[[], str] = new_owner
    lost: Callable[[Lease], bool] = is_lost
    lease_s: float = LEASE_S
    _inbox: deque[_Item] = field(default_factory=deque)
    _running: dict[int, _Item] = field(default_factory=dict)
    _finished: list[_Item] = field(default_factory=list)
    _replies: list[Reply] = field(default_factory=list)
    _ticket: int = 0
    _mean_s: float | None = None
    _extended_at: datetime | None = None
    _stops: SegueError | None = None

    @property
    def pending(self) -> int:
        """How many messages are waiting for their replies."""
        return len(self._inbox) + len(self._running) + len(self._finished) + len(self._replies)

    @property
    def running(self) -> int:
        """How many jobs are claimed and being run."""
        return len(self._running)

    @property
    def room(self) -> int:
        """How many more messages are wanted, so that no child will have to wait for one."""
        return max(0, self._capacity() - len(self._inbox) - len(self._running))

    def add(self, received: Sequence[Received]) -> None:
        """Take messages in; bytes that are none, and messages that are not for here, are dead."""
        for one in received:
            try:
                message = decode(one.data)
            except UnreadableMessage as error:
                self._bury(one, None, Stage.DECODE, error)
                continue
            if message.job not in self.jobs and message.job in self.graph.jobs:
                served = ", ".join(self.jobs)
                misrouted = UnreadableMessage(
                    f"the message is for {message.job!r}, and this pipeline runs {served}; "
                    "publish it to its own job's topic"
                )
                self._bury(one, message, Stage.ROUTE, misrouted)
                continue
            self._inbox.append(_Item(received=one, message=message, owner=self.owner()))

    def step(self, timeout_s: float = 0.0) -> list[Reply]:
        """Do what there is to do, waiting for running jobs at most so long.

        Raises
        ------
        DiskFull
            If a job could not write its result; its message has no reply, and comes again.
        Unavailable, Contended
            If the ledger is away.
        """
        self._start()
        if self._running and not self._replies:
            for report in self.crew.collect(timeout_s):
                self._receive(report)
        self._settle()
        self._extend()
        replies, self._replies = self._replies, []
        if self._stops is not None and not replies:
            raise self._stops
        return replies

    def drain(self) -> Iterator[Reply]:
        """Finish everything that was added."""
        while self.pending:
            yield from self.step(0.25)

    def abandon(self) -> list[str]:
        """Forget all messages; returns the owners whose leases nobody works on any more."""
        items = [*self._inbox, *self._running.values(), *self._finished]
        self._inbox.clear()
        self._running.clear()
        self._finished.clear()
        self._replies.clear()
        return [item.owner for item in items]

    def _capacity(self) -> int:
        """How many jobs to have claimed: work for a moment, at least two a child."""
        least = 2 * self.crew.processes
        if self._mean_s is None:
            return least
        return int(
            min(max(least, AHEAD_S * self.crew.processes / max(self._mean_s, 1e-6)), MAX_AHEAD)
        )

    # Messages come in.

    def _start(self) -> None:
        """Decide about messages for as long as there is room, each file once at a time."""
        while self._inbox and len(self._running) < self._capacity():
            batch: dict[str, _Item] = {}
            later: list[_Item] = []
            room = min(DECIDE_BATCH, self._capacity() - len(self._running))
            while self._inbox and len(batch) < room:
                item = self._inbox.popleft()
                if item.message.uri in batch:
                    later.append(item)
                else:
                    batch[item.message.uri] = item
            try:
                self._decide(list(batch.values()))
            except BaseException:
                self._inbox.extendleft(reversed([*batch.values(), *later]))
                raise
            self._inbox.extendleft(reversed(later))

    def _decide(self, items: Sequence[_Item]) -> None:
        now = self.clock()
        snapshots = self.ledger.read([i.message.uri for i in items])
        writing: list[_Item] = []
        answers: list[tuple[_Item, _Answer]] = []
        for item, snapshot in zip(items, snapshots, strict=True):
            item.snapshot = snapshot
            record, answer = self._transition(item, now)(snapshot.record)
            if record is None or record is snapshot.record:
                answers.append((item, answer))
            else:
                writing.append(item)
        changed = self.ledger.change(
            [
                Change(uri=i.message.uri, known=i.snapshot, transition=self._transition(i, now))
                for i in writing
            ]
        )
        for item, made in zip(writing, changed, strict=True):
            item.snapshot = made.snapshot
            answers.append((item, made.answer))
        tasks = [task for item, answer in answers if (task := self._act(item, answer)) is not None]
        if tasks:
            self.crew.submit(tasks)

    def _transition(
        self, item: _Item, now: datetime
    ) -> Callable[[Record | None], tuple[Record | None, _Answer]]:
        """Decide, and claim or leave word, in one step, on the record as it then is."""
        message = item.message

        def transition(found: Record | None) -> tuple[Record | None, _Answer]:
            decision = decide(self.graph, found, message, now, owner=item.owner, lost=self.lost)
            answer = _Answer(decision=decision, record=found)
            if found is None:
                return None, answer
            match decision:
                case Run():
                    replaces = forced(found, message, message.job) or _was_reopened(found, message)
                    return self._claimed(item, found, now), _Answer(
                        decision=decision, record=found, replaces=replaces
                    )
                case Ask() | Wait():
                    return leave(self.graph, found, message, decision, now), answer
                case Drop(_, cause, _) if cause not in (None, message.job):
                    assert cause is not None
                    record, settled = settle(
                        self._claimed(item, found, now),
                        generation=message.generation,
                        owner=item.owner,
                        results=[blocked(message.job, cause)],
                        carried=message.targets,
                    )
                    return record, _Answer(decision=decision, record=found, settled=settled)
                case Forward() if message.ping and message.request is not None:
                    record, _ = pinged(
                        found,
                        generation=message.generation,
                        job=message.job,
                        request=message.request,
                        now=now,
                    )
                    return record, answer
            return None, answer

        return transition

    def _claimed(self, item: _Item, record: Record, now: datetime) -> Record:
        return claim(
            record,
            self.graph,
            [item.message.job],
            owner=item.owner,
            now=now,
            lease_s=self.lease_s,
            request=item.message.request,
        )

    def _act(self, item: _Item, answer: _Answer) -> Task | None:
        """Do what was decided; what is to be run is returned."""
        message = item.message
        match answer.decision:
            case Run():
                self._ticket += 1
                self._running[self._ticket] = item
                return self._task(item, answer)
            case Ask(parents, targets):
                letters = [_passed_on(message, p, targets) for p in parents]
                self._reply(item, Action.ASKED, letters, reason=" ".join(parents))
            case Wait(holder, job, _):
                self._reply(item, Action.WAITING, reason=f"{job} is held by {holder}")
            case Forward(children):
                letters = [_passed_on(message, c, message.targets) for c in children]
                if message.ping:
                    self._reply(item, Action.PINGED, letters)
                else:
                    owed = self._still_owed(answer.record, message)
                    self._tell(item, Action.FORWARDED, letters, owed)
            case Drop(reason, None, _):
                self._reply(item, Action.DROPPED, reason=reason)
            case Drop(reason, cause, children):
                letters = [_passed_on(message, c, message.targets) for c in children]
                if cause == message.job:
                    owed = self._still_owed(answer.record, message)
                    self._tell(item, Action.DROPPED, letters, owed, reason=reason)
                else:
                    owed = answer.settled.owed.get(message.job, ())
                    self._tell(item, Action.BLOCKED, letters, owed, reason=reason)
        return None

    def _task(self, item: _Item, answer: _Answer) -> Task:
        record = item.snapshot.record
        assert record is not None
        job = item.message.job
        inputs: dict[str, str] = {}
        for parent in self.graph.jobs[job].parents:
            artifact = record.jobs[parent].artifact
            assert artifact is not None
            inputs[parent] = artifact
        return Task(
            ticket=self._ticket,
            media=record.media,
            run=(job,),
            inputs=inputs,
            force=(job,) if answer.replaces else (),
        )

    # Results come back.

    def _receive(self, report: Report) -> None:
        item = self._running.get(report.ticket)
        if item is None:  # of a task that was abandoned
            return
        for result in report.results:
            item.result = result
        if not report.finished:
            return
        del self._running[report.ticket]
        self._finished.append(item)
        assert item.result is not None
        seconds = item.result.seconds or 0.0
        self._mean_s = seconds if self._mean_s is None else 0.95 * self._mean_s + 0.05 * seconds

    def _settle(self) -> None:
        """Record what is finished, each file once at a time."""
        while self._finished:
            batch: dict[str, _Item] = {}
            for item in self._finished:
                batch.setdefault(item.message.uri, item)
            some = list(batch.values())
            for item in some:
                item.result = self._judged(item)
            changed = self.ledger.change(
                [
                    Change(uri=i.message.uri, known=i.snapshot, transition=self._settling(i))
                    for i in some
                ]
            )
            taken = {id(item) for item in some}
            self._finished = [item for item in self._finished if id(item) not in taken]
            for item, made in zip(some, changed, strict=True):
                item.snapshot = made.snapshot
                self._report(item, made.answer)

    def _judged(self, item: _Item) -> Result:
        """A transient error that has come back often enough is a failure."""
        result = item.result
        assert result is not None
        if result.state is not State.QUEUED or item.message.attempt < MAX_ATTEMPTS:
            return result
        if result.error is None or result.error.kind in {Kind.SUPERSEDED, Kind.DISK_FULL}:
            return result
        return replace(result, state=State.FAILED)

    def _settling(self, item: _Item) -> Callable[[Record | None], tuple[Record | None, Settled]]:
        message, result = item.message, item.result
        assert result is not None

        def transition(found: Record | None) -> tuple[Record | None, Settled]:
            return settle(
                found,
                generation=message.generation,
                owner=item.owner,
                results=[result],
                carried=message.targets,
            )

        return transition

    def _report(self, item: _Item, settled: Settled) -> None:
        message, result = item.message, item.result
        assert result is not None
        if settled.lost:  # to ask again what is to be done
            self._reply(item, Action.LOST, [letter(message)])
            return
        if result.state is State.QUEUED:
            self._defer(item, result)
            return
        letters = [
            _passed_on(message, child, message.targets)
            for child in self.graph.children[message.job]
            if self.graph.on_line(child, message.targets)
        ]
        action = Action.DONE
        if result.state is State.FAILED:
            action = Action.FAILED
            letters.append(dead_letter.letter(self._dead(item, result)))
        self._tell(item, action, letters, settled.owed.get(message.job, ()))

    def _defer(self, item: _Item, result: Result) -> None:
        """Have a message come again after a transient error."""
        message, error = item.message, result.error
        if error is not None and error.kind == Kind.DISK_FULL:
            self._stops = DiskFull(error.message)
            return
        superseded = error is not None and error.kind == Kind.SUPERSEDED
        if superseded and message.attempt >= MAX_ATTEMPTS:
            # The newer version's own arrival, or else a reconciliation, brings the jobs about.
            self._reply(item, Action.DROPPED, reason="superseded")
            return
        again = evolve(message, attempt=message.attempt + 1)
        self._reply(item, Action.DEFERRED, [letter(again)])

    def _dead(self, item: _Item, result: Result) -> dead_letter.DeadLetter:
        error = result.error
        assert error is not None
        return dead_letter.dead_letter(
            stage=Stage.RUN,
            job=item.message.job,
            kind=error.kind,
            type=error.type,
            error=error.message,
            data=item.received.data,
            uri=item.message.uri,
            generation=item.message.generation,
            at=self.clock(),
        )

    def _bury(
        self, received: Received, message: Message | None, stage: Stage, error: SegueError
    ) -> None:
        dead = dead_letter.dead_letter(
            stage=stage,
            job=received.job,
            kind="unreadable_message",
            type=type(error).__name__,
            error=str(error),
            data=received.data,
            uri=message.uri if message is not None else None,
            generation=message.generation if message is not None else None,
            at=self.clock(),
        )
        self._replies.append(
            Reply(
                received=received,
                action=Action.DEAD_LETTERED,
                letters=(dead_letter.letter(dead),),
                reason=f"{stage}: {error}",
            )
        )

    # Others are told.

    def _still_owed(self, record: Record | None, message: Message) -> tuple[str, ...]:
        """What a finished entry still owes to others: whoever finished it died before telling."""
        entry = record.jobs.get(message.job) if record is not None else None
        if entry is None or entry.lease is not None or entry.state not in _FINISHED:
            return ()
        return entry.wanted

    def _tell(
        self,
        item: _Item,
        action: Action,
        letters: Sequence[Letter],
        owed: tuple[str, ...],
        reason: str | None = None,
    ) -> None:
        """Tell the children, and whoever is owed something; that is then to be struck out."""
        message = item.message
        carried = (EVERYTHING,) if message.targets is None else message.targets
        others = tuple(t for t in owed if t not in carried)
        letters = [*letters, *self._owed_letters(message, others)]
        record = item.snapshot.record
        entry = record.jobs.get(message.job) if record is not None else None
        strike = None
        if entry is not None and entry.wanted:
            strike = Strike(
                uri=message.uri,
                generation=message.generation,
                job=message.job,
                targets=(*carried, *others),
            )
        self._reply(item, action, letters, strike=strike, reason=reason)

    def _owed_letters(self, message: Message, owed: tuple[str, ...]) -> Iterator[Letter]:
        """What others asked for travels on its own, without force; itself is told, too, in case
        that an older version of it is what was finished.
        """
        if not owed:
            return
        targets = None if EVERYTHING in owed else owed
        for job in (message.job, *self.graph.children[message.job]):
            if self.graph.on_line(job, targets):
                yield letter(
                    Message(
                        uri=message.uri,
                        generation=message.generation,
                        job=job,
                        targets=targets,
                        lane=message.lane,
                    )
                )

    def _reply(
        self,
        item: _Item,
        action: Action,
        letters: Sequence[Letter] = (),
        *,
        strike: Strike | None = None,
        reason: str | None = None,
    ) -> None:
        self._replies.append(
            Reply(
                received=item.received,
                message=item.message,
                action=action,
                letters=tuple(letters),
                strike=strike,
                result=item.result,
                reason=reason,
            )
        )

    def _extend(self) -> None:
        """Keep the leases of what is under way alive."""
        now = self.clock()
        self._extended_at = self._extended_at or now
        if (now - self._extended_at).total_seconds() < self.lease_s / 3:
            return
        self._extended_at = now
        expires_at = now + timedelta(seconds=self.lease_s)
        left = list(self._running.values())
        while left:
            batch: dict[str, _Item] = {}
            for item in left:
                batch.setdefault(item.message.uri, item)
            taken = {id(item) for item in batch.values()}
            left = [item for item in left if id(item) not in taken]
            changes = [
                Change(uri=uri, known=item.snapshot, transition=_keeping(item, expires_at))
                for uri, item in batch.items()
            ]
            for item, made in zip(batch.values(), self.ledger.change(changes), strict=True):
                item.snapshot = made.snapshot


def _keeping(
    item: _Item, expires_at: datetime
) -> Callable[[Record | None], tuple[Record | None, bool]]:
    return lambda found: extend(
        found, owner=item.owner, jobs=[item.message.job], expires_at=expires_at
    )


def _was_reopened(record: Record, message: Message) -> bool:
    """Whether a request has put the job's result back, to be computed again."""
    entry = record.jobs.get(message.job)
    return entry is not None and entry.state is State.QUEUED and entry.request is not None


def _passed_on(message: Message, job: str, targets: tuple[str, ...] | None) -> Letter:
    return letter(evolve(message, job=job, targets=targets, attempt=1))
