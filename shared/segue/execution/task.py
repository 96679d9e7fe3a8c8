"""The task of a file's claimed jobs, for the worker that runs them."""

from __future__ import annotations

from segue.execution.foreign import find_inputs
from segue.execution.work import Work
from segue.model.artifact import build_references
from segue.model.graph import Graph
from segue.model.media_file import MediaFile
from segue.model.record import Record, evolve
from segue.model.transitions import find_current
from segue.worker.protocol import Task


def build_task(task_id: int, graph: Graph, work: Work) -> Task:
    """Build the task of a file's claimed jobs."""
    record, planned = work.record, work.plan
    assert record is not None
    assert planned is not None
    inputs, checksums = find_inputs(graph, planned.run, work.foreign)
    for parent in {p for job in planned.run for p in graph.jobs[job].parents}:
        if parent in planned.run or parent not in graph.jobs:
            continue
        fingerprint = find_current(graph, record, parent)
        if fingerprint is None:
            continue
        names = record.name_artifacts(fingerprint)
        artifacts = dict(zip(names, record.results[fingerprint].checksums.values(), strict=True))
        for reference, name, checksum in build_references(parent, artifacts):
            inputs[reference], checksums[reference] = name, checksum
    return Task(
        task_id=task_id,
        media=replace_version(work.media, record),
        run=planned.run,
        inputs=inputs,
        checksums=checksums,
        owner=work.owner,
    )


def replace_version(media: MediaFile, record: Record) -> MediaFile:
    """Return a file with the order and the ``stat`` that the ledger has of it."""
    return evolve(media, order=record.order, stat=record.stat)
