"""How likely a picture is to be refused as adult content, according to Yahoo's open_nsfw.

Mahadeokar, Pesavento: "Open Sourcing a Deep Learning Solution for Detecting NSFW Images", Yahoo,
2016: a thin ResNet-50 that tells pictures that are not safe for work from others. It knows
nakedness and sexual acts in photographs; neither drawings and texts, nor violence. The line between
both depends on who draws it: look at what scores between 0.2 and 0.8.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

from msgspec import Meta

from segue.features.pictures import COPY_BYTES_PER_PIXEL, iterate_pictures, resize
from segue.media.audio import Media
from segue.media.memory import require_memory
from segue.models.onnx_session import open_onnx

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PRELOAD = ("av", "numpy", "PIL.Image")

# Pixels a side: of the whole picture, and of its middle, which is looked at.
SCALED, SEEN = 256, 224
MEAN_BGR = (104.0, 117.0, 123.0)  # of the pictures that it was trained with
QUALITY = 75  # of the JPEG that the original preparation makes of a picture, in Pillow's default
MODEL_BYTES = 0.3 * 2**30  # measured, with what onnxruntime needs for a picture


class RatedPicture(TypedDict):
    """How likely a picture is adult content."""

    time_s: Annotated[
        float | None, Meta(description="when the key frame is shown; null for an image")
    ]
    adult: Annotated[float, Meta(description="probability of adult content, 0 to 1")]


class RatedPictures(TypedDict):
    """How likely an image, or any key frame of a film, is adult content."""

    adult_max: Annotated[
        float, Meta(description="highest probability of adult content of any picture, 0 to 1")
    ]
    adult_mean: Annotated[float, Meta(description="its mean over all pictures, 0 to 1")]
    frames: Annotated[
        list[RatedPicture], Meta(description="one for an image, one for each key frame of a film")
    ]


class Moderation:
    """Estimate how likely an image, or the key frames of a film, are adult content.

    This is an aid to people who moderate, and no verdict. What is between the key frames that are
    looked at is not seen.

    Parameters
    ----------
    model : Path
        ``open_nsfw@1``.
    min_gap_s, max_frames
        Which key frames are looked at: `segue.features.pictures`.

    Raises
    ------
    ConfigurationError
        If a parameter is out of its range.
    NotApplicable, CorruptMedia, TooLarge
        As `segue.Media.image` and `segue.Media.frames` describe.
    """

    def __init__(self, *, model: Path, min_gap_s: float = 2.0, max_frames: int = 100) -> None:
        self.model = model
        self.min_gap_s, self.max_frames = min_gap_s, max_frames

    def setup(self) -> None:
        """Load the model."""
        self.session = open_onnx(self.model, gpu=None)
        self._input = self.session.get_inputs()[0].name

    def __call__(self, media: Media) -> RatedPictures:
        """Rate an image or a film; probabilities are rounded to 4 decimals."""
        frames: list[RatedPicture] = []
        for time_s, rgb in iterate_pictures(
            media, min_gap_s=self.min_gap_s, max_frames=self.max_frames
        ):
            size = rgb.shape[0] * rgb.shape[1]
            require_memory(size * COPY_BYTES_PER_PIXEL + MODEL_BYTES, f"rating {media.uri}")
            ((_, adult),) = self.session.run(None, {self._input: prepare(rgb)})[0]
            frames.append({"time_s": time_s, "adult": round(float(adult), 4)})
        found = [frame["adult"] for frame in frames]
        mean = round(sum(found) / len(found), 4)
        return {"adult_max": max(found), "adult_mean": mean, "frames": frames}


def prepare(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return a picture as the model takes it: [1, 224, 224, 3], blue first, without the mean.

    The model was trained with files, so the scaled picture is compressed as JPEG once, as in the
    original code; without that, results differ in the second decimal.
    """
    import numpy as np
    from PIL import Image

    edge = (SCALED - SEEN) // 2
    seen = resize(rgb, SCALED, SCALED).crop((edge, edge, edge + SEEN, edge + SEEN))
    file = io.BytesIO()
    seen.save(file, "JPEG", quality=QUALITY)
    pixels = np.asarray(Image.open(file), np.float32)
    return np.ascontiguousarray(pixels[np.newaxis, ..., ::-1] - np.array(MEAN_BGR, np.float32))
