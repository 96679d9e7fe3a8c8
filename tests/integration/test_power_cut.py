"""Power cuts, in short: what the ledger calls done is on the disk, and a run repairs the rest.

``make prove`` has the long form.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from segue_support.power_cut import Disk, describe_missing, run_power_cuts


@pytest.fixture(scope="module")
def power() -> None:
    """Power cuts can be made on this machine."""
    if reason := describe_missing():
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI lets no test skip: {reason}")
        pytest.skip(reason)


@pytest.fixture
def disk(power: None, tmp_path: Path) -> Iterator[Disk]:
    with Disk(tmp_path) as disk:
        yield disk


def test_a_disk_without_power_keeps_what_was_synced_and_nothing_else(disk):
    with (disk.path / "synced").open("wb") as file:
        file.write(b"a" * 5000)
        file.flush()
        os.fsync(file.fileno())
    with (disk.path / "begun").open("wb") as file:
        file.write(b"a" * 5000)
        file.flush()
        os.fsync(file.fileno())
        file.seek(0)
        file.write(b"b" * 5000)
        file.flush()
        # Writes them to the device, which has not flushed its cache.
        whole = (ctypes.c_int64(0), ctypes.c_int64(0), 7)
        assert ctypes.CDLL(None).sync_file_range(file.fileno(), *whole) == 0
    (disk.path / "unsynced").write_bytes(b"a" * 5000)
    disk.cut()
    disk.restart()
    assert (disk.path / "synced").read_bytes() == b"a" * 5000
    assert (disk.path / "begun").read_bytes() == b"a" * 5000
    assert not (disk.path / "unsynced").exists() or not (disk.path / "unsynced").stat().st_size


@pytest.mark.parametrize("seed", [0, 1])
def test_nothing_is_done_whose_bytes_are_missing_and_a_run_repairs_the_rest(power, seed):
    report = run_power_cuts(range(seed, seed + 1))
    assert report.violations == []
    assert report.files > 0
