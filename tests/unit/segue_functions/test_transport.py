"""What reaches a function, and how the rest is answered."""

from __future__ import annotations

import json
from io import BytesIO

import flask
import pytest
from werkzeug.datastructures import Headers
from werkzeug.test import EnvironBuilder, run_wsgi_app

from segue.model.media_file import MediaFile
from segue_functions.events import FINALIZED, MalformedEvent, parse_media
from segue_functions.transport import MAX_ATTRIBUTE, BodyReader, parse_event, respond_to_event
from segue_support.cloud_events import build_object_event, to_binary, to_structured

MEDIA = MediaFile(uri="gs://acme-audio/ä.wav", version="5", order=5, size_bytes=1)
EVENT = build_object_event("finalized", MEDIA)
STRUCTURED = {"content-type": "application/cloudevents+json"}


# --- bodies -----------------------------------------------------------------------------------


def echo(environ, start):
    start("200 OK", [])
    return [environ["wsgi.input"].read()]


def send(stream, length: int | None = None, max_bytes: int = 100) -> tuple[int, bytes]:
    """Send a body in chunks, unless its length is given."""
    environ = {**EnvironBuilder(method="POST").get_environ(), "wsgi.input": stream}
    environ |= {"wsgi.input_terminated": True} if length is None else {}
    environ["CONTENT_LENGTH"] = "" if length is None else str(length)
    parts, status, _ = run_wsgi_app(BodyReader(echo, max_bytes), environ)
    return int(status.split()[0]), b"".join(parts)


class Broken(BytesIO):
    """A body with a chunk that is none."""

    def read(self, _size=-1):
        raise ValueError("no chunk")

    readinto = read


@pytest.mark.parametrize("length", [9, None])
def test_an_app_gets_the_whole_body(length):
    assert send(BytesIO(b"some text"), length) == (200, b"some text")


@pytest.mark.parametrize(
    ("stream", "length", "status", "reason"),
    [
        (BytesIO(b"x" * 101), 101, 413, "more than 100 bytes"),
        (BytesIO(b"x" * 101), None, 413, "more than 100 bytes"),
        (BytesIO(b"{}"), 10, 400, "cannot be read"),
        (Broken(b"{}"), 2, 400, "cannot be read"),
        (Broken(b"{}"), None, 400, "cannot be read"),
    ],
    ids=["large", "large, in chunks", "short", "broken", "broken, in chunks"],
)
def test_a_body_that_is_too_large_or_breaks_off_never_reaches_the_app(
    logged, stream, length, status, reason
):
    answered, body = send(stream, length)
    assert answered == status
    assert reason in json.loads(body)["error"]
    assert [line["action"] for line in logged] == ["malformed"]


# --- events -----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [to_binary, to_structured])
def test_an_event_is_read_in_either_mode(mode):
    headers, body = mode(EVENT)
    event = parse_event(Headers(headers), body)
    assert (event["id"], event["type"]) == (EVENT["id"], FINALIZED)
    assert parse_media(event, FINALIZED).uri == MEDIA.uri


def structured(**attributes: object) -> bytes:
    return json.dumps({**EVENT.get_attributes(), "data": EVENT.data, **attributes}).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"a": "\xff"}',
        b"[" * 100_000,
        b'{"id": ' * 980 + b"1" + b"}" * 980,
        b"1" * 10_000,
        b'"x"',
        b'\xff\xfe{\0"\0a',
        b'{"specversion": []}',
        b'{"specversion": "1.0"}',
        structured(specversion="9"),
        structured(id="\ud800"),
        structured(id=""),
        structured(id=["x"]),
        structured(id={"x": "y"}),
        structured(id="x" * (MAX_ATTRIBUTE + 1)),
        structured(type=None),
        structured(source=5),
    ],
    ids=lambda body: body[:16].decode("latin-1"),
)
def test_what_is_no_cloud_event_is_malformed(body):
    with pytest.raises(MalformedEvent, match="check the sender"):
        parse_event(Headers(STRUCTURED), body)


@pytest.mark.parametrize("name", ["ce-id", "ce-source", "ce-type", "ce-specversion"])
def test_an_event_in_binary_mode_needs_its_headers(name):
    headers, body = to_binary(EVENT)
    del headers[name]
    with pytest.raises(MalformedEvent):
        parse_event(Headers(headers), body)


@pytest.mark.parametrize("body", [b"\xff", b"[" * 100_000, b"1" * 10_000, b"", b"null"])
def test_the_data_of_an_event_is_for_its_function_to_judge(body):
    event = parse_event(Headers(to_binary(EVENT)[0]), body)
    with pytest.raises(MalformedEvent):
        parse_media(event, FINALIZED)


def test_whoever_sends_no_event_is_told(logged):
    call = flask.Request(EnvironBuilder(method="POST", json={"a": 1}).get_environ())
    handled: list[object] = []
    body, status, _headers = respond_to_event(call, handled.append)
    assert (status, handled) == (400, [])
    assert "not a CloudEvent" in json.loads(body)["error"]
    assert [line["action"] for line in logged] == ["malformed"]


def test_only_post_carries_an_event(logged):
    call = flask.Request(EnvironBuilder(method="PUT", data=b"").get_environ())
    _, status, headers = respond_to_event(call, print)
    assert (status, headers["Allow"]) == (405, "POST")
