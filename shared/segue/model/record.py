"""The completion record of a media file: its current version, and its results by fingerprint.

A result stays under its job's fingerprint until garbage collection removes it, so that what a
rolled-back job computed before is current again at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, TypeVar

import msgspec

from segue.model.artifact import build_artifact_name
from segue.model.media_file import MediaFile, split_uri

S = TypeVar("S", bound=msgspec.Struct)

FORMAT: Literal[2] = 2
# In ``notify``: whoever finishes this result notifies all who depend on it, as on an arrival.
EVERYONE = "*"
# In ``notify``: the result is wanted, and nobody is to be notified.
NOBODY = "."


class State(StrEnum):
    """The state of a job's result for one file."""

    QUEUED = "queued"  # wanted, but no process is working on it
    RUNNING = "running"  # a process holds the lease
    DONE = "done"  # the artifact is written
    FAILED = "failed"  # a permanent error, or the last attempt at a transient one
    BLOCKED = "blocked"  # something above it failed
    NOT_APPLICABLE = "not_applicable"  # the job is not for this file


UNFINISHED = frozenset({State.QUEUED, State.RUNNING})
FINISHED = frozenset(State) - UNFINISHED


class Lease(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The right to work on a job of a file, until it expires."""

    owner: str
    expires_at: datetime


class Failure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Why a job failed or is blocked."""

    kind: str  # one of segue.errors.Kind or Reason; "blocked" or "not_applicable" from a job above
    # The exception's class, the job that failed above, or the types of a file not accepted.
    type: str
    message: str
    traceback: str | None = None  # of the job's own code, cut to a bounded size


def join_types(types: Iterable[str]) -> str:
    """Return the types of a file that a job does not accept, as the failure's ``type``."""
    return " ".join(sorted(types))


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One result of a file: the state of a job, as one fingerprint defines it."""

    job: str
    state: State
    order: int  # of the version of the file that it is about
    # By what follows ``<version>.`` in an artifact's name: the checksum of its bytes.
    checksums: dict[str, str] = {}
    attempts: int = 0
    error: Failure | None = None
    lease: Lease | None = None
    # Whom, once it is finished: EVERYONE, NOBODY, or an inbox of another namespace.
    notify: tuple[str, ...] = ()
    notify_at: datetime | None = None  # when that was last asked for, by a user or the sweeper
    # The event that it was computed for: "source" or a parent, "@", and the pipeline that got it.
    # EVERYONE: it was computed for none, and those who depend on it were notified.
    triggered_by: str | None = None
    requests: tuple[str, ...] = ()  # the latest requests and runs that had it computed again
    # Older fingerprints that the result stands for, for namespaces that are locked to one of them.
    equivalents: tuple[str, ...] = ()
    started_at: datetime | None = None
    finished_at: datetime | None = None
    seconds: float | None = None  # wall time of the last attempt
    cpu_seconds: float | None = None  # of the last attempt, child processes included


class Ping(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The record of the pings that reached a job."""

    request: str  # the latest one
    at: datetime
    triggered_by: str | None = None  # whose ping it was
    before: dict[str, str] = {}  # by request: whose earlier pings were


class Record(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    gc=False,
    tag_field="format",
    tag=FORMAT,
):
    """The state of one media file."""

    uri: str
    version: str  # of the content; compared for equality only
    order: int  # grows with each version
    stat: str | None = None  # of a file in a folder, when its content was last read
    size_bytes: int = 0
    content_type: str | None = None
    checksum: str | None = None
    arrived_at: datetime
    deleted_at: datetime | None = None
    deleted_by: str | None = None  # the event that brought the tombstone from another namespace
    erased: bool = False  # the file was taken down: it may never come back
    results: dict[str, Entry] = {}  # by fingerprint
    # By version, then by fingerprint: what is done of contents that may come back.
    earlier: dict[str, dict[str, Entry]] = {}
    pings: dict[str, Ping] = {}  # by job, of this version

    @property
    def media(self) -> MediaFile:
        """The file version that the record is about."""
        return MediaFile(
            uri=self.uri,
            version=self.version,
            order=self.order,
            stat=self.stat,
            size_bytes=self.size_bytes,
            content_type=self.content_type,
            checksum=self.checksum,
        )

    def name_artifact(self, fingerprint: str, suffix: str) -> str:
        """Return an artifact's name, relative to the artifacts' location."""
        job = self.results[fingerprint].job
        return build_artifact_name(job, fingerprint, split_uri(self.uri)[1], self.version, suffix)

    def name_artifacts(self, fingerprint: str) -> list[str]:
        """Return the names of a result's artifacts, relative to the artifacts' location."""
        return [self.name_artifact(fingerprint, s) for s in self.results[fingerprint].checksums]


def is_inbox(whom: str) -> bool:
    """Return whether somebody to notify is the inbox of another namespace."""
    return whom not in (EVERYONE, NOBODY)


def evolve(value: S, **changes: Any) -> S:
    """Return a copy of a record or entry with some fields changed."""
    return msgspec.structs.replace(value, **changes)


def shrink(record: Record) -> Iterator[Record]:
    """Yield the record, and then smaller ones, for a store that limits the size of one.

    Without tracebacks, failures still have their messages; and a content that comes back is then
    computed again.
    """
    yield record
    results = {
        fingerprint: evolve(entry, error=evolve(entry.error, traceback=None))
        if entry.error is not None
        else entry
        for fingerprint, entry in record.results.items()
    }
    yield evolve(record, results=results)
    yield evolve(record, results=results, earlier={})


# The terms by which a store finds records without reading them.

PENDING = "!pending"  # some result's ``notify`` is not empty
REQUESTED = "!requested"  # other namespaces wait for some result
LEASED = "!leased"  # some result is leased


def format_term(job: str, fingerprint: str, state: State) -> str:
    """Return the term of a result that is not done."""
    return f"{job}/{fingerprint}/{state}"


def format_done_term(job: str, fingerprint: str = "") -> str:
    """Return the term of a result that is done, or of any done result of a job."""
    return f"{job}/{fingerprint}"


def list_open_terms(record: Record) -> list[str]:
    """Return the sorted terms of what is unfinished or failed; none for most files."""
    if record.deleted_at is not None:
        return []
    terms = set()
    for fingerprint, entry in record.results.items():
        if entry.notify:
            terms.add(PENDING)
        if any(map(is_inbox, entry.notify)):
            terms.add(REQUESTED)
        if entry.lease is not None:
            terms.add(LEASED)
        if entry.state not in (State.DONE, State.NOT_APPLICABLE):
            terms.add(format_term(entry.job, fingerprint, entry.state))
    return sorted(terms)


def list_done_terms(record: Record) -> list[str]:
    """Return the sorted terms of the results that need nothing more, for counting."""
    if record.deleted_at is not None:
        return []
    terms = set()
    for fingerprint, entry in record.results.items():
        if entry.state is State.DONE:
            terms |= {format_done_term(entry.job), format_done_term(entry.job, fingerprint)}
        elif entry.state is State.NOT_APPLICABLE:
            terms.add(format_term(entry.job, fingerprint, entry.state))
    return sorted(terms)
