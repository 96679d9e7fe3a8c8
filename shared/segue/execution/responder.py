"""Answers messages: decide, claim, run, settle, always in batches, with every child process busy.

It is the streaming twin of ``segue.execution.executor``: both plan with the same planner, claim and
settle in the same ledger, and give work to the same crew. What is to be published comes back in
replies; once that is done (``segue.execution.outbox``), and not before, a message may be
acknowledged.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from segue.errors import DiskFull, Kind, SegueError, UnreadableMessage
from segue.execution.executor import Crew
from segue.execution.message_transitions import (
    Answer,
    Answering,
    Item,
    keeping,
    remembered,
    settling,
)
from segue.execution.reply import (
    Received,
    Reply,
    Strike,
    buried,
    of_a_failure,
    passed_on,
    to_children,
    to_whom_it_is_owed,
)
from segue.log import Action
from segue.model.dead_letter import Stage
from segue.model.graph import Graph
from segue.model.lease_owner import is_lost, new_owner
from segue.model.ledger import Change, Ledger, Result, Settled
from segue.model.message import Message, decode
from segue.model.planner import Ask, Drop, Forward, Run, Wait
from segue.model.queue import Letter, letter
from segue.model.record import EVERYTHING, Lease, Record, State, evolve
from segue.worker.task import Report, Task

__all__ = ["Received", "Reply", "Responder", "Strike"]

LEASE_S = 300.0
DECIDE_BATCH = 256
AHEAD_S = 0.5  # of work that is claimed before it starts
MAX_AHEAD = 256
# How often a message comes back after transient errors, each of which outlived the worker's own
# retries, before they are taken for a permanent one.
MAX_ATTEMPTS = 5
_FINISHED = frozenset({State.DONE, State.FAILED, State.BLOCKED})


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
    _inbox: deque[Item] = field(default_factory=deque)
    _running: dict[int, Item] = field(default_factory=dict)
    _finished: list[Item] = field(default_factory=list)
    _replies: list[Reply] = field(default_factory=list)
    _ticket: int = 0
    _mean_s: float | None = None
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
            self._inbox.append(Item(received=one, message=message, owner=self.owner()))

    def _bury(
        self, one: Received, message: Message | None, stage: Stage, error: UnreadableMessage
    ) -> None:
        self._replies.append(buried(one, message, stage=stage, error=error, at=self.clock()))

    def step(self, timeout_s: float = 0.0) -> list[Reply]:
        """Do what there is to do, waiting for running jobs at most so long.

        If the ledger is away, it may be called again: no message is lost, none is answered twice.

        Raises
        ------
        DiskFull
            If a job could not write its result; its message has no reply, and comes again.
        Unavailable, Contended
            If the ledger is away.
        """
        self._extend()
        self._start()
        if self._running and not self._replies:
            for report in self.crew.collect(timeout_s):
                self._receive(report)
        self._settle()
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
        self._stops = None
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
            batch: dict[str, Item] = {}
            later: list[Item] = []
            room = min(DECIDE_BATCH, self._capacity() - len(self._running))
            while self._inbox and len(batch) < room:
                item = self._inbox.popleft()
                if item.message.uri in batch:
                    later.append(item)
                else:
                    batch[item.message.uri] = item
            try:
                answers = self._decide(list(batch.values()))
            except BaseException:
                self._inbox.extendleft(reversed([*batch.values(), *later]))
                raise
            self._inbox.extendleft(reversed(later))
            tasks = [t for item, answer in answers if (t := self._act(item, answer)) is not None]
            if tasks:
                self.crew.submit(tasks)

    def _decide(self, items: Sequence[Item]) -> list[tuple[Item, Answer]]:
        now = self.clock()
        answering = Answering(graph=self.graph, lost=self.lost, lease_s=self.lease_s)
        snapshots = self.ledger.read([i.message.uri for i in items])
        writing: list[Item] = []
        changes: list[Change[Answer]] = []
        answers: list[tuple[Item, Answer]] = []
        for item, snapshot in zip(items, snapshots, strict=True):
            item.snapshot = snapshot
            deciding = answering.deciding(item, now)
            decided = deciding(snapshot.record)
            if decided[0] is None or decided[0] is snapshot.record:
                answers.append((item, decided[1]))
                continue
            writing.append(item)
            transition = remembered(deciding, snapshot.record, decided)
            changes.append(Change(uri=item.message.uri, known=snapshot, transition=transition))
        changed = self.ledger.change(changes)
        for item, made in zip(writing, changed, strict=True):
            item.snapshot = made.snapshot
            answers.append((item, made.answer))
        return answers

    def _act(self, item: Item, answer: Answer) -> Task | None:
        """Do what was decided; what is to be run is returned."""
        message = item.message
        match answer.decision:
            case Run():
                self._ticket += 1
                item.claimed_at = answer.claimed_at
                item.leased_until = answer.claimed_at + timedelta(seconds=self.lease_s)
                self._running[self._ticket] = item
                return self._task(item, answer)
            case Ask(parents, targets):
                letters = [passed_on(message, p, targets) for p in parents]
                self._reply(item, Action.ASKED, letters, reason=" ".join(parents))
            case Wait(holder, job, _):
                self._reply(item, Action.WAITING, reason=f"{job} is held by {holder}")
            case Forward(children):
                letters = [passed_on(message, c, message.targets) for c in children]
                if message.ping:
                    self._reply(item, Action.PINGED, letters)
                else:
                    owed = self._still_owed(answer.record, message)
                    self._tell(item, Action.FORWARDED, letters, owed)
            case Drop(reason, None, _):
                self._reply(item, Action.DROPPED, reason=reason)
            case Drop(reason, cause, children):
                letters = [passed_on(message, c, message.targets) for c in children]
                if cause == message.job:
                    owed = self._still_owed(answer.record, message)
                    self._tell(item, Action.DROPPED, letters, owed, reason=reason)
                else:
                    owed = answer.settled.owed.get(message.job, ())
                    self._tell(item, Action.BLOCKED, letters, owed, reason=reason)
        return None

    def _task(self, item: Item, answer: Answer) -> Task:
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
            some = _one_a_file(self._finished)
            changes = []
            for item in some:
                item.result = _judged(item)
                recorded = settling(item, item.result)
                changes.append(
                    Change(uri=item.message.uri, known=item.snapshot, transition=recorded)
                )
            changed = self.ledger.change(changes)
            taken = {id(item) for item in some}
            self._finished = [item for item in self._finished if id(item) not in taken]
            for item, made in zip(some, changed, strict=True):
                item.snapshot = made.snapshot
                self._report(item, made.answer)

    def _report(self, item: Item, settled: Settled) -> None:
        message, result = item.message, item.result
        assert result is not None
        if settled.lost:  # to ask again what is to be done
            self._reply(item, Action.LOST, [letter(message)])
            return
        if result.state is State.QUEUED:
            self._defer(item, result)
            return
        letters = [*to_children(self.graph, message)]
        action = Action.DONE
        if result.state is State.FAILED:
            action = Action.FAILED
            letters.append(of_a_failure(item.received, message, result, self.clock()))
        self._tell(item, action, letters, settled.owed.get(message.job, ()))

    def _defer(self, item: Item, result: Result) -> None:
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

    # Others are told.

    def _still_owed(self, record: Record | None, message: Message) -> tuple[str, ...]:
        """What a finished entry still owes to others: whoever finished it died before telling."""
        entry = record.jobs.get(message.job) if record is not None else None
        if entry is None or entry.lease is not None or entry.state not in _FINISHED:
            return ()
        return entry.wanted

    def _tell(
        self,
        item: Item,
        action: Action,
        letters: Sequence[Letter],
        owed: tuple[str, ...],
        reason: str | None = None,
    ) -> None:
        """Tell the children, and whoever is owed something; that is then to be struck out."""
        message = item.message
        carried = (EVERYTHING,) if message.targets is None else message.targets
        others = tuple(t for t in owed if t not in carried)
        letters = [*letters, *to_whom_it_is_owed(self.graph, message, others)]
        record = item.snapshot.record
        entry = record.jobs.get(message.job) if record is not None else None
        strike = None
        if entry is not None and entry.wanted:
            strike = Strike(
                uri=message.uri,
                generation=message.generation,
                job=message.job,
                targets=(*carried, *others),
                wanted_at=entry.wanted_at,
            )
        self._reply(item, action, letters, strike=strike, reason=reason)

    def _reply(
        self,
        item: Item,
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
        """Keep the leases of what is under way alive: each is renewed once a third has passed."""
        now = self.clock()
        soon = now + timedelta(seconds=self.lease_s * 2 / 3)
        expires_at = now + timedelta(seconds=self.lease_s)
        while due := _one_a_file(i for i in self._running.values() if i.leased_until <= soon):
            changed = self.ledger.change(
                [
                    Change(uri=i.message.uri, known=i.snapshot, transition=keeping(i, expires_at))
                    for i in due
                ]
            )
            for item, made in zip(due, changed, strict=True):
                item.snapshot = made.snapshot
                item.leased_until = expires_at


def _one_a_file(items: Iterable[Item]) -> list[Item]:
    """The first item of each file: no call of the ledger may name one twice."""
    first: dict[str, Item] = {}
    for item in items:
        first.setdefault(item.message.uri, item)
    return list(first.values())


def _judged(item: Item) -> Result:
    """A transient error that has come back often enough is a failure."""
    result = item.result
    assert result is not None
    if result.state is not State.QUEUED or item.message.attempt < MAX_ATTEMPTS:
        return result
    if result.error is None or result.error.kind in {Kind.SUPERSEDED, Kind.DISK_FULL}:
        return result
    return replace(result, state=State.FAILED)
