"""Engines keep the promises in any history of one file: complete, narrow, once, and few messages.

Any message may come next, come twice, or have its reply lost before or after it was published. The
simulator has more processes and more that can happen; this finds a fault in a second.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.errors import Kind
from segue.model.graph import SOURCE, Graph
from segue.model.record import FINISHED, PENDING, Failure, State, list_open_terms
from segue.model.transitions import Result, build_blocked_result, find_entry, is_current
from segue.worker.protocol import Task
from segue_support.recording_pool import complete_jobs
from segue_support.stream import Stream, build_graph

NAMES = "abcdefg"
TURNS = build_graph({"a": "", "b": "a", "c": "b", "d": "a"}, {"ac": ("a", "c")})
ERROR = Failure(kind=Kind.TIMEOUT, type="E", message="m")


def draw_graph(rng: random.Random) -> Graph:
    """Draw a graph whose jobs have few parents, most of them one, in any pipelines."""
    parents: dict[str, list[str]] = {}
    for i, name in enumerate(NAMES[: rng.randint(1, len(NAMES))]):
        above = [p for p in parents if rng.random() < 0.25]
        if not above and i and rng.random() < 0.7:
            above = [rng.choice([*parents])]
        parents[name] = above
    groups: dict[str, tuple[str, ...]] = {}
    for name in parents:
        if rng.random() < 0.5:
            group = rng.choice(["one", "two"])
            groups[group] = (*groups.get(group, ()), name)
    return build_graph(parents, groups)


def count_edges(graph: Graph) -> int:
    """Count the pipelines that each job, and the source, has to tell."""
    ways = len(graph.find_pipelines(graph.children[SOURCE]))
    for job in graph.jobs:
        below = graph.find_pipelines(graph.children[job])
        ways += len([pipeline for pipeline in below if pipeline != graph.pipeline_of[job]])
    return ways


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What somebody asked for."""

    order: int
    targets: tuple[str, ...]
    force: bool
    computed: Counter[str]  # of this version, by then


@dataclass(kw_only=True)
class World:
    """One file, and all that happens to it."""

    rng: random.Random
    mishaps: int = 0  # still to come
    order: int = 0
    failing: frozenset[str] = frozenset()
    demands: list[Demand] = field(default_factory=list)
    computed: Counter[tuple[int, str]] = field(default_factory=Counter)
    forced: Counter[tuple[int, str]] = field(default_factory=Counter)
    graph: Graph | None = None  # None: any

    def __post_init__(self) -> None:
        self.graph = self.graph or draw_graph(self.rng)
        self.stream = Stream(graph=self.graph, answer=self.answer)
        self.failing = frozenset(j for j in self.graph.jobs if self.rng.random() < 0.1)

    def answer(self, task: Task) -> tuple[Result, ...]:
        assert task.media.order is not None
        self.computed.update((task.media.order, job) for job in task.run)
        results: dict[str, Result] = {}
        for result in complete_jobs(task):
            above = [results[p] for p in self.graph.jobs[result.job].parents if p in results]
            bad = [r.job for r in above if r.state is not State.DONE]
            if bad:
                self.computed[task.media.order, result.job] -= 1
                results[result.job] = build_blocked_result(result.job, bad[0])
            elif result.job in self.failing:
                failed = Result(job=result.job, state=State.FAILED, error=ERROR)
                results[result.job] = failed
            else:
                results[result.job] = result
        return tuple(results.values())

    # --- what happens ---

    def arrive(self) -> None:
        self.order += 1
        self.stream.arrive(self.order)
        self.note(tuple(self.graph.jobs), force=False)

    def request(self, *, force: bool) -> None:
        jobs = [*self.graph.jobs]
        targets = tuple(self.rng.sample(jobs, self.rng.randint(1, min(3, len(jobs)))))
        self.stream.request(*targets, force=force, request=f"r{len(self.demands):03}")
        self.note(targets, force)

    def note(self, targets: tuple[str, ...], force: bool) -> None:
        if force:
            self.forced.update((self.order, job) for job in targets)
        done = Counter({job: n for (order, job), n in self.computed.items() if order == self.order})
        demand = Demand(order=self.order, targets=targets, force=force, computed=done)
        self.demands.append(demand)

    def deliver(self) -> None:
        index = self.rng.randrange(len(self.stream.messages))
        mishap = self.rng.choice(["twice", "unsent", "uncleared"]) if self.dies() else None
        match mishap:
            case "unsent":  # whoever worked on it died then
                self.stream.reply(index)
            case "uncleared":
                self.stream.queue.publish(self.stream.reply(index).envelopes)
            case _:
                self.stream.deliver(index, again=mishap == "twice")

    def dies(self) -> bool:
        if self.mishaps and self.rng.random() < 0.2:
            self.mishaps -= 1
            return True
        return False

    def live(self) -> None:
        """Let everything be delivered, and unfinished work be swept, until nothing is left."""
        for _ in range(20):
            while self.stream.messages:
                assert self.stream.delivered < 5_000, "messages multiply"
                self.deliver()
            if PENDING not in list_open_terms(self.stream.record):
                return
            self.stream.sweep()
        raise AssertionError(f"something is wanted for ever: {self.stream.record}")

    # --- what is promised ---

    def check(self) -> None:
        record = self.stream.record
        for demand in self.demands:
            for target in demand.targets if demand.order == self.order else ():
                entry = find_entry(self.graph, record, target)
                assert entry is not None, (target, record)
                assert entry.state in FINISHED, "complete"
                if demand.force and is_current(self.graph, record, target):
                    assert self.computed[self.order, target] > demand.computed[target], "fresh"
        for (order, job), times in self.computed.items():
            assert times <= 1 + self.forced[order, job], ("once", job)
            asked = [d.targets for d in self.demands if d.order <= order]
            assert any(job in self.graph.add_ancestors(targets) for targets in asked), "narrow"


def live(seed: int, *, mishaps: int, force: bool, graph: Graph | None = None) -> None:
    rng = random.Random(seed)
    world = World(rng=rng, mishaps=mishaps, graph=graph)
    world.arrive()
    if rng.random() < 0.5:  # as if it had been there before
        world.stream.drop_messages()
        world.demands.clear()
    for _ in range(rng.randint(1, 4)):
        if rng.random() < 0.2:
            world.arrive()
        else:
            world.request(force=force and rng.random() < 0.5)
        for _ in range(rng.randint(0, 8)):
            if world.stream.messages:
                world.deliver()
    world.live()
    world.check()


@given(st.integers(0, 2**32))
@settings(max_examples=150)
def test_what_was_asked_for_is_done_once_and_nothing_else(seed):
    live(seed, mishaps=0, force=False)


@given(st.integers(0, 2**32))
@settings(max_examples=150)
def test_so_it_is_when_results_are_forced(seed):
    live(seed, mishaps=0, force=True)


@pytest.mark.parametrize("mishaps", [0, 5])
@given(st.integers(0, 2**32))
@settings(max_examples=150)
def test_so_it_is_when_pipelines_take_turns_on_a_line(mishaps, seed):
    live(seed, mishaps=mishaps, force=True, graph=TURNS)


@given(st.integers(0, 2**32))
@settings(max_examples=150)
def test_so_it_is_when_messages_come_twice_and_replies_are_lost(seed):
    live(seed, mishaps=5, force=True)


@given(st.integers(0, 2**32))
@settings(max_examples=150)
def test_an_arrival_costs_exactly_one_message_for_each_pipeline_that_is_to_know(seed):
    """In whatever order they come, and whatever fails."""
    world = World(rng=random.Random(seed))
    world.arrive()
    world.live()
    world.check()
    assert world.stream.delivered == count_edges(world.graph)
    assert world.stream.ledger.reads < world.stream.delivered


@pytest.mark.parametrize("groups", [{}, {"one": ("a", "c"), "two": ("b", "d")}])
def test_the_ways_of_a_diamond_are_counted(groups):
    parents: dict[str, Sequence[str]] = {"a": "", "b": "a", "c": "a", "d": "bc"}
    assert count_edges(build_graph(parents, groups)) == (3 if groups else 5)
