"""Progress of workers on one machine."""

from __future__ import annotations

import time

from segue.model.media_file import MediaFile
from segue.model.outcome import Outcome, RunTotals, Status
from segue.model.record import Failure, State
from segue.model.transitions import Result
from segue_pipelines.progress import ProgressWriter, read_progress

MEDIA = MediaFile(uri="gs://bucket/a.wav", version="1", order=1)
ERROR = Failure(kind="timeout", type="JobTimeout", message="too long")
OUTCOME = Outcome(
    media=MEDIA,
    jobs={"a": Status.DONE, "b": Status.FAILED},
    results=(
        Result(job="a", state=State.DONE, cpu_seconds=0.5),
        Result(job="b", state=State.FAILED, error=ERROR),
    ),
)


def count(*outcomes):
    totals = RunTotals()
    for outcome in outcomes:
        totals.add(outcome)
    return totals


def test_the_totals_of_all_workers_add_up(tmp_path):
    for _ in range(3):
        writer = ProgressWriter(str(tmp_path))
        writer.add(count(OUTCOME))
        writer.add(count(OUTCOME))
        writer.flush()
    found = read_progress(str(tmp_path))
    assert found.files == found.failed_files == 6
    assert found.jobs == {"a": {Status.DONE: 6}, "b": {Status.FAILED: 6}}
    assert found.failures == {"b": {"timeout": 6}}
    assert found.cpu_seconds == {"a": 3.0}


def test_a_part_that_has_not_ended_is_shown_and_counted_once(tmp_path, monkeypatch):
    monkeypatch.setattr("segue_pipelines.progress.WRITE_S", -1.0)
    writer = ProgressWriter(str(tmp_path))
    writer.add(count(OUTCOME))
    part = count(OUTCOME)
    for files in (2, 3):
        writer.show(part)
        assert read_progress(str(tmp_path)).files == files
        part.add(OUTCOME)
    writer.add(part)
    assert read_progress(str(tmp_path)).files == 4


def test_the_first_failure_is_written_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("segue_pipelines.progress.WRITE_S", 3600.0)
    done = Outcome(media=MEDIA, jobs={"a": Status.DONE})
    writer = ProgressWriter(str(tmp_path))
    writer._written_at = time.monotonic()
    for outcomes, files in (((done,), 0), ((done, OUTCOME), 2), ((done, OUTCOME, OUTCOME), 2)):
        writer.show(count(*outcomes))
        assert read_progress(str(tmp_path)).files == files


def test_a_missing_folder_fails_neither_writer_nor_reader(tmp_path):
    writer = ProgressWriter(str(tmp_path / "gone"))
    writer.add(count(OUTCOME))
    writer.flush()
    assert read_progress(str(tmp_path / "gone")).files == 0
