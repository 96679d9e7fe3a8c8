"""Emulators are found and started, and stopped however their owner ends."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
import urllib.request

import pytest

from segue_support import emulators
from segue_support.emulators import (
    FIRESTORE,
    PUBSUB,
    STORAGE,
    EmulatorError,
    describe_missing,
    run_emulator,
)

pytestmark = pytest.mark.xdist_group("storage")

EVERY = [FIRESTORE, PUBSUB, STORAGE]


def sleeper(port: int) -> list[str]:
    """A program that starts another and never serves."""
    return ["/bin/sh", "-c", f"echo no port {port} for me; sleep 600 & wait"]


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch):
    for emulator in EVERY:
        monkeypatch.delenv(emulator.variable, raising=False)


@pytest.mark.parametrize("emulator", [FIRESTORE, PUBSUB], ids=lambda e: e.variable)
def test_what_is_not_installed_is_named_with_the_way_to_get_it(emulator, monkeypatch, tmp_path):
    monkeypatch.setenv("SEGUE_EMULATORS", str(tmp_path))
    reason = describe_missing(emulator)
    assert reason.startswith(f"{emulator.name} is not installed")
    assert "gcloud components install" in reason
    assert emulator.variable in reason
    with pytest.raises(EmulatorError, match="is not installed"), run_emulator(emulator):
        pass


def test_a_folder_of_emulators_can_be_named(monkeypatch, tmp_path):
    for jar in (
        "cloud-firestore-emulator/cloud-firestore-emulator.jar",
        "pubsub-emulator/lib/cloud-pubsub-emulator-0.8.2-all.jar",
    ):
        (tmp_path / jar).parent.mkdir(parents=True)
        (tmp_path / jar).touch()
    java = tmp_path / "java"
    java.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SEGUE_EMULATORS", str(tmp_path))
    for emulator in (FIRESTORE, PUBSUB):
        assert describe_missing(emulator) is None
        command = emulator.command(1234)
        assert command[0] == str(java)
        assert any(part.startswith(str(tmp_path)) and part.endswith(".jar") for part in command)
        assert "--port=1234" in command


@pytest.mark.parametrize("emulator", EVERY, ids=lambda e: e.variable)
def test_one_that_runs_already_is_used_and_left_running(emulator, monkeypatch):
    monkeypatch.setenv(emulator.variable, "http://elsewhere:1")
    assert describe_missing(emulator) is None
    with run_emulator(emulator) as address:
        assert address == "http://elsewhere:1"


def test_it_serves_while_it_is_wanted(storage_emulator):
    with run_emulator(STORAGE) as address:
        assert address != storage_emulator  # one of its own
        urllib.request.urlopen(f"{address}/storage/v1/b?project=any", timeout=10).close()
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"{address}/storage/v1/b?project=any", timeout=10)


def test_one_that_never_serves_says_what_it_printed_and_is_stopped(monkeypatch):
    monkeypatch.setattr(emulators, "START_S", 0.3)
    monkeypatch.setattr(emulators, "ATTEMPTS", 2)
    started = []

    def command(port: int) -> list[str]:
        started.append(port)
        return sleeper(port)

    broken = dataclasses.replace(STORAGE, command=command)
    printed = r"2 times; it printed: (?s:.*)no port \d+ for me"
    with pytest.raises(EmulatorError, match=printed), run_emulator(broken):
        pass
    assert len(started) == 2


def test_one_that_ends_at_once_is_not_waited_for():
    broken = dataclasses.replace(STORAGE, command=lambda _: ["/bin/sh", "-c", "echo port taken"])
    with pytest.raises(EmulatorError, match="port taken"), run_emulator(broken):
        pass


def test_it_dies_with_a_process_that_is_killed(storage_emulator):
    script = (
        "from segue_support.emulators import STORAGE, run_emulator\n"
        "with run_emulator(STORAGE) as address:\n"
        "    print(address, flush=True)\n"
        "    input()\n"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    address = owner.stdout.readline().strip()
    urllib.request.urlopen(f"{address}/storage/v1/b?project=any", timeout=10).close()
    os.kill(owner.pid, signal.SIGKILL)
    owner.communicate(timeout=10)
    for _ in range(1000):
        try:
            urllib.request.urlopen(f"{address}/storage/v1/b?project=any", timeout=10).close()
        except OSError:
            return
        time.sleep(0.01)
    pytest.fail(f"the emulator at {address} outlived the process that started it")
