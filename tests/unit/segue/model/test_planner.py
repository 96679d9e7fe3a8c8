"""The line of a file, checked against its definition in words, over all small graphs.

The definition: needed is a target that is not current, and of whatever is needed each parent that
is not current. Somebody else's work is waited for; what failed is left, with all that needs it; the
rest is run if a target can be reached through it.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.model.graph import SOURCE, Graph, Job
from segue.model.planner import Line, Verdict, plan_line
from segue.model.record import Entry, Failure, Lease, Record, State, evolve

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
OLD = "00000000001d"
ACCEPTED = "0000000000e4"
NAMES = "abcdefgh"
GENERATION = 5


def graph_of(*parents: Sequence[int]) -> Graph:
    """A graph of jobs a, b, c …, each with the places of its parents before it."""
    jobs = {}
    for i, above in enumerate(parents):
        needs = {f"from_{NAMES[p]}": NAMES[p] for p in above} or {"media": SOURCE}
        jobs[NAMES[i]] = Job(
            name=NAMES[i], run="m:f", needs=needs, writes="audio/flac", equivalent=(ACCEPTED,)
        )
    return Graph(jobs=jobs)


def leased(owner: str, seconds: float) -> Lease:
    return Lease(owner=owner, expires_at=NOW + timedelta(seconds=seconds))


def entry(state: State, fingerprint: str, *, ago: int = 0, lease: Lease | None = None) -> Entry:
    error = Failure(kind="timeout", type="E", message="m") if state is State.FAILED else None
    return Entry(
        state=state, fingerprint=fingerprint, generation=GENERATION - ago, lease=lease, error=error
    )


# What can be known of a job: by what it means to a plan, and then by how it came about.
CURRENT = {
    "done": lambda p: entry(State.DONE, p),
    "done equivalent": lambda _: entry(State.DONE, ACCEPTED),
}
HELD = {
    "running held": lambda p: entry(State.RUNNING, p, lease=leased("other", 1)),
    "running held, another version": lambda _: entry(State.RUNNING, OLD, lease=leased("other", 1)),
}
FAILED = {"failed": lambda p: entry(State.FAILED, p)}
FREE = {
    "none": lambda _: None,
    "done stale": lambda _: entry(State.DONE, OLD),
    "done old generation": lambda p: entry(State.DONE, p, ago=1),
    "running expired": lambda p: entry(State.RUNNING, p, lease=leased("other", 0)),
    "running own": lambda p: entry(State.RUNNING, p, lease=leased("me", 1)),
    "running lost": lambda p: entry(State.RUNNING, p, lease=leased("dead", 1)),
    "running old generation": lambda p: entry(State.RUNNING, p, ago=1, lease=leased("other", 1)),
    "failed stale": lambda _: entry(State.FAILED, OLD),
    "failed old generation": lambda p: entry(State.FAILED, p, ago=1),
    "blocked": lambda p: entry(State.BLOCKED, p),
    "queued": lambda p: entry(State.QUEUED, p),
}
MEANINGS = {"current": CURRENT, "held": HELD, "failed": FAILED, "free": FREE}
KNOWN = {name: meaning for meaning, names in MEANINGS.items() for name in names}
ENTRIES = CURRENT | HELD | FAILED | FREE


def record_of(graph: Graph, known: Sequence[str]) -> Record:
    jobs = {}
    for name, what in zip(graph.jobs, known, strict=True):
        if (made := ENTRIES[what](graph.fingerprints[name])) is not None:
            jobs[name] = made
    return Record(uri="gs://b/a.wav", generation=GENERATION, arrived_at=NOW, jobs=jobs)


def planned(graph: Graph, record: Record, targets: Collection[str], **more: object) -> Line:
    return plan_line(
        graph,
        record,
        targets,
        now=NOW,
        owner="me",
        lost=lambda lease: lease.owner == "dead",
        **more,  # type: ignore[arg-type]
    )


@dataclass(frozen=True)
class Definition:
    """What is to become of each job that is looked at, by walking every path from every target."""

    parents: Mapping[str, Sequence[str]]
    meaning: Mapping[str, str]
    force: Collection[str]
    retry: bool

    def fate(self, job: str) -> str:
        """What a job comes to that is needed, whether or not a target can be reached through it."""
        meaning = self.meaning[job]
        if meaning == "current" and job not in self.force:
            return "current"
        if meaning == "held":
            return "held"
        if meaning == "failed" and not self.retry and job not in self.force:
            return "failed"
        above = {self.fate(p) for p in self.parents[job]}
        if above & {"failed", "blocked"}:
            return "blocked"
        return "waiting" if above & {"held", "waiting"} else "run"

    def verdicts(self, targets: Collection[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        paths = [(target, True) for target in targets]
        while paths:
            job, reached = paths.pop()
            fate = self.fate(job)
            reached = reached and fate in {"run", "waiting"}
            if found.get(job, "idle") == "idle":  # it may be reached on another path
                found[job] = "idle" if fate in {"run", "waiting"} and not reached else fate
            if fate != "current":
                paths += [(parent, reached) for parent in self.parents[job]]
        return found


def check(
    graph: Graph,
    record: Record,
    known: Sequence[str],
    targets: Collection[str],
    force: Collection[str] = (),
    retry: bool = False,
) -> None:
    plan = planned(graph, record, targets, force=force, retry=retry)
    meaning = {job: KNOWN[what] for job, what in zip(graph.jobs, known, strict=True)}
    parents = {name: job.parents for name, job in graph.jobs.items()}
    expected = Definition(parents, meaning, force, retry).verdicts(targets)
    said = (known, targets, force, retry, plan)
    assert plan.verdicts == expected, said
    assert plan.run == tuple(j for j in graph.jobs if expected.get(j) == "run"), said
    assert set(plan.holders) == {j for j, v in expected.items() if v == "held"}, said
    assert set(plan.blockers) == {j for j, v in expected.items() if v == "blocked"}, said
    for job, cause in plan.blockers.items():
        assert expected[cause] == "failed", said
        assert cause in graph.find_ancestors(job), said
    ready = {j for j, v in expected.items() if v == "current"}
    for job in plan.run:
        assert set(parents[job]) <= ready, said
        ready.add(job)


def shapes(count: int) -> Iterator[Graph]:
    """Every directed acyclic graph of so many jobs, up to their names."""
    edges = [(i, j) for j in range(count) for i in range(j)]
    seen = set()
    for chosen in itertools.product([False, True], repeat=len(edges)):
        some = [e for e, c in zip(edges, chosen, strict=True) if c]
        renamed = (
            tuple(sorted((p[i], p[j]) for i, j in some))
            for p in itertools.permutations(range(count))
        )
        same = min(renamed)
        if same not in seen:
            seen.add(same)
            yield graph_of(*([i for i, j in some if j == k] for k in range(count)))


def subsets(names: Collection[str]) -> Iterator[tuple[str, ...]]:
    for size in range(len(names) + 1):
        yield from itertools.combinations(names, size)


def samples(count: int) -> Iterator[tuple[str, ...]]:
    """Every combination of meanings, each represented by another of its causes each time."""
    causes = {meaning: itertools.cycle(names) for meaning, names in MEANINGS.items()}
    for meanings in itertools.product(MEANINGS, repeat=count):
        yield tuple(next(causes[m]) for m in meanings)


def test_there_are_as_many_shapes_as_the_books_say():
    assert [len(list(shapes(n))) for n in (1, 2, 3, 4)] == [1, 2, 6, 31]


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_jobs_in_every_state(count):
    for graph in shapes(count):
        for known in itertools.product(ENTRIES, repeat=count):
            record = record_of(graph, known)
            for targets in subsets(graph.jobs):
                for force, retry in itertools.product(subsets(targets), (False, True)):
                    check(graph, record, known, targets, force, retry)


def test_three_jobs_with_all_targets_forces_and_retries():
    for graph in shapes(3):
        for known in samples(3):
            record = record_of(graph, known)
            for targets in subsets(graph.jobs):
                for force, retry in itertools.product(subsets(targets), (False, True)):
                    check(graph, record, known, targets, force, retry)


def test_four_jobs_with_all_targets():
    for graph in shapes(4):
        for known in samples(4):
            record = record_of(graph, known)
            for targets in subsets(graph.jobs):
                check(graph, record, known, targets)


@st.composite
def graphs(draw: st.DrawFn, most: int = 8) -> Graph:
    count = draw(st.integers(1, most))
    edges = [draw(st.integers(0, 2**i - 1)) for i in range(count)]
    return graph_of(*([j for j in range(i) if edges[i] >> j & 1] for i in range(count)))


@given(graphs(), st.data())
@settings(max_examples=400)
def test_any_graph_in_any_state(graph, data):
    known = data.draw(st.tuples(*[st.sampled_from(list(ENTRIES))] * len(graph.jobs)))
    targets = data.draw(st.lists(st.sampled_from(list(graph.jobs)), unique=True))
    force = data.draw(st.lists(st.sampled_from(targets), unique=True)) if targets else []
    check(graph, record_of(graph, known), known, targets, force, data.draw(st.booleans()))


@given(graphs(), st.data())
def test_running_the_line_leaves_nothing_to_run(graph, data):
    """Once what it names is done, the same question names nothing: a repeated run does nothing."""
    known = data.draw(st.tuples(*[st.sampled_from(list(ENTRIES))] * len(graph.jobs)))
    targets = data.draw(st.lists(st.sampled_from(list(graph.jobs)), unique=True, min_size=1))
    record = record_of(graph, known)
    first = planned(graph, record, targets)
    done = {job: entry(State.DONE, graph.fingerprints[job]) for job in first.run}
    after = planned(graph, evolve(record, jobs={**record.jobs, **done}), targets)
    assert after.run == ()
    for target in targets:
        hindered = first.verdicts[target] not in (Verdict.RUN, Verdict.CURRENT)
        assert (after.verdicts[target] is Verdict.CURRENT) != hindered


# --- the promises by name --------------------------------------------------------------------

FORK = graph_of([], [0], [1], [1])  # a → b → {c, d}
CHAIN = graph_of([], [0], [1])  # a → b → c
TAIL = graph_of([], [0], [1], [], [2])  # a → b → c → e, and d by itself


def test_a_sibling_of_the_target_does_not_run():
    plan = planned(FORK, record_of(FORK, ["none"] * 4), ["c"])
    assert plan.run == ("a", "b", "c")
    assert "d" not in plan.verdicts


def test_what_is_below_the_target_does_not_run():
    plan = planned(TAIL, record_of(TAIL, ["none"] * 5), ["c"])
    assert plan.run == ("a", "b", "c")
    assert not {"d", "e"} & set(plan.verdicts)


def test_what_is_above_a_result_that_is_there_does_not_run():
    plan = planned(CHAIN, record_of(CHAIN, ["none", "done", "none"]), ["c"])
    assert plan.run == ("c",)
    assert plan.verdicts == {"b": "current", "c": "run"}


def test_a_forced_target_runs_and_its_parents_do_not():
    plan = planned(CHAIN, record_of(CHAIN, ["done"] * 3), ["c"], force=["c"])
    assert plan.run == ("c",)


def test_a_forced_target_whose_parent_is_missing_runs_behind_it():
    plan = planned(CHAIN, record_of(CHAIN, ["none", "none", "done"]), ["c"], force=["c"])
    assert plan.run == ("a", "b", "c")


def test_a_failure_blocks_its_target_and_leaves_the_others_alone():
    graph = graph_of([], [0], [0, 1], [0])  # a → {b, d}, {a, b} → c
    plan = planned(graph, record_of(graph, ["none", "failed", "none", "none"]), ["c", "d"])
    assert plan.run == ("a", "d")
    assert plan.verdicts == {"a": "run", "b": "failed", "c": "blocked", "d": "run"}
    assert plan.blockers == {"c": "b"}


def test_nothing_is_computed_for_a_target_that_is_blocked():
    graph = graph_of([], [], [0, 1])
    plan = planned(graph, record_of(graph, ["none", "failed", "none"]), ["c"])
    assert plan.run == ()
    assert plan.verdicts == {"a": "idle", "b": "failed", "c": "blocked"}
    assert planned(graph, record_of(graph, ["none", "failed", "none"]), ["c"], retry=True).run == (
        "a",
        "b",
        "c",
    )


def test_beside_work_that_is_held_the_rest_goes_on():
    graph = graph_of([], [], [0, 1])
    plan = planned(graph, record_of(graph, ["running held", "none", "none"]), ["c"])
    assert plan.run == ("b",)
    assert plan.verdicts == {"a": "held", "b": "run", "c": "waiting"}
    assert plan.holders["a"].owner == "other"


def test_without_targets_nothing_is_looked_at():
    plan = planned(CHAIN, record_of(CHAIN, ["none"] * 3), [])
    assert plan == Line(run=(), verdicts={}, blockers={}, holders={})


def test_owners_that_cannot_be_looked_at_are_believed():
    record = record_of(CHAIN, ["running lost", "none", "none"])
    assert plan_line(CHAIN, record, ["c"], now=NOW).run == ()
    assert plan_line(CHAIN, record, ["c"], now=NOW, lost=lambda _: True).run == ("a", "b", "c")
