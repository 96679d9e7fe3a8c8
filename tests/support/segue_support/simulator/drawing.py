"""Draws scenarios from seeds: those of even seeds have one namespace, others have several."""

from __future__ import annotations

import functools
import random
from dataclasses import replace

from segue.model.graph import SOURCE
from segue_support.simulator.scenario import (
    NAMES,
    NAMESPACES,
    BackfillStart,
    CancelOrder,
    CatchUpStart,
    Collection,
    Deployment,
    Erasure,
    Event,
    FaultBudget,
    Layout,
    PauseOrder,
    Removal,
    ResumeOrder,
    Retry,
    Return,
    Scenario,
    StrayMessage,
    Touch,
    Upload,
    UserRequest,
    Version,
)

MAX_CLOCK_ERROR_S = 15.0  # two clocks differ by half a lease then
ORDERING = 0.3  # the fraction of histories in which operators give orders
ERASING = 0.06  # the fraction of histories in which a file is erased
SHAPES = 400  # graphs to draw from: few enough to cache them with all that is derived from them


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
    layouts = draw_layouts(rng.randrange(SHAPES), several=seed % 2 == 1)
    files = rng.choice((0, 1, 1, 2))
    layouts = tuple(_draw_groups(rng, layout) for layout in layouts)
    events = _draw_events(rng, layouts, files)
    if rng.random() < 0.3:
        events = _add_collections(rng, layouts, events)
    in_folder = rng.random() < 0.3
    if in_folder:
        events = _add_changes(rng, events)
    events = _add_erasure(random.Random(f"erasure {seed}"), layouts, events)
    events = _add_orders(random.Random(f"orders {seed}"), layouts, events)
    return Scenario(
        seed=seed,
        layouts=tuple(_draw_teams(rng, layout) for layout in layouts),
        files=files,
        in_folder=in_folder,
        events=events,
        failing=rng.choice((0.0, 0.0, 0.1)),
        inapplicable=rng.choice((0.0, 0.0, 0.0, 0.1)),
        faults=_draw_fault_budget(rng),
        detects_dead_processes=rng.random() < 0.5,
        keeps_artifacts=rng.random() < 0.6,
        clock_error_s=rng.choice((0.0, 0.0, MAX_CLOCK_ERROR_S)),
    )


@functools.lru_cache(maxsize=2 * SHAPES)
def draw_layouts(number: int, *, several: bool) -> tuple[Layout, ...]:
    """Draw the jobs of one namespace, or of several that need each other's."""
    if not several:
        return (Layout(shape=draw_shape(number)),)
    rng = random.Random(f"layouts {number}")
    layouts: list[Layout] = []
    for _ in range(rng.choice((2, 2, 3, 4))):
        layouts.append(_draw_layout(rng, layouts))
    if rng.random() < 0.15:  # the first needs something of another one, too
        number = rng.randrange(1, len(layouts))
        layouts[0] = _add_job_below(layouts[0], number, layouts[number])
    needed = {p for layout in layouts for parents in layout.shape for p in parents if "/" in p}
    return tuple(
        replace(
            layout,
            published=tuple(
                job
                for job in layout.jobs
                if f"{NAMESPACES[n]}/{job}" in needed or rng.random() < 0.2
            ),
        )
        for n, layout in enumerate(layouts)
    )


def _draw_layout(rng: random.Random, above: list[Layout]) -> Layout:
    """Draw the jobs of a namespace that may need those of the namespaces above."""
    foreign = _list_references(above)
    shape: list[tuple[str, ...]] = []
    for i in range(rng.choice((1, 2, 2, 3)) if above else rng.choice((1, 2, 3, 4))):
        needs = [NAMES[j] for j in range(i) if rng.random() < 0.4]
        needs += [reference for reference in foreign if rng.random() < 0.2]
        if rng.random() < 0.05:
            needs.insert(0, SOURCE)
        elif not needs and foreign and rng.random() < 0.9:
            needs = [rng.choice(foreign)]
        shape.append(tuple(needs))
    source = NAMESPACES[0] if above and rng.random() < 0.5 else None
    layout = Layout(shape=tuple(shape), source=source, registry="gs://registry")
    return replace(layout, on_request=_draw_on_request(rng, above, layout))


def _add_job_below(layout: Layout, number: int, other: Layout) -> Layout:
    """Add a job that needs the last one of another namespace."""
    job = other.jobs[-1]
    changed = replace(layout, shape=(*layout.shape, (f"{NAMESPACES[number]}/{job}",)))
    if job not in other.on_request:
        return changed
    return replace(changed, on_request=(*layout.on_request, changed.jobs[-1]))


def _list_references(layouts: list[Layout]) -> list[str]:
    """Return the jobs of some namespaces, as others refer to them."""
    return [f"{NAMESPACES[n]}/{job}" for n, layout in enumerate(layouts) for job in layout.jobs]


def _draw_on_request(rng: random.Random, layouts: list[Layout], layout: Layout) -> tuple[str, ...]:
    """Draw the jobs that no arrival starts: those below another one, and some more."""
    found = {
        f"{NAMESPACES[n]}/{job}" for n, above in enumerate(layouts) for job in above.on_request
    }
    for job, parents in zip(layout.jobs, layout.shape, strict=True):
        if rng.random() < 0.15 or not found.isdisjoint(parents):
            found.add(job)
    return tuple(job for job in layout.jobs if job in found)


def _draw_events(rng: random.Random, layouts: tuple[Layout, ...], files: int) -> tuple[Event, ...]:
    events: list[Event] = [] if files else [Upload(file=0)]
    known = max(files, 1)
    for _ in range(rng.choice((bool(files), 1, 1, 2, 2, 3, 4, 5))):
        number = rng.randrange(len(layouts)) if len(layouts) > 1 else 0
        event = _draw_event(rng, layouts[number].jobs, known, number)
        if isinstance(event, Upload):
            known = max(known, event.file + 1)
        events.append(event)
    return tuple(events)


def _draw_event(rng: random.Random, jobs: tuple[str, ...], known: int, number: int) -> Event:
    r = rng.random()
    some = tuple(j for j in jobs if rng.random() < 0.4) or (rng.choice(jobs),)
    if r < 0.16:
        file = rng.randrange(min(known + 1, 3))
        return Upload(file=file, late=rng.random() < 0.2)
    if r < 0.24:
        return Removal(file=rng.randrange(known), late=rng.random() < 0.2)
    if r < 0.60:
        return _draw_request(rng, some, known, number)
    if r < 0.74:
        again = rng.random()
        return BackfillStart(
            jobs=some,
            force=again < 0.15,
            retry=again > 0.8,
            asks=0.3 < again < 0.7,
            namespace=number,
        )
    if r < 0.82:
        return Retry(jobs=jobs if rng.random() < 0.5 else some, namespace=number)
    if r < 0.95:
        return _draw_deployment(rng, jobs, number)
    other = rng.choice(jobs) if rng.random() < 0.5 else None
    is_foreign = other is not None and rng.random() < 0.3
    return StrayMessage(job=rng.choice(jobs), other=other, is_foreign=is_foreign, namespace=number)


def _add_collections(
    rng: random.Random, layouts: tuple[Layout, ...], events: tuple[Event, ...]
) -> tuple[Event, ...]:
    """Collect garbage once or twice, at any time."""
    more = list(events)
    for _ in range(rng.choice((1, 1, 2))):
        at = rng.randint(bool(events), len(more))
        older_than_s = rng.choice((0.0, 0.0, 120.0))
        number = rng.randrange(len(layouts)) if len(layouts) > 1 else 0
        more.insert(at, Collection(older_than_s=older_than_s, namespace=number))
    return tuple(more)


def _add_changes(rng: random.Random, events: tuple[Event, ...]) -> tuple[Event, ...]:
    """Let the history of a folder go backwards."""
    more = list(events)
    for _ in range(rng.choice((1, 2, 3, 4))):
        kind = rng.choice((Upload, Touch, Return, Return, Removal))
        change = kind(file=0, late=rng.random() < 0.2)
        more.insert(rng.randint(bool(events), len(more)), change)
    return tuple(more)


def _add_erasure(
    rng: random.Random, layouts: tuple[Layout, ...], events: tuple[Event, ...]
) -> tuple[Event, ...]:
    """Erase a file in a few histories, at any time."""
    if rng.random() >= ERASING:
        return events
    at = rng.randint(bool(events), len(events))
    return (*events[:at], Erasure(file=0, namespace=rng.randrange(len(layouts))), *events[at:])


def _add_orders(
    rng: random.Random, layouts: tuple[Layout, ...], events: tuple[Event, ...]
) -> tuple[Event, ...]:
    """Let operators pause and resume jobs, stop backfills, and catch up, in some histories."""
    if rng.random() >= ORDERING:
        return events
    more = list(events)
    for _ in range(rng.choice((1, 1, 2, 3))):
        number = rng.randrange(len(layouts))
        at = rng.randint(0, len(more))
        r = rng.random()
        if r < 0.7:
            jobs = _draw_some(rng, layouts[number].jobs)
            more.insert(at, PauseOrder(jobs=jobs, namespace=number))
            if rng.random() < 0.6:
                resumed = jobs if rng.random() < 0.7 else _draw_some(rng, layouts[number].jobs)
                later = rng.randint(at + 1, len(more))
                more.insert(later, ResumeOrder(jobs=resumed, namespace=number))
        elif r < 0.85:
            more.insert(at, CatchUpStart(namespace=number))
        else:
            limit = rng.choice((None, None, 1))
            jobs = layouts[number].jobs
            start = BackfillStart(jobs=jobs, max_failures=limit, namespace=number)
            more.insert(at, start)
            later = rng.randint(at + 1, min(at + 3, len(more)))
            more.insert(later, CancelOrder(namespace=number))
    return tuple(more)


def _draw_some(rng: random.Random, jobs: tuple[str, ...]) -> tuple[str, ...]:
    """Draw jobs; none stand for all."""
    return tuple(job for job in jobs if rng.random() < 0.4)


def _draw_request(
    rng: random.Random, jobs: tuple[str, ...], known: int, number: int
) -> UserRequest:
    file = None if rng.random() < 0.3 else rng.randrange(known)
    r = rng.random()
    return UserRequest(
        file=file,
        jobs=() if r > 0.97 else jobs,
        force=r < 0.3,
        parents=r < 0.06,
        ping=0.3 <= r < 0.4,
        namespace=number,
    )


def _draw_deployment(rng: random.Random, jobs: tuple[str, ...], number: int) -> Deployment:
    versions = (
        *(Version.BREAKING, Version.BREAKING, Version.COMPATIBLE, Version.BACK, Version.NONE),
        *(() if number == 0 else (Version.LOCK,) * 3),
    )
    return Deployment(
        job=rng.choice(jobs),
        version=rng.choice(versions),
        rolling=rng.random() < 0.4,
        namespace=number,
    )


def _draw_groups(rng: random.Random, layout: Layout) -> Layout:
    """Draw which jobs share a pipeline: none, all, two halves, or any."""
    jobs = layout.jobs
    cut = rng.randrange(len(jobs))
    number = rng.choice((2, 3))
    members: list[list[str]] = [[] for _ in range(number)]
    for job in jobs:
        if rng.random() < 0.7:
            members[rng.randrange(number)].append(job)
    groups = rng.choice(((), (), (jobs,), (jobs[:cut], jobs[cut:]), tuple(map(tuple, members))))
    return replace(layout, groups=tuple(group for group in groups if len(group) > 1))


def _draw_teams(rng: random.Random, layout: Layout) -> Layout:
    """Draw who serves the pipelines: one worker all of them, each its own, or each some."""
    jobs, groups = layout.jobs, layout.groups
    grouped = {job for group in groups for job in group}
    pipelines = [*groups, *((job,) for job in jobs if job not in grouped)]
    cut = rng.randrange(len(pipelines))
    halves = tuple(half for half in (pipelines[:cut], pipelines[cut:]) if half)
    each = tuple([one] for one in pipelines)
    chosen = rng.choice(
        (([pipelines],), ([pipelines],) * 2, (each,), (each,), (each,) * 2, (halves,) * 2)
    )
    teams = tuple(
        tuple(job for job in jobs if any(job in pipeline for pipeline in team))
        for teams in chosen
        for team in teams
    )
    return replace(layout, teams=teams)


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
