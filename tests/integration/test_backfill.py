"""The backfill, from a folder of sound to features: real processes and files, embedded stack."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from segue.adapters.connect import connect_ledger, connect_store
from segue.model.artifact import Lineage, compute_checksum
from segue.model.graph import read_graph
from segue.model.ledger import Query, find_records_by_state
from segue.model.media_file import parse_location
from segue.model.record import State
from segue.model.transitions import find_entry, is_current
from segue.testing.music import music
from segue.testing.sound import silence, tone, write
from segue_cli.main import main

pytestmark = pytest.mark.xdist_group("backfill")  # its catalogue is computed once

SEGUE = os.path.join(os.path.dirname(sys.executable), "segue")
GRAPH = os.path.join(os.path.dirname(__file__), "../../shared/segue/features/jobs.yaml")
LINE = ("downsample", "beats", "energy")
ANY_NAME = """
catalogue: music
include: ["*"]
jobs:
  fine: {run: "segue_support.jobs:fine", needs: {media: source}, writes: application/json}
"""


def segue(folder: Path, *arguments: str, code: int = 0, environ: dict | None = None) -> dict:
    """Run a command in a folder; returns its JSON."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SEGUE_")}
    done = subprocess.run(
        [SEGUE, *arguments, "--json"],
        cwd=folder,
        env=clean | (environ or {}),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout)


def statuses(summary: dict) -> dict[str, dict[str, int]]:
    return {job: found["statuses"] for job, found in summary["jobs"].items()}


def artifacts(folder: Path) -> dict[str, bytes]:
    root = folder / ".segue/artifacts"
    files = [p for p in root.rglob("*") if p.is_file() and p.relative_to(root).parts[0] != "_runs"]
    return {str(p.relative_to(root)): p.read_bytes() for p in files}


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("catalogue")
    song = music(1, bpm=120, duration_s=8.0)
    write(song, str(folder / "song.mp3"))
    (folder / "a folder/ü").mkdir(parents=True)
    write(song, str(folder / "a folder/ü/song two.flac"))
    write(tone(440, 3.0, sr=8000), str(folder / "tone.wav"))
    write(silence(2.0, sr=96000, channels=2), str(folder / "silence.ogg"))
    write(music(2, bpm=100, duration_s=6.0), str(folder / "other.m4a"))
    (folder / "empty.mp3").write_bytes(b"")
    (folder / "text.mp3").write_text("not a sound at all\n" * 40)
    whole = (folder / "a folder/ü/song two.flac").read_bytes()
    (folder / "cut.flac").write_bytes(whole[: len(whole) // 2])
    return folder


@pytest.fixture(scope="module")
def finished(catalogue, tmp_path_factory) -> tuple[Path, dict]:
    """A folder with the computed energies of the catalogue, and the output of that run."""
    folder = tmp_path_factory.mktemp("finished")
    summary = segue(folder, "backfill", "--prefix", str(catalogue), "--job", "energy", code=3)
    return folder, summary


def test_a_feature_is_computed_parents_first_and_siblings_never(finished):
    folder, summary = finished
    assert summary["files"] == 8
    assert statuses(summary) == {
        "downsample": {"done": 5, "failed": 3},
        "beats": {"done": 5, "blocked": 3},
        "energy": {"done": 5, "blocked": 3},
    }
    assert summary["failed_files"] == 3
    assert {name.split("/")[0] for name in artifacts(folder)} == {"downsample", "beats", "energy"}


def test_bad_media_are_recorded_by_kind(finished):
    folder, summary = finished
    assert summary["jobs"]["downsample"]["failures"] == {"corrupt_media": 3}
    ledger = connect_ledger(f"sqlite:///{folder}/.segue/ledger.db")
    graph = read_graph(GRAPH, {})
    failed = find_records_by_state(ledger, graph, ("downsample",), (State.FAILED,), "")
    errors = {r.uri.rpartition("/")[2]: find_entry(graph, r, "downsample").error for r in failed}
    assert set(errors) == {"empty.mp3", "text.mp3", "cut.flac"}
    assert all(error.kind == "corrupt_media" and error.message for error in errors.values())
    ledger.close()


def test_features_match_the_sound(finished):
    folder, _ = finished
    beats = {n: json.loads(b) for n, b in artifacts(folder).items() if n.startswith("beats/")}
    tempo = {n.split("/")[-2]: v["tempo_bpm"] for n, v in beats.items()}
    # librosa's tempo comes in steps of a tempogram frame, 3 % at these tempos.
    assert tempo["song.mp3"] == pytest.approx(120, rel=0.04)
    assert tempo["song two.flac"] == pytest.approx(120, rel=0.04)
    assert tempo["other.m4a"] == pytest.approx(100, rel=0.04)
    assert tempo["silence.ogg"] is None


def test_a_second_run_does_nothing(finished, catalogue):
    folder, _ = finished
    before = artifacts(folder)
    again = ("backfill", "--prefix", str(catalogue), "--job", "energy")
    summary = segue(folder, *again, code=3)
    assert statuses(summary)["energy"] == {"blocked": 3, "current": 5}
    assert summary["failed_files"] == 3
    third = segue(folder, *again, "--tolerate", "40%")
    assert {**third, "run": None} == {**summary, "run": None}
    assert artifacts(folder) == before


def test_artifacts_have_their_lineage(finished):
    folder, _ = finished
    store = connect_store(str(folder / ".segue/artifacts"))
    ledger = connect_ledger(f"sqlite:///{folder}/.segue/ledger.db")
    prints = read_graph(GRAPH, {}).fingerprints
    done = [r for r in ledger.find(Query()) if is_current(read_graph(GRAPH, {}), r, "energy")]
    assert len(done) == 5
    for record in done:
        names = {job: record.name_artifacts(prints[job])[0] for job in LINE}
        lineage = Lineage.from_metadata(store.stat(names["energy"]).metadata)
        assert (lineage.uri, lineage.version) == (record.uri, record.version)
        assert lineage.fingerprint == prints["energy"]
        assert lineage.parents == {job: names[job] for job in ("downsample", "beats")}
        (checksum,) = record.results[prints["energy"]].checksums.values()
        assert compute_checksum(store.read(names["energy"])) == checksum
    ledger.close()


def test_a_changed_parameter_makes_its_job_and_those_below_stale(finished, catalogue, tmp_path):
    folder, _ = finished
    text = Path(GRAPH).read_text()
    changed = text.replace(
        "needs: {audio: downsample}\n    writes: application/json",
        "needs: {audio: downsample}\n    writes: application/json\n    params: {start_bpm: 100.0}",
    )
    assert changed != text
    (tmp_path / "jobs.yaml").write_text(changed)
    summary = segue(
        folder,
        *("plan", "--graph", str(tmp_path / "jobs.yaml")),
        *("--prefix", str(catalogue), "--job", "energy"),
    )
    found = statuses(summary)
    assert found["beats"] == {"blocked": 3, "todo": 5}
    assert found["energy"] == {"blocked": 3, "todo": 5}
    assert found["downsample"] == {"current": 5, "failed_before": 3}
    assert summary["estimate"]["complete"] is True
    assert summary["estimate"]["vcpu_hours"] > 0


def test_an_overwritten_file_is_computed_again_and_tolerated_failures_are_no_failure(
    catalogue, tmp_path
):
    copy = tmp_path / "copy"
    shutil.copytree(catalogue, copy)
    command = ("backfill", "--prefix", str(copy), "--job", "downsample")
    segue(tmp_path, *command, "--tolerate", "40%")
    write(tone(880, 2.0), str(copy / "tone.wav"))
    summary = segue(tmp_path, *command, code=3)
    assert statuses(summary)["downsample"] == {"current": 4, "done": 1, "failed_before": 3}
    segue(tmp_path, *command, "--tolerate", "10%", "--retry-failed", code=3)


def test_every_engine_writes_the_same_bytes(finished, catalogue, tmp_path):
    folder, _ = finished
    segue(
        tmp_path,
        *("backfill", "--prefix", str(catalogue), "--job", "downsample"),
        *("--direct_running_mode", "multi_processing", "--direct_num_workers", "2"),
        code=3,
    )
    expected = {n: data for n, data in artifacts(folder).items() if n.startswith("downsample/")}
    assert len(expected) == 5
    assert artifacts(tmp_path) == expected


def test_a_dry_run_leaves_no_trace(catalogue, tmp_path):
    summary = segue(tmp_path, "backfill", "--prefix", str(catalogue), "--job", "beats", "--dry-run")
    assert statuses(summary) == {"downsample": {"todo": 8}, "beats": {"todo": 8}}
    assert list(tmp_path.iterdir()) == []


def test_a_list_of_files_limits_the_backfill(catalogue, tmp_path):
    (tmp_path / "list.txt").write_text(f"{catalogue}/tone.wav\n{catalogue}/gone.wav\n")
    command = ("--uris", "list.txt", "--job", "downsample")
    for name in ("plan", "backfill"):
        summary = segue(tmp_path, name, *command, code=3)
        assert summary["left_out"] == {"missing": 1}
        assert summary["left_out_names"] == {"missing": [f"file://{catalogue}/gone.wav"]}
    assert statuses(summary) == {"downsample": {"done": 1}}
    segue(tmp_path, "backfill", *command, "--tolerate", "50%")


def test_what_cannot_be_processed_is_named_and_everything_else_is_done(
    tmp_path, monkeypatch, capfd
):
    (tmp_path / "jobs.yaml").write_text(ANY_NAME)
    music = tmp_path / "music"
    (music / "sub").mkdir(parents=True)
    (music / "sub/a\u2028b\n.wav").write_bytes(b"x")
    os.symlink("..", music / "sub/loop")
    os.mkfifo(music / "radio.wav")
    with open(os.fsencode(music) + b"/caf\xe9.wav", "wb"):
        pass
    monkeypatch.chdir(tmp_path)
    assert main(["backfill", "--prefix", "music", "--all"]) == 3
    shown = capfd.readouterr()
    assert "1 file examined" in shown.out
    assert "left out: 1 not_utf8, 1 special_file; the log names each" in shown.out
    assert "caf\\xe9.wav kind=not_utf8 reason=its name is not UTF-8; rename it" in shown.err
    assert "radio.wav kind=special_file" in shown.err
    (tmp_path / "list").write_bytes(
        b"\0".join(os.fsencode(music / n) for n in ("sub/a\u2028b\n.wav", "caf\udce9.wav"))
    )
    summary = segue(tmp_path, "plan", "--uris", "list", "--all", code=3)
    assert summary["files"] == 1
    assert summary["left_out"] == {"not_utf8": 1}


def test_worker_processes_name_the_files_that_they_leave_out(tmp_path):
    (tmp_path / "jobs.yaml").write_text(ANY_NAME)
    (tmp_path / "music").mkdir()
    lines = [f"{tmp_path}/music/{number:03}.wav" for number in range(150)]
    (tmp_path / "list").write_text("\n".join(lines))
    done = subprocess.run(
        [
            *(SEGUE, "plan", "--all", "--uris", "list", "--json"),
            *("--direct_running_mode", "multi_processing", "--direct_num_workers", "2"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 3
    assert all(f"left_out file=file://{line} kind=missing" in done.stderr for line in lines)
    summary = json.loads(done.stdout)
    assert summary["left_out"] == {"missing": 150}
    assert summary["left_out_names"] == {"missing": [f"file://{line}" for line in lines[:100]]}


def test_a_list_that_is_missing_is_a_mistake_of_the_caller(tmp_path, monkeypatch, capfd):
    (tmp_path / "jobs.yaml").write_text(ANY_NAME)
    monkeypatch.chdir(tmp_path)
    assert main(["plan", "--all", "--uris", "none"]) == 2
    assert "none' does not exist" in capfd.readouterr().err


def test_the_ledger_and_the_queue_in_the_catalogue_are_not_media(tmp_path):
    (tmp_path / "jobs.yaml").write_text(ANY_NAME)
    music = tmp_path / "music"
    music.mkdir()
    for name in ("a.wav", "queue.db", "queue.db-wal"):
        (music / name).write_bytes(b"x")
    (tmp_path / "list.txt").write_text("music/a.wav\nmusic/ledger.db\nmusic/queue.db-wal\n")
    databases = {"SEGUE_LEDGER": f"sqlite:///{music}/ledger.db"}
    databases["SEGUE_QUEUE"] = f"sqlite:///{music}/queue.db"
    assert segue(tmp_path, "backfill", "--all", environ=databases)["files"] == 1
    assert (music / "ledger.db").exists()
    assert segue(tmp_path, "plan", "--all", environ=databases)["files"] == 1
    assert segue(tmp_path, "plan", "--all", "--prefix", "music", environ=databases)["files"] == 1
    summary = segue(tmp_path, "backfill", "--all", "--uris", "list.txt", environ=databases, code=3)
    assert summary["files"] == 1
    assert summary["left_out"] == {"not_media": 2}


def test_a_prefix_without_files_is_not_an_empty_catalogue(catalogue, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    for prefix in ("sonk", "son"):
        assert main(["backfill", "--prefix", f"{catalogue}/{prefix}", "--job", "beats"]) == 2
        assert "check the path" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--job", "enregy"], "did you mean 'energy'"),
        ([], "no job is named"),
        (["--job", "energy", "--limt", "3"], "--limit"),
        (["--job", "energy", "--tolerate", "lots"], "write 1% or 0.01"),
        (["--job", "energy", "--uris", "none.txt"], "leave it or them out"),
    ],
)
def test_a_wrong_command_line_is_an_error_with_a_hint(
    catalogue, tmp_path, monkeypatch, capfd, arguments, message
):
    monkeypatch.chdir(tmp_path)
    assert main(["backfill", "--prefix", str(catalogue), *arguments]) == 2
    said = capfd.readouterr().err
    assert message in said
    assert "Traceback" not in said
    assert not (tmp_path / ".segue").exists()


KILL_JOBS = """
import os, time

def note(name, media):
    with open(os.environ["RUNS"], "a") as file:
        file.write(f"{name} {media}\\n")
    time.sleep(0.004)

def first(media):
    note("first", media.uri)
    return {"uri": media.uri}

def second(above):
    note("second", above["uri"])
    return {"uri": above["uri"], "filler": "x" * 20000}
"""
KILL_GRAPH = """
jobs:
  first: {run: "kill_jobs:first", needs: {media: source}, writes: application/json}
  second: {run: "kill_jobs:second", needs: {above: first}, writes: application/json}
"""


def test_killed_again_and_again_every_file_is_done_once_and_no_artifact_is_partial(tmp_path):
    (tmp_path / "kill_jobs.py").write_text(KILL_JOBS)
    (tmp_path / "jobs.yaml").write_text(KILL_GRAPH)
    files = 600
    (tmp_path / "catalogue").mkdir()
    for i in range(files):
        (tmp_path / f"catalogue/{i:04}.wav").write_bytes(b"x")
    command = [SEGUE, "backfill", "--prefix", "catalogue", "--job", "second", "--json"]
    environ = {**os.environ, "RUNS": str(tmp_path / "runs")}
    (tmp_path / "runs").touch()
    rng = random.Random(7)
    kills = 0
    for _ in range(8):
        size = os.path.getsize(tmp_path / "runs")
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        # Starting takes most of a run's time: wait for the work to begin, then kill at random.
        while process.poll() is None and os.path.getsize(tmp_path / "runs") == size:
            time.sleep(0.005)
        time.sleep(rng.random() * 0.25)
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
    assert kills >= 5
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    ledger = connect_ledger(f"sqlite:///{tmp_path}/.segue/ledger.db")
    store = connect_store(str(tmp_path / ".segue/artifacts"))
    runs = Counter((tmp_path / "runs").read_text().splitlines())
    records = ledger.find(Query(), limit=10_000)
    assert len(records) == files
    for record in records:
        assert sorted(entry.job for entry in record.results.values()) == ["first", "second"]
        for fingerprint, entry in record.results.items():
            assert entry.state is State.DONE
            assert entry.lease is None
            (name,), (checksum,) = record.name_artifacts(fingerprint), entry.checksums.values()
            assert compute_checksum(store.read(name)) == checksum
            # Each run was claimed before: a second one only after a lost
            # lease.
            assert 1 <= runs[f"{entry.job} {record.uri}"] <= entry.attempts
    ledger.close()
    assert len(artifacts(tmp_path)) == 2 * files
    left = [n for _, _, names in os.walk(tmp_path / ".segue") for n in names if "unfinished" in n]
    assert left == []
    assert parse_location(str(tmp_path / "catalogue")) in records[0].uri
