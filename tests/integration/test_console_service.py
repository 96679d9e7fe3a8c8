"""The console's program of Cloud Run, as a process: whom it lets in, and how it ends.

Its ledger is a file here; on a ledger in Firestore, ``test_console_cloud`` looks at its pages.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
import requests

from segue.adapters.connect import connect_store
from segue.testing.sound import tone, write
from segue_support.identity_proxy import AUDIENCE, HEADER, IdentityProxy, serve_https
from segue_support.processes import Process, list_descendants
from segue_support.results import ResultWriter

PATIENCE_S = 60.0
HOST, KEYS = "www.gstatic.com", "/iap/verify/public_key"


class Service:
    """A running service, and who signs what the proxy lets through."""

    def __init__(self, process: Process, port: int, proxy: IdentityProxy) -> None:
        self.process, self.proxy = process, proxy
        self.url = f"http://127.0.0.1:{port}"

    def get(self, path: str, token: str | None = None, **options) -> requests.Response:
        headers = {HEADER: self.proxy.sign() if token is None else token}
        return requests.get(f"{self.url}{path}", headers=headers, timeout=PATIENCE_S, **options)

    def post(self, path: str, **fields: str) -> requests.Response:
        headers = {HEADER: self.proxy.sign(), "Origin": self.url}
        return requests.post(f"{self.url}{path}", data=fields, headers=headers, timeout=PATIENCE_S)


@pytest.fixture
def writer(tmp_path) -> ResultWriter:
    (tmp_path / "music").mkdir()
    found = ResultWriter(tmp_path)
    write(tone(440.0, 0.5), str(tmp_path / "music" / "a.wav"))
    with closing(connect_store(str(tmp_path / "music"))) as store:
        version = store.identify("a.wav").to_media_file("").version
    found.write("a.wav", version, beats={"tempo_bpm": 120.0})
    return found


@pytest.fixture
def keys(tmp_path) -> Iterator[tuple[IdentityProxy, dict[str, str]]]:
    """Who signs, and the environment in which a process finds the keys."""
    proxy = IdentityProxy()
    pages = {KEYS: json.dumps({proxy.name: proxy.public}).encode()}
    with serve_https(HOST, pages, tmp_path) as environ:
        yield proxy, environ


def find_free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start(writer: ResultWriter, **environ: str) -> Process:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SEGUE_")}
    settings = {
        "SEGUE_GRAPH": str(writer.folder / "jobs.yaml"),
        "SEGUE_LEDGER": writer.url,
        "XDG_CACHE_HOME": str(writer.folder / "caches"),
    }
    return Process(
        [sys.executable, "-m", "segue_console.cloud"],
        cwd=str(writer.folder),
        environ={**clean, **settings, **environ},
    )


@contextmanager
def run(writer: ResultWriter, keys: tuple[IdentityProxy, dict[str, str]]) -> Iterator[Service]:
    """Start a service, and wait until its port is open, as Cloud Run does."""
    proxy, environ = keys
    port = find_free_port()
    with start(writer, PORT=str(port), SEGUE_CONSOLE_AUDIENCE=AUDIENCE, **environ) as process:
        until_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert process.is_running, process.text
                assert time.monotonic() < until_s
                time.sleep(0.05)
        yield Service(process, port, proxy)


@pytest.fixture
def service(writer, keys) -> Iterator[Service]:
    with run(writer, keys) as found:
        yield found


def test_whom_the_proxy_let_in_reads_and_nobody_else(service):
    shown = service.get("/default/")
    assert shown.status_code == 200
    assert "read-only" in shown.text
    assert re.search(r"<strong data-files>[1…]</strong>", shown.text)
    assert service.get("/default/files").text.count("a.wav") > 0
    proxy = service.proxy
    refused = [
        "",
        "a.b.c",
        proxy.sign(aud="/projects/1/locations/europe-west1/services/other"),
        proxy.sign(exp=int(time.time()) - 600),
        proxy.sign(iss="https://accounts.google.com"),
        proxy.sign(email=""),
        IdentityProxy().sign(),
        IdentityProxy("k2").sign(),
    ]
    assert [service.get("/default/", token).status_code for token in refused] == [403] * 8
    unsigned = requests.get(f"{service.url}/default/", timeout=PATIENCE_S)
    assert unsigned.status_code == 403
    assert "Identity-Aware Proxy" in unsigned.text
    for path in ("/", "/_static/page.js", "/default/live", "/default/media?uri=x"):
        assert requests.get(f"{service.url}{path}", timeout=PATIENCE_S).status_code == 403


def test_it_reads_and_never_writes(service, writer):
    before = {path: path.read_bytes() for path in writer.folder.rglob("*") if path.is_file()}
    uri = writer.uri("a.wav")
    for path in ("", "files", "runs", "failures", "plan", "jobs/beats", "jobs/beats/sample"):
        assert service.get(f"/default/{path}").status_code == 200
    assert service.get("/default/file", params={"uri": uri}).status_code == 200
    part = service.get("/default/media", params={"uri": uri})
    assert part.content == (writer.folder / "music" / "a.wav").read_bytes()
    for path in ("request", "failures/retry", "failures/dead-letters", "runs/x/cancel"):
        refused = service.post(f"/default/{path}", uri=uri, job="plain", confirm="1")
        assert refused.status_code == 405
    after = {path: path.read_bytes() for path in before if path.exists()}
    changed = {path for path in before if after.get(path) != before[path]}
    assert {path.name for path in changed} <= {"ledger.db-shm", "ledger.db-wal"}
    (found,) = writer.ledger.read([uri])
    assert list(found.record.results) == [writer.graph.fingerprints["beats"]]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_all_that_it_has_started(service, writer, number):
    """A page is open, whose counts are streamed, and a waveform was computed."""
    stream = service.get("/default/live", stream=True)
    lines = stream.iter_lines()
    assert next(lines).startswith(b"retry")
    waveform = ("/default/file/waveform", {"uri": writer.uri("a.wav")})
    until_s = time.monotonic() + PATIENCE_S
    while service.get(waveform[0], params=waveform[1]).status_code == 202:
        assert time.monotonic() < until_s
        time.sleep(0.1)
    started = list_descendants(service.process.pid)
    assert started, "a worker"
    os.kill(service.process.pid, number)
    assert list(lines)[-1:] in ([], [b""]), "the stream ends, and is not cut"
    assert service.process.wait() == 0
    assert [p for p in started if os.path.exists(f"/proc/{p}")] == []
    assert service.process.text == []
    assert [line["action"] for line in service.process.lines] == ["started", "stopped"]


def test_without_an_audience_it_does_not_start(writer):
    with start(writer, PORT=str(find_free_port())) as process:
        assert process.wait() != 0
        assert any("SEGUE_CONSOLE_AUDIENCE is not set" in line for line in process.text)


def test_a_port_that_is_taken_ends_it(writer):
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", 0))
        listener.listen()
        port = str(listener.getsockname()[1])
        with start(writer, PORT=port, SEGUE_CONSOLE_AUDIENCE=AUDIENCE) as process:
            assert process.wait() != 0
            assert any(port in line for line in (*process.text, *map(str, process.lines)))
