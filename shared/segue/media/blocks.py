"""Iteration over long audio in blocks, so an hour of it is never in memory at once."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

BLOCK_FRAMES = 1 << 18

# Not every system has this constant.
DONTNEED: int | None = getattr(mmap, "MADV_DONTNEED", None)


def iterate_blocks(
    y: NDArray[np.float32], frames: int = BLOCK_FRAMES
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Iterate over samples in blocks, and release the memory of blocks that are done.

    Parameters
    ----------
    y : np.ndarray [shape=(n,) or (channels, n)]
        Samples. If they are mapped from a file, like those of `Media.audio`, a block does not count
        as the process's memory any more once it is done.
    frames : int > 0
        The largest number of samples per channel in a block.

    Yields
    ------
    start : int
        The first sample of the block.
    block : np.ndarray [shape=(m,) or (channels, m)]
        A view of the samples.
    """
    mapping = _find_read_only_mapping(y)
    for start in range(0, y.shape[-1], frames):
        yield start, y[..., start : start + frames]
        if mapping is not None and DONTNEED is not None:
            mapping.madvise(DONTNEED)


def _find_read_only_mapping(array: object) -> mmap.mmap | None:
    import numpy as np

    # The advice would destroy data that is only in memory; a read-only mapping of a file is safe.
    if not isinstance(array, np.ndarray):
        return None
    base: object = array.base
    if isinstance(array, np.memmap) and array.mode == "r" and isinstance(base, mmap.mmap):
        return base
    return _find_read_only_mapping(base)
