"""Archives from the command line."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile

import pytest

from segue_cli.function_archive import FUNCTIONS


def test_all_archives_and_the_compiled_graph_are_built_into_a_folder(segue, folder):
    said = segue("package", "--all", "--output", "out", "--json").json
    assert [one["function"] for one in said["archives"]] == list(FUNCTIONS)
    for one in said["archives"]:
        data = (folder / one["path"]).read_bytes()
        assert one["sha256"] == hashlib.sha256(data).hexdigest()
        assert one["size_bytes"] == len(data)
    assert said["graph"] == "out/graph.json"
    written = {p.name for p in (folder / "out").iterdir()}
    assert written == {*(f"{name}.zip" for name in FUNCTIONS), "graph.json"}
    assert json.loads((folder / "out" / "graph.json").read_text())["jobs"]


def test_a_compiled_graph_is_replaced_as_a_whole_so_that_terraform_never_reads_half_of_it(
    segue, folder, project
):
    segue("package", "--all", "--output", "out")
    (folder / "opened.json").hardlink_to(folder / "out" / "graph.json")
    before = (folder / "opened.json").read_bytes()
    assert json.loads(before)["format"] == 4
    with (folder / "jobs.yaml").open("a") as file:
        file.write("# another graph\n")
    segue("package", "--all", "--output", "out")
    assert (folder / "opened.json").read_bytes() == before
    assert (folder / "out" / "graph.json").read_bytes() != before


def test_one_archive_is_built_to_a_file_with_the_graph_that_is_named(segue, folder, project):
    said = segue("package", "arrival", "--output", "here.zip", "--graph", "jobs.yaml")
    assert said.code == 0
    assert "here.zip" in said.out
    with zipfile.ZipFile(folder / "here.zip") as file:
        assert file.read("jobs.yaml") == (folder / "jobs.yaml").read_bytes()


def test_an_archive_of_its_own_name_goes_to_build(segue, folder):
    assert segue("package", "sweep").code == 0
    assert [p.name for p in (folder / "build").iterdir()] == ["sweep.zip"]


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        ((), "name one function, or all"),
        (("arrival", "--all"), "name one function, or all"),
        (("upload",), "arrival, deletion, sweep, request"),
        (("--all", "--output", "x.zip"), "name a folder"),
        (("arrival", "--output", "jobs.yaml/x.zip"), "cannot be written"),
    ],
)
def test_what_cannot_be_built_is_refused(segue, folder, project, arguments, remedy):
    said = segue("package", *arguments)
    assert said.code == 2
    assert remedy in said.err
    assert not list(folder.glob("**/*.zip"))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="/dev/full is missing: not Linux")
def test_a_full_disk_is_no_wrong_argument(segue, folder, project):
    (folder / "arrival.zip.unfinished").symlink_to("/dev/full")
    for command in (("package", "arrival"), ("graph",)):
        path = "arrival.zip" if command[0] == "package" else "/dev/full"
        said = segue(*command, "--output", path)
        assert (said.code, said.out) == (5, "")
        assert f"no room is left to write '{path}'; free some space" in said.err
