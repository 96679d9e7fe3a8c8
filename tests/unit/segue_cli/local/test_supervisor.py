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

from segue_cli.local.supervisor import Program, State, Supervisor

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


class Seen:
    """What a supervisor said."""

    def __init__(self):
        self.lines: list[dict] = []
        self.standings = []
        self.changes = threading.Condition()

    def heard(self, name, line):
        with self.changes:
            self.lines.append({"name": name, **line})
            self.changes.notify_all()

    def changed(self, standing):
        with self.changes:
            self.standings.append(standing)
            self.changes.notify_all()

    def wait(self, condition):
        with self.changes:
            assert self.changes.wait_for(condition, PATIENCE_S), self.standings

    def wait_for(self, state):
        self.wait(lambda: any(s.state is state for s in self.standings))
        return next(s for s in self.standings if s.state is state)


@pytest.fixture
def seen():
    return Seen()


@pytest.fixture
def supervise(seen):
    made = []

    def start(*programs, **more):
        more = {"first_pause_s": 0.01, **more}
        supervisor = Supervisor(programs, heard=seen.heard, changed=seen.changed, **more)
        made.append((supervisor, tuple(p.name for p in programs)))
        supervisor.start()
        return supervisor

    yield start
    for supervisor, names in made:
        supervisor.kill()
        supervisor.stop(names, grace_s=0)


def test_a_program_is_up_once_it_says_so(supervise, seen):
    supervisor = supervise(program(WELL + WAIT))
    standing = seen.wait_for(State.UP)
    assert standing.started["pid"] == standing.pid
    assert seen.lines[0]["name"] == "one"
    supervisor.stop(("one",), grace_s=PATIENCE_S)
    assert [s.state for s in supervisor.standing()] == [State.STOPPED]
    assert not runs(standing.pid)


def test_one_that_dies_is_started_again(supervise, seen):
    supervise(program(WELL + WAIT))
    first = seen.wait_for(State.UP)
    os.kill(first.pid, signal.SIGKILL)
    trouble = seen.wait_for(State.RESTARTING)
    assert trouble.trouble == "killed by SIGKILL"
    seen.wait(lambda: [s.state for s in seen.standings].count(State.UP) == 2)
    again = seen.standings[-1]
    assert (again.restarts, again.started["pid"] != first.pid) == (1, True)


def test_one_that_will_never_come_up_is_given_up(supervise, seen):
    supervise(program("import sys; sys.stderr.write('no such graph\\n'); sys.exit(2)"))
    failed = seen.wait_for(State.FAILED)
    assert failed.trouble == "ended with exit code 2"
    assert failed.tail == ("no such graph",)


def test_one_that_fails_again_and_again_is_given_up(supervise, seen):
    supervise(program("import sys; print('not JSON'); sys.exit(1)"))
    failed = seen.wait_for(State.FAILED)
    assert failed.restarts == 4
    assert failed.tail == ("not JSON",)


def test_one_that_never_says_that_it_is_up_is_ended(supervise, seen):
    supervise(program("import time; time.sleep(3600)"), start_s=0.3)
    standing = seen.wait_for(State.RESTARTING)
    assert standing.trouble == "not up within 0.3 s"
    first = next(s for s in seen.standings if s.pid is not None)
    wait_until(lambda: not runs(first.pid))


def test_what_a_program_leaves_behind_ends_with_it(supervise, seen):
    leave = """
    import subprocess
    stray = subprocess.Popen(["sleep", "3600"])
    print(json.dumps({"action": "left", "pid": stray.pid}), flush=True)
    """
    supervisor = supervise(program(WELL + textwrap.dedent(leave) + WAIT))
    seen.wait(lambda: any(line["action"] == "left" for line in seen.lines))
    stray = next(line["pid"] for line in seen.lines if line["action"] == "left")
    supervisor.stop(("one",), grace_s=PATIENCE_S)
    wait_until(lambda: not runs(stray))


def test_one_that_does_not_end_when_asked_is_killed(supervise, seen):
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    late = 'print(json.dumps({"action": "deaf"}), flush=True)\n'
    supervisor = supervise(program(WELL + deaf + late + WAIT))
    seen.wait(lambda: any(line["action"] == "deaf" for line in seen.lines))
    supervisor.stop(("one",), grace_s=0.1)
    assert [s.state for s in supervisor.standing()] == [State.STOPPED]


def test_stopping_one_leaves_the_other(supervise, seen):
    supervisor = supervise(program(WELL + WAIT, "one"), program(WELL + WAIT, "two"))
    seen.wait(lambda: [s.state for s in seen.standings].count(State.UP) == 2)
    supervisor.stop(("one",), grace_s=PATIENCE_S)
    assert {s.name: s.state for s in supervisor.standing()} == {
        "one": State.STOPPED,
        "two": State.UP,
    }


def test_one_that_waits_to_be_started_again_can_be_stopped(supervise, seen):
    supervisor = supervise(program(WELL + "sys.exit(1)"), first_pause_s=3600.0)
    seen.wait_for(State.RESTARTING)
    supervisor.stop(("one",), grace_s=PATIENCE_S)
    assert [s.state for s in supervisor.standing()] == [State.STOPPED]


SUPERVISED = f"""
import sys, time
from segue_cli.local.supervisor import Program, Supervisor
child = Program(name="one", command=(sys.executable, "-c", {WELL + WAIT!r}))
supervisor = Supervisor(
    (child,), heard=lambda name, line: print(line["pid"], flush=True), changed=lambda _: None
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
