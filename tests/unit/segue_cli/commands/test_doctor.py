"""The checks of the installation, the settings and the connections, with hints."""

from __future__ import annotations

import shutil

import pytest

LEDGER = ("--ledger", "sqlite:///ledger.db")


@pytest.fixture(autouse=True)
def _few_programs(tmp_path_factory, monkeypatch):
    """Hide all programs but ffmpeg, because asking gcloud for its version takes seconds."""
    programs = tmp_path_factory.mktemp("programs")
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is not None:  # else there is the one of imageio-ffmpeg
        (programs / "ffmpeg").symlink_to(ffmpeg)
    monkeypatch.setenv("PATH", str(programs))


def test_all_that_is_needed_is_there(segue, project):
    project.media("song.wav")
    said = segue("doctor", *LEDGER, "--catalogue", "music", "--json")
    found = {f["name"]: f for f in said.json["findings"]}
    assert [f for f in said.json["findings"] if f["status"] == "fault"] == []
    assert (said.code, said.json["ok"]) == (0, True)
    assert found["graph"]["detail"].endswith(": 3 jobs, and their code matches")
    assert found["catalogue"]["detail"] == f"file://{project.folder}/music, with objects in it"
    assert found["ledger"]["detail"] == "sqlite:///ledger.db, empty"
    assert found["apache-beam"]["detail"][0].isdigit()
    assert found["ffmpeg"]["detail"][0].isdigit()
    assert (found["gcloud"]["status"], found["gcloud"]["detail"]) == ("note", "not installed")


def test_looking_makes_nothing(segue, folder):
    said = segue("doctor")
    assert said.code == 0
    assert "will be created when needed" in said.out
    assert list(folder.iterdir()) == []


def test_each_fault_is_reported_with_a_hint(segue, project):
    (project.folder / "file").write_text("")
    project.change_graph(
        'jobs: {a: {run: "no.such:job", needs: {media: source}, writes: application/json}}'
    )
    said = segue(
        *("doctor", "--ledger", "sqlite:///file/ledger.db", "--json"),
        *("--catalogue", "nowhere", "--artifacts", "file/artifacts"),
    )
    faults = {f["name"]: f for f in said.json["findings"] if f["status"] == "fault"}
    assert said.code == 1
    assert set(faults) == {"graph", "catalogue", "artifacts", "ledger"}
    assert "there is no module 'no'" in faults["graph"]["detail"]
    assert "does not exist" in faults["catalogue"]["detail"]
    assert "is not a folder" in faults["artifacts"]["detail"]


def test_a_graph_that_cannot_be_read_does_not_stop_the_rest(segue, project):
    project.change_graph("jobs: 1")
    said = segue("doctor", *LEDGER)
    assert said.code == 1
    assert "write at least one job" in said.out
    assert "✓  ledger" in said.out
    assert "1 fault." in said.out


def test_it_says_whether_the_secrets_of_jobs_can_be_read(segue, project, monkeypatch):
    run = "run: 'segue_support.jobs:fine', needs: {media: source}, writes: application/json"
    project.change_graph(f"jobs: {{a: {{{run}, secrets: {{key: 'env:SPEECH_KEY'}}}}}}")
    for value, status, detail in (
        ("", "fault", "jobs.a.secrets.key: the environment variable is not set; set it"),
        ("hunter2", "ok", "1 secret can be read"),
    ):
        monkeypatch.setenv("SPEECH_KEY", value)
        said = segue("doctor", *LEDGER, "--json")
        [found] = [f for f in said.json["findings"] if f["name"] == "secrets"]
        assert (found["status"], found["detail"]) == (status, detail)
        assert "hunter2" not in said.out
