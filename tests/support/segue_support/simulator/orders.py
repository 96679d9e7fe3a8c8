"""Plays what operators order: pauses, cancellations, and what follows once they resume."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from segue.ingest.catalogue import MediaFilter
from segue.ingest.catch_up import CatchUp
from segue.model.controls import cancel_run, pause_jobs
from segue_support.simulator.actors import (
    Actors,
    FunctionCall,
    SimulatedBackfill,
    SimulatedResume,
)
from segue_support.simulator.scenario import (
    NAMES,
    CancelOrder,
    CatchUpStart,
    PauseOrder,
    ResumeOrder,
)

if TYPE_CHECKING:
    from segue_support.simulator.namespace import Namespace


def play_order(
    actors: Actors, home: Namespace, event: PauseOrder | ResumeOrder | CancelOrder | CatchUpStart
) -> None:
    """Apply an order to the controls of a namespace, or start what carries it out."""
    match event:
        case PauseOrder(jobs=jobs):
            if home.graph.jobs.keys() >= {*jobs}:  # else it is refused
                _pause(home, jobs)
        case ResumeOrder(jobs=jobs):
            if home.graph.jobs.keys() >= {*jobs}:
                actors.runs.append(SimulatedResume(home, f"resume{home.world.step}", jobs))
        case CancelOrder():
            _cancel(actors, home)
        case CatchUpStart():
            actors.calls.append(_build_catch_up(home))


def _pause(home: Namespace, jobs: tuple[str, ...]) -> None:
    home.change_controls(partial(pause_jobs, jobs=jobs, by=None, now=home.world.now))
    home.pauses += 1
    home.left_to_sweep.update(jobs or NAMES)


def _cancel(actors: Actors, home: Namespace) -> None:
    for run in actors.runs:
        if isinstance(run, SimulatedBackfill) and run.home is home:
            home.change_controls(partial(cancel_run, run=run.name, by=None, now=home.world.now))


def _build_catch_up(home: Namespace) -> FunctionCall:
    world, checker = home.world, home.checker

    def request(call: FunctionCall) -> bool:
        catch_up = CatchUp(
            graph=call.graph,
            ledger=call.ledger,
            queue=call.queue,
            media_filter=MediaFilter(excluded=("gs://a/",)),
            clock=call.clock,
            lost=world.is_lost,
            page=2,
        )
        call.seen.clear()
        expected = [checker.expect(uri, catch_up.targets) for uri in world.generations]
        known = {u: r.version for u, r in home.ledger.records.items() if r.deleted_at is None}
        after: str | None = ""
        while after is not None:
            page = catch_up.request_page(after)
            after = page.last if page is not None else None
        for one in expected:
            one.version = call.seen.get(one.uri)
            if one.uri in known and call.graph is home.graph:  # also if it lacked nothing
                one.version = known[one.uri]
        return True

    return FunctionCall(home, "catch up", request)
