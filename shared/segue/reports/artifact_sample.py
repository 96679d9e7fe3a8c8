"""Looks at a few results of the ledger: are their artifacts, and the files themselves, still there?

A folder that was moved or removed loses all of them at once, so few are enough to notice.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from segue.errors import MissingInput
from segue.model.graph import Graph
from segue.model.ledger import Ledger, Query
from segue.model.media_file import parse_location
from segue.model.object_store import ObjectStore
from segue.model.record import Record
from segue.model.transitions import find_current

FILES = 10  # to look at


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactSample:
    """How many artifacts and files were looked at, and are gone."""

    artifacts: int = 0
    artifacts_gone: int = 0
    files: int = 0
    files_gone: int = 0


def look_at_artifacts(
    ledger: Ledger, artifacts: ObjectStore, graph: Graph, prefix: str = ""
) -> ArtifactSample:
    """Look at the artifacts of the first few files, with one call to the ledger.

    Only what is in folders is looked at: a bucket does not move, and would cost calls.
    """
    records = ledger.find(Query(prefix=prefix, deleted=False), limit=FILES)
    is_folder = parse_location(graph.artifacts).startswith("file://")
    names = _list_names(graph, records) if is_folder else ()
    found = [_exists(artifacts, name) for name in names]
    paths = [r.uri.removeprefix("file://") for r in records if r.uri.startswith("file://")]
    return ArtifactSample(
        artifacts=len(found),
        artifacts_gone=found.count(False),
        files=len(paths),
        files_gone=sum(not os.path.exists(path) for path in paths),
    )


def _list_names(graph: Graph, records: list[Record]) -> Iterator[str]:
    """Yield the name of an artifact for each record that has a current result."""
    for record in records:
        current = (find_current(graph, record, job) for job in graph.jobs)
        names = (
            name
            for fingerprint in current
            if fingerprint is not None
            for name in record.name_artifacts(fingerprint)
        )
        yield from list(names)[:1]


def _exists(artifacts: ObjectStore, name: str) -> bool:
    try:
        artifacts.stat(name)
    except MissingInput:
        return False
    return True
