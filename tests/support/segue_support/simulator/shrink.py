"""Makes a scenario that breaks a promise smaller, as long as it still breaks the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, replace

from segue.model.graph import SOURCE
from segue_support.simulator.promises import Broken
from segue_support.simulator.scenario import (
    NAMES,
    Ask,
    Deploy,
    Event,
    Fill,
    Poison,
    Remove,
    Retry,
    Scenario,
    Trouble,
    Upload,
)
from segue_support.simulator.world import World

TRIES = 30  # schedules of a smaller scenario until it is believed to be good
LAST_TRIES = 100  # of the smallest one, of which the shortest history is kept


def broken(scenario: Scenario) -> Broken | None:
    """Run a history; returns the promise that it broke, if any."""
    try:
        World(scenario).run()
    except Broken as error:
        return error
    return None


def shrink(scenario: Scenario, told: Callable[[Scenario], object] = lambda _: None) -> Scenario:
    """Return a smaller scenario that breaks the same promise, greedily; ``told`` hears of each."""
    first = broken(scenario)
    if first is None:
        return scenario
    smaller: Scenario | None = scenario
    while smaller is not None:
        scenario = smaller
        told(scenario)
        found = (_breaking(each, first.promise) for each in _smaller(scenario))
        smaller = next((each for each in found if each is not None), None)
    return _shortest(scenario, first.promise)


def _breaking(scenario: Scenario, promise: str) -> Scenario | None:
    """The scenario with a seed by which it breaks a promise, if one is soon found."""
    for seed in (scenario.seed, *range(TRIES)):
        tried = replace(scenario, seed=seed)
        error = broken(tried)
        if error is not None and error.promise == promise:
            return tried
    return None


def _shortest(scenario: Scenario, promise: str) -> Scenario:
    best, steps = scenario, float("inf")
    for seed in (scenario.seed, *range(LAST_TRIES)):
        world = World(replace(scenario, seed=seed))
        try:
            world.run()
        except Broken as error:
            if error.promise == promise and world.step < steps:
                best, steps = world.scenario, world.step
    return best


def _smaller(scenario: Scenario) -> Iterator[Scenario]:
    """Scenarios that are a little smaller, those that save most first."""
    for at in range(len(scenario.events)):
        yield replace(scenario, events=scenario.events[:at] + scenario.events[at + 1 :])
    if len(scenario.shape) > 1:
        for at in reversed(range(len(scenario.shape))):
            yield _without_job(scenario, at)
    yield from _calmer(scenario)
    for at, parents in enumerate(scenario.shape):
        for parent in parents:
            fewer = tuple(p for p in parents if p != parent)
            shape = (*scenario.shape[:at], fewer, *scenario.shape[at + 1 :])
            yield replace(scenario, shape=shape)
    for at, event in enumerate(scenario.events):
        for simpler in _simpler(event):
            events = (*scenario.events[:at], simpler, *scenario.events[at + 1 :])
            yield replace(scenario, events=events)


def _calmer(scenario: Scenario) -> Iterator[Scenario]:
    """Scenarios in which less goes wrong, with fewer files and fewer workers."""
    for field in fields(Trouble):
        if count := getattr(scenario.trouble, field.name):
            for less in {0, count - 1}:
                yield replace(scenario, trouble=replace(scenario.trouble, **{field.name: less}))
    if scenario.files > 1:
        yield replace(scenario, files=1, events=tuple(map(_on_one_file, scenario.events)))
    for teams in ((scenario.jobs,), (scenario.jobs, scenario.jobs)):
        if len(teams) < len(scenario.teams):
            yield replace(scenario, teams=teams)
    plain = replace(scenario, failing=0.0, sees_the_dead=True, keeps_artifacts=True)
    if plain != scenario:
        yield plain
        yield replace(scenario, failing=0.0)
        yield replace(scenario, sees_the_dead=True, keeps_artifacts=True)


def _without_job(scenario: Scenario, gone: int) -> Scenario:
    """Take one job out; the names behind it move up."""
    names = [name for at, name in enumerate(scenario.jobs) if at != gone]
    new = dict(zip(names, NAMES, strict=False)) | {SOURCE: SOURCE}

    def kept(jobs: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(new[job] for job in jobs if job in new)

    shape = tuple(kept(p) for at, p in enumerate(scenario.shape) if at != gone)
    teams = tuple(team for jobs in scenario.teams if (team := kept(jobs)))
    events = tuple(e for event in scenario.events if (e := _with_jobs(event, kept)) is not None)
    return replace(scenario, shape=shape, teams=teams, events=events)


def _with_jobs(event: Event, kept: Callable[[tuple[str, ...]], tuple[str, ...]]) -> Event | None:
    """An event with its jobs renamed; None if there are none left."""
    match event:
        case Ask() | Fill() | Retry():
            jobs = kept(event.jobs)
            return replace(event, jobs=jobs) if jobs or not event.jobs else None
        case Deploy(job=job):
            left = kept((job,))
            return replace(event, job=left[0]) if left else None
        case Poison(job=job, other=other):
            left = kept((job,) if other is None else (job, other))
            if len(left) != 1 + (other is not None):
                return None
            return Poison(job=left[0], other=left[1] if other is not None else None)
    return event


def _on_one_file(event: Event) -> Event:
    if isinstance(event, Upload | Remove):
        return replace(event, file=0)
    if isinstance(event, Ask) and event.file is not None:
        return replace(event, file=0)
    return event


def _simpler(event: Event) -> Iterator[Event]:
    """The same event with less to it."""
    for name in ("force", "parents", "ping", "retry", "late", "accepts_old"):
        if getattr(event, name, False):
            yield _changed(event, name, False)
    jobs: tuple[str, ...] = getattr(event, "jobs", ())
    if len(jobs) > 1:
        for job in jobs:
            yield _changed(event, "jobs", tuple(j for j in jobs if j != job))


def _changed(event: Event, name: str, value: object) -> Event:
    values = {f.name: getattr(event, f.name) for f in fields(event)}
    return type(event)(**(values | {name: value}))
