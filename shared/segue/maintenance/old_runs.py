"""Removes the records of runs that nobody will ask about any more."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from segue.model.object_store import Object, ObjectStore
from segue.model.run import FOLDER, format_run_name, is_run_id

KEPT = timedelta(days=365)


def find_old_runs(artifacts: ObjectStore, now: datetime) -> Iterator[Object]:
    """Yield the records that were last written more than a year ago, and no other object."""
    before = (now - KEPT).timestamp()
    for found in artifacts.list(f"{FOLDER}/"):
        run = found.name.removeprefix(f"{FOLDER}/").removesuffix(".json")
        if is_run_id(run) and found.name == format_run_name(run) and found.updated_at < before:
            yield found


def remove_old_runs(artifacts: ObjectStore, now: datetime) -> int:
    """Delete the old records; return how many there were."""
    old = list(find_old_runs(artifacts, now))
    return sum(artifacts.delete(found.name, generation=found.generation) for found in old)
