"""The functions as functions-framework serves them, on both stacks: whatever comes, in whichever
order, the ledger ends right and the pipelines are notified.
"""

from __future__ import annotations

import json
import logging
import os
import random
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import functions_framework
import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from segue.adapters.connect import connect_ledger, connect_queue, connect_store
from segue.errors import Unavailable
from segue.log import LOGGER
from segue.model.artifact import build_artifact_name
from segue.model.graph import Graph, read_graph
from segue.model.ledger import Change
from segue.model.media_file import MediaFile
from segue.model.message import Message, decode_message
from segue.model.queue import ReceivedEnvelope, list_subscriptions, list_topics
from segue.model.record import NOBODY, Entry, Record, State, evolve
from segue_functions import stack
from segue_support import emulators
from segue_support.cloud_events import (
    build_event,
    build_message_event,
    build_object_event,
    to_binary,
    to_structured,
)

FUNCTIONS = Path(stack.__file__).parent
GRAPH = """
include: ["*.wav"]
jobs:
  a: {run: "m:f", needs: {media: source}, writes: application/json}
  b: {run: "m:f", needs: {x: a}, writes: application/json}
  c: {run: "m:f", needs: {media: source}, writes: application/json}
"""
BUCKET = "gs://music"
PULL_S = 20.0
ROUNDS = 4  # few, as the Firestore emulator is slow where many write to one document


class Served:
    """The four functions, each an app of functions-framework, and the stack behind them."""

    def __init__(self, graph: Graph, catalogue: str, artifacts: str, ledger: str, queue: str):
        self.graph = graph
        self.music = connect_store(catalogue)
        self.artifacts = connect_store(artifacts)
        self.ledger = connect_ledger(ledger)
        self.queue = connect_queue(queue, graph)
        self.subscriptions = [s.name for s in list_subscriptions(graph, graph.pipelines)]
        self.clients: dict[str, FlaskClient] = {}
        self._names = iter(range(1000))

    def client(self, name: str) -> FlaskClient:
        if name not in self.clients:
            app = functions_framework.create_app(name, str(FUNCTIONS / f"{name}.py"))
            self.clients[name] = app.test_client()
        return self.clients[name]

    def send(self, name: str, sent, mode=to_binary) -> TestResponse:
        headers, body = mode(sent)
        return self.client(name).post("/", headers=headers, data=body)

    def uri(self, name: str) -> str:
        """The URI of an object that events are about; there need not be one."""
        return (
            f"{BUCKET}/{name}"
            if self.music.location.startswith("file://")
            else self.music.uri(name)
        )

    def media(self, order: int = 5, name: str | None = None) -> MediaFile:
        if name is None:
            name = f"{next(self._names)}.wav"
        return MediaFile(uri=self.uri(name), version=str(order), order=order, size_bytes=10)

    def record(self, uri: str) -> Record | None:
        return self.ledger.read([uri])[0].record

    def put(self, media: MediaFile, entry: Entry) -> None:
        """Record a result of a file."""
        results = {self.graph.fingerprints[entry.job]: entry}
        self.ledger.change(
            [Change(uri=media.uri, transition=lambda r: (evolve(r, results=results), None))]
        )

    def notified(self, count: int) -> list[Message]:
        """The next messages, so many, and no more."""
        return [decode_message(one.data) for one in self.pull(count)]

    def pull(self, count: int) -> list[ReceivedEnvelope]:
        envelopes: list[ReceivedEnvelope] = []
        while len(envelopes) < count:
            got = self.queue.pull(self.subscriptions, limit=100, wait_s=PULL_S)
            assert got, f"only {envelopes}"
            self.queue.acknowledge(got)
            envelopes += got
        assert self.queue.pull(self.subscriptions, limit=100) == []
        assert len(envelopes) == count
        return envelopes

    def close(self) -> None:
        stack.close()
        for part in (self.queue, self.ledger, self.music, self.artifacts):
            part.close()


@pytest.fixture
def framework(monkeypatch) -> Iterator[None]:
    """functions-framework leaves traces in the process; they are wiped off."""
    for name in ("FUNCTION_TARGET", "FUNCTION_SIGNATURE_TYPE"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(functions_framework, "errorhandler", functions_framework.errorhandler)
    for name, value in (("handlers", [logging.NullHandler()]), ("propagate", True), ("level", 0)):
        monkeypatch.setattr(LOGGER, name, value)
    yield
    for name in ("arrival", "deletion", "sweep", "request"):
        sys.modules.pop(name, None)


@pytest.fixture(params=["embedded", "cloud"])
def served(request, tmp_path, monkeypatch, framework, project) -> Iterator[Served]:
    """The functions on a stack of their own."""
    (tmp_path / "jobs.yaml").write_text(GRAPH)
    monkeypatch.chdir(tmp_path)
    graph = read_graph("jobs.yaml", {})
    places = {
        "catalogue": f"{tmp_path}/music",
        "artifacts": f"{tmp_path}/features",
        "ledger": f"sqlite:///{tmp_path}/ledger.db",
        "queue": f"sqlite:///{tmp_path}/queue.db",
    }
    if request.param == "cloud":
        from segue_support.pubsub_topics import make_topics

        bucket = request.getfixturevalue("bucket")
        monkeypatch.setenv(emulators.PUBSUB.variable, request.getfixturevalue("pubsub_emulator"))
        places = {
            "catalogue": f"gs://{bucket}/music",
            "artifacts": f"gs://{bucket}/features",
            "ledger": request.getfixturevalue("firestore_url"),
            "queue": f"pubsub://{project}",
        }
        queue = connect_queue(places["queue"])
        make_topics(queue, list_topics(graph), list_subscriptions(graph))
        queue.close()
    for name, place in places.items():
        monkeypatch.setenv(f"SEGUE_{name.upper()}", place)
    if request.param == "embedded":  # files in a folder, and objects in a bucket
        monkeypatch.delenv("SEGUE_CATALOGUE")
    monkeypatch.setenv("SEGUE_ON_DELETION", "remove")
    monkeypatch.delenv("SEGUE_GRAPH", raising=False)
    made = Served(graph, **places)
    yield made
    made.close()


@pytest.fixture
def logged(capsys, monkeypatch):
    """What was logged as JSON to standard output since it was asked last."""
    monkeypatch.setattr(LOGGER, "handlers", [])
    return lambda: [json.loads(line) for line in capsys.readouterr().out.splitlines()]


# --- arrivals and deletions -------------------------------------------------------------------


@pytest.mark.parametrize("mode", [to_binary, to_structured])
def test_an_event_is_recorded_and_told_in_either_mode(served, mode, logged):
    media = served.media(name="ä b's.wav")
    answer = served.send("arrival", build_object_event("finalized", media), mode)
    assert (answer.status_code, answer.text) == (200, "OK")
    record = served.record(media.uri)
    assert (record.version, record.size_bytes, record.content_type) == ("5", 10, "audio/wav")
    assert record.checksum == "crc32c:AAAAAA=="
    envelopes = served.pull(2)
    assert {one.subscription for one in envelopes} == {"a.source", "c.source"}
    [event] = {decode_message(one.data) for one in envelopes}
    assert (event.trigger, event.arrived.at) == ("source", record.arrived_at)
    assert event.media == record.media
    assert event.arrived.revision == served.ledger.read([media.uri])[0].revision
    assert [(x["action"], x["ledger"], x["file"]) for x in logged()] == [
        ("arrived", "new", media.uri)
    ]


def test_a_repeated_event_records_nothing_and_notifies_again(served):
    media = served.media()
    sent = build_object_event("finalized", media)
    served.send("arrival", sent)
    first = served.record(media.uri)
    served.send("arrival", sent)
    assert served.record(media.uri) == first
    assert sorted(m.arrived is None for m in served.notified(4)) == [False, False, True, True]


def test_an_older_generation_after_a_newer_one_changes_nothing(served):
    served.send("arrival", build_object_event("finalized", served.media(6, "x.wav")))
    served.notified(2)
    assert served.send(
        "arrival", build_object_event("finalized", served.media(5, "x.wav"))
    ).status_code
    assert served.record(served.uri("x.wav")).order == 6
    served.notified(0)


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_a_files_history_ends_right_in_any_order_with_repetitions(served, seed):
    """Three versions and the deletions of the first two, each event once or twice."""
    events = [("arrival", "finalized", g) for g in (5, 6, 7)]
    events += [("deletion", "deleted", g) for g in (5, 6)]
    chance = random.Random(seed)
    events += chance.choices(events, k=3)
    chance.shuffle(events)
    for function, change, order in events:
        media = served.media(order, "x.wav")
        assert served.send(function, build_object_event(change, media)).status_code == 200
    record = served.record(served.uri("x.wav"))
    assert (record.order, record.deleted_at) == (7, None)
    notified = []
    while got := served.queue.pull(served.subscriptions, limit=100, wait_s=0.5):
        served.queue.acknowledge(got)
        notified += [(one.subscription, decode_message(one.data).order) for one in got]
    assert {name for name, order in notified if order == 7} == {"a.source", "c.source"}


def test_a_deletion_before_its_arrival_leaves_a_tombstone(served):
    media = served.media()
    served.send("deletion", build_object_event("deleted", media))
    served.send("arrival", build_object_event("finalized", media))
    assert served.record(media.uri).deleted_at is not None
    served.notified(0)


def test_a_deletion_removes_the_artifacts_that_the_file_has(served):
    media = served.media(name="x.wav")
    served.send("arrival", build_object_event("finalized", media))
    fingerprint = served.graph.fingerprints["a"]
    name = build_artifact_name("a", fingerprint, media.name, "5", "json")
    other = build_artifact_name("a", fingerprint, media.name + ".wav", "5", "json")
    for one in (name, other):
        served.artifacts.create(one, b"{}", content_type="application/json", metadata={})
    served.put(media, Entry(job="a", state=State.DONE, order=5, checksums={"json": "sha256:0"}))
    served.send("deletion", build_object_event("deleted", media))
    assert [found.name for found in served.artifacts.list()] == [other]


@pytest.mark.parametrize("served", ["embedded"], indirect=True)
@pytest.mark.parametrize("mode", [to_binary, to_structured])
def test_the_events_of_a_folder_are_hints(served, mode, logged):
    uri = served.music.uri("ä b's.wav")
    events = [
        ("arrival", build_object_event("finalized", MediaFile(uri=uri, version="9", order=9))),
        ("deletion", build_object_event("deleted", MediaFile(uri=uri, version=""))),
    ]
    for is_there in (True, False, True):
        if is_there:
            served.music.create("ä b's.wav", b"sound", content_type="audio/wav", metadata={})
        else:
            served.music.delete("ä b's.wav")
        for name, sent in events:
            assert served.send(name, sent, mode).status_code == 200
        record = served.record(uri)
        assert (record.order, len(record.version)) == (1, 24)
        assert (record.deleted_at is None) is is_there
    expected = ["arrived", "arrived", "deleted", "ignored", "arrived", "arrived"]
    assert [line["action"] for line in logged()] == expected
    served.notified(8)


@pytest.mark.parametrize("name", ["folder/", "notes.txt"])
@pytest.mark.parametrize(
    ("function", "change"), [("arrival", "finalized"), ("deletion", "deleted")]
)
def test_folders_and_foreign_suffixes_are_ignored(served, logged, function, change, name):
    media = served.media(name=name)
    assert served.send(function, build_object_event(change, media)).status_code == 200
    assert [line["action"] for line in logged()] == ["ignored"]
    assert served.record(media.uri) is None
    served.notified(0)


def test_our_own_artifacts_are_ignored(served, logged):
    media = MediaFile(uri=served.artifacts.uri("a/00000000000a/x/5.wav"), version="5", order=5)
    assert served.send("arrival", build_object_event("finalized", media)).status_code == 200
    assert [line["reason"] for line in logged()] == ["written by Segue itself"]
    served.notified(0)


def test_threads_that_take_events_of_one_file_leave_the_newest(served):
    events = [("arrival", "finalized", g) for g in range(1, ROUNDS + 1)]
    events += [("deletion", "deleted", g) for g in range(1, ROUNDS)]
    random.Random(1).shuffle(events)
    for name in ("arrival", "deletion"):
        served.client(name)

    def send(of: tuple[str, str, int]) -> int:
        function, change, order = of
        media = served.media(order, "x.wav")
        headers, body = to_binary(build_object_event(change, media))
        client = served.clients[function].application.test_client()
        return client.post("/", headers=headers, data=body).status_code

    with ThreadPoolExecutor(4) as threads:
        assert set(threads.map(send, events)) == {200}
    record = served.record(served.uri("x.wav"))
    assert (record.order, record.deleted_at) == (ROUNDS, None)


# --- sweep and request ------------------------------------------------------------------------


def test_a_request_is_followed_by_messages_to_the_inbox_of_who_can_begin(served):
    uris = []
    for name in ("p/1.wav", "p/2.wav", "p/3.txt", "q/4.wav"):
        served.music.create(name, b"sound", content_type="audio/wav", metadata={})
        uris.append(served.music.uri(name))
    asked = {"prefix": served.music.uri("p/"), "jobs": ["b"]}
    answer = served.client("request").post("/", json=asked)
    assert answer.status_code == 202
    said = answer.json
    assert (said["targets"], said["files"], said["after"]) == (["b"], 2, None)
    envelopes = served.pull(2)
    assert {one.subscription for one in envelopes} == {"a.inbox"}
    notified = [decode_message(one.data) for one in envelopes]
    assert {(m.uri, m.targets) for m in notified} == {(uri, ("b",)) for uri in uris[:2]}
    wanted = served.record(uris[0]).results[served.graph.fingerprints["b"]]
    assert (wanted.state, wanted.notify) == (State.QUEUED, (NOBODY,))
    assert {m.request for m in notified} == {said["request"]}
    run = json.loads(served.artifacts.read(f"_runs/{said['request']}.json"))
    assert run["selection"]["prefix"] == asked["prefix"]


def test_files_are_asked_for_by_name_and_what_is_not_there_is_told(served):
    served.music.create("x.wav", b"sound", content_type="audio/wav", metadata={})
    there, gone = served.music.uri("x.wav"), served.music.uri("gone.wav")
    answer = served.client("request").post("/", json={"files": [there, gone], "jobs": ["b"]})
    assert answer.json["files"] == 1
    assert answer.json["ignored"] == {gone: "there is no such object"}
    media = served.music.identify("x.wav").to_media_file(there)
    expected = (there, media.version, media.order or 1)
    assert [(m.uri, m.version, m.order) for m in served.notified(1)] == [expected]


def test_a_sweep_asks_for_what_is_wanted(served, logged):
    media = served.media()
    served.send("arrival", build_object_event("finalized", media))
    served.notified(2)
    served.put(media, Entry(job="b", state=State.QUEUED, order=5, notify=(NOBODY,)))
    logged()
    for _ in range(2):  # the second run leaves it alone
        assert served.send("sweep", build_message_event(b'{"limit": 10}')).status_code == 200
    [one] = served.pull(1)
    assert (one.subscription, decode_message(one.data).targets) == ("a.inbox", ("b",))
    assert [(line["action"], line["pending"]) for line in logged()] == [("swept", 1), ("swept", 0)]


# --- what goes wrong --------------------------------------------------------------------------

embedded = pytest.mark.parametrize("served", ["embedded"], indirect=True)


@embedded
def test_a_queue_that_is_away_has_the_event_delivered_again(served, logged, monkeypatch):
    media = served.media()
    sent = build_object_event("finalized", media)
    queue = stack.get_services().queue

    def away(_envelopes):
        raise Unavailable("the queue is away; try again later")

    with monkeypatch.context() as patched:
        patched.setattr(queue, "publish", away)
        answer = served.send("arrival", sent)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "10")
    assert served.record(media.uri) is not None
    served.notified(0)
    assert served.send("arrival", sent).status_code == 200
    served.notified(2)
    assert [line["action"] for line in logged()] == ["unavailable", "arrived"]


@embedded
def test_a_ledger_that_is_away_has_the_event_delivered_again(served, logged, monkeypatch):
    def away(_changes):
        raise Unavailable("the ledger is away; try again later")

    monkeypatch.setattr(stack.get_services().ledger, "change", away)
    for name, sent in (
        ("arrival", build_object_event("finalized", served.media())),
        ("deletion", build_object_event("deleted", served.media())),
    ):
        assert served.send(name, sent).status_code == 503
    served.music.create("x.wav", b"sound", content_type="audio/wav", metadata={})
    answer = served.client("request").post("/", json={"files": [served.music.uri("x.wav")]})
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "10")
    assert "the ledger is away" in answer.json["error"]
    assert [line["action"] for line in logged()] == ["unavailable"] * 3


@embedded
def test_a_wrong_set_up_has_the_event_delivered_again_until_it_is_repaired(
    served, logged, monkeypatch
):
    media = served.media()
    sent = build_object_event("finalized", media)
    with monkeypatch.context() as patched:
        patched.setenv("SEGUE_LEDGER", "postgres://x")
        answer = served.send("arrival", sent)
        assert answer.status_code == 503
        assert "not a ledger that Segue supports" in answer.json["error"]
    assert served.send("arrival", sent).status_code == 200
    assert [(x["action"], x["severity"]) for x in logged()] == [
        ("misconfigured", "ERROR"),
        ("arrived", "INFO"),
    ]


@embedded
@pytest.mark.parametrize("mode", [to_binary, to_structured])
@pytest.mark.parametrize("data", [None, {}, [], "text", {"bucket": "b"}])
def test_a_malformed_event_is_told_and_does_not_come_again(served, logged, mode, data):
    for name, kind in (
        ("arrival", "storage.object.v1.finalized"),
        ("deletion", "storage.object.v1.deleted"),
        ("sweep", "pubsub.topic.v1.messagePublished"),
    ):
        answer = served.send(name, build_event(f"google.cloud.{kind}", data), mode)
        assert answer.status_code == 200
    assert [(x["action"], x["severity"]) for x in logged()] == [("malformed", "ERROR")] * 3


@embedded
@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b"", b"[" * 100_000, b"9" * 5000])
def test_a_body_that_is_no_json_is_told_and_does_not_come_again(served, logged, body):
    stack.get_services()  # which the last two never reach: it is what directs the logs
    headers, _ = to_binary(build_object_event("finalized", served.media()))
    answer = served.client("arrival").post("/", headers=headers, data=body)
    assert answer.status_code == 200
    assert [(x["action"], x["severity"]) for x in logged()] == [("malformed", "ERROR")]


@embedded
def test_what_is_no_cloud_event_at_all_is_refused_to_whoever_sent_it(served):
    answer = served.client("arrival").post("/", json={"bucket": "b", "name": "a.wav"})
    assert answer.status_code == 400
    assert served.client("arrival").get("/").status_code == 405


@embedded
def test_a_request_is_refused_in_words(served, monkeypatch):
    monkeypatch.setenv("SEGUE_CATALOGUE", served.music.location)
    client = served.client("request")
    assert client.get("/").status_code == 405
    assert client.post("/", data=b"{").status_code == 400
    answer = client.post("/", json={"prefix": "gs://elsewhere/"})
    assert "not below the catalogue" in answer.json["error"]
    assert client.post("/", data=b" " * (5 << 20)).status_code == 413
    assert os.environ["FUNCTION_TARGET"] == "request"
