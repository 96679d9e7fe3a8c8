"""Secrets are read from the environment, and from a server that answers as Secret Manager does."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import google_crc32c
import pytest

from segue.adapters import secret_store
from segue.backoff import Backoff
from segue.errors import ConfigurationError, Unavailable

NAME = "projects/acme/secrets/speech-key/versions/latest"
PLACE = "jobs.words.secrets.api_key"


def build_answer(data: bytes, checksum: int | None = None) -> bytes:
    """Return the body of ``projects.secrets.versions.access``, as the service writes it."""
    crc32c = google_crc32c.value(data) if checksum is None else checksum
    payload = {"data": base64.b64encode(data).decode(), "dataCrc32c": str(crc32c)}
    return json.dumps({"name": NAME.replace("latest", "7"), "payload": payload}).encode()


def build_error(code: int, status: str) -> bytes:
    message = f"Permission denied for resource {NAME} (or it may not exist)."
    return json.dumps({"error": {"code": code, "message": message, "status": status}}).encode()


class Server:
    """Answers requests in turn, and repeats its last answer."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, bytes]] = []
        self.requests: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.requests.append(self.path)
                code, body = server.answers[0]
                if len(server.answers) > 1:
                    del server.answers[0]
                self.send_response(code)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_args: object) -> None:
                """Log nothing."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    found = Server()
    thread = threading.Thread(target=found.http.serve_forever)
    thread.start()
    monkeypatch.setenv(secret_store.OVERRIDE, f"http://127.0.0.1:{found.http.server_port}/")
    monkeypatch.setattr(secret_store, "BACKOFF", Backoff(0.01, 0.01))
    monkeypatch.setattr(secret_store, "_values", {})
    yield found
    found.http.shutdown()
    found.http.server_close()
    thread.join()


def test_a_secret_is_asked_for_once_per_process(server):
    server.answers = [(200, build_answer("hunter2/ü\n".encode()))]
    assert [secret_store.read_secret(NAME, PLACE) for _ in range(3)] == ["hunter2/ü\n"] * 3
    assert server.requests == [f"/v1/{NAME}:access"]


def test_it_is_asked_for_again_if_the_server_is_not_available(server):
    server.answers = [(503, b""), (429, b""), (200, build_answer(b"hunter2"))]
    assert secret_store.read_secret(NAME, PLACE) == "hunter2"
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("code", "status", "remedy"),
    [
        (403, "PERMISSION_DENIED", "grant roles/secretmanager.secretAccessor on the secret to the"),
        (404, "NOT_FOUND", "there is no such secret or version; create it, or correct the ref"),
        (400, "FAILED_PRECONDITION", "correct the reference"),
    ],
)
def test_a_secret_that_cannot_be_had_is_an_error_that_does_not_name_it(
    server, code, status, remedy
):
    server.answers = [(code, build_error(code, status))]
    with pytest.raises(ConfigurationError) as raised:
        secret_store.read_secret(NAME, PLACE)
    assert str(raised.value).startswith(f"{PLACE}: Secret Manager answers with {code}; {remedy}")
    assert "speech-key" not in str(raised.value)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (build_answer(b"\xff\xfe key"), ConfigurationError),
        (b"{}", ConfigurationError),
        (b"<html>", ConfigurationError),
        (build_answer(b"hunter2", checksum=1), Unavailable),
    ],
)
def test_an_answer_without_a_text_is_refused(server, body, error):
    server.answers = [(200, body)]
    with pytest.raises(error, match=PLACE) as raised:
        secret_store.read_secret(NAME, PLACE)
    assert raised.value.__cause__ is None


@pytest.mark.parametrize("code", [500, 503])
def test_a_server_that_does_not_recover_may_be_available_later(server, code):
    server.answers = [(code, b"")]
    with pytest.raises(Unavailable, match=f"answers with {code}"):
        secret_store.read_secret(NAME, PLACE)
    assert len(server.requests) == secret_store.ATTEMPTS


def test_nobody_at_that_address_is_told_without_it(server, monkeypatch):
    monkeypatch.setenv(secret_store.OVERRIDE, "http://127.0.0.1:1")
    with pytest.raises(Unavailable, match="cannot be reached") as raised:
        secret_store.read_secret(NAME, PLACE)
    assert "speech-key" not in str(raised.value)
    assert raised.value.__suppress_context__


@pytest.mark.parametrize("address", ["http://secrets.example", "secrets.example", "ftp://x"])
def test_credentials_are_sent_to_no_address_without_encryption(monkeypatch, address):
    monkeypatch.setenv(secret_store.OVERRIDE, address)
    with pytest.raises(ConfigurationError, match="credentials go only to https://"):
        secret_store.read_secret(NAME, PLACE)


def test_a_variable_is_read_from_the_environment(monkeypatch):
    monkeypatch.setenv("SPEECH_KEY", "hunter2")
    assert secret_store.read_secret("env:SPEECH_KEY", PLACE) == "hunter2"
    for empty in ("", None):
        monkeypatch.delenv("SPEECH_KEY") if empty is None else monkeypatch.setenv("SPEECH_KEY", "")
        with pytest.raises(ConfigurationError) as raised:
            secret_store.read_secret("env:SPEECH_KEY", PLACE)
        assert str(raised.value) == f"{PLACE}: the environment variable is not set; set it"


def test_a_variable_that_is_no_text_is_refused_and_not_shown(monkeypatch):
    monkeypatch.setenv("SPEECH_KEY", "hunter2\udcff")
    with pytest.raises(ConfigurationError) as raised:
        secret_store.read_secret("env:SPEECH_KEY", PLACE)
    assert str(raised.value).startswith(f"{PLACE}: the environment variable is no UTF-8 text; ")
    assert "hunter2" not in str(raised.value)
