"""Models are listed with their licences, and got by name; a run that lacks one does not start."""

from __future__ import annotations

import hashlib
import json
import os

import pytest

from segue.model.built_in_models import BUILT_IN
from segue_cli.commands.models import complete_words
from segue_cli.main import load_command

MODEL = b"a model" * 1000
SHA256 = hashlib.sha256(MODEL).hexdigest()
GRAPH = """
models:
  tiny@1:
    source: models/tiny.onnx
    sha256: "SHA"
    purpose: to test
    licence: MIT
    licence_file: LICENSE
    size_bytes: 7000
  tiny@2: {source: models/tiny.onnx, sha256: "SHA"}
jobs:
  fine:
    run: segue_support.jobs:weigh_model
    needs: {media: source}
    writes: application/json
    params: {model: tiny@1}
  after: {run: "segue_support.jobs:after", needs: {value: fine}, writes: application/json}
  beside: {run: "segue_support.jobs:fine", needs: {media: source}, writes: application/json}
""".replace("SHA", SHA256)


@pytest.fixture
def graph(project, folder, monkeypatch):
    (folder / "models").mkdir()
    (folder / "models/tiny.onnx").write_bytes(MODEL)
    (folder / "LICENSE").write_text("do as you like")
    monkeypatch.setenv("SEGUE_MODELS", str(folder / "kept"))
    project.change_graph(GRAPH)
    return project


def test_the_list_has_those_of_the_graph_and_of_segue(segue, graph):
    lines = segue("models").out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["tiny@1", "tiny@2", *BUILT_IN]
    (tiny,) = [line for line in lines if line.startswith("tiny@1")]
    assert tiny.split() == ["tiny@1", "6.8", "KiB", "MIT", "no", "fine", "to", "test"]


def test_json_says_all_and_where_the_licence_is(segue, graph):
    segue("models", "get", "tiny@1")
    found = {model["model"]: model for model in segue("models", "--json").json["models"]}
    tiny = found["tiny@1"]
    assert (tiny["licence"], tiny["sha256"], tiny["jobs"]) == ("MIT", SHA256, ["fine"])
    with open(tiny["path"], "rb") as file:
        assert file.read() == MODEL
    with open(tiny["licence_text"]) as file:
        assert file.read() == "do as you like"
    assert (found["musicnn@1"]["path"], found["musicnn@1"]["licence_text"]) == (None, None)


def test_without_a_name_those_are_got_that_the_jobs_name(segue, graph, folder):
    said = segue("models", "get")
    assert (said.code, said.out) == (0, "")
    assert "tiny@1 is in" in said.err
    assert [p.name for p in (folder / "kept").iterdir()] == ["tiny@1"]
    assert "nothing to get" in segue("models", "get").err


def test_a_name_without_a_version_is_that_of_the_newest(segue, graph):
    assert "tiny@2 is in" in segue("models", "get", "tiny").err
    assert segue("models", "get", "tiny", "tiny@1", "--json").json["models"][1]["from"] == "source"


def test_a_dry_run_downloads_nothing(segue, graph, folder):
    said = segue("models", "get", "--all", "--dry-run")
    assert said.code == 0
    assert len(said.out.splitlines()) == 1 + 2 + len(BUILT_IN)
    assert f"{2 + len(BUILT_IN)} models would be downloaded: at least" in said.err
    assert "1 model would be downloaded.\n" in segue("models", "get", "tiny@2", "--dry-run").err
    found = segue("models", "get", "--dry-run", "--json").json
    assert (found["dry_run"], [m["model"] for m in found["models"]]) == (True, ["tiny@1"])
    assert not (folder / "kept").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["get", "tinny"], "did you mean 'tiny'"),
        (["get", "tiny@3"], "did you mean 'tiny@"),
        (["tiny"], "write 'segue models' for the list, or 'segue models get tiny'"),
        (["--all"], "belong to 'segue models get'"),
        (["get", "tiny", "--all"], "leave one out"),
    ],
)
def test_a_wrong_call_is_refused_with_the_remedy(segue, graph, arguments, said):
    found = segue("models", *arguments)
    assert found.code == 2
    assert said in found.err


def test_a_model_with_another_checksum_is_refused_with_that_one(segue, graph, folder):
    (folder / "models/tiny.onnx").write_bytes(b"other")
    said = segue("models", "get")
    assert said.code == 2
    assert hashlib.sha256(b"other").hexdigest() in said.err


def test_a_graph_without_models_says_so(segue, project, monkeypatch, folder):
    monkeypatch.setenv("SEGUE_MODELS", str(folder / "kept"))
    assert "No job of this graph names a model" in segue("models", "get").err


def test_the_doctor_names_a_model_that_is_missing_with_the_command(segue, graph):
    def find() -> dict:
        found = segue("doctor", "--json").json["findings"]
        return next(finding for finding in found if finding["name"] == "models")

    assert (find()["status"], find()["remedy"]) == ("fault", "segue models get tiny@1")
    segue("models", "get")
    assert find()["status"] == "ok"


@pytest.mark.parametrize(
    "command",
    [
        ["run", "after", "music/a.wav"],
        ["work", "--all", "--until-idle", "0"],
        ["stream", "--pipeline", "fine", "--until-idle", "0"],
        ["backfill", "--prefix", "music", "--job", "after"],
        ["up", "music"],
    ],
)
def test_a_missing_model_stops_a_run_before_the_first_file(segue, graph, command):
    media = graph.media("a.wav")
    said = segue(*command)
    assert said.code == 2
    assert "run 'segue models get tiny@1'" in said.err
    assert graph.ledger.read([media.uri])[0].record is None


@pytest.mark.parametrize(
    "command",
    [
        ["run", "beside", "music/a.wav"],
        ["work", "--pipeline", "beside", "--until-idle", "0"],
        ["backfill", "--prefix", "music", "--job", "beside"],
        ["backfill", "--prefix", "music", "--job", "after", "--dry-run"],
        ["plan", "--prefix", "music", "--all"],
        ["graph", "--check"],
    ],
)
def test_what_runs_no_job_with_a_model_needs_none(segue, graph, command):
    graph.media("a.wav")
    assert segue(*command).code == 0


def test_another_folder_for_models_may_be_named_where_jobs_run(segue, graph, folder, monkeypatch):
    monkeypatch.delenv("SEGUE_MODELS")
    graph.media("a.wav")
    assert segue("models", "get", "--models", "other").code == 0
    assert (folder / "other/tiny@1").is_dir()
    run = ("run", "fine", str(folder / "music/a.wav"), "--models", "other")
    assert json.loads(segue(*run).out)["size_bytes"] == len(MODEL)
    assert "SEGUE_MODELS" not in os.environ


def test_names_are_completed_behind_get(graph):
    command = load_command("models")
    (argument,) = [p for p in command.params if p.name == "words"]

    def complete(words: tuple[str, ...], start: str) -> list[str]:
        ctx = command.make_context("models", [*words], resilient_parsing=True)
        ctx.params["words"] = words
        return [item.value for item in complete_words(ctx, argument, start)]

    assert complete((), "g") == ["get"]
    assert complete(("get",), "ti") == ["tiny@1", "tiny@2"]
    assert complete(("get", "tiny@1"), "mus") == ["musicnn@1"]
