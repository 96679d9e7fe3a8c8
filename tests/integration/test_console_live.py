"""Open pages get the counts of the ledger from a real server, as long as both are there."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests

from segue.model.settings import Settings
from segue_console.namespace import Namespace, open_namespaces
from segue_console.server import ConsoleServer, serve_console
from segue_support.results import ResultWriter

PATIENCE_S = 60.0


class Console:
    """A server, the ledger that it shows, and a browser's cookies."""

    def __init__(self, server: ConsoleServer, namespace: Namespace, writer: ResultWriter) -> None:
        self.server, self.namespace, self.writer = server, namespace, writer
        self.browser = requests.Session()
        self.base = server.url.partition("/?")[0]
        assert self.browser.get(server.url, timeout=PATIENCE_S).status_code == 200

    @contextmanager
    def follow(self) -> Iterator[Events]:
        """Open a stream, as a page does."""
        address = f"{self.base}/default/live"
        with self.browser.get(address, stream=True, timeout=PATIENCE_S) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            yield Events(answer)

    def count_streams(self) -> int:
        """Return how many answers are under way."""
        return len(self.server._server.server_state.tasks)


class Events:
    """The events of a stream, in their order."""

    def __init__(self, answer: requests.Response) -> None:
        self._lines = answer.iter_lines(chunk_size=1, decode_unicode=True)

    def wait_for(self, kind: str, matches: Callable[[Any], object] = lambda _: True) -> Any:
        """Read on until an event comes that matches; return its data."""
        until_s = time.monotonic() + PATIENCE_S
        event = ""
        for line in self._lines:
            assert time.monotonic() < until_s, f"there was no such event: {kind}"
            name, _, value = line.partition(": ")
            if name == "event":
                event = value
            elif name == "data" and event == kind and matches(found := json.loads(value)):
                return found
        raise AssertionError(f"the stream ended without {kind}")

    def read_rest(self) -> list[str]:
        """Read until the end."""
        return list(self._lines)


@pytest.fixture
def console(tmp_path) -> Iterator[Console]:
    (tmp_path / "music").mkdir()
    writer = ResultWriter(tmp_path)
    settings = Settings(graph=str(tmp_path / "jobs.yaml"), ledger=writer.url)
    with (
        open_namespaces([settings]) as namespaces,
        serve_console(namespaces, port=0, allow_changes=False) as server,
    ):
        yield Console(server, namespaces["default"], writer)


def wait_until(condition: Callable[[], object]) -> None:
    until_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.02)


def test_a_page_is_told_when_the_ledger_changes(console):
    with console.follow() as events:
        first = events.wait_for("counts")
        assert (first["files"], first["jobs"]["beats"]["parts"]["done"]) == (0, 0)
        console.writer.write("a.wav", beats={})
        events.wait_for("counts", lambda found: found["jobs"]["beats"]["parts"]["done"] == 1)


def test_many_pages_are_served_by_one_thread(console):
    with (
        console.follow() as first,
        console.follow() as second,
        console.follow() as third,
    ):
        assert len({events.wait_for("counts")["files"] for events in (first, second, third)}) == 1
        assert console.count_streams() == 3
        threads = [t.name for t in threading.enumerate() if t.name.startswith("counts")]
        assert threads == ["counts-default"]


def test_a_stream_ends_when_the_page_is_closed(console):
    with console.follow() as events, console.follow() as other:
        events.wait_for("counts")
        other.wait_for("counts")
        assert console.count_streams() == 2
    wait_until(lambda: console.count_streams() == 0)
    assert console.browser.get(f"{console.base}/default/", timeout=PATIENCE_S).status_code == 200


def test_a_stream_ends_when_the_server_stops(console):
    with console.follow() as events:
        events.wait_for("counts")
        stopping = threading.Thread(target=console.server.stop)
        stopping.start()
        events.read_rest()
        stopping.join(PATIENCE_S)
        assert not stopping.is_alive()
    with pytest.raises(requests.ConnectionError):
        requests.get(console.base, timeout=PATIENCE_S)


def test_an_open_page_is_told_that_the_graph_has_changed(console):
    path = console.writer.folder / "jobs.yaml"
    before = path.read_text()

    def load() -> str:
        page = console.browser.get(f"{console.base}/default/", timeout=PATIENCE_S).text
        return re.search(r'data-version="(\w+)"', page)[1]

    with console.follow() as events:
        shown = load()
        assert events.wait_for("graph") == shown, "the page need not be loaded again"
        assert "plain" in events.wait_for("counts")["jobs"]
        path.write_text(before.replace("  plain:", "  simple:"))
        changed = events.wait_for("graph")
        assert changed == load() != shown
        assert "simple" in events.wait_for("counts")["jobs"]
        path.write_text("jobs: [1]")
        assert events.wait_for("graph") not in (shown, changed)
        assert "simple" in events.wait_for("counts")["jobs"]
        page = console.browser.get(f"{console.base}/default/", timeout=PATIENCE_S).text
        assert "The graph has changed and is not shown" in page
        path.write_text(before)
        events.wait_for("graph")
        assert "plain" in events.wait_for("counts")["jobs"]


def test_nobody_follows_without_the_token(console):
    assert requests.get(f"{console.base}/default/live", timeout=PATIENCE_S).status_code == 403


def test_the_server_can_be_stopped_twice(console):
    console.server.stop()
    console.server.stop()
