"""Explains the state of each job of a file, and what a backfill would do next."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum

from segue.adapters.connect import connect_store
from segue.clock import utc_now
from segue.errors import (
    ConfigurationError,
    DamagedRecord,
    Kind,
    MissingInput,
    TransientError,
    suggest,
)
from segue.execution.foreign import NO_RESULTS, ForeignResult
from segue.execution.work import Run, Steps, Work
from segue.ingest.catalogue import build_media_filter, look_up
from segue.ingest.observation import Look
from segue.model.artifact import Lineage
from segue.model.controls import NO_CONTROLS, Controls, Pause
from segue.model.graph import Graph
from segue.model.lease_owner import is_lost
from segue.model.ledger import Query
from segue.model.media_file import find_bucket_location, list_file_uris, split_uri
from segue.model.message import build_request_id
from segue.model.object_store import Object, ObjectStore
from segue.model.planner import Plan, Verdict
from segue.model.record import Entry, Lease, Record, State
from segue.model.transitions import arrive, find_current, find_entry
from segue.reports.upstream import Upstream, read_upstream
from segue.stack import Stack
from segue.worker.running_job import RunningJob, find_running_jobs

LONG_AGO = datetime.min.replace(tzinfo=UTC)


class Standing(StrEnum):
    """Which version of its job, and which content of the file, a result is of."""

    PRESENT = "present"  # of the job as the graph now defines it
    EQUIVALENT = "equivalent"  # of an earlier version, which is accepted in its place
    EARLIER = "earlier"  # of an earlier version; current again after a rollback
    REPLACED = "replaced"  # of content that the file no longer has


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult:
    """One result of a job in the record."""

    fingerprint: str
    standing: Standing
    counts: bool  # whether it is the one that counts
    entry: Entry
    artifacts: tuple[str, ...]  # their names, relative to the artifacts' location


@dataclass(frozen=True, slots=True, kw_only=True)
class JobExplanation:
    """The state of one job of one file, the reason, and all results in the record."""

    job: str
    fingerprint: str  # as the graph now defines it
    state: str  # of the present result, or "stale" or "missing"
    current: bool
    reason: str  # why it is not current; empty if it is
    verdict: Verdict  # what a backfill would do
    results: tuple[JobResult, ...]  # the present one first, then from the newest to the oldest
    running: RunningJob | None = None  # how far it is, if a worker on this machine runs it

    @property
    def entry(self) -> Entry | None:
        """The result that counts, or else that of the present fingerprint."""
        for result in self.results:
            if result.counts:
                return result.entry
        for result in self.results:
            if result.standing is Standing.PRESENT:
                return result.entry
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactStat:
    """Size and lineage of one artifact, if it exists."""

    name: str  # relative to the artifacts' location
    uri: str
    exists: bool
    size_bytes: int = 0
    lineage: Lineage | None = None  # None if the artifact is missing, or has none
    error: str | None = None  # why another namespace's cannot be looked up


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Everything that is known about one file."""

    uri: str
    record: Record | None  # in the ledger
    look: Look  # at the file itself
    jobs: tuple[JobExplanation, ...]  # parents first
    others: tuple[JobResult, ...] = ()  # of jobs that are no longer in the graph
    # Of the jobs of other namespaces that this graph needs; None: there is no result.
    foreign: Mapping[str, ForeignResult | None] = field(default_factory=dict)
    upstream: Upstream = field(default_factory=Upstream)  # all namespaces above this one
    artifacts: Mapping[str, ArtifactStat] = field(default_factory=dict)  # by name, parents included
    targets: tuple[str, ...]
    ignored: str | None = None  # why it is no media of the graph

    @property
    def gone(self) -> bool:
        """Whether the file no longer exists."""
        return self.look.is_gone or (self.look.media is None and self.deleted)

    @property
    def deleted(self) -> bool:
        """Whether the ledger has a tombstone."""
        return self.record is not None and self.record.deleted_at is not None

    @property
    def run(self) -> tuple[str, ...]:
        """The jobs that a backfill of the targets would compute."""
        if self.gone or self.look.error is not None or self.ignored is not None:
            return ()
        return tuple(a.job for a in self.jobs if a.verdict is Verdict.RUN)


def explain(stack: Stack, file: str, targets: Collection[str]) -> Explanation:
    """Explain a file, which is given as a path, a URI, or a path relative to the catalogue.

    Raises
    ------
    ConfigurationError
        If the file is neither in the ledger nor in its folder or bucket.
    DamagedRecord
        If its record cannot be read.
    """
    graph = stack.graph
    look, record = find_file(stack, file)
    now = utc_now()
    # A backfill first records the version that it finds.
    planned = arrive(record, look.media, now)[0] if look.media is not None else record
    jobs: list[JobExplanation] = []
    upstream = Upstream(registry=graph.registry)
    if planned is not None:
        upstream = read_upstream(graph, planned.media)
        jobs = explain_jobs(
            graph,
            planned,
            targets,
            now=now,
            recorded=record,
            foreign=upstream.results,
            controls=stack.ledger.read_controls(),
        )
        jobs = [_add_running_job(stack, look.uri, job) for job in jobs]
    removed = {e.job for e in record.results.values()} - set(graph.jobs) if record else set()
    others = [result for job in sorted(removed) for result in _list_results(graph, record, job)]
    results = [*(result for job in jobs for result in job.results), *others]
    return Explanation(
        uri=look.uri,
        record=record,
        look=look,
        jobs=tuple(jobs),
        others=tuple(others),
        foreign={reference: upstream.results.get(reference) for reference in graph.references},
        upstream=upstream,
        artifacts=trace_lineage(stack.artifacts, (n for r in results for n in r.artifacts)),
        targets=tuple(targets),
        ignored=build_media_filter(graph, stack.settings, anywhere=True).find_reason_to_ignore(
            look.uri
        ),
    )


def _add_running_job(stack: Stack, uri: str, job: JobExplanation) -> JobExplanation:
    """Add how far a job is, if a worker on this machine holds it and has begun with it."""
    if job.entry is None or job.entry.lease is None:
        return job
    found = find_running_jobs(stack.settings.ledger, uri, job.entry.lease.owner)
    running = next((one for one in found if one.job == job.job), None)
    if running is None:
        return job
    since = running.since.astimezone().strftime("%H:%M:%S")
    told = ""
    if running.fraction is not None:
        told = f", {100 * running.fraction:.0f} % {running.text}".rstrip()
    reason = "; ".join(filter(None, (f"since {since}{told}", job.reason)))
    return replace(job, running=running, reason=reason)


def find_file(stack: Stack, file: str) -> tuple[Look, Record | None]:
    """Return the first candidate URI that is in the ledger, else the first that exists.

    Errors as of `explain`.
    """
    uris = list_file_uris(file, stack.graph.catalogue)
    for uri, snapshot in zip(uris, stack.ledger.read(uris), strict=True):
        if snapshot.damage is not None:
            raise DamagedRecord(snapshot.damage, [uri])
        if snapshot.record is not None:
            return look_up(uri, snapshot.record), snapshot.record
    for uri in uris:
        found = look_up(uri)
        if not found.is_gone or found.other:
            return found, None
    raise ConfigurationError(
        f"{file!r} is not in the ledger and does not exist; {_suggest_uris(stack, uris[0])}"
    )


def _suggest_uris(stack: Stack, uri: str) -> str:
    """Return a hint: similar URIs in the ledger, or how to write one."""
    folder, _, name = uri.rpartition("/")
    for start in (f"{folder}/{name[:3]}", f"{folder}/"):
        uris = [r.uri for r in stack.ledger.find(Query(prefix=start), limit=1000)]
        if hint := suggest(uri, uris, otherwise="", limit=3):
            return hint
    return "write a path, a URI as 'segue failures' shows them, or a path relative to the catalogue"


def trace_lineage(artifacts: ObjectStore, names: Iterable[str]) -> dict[str, ArtifactStat]:
    """Look up artifacts, and all that they were made from, by their names."""
    traced: dict[str, ArtifactStat] = {}
    left = list(names)
    while left:
        name = left.pop()
        if name in traced:
            continue
        uri = name if "://" in name else artifacts.uri(name)
        try:
            found = _stat(artifacts, name)
        except MissingInput:
            traced[name] = ArtifactStat(name=name, uri=uri, exists=False)
            continue
        except (ConfigurationError, TransientError) as error:
            if name == uri:  # another namespace's must not end the report
                traced[name] = ArtifactStat(name=name, uri=uri, exists=False, error=str(error))
                continue
            raise
        lineage = Lineage.from_metadata(found.metadata)
        traced[name] = ArtifactStat(
            name=name, uri=uri, exists=True, size_bytes=found.size_bytes, lineage=lineage
        )
        left += lineage.parents.values() if lineage is not None else ()
    return traced


def _stat(artifacts: ObjectStore, name: str) -> Object:
    """Look up an artifact by its name or, if it is another namespace's, by its URI."""
    if "://" not in name:
        return artifacts.stat(name)
    with closing(connect_store(find_bucket_location(name))) as store:
        return store.stat(split_uri(name)[1])


def explain_jobs(
    graph: Graph,
    record: Record,
    targets: Collection[str],
    *,
    now: datetime,
    recorded: Record | None = None,
    foreign: Mapping[str, ForeignResult] = NO_RESULTS,
    controls: Controls = NO_CONTROLS,
) -> list[JobExplanation]:
    """Explain all jobs of the graph as a backfill of the targets would see them; parents first.

    ``recorded`` is the record as the ledger has it, if that may be of another version of the file.
    """
    paused = controls.select_paused(graph.jobs)
    planned = _plan_backfill(graph, record, targets, now, foreign, paused)
    is_replaced = recorded is not None and recorded.version != record.version
    explained = []
    for job in graph.jobs:
        results = list(_list_results(graph, record, job))
        entry = find_entry(graph, record, job)
        current = find_current(graph, record, job) is not None
        state = str(State.DONE) if current else "missing" if entry is None else str(entry.state)
        reason = ""
        if not current:
            reason = _find_reason(graph, record, job, planned, now)
            if entry is None and (earlier := _find_earlier(results)):
                state, reason = "stale", _explain_stale(graph, job, earlier)
            elif entry is None and is_replaced:
                reason = "it has not been requested for this version of the file"
        if not current and (pause := controls.find_pause(job)) is not None:
            reason = f"{describe_pause(pause)}; {reason}"
        if is_replaced:
            results += _list_replaced_results(graph, recorded, job)
        explained.append(
            JobExplanation(
                job=job,
                fingerprint=graph.fingerprints[job],
                state=state,
                current=current,
                reason=reason,
                verdict=planned.verdicts.get(job, Verdict.CURRENT if current else Verdict.IDLE),
                results=tuple(results),
            )
        )
    return explained


def _plan_backfill(
    graph: Graph,
    record: Record,
    targets: Collection[str],
    now: datetime,
    foreign: Mapping[str, ForeignResult],
    paused: frozenset[str],
) -> Plan:
    """Plan as a backfill does that starts now."""
    run = Run(id=build_request_id(now), targets=tuple(targets))
    work = Work(media=record.media, targets=run.targets, owner="", run=run, foreign=foreign)
    steps = Steps(graph=graph, lost=is_lost, paused=lambda: paused, lease_s=0.0)
    _, step = steps.build_start(work, now)(record)
    return step.plan or Plan(verdicts={}, blockers={}, holders={}, waits_for={})


def describe_pause(pause: Pause) -> str:
    """Describe for people since when a job is paused, and by whom."""
    by = f" by {pause.by}" if pause.by is not None else ""
    return f"paused{by} since {pause.at.astimezone().strftime('%Y-%m-%d %H:%M')}"


def _list_results(graph: Graph, record: Record | None, job: str) -> list[JobResult]:
    """List a job's results: the present one first, then from the newest to the oldest."""
    if record is None:
        return []
    accepted = graph.accepted.get(job, ())
    current = find_current(graph, record, job) if accepted else None
    results = []
    for fingerprint, entry in record.results.items():
        if entry.job != job:
            continue
        standing = Standing.EARLIER
        if fingerprint in accepted:
            is_own = fingerprint == accepted[0]
            standing = Standing.PRESENT if is_own else Standing.EQUIVALENT
        results.append(
            JobResult(
                fingerprint=fingerprint,
                standing=standing,
                counts=fingerprint == current,
                entry=entry,
                artifacts=tuple(record.name_artifacts(fingerprint)),
            )
        )
    results.sort(key=lambda r: r.entry.finished_at or LONG_AGO, reverse=True)
    return sorted(results, key=lambda r: r.standing is not Standing.PRESENT)


def _list_replaced_results(graph: Graph, recorded: Record | None, job: str) -> list[JobResult]:
    """List a job's finished results of the content that the file had."""
    return [
        replace(result, standing=Standing.REPLACED, counts=False)
        for result in _list_results(graph, recorded, job)
        if result.entry.state is State.DONE
    ]


def _find_earlier(results: Iterable[JobResult]) -> JobResult | None:
    """Return the newest finished result of an earlier version of the job."""
    return next((r for r in results if r.entry.state is State.DONE and not r.counts), None)


def _explain_stale(graph: Graph, job: str, earlier: JobResult) -> str:
    return (
        f"the job, or one above it, has changed since: fingerprint {earlier.fingerprint} then, "
        f"{graph.fingerprints[job]} now"
    )


def _find_reason(graph: Graph, record: Record, job: str, planned: Plan, now: datetime) -> str:
    entry = find_entry(graph, record, job)
    if entry is None:
        return "the file was erased" if record.erased else "it has never been requested"
    match entry.state:
        case State.FAILED:
            if entry.error is not None and entry.error.kind == Kind.NO_SPACE:
                return "it failed for lack of space; the next backfill tries it again"
            return "it failed; run 'segue retry' to try again"
        case State.BLOCKED:
            return _explain_blocked(graph, record, entry)
        case State.NOT_APPLICABLE:
            return _explain_not_applicable(entry, planned.verdicts.get(job))
        case State.RUNNING:
            return _explain_running(entry, now)
        case State.DONE:
            return "it is of another version of the file"
        case State.QUEUED:
            if waits_for := planned.waits_for.get(job):
                return f"it has been requested, and waits for {', '.join(sorted(waits_for))}"
            return "it has been requested, and no worker has started it"


def _explain_not_applicable(entry: Entry, verdict: Verdict | None) -> str:
    if verdict is Verdict.RUN:
        return "the job, or one above it, accepts such files by now; the next backfill runs it"
    return entry.error.message if entry.error is not None else "it is not for this file"


def _explain_blocked(graph: Graph, record: Record, entry: Entry) -> str:
    cause = entry.error.type if entry.error is not None else "one above it"
    above = find_entry(graph, record, cause) if cause in graph.jobs else None
    if above is not None and above.state is State.FAILED:
        return f"{cause!r} above it failed"
    return f"{cause!r} above it had failed; it has not been tried since {cause!r} was repaired"


def _explain_running(entry: Entry, now: datetime) -> str:
    if entry.lease is None:
        return "it is running without a lease; the next worker takes it over"
    holder = format_holder(entry.lease)
    if is_lost(entry.lease):
        return f"{holder} held it, and is dead; the next worker takes it over"
    until = entry.lease.expires_at.astimezone().strftime("%H:%M:%S")
    if entry.lease.expires_at <= now:
        return f"the lease of {holder} expired at {until}; the next worker takes it over"
    return f"{holder} holds it until {until}"


def format_holder(lease: Lease) -> str:
    """Format the holder of a lease for people: process and host."""
    parts = lease.owner.rsplit("/", 3)
    if len(parts) != 4:
        return lease.owner
    host = parts[0].partition("@")[0].rpartition(":")[0] or parts[0]
    return f"process {parts[1]} on {host}"
