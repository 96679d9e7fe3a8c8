"""The functions in one server, as a process: it starts, serves, keeps connections, and ends."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shlex
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from segue.adapters.connect import connect_ledger, connect_queue
from segue.model.media_file import MediaFile
from segue_support.cloud_events import build_object_event, to_binary
from segue_support.paths import ROOT

GRAPH = """
jobs:
  a: {run: "m:f", needs: {media: source}, writes: application/json}
"""
WAIT_S = 60.0


SEGUE = os.path.join(os.path.dirname(sys.executable), "segue")
MODULE = (sys.executable, "-m", "segue_functions.server")


class Server:
    """A server in a process, and what it said."""

    def __init__(self, folder: Path, *arguments: str, command: Sequence[str] = MODULE) -> None:
        environ = {k: v for k, v in os.environ.items() if not k.startswith("SEGUE_")}
        self.process = subprocess.Popen(
            [*command, *arguments],
            cwd=folder,
            env={**environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.token_file = folder

    def header(self) -> dict[str, str]:
        """The header with the token, if this server asks for one."""
        if not self.token_file.exists():
            return {}
        return dict([self.token_file.read_text().strip().split(": ")])

    def line(self) -> dict:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def stop(self, number: signal.Signals) -> tuple[int, str, str]:
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=WAIT_S)
        return self.process.returncode, out, err


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "jobs.yaml").write_text(GRAPH)
    return tmp_path


@contextlib.contextmanager
def started(
    folder: Path, *arguments: str, command: Sequence[str] = MODULE
) -> Iterator[tuple[Server, http.client.HTTPConnection]]:
    server = Server(folder, *arguments, command=command)
    connection = None
    try:
        said = server.line()
        assert said["action"] == "started", said
        connection = http.client.HTTPConnection(said["host"], said["port"], timeout=WAIT_S)
        server.token_file = folder / ".segue" / f"serve-{said['port']}.header"
        yield server, connection
    finally:
        if connection is not None:
            connection.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.process.pid, signal.SIGKILL)
        server.process.communicate()


def get(connection: http.client.HTTPConnection, method: str, path: str, body=None, headers=()):
    connection.request(method, path, body, dict(headers))
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def post(
    connection: http.client.HTTPConnection,
    name: str,
    media: MediaFile,
    change="finalized",
    **headers,
):
    given, body = to_binary(build_object_event(change, media))
    return get(connection, "POST", f"/{name}", body, {**given, **headers})


@pytest.mark.parametrize(
    ("command", "number"),
    [(MODULE, signal.SIGTERM), ((SEGUE, "serve", "--json"), signal.SIGINT)],
    ids=["module", "command"],
)
def test_it_tells_its_port_serves_all_functions_and_ends_when_told(folder, command, number):
    media = MediaFile(uri="gs://music/a.wav", version="5", order=5)
    with started(folder, "--port", "0", command=command) as (server, connection):
        token = server.header()
        assert get(connection, "GET", "/healthz", None, token) == (200, "ok\n")
        first_socket = connection.sock
        assert post(connection, "arrival", media, **token) == (200, "OK")
        assert post(connection, "deletion", media, "deleted", **token) == (200, "OK")
        assert get(connection, "POST", "/request", b"{}", token)[0] == 400
        assert get(connection, "POST", "/request/", b"{}", token)[0] == 400
        assert get(connection, "GET", "/elsewhere", None, token)[0] == 404
        assert connection.sock is first_socket  # kept alive throughout
        connection.close()
        code, out, err = server.stop(number)
        assert not server.token_file.is_file()
    assert code == 0
    assert ("Send the header in" in err) == bool(token)
    assert err.count("\n") == bool(token)
    said = [json.loads(line)["action"] for line in out.splitlines()]
    assert said == ["arrived", "deleted", "malformed", "malformed", "stopped"]


def test_the_command_refuses_whoever_does_not_know_the_token(folder):
    media = MediaFile(uri="gs://music/a.wav", version="5", order=5)
    with started(folder, "--port", "0", command=(SEGUE, "serve", "--json")) as (server, connection):
        assert server.token_file.stat().st_mode & 0o777 == 0o600
        token = server.header()["Authorization"]
        for wrong in ({}, {"Authorization": token[:-1]}, {"Authorization": f"Basic {token}"}):
            assert post(connection, "deletion", media, "deleted", **wrong)[0] == 401
        page = {"Authorization": token, "Origin": "https://example.com"}
        assert post(connection, "deletion", media, "deleted", **page)[0] == 403
        assert post(connection, "arrival", media, Authorization=token) == (200, "OK")
        assert server.line()["ledger"] == "new"


@pytest.mark.parametrize("where", ["header", "body"])
def test_stalled_connections_keep_no_other_waiting(folder, where):
    head = b"POST /arrival HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\nX: "
    if where == "body":
        head += b"y\r\nContent-Type: application/json\r\n\r\n{"
    media = MediaFile(uri="gs://music/a.wav", version="5", order=5)
    with started(folder, "--port", "0") as (_, connection), contextlib.ExitStack() as opened:
        for _ in range(40):
            stalled = socket.create_connection((connection.host, connection.port))
            opened.enter_context(stalled)
            stalled.sendall(head)
        assert post(connection, "arrival", media) == (200, "OK")


def test_a_request_under_way_is_answered_before_the_server_ends(folder):
    media = MediaFile(uri="gs://music/a.wav", version="5", order=5)
    with started(folder, "--port", "0") as (server, connection):
        assert post(connection, "arrival", media) == (200, "OK")
        with contextlib.closing(sqlite3.connect(folder / ".segue/ledger.db")) as ledger:
            ledger.execute("BEGIN EXCLUSIVE")  # the next event waits for it
            headers, body = to_binary(build_object_event("deleted", media))
            under_way = http.client.HTTPConnection(connection.host, connection.port, timeout=WAIT_S)
            under_way.request("POST", "/deletion", body, headers)
            for _ in range(2):  # the second is read after the event
                assert get(connection, "GET", "/healthz")[0] == 200
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.5)  # within which the server would end if it did not wait
            ledger.rollback()
        answer = under_way.getresponse()
        assert (answer.status, answer.read()) == (200, b"OK")
        under_way.close()
        assert server.process.wait(timeout=WAIT_S) == 0


def test_the_example_in_the_help_records_a_file(folder):
    help_ = subprocess.run([SEGUE, "serve", "--help"], capture_output=True, text=True, check=True)
    (example,) = re.findall(r"^ +(curl .*?)\n\n", help_.stdout, re.MULTILINE | re.DOTALL)
    _, url, _, token_file, _, header, _, body = shlex.split(example.replace("\\\n", ""))
    with started(folder, "--port", "0", command=(SEGUE, "serve", "--json")) as (server, connection):
        port = str(connection.port)
        assert token_file.replace("8080", port) == f"@.segue/{server.token_file.name}"
        headers = {**dict([header.split(": ")]), **server.header()}
        path = url.removeprefix("http://127.0.0.1:8080")
        assert get(connection, "POST", path, body, headers) == (200, "OK")
        said = server.line()
    assert (said["action"], said["file"]) == ("arrived", "gs://acme-audio/song.flac")


def test_many_connections_at_once_lose_nothing(folder):
    files, connections = 40, 8
    failed = []

    def send(host: str, port: int, start: int) -> None:
        connection = http.client.HTTPConnection(host, port, timeout=WAIT_S)
        for i in range(start, files, connections):
            media = MediaFile(uri=f"gs://music/{i}.wav", version="5", order=5)
            answers = [post(connection, "arrival", media) for _ in range(2)]
            failed.extend(answer for answer in answers if answer != (200, "OK"))
        connection.close()

    with started(folder, "--port", "0") as (_, connection):
        threads = [
            threading.Thread(target=send, args=(connection.host, connection.port, i))
            for i in range(connections)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failed == []
    ledger = connect_ledger(f"sqlite:///{folder}/.segue/ledger.db")
    queue = connect_queue(f"sqlite:///{folder}/.segue/queue.db")
    assert ledger.count({}).files == files
    assert queue.measure_depth(["a.source"]) == {"a.source": 2 * files}
    queue.close()
    ledger.close()


def test_after_a_kill_another_one_goes_on(folder):
    media = MediaFile(uri="gs://music/a.wav", version="5", order=5)
    with started(folder, "--port", "0") as (server, connection):
        assert post(connection, "arrival", media) == (200, "OK")
        os.killpg(server.process.pid, signal.SIGKILL)
    with started(folder, "--port", "0") as (server, connection):
        assert post(connection, "arrival", media) == (200, "OK")
        assert server.line()["ledger"] == "duplicate"


def test_a_wrong_set_up_ends_it_with_a_word(folder):
    (folder / "jobs.yaml").write_text("jobs: {}")
    server = Server(folder, "--port", "0")
    said = server.line()
    server.process.communicate(timeout=WAIT_S)
    assert (said["action"], said["severity"]) == ("misconfigured", "ERROR")
    assert server.process.returncode == 2
