"""Text in pictures, as PP-OCRv6 reads it: titles, subtitles, signs, covers.

Two models of PaddleOCR work one after the other, with the steps that Segue has of its own:

1. Detection by differentiable binarization (Liao et al., "Real-time scene text detection with
   differentiable binarization", AAAI 2020, arXiv:1911.08947): a map of how likely a pixel is in the
   middle of a line. What is above 0.3 and connected is a line; the smallest rectangle around it is
   widened by 1.6 times its area divided by its perimeter, as the model was trained with shrunken
   lines.
2. Recognition: each line is cut out, turned, scaled to a height of 48 pixels, and read with a
   network whose output is one of 18,708 characters, a space, or nothing, for each 8 columns. What
   follows itself counts once (connectionist temporal classification, Graves et al., ICML 2006).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

from msgspec import Meta

from segue.errors import ConfigurationError
from segue.features.pictures import COPY_BYTES_PER_PIXEL, fit, iterate_pictures, resize
from segue.media.audio import Media
from segue.media.memory import require_memory
from segue.models.onnx_session import open_onnx

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

PRELOAD = ("av", "numpy", "PIL.Image", "scipy.ndimage")

DETECTION, RECOGNITION = "PP-OCRv6_det_small.onnx", "PP-OCRv6_rec_small.onnx"
CHARACTERS = "character"  # in the metadata of the recognition: one a line
SIDE, STEP = 960, 32  # of the picture in which lines are searched: the longest one, and a factor
IN_LINE, IS_LINE = 0.3, 0.5  # of a pixel, and the mean of a line's rectangle
WIDENING = 1.6
MIN_SIDE = 3.0  # pixels of a line's rectangle, before it is widened
MAX_LINES = 300
ANGLES_DEG = (-45.0, 45.0, 361)  # that are tried: from, to, and how many
UPRIGHT = 1.5  # how much higher than wide a line is that runs down or up
HEIGHT, MIN_WIDTH, MAX_WIDTH = 48, 320, 1_920  # of a line that is read
MODEL_BYTES = 1.0 * 2**30  # measured, with what onnxruntime needs for a picture


class TextLine(TypedDict):
    """A line of text in a picture."""

    text: Annotated[str, Meta(description="what it says")]
    confidence: Annotated[float, Meta(description="mean probability of its characters, 0 to 1")]
    box: Annotated[
        list[list[float]],
        Meta(
            description="its corners, clockwise from the upper left: x and y as parts of the "
            "picture's width and height"
        ),
    ]


class ReadPicture(TypedDict):
    """The text in a picture."""

    time_s: Annotated[
        float | None, Meta(description="when the key frame is shown; null for an image")
    ]
    lines: Annotated[list[TextLine], Meta(description="from the top down; at most 300")]


class PictureText(TypedDict):
    """The text in an image, or in the key frames of a film."""

    texts: Annotated[
        list[str], Meta(description="each different line once, in the order of appearance")
    ]
    frames: Annotated[
        list[ReadPicture], Meta(description="one for an image, one for each key frame of a film")
    ]


class Text:
    """Read the text in an image, or in the key frames of a film.

    The characters are those of Latin scripts, Chinese and Japanese; no language has to be known. A
    picture is scaled to 960 pixels, so letters should be a hundredth of its longest side or more.
    Lines may be at an angle, and run down or up; text that is upside down, bent or in perspective
    is read badly.

    Parameters
    ----------
    model : Path
        ``pp_ocr@1``, a folder.
    min_confidence : float, 0 to 1
        Lines that are read with less are left out.
    min_gap_s, max_frames
        Which key frames are looked at: `segue.features.pictures`.

    Raises
    ------
    ConfigurationError
        If a parameter is out of its range.
    NotApplicable, CorruptMedia, TooLarge
        As `segue.Media.image` and `segue.Media.frames` describe.
    """

    def __init__(
        self,
        *,
        model: Path,
        min_confidence: float = 0.5,
        min_gap_s: float = 2.0,
        max_frames: int = 20,
    ) -> None:
        if not 0 <= min_confidence <= 1:
            raise ConfigurationError(f"min_confidence is {min_confidence}; use 0 to 1")
        self.model, self.min_confidence = model, min_confidence
        self.min_gap_s, self.max_frames = min_gap_s, max_frames

    def setup(self) -> None:
        """Load the models."""
        self.detection = open_onnx(self.model / DETECTION, gpu=None)
        self.recognition = open_onnx(self.model / RECOGNITION, gpu=None)
        known = self.recognition.get_modelmeta().custom_metadata_map[CHARACTERS]
        self.characters = ["", *known.removesuffix("\n").split("\n"), " "]

    def __call__(self, media: Media) -> PictureText:
        """Read an image or a film; numbers are rounded to 4 decimals."""
        frames: list[ReadPicture] = []
        texts: dict[str, None] = {}
        for time_s, rgb in iterate_pictures(
            media, min_gap_s=self.min_gap_s, max_frames=self.max_frames
        ):
            size = rgb.shape[0] * rgb.shape[1]
            require_memory(size * COPY_BYTES_PER_PIXEL + MODEL_BYTES, f"text in {media.uri}")
            lines = self._read_picture(rgb)
            frames.append({"time_s": time_s, "lines": lines})
            texts |= dict.fromkeys(line["text"] for line in lines)
        return {"texts": list(texts), "frames": frames}

    def _read_picture(self, rgb: NDArray[np.uint8]) -> list[TextLine]:
        height, width = rgb.shape[:2]
        lines: list[TextLine] = []
        for line in sort_lines(self._find_lines(rgb)):
            image = cut_line(rgb, line)
            # A line that runs down may run up.
            ways = [image, image.rotate(180)] if line.is_upright else [image]
            text, confidence = max(map(self._read_line, ways), key=lambda read: read[1])
            if text.strip() and confidence >= self.min_confidence:
                corners = line.corners / (width, height)
                box = [[round(float(x), 4), round(float(y), 4)] for x, y in corners.clip(0, 1)]
                lines.append({"text": text.strip(), "confidence": round(confidence, 4), "box": box})
        return lines

    def _find_lines(self, rgb: NDArray[np.uint8]) -> list[Rectangle]:
        import numpy as np

        width, height = (max(STEP, round(side / STEP) * STEP) for side in fit(rgb, SIDE))
        given = {self.detection.get_inputs()[0].name: normalise(resize(rgb, width, height))}
        likely = self.detection.run(None, given)[0][0, 0]
        scale = np.array([rgb.shape[1] / width, rgb.shape[0] / height])
        return [rectangle.stretch(*scale) for rectangle in find_rectangles(likely)]

    def _read_line(self, image: Image.Image) -> tuple[str, float]:
        import numpy as np

        padded = np.zeros((1, 3, HEIGHT, max(MIN_WIDTH, image.width)), np.float32)
        padded[..., : image.width] = normalise(image)
        given = {self.recognition.get_inputs()[0].name: padded}
        return decode_text(self.recognition.run(None, given)[0][0], self.characters)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rectangle:
    """A rectangle in a picture, in pixels."""

    centre: NDArray[np.float64]  # x, y
    along: NDArray[np.float64]  # from the left side to the right one
    down: NDArray[np.float64]  # from the upper side to the lower one

    @property
    def corners(self) -> NDArray[np.float64]:
        """The corners, clockwise from the upper left; [shape=(4, 2)]."""
        import numpy as np

        signs = ((-1, -1), (1, -1), (1, 1), (-1, 1))
        return np.stack([self.centre + (a * self.along + b * self.down) / 2 for a, b in signs])

    @property
    def is_upright(self) -> bool:
        """Whether it is so much higher than wide that its text runs down or up."""
        import numpy as np

        return bool(np.hypot(*self.down) >= UPRIGHT * np.hypot(*self.along))

    def stretch(self, x: float, y: float) -> Rectangle:
        """Return it in a picture that is so many times as wide and high."""
        import numpy as np

        scale = np.array([x, y])
        return Rectangle(
            centre=self.centre * scale, along=self.along * scale, down=self.down * scale
        )


def find_rectangles(likely: NDArray[np.float32]) -> list[Rectangle]:
    """Return a rectangle around each line.

    Parameters
    ----------
    likely : np.ndarray [shape=(height, width)]
        How likely each pixel is in the middle of a line of text, from 0 to 1.
    """
    import numpy as np
    from scipy.ndimage import find_objects, label

    numbers, count = label(likely > IN_LINE, structure=np.ones((3, 3)))
    areas = np.bincount(numbers.ravel(), minlength=count + 1)[1:]
    found = []
    places = find_objects(numbers)
    for index in np.argsort(-areas, kind="stable")[:MAX_LINES].tolist():
        rows, columns = np.nonzero(numbers[places[index]] == index + 1)
        origin = np.array([places[index][1].start, places[index][0].start]) + 0.5
        rectangle = _enclose(np.stack([columns, rows], axis=1) + origin)
        sides = [float(np.hypot(*side)) for side in (rectangle.along, rectangle.down)]
        if min(sides) >= MIN_SIDE and _average(likely, rectangle) >= IS_LINE:
            found.append(_widen(rectangle, *sides))
    return found


def _enclose(points: NDArray[np.float64]) -> Rectangle:
    """Return the smallest rectangle around pixels with these centres, of all angles tried."""
    import numpy as np

    angles = np.deg2rad(np.linspace(*ANGLES_DEG))
    angles = angles[np.argsort(np.abs(angles), kind="stable")]  # of equals, the straightest
    axes = np.stack([np.cos(angles), np.sin(angles)]), np.stack([-np.sin(angles), np.cos(angles)])
    outline = _keep_outline(points)
    ends = [((outline @ axis).min(axis=0), (outline @ axis).max(axis=0)) for axis in axes]
    lengths = [high - low + 1 for low, high in ends]
    best = int(np.argmin(lengths[0] * lengths[1]))
    units = [axis[:, best] for axis in axes]
    middles = [(low[best] + high[best]) / 2 for low, high in ends]
    return Rectangle(
        centre=middles[0] * units[0] + middles[1] * units[1],
        along=lengths[0][best] * units[0],
        down=lengths[1][best] * units[1],
    )


def _keep_outline(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the first and last point of each row, which have all corners of the hull."""
    import numpy as np

    order = np.lexsort((points[:, 0], points[:, 1]))
    ordered = points[order]
    is_first = np.append(True, np.diff(ordered[:, 1]) > 0)
    outline: NDArray[np.float64] = ordered[is_first | np.append(is_first[1:], True)]
    return outline


def _average(likely: NDArray[np.float32], rectangle: Rectangle) -> float:
    """Return the mean of the pixels in a rectangle."""
    import numpy as np

    corners = rectangle.corners
    (left, top), (right, bottom) = np.floor(corners.min(axis=0)), np.ceil(corners.max(axis=0))
    left, top = max(0, int(left)), max(0, int(top))
    part = likely[top : int(bottom), left : int(right)]
    y, x = np.indices(part.shape) + 0.5
    offsets = np.stack([x + left, y + top], axis=2) - rectangle.centre
    is_inside = np.ones(part.shape, np.bool_)
    for side in (rectangle.along, rectangle.down):
        is_inside &= np.abs(offsets @ side) <= side @ side / 2
    return float(part[is_inside].mean()) if is_inside.any() else 0.0


def _widen(rectangle: Rectangle, width: float, height: float) -> Rectangle:
    added = WIDENING * width * height / (width + height)  # to both sides together
    return Rectangle(
        centre=rectangle.centre,
        along=rectangle.along * (1 + added / width),
        down=rectangle.down * (1 + added / height),
    )


def sort_lines(lines: list[Rectangle]) -> list[Rectangle]:
    """Sort lines from the top down, and those at one height from left to right."""
    rows: list[list[Rectangle]] = []
    for line in sorted(lines, key=lambda one: float(one.centre[1])):
        if rows and line.centre[1] - rows[-1][0].centre[1] < rows[-1][0].down[1] / 2:
            rows[-1].append(line)
        else:
            rows.append([line])
    return [line for row in rows for line in sorted(row, key=lambda one: float(one.centre[0]))]


def cut_line(rgb: NDArray[np.uint8], line: Rectangle) -> Image.Image:
    """Cut a line out of a picture: straight, from left to right, 48 pixels high."""
    import numpy as np
    from PIL import Image as Pillow

    corners = line.corners
    if line.is_upright:
        corners = np.roll(corners, -1, axis=0)  # it begins at the top, which comes to the left
    across, down = corners[1] - corners[0], corners[3] - corners[0]
    scale = HEIGHT / np.hypot(*down)
    width = int(np.clip(round(float(np.hypot(*across) * scale)), 1, MAX_WIDTH))
    # The part of the picture around it is scaled first: turning takes single pixels.
    low = np.clip(np.floor(corners.min(axis=0)), 0, np.array(rgb.shape[1::-1]) - 1).astype(int)
    high = np.clip(np.ceil(corners.max(axis=0)), low + 1, rgb.shape[1::-1]).astype(int)
    part = np.ascontiguousarray(rgb[low[1] : high[1], low[0] : high[0]])
    size = np.maximum(1, np.rint((high - low) * scale)).astype(int)
    size = np.minimum(size, 4 * MAX_WIDTH)
    scaled = resize(part, *size.tolist())
    factor = size / (high - low)
    start, x, y = (corners[0] - low) * factor, across * factor / width, down * factor / HEIGHT
    matrix = (x[0], y[0], start[0], x[1], y[1], start[1])
    return scaled.transform(
        (width, HEIGHT), Pillow.Transform.AFFINE, matrix, Pillow.Resampling.BILINEAR
    )


def normalise(image: Image.Image) -> NDArray[np.float32]:
    """Return a picture as the models take it: [1, 3, height, width], blue first, -1 to 1."""
    import numpy as np

    pixels = np.asarray(image, np.float32)[..., ::-1] / 127.5 - 1
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[np.newaxis])


def decode_text(likely: NDArray[np.float32], characters: list[str]) -> tuple[str, float]:
    """Return the likeliest text, and the mean probability of its characters.

    Parameters
    ----------
    likely : np.ndarray [shape=(columns, characters)]
        The probability of each character at each column; the first one is nothing.
    characters : list of str
        What they are.
    """
    import numpy as np

    best = likely.argmax(axis=1)
    counts = (best != 0) & np.append(True, best[1:] != best[:-1])
    if not counts.any():
        return "", 0.0
    text = "".join(characters[number] for number in best[counts].tolist())
    return text, float(likely.max(axis=1)[counts].mean())
