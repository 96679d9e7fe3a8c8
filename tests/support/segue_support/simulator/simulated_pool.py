"""A worker pool without processes: tasks take a while, and the world decides their results."""

from __future__ import annotations

import functools
from datetime import timedelta
from typing import TYPE_CHECKING

from segue.errors import Kind, Reason, TransientError
from segue.model.graph import SOURCE, Graph
from segue.model.ledger import Change
from segue.model.record import Failure, State
from segue.model.transitions import Result, build_blocked_result, extend_leases
from segue.worker.line_run import Claims, LineRun, LoadedJob, Stores
from segue.worker.protocol import Report, Task
from segue_support.simulator.faults import CRASHES, CallFault, Killed
from segue_support.simulator.faulty_ports import FaultyLedger, FaultyStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from segue_support.simulator.world import Caller

CLAIM_S = 20.0  # at least so long is left of a claim that was renewed
SECONDS = 0.3
SLOW = 0.04  # the fraction of tasks that take a minute or so, where there are stalls


def load_job(graph: Graph, name: str) -> LoadedJob:
    """Return a job that keeps nothing in memory for those below."""
    return LoadedJob(
        spec=graph.jobs[name],
        fingerprint=graph.fingerprints[name],
        outputs=(("", "application/json", "json"),),
        needs=(("media", SOURCE, ""),) if graph.jobs[name].reads_source else (),
        reads_source=graph.jobs[name].reads_source,
        below=frozenset(),
        call=lambda _inputs: None,
        batch=None,
        batch_size=1,
        may_return_null=True,
    )


class SimulatedClaims(Claims):
    """The claims of a process's tasks."""

    def __init__(self, caller: Caller, ledger: FaultyLedger) -> None:
        super().__init__()
        self._caller = caller
        self._faulty_ledger = ledger

    def renew(self, task: Task, job: str) -> bool:
        """Extend the claim on a job of a task; return whether it was still held."""
        transition = functools.partial(
            extend_leases,
            owner=task.owner,
            jobs=(job,),
            expires_at=self._caller.clock() + timedelta(seconds=CLAIM_S),
        )
        change = Change(uri=task.media.uri, transition=transition)
        return self._faulty_ledger.change([change])[0].answer


class SimulatedPool:
    """The worker pool of one process; it dies with the process."""

    def __init__(self, caller: Caller, *, processes: int = 2) -> None:
        self.processes = processes
        self.batch_files = 0
        self.full_disks = 0  # how many results found the disk full
        self._home = home = caller.home
        self._world = home.world
        self._checker = home.checker
        self._caller = caller
        self._graph = caller.graph
        self._claims = SimulatedClaims(caller, FaultyLedger(caller))
        store = FaultyStore(caller, home.artifacts)
        source = FaultyStore(caller, home.world.source)
        artifacts = home.artifacts.location
        self._stores = Stores(
            lambda location: store if location == artifacts else source, artifacts
        )
        self._waiting: list[Task] = []
        self._slow: set[int] = set()  # tasks
        self._unfinished: list[Report] = []  # their end is reported by a later call

    def submit(self, tasks: Sequence[Task]) -> None:
        """Accept tasks."""
        self._draw_crash("pool.submit")
        self._waiting += tasks
        if self._world.scenario.faults.stalls:
            self._slow.update(t.task_id for t in tasks if self._world.rng.random() < SLOW)

    def flush(self) -> None:
        """Do nothing: tasks wait for no others."""

    def collect(self, timeout_s: float) -> list[Report]:
        """Run some of the waiting tasks."""
        self._draw_crash("pool.collect")
        rng = self._world.rng
        ended, self._unfinished = self._unfinished, []
        reports = [Report(task_id=r.task_id, results=(), finished=True) for r in ended]
        waiting, self._waiting = self._waiting, []
        for task in waiting:
            if rng.random() < (0.97 if task.task_id in self._slow else 0.3):
                self._waiting.append(task)
                continue
            report = Report(
                task_id=task.task_id, results=self._run(task), finished=rng.random() < 0.9
            )
            reports.append(report)
            if not report.finished:
                self._unfinished.append(report)
        return reports

    def _draw_crash(self, what: str) -> None:
        fault = self._world.draw_call_fault(self._caller.name)
        if fault in CRASHES or (fault is not CallFault.NONE and self._world.rng.random() < 0.2):
            self._world.note(self._caller.name, f"crashes at {what}")
            raise Killed(what)

    def _run(self, task: Task) -> tuple[Result, ...]:
        results: dict[str, Result] = {}
        artifacts = dict(task.inputs)
        line = LineRun(task, self._stores, "", self._claims)
        abort_error: Failure | None = None
        for job in task.run:
            above = [results[p] for p in self._graph.jobs[job].parents if p in results]
            if abort_error is not None:
                results[job] = Result(job=job, state=State.QUEUED, error=abort_error)
                continue
            results[job] = _inherit_result(job, above) or self._compute(line, job, artifacts)
            found = results[job]
            artifacts.update((job, name) for name in found.artifacts)
            if found.error is not None and found.error.kind in (Kind.DISK_FULL, Kind.SUPERSEDED):
                abort_error = found.error
        self.full_disks += any(r.error and r.error.kind == Kind.DISK_FULL for r in results.values())
        return tuple(results.values())

    def _compute(self, line: LineRun, job: str, artifacts: dict[str, str]) -> Result:
        world, task = self._world, line.task
        self._checker.check_inputs(self._graph, task, job, artifacts)
        if (failure := self._find_failure(task, job, artifacts)) is not None:
            return failure
        loaded = load_job(self._graph, job)
        if world.folder is not None and loaded.reads_source:
            try:
                line.load_inputs(loaded)
            except TransientError as error:
                return _build_failure(job, error.kind, State.QUEUED)
        fingerprint = self._graph.fingerprints[job]
        fate = self._home.find_fate(task.media, job, fingerprint)
        written: dict[str, str] = {}
        if fate is State.DONE:
            try:
                written = line.write(loaded, fingerprint)
            except TransientError as error:
                return _build_failure(job, error.kind, State.QUEUED)
            self._checker.record_artifact(*written)
        self._checker.record_execution(self._caller, task, job, fingerprint, fate)
        if fate is State.FAILED:
            return _build_failure(job, Kind.CORRUPT_MEDIA, State.FAILED)
        if fate is State.NOT_APPLICABLE:
            return _build_failure(job, Reason.DECLINED, fate)
        return Result(job=job, state=fate, artifacts=written, seconds=SECONDS, cpu_seconds=0.1)

    def _find_failure(self, task: Task, job: str, artifacts: dict[str, str]) -> Result | None:
        """Return the result of a job that fails before it has computed anything."""
        world, media = self._world, task.media
        if world.draw_fault("full_disks", 0.2):
            return _build_failure(job, Kind.DISK_FULL, State.QUEUED)
        if world.draw_fault("transient_errors", 0.2):
            return _build_failure(job, Kind.UNAVAILABLE, State.QUEUED)
        if self._graph.jobs[job].reads_source and world.folder is None:
            generation = world.generations.get(media.uri)
            if generation is None:
                return _build_failure(job, Kind.MISSING_INPUT, State.FAILED)
            if str(generation) != media.version:
                return _build_failure(job, Kind.SUPERSEDED, State.QUEUED)
        for parent in self._graph.jobs[job].parents:
            if parent not in self._graph.jobs:
                if not self._checker.is_foreign_artifact_there(artifacts[parent]):
                    return _build_failure(job, Kind.MISSING_INPUT, State.FAILED)
            elif not self._home.artifacts.has(artifacts[parent]):
                return _build_failure(job, Kind.DAMAGED_INPUT, State.QUEUED, damaged=parent)
        return None


def _inherit_result(job: str, above: Sequence[Result]) -> Result | None:
    """Return the result of a job that cannot run because of its parents, if so."""
    for state in (State.FAILED, State.BLOCKED, State.NOT_APPLICABLE, State.QUEUED):
        for found in above:
            if found.state is state:
                return _inherit(job, found)
    return None


def _inherit(job: str, above: Result) -> Result:
    if above.state is State.QUEUED:
        return Result(job=job, state=State.QUEUED, error=above.error)
    state = above.state if above.state is State.NOT_APPLICABLE else State.BLOCKED
    is_its_own = above.seconds is not None
    return build_blocked_result(
        job, above.job if is_its_own or above.error is None else above.error.type, state
    )


def _build_failure(
    job: str, kind: Kind | Reason, state: State, *, damaged: str | None = None
) -> Result:
    return Result(
        job=job,
        state=state,
        error=Failure(kind=kind, type="E", message=str(kind)),
        damaged=damaged,
        seconds=SECONDS,
    )
