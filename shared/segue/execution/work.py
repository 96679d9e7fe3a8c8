"""The work on one file, and the two steps by which the ledger advances it.

A step is a transition: it plans on the record as it then is, and claims what it plans to run. The
first step comes before any job runs; each later one records results, and continues with whatever
is wanted of the file by then.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any

import msgspec

from segue.errors import Kind
from segue.execution.foreign import NO_RESULTS, ForeignResult
from segue.ingest.control_reader import PausedJobs
from segue.model.graph import SOURCE, Graph
from segue.model.ledger import Snapshot, Transition
from segue.model.media_file import MediaFile
from segue.model.message import Message
from segue.model.outcome import Status
from segue.model.planner import NO_JOBS, Plan, Verdict, is_never_lost, plan
from segue.model.record import (
    EVERYONE,
    FINISHED,
    NOBODY,
    UNFINISHED,
    Entry,
    Lease,
    Record,
    State,
    is_inbox,
)
from segue.model.transitions import (
    Result,
    arrive,
    block,
    build_blocked_result,
    claim,
    delete,
    erase,
    find_current,
    find_entry,
    record_pings,
    release,
    reopen,
    settle,
    trigger,
    want,
)

UNKNOWN = "unknown file"
_get_state = attrgetter("state")
# What others have to do something about first.
WAITING = frozenset(
    {Verdict.WAITING, Verdict.HELD, Verdict.PAUSED, Verdict.ELSEWHERE, Verdict.FOREIGN}
)
NEVER = datetime.min.replace(tzinfo=UTC)
# Attempts on a message before a transient error counts as permanent; the worker has already retried
# each of them.
MAX_ATTEMPTS = 5
# What no number of attempts makes a failure of the job.
LASTING = frozenset({None, Kind.SUPERSEDED, Kind.DISK_FULL, Kind.DAMAGED_INPUT})


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedMessage:
    """The bytes of a message, as received on a pipeline's topic."""

    pipeline: str
    data: bytes
    handle: Any = None  # comes back in the reply
    message_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A backfill: what it wants of each file."""

    id: str
    targets: tuple[str, ...]
    force: bool = False  # compute the targets even if they are current
    retry: bool = False  # try jobs again that failed before
    request_parents: bool = False  # request what is missing in other namespaces
    is_begun: bool = False  # its files have begun before, and do not count for the rate again


class Work(msgspec.Struct, kw_only=True):
    """A file that is being worked on, for a message or in a backfill."""

    media: MediaFile
    targets: tuple[str, ...]  # the jobs that it is for
    owner: str
    run: Run | None = None  # the backfill; None: a message
    received: ReceivedMessage | None = None
    message: Message | None = None
    snapshot: Snapshot | None = None  # None: to be read
    is_unclear: bool = False  # what it is could not be seen this time
    is_guess: bool = False  # the file is probably new here, and its record was not read
    added_at: int = 0  # steps of the engine: when it was added
    seen_at: int = 0  # and when its snapshot was read or written; 0: never
    # An event, response or request of another namespace: whether its file is known here is open.
    is_from_others: bool = False
    is_requested_already: bool = False  # by others, for whom it is under way
    is_over_limit: bool = False  # a request of another namespace that has requested too much
    foreign: Mapping[str, ForeignResult] = NO_RESULTS  # of the jobs above, by namespace/job
    unknown_to: Collection[str] = ()  # the namespaces above that have no record of the file
    claimed: Record | None = None  # as it was when the running jobs were claimed
    plan: Plan | None = None  # the latest one
    verdicts: Mapping[str, Verdict] = {}  # on what it is for
    leased_until: datetime = NEVER
    results: list[Result] = []  # of the jobs that are claimed
    settled: list[Result] = []
    late: tuple[str, ...] = ()  # jobs whose results came too late
    damaged: set[str] = set()  # parents whose artifacts are made again
    refusal: str | None = None  # why nothing can be done
    removed: int = 0  # artifacts of the file, which was erased
    unremoved: str | None = None  # why some are left

    @property
    def has_begun(self) -> bool:
        """Whether the file has begun before, in this run."""
        return bool(self.settled) or (self.run is not None and self.run.is_begun)

    @property
    def trigger(self) -> str | None:
        """The event that it is for; None: a request, a response or a backfill."""
        message = self.message
        if message is None or message.trigger is None or message.is_response:
            return None
        if self.is_from_others and message.trigger != SOURCE:
            return f"{message.namespace}/{message.trigger}"
        return message.trigger

    @property
    def is_response(self) -> bool:
        """Whether another namespace has responded to a request."""
        return self.message is not None and self.message.is_response

    @property
    def is_deletion(self) -> bool:
        """Whether another namespace tells that the file was deleted."""
        return self.message is not None and self.message.is_deleted

    @property
    def is_erasure(self) -> bool:
        """Whether another namespace tells that the file was erased."""
        return self.is_deletion and self.message is not None and self.message.is_erased

    @property
    def is_to_be_cleaned(self) -> bool:
        """Whether to remove the artifacts of the file, which was erased.

        Its record has results only as long as there may be some: of a worker who died, perhaps.
        """
        record = self.record
        if record is None or not record.erased:
            return False
        return self.is_erasure or self.claimed is not None or bool(record.results)

    @property
    def whom(self) -> str:
        """Whom to notify of its targets."""
        if self.message is not None and self.message.reply_to is not None:
            return self.message.reply_to
        return NOBODY if self.trigger is None else EVERYONE

    @property
    def is_requested(self) -> bool:
        """Whether somebody has requested its targets, and waits for them."""
        return self.message is not None and self.trigger is None

    @property
    def may_request(self) -> bool:
        """Whether it may request what is missing in other namespaces.

        An event may not, as what is missing sends an event of its own. A response may not, or they
        would multiply where lines join, unless it says that the file has another version.
        """
        message = self.message
        if message is None:
            return self.run is not None and self.run.request_parents
        if self.trigger is not None or self.is_over_limit or self.is_requested_already:
            return False
        return not message.is_response or message.result is None

    @property
    def event(self) -> str | None:
        """The event, and where it came in: a process may serve several pipelines that get it."""
        if self.trigger is None or self.received is None:
            return None
        return f"{self.trigger}@{self.received.pipeline}"

    @property
    def cause(self) -> str:
        """What a tombstone names if this brings it, so that this passes it on and nothing else.

        A deletion has another name than an event that finds a file gone, and another one each time
        that it is passed on. So it does not go round where namespaces depend on one another: it
        comes back as a deletion that has brought nothing.
        """
        assert self.received is not None
        kind = self.trigger or ("response" if self.is_response else "request")
        if self.message is not None and self.is_deletion:
            kind = f"{kind}:deleted:{self.message.hops}"
        return f"{kind}@{self.received.pipeline}"

    @property
    def parent_states(self) -> Mapping[str, State | None]:
        """The states of the jobs of other namespaces above its targets.

        What a newer version there has failed at counts as missing if it may be requested: that
        namespace may have gone back to the locked version.
        """
        return {
            job: result.state
            for job, result in self.foreign.items()
            if not (result.is_of_newer and self.may_request)
        }

    @property
    def record(self) -> Record | None:
        """The file's record as it was last seen."""
        return self.snapshot.record if self.snapshot is not None else None


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What a step did."""

    plan: Plan | None = None  # None: it did not come to that
    refusal: str | None = None  # why nothing can be done
    late: tuple[str, ...] = ()  # jobs whose results came too late


def no_jobs() -> frozenset[str]:
    """Return no jobs: none is paused."""
    return NO_JOBS


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """Builds the steps of one process."""

    graph: Graph
    served: frozenset[str] | None = None  # the jobs that may run here; None: all
    lost: Callable[[Lease], bool] = is_never_lost
    paused: PausedJobs = no_jobs
    lease_s: float

    def is_served(self, job: str) -> bool:
        """Whether a job may run here."""
        return self.served is None or job in self.served

    def leads_to(self, job: str) -> bool:
        """Whether a job may run here, or is below one that may.

        For other jobs another pipeline is responsible, and this one may have no right to publish.
        """
        return self.is_served(job) or any(map(self.is_served, self.graph.find_ancestors(job)))

    def is_retired(self, work: Work) -> bool:
        """Whether another namespace requests a result that nobody computes, any more or yet."""
        message = work.message
        if message is None or message.fingerprint is None or message.reply_to is None:
            return False
        return not any(
            self.graph.jobs[job].publish and message.fingerprint in self.graph.accepted[job]
            for job in work.targets
        )

    def list_notified(self, job: str) -> list[str]:
        """Return the children to notify of a job; those that run here with it know already."""
        runs_here = self.is_served
        return [c for c in self.graph.children[job] if not (runs_here(job) and runs_here(c))]

    def decide(self, work: Work, found: Record | None, now: datetime) -> tuple[Record | None, Step]:
        """Decide what to do about a file, before anything is claimed.

        Returns the record with what is to be noted; in a backfill, that is the arrival, too.
        """
        record = found
        if self.is_retired(work):
            return found, Step()
        if work.message is None or (work.is_from_others and not work.media.is_in_folder):
            record, _ = arrive(found, work.media, now)
        if record is None:  # in a folder somebody has looked, and it is not there
            return None, Step(refusal=Status.DELETED if work.is_from_others else UNKNOWN)
        if refusal := check_version(record, work.media):
            return found, Step(refusal=refusal)
        work.is_requested_already = self._is_requested_by_others(record, work)
        if work.event is not None:
            record = trigger(record, self._list_unnotified(record, work), work.event)
        if work.run is not None:
            record = self._reopen(record, work, work.run, now)
        # Once something is settled, it goes on with what others want, too.
        wanted = list_wanted(self.graph, record) if work.settled else ()
        targets = tuple(dict.fromkeys((*work.targets, *wanted)))
        record, planned = self._plan(record, work, targets, now)
        return record, Step(plan=planned)

    def _mark_pauses(self, planned: Plan, targets: Iterable[str]) -> Plan:
        """Say of forced jobs that they are paused where their results stay for now."""
        kept = {
            job: Verdict.PAUSED
            for job in targets
            if planned.verdicts.get(job) is Verdict.CURRENT and not self._is_unpaused(job)
        }
        return msgspec.structs.replace(planned, verdicts={**planned.verdicts, **kept})

    def _is_requested_by_others(self, record: Record, work: Work) -> bool:
        """Whether other namespaces wait for what this one requests, so that it is under way.

        Otherwise requests would multiply from one namespace to the next.
        """
        reply_to = work.message.reply_to if work.message is not None else None
        if reply_to is None:
            return False
        entries = [find_entry(self.graph, record, job) for job in work.targets]
        return any(
            is_inbox(whom) and whom != reply_to
            for entry in entries
            if entry is not None
            for whom in entry.notify
        )

    def build_start(self, work: Work, now: datetime) -> Transition[Step]:
        """Build the step that decides and claims; a ping needs nothing but its record."""
        if work.is_deletion:
            return self._build_deletion_step(work, now)
        if work.message is not None and work.message.ping:
            return self._build_ping_step(work, work.message, now)

        def start(found: Record | None) -> tuple[Record | None, Step]:
            # The ledger may have failed after an earlier claim was written.
            released, _ = release(found, owns=lambda lease: lease.owner == work.owner)
            record, step = self.decide(work, released or found, now)
            if record is not None and step.plan is not None:
                record = self._claim(record, work, step.plan, now)
            return record, step

        return start

    def _build_deletion_step(self, work: Work, now: datetime) -> Transition[Step]:
        message = work.message
        assert message is not None

        def remove(found: Record | None) -> tuple[Record | None, Step]:
            if message.is_erased:
                record, _ = erase(found, work.media, now, event=work.cause)
            elif work.media.is_in_folder:  # it was looked at, and the ledger says what it is
                record = found
            else:
                record, _ = delete(found, work.media, now, event=work.cause)
            return record, Step()

        return remove

    def _build_ping_step(self, work: Work, message: Message, now: datetime) -> Transition[Step]:
        jobs = [job for job in work.targets if self.graph.is_on_line(job, message.targets or None)]

        def ping(found: Record | None) -> tuple[Record | None, Step]:
            record, work.targets = record_pings(
                found,
                order=message.order,
                jobs=jobs,
                request=message.request or "",
                triggered_by=work.event or "",
                now=now,
            )
            return record, Step()

        return ping

    def _list_unnotified(self, record: Record, work: Work) -> list[str]:
        """Return the finished results of which no event has notified anybody: this one is to."""
        finished = [
            find_finished(self.graph, record, job)
            for job in work.targets
            if self.list_notified(job) or self.graph.jobs[job].publish
        ]
        return [f for f in finished if f is not None and self._is_unnotified(record.results[f])]

    def _is_unnotified(self, entry: Entry) -> bool:
        """Whether no event has notified of a result, or one that is not delivered again.

        The messages of a pipeline that was removed, or grouped otherwise, are gone. Of a result
        that was computed for none, the next event tells other namespaces once more: their records
        may have followed the file meanwhile.
        """
        event = entry.triggered_by
        if event is None or event == EVERYONE:
            return event is None or self.graph.jobs[entry.job].publish
        return event.rpartition("@")[2] not in self.graph.pipelines

    def _reopen(self, record: Record, work: Work, run: Run, now: datetime) -> Record:
        """Have results computed again that a run forces or retries, once.

        A failure that may be over, such as for lack of space, is always retried.
        """
        if run.force:
            forced = list(filter(self._is_unpaused, run.targets))
            record, _ = reopen(record, self.graph, forced, request=run.id, now=now)
        if State.FAILED not in map(_get_state, record.results.values()):
            return record
        planned = plan(self.graph, record, work.parent_states, work.targets, now, work.owner)
        failed = [
            job
            for job, verdict in planned.verdicts.items()
            if verdict is Verdict.FAILED
            and job in self.graph.jobs  # a failure elsewhere is not retried from here
            and (run.retry or self._is_transient(record, job))
        ]
        return reopen(record, self.graph, failed, request=run.id, now=now)[0]

    def _is_unpaused(self, job: str) -> bool:
        """Whether neither a job nor any above it is paused: what is there is else to stay."""
        paused = self.paused()
        return job not in paused and paused.isdisjoint(self.graph.find_ancestors(job))

    def _is_transient(self, record: Record, job: str) -> bool:
        entry = find_entry(self.graph, record, job)
        return entry is not None and entry.error is not None and entry.error.kind == Kind.NO_SPACE

    def build_settlement(self, work: Work, now: datetime) -> Transition[Step]:
        """Build the step that records results, and continues with all that is wanted by then."""
        assert work.claimed is not None
        order, claimed = work.claimed.order, work.claimed
        results = tuple(work.results)
        triggered = self._list_triggered(work)

        def settle_and_continue(found: Record | None) -> tuple[Record | None, Step]:
            record, late = settle(
                found,
                self.graph,
                order=order,
                owner=work.owner,
                results=results,
                now=now,
                claimed=claimed,
                triggered=triggered,
            )
            if record is None:
                return found, Step(plan=work.plan, late=late)
            if late or any(map(is_deferred, results)):
                return record, Step(plan=work.plan, late=late)
            wanted = list_wanted(self.graph, record)
            targets = tuple(dict.fromkeys((*work.targets, *wanted)))
            record, planned = self._plan(record, work, targets, now)
            return self._claim(record, work, planned, now), Step(plan=planned)

        return settle_and_continue

    def _plan(
        self, record: Record, work: Work, targets: Sequence[str], now: datetime
    ) -> tuple[Record, Plan]:
        """Plan, and record what cannot run, and what is waited for."""
        graph, states = self.graph, work.parent_states
        served = NO_JOBS if work.is_over_limit else self.served
        planned = plan(
            graph,
            record,
            states,
            targets,
            now,
            work.owner,
            served,
            self.lost,
            paused=self.paused(),
        )
        if work.run is not None and work.run.force:
            planned = self._mark_pauses(planned, work.run.targets)
        if planned.blockers:
            triggered = self._list_triggered(work)
            for verdict, state in (
                (Verdict.BLOCKED, State.BLOCKED),
                (Verdict.NOT_APPLICABLE, State.NOT_APPLICABLE),
            ):
                causes = {
                    job: cause
                    for job, cause in planned.blockers.items()
                    if planned.verdicts[job] is verdict
                }
                record = block(
                    record,
                    graph,
                    causes,
                    now=now,
                    triggered=triggered,
                    state=state,
                    retired=[job for job, found in work.foreign.items() if found.is_retired],
                )
        if not all(map(_needs_nobody, planned.verdicts.values())):
            waiting = self._list_waiting(record, planned, work)
            record = want(record, graph, waiting, work.whom, now)
        return record, planned

    def _claim(self, record: Record, work: Work, planned: Plan, now: datetime) -> Record:
        if not planned.run:
            return record
        return claim(
            record, self.graph, planned.run, owner=work.owner, now=now, lease_s=self.lease_s
        )

    def _list_waiting(self, record: Record, planned: Plan, work: Work) -> list[str]:
        """Return the targets that whoever finishes what they wait for is to continue with.

        An event's targets wait only for what the event itself leads to, or came from, or of which
        another deployment has notified that defines it otherwise: the other parents that have not
        finished yet send events of their own. These may have come before an event of another
        namespace, and have found its result missing.
        """
        waiting = []
        interest = {*work.targets, *self._list_line(work.trigger), *work.damaged}
        interest |= self._list_notified_elsewhere(record)
        interest |= self._list_reopened(record)
        for job in work.targets:
            match planned.verdicts.get(job):
                case Verdict.HELD if work.whom != NOBODY:
                    waiting.append(job)
                # Nobody works on it who would go on: the sweep asks for it once it is resumed.
                case Verdict.PAUSED if work.message is not None:
                    waiting.append(job)
                case Verdict.WAITING:
                    elsewhere = planned.waits_for[job].difference(planned.run)
                    if work.trigger is None or work.is_from_others or elsewhere & interest:
                        waiting.append(job)
                case Verdict.ELSEWHERE if work.trigger is None:
                    waiting.append(job)
                case Verdict.FOREIGN if work.may_request or work.is_requested:
                    waiting.append(job)
        return waiting

    def _list_reopened(self, record: Record) -> set[str]:
        """Return the jobs that are computed again for a request, after which no event is sent.

        Their events came when they were first computed, and may have found others missing.
        """
        entries = {job: find_entry(self.graph, record, job) for job in self.graph.jobs}
        return {
            job
            for job, entry in entries.items()
            if entry is not None
            and entry.state in UNFINISHED
            and entry.requests
            and EVERYONE not in entry.notify
        }

    def _list_notified_elsewhere(self, record: Record) -> set[str]:
        """Return the jobs that have results of this version that do not count in this graph."""
        return {
            entry.job
            for fingerprint, entry in record.results.items()
            if entry.state in FINISHED
            and entry.order == record.order
            and fingerprint not in self.graph.accepted.get(entry.job, ())
        }

    def _list_line(self, trigger: str | None) -> Collection[str]:
        """Return the job that an event is of, and all above it."""
        if trigger is None or trigger not in self.graph.jobs:
            return ()
        return self.graph.add_ancestors((trigger,))

    def _list_triggered(self, work: Work) -> Mapping[str, str]:
        """Return the event that each target is computed for."""
        return dict.fromkeys(work.targets, work.event) if work.event is not None else {}

    def list_event_targets(self, trigger: str, *, is_ping: bool = False) -> tuple[str, ...]:
        """Return the served jobs that an event leads to without leaving this process.

        What runs only on request is none of them, and neither is anything below it; but a ping
        goes through all jobs.
        """
        children = frozenset(self.graph.children.get(trigger, ()))
        reached: dict[str, None] = {}
        for name, job in self.graph.jobs.items():
            if not (self.is_served(name) and (job.on_arrival or is_ping)):
                continue
            if name in children or any(parent in reached for parent in job.parents):
                reached[name] = None
        return tuple(reached)

    def find_next_jobs(self, work: Work) -> tuple[str, ...]:
        """Return the jobs of other pipelines to ask for next.

        These are what an event or a damaged parent has found missing, and, on the lines of whatever
        is wanted, the jobs whose last parent was finished here. If each parent of a join asked for
        it, every join would multiply the messages. If the reply is lost, the sweep asks for them.
        """
        planned, record = work.plan, work.record
        if planned is None or record is None or not planned.elsewhere or work.is_over_limit:
            return ()
        wanted = {*work.targets} if work.trigger is None else set()
        if work.settled:
            wanted.update(list_wanted(self.graph, record))
        line = frozenset(self.graph.add_ancestors(filter(self.leads_to, wanted)))
        found = {*self.graph.add_ancestors(work.damaged), *self._list_line(work.trigger)}
        is_first = not work.settled and not self._has_begun(planned, record, line)
        if is_first or work.is_response or work.is_from_others:  # nobody else was told of it
            found |= line
        return tuple(
            job
            for job in planned.elsewhere
            if job in found or (job in line and self._is_next(work, record, job))
        )

    def find_requested(self, work: Work) -> tuple[str, ...]:
        """Return the jobs of other namespaces to request, each as ``namespace/job``."""
        if work.plan is None or not work.may_request:
            return ()
        verdicts = work.plan.verdicts
        waiting = [j for j, v in verdicts.items() if v is Verdict.FOREIGN and j in self.graph.jobs]
        needed = {parent for job in waiting for parent in self.graph.jobs[job].parents}
        return tuple(
            reference
            for reference in self.graph.foreign
            if reference in needed and verdicts.get(reference) is Verdict.FOREIGN
        )

    def _has_begun(self, planned: Plan, record: Record, line: Collection[str]) -> bool:
        """Return whether any job of a line that may run here is held or finished."""
        return any(
            job in planned.holders or find_finished(self.graph, record, job) is not None
            for job in filter(self.is_served, line)
        )

    def _is_next(self, work: Work, record: Record, job: str) -> bool:
        """Return whether a job's last parent was finished here, and no event says so."""
        parents = {
            parent: record.results[fingerprint]
            for parent in self.graph.jobs[job].parents
            if parent in self.graph.jobs
            and (fingerprint := find_current(self.graph, record, parent)) is not None
        }
        settled = {result.job for result in work.settled}
        notifying = work.targets if work.trigger is not None else ()
        is_notified = self.graph.jobs[job].on_arrival and any(
            name in settled and (name in notifying or EVERYONE in parent.notify)
            for name, parent in parents.items()
        )
        return not settled.isdisjoint(parents) and not is_notified


def check_version(record: Record, media: MediaFile) -> Status | None:
    """Return why a version can no longer be processed, or None if it can be."""
    if record.erased:
        return Status.ERASED
    if record.version != media.version:
        return Status.SUPERSEDED
    return Status.DELETED if record.deleted_at is not None else None


def _needs_nobody(verdict: Verdict) -> bool:
    return verdict not in WAITING


def list_wanted(graph: Graph, record: Record) -> tuple[str, ...]:
    """Return the jobs whose results are wanted and not finished."""
    wanted = {
        entry.job
        for fingerprint, entry in record.results.items()
        if entry.notify
        and entry.state in UNFINISHED
        and graph.fingerprints.get(entry.job) == fingerprint
    }
    return tuple(job for job in graph.jobs if job in wanted) if wanted else ()


def find_finished(graph: Graph, record: Record, job: str) -> str | None:
    """Return the fingerprint of a job's result if it is finished, well or badly."""
    current = find_current(graph, record, job)
    if current is not None:
        return current
    entry = find_entry(graph, record, job)
    return graph.fingerprints[job] if entry is not None and entry.state in FINISHED else None


def is_deferred(result: Result) -> bool:
    """Whether a job is to be tried again later; a damaged parent is computed again at once."""
    error = result.error
    return result.state is State.QUEUED and (error is None or error.kind != Kind.DAMAGED_INPUT)


def limit_attempts(graph: Graph, work: Work) -> list[Result]:
    """Return the results of a line; after the last attempt, a transient error is a failure."""
    assert work.claimed is not None
    attempt = work.message.attempt if work.message is not None else 1
    limited: dict[str, Result] = {}
    for result in work.results:
        causes = [
            limited[p]
            for p in graph.jobs[result.job].parents
            if p in limited and limited[p].state in (State.FAILED, State.BLOCKED)
        ]
        if result.state is State.QUEUED and causes:
            error = causes[0].error
            is_blocked = causes[0].state is State.BLOCKED and error is not None
            cause = error.type if is_blocked and error is not None else causes[0].job
            limited[result.job] = build_blocked_result(result.job, cause)
        else:
            limited[result.job] = _limit(graph, result, work, attempt)
    return list(limited.values())


def _limit(graph: Graph, result: Result, work: Work, attempt: int) -> Result:
    assert work.claimed is not None
    kind = result.error.kind if result.error is not None else None
    if result.damaged is not None:
        fingerprint = find_current(graph, work.claimed, result.damaged)
        computed = work.claimed.results[fingerprint].attempts if fingerprint is not None else 0
        # A disk that damages whatever is written would have it written for ever.
        return replace(result, state=State.FAILED) if computed >= MAX_ATTEMPTS else result
    if work.message is None:
        return result
    if attempt < MAX_ATTEMPTS:
        return replace(result, state=State.QUEUED) if kind == Kind.NO_SPACE else result
    if result.state is not State.QUEUED or kind in LASTING:
        return result
    return replace(result, state=State.FAILED)
