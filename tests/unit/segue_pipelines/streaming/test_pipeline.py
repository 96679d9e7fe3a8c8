"""The streaming pipeline on Beam's local runner, in this process."""

from __future__ import annotations

import os
import signal

import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from segue.execution.streaming_run import StreamingRun, open_stream_worker
from segue.model.graph import read_graph
from segue_pipelines.streaming import pipeline
from segue_pipelines.streaming.process_cache import ProcessCache

pytestmark = pytest.mark.slow

GRAPH = """
jobs:
  a: {run: "segue_support.jobs:fine", needs: {media: source}, writes: application/json}
"""


def build_run(folder) -> StreamingRun:
    (folder / "jobs.yaml").write_text(GRAPH)
    return StreamingRun(
        graph=read_graph(str(folder / "jobs.yaml")),
        pipelines=("a",),
        ledger=f"sqlite:///{folder}/ledger.db",
        queue=f"sqlite:///{folder}/queue.db",
        artifacts=str(folder / "artifacts"),
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_the_pipeline_runs_ends_it_without_an_error(tmp_path, monkeypatch, number):
    run, signalled = build_run(tmp_path), []

    def open_and_signal(run, stack):
        os.kill(os.getpid(), number)
        signalled.append(number)  # nothing is raised in the middle of what is opened
        return open_stream_worker(run, stack)

    monkeypatch.setattr(pipeline, "stream_workers", ProcessCache(open_and_signal))
    pipeline.execute(run, PipelineOptions([], streaming=True))
    assert signalled == [number]
