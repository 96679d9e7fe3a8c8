"""Each file that a pipeline leaves out is named in the log, and counted in its metrics."""

from __future__ import annotations

import logging

import apache_beam as beam

from segue.log import LOGGER
from segue.model.object_store import LeftOutReason
from segue_pipelines.left_out import SAMPLES, LeftOutReporter, read_left_out
from segue_pipelines.options import parse_pipeline_options
from segue_pipelines.runner import run_pipeline


def leave_out(number: int) -> None:
    reporter = LeftOutReporter()
    for i in range(number):
        reporter.report(f"file:///music/caf\udce9 {i:03}.wav", LeftOutReason.NOT_UTF8, "rename it")
    reporter.report("file:///music/lost+found/", LeftOutReason.UNREADABLE, "give permission")


def test_all_are_logged_and_counted_and_some_are_named_in_the_metrics(monkeypatch):
    lines: list[dict] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.segue)
    monkeypatch.setattr(LOGGER, "handlers", [handler])
    number = SAMPLES + 3
    result = run_pipeline(
        lambda pipeline: pipeline | beam.Create([number]) | beam.Map(leave_out),
        parse_pipeline_options(),
    )
    assert len(lines) == number + 1
    assert lines[0]["file"] == r"file:///music/caf\xe9 000.wav"
    assert (lines[0]["kind"], lines[0]["reason"]) == ("not_utf8", "rename it")
    counts, names = read_left_out(result)
    assert counts == {"not_utf8": number, "unreadable": 1}
    assert names["not_utf8"] == [rf"file:///music/caf\xe9 {i:03}.wav" for i in range(SAMPLES)]
    assert names["unreadable"] == ["file:///music/lost+found/"]
