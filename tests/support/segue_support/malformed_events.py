"""Sends malformed events, requests and messages, made from seeds, and counts what comes of them.

python -m segue_support.malformed_events --seeds 0:100000
python -m segue_support.malformed_events --kind events --seeds 17

Events and requests are sent to the functions as functions-framework builds them, on a real SQLite
stack: in this process, and each SOCKET_EVERY-th one over connections, to Segue's server and to
functions-framework's own. Messages are decoded and then processed. One line of figures is printed
per kind. The exit code is 1 after a violation: a status of 500 or more, a traceback, no answer
within HANG_S, or a record of a version that cannot exist yet.
"""

from __future__ import annotations

import argparse
import base64
import collections
import contextlib
import functools
import io
import json
import logging
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from segue.adapters.connect import connect_ledger, connect_queue, connect_store
from segue.errors import UnreadableMessage
from segue.execution.engine import Engine
from segue.execution.reply import Reply, send
from segue.execution.work import ReceivedMessage
from segue.ingest.events import Arrivals
from segue.log import LOGGER
from segue.model.dead_letter import (
    Stage,
    build_dead_letter,
    dead_letter_to_envelope,
    decode_dead_letter,
)
from segue.model.graph import read_graph
from segue.model.ledger import Query, find_records
from segue.model.media_file import MediaFile
from segue.model.message import Arrived, Message, decode_message, encode_message
from segue.model.record import Failure
from segue_support.recording_pool import RecordingPool
from segue_support.seeds import parse_seeds

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

HANG_S = 30.0
START_S = 60.0
SOCKET_EVERY = 40
KEPT = 5  # examples of violations
GRAPH = """
include: ["*.wav"]
jobs:
  a: {run: "m:f", needs: {media: source}, writes: application/json}
  b: {run: "m:f", needs: {x: a}, writes: application/json}
"""
FINALIZED = "google.cloud.storage.object.v1.finalized"
DELETED = "google.cloud.storage.object.v1.deleted"
PUBLISHED = "google.cloud.pubsub.topic.v1.messagePublished"
PATHS = {FINALIZED: "/arrival", DELETED: "/deletion", PUBLISHED: "/sweep"}
MESSAGE_FIELDS = (
    *("namespace", "uri", "version", "order", "trigger", "arrived", "targets", "request"),
    *("attempt", "hops", "pipeline", "payload"),
)

Headers = list[tuple[str, str]]


@dataclass(slots=True)
class Figures:
    """What came of some malformed inputs."""

    kind: str
    count: int = 0
    answers: collections.Counter[str] = field(default_factory=collections.Counter)
    violations: int = 0
    examples: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def add_violation(self, text: str) -> None:
        """Count a violation, and keep some as examples."""
        self.violations += 1
        if len(self.examples) < KEPT:
            self.examples.append(text)

    def __str__(self) -> str:
        answers = " ".join(f"{name}:{n}" for name, n in sorted(self.answers.items()))
        rate = self.count / self.seconds if self.seconds else 0.0
        return (
            f"{self.kind}: {self.count:,} malformed, {self.violations} violations; "
            f"{answers}; {rate:,.0f} per s"
        )


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request."""

    path: str
    headers: Headers
    body: bytes
    method: str = "POST"
    framing: str = "length"  # or chunked, broken, short, none: how the body is sent


# Making input.

ODD_VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 2**63, 2**64, -(2**63), 10**400, 1e308, 5.5, float("nan"), float("inf")),
    *("", "NaN", "1e5", "1_000", " 5", "\uff15", "0x10", "x" * 5000, "../../etc/passwd"),
    *("a\0b.wav", "\x1b[31m.wav", "\ud800.wav", "\udcff.wav", "a\u2028b.wav", "é" * 300 + ".wav"),
    *([], {}, [[]], {"$ref": 1}, [None] * 50, {"a": {"b": {"c": []}}}),
    *("x/" * 2000 + ".wav", "n" * 300 + ".wav", ".", "..", "/", "//a.wav", "a/../b.wav"),
    *(str(2**63 - 1), str(10**18), "9" * 19, 2**63 - 1),
)
ODD_HEADERS = (
    *("", "x", "1.0", "0.3", "2.0", "application/json; charset=utf-16", "text/plain"),
    *("application/json; charset=nonsense", "multipart/form-data; boundary=x", "a, b", "\xe9"),
    *("application/cloudevents-batch+json", "application/x-www-form-urlencoded", "x" * 4000),
    *("%0d%0ax: y", "application/cloudevents+json", "application/cloudevents+json; charset=x"),
    *(FINALIZED, PUBLISHED, "\x7f", "=?utf-8?q?x?=", "application/json", "\t", '"', "gzip"),
)
NAMES = (
    *("content-type", "ce-id", "ce-type", "ce-source", "ce-specversion", "ce-time", "ce-data"),
    *("ce-subject", "ce-datacontenttype", "ce-extension", "ce-", "ce-dataschema", "traceparent"),
    *("content-encoding", "x-cloud-trace-context", "function-execution-id", "authorization"),
)


def build_nested(depth: int, inner: str = "1") -> str:
    """Return JSON that is nested so deep."""
    return '{"a":[' * (depth // 2) + inner + "]}" * (depth // 2)


INSERTED = (
    *(b"\\ud800", b"9" * 5000, b"1e999", b"NaN", b"[" * 3000, b"{", b"\0", b"null", b"-", b","),
    *(b"\\u0000", b'"', b"\xf4\x90\x80\x80", b"\xff", b"\xed\xa0\x80", b"Infinity"),
)
BODIES = (
    *(b"", b"null", b"[]", b"0", b'"x"', b"{}", b"[" * 100_000, b'{"a":' * 50_000, b"<xml/>"),
    *(b"1" * 10_000, b"\0" * 99, b"\xff\xfe{\0", b"a=b&c=d"),
)


def mutate_bytes(rng: random.Random, data: bytes) -> bytes:
    """Change some bytes, or replace them all."""
    kind = rng.randrange(10)
    if kind < 3:
        changed = bytearray(data or b" ")
        for _ in range(rng.randrange(1, 6)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        return bytes(changed)
    if kind < 5:
        return data[: rng.randrange(len(data) or 1)]
    if kind < 7:
        place = rng.randrange(len(data) + 1)
        return data[:place] + rng.choice(INSERTED) + data[place:]
    if kind < 8:
        return build_nested(rng.randrange(400, 1200)).encode()
    wrapped = [b"\xff\xfe" + data, data * 2, b"\xef\xbb\xbf" + data, b"[" + data + b"]"]
    return rng.choice([*BODIES, *wrapped, data.decode("latin-1").encode("utf-16")])


def mutate_mapping(rng: random.Random, values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Change, remove or add a value."""
    changed = dict(values)
    name = rng.choice([*values, *names])
    if rng.random() < 0.15:
        changed.pop(name, None)
    elif rng.random() < 0.1:
        changed[name] = json.loads(build_nested(rng.randrange(10, 700)))
    else:
        changed[name] = rng.choice(ODD_VALUES)
    return changed


def build_event_call(seed: int, folder: str) -> Call:
    """Return a request with a malformed event; few seeds give one that is well formed."""
    rng = random.Random(seed)
    kind = rng.choice(list(PATHS))
    attributes: dict[str, Any] = {
        "id": "1",
        "specversion": "1.0",
        "type": kind,
        "source": "//storage.googleapis.com/projects/_/buckets/x",
        "time": "2026-01-01T00:00:00Z",
    }
    path = rng.choice([*PATHS.values(), "/request"]) if rng.random() < 0.2 else PATHS[kind]
    data = _build_event_data(rng, kind, folder)
    if rng.random() < 0.2:
        attributes = mutate_mapping(rng, attributes, "data", "data_base64", "datacontenttype", "x")
    headers, body = _encode_event(rng, attributes, data)
    for _ in range(rng.randrange(3)):
        change = rng.random()
        if change < 0.5:
            body = mutate_bytes(rng, body)
        elif change < 0.6 and headers:
            headers.pop(rng.randrange(len(headers)))
        elif change < 0.7 and headers:
            headers.append(rng.choice(headers))  # twice
        else:
            headers.append((rng.choice(NAMES), rng.choice(ODD_HEADERS)))
    return Call(path, headers, body, *_choose_framing(rng))


def _build_event_data(rng: random.Random, kind: str, folder: str) -> Any:
    """Return the data of an event: an object, or a message with a sweep order or an object."""
    data: dict[str, Any] = {
        "bucket": rng.choice(["", "acme-audio"]),
        "name": f"{folder.lstrip('/')}/music/{rng.randrange(50)}.wav",
        "generation": str(rng.randrange(1, 99)),
        "size": "3",
        "contentType": "audio/wav",
    }
    if rng.random() < 0.6:
        data = mutate_mapping(rng, data, "bucket", "name", "generation", "size", "crc32c")
    if kind == PUBLISHED:
        orders = (b"{}", b'{"limit": 3}', b'{"limit": -1}', b"[" * 2000, b"\xff", b"x")
        content = rng.choice([*orders, _dump(data), _dump(data)])
        event_type = rng.choice(["OBJECT_FINALIZE", "OBJECT_DELETE", "x", "", "\ud800"])
        message: dict[str, Any] = {
            "data": base64.b64encode(content).decode(),
            "messageId": "1",
            "attributes": rng.choice([{}, {"eventType": event_type}, {"eventType": event_type}]),
        }
        if rng.random() < 0.3:
            message = mutate_mapping(rng, message)
        data = {"message": message, "subscription": "projects/p/subscriptions/s"}
    return data


def _encode_event(
    rng: random.Random, attributes: Mapping[str, Any], data: Any
) -> tuple[Headers, bytes]:
    """Encode an event in binary or structured mode, as a bare message, or as a legacy event."""
    headers: Headers = [("Content-Type", "application/json")]
    form = rng.choice(["binary", "binary", "structured", "structured", "bare", "legacy"])
    if form == "structured":
        headers = [("Content-Type", "application/cloudevents+json")]
        return headers, _dump({**attributes, "data": data})
    if form == "binary":
        headers += [(f"ce-{name}", _to_header(value)) for name, value in attributes.items()]
    if form != "legacy":
        return headers, _dump(data)
    context = {"eventId": "1", "timestamp": "x", "eventType": "google.storage.object.delete"}
    context["resource"] = rng.choice(["projects/_/buckets/b/objects/o", "", "x"])
    return headers, _dump({"context": rng.choice([context, None, 5, []]), "data": data})


def _choose_framing(rng: random.Random) -> tuple[str, str]:
    """Return a method, which is nearly always POST, and how to send the body."""
    method = "POST" if rng.random() < 0.97 else rng.choice(["GET", "PUT", "HEAD", "OPTIONS", "X"])
    return method, rng.choice(["length"] * 8 + ["chunked", "broken", "short", "none"])


def build_request_call(seed: int, folder: str) -> Call:
    """Return a malformed request for results."""
    rng = random.Random(seed)
    uri = f"file://{folder}/music/0.wav"
    wanted: Mapping[str, Any] = rng.choice(
        [
            {"files": [uri], "jobs": ["b"]},
            {"prefix": f"file://{folder}/music/", "jobs": ["a", "b"], "force": True},
            {"files": [uri, f"file://{folder}/music/pipe.wav"], "jobs": [], "ping": True},
            {"prefix": f"file://{folder}/music/", "request": "20260101T000000.000000Z-0a1b2c3d"},
        ]
    )
    names = ("files", "prefix", "jobs", "force", "parents", "ping", "request", "after", "x")
    for _ in range(rng.randrange(3)):
        wanted = mutate_mapping(rng, wanted, *names)
        if rng.random() < 0.4:
            name = rng.choice(["files", "jobs", "prefix", "request", "after"])
            odd = rng.choice([v for v in ODD_VALUES if isinstance(v, str)])
            place = rng.choice(
                [odd, f"file://{folder}/music/{odd}", f"gs://{odd}", f"file://{odd}"]
            )
            wanted[name] = [place] if name in {"files", "jobs"} else place
    body = _dump(wanted)
    if rng.random() < 0.4:
        body = mutate_bytes(rng, body)
    headers = [("Content-Type", rng.choice(["application/json", *ODD_HEADERS]))]
    return Call("/request", headers, body, *_choose_framing(rng))


def build_message_bytes(seed: int) -> bytes:
    """Return a malformed message or dead letter."""
    rng = random.Random(seed)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    order = rng.choice([50, rng.randrange(1, 99)])
    message = Message(
        uri=f"file:///music/{rng.randrange(50)}.wav",
        version=str(order),
        order=order,
        trigger=rng.choice([None, "source", "a"]),
        arrived=rng.choice([None, Arrived(at=now, revision="1")]),
        targets=rng.choice([("b",), ("a", "b"), ()]),
        ping=rng.random() < 0.2,
        request=rng.choice([None, "20260101T000000.000000Z-0a1b2c3d"]),
    )
    data = encode_message(message)
    if rng.random() < 0.4:
        failure = Failure(kind="crashed", type="X", message="it died")
        dead = build_dead_letter(
            stage=Stage.RUN, pipeline="a", job="a", error=failure, data=data, at=now
        )
        data = dead_letter_to_envelope(dead).data
    for _ in range(rng.randrange(1, 3)):
        if rng.random() < 0.5:
            data = mutate_bytes(rng, data)
        else:
            with contextlib.suppress(ValueError, RecursionError, TypeError):
                data = _dump(mutate_mapping(rng, json.loads(data), *MESSAGE_FIELDS))
    return data


def _dump(value: Any) -> bytes:
    text = json.dumps(value, ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass")


def _to_header(value: Any) -> str:
    text = value if isinstance(value, str) else str(value)
    return text.encode("utf-8", "backslashreplace").decode("latin-1")[:4000]


# Sending input.


class BrokenStream(io.RawIOBase):
    """A body that breaks off, as a server's own stream of it does."""

    def __init__(self, data: bytes, error: Exception) -> None:
        self._left = io.BytesIO(data)
        self._error = error

    def readable(self) -> bool:
        """Return that it is readable."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what is left, and then raise."""
        size = self._left.readinto(buffer)
        if size == 0:
            raise self._error
        return size


def call_app(app: WSGIApplication, call: Call) -> int:
    """Call an app in this process, and return the status."""
    environ: dict[str, Any] = {
        "REQUEST_METHOD": call.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": call.path,
        "QUERY_STRING": "",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "localhost",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
    }
    for name, value in call.headers:
        key = name.upper().replace("-", "_")
        key = key if key in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{key}"
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    environ["wsgi.input"] = io.BytesIO(call.body)
    if call.framing in {"length", "short"}:
        environ["CONTENT_LENGTH"] = str(len(call.body) + 9 * (call.framing == "short"))
    if call.framing == "broken":
        environ["wsgi.input"] = BrokenStream(call.body, ValueError("a wrong chunk"))
    statuses: list[str] = []

    def start(status: str, _headers: Any, _error: Any = None) -> Callable[[bytes], object]:
        statuses.append(status)
        return lambda _data: None

    parts = app(environ, start)
    for _ in parts:
        pass
    if hasattr(parts, "close"):
        parts.close()
    return int(statuses[-1].split()[0])


def send_call(port: int, call: Call, path: str) -> int | None:
    """Send a request over a connection, and return the status, or None if there was no answer."""
    lines = [f"{call.method} {path} HTTP/1.1", "Host: localhost", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in call.headers]
    body = call.body
    if call.framing in {"length", "short"}:
        lines.append(f"Content-Length: {len(body) + 9 * (call.framing == 'short')}")
    elif call.framing in {"chunked", "broken"}:
        lines.append("Transfer-Encoding: chunked")
        size = f"{len(body):x}" if call.framing == "chunked" else "zz"
        body = size.encode() + b"\r\n" + body + b"\r\n0\r\n\r\n"
    head = "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")
    with socket.create_connection(("127.0.0.1", port), timeout=HANG_S) as connection:
        with contextlib.suppress(OSError):  # the server may have answered and closed already
            connection.sendall(head + body)
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while b"\r\n" not in answer and (part := connection.recv(4096)):
                answer += part
    words = answer.split(maxsplit=2)
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else None


class _Tracebacks(logging.Handler):
    """Keeps what was logged with a traceback."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record if it has a traceback; what cannot be encoded would cause another."""
        record.getMessage().encode()
        if record.exc_info:
            self.found.append(record.getMessage())


@contextlib.contextmanager
def open_project() -> Iterator[str]:
    """Work in a new project on the embedded stack; yield its folder."""
    folder = tempfile.mkdtemp(prefix="segue-malformed-")
    before, environ = os.getcwd(), dict(os.environ)
    try:
        os.mkdir(os.path.join(folder, "music"))
        for i in range(3):
            with open(os.path.join(folder, "music", f"{i}.wav"), "wb") as file:
                file.write(b"sound")
        os.mkfifo(os.path.join(folder, "music", "pipe.wav"))
        os.mkfifo(os.fsencode(folder) + b"/music/\xe9.wav")
        with open(os.path.join(folder, "jobs.yaml"), "w") as file:
            file.write(GRAPH)
        os.chdir(folder)
        for name in [name for name in os.environ if name.startswith("SEGUE_")]:
            del os.environ[name]
        os.environ["SEGUE_CATALOGUE"] = os.path.join(folder, "music")
        yield folder
    finally:
        os.chdir(before)
        os.environ.clear()
        os.environ.update(environ)
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def serve_app() -> Iterator[tuple[WSGIApplication, _Tracebacks]]:
    """Build the app of all functions in this process; yield it, and the tracebacks that it logs."""
    import functions_framework

    from segue_functions import stack
    from segue_functions.server import FUNCTIONS, build_app

    path, handler = list(sys.path), functions_framework.errorhandler
    logs, root = (list(LOGGER.handlers), LOGGER.propagate), logging.getLogger()
    found = _Tracebacks()
    LOGGER.handlers[:], LOGGER.propagate = [found], False
    root.addHandler(found)
    try:
        yield build_app("localhost"), found
    finally:
        stack.close()
        root.removeHandler(found)
        LOGGER.handlers[:], LOGGER.propagate = logs
        sys.path[:] = path
        functions_framework.errorhandler = handler
        for name in FUNCTIONS:
            sys.modules.pop(name, None)


@dataclass(frozen=True, slots=True)
class Listening:
    """A server in another process."""

    process: subprocess.Popen[bytes]
    port: int
    log: str
    function: str | None  # None: all, each at its name


@contextlib.contextmanager
def start_servers(folder: str, *functions: str) -> Iterator[list[Listening]]:
    """Start Segue's server of all functions, and functions-framework's server of each named one."""
    from segue_functions import stack

    commands: list[tuple[str | None, list[str], int]] = []
    for function in (None, *functions):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "segue_functions.server", "--port", str(port)]
        if function is not None:
            source = os.path.join(os.path.dirname(stack.__file__), f"{function}.py")
            command = [sys.executable, "-m", "functions_framework", "--host", "127.0.0.1"]
            command += ["--target", function, "--source", source, "--port", str(port)]
        commands.append((function, command, port))
    with contextlib.ExitStack() as opened:
        started = []
        for function, command, port in commands:
            log = os.path.join(folder, f"server-{function}.log")
            out = opened.enter_context(open(log, "wb"))
            process = subprocess.Popen(
                command, cwd=folder, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )
            opened.callback(_stop, process)
            started.append(Listening(process, port, log, function))
        for one in started:
            _wait(one)
        yield started


def _wait(server: Listening) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end and server.process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", server.port)):
            return
        time.sleep(0.05)
    with open(server.log) as file:
        raise RuntimeError(f"the server does not start: {file.read()[-2000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


# Checking.


def check_events(seeds: Iterable[int], *, over_sockets: bool = True) -> Figures:
    """Send malformed events to the functions."""
    return _check_calls("events", build_event_call, seeds, ("arrival",), over_sockets=over_sockets)


def check_requests(seeds: Iterable[int], *, over_sockets: bool = True) -> Figures:
    """Send malformed requests for results to the function."""
    return _check_calls(
        "requests", build_request_call, seeds, ("request",), over_sockets=over_sockets
    )


def _check_calls(
    kind: str,
    build: Callable[[int, str], Call],
    seeds: Iterable[int],
    functions: tuple[str, ...],
    *,
    over_sockets: bool,
) -> Figures:
    figures = Figures(kind)
    with contextlib.ExitStack() as opened:
        folder = opened.enter_context(open_project())
        servers = opened.enter_context(start_servers(folder, *functions)) if over_sockets else []
        app, found = opened.enter_context(serve_app())
        started_s = time.monotonic()
        for seed in seeds:
            call = build(seed, folder)
            figures.count += 1
            _check_call(figures, seed, functools.partial(call_app, app, call))
            if servers and seed % SOCKET_EVERY == 0:
                for server in servers:
                    path = call.path if server.function is None else "/"
                    send = functools.partial(send_call, server.port, call, path)
                    _check_call(figures, seed, send)
            while found.found:
                figures.add_violation(f"seed {seed} logged a traceback: {found.found.pop()}")
        figures.seconds = time.monotonic() - started_s
        for server in servers:
            with open(server.log, errors="replace") as file:
                text = file.read()
            if server.process.poll() is not None or "Traceback" in text:
                figures.add_violation(f"the server's log: {text[-3000:]}")
        _check_ledger(figures, folder)
    return figures


def _check_call(figures: Figures, seed: int, send: Callable[[], int | None]) -> None:
    started_s = time.monotonic()
    try:
        status = send()
    except Exception:  # noqa: BLE001 - whatever it is, it is a violation
        figures.answers["raised"] += 1
        figures.add_violation(f"seed {seed}: {traceback.format_exc()[-2000:]}")
        return
    figures.answers["closed" if status is None else str(status)] += 1
    if status is not None and status >= 500:
        figures.add_violation(f"seed {seed} was answered with {status}")
    if time.monotonic() - started_s > HANG_S:
        figures.add_violation(f"seed {seed} took longer than {HANG_S:.0f} s")


def _check_ledger(figures: Figures, folder: str) -> None:
    """No event may have recorded a version that is later than now."""
    path = os.path.join(folder, ".segue", "ledger.db")
    if not os.path.exists(path):
        return
    with contextlib.closing(connect_ledger(f"sqlite:///{path}")) as ledger:
        for record in find_records(ledger, Query(deleted=None)):
            if record.order > time.time() * 1e9:
                figures.add_violation(f"{record.uri} has generation {record.order}")


def check_messages(seeds: Iterable[int]) -> Figures:
    """Decode malformed messages and dead letters, and process what could be decoded."""
    figures = Figures("messages")
    with open_project(), _open_engine() as process:
        started_s = time.monotonic()
        for seed in seeds:
            data = build_message_bytes(seed)
            figures.count += 1
            try:
                answer = "unreadable"
                with contextlib.suppress(UnreadableMessage):
                    dead = decode_dead_letter(data)
                    assert decode_dead_letter(dead_letter_to_envelope(dead).data) == dead
                    answer = "dead_letter"
                with contextlib.suppress(UnreadableMessage):
                    message = decode_message(data)
                    assert decode_message(encode_message(message)) == message
                    answer = "message"
                process(data)
            except Exception:  # noqa: BLE001 - whatever it is, it is a violation
                answer = "raised"
                figures.add_violation(f"seed {seed}: {traceback.format_exc()[-2000:]}")
            figures.answers[answer] += 1
        figures.seconds = time.monotonic() - started_s
    return figures


@contextlib.contextmanager
def _open_engine() -> Iterator[Callable[[bytes], None]]:
    """Yield what processes a message's bytes as a streaming pipeline does; its jobs run nowhere."""
    graph = read_graph("jobs.yaml", {})
    with (
        contextlib.closing(connect_ledger("sqlite:///ledger.db")) as ledger,
        contextlib.closing(connect_queue("sqlite:///queue.db", graph)) as queue,
    ):
        arrivals = Arrivals(graph=graph, ledger=ledger, queue=queue)
        known = [f"file:///music/{i}.wav" for i in range(25)]
        arrivals.record([MediaFile(uri=uri, version="50", order=50) for uri in known])
        engine = Engine(
            graph=graph,
            ledger=ledger,
            pool=RecordingPool(),
            artifacts=connect_store("artifacts"),
            served=frozenset(graph.pipelines["a"]),
        )

        def process(data: bytes) -> None:
            engine.add_messages([ReceivedMessage(pipeline="a", data=data)])
            [reply] = engine.drain()
            assert isinstance(reply, Reply)
            send([reply], queue=queue, ledger=ledger)

        yield process


def main(argv: list[str] | None = None) -> int:
    """Check the kinds that are named, or all, and print their figures."""
    checks = {"events": check_events, "messages": check_messages, "requests": check_requests}
    parser = argparse.ArgumentParser(
        prog="python -m segue_support.malformed_events", description=__doc__
    )
    parser.add_argument("--seeds", type=parse_seeds, required=True, metavar="FIRST:END")
    parser.add_argument("--kind", choices=checks, action="append")
    given = parser.parse_args(argv)
    code = 0
    for kind in given.kind or checks:
        figures = checks[kind](given.seeds)
        for example in figures.examples:
            print(example)
        print(figures, flush=True)
        code |= figures.violations > 0
    return code


if __name__ == "__main__":
    sys.exit(main())
