"""``application/x-npz``: named numpy arrays in a zip archive, as ``numpy.load`` reads it."""

from __future__ import annotations

import io
import zipfile
import zlib
from typing import TYPE_CHECKING

from segue.codec.encoded import Encoded, describe
from segue.errors import BadOutput, CorruptMedia

if TYPE_CHECKING:
    from typing import Any

    import numpy as np
    from numpy.typing import NDArray

# The errors that zipfile and numpy raise for damaged bytes, besides their own classes.
_UNREADABLE = (ValueError, OSError, EOFError, KeyError, NotImplementedError, RuntimeError)


class NpzCodec:
    """A dict of arrays under names that are Python identifiers; NaN is allowed, objects are not.

    Arrays are written in C order and not compressed: features hardly shrink, and compression costs
    more than everything else.
    """

    extension = "npz"

    def encode(self, value: object) -> Encoded:
        """Write a zip archive with sorted names and fixed dates."""
        import numpy as np

        if not isinstance(value, dict):
            raise BadOutput(
                f"the job returned {describe(value)}; application/x-npz holds a dict of arrays: "
                "return one, such as {'mfcc': array}"
            )
        for name in value:
            if not (isinstance(name, str) and name.isidentifier()):
                raise BadOutput(
                    f"an array is named {describe(name)}; names must be Python identifiers, since "
                    "they become file names in the archive: rename it"
                )
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
            for name in sorted(value):
                # Without a date, which would change the bytes; "Unix", whatever the machine.
                entry = zipfile.ZipInfo(f"{name}.npy")
                entry.create_system = 3
                with archive.open(entry, "w", force_zip64=True) as member:
                    np.save(member, _to_array(value[name], name), allow_pickle=False)
        data = buffer.getvalue()
        # Without compression reading is a copy, so a child sees exactly what is stored.
        return Encoded(data, self.decode(data))

    def decode(self, data: bytes) -> dict[str, NDArray[Any]]:
        """Read an archive; the arrays are read-only."""
        import numpy as np

        if not data.startswith(b"PK"):
            raise CorruptMedia(f"{describe(data)} is not application/x-npz: not a zip archive")
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
        except (*_UNREADABLE, zlib.error, zipfile.BadZipFile) as error:
            raise CorruptMedia(f"{describe(data)} is not application/x-npz: {error}") from error
        for array in arrays.values():
            array.flags.writeable = False
        return arrays


def _to_array(value: object, name: str) -> NDArray[np.generic]:
    import numpy as np

    if isinstance(value, np.ma.MaskedArray):
        raise BadOutput(
            f"{name!r} is a masked array; an npz archive has no masks: use .filled(), or write the "
            "mask beside it"
        )
    try:
        array = np.asarray(value, order="C")
    except ValueError as error:
        raise BadOutput(f"{name!r} is {describe(value)}, not an array: {error}") from error
    if array.dtype.hasobject:
        raise BadOutput(
            f"{name!r} is {describe(value)}, an array of Python objects; application/x-npz holds "
            "numbers, booleans, text and dates, and no pickles: convert it"
        )
    return array
