"""Comparisons of a new version of a job with results of an old one."""

from __future__ import annotations

import os
import sqlite3
import sys
from contextlib import closing

import pytest

from segue.testing.sound import tone, write
from segue_cli.exit_code import ExitCode

GRAPH = """
artifacts: artifacts
jobs:
  level:
    run: compared_jobs:level
    needs: {media: source}
    writes: application/json
    params: {gain: 1.0}
    version: 1
  twice:
    run: compared_jobs:double
    needs: {value: level}
    writes: application/json
"""
CODE = """
def level(media, *, gain: float):
    name = media.path.rpartition("/")[2]
    if gain > 2 and media.audio().sr == 8000:
        raise ValueError("too loud")
    return {"level": gain * len(media.audio().y), "unit": "samples"}

def double(value):
    return {"level": 2 * value["level"]}
"""
LEDGER = ("--ledger", "sqlite:///ledger.db")
SAMPLE_OF_TWO = ("compare", "level", "--sample", "2", "--json")


def set_gain(folder, gain, version=1):
    text = GRAPH.replace("gain: 1.0", f"gain: {gain}").replace("version: 1", f"version: {version}")
    (folder / "jobs.yaml").write_text(text)


@pytest.fixture
def project(folder, segue):
    """Four files with results of both jobs, with a gain of 1."""
    set_gain(folder, 1.0)
    (folder / "compared_jobs.py").write_text(CODE)
    (folder / "music").mkdir()
    for number, rate in enumerate((44100, 22050, 8000, 16000)):
        write(tone(440.0, 0.1, sr=rate), str(folder / f"music/new\nline-{number}.wav"))
    before = list(sys.path)
    said = segue("backfill", "--prefix", "music", "--all", *LEDGER)
    assert said.code == 0, said.err
    yield folder
    sys.path[:] = before
    sys.modules.pop("compared_jobs", None)


def list_artifacts():
    return sorted(os.path.join(at, name) for at, _, names in os.walk("artifacts") for name in names)


def test_each_field_is_compared_and_nothing_is_recorded(segue, project):
    set_gain(project, 2.0)
    artifacts = list_artifacts()
    status = segue("status", *LEDGER, "--json").json
    found = segue("compare", "level", *LEDGER, "--json").json
    assert (len(found["files"]), found["changed"], found["available"]) == (4, 4, 4)
    level, unit = found["fields"]
    assert (level["field"], level["files"], level["changed"]) == ("level", 4, 4)
    assert (level["old_mean"], level["new_mean"]) == (2253.75, 4507.5)
    assert (level["median"], level["largest"]) == (1600.0, 4410.0)
    assert (unit["changed"], unit["old_mean"]) == (0, None)
    assert found["old_cpu_s"] > 0
    assert list_artifacts() == artifacts
    assert segue("status", *LEDGER, "--json").json == status


def test_the_files_that_differ_most_are_named(segue, project):
    set_gain(project, 2.0)
    said = segue("compare", "level", *LEDGER, "--rows", "1")
    assert said.code == 0
    assert "4 of them changed (100 %)" in said.out
    assert "4410.0" in said.out
    assert "8820.0  file:///" in said.out
    assert "/music/new\\nline-0.wav" in said.out
    assert "1.wav" not in said.out
    assert "CPU per file: " in said.out


def test_a_job_below_a_changed_one_is_computed_from_the_new_one(segue, project):
    set_gain(project, 2.0)
    (level,) = segue("compare", "twice", *LEDGER, "--json").json["fields"]
    assert (level["old_mean"], level["new_mean"]) == (4507.5, 9015.0)


def test_a_sample_is_the_same_each_time(segue, project):
    set_gain(project, 2.0)
    chosen = [
        [file["uri"] for file in segue(*SAMPLE_OF_TWO, *LEDGER).json["files"]] for _ in range(2)
    ]
    first, again = chosen
    assert len(first) == 2
    assert first == again


def test_the_old_version_is_named_by_its_number_or_fingerprint(segue, project):
    set_gain(project, 1.0, version=2)
    said = segue("compare", "level", *LEDGER, "--from", "1", "--json")
    assert said.code == 0, said.err
    by_number = said.json
    assert by_number["changed"] == 0
    start = by_number["old"][:4]
    assert (
        segue("compare", "level", *LEDGER, "--from", start, "--json").json["old"]
        == (by_number["old"])
    )


def test_a_file_for_which_the_new_version_fails_is_named(segue, project):
    set_gain(project, 3.0)
    said = segue("compare", "level", *LEDGER)
    assert said.code == ExitCode.FAILURES
    assert "failed: file://" in said.out
    assert "2.wav: level: ValueError: too loud" in said.out


def test_an_old_result_that_cannot_be_read_is_named(segue, project):
    (artifact,) = [path for path in list_artifacts() if "/level/" in path and "1.wav" in path]
    os.remove(artifact)
    set_gain(project, 2.0)
    said = segue("compare", "level", *LEDGER)
    assert said.code == ExitCode.FAILURES
    assert "old result unreadable: file://" in said.out


MOODS = """
namespace: moods
artifacts: moods
registry: registry
jobs:
  mood: {run: "compared_jobs:double", needs: {value: platform/level}, writes: application/json}
"""
PLATFORM_LEDGER = ("--ledger", "sqlite:///platform.db")
MOODS_LEDGER = ("--graph", "moods.yaml", "--ledger", "sqlite:///moods.db")


@pytest.fixture
def moods(segue, project):
    """Another team, of whose four files with results platform has one no longer."""
    platform = (
        (project / "jobs.yaml").read_text().replace("version: 1", "version: 1\n    publish: true")
    )
    (project / "jobs.yaml").write_text(f"namespace: platform\nregistry: registry{platform}")
    (project / "moods.yaml").write_text(MOODS)
    backfill = ("backfill", "--prefix", "music", "--all")
    for arguments in (
        ("publish", *PLATFORM_LEDGER),
        (*backfill, *PLATFORM_LEDGER),
        ("lock", *MOODS_LEDGER[:2]),
        (*backfill, *MOODS_LEDGER),
    ):
        said = segue(*arguments)
        assert said.code == 0, said.err
    (project / "moods.yaml").write_text(MOODS.replace("writes", "version: 2, writes"))


def forget(pattern):
    """Let platform have no results of some files."""
    with closing(sqlite3.connect("platform.db")) as database, database:
        database.execute("DELETE FROM files WHERE uri LIKE ?", (pattern,))


def test_a_file_that_lacks_a_result_of_another_namespace_is_left_out(segue, moods):
    forget("%1.wav")
    said = segue("compare", "mood", *MOODS_LEDGER)
    assert said.code == 0, said.err
    assert "on 3 files of 4 with the old one" in said.out
    assert "left out: file://" in said.out
    assert "1.wav: platform/level has no result of this version of file://" in said.out
    (left_out,) = segue("compare", "mood", *MOODS_LEDGER, "--json").json["left_out"]
    assert left_out.endswith("1.wav")


def test_if_all_files_lack_a_result_of_another_namespace_that_is_an_error(segue, moods):
    forget("%")
    said = segue("compare", "mood", *MOODS_LEDGER)
    assert said.code == ExitCode.USAGE
    assert "no file can be compared: platform/level has no result" in said.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["levl"], "did you mean 'level'?"),
        (["level"], "of an older version; there is nothing to compare with"),
        (["level", "--from", "1"], "is the present version of 'level'"),
        (["level", "--from", "beef"], "no file has a result of 'level' of version beef"),
        (["level", "--sample", "0"], "write a whole number of at least 1"),
    ],
)
def test_a_wrong_use_is_refused(segue, project, arguments, said):
    refused = segue("compare", *arguments, *LEDGER)
    assert refused.code == 2
    assert said in refused.err
