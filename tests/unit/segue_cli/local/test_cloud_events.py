"""Events, read by the functions' own parser, and posted to a real server."""

from __future__ import annotations

import threading
from collections import deque
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from cloudevents.http import from_http

from segue.errors import Unavailable
from segue.model.media_file import MediaFile
from segue_cli.local.cloud_events import (
    EventPoster,
    Refused,
    build_deleted_event,
    build_finalized_event,
    build_published_event,
)
from segue_functions.events import DELETED, FINALIZED, parse_media, parse_sweep_order

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SONGS = (
    MediaFile(uri="file:///music/song.wav", generation=1, size_bytes=5, content_type="audio/wav"),
    MediaFile(uri='file:///mu sic/東京/雨 100% "live".flac', generation=2**62, size_bytes=0),
    MediaFile(uri="file:///music/new\nline\x1b.wav", generation=7),
    MediaFile(uri="gs://acme/masters/song.wav", generation=9, size_bytes=1),
)


@pytest.mark.parametrize("media", SONGS, ids=lambda m: m.uri)
def test_the_functions_parse_the_events(media):
    for make, kind in ((build_finalized_event, FINALIZED), (build_deleted_event, DELETED)):
        event = make(media, now=NOW)
        received = from_http(event.build_headers(), event.encode_body())
        assert parse_media(received, kind) == media
        assert received["type"] == kind


@pytest.mark.parametrize("media", SONGS, ids=lambda m: m.uri)
def test_no_name_of_a_file_breaks_a_header(media):
    for value in build_finalized_event(media, now=NOW).build_headers().values():
        assert value.isascii()
        assert value.isprintable()


def test_a_sweep_event_has_default_options():
    event = build_published_event(project="local", topic="segue-sweep", now=NOW)
    assert parse_sweep_order(from_http(event.build_headers(), event.encode_body())).limit > 0


class Server:
    """A server that sends the given answers, then 204, and records what it gets."""

    def __init__(self):
        self.answers: deque[int] = deque()
        self.got: list[tuple[str, str]] = []
        self.connections = 0
        self.closes = False
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                super().setup()
                owner.connections += 1

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                owner.got.append((self.path, from_http(dict(self.headers), body)["id"]))
                self.send_response(owner.answers.popleft() if owner.answers else 204)
                self.send_header("content-length", "0")
                self.end_headers()
                if owner.closes:
                    self.close_connection = True

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self._server.server_port

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def server():
    made = Server()
    yield made
    made.close()


@pytest.fixture
def poster(server):
    made = EventPoster(server.address)
    yield made
    made.close()


def test_events_go_over_one_connection(server, poster):
    for _ in range(3):
        poster.post("/arrival", build_finalized_event(SONGS[0], now=NOW))
    assert [path for path, _ in server.got] == ["/arrival"] * 3
    assert server.connections == 1


def test_a_connection_that_the_server_has_closed_is_opened_again(server, poster):
    server.closes = True  # without having said so
    for _ in range(3):
        poster.post("/arrival", build_finalized_event(SONGS[0], now=NOW))
    assert len(server.got) == 3


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_failing_server_is_unavailable(server, poster, status):
    server.answers.append(status)
    with pytest.raises(Unavailable, match=str(status)):
        poster.post("/arrival", build_finalized_event(SONGS[0], now=NOW))


def test_an_event_that_the_function_refuses_is_refused(server, poster):
    server.answers.append(400)
    with pytest.raises(Refused, match="400"):
        poster.post("/arrival", build_finalized_event(SONGS[0], now=NOW))


def test_a_server_that_is_away_is_unavailable(server):
    address = server.address()
    server.close()
    poster = EventPoster(lambda: address)
    with pytest.raises(Unavailable, match="does not answer"):
        poster.post("/arrival", build_finalized_event(SONGS[0], now=NOW))
