"""The wheel is all that a project needs: it installs by its name, and brings what is deployed."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from segue.extras import DISTRIBUTION
from segue_cli.function_archive import FUNCTIONS
from segue_support.environments import environ, find_uv
from segue_support.paths import ROOT

COPIES = "segue_cli/deployed/"
# What is a root module's own, and this repository's: a project has its own.
LEFT_OUT = ("envs/", "tests/", "README.md", "providers.tf")
INSTALL_S = 300.0
GRAPH = """
catalogue: ${SEGUE_CATALOGUE}
artifacts: ${SEGUE_ARTIFACTS}
jobs:
  a: {run: "m:f", needs: {media: source}, writes: application/json}
"""

pytestmark = pytest.mark.xdist_group("installed")  # the wheel is built and installed once


def list_tracked(*folders: str) -> set[str]:
    command = ["git", "ls-files", "-z", *folders]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {name for name in listed.split("\0") if name}


def test_it_holds_what_is_deployed_beside_the_code(wheel):
    with zipfile.ZipFile(wheel) as file:
        held = {n.removeprefix(COPIES): file.read(n) for n in file.namelist() if COPIES in n}
    expected = {
        name
        for name in list_tracked("infra")
        if not name.startswith(tuple(f"infra/{one}" for one in LEFT_OUT)) and "/tests/" not in name
    }
    assert held.keys() == expected | {"locks/functions.txt", "locks/pipelines.txt"}
    assert [name for name, data in held.items() if data != (ROOT / name).read_bytes()] == []


def test_it_holds_the_consoles_pages_and_the_licences_of_what_they_load(wheel):
    tracked = list_tracked("console")
    with zipfile.ZipFile(wheel) as file:
        held = {f"console/{n}": file.read(n) for n in file.namelist() if n[:13] == "segue_console"}
        licences = [n for n in file.namelist() if ".dist-info/licenses/" in n]
    assert held.keys() == tracked
    assert [name for name, data in held.items() if data != (ROOT / name).read_bytes()] == []
    beside = {name.rpartition("/")[2] for name in tracked if name.endswith(".LICENSE")}
    assert len(beside) == 4
    assert {name.rpartition("/")[2] for name in licences} == beside | {"LICENSE"}


def test_the_action_that_publishes_it_knows_its_metadata(wheel, tmp_path):
    """Twine 6, which that action brings, refuses a later version, as older installers may."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=INSTALL_S)
    [sdist] = tmp_path.iterdir()
    with zipfile.ZipFile(wheel) as file:
        [name] = [n for n in file.namelist() if n.endswith(".dist-info/METADATA")]
        texts = [file.read(name)]
    with tarfile.open(sdist) as archive:
        [info] = [n for n in archive.getnames() if n.count("/") == 1 and n.endswith("/PKG-INFO")]
        texts.append(archive.extractfile(info).read())
    assert [message_from_bytes(text)["Metadata-Version"] for text in texts] == ["2.4", "2.4"]


def test_its_extras_need_no_package_that_has_its_import_name(wheel):
    """Of that name is a package of somebody else; an extra that names it would install that."""
    with zipfile.ZipFile(wheel) as file:
        [name] = [n for n in file.namelist() if n.endswith(".dist-info/METADATA")]
        found = message_from_bytes(file.read(name))
    assert found["Name"] == DISTRIBUTION
    assert found["Requires-Python"] == "<3.14,>=3.11"
    needed = [Requirement(text) for text in found.get_all("Requires-Dist")]
    assert [r for r in needed if "segue" in r.name] == []
    pipelines = {r.name for r in needed if r.marker and r.marker.evaluate({"extra": "pipelines"})}
    assert {"apache-beam", "librosa", "click", "google-cloud-firestore"} <= pipelines


def test_it_runs_from_an_environment_that_an_installer_has_made(wheel, tmp_path):
    """The packages are those of the lock; the registry is asked for those that uv has not kept."""
    command = [
        *(find_uv(), "tool", "run", "--isolated", "--quiet", "--python", sys.executable),
        *("--find-links", str(wheel.parent), "--constraints", str(ROOT / "locks/pipelines.txt")),
        # Of the same version, uv would take one that it has kept.
        *("--refresh-package", DISTRIBUTION),
        *("--from", f"{DISTRIBUTION}[cli]", "segue", "--version"),
    ]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=environ(),
        capture_output=True,
        text=True,
        timeout=INSTALL_S,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "segue 0.1.0\n"), done.stderr


def test_it_builds_the_archives_that_the_source_tree_builds(editable, with_all, tmp_path):
    archives = []
    for name, environment in (("tree", editable), ("wheel", with_all)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "jobs.yaml").write_text(GRAPH)
        environment.run(environment.segue, "package", "--all", cwd=folder)
        archives.append({p.name: p.read_bytes() for p in Path(folder, "build").iterdir()})
    assert archives[0] == archives[1]
    assert archives[0].keys() == {"graph.json", *(f"{name}.zip" for name in FUNCTIONS)}


def test_it_writes_the_project_that_the_source_tree_writes(editable, with_cli, tmp_path):
    projects = []
    for name, environment in (("tree", editable), ("wheel", with_cli)):
        folder = tmp_path / name
        folder.mkdir()
        environment.run(environment.segue, "init", cwd=folder)
        files = {p.relative_to(folder): p for p in folder.rglob("*") if p.is_file()}
        projects.append({path: file.read_text() for path, file in files.items()})
    assert projects[0] == projects[1]
    assert len(projects[0]) > 80
