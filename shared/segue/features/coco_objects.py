"""Objects in pictures, of the 80 classes of COCO: people, animals, vehicles, furniture, food.

CenterNet (Zhou, Wang, Kraehenbuehl: "Objects as Points", 2019, arXiv:1904.07850) says for each cell
of a picture how likely the centre of an object of each class is there, and how far such an object
goes. An object is a cell that is above its eight neighbours; of objects of one class that overlap
by more than half (intersection over union), the likelier one stays.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

from msgspec import Meta

from segue.errors import ConfigurationError
from segue.features.pictures import COPY_BYTES_PER_PIXEL, fit, iterate_pictures, resize
from segue.media.audio import Media
from segue.media.memory import require_memory
from segue.models.centernet import CLASSES, SIDE, STRIDE
from segue.models.onnx_session import open_onnx

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PRELOAD = ("av", "numpy", "PIL.Image")

MAX_OBJECTS = 100  # in a picture
MAX_OVERLAP = 0.5
MODEL_BYTES = 0.3 * 2**30  # measured, with what onnxruntime needs for a picture


class SeenObject(TypedDict):
    """An object in a picture."""

    label: Annotated[str, Meta(description="its class, one of the 80 of COCO, such as person")]
    score: Annotated[float, Meta(description="how likely it is one, 0 to 1")]
    box: Annotated[
        list[float],
        Meta(description="left, top, right and bottom, as parts of the picture's width and height"),
    ]


class SeenPicture(TypedDict):
    """The objects in a picture."""

    time_s: Annotated[
        float | None, Meta(description="when the key frame is shown; null for an image")
    ]
    objects: Annotated[list[SeenObject], Meta(description="the likeliest first; at most 100")]


class SeenObjects(TypedDict):
    """The objects in an image, or in the key frames of a film."""

    labels: Annotated[
        dict[str, float], Meta(description="each class in any picture, with its highest score")
    ]
    frames: Annotated[
        list[SeenPicture], Meta(description="one for an image, one for each key frame of a film")
    ]


class Objects:
    """Find objects of the 80 classes of COCO in an image, or in the key frames of a film.

    A picture is scaled to 512 pixels, so what is smaller than a twentieth of it is seldom found. A
    drawing, and what is in none of the classes, gives nothing, or something wrong with a low score.

    Parameters
    ----------
    model : Path
        ``centernet@1``.
    threshold : float, 0 to 1
        The score from which on an object counts.
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
        threshold: float = 0.3,
        min_gap_s: float = 2.0,
        max_frames: int = 50,
    ) -> None:
        if not 0 < threshold < 1:
            raise ConfigurationError(f"threshold is {threshold}; use a number between 0 and 1")
        self.model, self.threshold = model, threshold
        self.min_gap_s, self.max_frames = min_gap_s, max_frames

    def setup(self) -> None:
        """Load the model."""
        self.session = open_onnx(self.model, gpu=None)

    def __call__(self, media: Media) -> SeenObjects:
        """Find objects; scores and boxes are rounded to 4 decimals."""
        frames: list[SeenPicture] = []
        labels: dict[str, float] = {}
        pictures = iterate_pictures(media, min_gap_s=self.min_gap_s, max_frames=self.max_frames)
        for time_s, rgb in pictures:
            size = rgb.shape[0] * rgb.shape[1]
            require_memory(size * COPY_BYTES_PER_PIXEL + MODEL_BYTES, f"objects in {media.uri}")
            found = self._find(rgb)
            frames.append({"time_s": time_s, "objects": found})
            for one in found:
                labels[one["label"]] = max(one["score"], labels.get(one["label"], 0.0))
        return {"labels": dict(sorted(labels.items())), "frames": frames}

    def _find(self, rgb: NDArray[np.uint8]) -> list[SeenObject]:
        import numpy as np

        # As the model was trained: in the middle of a black square.
        width, height = fit(rgb, SIDE)
        left, top = (SIDE - width) // 2, (SIDE - height) // 2
        square = np.zeros((3, SIDE, SIDE), np.float32)
        small = np.asarray(resize(rgb, width, height)).transpose(2, 0, 1)
        square[:, top : top + height, left : left + width] = small
        heat, reach = self.session.run(["heat", "reach"], {"images": square[np.newaxis]})
        offset, scale = np.array([left, top] * 2), np.array([width, height] * 2)
        classes, scores, boxes = find_peaks(heat[0], reach[0], self.threshold)
        boxes = np.clip((boxes - offset) / scale, 0, 1)
        return [
            {
                "label": CLASSES[classes[number]],
                "score": round(float(scores[number]), 4),
                "box": [round(float(side), 4) for side in boxes[number]],
            }
            for number in drop_overlaps(classes, boxes)
        ]


def find_peaks(
    heat: NDArray[np.float32], reach: NDArray[np.float32], threshold: float
) -> tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.float64]]:
    """Return class, score and box of each peak, the highest first.

    Parameters
    ----------
    heat : np.ndarray [shape=(classes, rows, columns)]
        How likely a cell is the centre of an object.
    reach : np.ndarray [shape=(4, rows, columns)]
        How far it goes to the left, up, right and down, in pixels.
    threshold : float
        The lowest score.

    Returns
    -------
    classes : np.ndarray [shape=(n,)]
    scores : np.ndarray [shape=(n,)]
    boxes : np.ndarray [shape=(n, 4)]
        Left, top, right and bottom in pixels.
    """
    import numpy as np

    cells = np.flatnonzero(heat >= threshold)
    kinds, rows, columns = np.unravel_index(cells, heat.shape)
    scores = heat[kinds, rows, columns]
    # Beyond the edge there is the cell on the edge, which is a neighbour anyway.
    above, beside = (
        [(place + step).clip(0, size - 1) for step in (-1, 0, 1)]
        for place, size in zip((rows, columns), heat.shape[1:], strict=True)
    )
    neighbours = [heat[kinds, row, column] for row in above for column in beside]
    is_peak = scores >= np.max(neighbours, axis=0)
    order = np.argsort(-scores[is_peak], kind="stable")[:MAX_OBJECTS]
    kinds, rows, columns, scores = (each[is_peak][order] for each in (kinds, rows, columns, scores))
    centres = np.stack([columns, rows, columns, rows], axis=1) * float(STRIDE)
    # The network may say less than nothing.
    boxes = centres + np.maximum(reach[:, rows, columns].T, 0) * np.array([-1, -1, 1, 1])
    return kinds, scores, boxes


def drop_overlaps(classes: NDArray[np.intp], boxes: NDArray[np.float64]) -> list[int]:
    """Return the numbers of the boxes that overlap none before them of the same class."""
    import numpy as np

    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    kept: list[int] = []
    for number, box in enumerate(boxes):
        others = [one for one in kept if classes[one] == classes[number]]
        shared = np.minimum(box[2:], boxes[others, 2:]) - np.maximum(box[:2], boxes[others, :2])
        common = np.prod(np.maximum(shared, 0), axis=1)
        if (common <= MAX_OVERLAP * (areas[number] + areas[others] - common)).all():
            kept.append(number)
    return kept
