"""Parts of a prefix that can be gone through side by side, in a listing and in the ledger alike.

A listing can be split by what it holds; the ledger may hold names that lie in none of these parts.
So the parts are ranges, which leave no gap.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from segue.model.object_store import Object, ObjectStore
from segue.model.shards import Shard


@dataclass(frozen=True, slots=True, kw_only=True)
class NameRange:
    """The names that start with a prefix, behind one name and up to another, that one included."""

    prefix: str
    after: str = ""  # "": from the first
    until: str | None = None  # None: to the last

    def objects(self, store: ObjectStore) -> Iterator[Object]:
        """List the objects, in order."""
        for found in store.list(self.prefix, after=self.after):
            if self.until is not None and found.name > self.until:
                return
            yield found


def ranges(prefix: str, shards: Sequence[Shard]) -> list[NameRange]:
    """Turn the shards of a prefix into ranges that hold each name that starts with it once."""
    borders = [shard.prefix for shard in shards[1:]]
    return [
        NameRange(prefix=prefix, after=after, until=until)
        for after, until in zip(["", *borders], [*borders, None], strict=True)
    ]
