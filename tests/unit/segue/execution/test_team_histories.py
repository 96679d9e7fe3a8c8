"""Random histories of three namespaces: every result is there in the end, and computed once.

Messages come in any order and several times, workers die between any two steps of a reply, and
other pipelines work while a job runs.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from segue.execution.reply import send
from segue.ingest.events import Deletions
from segue.model.queue import parse_subscription
from segue.model.record import State
from segue.model.transitions import Result
from segue.worker.protocol import Task
from segue_support.recording_pool import complete_jobs
from segue_support.stream import URI
from segue_support.teams import Teams

JOB = "{{run: 'm:f', needs: {{{}}}, writes: application/json, publish: true}}"
NEEDS = {
    "first": {"a": "s: source", "b": "a: a"},
    "second": {
        "c": "b: first/b",
        "d": "a: first/a, c: c",
        "e": "s: first/source",
        "f": "e: e, b: first/b",
    },
    "third": {"g": "d: second/d, a: first/a", "h": "g: g, f: second/f"},
}
GROUPS = {
    "first": ["", "main: [a, b]"],
    "second": ["", "main: [c, d, e, f]", "one: [c, f], two: [d, e]"],
    "third": ["", "main: [g, h]"],
}
MAX_MESSAGES = 300  # that an arrival, a request and all crashes may lead to


@dataclass
class History:
    """What happens to one file, by chance."""

    seed: int
    teams: Teams = field(default_factory=Teams)
    busy: list[tuple[str, str]] = field(default_factory=list)  # namespace and pipeline
    delivered: int = 0

    def __post_init__(self) -> None:
        """Deploy the namespaces, in pipelines by chance."""
        self.random = random.Random(self.seed)
        self.dies = self.random.random() < 0.7
        for namespace, jobs in NEEDS.items():
            lines = "".join(f"  {job}: {JOB.format(needs)}\n" for job, needs in jobs.items())
            groups = self.random.choice(GROUPS[namespace])
            self.teams.add(namespace, f"{lines}pipelines: {{{groups}}}" if groups else lines)
            self.teams[namespace].answer = self.compute

    def compute(self, task: Task) -> tuple[Result, ...]:
        """Complete a task, while others work."""
        if len(self.busy) < 4:
            self.go_on(2)
        return complete_jobs(task)

    def go_on(self, most: int) -> None:
        """Deliver up to some messages."""
        for _ in range(self.random.randint(0, most)):
            self.deliver()

    def deliver(self) -> None:
        """Deliver a message to a pipeline that is not busy; its worker may die on the way."""
        waiting = [
            (name, number, parse_subscription(team.queue.find_subscription(number)))
            for name, team in self.teams.teams.items()
            for number in team.queue.queued
        ]
        free = [one for one in waiting if (one[0], one[2]) not in self.busy]
        if not free:
            return
        name, number, pipeline = self.random.choice(free)
        team = self.teams[name]
        self.busy.append((name, pipeline))
        reply = team.reply(list(team.queue.queued).index(number))
        self.busy.remove((name, pipeline))
        self.delivered += 1
        self.teams.clock.advance(0.001)
        fate = self.random.random() if self.dies and self.delivered < 100 else 1.0
        if fate < 0.1:  # before it publishes anything
            return
        if fate < 0.2:  # before it clears whom it has notified
            team.queue.publish(reply.envelopes)
            return
        send([reply], queue=team.queue, ledger=team.ledger)
        if fate > 0.25:  # else before it acknowledges the message
            team.queue.acknowledge([team.queue.deliver(number)])

    def finish(self) -> None:
        """Deliver all messages, and sweep until there is nothing left to do."""
        delivered = -1
        while delivered != self.delivered:
            delivered = self.delivered
            while any(team.queue.queued for team in self.teams.teams.values()):
                self.deliver()
                assert self.delivered < MAX_MESSAGES
            for team in self.teams.teams.values():
                team.sweep()

    def check(self, order: int) -> None:
        """Check that all is done, for one version, and that nothing is left over."""
        for namespace, jobs in NEEDS.items():
            record = self.teams[namespace].record
            assert record.order == order
            entries = record.results.values()
            assert {e.job for e in entries if e.state is State.DONE} == jobs.keys()
            assert not any(e.notify or e.lease for e in entries)


SEEDS = pytest.mark.parametrize("seed", range(40))


@SEEDS
def test_an_arrival_and_a_request_compute_everything_once(seed):
    history = History(seed)
    history.teams["first"].arrive()
    history.go_on(4)
    if seed % 2:
        history.teams["third"].request("h")
    history.finish()
    history.check(order=1)
    for namespace, jobs in NEEDS.items():
        assert history.teams[namespace].computed == dict.fromkeys(jobs, 1)


@SEEDS
def test_a_request_computes_its_line_once(seed):
    history = History(seed)
    history.teams["third"].request("g")
    history.finish()
    computed = {name: set(team.computed) for name, team in history.teams.teams.items()}
    assert computed == {"first": {"a", "b"}, "second": {"c", "d"}, "third": {"g"}}
    assert all(max(team.computed.values()) == 1 for team in history.teams.teams.values())


@SEEDS
def test_the_newest_version_is_computed_wherever_it_is_seen_first(seed):
    history = History(seed)
    first, third = history.teams["first"], history.teams["third"]
    first.arrive()
    history.go_on(14)
    if seed % 2:
        third.request("h", order=2)
        history.go_on(14)
    first.arrive(order=2)
    history.finish()
    history.check(order=2)


@SEEDS
def test_a_deletion_reaches_whoever_knows_the_file(seed):
    history = History(seed)
    first = history.teams["first"]
    first.arrive()
    history.go_on(14)
    if seed % 2:
        history.teams["third"].request("h")
        history.go_on(8)
    deletions = Deletions(
        graph=first.graph, ledger=first.ledger, queue=first.queue, clock=history.teams.clock
    )
    deletions.record(first.record.media)
    history.finish()
    for team in history.teams.teams.values():
        record = team.ledger.records.get(URI)
        assert record is None or record.deleted_at is not None
