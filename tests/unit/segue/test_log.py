"""A line of the log cannot talk to the terminal, as JSON or as text."""

from __future__ import annotations

import io
import json
import logging
import threading

import pytest

from segue.log import (
    LOGGER,
    Action,
    PrintableFormatter,
    add_common_fields,
    configure,
    log_event,
)

NAME = "gs://b/\x1b[2J\x9b\u202e\udcff.wav"


@pytest.fixture
def log():
    """Log an event and a message, and return the lines."""
    before = (LOGGER.handlers[:], LOGGER.propagate, LOGGER.level)

    def log(*, as_json: bool) -> list[str]:
        stream = io.StringIO()
        configure(as_json=as_json, stream=stream)
        log_event(Action.FAILED, severity="WARNING", file=NAME, job=None)
        LOGGER.info("something about %s", NAME)
        return stream.getvalue().removesuffix("\n").split("\n")

    yield log
    LOGGER.handlers[:], LOGGER.propagate, level = before
    LOGGER.setLevel(level)


def test_json_lines_are_printable_and_hold_the_name(log):
    event, _ = log(as_json=True)
    assert event.isprintable()
    assert json.loads(event) == {"severity": "WARNING", "action": "failed", "file": NAME}


def test_a_file_gets_the_same_events_with_their_time_and_may_be_moved(log, tmp_path, monkeypatch):
    path = tmp_path / "log.jsonl"
    path.write_text("before\n")
    monkeypatch.setenv("SEGUE_LOG_FILE", str(path))
    shown = log(as_json=False)
    path.rename(tmp_path / "old.jsonl")
    log_event(Action.DONE, job="beats")
    first, event, message = (tmp_path / "old.jsonl").read_text().splitlines()
    assert first == "before"
    found = json.loads(event)
    assert found.pop("time").endswith("+00:00")
    assert found == {"severity": "WARNING", "action": "failed", "file": NAME}
    assert json.loads(message)["message"] == f"something about {NAME}"
    assert json.loads(path.read_text())["job"] == "beats"
    assert len(shown) == 2


@pytest.mark.parametrize(
    ("level", "logged"), [("debug", 2), ("info", 2), ("warning", 1), ("error", 0), ("loud", 2)]
)
def test_only_events_of_a_level_and_above_are_logged(log, tmp_path, monkeypatch, level, logged):
    path = tmp_path / "log.jsonl"
    monkeypatch.setenv("SEGUE_LOG_FILE", str(path))
    monkeypatch.setenv("SEGUE_LOG_LEVEL", level)
    assert len([line for line in log(as_json=True) if line]) == logged
    assert (len(path.read_text().splitlines()) if path.exists() else 0) == logged


def test_a_file_that_cannot_be_written_stops_nobody(log, monkeypatch):
    monkeypatch.setenv("SEGUE_LOG_FILE", "/dev/full")
    assert len(log(as_json=True)) == 2


def test_readable_lines_are_printable_and_say_the_level(log):
    lines = log(as_json=False)
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)
    assert r"warning: failed file=gs://b/\x1b[2J\x9b\u202e\udcff.wav" in lines[0]


def test_the_records_of_others_are_printable():
    record = logging.LogRecord("x", logging.INFO, "f", 1, "a %s", (NAME,), None)
    assert PrintableFormatter("%(message)s").format(record).isprintable()


def test_common_fields_are_in_all_events_of_a_thread_for_a_while(caplog, monkeypatch):
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.__dict__["segue"])
    caplog.set_level(logging.INFO, LOGGER.name)
    monkeypatch.setattr(LOGGER, "handlers", [handler])
    with add_common_fields(namespace="moods"):
        with add_common_fields(file="a"):
            log_event(Action.DONE, job="mood")
        thread = threading.Thread(target=log_event, args=(Action.DONE,))
        thread.start()
        thread.join()
        log_event(Action.DONE, namespace="own")
    log_event(Action.DONE)
    assert [{k: line[k] for k in line if k not in ("severity", "action")} for line in lines] == [
        {"namespace": "moods", "file": "a", "job": "mood"},
        {},
        {"namespace": "own"},
        {},
    ]
