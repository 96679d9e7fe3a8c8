"""``segue up`` as real processes: files come, change and go, and processes are killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from segue.adapters.connect import connect_ledger, connect_store
from segue.model.graph import read_graph
from segue.model.record import Entry, Record
from segue.model.transitions import find_entry, is_current
from segue.testing.sound import sine_at_lufs, write

SEGUE = os.path.join(os.path.dirname(sys.executable), "segue")
PATIENCE_S = 90.0
TOLERANCE_LU = 0.1  # of EBU Tech 3341
HEADER = 'catalogue: music\nartifacts: artifacts\ninclude: ["*.wav"]\njobs:\n'
CHAIN = (
    HEADER
    + """
  first: {run: "segue_support.jobs:fine", needs: {media: source}, writes: application/json}
  second: {run: "segue_support.jobs:after", needs: {value: first}, writes: application/json}
  third: {run: "segue_support.jobs:after", needs: {value: second}, writes: application/json}
"""
)
SLOW = (
    HEADER
    + """
  slow:
    run: segue_support.jobs:sleep
    needs: {media: source}
    writes: application/json
    params: {seconds: 0.05}
  next: {run: "segue_support.jobs:after", needs: {value: slow}, writes: application/json}
"""
)
REAL = (
    HEADER
    + """
  loudness:
    run: segue.features.ebu_r128:loudness
    needs: {media: source}
    writes: application/json
"""
)


def environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith("SEGUE_")}


class Up:
    """One ``segue up`` process, with the lines that it prints."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [SEGUE, "up", "--json", *arguments],
            cwd=folder,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[dict] = []
        self._changes = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changes:
                self.lines.append(json.loads(line))
                self._changes.notify_all()

    def wait(self, condition) -> None:
        """Wait until the printed lines fulfil a condition."""
        with self._changes:
            if not self._changes.wait_for(lambda: condition(self.lines), PATIENCE_S):
                pytest.fail(f"it did not happen: {self.lines[-20:]}")

    def wait_until_up(self) -> Up:
        self.wait(lambda lines: any(_is(line, "up", "started") for line in lines))
        return self

    def end(self, number: int = signal.SIGINT) -> int:
        """Send a signal, and return the exit code."""
        self.process.send_signal(number)
        code = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        return code


def _is(line: dict, process: str, action: str) -> bool:
    return line.get("process") == process and line.get("action") == action


def stat(pid: int) -> list[str]:
    """Return the fields of a process in /proc, from its state on; none if it is dead."""
    try:
        found = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return found if found[0] not in {"Z", "X"} else []


def listens(pid: int) -> bool:
    """Whether a process listens on a TCP port."""
    listening = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        rows = [line.split() for line in Path(table).read_text().splitlines()[1:]]
        listening |= {f"socket:[{row[9]}]" for row in rows if row[3] == "0A"}
    return any(os.readlink(fd) in listening for fd in Path(f"/proc/{pid}/fd").iterdir())


def children(pid: int) -> list[int]:
    everybody = [int(p.name) for p in Path("/proc").iterdir() if p.name.isdecimal()]
    return [one for one in everybody if stat(one)[1:2] == [str(pid)]]


def find_descendants(pid: int) -> set[int]:
    """Return all descendants of a process."""
    found = set(children(pid))
    return found.union(*(find_descendants(one) for one in found))


def wait_until(condition) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class Project:
    """A folder with a graph, a catalogue, a ledger and a queue."""

    def __init__(self, folder: Path, graph: str) -> None:
        self.folder = folder
        self.music = folder / "music"
        self.music.mkdir()
        (folder / "jobs.yaml").write_text(graph)
        self.graph = read_graph(str(folder / "jobs.yaml"), {})
        self.ledger = connect_ledger(f"sqlite:///{folder}/.segue/ledger.db")
        self.started: list[Up] = []

    def up(self, *arguments: str) -> Up:
        made = Up(self.folder, *arguments)
        self.started.append(made)
        return made

    def add(self, *names: str, data: bytes = b"sound") -> None:
        for name in names:
            (self.music / name).write_bytes(data)

    def record(self, name: str) -> Record | None:
        return self.ledger.read([f"file://{self.music / name}"])[0].record

    def is_done(self, name: str) -> bool:
        """Whether all jobs are done, for the file as it is now."""
        record = self.record(name)
        return (
            record is not None
            and record.version == self.version(name)
            and all(is_current(self.graph, record, job) for job in self.graph.jobs)
        )

    def version(self, name: str) -> str:
        with contextlib.closing(connect_store(str(self.music))) as store:
            return store.identify(name).digest

    def entry(self, name: str, job: str) -> Entry | None:
        """Return the entry of a job for a file."""
        record = self.record(name)
        return find_entry(self.graph, record, job) if record is not None else None

    def is_running(self, name: str, job: str) -> bool:
        entry = self.entry(name, job)
        return entry is not None and entry.state == "running"

    def wait_until_done(self, *names: str) -> None:
        wait_until(lambda: all(self.is_done(name) for name in names))

    def loudness_lufs(self, record: Record) -> float:
        """Read the loudness from the artifact of a record."""
        (name,) = record.name_artifacts(self.graph.fingerprints["loudness"])
        return json.loads((self.folder / "artifacts" / name).read_text())["integrated_lufs"]

    def artifacts(self) -> list[Path]:
        return [p for p in (self.folder / "artifacts").rglob("*") if p.is_file()]


@pytest.fixture
def project(tmp_path, request):
    made = Project(tmp_path, request.param)
    yield made
    for up in made.started:
        if up.process.poll() is None:
            up.process.kill()
        up.process.wait()
        up.process.stdout.close()
        up.process.stderr.close()
    made.ledger.close()


with_graph = lambda graph: pytest.mark.parametrize("project", [graph], indirect=True, ids=[""])  # noqa: E731


@with_graph(REAL)
def test_a_song_is_copied_in_overwritten_and_deleted_and_a_corrupt_one_fails_alone(project):
    up = project.up().wait_until_up()
    song = project.music / "song.wav"
    write(sine_at_lufs(-23.0, duration_s=3.0), str(song))
    project.wait_until_done("song.wav")
    first = project.record("song.wav")
    assert project.loudness_lufs(first) == pytest.approx(-23.0, abs=TOLERANCE_LU)

    write(sine_at_lufs(-33.0, duration_s=3.0), str(song))
    project.add("corrupt.wav", data=b"verse, chorus, verse")
    project.wait_until_done("song.wav")
    second = project.record("song.wav")
    assert second.order > first.order
    assert project.loudness_lufs(second) == pytest.approx(-33.0, abs=TOLERANCE_LU)

    up.wait(lambda lines: any(_is(line, "stream loudness", "failed") for line in lines))
    corrupt = project.entry("corrupt.wav", "loudness")
    assert (corrupt.state, corrupt.error.kind) == ("failed", "corrupt_media")

    song.unlink()
    wait_until(lambda: project.record("song.wav").deleted_at is not None)
    assert project.record("song.wav").version == second.version

    assert not listens(up.process.pid)  # any web page could post events to a port
    everybody = find_descendants(up.process.pid)
    assert len(everybody) > 1
    assert up.end() == 0
    assert [one for one in everybody if stat(one)] == []
    assert _is(up.lines[-1], "up", "stopped")
    assert (up.lines[-1]["arrived"], up.lines[-1]["deleted"]) == (3, 1)
    assert up.process.stderr.read() == ""


@with_graph(CHAIN)
def test_a_hundred_files_at_once_and_then_changes_while_it_was_down(project):
    names = [f"{number}.wav" for number in range(100)]
    up = project.up().wait_until_up()
    project.add(*names)
    project.wait_until_done(*names)
    assert len(project.artifacts()) == 300
    assert up.end(signal.SIGTERM) == 0

    (project.music / "0.wav").unlink()
    project.add("1.wav", data=b"another sound")
    (project.music / "album").mkdir()
    project.add("album/new.wav")
    again = project.up("--until-idle", "0.5")
    assert again.process.wait(PATIENCE_S) == 0
    assert project.record("0.wav").deleted_at is not None
    assert project.is_done("1.wav")
    assert project.is_done("album/new.wav")
    # Unchanged files were neither reported nor computed again.
    assert len(project.artifacts()) == 306


@with_graph(SLOW)
def test_a_killed_pipeline_is_restarted_and_no_process_survives_a_killed_system(project):
    names = [f"{number}.wav" for number in range(60)]
    up = project.up().wait_until_up()
    project.add(*names[:20])
    up.wait(lambda lines: any(_is(line, "stream slow", "done") for line in lines))
    streams = children(up.process.pid)
    assert len(streams) == 2
    for stream in streams:
        os.kill(stream, signal.SIGKILL)
    up.wait(lambda lines: any("SIGKILL" in line.get("reason", "") for line in lines))
    project.wait_until_done(*names[:20])

    done = len(up.lines)
    project.add(*names[20:])
    up.wait(lambda lines: any(_is(line, "stream slow", "done") for line in lines[done:]))
    everybody = find_descendants(up.process.pid)
    up.process.kill()
    wait_until(lambda: not any(stat(one) for one in everybody))
    assert not all(project.is_done(name) for name in names)

    again = project.up("--until-idle", "0.5")
    assert again.process.wait(PATIENCE_S) == 0
    assert [name for name in names if not project.is_done(name)] == []


@with_graph(SLOW.replace("0.05", "60.0"))
def test_ctrl_c_twice_ends_it_at_once(project):
    up = project.up().wait_until_up()
    project.add("song.wav")
    wait_until(lambda: project.is_running("song.wav", "slow"))
    everybody = find_descendants(up.process.pid)
    up.process.send_signal(signal.SIGINT)
    time.sleep(0.5)  # it is waiting for the job by now
    assert up.process.poll() is None
    assert up.end() == 130
    wait_until(lambda: not any(stat(one) for one in everybody))
    assert not project.is_running("song.wav", "slow")


@with_graph(CHAIN.replace("\njobs:", "\npipelines: {later: [second, third]}\njobs:"))
def test_each_pipeline_is_a_program_and_jobs_can_share_one(project):
    project.add("song.wav")
    up = project.up("--until-idle", "0.5")
    assert up.process.wait(PATIENCE_S) == 0
    assert project.is_done("song.wav")
    started = {line["process"] for line in up.lines if line["action"] == "started"}
    assert started == {"stream first", "stream later", "up"}
    done = {(line["process"], line["job"]) for line in up.lines if line["action"] == "done"}
    assert done == {
        *(("stream first", "first"), ("stream later", "second")),
        ("stream later", "third"),
    }


def run_segue(project: Project, *arguments: str) -> str:
    """Run a command beside the system, and return its output."""
    found = subprocess.run(
        [SEGUE, *arguments],
        cwd=project.folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    return found.stdout


@with_graph(CHAIN)
def test_what_arrives_while_a_job_is_paused_is_computed_once_it_is_resumed(project):
    run_segue(project, "pause", "second")
    up = project.up("--processes", "1").wait_until_up()
    up.wait(lambda lines: any(_is(one, "up", "paused") for one in lines))
    [paused] = [one for one in up.lines if _is(one, "up", "paused")]
    assert (paused["job"], paused["reason"][:9]) == ("second", "paused by")

    project.add("song.wav")
    waits = ("stream second", "waiting")
    up.wait(lambda lines: any(_is(one, *waits) for one in lines))
    assert project.entry("song.wav", "first").state == "done"
    assert project.entry("song.wav", "second").state == "queued"
    status = json.loads(run_segue(project, "status", "--json"))
    assert list(status["paused"]) == ["second"]
    assert status["jobs"]["second"]["queued"] == 1

    resumed = json.loads(run_segue(project, "resume", "--json"))
    assert (resumed["resumed"], resumed["paused"]) == (["second"], {})
    assert resumed["requests"] >= 1
    project.wait_until_done("song.wav")
    assert up.end() == 0


@with_graph(CHAIN)
def test_what_known_files_lack_is_computed_once_beside_what_arrives(project):
    names = [f"{number}.wav" for number in range(30)]
    project.add(*names)
    backfill = [SEGUE, "backfill", "--job", "first"]
    subprocess.run(backfill, cwd=project.folder, env=environment(), check=True, capture_output=True)

    left = project.up("--until-idle", "0.5", "--no-catch-up")
    assert left.process.wait(PATIENCE_S) == 0
    [said] = [line["reason"] for line in left.lines if line["action"] == "missing"]
    assert "second 30, third 30; to compute them: segue backfill" in said
    assert len([path for path in project.artifacts() if "_runs" not in path.parts]) == 30

    up = project.up().wait_until_up()
    project.add("new.wav")
    project.wait_until_done(*names, "new.wav")
    assert up.end() == 0
    done = [line for line in up.lines if line["action"] == "done"]
    assert len({(line["job"], line["file"]) for line in done}) == len(done) == 60 + 3

    again = project.up("--until-idle", "0.5")
    assert again.process.wait(PATIENCE_S) == 0
    assert not [line for line in again.lines if line["action"] in ("missing", "done", "requested")]


CHANGING = """
catalogue: music
artifacts: artifacts
jobs:
  value: {run: "work:compute", needs: {media: source}, writes: application/json, params: {n: 1}}
"""


@with_graph(CHANGING)
def test_a_changed_graph_or_code_is_used_before_anything_else_is_computed(project):
    code = project.folder / "work.py"
    code.write_text("def compute(media, *, n: int = 0) -> dict[str, int]:\n    return {'n': n}\n")
    graph = project.folder / "jobs.yaml"
    project.add("old.wav")
    up = project.up().wait_until_up()
    project.wait_until_done("old.wav")

    graph.write_text(CHANGING.replace("n: 1", "n: two"))  # of which the code says that it is wrong
    project.add("new.wav")
    up.wait(lambda lines: any("nothing runs until" in line.get("error", "") for line in lines))
    assert project.record("new.wav") is None

    graph.unlink()  # the graph that ships with Segue does not take its place
    up.wait(lambda lines: any("jobs.yaml is gone" in line.get("error", "") for line in lines))

    graph.write_text(CHANGING.replace("n: 1", "n: 2"))
    project.graph = read_graph(str(graph), {})
    project.wait_until_done("old.wav", "new.wav")
    values = [json.loads(path.read_text()) for path in project.artifacts() if "value" in str(path)]
    assert sorted(value["n"] for value in values) == [1, 2, 2]

    seen = len(up.lines)
    code.write_text(code.read_text().replace("'n': n", "'n': 10 * n"))
    up.wait(lambda lines: any(_is(line, "up", "started") for line in lines[seen:]))
    assert any("work.py changed" in line.get("reason", "") for line in up.lines[seen:])
    project.add("newest.wav")
    project.wait_until_done("newest.wav")
    values = [json.loads(path.read_text()) for path in project.artifacts() if "newest" in str(path)]
    assert values == [{"n": 20}]
    assert up.end() == 0
    assert (up.lines[-1]["arrived"], up.lines[-1]["done"]) == (3, 4)
