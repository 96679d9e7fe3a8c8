"""The command line in a folder of its own, with a small graph and a ledger to look at."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from segue.adapters.connect import connect_ledger, connect_store
from segue.model.artifact import Lineage, build_artifact_name, compute_checksum
from segue.model.graph import Graph, read_graph
from segue.model.ledger import Change, Ledger
from segue.model.media_file import MediaFile, split_uri
from segue.model.record import Entry, Failure, Record, State, evolve
from segue_cli.main import main

GRAPH = """
artifacts: artifacts
jobs:
  fine: {run: "segue_support.jobs:fine", needs: {media: source}, writes: application/json}
  after: {run: "segue_support.jobs:after", needs: {value: fine}, writes: application/json}
  beside: {run: "segue_support.jobs:fine", needs: {media: source}, writes: application/json}
"""
LEDGER = "sqlite:///ledger.db"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Said:
    """The exit code and output of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Segue = Callable[..., Said]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The working folder, with no setting in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in ("GRAPH", "CATALOGUE", "ARTIFACTS", "LEDGER", "QUEUE", "DEBUG"):
        monkeypatch.delenv(f"SEGUE_{name}", raising=False)
    monkeypatch.setenv("NO_COLOR", "")
    return tmp_path


@pytest.fixture
def segue(folder, capfd) -> Segue:
    """Run a command in this process."""

    def run(*arguments: str) -> Said:
        capfd.readouterr()
        code = main(arguments)
        out, err = capfd.readouterr()
        return Said(code, out, err)

    return run


class Project:
    """A graph, media files, artifacts and a ledger."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "jobs.yaml").write_text(GRAPH)
        (folder / "music").mkdir()
        self.graph: Graph = read_graph("jobs.yaml", {})
        self.ledger: Ledger = connect_ledger(LEDGER)
        self.artifacts = connect_store("artifacts")

    def change_graph(self, text: str) -> None:
        (self.folder / "jobs.yaml").write_text(text)

    def media(self, name: str, data: bytes = b"sound") -> MediaFile:
        """Create a media file."""
        store = connect_store("music")
        store.create(name, data, content_type="audio/wav", metadata={}, replace=True)
        return store.identify(name).to_media_file(store.uri(name))

    def write(
        self, job: str, media: MediaFile, fingerprint: str | None = None, **parents: str
    ) -> str:
        """Write an artifact, and return its name."""
        made = fingerprint or self.graph.fingerprints[job]
        name = build_artifact_name(job, made, split_uri(media.uri)[1], media.version, "json")
        lineage = Lineage(
            job=job, fingerprint=made, uri=media.uri, version=media.version, parents=parents
        )
        self.artifacts.create(
            name, b"{}", content_type="application/json", metadata=lineage.to_metadata()
        )
        return name

    def entry(self, job: str, media: MediaFile, state: State = State.DONE, **more: Any) -> Entry:
        """Build an entry about a version of a file."""
        checksums = {"json": compute_checksum(b"{}")} if state is State.DONE else {}
        entry = Entry(job=job, state=state, order=media.order or 1, checksums=checksums, attempts=1)
        return evolve(entry, **more)

    def failed(self, job: str, media: MediaFile, kind: str = "timeout", **more: Any) -> Entry:
        error = Failure(kind=kind, type="Error", message=f"{media.uri}: it took too long")
        return self.entry(job, media, State.FAILED, **{"error": error, **more})

    def blocked(self, job: str, media: MediaFile, cause: str) -> Entry:
        error = Failure(kind="blocked", type=cause, message=f"{cause!r} above it failed")
        return self.entry(job, media, State.BLOCKED, error=error, attempts=0)

    def record(self, media: MediaFile, results: dict[str, Entry], **more: Any) -> Record:
        """Put a record into the ledger; a job's name stands for its fingerprint."""
        record = Record(
            uri=media.uri,
            version=media.version,
            order=media.order or 1,
            stat=media.stat,
            size_bytes=media.size_bytes,
            arrived_at=NOW,
            results={self.graph.fingerprints.get(key, key): e for key, e in results.items()},
        )
        record = evolve(record, **more)
        self.ledger.change([Change(uri=media.uri, transition=lambda _: (record, None))])
        return record

    def known(self, media: MediaFile) -> Record:
        """Return the record of a file in the ledger."""
        found = self.ledger.read([media.uri])[0].record
        assert found is not None
        return found

    def results(self, media: MediaFile) -> dict[str, Entry]:
        """Return the entries of a file in the ledger by job, as the graph now defines them."""
        found = self.known(media).results
        return {j: found[f] for j, f in self.graph.fingerprints.items() if f in found}


@pytest.fixture
def project(folder) -> Iterator[Project]:
    made = Project(folder)
    yield made
    made.ledger.close()
