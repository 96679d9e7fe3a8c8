"""Splits a prefix into ranges of names that can be read in parallel, in a listing and the ledger.

The shards of a listing follow from what it contains; the ledger may contain names outside all of
them. Ranges leave no gap.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from segue.model.object_store import Object, ObjectStore
from segue.model.shards import Shard


@dataclass(frozen=True, slots=True, kw_only=True)
class NameRange:
    """The names that start with a prefix, after one name up to and including another."""

    prefix: str
    after: str = ""  # "": from the first
    until: str | None = None  # None: to the last

    def list_objects(self, store: ObjectStore) -> Iterator[Object]:
        """List the objects, in order."""
        for found in store.list(self.prefix, after=self.after):
            if self.until is not None and found.name > self.until:
                return
            yield found


def shards_to_ranges(prefix: str, shards: Sequence[Shard]) -> list[NameRange]:
    """Return ranges that together contain each name with the prefix exactly once."""
    borders = [shard.prefix for shard in shards[1:]]
    return [
        NameRange(prefix=prefix, after=after, until=until)
        for after, until in zip(["", *borders], [*borders, None], strict=True)
    ]
