"""Runs jobs on files in a real pool of child processes, and returns the results, for tests."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from segue.adapters.connect import connect_store
from segue.model.media_file import MediaFile
from segue.worker.pool import Pool
from segue.worker.protocol import Task

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from segue.model.graph import Graph
    from segue.model.transitions import Result

COLLECT_TIMEOUT_S = 60.0


class Trial:
    """A folder with media files, and a folder with their artifacts."""

    def __init__(self, folder: str) -> None:
        self.catalogue = os.path.join(folder, "catalogue")
        self.artifacts = os.path.join(folder, "artifacts")
        os.makedirs(self.catalogue)

    def add(self, name: str, data: bytes = b"sound") -> MediaFile:
        """Write a file into the catalogue, and return the new version."""
        store = connect_store(self.catalogue)
        store.create(name, data, content_type="audio/wav", metadata={}, replace=True)
        return store.identify(name).to_media_file(store.uri(name))

    def pool(self, graph: Graph, **options: float | str) -> Pool:
        """Open a pool; by default, first calls get no extra time."""
        return Pool(graph, self.artifacts, **{"warmup_s": 0.0, **options})  # type: ignore[arg-type]

    def run(
        self,
        graph: Graph,
        files: Sequence[MediaFile],
        *,
        run: Sequence[str] | None = None,
        inputs: Mapping[str, str] | None = None,
        **options: float,
    ) -> list[dict[str, Result]]:
        """Run jobs (by default all) on files; return the result of each job for each file."""
        with self.pool(graph, **options) as pool:
            return run_tasks(
                pool,
                [
                    Task(
                        task_id=number,
                        media=media,
                        run=tuple(run or graph.jobs),
                        inputs=inputs or {},
                    )
                    for number, media in enumerate(files)
                ],
            )

    def read(self, result: Result) -> bytes:
        """Return the bytes of an artifact."""
        store = connect_store(self.artifacts)
        (name,) = result.artifacts
        return store.read(name)


def run_tasks(pool: Pool, tasks: Sequence[Task]) -> list[dict[str, Result]]:
    """Run tasks until they are finished; return the result of each job for each task."""
    by_task: dict[int, dict[str, Result]] = {task.task_id: {} for task in tasks}
    pool.submit(tasks)
    while pool.pending:
        reports = pool.collect(COLLECT_TIMEOUT_S)
        if not reports and pool.pending:
            raise TimeoutError(f"{pool.pending} tasks were not finished in {COLLECT_TIMEOUT_S:g} s")
        for report in reports:
            for result in report.results:
                if result.job in by_task[report.task_id]:
                    raise AssertionError(
                        f"{result.job!r} of task {report.task_id} was reported twice"
                    )
                by_task[report.task_id][result.job] = result
    return [by_task[task.task_id] for task in tasks]
