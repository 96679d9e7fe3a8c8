"""Jobs that are wrong in the ways that show only with several files or several runs."""

from __future__ import annotations

import sys

import pytest

from segue.execution.job_check import LEAK, RANDOM, check_jobs, read_import_times
from segue.ingest.catalogue import find_media
from segue.model.graph import read_graph
from segue.testing.sound import tone, write

CODE = """
import atexit, os, random, threading
import numpy  # whose threads a worker does not let start
from typing import TypedDict

SEEN = []
atexit.register(print, "the end")  # what a module prints is not what its import costs

class Counted(TypedDict):
    count: int

def fine(media) -> Counted:
    return {"count": len(media.audio().y)}

def leaks(media):
    SEEN.append(media.uri)
    return {"count": len(SEEN)}

def varies(media):
    return {"value": random.random()}

def below(value):
    return value

def wrong(media) -> Counted:
    return {"count": "ten", "more": 1}

def more(media) -> Counted:
    return {"count": 1, "more": 1}

def fails(media):
    return {"rate": 1 / (media.audio().sr - 8000)}
"""
GRAPH = """
jobs:
  fine: {run: "checked_jobs:fine", needs: {media: source}, writes: application/json}
  leaks: {run: "checked_jobs:leaks", needs: {media: source}, writes: application/json}
  varies: {run: "checked_jobs:varies", needs: {media: source}, writes: application/json}
  below: {run: "checked_jobs:below", needs: {value: varies}, writes: application/json}
  wrong: {run: "checked_jobs:wrong", needs: {media: source}, writes: application/json}
  more: {run: "checked_jobs:more", needs: {media: source}, writes: application/json}
  fails: {run: "checked_jobs:fails", needs: {media: source}, writes: application/json}
  songs:
    run: checked_jobs:fine
    needs: {media: source}
    accepts: [image/*]
    writes: application/json
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    (folder / "checked_jobs.py").write_text(CODE)
    (folder / "jobs.yaml").write_text(GRAPH)
    graph = read_graph(str(folder / "jobs.yaml"), {})
    media = [
        find_media(write(tone(440.0, 0.1, sr=rate), str(folder / name)), None)
        for name, rate in (("one.wav", 44100), ("two.wav", 8000))
    ]
    before = list(sys.path)
    try:
        checked = check_jobs(graph, media)
    finally:
        sys.path[:] = before
        sys.modules.pop("checked_jobs", None)
    assert checked.peak_bytes > 2**20
    return {job.job: job for job in checked.jobs}


def test_a_job_that_is_right_has_no_faults(found):
    fine = found["fine"]
    assert (fine.done, fine.faults, fine.warnings) == (2, (), ())
    assert fine.seconds is not None
    assert fine.import_s is not None


def test_a_job_whose_result_depends_on_the_files_before_is_found(found):
    assert found["leaks"].faults == (f"two.wav: {LEAK}",)


def test_a_job_whose_result_changes_from_run_to_run_is_found_and_not_the_one_below_it(found):
    assert found["varies"].faults == (f"one.wav, two.wav: {RANDOM}",)
    assert found["below"].faults == ()


def test_a_result_that_is_not_what_the_code_declares_is_found(found):
    (fault,) = found["wrong"].faults
    assert fault.startswith("one.wav, two.wav: wrong is not what its code declares: ")
    assert "Expected `int`, got `str` - at `$.count`" in fault
    (fault,) = found["more"].faults
    assert fault.endswith("it does not declare 'more'")


def test_a_job_that_fails_is_found_with_its_files(found):
    (fault,) = found["fails"].faults
    assert fault.startswith("two.wav: job_raised: ZeroDivisionError")
    assert found["fails"].done == 1
    (traceback,) = found["fails"].tracebacks
    assert "in fails" in traceback
    assert found["fine"].tracebacks == ()


def test_files_that_a_job_is_not_for_are_counted(found):
    assert (found["songs"].done, found["songs"].not_applicable) == (0, 2)
    assert found["songs"].faults == ()


def test_an_import_is_tried_without_secrets_as_in_a_worker(tmp_path, monkeypatch):
    (tmp_path / "keyed_jobs.py").write_text(
        "import os, sys\n"
        "if 'importtime' in sys._xoptions and 'CHECKED_KEY' in os.environ:\n"
        "    raise RuntimeError(os.environ['CHECKED_KEY'])\n"
        "def keyed(media, *, key: str) -> int: return len(key)\n"
    )
    (tmp_path / "jobs.yaml").write_text(
        "jobs: {keyed: {run: 'keyed_jobs:keyed', needs: {media: source}, writes: "
        "application/json, secrets: {key: 'env:CHECKED_KEY'}}}"
    )
    monkeypatch.setenv("CHECKED_KEY", "hunter2")
    monkeypatch.setattr(sys, "path", [*sys.path])
    graph = read_graph(str(tmp_path / "jobs.yaml"), {})
    media = find_media(write(tone(440.0, 0.1), str(tmp_path / "a.wav")), None)
    (job,) = check_jobs(graph, [media]).jobs
    sys.modules.pop("keyed_jobs")
    assert (job.done, job.faults, job.warnings) == (1, (), ())


def test_import_times_are_read_by_package():
    report = """import time: self [us] | cumulative | imported package
import time:       100 |        100 |   before
import time:        50 |        150 | early
import time:      2000 |       2000 |     heavy.core
import time:      1000 |       3000 |   heavy
import time:         5 |          5 |   light
import time:        10 |       3015 | jobs
import time:       900 |        900 | late
"""
    total_s, packages = read_import_times(report, "jobs")
    assert total_s == pytest.approx(0.003015)
    assert packages == [("heavy", 0.003), ("jobs", 1e-05), ("light", 5e-06)]
