"""Draws the graph: as a tree for terminals, as Mermaid or DOT for pages, as JSON for programs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

import msgspec

from segue.model.artifact import list_outputs, split_output
from segue.model.graph import SOURCE, Graph, Job
from segue.model.queue import list_subscriptions
from segue.printable import escape

# Mermaid writes an entity as a number or a name between # and ;.
ENTITIES = str.maketrans({c: f"#{ord(c)};" for c in '#&<>"`{}[]()|\\'})
CLASSES = """\
  classDef source fill:#1b2330,stroke:#1b2330,color:#ffffff
  classDef audio stroke:#0d9488,stroke-width:2px
  classDef image stroke:#d6458a,stroke-width:2px
  classDef json stroke:#4f6bed,stroke-width:2px
  classDef data stroke:#c2820a,stroke-width:2px"""


class Branch(NamedTuple):
    """One line of the tree."""

    guide: str  # the lines before the name, such as "│  └─ "
    name: str
    again: bool  # whether the job and all below it are shown above


def walk_tree(graph: Graph) -> Iterator[Branch]:
    """Yield the lines of the tree, from the source and from other namespaces' jobs.

    A job is expanded below its first parent.
    """
    shown: set[str] = set()

    def walk(name: str, guide: str, below: str) -> Iterator[Branch]:
        again = name in shown
        yield Branch(guide, name, again)
        if again:
            return
        shown.add(name)
        children = graph.children[name]
        for child in children:
            last = child == children[-1]
            yield from walk(
                child, below + ("└─ " if last else "├─ "), below + ("   " if last else "│  ")
            )

    for root in _list_roots(graph):
        yield from walk(root, "", "")


def _list_roots(graph: Graph) -> list[str]:
    """List what the graph's jobs read that is not made by them."""
    source = [SOURCE] if graph.children[SOURCE] else []
    return [*source, *graph.references]


def draw_mermaid(graph: Graph) -> str:
    """Write the graph as a Mermaid flowchart, which many pages render."""
    roots = [f'{_format_id(r)}(["{quote_mermaid(r)}"]):::source' for r in _list_roots(graph)]
    lines = ["flowchart LR", *(f"  {root}" for root in roots)]
    for job in graph.jobs.values():
        name, details = (quote_mermaid(part) for part in (job.name, _format_details(job)))
        label = f"<b>{name}</b><br/>{details}<br/><code>{graph.fingerprints[job.name]}</code>"
        lines.append(f'  job_{job.name}["{label}"]:::{_find_class(job)}')
    for name in graph.groups:
        members = (f"job_{job}" for job in graph.pipelines[name])
        lines += [f'  subgraph pipeline_{name}["{name}"]', *(f"    {m}" for m in members), "  end"]
    for parent, child, inputs in _list_edges(graph):
        lines.append(f'  {_format_id(parent)} -- "{quote_mermaid(inputs)}" --> job_{child}')
    return "\n".join([*lines, CLASSES, ""])


def draw_dot(graph: Graph) -> str:
    """Write the graph in DOT, the language of Graphviz."""
    lines = ["digraph segue {", "  rankdir=LR", "  node [shape=box]"]
    lines += [f"  {quote_dot(root)}" for root in _list_roots(graph)]
    for job in graph.jobs.values():
        label = (job.name, _format_details(job), graph.fingerprints[job.name])
        lines.append(f"  {quote_dot(job.name)} [label={quote_dot(*label)}]")
    for name in graph.groups:
        members = "; ".join(map(quote_dot, graph.pipelines[name]))
        cluster = quote_dot(f"cluster_{name}")
        lines.append(f"  subgraph {cluster} {{ label={quote_dot(name)}; {members} }}")
    for parent, child, inputs in _list_edges(graph):
        lines.append(f"  {quote_dot(parent)} -> {quote_dot(child)} [label={quote_dot(inputs)}]")
    return "\n".join([*lines, "}", ""])


def build_document(graph: Graph) -> dict[str, Any]:
    """Return the whole graph, with what is derived from it, for JSON; of secrets, their names."""
    return {
        "path": graph.path,
        "namespace": graph.namespace,
        "catalogue": graph.catalogue,
        "artifacts": graph.artifacts,
        "include": list(graph.include),
        "exclude": list(graph.exclude),
        "registry": graph.registry,
        "foreign": {
            reference: {**msgspec.to_builtins(job), "fingerprint": job.fingerprint}
            for reference, job in graph.foreign.items()
        },
        "pipelines": {name: list(jobs) for name, jobs in graph.pipelines.items()},
        "subscriptions": [asdict(one) for one in list_subscriptions(graph)],
        "jobs": [
            {
                **asdict(job),
                "needs": dict(job.needs),
                "accepts": list(job.accepts),
                "params": dict(job.params),
                "secrets": list(job.secrets),
                "equivalents": list(job.equivalents),
                "fingerprint": graph.fingerprints[job.name],
                "accepted": list(graph.accepted[job.name]),
                "parents": list(job.parents),
                "children": list(graph.children[job.name]),
                "pipeline": graph.pipeline_of[job.name],
            }
            for job in graph.jobs.values()
        ],
    }


def _list_edges(graph: Graph) -> Iterator[tuple[str, str, str]]:
    """Yield parent, child, and the child's inputs that the parent provides."""
    for job in graph.jobs.values():
        inputs: dict[str, list[str]] = {}
        for name, reference in job.needs.items():
            parent, output = split_output(reference)
            inputs.setdefault(parent, []).append(f"{name}: {output}" if output else name)
        for parent, names in inputs.items():
            yield parent, job.name, ", ".join(names)


def _format_id(name: str) -> str:
    """Return the id of a node of Mermaid's; a job's name alone may be a keyword, such as end."""
    return "job_" + re.sub(r"\W", "_", name)


def _format_details(job: Job) -> str:
    return " · ".join(filter(None, (format_short_outputs(job), f"v{job.version}", job.owner)))


def _shorten(content_type: str) -> str:
    kind, _, name = content_type.partition("/")
    if kind == "application":
        return name.removeprefix("x-").removeprefix("vnd.apache.")
    return content_type


def format_outputs(writes: str | Mapping[str, str]) -> str:
    """Return what a job writes as one line: its content type, or that of each output."""
    return ", ".join(f"{o}: {t}" if o else t for o, t in list_outputs(writes).items())


def format_short_outputs(job: Job) -> str:
    """Return a job's content types without uninformative prefixes, each after its output."""
    return format_outputs({output: _shorten(t) for output, t in job.outputs.items()})


def _find_class(job: Job) -> str:
    kinds = {_shorten(content_type).partition("/")[0] for content_type in job.outputs.values()}
    kind = kinds.pop() if len(kinds) == 1 else ""
    return kind if kind in {"audio", "image", "json"} else "data"


def quote_mermaid(text: str) -> str:
    """Return a text without what Mermaid, HTML or a terminal would obey."""
    return escape(" ".join(text.split())).translate(ENTITIES)


def quote_dot(*lines: str) -> str:
    """Quote the lines of a text, in which DOT escapes quotes, backslashes and HTML entities."""
    printable = (escape(" ".join(line.split())).replace("&", "&amp;") for line in lines)
    escaped = (line.replace("\\", "\\\\").replace('"', '\\"') for line in printable)
    return '"' + "\\n".join(escaped) + '"'
