"""Three teams on one catalogue: each computes its own jobs, from what the others publish."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from segue.adapters.connect import connect_store
from segue.testing.music import music
from segue.testing.sound import write

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


def test_two_namespaces_in_the_cloud_form(teams, bucket, firestore_url):
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
            "SEGUE_QUEUE": "pubsub://acme-audio",
            "SEGUE_ARTIFACTS": f"gs://{bucket}/{team}",
        }
    teams.share("platform", "rhythm")
    assert teams.backfill("rhythm", code=4)["platform/downsample"] == {"waiting": 2}
    assert teams.backfill("platform") == {"downsample": {"done": 2}}
    assert teams.backfill("rhythm")["beats"] == {"done": 2}
    assert teams.backfill("rhythm") == {"beats": {"current": 2}}
