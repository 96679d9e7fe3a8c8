"""What an arrival starts in all namespaces, as far as their locks fit each other."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from segue.execution.work import find_finished
from segue.model.graph import SOURCE
from segue.model.manifest import split_reference

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

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


def forget_events_below(deployed: Namespace, before: Graph) -> None:
    """Stop expecting of earlier events what a deployment cuts off from them, in any namespace."""
    after = deployed.graph
    cut: set[Place] = {
        (deployed.name, job)
        for job, fingerprint in before.fingerprints.items()
        if fingerprint not in after.accepted.get(job, ())
    }
    cut |= {
        (deployed.name, reference)
        for reference, job in after.foreign.items()
        if reference in before.foreign and before.foreign[reference].fingerprint not in job.accepted
    }
    for home in deployed.world.homes:
        home.checker.forget_events(partial(_is_cut_off, deployed, cut, home))


def _is_cut_off(
    deployed: Namespace,
    cut: Collection[Place],
    home: Namespace,
    job: str,
    uri: str,
    version: str | None,
) -> bool:
    """Whether a job may never get what it needs of other namespaces.

    What a job now makes, or is locked to, is not what its events told of before. But a namespace
    between may have finished already what these led to, and tells of that.
    """
    if job not in home.graph.jobs or (home is not deployed and _is_told(home, job, uri, version)):
        return False
    for parent in home.graph.jobs[job].parents:
        namespace, name = above = _locate(home.name, parent)
        if "/" in parent and not {above, (home.name, parent)}.isdisjoint(cut):
            return True
        if _is_cut_off(deployed, cut, home.world.find_home(namespace), name, uri, version):
            return True
    return False


def _is_told(home: Namespace, job: str, uri: str, version: str | None) -> bool:
    """Whether an event has finished a job, so that those below are told of it."""
    record = home.ledger.records.get(uri)
    if record is None or record.version != version:
        return False
    finished = find_finished(home.graph, record, job)
    return finished is not None and record.results[finished].triggered_by is not None
