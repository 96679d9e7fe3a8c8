"""Decodes an image file to RGB pixels, as it is meant to be seen.

Pillow decodes, and only the formats that are listed here, each of which it recognises by its bytes.
Its decoders are in the process of the job, so they have its bound on memory and its deadline.
"""

from __future__ import annotations

import struct
import warnings
from typing import TYPE_CHECKING

from segue.errors import CorruptMedia, NotApplicable, TooLarge
from segue.media.content_type import describe_types, find_types_in
from segue.media.memory import require_memory
from segue.media.source import open_source
from segue.model.content_types import accepts

if TYPE_CHECKING:
    from typing import BinaryIO

    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

# Pillow's names of the formats that are read.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP")
# Beyond this, Pillow itself takes an image for a bomb.
MAX_PIXELS = 178_956_970
# Pillow's pixels, a progressive photograph's coefficients, a converted copy, and the array.
BYTES_PER_PIXEL = 16
# What Pillow raises on damaged files, a few of them by accident.
ERRORS = (
    *(OSError, ValueError, SyntaxError, EOFError, struct.error),
    *(ArithmeticError, LookupError, TypeError, AttributeError, RuntimeError),
)
MODES_WITH_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")
WIDE_MODES = ("I;16", "I;16B", "I;16L", "I;16N")
WITHOUT_RANGE = ("I", "F")
ORIENTATION = 0x0112  # EXIF 2.32, table 4
WHITE = (255, 255, 255, 255)


def decode_image(path: str, uri: str) -> NDArray[np.uint8]:
    """Decode an image file.

    Parameters
    ----------
    path : str
        The path of its local copy.
    uri : str
        Its URI, for errors.

    Returns
    -------
    np.ndarray [shape=(height, width, 3)], dtype uint8
        Red, green and blue, from 0 to 255, upright: the orientation in the file's EXIF data is
        applied. What is transparent is shown on white; of an animation, it is the first picture.
        Colour profiles are not applied, and 16 bits per channel become 8.

    Raises
    ------
    NotApplicable, CorruptMedia, TooLarge, MissingInput
        As `segue.Media.image` describes.
    """
    from PIL.Image import DecompressionBombError

    with open_source(path, uri) as file:
        types = find_types_in(file)
        if types and not accepts(["image/*"], types):
            raise NotApplicable(f"{uri} is {describe_types(types)}, not an image")
        file.seek(0)
        try:
            with warnings.catch_warnings(action="ignore"):  # of metadata, and of large images
                return _decode(file, uri)
        except DecompressionBombError as error:
            raise _too_large(uri, "it has too many") from error
        except ERRORS as error:
            raise CorruptMedia(f"{uri}: {_explain(error, types)}") from error


def _explain(error: Exception, types: frozenset[str]) -> str:
    from PIL import UnidentifiedImageError

    if not isinstance(error, UnidentifiedImageError):
        return f"damaged or truncated: {error or type(error).__name__}"
    if not types:
        return "not an image that Segue recognises"
    readable = ", ".join(FORMATS)
    return f"{describe_types(types)} that cannot be read: convert it to one of {readable}"


def _decode(file: BinaryIO, uri: str) -> NDArray[np.uint8]:
    with open_image(file) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise _too_large(uri, f"{width:,} x {height:,}")
        require_memory(width * height * BYTES_PER_PIXEL, f"{uri}, {width:,} x {height:,} pixels,")
        if image.mode in WITHOUT_RANGE:
            raise CorruptMedia(
                f"{uri}: its pixels are numbers of 32 bits, whose range is not known: save it with "
                "8 or 16 bits per channel"
            )
        image.load()  # of a TIFF, this turns it, and removes the orientation
        pixels = _turn_upright(_convert_to_rgb(image), _read_orientation(image))
    pixels.flags.writeable = False
    return pixels


def _read_orientation(image: Image.Image) -> object:
    """Return an image's orientation; None if its EXIF data is damaged, as its pixels are not."""
    try:
        return image.getexif().get(ORIENTATION)
    except ERRORS:
        return None


def open_image(file: BinaryIO) -> Image.Image:
    """Read the header of an image of a format that is read; no pixel is decoded.

    Raises
    ------
    PIL.Image.DecompressionBombError
        If it has more pixels than `MAX_PIXELS`.
    Exception
        Any of `ERRORS`, if it is damaged, or of another format.
    """
    from PIL import Image

    return Image.open(file, formats=FORMATS)


def _too_large(uri: str, size: str) -> TooLarge:
    return TooLarge(f"{uri}: {size} pixels; the limit is {MAX_PIXELS:,} pixels: scale it down")


def _convert_to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    import numpy as np
    from PIL import Image as Pillow

    if image.mode in WIDE_MODES:
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(grey[..., np.newaxis], 3, axis=2)
    if image.mode in MODES_WITH_ALPHA or "transparency" in image.info:
        opaque = Pillow.new("RGBA", image.size, WHITE)
        opaque.alpha_composite(image.convert("RGBA"))
        image = opaque
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _turn_upright(pixels: NDArray[np.uint8], orientation: object) -> NDArray[np.uint8]:
    """Mirror and turn pixels as EXIF's orientation says; an unknown one changes nothing."""
    import numpy as np

    turned = {
        2: lambda: pixels[:, ::-1],
        3: lambda: pixels[::-1, ::-1],
        4: lambda: pixels[::-1],
        5: lambda: pixels.transpose(1, 0, 2),
        6: lambda: np.rot90(pixels, -1),
        7: lambda: np.rot90(pixels, 2).transpose(1, 0, 2),
        8: lambda: np.rot90(pixels),
    }.get(orientation if isinstance(orientation, int) else 1, lambda: pixels)()
    return np.ascontiguousarray(turned)
