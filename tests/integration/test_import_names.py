"""Segue claims no import name but its own: a user's packages may be called as its folders are."""

from __future__ import annotations

import json
import os
import signal
import time
import zipfile
from pathlib import Path

import pytest

from segue_support.environments import Environment, environ
from segue_support.paths import ROOT
from segue_support.processes import Process

FOLDERS = ("shared", "pipelines", "functions", "cli", "console", "tests", "bench", "infra", "docs")
PACKAGES = {
    "segue": "shared",
    "segue_cli": "cli",
    "segue_console": "console",
    "segue_functions": "functions",
    "segue_pipelines": "pipelines",
}
LOCATE = """
import importlib.util, json, sys
found = {}
for name in sys.argv[1:]:
    spec = importlib.util.find_spec(name)
    places = [] if spec is None else spec.submodule_search_locations or [spec.origin]
    found[name] = list(places)
print(json.dumps(found))
"""
GRAPH = """
catalogue: music
artifacts: artifacts
include: ["*.wav"]
jobs:
  one: {run: "shared.mine:job", needs: {media: source}, writes: application/json}
  two: {run: "pipelines.mine:job", needs: {value: one}, writes: application/json}
  three: {run: "functions.mine:job", needs: {value: two}, writes: application/json}
  four: {run: "jobs.mine:job", needs: {value: three}, writes: application/json}
"""
FIRST = "def job(media):\n    return {'files': [__file__]}\n"
LATER = "def job(value):\n    return {'files': [*value['files'], __file__]}\n"
JOBS = {"one": "shared", "two": "pipelines", "three": "functions", "four": "jobs"}
# A package without this file gives way to any other of its name, wherever that is on the path.
WITH_INIT = ("shared", "pipelines")
PATIENCE_S = 90.0

pytestmark = pytest.mark.xdist_group("installed")  # the wheel is built and installed once


@pytest.fixture(params=["editable", "wheel"])
def environment(request, editable, with_all) -> Environment:
    return editable if request.param == "editable" else with_all


class Project:
    """A user's project whose packages are called as the folders of Segue's source tree are."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.artifacts = folder / "artifacts"
        (folder / "music").mkdir(parents=True)
        (folder / "jobs.yaml").write_text(GRAPH)
        for package in JOBS.values():
            (folder / package).mkdir()
            (folder / package / "mine.py").write_text(FIRST if package == "shared" else LATER)
            if package in WITH_INIT:
                (folder / package / "__init__.py").touch()
        self.files = [str(folder / package / "mine.py") for package in JOBS.values()]

    def add(self, name: str) -> None:
        (self.folder / "music" / name).write_bytes(b"sound")

    def results(self, job: str) -> list[list[str]]:
        """The files of code that each artifact of a job was made by."""
        found = (p for p in self.artifacts.glob(f"{job}/**/*.json") if p.is_file())
        return [json.loads(path.read_text())["files"] for path in found]

    def assert_done(self, files: int = 1) -> None:
        for number, job in enumerate(JOBS, 1):
            assert self.results(job) == [self.files[:number]] * files, job


@pytest.fixture
def project(tmp_path) -> Project:
    made = Project(tmp_path / "project")
    made.add("song.wav")
    return made


def locate(environment: Environment, folder: Path, *names: str) -> dict[str, list[str]]:
    """Where an environment finds modules, from a folder that holds none."""
    done = environment.run(environment.python, "-c", LOCATE, *names, cwd=folder)
    return json.loads(done.stdout)


def test_no_folder_of_the_source_tree_can_be_imported(environment, tmp_path):
    found = locate(environment, tmp_path, *FOLDERS)
    # Another distribution may install a `tests` of its own; ours would be in the source tree.
    assert {name: p for name, p in found.items() if str(ROOT / name) in p} == {}


def test_the_wheel_alone_brings_the_packages_of_segue_and_nothing_else(with_core, tmp_path):
    found = locate(with_core, tmp_path, *FOLDERS, "segue_support", *PACKAGES)
    site = Path(with_core.python).parents[1]
    assert {name for name, places in found.items() if places} == set(PACKAGES)
    assert all(Path(found[name][0]).is_relative_to(site) for name in PACKAGES)


def test_the_clean_environment_does_not_see_the_editable_install(with_all, tmp_path):
    found = locate(with_all, tmp_path, "segue_support", *PACKAGES)
    assert found.pop("segue_support") == []
    site = Path(with_all.python).parents[1]
    assert [p for [p] in found.values() if not Path(p).is_relative_to(site)] == []


def test_the_wheel_holds_every_file_of_the_packages_and_no_test(wheel):
    with zipfile.ZipFile(wheel) as file:
        names = {name for name in file.namelist() if ".dist-info/" not in name}
    expected = {
        str(path.relative_to(ROOT / folder))
        for package, folder in PACKAGES.items()
        for path in (ROOT / folder / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    copied = {name for name in names if name.startswith("segue_cli/deployed/")}
    assert names - copied == expected
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    assert {"segue/features/jobs.yaml", "segue_cli/templates/job/jobs.yaml.template"} <= names


def test_a_job_runs_by_hand(environment, project):
    done = environment.run(environment.segue, "run", "four", "music/song.wav", cwd=project.folder)
    assert json.loads(done.stdout) == {"files": project.files}


def test_a_backfill_runs(with_all, project):
    with_all.run(with_all.segue, "backfill", "--all", cwd=project.folder)
    project.assert_done()


def test_requests_are_streamed(with_all, project):
    asked = ("request", "music/song.wav", "--job", "four")
    with_all.run(with_all.segue, *asked, cwd=project.folder)
    streaming = ("stream", "--all", "--until-idle", "0.5")
    with_all.run(with_all.segue, *streaming, cwd=project.folder)
    project.assert_done()


def test_the_whole_system_runs_until_ctrl_c(environment, project):
    command = [environment.segue, "up", "--json"]
    with Process(command, cwd=str(project.folder), environ=environ()) as up:
        up.wait_for(lambda line: (line.get("process"), line.get("action")) == ("up", "started"))
        project.add("another.wav")
        deadline = time.monotonic() + PATIENCE_S
        while len(project.results("four")) < 2:
            assert time.monotonic() < deadline, up.lines[-20:]
            assert up.is_running, up.text
            time.sleep(0.05)
        os.kill(up.pid, signal.SIGINT)
        assert up.wait(timeout_s=PATIENCE_S) == 0
        assert up.text == []
    project.assert_done(files=2)


def test_the_tests_of_a_new_project_pass(with_all, tmp_path):
    with_all.run(with_all.segue, "init", "features", cwd=tmp_path)
    pytest_ = ("-m", "pytest", "-q", "-p", "no:cacheprovider")
    done = with_all.run(with_all.python, *pytest_, cwd=tmp_path / "features")
    assert "passed" in done.stdout
