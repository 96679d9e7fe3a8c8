"""Long sound in pieces."""

from __future__ import annotations

import mmap

import numpy as np
import pytest

from segue.media.audio import iterate_blocks


@pytest.mark.parametrize("shape", [(1000,), (2, 1000)])
def test_blocks_together_are_the_whole(shape):
    y = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    starts, pieces = zip(*iterate_blocks(y, 300), strict=True)
    assert starts == (0, 300, 600, 900)
    assert np.array_equal(np.concatenate(pieces, axis=-1), y)


def test_samples_of_a_mapped_file_stay_what_they_are(tmp_path):
    y = np.random.default_rng(0).normal(size=(100_000, 2)).astype(np.float32)
    y.tofile(tmp_path / "samples")
    mapped = np.asarray(np.memmap(tmp_path / "samples", np.float32, mode="r", shape=y.shape)).T
    for _ in range(2):
        for start, block in iterate_blocks(mapped, 30_000):
            assert np.array_equal(block, y.T[:, start : start + 30_000])
    assert np.array_equal(mapped, y.T)


def test_the_memory_of_a_mapped_file_is_given_back(tmp_path):
    np.ones(8 << 20, np.float32).tofile(tmp_path / "samples")
    mapped = np.asarray(np.memmap(tmp_path / "samples", np.float32, mode="r"))
    before = _mapped_files_bytes()
    most = 0
    for _, block in iterate_blocks(mapped, 1 << 20):
        assert block.max() == 1.0
        most = max(most, _mapped_files_bytes() - before)
    assert most < 8 << 20  # of 32 MiB, one block of 4 and what other files take


def test_memory_that_no_file_stands_behind_is_left_alone():
    memory = mmap.mmap(-1, 400_000)
    y = np.frombuffer(memory, np.float32)
    y[:] = 1.0
    assert sum(float(block.sum()) for _, block in iterate_blocks(y, 1000)) == 100_000
    assert y.sum() == 100_000


def _mapped_files_bytes() -> int:
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            fields = dict(line.split(":", 1) for line in file)
    except OSError:
        pytest.skip("/proc/self/status is missing: this system does not tell a process's memory")
    return int(fields["RssFile"].split()[0]) * 1024
