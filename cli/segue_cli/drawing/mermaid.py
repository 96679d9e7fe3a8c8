"""The graph as Mermaid, which many pages draw from text."""

from __future__ import annotations

from segue.model.graph import SOURCE, Graph, Job
from segue_cli.drawing.labels import content

# In Mermaid an entity is a number or a name between # and ;.
ENTITIES = str.maketrans({c: f"#{ord(c)};" for c in '#&<>"`{}[]()|\\'} | {"\n": " "})
LEGEND = """\
  classDef source fill:#1b2330,stroke:#1b2330,color:#ffffff
  classDef audio stroke:#0d9488,stroke-width:2px
  classDef image stroke:#d6458a,stroke-width:2px
  classDef json stroke:#4f6bed,stroke-width:2px
  classDef data stroke:#c2820a,stroke-width:2px"""


def mermaid(graph: Graph) -> str:
    """Write the graph as a Mermaid flowchart."""
    lines = ["flowchart LR", f'  {_id(SOURCE)}(["{SOURCE}"]):::source']
    lines += [
        f'  {_id(job.name)}["{_label(graph, job)}"]:::{_class(job)}' for job in graph.jobs.values()
    ]
    for job in graph.jobs.values():
        for parent in dict.fromkeys(job.needs.values()):
            inputs = ", ".join(i for i, p in job.needs.items() if p == parent)
            lines.append(f'  {_id(parent)} -- "{_text(inputs)}" --> {_id(job.name)}')
    return "\n".join([*lines, LEGEND, ""])


def _id(name: str) -> str:
    """A job may be called ``end`` or ``class``, which mean something in Mermaid."""
    return f"job_{name}"


def _label(graph: Graph, job: Job) -> str:
    details = _text(" · ".join(filter(None, (content(job), f"v{job.version}", job.owner))))
    fingerprint = graph.fingerprints[job.name]
    return f"<b>{_text(job.name)}</b><br/>{details}<br/><code>{fingerprint}</code>"


def _text(text: str) -> str:
    return text.translate(ENTITIES)


def _class(job: Job) -> str:
    kind = content(job).partition("/")[0]
    return kind if kind in {"audio", "image", "json"} else "data"
