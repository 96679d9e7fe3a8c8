"""Totals of log lines; the lock of a ledger; signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from segue.errors import ConfigurationError
from segue_cli.local.activity_totals import ActivityTotals
from segue_cli.local.lock import find_lock_path, lock_ledger
from segue_cli.local.signals import Signals


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_a_rate_covers_only_the_last_seconds():
    clock = Clock()
    totals = ActivityTotals(clock=clock)
    clock.now += 100
    for _ in range(20):
        totals.add({"action": "done", "job": "beats"})
    clock.now += 1
    totals.add({"action": "done", "job": "energy"})
    assert totals.compute_rates() == {"beats": 2.0, "energy": 0.1}
    clock.now += 9.5
    assert totals.compute_rates() == {"energy": 0.1}
    clock.now += 1
    assert totals.compute_rates() == {}


def test_a_rate_at_the_start_covers_the_time_since_then():
    clock = Clock()
    totals = ActivityTotals(clock=clock)
    totals.add({"action": "done", "job": "beats"})
    clock.now += 2
    assert totals.compute_rates() == {"beats": 0.5}


def test_the_last_failures_are_kept_the_newest_first():
    totals = ActivityTotals()
    for number in range(8):
        totals.add({"action": "failed", "job": "beats", "kind": "timeout", "file": str(number)})
    assert [t.uri for t in totals.list_failures()] == ["7", "6", "5", "4", "3"]
    assert totals.count_actions() == {"failed": 8}


def test_lines_of_any_form_are_accepted():
    totals = ActivityTotals()
    totals.add({})
    totals.add({"action": ["done"], "job": None})
    assert totals.compute_rates() == {}


HOLD = "import sys, time; from segue_cli.local.lock import lock_ledger\n"
HOLD += "with lock_ledger(sys.argv[1]): print('held', flush=True); time.sleep(3600)"


def test_a_ledger_is_locked_until_its_holder_is_dead(tmp_path):
    url = f"sqlite:///{tmp_path}/new/ledger.db"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, url], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        message = rf"\(process {other.pid}\) uses the ledger"
        with pytest.raises(ConfigurationError, match=message), lock_ledger(url):
            pass
        with lock_ledger(f"sqlite:///{tmp_path}/other.db"):
            pass
        other.kill()
    with lock_ledger(url):
        pass


def test_a_ledger_in_the_cloud_is_locked_on_this_machine():
    one, other = find_lock_path("firestore://acme/one"), find_lock_path("firestore://acme/two")
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
