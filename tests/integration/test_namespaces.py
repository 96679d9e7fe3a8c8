"""Three teams on one catalogue: each computes its own jobs, from what the others publish."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from segue.adapters.connect import connect_store
from segue.adapters.pubsub import PubsubQueue
from segue.model.graph import read_graph
from segue.model.queue import list_subscriptions, list_topics
from segue.testing.music import music
from segue.testing.sound import write
from segue_support import emulators
from segue_support.pubsub_topics import make_topics

SEGUE = os.path.join(os.path.dirname(sys.executable), "segue")
GRAPHS = {
    "platform": """
  downsample:
    {run: "segue.features.resampling:downsample", needs: {media: source}, writes: audio/flac,
     publish: true}
""",
    "rhythm": """
  beats:
    {run: "segue.features.rhythm:beats", needs: {audio: platform/downsample},
     writes: application/json, publish: true}
""",
    "moods": """
  energy:
    {run: "segue.features.dynamics:energy", writes: application/json,
     needs: {audio: platform/downsample, beats: rhythm/beats}}
""",
}


@dataclass
class Teams:
    """A folder for each team, and where they keep what they have."""

    folder: Path
    catalogue: str = "music"
    registry: str = "registry"
    environ: dict[str, dict[str, str]] = field(default_factory=dict)  # by team

    def write(self, team: str, jobs: str | None = None) -> None:
        head = f"namespace: {team}\ncontact: {team}@example.org\nregistry: {self.registry}\n"
        (self.folder / team).mkdir(exist_ok=True)
        text = f"{head}catalogue: {self.catalogue}\njobs:{jobs or GRAPHS[team]}"
        (self.folder / team / "jobs.yaml").write_text(text)

    def segue(self, team: str, *arguments: str, code: int = 0) -> dict:
        """Run a command with a team's graph; returns its JSON."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith("SEGUE_")}
        done = subprocess.run(
            [SEGUE, *arguments, "--graph", f"{team}/jobs.yaml", "--json"],
            cwd=self.folder,
            env=clean | self.environ.get(team, {}),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout) if done.stdout else {"error": done.stderr}

    def backfill(self, team: str, code: int = 0) -> dict[str, dict[str, int]]:
        found = self.segue(team, "backfill", "--all", code=code)["jobs"]
        return {job: each["statuses"] for job, each in found.items()}

    def share(self, *teams: str) -> None:
        for team in teams:
            self.segue(team, "lock")
            self.segue(team, "publish")


@pytest.fixture
def teams(tmp_path):
    """Three teams in one folder, on a catalogue of two files."""
    (tmp_path / "music").mkdir()
    for number in range(2):
        write(music(number, bpm=120, duration_s=4.0), str(tmp_path / f"music/{number}.wav"))
    teams = Teams(tmp_path)
    for team in GRAPHS:
        teams.write(team)
    return teams


def test_each_team_computes_its_own_jobs_from_what_others_have_published(teams):
    teams.share("platform", "rhythm", "moods")
    waiting = {"waiting": 2}
    assert teams.backfill("moods", code=4) == {
        "platform/downsample": waiting,
        "rhythm/beats": waiting,
        "energy": waiting,
    }
    assert teams.backfill("platform") == {"downsample": {"done": 2}}
    assert teams.backfill("rhythm")["beats"] == {"done": 2}
    assert teams.backfill("moods") == {
        "platform/downsample": {"current": 2},
        "rhythm/beats": {"current": 2},
        "energy": {"done": 2},
    }
    assert teams.backfill("moods") == {"energy": {"current": 2}}
    for team, jobs in (("platform", ["downsample"]), ("rhythm", ["beats"]), ("moods", ["energy"])):
        artifacts = teams.folder / ".segue" / team / "artifacts"
        assert sorted(p.name for p in artifacts.iterdir() if p.name[0] not in "._") == jobs

    found = teams.segue("moods", "explain", "music/0.wav")
    assert {reference: r["state"] for reference, r in found["foreign"].items()} == {
        "platform/downsample": "done",
        "rhythm/beats": "done",
    }
    assert [
        (each["namespace"], job["job"], job["state"], job["needed_by"])
        for each in found["namespaces"]
        for job in each["jobs"]
    ] == [
        ("platform", "downsample", "done", ["moods", "rhythm"]),
        ("rhythm", "beats", "done", ["moods"]),
    ]
    lineages = [a["lineage"]["job"] for a in found["artifacts"].values()]
    assert sorted(lineages) == ["beats", "downsample", "energy"]


def test_a_new_version_of_a_parent_reaches_a_team_when_it_locks_again(teams):
    teams.share("platform", "rhythm", "moods")
    for team in GRAPHS:
        teams.backfill(team)
    teams.write("rhythm", GRAPHS["rhythm"].replace("publish: true", "publish: true, version: 2"))
    refused = teams.segue("rhythm", "publish", code=2)["error"]
    assert "moods is locked to rhythm/beats" in refused
    assert "moods@example.org" in refused
    teams.segue("rhythm", "publish", "--break")
    assert teams.backfill("rhythm")["beats"] == {"done": 2}
    assert teams.backfill("moods") == {"energy": {"current": 2}}  # nothing has changed for it

    assert teams.segue("moods", "lock", "--check", code=4)["changes"].keys() == {"rhythm/beats"}
    pinned = teams.segue("rhythm", "gc", "--older-than", "0m")
    assert pinned["artifacts"] == []
    teams.share("moods")
    assert teams.backfill("moods")["energy"] == {"done": 2}
    assert teams.backfill("rhythm") == {"beats": {"current": 2}}
    garbage = teams.segue("rhythm", "gc", "--older-than", "0m")["artifacts"]
    assert {one["reason"] for one in garbage} == {"old_fingerprint"}
    assert len(garbage) == 2


def test_an_artifact_that_is_gone_there_is_a_failure_that_says_who_can_repair_it(teams):
    teams.share("platform", "rhythm")
    teams.backfill("platform")
    artifacts = teams.folder / ".segue/platform/artifacts/downsample"
    first, *_ = sorted(p for p in artifacts.rglob("*.flac"))
    first.unlink()
    assert teams.backfill("rhythm", code=3)["beats"] == {"done": 1, "failed": 1}
    (failure,) = teams.segue("rhythm", "failures", code=0)["failures"]
    assert failure["kind"] == "missing_input"
    assert "'platform/downsample'" in failure["message"]
    teams.segue("platform", "backfill", "--job", "downsample", "--force")
    found = teams.segue("rhythm", "backfill", "--all", "--retry-failed")["jobs"]["beats"]
    assert found["statuses"] == {"done": 1, "current": 1}


def test_a_new_child_changes_nothing_of_its_parent(teams):
    teams.share("platform")
    teams.backfill("platform")

    def read_all() -> dict[str, bytes]:
        """What the parent has published, and what its deployment and its topics are made from."""
        teams.segue("platform", "lock")
        assert teams.segue("platform", "publish")["changed"] is False
        teams.segue("platform", "package", "--all", "--output", "build")
        manifest = teams.folder / "registry/platform/manifest.json"
        paths = (manifest, *(teams.folder / "build").iterdir())
        return {path.name: path.read_bytes() for path in paths}

    before = read_all()
    assert {"manifest.json", "graph.json", "arrival.zip"} <= before.keys()
    teams.share("rhythm", "moods")
    teams.backfill("rhythm")
    assert read_all() == before


def move_to_cloud(teams: Teams, bucket: str, firestore_url: str, project: str) -> None:
    """Have two teams use a bucket, and a database and a queue each; lock and publish."""
    store = connect_store(f"gs://{bucket}/music")
    for path in sorted((teams.folder / "music").iterdir()):
        store.create(path.name, path.read_bytes(), content_type="audio/wav", metadata={})
    store.close()
    teams.catalogue = f"gs://{bucket}/music"
    teams.registry = f"gs://{bucket}/registry"
    for team in ("platform", "rhythm"):
        teams.write(team)
        teams.environ[team] = {
            "SEGUE_LEDGER": f"{firestore_url}/{team}",
            "SEGUE_QUEUE": f"pubsub://{project}/{team}",
            "SEGUE_ARTIFACTS": f"gs://{bucket}/{team}",
        }
    teams.share("platform", "rhythm")


def test_two_namespaces_in_the_cloud_form(teams, bucket, firestore_url):
    move_to_cloud(teams, bucket, firestore_url, "acme-audio")
    assert teams.backfill("rhythm", code=4)["platform/downsample"] == {"waiting": 2}
    assert teams.backfill("platform") == {"downsample": {"done": 2}}
    assert teams.backfill("rhythm")["beats"] == {"done": 2}
    assert teams.backfill("rhythm") == {"beats": {"current": 2}}


def list_artifacts(teams: Teams, name: str) -> list[str]:
    """Return the artifacts of a file, in whatever namespace."""
    found = teams.folder.glob(f".segue/*/artifacts/*/*/**/{name}/*")
    return sorted(str(path.relative_to(teams.folder)) for path in found)


@contextmanager
def run_workers(teams: Teams, *names: str) -> Iterator[None]:
    """Have the pipelines of some teams work meanwhile."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SEGUE_")}
    workers = [
        subprocess.Popen(
            [SEGUE, "work", "--all", "--graph", f"{team}/jobs.yaml"],
            cwd=teams.folder,
            env=clean | teams.environ.get(team, {}),
            stdout=subprocess.DEVNULL,
        )
        for team in names
    ]
    try:
        yield
    finally:
        for worker in workers:
            worker.terminate()
        codes = [worker.wait(timeout=120) for worker in workers]
    assert codes == [0] * len(names)


def subscribe(teams: Teams, *names: str) -> None:
    """Have the subscriptions of some teams exist: a sweep opens the queue."""
    for team in names:
        teams.segue(team, "sweep")


def test_a_file_is_taken_down_in_every_namespace_and_stays_down(teams):
    teams.share("platform", "rhythm", "moods")
    for team in GRAPHS:
        teams.backfill(team)
    subscribe(teams, "rhythm", "moods")  # from now on, they are told
    assert len(list_artifacts(teams, "0.wav")) == 3
    erase = ("erase", "music/0.wav", "--yes")

    found = teams.segue("platform", "erase", "music/0.wav", "--dry-run")["files"][0]
    states = {n["namespace"]: (n["state"], n["artifacts"]) for n in found["namespaces"]}
    assert states == dict.fromkeys(GRAPHS, ("present", 1))

    found = teams.segue("platform", *erase, "--timeout", "0s", code=4)["files"][0]
    left = {n["namespace"]: (n["below"], n["complete"]) for n in found["namespaces"]}
    assert left == {"platform": (False, True), "rhythm": (True, False), "moods": (True, False)}

    with run_workers(teams, "rhythm", "moods"):
        assert teams.segue("platform", *erase, "--timeout", "120s")["complete"]
    assert list_artifacts(teams, "0.wav") == []
    assert len(list_artifacts(teams, "1.wav")) == 3
    assert (teams.folder / "music/0.wav").exists()

    write(music(5, bpm=90, duration_s=4.0), str(teams.folder / "music/0.wav"))  # put back, changed
    assert teams.segue("platform", "reconcile", "--older-than", "0m")["total"] == 0
    for team, job in (("platform", "downsample"), ("moods", "energy")):
        forced = teams.segue(team, "backfill", "--job", job, "--force")["jobs"][job]["statuses"]
        assert forced == {"done": 1, "erased": 1}
        asked = teams.segue(team, "request", "music/0.wav", "--job", job, code=3)
        assert set(asked["ignored"].values()) == {"it was erased"}
    assert teams.segue("moods", "retry", "--dry-run")["files"] == 0
    swept = teams.segue("moods", "sweep")
    assert (swept["pending"], swept["expired"]) == (0, 0)
    assert list_artifacts(teams, "0.wav") == []


def test_a_file_that_is_erased_while_jobs_are_running_leaves_nothing(teams):
    teams.share("platform", "rhythm", "moods")
    subscribe(teams, "rhythm", "moods")
    teams.segue("platform", "backfill", "--all")
    with run_workers(teams, *GRAPHS):
        for team in ("rhythm", "moods"):  # whichever comes first
            teams.segue(team, "request", "music/0.wav", "--all")
        found = teams.segue("platform", "erase", "music/0.wav", "--yes", "--timeout", "120s")
        assert found["complete"], found
    assert list_artifacts(teams, "0.wav") == []
    assert teams.segue("platform", "erase", "music/0.wav", "--dry-run")["complete"]


def test_a_file_is_taken_down_in_the_cloud_form(
    teams, bucket, firestore_url, pubsub_emulator, project, monkeypatch
):
    monkeypatch.setenv(emulators.PUBSUB.variable, pubsub_emulator)
    move_to_cloud(teams, bucket, firestore_url, project)
    for team in ("platform", "rhythm"):
        graph = read_graph(str(teams.folder / team / "jobs.yaml"), {})
        queue = PubsubQueue(teams.environ[team]["SEGUE_QUEUE"])
        make_topics(queue, list_topics(graph), list_subscriptions(graph))
        teams.backfill(team)
    uri = f"gs://{bucket}/music/0.wav"
    with run_workers(teams, "rhythm"):
        found = teams.segue("platform", "erase", uri, "--yes", "--timeout", "120s")
        assert found["complete"], found
    [file] = found["files"]
    assert file["media"] == {"exists": True, "delete": f"gcloud storage rm {uri}"}
    removed = {n["namespace"]: n["removed"] for n in file["namespaces"]}
    assert removed == {"platform": 1, "rhythm": 1}
    with closing(connect_store(f"gs://{bucket}")) as store:
        left = [one.name for team in ("platform", "rhythm") for one in store.list(f"{team}/")]
        assert len([name for name in left if "/0.wav/" in name]) == 0
        assert len([name for name in left if "/1.wav/" in name]) == 2
        sound = store.read("music/0.wav")
        store.create("music/0.wav", sound, content_type="audio/wav", metadata={}, replace=True)
    assert teams.backfill("platform") == {"downsample": {"current": 1, "erased": 1}}
