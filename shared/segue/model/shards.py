"""Splits a prefix into parts that can be listed in parallel, using the names in the store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from segue.model.object_store import Object, ObjectStore

ENOUGH = 64
MAX_PROBES = 2_000  # each is one request
LAST = "\U0010ffff"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """The objects whose names start with a prefix or, if ``exact``, equal it."""

    prefix: str
    exact: bool = False

    def list_objects(self, store: ObjectStore) -> Iterator[Object]:
        """List the objects."""
        for found in store.list(self.prefix):
            if self.exact and found.name != self.prefix:
                return
            yield found


def split(store: ObjectStore, whole: Shard, *, enough: int = ENOUGH) -> list[Shard]:
    """Split a shard by the names' next character, repeatedly, until there are enough parts.

    The parts hold each object exactly once. A long common beginning costs one or two probes per
    character. As the distribution of names is unknown, the parts may differ in size.
    """
    shards, probes = [whole], 0
    while len(shards) < enough and probes < MAX_PROBES:
        finer: list[Shard] = []
        for shard in shards:
            if shard.exact:
                finer.append(shard)
                continue
            parts = _by_next_character(store, shard.prefix)
            probes += len(parts) + 1
            finer += parts
        if finer == shards:
            break
        shards = finer
    return shards


def _by_next_character(store: ObjectStore, prefix: str) -> list[Shard]:
    parts: list[Shard] = []
    after = ""
    while (found := next(iter(store.list(prefix, after=after)), None)) is not None:
        if found.name == prefix:
            parts.append(Shard(prefix=prefix, exact=True))
            after = prefix
        else:
            part = found.name[: len(prefix) + 1]
            parts.append(Shard(prefix=part))
            after = part + LAST
    return parts
