"""A batch has as many files as fit into half of the job's memory, and always at least one."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from segue import Audio
from segue.media.decode import LocalMedia
from segue.model.graph import Resources
from segue.worker.child import _load_inputs
from segue.worker.input_size import DECODED_TIMES, NUMBER_BYTES, estimate_bytes

MIB = 2**20


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (np.zeros((2, 5), np.float32), 40),
        (Audio(y=np.zeros(10, np.float32), sr=8000), 40),
        ({"a": np.zeros(5), "b": b"12345"}, 45),
        (pa.table({"a": pa.array([1, 2, 3], pa.int64())}), 24),
        (b"123", 3),
        ("abc", 3),
        ([1.0, 2.0], 2 * NUMBER_BYTES),
        ([[1.0], [2.0]], 4 * NUMBER_BYTES),
        ([], 0),
        ({"n": 1, "text": None}, 0),
    ],
)
def test_the_size_of_a_value_is_that_of_what_it_holds(value: object, size: int) -> None:
    assert estimate_bytes(value) == size


def test_a_source_is_larger_once_it_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "song.mp3"
    path.write_bytes(b"1234")
    media = LocalMedia(uri="u", version="1", path=str(path), folder=str(tmp_path))
    assert estimate_bytes(media) == 4 * DECODED_TIMES


class FakeRun:
    """A file whose input is so large, or cannot be loaded."""

    def __init__(self, found: int | Exception) -> None:
        self.found = found
        self.is_finished = False

    def load_inputs(self, _job: object) -> dict[str, object]:
        if isinstance(self.found, Exception):
            raise self.found
        return {"a": SimpleNamespace(nbytes=self.found * MIB)}

    def finish(self) -> None:
        self.is_finished = True


@pytest.mark.parametrize(
    ("found", "taken", "alone", "dropped"),
    [
        ([100, 200, 100, 100], [0, 1, 2, 3], [], []),
        ([100, 200, 100, 113], [0, 1, 2], [], [3]),
        ([900, 1], [0], [], [1]),
        ([1, 900, 1], [0], [], [1]),
        ([1, ValueError(), 1], [0, 2], [1], []),
        ([ValueError(), 900, 1], [1], [0], [2]),
        ([1, 1, MemoryError(), 1], [0, 1], [], [2]),  # perhaps because of the others
        ([MemoryError(), 1], [1], [0], []),
    ],
)
def test_files_are_taken_as_long_as_they_fit(
    found: list[int | Exception], taken: list[int], alone: list[int], dropped: list[int]
) -> None:
    runs: list[Any] = [FakeRun(one) for one in found]
    job: Any = SimpleNamespace(spec=SimpleNamespace(resources=Resources(memory_gib=1.0)))
    batch, inputs, others = _load_inputs(runs, job)
    assert [runs.index(run) for run in batch] == taken
    assert [runs.index(run) for run in others] == alone
    assert len(inputs) == len(batch)
    # What was loaded in vain does not stay in memory.
    assert [number for number, run in enumerate(runs) if run.is_finished] == dropped
