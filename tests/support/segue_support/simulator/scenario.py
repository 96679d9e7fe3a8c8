"""What happens in a history: drawn from a seed, and small enough to be read."""

from __future__ import annotations

import functools
import random
from dataclasses import dataclass, field

from segue.model.graph import SOURCE, Graph, Job

NAMES = "abcdefg"
SHAPES = 400  # graphs that are drawn from: so many can be kept, with all that is derived from them


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A file is written, or overwritten."""

    file: int
    late: bool = False  # the event comes after all else


@dataclass(frozen=True, slots=True, kw_only=True)
class Remove:
    """A file is deleted."""

    file: int
    late: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """Somebody requests results."""

    file: int | None  # None: all, by their prefix
    jobs: tuple[str, ...]  # none: all
    force: bool = False
    parents: bool = False
    ping: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """A backfill of all files."""

    jobs: tuple[str, ...]
    force: bool = False
    retry: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """What failed is forgotten, and asked for again."""

    jobs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deploy:
    """A job gets a new version, everywhere at once; the old results may stay accepted."""

    job: str
    accepts_old: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Poison:
    """Something that is no message, or one for another job, comes to a job's topic."""

    job: str
    other: str | None = None


Event = Upload | Remove | Ask | Fill | Retry | Deploy | Poison


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """How often each thing that goes wrong may happen."""

    crashes: int = 0  # a process dies, between any two steps
    outages: int = 0  # a port is away, before, after or amid what it is to do
    copies: int = 0  # letters and events come once more, acknowledgements are lost
    stalls: int = 0  # time goes by, and some or all stand still
    hiccups: int = 0  # transient errors of jobs
    full_disks: int = 0

    @property
    def total(self) -> int:
        """All of it."""
        return sum(getattr(self, name) for name in self.__dataclass_fields__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """All that is given; the rest is the scheduler's, by the seed."""

    seed: int
    shape: tuple[tuple[str, ...], ...]  # the parents of a, b, c, …; none: it reads the source
    files: int = 1  # that are there from the beginning, of which no event ever came
    events: tuple[Event, ...] = ()
    teams: tuple[tuple[str, ...], ...] = field(default=())  # the jobs of each worker
    failing: float = 0.0  # how many of the file-jobs fail for good
    trouble: Trouble = Trouble()
    sees_the_dead: bool = True  # whether a lease of a process that died is known to be lost
    keeps_artifacts: bool = True  # when a file is deleted

    @property
    def jobs(self) -> tuple[str, ...]:
        """The names of the jobs, parents first."""
        return tuple(NAMES[: len(self.shape)])


@functools.lru_cache(maxsize=4 * SHAPES)
def graph_of(
    shape: tuple[tuple[str, ...], ...], versions: tuple[int, ...] = (), accepting: str = ""
) -> Graph:
    """The graph of a shape; jobs in ``accepting`` accept what their version before has made."""
    jobs: dict[str, Job] = {}
    for at, parents in enumerate(shape):
        name = NAMES[at]
        version = versions[at] if versions else 1
        job = _job(name, parents, version)
        if name in accepting and version > 1:
            before = {**jobs, name: _job(name, parents, version - 1)}
            job = _job(name, parents, version, (Graph(jobs=before).fingerprints[name],))
        jobs[name] = job
    return Graph(jobs=jobs)


def _job(
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
def shape_of(number: int) -> tuple[tuple[str, ...], ...]:
    """One of the shapes: chains, forks, diamonds and joins; some jobs read the source, too."""
    rng = random.Random(f"shape {number}")
    shape: list[tuple[str, ...]] = []
    for i in range(rng.choice((1, 2, 3, 3, 4, 4, 5, 5, 6, 7))):
        mask = rng.randrange(2**i) & rng.randrange(2**i)  # few parents, and for most jobs one
        if not mask and i and rng.random() < 0.7:
            mask = 2 ** rng.randrange(i)
        above = tuple(NAMES[j] for j in range(i) if mask >> j & 1)
        shape.append((SOURCE, *above) if above and rng.random() < 0.1 else above)
    return tuple(shape)


def scenario_of(seed: int) -> Scenario:
    """Draw a scenario."""
    rng = random.Random(seed)
    shape = shape_of(rng.randrange(SHAPES))
    jobs = tuple(NAMES[: len(shape)])
    files = rng.choice((0, 1, 1, 2))
    return Scenario(
        seed=seed,
        shape=shape,
        files=files,
        events=_events(rng, jobs, files),
        teams=_teams(rng, jobs),
        failing=rng.choice((0.0, 0.0, 0.1)),
        trouble=_trouble(rng),
        sees_the_dead=rng.random() < 0.5,
        keeps_artifacts=rng.random() < 0.6,
    )


def _events(rng: random.Random, jobs: tuple[str, ...], files: int) -> tuple[Event, ...]:
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
            events.append(Remove(file=rng.randrange(known), late=rng.random() < 0.2))
        elif r < 0.66:
            events.append(_ask(rng, some, known))
        elif r < 0.80:
            again = rng.random()
            events.append(Fill(jobs=some, force=again < 0.15, retry=again > 0.8))
        elif r < 0.88:
            events.append(Retry(jobs=jobs if rng.random() < 0.5 else some))
        elif r < 0.95:
            events.append(Deploy(job=rng.choice(jobs), accepts_old=rng.random() < 0.3))
        else:
            other = rng.choice(jobs) if rng.random() < 0.5 else None
            events.append(Poison(job=rng.choice(jobs), other=other))
    return tuple(events)


def _ask(rng: random.Random, jobs: tuple[str, ...], known: int) -> Ask:
    file = None if rng.random() < 0.3 else rng.randrange(known)
    r = rng.random()
    return Ask(
        file=file,
        jobs=() if r > 0.97 else jobs,
        force=r < 0.3,
        parents=r < 0.06,
        ping=0.3 <= r < 0.4,
    )


def _teams(rng: random.Random, jobs: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    each = tuple((job,) for job in jobs)
    cut = rng.randrange(len(jobs))
    halves = tuple(half for half in (jobs[:cut], jobs[cut:]) if half)
    return rng.choice(((jobs,), (jobs, jobs), each, each + each, halves, halves + halves))


def _trouble(rng: random.Random) -> Trouble:
    """In a quarter of the histories hardly anything goes wrong: there, nothing has an excuse."""
    if rng.random() < 0.25:
        return Trouble(copies=rng.choice((0, 2)))

    def some() -> int:
        return rng.choice((0, 0, 1, 2, 4))

    return Trouble(
        crashes=some(),
        outages=some(),
        copies=some(),
        stalls=some(),
        hiccups=some(),
        full_disks=rng.choice((0, 0, 0, 1)),
    )
