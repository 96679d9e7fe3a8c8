"""The completion record of a media file: one document with one entry per job."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar

import msgspec

from segue.model.media_file import MediaFile

S = TypeVar("S", bound=msgspec.Struct)

# In ``pending_targets``: whoever finishes this job notifies all its children, as on an arrival.
EVERYTHING = "*"


class State(StrEnum):
    """The state of a job for one file."""

    QUEUED = "queued"  # requested, but no process is working on it
    RUNNING = "running"  # a process holds the lease
    DONE = "done"  # the artifact is written
    FAILED = "failed"  # a permanent error, or the last attempt at a transient one
    BLOCKED = "blocked"  # something above it failed


class Lease(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The right to work on a job of a file, until it expires."""

    owner: str
    expires_at: datetime


class Failure(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Why a job failed or is blocked."""

    kind: str  # one of segue.errors.Kind, or "blocked"
    type: str  # the exception's class, or the job that failed above
    message: str


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The state of one job for one file."""

    state: State
    fingerprint: str
    generation: int
    artifact: str | None = None  # URI
    checksum: str | None = None  # of the artifact's bytes
    attempts: int = 0
    error: Failure | None = None
    lease: Lease | None = None
    # Targets for which the children are to be notified; EVERYTHING after an arrival.
    pending_targets: tuple[str, ...] = msgspec.field(default=(), name="wanted")
    # When they were last requested, by a user or the sweeper.
    pending_at: datetime | None = msgspec.field(default=None, name="wanted_at")
    request: str | None = None  # the latest request that it was computed for
    started_at: datetime | None = None
    seconds: float | None = None  # wall time of the last attempt
    cpu_seconds: float | None = None  # of the last attempt, child processes included


class Ping(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The record of a ping that reached a job."""

    request: str  # the latest one
    at: datetime


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The state of one media file."""

    uri: str
    generation: int
    size_bytes: int = 0
    content_type: str | None = None
    checksum: str | None = None
    arrived_at: datetime
    deleted_at: datetime | None = None
    jobs: dict[str, Entry] = {}
    pings: dict[str, Ping] = {}  # by job, of this generation

    @property
    def has_pending_targets(self) -> bool:
        """Whether any job has pending targets."""
        return any(e.pending_targets for e in self.jobs.values())

    @property
    def media(self) -> MediaFile:
        """The file version that the record is about."""
        return MediaFile(
            uri=self.uri,
            generation=self.generation,
            size_bytes=self.size_bytes,
            content_type=self.content_type,
            checksum=self.checksum,
        )


def evolve(value: S, **changes: Any) -> S:
    """Return a copy of a record or entry with some fields changed."""
    return msgspec.structs.replace(value, **changes)
