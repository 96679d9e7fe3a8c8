"""Selected failures are retried with the jobs that they block; dead letters are replayed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from segue.errors import Unavailable
from segue.maintenance.retry import DeadLetterReplay, JobRetry, RetrySelection
from segue.model import dead_letter
from segue.model.dead_letter import Stage
from segue.model.graph import parse_graph
from segue.model.message import Arrived, Message, decode_message, encode_message
from segue.model.queue import Envelope, list_topics
from segue.model.record import NOBODY, Entry, Failure, Record, State, evolve
from segue_support.ledger import MemoryLedger
from segue_support.queue import MemoryQueue

NOW = datetime(2026, 1, 2, tzinfo=UTC)
OLD = "0" * 12
GRAPH = parse_graph(
    """
namespace: team
pipelines: {rhythm: [beats, energy]}
jobs:
  load: {run: "m:f", needs: {x: source}, writes: application/json}
  key: {run: "m:f", needs: {x: source}, writes: application/json}
  picture: {run: "m:f", needs: {x: source}, writes: application/json}
  beats: {run: "m:f", needs: {x: load}, writes: application/json}
  energy: {run: "m:f", needs: {x: beats}, writes: application/json}
  chords: {run: "m:f", needs: {x: key}, writes: application/json, equivalents: ["000000000001"]}
"""
)
ALL = tuple(GRAPH.jobs)


def entry(job: str, state: State = State.DONE, kind: str = "", cause: str = "") -> Entry:
    error = Failure(kind=kind, type=cause, message="m") if kind else None
    return Entry(job=job, state=state, order=1, attempts=3, error=error)


def failed(job: str, kind: str = "timeout") -> Entry:
    return entry(job, State.FAILED, kind, "JobTimeout")


def blocked(job: str, cause: str) -> Entry:
    return evolve(entry(job, State.BLOCKED, "blocked", cause), attempts=0)


def record(*entries: Entry, uri: str = "file:///a") -> Record:
    results = {GRAPH.fingerprints[e.job]: e for e in entries}
    return Record(uri=uri, version="1", order=1, arrived_at=NOW, results=results)


MANY = record(
    failed("load"),
    blocked("beats", "load"),
    blocked("energy", "load"),
    failed("key", "crashed"),
    blocked("chords", "key"),
    entry("picture"),
)


def read_states(found: Record) -> dict[str, State]:
    return {e.job: e.state for e in found.results.values()}


@pytest.mark.parametrize(
    ("jobs", "kinds", "selected"),
    [
        (ALL, (), ("load", "key", "beats", "energy", "chords")),
        (ALL, ("timeout",), ("load", "beats", "energy")),
        (("key",), (), ("key", "chords")),
        (("energy",), (), ("load", "beats", "energy")),
        (("energy",), ("crashed",), ()),
        (("picture",), (), ()),
    ],
)
def test_failures_are_selected_with_all_that_they_block_parents_first(jobs, kinds, selected):
    selection = RetrySelection(jobs=jobs, kinds=frozenset(kinds))
    assert sorted(selection.find_jobs(GRAPH, MANY)) == sorted(selected)
    found = selection.find_jobs(GRAPH, MANY)
    assert found == tuple(job for job in GRAPH.jobs if job in found)


def test_a_job_blocked_by_a_repaired_one_is_selected_too():
    repaired = record(entry("load"), blocked("beats", "load"))
    assert RetrySelection(jobs=ALL).find_jobs(GRAPH, repaired) == ("beats",)
    assert RetrySelection(jobs=ALL, kinds=frozenset({"timeout"})).find_jobs(GRAPH, repaired) == ()


@pytest.mark.parametrize("change", [{"deleted_at": NOW}, {"deleted_at": NOW, "erased": True}])
def test_a_file_that_is_deleted_or_erased_is_not_tried_again(change):
    gone = evolve(MANY, **change)
    assert RetrySelection(jobs=ALL).find_jobs(GRAPH, gone) == ()
    ledger, queue = MemoryLedger([gone]), MemoryQueue()
    retry = JobRetry(graph=GRAPH, ledger=ledger, selection=RetrySelection(jobs=ALL), queue=queue)
    assert retry.run().jobs == 0
    assert (ledger.records[gone.uri], queue.queued) == (gone, {})


@pytest.mark.parametrize(
    "results",
    [
        {OLD: failed("load")},  # as the job was before
        {GRAPH.fingerprints["load"]: evolve(failed("load"), order=0)},
        {GRAPH.fingerprints["chords"]: failed("chords"), "000000000001": entry("chords")},
    ],
)
def test_what_failed_as_another_definition_or_is_current_is_not_tried_again(results):
    assert RetrySelection(jobs=ALL).find_jobs(GRAPH, evolve(MANY, results=results)) == ()


def test_a_file_with_several_failures_is_counted_once():
    ledger = MemoryLedger([MANY, record(failed("key", "crashed"), uri="file:///b")])
    counted = build_retry(ledger).count()
    assert (counted.files, counted.jobs) == (2, 6)
    assert dict(counted.failed) == {"load": 1, "key": 2}
    assert ledger.records[MANY.uri] is MANY
    assert build_retry(ledger).run() == counted
    states = read_states(ledger.records[MANY.uri])
    assert states.pop("picture") is State.DONE
    assert set(states.values()) == {State.QUEUED}
    assert build_retry(ledger).run().jobs == 0


def test_many_files_are_reopened_in_batches():
    many = [record(failed("key", "crashed"), uri=f"file:///{n:04}") for n in range(600)]
    ledger = MemoryLedger(many)
    assert build_retry(ledger).run().files == 600


def test_a_job_repaired_since_the_count_is_not_counted():
    class Moving(MemoryLedger):
        def change(self, changes):
            for uri in list(self.records):
                self._snapshots.pop(uri)
            return super().change(changes)

    assert build_retry(Moving([MANY])).run().jobs == 0


def build_retry(ledger: MemoryLedger, queue: MemoryQueue | None = None, jobs=ALL) -> JobRetry:
    selection = RetrySelection(jobs=jobs)
    return JobRetry(graph=GRAPH, ledger=ledger, selection=selection, queue=queue, clock=lambda: NOW)


def test_the_pipelines_that_can_run_something_get_one_request_for_all_of_a_file():
    ledger, queue = MemoryLedger([MANY]), MemoryQueue()
    build_retry(ledger, queue).run()
    assert [one.topic for one in queue.queued.values()] == ["inbox-load", "inbox-key"]
    first, again = (decode_message(one.data) for one in queue.queued.values())
    assert first == again
    assert first.request is not None
    assert first == Message(
        namespace="team",
        uri=MANY.uri,
        version="1",
        order=1,
        targets=tuple(job for job in ALL if job != "picture"),
        request=first.request,
    )
    for job in first.targets:
        assert ledger.records[MANY.uri].results[GRAPH.fingerprints[job]] == Entry(
            job=job,
            state=State.QUEUED,
            order=1,
            notify=(NOBODY,),
            notify_at=NOW,
            requests=(first.request,),
        )


def test_a_retry_of_what_a_repaired_job_blocked_asks_only_for_that():
    ledger, queue = MemoryLedger([record(entry("load"), blocked("beats", "load"))]), MemoryQueue()
    build_retry(ledger, queue).run()
    assert [one.topic for one in queue.queued.values()] == ["inbox-rhythm"]
    assert read_states(ledger.records["file:///a"]) == {"load": "done", "beats": "queued"}


def test_what_could_not_be_published_is_left_for_the_sweeper():
    class Away(MemoryQueue):
        def publish(self, envelopes):
            raise Unavailable("away")

    ledger = MemoryLedger([MANY])
    with pytest.raises(Unavailable):
        build_retry(ledger, Away()).run()
    assert ledger.records[MANY.uri].results[GRAPH.fingerprints["key"]].notify == (NOBODY,)


# --- dead letters -------------------------------------------------------------------------------

URI = "gs://b/a.wav"
EVENT = Message(
    namespace="team",
    uri=URI,
    version="1",
    order=1,
    trigger="source",
    arrived=Arrived(at=NOW, revision="1"),
    attempt=5,
)
REQUEST = Message(namespace="team", uri=URI, version="1", order=1, targets=("energy",), attempt=2)
FAILED = record(failed("load"), blocked("beats", "load"), failed("key"), uri=URI)


def dead(
    job: str | None = "load",
    kind: str = "timeout",
    message: Message | bytes = EVENT,
    pipeline: str = "load",
) -> Envelope:
    is_read = isinstance(message, Message)
    return dead_letter.dead_letter_to_envelope(
        dead_letter.build_dead_letter(
            stage=Stage.RUN if is_read else Stage.DECODE,
            pipeline=pipeline,
            job=job if is_read else None,
            error=Failure(kind=kind, type="JobTimeout", message="too slow"),
            data=encode_message(message) if is_read else message,
            uri=message.uri if is_read else None,
            version=message.version if is_read else None,
            order=message.order if is_read else None,
            at=NOW,
        )
    )


def build_replay(ledger: MemoryLedger, queue: MemoryQueue, **selected: object) -> DeadLetterReplay:
    selection = RetrySelection(**{"jobs": ("load", "beats"), **selected})
    return DeadLetterReplay(
        graph=GRAPH,
        ledger=ledger,
        queue=queue,
        selection=selection,
        clock=lambda: NOW,
        wait_s=0,
    )


def replay(ledger: MemoryLedger, *letters: Envelope, **selected: object) -> list[Envelope]:
    """Replay letters; return what is in the queue then."""
    queue = MemoryQueue()
    queue.publish(letters)
    build_replay(ledger, queue, **selected).run(dry_run=False)
    return list(queue.queued.values())


def test_counting_changes_nothing():
    ledger, queue = MemoryLedger([FAILED]), MemoryQueue()
    queue.publish([dead(), dead(kind="crashed")])
    found = build_replay(ledger, queue).run(dry_run=True)
    assert dict(found.found) == {
        ("load", "load", "run", "timeout"): 1,
        ("load", "load", "run", "crashed"): 1,
    }
    assert len(queue.pull(["dead"], limit=9)) == 2
    assert ledger.records[URI] is FAILED


def test_a_failure_is_reopened_and_requested_with_what_it_blocks():
    ledger = MemoryLedger([FAILED])
    [sent] = replay(ledger, dead(message=REQUEST))
    message = decode_message(sent.data)
    assert sent.topic == "inbox-load"
    # What the request itself asked for is part of it.
    assert message == evolve(
        REQUEST, targets=("load", "beats", "energy"), request=message.request, attempt=1
    )
    assert read_states(ledger.records[URI]) == {
        "load": "queued",
        "beats": "queued",
        "energy": "queued",
        "key": "failed",
    }


def test_an_event_that_led_to_a_failure_is_published_again_with_all_that_follows_from_it():
    ledger = MemoryLedger([FAILED])
    sent = replay(ledger, dead())
    assert [one.topic for one in sent] == ["inbox-load", "inbox-load"]
    # By now, the record contains more than the event told.
    assert decode_message(sent[1].data) == evolve(EVENT, attempt=1, arrived=None)
    assert decode_message(sent[0].data).targets == ("load", "beats")


def test_a_job_that_was_changed_since_it_failed_runs_as_it_is_now():
    before = evolve(FAILED, results={OLD: failed("load")})
    for message in (REQUEST, EVENT):
        ledger = MemoryLedger([before])
        sent = replay(ledger, dead(message=message))
        assert sent[0].topic == "inbox-load"
        assert "load" in decode_message(sent[0].data).targets
        results = ledger.records[URI].results
        assert results[OLD] == failed("load")
        assert results[GRAPH.fingerprints["load"]].notify == (NOBODY,)


def test_letters_of_several_jobs_of_a_file_are_replayed_together():
    ledger = MemoryLedger([FAILED])
    letters = (dead(message=REQUEST), dead("key", message=REQUEST, pipeline="key"))
    sent = replay(ledger, *letters, jobs=ALL)
    assert [one.topic for one in sent] == ["inbox-load", "inbox-key"]
    assert len({one.data for one in sent}) == 1
    assert read_states(ledger.records[URI])["key"] is State.QUEUED


def test_only_selected_letters_are_sent_again():
    ledger, queue = MemoryLedger([FAILED]), MemoryQueue()
    queue.publish([dead(), dead(kind="crashed")])
    kinds = frozenset({"crashed"})
    assert build_replay(ledger, queue, kinds=kinds).run(dry_run=False).total == 1
    (left,) = queue.pull(["dead"], limit=9)
    assert dead_letter.decode_dead_letter(left.data).kind == "timeout"
    for prefix in ("gs://other/", URI[:-1], f"{URI}/"):
        assert build_replay(ledger, queue, prefix=prefix).run(dry_run=False).total == 0


def test_of_a_pipeline_only_the_letters_of_the_selected_jobs_are_sent_again():
    ledger, queue = MemoryLedger([FAILED]), MemoryQueue()
    queue.publish([dead(job, pipeline="rhythm") for job in ("beats", "energy")])
    assert build_replay(ledger, queue).run(dry_run=False).total == 1
    (left,) = queue.pull(["dead"], limit=9)
    assert dead_letter.decode_dead_letter(left.data).job == "energy"


class FailsAtOnce(MemoryQueue):
    """A queue whose pipelines work at once, and put aside again whatever they are given."""

    def publish(self, envelopes: Sequence[Envelope]) -> None:
        again = [dead() for one in envelopes if one.topic != "dead"]
        super().publish([*envelopes, *again])


def test_a_message_that_fails_again_at_once_is_sent_once():
    ledger, queue = MemoryLedger([FAILED]), FailsAtOnce()
    queue.publish([dead(message=REQUEST)])
    again = build_replay(ledger, queue)
    found = again.run(dry_run=True)
    assert again.run(dry_run=False, only=found.ids).total == 1
    assert queue.measure_depth(["dead", "inbox-load"]) == {
        "dead": 1,
        "inbox-load": 1,
    }


def test_unreadable_bytes_go_back_to_the_pipeline_that_they_came_to():
    [sent] = replay(MemoryLedger(), dead(kind="unreadable_message", message=b"\xff{"))
    assert (sent.topic, sent.data) == ("inbox-load", b"\xff{")


def test_a_message_about_a_record_that_was_damaged_is_sent_again():
    [sent] = replay(MemoryLedger([FAILED]), dead(None, kind="damaged_record"))
    assert (sent.topic, decode_message(sent.data).trigger) == ("inbox-load", "source")


def test_the_message_of_a_job_that_left_the_graph_is_sent_again():
    [sent] = replay(MemoryLedger([FAILED]), dead("gone"))
    assert (sent.topic, decode_message(sent.data).trigger) == ("inbox-load", "source")


def test_a_letter_of_a_pipeline_that_left_the_graph_goes_to_where_its_job_is_now_or_stays():
    """Nobody reads the inbox of that pipeline."""
    ledger, queue = MemoryLedger([FAILED]), MemoryQueue()
    left = [dead("gone", pipeline="gone"), dead(message=b"\xff{", pipeline="gone")]
    queue.publish([dead("load", pipeline="gone"), *left])
    found = build_replay(ledger, queue).run(dry_run=False)
    assert dict(found.found) == {("gone", "load", "run", "timeout"): 1}
    depth = queue.measure_depth([*list_topics(GRAPH), "inbox-gone"])
    assert {topic: n for topic, n in depth.items() if n} == {"inbox-load": 2, "dead": 2}


def test_foreign_messages_are_left_alone():
    ledger, queue = MemoryLedger(), MemoryQueue()
    queue.publish([Envelope(topic="dead", data=b"hello")])
    found = build_replay(ledger, queue).run(dry_run=False)
    assert (found.total, found.unreadable) == (0, 1)
    assert queue.measure_depth(["dead"]) == {"dead": 1}


def test_a_result_that_exists_by_now_is_not_computed_again():
    now = record(entry("load"), uri=URI)
    ledger = MemoryLedger([now])
    assert replay(ledger, dead(message=evolve(REQUEST, targets=("load",)))) == []
    assert ledger.records[URI] is now
    [event] = replay(ledger, dead())  # whoever computed it may have notified nobody
    assert event.topic == "inbox-load"


def test_a_replay_leaves_the_record_of_a_deleted_file_as_it_is():
    deleted = evolve(FAILED, deleted_at=NOW)
    ledger = MemoryLedger([deleted])
    assert replay(ledger, dead()) == []
    assert ledger.records[URI] is deleted


@pytest.mark.parametrize(
    "change",
    [
        {"order": 2},
        {"deleted_at": NOW},
        {"order": 2, "deleted_at": NOW},
        {"order": 0, "deleted_at": NOW, "erased": True},
    ],
)
def test_letters_about_a_file_that_has_changed_since_are_removed_and_not_sent(change):
    ledger, queue = MemoryLedger([evolve(FAILED, **change)]), MemoryQueue()
    undecoded = dead(kind="unreadable_message", message=b"x")
    queue.publish([dead(), dead(kind="crashed"), undecoded])
    found = build_replay(ledger, queue).run(dry_run=True)
    assert (found.total, found.obsolete) == (1, 2)
    assert queue.measure_depth(["dead"]) == {"dead": 3}
    found = build_replay(ledger, queue).run(dry_run=False, only=())
    assert (found.total, found.obsolete) == (0, 2)
    depth = queue.measure_depth(list_topics(GRAPH))
    assert {topic: number for topic, number in depth.items() if number} == {"dead": 1}


def test_an_erasure_that_was_dead_lettered_is_sent_again():
    erased = evolve(FAILED, deleted_at=NOW, erased=True)
    event = evolve(EVENT, namespace="above", is_deleted=True, is_erased=True)
    [sent] = replay(MemoryLedger([erased]), dead(None, message=event, pipeline="rhythm"))
    assert sent.topic == "inbox-rhythm"
    assert decode_message(sent.data) == evolve(event, attempt=1, arrived=None)


@pytest.mark.parametrize("known", [(), (evolve(FAILED, order=0),)])
def test_the_message_about_a_version_that_the_ledger_does_not_know_is_sent_again(known):
    ledger = MemoryLedger(known)
    [sent] = replay(ledger, dead(message=REQUEST))
    assert decode_message(sent.data) == evolve(REQUEST, attempt=1)
    assert tuple(ledger.records.values()) == known


@pytest.mark.parametrize("failing", ["publish", "acknowledge"])
def test_letters_that_could_not_be_sent_can_be_pulled_again_at_once(monkeypatch, failing):
    ledger, queue = MemoryLedger([FAILED]), MemoryQueue()
    queue.publish([dead(), dead(kind="crashed")])

    def fail(_envelopes):
        raise Unavailable("away")

    with monkeypatch.context() as patched:
        patched.setattr(queue, failing, fail)
        with pytest.raises(Unavailable):
            build_replay(ledger, queue).run(dry_run=False)
    assert len(queue.pull(["dead"], limit=9)) == 2
    assert ledger.records[URI].results[GRAPH.fingerprints["load"]].notify == (NOBODY,)
