"""The record of a run, such as a backfill: whom it is from, what it is for, how far it came.

It is a document beside the artifacts. No decision depends on it: what is done is in the ledger.
"""

from __future__ import annotations

import getpass
import os
import re
import socket
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Literal

import msgspec

from segue.errors import ConfigurationError
from segue.model.criteria import Criteria
from segue.model.media_file import format_name
from segue.model.object_store import ObjectStore
from segue.model.passed_over import PassedOver

FORMAT: Literal[1] = 1
FOLDER = "_runs"  # no job's name begins with an underscore
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,99}")
UPDATE_S = 5.0  # how often a backfill updates its record
# A backfill that has not done so for so long has ended: its process was killed. Each attempt to
# write to a bucket may take two minutes.
LOST = timedelta(minutes=5)
MAX_TEXT = 2000  # of an error

Time = Annotated[datetime, msgspec.Meta(tz=True)]


class RunKind(StrEnum):
    """What started a run."""

    BACKFILL = "backfill"
    REQUEST = "request"
    RETRY = "retry"
    RECONCILE = "reconcile"
    GC = "gc"
    ERASE = "erase"


class RunState(StrEnum):
    """How far a run came."""

    ACCEPTED = "accepted"  # a request: from here on, the ledger knows
    RUNNING = "running"
    DONE = "done"  # it went through all of its files; the counts say how many failed
    FAILED = "failed"  # an error stopped it
    INTERRUPTED = "interrupted"  # somebody stopped it with a signal
    CANCELLED = "cancelled"  # somebody stopped it with ``segue cancel``


class RunSelection(Criteria, frozen=True, kw_only=True, omit_defaults=True):
    """The files that a run is for: some of those that a prefix, a list or the ledger names."""

    prefix: str | None = None  # URI of a file or folder
    files: tuple[str, ...] = ()  # URIs
    uris: str | None = None  # the name of a list of files
    from_ledger: str | None = None  # the criterion of a ledger query
    limit: int | None = None
    sample: float | None = None


class RunCounts(PassedOver, frozen=True, kw_only=True, omit_defaults=True):
    """What a run has done so far."""

    files: int = 0
    failed_files: int = 0  # that lack a result because a job failed, in this run or before
    jobs: dict[str, dict[str, int]] = msgspec.field(default_factory=dict)  # job → status → files
    left_out: dict[str, int] = msgspec.field(default_factory=dict)  # reason → files
    not_started: int = 0  # files that a run which was stopped early has left
    tried_files: int = 0  # for which a job has run, well or badly
    newly_failed_files: int = 0  # those of them with a job that failed in this run
    failures: dict[str, dict[str, int]] = msgspec.field(
        default_factory=dict
    )  # job → kind → files, in this run
    cpu_seconds: dict[str, float] = msgspec.field(default_factory=dict)  # by job
    # What a command that is no backfill has done: what → how often.
    actions: dict[str, int] = msgspec.field(default_factory=dict)


class RunRecord(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    tag_field="format",
    tag=FORMAT,
):
    """The record of one run."""

    id: str
    kind: RunKind
    state: RunState
    who: str | None = None  # user@host, or an account in the cloud, as far as it is known
    runner: str | None = None  # of a backfill elsewhere than on this machine, such as Dataflow
    runner_job: str | None = None  # there, as projects/PROJECT/locations/REGION/jobs/ID
    started_at: Time
    updated_at: Time | None = None  # when a backfill on this machine last said that it runs
    ended_at: Time | None = None
    selection: RunSelection
    jobs: tuple[str, ...]  # the targets
    force: bool = False
    retry: bool = False
    ping: bool = False
    counts: RunCounts = RunCounts()
    error: str | None = None  # why it failed
    cancelled_by: str | None = None

    def is_lost(self, now: datetime) -> bool:
        """Whether it says that it runs, but its process must have been killed.

        Of a run on another runner this is not known.
        """
        is_running = self.state is RunState.RUNNING and self.runner is None
        return is_running and now - (self.updated_at or self.started_at) > LOST


def find_user() -> str:
    """Return the user and the machine of this process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = str(os.getuid())
    return format_name(f"{user}@{socket.gethostname()}")


def is_run_id(text: str) -> bool:
    """Whether a text may be the id of a run; none leads out of the folder of the records."""
    return ID.fullmatch(text) is not None


def format_run_name(run: str) -> str:
    """Return the name of a run's record, relative to the artifacts' location."""
    if not is_run_id(run):
        raise ConfigurationError(
            f"{run!r} is not the id of a run; use the one that 'segue backfill' or 'segue request' "
            "printed"
        )
    return f"{FOLDER}/{run}.json"


def encode_run(run: RunRecord) -> bytes:
    """Return a record's bytes; equal records have equal bytes."""
    return msgspec.json.encode(run, order="deterministic")


def save_run(artifacts: ObjectStore, run: RunRecord, *, replace: bool = False) -> bool:
    """Write a record; return False if there is one with its id, and it is not to be replaced."""
    return artifacts.create(
        format_run_name(run.id),
        encode_run(run),
        content_type="application/json",
        metadata={},
        replace=replace,
    )


_decode = msgspec.json.Decoder(RunRecord).decode


def load_run(artifacts: ObjectStore, run: str) -> RunRecord:
    """Load a record, or raise ``MissingInput``."""
    name = format_run_name(run)
    data = artifacts.read(name)
    try:
        return _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigurationError(
            f"the record {artifacts.uri(name)} cannot be read as format {FORMAT} ({error}); start "
            "the run again"
        ) from error
