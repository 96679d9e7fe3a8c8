"""A folder with a graph, a ledger in SQLite and artifacts, to read results from."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypedDict

from segue.adapters.connect import connect_ledger, connect_store
from segue.codec import encode, find_extension
from segue.media.audio import Media
from segue.model.artifact import (
    build_artifact_name,
    build_suffix,
    compute_checksum,
    split_output,
)
from segue.model.graph import Graph, read_graph
from segue.model.ledger import Change
from segue.model.media_file import split_uri
from segue.model.record import Entry, Record, State, evolve

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
OLD = "0123456789ab"
GRAPH = f"""
artifacts: artifacts
jobs:
  beats:
    run: segue_support.results:count
    needs: {{media: source}}
    writes: application/json
    equivalents: [{OLD}]
  plain: {{run: "segue_support.jobs:fine", needs: {{media: source}}, writes: application/json}}
  table:
    run: segue_support.jobs:fine
    needs: {{media: source}}
    writes: application/vnd.apache.parquet
  arrays: {{run: "segue_support.jobs:fine", needs: {{media: source}}, writes: application/x-npz}}
  picture: {{run: "segue_support.jobs:fine", needs: {{media: source}}, writes: image/png}}
  absent: {{run: "no_such_module:f", needs: {{media: source}}, writes: application/json}}
  stems:
    run: segue_support.results:separate
    needs: {{media: source}}
    writes: {{vocals: audio/wav, summary: application/json}}
"""


class CountedBeat(TypedDict):
    """A beat."""

    time_s: float
    strength: float | None


class CountedBeats(TypedDict):
    """A result with a field of each kind."""

    tempo_bpm: float | None
    count: int
    level: Literal["quarter", "half"]
    times_s: list[float]
    beats: list[CountedBeat]
    labels: dict[str, float]


def count(media: Media) -> CountedBeats:
    """Declare the result; no test runs it."""
    raise NotImplementedError(media)


class StemSummary(TypedDict):
    """The record of one output."""

    peaks: list[float]


class Stems(TypedDict):
    """A result with two outputs."""

    vocals: Any
    summary: StemSummary


def separate(media: Media) -> Stems:
    """Declare the result; no test runs it."""
    raise NotImplementedError(media)


class ResultWriter:
    """Writes results of files as a worker would."""

    def __init__(self, folder: Path, graph: str = GRAPH) -> None:
        (folder / "jobs.yaml").write_text(graph)
        self.folder = folder
        self.url = f"sqlite:///{folder}/ledger.db"
        self.graph: Graph = read_graph(str(folder / "jobs.yaml"), {})
        self.ledger = connect_ledger(self.url)
        self.artifacts = connect_store(str(folder / self.graph.artifacts))

    def uri(self, name: str) -> str:
        return f"file://{self.folder}/music/{name}"

    def write(
        self,
        name: str,
        version: str = "a1",
        *,
        order: int = 1,
        fingerprint: str | None = None,
        **values: Any,
    ) -> None:
        """Add results to a file's record; ``stems__vocals`` is the output of a job."""
        uri = self.uri(name)
        found = self.ledger.read([uri])[0].record
        results = dict(found.results) if found is not None else {}
        for key, value in values.items():
            job, output = split_output(key.replace("__", "."))
            made = fingerprint or self.graph.fingerprints[job]
            content_type = self.graph.jobs[job].outputs[output]
            data = encode(content_type, value).data
            suffix = build_suffix(output, find_extension(content_type))
            artifact = build_artifact_name(job, made, split_uri(uri)[1], version, suffix)
            self.artifacts.create(artifact, data, content_type=content_type, metadata={})
            old = results.get(made)
            known = old.checksums if old is not None and old.order == order else {}
            results[made] = Entry(
                job=job,
                state=State.DONE,
                order=order,
                checksums={**known, suffix: compute_checksum(data)},
                finished_at=NOW,
            )
        self.put(Record(uri=uri, version=version, order=order, arrived_at=NOW, results=results))

    def delete(self, name: str) -> None:
        found = self.ledger.read([self.uri(name)])[0].record
        assert found is not None
        self.put(evolve(found, deleted_at=NOW))

    def put(self, record: Record) -> None:
        self.ledger.change([Change(uri=record.uri, transition=lambda _: (record, None))])
