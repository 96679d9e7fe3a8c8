"""Converts the graph to a document for programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from segue.model.graph import Graph, Job


def build_document(graph: Graph) -> dict[str, Any]:
    """Return the whole graph, with what is derived from it, for JSON."""
    return {
        "path": graph.path,
        "catalogue": graph.catalogue,
        "artifacts": graph.artifacts,
        "include": list(graph.include),
        "jobs": [_job_to_dict(graph, job) for job in graph.jobs.values()],
    }


def _job_to_dict(graph: Graph, job: Job) -> dict[str, Any]:
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
