"""Deployments: the graph that a namespace has at some time, from its layout and its lock."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from segue.model.graph import SOURCE, Graph, Job
from segue.model.manifest import Manifest, PublishedJob, split_reference
from segue.model.settings import Settings
from segue.registry.locking import build_lock
from segue.registry.publication import build_manifest
from segue_support.simulator.scenario import (
    NAMES,
    NAMESPACES,
    Deployment,
    Layout,
    Version,
)

GRAPHS = 2_000  # to keep, with all that is derived from them
# Of what is not published yet, while namespaces that need each other are deployed first.
TO_COME = PublishedJob(fingerprint="0" * 12, writes="application/json", pipeline="a")

Locked = tuple[tuple[str, PublishedJob], ...]  # by namespace/job


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """What is deployed: each job's version, the old results that it accepts, and the lock."""

    versions: tuple[int, ...]
    equivalents: tuple[tuple[str, ...], ...]
    removed: tuple[str, ...] = ()
    locked: Locked = ()


@functools.lru_cache(maxsize=GRAPHS)
def deploy_first(layouts: tuple[Layout, ...]) -> tuple[Deployed, ...]:
    """Return the first deployment of each namespace, all locked to each other's."""
    deployed: list[Deployed] = []
    for layout in layouts:
        number = len(layout.shape)
        deployed.append(
            Deployed(
                versions=(1,) * number,
                equivalents=((),) * number,
                locked=tuple((reference, TO_COME) for reference in layout.references),
            )
        )
    while any(one.locked for one in deployed):
        graphs = [build_graph(n, layouts[n], deployed[n]) for n in range(len(layouts))]
        manifests = list_manifests(graphs)
        locked = [lock_again(one, manifests) for one in deployed]
        if locked == deployed:
            break
        deployed = locked
    return tuple(deployed)


def change_version(number: int, layout: Layout, before: Deployed, event: Deployment) -> Deployed:
    """Return a deployment with a higher version of one job, or without it.

    A breaking version is one of all jobs below, too: what they accepted was made from old results.
    """
    graph = build_graph(number, layout, before)
    if event.job not in graph.jobs:
        return before
    line = (event.job, *sorted(graph.find_descendants(event.job)))
    if event.version is Version.NONE:
        is_last = len(line) == len(graph.jobs)
        return before if is_last else replace(before, removed=(*before.removed, *line))
    at = NAMES.index(event.job)
    equivalents = list(before.equivalents)
    if event.version is Version.COMPATIBLE:
        equivalents[at] = (graph.fingerprints[event.job], *equivalents[at])
    else:
        for job in line:
            equivalents[NAMES.index(job)] = ()
    versions = list(before.versions)
    versions[at] += 1
    return replace(before, versions=tuple(versions), equivalents=tuple(equivalents))


def change_lock(
    number: int, layout: Layout, before: Deployed, manifests: Mapping[str, Manifest]
) -> Deployed:
    """Return a deployment that is locked to what others publish now."""
    after = lock_again(before, manifests)
    graph, old = build_graph(number, layout, before), dict(before.locked)
    broken = [r for r, job in after.locked if old[r].fingerprint not in job.accepted]
    equivalents = list(after.equivalents)
    for job in graph.jobs:
        if not graph.find_ancestors(job).isdisjoint(broken):
            equivalents[NAMES.index(job)] = ()
    return replace(after, equivalents=tuple(equivalents))


def lock_again(before: Deployed, manifests: Mapping[str, Manifest]) -> Deployed:
    """Return a deployment with another lock; what is not published any more stays locked."""
    if not before.locked:
        return before
    locked = dict(before.locked)
    there = [r for r in locked if is_published(r, manifests)]
    for namespace, manifest in build_lock(there, manifests).namespaces.items():
        locked.update((f"{namespace}/{job}", found) for job, found in manifest.jobs.items())
    return replace(before, locked=tuple(locked.items()))


def is_published(reference: str, manifests: Mapping[str, Manifest]) -> bool:
    """Return whether others can lock to a job."""
    namespace, job = split_reference(reference)
    return job in manifests[namespace].jobs


def list_manifests(graphs: Iterable[Graph]) -> dict[str, Manifest]:
    """Return what some graphs publish, by namespace."""
    return {graph.namespace: publish(graph) for graph in graphs}


def publish(graph: Graph) -> Manifest:
    """Return the manifest of a graph."""
    url = format_queue(graph.namespace)
    return build_manifest(graph, Settings(ledger=url, queue=url))


def format_queue(namespace: str) -> str:
    """Return the URL of a namespace's queue, and of its ledger."""
    return f"pubsub://{namespace}"


def format_artifacts(number: int) -> str:
    """Return where a namespace's artifacts are."""
    return f"gs://a{number}" if number else "gs://a"


@functools.lru_cache(maxsize=GRAPHS)
def build_graph(number: int, layout: Layout, deployed: Deployed) -> Graph:
    """Build the graph of a layout; the pipelines of groups are p0, p1, …"""
    jobs: dict[str, Job] = {}
    for at, parents in enumerate(layout.shape):
        name = NAMES[at]
        if name in deployed.removed:
            continue
        jobs[name] = Job(
            name=name,
            run="m:f",
            needs={f"from_{p}".replace("/", "_"): p for p in parents} or {"media": SOURCE},
            writes="application/json",
            version=deployed.versions[at],
            equivalents=deployed.equivalents[at],
            publish=name in layout.published,
            on_arrival=name not in layout.on_request,
        )
    left = (tuple(job for job in group if job in jobs) for group in layout.groups)
    return Graph(
        jobs=jobs,
        namespace=NAMESPACES[number],
        groups={f"p{i}": group for i, group in enumerate(left) if group},
        artifacts=format_artifacts(number),
        registry=layout.registry,
        source_namespace=layout.source,
        imports=_build_imports(deployed.locked, layout.source),
    )


def _build_imports(locked: Locked, source: str | None) -> dict[str, Manifest]:
    jobs: dict[str, dict[str, PublishedJob]] = {source: {}} if source else {}
    for reference, published in locked:
        namespace, job = split_reference(reference)
        jobs.setdefault(namespace, {})[job] = published
    return {
        namespace: Manifest(
            namespace=namespace,
            ledger=format_queue(namespace),
            queue=format_queue(namespace),
            artifacts=format_artifacts(NAMESPACES.index(namespace)),
            jobs=used,
        )
        for namespace, used in jobs.items()
    }
