"""Hashes of pictures that stay the same, or nearly, when a picture is scaled or compressed.

Two pictures are alike if few of the 64 bits of their hashes differ: up to 10 is usual for copies,
and about 32 is chance. ``phash`` compares the low frequencies of a picture with their median, and
``dhash`` neighbours in a row. Both are bit for bit those of the package imagehash, which follows
N. Krawetz, "Looks Like It" (2011) and "Kind of Like That" (2013), hackerfactor.com:

- luma (ITU-R BT.601, as Pillow's mode L), scaled by Lanczos' filter to 32 x 32 or 9 x 8;
- ``phash``: the upper left 8 x 8 of the two-dimensional DCT-II, the mean included; a bit is 1 if
  the coefficient is above the median of the 64;
- ``dhash``: a bit is 1 if a pixel is brighter than its left neighbour.

Bits are in rows, and written as 16 hexadecimal digits, the first bit being the highest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypedDict

from msgspec import Meta

from segue.features.pictures import COPY_BYTES_PER_PIXEL, iterate_pictures
from segue.media.audio import Media
from segue.media.memory import require_memory

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

PRELOAD = ("av", "numpy", "PIL.Image", "scipy.fft")

SIDE = 8  # of the square of bits
SCALE = 4  # how much larger the picture is of which the DCT is taken


class HashedPicture(TypedDict):
    """The hashes of a picture."""

    time_s: Annotated[
        float | None, Meta(description="when the key frame is shown; null for an image")
    ]
    phash: Annotated[str, Meta(description="of the DCT: 16 hexadecimal digits, 64 bits")]
    dhash: Annotated[str, Meta(description="of differences: 16 hexadecimal digits, 64 bits")]


class PerceptualHashes(TypedDict):
    """The perceptual hashes of an image, or of the key frames of a film."""

    frames: Annotated[
        list[HashedPicture], Meta(description="one for an image, one for each key frame of a film")
    ]


def phash(media: Media, *, min_gap_s: float = 1.0, max_frames: int = 200) -> PerceptualHashes:
    """Compute perceptual hashes of an image, or of the key frames of a film.

    They are the same for a picture that is scaled or compressed moderately; not for one that is
    cropped, turned or mirrored. A picture of one colour has the hash ``8000000000000000``, and a
    black one ``0000000000000000``: they say nothing.

    Parameters
    ----------
    media : Media
        An image or a film.
    min_gap_s, max_frames
        Which key frames are looked at: `segue.features.pictures`.

    Returns
    -------
    PerceptualHashes
        As hexadecimal digits: `segue.features.perceptual_hash` says how they are made.

    Raises
    ------
    ConfigurationError
        If a parameter is out of its range.
    NotApplicable, CorruptMedia, TooLarge
        As `segue.Media.image` and `segue.Media.frames` describe.
    """
    from PIL import Image as Pillow

    found: list[HashedPicture] = []
    for time_s, rgb in iterate_pictures(media, min_gap_s=min_gap_s, max_frames=max_frames):
        height, width = rgb.shape[:2]
        require_memory(height * width * COPY_BYTES_PER_PIXEL, f"the hash of {media.uri}")
        grey = Pillow.fromarray(rgb).convert("L")
        found.append({"time_s": time_s, "phash": _hash_dct(grey), "dhash": _hash_steps(grey)})
    return {"frames": found}


def _hash_dct(grey: Image.Image) -> str:
    import numpy as np
    from scipy.fft import dct

    pixels = _scale(grey, SIDE * SCALE, SIDE * SCALE).astype(np.float64)
    low = dct(dct(pixels, axis=0), axis=1)[:SIDE, :SIDE]
    return _write_bits(low > np.median(low))


def _hash_steps(grey: Image.Image) -> str:
    pixels = _scale(grey, SIDE + 1, SIDE)
    return _write_bits(pixels[:, 1:] > pixels[:, :-1])


def _scale(grey: Image.Image, width: int, height: int) -> NDArray[np.uint8]:
    import numpy as np
    from PIL import Image as Pillow

    return np.asarray(grey.resize((width, height), Pillow.Resampling.LANCZOS))


def _write_bits(bits: NDArray[np.bool_]) -> str:
    import numpy as np

    return np.packbits(bits.ravel()).tobytes().hex()
