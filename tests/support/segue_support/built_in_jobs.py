"""Runs all built-in jobs on a folder of files, in any Python that has the extra ``audio``.

``python -m segue_support.built_in_jobs CATALOGUE ARTIFACTS``
"""

from __future__ import annotations

import contextlib
import sys

from segue.adapters.connect import connect_store
from segue.model.graph import read_graph
from segue.model.record import State
from segue.stack import SHIPPED_GRAPH
from segue.worker.pool import Pool
from segue.worker.protocol import Task


def main(catalogue: str, artifacts: str) -> None:
    """Run the jobs in one child process; raise if one of them fails."""
    graph = read_graph(SHIPPED_GRAPH, {})
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
