"""Reads what recorded probes say of files, and selects files by it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from segue.errors import ConfigurationError, MissingInput
from segue.ingest.observation import map_in_threads
from segue.model.artifact import compute_checksum
from segue.model.criteria import Criteria, MediaFacts, Unselected
from segue.model.graph import Graph
from segue.model.ledger import Snapshot
from segue.model.media_file import MediaFile
from segue.model.object_store import ObjectStore
from segue.model.record import Record
from segue.model.transitions import find_current

PROBE = "segue.features.headers:probe"
NAME = "probe"
JSON = "application/json"
SUFFIX = "json"

_decode_facts = msgspec.json.Decoder(MediaFacts).decode


def find_probe(graph: Graph) -> str:
    """Return the job whose results have durations and tags.

    It is the one that runs Segue's probe, else one of the name ``probe`` that writes JSON.

    Raises
    ------
    ConfigurationError
        If the graph has none.
    """
    for job in graph.jobs.values():
        if job.run == PROBE and job.writes == JSON:
            return job.name
    own = graph.jobs.get(NAME)
    if own is not None and own.writes == JSON:
        return NAME
    raise ConfigurationError(
        "durations and tags are selected by the results of the job 'probe', which this graph has "
        f"not; add to its jobs: probe: {{run: {PROBE}, needs: {{media: source}}, writes: {JSON}}}"
    )


class ProbeFilter:
    """Selects files by their current probes, many at once.

    Parameters
    ----------
    graph : Graph
    artifacts : ObjectStore
    criteria : Criteria
        They need a probe.
    """

    def __init__(self, graph: Graph, artifacts: ObjectStore, criteria: Criteria) -> None:
        self.job = find_probe(graph)
        self._graph = graph
        self._artifacts = artifacts
        self._criteria = criteria

    def find_reasons(
        self, files: Sequence[MediaFile | None], snapshots: Sequence[Snapshot]
    ) -> list[Unselected | None]:
        """Return why each file is not selected, by its record as it was read.

        A probe counts if it is of this version of the file; with None in place of the file, of the
        version that the record is about. A record that is damaged decides nothing: its file is
        selected, so that it is reported.

        Raises
        ------
        Unavailable
            If the artifacts cannot be reached.
        """
        records = [
            _check_record(media, one.record) for media, one in zip(files, snapshots, strict=True)
        ]
        facts = map_in_threads(self._read_facts, records)
        return [
            None if one.damage is not None else self._criteria.find_reason_by_probe(found)
            for one, found in zip(snapshots, facts, strict=True)
        ]

    def _read_facts(self, record: Record | None) -> MediaFacts | None:
        """Return what the probe of a file says; None if it has none that can be read."""
        fingerprint = find_current(self._graph, record, self.job) if record is not None else None
        if record is None or fingerprint is None:
            return None
        try:
            data = self._artifacts.read(record.name_artifact(fingerprint, SUFFIX))
            if compute_checksum(data) != record.results[fingerprint].checksums.get(SUFFIX):
                return None
            return _decode_facts(data)
        except (MissingInput, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None


def _check_record(media: MediaFile | None, record: Record | None) -> Record | None:
    """Return the record if it is about this version of the file."""
    if record is None or record.deleted_at is not None:
        return None
    return record if media is None or media.version == record.version else None
