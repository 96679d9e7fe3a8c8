"""What may be requested, what the ledger then says, and which pipelines are asked for it."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.adapters import folder
from segue.adapters.connect import connect_store
from segue.adapters.sqlite_ledger import SqliteLedger
from segue.errors import ConfigurationError, MissingInput, SegueError, Unavailable
from segue.ingest.catalogue import MediaFilter
from segue.ingest.request_client import send_request
from segue.ingest.requests import (
    InvalidRequest,
    Request,
    RequestReceipt,
    Requests,
    load_request,
    parse_request,
)
from segue.model.graph import parse_graph
from segue.model.ledger import Change
from segue.model.media_file import MediaFile
from segue.model.message import Message
from segue.model.message import decode_message as message_of
from segue.model.object_store import REMEDIES, LeftOutReason
from segue.model.record import NOBODY, Entry, Failure, Lease, Record, State, evolve
from segue.model.run import (
    RunCounts,
    RunKind,
    RunRecord,
    RunSelection,
    RunState,
    load_run,
    save_run,
)
from segue.model.transitions import arrive, delete, erase
from segue_support.ledger import MemoryLedger
from segue_support.queue import MemoryQueue

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
YEAR_2000 = datetime(2000, 1, 1, tzinfo=UTC)
GRAPH = parse_graph(
    """
namespace: team
include: ["*.wav"]
pipelines: {pair: [b, c]}
jobs:
  a: {run: "m:f", needs: {media: source}, writes: audio/flac}
  b: {run: "m:f", needs: {x: a}, writes: application/json}
  c: {run: "m:f", needs: {x: a}, writes: application/json}
  d: {run: "m:f", needs: {media: source}, writes: application/json}
"""
)


class System:
    """Where requests are handed in, with a folder of music behind it."""

    def __init__(self, folder, *, with_catalogue: bool = True, page: int = 1000) -> None:
        self.music = connect_store(str(folder / "music"))
        self.artifacts = connect_store(str(folder / "artifacts"))
        self.ledger = MemoryLedger()
        self.queue = MemoryQueue()
        self.requests = Requests(
            graph=GRAPH,
            ledger=self.ledger,
            queue=self.queue,
            media_filter=MediaFilter(
                catalogue=f"{self.music.location}/" if with_catalogue else None,
                excluded=(f"{self.artifacts.location}/",),
                include=GRAPH.include,
            ),
            open_store=connect_store,
            artifacts=self.artifacts,
            clock=lambda: NOW,
            page=page,
        )

    def write(self, *names: str) -> list[str]:
        for name in names:
            self.music.create(name, b"sound", content_type="audio/wav", metadata={}, replace=True)
        return [self.music.uri(name) for name in names]

    def accept(self, **asked: object) -> RequestReceipt:
        return self.requests.accept(msgspec.convert(asked, Request))

    def media(self, name: str) -> MediaFile:
        return self.music.identify(name).to_media_file(self.music.uri(name))

    def put(self, name: str, **results: Entry) -> Record:
        """Write a file, and record it with results of jobs."""
        self.write(name)
        record, _ = arrive(None, self.media(name), NOW)
        by_print = {
            GRAPH.fingerprints[e.job]: evolve(e, order=record.order) for e in results.values()
        }
        record = evolve(record, results=by_print)
        self.ledger.change([Change(uri=record.uri, transition=lambda _: (record, None))])
        return record

    def entry(self, job: str, name: str = "a.wav") -> Entry | None:
        record = self.ledger.records[self.music.uri(name)]
        return record.results.get(GRAPH.fingerprints[job])

    @property
    def messages(self) -> list[Message]:
        return [message_of(envelope.data) for envelope in self.queue.queued.values()]

    @property
    def topics(self) -> list[str]:
        return [envelope.topic for envelope in self.queue.queued.values()]


@pytest.fixture
def system(tmp_path) -> System:
    return System(tmp_path)


# --- what is requested --------------------------------------------------------------------------


def entry(job: str, state: State = State.DONE, **more: object) -> Entry:
    return Entry(**{"job": job, "state": state, "order": 1, "attempts": 1, **more})  # type: ignore[arg-type]


def lease(seconds: float) -> Lease:
    return Lease(owner="somebody", expires_at=NOW + timedelta(seconds=seconds))


def test_the_targets_are_wanted_and_the_pipelines_that_can_run_something_are_asked(system):
    [uri] = system.write("a.wav")
    accepted = system.accept(files=[uri], jobs=["b", "c"])
    media = system.media("a.wav")
    assert accepted == RequestReceipt(request=accepted.request, targets=("b", "c"), files=1)
    assert system.topics == ["inbox-a"]
    assert system.messages == [
        Message(
            namespace="team",
            uri=uri,
            version=media.version,
            order=1,
            targets=("b", "c"),
            request=accepted.request,
        )
    ]
    wanted = Entry(job="b", state=State.QUEUED, order=1, notify=(NOBODY,), notify_at=NOW)
    assert system.entry("b") == wanted
    assert system.entry("c") == evolve(wanted, job="c")
    assert system.entry("a") is None  # nobody waits for what is only needed on the way


def test_without_jobs_all_of_the_graph_are_targets(system):
    accepted = system.accept(files=system.write("a.wav"))
    assert accepted.targets == ("a", "d", "b", "c")  # parents first
    assert system.topics == ["inbox-a", "inbox-d"]
    assert {m.targets for m in system.messages} == {("a", "d", "b", "c")}


def test_jobs_of_one_pipeline_are_asked_for_in_one_message(system):
    system.put("a.wav", a=entry("a"))
    system.accept(files=[system.music.uri("a.wav")], jobs=["b", "c"])
    assert system.topics == ["inbox-pair"]


FAILED = entry("a", State.FAILED, error=Failure(kind="timeout", type="JobTimeout", message="m"))


def test_a_result_that_is_current_or_has_failed_is_left_alone(system):
    before = system.put("a.wav", a=FAILED, d=entry("d"))
    accepted = system.accept(files=[before.uri], jobs=["a", "d"])
    assert accepted.files == 1
    assert system.ledger.records[before.uri] is before
    assert system.messages == []


def test_a_target_below_a_failed_job_is_recorded_as_blocked(system):
    before = system.put("a.wav", a=FAILED)
    system.accept(files=[before.uri], jobs=["b"])
    blocked = system.entry("b")
    assert (blocked.state, blocked.error.type, blocked.notify) == (State.BLOCKED, "a", ())
    assert system.entry("a") == before.results[GRAPH.fingerprints["a"]]
    assert system.messages == []


@pytest.mark.parametrize("target", ["a", "b"])
def test_what_is_being_computed_is_wanted_and_nobody_is_asked(system, target):
    """Its process may be stopped, and then leaves only what is wanted."""
    before = system.put("a.wav", a=entry("a", State.RUNNING, lease=lease(60)))
    system.accept(files=[before.uri], jobs=[target])
    assert system.entry(target).notify == (NOBODY,)
    assert system.entry("a").lease == lease(60)
    assert system.messages == []


def test_the_work_of_a_lost_process_is_asked_for(system):
    before = system.put("a.wav", a=entry("a", State.RUNNING, lease=lease(60)))
    object.__setattr__(system.requests, "lost", lambda _lease: True)
    system.accept(files=[before.uri], jobs=["a"])
    assert system.topics == ["inbox-a"]


def test_what_is_wanted_under_an_old_fingerprint_is_wanted_under_the_present_one(system):
    before = system.put("a.wav")
    old = entry("d", State.QUEUED, order=before.order, notify=("*",), attempts=0)
    record = evolve(before, results={"0" * 12: old})
    system.ledger.change([Change(uri=record.uri, transition=lambda _: (record, None))])
    system.accept(files=[record.uri], jobs=["b"])
    assert system.entry("d").notify == ("*",)
    assert "0" * 12 not in system.ledger.records[record.uri].results


def test_a_request_costs_one_write_for_each_file(system, monkeypatch):
    uris = [system.put(name).uri for name in ("a.wav", "b.wav")]
    changes = []
    change = system.ledger.change

    def count(some):
        changes.extend(one.uri for one in some)
        return change(some)

    monkeypatch.setattr(system.ledger, "change", count)
    system.accept(files=uris, jobs=["b"], force=True)
    assert changes == uris


def test_a_ping_walks_from_the_top_of_its_line(system):
    system.write("a.wav")
    accepted = system.accept(files=[system.music.uri("a.wav")], jobs=["b"], ping=True)
    media = system.media("a.wav")
    assert system.topics == ["inbox-a"]
    assert system.messages == [
        Message(
            namespace="team",
            uri=media.uri,
            version=media.version,
            order=1,
            trigger="source",
            targets=("b",),
            ping=True,
            request=accepted.request,
        )
    ]
    assert system.ledger.records[media.uri].results == {}


# --- force --------------------------------------------------------------------------------------


def test_a_forced_result_counts_as_missing_once(system):
    before = system.put("a.wav", a=entry("a"), b=entry("b"))
    asked = {"files": [before.uri], "jobs": ["b"], "force": True}
    first = system.accept(**asked)
    forced = system.entry("b")
    assert (forced.state, forced.requests, forced.notify) == (
        State.QUEUED,
        (first.request,),
        (NOBODY,),
    )
    assert system.entry("a").state is State.DONE
    assert system.topics == ["inbox-pair"]
    done = evolve(forced, state=State.DONE, notify=(), notify_at=None)
    by_now = evolve(before, results={**before.results, GRAPH.fingerprints["b"]: done})
    system.ledger.change([Change(uri=before.uri, transition=lambda _: (by_now, None))])
    system.accept(**asked, request=first.request)
    assert system.ledger.records[before.uri] is by_now
    assert len(system.messages) == 1
    system.accept(**asked)
    assert system.entry("b").state is State.QUEUED


def test_force_with_parents_is_for_all_above_them_too(system):
    before = system.put("a.wav", a=entry("a"), b=entry("b"), c=entry("c"), d=entry("d"))
    system.accept(files=[before.uri], jobs=["b"], force=True, parents=True)
    states = {job: system.entry(job).state for job in GRAPH.jobs}
    assert states == {"a": "queued", "b": "queued", "c": "done", "d": "done"}
    assert system.topics == ["inbox-a"]
    assert [m.targets for m in system.messages] == [("a", "b")]


def test_force_tries_failed_results_again(system):
    before = system.put("a.wav", a=FAILED)
    system.accept(files=[before.uri], jobs=["a"], force=True)
    assert system.entry("a").state is State.QUEUED
    assert system.topics == ["inbox-a"]


# --- files and ids ------------------------------------------------------------------------------


def test_a_file_of_which_no_event_has_come_is_recorded(system):
    [uri] = system.write("a.wav")
    system.accept(files=[uri], jobs=["b"])
    record = system.ledger.records[uri]
    assert record.media == evolve(system.media("a.wav"), order=1)


@pytest.mark.parametrize("by", ["files", "prefix"])
def test_what_is_asked_for_is_the_content_that_a_file_has(system, by):
    """Events of a folder may have been missed."""
    uri = system.put("a.wav").uri
    gone = system.put("gone.wav").uri
    system.music.create("a.wav", b"x", content_type="audio/wav", metadata={}, replace=True)
    system.music.delete("gone.wav")
    asked = {"files": [uri, gone]} if by == "files" else {"prefix": system.music.uri("")}
    accepted = system.accept(**asked, jobs=["b"])
    content = system.media("a.wav").version
    assert [(m.version, m.order) for m in system.messages] == [(content, 2)]
    assert accepted.files == 1
    assert accepted.ignored == ({gone: "there is no such object"} if by == "files" else {})


def test_a_file_that_a_newer_observation_has_recorded_is_asked_for_as_that(system, monkeypatch):
    uri = system.put("a.wav").uri
    newer = MediaFile(uri=uri, version="0123abcd", stat="1:1:1:1:1")
    change = system.ledger.change

    def change_late(changes):
        change([Change(uri=uri, transition=lambda r: arrive(r, newer, NOW))])
        return change(changes)

    monkeypatch.setattr(system.ledger, "change", change_late)
    system.accept(files=[uri], jobs=["b"])
    assert [(m.version, m.order) for m in system.messages] == [("0123abcd", 2)]
    assert system.ledger.records[uri].media == evolve(newer, order=2)


def test_a_file_that_is_deleted_meanwhile_is_ignored(system, monkeypatch):
    uri = system.put("a.wav").uri
    change = system.ledger.change

    def change_late(changes):
        gone = MediaFile(uri=uri, version="")
        change([Change(uri=uri, transition=lambda r: delete(r, gone, NOW))])
        return change(changes)

    monkeypatch.setattr(system.ledger, "change", change_late)
    accepted = system.accept(files=[uri], jobs=["b"])
    assert (accepted.files, accepted.ignored) == (0, {uri: "it was deleted"})
    assert system.messages == []


@pytest.mark.parametrize("ask", ["request", "force", "ping"])
def test_a_file_that_was_erased_is_refused_by_name(system, ask):
    uri = system.put("a.wav").uri
    media = MediaFile(uri=uri, version="")
    system.ledger.change([Change(uri=uri, transition=lambda r: erase(r, media, NOW))])
    erased = system.ledger.records[uri]
    system.music.create("a.wav", b"new", content_type="audio/wav", metadata={}, replace=True)
    asked = {"request": {}, "force": {"force": True}, "ping": {"ping": True}}[ask]
    accepted = system.accept(files=[uri], jobs=["b"], **asked)
    assert (accepted.files, accepted.ignored) == (0, {uri: "it was erased"})
    assert system.accept(prefix=system.music.location, jobs=["b"], **asked).files == 0
    assert system.messages == []
    assert system.ledger.records[uri] is erased


def test_a_file_that_cannot_be_read_is_ignored_with_the_reason(system, monkeypatch):
    uris = system.write("a.wav", "b.wav")

    def fail(path):
        if path.endswith("a.wav"):
            raise OSError(5, "Input/output error", path)
        return digest(path)

    digest = folder._compute_digest
    monkeypatch.setattr(folder, "_compute_digest", fail)
    accepted = system.accept(files=uris, jobs=["b"])
    assert [m.uri for m in system.messages] == uris[1:]
    assert "Input/output error" in accepted.ignored[uris[0]]


def test_the_record_of_the_run_holds_the_request(system):
    [uri] = system.write("a.wav")
    asked = Request(files=(uri, uri), jobs=("c", "b"), force=True)
    accepted = system.requests.accept(asked, who="ann@example.com")
    assert load_request(system.artifacts, accepted.request) == RunRecord(
        id=accepted.request,
        kind=RunKind.REQUEST,
        state=RunState.ACCEPTED,
        who="ann@example.com",
        started_at=NOW,
        selection=RunSelection(files=(uri, uri)),
        jobs=("b", "c"),
        force=True,
        counts=RunCounts(files=1),
    )


def test_how_many_files_are_below_a_prefix_is_left_to_the_ledger(system):
    system.write("a/1.wav", "a/2.wav")
    prefix = system.music.uri("a/")
    accepted = system.accept(prefix=prefix, jobs=["b"], ping=True)
    run = load_request(system.artifacts, accepted.request)
    assert (run.selection, run.counts) == (RunSelection(prefix=prefix), RunCounts())
    assert (run.ping, run.force, run.who) == (True, False, None)


def test_ids_grow_with_time_and_are_never_the_same(system):
    uris = system.write("a.wav")
    first, again = system.accept(files=uris).request, system.accept(files=uris).request
    object.__setattr__(system.requests, "clock", lambda: NOW + timedelta(microseconds=1))
    assert first != again
    assert system.accept(files=uris).request > max(first, again)


# --- pages and repetitions --------------------------------------------------------------------


def test_a_prefix_is_taken_page_by_page(tmp_path):
    system = System(tmp_path, page=2)
    uris = system.write("a/1.wav", "a/2.wav", "a/3.txt", "a/4.wav", "b/5.wav")
    asked = {"prefix": system.music.uri("a/"), "jobs": ["b"]}
    first = system.accept(**asked)
    assert (first.files, first.ignored) == (2, {})
    second = system.accept(**asked, request=first.request, after=first.after)
    assert (second.request, second.files) == (first.request, 1)
    third = system.accept(**asked, request=first.request, after=second.after)
    assert (third.files, third.after) == (0, None)
    assert [m.uri for m in system.messages] == [uris[0], uris[1], uris[3]]
    assert len(list(system.artifacts.list("_runs/"))) == 1


def test_some_of_the_files_of_a_prefix_are_selected_page_by_page(tmp_path):
    system = System(tmp_path, page=2)
    uris = system.write("a/1.wav", "a/2.wav", "a/3.txt", "a/4.wav")
    os.utime(tmp_path / "music/a/4.wav", (0, 0))
    asked = Request(
        prefix=system.music.uri("a/"), jobs=("b",), match=("*/[14].wav",), newer_than=YEAR_2000
    )
    receipt = send_request(system.requests, asked)
    assert (receipt.files, receipt.not_included) == (1, {".txt": 1})
    assert receipt.not_selected == {"match": 1, "newer_than": 1}
    assert [m.uri for m in system.messages] == uris[:1]
    run = load_request(system.artifacts, receipt.request)
    assert run.selection.criteria == asked.criteria
    later = msgspec.structs.replace(asked, match=(), request=receipt.request, after="a/1.wav")
    with pytest.raises(InvalidRequest, match="asked for something else"):
        system.requests.accept(later)


def test_another_one_may_send_a_later_page_at_a_later_time(tmp_path):
    system = System(tmp_path, page=1)
    system.write("a/1.wav", "a/2.wav")
    asked = Request(prefix=system.music.uri("a/"), jobs=("b",))
    first = system.requests.accept(asked, who="ann@example.com")
    object.__setattr__(system.requests, "clock", lambda: NOW + timedelta(hours=1))
    later = msgspec.structs.replace(asked, request=first.request, after=first.after)
    assert system.requests.accept(later, who="bob@example.com").files == 1
    run = load_request(system.artifacts, first.request)
    assert (run.who, run.started_at) == ("ann@example.com", NOW)


def test_the_same_call_with_its_id_changes_nothing_but_notifies_again(system):
    asked = {"files": system.write("a.wav"), "jobs": ["b"]}
    first = system.accept(**asked)
    records = dict(system.ledger.records)
    assert system.accept(**asked, request=first.request) == first
    assert system.ledger.records == records
    assert len(system.messages) == 2
    assert system.messages[0] == system.messages[1]


def test_an_id_that_was_not_given_here_is_refused(system):
    """An earlier request may have had it, and then it would force nothing."""
    with pytest.raises(InvalidRequest, match="no request 9999"):
        system.accept(files=system.write("a.wav"), jobs=["b"], request="9999", force=True)
    assert system.messages == []


def test_a_prefix_does_not_reach_into_a_folder_beside_its_own(tmp_path):
    system = System(tmp_path, page=2)
    uris = system.write("a/b.wav", "a/c.wav", "a/d.wav", "a-private/e.wav", "a.wav")
    asked = {"prefix": system.music.uri("a"), "jobs": ["b"]}
    first = system.accept(**asked)
    system.accept(**asked, request=first.request, after=first.after)
    assert [m.uri for m in system.messages] == uris[:3]


def test_what_a_prefix_leaves_out_is_told(system, tmp_path):
    system.write("a.wav")
    for name in (b"caf\xe9.wav", b"caf\xe9.txt"):
        with open(os.fsencode(tmp_path / "music") + b"/" + name, "wb"):
            pass
    os.mkfifo(tmp_path / "music/radio.wav")
    accepted = system.accept(prefix=system.music.uri(""), jobs=["b"])
    assert accepted.files == 1
    assert accepted.ignored == {
        system.music.uri("caf\\xe9.wav"): REMEDIES[LeftOutReason.NOT_UTF8],
        system.music.uri("radio.wav"): REMEDIES[LeftOutReason.SPECIAL_FILE],
    }


def test_a_prefix_that_only_begins_like_the_catalogue_is_refused(system):
    for prefix in (system.music.location[:-1], f"{system.music.location}-2/"):
        with pytest.raises(InvalidRequest, match="not below the catalogue"):
            system.accept(prefix=prefix, jobs=["b"])


def test_a_later_page_cannot_ask_for_something_else(system):
    asked = {"prefix": system.music.uri(""), "jobs": ["b"]}
    system.write("a.wav")
    given_id = system.accept(**asked).request
    for other in ({"jobs": ["c"]}, {"force": True}, {"prefix": system.music.uri("a")}):
        with pytest.raises(InvalidRequest, match="something else"):
            system.accept(**{**asked, **other}, request=given_id)


def test_a_prefix_above_the_catalogue_means_the_catalogue(system):
    [uri] = system.write("a.wav")
    connect_store(system.music.location.removesuffix("/music")).create(
        "other/b.wav", b"", content_type="audio/wav", metadata={}
    )
    accepted = system.accept(prefix=system.music.location.removesuffix("/music"), jobs=["b"])
    assert accepted.files == 1
    assert [m.uri for m in system.messages] == [uri]
    assert load_request(system.artifacts, accepted.request).selection.prefix == system.music.uri("")


def test_a_whole_bucket_can_be_named_with_or_without_a_slash(tmp_path):
    """Without one, the name of another bucket would begin with it."""
    system = System(tmp_path, with_catalogue=False)
    seen = []

    def opened(location):
        seen.append(location)
        return system.music

    object.__setattr__(system.requests, "open_store", opened)
    accepted = system.accept(prefix="gs://music", jobs=["b"])
    assert seen == ["gs://music"]
    assert load_request(system.artifacts, accepted.request).selection.prefix == "gs://music/"


def test_a_file_whose_record_is_damaged_is_left_alone_and_told(tmp_path):
    system = System(tmp_path)
    uris = system.write("a.wav", "b.wav")
    ledger = SqliteLedger(str(tmp_path / "ledger.db"))
    object.__setattr__(system.requests, "ledger", ledger)
    system.accept(files=uris, jobs=["d"])
    with ledger._session(), ledger._transaction():
        ledger._db.execute("UPDATE files SET record = '{' WHERE uri = ?", (uris[0],))
    accepted = system.accept(prefix=system.music.uri(""), jobs=["a"])
    assert accepted.files == 1
    assert list(accepted.ignored) == uris[:1]
    assert "damaged" in accepted.ignored[uris[0]]
    assert [m.uri for m in system.messages[2:]] == uris[1:]
    assert ledger.read(uris[:1])[0].damage is not None
    ledger.close()


def test_what_could_not_be_published_is_wanted_in_the_ledger(system, monkeypatch):
    def away(_envelopes):
        raise Unavailable("the queue is away; try again later")

    monkeypatch.setattr(system.queue, "publish", away)
    with pytest.raises(Unavailable):
        system.accept(files=system.write("a.wav"), jobs=["b"])
    assert system.entry("b").notify == (NOBODY,)


# --- what is ignored, and what is refused -----------------------------------------------------


def test_what_is_no_media_or_not_there_is_ignored_with_a_reason(system, tmp_path):
    [there, text, deleted] = system.write("a.wav", "b.txt", "c.wav")
    system.music.delete("c.wav")
    gone, elsewhere = system.music.uri("gone.wav"), f"file://{tmp_path}/other/a.wav"
    out = system.music.uri("../other/a.wav")
    named = [there, there, text, deleted, gone, elsewhere, out, "a.wav", ""]
    accepted = system.accept(files=named, jobs=["b"])
    assert accepted.files == 1
    assert [m.uri for m in system.messages] == [there]
    assert set(accepted.ignored) == set(named) - {there}
    assert accepted.ignored[gone] == "there is no such object"
    assert accepted.ignored[deleted] == "there is no such object"
    assert "not below the catalogue" in accepted.ignored[elsewhere]
    assert "not a URI" in accepted.ignored["a.wav"]


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({}, "either files or a prefix"),
        ({"files": ["gs://m/a.wav"], "prefix": "gs://m/"}, "either files or a prefix"),
        (
            {"prefix": "gs://m/", "jobs": ["x"]},
            "'x' is not a job of the graph; name some of a, d, b, c",
        ),
        ({"prefix": "gs://m/", "force": True}, "force is set, but no jobs are named"),
        ({"prefix": "gs://m/", "after": "a"}, "and the id that the first page"),
        ({"files": ["gs://m/a.wav"], "after": "a", "request": "1"}, "needs a prefix"),
        ({"files": ["gs://m/a.wav"] * 1001}, "1001 files are more than the 1000"),
        ({"prefix": "music/"}, "not a location"),
        ({"prefix": "gs://elsewhere/"}, "not below the catalogue"),
        ({"prefix": "file:///a/../b/"}, "'..' parts"),
        ({"prefix": "file:///a//"}, "empty"),
        ({"prefix": "file:///a\0"}, "NUL"),
        ({"files": ["gs://m/a.wav"], "request": "../../x"}, "not the id of a request"),
        ({"files": ["gs://m/a.wav"], "request": ""}, "not the id of a request"),
        ({"files": ["gs://m/a.wav"], "match": ["*"]}, "criteria select among the files below"),
        ({"prefix": "file:///", "match": [""]}, "'' is not a pattern"),
        ({"prefix": "file:///", "min_duration_s": -1}, "write 0 s or more"),
        ({"prefix": "file:///", "min_duration_s": 1}, "which this graph has not; add to its jobs"),
        ({"files": ["gs://m/a.wav"], "request": "x" * 101}, "not the id of a request"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_with_the_way_out(system, asked, reason):
    with pytest.raises(InvalidRequest, match=reason):
        system.accept(**asked)
    assert system.messages == []
    assert list(system.artifacts.list()) == []


def test_without_a_catalogue_a_place_that_is_none_is_the_fault_of_who_named_it(tmp_path):
    system = System(tmp_path, with_catalogue=False)

    def away(_location):
        raise ConfigurationError("the bucket does not exist; make it, or correct the location")

    object.__setattr__(system.requests, "open_store", away)
    with pytest.raises(InvalidRequest, match="bucket does not exist"):
        system.accept(prefix="gs://nowhere/", jobs=["b"])


def test_in_the_catalogue_a_place_that_cannot_be_looked_at_is_the_fault_of_the_set_up(system):
    def away(_location):
        raise ConfigurationError("the bucket does not exist; make it, or correct the location")

    object.__setattr__(system.requests, "open_store", away)
    with pytest.raises(ConfigurationError, match="bucket does not exist") as raised:
        system.accept(prefix=system.music.uri(""), jobs=["b"])
    assert not isinstance(raised.value, InvalidRequest)


def test_a_name_that_no_file_can_have_is_the_callers_fault(system):
    [uri] = system.write("a.wav")
    long = system.music.uri("n" * 300 + ".wav")
    accepted = system.accept(files=[uri, long], jobs=["b"])
    assert (accepted.files, set(accepted.ignored)) == (1, {long})
    assert "too long" in accepted.ignored[long]
    with pytest.raises(InvalidRequest):
        system.accept(prefix=system.music.uri("n" * 300 + "/a"), jobs=["b"])


def test_a_backfill_is_no_request(system):
    run = RunRecord(
        id="20260102T030405.000000Z-00000000",
        kind=RunKind.BACKFILL,
        state=RunState.DONE,
        started_at=NOW,
        selection=RunSelection(files=tuple(system.write("a.wav"))),
        jobs=("b",),
        counts=RunCounts(files=1),
    )
    save_run(system.artifacts, run)
    with pytest.raises(ConfigurationError, match="is a backfill, not a request"):
        load_request(system.artifacts, run.id)
    with pytest.raises(InvalidRequest, match="asked for something else"):
        system.accept(files=list(run.selection.files), jobs=["b"], request=run.id)
    assert load_run(system.artifacts, run.id) == run


def test_a_request_that_nobody_made_is_not_found(system):
    with pytest.raises(MissingInput):
        load_request(system.artifacts, "20260102T030405.000000Z-00000000")


@pytest.mark.parametrize("data", [b"{", b'{"request": "\xff"}', b"[" * 100_000, b"{}"])
def test_a_document_that_cannot_be_read_says_so(system, data):
    system.artifacts.create("_runs/x.json", data, content_type="application/json", metadata={})
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_request(system.artifacts, "x")


# --- the bytes of a request -------------------------------------------------------------------


def test_a_request_is_read_from_json():
    asked = parse_request(b'{"files": ["gs://b/a.wav"], "jobs": ["b"], "force": true}')
    assert asked == Request(files=("gs://b/a.wav",), jobs=("b",), force=True)


@pytest.mark.parametrize(
    "data", [b"", b"null", b"[]", b"{", b'{"file": "x"}', b'{"jobs": "b"}', b"\xff", b"[" * 100_000]
)
def test_what_is_no_request_is_refused_with_an_example(data):
    with pytest.raises(InvalidRequest, match="write JSON such as"):
        parse_request(data)


texts = st.text(max_size=20)
ROOT = "root:"  # stands for the folder of the catalogue, which is made later
uris = texts | st.builds("{}{}".format, st.sampled_from(["file:///", "gs://m/", ROOT]), texts)
requests = st.fixed_dictionaries(
    {},
    optional={
        "files": st.lists(uris, max_size=4),
        "prefix": uris | st.none(),
        "jobs": st.lists(texts | st.sampled_from("abcd"), max_size=3),
        "force": st.booleans(),
        "parents": st.booleans(),
        "ping": st.booleans(),
        "match": st.lists(texts, max_size=2),
        "newer_than": texts | st.just("2026-01-02T03:04:05Z"),
        "min_duration_s": st.floats(allow_nan=False, allow_infinity=False) | st.none(),
        "tags": st.dictionaries(texts, st.lists(texts, max_size=2), max_size=2),
        "request": texts | st.none(),
        "after": texts | st.none(),
    },
)


@given(asked=requests)
def test_any_request_is_taken_or_refused_and_never_leaves_the_catalogue(asked, tmp_path_factory):
    system = System(tmp_path_factory.mktemp("system"))
    system.write("a.wav")
    try:
        text = msgspec.json.encode(asked).decode().replace(ROOT, f"{system.music.location}/")
        accepted = system.requests.accept(parse_request(text.encode()))
    except InvalidRequest as error:
        assert str(error)  # noqa: PT017 - refused in words
    except SegueError as error:
        pytest.fail(f"blamed on the set-up: {error!r}")
    else:
        assert accepted.files <= 1
    assert {m.uri for m in system.messages} <= {system.music.uri("a.wav")}
