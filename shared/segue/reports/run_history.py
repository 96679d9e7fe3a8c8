"""Reads the records of past and present runs, which are beside the artifacts."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from segue.errors import ConfigurationError, MissingInput
from segue.ingest.observation import map_in_threads
from segue.model.object_store import ObjectStore
from segue.model.run import FOLDER, RunRecord, RunState, is_run_id, load_run

LOST_STATE = "lost"
SHORT = 8  # characters at the end of an id, by which people may name a run


@dataclass(frozen=True, slots=True, kw_only=True)
class RunHistory:
    """The newest runs, and how many of all there are."""

    runs: tuple[RunRecord, ...]  # newest first
    total: int
    unreadable: tuple[str, ...] = ()  # why some records cannot be read


def list_runs(artifacts: ObjectStore, limit: int) -> RunHistory:
    """Return the newest runs; all names are listed, and only so many records are read."""
    total, newest = 0, deque[str](maxlen=limit)
    for run in _list_ids(artifacts):
        total += 1
        newest.append(run)
    unreadable: list[str] = []

    def load(run: str) -> RunRecord | None:
        try:
            return load_run(artifacts, run)
        except MissingInput:  # it was removed meanwhile
            return None
        except ConfigurationError as error:
            unreadable.append(str(error))
            return None

    found = map_in_threads(load, list(reversed(newest)))
    return RunHistory(
        runs=tuple(run for run in found if run is not None),
        total=total,
        unreadable=tuple(sorted(unreadable)),
    )


def find_run(artifacts: ObjectStore, name: str) -> RunRecord:
    """Return the record of a run, which is named by its id or by how that ends.

    Raises
    ------
    ConfigurationError
        If there is none, or several have such an id; or its record cannot be read.
    """
    if is_run_id(name):
        try:
            return load_run(artifacts, name)
        except MissingInput:
            pass
    found = [run for run in _list_ids(artifacts) if run.endswith(f"-{name}")]
    if len(found) == 1:
        return load_run(artifacts, found[0])
    if found:
        raise ConfigurationError(
            f"{len(found)} runs have ids that end with {name!r}; name one of {', '.join(found)}"
        )
    raise ConfigurationError(
        f"there is no run {name!r} in {artifacts.location}; 'segue runs' lists those that there "
        "are, and --artifacts sets another place"
    )


def _list_ids(artifacts: ObjectStore) -> Iterator[str]:
    """Yield the ids of all runs, from the oldest to the newest."""
    for found in artifacts.list(f"{FOLDER}/"):
        run = found.name.removeprefix(f"{FOLDER}/").removesuffix(".json")
        if is_run_id(run) and found.name.endswith(".json"):
            yield run


def shorten_id(run: str) -> str:
    """Return how an id ends: enough to name one of a few thousand runs."""
    _, _, end = run.rpartition("-")
    return end if len(end) == SHORT else run


def describe_state(run: RunRecord, now: datetime) -> str:
    """Return the state of a run: ``lost`` if it says that it runs, and its process is gone."""
    return LOST_STATE if run.is_lost(now) else str(run.state)


def measure_duration_s(run: RunRecord, now: datetime) -> float | None:
    """Return how long a run has taken so far, in seconds; None if that is not known.

    Of one that was lost, until its process was last heard of. Of a request, the ledger knows.
    """
    if run.state is RunState.ACCEPTED:
        return None
    until = run.ended_at
    if until is None:
        until = (run.updated_at or run.started_at) if run.is_lost(now) else now
    return max(0.0, (until - run.started_at).total_seconds())


def sum_vcpu_hours(run: RunRecord) -> float:
    """Return the processor time that a run's jobs have used, in vCPU-hours."""
    return sum(run.counts.cpu_seconds.values()) / 3600
