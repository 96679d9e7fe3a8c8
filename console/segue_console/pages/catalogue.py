"""The catalogue: the graph as a picture, with the state of each job."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from segue import text
from segue.model.graph import Graph
from segue_console.lookup import find_namespace
from segue_console.namespace import Counted
from segue_console.state_bar import STATES, describe_states, format_share, split_states
from segue_console.templates import render


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
            "catalogue": namespace.graph.catalogue or "any file",
            "needs_source": any(job.needs_source for job in namespace.graph.jobs.values()),
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
    parts = split_states(states) if states is not None else {}
    return {
        "name": name,
        "foreign": False,
        "needs": [*(["source"] if job.needs_source else []), *job.parents],
        "share": format_share(states, counted.counts.files) if states and counted else "-",
        "parts": [(state, parts.get(state, 0)) for state, _ in STATES],
        "label": describe_states(states) if states is not None else "not counted yet",
        "owner": job.owner,
        "cost": text.format_duration(cost) if cost is not None else "",
    }


ROUTES = [Route("/", show_catalogue, name="catalogue")]
