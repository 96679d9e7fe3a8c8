"""What jobs print, and how far they say that they are, reaches whoever runs them, in any way."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

SEGUE = os.path.join(os.path.dirname(sys.executable), "segue")
PATIENCE_S = 120.0
GRAPH = """
catalogue: music
include: ["*.wav"]
jobs:
  slow: {run: "loud:slow", needs: {media: source}, writes: application/json}
  dies: {run: "loud:dies", needs: {media: source}, writes: application/json}
"""
JOBS = """
import os, subprocess, time
import segue

def slow(media):
    print("loading", end=" ")
    print("weights \\x1b[31m")
    os.write(1, b"from C \\xff\\n")
    subprocess.run(["echo", "from a process"], check=True)
    segue.progress(0.4, "separating")
    while not os.path.exists("release"):
        time.sleep(0.02)
    return {}

def dies(media):
    os.write(2, b"cannot go on")
    os.abort()
"""
PRINTED = ["loading weights \\x1b[31m", "from C \\xff", "from a process"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "music").mkdir()
    (tmp_path / "jobs.yaml").write_text(GRAPH)
    (tmp_path / "loud.py").write_text(JOBS)
    (tmp_path / "music" / "a.wav").write_bytes(b"sound")
    return tmp_path


def environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("SEGUE_")}
    return {**kept, "TERM": "xterm-256color", "NO_COLOR": "1"}


class Program:
    """A command that runs, and the text that it prints."""

    def __init__(self, folder: Path, *arguments: str, terminal: bool = False) -> None:
        self.text = ""
        ours, theirs = pty.openpty() if terminal else os.pipe()
        if terminal:
            fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
        self.process = subprocess.Popen(
            [SEGUE, *arguments], cwd=folder, env=environment(), stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        self._end = ours
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # of a terminal that nobody has open any more
            while data := os.read(self._end, 2**16):
                self.text += data.decode()
        os.close(self._end)

    def wait_for(self, *parts: str) -> None:
        wait_until(lambda: all(part in self.text for part in parts), lambda: self.text)

    def end(self, number: int | None = None) -> str:
        """Wait for the exit, after a signal if one is given; return all that was printed."""
        if number is not None:
            self.process.send_signal(number)
        self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        return self.text


def wait_until(condition: Callable[[], bool], describe: Callable[[], str] = str) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end_s, describe()
        time.sleep(0.05)


@pytest.fixture
def start(place: Path) -> Iterator[Callable[..., Program]]:
    programs: list[Program] = []

    def start(*arguments: str, terminal: bool = False) -> Program:
        programs.append(Program(place, *arguments, terminal=terminal))
        return programs[-1]

    yield start
    (place / "release").touch()
    for program in programs:
        program.process.kill()
        program.process.wait()


def explain(place: Path, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [SEGUE, "explain", "music/a.wav", "--json", *arguments],
        cwd=place,
        env=environment(),
        capture_output=True,
        check=True,
        timeout=PATIENCE_S,
    )
    return {job["job"]: job for job in json.loads(done.stdout)["jobs"]}


def read_lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def test_a_run_shows_it_on_standard_error(place, start):
    (place / "release").touch()
    text = start("run", "slow", "music/a.wav").end()
    assert [line for line in text.splitlines() if line.startswith("slow a.wav")] == [
        f"slow a.wav: {line}" for line in PRINTED
    ]


def test_what_is_printed_at_import_is_no_part_of_the_result(place):
    (place / "release").touch()
    with (place / "loud.py").open("a") as file:
        file.write("print('imported')\n")
    done = subprocess.run(
        [SEGUE, "run", "slow", "music/a.wav", "--json"],
        cwd=place,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_S,
    )
    assert json.loads(done.stdout)["result"] == {}
    assert "worker: imported\n" in done.stderr


def test_a_run_in_a_terminal_shows_how_far_the_job_is(place, start):
    program = start("run", "slow", "music/a.wav", terminal=True)
    program.wait_for("slow a.wav: from a process", "40 %  slow a.wav  separating")
    (place / "release").touch()
    assert "slow took" in program.end()


def test_a_backfill_shows_it_and_explain_tells_how_far_it_is(place, start):
    program = start("backfill", "--job", "slow")
    program.wait_for(*(f"slow a.wav: {line}\n" for line in PRINTED))
    wait_until(lambda: explain(place)["slow"]["running"] is not None)
    found = explain(place)["slow"]
    assert (found["running"]["fraction"], found["running"]["text"]) == (0.4, "separating")
    assert found["reason"].startswith("since ")
    assert ", 40 % separating; process " in found["reason"]
    (place / "release").touch()
    assert "1 file examined" in program.end()
    assert explain(place)["slow"]["running"] is None
    assert not (place / ".segue" / "ledger.db.running").exists()


@pytest.mark.parametrize(
    "options", [[], ["--direct_num_workers", "2", "--direct_running_mode", "multi_processing"]]
)
def test_in_a_terminal_lines_are_above_the_bar_which_has_a_line_for_each_job(place, start, options):
    program = start("backfill", "--job", "slow", *options, terminal=True)
    program.wait_for("slow a.wav: from a process\r\n", "40 %  slow a.wav  separating")
    (place / "release").touch()
    text = program.end()
    for line in PRINTED:  # each as a whole, and followed by the bar
        assert text.count(f"slow a.wav: {line}\r\n") == 1
    assert "progress" not in text


def test_the_last_words_of_a_job_that_dies_are_kept(place, start):
    text = start("backfill", "--job", "dies").end()
    assert "dies a.wav: cannot go onFatal Python error: Aborted\n" in text
    assert "crashed 1" in text


@pytest.mark.parametrize("arguments", [["work"], ["stream"]])
def test_a_streaming_worker_logs_it_with_job_and_file(place, start, arguments):
    (place / "release").touch()
    start("request", "music/a.wav", "--job", "slow", "--job", "dies").end()
    text = start(*arguments, "--all", "--json", "--until-idle", "3").end()
    lines = [line for line in read_lines(text) if line["action"] == "printed"]
    uri = f"file://{place}/music/a.wav"
    slow = [line for line in lines if line["job"] == "slow"]
    assert [line["text"] for line in slow] == PRINTED
    assert {(line["file"], line["severity"]) for line in lines} == {(uri, "INFO")}
    assert "cannot go onFatal Python error: Aborted" in [line["text"] for line in lines]


def test_up_shows_it_and_says_how_far_it_is(place, start):
    program = start("up", terminal=True)
    program.wait_for("stream slow: slow a.wav: from a process", "Running", "40 %  slow a.wav")
    assert explain(place)["slow"]["running"]["text"] == "separating"
    (place / "release").touch()
    program.wait_for("dies a.wav: cannot go onFatal Python error: Aborted")
    assert "Stopped: 1 file arrived" in program.end(signal.SIGINT)


def test_up_writes_a_line_for_each_line_to_a_pipe(place, start):
    (place / "release").touch()
    text = start("up", "--until-idle", "3").end()
    assert [line for line in text.splitlines() if line.startswith("stream slow: slow a.wav")] == [
        f"stream slow: slow a.wav: {line}" for line in PRINTED
    ]


def test_a_killed_backfill_leaves_nothing_that_is_taken_for_running(place, start):
    program = start("backfill", "--job", "slow")
    wait_until(lambda: list(place.glob(".segue/*.running/*.running")) != [])
    program.end(signal.SIGKILL)
    found = explain(place)["slow"]
    assert found["running"] is None
    assert "is dead" in found["reason"]
