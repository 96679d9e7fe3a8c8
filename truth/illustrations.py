"""Draws the pictures of docs/features.md, of what the jobs find: ``python -m truth.illustrations``.

They are made of photographs of scikit-image that are in the public domain.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from truth.caller import ROOT, Caller, System
from truth.films import CODECS, CUTS, FRAMES_PER_S, find_ffmpeg, join_shots, write_film
from truth.models import fetch_model
from truth.photographs import find_photos

PYTHON = str(ROOT / ".venv/bin/python")
FOLDER = ROOT / "docs" / "features"
QUALITY = 60
PHOTO = "chelsea.png"
FREE = (PHOTO, "astronaut.png", "camera.png", "coffee.png", "rocket.jpg")
SHOWN, THUMB, GAP = 6, (128, 72), 4
LINE = (255, 220, 0)


def call_job(call: str, path: Path, parameters: dict[str, Any]) -> Any:
    """Return what a job of Segue returns for a picture or film."""
    system = System(name="Segue", python=PYTHON, call=call, parameters=parameters, media=True)
    with Caller(system) as caller:
        return caller.call(path)[0]


def draw_objects() -> Image.Image:
    """Return a photograph with a box around each object."""
    path = find_photos() / PHOTO
    parameters = {"model": fetch_model(PYTHON, "centernet@1")}
    found = call_job("segue.features.coco_objects:Objects", path, parameters)
    image = Image.open(path).convert("RGB")
    pen = ImageDraw.Draw(image)
    for one in found["frames"][0]["objects"]:
        left, top, right, bottom = (
            side * length for side, length in zip(one["box"], image.size * 2, strict=True)
        )
        pen.rectangle((left, top, right, bottom), outline=LINE, width=3)
        label = f"{one['label']} {one['score']:.2f}"
        pen.text((left + 6, top + 4), label, LINE, font_size=18, stroke_width=2, stroke_fill=0)
    return image.resize((image.width * 2 // 3, image.height * 2 // 3))


def draw_cuts() -> Image.Image:
    """Return the last frame before each of some cuts, and below it the first one after it."""
    frames, cuts = join_shots(0, FREE)
    with tempfile.TemporaryDirectory() as scratch:
        codec = next(iter(CODECS))
        path = write_film(find_ffmpeg(PYTHON), frames, [0, *cuts], codec, Path(scratch) / "film")
        found = call_job(CUTS, path, {})
    width, height = THUMB
    sheet = Image.new("RGB", (SHOWN * (width + GAP) - GAP, 2 * height + GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for place, time_s in enumerate(found["times_s"][:SHOWN]):
        left = place * (width + GAP)
        after = round(time_s * FRAMES_PER_S)
        for row, frame in enumerate((after - 1, after)):
            thumb = Image.fromarray(np.asarray(frames[frame])).resize(THUMB)
            sheet.paste(thumb, (left, row * (height + GAP)))
        at = (left + 4, height + GAP + 2)
        pen.text(at, f"{time_s:.2f} s", LINE, font_size=14, stroke_width=2, stroke_fill=0)
    return sheet


def main() -> None:
    """Write both."""
    FOLDER.mkdir(exist_ok=True)
    for name, image in (("objects", draw_objects()), ("cuts", draw_cuts())):
        image.save(FOLDER / f"{name}.jpg", quality=QUALITY, optimize=True)


if __name__ == "__main__":
    main()
