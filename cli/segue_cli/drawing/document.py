"""The graph as a document for programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from segue.model.graph import Graph, Job


def document(graph: Graph) -> dict[str, Any]:
    """All that the graph says, and what follows from it."""
    return {
        "path": graph.path,
        "catalogue": graph.catalogue,
        "artifacts": graph.artifacts,
        "include": list(graph.include),
        "jobs": [_job(graph, job) for job in graph.jobs.values()],
    }


def _job(graph: Graph, job: Job) -> dict[str, Any]:
    return {
        **asdict(job),
        "needs": dict(job.needs),
        "params": dict(job.params),
        "equivalent": list(job.equivalent),
        "fingerprint": graph.fingerprints[job.name],
        "accepted": sorted(graph.accepted[job.name]),
        "parents": list(job.parents),
        "children": list(graph.children[job.name]),
    }
