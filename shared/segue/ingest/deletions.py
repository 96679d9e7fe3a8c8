"""Deletions: record a tombstone for a deleted file, and remove its artifacts if so configured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from segue.clock import Clock, utc_now
from segue.errors import ConfigurationError
from segue.model.artifact import parse_artifact_name
from segue.model.ledger import Change, Ledger
from segue.model.media_file import MediaFile
from segue.model.object_store import ObjectStore
from segue.model.record import Record
from segue.model.transitions import delete


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletionResult:
    """The effect of a deletion."""

    is_new: bool  # False: there was a tombstone already, or a newer version is there
    removed: int = 0  # artifacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletions:
    """Records deletions of versions of files."""

    ledger: Ledger
    artifacts: ObjectStore | None = None  # None: artifacts are kept, until 'segue gc'
    clock: Clock = utc_now

    def record(self, media: MediaFile) -> DeletionResult:
        """Record a tombstone; a repeated event removes the artifacts that the first one left."""
        now = self.clock()
        changed = self.ledger.change(
            [Change(uri=media.uri, transition=_build_deletion(media, now))]
        )[0]
        record = changed.snapshot.record
        if record is None or record.deleted_at is None or record.generation > media.generation:
            return DeletionResult(is_new=False)
        return DeletionResult(is_new=changed.answer, removed=self._remove(record))

    def _remove(self, record: Record) -> int:
        """Remove artifacts of all versions of the file, by the jobs' versions in the record."""
        if self.artifacts is None:
            return 0
        store, removed = self.artifacts, 0
        location = store.uri("x").removesuffix("x")
        for entry in record.jobs.values():
            if entry.artifact is None or not entry.artifact.startswith(location):
                continue
            folder = entry.artifact.removeprefix(location).rpartition("/")[0] + "/"
            for found in list(store.list(folder)):
                if _is_artifact(found.name, folder, record.generation):
                    removed += store.delete(found.name, generation=found.generation)
        return removed


def _is_artifact(name: str, folder: str, generation: int) -> bool:
    """Return whether an object is an artifact in just that folder, of no newer generation."""
    try:
        parsed = parse_artifact_name(name)
    except ConfigurationError:
        return False
    return name.rpartition("/")[0] + "/" == folder and parsed.generation <= generation


def _build_deletion(
    media: MediaFile, now: datetime
) -> Callable[[Record | None], tuple[Record | None, bool]]:
    return lambda found: delete(found, media, now)
