"""Scenarios: the graph, files, events and faults of a history, drawn from a seed."""

from __future__ import annotations

import functools
import random
from dataclasses import dataclass, field, replace
from enum import StrEnum

from segue.model.graph import SOURCE, Graph, Job

NAMES = "abcdefghi"
MAX_CLOCK_ERROR_S = 15.0  # two clocks differ by half a lease then
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
class Touch:
    """A file in a folder gets another status, and keeps its content."""

    file: int
    late: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Return:
    """A file in a folder becomes what it was at some time before."""

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
class Collection:
    """Garbage is collected."""

    older_than_s: float = 0.0


class Version(StrEnum):
    """What a deployment does with a job's version."""

    BREAKING = "breaking"  # raise it; old results of the job, and below it, count no more
    COMPATIBLE = "compatible"  # raise it; old results are as good as those of the new version
    NONE = "none"  # remove the job, and all below it
    BACK = "back"  # return to the deployment before


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A job gets another version."""

    job: str
    version: Version = Version.BREAKING
    rolling: bool = False  # some workers are not replaced yet, and work beside the new ones


@dataclass(frozen=True, slots=True, kw_only=True)
class StrayMessage:
    """A topic receives what does not belong there."""

    job: str  # of the topic's pipeline
    other: str | None = None  # what a request asks for; None: it is not a message at all
    is_foreign: bool = False  # it is of another namespace


FileChange = Upload | Removal | Touch | Return
Event = FileChange | UserRequest | BackfillStart | Retry | Deployment | Collection | StrayMessage


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultBudget:
    """How often each kind of fault may occur."""

    crashes: int = 0  # a process dies, between any two steps
    outages: int = 0  # a port is unavailable before, during or after a call
    duplicates: int = 0  # messages and events are delivered again, acknowledgements are lost
    stalls: int = 0  # time passes while some or all workers do nothing
    transient_errors: int = 0  # of jobs
    full_disks: int = 0
    losses: int = 0  # of artifacts

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
    in_folder: bool = False  # and not in a bucket
    events: tuple[Event, ...] = ()
    groups: tuple[tuple[str, ...], ...] = ()  # jobs that share a pipeline; others have their own
    # The jobs of each worker, which serves their pipelines; it serves all jobs of a pipeline.
    teams: tuple[tuple[str, ...], ...] = field(default=())
    failing: float = 0.0  # the fraction of file-jobs that fail permanently
    inapplicable: float = 0.0  # the fraction of file-jobs that are not for this file
    faults: FaultBudget = FaultBudget()
    detects_dead_processes: bool = True  # and knows that their leases are lost
    keeps_artifacts: bool = True  # when a file is deleted
    clock_error_s: float = 0.0  # how far clocks are off at most, of leases that last a minute

    @property
    def jobs(self) -> tuple[str, ...]:
        """The names of the jobs, parents first."""
        return tuple(NAMES[: len(self.shape)])

    @property
    def is_calm(self) -> bool:
        """Whether nothing happens that leaves anything to the sweep."""
        is_refusing = self.failing or self.inapplicable
        is_regular = not self.faults.total and not self.in_folder and not self.clock_error_s
        return is_regular and not any(
            isinstance(event, Deployment | BackfillStart | StrayMessage)
            # Those who wait for what is reopened, and refused again, are not told at once.
            or (is_refusing and (isinstance(event, Retry) or getattr(event, "force", False)))
            for event in self.events
        )

    @property
    def deployments(self) -> int:
        """The number of deployments after the first."""
        return sum(isinstance(event, Deployment) for event in self.events)

    @property
    def collects(self) -> bool:
        """Whether garbage is collected."""
        return any(isinstance(event, Collection) for event in self.events)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """What is deployed: each job's version, and the old results that it accepts."""

    versions: tuple[int, ...]
    equivalents: tuple[tuple[str, ...], ...]
    removed: tuple[str, ...] = ()


def deploy_first(scenario: Scenario) -> Deployed:
    """Return the first deployment of a scenario."""
    number = len(scenario.shape)
    return Deployed(versions=(1,) * number, equivalents=((),) * number)


def change_version(scenario: Scenario, before: Deployed, event: Deployment) -> Deployed:
    """Return a deployment with a higher version of one job, or without it.

    A breaking version is one of all jobs below, too: what they accepted was made from old results.
    """
    graph = build_graph(scenario.shape, scenario.groups, before)
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


@functools.lru_cache(maxsize=4 * SHAPES)
def build_graph(
    shape: tuple[tuple[str, ...], ...], groups: tuple[tuple[str, ...], ...], deployed: Deployed
) -> Graph:
    """Build the graph of a shape; the pipelines of groups are p0, p1, …"""
    jobs: dict[str, Job] = {}
    for at, parents in enumerate(shape):
        name = NAMES[at]
        if name in deployed.removed:
            continue
        jobs[name] = Job(
            name=name,
            run="m:f",
            needs={f"from_{p}": p for p in parents} or {"media": SOURCE},
            writes="application/json",
            version=deployed.versions[at],
            equivalents=deployed.equivalents[at],
        )
    left = (tuple(job for job in group if job in jobs) for group in groups)
    return Graph(jobs=jobs, groups={f"p{i}": group for i, group in enumerate(left) if group})


@functools.lru_cache(maxsize=SHAPES)
def draw_shape(number: int) -> tuple[tuple[str, ...], ...]:
    """Draw a shape: chains, forks, diamonds, joins and lattices; some jobs read the source, too."""
    rng = random.Random(f"shape {number}")
    if rng.random() < 0.12:
        return build_lattice(*rng.choice(((2, 2), (2, 3), (2, 4), (3, 2), (3, 3))))
    shape: list[tuple[str, ...]] = []
    for i in range(rng.choice((1, 2, 3, 3, 4, 4, 5, 5, 6, 7))):
        mask = rng.randrange(2**i) & rng.randrange(2**i)  # few parents, and for most jobs one
        if not mask and i and rng.random() < 0.7:
            mask = 2 ** rng.randrange(i)
        above = tuple(NAMES[j] for j in range(i) if mask >> j & 1)
        shape.append((SOURCE, *above) if above and rng.random() < 0.1 else above)
    return tuple(shape)


def build_lattice(width: int, layers: int) -> tuple[tuple[str, ...], ...]:
    """Build a shape of layers in which each job needs the whole layer above."""
    return tuple(
        tuple(NAMES[(layer - 1) * width : layer * width]) if layer else ()
        for layer in range(layers)
        for _ in range(width)
    )


def draw_scenario(seed: int) -> Scenario:
    """Draw a scenario."""
    rng = random.Random(seed)
    shape = draw_shape(rng.randrange(SHAPES))
    jobs = tuple(NAMES[: len(shape)])
    files = rng.choice((0, 1, 1, 2))
    groups = _draw_groups(rng, jobs)
    events = _draw_events(rng, jobs, files)
    if rng.random() < 0.3:
        events = _add_collections(rng, events)
    in_folder = rng.random() < 0.3
    if in_folder:
        events = _add_changes(rng, events)
    return Scenario(
        seed=seed,
        shape=shape,
        files=files,
        in_folder=in_folder,
        events=events,
        groups=groups,
        teams=_draw_teams(rng, jobs, groups),
        failing=rng.choice((0.0, 0.0, 0.1)),
        inapplicable=rng.choice((0.0, 0.0, 0.0, 0.1)),
        faults=_draw_fault_budget(rng),
        detects_dead_processes=rng.random() < 0.5,
        keeps_artifacts=rng.random() < 0.6,
        clock_error_s=rng.choice((0.0, 0.0, MAX_CLOCK_ERROR_S)),
    )


def _draw_events(rng: random.Random, jobs: tuple[str, ...], files: int) -> tuple[Event, ...]:
    events: list[Event] = [] if files else [Upload(file=0)]
    known = max(files, 1)
    for _ in range(rng.choice((bool(files), 1, 1, 2, 2, 3, 4, 5))):
        r = rng.random()
        some = tuple(j for j in jobs if rng.random() < 0.4) or (rng.choice(jobs),)
        if r < 0.16:
            file = rng.randrange(min(known + 1, 3))
            known = max(known, file + 1)
            events.append(Upload(file=file, late=rng.random() < 0.2))
        elif r < 0.24:
            events.append(Removal(file=rng.randrange(known), late=rng.random() < 0.2))
        elif r < 0.60:
            events.append(_draw_request(rng, some, known))
        elif r < 0.74:
            again = rng.random()
            events.append(BackfillStart(jobs=some, force=again < 0.15, retry=again > 0.8))
        elif r < 0.82:
            events.append(Retry(jobs=jobs if rng.random() < 0.5 else some))
        elif r < 0.95:
            events.append(_draw_deployment(rng, jobs))
        else:
            other = rng.choice(jobs) if rng.random() < 0.5 else None
            is_foreign = other is not None and rng.random() < 0.3
            events.append(StrayMessage(job=rng.choice(jobs), other=other, is_foreign=is_foreign))
    return tuple(events)


def _add_collections(rng: random.Random, events: tuple[Event, ...]) -> tuple[Event, ...]:
    """Collect garbage once or twice, at any time."""
    more = list(events)
    for _ in range(rng.choice((1, 1, 2))):
        at = rng.randint(bool(events), len(more))
        more.insert(at, Collection(older_than_s=rng.choice((0.0, 0.0, 120.0))))
    return tuple(more)


def _add_changes(rng: random.Random, events: tuple[Event, ...]) -> tuple[Event, ...]:
    """Let the history of a folder go backwards."""
    more = list(events)
    for _ in range(rng.choice((1, 2, 3, 4))):
        kind = rng.choice((Upload, Touch, Return, Return, Removal))
        change = kind(file=0, late=rng.random() < 0.2)
        more.insert(rng.randint(bool(events), len(more)), change)
    return tuple(more)


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


def _draw_deployment(rng: random.Random, jobs: tuple[str, ...]) -> Deployment:
    return Deployment(
        job=rng.choice(jobs),
        version=rng.choice(
            (Version.BREAKING, Version.BREAKING, Version.COMPATIBLE, Version.BACK, Version.NONE)
        ),
        rolling=rng.random() < 0.4,
    )


def _draw_groups(rng: random.Random, jobs: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """Draw which jobs share a pipeline: none, all, two halves, or any."""
    cut = rng.randrange(len(jobs))
    number = rng.choice((2, 3))
    members: list[list[str]] = [[] for _ in range(number)]
    for job in jobs:
        if rng.random() < 0.7:
            members[rng.randrange(number)].append(job)
    groups = rng.choice(((), (), (jobs,), (jobs[:cut], jobs[cut:]), tuple(map(tuple, members))))
    return tuple(group for group in groups if len(group) > 1)


def _draw_teams(
    rng: random.Random, jobs: tuple[str, ...], groups: tuple[tuple[str, ...], ...]
) -> tuple[tuple[str, ...], ...]:
    """Draw who serves the pipelines: one worker all of them, each its own, or each some."""
    grouped = {job for group in groups for job in group}
    pipelines = [*groups, *((job,) for job in jobs if job not in grouped)]
    cut = rng.randrange(len(pipelines))
    halves = tuple(half for half in (pipelines[:cut], pipelines[cut:]) if half)
    each = tuple([one] for one in pipelines)
    chosen = rng.choice(
        (([pipelines],), ([pipelines],) * 2, (each,), (each,), (each,) * 2, (halves,) * 2)
    )
    return tuple(
        tuple(job for job in jobs if any(job in pipeline for pipeline in team))
        for teams in chosen
        for team in teams
    )


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
        losses=rng.choice((0, 0, 0, 1, 2)),
    )
