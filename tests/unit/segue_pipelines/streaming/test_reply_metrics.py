"""What a streaming run serves, and what it reports."""

from __future__ import annotations

import logging

import pytest

from segue.errors import ConfigurationError
from segue.execution.reply import Reply
from segue.execution.streaming_run import StreamingRun
from segue.execution.work import ReceivedMessage
from segue.log import Action
from segue.model.graph import parse_graph
from segue.model.message import Message
from segue.model.record import Failure, State
from segue.model.transitions import Result
from segue_pipelines.streaming.reply_metrics import report

GRAPH = parse_graph(
    """
pipelines: {rhythm: [beats, tempo]}
jobs:
  beats: {run: "m:f", needs: {media: source}, writes: application/json}
  tempo: {run: "m:f", needs: {beats: beats}, writes: application/json}
  loudness: {run: "m:f", needs: {media: source}, writes: application/json}
"""
)


def build_run(*pipelines: str) -> StreamingRun:
    return StreamingRun(
        graph=GRAPH, pipelines=pipelines, ledger="none", artifacts="none", queue="none"
    )


def test_it_runs_the_jobs_of_its_pipelines():
    assert build_run("rhythm").jobs == {"beats", "tempo"}
    assert build_run("rhythm", "loudness").jobs == {"beats", "tempo", "loudness"}


@pytest.mark.parametrize(
    ("pipelines", "message"),
    [
        ((), "no pipeline is named; name some of rhythm, loudness with --pipeline"),
        (("rhythms",), "'rhythms' is not a pipeline of this graph; did you mean 'rhythm'"),
        (("beats",), "'beats' is not a pipeline of this graph"),
    ],
)
def test_only_pipelines_of_the_graph_can_be_run(pipelines, message):
    with pytest.raises(ConfigurationError, match=message):
        build_run(*pipelines)


@pytest.fixture
def logged(caplog, monkeypatch):
    """Return a function that lists the logged events."""
    monkeypatch.setattr(logging.getLogger("segue"), "propagate", True)
    caplog.set_level(logging.INFO, logger="segue")
    return lambda: [r.segue for r in caplog.records if hasattr(r, "segue")]


def test_each_result_of_a_reply_is_a_line_and_failures_are_warnings(logged):
    error = Failure(kind="timeout", type="JobTimeout", message="it took too long")
    results = (
        Result(
            job="beats", state=State.DONE, artifacts={"beats/x": ""}, seconds=1.5, cpu_seconds=1.0
        ),
        Result(job="tempo", state=State.FAILED, error=error, seconds=2.0),
    )
    message = Message(uri="gs://b/a.wav", version="1", order=1, trigger="source")
    received = ReceivedMessage(pipeline="rhythm", data=b"", message_id="17")
    report(Reply(received=received, message=message, action=Action.DONE, results=results))
    lines = [(x["severity"], x["action"], x["pipeline"], x["job"], x["file"]) for x in logged()]
    assert lines == [
        ("INFO", "done", "rhythm", "beats", "gs://b/a.wav"),
        ("WARNING", "failed", "rhythm", "tempo", "gs://b/a.wav"),
    ]


def test_a_message_that_led_to_no_job_is_one_line_of_its_pipeline(logged):
    received = ReceivedMessage(pipeline="rhythm", data=b"", message_id="17")
    report(Reply(received=received, action=Action.DEAD_LETTERED, reason="decode: poison"))
    ((line),) = logged()
    assert "job" not in line
    assert (line["severity"], line["pipeline"]) == ("WARNING", "rhythm")
    assert line["reason"] == "decode: poison"
