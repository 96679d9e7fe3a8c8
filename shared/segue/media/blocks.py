"""Long sound in pieces, so that an hour of it never stands in memory at once."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

BLOCK_FRAMES = 1 << 18

# Not every system has it.
DONTNEED: int | None = getattr(mmap, "MADV_DONTNEED", None)


def blocks(
    y: NDArray[np.float32], frames: int = BLOCK_FRAMES
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Walk through samples, and give back the memory behind.

    Parameters
    ----------
    y : np.ndarray [shape=(n,) or (channels, n)]
        Samples. If they are mapped from a file, as those of `Media.audio` are, then what was read
        does not count as the process's memory any more once its block is done.
    frames : int > 0
        The most samples of a channel in a block.

    Yields
    ------
    start : int
        The first sample of the block.
    block : np.ndarray [shape=(m,) or (channels, m)]
        A view of the samples.
    """
    mapping = _read_only_mapping(y)
    for start in range(0, y.shape[-1], frames):
        yield start, y[..., start : start + frames]
        if mapping is not None and DONTNEED is not None:
            mapping.madvise(DONTNEED)


def _read_only_mapping(array: object) -> mmap.mmap | None:
    import numpy as np

    # The advice would destroy what is in memory only: a mapped file that nobody writes is safe.
    if not isinstance(array, np.ndarray):
        return None
    base: object = array.base
    if isinstance(array, np.memmap) and array.mode == "r" and isinstance(base, mmap.mmap):
        return base
    return _read_only_mapping(base)
