"""A paused job is computed nowhere, and nothing is lost: not by events, requests or backfills."""

from __future__ import annotations

import pytest

from segue.execution.work import Run
from segue.ingest.sweep import Sweeper
from segue.log import Action
from segue.model.controls import READ_S, pause_jobs, resume_jobs
from segue.model.media_file import MediaFile
from segue.model.outcome import Outcome, Status
from segue.model.planner import NO_STATES, Verdict, plan
from segue.model.record import Record, State
from segue.model.transitions import is_current
from segue_support.stream import NOW, URI, Stream, build_graph

CHAIN = build_graph({"a": "", "b": "a", "c": "b"})
GROUPED = build_graph({"a": "", "b": "a", "c": "b"}, groups={"all": ("a", "b", "c")})
FORK = build_graph({"a": "", "b": "a", "c": "a"})
MEDIA = MediaFile(uri=URI, version="1", order=1)


def pause(stream: Stream, *jobs: str) -> None:
    stream.ledger.change_controls(
        lambda found: pause_jobs(found, jobs, by="ann@laptop", now=stream.clock())
    )
    stream.clock.advance(READ_S)


def resume(stream: Stream, *jobs: str) -> None:
    stream.ledger.change_controls(lambda found: resume_jobs(found, jobs))
    stream.clock.advance(READ_S)


def request_again(stream: Stream, *jobs: str) -> int:
    """Send requests, as ``segue resume`` does."""
    sweeper = Sweeper(
        graph=stream.graph,
        ledger=stream.ledger,
        queue=stream.queue,
        clock=stream.clock,
        grace_s=0.0,
        jobs=frozenset(jobs) if jobs else None,
    )
    return sweeper.run().messages


def list_current(stream: Stream) -> list[str]:
    return [job for job in stream.graph.jobs if is_current(stream.graph, stream.record, job)]


def test_a_paused_job_does_not_run_and_what_is_below_waits():
    record = Record(uri=URI, version="1", order=1, arrived_at=NOW)
    planned = plan(CHAIN, record, NO_STATES, ("c",), NOW, paused={"b"})
    assert planned.run == ("a",)
    assert planned.verdicts == {"a": Verdict.RUN, "b": Verdict.PAUSED, "c": Verdict.WAITING}
    assert planned.waits_for == {"c": {"b"}}
    elsewhere = plan(CHAIN, record, NO_STATES, ("c",), NOW, served={"b"}, paused={"a"})
    assert (elsewhere.run, elsewhere.elsewhere) == ((), ())
    assert elsewhere.verdicts["a"] is Verdict.PAUSED


@pytest.mark.parametrize("graph", [CHAIN, GROUPED])
def test_what_arrives_while_a_job_is_paused_is_computed_once_it_is_resumed(graph):
    stream = Stream(graph=graph)
    pause(stream, "b")
    stream.arrive()
    stream.run()
    assert list_current(stream) == ["a"]
    assert stream.messages == []  # none goes round and round
    stream.sweep()  # leaves it alone
    assert stream.messages == []
    resume(stream)
    assert request_again(stream) > 0
    stream.run()
    assert list_current(stream) == ["a", "b", "c"]
    assert stream.computed == {"a": 1, "b": 1, "c": 1}


def test_the_regular_sweep_goes_on_with_what_was_paused():
    stream = Stream(graph=CHAIN)
    pause(stream)
    stream.arrive()
    stream.run()
    assert stream.computed == {}
    resume(stream)
    stream.sweep()
    stream.run()
    assert list_current(stream) == ["a", "b", "c"]


def test_a_sibling_of_a_paused_job_runs():
    stream = Stream(graph=FORK)
    pause(stream, "b")
    stream.arrive()
    stream.run()
    assert list_current(stream) == ["a", "c"]


def test_what_is_requested_while_a_job_is_paused_stays_wanted():
    stream = Stream(graph=CHAIN)
    pause(stream, "a")
    stream.request("b")
    stream.run()
    assert stream.computed == {}
    assert stream.messages == []
    states = {entry.job: entry.state for entry in stream.record.results.values()}
    assert states["b"] is State.QUEUED
    resume(stream)
    assert request_again(stream, "a", "b", "c") > 0
    stream.run()
    assert list_current(stream) == ["a", "b"]  # and nobody has asked for c


def test_a_forced_request_of_a_paused_job_is_done_once_it_is_resumed():
    stream = Stream(graph=CHAIN)
    stream.arrive()
    stream.run()
    pause(stream, "b")
    stream.request("b", force=True)
    stream.run()
    resume(stream)
    request_again(stream)
    stream.run()
    assert stream.computed["b"] == 2
    assert list_current(stream) == ["a", "b", "c"]


def test_only_what_waits_for_the_resumed_jobs_is_requested_again():
    stream = Stream(graph=FORK)
    pause(stream, "b", "c")
    stream.arrive()
    stream.run()
    resume(stream, "c")
    assert request_again(stream, "c") == 1
    stream.run()
    assert list_current(stream) == ["a", "c"]


def test_what_is_finished_has_not_waited_for_a_job_that_is_resumed():
    stream = Stream(graph=FORK)
    pause(stream, "a")
    stream.arrive()
    stream.run()
    resume(stream)
    assert request_again(stream, "a", "b", "c") == 1
    stream.reply()  # its worker has still to tell of it
    assert request_again(stream, "a", "b", "c") == 0
    stream.drop_messages()
    stream.sweep()  # and if the worker has died
    assert stream.messages != []


def test_the_reply_to_an_event_says_that_the_job_is_paused():
    stream = Stream(graph=CHAIN)
    pause(stream, "a")
    stream.arrive()
    reply = stream.reply()
    assert (reply.action, reply.reason) == (Action.WAITING, "a is paused")


def test_a_sweep_reads_a_part_of_what_is_paused_at_a_time():
    stream = Stream(graph=CHAIN)
    pause(stream)
    for number in range(5):
        stream.arrive(uri=f"gs://b/{number}.wav")
        stream.run()
    sweeper = Sweeper(graph=CHAIN, ledger=stream.ledger, queue=stream.queue, clock=stream.clock)
    swept = sweeper.run(limit=2)
    assert (swept.messages, swept.limited) == (0, True)
    resume(stream)
    stream.clock.advance(3600)
    assert (
        Sweeper(graph=CHAIN, ledger=stream.ledger, queue=stream.queue, clock=stream.clock)
        .run()
        .pending
        == 5
    )


class Backfill:
    """Backfills of one file."""

    def __init__(self, *paused: str, graph=CHAIN) -> None:
        self.stream = Stream(graph=graph)
        pause(self.stream, *paused)
        self.engine = self.stream.build_engine(None)

    def run(self, *targets: str, **more: bool) -> dict[str, Status]:
        self.engine.add_files([MEDIA], Run(id="run1", targets=targets, **more))
        [outcome] = [one for one in self.engine.drain() if isinstance(one, Outcome)]
        return dict(outcome.jobs)


def test_a_backfill_leaves_a_paused_job_and_what_is_below():
    backfill = Backfill("b")
    assert backfill.run("c") == {
        "a": Status.DONE,
        "b": Status.PAUSED,
        "c": Status.WAITING,
    }
    resume(backfill.stream)
    assert backfill.run("c") == {"a": Status.CURRENT, "b": Status.DONE, "c": Status.DONE}


def test_a_backfill_of_a_paused_job_alone_writes_nothing():
    backfill = Backfill("a")
    assert backfill.run("a") == {"a": Status.PAUSED}
    assert backfill.stream.ledger.records == {}


def test_a_forced_backfill_keeps_the_results_of_paused_jobs():
    backfill = Backfill()
    resume(backfill.stream)
    backfill.run("c")
    pause(backfill.stream, "b")
    forced = backfill.run("a", "b", "c", force=True)
    assert forced == {"a": Status.DONE, "b": Status.PAUSED, "c": Status.PAUSED}
    assert list_current(backfill.stream) == ["a", "b", "c"]


def test_workers_notice_within_seconds_and_read_no_more_often():
    stream = Stream(graph=CHAIN)
    read = 0
    original = stream.ledger.read_controls

    def count():
        nonlocal read
        read += 1
        return original()

    stream.ledger.read_controls = count  # type: ignore[method-assign]
    engine = stream.build_engine(None)
    for number in range(50):
        media = MediaFile(uri=f"gs://b/{number}.wav", version="1", order=1)
        engine.add_files([media], Run(id="run1", targets=("a",)))
        list(engine.drain())
    assert read == 1
    stream.clock.advance(READ_S)
    engine.step()
    assert read == 2
