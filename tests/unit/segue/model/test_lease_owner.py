"""Owners of leases: reported dead only when they are known to be."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from segue.model import lease_owner as owner
from segue.model.lease_owner import build_owner, is_lost, is_of_run, is_of_this_process
from segue.model.record import Lease

NAMING = """
import sys
from segue.model.lease_owner import build_owner
print(build_owner(), flush=True)
sys.stdin.read()
"""


def lease(name: str) -> Lease:
    return Lease(owner=name, expires_at=datetime(2026, 1, 1, tzinfo=UTC))


def parts(name: str) -> list[str]:
    """Place, process, start, and a number that is drawn."""
    return name.rsplit("/", 3)


@pytest.fixture
def other() -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", NAMING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    yield process, process.stdout.readline().strip()
    process.kill()
    process.communicate()


def test_each_owner_has_another_name():
    names = {build_owner() for _ in range(100)}
    assert len(names) == 100
    assert len({tuple(parts(n)[:3]) for n in names}) == 1


def test_an_owner_is_known_by_its_run_and_by_its_process(other):
    mine, theirs = lease(build_owner("cafe")), lease(other[1])
    assert is_of_run(mine, "cafe")
    assert not is_of_run(lease(build_owner()), "cafe")
    assert is_of_this_process(mine)
    assert is_of_this_process(lease(build_owner()))
    assert not is_of_this_process(theirs)
    assert not is_of_run(theirs, "cafe")


def test_this_process_is_not_lost():
    assert not is_lost(lease(build_owner()))


def test_an_owner_says_when_its_process_started():
    _, pid, started, drawn = parts(build_owner())
    assert int(pid) == os.getpid()
    assert int(started) > owner.UNKNOWN
    assert len(drawn) == 8


def test_a_forked_process_is_another_owner():
    mine = build_owner()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, build_owner().encode())
        os._exit(0)
    os.waitpid(child, 0)
    forked = os.read(reading, 1000).decode()
    os.close(reading)
    os.close(writing)
    assert parts(forked)[0] == parts(mine)[0]
    assert parts(forked)[1] == str(child)
    assert is_lost(lease(forked))


def test_a_process_is_lost_once_it_is_killed_and_not_before(other):
    process, name = other
    assert parts(name)[1] == str(process.pid)
    assert not is_lost(lease(name))
    process.send_signal(signal.SIGSTOP)
    assert not is_lost(lease(name)), "one that stands still is not dead"
    process.kill()
    # It is a zombie now: dead, and still in the table of processes until somebody asks.
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert is_lost(lease(name))
    process.wait()
    assert is_lost(lease(name))


def test_another_process_under_the_same_number_does_not_hold_the_lease():
    place, pid, started, drawn = parts(build_owner())
    assert is_lost(lease(f"{place}/{pid}/{int(started) + 1}/{drawn}"))


def test_a_process_of_another_machine_is_believed_to_live():
    _, pid, started, drawn = parts(build_owner())
    assert not is_lost(lease(f"elsewhere:1@01234567/{pid}/{started}/{drawn}"))
    assert not is_lost(lease(f"elsewhere:1@01234567/999999999/1/{drawn}"))


def test_a_container_with_the_hosts_name_is_another_machine():
    place, pid, started, drawn = parts(build_owner())
    host, _, boot = place.partition("@")
    assert not is_lost(lease(f"{host}0@{boot}/{pid}/{int(started) + 1}/{drawn}"))


def test_before_the_last_boot_all_are_lost():
    place, pid, started, drawn = parts(build_owner())
    before = place.partition("@")[0] + "@00000000"
    assert is_lost(lease(f"{before}/{pid}/{started}/{drawn}"))


@pytest.mark.parametrize(
    "name",
    ["", "me", "a/b", "a/b/c/d", "worker-1/2", "h/1/x/y", "h/x/1/y", "h/-1/1/y", "h/1/1", "////"],
)
def test_an_owner_of_another_make_is_believed_to_live(name):
    assert not is_lost(lease(name))


@pytest.mark.parametrize("rest", ["x/1/y", "1/x/y", "-1/1/y", "1.0/1/y", "1/1", "1", "//"])
def test_an_owner_of_another_make_on_this_machine_is_believed_to_live(rest):
    place = parts(build_owner())[0]
    assert not is_lost(lease(f"{place}/{rest}"))


@pytest.mark.parametrize("pid", ["4194305", "9" * 30])
def test_a_number_that_no_process_has_is_lost(pid):
    place, _, started, drawn = parts(build_owner())
    assert is_lost(lease(f"{place}/{pid}/{started}/{drawn}"))


@pytest.mark.parametrize("error", [FileNotFoundError, PermissionError])
def test_a_process_that_may_not_be_inspected_counts_as_alive(other, monkeypatch, error):
    """As under /proc mounted with hidepid, or where there is no /proc."""
    process, name = other
    mine = build_owner()
    monkeypatch.setattr("builtins.open", refusing(error))
    assert not is_lost(lease(name))
    assert not is_lost(lease(mine))
    process.kill()
    process.wait()
    assert is_lost(lease(name))


def test_a_process_of_another_user_that_is_hidden_counts_as_alive(other, monkeypatch):
    _, name = other

    def refuse(_pid: int, _signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr("builtins.open", refusing(FileNotFoundError))
    monkeypatch.setattr("os.kill", refuse)
    assert not is_lost(lease(name))


def test_a_process_of_which_only_the_number_is_known_is_lost_when_it_ends(other):
    process, name = other
    place, pid, _, drawn = parts(name)
    unknown = lease(f"{place}/{pid}/{owner.UNKNOWN}/{drawn}")
    assert not is_lost(unknown)
    process.kill()
    process.wait()
    assert is_lost(unknown)


def refusing(error: type[OSError]) -> Callable[..., object]:
    real = open

    def opened(path, *args, **kwargs):
        if str(path).startswith("/proc/"):
            raise error(path)
        return real(path, *args, **kwargs)

    return opened


def test_a_name_with_brackets_and_spaces_does_not_hide_the_state():
    code = "import ctypes, sys; ctypes.CDLL(None).prctl(15, b'x) R (1 2', 0, 0, 0)" + NAMING
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        assert not is_lost(lease(name))
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert is_lost(lease(name))
