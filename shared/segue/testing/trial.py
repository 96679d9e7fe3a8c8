"""Tries jobs out: files run through a real pool of child processes, and what became of each."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from segue.adapters.connect import connect_store
from segue.model.media_file import MediaFile
from segue.worker.pool import Pool
from segue.worker.task import Task

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from segue.model.graph import Graph
    from segue.model.ledger import Result

PATIENCE_S = 60.0


class Trial:
    """A folder with files, and a folder with what jobs make of them."""

    def __init__(self, folder: str) -> None:
        self.catalogue = os.path.join(folder, "catalogue")
        self.artifacts = os.path.join(folder, "artifacts")
        os.makedirs(self.catalogue)

    def add(self, name: str, data: bytes = b"sound") -> MediaFile:
        """Write a file into the catalogue, and return its newest version."""
        store = connect_store(self.catalogue)
        store.create(name, data, content_type="audio/wav", metadata={}, replace=True)
        found = store.stat(name)
        return MediaFile(
            uri=store.uri(name), generation=found.generation, size_bytes=found.size_bytes
        )

    def pool(self, graph: Graph, **options: float) -> Pool:
        """Open a pool; first calls get no more time than others unless the options say so."""
        return Pool(graph, self.artifacts, **{"warmup_s": 0.0, **options})  # type: ignore[arg-type]

    def run(
        self,
        graph: Graph,
        files: Sequence[MediaFile],
        *,
        run: Sequence[str] | None = None,
        inputs: Mapping[str, str] | None = None,
        force: Sequence[str] = (),
        **options: float,
    ) -> list[dict[str, Result]]:
        """Run jobs (by default all) on files; for each file, the result of each job."""
        with self.pool(graph, **options) as pool:
            return finish(
                pool,
                [
                    Task(
                        ticket=number,
                        media=media,
                        run=tuple(run or graph.jobs),
                        inputs=inputs or {},
                        force=tuple(force),
                    )
                    for number, media in enumerate(files)
                ],
            )

    def read(self, result: Result) -> bytes:
        """Return the bytes of an artifact."""
        store = connect_store(self.artifacts)
        assert result.artifact is not None
        return store.read(result.artifact.removeprefix(f"{store.location}/"))


def finish(pool: Pool, tasks: Sequence[Task]) -> list[dict[str, Result]]:
    """Submit tasks, and collect until they are finished; for each task, the result of each job."""
    told: dict[int, dict[str, Result]] = {task.ticket: {} for task in tasks}
    pool.submit(tasks)
    while pool.pending:
        reports = pool.collect(PATIENCE_S)
        if not reports and pool.pending:
            raise TimeoutError(f"{pool.pending} tasks were not finished in {PATIENCE_S:g} s")
        for report in reports:
            for result in report.results:
                if result.job in told[report.ticket]:
                    raise AssertionError(f"{result.job!r} of task {report.ticket} was told twice")
                told[report.ticket][result.job] = result
    return [told[task.ticket] for task in tasks]
