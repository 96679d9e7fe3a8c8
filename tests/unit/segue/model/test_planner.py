"""The plan of a file, checked against its definition in words, over all small graphs.

The definition: needed is a target that is not current, and of whatever is needed each parent that
is not current. Somebody else's work is waited for; what failed or is not for this file is left,
with all that needs it; so is what needs something of another namespace that is not there. Of the
rest, what runs here runs, and what runs elsewhere can run if all above it are current. All that is
only done if a target can be reached through it.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.model.graph import SOURCE, Graph, Job
from segue.model.planner import NO_STATES, Plan, Verdict, is_never_lost, plan
from segue.model.record import Entry, Failure, Lease, Record, State, evolve

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NAMES = "abcdefgh"
FOREIGN = "platform/downsample"
ORDER = 5
OPEN = {"run", "elsewhere", "waiting", "foreign"}


def graph_of(*parents: Sequence[int]) -> Graph:
    """A graph of jobs a, b, c …, each with the places of its parents before it."""
    jobs = {}
    for i, above in enumerate(parents):
        jobs[NAMES[i]] = Job(
            name=NAMES[i],
            run="m:f",
            needs={f"from_{NAMES[p]}": NAMES[p] for p in above} or {"media": SOURCE},
            writes="audio/flac",
            accepts=("audio/*",),
            equivalents=(f"{i:011}e",),
        )
    return Graph(jobs=jobs)


def add_foreign(graph: Graph, *jobs: str) -> Graph:
    """A graph in which some jobs also need a job of another namespace."""
    more = {
        name: replace(job, needs={**job.needs, "foreign": FOREIGN}) if name in jobs else job
        for name, job in graph.jobs.items()
    }
    made = Graph(jobs=more)
    made.__dict__.update(
        children=graph.children, fingerprints=graph.fingerprints, accepted=graph.accepted
    )
    return made


def leased(owner: str, seconds: float) -> Lease:
    return Lease(owner=owner, expires_at=NOW + timedelta(seconds=seconds))


def entry(state: State, *, ago: int = 0, lease: Lease | None = None, attempts: int = 1) -> Entry:
    error = Failure(kind="timeout", type="E", message="m") if state is State.FAILED else None
    return Entry(
        job="",
        state=state,
        order=ORDER - ago,
        lease=lease,
        error=error,
        attempts=attempts if state not in (State.BLOCKED, State.QUEUED) else 0,
    )


def not_accepted(types: str) -> Entry:
    error = Failure(kind="not_accepted", type=types, message="m")
    return evolve(entry(State.NOT_APPLICABLE), error=error)


# What can be known of a job, by its own fingerprint, an accepted old one, and one that is not: by
# what it means to a plan, and then by how it came about.
Known = Mapping[str, Entry]
CURRENT: dict[str, Known] = {
    "done": {"own": entry(State.DONE)},
    "done equivalent": {"accepted": entry(State.DONE)},
    "done equivalent, failed": {"accepted": entry(State.DONE), "own": entry(State.FAILED)},
    "done, held by another version": {
        "own": entry(State.DONE),
        "old": entry(State.RUNNING, lease=leased("other", 1)),
    },
}
HELD: dict[str, Known] = {
    "running held": {"own": entry(State.RUNNING, lease=leased("other", 1))},
    "running held, done stale": {
        "own": entry(State.RUNNING, lease=leased("other", 1)),
        "old": entry(State.DONE),
    },
}
FAILED: dict[str, Known] = {
    "failed": {"own": entry(State.FAILED)},
    "failed, equivalent too": {"own": entry(State.FAILED), "accepted": entry(State.FAILED)},
}
UNFIT: dict[str, Known] = {
    "not for this file": {"own": entry(State.NOT_APPLICABLE)},
    "of a type that is not accepted": {"own": not_accepted("video/* video/mp4")},
}
FREE: dict[str, Known] = {
    "none": {},
    "done stale": {"old": entry(State.DONE)},
    "of a type that is accepted by now": {"own": not_accepted("audio/* video/* video/mp4")},
    "done old version": {"own": entry(State.DONE, ago=1), "accepted": entry(State.DONE, ago=1)},
    "running expired": {"own": entry(State.RUNNING, lease=leased("other", 0))},
    "running own": {"own": entry(State.RUNNING, lease=leased("me", 1))},
    "running lost": {"own": entry(State.RUNNING, lease=leased("dead", 1))},
    "running old version": {"own": entry(State.RUNNING, ago=1, lease=leased("other", 1))},
    "running stale": {"old": entry(State.RUNNING, lease=leased("other", 1))},
    "failed stale": {"old": entry(State.FAILED)},
    "failed equivalent": {"accepted": entry(State.FAILED)},
    "failed old version": {"own": entry(State.FAILED, ago=1)},
    "blocked": {"own": entry(State.BLOCKED)},
    "not for this file, by one above": {"own": entry(State.NOT_APPLICABLE, attempts=0)},
    "queued": {"own": entry(State.QUEUED)},
}
MEANINGS = {
    "current": CURRENT,
    "held": HELD,
    "failed": FAILED,
    "not_applicable": UNFIT,
    "free": FREE,
}
KNOWN = {name: meaning for meaning, names in MEANINGS.items() for name in names}
ENTRIES = CURRENT | HELD | FAILED | UNFIT | FREE


def record_of(graph: Graph, known: Sequence[str]) -> Record:
    results = {}
    for number, (name, what) in enumerate(zip(graph.jobs, known, strict=True)):
        fingerprints = {
            "own": graph.fingerprints[name],
            "accepted": graph.jobs[name].equivalents[0],
            "old": f"{number:011}d",
        }
        for which, found in ENTRIES[what].items():
            results[fingerprints[which]] = evolve(found, job=name)
    return Record(uri="gs://b/a.wav", version="5", order=ORDER, arrived_at=NOW, results=results)


def planned(
    graph: Graph,
    record: Record,
    targets: Collection[str],
    served: Collection[str] | None = None,
    states: Mapping[str, State | None] = NO_STATES,
) -> Plan:
    return plan(
        graph,
        record,
        states,
        targets,
        NOW,
        owner="me",
        served=served,
        lost=lambda lease: lease.owner == "dead",
    )


@dataclass(frozen=True)
class Definition:
    """What is to become of each job that is looked at, by walking every path from every target."""

    parents: Mapping[str, Sequence[str]]
    meaning: Mapping[str, str]
    served: Collection[str]
    states: Mapping[str, State | None]

    def fate(self, job: str) -> str:
        """What a job comes to that is needed, whether or not a target can be reached through it."""
        if job not in self.parents:
            state = self.states.get(job)
            known = {
                State.DONE: "current",
                State.QUEUED: "foreign",
                State.RUNNING: "foreign",
                None: "foreign",
            }
            return known[state] if state in known else str(state)
        meaning = self.meaning[job]
        if meaning != "free":
            return meaning
        above = {self.fate(p) for p in self.parents[job]}
        if above & {"failed", "blocked"}:
            return "blocked"
        if "not_applicable" in above:
            return "not_applicable"
        if "foreign" in above:
            return "foreign"
        waiting = {"held", "waiting", "elsewhere"} | ({"run"} if job not in self.served else set())
        if above & waiting:
            return "waiting"
        return "run" if job in self.served else "elsewhere"

    def verdicts(self, targets: Collection[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        paths = [(target, True) for target in targets]
        while paths:
            job, reached = paths.pop()
            fate = self.fate(job)
            reached = reached and fate in OPEN
            if found.get(job, "idle") == "idle":  # it may be reached on another path
                is_idle = fate in OPEN and not reached and job in self.parents
                found[job] = "idle" if is_idle else fate
            if fate != "current":
                paths += [(parent, reached) for parent in self.parents.get(job, ())]
        return found

    def waits_for(self, job: str) -> set[str]:
        """The held jobs, and those to run in another process, that a waiting job waits for."""
        found: set[str] = set()
        for parent in self.parents[job]:
            match self.fate(parent):
                case "held" | "elsewhere":
                    found.add(parent)
                case "waiting":
                    found |= self.waits_for(parent)
                case "run" if job not in self.served:
                    found.add(parent)
        return found


def check(
    graph: Graph,
    record: Record,
    known: Sequence[str],
    targets: Collection[str],
    served: Collection[str] | None = None,
    states: Mapping[str, State | None] = NO_STATES,
) -> None:
    made = planned(graph, record, targets, served, states)
    meaning = {job: KNOWN[what] for job, what in zip(graph.jobs, known, strict=True)}
    parents = {name: job.parents for name, job in graph.jobs.items()}
    here = graph.jobs.keys() if served is None else served
    definition = Definition(parents, meaning, here, states)
    expected = definition.verdicts(targets)
    said = (known, targets, served, states, made)
    assert made.verdicts == expected, said
    assert made.run == tuple(j for j in graph.jobs if expected.get(j) == "run"), said
    assert made.elsewhere == tuple(j for j in graph.jobs if expected.get(j) == "elsewhere"), said
    assert set(made.holders) == {j for j, v in expected.items() if v == "held"}, said
    for job, cause in made.blockers.items():
        assert expected[job] in ("blocked", "not_applicable"), said
        assert expected[cause] in ("failed", "blocked", "not_applicable"), said
    inherited = {j for j, v in expected.items() if v == "blocked" and j in parents}
    assert set(made.blockers) >= inherited, said
    for job, waits_for in made.waits_for.items():
        assert waits_for == definition.waits_for(job), said
    assert set(made.waits_for) >= {j for j, v in expected.items() if v == "waiting"}, said


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


def samples(count: int, meanings: Collection[str] = tuple(MEANINGS)) -> Iterator[tuple[str, ...]]:
    """Every combination of meanings, each represented by another of its causes each time."""
    causes = {meaning: itertools.cycle(MEANINGS[meaning]) for meaning in meanings}
    for some in itertools.product(meanings, repeat=count):
        yield tuple(next(causes[m]) for m in some)


def test_there_are_as_many_shapes_as_the_books_say():
    assert [len(list(shapes(n))) for n in (1, 2, 3, 4)] == [1, 2, 6, 31]


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_jobs_in_every_state(count):
    for graph in shapes(count):
        for known in itertools.product(ENTRIES, repeat=count):
            record = record_of(graph, known)
            for targets in subsets(graph.jobs):
                for served in (None, *subsets(graph.jobs)):
                    check(graph, record, known, targets, served)


def test_three_jobs_with_all_targets_wherever_they_run():
    for graph in shapes(3):
        for known in samples(3):
            record = record_of(graph, known)
            for targets in subsets(graph.jobs):
                for served in (None, *subsets(graph.jobs)):
                    check(graph, record, known, targets, served)


def test_four_jobs_with_all_targets():
    for graph in shapes(4):
        for known in samples(4, ("current", "held", "failed", "free")):
            record = record_of(graph, known)
            for targets in subsets(graph.jobs):
                check(graph, record, known, targets)


@pytest.mark.parametrize("state", [None, *State])
def test_a_parent_in_another_namespace_in_every_state(state):
    for plain in shapes(2):
        for jobs in subsets(plain.jobs):
            graph = add_foreign(plain, *jobs)
            for known in itertools.product(ENTRIES, repeat=2):
                record = record_of(graph, known)
                for targets in subsets(graph.jobs):
                    check(graph, record, known, targets, states={FOREIGN: state})


@st.composite
def graphs(draw: st.DrawFn, most: int = 8) -> Graph:
    count = draw(st.integers(1, most))
    edges = [draw(st.integers(0, 2**i - 1)) for i in range(count)]
    return graph_of(*([j for j in range(i) if edges[i] >> j & 1] for i in range(count)))


@st.composite
def cases(draw: st.DrawFn) -> tuple[Graph, tuple[str, ...], list[str], list[str] | None]:
    """A graph, what is known of its jobs, the targets, and the jobs that run here."""
    graph = draw(graphs())
    known = draw(st.tuples(*[st.sampled_from(list(ENTRIES))] * len(graph.jobs)))
    names = st.lists(st.sampled_from(list(graph.jobs)), unique=True)
    return graph, known, draw(names), draw(st.none() | names)


@given(cases())
@settings(max_examples=400)
def test_any_graph_in_any_state(case):
    graph, known, targets, served = case
    check(graph, record_of(graph, known), known, targets, served)


@given(cases())
def test_what_runs_comes_after_its_parents_leads_to_a_target_and_is_missing(case):
    graph, known, targets, served = case
    record = record_of(graph, known)
    current = {job for job, what in zip(graph.jobs, known, strict=True) if KNOWN[what] == "current"}
    ready = set(current)
    for job in planned(graph, record, targets, served).run:
        assert ready.issuperset(graph.jobs[job].parents), "parents first"
        assert job not in current
        assert job in graph.add_ancestors(targets), "no siblings, and nothing below"
        assert served is None or job in served
        ready.add(job)


@given(cases())
def test_a_plan_depends_on_nothing_else_and_changes_nothing(case):
    graph, known, targets, served = case
    record = record_of(graph, known)
    arguments = (msgspec.json.encode(record), list(targets), served and list(served))
    first = planned(graph, record, targets, served)
    assert planned(graph, record, tuple(reversed(targets)), served) == first
    again = planned(graph, msgspec.json.decode(arguments[0], type=Record), targets, served)
    assert again == first
    assert (msgspec.json.encode(record), list(targets), served and list(served)) == arguments


def finish(graph: Graph, record: Record, jobs: Collection[str]) -> Record:
    done = {graph.fingerprints[job]: evolve(entry(State.DONE), job=job) for job in jobs}
    return evolve(record, results={**record.results, **done})


@given(cases())
def test_running_the_line_leaves_nothing_to_run(case):
    """Once what it names is done, the same question names nothing: a repeated run does nothing."""
    graph, known, targets, _ = case
    record = record_of(graph, known)
    first = planned(graph, record, targets)
    after = planned(graph, finish(graph, record, first.run), targets)
    assert after.run == ()
    for target in targets:
        hindered = first.verdicts[target] not in (Verdict.RUN, Verdict.CURRENT)
        assert (after.verdicts[target] is Verdict.CURRENT) != hindered


@given(cases(), st.randoms(use_true_random=False))
def test_several_processes_do_together_what_one_would_do(case, random):
    graph, known, targets, _ = case
    record = record_of(graph, known)
    expected = planned(graph, record, targets)
    pipelines: dict[int, list[str]] = {}
    for job in graph.jobs:
        pipelines.setdefault(random.randrange(3), []).append(job)
    ran: list[str] = []
    turns = 0
    while elsewhere := planned(graph, record, targets, served=()).elsewhere:
        turns += 1
        assert turns <= len(graph.jobs)
        served = random.choice([jobs for jobs in pipelines.values() if {*jobs} & {*elsewhere}])
        run = planned(graph, record, targets, served).run
        assert run, "whoever can go on does"
        ran += run
        record = finish(graph, record, run)
    assert sorted(ran) == sorted(expected.run)


# --- the promises by name --------------------------------------------------------------------

FORK = graph_of([], [0], [1], [1])  # a → b → {c, d}
CHAIN = graph_of([], [0], [1])  # a → b → c
TAIL = graph_of([], [0], [1], [], [2])  # a → b → c → e, and d by itself
JOIN = graph_of([], [], [0, 1])  # {a, b} → c


def test_a_sibling_of_the_target_does_not_run():
    made = planned(FORK, record_of(FORK, ["none"] * 4), ["c"])
    assert made.run == ("a", "b", "c")
    assert "d" not in made.verdicts


def test_what_is_below_the_target_does_not_run():
    made = planned(TAIL, record_of(TAIL, ["none"] * 5), ["c"])
    assert made.run == ("a", "b", "c")
    assert not {"d", "e"} & set(made.verdicts)


def test_what_is_above_a_result_that_is_there_does_not_run():
    made = planned(CHAIN, record_of(CHAIN, ["none", "done", "none"]), ["c"])
    assert made.run == ("c",)
    assert made.verdicts == {"b": "current", "c": "run"}


def test_what_was_computed_before_a_rollback_is_current_at_once():
    new = graph_of([], [0], [1])
    newer = Graph(jobs={**new.jobs, "b": replace(new.jobs["b"], version=2, equivalents=())})
    record = finish(new, record_of(new, ["none"] * 3), ["a", "b", "c"])
    assert planned(newer, record, ["c"]).run == ("b", "c")
    record = finish(newer, record, ["b", "c"])
    assert planned(newer, record, ["c"]).verdicts == {"c": "current"}
    assert planned(new, record, ["c"]).verdicts == {"c": "current"}


def test_a_failure_blocks_its_target_and_leaves_the_others_alone():
    graph = graph_of([], [0], [0, 1], [0])  # a → {b, d}, {a, b} → c
    made = planned(graph, record_of(graph, ["none", "failed", "none", "none"]), ["c", "d"])
    assert made.run == ("a", "d")
    assert made.verdicts == {"a": "run", "b": "failed", "c": "blocked", "d": "run"}
    assert made.blockers == {"c": "b"}


def test_the_cause_of_a_long_row_of_blocked_jobs_is_the_first_of_them():
    made = planned(TAIL, record_of(TAIL, ["failed", "none", "none", "none", "none"]), ["e"])
    assert made.blockers == {"b": "a", "c": "a", "e": "a"}


def test_what_is_not_for_a_file_leaves_what_needs_it_out_and_that_is_no_failure():
    made = planned(CHAIN, record_of(CHAIN, ["done", "not for this file", "none"]), ["c"])
    assert made.run == ()
    assert made.verdicts == {"a": "current", "b": "not_applicable", "c": "not_applicable"}
    assert made.blockers == {"c": "b"}


def test_a_failure_counts_for_more_than_what_is_not_for_the_file():
    made = planned(JOIN, record_of(JOIN, ["not for this file", "failed", "none"]), ["c"])
    assert made.verdicts["c"] is Verdict.BLOCKED
    assert made.blockers == {"c": "b"}


def test_what_was_left_out_because_of_another_one_is_looked_at_again():
    """The job above may have been changed, and may be for this file now."""
    known = ["done", "done", "not for this file, by one above"]
    assert planned(CHAIN, record_of(CHAIN, known), ["c"]).run == ("c",)


def test_nothing_is_computed_for_a_target_that_is_blocked():
    made = planned(JOIN, record_of(JOIN, ["none", "failed", "none"]), ["c"])
    assert made.run == ()
    assert made.verdicts == {"a": "idle", "b": "failed", "c": "blocked"}


def test_beside_work_that_is_held_the_rest_goes_on():
    made = planned(JOIN, record_of(JOIN, ["running held", "none", "none"]), ["c"])
    assert made.run == ("b",)
    assert made.verdicts == {"a": "held", "b": "run", "c": "waiting"}
    assert made.holders["a"].owner == "other"
    assert made.waits_for == {"c": {"a"}}


def test_of_a_line_in_several_pipelines_only_the_next_can_run_elsewhere():
    none = record_of(CHAIN, ["none"] * 3)
    made = planned(CHAIN, none, ["c"], served=["b"])
    assert (made.run, made.elsewhere) == ((), ("a",))
    assert made.verdicts == {"a": "elsewhere", "b": "waiting", "c": "waiting"}
    assert made.waits_for == {"b": {"a"}, "c": {"a"}}
    made = planned(CHAIN, finish(CHAIN, none, ["a"]), ["c"], served=["b"])
    assert (made.run, made.elsewhere) == (("b",), ())
    made = planned(CHAIN, finish(CHAIN, none, ["a", "b"]), ["c"], served=["b"])
    assert (made.run, made.elsewhere) == ((), ("c",))


def test_both_roots_of_a_join_can_run_elsewhere():
    made = planned(JOIN, record_of(JOIN, ["none"] * 3), ["c"], served=["c"])
    assert made.elsewhere == ("a", "b")
    assert made.waits_for == {"c": {"a", "b"}}


def test_what_another_namespace_lacks_keeps_only_what_needs_it():
    graph = add_foreign(graph_of([], [], [0, 1], [0]), "b")
    record = record_of(graph, ["none"] * 4)
    made = planned(graph, record, ["c", "d"])
    assert made.run == ("a", "d")
    foreign = dict.fromkeys(("b", "c", FOREIGN), "foreign")
    assert made.verdicts == {"a": "run", "d": "run", **foreign}
    made = planned(graph, record, ["c", "d"], states={FOREIGN: State.DONE})
    assert made.run == ("a", "b", "c", "d")
    made = planned(graph, record, ["c", "d"], states={FOREIGN: State.FAILED})
    assert made.run == ("a", "d")
    assert made.blockers == {"b": FOREIGN, "c": FOREIGN}


def test_without_targets_nothing_is_looked_at():
    made = planned(CHAIN, record_of(CHAIN, ["none"] * 3), [])
    assert made == Plan(verdicts={}, blockers={}, holders={}, waits_for={})


def test_owners_that_cannot_be_looked_at_are_believed():
    record = record_of(CHAIN, ["running lost", "none", "none"])
    assert plan(CHAIN, record, NO_STATES, ["c"], NOW).run == ()
    assert plan(CHAIN, record, NO_STATES, ["c"], NOW, lost=lambda _: True).run == ("a", "b", "c")
    assert not is_never_lost(leased("dead", -1))
