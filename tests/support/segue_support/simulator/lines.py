"""What an arrival starts in all namespaces, as far as their locks fit each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segue.model.graph import SOURCE
from segue.model.manifest import split_reference

if TYPE_CHECKING:
    from collections.abc import Iterator

    from segue.model.graph import Graph
    from segue_support.simulator.namespace import Namespace
    from segue_support.simulator.promises import Expectation

Place = tuple[str, str]  # namespace and job


def expect_arrival(home: Namespace, uri: str) -> list[Expectation]:
    """Expect what the arrival of a file at one namespace starts, there and in those below."""
    fits: dict[Place, bool] = {}
    return [
        other.checker.expect(uri, list_started(other, fits), is_event=True)
        for other in home.world.homes
        if other is home or home.name in other.find_above()
    ]


def list_started(home: Namespace, known: dict[Place, bool] | None = None) -> tuple[str, ...]:
    """Return the jobs that an arrival starts, and that get all that they need of others."""
    live = home.graph.select_on_arrival(home.graph.jobs)
    if len(home.world.homes) == 1:
        return live
    fits = {} if known is None else known
    return tuple(job for job in live if _can_finish(home, job, fits))


def find_line(home: Namespace, job: str) -> set[Place]:
    """Return a job and all jobs above it, in all namespaces; some may have been removed."""
    line: set[Place] = set()
    left = [(home.name, job)]
    while left:
        place = left.pop()
        graph = home.world.find_home(place[0]).graph
        if place not in line:
            line.add(place)
            if place[1] in graph.jobs:
                left += [_locate(place[0], p) for p in graph.jobs[place[1]].parents]
    return line


def _locate(namespace: str, parent: str) -> Place:
    return split_reference(parent) if "/" in parent else (namespace, parent)


def _can_finish(home: Namespace, job: str, known: dict[Place, bool]) -> bool:
    """Whether a job runs on an arrival, and gets all that it needs of other namespaces."""
    place = (home.name, job)
    if place not in known:
        spec = home.graph.jobs.get(job)
        known[place] = (
            spec is not None
            and spec.on_arrival
            and all(
                parent == SOURCE
                or (
                    (_fits(home, parent) if "/" in parent else True)
                    and _can_finish(home.world.find_home(above), name, known)
                )
                for parent in spec.needs.values()
                for above, name in [_locate(home.name, parent)]
            )
        )
    return known[place]


def _fits(home: Namespace, reference: str) -> bool:
    """Whether all workers that know a job make what all of those below are locked to."""
    namespace, job = split_reference(reference)
    above = home.world.find_home(namespace)
    return all(
        job in graph.jobs
        and not {*graph.accepted[job]}.isdisjoint(below.foreign[reference].accepted)
        for graph in _list_graphs(above)
        for below in _list_graphs(home)
        if reference in below.foreign
    )


def _list_graphs(home: Namespace) -> Iterator[Graph]:
    yield home.graph
    yield from (worker.graph for worker in home.workers if worker.graph is not home.graph)


def forget_events_below(home: Namespace, before: Graph) -> None:
    """Stop expecting of earlier events what a deployment has changed above, in any namespace."""
    after = home.graph
    changed = {
        (home.name, job)
        for job, fingerprint in before.fingerprints.items()
        if fingerprint not in after.accepted.get(job, ())
    }
    moved = {
        reference
        for reference, job in after.foreign.items()
        if reference in before.foreign and before.foreign[reference].fingerprint not in job.accepted
    }
    for other in home.world.homes:
        if other is home:
            moved |= {r for r in after.foreign if not changed.isdisjoint(_find_line_of(home, r))}
            below = [j for j in after.jobs if not moved.isdisjoint(after.find_ancestors(j))]
        else:
            below = [j for j in other.graph.jobs if not changed.isdisjoint(find_line(other, j))]
        other.checker.forget_events(below)


def _find_line_of(home: Namespace, reference: str) -> set[Place]:
    """Return a job of another namespace, and all jobs above it."""
    namespace, job = split_reference(reference)
    return find_line(home.world.find_home(namespace), job)
