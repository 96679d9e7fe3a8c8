"""``segue up`` with the graphs of three teams, as real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from segue.adapters.connect import connect_ledger
from segue.model.graph import read_graph
from segue.model.transitions import is_current

SEGUE = os.path.join(os.path.dirname(sys.executable), "segue")
PATIENCE_S = 120.0
# Each team has code of its own in a module of the same name.
CODE = """
def make(media):
    return {"team": "TEAM", "file": media.uri.rpartition("/")[2]}


def take(**inputs):
    return {"team": "TEAM", "above": sorted(inputs)}
"""
GRAPHS = {
    "platform": """
catalogue: music
jobs:
  first: {run: "features:make", needs: {media: source}, writes: application/json, publish: true}
  second: {run: "features:take", needs: {value: first}, writes: application/json}
""",
    "rhythm": """
catalogue: music
jobs:
  own: {run: "features:make", needs: {media: source}, writes: application/json}
  beats:
    {run: "features:take", needs: {audio: platform/first}, writes: application/json, publish: true}
""",
    "moods": """
jobs:
  tag: {run: "features:make", needs: {media: platform/source}, writes: application/json}
  mood:
    {run: "features:take", writes: application/json,
     needs: {audio: platform/first, beats: rhythm/beats}}
""",
}
# What each team computes when a file arrives, and which of them watch the folder.
ON_ARRIVAL = {"platform": ["first", "second"], "rhythm": ["own", "beats"], "moods": ["tag", "mood"]}
WATCHERS = ("platform", "rhythm")


def clean_environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith("SEGUE_")}


class Teams:
    """The folders of three teams, in the folder in which all is run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "music").mkdir()
        for team, text in GRAPHS.items():
            (folder / team).mkdir()
            head = f'namespace: {team}\nregistry: registry\ninclude: ["*.wav"]\n'
            (folder / team / "jobs.yaml").write_text(head + text)
            (folder / team / "features.py").write_text(CODE.replace("TEAM", team))

    @property
    def graphs(self) -> list[str]:
        return [f"{team}/jobs.yaml" for team in GRAPHS]

    def share(self) -> None:
        for team in GRAPHS:
            for command in ("lock", "publish"):
                self.run(command, "--graph", f"{team}/jobs.yaml")

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [SEGUE, *arguments],
            cwd=self.folder,
            env=clean_environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [SEGUE, "up", *arguments],
            cwd=self.folder,
            env=clean_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def find_current(self, team: str, name: str) -> list[str]:
        """Return the jobs of a team that are done for a file."""
        graph = read_graph(str(self.folder / team / "jobs.yaml"), {})
        url = f"sqlite:///{self.folder}/.segue/{team}/ledger.db"
        ledger = connect_ledger(url, team)
        try:
            record = ledger.read([f"file://{self.folder}/music/{name}"])[0].record
        finally:
            ledger.close()
        return [j for j in graph.jobs if record is not None and is_current(graph, record, j)]

    def read_artifact(self, team: str, job: str) -> dict:
        (path,) = (self.folder / ".segue" / team / "artifacts" / job).rglob("*.json")
        return json.loads(path.read_text())


@pytest.fixture
def teams(tmp_path):
    return Teams(tmp_path)


def find_descendants(pid: int) -> set[int]:
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if fields[1] == str(pid) and fields[0] not in "ZX":
            found.add(int(path.parent.name))
    return found.union(*(find_descendants(one) for one in found))


def test_each_graph_runs_with_its_own_code_ledger_and_artifacts(teams):
    teams.share()
    (teams.folder / "music/song.wav").write_bytes(b"sound")
    # In an order in which children subscribe to queues that do not exist yet.
    said = teams.run("up", *reversed(teams.graphs), "--until-idle", "1", "--json")
    assert (said.returncode, said.stderr) == (0, "")
    lines = [json.loads(line) for line in said.stdout.splitlines()]

    for team, jobs in ON_ARRIVAL.items():
        assert teams.find_current(team, "song.wav") == jobs
        done = [one for one in lines if one["action"] == "done" and one["namespace"] == team]
        assert sorted((one["job"], one["process"]) for one in done) == [
            (job, f"stream {job}") for job in sorted(jobs)
        ]
        assert (teams.folder / f".segue/{team}/queue.db").exists()
    assert teams.read_artifact("platform", "first") == {"team": "platform", "file": "song.wav"}
    assert teams.read_artifact("rhythm", "own") == {"team": "rhythm", "file": "song.wav"}
    assert teams.read_artifact("moods", "tag") == {"team": "moods", "file": "song.wav"}
    assert teams.read_artifact("moods", "mood") == {"team": "moods", "above": ["audio", "beats"]}

    started = [one for one in lines if one["action"] == "started" and one["process"] == "up"]
    music = f"{teams.folder}/music"
    assert {one["namespace"]: one.get("folder") for one in started} == {
        team: music if team in WATCHERS else None for team in GRAPHS
    }
    arrived = [one["namespace"] for one in lines if one["action"] == "arrived"]
    assert sorted(arrived) == sorted(WATCHERS)
    stopped = [one for one in lines if one["action"] == "stopped" and one["process"] == "up"]
    assert [(one.get("namespace"), one["arrived"], one["done"]) for one in stopped] == [
        *((team, int(team in WATCHERS), len(ON_ARRIVAL[team])) for team in reversed(GRAPHS)),
        (None, len(WATCHERS), sum(map(len, ON_ARRIVAL.values()))),
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_programs_of_all_graphs(teams, number):
    teams.share()
    (teams.folder / "music/song.wav").write_bytes(b"sound")
    with teams.start(*teams.graphs) as up:
        started = set()
        for line in up.stdout:
            if " up: started" in line:
                started.add(line.split()[0])
            if started == set(GRAPHS):
                break
        everybody = find_descendants(up.pid)
        assert len(everybody) >= 5  # programs
        up.send_signal(number)
        rest = up.stdout.read()
        assert up.wait(PATIENCE_S) == 0
        assert up.stderr.read() == ""
    assert "rhythm up: stopped arrived=" in rest
    deadline = time.monotonic() + PATIENCE_S
    while any(Path(f"/proc/{pid}").exists() for pid in everybody):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_nothing_starts_if_one_graph_is_wrong_and_all_faults_are_reported(teams):
    teams.share()
    (teams.folder / "moods/segue.lock").unlink()
    (teams.folder / "rhythm/jobs.yaml").write_text("jobs: [1]")
    said = teams.run("up", *teams.graphs)
    assert (said.returncode, said.stdout) == (2, "")
    assert "rhythm/jobs.yaml has 1 fault" in said.stderr
    assert "moods/jobs.yaml has 3 faults" in said.stderr
    assert "run 'segue lock'" in said.stderr
    assert not (teams.folder / ".segue").exists()


def test_each_graph_catches_up_with_what_it_lacks(teams):
    teams.share()
    (teams.folder / "music" / "old.wav").write_bytes(b"sound")
    found = teams.run("up", *teams.graphs, "--until-idle", "1", "--json")
    assert found.returncode == 0, found.stderr
    with (teams.folder / "moods" / "jobs.yaml").open("a") as graph:
        graph.write(
            '  new: {run: "features:take", needs: {mood: mood}, writes: application/json}\n'
        )
    found = teams.run("up", *teams.graphs, "--until-idle", "1", "--json")
    assert found.returncode == 0, found.stderr
    assert teams.find_current("moods", "old.wav") == ["tag", "mood", "new"]
    lines = [json.loads(line) for line in found.stdout.splitlines()]
    done = [(line["namespace"], line["job"]) for line in lines if line["action"] == "done"]
    assert done == [("moods", "new")]
    [said] = [line for line in lines if line["action"] == "missing"]
    assert (said["namespace"], "new 1;" in said["reason"]) == ("moods", True)
