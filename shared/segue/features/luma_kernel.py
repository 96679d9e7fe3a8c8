"""The difference of two pictures, compiled by numba.

The numbers are integers, so the result is the same on any processor. The module is imported when
there are pictures to compare, since importing numba takes a while.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numba
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

# Whatever the layout of the pictures is, it is compiled once, when the module is imported.
_PICTURE = numba.types.Array(numba.uint8, 2, "A", readonly=True)


@numba.njit(numba.uint64(_PICTURE, _PICTURE), cache=True)
def _add_differences(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> np.uint64:
    total = np.uint64(0)
    for row in range(a.shape[0]):
        # A row is narrow enough for 32 bits, of which a processor adds many at once.
        differences = np.int32(0)
        for column in range(a.shape[1]):
            differences += abs(np.int32(a[row, column]) - np.int32(b[row, column]))
        total += np.uint64(differences)
    return total


add_differences = cast("Callable[[NDArray[np.uint8], NDArray[np.uint8]], int]", _add_differences)
