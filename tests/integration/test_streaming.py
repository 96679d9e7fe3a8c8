"""The streaming pipeline as a separate process, on the embedded stack and real files."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from segue.adapters.connect import connect_ledger, connect_queue, connect_store
from segue.ingest.events import Arrivals
from segue.model import dead_letter
from segue.model.artifact import compute_checksum
from segue.model.graph import SOURCE, read_graph
from segue.model.ledger import Change, Query
from segue.model.message import Message, build_request_id
from segue.model.queue import (
    DEAD_SUBSCRIPTION,
    SOURCE_TOPIC,
    Envelope,
    event_to_envelope,
    format_inbox,
    list_subscriptions,
    list_topics,
    message_to_envelope,
)
from segue.model.record import Entry, Record, State, evolve
from segue.model.transitions import find_entry, reopen
from segue.testing.music import music
from segue.testing.sound import write
from segue_cli.main import main
from segue_support import emulators
from segue_support.pubsub_topics import make_topics

SEGUE = os.path.join(os.path.dirname(sys.executable), "segue")
PATIENCE_S = 120.0

JOBS = """
import os, time

def note(job, uri):
    with open(os.environ["RUNS"], "a") as file:
        file.write(f"{job} {os.path.basename(uri)}\\n")

def first(media):
    note("first", media.uri)
    while "heavy" in os.path.basename(media.uri) and not os.path.exists(os.environ["RELEASE"]):
        time.sleep(0.01)
    return {"uri": media.uri}

def beside(media):
    note("beside", media.uri)
    return {"uri": media.uri}

def second(above):
    note("second", above["uri"])
    return {"uri": above["uri"], "filler": "x" * 20000}
"""
GRAPH = """
jobs:
  first: {run: "stream_jobs:first", needs: {media: source}, writes: application/json}
  second: {run: "stream_jobs:second", needs: {above: first}, writes: application/json}
"""


class Place:
    """A folder with a catalogue, a graph and an embedded stack."""

    def __init__(
        self,
        folder: Path,
        graph: str = GRAPH,
        *,
        ledger: str | None = None,
        queue: str | None = None,
    ) -> None:
        self.folder = folder
        (folder / "catalogue").mkdir()
        (folder / "jobs.yaml").write_text(graph)
        (folder / "stream_jobs.py").write_text(JOBS)
        (folder / "runs").touch()
        clean = {k: v for k, v in os.environ.items() if not k.startswith("SEGUE_")}
        self._environ = {
            **clean,
            "RUNS": str(folder / "runs"),
            "RELEASE": str(folder / "release"),
            "PYTHONPATH": str(folder),
        }
        self.graph = read_graph(str(folder / "jobs.yaml"))
        self.queue = connect_queue(queue or f"sqlite:///{folder}/.segue/queue.db", self.graph)
        self.subscriptions = [s.name for s in list_subscriptions(self.graph, self.graph.pipelines)]
        self.ledger = connect_ledger(ledger or f"sqlite:///{folder}/.segue/ledger.db")

    def close(self) -> None:
        self.queue.close()
        self.ledger.close()

    def upload(self, *names: str, data: bytes = b"x") -> None:
        """Put files into the catalogue, and let them arrive."""
        for name in names:
            (self.folder / "catalogue" / name).write_bytes(data)
        self.arrive(*names)

    def arrive(self, *names: str) -> None:
        store = connect_store(str(self.folder / "catalogue"))
        files = []
        for name in names:
            found = store.identify(name)
            files.append(found.to_media_file(store.uri(name)))
        Arrivals(graph=self.graph, ledger=self.ledger, queue=self.queue).record(files)

    def start(self, *arguments: str, log: str = "log") -> subprocess.Popen:
        """Start a pipeline, and wait until it listens."""
        size = self._size(log)
        with open(self.folder / log, "a") as file:
            process = subprocess.Popen(
                [SEGUE, "stream", *(arguments or ("--all",))],
                cwd=self.folder,
                env=self._environ,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        self.until(lambda: self._size(log) > size or process.poll() is not None)
        return process

    def run(self, *arguments: str) -> None:
        """Run a command, which must succeed."""
        subprocess.run([SEGUE, *arguments], cwd=self.folder, env=self._environ, check=True)

    def _size(self, log: str) -> int:
        path = self.folder / log
        return path.stat().st_size if path.exists() else 0

    @contextlib.contextmanager
    def streaming(self, *arguments: str, log: str = "log") -> Iterator[subprocess.Popen]:
        """Run a pipeline, and stop it at the end; it must exit without an error."""
        process = self.start(*arguments, log=log)
        try:
            yield process
            process.terminate()
            assert process.wait(PATIENCE_S) == 0, (self.folder / log).read_text()
        finally:
            process.kill()
            process.wait()

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait until a condition holds."""
        end = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < end, "the condition did not hold in time: " + self._logs()
            time.sleep(0.02)

    def _logs(self) -> str:
        return "\n".join(p.read_text()[-2000:] for p in self.folder.glob("log*"))

    def records(self) -> dict[str, Record]:
        found = self.ledger.find(Query(), limit=100_000)
        return {r.uri.rpartition("/")[2]: r for r in found}

    def states(self, job: str) -> Counter[str]:
        entries = [find_entry(self.graph, r, job) for r in self.records().values()]
        return Counter(entry.state for entry in entries if entry is not None)

    def entry(self, name: str, job: str) -> Entry:
        """Return the entry of a job of a file."""
        found = find_entry(self.graph, self.records()[name], job)
        assert found is not None
        return found

    def waiting(self) -> int:
        """Count the messages in the queue, without dead letters."""
        return sum(self.queue.measure_depth(self.subscriptions).values())

    def is_quiet(self) -> bool:
        return self.waiting() == 0

    def dead(self) -> list[dead_letter.DeadLetter]:
        pulled = self.queue.pull([DEAD_SUBSCRIPTION.name], limit=100)
        return [dead_letter.decode_dead_letter(one.data) for one in pulled]

    def runs(self) -> Counter[str]:
        return Counter((self.folder / "runs").read_text().splitlines())

    def read_log(self, log: str = "log") -> list[dict]:
        lines = (self.folder / log).read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def list_done(self, log: str) -> list[str]:
        """Return the names of the files on which a pipeline's jobs were done, in order."""
        lines = [t for t in self.read_log(log) if t["action"] == "done"]
        return [os.path.basename(t["file"]) for t in lines]

    def release(self) -> None:
        (self.folder / "release").touch()


@pytest.fixture
def place(tmp_path):
    place = Place(tmp_path)
    yield place
    place.close()


def test_arrivals_run_through_the_graph_and_are_acknowledged(place):
    with place.streaming():
        place.upload("a.wav", "b.wav")
        place.until(lambda: place.states("second") == {State.DONE: 2} and place.is_quiet())
    assert place.runs() == {
        "first a.wav": 1,
        "first b.wav": 1,
        "second a.wav": 1,
        "second b.wav": 1,
    }
    store = connect_store(str(place.folder / ".segue/artifacts"))
    for record in place.records().values():
        for fingerprint, entry in record.results.items():
            assert entry.lease is None
            assert entry.notify == ()
            (checksum,) = entry.checksums.values()
            (name,) = record.name_artifacts(fingerprint)
            assert compute_checksum(store.read(name)) == checksum
    lines = place.read_log()
    assert [t["action"] for t in lines] == ["started", *["done"] * 4, "stopped"]
    assert {t["job"] for t in lines[1:-1]} == {"first", "second"}


def test_it_ends_when_no_message_comes_any_more(place):
    place.upload(*(f"{i}.wav" for i in range(20)))
    process = place.start("--all", "--until-idle", "0.5")
    assert process.wait(PATIENCE_S) == 0
    assert place.states("second") == {State.DONE: 20}
    assert place.is_quiet()


def test_one_pipeline_per_job_does_the_same_as_one_for_all(place):
    with (
        place.streaming("--pipeline", "first", log="log1"),
        place.streaming("--job", "second", log="log2"),
    ):
        place.upload(*(f"{i}.wav" for i in range(20)))
        place.until(lambda: place.states("second") == {State.DONE: 20} and place.is_quiet())
    assert {t.get("job") for t in place.read_log("log1")} == {"first", None}
    assert {t.get("job") for t in place.read_log("log2")} == {"second", None}
    assert set(place.runs().values()) == {1}


def test_a_heavy_file_holds_no_light_one_back(place):
    with place.streaming("--all", "--processes", "2"):
        place.upload("heavy.wav", *(f"{i}.wav" for i in range(50)))
        place.until(lambda: place.states("second")[State.DONE] == 50)
        assert place.entry("heavy.wav", "first").lease is not None
        # Later files overtake it, too, many bundles after it was pulled.
        place.upload(*(f"later{i}.wav" for i in range(10)))
        place.until(lambda: place.states("second")[State.DONE] == 60)
        place.release()
        place.until(lambda: place.states("second") == {State.DONE: 61} and place.is_quiet())
    assert place.runs()["first heavy.wav"] == 1


def compute_again(place: Place, name: str, how: str) -> None:
    """Have a job compute a file again by force, with a request or with an event."""
    record = place.records()[name]
    request, now = build_request_id(datetime.now(UTC)), datetime.now(UTC)

    def force(found: Record | None) -> tuple[Record | None, object]:
        assert found is not None
        return reopen(found, place.graph, ("first",), request=request, now=now)

    place.ledger.change([Change(uri=record.uri, transition=force)])
    message = Message(uri=record.uri, version=record.version, order=record.order)
    envelope = {
        "source": event_to_envelope(evolve(message, trigger=SOURCE)),
        "inbox": message_to_envelope(evolve(message, targets=("first",)), "first"),
    }[how]
    place.queue.publish([envelope])


@pytest.mark.parametrize(("full", "thin"), [("source", "inbox"), ("inbox", "source")])
def test_neither_arrivals_nor_requests_starve_the_other(place, full, thin):
    names = [f"{i:03}.wav" for i in range(200)]
    place.upload(*names, "thin.wav")
    place.start("--all", "--until-idle", "0.2").wait(PATIENCE_S)
    for name in names:
        compute_again(place, name, full)
    compute_again(place, "thin.wav", thin)
    place.start("--job", "first", "--until-idle", "0.2", log="log of first").wait(PATIENCE_S)
    order = place.list_done("log of first")
    assert sorted(order) == [*names, "thin.wav"]
    assert order.index("thin.wav") < 50


TWO = """
jobs:
  first: {run: "stream_jobs:first", needs: {media: source}, writes: application/json}
  beside: {run: "stream_jobs:beside", needs: {media: source}, writes: application/json}
"""


@pytest.mark.parametrize("cloud", [False, True], ids=["embedded", "cloud"])
def test_what_arrives_once_reaches_two_pipelines_and_no_request_delays_it(
    tmp_path, request, project, monkeypatch, cloud
):
    url = f"sqlite:///{tmp_path}/.segue/queue.db"
    if cloud:
        monkeypatch.setenv(emulators.PUBSUB.variable, request.getfixturevalue("pubsub_emulator"))
        url = f"pubsub://{project}"
    place = Place(tmp_path, TWO, queue=url)
    if cloud:
        make_topics(place.queue, list_topics(place.graph), list_subscriptions(place.graph))
    names = [f"{i:03}.wav" for i in range(100)]
    for name in names:
        (tmp_path / "catalogue" / name).write_bytes(b"x")
    place.run("request", "--prefix", "catalogue", "--job", "first", "--queue", url)

    published: list[Envelope] = []
    publish = place.queue.publish
    with monkeypatch.context() as patched:
        patched.setattr(place.queue, "publish", lambda x: (published.extend(x), publish(x)))
        place.upload("new.wav")
    assert [envelope.topic for envelope in published] == ["source"]

    logs = {pipeline: f"log of {pipeline}" for pipeline in place.graph.pipelines}
    with (
        place.streaming("--pipeline", "first", "--queue", url, log=logs["first"]),
        place.streaming("--pipeline", "beside", "--queue", url, log=logs["beside"]),
    ):
        place.until(lambda: place.states("first") == {State.DONE: 101})
        place.until(lambda: place.states("beside") == {State.DONE: 1})
    order = place.list_done(logs["first"])
    assert sorted(order) == [*names, "new.wav"]
    assert order.index("new.wav") < 50
    assert place.list_done(logs["beside"]) == ["new.wav"]
    assert set(place.runs().values()) == {1}
    place.close()


def test_a_malformed_message_is_dead_lettered_with_the_reason(place):
    with place.streaming():
        place.queue.publish([Envelope(topic=SOURCE_TOPIC, data=b"\xff poison")])
        place.upload("a.wav")
        place.until(lambda: place.states("second") == {State.DONE: 1} and place.is_quiet())
    (dead,) = place.dead()
    assert (dead.pipeline, dead.stage, dead.data) == ("first", "decode", b"\xff poison")
    (line,) = [t for t in place.read_log() if t["action"] == "dead_lettered"]
    assert line["severity"] == "WARNING"


def test_a_first_signal_lets_running_jobs_finish_and_leaves_the_rest(place):
    process = place.start("--all", "--processes", "1")
    place.upload("heavy.wav")
    place.until(lambda: "first heavy.wav" in place.runs())
    process.terminate()
    # It pulls no more, so whatever comes now stays where it is.
    place.until(lambda: place.queue.measure_depth(["first.source"])["first.source"] == 1)
    place.release()
    assert process.wait(PATIENCE_S) == 0
    assert place.states("first") == {State.DONE: 1}
    assert place.read_log()[-1]["action"] == "stopped"
    with place.streaming():
        place.until(lambda: place.states("second") == {State.DONE: 1} and place.is_quiet())
    assert place.runs() == {"first heavy.wav": 1, "second heavy.wav": 1}


def test_a_second_signal_ends_at_once_and_nothing_is_lost(place):
    process = place.start("--all", "--processes", "1")
    place.upload("heavy.wav")
    place.until(lambda: "first heavy.wav" in place.runs())
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE_S) == 130
    place.release()
    with place.streaming():
        place.until(lambda: place.states("second") == {State.DONE: 1} and place.is_quiet())
    assert place.runs()["first heavy.wav"] == 2  # its lease was lost


def test_killed_at_any_moment_nothing_is_lost_and_only_lost_leases_run_again(place):
    names = [f"{i:04}.wav" for i in range(400)]
    rng = random.Random(3)
    kills = 0
    for start in range(0, len(names), 100):
        seen = os.path.getsize(place.folder / "runs")
        process = place.start()
        place.upload(*names[start : start + 100])
        place.until(lambda seen=seen: os.path.getsize(place.folder / "runs") > seen)
        time.sleep(rng.random() * 0.15)
        process.kill()
        kills += process.wait() == -signal.SIGKILL
    assert kills == 4
    with place.streaming():
        place.until(lambda: place.states("second") == {State.DONE: len(names)} and place.is_quiet())
    runs = place.runs()
    for name, record in place.records().items():
        for entry in record.results.values():
            assert entry.lease is None
            assert entry.notify == ()
            # Each time it was computed, somebody had claimed it.
            assert 1 <= runs[f"{entry.job} {name}"] <= entry.attempts
    store = connect_store(str(place.folder / ".segue/artifacts"))
    assert len(list(store.list())) == 2 * len(names)


REAL = """
jobs:
  downsample:
    run: segue.features.resampling:downsample
    needs: {media: source}
    writes: audio/flac
    params: {sample_rate_hz: 22050, channels: 1}
  loudness:
    run: segue.features.ebu_r128:loudness
    needs: {media: source}
    writes: application/json
  second:
    run: stream_jobs:after
    needs: {audio: downsample}
    writes: application/json
"""
AFTER = """
def after(audio):
    return {"samples": int(audio.y.shape[-1])}
"""


def test_real_sound_gives_the_bytes_that_a_backfill_gives_and_a_corrupt_file_a_dead_letter(
    tmp_path,
):
    place = Place(tmp_path, REAL)
    (tmp_path / "stream_jobs.py").write_text(AFTER)
    write(music(1, bpm=120, duration_s=4.0), str(tmp_path / "catalogue/ü song.flac"))
    (tmp_path / "catalogue/text.mp3").write_text("not a sound at all\n" * 40)
    with place.streaming():
        place.arrive("ü song.flac", "text.mp3")
        place.until(
            lambda: (
                place.states("second") == {State.DONE: 1, State.BLOCKED: 1}
                and place.states("loudness") == {State.DONE: 1, State.FAILED: 1}
                and place.is_quiet()
            )
        )
    assert place.entry("text.mp3", "downsample").error.kind == "corrupt_media"
    assert place.entry("text.mp3", "second").error.type == "downsample"
    letters = place.dead()
    assert sorted(letter.job for letter in letters) == ["downsample", "loudness"]
    for dead in letters:
        assert (dead.stage, dead.kind) == ("run", "corrupt_media")
        assert dead.version == place.records()["text.mp3"].version
        assert dead.uri.endswith("/text.mp3")
    streamed = _artifacts(tmp_path)
    place.close()
    shutil.rmtree(tmp_path / ".segue")
    subprocess.run(
        [SEGUE, "backfill", "--prefix", "catalogue", "--all"],
        cwd=tmp_path,
        check=False,
        capture_output=True,
    )
    assert len(streamed) == 3
    assert _artifacts(tmp_path) == streamed


def _artifacts(folder: Path) -> dict[str, bytes]:
    root = folder / ".segue/artifacts"
    files = [p for p in root.rglob("*") if p.is_file() and p.relative_to(root).parts[0] != "_runs"]
    return {str(p.relative_to(root)): p.read_bytes() for p in files}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--job", "secnod"], "did you mean 'second'"),
        (["--pipeline", "secnod"], "did you mean 'second'"),
        (["--all", "--pipeline", "second"], "--all excludes --pipeline"),
        ([], "no pipeline is named"),
        (["--all", "--direct_num_workers", "2"], "leave out --direct_num_workers"),
        (["--all", "--proceses", "2"], "--processes"),
        (["--all", "--queue", "redis://here"], "not a queue that Segue supports"),
    ],
)
def test_a_wrong_command_line_is_an_error_with_a_hint(
    place, monkeypatch, capfd, arguments, message
):
    monkeypatch.chdir(place.folder)
    assert main(["stream", *arguments]) == 2
    said = capfd.readouterr().err
    assert message in said
    assert "Traceback" not in said


def test_a_wrong_queue_that_only_the_first_pull_finds_ends_it_before_it_has_started(place):
    path = place.folder / "damaged.db"
    connect_queue(f"sqlite:///{path}").close()
    with contextlib.closing(sqlite3.connect(path)) as database:
        (size,) = database.execute("PRAGMA page_size").fetchone()
        tables = "SELECT rootpage FROM sqlite_schema WHERE rootpage"
        pages = [page for (page,) in database.execute(tables)]
    with path.open("r+b") as file:
        for page in pages:
            file.seek((page - 1) * size)
            file.write(b"\xff" * size)
    done = subprocess.run(
        [SEGUE, "stream", "--all", "--queue", f"sqlite:///{path}"],
        cwd=place.folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "is damaged" in done.stderr


def test_the_cloud_form_of_queue_and_ledger_does_the_same(
    tmp_path, pubsub_emulator, firestore_url, project, monkeypatch
):
    monkeypatch.setenv(emulators.PUBSUB.variable, pubsub_emulator)
    queue_url = f"pubsub://{project}"
    place = Place(tmp_path, ledger=firestore_url, queue=queue_url)
    make_topics(place.queue, list_topics(place.graph), list_subscriptions(place.graph))
    place.upload("a.wav", "b.wav")
    place.queue.publish([Envelope(topic=format_inbox("first"), data=b"poison")])
    with place.streaming("--all", "--ledger", firestore_url, "--queue", queue_url):
        place.until(lambda: place.states("second") == {State.DONE: 2})
        place.until(lambda: "dead_lettered" in (tmp_path / "log").read_text())
    (dead,) = place.dead()
    assert (dead.pipeline, dead.data) == ("first", b"poison")
    assert set(place.runs().values()) == {1}
    assert place.queue.pull(place.subscriptions, limit=10) == []
    place.close()
