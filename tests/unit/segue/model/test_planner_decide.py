"""What a job does with a message: every branch, and that it is what the line says."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.model.graph import SOURCE, Graph, Job
from segue.model.message import Message
from segue.model.planner import (
    Ask,
    Decision,
    Drop,
    Forward,
    Run,
    Wait,
    decide,
    plan_line,
    register_targets,
)
from segue.model.record import EVERYTHING, Entry, Lease, Record, State, evolve

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
OLD = "00000000001d"
NAMES = "abcdef"


def graph_of(**needs: str) -> Graph:
    jobs = {}
    for name, parents in needs.items():
        reads = {f"from_{p}": p for p in parents} or {"media": SOURCE}
        jobs[name] = Job(name=name, run="m:f", needs=reads, writes="audio/flac")
    return Graph(jobs=jobs)


CHAIN = graph_of(a="", b="a", c="b")
FORK = graph_of(a="", b="a", c="b", d="b")
JOIN = graph_of(a="", b="", c="ab", d="c", e="a")


def entry_of(what: str, fingerprint: str) -> Entry:
    lease = Lease(owner="other", expires_at=NOW + timedelta(seconds=0 if what == "expired" else 1))
    state = {
        "done": State.DONE,
        "stale": State.DONE,
        "held": State.RUNNING,
        "expired": State.RUNNING,
        "failed": State.FAILED,
        "blocked": State.BLOCKED,
        "queued": State.QUEUED,
    }[what]
    return Entry(
        state=state,
        fingerprint=OLD if what == "stale" else fingerprint,
        generation=5,
        lease=lease if state is State.RUNNING else None,
    )


def record_of(graph: Graph, **known: str) -> Record:
    jobs = {n: entry_of(w, graph.fingerprints[n]) for n, w in known.items() if w != "none"}
    return Record(uri="gs://b/a.wav", generation=5, arrived_at=NOW, jobs=jobs)


def message(job: str, targets: Collection[str] | None = None, **more: object) -> Message:
    return Message(
        uri="gs://b/a.wav",
        job=job,
        targets=None if targets is None else tuple(targets),
        **{"generation": 5, **more},  # type: ignore[arg-type]
    )


def said(graph: Graph, what: Message, **known: str) -> Decision:
    return decide(graph, record_of(graph, **known), what, NOW)


# --- what is not for this job ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        (message("x"), "unknown job x"),
        (message("a", ["x"]), "unknown job x"),
        (message("c", ["b"]), "off the line"),
        (message("c", ["a", "x"]), "off the line"),
        (message("d", ["c"]), "off the line"),
        (message("a", []), "off the line"),
        (message("a", generation=4), "superseded"),
        (message("a", generation=6), "superseded"),
    ],
)
@pytest.mark.parametrize("ping", [False, True])
@pytest.mark.parametrize("force", [False, True])
def test_what_is_not_for_this_job_or_version_is_dropped(what, reason, ping, force):
    assert said(FORK, evolve(what, ping=ping, force=force)) == Drop(reason)


def test_a_file_that_is_unknown_or_deleted_is_let_be():
    assert decide(CHAIN, None, message("a"), NOW) == Drop("unknown file")
    gone = evolve(record_of(CHAIN), deleted_at=NOW)
    assert decide(CHAIN, gone, message("a"), NOW) == Drop("deleted")


def test_a_target_that_the_graph_has_lost_does_not_hold_up_the_others():
    assert said(CHAIN, message("a", ["gone", "b"])) == Run()
    assert said(CHAIN, message("a", ["gone", "b"]), a="done") == Forward(("b",))


# --- what is there ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("job", "targets", "children"),
    [
        ("b", None, ("c", "d")),
        ("b", ["c"], ("c",)),
        ("b", ["d", "b"], ("d",)),
        ("b", ["b"], ()),
        ("a", ["d"], ("b",)),
        ("c", None, ()),
    ],
)
def test_a_result_that_is_there_is_passed_to_the_children_on_the_line(job, targets, children):
    known = {"a": "done", "b": "done", "c": "done"}
    assert said(FORK, message(job, targets), **known) == Forward(children)


def test_a_ping_walks_the_graph_whatever_is_there_and_never_works():
    for known in ("none", "done", "held", "failed", "stale"):
        for force in (False, True):
            ping = message("b", ["c"], ping=True, force=force)
            assert said(FORK, ping, a=known, b=known) == Forward(("c",))
    assert said(FORK, message("b", ping=True)) == Forward(("c", "d"))


def test_what_no_target_needs_is_passed_by():
    """a is missing, but b was made of it and is there: a message for c runs neither."""
    assert said(CHAIN, message("a", ["c"]), b="done") == Forward(("b",))
    assert said(CHAIN, message("b", ["c"]), b="done") == Forward(("c",))
    assert said(CHAIN, message("c", ["c"]), b="done") == Run()
    assert said(CHAIN, message("a", ["c"]), a="failed", b="done") == Forward(("b",))
    assert said(CHAIN, message("a", ["c"]), a="held", b="done") == Forward(("b",))


def test_what_leads_to_a_blocked_target_is_passed_by():
    assert said(JOIN, message("a", ["d"]), b="failed") == Forward(("c",))
    assert said(JOIN, message("a", ["d", "e"]), b="failed") == Run()


# --- what is missing -------------------------------------------------------------------------


@pytest.mark.parametrize("known", ["none", "stale", "expired", "blocked", "queued"])
@pytest.mark.parametrize("targets", [None, ["b"], ["c", "d"]])
def test_a_missing_result_is_computed_once_its_parents_are_there(known, targets):
    assert said(FORK, message("b", targets), a="done", b=known) == Run()


def test_missing_parents_are_asked_and_those_that_are_there_are_not():
    assert said(JOIN, message("c", ["d"])) == Ask(("a", "b"), ("d",))
    assert said(JOIN, message("c", ["d"]), a="done") == Ask(("b",), ("d",))
    assert said(JOIN, message("d", ["d"])) == Ask(("c",), ("d",))


def test_a_parent_that_is_held_is_not_asked_beside_one_that_is_free():
    assert said(JOIN, message("c", ["d"]), a="held") == Ask(("b",), ("d",))


def test_parents_are_asked_from_everything_only_for_what_is_below():
    """Their other children, such as e, were not asked for."""
    assert said(JOIN, message("c")) == Ask(("a", "b"), ("c", "d"))
    assert said(JOIN, message("c"), a="held", b="done") == Wait("other", "a", ("c", "d"))


def test_what_is_held_is_waited_for_where_it_is_held():
    assert said(JOIN, message("c", ["d"]), c="held") == Wait("other", "c", ("d",))
    assert said(JOIN, message("c"), c="held") == Wait("other", "c", None)
    assert said(JOIN, message("c", ["d"]), a="done", b="held") == Wait("other", "b", ("d",))
    assert said(JOIN, message("d", ["d"]), a="held", b="held") == Ask(("c",), ("d",))


def test_the_own_lease_and_that_of_a_dead_owner_are_free():
    record = record_of(CHAIN, a="held")
    what = message("a")
    assert decide(CHAIN, record, what, NOW) == Wait("other", "a", None)
    assert decide(CHAIN, record, what, NOW, owner="other") == Run()
    assert decide(CHAIN, record, what, NOW, lost=lambda lease: lease.owner == "other") == Run()
    assert decide(CHAIN, record, message("b"), NOW, owner="other") == Ask(("a",), ("b", "c"))


# --- what failed -----------------------------------------------------------------------------


def test_what_failed_is_not_tried_again_and_those_below_learn_of_it():
    assert said(FORK, message("b", ["c"]), a="done", b="failed") == Drop("failed", "b", ("c",))
    assert said(FORK, message("b"), a="done", b="failed") == Drop("failed", "b", ("c", "d"))


def test_what_is_below_a_failure_is_blocked_with_its_cause():
    blocked = Drop("blocked by a", "a", ("c",))
    assert said(FORK, message("b", ["c"]), a="failed") == blocked
    assert said(FORK, message("b", ["c"]), a="failed", b="blocked") == blocked
    assert said(JOIN, message("d", ["d"]), a="held", b="failed") == Drop("blocked by b", "b", ())


# --- force -----------------------------------------------------------------------------------


def test_force_computes_the_targets_again_and_not_what_is_above_them():
    forced = {"force": True, "request": "r1"}
    known = {"a": "done", "b": "done", "c": "done"}
    assert said(CHAIN, message("c", ["c"], **forced), **known) == Run()
    assert said(CHAIN, message("b", ["c"], **forced), **known) == Forward(("c",))
    assert said(CHAIN, message("b", None, **forced), **known) == Run()


def test_force_tries_again_what_failed_if_it_is_a_target():
    forced = {"force": True, "request": "r1"}
    assert said(CHAIN, message("b", ["b"], **forced), a="done", b="failed") == Run()
    found = said(CHAIN, message("b", ["c"], **forced), a="done", b="failed")
    assert found == Drop("failed", "b", ("c",))


def test_force_does_not_take_work_from_somebody_else():
    what = message("c", ["c"], force=True, request="r1")
    assert said(CHAIN, what, b="done", c="held") == Wait("other", "c", ("c",))


@pytest.mark.parametrize("known", ["done", "failed"])
def test_a_request_forces_once_however_often_its_message_comes(known):
    record = record_of(CHAIN, b="done", c=known)

    def after(request: str | None) -> Record:
        return evolve(record, jobs={**record.jobs, "c": evolve(record.jobs["c"], request=request)})

    what = message("c", ["c"], force=True, request="r2")
    rest = Forward(()) if known == "done" else Drop("failed", "c", ())
    assert decide(CHAIN, after(None), what, NOW) == Run()
    assert decide(CHAIN, after("r1"), what, NOW) == Run()
    assert decide(CHAIN, after("r2"), what, NOW) == rest
    assert decide(CHAIN, after("r3"), what, NOW) == rest, (
        "a later request has had it computed since"
    )


def test_without_the_name_of_a_request_each_message_forces():
    record = record_of(CHAIN, b="done", c="done")
    record.jobs["c"] = evolve(record.jobs["c"], request="r1")
    assert decide(CHAIN, record, message("c", ["c"], force=True), NOW) == Run()


def test_a_later_request_that_does_not_force_takes_what_is_there():
    record = record_of(CHAIN, b="done", c="done")
    record.jobs["c"] = evolve(record.jobs["c"], request="r1")
    assert decide(CHAIN, record, message("c", ["c"], request="r2"), NOW) == Forward(())


def test_what_a_forced_target_needs_is_asked_for():
    what = message("c", ["c"], force=True, request="r1")
    assert said(CHAIN, what, c="done") == Ask(("b",), ("c",))
    assert said(CHAIN, evolve(what, job="b"), a="done", c="done") == Run()


# --- leaving word ----------------------------------------------------------------------------


def test_targets_are_left_with_whom_was_asked_or_is_waited_for():
    record = record_of(JOIN, a="held")
    what = message("c", ["d"])
    asked = register_targets(JOIN, record, what, Ask(("b",), ("d",)), NOW)
    assert asked.jobs["b"].pending_targets == ("d",)
    assert asked.jobs["b"].state is State.QUEUED
    waits = register_targets(JOIN, asked, what, Wait("other", "a", ("d",)), NOW)
    assert waits.jobs["a"] == evolve(record.jobs["a"], pending_targets=("d",), pending_at=NOW)
    assert register_targets(JOIN, waits, what, Wait("other", "a", ("d",)), NOW) == waits
    everything = register_targets(JOIN, record, message("a"), Wait("other", "a", None), NOW)
    assert everything.jobs["a"].pending_targets == (EVERYTHING,)


def test_a_forced_result_counts_as_missing_while_it_waits():
    """Whoever finishes the parent passes on the target, and not that it was forced."""
    record = record_of(CHAIN, b="held", c="done")
    what = message("c", ["c"], force=True, request="r1")
    found = decide(CHAIN, record, what, NOW)
    assert found == Wait("other", "b", ("c",))
    left = register_targets(CHAIN, record, what, found, NOW)
    assert (left.jobs["c"].state, left.jobs["c"].request) == (State.QUEUED, "r1")
    finished = evolve(left, jobs={**left.jobs, "b": entry_of("done", CHAIN.fingerprints["b"])})
    assert decide(CHAIN, finished, message("c", ["c"]), NOW) == Run()
    assert register_targets(CHAIN, left, what, found, NOW) == left


def test_all_targets_that_are_forced_count_as_missing_while_one_waits():
    record = record_of(JOIN, a="held", c="done", d="done", e="done")
    what = message("e", ["e", "c"], force=True, request="r1")
    left = register_targets(JOIN, record, what, decide(JOIN, record, what, NOW), NOW)
    states = {n: e.state for n, e in left.jobs.items()}
    assert states == {"a": "running", "c": "queued", "d": "done", "e": "queued"}


def test_everything_that_is_forced_from_above_counts_as_missing_while_it_waits():
    record = record_of(FORK, a="done", b="held", c="done", d="failed")
    what = message("b", force=True, request="r1")
    left = register_targets(FORK, record, what, decide(FORK, record, what, NOW), NOW)
    assert {n: e.state for n, e in left.jobs.items()} == {
        "a": "done",
        "b": "running",
        "c": "queued",
        "d": "queued",
    }
    assert [left.jobs[n].request for n in "bcd"] == ["r1", "r1", "r1"]


# --- agreement with the line -----------------------------------------------------------------


@st.composite
def cases(draw: st.DrawFn) -> tuple[Graph, Record, Message]:
    count = draw(st.integers(1, len(NAMES)))
    needs = {}
    for i in range(count):
        mask = draw(st.integers(0, 2**i - 1))
        needs[NAMES[i]] = "".join(NAMES[j] for j in range(i) if mask >> j & 1)
    graph = graph_of(**needs)
    states = ["none", "done", "stale", "held", "expired", "failed", "blocked", "queued"]
    known = {n: draw(st.sampled_from(states)) for n in graph.jobs}
    job = draw(st.sampled_from(list(graph.jobs)))
    names = st.lists(st.sampled_from(list(graph.jobs)), min_size=1, unique=True)
    what = message(job, draw(st.none() | names), force=draw(st.booleans()))
    return graph, record_of(graph, **known), what


@given(cases())
@settings(max_examples=500)
def test_a_job_runs_exactly_if_it_is_first_in_the_line_and_asks_within_it(case):
    graph, record, what = case
    targets = (what.job,) if what.targets is None else what.targets
    force = targets if what.force else ()
    plan = plan_line(graph, record, targets, now=NOW, force=force)
    decision = decide(graph, record, what, NOW)
    ready = all(plan.verdicts.get(p) == "current" for p in graph.jobs[what.job].parents)
    assert isinstance(decision, Run) == (what.job in plan.run and ready)
    match decision:
        case Ask(parents, _):
            assert plan.verdicts[what.job] in ("run", "waiting")
            assert {plan.verdicts[p] for p in parents} <= {"run", "waiting"}
            assert set(parents) <= set(graph.jobs[what.job].parents)
        case Wait(holder, job, _):
            assert plan.holders[job].owner == holder
            assert job == what.job or job in graph.jobs[what.job].parents
        case Drop(_, None, _):
            assert not graph.is_on_line(what.job, what.targets)
        case Drop(_, cause, children) if cause is not None:
            assert plan.verdicts[cause] == "failed"
            assert all(graph.is_on_line(c, what.targets) for c in children)
