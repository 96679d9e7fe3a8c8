"""Each file that a pipeline leaves out is named in the log, and counted in its metrics."""

from __future__ import annotations

import logging

import apache_beam as beam

from segue.ingest.catalogue import EXCLUDED, NOT_INCLUDED
from segue.log import LOGGER
from segue.model.criteria import Unselected
from segue.model.object_store import LeftOutReason
from segue.model.passed_over import PassedOver
from segue_pipelines.left_out import (
    MAX_SUFFIXES,
    SAMPLES,
    LeftOutReporter,
    read_exclusions,
    read_left_out,
)
from segue_pipelines.options import parse_pipeline_options
from segue_pipelines.runner import run_pipeline


def leave_out(numbers: range) -> None:
    reporter = LeftOutReporter()
    for i in numbers:
        reporter.report(f"file:///music/caf\udce9 {i:03}.wav", LeftOutReason.NOT_UTF8, "rename it")
    reporter.report("file:///music/lost+found/", LeftOutReason.UNREADABLE, "give permission")
    for name in ("a.opus", "b.OPUS", "notes.txt"):
        reporter.pass_over(name, NOT_INCLUDED)
    reporter.pass_over("drafts/a.wav", EXCLUDED)
    reporter.unselect(Unselected.NO_PROBE)
    reporter.flush()


def test_all_are_logged_and_counted_and_the_first_are_named_in_the_metrics(monkeypatch):
    lines: list[dict] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.segue)
    monkeypatch.setattr(LOGGER, "handlers", [handler])
    number = 3 * SAMPLES
    parts = [range(number)[i::2] for i in reversed(range(2))]
    result = run_pipeline(
        # Two steps, and bundles of their own for two parts each.
        lambda pipeline: [
            pipeline
            | f"Make {step}" >> beam.Create(parts)
            | f"Spread {step}" >> beam.Reshuffle()
            | f"Leave out {step}" >> beam.Map(leave_out)
            for step in (1, 2)
        ],
        parse_pipeline_options(["--direct_num_workers=2"]),
    )
    assert len(lines) == 2 * (number + 2)
    named = min(lines, key=lambda line: line["file"])
    assert named["file"] == r"file:///music/caf\xe9 000.wav"
    assert (named["kind"], named["reason"]) == ("not_utf8", "rename it")
    counts, names = read_left_out(result)
    assert read_exclusions(result) == PassedOver(
        not_included={".opus": 8, ".txt": 4}, excluded={".wav": 4}, not_selected={"no_probe": 4}
    )
    assert counts == {"not_utf8": 2 * number, "unreadable": 4}
    assert names["not_utf8"] == [rf"file:///music/caf\xe9 {i:03}.wav" for i in range(SAMPLES)]
    assert names["unreadable"] == ["file:///music/lost+found/"]


def pass_over(names: list[str]) -> None:
    reporter = LeftOutReporter()
    for name in names:
        reporter.pass_over(name, NOT_INCLUDED)
    reporter.flush()


def test_suffixes_without_number_are_counted_as_others_but_for_those_that_may_have_sound():
    names = [*(f"a.x{i}" for i in range(MAX_SUFFIXES + 50)), "b.opus", "c.x0", "d.opus"]
    result = run_pipeline(
        lambda pipeline: pipeline | beam.Create([names]) | beam.Map(pass_over),
        parse_pipeline_options(["--direct_num_workers=1"]),
    )
    found = read_exclusions(result).not_included
    assert sum(found.values()) == len(names)
    assert (len(found), found["other"]) == (MAX_SUFFIXES + 2, 50)
    assert (found[".opus"], found[".x0"]) == (2, 2)
