"""What the drawings of a graph say."""

from __future__ import annotations

from segue.model.graph import Graph, Job


def content(job: Job) -> str:
    """A job's content type, without the parts that say nothing to a reader."""
    kind, _, name = job.writes.partition("/")
    if kind == "application":
        return name.removeprefix("x-").removeprefix("vnd.apache.")
    return job.writes


def title(graph: Graph) -> str:
    """What is drawn."""
    count = len(graph.jobs)
    return f"The graph of {count} {'job' if count == 1 else 'jobs'}, from source to features"
