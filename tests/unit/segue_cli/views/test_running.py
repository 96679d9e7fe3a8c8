"""What runs, a line for each call, in a terminal and in text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from segue.worker.running_job import RunningJob
from segue_cli.views.output import render_plain
from segue_cli.views.running import describe_running_job, render_progress

NOW = datetime(2026, 1, 2, tzinfo=UTC)
JOB = RunningJob(
    job="separate",
    uris=("file:///music/a/\x1b[31msong.flac",),
    since=NOW - timedelta(seconds=125),
    fraction=0.404,
    text="vocals \x1b[2J",
)
SILENT = msgspec.structs.replace(JOB, fraction=None, text="")
BATCH = msgspec.structs.replace(SILENT, uris=("file:///a", "file:///b"))
SETUP = msgspec.structs.replace(SILENT, uris=())


def test_a_line_has_how_far_it_is_the_job_the_file_and_how_long_it_has_been_running():
    [line] = render_progress([JOB], NOW, limit=5)
    assert line.plain.lstrip("━─") == (
        "  40 %  separate \\x1b[31msong.flac  vocals \\x1b[2J  2 min 05 s"
    )
    assert "\x1b" not in render_plain(line)


def test_only_so_many_lines_are_rendered():
    assert len(render_progress([JOB] * 9, NOW, limit=5)) == 5


def test_a_clock_that_differs_makes_no_negative_time():
    [line] = render_progress([JOB], NOW - timedelta(hours=1), limit=1)
    assert line.plain.endswith("  0 ms")


@pytest.mark.parametrize(
    ("job", "said"),
    [
        (JOB, "separate \\x1b[31msong.flac: 40 % vocals \\x1b[2J"),
        (SILENT, "separate \\x1b[31msong.flac"),
        (BATCH, "separate 2 files"),
        (SETUP, "separate"),
    ],
)
def test_in_text_a_job_is_named_with_its_file(job, said):
    assert describe_running_job(job) == said
