"""Engines of several pipelines on one ledger: who tells and asks whom, and what that costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from segue.errors import Kind
from segue.execution.reply import Reply
from segue.execution.work import Run
from segue.log import Action
from segue.model.graph import Graph
from segue.model.media_file import MediaFile
from segue.model.message import Message, decode_message
from segue.model.queue import DEAD_TOPIC
from segue.model.record import EVERYONE, NOBODY, PENDING, Failure, State, list_open_terms
from segue.model.transitions import Result, build_blocked_result, is_current
from segue.worker.protocol import Task
from segue_support.recording_pool import complete_jobs
from segue_support.stream import URI, Stream, build_graph

LAYERS, WIDTH = 4, 3
FIRST = "first"
LINE = build_graph({"a": "", "b": "a", "c": "b", "d": "c"})
# One pipeline has the first and the third job of a line, another one the second.
TURNS = build_graph({"a": "", "b": "a", "c": "b", "d": "a"}, {"ac": ("a", "c")})
FORK = build_graph({"a": "", "b": "a", "c": "b", "d": "b", "e": "a"})


def list_parents() -> dict[str, tuple[str, ...]]:
    """A lattice: each job of a layer needs the whole layer above, and the topmost one job."""
    parents: dict[str, tuple[str, ...]] = {FIRST: ()}
    above: tuple[str, ...] = (FIRST,)
    for layer in range(LAYERS):
        row = tuple(f"{name}{layer}" for name in "abc"[:WIDTH])
        parents |= dict.fromkeys(row, above)
        above = row
    return parents


PARENTS = list_parents()
LATTICE = build_graph(PARENTS)
LAST = "a3"
EDGES = WIDTH + (LAYERS - 1) * WIDTH**2


def list_published(graph: Graph) -> list[str]:
    """Return the topics that one arrival publishes to: its own, and those of jobs with readers."""
    return ["source", *(f"done-{job}" for job in graph.jobs if graph.has_readers(job))]


def are_current(stream: Stream, *jobs: str) -> bool:
    return all(is_current(stream.graph, stream.record, job) for job in jobs)


def is_quiet(stream: Stream) -> bool:
    """Whether nothing is wanted, and nobody is to be told."""
    return PENDING not in list_open_terms(stream.record) and not stream.messages


# --- what it costs ---------------------------------------------------------------------------


def test_an_arrival_at_a_lattice_costs_one_message_an_edge_and_one_for_itself():
    stream = Stream(graph=LATTICE)
    stream.arrive()
    stream.run()
    assert stream.delivered == 1 + EDGES == 31
    assert stream.queue.published == Counter(list_published(LATTICE))
    assert stream.queue.published.total() == 1 + 1 + WIDTH * (LAYERS - 1) == 11
    assert stream.computed == Counter([*LATTICE.jobs])
    assert is_quiet(stream)


@pytest.mark.parametrize("last", [True, False])
def test_so_it_does_in_whatever_order_they_come(last):
    stream = Stream(graph=LATTICE)
    stream.arrive()
    turn = 0
    while stream.messages:
        turn += 1
        stream.deliver(len(stream.messages) - 1 if last else turn % len(stream.messages))
    assert stream.delivered == 31
    assert stream.computed == Counter([*LATTICE.jobs])


def test_an_arrival_costs_one_message_if_all_jobs_are_in_one_pipeline():
    stream = Stream(graph=build_graph(PARENTS, {"all": tuple(PARENTS)}))
    stream.arrive()
    stream.run()
    assert (stream.delivered, stream.ledger.reads, stream.ledger.writes) == (1, 0, 3)
    assert stream.computed == Counter([*PARENTS])


def test_a_line_of_four_jobs_costs_four_messages_three_reads_and_nine_writes():
    stream = Stream(graph=LINE)
    stream.arrive()
    stream.run()
    assert (stream.delivered, stream.ledger.reads, stream.ledger.writes) == (4, 3, 9)
    assert are_current(stream, "d")


def test_a_line_in_one_pipeline_costs_one_message_no_read_and_three_writes():
    stream = Stream(graph=build_graph({"a": "", "b": "a", "c": "b", "d": "c"}, {"all": (*"abcd",)}))
    stream.arrive()
    stream.run()
    assert (stream.delivered, stream.ledger.reads, stream.ledger.writes) == (1, 0, 3)


def test_pipelines_that_take_turns_on_a_line_get_one_message_each_time():
    graph = build_graph(
        {"a": "", "b": "a", "c": "ab", "d": "c"}, {"one": ("a", "c"), "two": (*"bd",)}
    )
    stream = Stream(graph=graph)
    stream.arrive()
    stream.run()
    assert (stream.delivered, stream.ledger.writes) == (4, 9)
    assert stream.computed == Counter("abcd")


def test_a_second_arrival_event_costs_no_work_and_only_its_own_way_down():
    stream = Stream(graph=LINE)
    stream.arrive()
    stream.run()
    writes = stream.ledger.writes
    stream.arrive()
    stream.run()
    assert stream.computed == Counter("abcd")
    assert stream.delivered == 8
    assert stream.ledger.writes == writes, "nothing has changed"


def test_an_event_that_comes_twice_follows_one_way_to_each_job():
    stream = Stream(graph=LATTICE)
    stream.arrive()
    stream.deliver(again=True)
    while stream.messages:
        stream.deliver()
    assert stream.computed == Counter([*LATTICE.jobs])
    assert stream.delivered <= 2 * 31


# --- requests --------------------------------------------------------------------------------


def stored(graph: Graph, **more: object) -> Stream:
    """A stream whose file was recorded without any event."""
    stream = Stream(graph=graph, **more)  # type: ignore[arg-type]
    stream.arrive()
    stream.drop_messages()
    stream.ledger.reads = stream.ledger.writes = 0
    return stream


def test_a_request_follows_its_line_from_pipeline_to_pipeline_and_runs_nothing_else():
    stream = stored(FORK)
    stream.request("c")
    assert stream.record.results[FORK.fingerprints["c"]].notify == (NOBODY,)
    ways = []
    while stream.messages:
        ((pipeline, message),) = stream.messages
        ways.append((pipeline, message.targets, message.trigger, message.request))
        stream.deliver()
    assert ways == [(job, ("c",), None, "r1") for job in "abc"]
    assert stream.computed == Counter("abc")
    assert is_quiet(stream)


def test_a_request_through_a_lattice_costs_one_message_a_job():
    stream = stored(LATTICE)
    stream.request(LAST)
    stream.run()
    line = LATTICE.add_ancestors([LAST])
    assert stream.computed == Counter(line)
    assert stream.delivered == len(line) == 11
    assert is_quiet(stream)


def test_requests_for_the_same_result_are_one():
    stream = stored(LINE)
    for number in range(5):
        stream.request("d", request=f"r{number}")
    assert stream.ledger.writes == 1, "it is wanted already"
    stream.run()
    assert stream.computed == Counter("abcd")
    assert is_quiet(stream)


def test_requests_on_the_way_of_another_one_do_not_multiply_its_messages():
    """Twice as many would be fine: with each layer twice as many would not."""
    stream = stored(LATTICE)
    stream.request("a3", request="r1")
    for _ in range(3):
        stream.deliver()
    stream.request("b3", request="r2")
    stream.request("c3", request="r3")
    stream.run()
    assert stream.computed == Counter([*LATTICE.jobs])
    assert stream.delivered <= 3 * len(LATTICE.jobs)
    assert is_quiet(stream)


def test_a_request_during_an_arrival_runs_nothing_twice_and_costs_few_messages():
    stream = Stream(graph=LATTICE)
    stream.arrive()
    stream.request(LAST)
    stream.run()
    assert stream.computed == Counter([*LATTICE.jobs])
    assert stream.delivered <= 31 + len(LATTICE.jobs)
    assert is_quiet(stream)


def test_a_message_that_is_delivered_again_and_again_does_not_multiply():
    stream = stored(LATTICE)
    stream.request(LAST)
    for _ in range(5):
        stream.deliver(0, again=True)
    stream.run()
    assert stream.computed == Counter(LATTICE.add_ancestors([LAST]))
    assert stream.delivered <= 6 * len(LATTICE.jobs)
    assert is_quiet(stream)


def test_an_arrival_after_a_request_runs_what_is_left_and_tells_everybody():
    stream = stored(FORK)
    stream.request("b")
    stream.run()
    assert stream.computed == Counter("ab")
    stream.arrive()
    stream.run()
    assert stream.computed == Counter([*FORK.jobs])


def test_a_forced_result_is_computed_once_a_request_and_nothing_else_is():
    stream = Stream(graph=FORK)
    stream.arrive()
    stream.run()
    stream.computed.clear()
    for _ in range(2):
        stream.request("b", force=True, request="r1")
        stream.run()
    assert stream.computed == Counter("b")
    stream.request("b", force=True, request="r2")
    stream.run()
    assert stream.computed == Counter("bb")
    assert is_quiet(stream)


def test_a_child_that_waits_for_another_parent_hears_of_what_is_forced_meanwhile():
    """When the other parent has finished, the child waits for what is forced, and that is noted."""
    stream = Stream(graph=build_graph({"a": "", "b": "", "c": "ab"}))
    stream.arrive()
    stream.deliver(0)
    assert stream.deliver(1).action is Action.WAITING, "c knows of a, and waits for b"
    stream.request("a", force=True)
    stream.deliver(0)
    events = [message.trigger for _, message in stream.messages]
    assert stream.deliver(events.index("b")).action is Action.WAITING, "c knows of b, not of a"
    stream.run()
    assert stream.computed == Counter("aabc")
    assert is_quiet(stream)
    assert are_current(stream, *"abc")


def test_what_is_forced_during_an_arrival_ends_where_pipelines_take_turns_on_a_line():
    stream = Stream(graph=TURNS)
    stream.arrive()
    stream.deliver()
    stream.deliver([pipeline for pipeline, _ in stream.messages].index("b"))
    stream.request("a", "b", "c", force=True)
    while stream.messages and stream.delivered < 50:  # events before requests
        triggers = [message.trigger for _, message in stream.messages]
        stream.deliver(next((i for i, trigger in enumerate(triggers) if trigger), 0))
    assert is_quiet(stream)
    assert are_current(stream, *"abcd")
    assert stream.computed == {"a": 2, "b": 2, "c": 1, "d": 1}


def test_a_forced_line_is_computed_parents_first():
    stream = Stream(graph=LINE)
    stream.arrive()
    stream.run()
    order: list[str] = []
    stream.answer = lambda task: (order.extend(task.run), complete_jobs(task))[1]
    stream.request("b", "d", force=True)
    stream.run()
    assert order == ["b", "d"]


def test_a_request_whose_message_is_lost_is_found_by_the_sweep():
    stream = stored(LINE)
    stream.request("d")
    stream.deliver()
    stream.drop_messages()
    stream.sweep()
    stream.run()
    assert stream.computed == Counter("abcd")
    assert is_quiet(stream)


def test_a_request_that_dies_with_its_worker_is_found_by_the_sweep():
    stream = stored(LINE)
    stream.request("d")
    stream.reply()  # a is recorded, and the reply is lost
    assert [r.action for r in stream.run()] == [Action.WAITING]
    stream.sweep()
    assert [r.action for r in stream.run()] == [Action.DONE] * 3
    assert stream.computed == Counter("abcd")
    assert is_quiet(stream)


# --- beside backfills ------------------------------------------------------------------------


def test_an_event_for_what_a_backfill_holds_leaves_everyone_to_be_told_by_the_sweep():
    stream = stored(FORK)
    backfill = stream.build_engine(None)
    events = Message(uri=URI, version="1", order=1, trigger="source")

    def answer(task: Task) -> tuple[Result, ...]:
        if task.run == ("a",):  # the event comes while the backfill computes
            stream.publish(events, ("a",))
            assert stream.deliver().action is Action.WAITING
        return complete_jobs(task)

    stream.answer = answer
    media = MediaFile(uri=URI, version="1", order=1)
    backfill.add_files([media], Run(id="run1", targets=("a",)))
    list(backfill.drain())
    entry = stream.record.results[FORK.fingerprints["a"]]
    assert (entry.state, entry.notify) == (State.DONE, (EVERYONE,))
    assert stream.messages == [], "a backfill publishes nothing"
    stream.sweep()
    assert [pipeline for pipeline, _ in stream.messages] == ["a"], "whose job it is"
    reply = stream.deliver()
    assert list_events(reply) == [("a", "done-a")]
    assert is_current(FORK, stream.record, "a")
    stream.run()
    assert stream.computed == Counter([*FORK.jobs])
    assert is_quiet(stream)


def test_an_event_in_the_backfills_own_line_is_gone_on_with_by_the_backfill():
    """Both jobs are in one pipeline: what waits there for the held one is wanted, too."""
    graph = build_graph({"a": "", "b": "a", "c": "b"}, {"two": ("a", "b")})
    stream = stored(graph)
    backfill = stream.build_engine(None)

    def answer(task: Task) -> tuple[Result, ...]:
        if task.run == ("a",):
            stream.publish(Message(uri=URI, version="1", order=1, trigger="source"), ("a",))
            assert stream.deliver().action is Action.WAITING
        return complete_jobs(task)

    stream.answer = answer
    media = MediaFile(uri=URI, version="1", order=1)
    backfill.add_files([media], Run(id="run1", targets=("a",)))
    list(backfill.drain())
    assert stream.computed == Counter("ab")
    stream.sweep()
    stream.run()
    assert stream.computed == Counter("abc")
    assert is_quiet(stream)


def test_a_request_for_what_a_backfill_holds_is_gone_on_with_by_the_backfill():
    stream = stored(FORK)
    backfill = stream.build_engine(None)

    def answer(task: Task) -> tuple[Result, ...]:
        if task.run == ("a",):
            stream.request("c")
            assert stream.messages == [], "nobody else can begin"
        return complete_jobs(task)

    stream.answer = answer
    media = MediaFile(uri=URI, version="1", order=1)
    backfill.add_files([media], Run(id="run1", targets=("a",)))
    list(backfill.drain())
    assert stream.computed == Counter("abc")
    assert is_quiet(stream)


def test_what_a_backfill_leaves_between_jobs_of_one_pipeline_goes_to_the_inbox_of_that_one():
    """A pipeline above them notifies of it, and what happens within a pipeline has no topic."""
    graph = build_graph({"a": "", "b": "a", "c": "b"}, {"two": ("b", "c")})
    stream = Stream(graph=graph)
    stream.arrive()
    stream.deliver()
    stream.drop_messages()
    backfill = stream.build_engine(None)

    def answer(task: Task) -> tuple[Result, ...]:
        if task.run == ("b",):
            stream.publish(Message(uri=URI, version="1", order=1, trigger="a"), ("b",))
            assert stream.deliver().action is Action.WAITING
        return complete_jobs(task)

    stream.answer = answer
    media = MediaFile(uri=URI, version="1", order=1)
    backfill.add_files([media], Run(id="run1", targets=("b",)))
    list(backfill.drain())
    stream.publish(Message(uri=URI, version="1", order=1, targets=("a",)), ("a",))
    assert list_events(stream.deliver()) == [("b", "inbox-two")]
    stream.run()
    assert stream.computed == Counter("abc")
    assert is_quiet(stream)


def list_events(reply: Reply) -> list[tuple[str | None, str]]:
    return [
        (decode_message(one.data).trigger, one.topic)
        for one in reply.envelopes
        if one.topic != DEAD_TOPIC
    ]


# --- failures --------------------------------------------------------------------------------


def failing(*jobs: str) -> Callable[[Task], tuple[Result, ...]]:
    error = Failure(kind=Kind.CORRUPT_MEDIA, type="E", message="it went wrong")
    return lambda task: tuple(
        Result(job=r.job, state=State.FAILED, error=error) if r.job in jobs else r
        for r in complete_jobs(task)
    )


def test_a_failure_at_the_top_of_a_lattice_is_recorded_in_all_of_it_by_as_many_messages():
    stream = Stream(graph=LATTICE, answer=failing("first"))
    stream.arrive()
    stream.run()
    states = Counter(e.state for e in stream.record.results.values())
    assert states == {State.FAILED: 1, State.BLOCKED: 12}
    assert stream.delivered <= 31
    assert [dead.job for dead in stream.dead] == ["first"]
    assert is_quiet(stream)


def test_a_request_below_a_failure_ends_there():
    stream = stored(LINE, answer=failing("b"))
    stream.request("d")
    stream.run()
    assert stream.computed == Counter("ab")
    entries = stream.record.results
    assert entries[LINE.fingerprints["d"]].error == build_blocked_result("d", "b").error
    assert is_quiet(stream)
    assert [dead.job for dead in stream.dead] == ["b"]


def test_a_damaged_artifact_is_computed_again_in_its_own_pipeline_and_nobody_is_told_twice():
    stream = Stream(graph=LINE)
    stream.arrive()
    stream.run()
    stream.computed.clear()
    is_damaged = [True]

    def answer(task: Task) -> tuple[Result, ...]:
        if task.run == ("c",) and is_damaged.pop():
            error = Failure(kind=Kind.DAMAGED_INPUT, type="DamagedInput", message="b has changed")
            return (Result(job="c", state=State.QUEUED, error=error, damaged="b"),)
        is_damaged.append(False)
        return complete_jobs(task)

    stream.answer = answer
    stream.request("c", force=True)
    stream.run()
    assert stream.computed == Counter("cbc")
    assert are_current(stream, *"abcd")
    assert is_quiet(stream)


# --- other versions --------------------------------------------------------------------------


def test_a_newer_version_of_the_file_supersedes_all_messages_of_the_older_one():
    stream = Stream(graph=LINE)
    stream.arrive(1)
    stream.deliver()
    stream.arrive(2)
    replies = stream.run()
    assert Counter(r.reason for r in replies if r.reason) == {"superseded": 1}
    assert stream.record.order == 2
    assert stream.computed == Counter("aabcd")
    assert are_current(stream, *"abcd")


def test_what_is_wanted_of_an_older_version_is_computed_of_the_newer_one():
    stream = stored(LINE)
    stream.request("d")
    stream.deliver()
    stream.arrive(2)
    stream.drop_messages()
    stream.sweep()
    stream.run()
    assert are_current(stream, *"abcd")
    assert is_quiet(stream)


def test_after_a_rollback_nothing_is_computed_again():
    """The new version ran for a while, and its results stay for when it comes back."""
    jobs = {**LINE.jobs, "b": replace(LINE.jobs["b"], version=2)}
    newer = Graph(jobs=jobs)
    stream = Stream(graph=LINE)
    stream.arrive()
    stream.run()
    deployed = Stream(graph=newer, ledger=stream.ledger)
    deployed.request("d")
    deployed.run()
    assert deployed.computed == Counter("bcd")
    for again in (
        Stream(graph=LINE, ledger=stream.ledger),
        Stream(graph=newer, ledger=stream.ledger),
    ):
        again.request("d")
        again.run()
        assert (again.delivered, again.computed) == (0, Counter())
    assert len(stream.record.results) == 7


# --- jobs that run only on request ------------------------------------------------------------


def let_wait(graph: Graph, *names: str) -> Graph:
    """Have some jobs of a graph run only on request."""
    jobs = {n: replace(job, on_arrival=n not in names) for n, job in graph.jobs.items()}
    return replace(graph, jobs=jobs)


@pytest.mark.parametrize("groups", [{}, {"all": (*"abcd",)}])
def test_an_arrival_leaves_alone_what_runs_only_on_request(groups):
    line = build_graph({"a": "", "b": "a", "c": "b", "d": "c"}, groups)
    stream = Stream(graph=let_wait(line, "c", "d"))
    stream.arrive()
    stream.run()
    assert stream.computed == Counter("ab")
    assert stream.delivered == (1 if groups else 2)  # nobody is notified for nothing
    stream.request("d")
    stream.run()
    assert stream.computed == Counter("abcd")
    assert is_quiet(stream)


def test_a_file_that_no_job_waits_for_is_recorded_and_starts_nothing():
    stream = Stream(graph=let_wait(LINE, *"abcd"))
    stream.arrive()
    stream.run()
    assert stream.computed == Counter()


def test_what_is_requested_continues_once_an_arrival_has_finished_its_parent():
    """The event of the parent goes to nobody, so a request has to."""
    stream = Stream(graph=let_wait(LINE, "c", "d"))
    stream.arrive()
    stream.deliver()  # a
    stream.request("d")  # b is missing
    stream.run()
    assert stream.computed == Counter("abcd")
    assert is_quiet(stream)
