"""What jobs print and report is logged, or written where nobody has set up a log."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from segue.log import LOGGER, configure
from segue.worker.job_log import AGAIN_S, FIRST_S, ProgressLog, show_line
from segue.worker.protocol import Line
from segue.worker.running_job import RunningJob

LINE = Line("beats", "file:///music/song.flac", 1, "140 BPM")
BATCH = Line("model", "file:///music/song.flac", 16, "loaded")
SETUP = Line("model", "", 1, "loading")
NOTHING = Line("", "", 0, "a traceback")
JOB = RunningJob(
    job="beats",
    uris=("file:///music/song.flac",),
    since=datetime(2026, 1, 2, tzinfo=UTC),
    fraction=1 / 3,
    text="tracking",
)


@pytest.fixture
def log() -> Iterator[Callable[..., io.StringIO]]:
    """Set up a log, and return what is written to it."""
    before = (LOGGER.handlers[:], LOGGER.propagate, LOGGER.level)

    def set_up(*, as_json: bool) -> io.StringIO:
        stream = io.StringIO()
        configure(as_json=as_json, stream=stream)
        return stream

    yield set_up
    LOGGER.handlers[:], LOGGER.propagate, level = before
    LOGGER.setLevel(level)


def test_for_people_a_line_stands_behind_its_job_and_file(log) -> None:
    stream = log(as_json=False)
    for line in (LINE, BATCH, SETUP, NOTHING):
        show_line(line)
    assert stream.getvalue().splitlines() == [
        "beats song.flac: 140 BPM",
        "model 16 files: loaded",
        "model: loading",
        "worker: a traceback",
    ]


def test_for_programs_it_has_job_and_file(log) -> None:
    stream = log(as_json=True)
    for line in (LINE, BATCH):
        show_line(line)
    one, many = map(json.loads, stream.getvalue().splitlines())
    assert one == {
        "severity": "INFO",
        "action": "printed",
        "job": "beats",
        "file": "file:///music/song.flac",
        "text": "140 BPM",
    }
    assert (many["job"], many["files"], "file" in many) == ("model", 16, False)


def test_without_a_log_it_goes_to_standard_error(log, capsys: pytest.CaptureFixture[str]) -> None:
    LOGGER.handlers.clear()
    LOGGER.setLevel(logging.NOTSET)
    show_line(LINE)
    assert capsys.readouterr().err == "beats song.flac: 140 BPM\n"


def test_progress_is_logged_now_and_then(log) -> None:
    stream, now_s = log(as_json=True), [0.0]
    shown = ProgressLog(clock=lambda: now_s[0])
    silent = RunningJob(job="slow", uris=(), since=JOB.since)
    times = [0.0, FIRST_S - 1, FIRST_S, FIRST_S + 1, FIRST_S + AGAIN_S - 1, FIRST_S + AGAIN_S]
    logged = []
    for now_s[0] in times:
        shown.show([JOB, silent])
        logged.append(len(stream.getvalue().splitlines()))
    assert logged == [0, 0, 1, 1, 1, 2]
    assert json.loads(stream.getvalue().splitlines()[0]) == {
        "severity": "INFO",
        "action": "progress",
        "job": "beats",
        "file": "file:///music/song.flac",
        "fraction": 0.3333,
        "text": "tracking",
    }


def test_for_people_progress_is_a_percentage(log) -> None:
    stream, now_s = log(as_json=False), [0.0]
    shown = ProgressLog(clock=lambda: now_s[0])
    for now_s[0] in (0.0, FIRST_S):
        shown.show([JOB])
    assert stream.getvalue().endswith(" beats song.flac: 33 % tracking\n")
