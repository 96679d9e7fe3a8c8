"""Reads the lineage of artifacts from their metadata, with all that they were made from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from segue.adapters.connect import connect_store
from segue.errors import MissingInput
from segue.model.artifact import Lineage
from segue.model.media_file import find_bucket_location, split_uri
from segue.model.object_store import Object, ObjectStore


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactStat:
    """Size and lineage of one artifact, if it exists."""

    uri: str
    exists: bool
    size_bytes: int = 0
    lineage: Lineage | None = None  # None if the artifact is missing, or has none


class LineageReader:
    """Looks up artifacts by URI, each once."""

    def __init__(self) -> None:
        self._stores: dict[str, ObjectStore] = {}
        self._found: dict[str, ArtifactStat] = {}

    def find(self, uri: str) -> ArtifactStat:
        """Look up an artifact."""
        known = self._found.get(uri)
        if known is None:
            known = self._found[uri] = self._stat(uri)
        return known

    def _stat(self, uri: str) -> ArtifactStat:
        location = find_bucket_location(uri)
        store = self._stores.get(location)
        if store is None:
            store = self._stores[location] = connect_store(location)
        try:
            found: Object = store.stat(split_uri(uri)[1])
        except MissingInput:
            return ArtifactStat(uri=uri, exists=False)
        lineage = Lineage.from_metadata(found.metadata)
        return ArtifactStat(uri=uri, exists=True, size_bytes=found.size_bytes, lineage=lineage)

    def trace(self, uris: Iterable[str]) -> Mapping[str, ArtifactStat]:
        """Look up artifacts and all that they were made from."""
        traced: dict[str, ArtifactStat] = {}
        left = list(uris)
        while left:
            uri = left.pop()
            if uri not in traced:
                found = traced[uri] = self.find(uri)
                left += found.lineage.parents.values() if found.lineage else ()
        return traced

    def close(self) -> None:
        """Close the connections."""
        for store in self._stores.values():
            store.close()
