"""The reply to a message: what to publish, what to clear from the ledger, what to log.

The order matters: envelopes are published first, and whom they notify is cleared then. Whoever dies
in between publishes again when the message comes again, and a repeated message changes nothing; the
other way round, some would never be notified.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any

from segue.clock import Clock
from segue.errors import ConfigurationError, DamagedRecord, Kind, PermanentError
from segue.execution.foreign import describe_result
from segue.execution.rate_limit import RateLimit
from segue.execution.work import (
    MAX_ATTEMPTS,
    ReceivedMessage,
    Steps,
    Work,
    find_finished,
    list_wanted,
)
from segue.ingest.events import build_deletion_events
from segue.log import Action
from segue.model import dead_letter
from segue.model.dead_letter import Stage
from segue.model.graph import Graph
from segue.model.ledger import Change, Ledger
from segue.model.manifest import split_reference
from segue.model.media_file import MediaFile
from segue.model.message import Message, PublishedResult, describe_arrival
from segue.model.outcome import Status
from segue.model.planner import Verdict
from segue.model.queue import (
    Envelope,
    Queue,
    event_to_envelope,
    message_to_envelope,
    respond_to_envelope,
)
from segue.model.record import EVERYONE, Entry, Failure, Record, State, evolve, is_inbox
from segue.model.transitions import Notified, Result, clear_notify

MAX_HOPS = 1  # of a request from pipeline to pipeline, without anything to compute
OUTDATED = frozenset({Status.SUPERSEDED, Status.DELETED, Status.ERASED})
ACTIONS = {
    State.DONE: Action.DONE,
    State.FAILED: Action.FAILED,
    State.BLOCKED: Action.BLOCKED,
    State.NOT_APPLICABLE: Action.NOT_APPLICABLE,
    State.QUEUED: Action.DEFERRED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearNotify:
    """Whom to clear from a record once the envelopes of a reply are published.

    On Dataflow it waits, pickled, behind a durable step: a change of its fields needs a drain.
    """

    uri: str
    order: int
    notified: tuple[Notified, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The outcome of a message: publish its envelopes, then clear, then acknowledge it."""

    received: ReceivedMessage
    action: Action
    message: Message | None = None  # None: unreadable
    envelopes: tuple[Envelope, ...] = ()
    clear: ClearNotify | None = None
    results: tuple[Result, ...] = ()
    reason: str | None = None

    def list_log_lines(self) -> Iterator[tuple[Action, dict[str, Any]]]:
        """Yield an action and its fields for each job that has run, and for the message itself."""
        message = self.message
        common = {
            "pipeline": self.received.pipeline,
            "file": message.uri if message is not None else None,
            "version": message.version if message is not None else None,
            "request": message.request if message is not None else None,
            "message_id": self.received.message_id,
        }
        for result in self.results:
            error = result.error
            yield (
                ACTIONS[result.state],
                {
                    **common,
                    "job": result.job,
                    "kind": error.kind if error is not None else None,
                    "error": error.message if error is not None else None,
                    "artifacts": list(result.artifacts),
                    "seconds": result.seconds,
                    "cpu_seconds": result.cpu_seconds,
                },
            )
        if self.action not in ACTIONS.values() or not self.results:
            trigger = message.trigger if message is not None else None
            yield self.action, {**common, "trigger": trigger, "reason": self.reason}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyBuilder:
    """Builds the replies of one process."""

    graph: Graph
    steps: Steps
    clock: Clock
    queue: str  # the URL at which other namespaces respond to requests
    limit: RateLimit = field(default_factory=RateLimit)  # of requests to each namespace

    def build(self, work: Work, message: Message) -> Reply:
        """Build the reply to a message once all work for it is done, or cannot be done now."""
        assert work.received is not None
        own = work.received.pipeline
        # In a folder, other namespaces count the contents of a file otherwise.
        known = evolve(message, order=work.claimed.order if work.claimed else message.order)
        letters = [
            build_dead_letter_envelope(
                work.received, known, Stage.RUN, result.error, self.clock(), result.job
            )
            for result in work.settled
            if result.state is State.FAILED
            and result.error is not None
            and result.job not in work.late
        ]
        reply = Reply(
            received=work.received,
            message=message,
            action=Action.DROPPED,
            envelopes=tuple(letters),
            results=(*work.settled, *work.results),
        )
        if work.refusal is not None:
            envelopes = (*self._refuse(work, message), *self._pass_deletion(work))
            return replace(reply, reason=str(work.refusal), envelopes=envelopes)
        if work.is_unclear:
            again = evolve(message, arrived=None, attempt=message.attempt + 1)
            envelopes = (message_to_envelope(again, own),)
            return replace(reply, action=Action.DEFERRED, envelopes=envelopes)
        if work.late:  # send the message again, to decide anew
            resent = message_to_envelope(evolve(message, arrived=None), own)
            return replace(reply, action=Action.LOST, envelopes=(*letters, resent), results=())
        if message.is_deleted:
            return self._build_deletion_reply(reply, work, message)
        if self.steps.is_retired(work):
            envelopes = (self._respond(work, message, self._find_old_result(work, message)),)
            retired = f"{message.fingerprint} is not computed here"
            return replace(reply, reason=retired, envelopes=envelopes)
        if message.ping:
            return replace(reply, action=Action.PINGED, envelopes=tuple(self._pass_on(work)))
        if work.results:
            superseded = any(r.error and r.error.kind == Kind.SUPERSEDED for r in work.results)
            if superseded and message.attempt >= MAX_ATTEMPTS:
                # The arrival of the newer version, or else a reconciliation, starts its jobs.
                return replace(reply, reason="superseded")
            again = evolve(message, arrived=None, attempt=message.attempt + 1)
            envelopes = (*letters, message_to_envelope(again, own))
            return replace(reply, action=Action.DEFERRED, envelopes=envelopes)
        if work.record is None:  # a file that was not known, and of which nothing was to be noted
            action, reason = _describe(work, (), ())
            return replace(reply, action=action, reason=reason)
        requests = [*self._request_next(work, message), *self.request_parents(work)]
        events, clear = self._notify(work, message)
        action, reason = _describe(work, requests, events)
        return replace(
            reply,
            action=action,
            reason=reason,
            envelopes=(*letters, *requests, *events),
            clear=clear,
        )

    def build_dead_letter(
        self,
        received: ReceivedMessage,
        stage: Stage,
        error: PermanentError,
        message: Message | None = None,
    ) -> Reply:
        """Build the reply to a message that cannot be processed."""
        failure = Failure(kind=error.kind, type=type(error).__name__, message=str(error))
        letter = build_dead_letter_envelope(received, message, stage, failure, self.clock())
        return Reply(
            received=received,
            message=message,
            action=Action.DEAD_LETTERED,
            envelopes=(letter,),
            reason=f"{stage}: {error}",
        )

    def _pass_on(self, work: Work) -> Iterator[Envelope]:
        """Yield the pings for the jobs of other pipelines below those that pass it on."""
        assert work.message is not None
        for job in work.targets:
            targets = work.message.targets or None
            below = [c for c in self.steps.list_notified(job) if self.graph.is_on_line(c, targets)]
            yield from self._address(evolve(work.message, trigger=job, arrived=None), below)

    def _request_next(self, work: Work, message: Message) -> list[Envelope]:
        """Return the requests to the pipelines that are to run something next."""
        assert work.record is not None
        jobs = self.steps.find_next_jobs(work)
        hops = 0 if work.settled else message.hops + 1
        if not jobs or hops > MAX_HOPS:  # what is wanted is in the record, for the sweep
            return []
        own = work.targets if work.trigger is None else ()
        wanted = (*own, *list_wanted(self.graph, work.record))
        request = Message(
            namespace=self.graph.namespace,
            uri=message.uri,
            version=message.version,
            order=work.record.order,
            targets=tuple(dict.fromkeys(wanted)) or jobs,
            request=message.request,
            hops=hops,
        )
        return list(self._address(request, jobs))

    def request_parents(self, work: Work) -> Iterator[Envelope]:
        """Yield the requests to other namespaces, which respond to a pipeline of this one.

        What is over the limit of a namespace is wanted, and the sweep has it requested.
        """
        record = work.record
        assert record is not None
        pipeline = (
            work.received.pipeline
            if work.received is not None
            else self.graph.pipeline_of[work.targets[0]]
        )
        address = f"{self.graph.namespace}/{pipeline}@{self.queue}"
        for reference in self.steps.find_requested(work):
            namespace, job = split_reference(reference)
            published, manifest = self.graph.foreign[reference], self.graph.imports[namespace]
            if not self.limit.admits(namespace, manifest.requests_per_minute, self.clock()):
                continue
            request = Message(
                namespace=namespace,
                uri=record.uri,
                version=record.version,
                order=record.order,
                targets=(job,),
                fingerprint=published.fingerprint,
                reply_to=address,
                request=work.message.request if work.message is not None else None,
                arrived=describe_arrival(record) if namespace in work.unknown_to else None,
            )
            envelope = message_to_envelope(request, published.pipeline)
            yield replace(envelope, queue=manifest.queue)

    def _refuse(self, work: Work, message: Message) -> Iterator[Envelope]:
        """Yield the response to another namespace whose request is about an old version."""
        if message.reply_to is not None and work.refusal in OUTDATED:
            yield self._respond(work, message, None)

    def _respond(self, work: Work, message: Message, result: PublishedResult | None) -> Envelope:
        assert message.reply_to is not None
        return self._build_response(work, message.targets[0], message.reply_to, result)

    def _build_response(
        self, work: Work, job: str, address: str, result: PublishedResult | None
    ) -> Envelope:
        """Return the response to an inbox; without a result, the file is gone or has changed.

        A result that nobody computes may be requested of a version that is yet to arrive here.
        """
        record, media = work.record, work.media
        if record is not None and result is not None and _is_behind(record, media):
            record = None
        is_gone = result is None if record is None else record.deleted_at is not None
        response = Message(
            namespace=self.graph.namespace,
            uri=media.uri,
            version=record.version if record is not None else media.version,
            order=record.order if record is not None else media.order or 0,
            trigger=job,
            is_response=True,
            is_deleted=is_gone,
            is_erased=record is not None and record.erased,
            result=result,
            request=work.message.request if work.message is not None else None,
        )
        return respond_to_envelope(response, address)

    def _find_old_result(self, work: Work, message: Message) -> PublishedResult:
        """Return the result of a fingerprint that is not computed any more, if it is there."""
        fingerprint, record = message.fingerprint or "", work.record
        entry = record.results.get(fingerprint) if record is not None else None
        is_there = entry is not None and entry.state is State.DONE
        if record is None or entry is None or not is_there or entry.order != record.order:
            return PublishedResult(state=None, fingerprint=fingerprint)
        if _is_behind(record, work.media):
            return PublishedResult(state=None, fingerprint=fingerprint)
        return describe_result(fingerprint, entry)

    def _build_deletion_reply(self, reply: Reply, work: Work, message: Message) -> Reply:
        """Build the reply to a deletion; artifacts that may not be removed are a dead letter."""
        envelopes = list(self._pass_deletion(work))
        if work.unremoved is not None:
            kind, name = Kind.UNAVAILABLE, ConfigurationError.__name__
            failure = Failure(kind=kind, type=name, message=work.unremoved)
            envelopes.append(
                build_dead_letter_envelope(
                    reply.received, message, Stage.RUN, failure, self.clock()
                )
            )
        removed = f"artifacts removed: {work.removed}" if work.is_erasure else None
        return replace(
            reply,
            action=Action.DELETED,
            envelopes=tuple(envelopes),
            reason=work.unremoved or removed,
        )

    def _pass_deletion(self, work: Work) -> Iterator[Envelope]:
        """Yield the events of a deletion, if it was this message that brought the tombstone."""
        record = work.record
        message = work.message
        assert message is not None
        assert work.received is not None
        if record is None or record.deleted_at is None or record.deleted_by != work.cause:
            return
        jobs: Iterable[str] = self.graph.jobs
        if not self.graph.locked_references:  # it may publish no more than that
            jobs = self.graph.find_published(work.received.pipeline)
        yield from build_deletion_events(self.graph, record, jobs, hops=message.hops + 1)

    def _notify(self, work: Work, message: Message) -> tuple[list[Envelope], ClearNotify | None]:
        """Return the events of what is finished, and what to clear once they are published."""
        record = work.record
        assert record is not None
        envelopes: list[Envelope] = []
        notified: list[Notified] = []
        envelopes += self._respond_to_all(work, record, notified)
        for fingerprint, entry in self._list_to_notify(work, record):
            job = entry.job
            is_published = self.graph.jobs[job].publish
            is_new = is_published and message.arrived is not None
            event = Message(
                namespace=self.graph.namespace,
                uri=message.uri,
                version=message.version,
                order=record.order,
                trigger=job,
                result=self._describe(fingerprint, entry) if is_published else None,
                arrived=describe_arrival(record) if is_new else None,
                request=message.request,
            )
            own = self.graph.pipeline_of[job]
            below = self.graph.select_on_arrival(self.steps.list_notified(job))
            apart = [child for child in below if self.graph.pipeline_of[child] != own]
            if apart or is_published:
                envelopes.append(event_to_envelope(event))
            if len(apart) < len(below):  # in the job's own pipeline, which is not this one
                envelopes.append(message_to_envelope(event, own))
            if EVERYONE in entry.notify:
                notified.append(build_notice(fingerprint, entry, (EVERYONE,)))
        if not notified:
            return envelopes, None
        return envelopes, ClearNotify(uri=message.uri, order=record.order, notified=tuple(notified))

    def _respond_to_all(
        self, work: Work, record: Record, notified: list[Notified]
    ) -> Iterator[Envelope]:
        """Yield the responses to other namespaces, and note of whom that is recorded."""
        message = work.message
        assert message is not None
        for fingerprint, entry in record.results.items():
            is_finished = entry.job in self.graph.jobs and fingerprint == find_finished(
                self.graph, record, entry.job
            )
            if not is_finished:
                continue
            inboxes = [whom for whom in entry.notify if is_inbox(whom)]
            if inboxes:
                notified.append(build_notice(fingerprint, entry, tuple(inboxes)))
            if message.reply_to is not None and entry.job in message.targets:
                inboxes.append(message.reply_to)
            for inbox in dict.fromkeys(inboxes):
                yield self._build_response(
                    work, entry.job, inbox, self._describe(fingerprint, entry)
                )

    def _describe(self, fingerprint: str, entry: Entry) -> PublishedResult:
        """Return what other namespaces are told of a result."""
        is_own = fingerprint == self.graph.fingerprints[entry.job]
        stands_for = self.graph.find_stood_for(entry.job) if is_own else ()
        return describe_result(fingerprint, entry, stands_for)

    def _list_to_notify(self, work: Work, record: Record) -> Iterator[tuple[str, Entry]]:
        """Yield the finished results of which those below are to be notified.

        An event notifies of its own each time that it comes, and once of what others wait for and
        no event has notified of: if every event did, messages would multiply. A request notifies of
        all that others wait for, as the sweep sends one for what is left.
        """
        for fingerprint, entry in record.results.items():
            is_due = EVERYONE in entry.notify
            if work.event is not None:
                is_due &= entry.triggered_by is None
                is_due |= entry.triggered_by == work.event
            if (
                is_due
                and entry.job in self.graph.jobs
                and self.steps.leads_to(entry.job)
                and find_finished(self.graph, record, entry.job) == fingerprint
            ):
                yield fingerprint, entry

    def _address(self, message: Message, jobs: Iterable[str]) -> Iterator[Envelope]:
        """Yield a message to each pipeline that has one of some jobs."""
        for pipeline in self.graph.find_pipelines(jobs):
            yield message_to_envelope(message, pipeline)


def build_notice(fingerprint: str, entry: Entry, whom: tuple[str, ...]) -> Notified:
    """Return what to change in an entry once somebody is notified."""
    return Notified(fingerprint=fingerprint, whom=whom, notify_at=entry.notify_at)


def _is_behind(record: Record, media: MediaFile) -> bool:
    """Whether a version is yet to arrive here."""
    return media.order is not None and record.order < media.order


def _describe(
    work: Work, requests: Sequence[Envelope], events: Sequence[Envelope]
) -> tuple[Action, str | None]:
    """Return what was done with a message, and why no more than that."""
    if work.settled:
        return Action.DONE, None
    if requests:
        return Action.ASKED, " ".join(envelope.topic for envelope in requests)
    planned = work.plan
    held = list(planned.holders.items()) if planned is not None else []
    if held:
        job, lease = held[0]
        return Action.WAITING, f"{job} is held by {lease.owner}"
    verdicts = planned.verdicts if planned is not None else {}
    if paused := [job for job, verdict in verdicts.items() if verdict is Verdict.PAUSED]:
        return Action.WAITING, f"{', '.join(paused)} is paused"
    if planned is not None and planned.blockers:
        job, cause = next(iter(planned.blockers.items()))
        if planned.verdicts[job] is Verdict.NOT_APPLICABLE:
            return Action.NOT_APPLICABLE, f"{cause} above {job} is not for this file"
        return Action.BLOCKED, f"{job} is blocked by {cause}"
    if events:
        return Action.FORWARDED, None
    if foreign := [job for job, v in verdicts.items() if v is Verdict.FOREIGN and "/" in job]:
        return Action.WAITING, f"{', '.join(foreign)} has no result yet"
    if planned is not None and planned.waits_for:
        return Action.WAITING, "other parents have not finished yet"
    return Action.DROPPED, "there is nothing to do"


def build_dead_letter_envelope(
    received: ReceivedMessage,
    message: Message | None,
    stage: Stage,
    error: Failure,
    at: datetime,
    job: str | None = None,
) -> Envelope:
    """Build the dead letter of a message that cannot be processed here, or whose job failed."""
    dead = dead_letter.build_dead_letter(
        stage=stage,
        pipeline=received.pipeline,
        job=job,
        error=error,
        data=received.data,
        uri=message.uri if message is not None else None,
        version=message.version if message is not None else None,
        order=message.order if message is not None else None,
        at=at,
    )
    return dead_letter.dead_letter_to_envelope(dead)


def send(replies: Sequence[Reply], *, queue: Queue, ledger: Ledger) -> None:
    """Publish all envelopes in one call, then clear; after that, messages may be acknowledged.

    A power cut must not undo an earlier one of these steps than a later one, so each waits for the
    disk. A queue undoes acknowledgements before publications.
    """
    if envelopes := [envelope for reply in replies for envelope in reply.envelopes]:
        queue.publish(envelopes)
    if clears := [reply.clear for reply in replies if reply.clear is not None]:
        queue.sync()
        clear_all(clears, ledger=ledger)
    ledger.sync()


def clear_all(clears: Iterable[ClearNotify], *, ledger: Ledger) -> None:
    """Clear who was notified from their records, each record in one step.

    A damaged record says of nobody that they are to be notified.
    """
    by_file: dict[str, list[ClearNotify]] = {}
    for clear in clears:
        by_file.setdefault(clear.uri, []).append(clear)
    if by_file:
        changes = [Change(uri=u, transition=partial(_clear, clears=c)) for u, c in by_file.items()]
        with contextlib.suppress(DamagedRecord):  # all others are changed
            ledger.change(changes)


def _clear(found: Record | None, *, clears: Sequence[ClearNotify]) -> tuple[Record | None, None]:
    record = found
    for clear in clears:
        changed, _ = clear_notify(record, order=clear.order, notified=clear.notified)
        record = changed or record
    return record, None
