"""Samples that are collected in blocks, in memory or in a file."""

from __future__ import annotations

import numpy as np
import pytest

from segue.media import samples
from segue.media.audio import iterate_blocks
from segue.media.samples import SampleBuffer


@pytest.fixture(params=["memory", "file"])
def large_bytes(request, monkeypatch):
    if request.param == "file":
        monkeypatch.setattr(samples, "LARGE_BYTES", 0)
    return samples.LARGE_BYTES


@pytest.mark.parametrize("shape", [(10_000,), (2, 10_000), (5, 10_000)])
@pytest.mark.usefixtures("large_bytes")
def test_blocks_become_one_array(shape):
    y = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    buffer = SampleBuffer(1 if y.ndim == 1 else len(y), 10_000)
    for start, block in iterate_blocks(y, 3000):
        buffer.write(start, block)
    collected = buffer.finish()
    assert collected.flags.c_contiguous
    assert np.array_equal(collected, y)


@pytest.mark.usefixtures("large_bytes")
def test_what_was_not_written_is_zero():
    buffer = SampleBuffer(2, 100)
    buffer.write(20, np.ones((2, 30), np.float32))
    assert buffer.finish().sum(axis=1).tolist() == [30.0, 30.0]


@pytest.mark.usefixtures("large_bytes")
def test_blocks_may_have_any_layout():
    interleaved = np.random.default_rng(0).normal(size=(100, 2)).astype(np.float32)
    buffer = SampleBuffer(2, 100)
    buffer.write(0, interleaved.T)
    assert np.array_equal(buffer.finish(), interleaved.T)


@pytest.mark.usefixtures("large_bytes")
def test_the_array_is_read_only():
    y = SampleBuffer(1, 10).finish()
    with pytest.raises(ValueError, match="read-only"):
        y[0] = 1.0


def test_a_large_array_is_in_a_file_without_a_name(monkeypatch, tmp_path):
    monkeypatch.setattr(samples, "LARGE_BYTES", 0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    buffer = SampleBuffer(1, 1 << 20)
    for start in range(0, 1 << 20, 1 << 18):
        buffer.write(start, np.full(1 << 18, 0.5, np.float32))
    y = buffer.finish()
    assert list(tmp_path.iterdir()) == []
    assert float(y.mean()) == 0.5
