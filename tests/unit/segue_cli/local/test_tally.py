"""What the programs say is added up; the lock of a ledger; what stops a run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from segue.errors import ConfigurationError
from segue_cli.local.lock import lock_path, only_one
from segue_cli.local.signals import Signals
from segue_cli.local.tally import Tally


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_a_rate_is_of_the_last_seconds_alone():
    clock = Clock()
    tally = Tally(clock=clock)
    clock.now += 100
    for _ in range(20):
        tally.hear({"action": "done", "job": "beats"})
    clock.now += 1
    tally.hear({"action": "done", "job": "energy"})
    assert tally.rates() == {"beats": 2.0, "energy": 0.1}
    clock.now += 9.5
    assert tally.rates() == {"energy": 0.1}
    clock.now += 1
    assert tally.rates() == {}


def test_a_rate_at_the_start_is_of_the_time_since():
    clock = Clock()
    tally = Tally(clock=clock)
    tally.hear({"action": "done", "job": "beats"})
    clock.now += 2
    assert tally.rates() == {"beats": 0.5}


def test_the_last_failures_are_kept_the_newest_first():
    tally = Tally()
    for number in range(8):
        tally.hear({"action": "failed", "job": "beats", "kind": "timeout", "file": str(number)})
    assert [t.uri for t in tally.troubles()] == ["7", "6", "5", "4", "3"]
    assert tally.counts() == {"failed": 8}


def test_lines_of_any_form_are_heard():
    tally = Tally()
    tally.hear({})
    tally.hear({"action": ["done"], "job": None})
    assert tally.rates() == {}


HOLD = "import sys, time; from segue_cli.local.lock import only_one\n"
HOLD += "with only_one(sys.argv[1]): print('held', flush=True); time.sleep(3600)"


def test_one_ledger_has_one_holder_until_that_is_dead(tmp_path):
    url = f"sqlite:///{tmp_path}/new/ledger.db"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, url], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        told = f"works on the ledger .* already \\(process {other.pid}\\)"
        with pytest.raises(ConfigurationError, match=told), only_one(url):
            pass
        with only_one(f"sqlite:///{tmp_path}/other.db"):
            pass
        other.kill()
    with only_one(url):
        pass


def test_a_ledger_in_the_cloud_is_locked_on_this_machine():
    one, other = lock_path("firestore://acme/one"), lock_path("firestore://acme/two")
    assert os.path.isabs(one)
    assert one != other


def test_signals_are_counted_where_they_are_waited_for():
    before = signal.getsignal(signal.SIGTERM)
    with Signals() as signals:
        assert signals.wait(0.0) == 0
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.wait(10.0) == 1
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.wait(10.0) == 2
    assert signal.getsignal(signal.SIGTERM) is before
