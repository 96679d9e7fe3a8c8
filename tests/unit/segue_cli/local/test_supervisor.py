"""The supervisor, with small programs in place of the real ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from segue_cli.local.supervisor import Program, ProgramState, Supervisor

PATIENCE_S = 30.0
WELL = """
import json, os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print(json.dumps({"action": "started", "pid": os.getpid()}), flush=True)
"""
WAIT = "time.sleep(3600)\n"


def program(source: str, name: str = "one") -> Program:
    return Program(name=name, command=(sys.executable, "-c", textwrap.dedent(source)))


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
def supervise(recorder):
    made = []

    def start(*programs, **more):
        more = {"first_pause_s": 0.01, **more}
        supervisor = Supervisor(
            programs, on_line=recorder.on_line, on_change=recorder.on_change, **more
        )
        made.append((supervisor, tuple(p.name for p in programs)))
        supervisor.start()
        return supervisor

    yield start
    for supervisor, names in made:
        supervisor.kill()
        supervisor.stop(names, grace_s=0)


def test_a_program_is_up_once_it_logs_that(supervise, recorder):
    supervisor = supervise(program(WELL + WAIT))
    status = recorder.wait_for(ProgramState.UP)
    assert status.started["pid"] == status.pid
    assert recorder.lines[0]["name"] == "one"
    supervisor.stop(("one",), grace_s=PATIENCE_S)
    assert [s.state for s in supervisor.list_statuses()] == [ProgramState.STOPPED]
    assert not runs(status.pid)


def test_a_program_that_dies_is_restarted(supervise, recorder):
    supervise(program(WELL + WAIT))
    first = recorder.wait_for(ProgramState.UP)
    os.kill(first.pid, signal.SIGKILL)
    failure = recorder.wait_for(ProgramState.RESTARTING)
    assert failure.failure == "was killed by SIGKILL"
    recorder.wait(lambda: [s.state for s in recorder.statuses].count(ProgramState.UP) == 2)
    again = recorder.statuses[-1]
    assert (again.restarts, again.started["pid"] != first.pid) == (1, True)


def test_a_program_with_a_wrong_configuration_is_not_restarted(supervise, recorder):
    supervise(program("import sys; sys.stderr.write('no such graph\\n'); sys.exit(2)"))
    failed = recorder.wait_for(ProgramState.FAILED)
    assert failed.failure == "exited with code 2"
    assert failed.tail == ("no such graph",)


def test_a_program_that_fails_again_and_again_is_not_restarted(supervise, recorder):
    supervise(program("import sys; print('not JSON'); sys.exit(1)"))
    failed = recorder.wait_for(ProgramState.FAILED)
    assert failed.restarts == 4
    assert failed.tail == ("not JSON",)


def test_one_that_never_says_that_it_is_up_is_ended(supervise, recorder):
    supervise(program("import time; time.sleep(3600)"), start_s=0.3)
    status = recorder.wait_for(ProgramState.RESTARTING)
    assert status.failure == "was not up within 0.3 s"
    first = next(s for s in recorder.statuses if s.pid is not None)
    wait_until(lambda: not runs(first.pid))


def test_what_a_program_leaves_behind_ends_with_it(supervise, recorder):
    leave = """
    import subprocess
    stray = subprocess.Popen(["sleep", "3600"])
    print(json.dumps({"action": "left", "pid": stray.pid}), flush=True)
    """
    supervisor = supervise(program(WELL + textwrap.dedent(leave) + WAIT))
    recorder.wait(lambda: any(line["action"] == "left" for line in recorder.lines))
    stray = next(line["pid"] for line in recorder.lines if line["action"] == "left")
    supervisor.stop(("one",), grace_s=PATIENCE_S)
    wait_until(lambda: not runs(stray))


def test_one_that_does_not_end_when_asked_is_killed(supervise, recorder):
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    late = 'print(json.dumps({"action": "deaf"}), flush=True)\n'
    supervisor = supervise(program(WELL + deaf + late + WAIT))
    recorder.wait(lambda: any(line["action"] == "deaf" for line in recorder.lines))
    supervisor.stop(("one",), grace_s=0.1)
    assert [s.state for s in supervisor.list_statuses()] == [ProgramState.STOPPED]


def test_stopping_one_leaves_the_other(supervise, recorder):
    supervisor = supervise(program(WELL + WAIT, "one"), program(WELL + WAIT, "two"))
    recorder.wait(lambda: [s.state for s in recorder.statuses].count(ProgramState.UP) == 2)
    supervisor.stop(("one",), grace_s=PATIENCE_S)
    assert {s.name: s.state for s in supervisor.list_statuses()} == {
        "one": ProgramState.STOPPED,
        "two": ProgramState.UP,
    }


def test_one_that_waits_to_be_started_again_can_be_stopped(supervise, recorder):
    supervisor = supervise(program(WELL + "sys.exit(1)"), first_pause_s=3600.0)
    recorder.wait_for(ProgramState.RESTARTING)
    supervisor.stop(("one",), grace_s=PATIENCE_S)
    assert [s.state for s in supervisor.list_statuses()] == [ProgramState.STOPPED]


SUPERVISED = f"""
import sys, time
from segue_cli.local.supervisor import Program, Supervisor
child = Program(name="one", command=(sys.executable, "-c", {WELL + WAIT!r}))
supervisor = Supervisor(
    (child,), on_line=lambda name, line: print(line["pid"], flush=True), on_change=lambda _: None
)
supervisor.start()
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
