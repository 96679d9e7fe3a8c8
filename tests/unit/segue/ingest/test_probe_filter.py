"""Files are selected by the probes that are recorded for them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from segue.adapters.connect import connect_store
from segue.errors import ConfigurationError
from segue.ingest.probe_filter import ProbeFilter, find_probe
from segue.model.artifact import compute_checksum
from segue.model.criteria import Criteria
from segue.model.graph import parse_graph
from segue.model.ledger import Snapshot
from segue.model.media_file import MediaFile
from segue.model.record import Entry, Record, State, evolve

NOW = datetime(2026, 1, 2, tzinfo=UTC)
JOB = '{name}: {{run: "{run}", needs: {{media: source}}, writes: {writes}}}'
PROBE = "segue.features.headers:probe"


def graph_of(*jobs: tuple[str, str, str]):
    lines = [JOB.format(name=name, run=run, writes=writes) for name, run, writes in jobs]
    return parse_graph("jobs:\n  " + "\n  ".join(lines))


GRAPH = graph_of(("facts", PROBE, "application/json"))
PRINT = GRAPH.fingerprints["facts"]


def test_the_probe_is_the_job_that_runs_segues_or_one_of_its_name():
    own = ("probe", "m:f", "application/json")
    assert find_probe(graph_of(own, ("facts", PROBE, "application/json"))) == "facts"
    assert find_probe(graph_of(own)) == "probe"


@pytest.mark.parametrize(
    "job", [("beats", "m:f", "application/json"), ("probe", "m:f", "audio/flac")]
)
def test_a_graph_without_a_probe_is_told_what_to_add(job):
    with pytest.raises(ConfigurationError, match=r"add to its jobs: probe: \{run: segue.features"):
        find_probe(graph_of(job))


class Shelf:
    """Artifacts in a folder, and the records of one file."""

    def __init__(self, folder) -> None:
        self.store = connect_store(str(folder))
        self.media = MediaFile(uri="gs://b/a.wav", version="1", order=1)

    def record(self, data: bytes | None = b'{"duration_s": 9}', **more: object) -> Record:
        checksum = compute_checksum(data or b"")
        entry = Entry(job="facts", state=State.DONE, order=1, checksums={"json": checksum})
        record = Record(
            uri=self.media.uri, version="1", order=1, arrived_at=NOW, results={PRINT: entry}
        )
        if data is not None:
            name = record.name_artifact(PRINT, "json")
            self.store.create(name, data, content_type="application/json", metadata={})
        return evolve(record, **more)

    def find(self, *records: Record | None, media: bool = True, **criteria: object):
        probes = ProbeFilter(GRAPH, self.store, Criteria(**criteria or {"min_duration_s": 1}))
        files = [self.media if media else None] * len(records)
        return probes.find_reasons(files, [Snapshot(record=record) for record in records])


@pytest.fixture
def shelf(tmp_path) -> Shelf:
    return Shelf(tmp_path)


def test_a_current_probe_decides(shelf):
    record = shelf.record(b'{"duration_s": 9, "tags": {"genre": "Rock"}, "streams": []}')
    assert shelf.find(record) == [None]
    assert shelf.find(record, min_duration_s=10) == ["duration"]
    assert shelf.find(record, tags={"genre": ("rock",)}) == [None]
    assert shelf.find(record, None, record) == [None, "no_probe", None]


def test_a_probe_of_another_version_or_of_a_deleted_file_is_none(shelf):
    record = shelf.record()
    newer = evolve(record, version="2", order=2)
    assert shelf.find(newer, evolve(record, version="2")) == ["no_probe"] * 2
    assert shelf.find(record, media=False) == [None]  # whichever version it is
    assert shelf.find(evolve(record, deleted_at=NOW)) == ["no_probe"]
    assert shelf.find(evolve(record, results={})) == ["no_probe"]


@pytest.mark.parametrize(
    "data",
    [None, b"", b"[]", b"{", b"\xff", b'{"duration_s": "9"}', b'{"tags": {"a": 1}}', b"[" * 9999],
)
def test_a_probe_that_cannot_be_read_is_none(shelf, data):
    assert shelf.find(shelf.record(data)) == ["no_probe"]


def test_a_probe_that_was_changed_is_none(shelf):
    record = shelf.record()
    name = record.name_artifact(PRINT, "json")
    shelf.store.create(
        name, b'{"duration_s": 8}', content_type="application/json", metadata={}, replace=True
    )
    assert shelf.find(record) == ["no_probe"]


def test_a_damaged_record_decides_nothing(shelf):
    probes = ProbeFilter(GRAPH, shelf.store, Criteria(min_duration_s=1))
    assert probes.find_reasons([shelf.media], [Snapshot(record=None, damage="cut")]) == [None]
