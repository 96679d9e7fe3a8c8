"""Collects samples block by block, so that hours of audio do not have to fit in memory."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Twelve minutes of one channel at 22.05 kHz.
LARGE_BYTES = 64 * 2**20


class SampleBuffer:
    """An array of float32 samples that is written in blocks, and zero where nothing was written.

    Up to `LARGE_BYTES` it is in memory. A larger one is in a temporary file, which has no name and
    disappears with the array.

    Parameters
    ----------
    channels, frames : int > 0
        The shape of the array is (frames,) for one channel, (channels, frames) for more.
    """

    def __init__(self, channels: int, frames: int) -> None:
        import numpy as np

        self._shape = (frames,) if channels == 1 else (channels, frames)
        self._frames = frames
        self._y: NDArray[np.float32] | None = None
        size_bytes = 4 * channels * frames
        if size_bytes <= LARGE_BYTES:
            self._y = np.zeros(self._shape, np.float32)
        else:
            self._file = tempfile.TemporaryFile(prefix="segue-samples-")  # noqa: SIM115 - mapped
            self._file.truncate(size_bytes)

    def write(self, start: int, block: NDArray[np.float32]) -> None:
        """Write a block [shape=(m,) or (channels, m)] from a frame on."""
        import numpy as np

        if self._y is not None:
            self._y[..., start : start + block.shape[-1]] = block
            return
        for channel, row in enumerate(np.atleast_2d(block)):
            self._file.seek(4 * (channel * self._frames + start))
            self._file.write(np.ascontiguousarray(row, np.float32).data)

    def finish(self) -> NDArray[np.float32]:
        """Return the array, read-only; nothing can be written afterwards.

        Raises
        ------
        OSError
            If the disk is full.
        """
        import numpy as np

        if self._y is None:
            with self._file:
                self._file.flush()
                mapped = np.memmap(self._file, np.float32, mode="r", shape=self._shape)
            return np.asarray(mapped)
        self._y.flags.writeable = False
        return self._y
