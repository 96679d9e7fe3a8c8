"""The lock of a ledger."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from segue.errors import ConfigurationError
from segue_cli.local.lock import find_lock_path, lock_ledger

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


def test_a_lock_that_cannot_be_written_is_a_wrong_setting(tmp_path):
    (tmp_path / "file").touch()
    message = "cannot be written .*name another ledger with --ledger"
    with (
        pytest.raises(ConfigurationError, match=message),
        lock_ledger(f"sqlite:///{tmp_path}/file/ledger.db"),
    ):
        pass
