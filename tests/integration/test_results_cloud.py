"""Results in a bucket, with a ledger in Firestore, are read as those in a folder."""

from __future__ import annotations

import contextlib
import json
import pickle
import subprocess
import sys

import pytest
from pyarrow import parquet

import segue
from segue.adapters.connect import connect_ledger, connect_store
from segue.errors import ConfigurationError, MissingInput
from segue.model.artifact import compute_checksum
from segue.model.graph import read_graph
from segue.model.ledger import Change
from segue.model.record import Entry, Record, State
from segue_pipelines.export import ExportRun, execute
from segue_pipelines.options import parse_pipeline_options
from segue_support.results import NOW

DATA = b'{"ok":true}'
GRAPH = """
artifacts: gs://{bucket}/features
jobs:
  fine: {{run: "segue_support.jobs:fine", needs: {{media: source}}, writes: application/json}}
"""


@pytest.fixture
def graph(tmp_path, bucket, firestore_url):
    """A graph with the results of three files, of which the second is deleted."""
    path = tmp_path / "jobs.yaml"
    path.write_text(GRAPH.format(bucket=bucket))
    graph = read_graph(str(path), {})
    ledger, store = connect_ledger(firestore_url), connect_store(graph.artifacts)
    fingerprint = graph.fingerprints["fine"]
    for number in range(3):
        record = Record(
            uri=f"gs://{bucket}/music/{number}.wav",
            version="17",
            order=17,
            arrived_at=NOW,
            deleted_at=NOW if number == 1 else None,
            results={
                fingerprint: Entry(
                    job="fine",
                    state=State.DONE,
                    order=17,
                    checksums={"json": compute_checksum(DATA)},
                    finished_at=NOW,
                )
            },
        )
        name = record.name_artifact(fingerprint, "json")
        store.create(name, DATA, content_type="application/json", metadata={})
        ledger.change([Change(uri=record.uri, transition=lambda _, r=record: (r, None))])
    store.close()
    ledger.close()
    return graph


def test_results_in_a_bucket_are_read_and_copied(graph, bucket, firestore_url, tmp_path):
    prefix = f"gs://{bucket}/music"
    first, last = segue.results("fine", prefix=prefix, graph=graph, ledger=firestore_url)
    assert (first.uri, last.uri) == (f"{prefix}/0.wav", f"{prefix}/2.wav")
    assert first.value == {"ok": True}
    assert first.artifact == f"gs://{bucket}/features/{first.name}"
    assert pickle.loads(pickle.dumps(last)).read() == DATA
    with pytest.raises(ConfigurationError, match="is in a bucket and has no path; name a folder"):
        first.path()
    assert first.path(tmp_path / "copy").read_bytes() == DATA
    connect_store(graph.artifacts).delete(first.name)
    with pytest.raises(MissingInput, match="segue backfill --force"):
        first.read()


def test_results_in_a_bucket_are_exported(graph, firestore_url, tmp_path):
    command = ["segue_cli", "export", "fine", "--ledger", firestore_url]
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["uri"][-5:], row["version"], row["ok"]) for row in rows] == [
        ("0.wav", "17", True),
        ("2.wav", "17", True),
    ]


def test_a_pipeline_exports_results_in_a_bucket(graph, bucket, firestore_url, tmp_path):
    """To a folder: the server that stands in for Cloud Storage has no batches, which Beam sends to
    rename files.
    """
    prefix = f"gs://{bucket}/music"
    with contextlib.closing(connect_store(f"gs://{bucket}")) as store:
        for number in range(3):
            store.create(f"music/{number}.wav", b"x", content_type="audio/wav", metadata={})
    run = ExportRun(
        graph=graph,
        references=("fine",),
        ledger=firestore_url,
        prefix=prefix,
        output=str(tmp_path / "out"),
    )
    assert execute(run, parse_pipeline_options(["--direct_num_workers=2"])).rows == 2
    rows = [
        row for path in (tmp_path / "out").iterdir() for row in parquet.read_table(path).to_pylist()
    ]
    assert sorted((row["uri"], row["ok"]) for row in rows) == [
        (f"{prefix}/0.wav", True),
        (f"{prefix}/2.wav", True),
    ]
