"""Results of other namespaces: read in one call, of the very version, and never computed here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from segue.errors import ConfigurationError
from segue.execution import foreign
from segue.execution.engine import Engine
from segue.execution.foreign import ForeignLedgers, ForeignResult
from segue.execution.reply import Reply
from segue.execution.trial_run import build_tasks
from segue.execution.work import ReceivedMessage, Run
from segue.ingest.acceptance import accept_targets, build_requests
from segue.log import Action
from segue.model.graph import Graph, parse_graph
from segue.model.ledger import Change, Snapshot
from segue.model.manifest import Lock, Manifest, PublishedJob
from segue.model.media_file import MediaFile
from segue.model.message import Message, decode_message, encode_message
from segue.model.outcome import Outcome, Status
from segue.model.planner import Plan
from segue.model.record import PENDING, Failure, Record, State, evolve, list_open_terms
from segue.model.run import RunKind, RunRecord, RunSelection, RunState
from segue.model.transitions import Result, arrive, claim, delete, settle
from segue.reports.request_progress import RequestWatcher
from segue_support.recording_pool import RecordingPool
from segue_support.simulator.store import MemoryStore
from segue_support.stream import NOW, Clock, CountingLedger, is_lost

PLATFORM = parse_graph(
    """
namespace: platform
jobs:
  down: {run: "m:f", needs: {media: source}, writes: audio/flac, publish: true}
"""
)
TEXT = """
namespace: moods
jobs:
  mood: {run: "m:f", needs: {audio: platform/down}, writes: application/json}
  hook: {run: "m:f", needs: {audio: platform/down, mood: mood}, writes: application/json}
  size: {run: "m:f", needs: {media: source}, writes: application/json}
"""
DOWN = PLATFORM.fingerprints["down"]


def lock_to(fingerprint: str, *equivalents: str) -> Lock:
    job = PublishedJob(
        fingerprint=fingerprint, equivalents=equivalents, writes="audio/flac", pipeline="down"
    )
    return Lock(
        namespaces={
            "platform": Manifest(
                namespace="platform",
                ledger="the ledger",
                queue="the queue",
                artifacts="gs://platform/",
                jobs={"down": job},
            )
        }
    )


GRAPH = parse_graph(TEXT, lock=lock_to(DOWN))


def file(number: int = 0, order: int = 1) -> MediaFile:
    return MediaFile(uri=f"gs://bucket/{number}.wav", version=str(order), order=order)


class ReadLedger(CountingLedger):
    """A parent's ledger: counts the calls that read it, and refuses to be changed."""

    calls = 0

    def read(self, uris: Sequence[str]) -> list[Snapshot]:
        self.calls += 1
        return super().read(uris)


class System:
    """A team's engine, above which another namespace has its ledger."""

    def __init__(self, graph: Graph = GRAPH) -> None:
        self.parent = ReadLedger()
        self.opened: list[tuple[str, str]] = []
        self.pool = RecordingPool()
        self.ledger = CountingLedger()
        self.engine = Engine(
            graph=graph,
            ledger=self.ledger,
            pool=self.pool,
            artifacts=MemoryStore("gs://moods"),
            foreign=ForeignLedgers(graph, self._open),
            clock=Clock(),
            owner=lambda: "me",
            lost=is_lost,
        )

    def _open(self, url: str, namespace: str) -> ReadLedger:
        self.opened.append((url, namespace))
        return self.parent

    def finish_parent(self, media: MediaFile, graph: Graph = PLATFORM, **more: Any) -> None:
        """The parent's namespace computes its job."""
        state = more.pop("state", State.DONE)
        result = Result(
            job="down",
            state=state,
            artifacts={"down/x/y/1.flac": "sha256:down"} if state is State.DONE else {},
            **more,
        )

        def compute(found: Record | None) -> tuple[Record | None, None]:
            record, _ = arrive(found, media, NOW)
            record = claim(record, graph, ["down"], owner="them", now=NOW, lease_s=9)
            order = record.order
            settled = settle(record, graph, order=order, owner="them", results=[result], now=NOW)
            return settled[0], None

        self.parent.change([Change(uri=media.uri, transition=compute)])

    def run(self, media: Sequence[MediaFile], *targets: str, **more: Any) -> list[Outcome]:
        self.engine.add_files(media, Run(id="run1", targets=targets or ("hook",), **more))
        return [one for one in self.engine.drain() if isinstance(one, Outcome)]


def test_a_line_starts_from_the_result_of_another_namespace():
    system = System()
    system.finish_parent(file())
    (outcome,) = system.run([file()])
    assert outcome.jobs == {
        "platform/down": Status.CURRENT,
        "mood": Status.DONE,
        "hook": Status.DONE,
    }
    (task,) = system.pool.tasks
    assert task.run == ("mood", "hook")
    name = system.parent.records[file().uri].name_artifact(DOWN, "flac")
    assert task.inputs == {"platform/down": f"gs://platform/{name}"}
    assert task.checksums == {"platform/down": "sha256:down"}


def test_what_is_missing_there_is_waited_for_and_leaves_no_record():
    system = System()
    (outcome,) = system.run([file()])
    assert outcome.jobs == {
        "platform/down": Status.WAITING,
        "mood": Status.WAITING,
        "hook": Status.WAITING,
    }
    assert system.pool.tasks == []
    system.finish_parent(file())
    (outcome,) = system.run([file()])
    assert outcome.jobs["hook"] is Status.DONE


@pytest.mark.parametrize("state", [State.FAILED, State.BLOCKED, State.NOT_APPLICABLE])
def test_a_failure_crosses_as_a_state(state):
    system = System()
    error = Failure(kind="corrupt_media", type="CorruptMedia", message="not audio")
    system.finish_parent(file(), state=state, error=error)
    (outcome,) = system.run([file()])
    below = Status.NOT_APPLICABLE if state is State.NOT_APPLICABLE else Status.BLOCKED
    assert (outcome.jobs["mood"], outcome.jobs["hook"]) == (below, below)
    entry = system.ledger.records[file().uri].results[GRAPH.fingerprints["hook"]]
    assert entry.state == str(below)
    assert entry.error is not None
    assert entry.error.type == "platform/down"


def test_what_the_parent_repairs_is_computed_by_the_next_run():
    system = System()
    error = Failure(kind="job_raised", type="ValueError", message="a bug")
    system.finish_parent(file(), state=State.FAILED, error=error)
    system.run([file()])
    system.finish_parent(file())
    (outcome,) = system.run([file()])
    assert outcome.jobs["hook"] is Status.DONE


def test_a_result_of_another_version_of_the_file_does_not_count():
    for theirs, ours in ((1, 2), (2, 1)):
        system = System()
        system.finish_parent(file(order=theirs))
        (outcome,) = system.run([file(order=ours)])
        assert outcome.jobs["hook"] is Status.WAITING


def test_a_file_that_the_parent_has_deleted_has_no_result():
    system = System()
    system.finish_parent(file())

    def remove(found: Record | None) -> tuple[Record | None, bool]:
        return delete(found, file(), NOW)

    system.parent.change([Change(uri=file().uri, transition=remove)])
    (outcome,) = system.run([file()])
    assert outcome.jobs["hook"] is Status.WAITING


def test_a_result_whose_artifact_is_about_to_be_removed_does_not_count():
    """Garbage collection removes a result from its record before it deletes the artifact."""
    system = System()
    system.finish_parent(file())
    record = system.parent.records[file().uri]
    gone = evolve(record, results={})
    system.parent.change([Change(uri=file().uri, transition=lambda _: (gone, None))])
    (outcome,) = system.run([file()])
    assert outcome.jobs["hook"] is Status.WAITING


def test_many_files_are_one_read_there_and_current_ones_none():
    system = System()
    files = [file(n) for n in range(50)]
    for media in files:
        system.finish_parent(media)
    system.run(files)
    assert system.parent.calls == 1
    assert system.opened == [("the ledger", "platform")]
    outcomes = system.run(files)
    assert {o.jobs["hook"] for o in outcomes} == {Status.CURRENT}
    assert system.parent.calls == 1


def test_a_target_without_foreign_parents_reads_nothing_there():
    system = System()
    (outcome,) = system.run([file()], "size")
    assert outcome.jobs == {"size": Status.DONE}
    assert system.opened == []


def test_force_computes_the_target_and_reads_the_parent():
    system = System()
    system.finish_parent(file())
    system.run([file()])
    (outcome,) = system.run([file()], "hook", force=True)
    assert outcome.jobs["hook"] is Status.DONE
    assert [task.run for task in system.pool.tasks] == [("mood", "hook"), ("hook",)]


def test_a_newer_result_counts_where_it_stands_for_the_one_that_is_locked():
    """The parent has moved on in a compatible way, and this graph is locked to the older one."""
    down = PLATFORM.jobs["down"]
    newer = replace(PLATFORM, jobs={"down": replace(down, version=2, equivalents=(DOWN,))})
    system = System()
    system.finish_parent(file(), newer)
    (outcome,) = system.run([file()])
    assert outcome.jobs["hook"] is Status.DONE
    assert newer.fingerprints["down"] in system.pool.tasks[0].inputs["platform/down"]

    breaking = replace(PLATFORM, jobs={"down": replace(down, version=3)})
    other = System()
    other.finish_parent(file(), breaking)
    (outcome,) = other.run([file()])
    assert outcome.jobs["hook"] is Status.WAITING


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (State.FAILED, Status.BLOCKED),
        (State.NOT_APPLICABLE, Status.NOT_APPLICABLE),
        (State.QUEUED, Status.WAITING),
    ],
)
def test_a_newer_failure_counts_where_it_stands_for_the_one_that_is_locked(state, expected):
    down = PLATFORM.jobs["down"]
    newer = replace(PLATFORM, jobs={"down": replace(down, version=2, equivalents=(DOWN,))})
    system = System()
    system.finish_parent(file(), newer, state=state)
    (outcome,) = system.run([file()])
    assert outcome.jobs["mood"] is expected
    system.finish_parent(file())  # as it is locked
    (outcome,) = system.run([file()])
    assert outcome.jobs["mood"] is Status.DONE


def test_an_older_failure_counts_not_where_the_lock_accepts_it():
    """The newer version may be computed without it."""
    system = System(parse_graph(TEXT, lock=lock_to("aaaaaaaaaaaa", DOWN)))
    system.finish_parent(file(), state=State.FAILED)
    (outcome,) = system.run([file()])
    assert outcome.jobs["mood"] is Status.WAITING


def test_the_newest_of_several_failures_does_not_hide_the_one_that_is_locked():
    down = PLATFORM.jobs["down"]
    newer = replace(PLATFORM, jobs={"down": replace(down, version=2, equivalents=(DOWN,))})
    for states in ((State.FAILED, State.QUEUED), (State.QUEUED, State.FAILED)):
        system = System()
        for graph, state in zip((PLATFORM, newer), states, strict=True):
            system.finish_parent(file(), graph, state=state)
        (outcome,) = system.run([file()])
        assert outcome.jobs["mood"] is Status.BLOCKED


def test_an_older_result_counts_where_the_lock_accepts_it():
    newer = "aaaaaaaaaaaa"
    system = System(parse_graph(TEXT, lock=lock_to(newer, DOWN)))
    system.finish_parent(file())
    (outcome,) = system.run([file()])
    assert outcome.jobs["hook"] is Status.DONE


def test_only_published_jobs_say_what_their_results_stand_for():
    down = PLATFORM.jobs["down"]
    for publish, expected in ((True, (DOWN,)), (False, ())):
        changed = replace(down, version=2, equivalents=(DOWN,), publish=publish)
        graph = replace(PLATFORM, jobs={"down": changed})
        system = System()
        system.finish_parent(file(), graph)
        entry = system.parent.records[file().uri].results[graph.fingerprints["down"]]
        assert entry.equivalents == expected


def test_ledgers_are_read_for_the_files_that_need_them():
    ledgers = ForeignLedgers(GRAPH, lambda _url, _namespace: parent)
    parent = ReadLedger()
    files = [file(0), file(1)]
    assert ledgers.read(files, [("size",), ("mood",)]) == [{}, {}]
    system = System()
    system.parent = parent
    system.finish_parent(file(1))
    found = ledgers.read(files, [("size",), ("mood",)])
    assert found[0] == {}
    assert isinstance(found[1]["platform/down"], ForeignResult)
    ledgers.close()


def test_the_tasks_of_a_trial_read_each_ledger_once(monkeypatch):
    system = System()
    monkeypatch.setattr(foreign, "_connect", system._open)
    files = [file(number) for number in range(5)]
    for media in files:
        system.finish_parent(media)
    tasks = build_tasks(GRAPH, files)
    assert (len(system.opened), system.parent.calls) == (1, 1)
    assert [(task.task_id, task.media) for task in tasks] == list(enumerate(files))
    names = [system.parent.records[media.uri].name_artifact(DOWN, "flac") for media in files]
    assert [task.inputs for task in tasks] == [
        {"platform/down": f"gs://platform/{name}"} for name in names
    ]
    with pytest.raises(
        ConfigurationError, match=r"no result of this version of gs://bucket/9\.wav"
    ):
        build_tasks(GRAPH, [*files, file(9)])
    left_out = []
    tasks = build_tasks(GRAPH, [file(9), *files], lambda *found: left_out.append(found))
    assert [(task.task_id, task.media) for task in tasks] == list(enumerate(files, start=1))
    reason = "platform/down has no result of this version of gs://bucket/9.wav"
    assert left_out == [(file(9), reason)]


# --- in a stream ------------------------------------------------------------------------------


def respond(system: System, message: Message) -> Reply:
    received = ReceivedMessage(pipeline="mood", data=encode_message(message))
    system.engine.add_messages([received])
    [reply] = system.engine.drain()
    assert isinstance(reply, Reply)
    return reply


def request(system: System) -> Message:
    """Accept a request for the last job, as the function does that cannot read other ledgers."""

    def accept(found: Record | None) -> tuple[Record | None, Plan]:
        record, _ = arrive(found, file(), NOW)
        return accept_targets(GRAPH, record, ["hook"], NOW, is_lost)

    [changed] = system.ledger.change([Change(uri=file().uri, transition=accept)])
    assert changed.snapshot.record is not None
    [envelope, *_] = build_requests(
        GRAPH, changed.snapshot.record, ["hook"], changed.answer.elsewhere
    )
    return decode_message(envelope.data)


def test_a_request_starts_from_what_the_other_namespace_has():
    system = System()
    system.finish_parent(file())
    reply = respond(system, request(system))
    assert reply.action is Action.DONE
    assert [result.job for result in reply.results] == ["mood", "hook"]


def test_a_request_waits_until_the_other_namespace_has_its_result():
    system = System()
    message = request(system)
    reply = respond(system, message)
    assert (reply.action, reply.reason) == (Action.ASKED, "inbox-down")
    assert PENDING in list_open_terms(system.ledger.records[file().uri])  # the sweep asks again
    system.finish_parent(file())
    assert respond(system, message).action is Action.DONE


def test_a_request_is_told_that_the_other_namespace_has_failed():
    system = System()
    error = Failure(kind="corrupt_media", type="CorruptMedia", message="not audio")
    system.finish_parent(file(), state=State.FAILED, error=error)
    message = request(system)
    assert respond(system, message).action is Action.BLOCKED
    run = RunRecord(
        id="r1",
        kind=RunKind.REQUEST,
        state=RunState.ACCEPTED,
        started_at=NOW,
        selection=RunSelection(files=(file().uri,)),
        jobs=("hook",),
    )
    watcher = RequestWatcher(graph=GRAPH, ledger=system.ledger, request=run, clock=Clock())
    assert watcher.read_progress().jobs["hook"] == {"blocked": 1}


def test_a_ledger_that_does_not_exist_yet_is_opened_once_it_does():
    found: list[ReadLedger] = []
    ledgers = ForeignLedgers(GRAPH, lambda _url, _namespace: found[0] if found else None)
    assert ledgers.read([file()], [("mood",)]) == [{}]
    system = System()
    system.finish_parent(file())
    found.append(system.parent)
    assert ledgers.read([file()], [("mood",)])[0]["platform/down"].state is State.DONE
