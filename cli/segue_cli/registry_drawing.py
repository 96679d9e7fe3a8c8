"""Draws what all namespaces have published: jobs, and which namespace is locked to which of them.

A manifest has only the jobs that a namespace publishes, and the fingerprints that its graph as a
whole is locked to. So an edge leads from a job to a namespace, and not to one of its jobs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from segue.model.manifest import Manifest, PublishedJob, find_published, split_reference
from segue_cli.drawing import format_outputs, quote_dot, quote_mermaid

UNKNOWN = "not in the registry"


class PinStanding(StrEnum):
    """What a namespace is locked to, compared with what is published now."""

    CURRENT = "current"  # the fingerprint that is published
    EQUIVALENT = "equivalent"  # an older one, which its results stand for
    BROKEN = "broken"  # one that nobody makes any more


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """A job that a namespace is locked to."""

    job: str  # namespace/job
    namespace: str  # that is locked to it
    fingerprint: str
    standing: PinStanding


class RegistryRow(NamedTuple):
    """One line of the tree: a namespace, a job that it publishes, or one that is locked to it."""

    guide: str  # the lines before the name, such as "│  └─ "
    name: str
    manifest: Manifest | None = None
    job: PublishedJob | None = None
    pin: Pin | None = None


def list_pins(manifests: Mapping[str, Manifest]) -> list[Pin]:
    """List what each namespace is locked to, by job."""
    pins = [
        Pin(
            job=reference,
            namespace=manifest.namespace,
            fingerprint=fingerprint,
            standing=_find_standing(find_published(manifests, reference), fingerprint),
        )
        for manifest in manifests.values()
        for reference, fingerprint in manifest.pins.items()
    ]
    return sorted(pins, key=lambda pin: (pin.job, pin.namespace))


def _find_standing(job: PublishedJob | None, fingerprint: str) -> PinStanding:
    if job is None or fingerprint not in job.accepted:
        return PinStanding.BROKEN
    is_own = fingerprint == job.fingerprint
    return PinStanding.CURRENT if is_own else PinStanding.EQUIVALENT


def _list_jobs(manifests: Mapping[str, Manifest]) -> dict[str, dict[str, PublishedJob | None]]:
    """Return the jobs of each namespace; None: others are locked to it, but it is not there."""
    jobs: dict[str, dict[str, PublishedJob | None]] = {
        namespace: dict(manifest.jobs) for namespace, manifest in sorted(manifests.items())
    }
    for pin in list_pins(manifests):
        namespace, name = split_reference(pin.job)
        jobs.setdefault(namespace, {}).setdefault(name, None)
    return jobs


def walk_registry(manifests: Mapping[str, Manifest]) -> Iterator[RegistryRow]:
    """Yield the lines of the tree: namespaces, their jobs, and who is locked to these."""
    pins = list_pins(manifests)
    for namespace, jobs in _list_jobs(manifests).items():
        yield RegistryRow("", namespace, manifest=manifests.get(namespace))
        for name, job in jobs.items():
            tip, below = ("└─ ", "   ") if name == list(jobs)[-1] else ("├─ ", "│  ")
            yield RegistryRow(tip, name, job=job)
            users = [pin for pin in pins if pin.job == f"{namespace}/{name}"]
            for pin in users:
                guide = below + ("└─ " if pin is users[-1] else "├─ ")
                yield RegistryRow(guide, pin.namespace, pin=pin)


def draw_registry_mermaid(manifests: Mapping[str, Manifest]) -> str:
    """Write the namespaces as subgraphs of a Mermaid flowchart."""
    jobs = _list_jobs(manifests)
    ids = {namespace: f"ns{number}" for number, namespace in enumerate(jobs)}
    lines = ["flowchart LR"]
    for namespace, published in jobs.items():
        label = quote_mermaid(_label_namespace(namespace, manifests))
        if not published:  # an empty subgraph would have no place
            lines.append(f'  {ids[namespace]}["{label}"]')
            continue
        lines.append(f'  subgraph {ids[namespace]}["{label}"]')
        for name, job in published.items():
            first, *rest = map(quote_mermaid, _label_job(name, job))
            text = "<br/>".join((f"<b>{first}</b>", *rest))
            lines.append(f'    {ids[namespace]}_{name}["{text}"]')
        lines.append("  end")
    for pin in list_pins(manifests):
        namespace, name = split_reference(pin.job)
        label = f'-. "{pin.standing}: {quote_mermaid(pin.fingerprint)}" .->'
        arrow = "-->" if pin.standing is PinStanding.CURRENT else label
        lines.append(f"  {ids[namespace]}_{name} {arrow} {ids[pin.namespace]}")
    return "\n".join([*lines, ""])


def draw_registry_dot(manifests: Mapping[str, Manifest]) -> str:
    """Write the namespaces as clusters in DOT, the language of Graphviz."""
    jobs = _list_jobs(manifests)
    # An edge cannot end at a cluster, but at the border of the one that its end is in.
    ends = {namespace: f"{namespace}/{next(iter(each), '')}" for namespace, each in jobs.items()}
    lines = ["digraph segue {", "  compound=true", "  rankdir=LR", "  node [shape=box]"]
    for namespace, published in jobs.items():
        lines.append(f"  subgraph {quote_dot(f'cluster_{namespace}')} {{")
        lines.append(f"    label={quote_dot(_label_namespace(namespace, manifests))}")
        lines += [
            f"    {quote_dot(f'{namespace}/{name}')} [label={quote_dot(*_label_job(name, job))}]"
            for name, job in published.items()
        ]
        if not published:
            lines.append(f'    {quote_dot(ends[namespace])} [label="", shape=point, style=invis]')
        lines.append("  }")
    for pin in list_pins(manifests):
        head = quote_dot(f"cluster_{pin.namespace}")
        label = f", style=dashed, label={quote_dot(f'{pin.standing}: {pin.fingerprint}')}"
        more = "" if pin.standing is PinStanding.CURRENT else label
        tail, end = quote_dot(pin.job), quote_dot(ends[pin.namespace])
        lines.append(f"  {tail} -> {end} [lhead={head}{more}]")
    return "\n".join([*lines, "}", ""])


def _label_namespace(namespace: str, manifests: Mapping[str, Manifest]) -> str:
    return namespace if namespace in manifests else f"{namespace} ({UNKNOWN})"


def _label_job(name: str, job: PublishedJob | None) -> tuple[str, ...]:
    if job is None:
        return (name, "not published any more")
    details = filter(None, (format_outputs(job.writes), job.owner))
    return (name, " · ".join(details), job.fingerprint)


def build_registry_document(manifests: Mapping[str, Manifest], registry: str) -> dict[str, Any]:
    """Return all manifests, and who is locked to which job, for JSON."""
    return {
        "registry": registry,
        "namespaces": {
            namespace: {
                **msgspec.structs.asdict(manifest),
                "jobs": {name: msgspec.structs.asdict(j) for name, j in manifest.jobs.items()},
            }
            for namespace, manifest in sorted(manifests.items())
        },
        "edges": [
            {
                "job": pin.job,
                "namespace": pin.namespace,
                "fingerprint": pin.fingerprint,
                "standing": pin.standing,
            }
            for pin in list_pins(manifests)
        ],
    }
