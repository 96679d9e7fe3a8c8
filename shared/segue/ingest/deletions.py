"""Deletions: a file leaves a tombstone, and by policy its artifacts are removed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from segue.errors import ConfigurationError
from segue.model.artifact import parse_artifact_name
from segue.model.ledger import Change, Ledger, delete
from segue.model.media_file import MediaFile
from segue.model.object_store import ObjectStore
from segue.model.record import Record


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deleted:
    """What a deletion did."""

    buried: bool  # False: there was a tombstone already, or a newer version is there
    removed: int = 0  # artifacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletions:
    """Takes in deletions of versions of files."""

    ledger: Ledger
    artifacts: ObjectStore | None = None  # None: artifacts are kept, until somebody collects them
    clock: Callable[[], datetime] = _utc_now

    def take(self, media: MediaFile) -> Deleted:
        """Leave a tombstone; a repeated event removes what the first one left."""
        now = self.clock()
        changed = self.ledger.change([Change(uri=media.uri, transition=_deleting(media, now))])[0]
        record = changed.snapshot.record
        if record is None or record.deleted_at is None or record.generation > media.generation:
            return Deleted(buried=False)
        return Deleted(buried=changed.answer, removed=self._remove(record))

    def _remove(self, record: Record) -> int:
        """Remove artifacts of all versions of the file, by the jobs' versions in the record."""
        if self.artifacts is None:
            return 0
        store, removed = self.artifacts, 0
        where = store.uri("x").removesuffix("x")
        for entry in record.jobs.values():
            if entry.artifact is None or not entry.artifact.startswith(where):
                continue
            folder = entry.artifact.removeprefix(where).rpartition("/")[0] + "/"
            for found in list(store.list(folder)):
                if _is_of(found.name, folder, record.generation):
                    removed += store.delete(found.name, generation=found.generation)
        return removed


def _is_of(name: str, folder: str, generation: int) -> bool:
    """Whether an object is an artifact in just that folder, of no newer version of the file."""
    try:
        parsed = parse_artifact_name(name)
    except ConfigurationError:
        return False
    return name.rpartition("/")[0] + "/" == folder and parsed.generation <= generation


def _deleting(
    media: MediaFile, now: datetime
) -> Callable[[Record | None], tuple[Record | None, bool]]:
    return lambda found: delete(found, media, now)
