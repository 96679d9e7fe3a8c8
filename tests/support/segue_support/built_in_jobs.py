"""Runs all built-in jobs on a folder of files, in any Python that has the extra ``audio``.

``python -m segue_support.built_in_jobs CATALOGUE ARTIFACTS``
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from segue.adapters.connect import connect_store
from segue.model.graph import read_graph
from segue.model.record import State
from segue.model.shipped_graphs import DEFAULT_PATH
from segue.worker.pool import Pool
from segue.worker.protocol import Task
from segue_support.paths import ROOT

RUN_S = 300.0


def compute_artifacts(
    python: str, catalogue: Path, artifacts: Path, environ: Mapping[str, str]
) -> dict[str, bytes]:
    """Run the jobs with a Python and a few more variables; return the artifacts by name."""
    sources = [os.path.join(ROOT, *folder) for folder in (("shared",), ("tests", "support"))]
    given = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    done = subprocess.run(
        [python, "-m", "segue_support.built_in_jobs", str(catalogue), str(artifacts)],
        env={**given, "PYTHONPATH": os.pathsep.join(sources), **environ},
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    files = [path for path in artifacts.rglob("*") if path.is_file()]
    return {str(path.relative_to(artifacts)): path.read_bytes() for path in files}


def main(catalogue: str, artifacts: str) -> None:
    """Run the jobs in one child process; raise if one of them fails."""
    graph = read_graph(DEFAULT_PATH, {})
    with (
        contextlib.closing(connect_store(catalogue)) as store,
        Pool(graph, artifacts, processes=1) as pool,
    ):
        found = [store.identify(one.name) for one in store.list("")]
        files = [one.to_media_file(store.uri(one.name)) for one in found]
        pool.submit(
            [Task(task_id=i, media=file, run=tuple(graph.jobs)) for i, file in enumerate(files)]
        )
        while pool.pending:
            for report in pool.collect(1.0):
                for result in report.results:
                    if result.state is not State.DONE:
                        raise SystemExit(f"{result.job}: {result.error}")


if __name__ == "__main__":
    main(*sys.argv[1:])
