"""Counts follow the ledger in one thread, and the graph is that of its file."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from segue.adapters.connect import connect_ledger
from segue.errors import ConfigurationError, DatabaseReplaced, Unavailable
from segue.model.settings import Settings
from segue_console import namespace as module
from segue_console.namespace import (
    COUNT_S,
    READS_PER_HOUR,
    Namespace,
    find_pause_s,
    open_namespaces,
)

PATIENCE_S = 30.0
OTHER = """
namespace: other
artifacts: others
jobs:
  plain: {run: "segue_support.jobs:fine", needs: {media: source}, writes: application/json}
"""


@pytest.fixture(autouse=True)
def often(monkeypatch):
    """Count many times a second."""
    monkeypatch.setattr(module, "COUNT_S", 0.02)
    monkeypatch.setattr(module, "COUNT_SHARE", 0)


@pytest.fixture
def counting(monkeypatch) -> list[tuple[str, str]]:
    """The thread and the namespace of each count that was made."""
    calls: list[tuple[str, str]] = []
    real = module.count_jobs

    def count(ledger, graph):
        calls.append((threading.current_thread().name, graph.namespace))
        return real(ledger, graph)

    monkeypatch.setattr(module, "count_jobs", count)
    return calls


def wait_until(condition: Callable[[], object]) -> None:
    until_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.005)


def count_done(namespace: Namespace, job: str = "beats") -> int | None:
    counted = namespace.live.watch()
    return None if counted is None else counted.counts.jobs[job]["done"]


def list_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("counts")]


class TestCounts:
    def test_they_follow_the_ledger(self, namespace, writer):
        wait_until(lambda: count_done(namespace) == 0)
        for n in range(3):
            writer.write(f"{n}.wav", beats={})
            wait_until(lambda n=n: count_done(namespace) == n + 1)
        writer.delete("0.wav")
        wait_until(lambda: count_done(namespace) == 2)
        assert namespace.live.list_history()[-1].counts.deleted == 1

    def test_they_have_the_rate_of_the_last_seconds(self, namespace, writer):
        wait_until(lambda: count_done(namespace) == 0)
        for n in range(5):
            writer.write(f"{n}.wav", beats={})
        wait_until(lambda: count_done(namespace) == 5)
        last = namespace.live.watch()
        assert last.rates["beats"] > 0
        assert last.rates["plain"] == 0

    def test_many_readers_cost_what_one_does(self, namespace, counting):
        readers = [threading.Thread(target=namespace.live.watch) for _ in range(20)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        wait_until(lambda: len(counting) > 3)
        assert list_threads() == ["counts-default"]
        assert {thread for thread, _ in counting} == {"counts-default"}

    def test_nothing_is_counted_while_nobody_looks(self, namespace, counting, monkeypatch):
        wait_until(lambda: counting)
        monkeypatch.setattr(module, "WATCHED_S", 0.0)
        wait_until(lambda: not namespace.live._wanted.is_set())
        before = len(counting)
        time.sleep(0.2)
        assert len(counting) == before
        monkeypatch.setattr(module, "WATCHED_S", PATIENCE_S)
        namespace.live.watch()
        wait_until(lambda: len(counting) > before)

    def test_a_ledger_that_is_away_is_told_until_it_is_back(self, namespace, monkeypatch, console):
        wait_until(namespace.live.list_history)
        real = module.count_jobs

        def fail(*_arguments):
            raise Unavailable("the ledger is away")

        monkeypatch.setattr(module, "count_jobs", fail)
        wait_until(lambda: namespace.live.error)
        text = console.get("/default/").text
        assert "The ledger cannot be counted: the ledger is away" in text
        monkeypatch.setattr(module, "count_jobs", real)
        wait_until(lambda: namespace.live.watch() and namespace.live.error is None)
        assert "cannot be counted" not in console.get("/default/").text

    def test_the_end_ends_the_thread(self, namespace):
        assert list_threads() == ["counts-default"]
        namespace.close()
        assert list_threads() == []
        assert namespace.live.is_stopped


class TestLedger:
    def test_one_that_does_not_exist_yet_is_found_later(self, writer):
        later = writer.folder / "later.db"
        settings = Settings(
            graph=str(writer.folder / "jobs.yaml"),
            ledger=f"sqlite:///{later}",
            queue=f"sqlite:///{writer.folder}/queue.db",
        )
        with open_namespaces([settings]) as namespaces:
            found = namespaces["default"]
            wait_until(lambda: count_done(found) == 0)
            assert not later.exists(), "to look creates nothing"
            writer.write("a.wav", beats={})
            copy_ledger(writer, later)
            wait_until(lambda: count_done(found) == 1)

    def test_two_namespaces_are_counted_apart(self, writer, counting):
        path = writer.folder / "other.yaml"
        path.write_text(OTHER)
        settings = [
            Settings(graph=str(writer.folder / "jobs.yaml"), ledger=writer.url),
            Settings(graph=str(path), ledger=f"sqlite:///{writer.folder}/other.db"),
        ]
        writer.write("a.wav", plain={})
        with open_namespaces(settings) as namespaces:
            assert list(namespaces) == ["default", "other"]
            wait_until(lambda: count_done(namespaces["default"], "plain") == 1)
            wait_until(lambda: count_done(namespaces["other"], "plain") == 0)
            assert set(counting) == {("counts-default", "default"), ("counts-other", "other")}
        assert list_threads() == []

    def test_two_graphs_of_one_namespace_are_refused(self, writer):
        settings = Settings(graph=str(writer.folder / "jobs.yaml"), ledger=writer.url)
        with (
            pytest.raises(ConfigurationError, match="both of the namespace 'default'"),
            open_namespaces([settings, settings]),
        ):
            pass
        assert list_threads() == []


class TestGraph:
    def test_counts_of_the_graph_before_are_forgotten(self, namespace, writer, monkeypatch):
        """A count that the change overtook is dropped: its jobs are others."""
        wait_until(lambda: count_done(namespace) == 0)
        counted, changed = threading.Event(), threading.Event()
        real = module.count_jobs

        def count(ledger, graph):
            found = real(ledger, graph)
            counted.set()
            changed.wait(PATIENCE_S)
            return found

        monkeypatch.setattr(module, "count_jobs", count)
        wait_until(lambda: namespace.live.watch() and counted.is_set())
        path = writer.folder / "jobs.yaml"
        path.write_text(path.read_text().replace("  plain:", "  simple:"))
        namespace.refresh()
        changed.set()
        wait_until(lambda: namespace.live.watch() is not None)
        history = namespace.live.list_history()
        assert all("simple" in one.counts.jobs for one in history)

    def test_one_that_is_gone_is_told(self, namespace, writer):
        (writer.folder / "jobs.yaml").unlink()
        namespace.refresh()
        assert "jobs.yaml" in namespace.problem
        assert "beats" in namespace.graph.jobs

    def test_one_of_another_namespace_is_told(self, namespace, writer):
        path = writer.folder / "jobs.yaml"
        path.write_text(f"namespace: renamed\n{path.read_text()}")
        namespace.refresh()
        assert namespace.problem == "its namespace is 'renamed' now; start the console again"
        assert namespace.graph.namespace == "default"

    def test_one_that_is_right_again_is_shown(self, namespace, writer):
        path = writer.folder / "jobs.yaml"
        before = path.read_text()
        path.write_text("jobs: [1]")
        namespace.refresh()
        shown = namespace.graph
        assert namespace.problem
        path.write_text(before)
        namespace.refresh()
        assert namespace.problem is None
        assert namespace.graph == shown


def test_a_graph_that_changes_often_keeps_its_ledger(writer, namespace):
    path, before = writer.folder / "jobs.yaml", namespace.stack
    text = path.read_text()
    path.write_text(text.replace("  absent:", "  new_one:"))
    namespace.refresh()
    assert "new_one" in namespace.stack.graph.jobs
    assert namespace.stack.ledger is before.ledger
    path.write_text(text.replace("artifacts: artifacts", "artifacts: others"))
    namespace.refresh()
    assert namespace.stack.artifacts.location.endswith("/others")


def test_a_ledger_that_was_replaced_is_opened_anew(writer, namespace):
    writer.write("a.wav", beats={})
    uris = [writer.uri("a.wav")]
    assert namespace.stack.ledger.read(uris)[0].record is not None
    path = writer.folder / "ledger.db"
    path.rename(writer.folder / "old.db")
    for end in ("-wal", "-shm"):
        (writer.folder / f"ledger.db{end}").unlink(missing_ok=True)
    with pytest.raises(DatabaseReplaced):
        namespace.stack.ledger.read(uris)
    connect_ledger(writer.url).close()
    assert namespace.stack.ledger.read(uris)[0].record is None


def test_a_ledger_that_does_not_exist_yet_is_empty_until_it_does(tmp_path, writer):
    url = f"sqlite:///{tmp_path}/later.db"
    settings = Settings(graph=str(writer.folder / "jobs.yaml"), ledger=url)
    found = Namespace(settings)
    empty = found.stack
    assert found.stack is empty
    assert not (tmp_path / "later.db").exists()
    connect_ledger(url).close()
    assert found.stack is not empty
    found.close()


@pytest.mark.parametrize(
    ("took_s", "reads", "pause_s"),
    [
        (0.01, 0, COUNT_S),  # a ledger in a folder
        (3.0, 0, 15.0),  # which is large
        (0.2, 100, COUNT_S),  # in the cloud, with some thousand files
        (2.0, 20_000, 72.0),  # a million
        (20.0, 1_200_000, 4320.0),  # sixty millions
    ],
)
def test_a_count_that_costs_more_is_made_less_often(took_s, reads, pause_s, monkeypatch):
    monkeypatch.undo()  # as often as in truth
    assert find_pause_s(took_s, reads) == pause_s
    assert reads * 3600 / pause_s <= READS_PER_HOUR


def copy_ledger(writer, path) -> None:
    """Copy a ledger as a whole, so that it appears at once."""
    import sqlite3

    part = path.with_suffix(".part")
    with sqlite3.connect(writer.folder / "ledger.db") as source, sqlite3.connect(part) as copy:
        source.backup(copy)
    source.close()
    copy.close()
    part.rename(path)
