"""A pool works inside Beam's own worker processes, which start Python in their own way."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from segue_support.paths import ROOT

FILES = 12
PIPELINE = """
import sys
import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

class Run(beam.DoFn):
    def __init__(self, folder):
        self.folder = folder

    def setup(self):
        from segue.model.graph import parse_graph
        from segue.worker.pool import Pool
        job = "{run: 'segue_support.jobs:Model', needs: {media: source}, writes: application/json}"
        self.pool = Pool(parse_graph("jobs: {job: " + job + "}"), self.folder + "/artifacts")

    def process(self, number):
        from segue.adapters.connect import connect_store
        from segue_support.trial import run_tasks
        from segue.worker.protocol import Task
        name = f"{number}.wav"
        open(f"{self.folder}/{name}", "w").close()
        store = connect_store(self.folder)
        media = store.identify(name).to_media_file(store.uri(name))
        [found] = run_tasks(self.pool, [Task(task_id=number, media=media, run=("job",))])
        yield from found["job"].artifacts

    def teardown(self):
        self.pool.close()

if __name__ == "__main__":
    folder, mode = sys.argv[1:]
    options = PipelineOptions(["--direct_running_mode=" + mode, "--direct_num_workers=2"])
    with beam.Pipeline(runner="FnApiRunner", options=options) as pipeline:
        numbers = pipeline | beam.Create(range(%d)) | beam.Reshuffle()
        numbers | beam.ParDo(Run(folder)) | beam.io.WriteToText(folder + "/names")
"""


@pytest.mark.parametrize("mode", ["multi_threading", "multi_processing"])
def test_jobs_run_in_children_of_beams_workers(tmp_path: Path, mode: str) -> None:
    script = tmp_path / "pipeline.py"
    script.write_text(PIPELINE % FILES)
    ran = subprocess.run(
        [sys.executable, str(script), str(tmp_path), mode],
        check=False,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    names = [line for path in tmp_path.glob("names*") for line in path.read_text().split()]
    assert len(set(names)) == FILES
    results = [json.loads((tmp_path / "artifacts" / name).read_text()) for name in names]
    assert {t["setups"] for t in results} == {1}
    assert len({t["process"] for t in results}) < FILES
