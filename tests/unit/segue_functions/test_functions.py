"""Each function with a stack in memory: what it does, what it logs, and what it raises."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import flask
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.test import EnvironBuilder

from segue.errors import ConfigurationError, Contended, DiskFull, Unavailable
from segue.model.media_file import MediaFile
from segue.model.run import load_run
from segue_functions import stack
from segue_functions.arrival import handle_arrival
from segue_functions.deletion import handle_deletion
from segue_functions.request import request
from segue_functions.sweep import handle_sweep
from segue_support.cloud_events import (
    build_event,
    build_message_event,
    build_notification_event,
    build_object_event,
)
from segue_support.paths import ROOT

URI = "gs://music/a.wav"


def version(order: int = 5) -> MediaFile:
    return MediaFile(uri=URI, version=str(order), order=order, size_bytes=10)


def away(*_arguments, **_options):
    raise Unavailable("the queue is away; try again later")


# --- arrival ----------------------------------------------------------------------------------


def test_an_arrival_is_recorded_and_told_and_logged_in_one_line(memory, logged):
    media = version()
    sent = build_object_event("finalized", media)
    handle_arrival(sent)
    assert memory.ledger.records[media.uri].order == 5
    assert [m.trigger for m in memory.messages] == ["source"]
    assert logged == [
        {
            "severity": "INFO",
            "action": "arrived",
            "ledger": "new",
            "event": sent["id"],
            "file": media.uri,
            "version": "5",
        }
    ]


def test_a_notification_of_a_bucket_of_another_project_is_recorded_like_an_event(memory):
    media = version()
    handle_arrival(build_notification_event("OBJECT_FINALIZE", media))
    assert memory.ledger.records[media.uri].version == media.version
    assert [m.trigger for m in memory.messages] == ["source"]
    handle_deletion(build_notification_event("OBJECT_DELETE", media))
    assert memory.ledger.records[media.uri].deleted_at is not None


def test_what_the_ledger_said_is_logged(memory, logged):
    for order in (5, 5, 7, 6):
        handle_arrival(build_object_event("finalized", version(order=order)))
    assert [(line["action"], line["ledger"]) for line in logged] == [
        ("arrived", "new"),
        ("arrived", "duplicate"),
        ("arrived", "newer"),
        ("ignored", "stale"),
    ]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a/", "a folder"),
        ("a.txt", "a name that matches no include pattern of the graph"),
        ("../artifacts/a/0/a.wav/5.wav", "a path with empty, '.' or '..' parts, or a NUL"),
    ],
)
@pytest.mark.parametrize(
    ("function", "change"), [(handle_arrival, "finalized"), (handle_deletion, "deleted")]
)
def test_what_is_no_media_is_ignored_with_the_reason(
    memory, logged, function, change, name, reason
):
    media = MediaFile(uri=memory.music.uri(name), version="")
    function(build_object_event(change, media))
    assert [(line["action"], line["reason"]) for line in logged] == [("ignored", reason)]
    assert memory.ledger.records == {}
    assert memory.messages == []


@pytest.mark.parametrize(
    ("function", "change"), [(handle_arrival, "finalized"), (handle_deletion, "deleted")]
)
def test_what_segue_wrote_is_ignored(memory, logged, function, change):
    media = MediaFile(uri=memory.artifacts.uri("a/0/a.wav/5.wav"), version="5", order=5)
    function(build_object_event(change, media))
    assert [line["reason"] for line in logged] == ["written by Segue itself"]
    assert memory.ledger.records == {}


def test_a_queue_that_was_away_after_the_record_was_written_is_repaired_by_redelivery(
    memory, logged, monkeypatch
):
    sent = build_object_event("finalized", version())
    with monkeypatch.context() as patched:
        patched.setattr(memory.queue, "publish", away)
        with pytest.raises(Unavailable):
            handle_arrival(sent)
    assert memory.messages == []
    handle_arrival(sent)
    assert [m.trigger for m in memory.messages] == ["source"]
    assert [(line["action"], line["severity"]) for line in logged] == [
        ("unavailable", "WARNING"),
        ("arrived", "INFO"),
    ]
    assert logged[0]["file"] == logged[1]["file"]
    assert logged[0]["event"] == sent["id"]


def test_one_file_in_many_threads_is_recorded_once_and_told_each_time(memory, logged):
    sent = [build_object_event("finalized", version(order=n)) for n in range(1, 9)] * 2
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(handle_arrival, sent))
    record = memory.ledger.records[URI]
    assert (record.order, record.deleted_at) == (8, None)
    assert sum(m.order == 8 for m in memory.messages) == 2
    assert sum(line.get("ledger") == "new" for line in logged) == 1


# --- deletion ---------------------------------------------------------------------------------


def test_a_deletion_leaves_a_tombstone_and_is_logged(memory, logged):
    media = version()
    handle_arrival(build_object_event("finalized", media))
    handle_deletion(build_object_event("deleted", media))
    assert memory.ledger.records[media.uri].deleted_at is not None
    assert (logged[-1]["action"], logged[-1]["removed"]) == ("deleted", 0)


def test_in_a_bucket_with_versions_archiving_is_deleting(memory):
    media = version()
    handle_deletion(build_object_event("archived", media))
    assert memory.ledger.records[media.uri].deleted_at is not None


@pytest.mark.parametrize("deleted_first", [True, False])
def test_an_overwritten_object_is_there_whichever_event_comes_first(memory, logged, deleted_first):
    """Cloud Storage sends the deletion of the old version, too."""
    old, new = version(order=5), version(order=6)
    handle_arrival(build_object_event("finalized", old))
    calls = [
        (handle_deletion, build_object_event("deleted", old)),
        (handle_arrival, build_object_event("finalized", new)),
    ]
    for function, sent in calls if deleted_first else reversed(calls):
        function(sent)
    record = memory.ledger.records[new.uri]
    assert (record.order, record.deleted_at) == (6, None)
    assert memory.messages[-1].order == 6


def test_a_deletion_that_comes_before_its_arrival_wins(memory, logged):
    media = version()
    handle_deletion(build_object_event("deleted", media))
    handle_arrival(build_object_event("finalized", media))
    handle_deletion(build_object_event("deleted", media))
    assert memory.ledger.records[media.uri].deleted_at is not None
    assert memory.messages == []
    assert [line["action"] for line in logged] == ["deleted", "ignored", "ignored"]


# --- sweep ------------------------------------------------------------------------------------


def test_a_sweep_logs_what_it_did(memory, logged):
    handle_sweep(build_message_event(b'{"limit": 7}'))
    assert logged[0] | {"event": None} == {
        "severity": "INFO",
        "action": "swept",
        "files": 0,
        "pending": 0,
        "expired": 0,
        "limited": False,
        "limit": 7,
        "event": None,
    }


# --- what is malformed, and what is wrong -----------------------------------------------------

ORDERED = {
    handle_arrival: "google.cloud.storage.object.v1.finalized",
    handle_deletion: "google.cloud.storage.object.v1.deleted",
    handle_sweep: "google.cloud.pubsub.topic.v1.messagePublished",
}
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=10,
)
shaped = st.fixed_dictionaries(
    {},
    optional={
        "bucket": json_values,
        "name": json_values | st.just("home/a.wav"),
        "generation": json_values | st.just("5"),
        "size": json_values,
        "message": json_values | st.fixed_dictionaries({}, optional={"data": json_values}),
    },
)


@pytest.mark.parametrize("function", ORDERED, ids=lambda f: f.__name__)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=json_values | shaped)
def test_no_data_makes_a_function_raise(memory, logged, function, data):
    logged.clear()
    function(build_event(ORDERED[function], data))
    assert len(logged) == 1
    assert logged[0]["action"] in {"malformed", "ignored", "swept"}
    assert (logged[0]["severity"] == "ERROR") == (logged[0]["action"] == "malformed")


@pytest.mark.parametrize("function", ORDERED, ids=lambda f: f.__name__)
def test_an_event_of_another_type_is_malformed(memory, logged, function):
    function(build_event("google.cloud.storage.object.v1.metadataUpdated", {}))
    assert [line["action"] for line in logged] == ["malformed"]
    assert "correct the trigger" in logged[0]["reason"]


@pytest.mark.parametrize("error", [Unavailable("away"), Contended("busy"), DiskFull("full")])
@pytest.mark.parametrize("function", ORDERED, ids=lambda f: f.__name__)
def test_a_transient_error_is_raised_so_that_the_event_comes_again(
    memory, logged, monkeypatch, function, error
):
    def failing(*_arguments, **_options):
        raise error

    monkeypatch.setattr(memory.ledger, "change", failing)
    monkeypatch.setattr(memory.ledger, "find", failing)
    sent = (
        build_message_event()
        if function is handle_sweep
        else build_object_event("finalized", version())
    )
    if function is handle_deletion:
        sent = build_object_event("deleted", version())
    with pytest.raises(type(error)):
        function(sent)
    assert [(line["action"], line["kind"]) for line in logged] == [("unavailable", error.kind)]


@pytest.mark.parametrize("function", ORDERED, ids=lambda f: f.__name__)
def test_a_wrong_set_up_is_raised_and_told(logged, monkeypatch, function):
    def wrong(_settings):
        raise ConfigurationError("the graph cannot be read; name one")

    monkeypatch.setattr(stack, "build_services", wrong)
    with pytest.raises(ConfigurationError):
        function(build_message_event())
    assert [(line["action"], line["severity"]) for line in logged] == [("misconfigured", "ERROR")]


def test_an_error_that_nobody_expects_is_not_swallowed(memory, monkeypatch):
    def broken(*_arguments):
        raise ZeroDivisionError

    monkeypatch.setattr(memory.ledger, "change", broken)
    with pytest.raises(ZeroDivisionError):
        handle_arrival(build_object_event("finalized", version()))


# --- request ----------------------------------------------------------------------------------


def call(method: str = "POST", body: bytes = b"", **headers: str) -> flask.Request:
    return flask.Request(EnvironBuilder(method=method, data=body, headers=headers).get_environ())


def answered(response) -> tuple[int, dict, dict]:
    body, status, headers = response
    assert headers["Content-Type"] == "application/json"
    return status, json.loads(body), headers


def body_of(memory, name: str = "a.wav", **more: object) -> bytes:
    memory.music.create(name, b"sound", content_type="audio/wav", metadata={}, replace=True)
    return json.dumps({"files": [memory.music.uri(name)], **more}).encode()


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "x/y", ""])
def test_a_request_is_accepted_and_answers_an_id(memory, logged, content_type):
    sent = call(body=body_of(memory, jobs=["b"]), **{"Content-Type": content_type})
    status, said, _ = answered(request(sent))
    assert (status, said["files"], said["targets"], said["ignored"]) == (202, 1, ["b"], {})
    assert [(m.targets, m.request) for m in memory.messages] == [(("b",), said["request"])]
    assert logged[0]["action"] == "requested"
    assert logged[0]["request"] == said["request"]


def test_the_record_of_a_request_names_its_caller(memory, monkeypatch):
    monkeypatch.setenv("K_SERVICE", "segue-request")
    claims = base64.urlsafe_b64encode(b'{"email": "ann@example.com"}').decode()
    token = f"Bearer e30.{claims}.SIGNATURE_REMOVED"
    sent = call(body=body_of(memory, jobs=["b"]), Authorization=token)
    _, said, _ = answered(request(sent))
    assert load_run(memory.artifacts, said["request"]).who == "ann@example.com"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"])
def test_only_post_is_taken(memory, method):
    status, said, headers = answered(request(call(method)))
    assert (status, headers["Allow"]) == (405, "POST")
    assert "POST a request" in said["error"]


@pytest.mark.parametrize(
    ("body", "remedy"),
    [
        (b"", "write JSON such as"),
        (b"{", "write JSON such as"),
        (b'{"file": "gs://b/a.wav"}', "write JSON such as"),
        (b"{}", "name either files or a prefix"),
        (b'{"prefix": "gs://b/", "jobs": ["x"]}', "name some of a, b"),
        (b'{"prefix": "music/"}', "write gs://bucket/name"),
    ],
)
def test_a_bad_request_says_what_to_write(memory, logged, body, remedy):
    status, said, _ = answered(request(call(body=body)))
    assert status == 400
    assert remedy in said["error"]
    assert [line["action"] for line in logged] == ["malformed"]
    assert memory.messages == []


def test_a_request_while_a_server_is_away_is_raised_and_told(memory, logged, monkeypatch):
    monkeypatch.setattr(memory.queue, "publish", away)
    with pytest.raises(Unavailable):
        request(call(body=body_of(memory)))
    assert [line["action"] for line in logged] == ["unavailable"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=200) | json_values.map(lambda v: repr(v).encode()))
def test_no_body_makes_the_request_function_raise(memory, body):
    status, said, _ = answered(request(call(body=body)))
    assert status == 400
    assert said["error"]


# --- light ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["arrival", "deletion", "sweep", "request", "server"])
def test_a_function_imports_nothing_heavy_and_no_client(name):
    heavy = "apache_beam numpy librosa soundfile scipy google.cloud.firestore_v1 grpc sqlite3 "
    heavy += (
        "google.cloud.storage google.pubsub_v1 google.auth requests segue_pipelines segue.worker"
    )
    code = f"import sys, segue_functions.{name} as _\n"
    code += f"print([m for m in {heavy.split()} if m in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
