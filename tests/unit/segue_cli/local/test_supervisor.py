"""The supervisor, with small programs in place of the real ones."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from segue.backoff import Backoff
from segue_cli.local import supervisor
from segue_cli.local.supervisor import ProgramState, Supervisor

PATIENCE_S = 30.0
WELL = """
import json, os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print(json.dumps({"action": "started", "pid": os.getpid()}), flush=True)
"""
WAIT = "time.sleep(3600)\n"


def runs(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except FileNotFoundError:
        return False


def wait_until(condition) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Recorder:
    """Records what a supervisor reports."""

    def __init__(self):
        self.lines: list[dict] = []
        self.statuses = []
        self.changes = threading.Condition()

    def on_line(self, name, line):
        with self.changes:
            self.lines.append({"name": name, **line})
            self.changes.notify_all()

    def on_change(self, status):
        with self.changes:
            self.statuses.append(status)
            self.changes.notify_all()

    def wait(self, condition):
        with self.changes:
            assert self.changes.wait_for(condition, PATIENCE_S), self.statuses

    def wait_for(self, state):
        self.wait(lambda: any(s.state is state for s in self.statuses))
        return next(s for s in self.statuses if s.state is state)


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def supervise(recorder, monkeypatch):
    monkeypatch.setattr(supervisor, "BACKOFF", Backoff(0.01, 0.01))
    made = []

    def start(source: str) -> Supervisor:
        command = [sys.executable, "-c", textwrap.dedent(source)]
        one = Supervisor(
            "one",
            command,
            environ=os.environ,
            on_line=recorder.on_line,
            on_change=recorder.on_change,
        )
        made.append(one)
        one.thread.start()
        return one

    yield start
    for one in made:
        one.kill()
        one.thread.join()


def stop(one: Supervisor) -> None:
    one.stop()
    one.thread.join(PATIENCE_S)
    assert one.status.state is ProgramState.STOPPED


def test_a_program_is_up_once_it_logs_that(supervise, recorder):
    one = supervise(WELL + WAIT)
    recorder.wait_for(ProgramState.UP)
    ((line),) = recorder.lines
    assert (line["name"], line["action"]) == ("one", "started")
    stop(one)
    assert not runs(line["pid"])


def test_a_program_that_dies_is_restarted(supervise, recorder):
    supervise(WELL + WAIT)
    recorder.wait_for(ProgramState.UP)
    os.kill(recorder.lines[0]["pid"], signal.SIGKILL)
    failure = recorder.wait_for(ProgramState.RESTARTING)
    assert failure.failure == "was killed by SIGKILL"
    recorder.wait(lambda: [s.state for s in recorder.statuses].count(ProgramState.UP) == 2)
    assert recorder.statuses[-1].restarts == 1
    first, again = recorder.lines
    assert first["pid"] != again["pid"]


def test_a_program_with_a_wrong_configuration_is_not_restarted(supervise, recorder):
    supervise("import sys; sys.stderr.write('no such graph\\n'); sys.exit(2)")
    failed = recorder.wait_for(ProgramState.FAILED)
    assert failed.failure == "exited with code 2"
    assert failed.is_misconfigured
    assert failed.tail == ("no such graph",)


def test_a_program_that_fails_again_and_again_is_not_restarted(supervise, recorder):
    supervise("import sys; print('not JSON'); sys.exit(1)")
    failed = recorder.wait_for(ProgramState.FAILED)
    assert failed.restarts == 4
    assert failed.tail == ("not JSON",)


def test_one_that_never_says_that_it_is_up_is_ended(supervise, recorder, monkeypatch):
    monkeypatch.setattr(supervisor, "START_S", 0.3)
    supervise("import time\n" + WAIT)
    status = recorder.wait_for(ProgramState.RESTARTING)
    assert status.failure == "was not up within 0.3 s"


def test_one_that_waits_for_a_server_has_no_time_limit(supervise, recorder, monkeypatch, tmp_path):
    wait = f"""
    import json, os, time
    print(json.dumps({{"action": "unavailable"}}), flush=True)
    while not os.path.exists({str(tmp_path / "back")!r}):
        time.sleep(0.05)
    time.sleep(0.5)
    """
    supervise(textwrap.dedent(wait) + WELL + WAIT)
    recorder.wait(lambda: recorder.lines)
    monkeypatch.setattr(supervisor, "START_S", 0.0)
    (tmp_path / "back").touch()
    recorder.wait_for(ProgramState.UP)
    assert [s.state for s in recorder.statuses] == [ProgramState.UP]


def test_what_a_program_leaves_behind_ends_with_it(supervise, recorder):
    leave = """
    import subprocess
    stray = subprocess.Popen(["sleep", "3600"])
    print(json.dumps({"action": "left", "pid": stray.pid}), flush=True)
    """
    one = supervise(WELL + textwrap.dedent(leave) + WAIT)
    recorder.wait(lambda: any(line["action"] == "left" for line in recorder.lines))
    stray = next(line["pid"] for line in recorder.lines if line["action"] == "left")
    stop(one)
    wait_until(lambda: not runs(stray))


def test_one_that_does_not_end_when_asked_can_be_killed(supervise, recorder):
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    late = 'print(json.dumps({"action": "deaf"}), flush=True)\n'
    one = supervise(WELL + deaf + late + WAIT)
    recorder.wait(lambda: any(line["action"] == "deaf" for line in recorder.lines))
    one.stop()
    one.kill()
    one.thread.join(PATIENCE_S)
    assert one.status.state is ProgramState.STOPPED


def test_one_that_waits_to_be_started_again_can_be_stopped(supervise, recorder, monkeypatch):
    monkeypatch.setattr(supervisor, "BACKOFF", Backoff(3600.0, 3600.0))
    one = supervise(WELL + "sys.exit(1)")
    recorder.wait_for(ProgramState.RESTARTING)
    stop(one)


SUPERVISED = f"""
import os, sys, time
from segue_cli.local.supervisor import Supervisor
supervisor = Supervisor(
    "one", [sys.executable, "-c", {WELL + WAIT!r}],
    environ=os.environ, on_line=lambda name, line: print(line["pid"], flush=True),
    on_change=lambda _: None,
)
supervisor.thread.start()
time.sleep(3600)
"""


def test_no_program_outlives_a_supervisor_that_was_killed():
    with subprocess.Popen(
        [sys.executable, "-c", SUPERVISED], stdout=subprocess.PIPE, text=True
    ) as process:
        pid = int(process.stdout.readline())
        assert runs(pid)
        process.kill()
    wait_until(lambda: not runs(pid))


def test_what_its_jobs_have_printed_is_among_its_last_lines(supervise, recorder):
    printed = {"action": "printed", "job": "beats", "file": "file:///a.wav", "text": "no weights"}
    supervise(f"print({json.dumps(json.dumps(printed))}); import sys; sys.exit(2)")
    failed = recorder.wait_for(ProgramState.FAILED)
    assert failed.tail == ("beats a.wav: no weights",)
    assert recorder.lines == [{"name": "one", **printed}]
