"""The labels in drawings of a graph."""

from __future__ import annotations

from segue.model.graph import Graph, Job


def format_content_type(job: Job) -> str:
    """Return a job's content type without uninformative prefixes."""
    kind, _, name = job.writes.partition("/")
    if kind == "application":
        return name.removeprefix("x-").removeprefix("vnd.apache.")
    return job.writes


def format_title(graph: Graph) -> str:
    """Return the title of the drawing."""
    count = len(graph.jobs)
    return f"The graph of {count} {'job' if count == 1 else 'jobs'}, from source to features"
