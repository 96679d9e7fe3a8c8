"""A new project: what is written, and what is never overwritten."""

from __future__ import annotations

import json

import pytest
import yaml
from packaging.requirements import Requirement

from segue.extras import DISTRIBUTION
from segue.model.artifact import find_version
from segue.model.graph import read_graph
from segue.model.graph_schema import build_schema
from segue.model.job_code import check_code
from segue.model.shipped_graphs import DEFAULT_PATH
from segue_cli.project_files import MODULES, read_deployment
from segue_support.paths import ROOT

FILES = {
    ".github/workflows/ci.yml",
    ".gitignore",
    "README.md",
    "brightness.py",
    "conftest.py",
    "infra/README.md",
    "infra/container/.gcloudignore",
    "infra/container/Dockerfile",
    "infra/container/Dockerfile.dockerignore",
    "infra/envs/dev.gcs.tfbackend",
    "infra/envs/dev.tfvars",
    "infra/main.tf",
    "infra/outputs.tf",
    "infra/providers.tf",
    "infra/variables.tf",
    "jobs.schema.json",
    "jobs.yaml",
    "requirements-dev.txt",
    "requirements.txt",
    "tests/test_brightness.py",
    "wheels/README.md",
}


def leave_out_modules(names):
    return {name for name in names if not name.startswith(MODULES)}


def list_files(folder):
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def read_requirements(path):
    lines = path.read_text().splitlines()
    return {r.name: r for r in map(Requirement, (n for n in lines if n and n[0] not in "#-"))}


def test_a_project_is_written_whose_code_fits_its_graph(segue, folder):
    said = segue("init", "features")
    assert said.code == 0
    assert leave_out_modules(list_files(folder / "features")) == FILES
    check_code(read_graph("features/jobs.yaml", {}))
    first, *_ = (folder / "features/jobs.yaml").read_text().splitlines()
    assert first == "# yaml-language-server: $schema=jobs.schema.json"
    assert json.loads((folder / "features/jobs.schema.json").read_text()) == build_schema()
    assert "cd features" in said.out
    assert "segue backfill" in said.out


def test_a_project_can_be_started_right_here(segue, folder):
    found = segue("init", "--json").json
    assert leave_out_modules(found["written"]) == FILES
    assert set(found["written"]) == list_files(folder)
    assert (found["kept"], found["removed"]) == ([], [])
    assert not any(step.startswith("cd") for step in found["next"])


def test_nothing_that_exists_is_overwritten(segue, folder):
    (folder / "jobs.yaml").write_text("mine")
    said = segue("init")
    assert said.code == 2
    assert "jobs.yaml" in said.err
    assert "--force" in said.err
    assert [p.name for p in folder.iterdir()] == ["jobs.yaml"]
    assert (folder / "jobs.yaml").read_text() == "mine"


def test_force_overwrites(segue, folder):
    (folder / "jobs.yaml").write_text("mine")
    assert segue("init", "--force").code == 0
    assert read_graph("jobs.yaml", {}).jobs


@pytest.mark.parametrize(
    "name", [".gitignore", "README.md", "requirements.txt", ".github/workflows/ci.yml"]
)
def test_a_project_that_is_there_keeps_its_own_papers(segue, folder, name):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("mine")
    said = segue("init")
    assert said.code == 0
    assert f"kept  ./{name}, which already exists" in said.out
    assert ("add .segue/ to it" in said.out) == (name == ".gitignore")
    assert (f"add {DISTRIBUTION}==" in said.out) == (name == "requirements.txt")
    assert (folder / name).read_text() == "mine"


@pytest.mark.parametrize("name", ["file", "file/inside"])
def test_a_place_that_cannot_be_written_is_refused(segue, folder, name):
    (folder / "file").write_text("")
    said = segue("init", name)
    assert said.code == 2
    assert "'file" in said.err
    assert list_files(folder) == {"file"}


def test_nothing_is_written_if_a_file_is_where_a_folder_belongs(segue, folder):
    (folder / "tests").write_text("mine")
    said = segue("init")
    assert said.code == 2
    assert "'./tests' is no folder, and files of the project belong into it" in said.err
    assert list_files(folder) == {"tests"}


def test_a_link_to_nowhere_and_a_folder_are_kept_like_files(segue, folder):
    (folder / "README.md").symlink_to("nowhere")
    (folder / "requirements.txt").mkdir()
    said = segue("init")
    assert said.code == 0
    assert "kept  ./README.md" in said.out
    assert f"add {DISTRIBUTION}==" in said.out
    assert not (folder / "nowhere").exists()


def test_the_step_into_a_folder_is_no_option_of_the_shell(segue, folder):
    assert segue("init", "--json", "--", "-dash").json["next"][0] == "cd ./-dash"


def test_what_segues_modules_do_not_have_is_removed_aloud_and_through_no_link(segue, folder):
    assert segue("init", "one").code == segue("init", "two").code == 0
    (folder / "one/infra/segue/extra.tf").write_text("mine")
    (folder / "two/infra/segue").rename(folder / "two/infra/kept")
    (folder / "two/infra/segue").symlink_to(folder / "one/infra/segue")
    said = segue("init", "--deployment", "two")
    assert said.code == 2
    assert "'two/infra/segue/' is not a copy of Segue's Terraform modules" in said.err
    assert (folder / "one/infra/segue/extra.tf").exists()
    said = segue("init", "--deployment", "one")
    assert "removed one/infra/segue/extra.tf, which Segue's Terraform does not have" in said.out


def test_a_project_can_start_from_a_graph_that_ships_with_segue(segue, folder):
    found = segue("init", "--graph", "default", "light", "--json").json
    code = {"brightness.py", "conftest.py", "tests/test_brightness.py"}
    assert leave_out_modules(found["written"]) == FILES - code | {"tests/test_graph.py"}
    assert read_graph("light/jobs.yaml", {}).jobs.keys() == read_graph(DEFAULT_PATH, {}).jobs.keys()
    assert found["next"][0] == "cd light"
    said = segue("init", "--graph", "defualt", "other")
    assert said.code == 2
    assert "'default'" in said.err
    assert not (folder / "other").exists()


@pytest.mark.parametrize(
    ("graph", "extras"), [("default", {"pipelines"}), ("tags", {"models", "pipelines"})]
)
def test_a_project_needs_this_version_of_segue_with_what_its_graph_needs(
    segue, folder, graph, extras
):
    segue("init", "--graph", graph)
    found = read_requirements(folder / "requirements.txt")[DISTRIBUTION]
    assert (str(found.specifier), found.extras) == (f"=={find_version()}", extras)
    for_tests = read_requirements(folder / "requirements-dev.txt")
    assert for_tests.keys() == {DISTRIBUTION, "pytest"}
    assert for_tests[DISTRIBUTION].specifier == found.specifier


def test_a_project_has_the_versions_that_segue_was_tested_with(segue, folder):
    segue("init")
    constraints = read_requirements(folder / "infra/segue/constraints.txt")
    locked = (ROOT / "locks/pipelines.txt").read_text()
    assert len(constraints) > 100
    assert locked.count("\n    --hash") > len(constraints)
    assert all(f"{one.name}{one.specifier}" in locked for one in constraints.values())
    beam = constraints["apache-beam"].specifier
    assert (
        f"apache/beam_python3.11_sdk:{str(beam)[2:]}@sha256"
        in (folder / "infra/envs/dev.tfvars").read_text()
    )
    assert f"--constraint {MODULES}constraints.txt" in (folder / "requirements.txt").read_text()


def test_no_placeholder_is_left_in_a_project(segue, folder):
    segue("init")
    own = leave_out_modules(list_files(folder))
    assert [name for name in own if "@SEGUE@" in (folder / name).read_text()] == []
    assert [name for name in own if "@VERSION@" in (folder / name).read_text()] == []


def test_the_workflow_of_a_project_runs_what_its_readme_says(segue, folder):
    segue("init")
    [job] = yaml.safe_load((folder / ".github/workflows/ci.yml").read_text())["jobs"].values()
    runs = [step["run"] for step in job["steps"] if "run" in step]
    assert runs[1:5] == ["segue models get", "segue graph --check", "pytest", "segue test"]
    assert runs[5] == "segue package --all"
    ours = (ROOT / ".github/workflows/ci.yml").read_text()
    for step in job["steps"]:
        assert step.get("uses", "actions/checkout@v5") in ours


def test_an_existing_project_gets_what_deploys_it_and_keeps_the_rest(segue, folder):
    segue("init", "features")
    project = folder / "features"
    code = FILES - leave_out_modules(read_deployment(None))
    for name in FILES - code - {"infra/main.tf"}:
        (project / name).unlink()
    (project / "infra/main.tf").write_text("mine")
    found = segue("init", "--deployment", "features", "--json").json
    assert leave_out_modules(found["written"]) == FILES - code - {"infra/main.tf"}
    assert found["kept"] == ["infra/main.tf"]
    assert (project / "infra/main.tf").read_text() == "mine"
    assert "segue package --all" in found["next"]


def test_after_an_upgrade_the_modules_are_those_of_the_new_version(segue, folder):
    segue("init")
    expected = {n: (folder / n).read_text() for n in list_files(folder / ".")}
    (folder / "infra/segue/main.tf").write_text("of an old version")
    (folder / "infra/segue/modules/gone").mkdir()
    (folder / "infra/segue/modules/gone/main.tf").write_text("of an old version")
    found = segue("init", "--deployment", "--json").json
    assert found["removed"] == ["infra/segue/modules/gone/main.tf"]
    assert leave_out_modules(found["written"]) == set()
    assert {n: (folder / n).read_text() for n in list_files(folder / ".")} == expected


def test_a_folder_that_is_not_segues_is_never_replaced(segue, folder):
    (folder / "infra/segue").mkdir(parents=True)
    (folder / "infra/segue/main.tf").write_text("mine")
    for options in ([], ["--force"], ["--deployment"]):
        (folder / "jobs.yaml").unlink(missing_ok=True)
        if options == ["--deployment"]:
            (folder / "jobs.yaml").write_text("jobs: {}\n")
        said = segue("init", *options)
        assert said.code == 2
    assert "not a copy of Segue's Terraform modules" in segue("init", "--force").err
    assert list_files(folder) == {"infra/segue/main.tf", "jobs.yaml"}
    assert (folder / "infra/segue/main.tf").read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--deployment"], "'.' has no jobs.yaml to deploy"),
        (["--deployment", "--force"], "--deployment keeps what is there"),
        (["--deployment", "--graph", "tags"], "--deployment keeps what is there"),
    ],
)
def test_a_deployment_is_of_a_project_that_is_there(segue, folder, options, message):
    said = segue("init", *options)
    assert said.code == 2
    assert message in said.err
    assert list(folder.iterdir()) == []
