"""Scenarios: the graph, files, events and faults of a history, drawn from a seed."""

from __future__ import annotations

import functools
import random
from dataclasses import dataclass, field

from segue.model.graph import SOURCE, Graph, Job

NAMES = "abcdefg"
SHAPES = 400  # graphs to draw from: few enough to cache them with all that is derived from them


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A file is written, or overwritten."""

    file: int
    late: bool = False  # the event comes after all others


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """A file is deleted."""

    file: int
    late: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRequest:
    """A user requests results."""

    file: int | None  # None: all, by their prefix
    jobs: tuple[str, ...]  # none: all
    force: bool = False
    parents: bool = False
    ping: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BackfillStart:
    """A backfill of all files."""

    jobs: tuple[str, ...]
    force: bool = False
    retry: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Failures are reset, and their jobs requested again."""

    jobs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A job gets a new version in all processes at once; old results may stay accepted."""

    job: str
    accepts_old: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PoisonMessage:
    """A job's topic receives something that is not a message, or a message for another job."""

    job: str
    other: str | None = None


Event = Upload | Removal | UserRequest | BackfillStart | Retry | Deployment | PoisonMessage


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultBudget:
    """How often each kind of fault may occur."""

    crashes: int = 0  # a process dies, between any two steps
    outages: int = 0  # a port is unavailable before, during or after a call
    duplicates: int = 0  # messages and events are delivered again, acknowledgements are lost
    stalls: int = 0  # time passes while some or all workers do nothing
    transient_errors: int = 0  # of jobs
    full_disks: int = 0

    @property
    def total(self) -> int:
        """The number of faults."""
        return sum(getattr(self, name) for name in self.__dataclass_fields__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """The input of a history; the seed decides the rest."""

    seed: int
    shape: tuple[tuple[str, ...], ...]  # the parents of a, b, c, …; none: it reads the source
    files: int = 1  # that exist from the start, without an event
    events: tuple[Event, ...] = ()
    teams: tuple[tuple[str, ...], ...] = field(default=())  # the jobs of each worker
    failing: float = 0.0  # the fraction of file-jobs that fail permanently
    faults: FaultBudget = FaultBudget()
    detects_dead_processes: bool = True  # and knows that their leases are lost
    keeps_artifacts: bool = True  # when a file is deleted

    @property
    def jobs(self) -> tuple[str, ...]:
        """The names of the jobs, parents first."""
        return tuple(NAMES[: len(self.shape)])


@functools.lru_cache(maxsize=4 * SHAPES)
def build_graph(
    shape: tuple[tuple[str, ...], ...], versions: tuple[int, ...] = (), accepting: str = ""
) -> Graph:
    """Build the graph of a shape; jobs in ``accepting`` accept their previous version's results."""
    jobs: dict[str, Job] = {}
    for at, parents in enumerate(shape):
        name = NAMES[at]
        version = versions[at] if versions else 1
        job = _build_job(name, parents, version)
        if name in accepting and version > 1:
            before = {**jobs, name: _build_job(name, parents, version - 1)}
            job = _build_job(name, parents, version, (Graph(jobs=before).fingerprints[name],))
        jobs[name] = job
    return Graph(jobs=jobs)


def _build_job(
    name: str, parents: tuple[str, ...], version: int, equivalent: tuple[str, ...] = ()
) -> Job:
    needs = {f"from_{p}": p for p in parents} or {"media": SOURCE}
    return Job(
        name=name,
        run="m:f",
        needs=needs,
        writes="application/json",
        version=version,
        equivalent=equivalent,
    )


@functools.lru_cache(maxsize=SHAPES)
def draw_shape(number: int) -> tuple[tuple[str, ...], ...]:
    """Draw a shape: chains, forks, diamonds and joins; some jobs read the source, too."""
    rng = random.Random(f"shape {number}")
    shape: list[tuple[str, ...]] = []
    for i in range(rng.choice((1, 2, 3, 3, 4, 4, 5, 5, 6, 7))):
        mask = rng.randrange(2**i) & rng.randrange(2**i)  # few parents, and for most jobs one
        if not mask and i and rng.random() < 0.7:
            mask = 2 ** rng.randrange(i)
        above = tuple(NAMES[j] for j in range(i) if mask >> j & 1)
        shape.append((SOURCE, *above) if above and rng.random() < 0.1 else above)
    return tuple(shape)


def draw_scenario(seed: int) -> Scenario:
    """Draw a scenario."""
    rng = random.Random(seed)
    shape = draw_shape(rng.randrange(SHAPES))
    jobs = tuple(NAMES[: len(shape)])
    files = rng.choice((0, 1, 1, 2))
    return Scenario(
        seed=seed,
        shape=shape,
        files=files,
        events=_draw_events(rng, jobs, files),
        teams=_draw_teams(rng, jobs),
        failing=rng.choice((0.0, 0.0, 0.1)),
        faults=_draw_fault_budget(rng),
        detects_dead_processes=rng.random() < 0.5,
        keeps_artifacts=rng.random() < 0.6,
    )


def _draw_events(rng: random.Random, jobs: tuple[str, ...], files: int) -> tuple[Event, ...]:
    events: list[Event] = [] if files else [Upload(file=0)]
    known = max(files, 1)
    for _ in range(rng.choice((1, 1, 2, 2, 3, 4, 5))):
        r = rng.random()
        some = tuple(j for j in jobs if rng.random() < 0.4) or (rng.choice(jobs),)
        if r < 0.16:
            file = rng.randrange(min(known + 1, 3))
            known = max(known, file + 1)
            events.append(Upload(file=file, late=rng.random() < 0.2))
        elif r < 0.24:
            events.append(Removal(file=rng.randrange(known), late=rng.random() < 0.2))
        elif r < 0.66:
            events.append(_draw_request(rng, some, known))
        elif r < 0.80:
            again = rng.random()
            events.append(BackfillStart(jobs=some, force=again < 0.15, retry=again > 0.8))
        elif r < 0.88:
            events.append(Retry(jobs=jobs if rng.random() < 0.5 else some))
        elif r < 0.95:
            events.append(Deployment(job=rng.choice(jobs), accepts_old=rng.random() < 0.3))
        else:
            other = rng.choice(jobs) if rng.random() < 0.5 else None
            events.append(PoisonMessage(job=rng.choice(jobs), other=other))
    return tuple(events)


def _draw_request(rng: random.Random, jobs: tuple[str, ...], known: int) -> UserRequest:
    file = None if rng.random() < 0.3 else rng.randrange(known)
    r = rng.random()
    return UserRequest(
        file=file,
        jobs=() if r > 0.97 else jobs,
        force=r < 0.3,
        parents=r < 0.06,
        ping=0.3 <= r < 0.4,
    )


def _draw_teams(rng: random.Random, jobs: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    each = tuple((job,) for job in jobs)
    cut = rng.randrange(len(jobs))
    halves = tuple(half for half in (jobs[:cut], jobs[cut:]) if half)
    return rng.choice(((jobs,), (jobs, jobs), each, each + each, halves, halves + halves))


def _draw_fault_budget(rng: random.Random) -> FaultBudget:
    """Draw the faults; a quarter of the histories has hardly any, and must do everything right."""
    if rng.random() < 0.25:
        return FaultBudget(duplicates=rng.choice((0, 2)))

    def draw() -> int:
        return rng.choice((0, 0, 1, 2, 4))

    return FaultBudget(
        crashes=draw(),
        outages=draw(),
        duplicates=draw(),
        stalls=draw(),
        transient_errors=draw(),
        full_disks=rng.choice((0, 0, 0, 1)),
    )
