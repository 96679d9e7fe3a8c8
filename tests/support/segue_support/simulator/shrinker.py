"""Shrinks a scenario that breaks a promise to a smaller one that breaks the same promise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace

from segue.model.graph import SOURCE
from segue_support.simulator.faults import BrokenPromise
from segue_support.simulator.scenario import (
    NAMES,
    NAMESPACES,
    BackfillStart,
    Deployment,
    Erasure,
    Event,
    FaultBudget,
    FileChange,
    Layout,
    PauseOrder,
    ResumeOrder,
    Retry,
    Scenario,
    StrayMessage,
    UserRequest,
)
from segue_support.simulator.simulation import Simulation

TRIES = 30  # seeds of a smaller scenario until it is taken to be correct
LAST_TRIES = 100  # seeds of the smallest scenario, of which the shortest history is rename


def find_broken_promise(scenario: Scenario) -> BrokenPromise | None:
    """Run a history; return the promise that it broke, if any."""
    try:
        Simulation(scenario).run()
    except BrokenPromise as error:
        return error
    return None


def shrink(scenario: Scenario, report: Callable[[Scenario], object] = lambda _: None) -> Scenario:
    """Return a smaller scenario that breaks the same promise; ``report`` is called with each."""
    first = find_broken_promise(scenario)
    if first is None:
        return scenario
    smaller: Scenario | None = scenario
    seen: set[Scenario] = set()  # without their seeds: two proposals may undo each other
    while smaller is not None:
        scenario = smaller
        report(scenario)
        seen.add(replace(scenario, seed=0))
        proposed = (s for s in _propose_smaller(scenario) if replace(s, seed=0) not in seen)
        found = (_find_breaking_seed(each, first.promise) for each in proposed)
        smaller = next((each for each in found if each is not None), None)
    return _find_shortest(scenario, first.promise)


def _find_breaking_seed(scenario: Scenario, promise: str) -> Scenario | None:
    """Return the scenario with a seed that breaks the promise, if one is found in a few tries."""
    for seed in (scenario.seed, *range(TRIES)):
        tried = replace(scenario, seed=seed)
        error = find_broken_promise(tried)
        if error is not None and error.promise == promise:
            return tried
    return None


def _find_shortest(scenario: Scenario, promise: str) -> Scenario:
    best, steps = scenario, float("inf")
    for seed in (scenario.seed, *range(LAST_TRIES)):
        simulation = Simulation(replace(scenario, seed=seed))
        world = simulation.world
        try:
            simulation.run()
        except BrokenPromise as error:
            if error.promise == promise and world.step < steps:
                best, steps = world.scenario, world.step
    return best


def _propose_smaller(scenario: Scenario) -> Iterator[Scenario]:
    """Yield scenarios that are a little smaller, those that save most first."""
    for at in range(len(scenario.events)):
        yield replace(scenario, events=scenario.events[:at] + scenario.events[at + 1 :])
    yield from _propose_fewer_jobs(scenario)
    yield from _propose_calmer(scenario)
    for number, layout in enumerate(scenario.layouts):
        for simpler in _propose_simpler_layouts(layout):
            layouts = (*scenario.layouts[:number], simpler, *scenario.layouts[number + 1 :])
            yield replace(scenario, layouts=layouts)
    for at, event in enumerate(scenario.events):
        for simpler_event in _propose_simpler(event):
            events = (*scenario.events[:at], simpler_event, *scenario.events[at + 1 :])
            yield replace(scenario, events=events)


def _propose_fewer_jobs(scenario: Scenario) -> Iterator[Scenario]:
    """Yield scenarios without one of several namespaces, or of several jobs of one."""
    if len(scenario.layouts) > 1:
        for number in reversed(range(len(scenario.layouts))):
            yield _remove_namespace(scenario, number)
    for number, layout in enumerate(scenario.layouts):
        if len(layout.shape) > 1:
            for at in reversed(range(len(layout.shape))):
                yield _remove_job(scenario, number, at)


def _propose_simpler_layouts(layout: Layout) -> Iterator[Layout]:
    """Yield layouts with fewer workers, pipelines or needs."""
    for teams in ((layout.jobs,), (layout.jobs, layout.jobs)):
        if len(teams) < len(layout.teams):
            yield replace(layout, teams=teams)
    if layout.groups:
        yield replace(layout, groups=(), teams=tuple((job,) for job in layout.jobs))
        together = (layout.jobs,)
        if layout.groups != together:
            yield replace(layout, groups=together, teams=together)
    if layout.on_request:
        yield replace(layout, on_request=())
    if layout.source is not None:
        yield replace(layout, source=None)
    for at, parents in enumerate(layout.shape):
        for parent in parents:
            fewer = tuple(p for p in parents if p != parent)
            yield replace(layout, shape=(*layout.shape[:at], fewer, *layout.shape[at + 1 :]))


def _propose_calmer(scenario: Scenario) -> Iterator[Scenario]:
    """Yield scenarios with fewer faults or files."""
    for field in fields(FaultBudget):
        if count := getattr(scenario.faults, field.name):
            for less in {0, count - 1}:
                yield replace(scenario, faults=replace(scenario.faults, **{field.name: less}))
    if scenario.files > 1:
        yield replace(scenario, files=1, events=tuple(map(_use_one_file, scenario.events)))
    plain = replace(
        scenario,
        failing=0.0,
        inapplicable=0.0,
        detects_dead_processes=True,
        keeps_artifacts=True,
        in_folder=False,
        clock_error_s=0.0,
    )
    if plain != scenario:
        yield plain
        yield replace(scenario, failing=0.0)
        yield replace(scenario, inapplicable=0.0)
        yield replace(scenario, in_folder=False)
        yield replace(scenario, clock_error_s=0.0)
        yield replace(scenario, detects_dead_processes=True, keeps_artifacts=True)


def _remove_namespace(scenario: Scenario, gone: int) -> Scenario:
    """Remove one namespace; those after it are renamed."""
    names = [name for number, name in enumerate(NAMESPACES) if number != gone]
    new = dict(zip(names, NAMESPACES, strict=False))
    layouts = []
    for number, layout in enumerate(scenario.layouts):
        shape = tuple(
            tuple(p for parent in parents if (p := _rename_namespace(parent, new)) is not None)
            for parents in layout.shape
        )
        if number != gone:
            source = new.get(layout.source) if layout.source is not None else None
            layouts.append(replace(layout, shape=shape, source=source))
    events = tuple(
        _renumber(event, gone)
        for event in scenario.events
        if isinstance(event, FileChange) or event.namespace != gone
    )
    return replace(scenario, layouts=tuple(layouts), events=events)


def _renumber(event: Event, gone: int) -> Event:
    if isinstance(event, FileChange) or event.namespace < gone:
        return event
    return _replace_field(event, "namespace", event.namespace - 1)


def _rename_namespace(parent: str, new: Mapping[str, str]) -> str | None:
    namespace, slash, job = parent.partition("/")
    if not slash:
        return parent
    return f"{new[namespace]}/{job}" if namespace in new else None


def _remove_job(scenario: Scenario, number: int, gone: int) -> Scenario:
    """Remove one job of a namespace; the jobs after it are renamed."""
    layout, namespace = scenario.layouts[number], NAMESPACES[number]
    names = [name for at, name in enumerate(layout.jobs) if at != gone]
    new = dict(zip(names, NAMES, strict=False))
    references = {f"{namespace}/{job}": f"{namespace}/{after}" for job, after in new.items()}

    def rename(jobs: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(new[job] for job in jobs if job in new)

    def rename_parents(parents: tuple[str, ...], own: Mapping[str, str]) -> tuple[str, ...]:
        others = {p: p for p in parents if p == SOURCE or "/" in p}
        kept = {p: p for p in others if not p.startswith(f"{namespace}/")}
        known = {**own, **kept, **references}
        return tuple(known[p] for p in parents if p in known)

    layouts = []
    for n, each in enumerate(scenario.layouts):
        own = new if n == number else {job: job for job in each.jobs}
        shape = tuple(
            rename_parents(parents, own)
            for at, parents in enumerate(each.shape)
            if (n, at) != (number, gone)
        )
        layouts.append(replace(each, shape=shape))
    layouts[number] = replace(
        layouts[number],
        teams=tuple(team for jobs in layout.teams if (team := rename(jobs))),
        groups=tuple(group for jobs in layout.groups if len(group := rename(jobs)) > 1),
        published=rename(layout.published),
        on_request=rename(layout.on_request),
    )
    events = tuple(
        e for event in scenario.events if (e := _rename_jobs(event, rename, number)) is not None
    )
    return replace(scenario, layouts=tuple(layouts), events=events)


def _rename_jobs(
    event: Event, rename: Callable[[tuple[str, ...]], tuple[str, ...]], number: int
) -> Event | None:
    """Rename an event's jobs if it is of a namespace; return None if none are left."""
    if isinstance(event, FileChange) or event.namespace != number:
        return event
    match event:
        case UserRequest() | BackfillStart() | Retry() | PauseOrder() | ResumeOrder():
            jobs = rename(event.jobs)
            return replace(event, jobs=jobs) if jobs or not event.jobs else None
        case Deployment(job=job):
            left = rename((job,))
            return replace(event, job=left[0]) if left else None
        case StrayMessage(job=job, other=other):
            left = rename((job,) if other is None else (job, other))
            if len(left) != 1 + (other is not None):
                return None
            return replace(event, job=left[0], other=left[1] if other is not None else None)
    return event


def _use_one_file(event: Event) -> Event:
    if isinstance(event, FileChange | Erasure):
        return replace(event, file=0)
    if isinstance(event, UserRequest) and event.file is not None:
        return replace(event, file=0)
    return event


def _propose_simpler(event: Event) -> Iterator[Event]:
    """Yield simpler variants of an event."""
    for name in ("force", "parents", "ping", "retry", "asks", "late", "rolling", "is_foreign"):
        if getattr(event, name, False):
            yield _replace_field(event, name, False)
    if getattr(event, "older_than_s", 0.0):
        yield _replace_field(event, "older_than_s", 0.0)
    if getattr(event, "max_failures", None) is not None:
        yield _replace_field(event, "max_failures", None)
    jobs: tuple[str, ...] = getattr(event, "jobs", ())
    if len(jobs) > 1:
        for job in jobs:
            yield _replace_field(event, "jobs", tuple(j for j in jobs if j != job))


def _replace_field(event: Event, name: str, value: object) -> Event:
    values = {f.name: getattr(event, f.name) for f in fields(event)}
    return type(event)(**(values | {name: value}))
