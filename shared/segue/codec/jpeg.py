"""``image/jpeg``: a photograph as pixels, in a tenth of the bytes of a PNG."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

from segue.codec.encoded import Encoded, describe
from segue.errors import BadOutput, CorruptMedia

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SIGNATURE = b"\xff\xd8\xff"
QUALITY = 85  # of 1 to 95; half as large as at 95, and hard to tell apart
MAX_SIDE = 65_500  # of libjpeg
MAX_PIXELS = 89_478_485  # from which on Pillow takes a file for a bomb


class JpegCodec:
    """Pixels, uint8 [shape=(height, width) or (height, width, 3)], or the bytes of a JPEG.

    Pixels change a little: what a child job reads is what was stored. JPEG bytes are stored
    unchanged, after they have been read to the end.
    """

    extension = "jpg"

    def encode(self, value: object) -> Encoded:
        """Compress pixels, or check JPEG bytes; no time stamp and no text is written."""
        data = value if isinstance(value, bytes) else _compress(value)
        try:
            return Encoded(data, self.decode(data))
        except CorruptMedia as error:
            raise BadOutput(f"the job returned bytes that are not a JPEG image: {error}") from error

    def decode(self, data: bytes) -> NDArray[np.uint8]:
        """Read an image to the end, as grey or RGB; the array is read-only."""
        import numpy as np
        from PIL import Image

        if not data.startswith(SIGNATURE):
            raise CorruptMedia(
                f"{describe(data)} is not image/jpeg: it does not start with JPEG's signature"
            )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
                    pixels = np.array(image if image.mode == "L" else image.convert("RGB"))
        except (OSError, ValueError, SyntaxError, Warning, Image.DecompressionBombError) as error:
            raise CorruptMedia(f"{describe(data)} is not image/jpeg: {error}") from error
        pixels.flags.writeable = False
        return pixels


def _compress(value: object) -> bytes:
    import numpy as np
    from PIL import Image

    if not isinstance(value, np.ndarray) or value.dtype != np.uint8:
        what = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else describe(value)
        raise BadOutput(
            f"the job returned {what}; image/jpeg holds an array of uint8, or JPEG bytes: scale "
            "it to 0..255 and use .astype(np.uint8)"
        )
    fits = min(value.shape, default=0) > 0 and max(value.shape) <= MAX_SIDE
    fits = fits and np.prod(value.shape[:2]) <= MAX_PIXELS
    if not fits or value.ndim not in (2, 3) or value.shape[2:] not in ((), (3,)):
        raise BadOutput(
            f"the job returned an image of the shape {value.shape}; image/jpeg holds (height, "
            f"width) or (height, width, 3), of up to {MAX_SIDE:,} pixels a side and {MAX_PIXELS:,} "
            "in all: leave transparency out, scale it down, or declare image/png"
        )
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(value)).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()
