"""Draws the graph as Mermaid, a text that many pages render."""

from __future__ import annotations

from segue.model.graph import SOURCE, Graph, Job
from segue_cli.drawing.labels import format_content_type

# Mermaid writes an entity as a number or a name between # and ;.
ENTITIES = str.maketrans({c: f"#{ord(c)};" for c in '#&<>"`{}[]()|\\'} | {"\n": " "})
LEGEND = """\
  classDef source fill:#1b2330,stroke:#1b2330,color:#ffffff
  classDef audio stroke:#0d9488,stroke-width:2px
  classDef image stroke:#d6458a,stroke-width:2px
  classDef json stroke:#4f6bed,stroke-width:2px
  classDef data stroke:#c2820a,stroke-width:2px"""


def draw_mermaid(graph: Graph) -> str:
    """Write the graph as a Mermaid flowchart."""
    lines = ["flowchart LR", f'  {_build_id(SOURCE)}(["{SOURCE}"]):::source']
    lines += [
        f'  {_build_id(job.name)}["{_format_label(graph, job)}"]:::{_find_class(job)}'
        for job in graph.jobs.values()
    ]
    for job in graph.jobs.values():
        for parent in dict.fromkeys(job.needs.values()):
            inputs = ", ".join(i for i, p in job.needs.items() if p == parent)
            lines.append(f'  {_build_id(parent)} -- "{_escape(inputs)}" --> {_build_id(job.name)}')
    return "\n".join([*lines, LEGEND, ""])


def _build_id(name: str) -> str:
    """Prefix a job's name, which may be a keyword of Mermaid such as ``end`` or ``class``."""
    return f"job_{name}"


def _format_label(graph: Graph, job: Job) -> str:
    details = _escape(
        " · ".join(filter(None, (format_content_type(job), f"v{job.version}", job.owner)))
    )
    fingerprint = graph.fingerprints[job.name]
    return f"<b>{_escape(job.name)}</b><br/>{details}<br/><code>{fingerprint}</code>"


def _escape(text: str) -> str:
    return text.translate(ENTITIES)


def _find_class(job: Job) -> str:
    kind = format_content_type(job).partition("/")[0]
    return kind if kind in {"audio", "image", "json"} else "data"
