"""A crew without processes: each task takes a while, and the world decides what comes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segue.errors import Kind
from segue.model.artifact import artifact_name
from segue.model.ledger import Result
from segue.model.media_file import split_uri
from segue.model.outcome import blocked
from segue.model.record import Failure, State
from segue.worker.task import Report, Task
from segue_support.simulator.chaos import DEADLY, Fate, Killed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from segue.model.graph import Graph
    from segue_support.simulator.actors import Actor
    from segue_support.simulator.world import World

SECONDS = 0.3


class SimulatedCrew:
    """What a process has its tasks run by; it dies with the process."""

    def __init__(self, world: World, actor: Actor, graph: Graph) -> None:
        self.processes = 2
        self.full = 0  # how many results found the disk full
        self._world = world
        self._actor = actor
        self._graph = graph
        self._waiting: list[Task] = []
        self._told: list[Report] = []  # of which the end is still to be told

    def submit(self, tasks: Sequence[Task]) -> None:
        """Take tasks over."""
        self._pass("crew.submit")
        self._waiting += tasks

    def collect(self, timeout_s: float) -> list[Report]:
        """Run some of what waits."""
        self._pass("crew.collect")
        rng = self._world.rng
        ended, self._told = self._told, []
        reports = [Report(ticket=r.ticket, results=(), finished=True) for r in ended]
        waiting, self._waiting = self._waiting, []
        for task in waiting:
            if rng.random() < 0.3:
                self._waiting.append(task)
                continue
            report = Report(
                ticket=task.ticket, results=self._run(task), finished=rng.random() < 0.9
            )
            reports.append(report)
            if not report.finished:
                self._told.append(report)
        return reports

    def _pass(self, what: str) -> None:
        fate = self._world.fate(self._actor)
        if fate in DEADLY or (fate is not Fate.GOOD and self._world.rng.random() < 0.2):
            self._world.note(self._actor.name, f"dead at {what}")
            raise Killed(what)

    def _run(self, task: Task) -> tuple[Result, ...]:
        results: dict[str, Result] = {}
        artifacts = dict(task.inputs)
        in_vain: Failure | None = None
        for job in task.run:
            above = [results[p] for p in self._graph.jobs[job].parents if p in results]
            if in_vain is not None:
                results[job] = Result(job=job, state=State.QUEUED, error=in_vain)
                continue
            results[job] = _inherited(job, above) or self._result(task, job, artifacts)
            found = results[job]
            if found.artifact is not None:
                artifacts[job] = found.artifact
            if found.error is not None and found.error.kind in (Kind.DISK_FULL, Kind.SUPERSEDED):
                in_vain = found.error
        self.full += any(r.error and r.error.kind == Kind.DISK_FULL for r in results.values())
        return tuple(results.values())

    def _result(self, task: Task, job: str, artifacts: dict[str, str]) -> Result:
        world, media = self._world, task.media
        world.watch.reads(self._graph, task, job, artifacts)
        if world.happens("full_disks", 0.2):
            return _error(job, Kind.DISK_FULL, State.QUEUED)
        if world.happens("hiccups", 0.2):
            return _error(job, Kind.UNAVAILABLE, State.QUEUED)
        if self._graph.jobs[job].reads_source:
            generation = world.generation(media.uri)
            if generation is None:
                return _error(job, Kind.MISSING_INPUT, State.FAILED)
            if generation != media.generation:
                return _error(job, Kind.SUPERSEDED, State.QUEUED)
        if any(not world.has_artifact(artifacts[p]) for p in self._graph.jobs[job].parents):
            return _error(job, Kind.MISSING_INPUT, State.FAILED)
        if world.fails(media, job, self._graph.fingerprints[job]):
            return _error(job, Kind.CORRUPT_MEDIA, State.FAILED)
        name = artifact_name(
            job,
            self._graph.fingerprints[job],
            split_uri(media.uri)[1],
            media.generation,
            "json",
        )
        uri = world.write(name, replace=job in task.force)
        return Result(
            job=job, state=State.DONE, artifact=uri, checksum="c", seconds=SECONDS, cpu_seconds=0.1
        )


def _inherited(job: str, above: Sequence[Result]) -> Result | None:
    """What a job below others comes to if it cannot be run at all."""
    for found in above:
        if found.state is State.FAILED:
            return blocked(job, found.job)
        if found.state is State.BLOCKED:
            assert found.error is not None
            return blocked(job, found.error.type)
    for found in above:
        if found.state is State.QUEUED:
            return Result(job=job, state=State.QUEUED, error=found.error)
    return None


def _error(job: str, kind: Kind, state: State) -> Result:
    return Result(
        job=job, state=state, error=Failure(kind=kind, type="E", message=str(kind)), seconds=SECONDS
    )
