"""What artifacts say of their making, read back from the artifacts themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from segue.adapters.connect import connect_store
from segue.errors import MissingInput
from segue.model.artifact import Lineage
from segue.model.media_file import bucket_location, split_uri
from segue.model.object_store import Object, ObjectStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One artifact, as it is in its store."""

    uri: str
    exists: bool
    size_bytes: int = 0
    lineage: Lineage | None = None  # None where it is missing, or says nothing


class LineageReader:
    """Looks artifacts up by URI; each is asked for once."""

    def __init__(self) -> None:
        self._stores: dict[str, ObjectStore] = {}
        self._found: dict[str, Found] = {}

    def find(self, uri: str) -> Found:
        """Look an artifact up."""
        known = self._found.get(uri)
        if known is None:
            known = self._found[uri] = self._look(uri)
        return known

    def _look(self, uri: str) -> Found:
        location = bucket_location(uri)
        store = self._stores.get(location)
        if store is None:
            store = self._stores[location] = connect_store(location)
        try:
            there: Object = store.stat(split_uri(uri)[1])
        except MissingInput:
            return Found(uri=uri, exists=False)
        lineage = Lineage.from_metadata(there.metadata)
        return Found(uri=uri, exists=True, size_bytes=there.size_bytes, lineage=lineage)

    def trace(self, uris: Iterable[str]) -> Mapping[str, Found]:
        """Look artifacts up, and all that they were made from."""
        traced: dict[str, Found] = {}
        left = list(uris)
        while left:
            uri = left.pop()
            if uri not in traced:
                found = traced[uri] = self.find(uri)
                left += found.lineage.parents.values() if found.lineage else ()
        return traced

    def close(self) -> None:
        """Let go of connections."""
        for store in self._stores.values():
            store.close()
