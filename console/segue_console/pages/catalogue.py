"""The catalogue: the graph as a picture, with the state of each job."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from segue import text
from segue.model.graph import Graph
from segue_console.lookup import find_namespace
from segue_console.namespace import Counted
from segue_console.templates import format_percent, render

# In the order in which a bar shows them; with "missing" they add up to all files.
STATES = (
    ("done", "done"),
    ("not_applicable", "not applicable"),
    ("running", "running"),
    ("queued", "queued"),
    ("failed", "failed"),
    ("blocked", "blocked"),
    ("stale", "stale"),
    ("missing", "missing"),
)


def split_states(states: Mapping[str, int]) -> dict[str, int]:
    """Return the files in each state, each file in one: stale ones are not missing."""
    stale = min(states["stale"], states["missing"])
    return {**states, "stale": stale, "missing": states["missing"] - stale}


def describe_states(states: Mapping[str, int]) -> str:
    """Return the states that some files are in, for people."""
    parts = split_states(states)
    return ", ".join(f"{parts[state]:,} {label}" for state, label in STATES if parts[state])


def show_catalogue(request: Request) -> Response:
    """Show the graph."""
    namespace = find_namespace(request)
    version = namespace.version
    counted = namespace.live.watch()
    costs = namespace.measure_costs()
    nodes = [
        *_list_foreign(namespace.graph),
        *(
            _build_node(namespace.graph, job, counted, costs.get(job))
            for job in namespace.graph.jobs
        ),
    ]
    return render(
        request,
        "catalogue.html",
        {
            "namespace": namespace,
            "page": "catalogue",
            "version": version,
            "counts": counted.counts if counted is not None else None,
            "catalogue": namespace.graph.catalogue or "no catalogue",
            "nodes": nodes,
            "states": STATES,
        },
    )


def _list_foreign(graph: Graph) -> Iterator[dict[str, Any]]:
    for reference, published in graph.foreign.items():
        yield {
            "name": reference,
            "foreign": True,
            "needs": (),
            "owner": published.owner if published is not None else "",
        }


def _build_node(
    graph: Graph, name: str, counted: Counted | None, cost: float | None
) -> dict[str, Any]:
    job = graph.jobs[name]
    states = counted.counts.jobs.get(name) if counted is not None else None
    parts = split_states(states) if states is not None else dict.fromkeys(dict(STATES), 0)
    files = counted.counts.files if counted is not None else 0
    facts = [job.owner] if job.owner else []
    if cost is not None:
        facts.append(f"{text.format_duration(cost)} of CPU per file")
    label = describe_states(states) if states is not None else "not counted yet"
    return {
        "name": name,
        "foreign": False,
        "needs": [*(["source"] if job.needs_source else []), *job.parents],
        "share": format_percent(parts["done"] + parts["not_applicable"], files),
        "parts": [(state, parts[state]) for state, _ in STATES],
        "label": label or "no files",
        "counts_text": label or "no files",
        "facts": " · ".join(facts),
    }


ROUTES = [Route("/", show_catalogue, name="catalogue")]
