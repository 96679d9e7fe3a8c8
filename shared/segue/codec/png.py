"""``image/png``: an image as pixels."""

from __future__ import annotations

import io
import warnings
import zlib
from typing import TYPE_CHECKING

from segue.codec.encoded import Encoded, describe
from segue.errors import BadOutput, CorruptMedia

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# zlib looks for runs of one byte, and no other repetitions. A spectrogram is then 5 % larger, and a
# photo 3 % at most, in a quarter of the time; and zlib and zlib-ng write the same bytes: Pillow
# takes whichever the machine has.
STRATEGY = zlib.Z_RLE
# Pillow's modes, and the modes of uint8 pixels that they are converted to.
MODES = {"L": "L", "RGB": "RGB", "RGBA": "RGBA", "1": "L", "LA": "RGBA", "P": "RGBA", "PA": "RGBA"}


class PngCodec:
    """Pixels, uint8 [shape=(height, width) or (height, width, 3 or 4)], or the bytes of a PNG.

    PNG bytes are stored unchanged, after they have been read to the end; palettes and grey with
    transparency become RGBA when they are decoded. Pixels are compressed for speed: return bytes
    for pictures of text, tables or tiles, which are some times smaller if repetitions are sought.
    """

    extension = "png"

    def encode(self, value: object) -> Encoded:
        """Compress pixels, or check PNG bytes; no time stamp and no text is written."""
        if isinstance(value, bytes):
            try:
                return Encoded(value, self.decode(value))
            except CorruptMedia as error:
                raise BadOutput(
                    f"the job returned bytes that are not a PNG image: {error}"
                ) from error
        return self._encode_pixels(value)

    def decode(self, data: bytes) -> NDArray[np.uint8]:
        """Read an image to the end; the array is read-only."""
        import numpy as np
        from PIL import Image

        if not data.startswith(SIGNATURE):
            raise CorruptMedia(
                f"{describe(data)} is not image/png: it does not start with PNG's signature"
            )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
                    pixels = np.asarray(_convert_mode(image))
        except (OSError, ValueError, SyntaxError, Warning, Image.DecompressionBombError) as error:
            raise CorruptMedia(f"{describe(data)} is not image/png: {error}") from error
        pixels.flags.writeable = False
        return pixels

    def _encode_pixels(self, value: object) -> Encoded:
        import numpy as np
        from PIL import Image

        if not isinstance(value, np.ndarray) or value.dtype != np.uint8:
            what = (
                f"an array of {value.dtype}" if isinstance(value, np.ndarray) else describe(value)
            )
            raise BadOutput(
                f"the job returned {what}; image/png holds an array of uint8, or PNG bytes: scale "
                "it to 0..255 and use .astype(np.uint8)"
            )
        if value.ndim not in (2, 3) or value.shape[2:] not in ((), (3,), (4,)) or 0 in value.shape:
            raise BadOutput(
                f"the job returned an image of the shape {value.shape}; image/png holds (height, "
                "width), (height, width, 3) or (height, width, 4): did you put the colours first?"
            )
        pixels = np.array(value, order="C")
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG", compress_type=STRATEGY)
        pixels.flags.writeable = False
        return Encoded(buffer.getvalue(), pixels)


def _convert_mode(image: Image.Image) -> Image.Image:
    image.load()
    mode = MODES.get(image.mode)
    if mode is None:
        raise ValueError(f"its mode is {image.mode}; save it with 8 bits per channel")
    return image if mode == image.mode else image.convert(mode)
