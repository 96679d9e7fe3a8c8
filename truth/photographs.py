"""Pictures whose content is known: photographs of scikit-image, and stamps of Tux Paint.

The content of a photograph is written down here. A stamp is one thing, cut out, which its file is
named after; it is put on grey, and on a photograph of grass, gravel or bricks. Cartoons are left
out, and so are stamps of which one may argue whether they are one of the classes.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from PIL import Image

from truth.choices import make_once
from truth.debian import unpack_package

SIZE = (640, 480)
QUALITY = 95
FILLED = 0.7  # of the height or width, by a stamp
GREY = (128, 128, 128)
GROUNDS = ("grass", "gravel", "brick")
STAMPS = "tuxpaint-stamps-default"
PHOTOGRAPHS, NOTHING = "photographs", "things of no class"

# File → what is in it, of the classes of COCO.
PHOTOS: dict[str, tuple[str, ...]] = {
    "astronaut.png": ("person",),
    "camera.png": ("person",),
    "chelsea.png": ("cat",),
    "coffee.png": ("cup", "spoon"),
    "motorcycle_left.png": ("motorcycle",),
    "motorcycle_right.png": ("motorcycle",),
    "brick.png": (),
    "cell.png": (),
    "coins.png": (),
    "grass.png": (),
    "gravel.png": (),
    "hubble_deep_field.jpg": (),
    "ihc.png": (),
    "moon.png": (),
    "page.png": (),
    "retina.jpg": (),
    "rocket.jpg": (),
}
# Set → class → the stamps, as patterns in their folder.
THINGS: dict[str, dict[str, tuple[str, ...]]] = {
    "birds": {"bird": ("animals/birds/*",)},
    "mammals": {
        "bear": ("animals/mammals/bears/*",),
        "cow": ("animals/mammals/bovines/bull", "animals/mammals/bovines/cow*"),
        "dog": ("animals/mammals/dogs/dog",),
        "elephant": ("animals/mammals/elephant",),
        "giraffe": ("animals/mammals/giraffe",),
        "horse": ("animals/mammals/equines/horse",),
        "sheep": ("animals/mammals/bovines/ram", "animals/mammals/bovines/sheep*"),
        "zebra": ("animals/mammals/equines/zebra",),
    },
    "vehicles, signs": {
        "airplane": ("vehicles/flight/planes/747", "military/vehicles/f22_raptor"),
        "boat": ("vehicles/ship/chineseJunk",),
        "bus": ("vehicles/masstransit/green_korean_bus",),
        "car": ("vehicles/auto/beetle", "vehicles/auto/s*", "vehicles/race/indycar"),
        "stop sign": ("town/roadsigns/stop",),
        "traffic light": ("town/roadsigns/stoplight_*",),
        "truck": ("vehicles/auto/truck", "vehicles/emergency/firetruck", "vehicles/garbagetruck"),
    },
    "food": {
        "apple": ("food/fruit/apple_*",),
        "banana": ("food/fruit/banana",),
        "broccoli": ("food/vegetables/broccoli",),
        "carrot": ("food/vegetables/carrot",),
        "orange": ("food/fruit/mandarine", "food/fruit/orange*"),
        "pizza": ("food/pizza",),
    },
    "people, things": {
        "cup": ("household/dishes/mug",),
        "person": ("people/fireman*", "military/paratrooper", "space/spacewalk"),
        "scissors": ("household/arttools/scissors_*",),
        "sports ball": ("sports/basketball", "sports/soccer", "sports/tennis_ball"),
        "teddy bear": ("animals/mammals/bears/toys/*",),
        "tennis racket": ("sports/tennis_racket",),
        "toilet": ("household/toilet",),
    },
    NOTHING: {
        "": (
            *("animals/fish/*", "animals/insects/*", "animals/shellfish/*", "food/nuts/*"),
            *("hobbies/music/*/*", "household/tools/*", "space/planets/*", "space/moon/*"),
        )
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture, its set in the table, and what is in it, of the classes of COCO."""

    set: str
    labels: Sequence[str]
    file: str


def find_photos() -> Path:
    """Return the folder of scikit-image's pictures."""
    spec = importlib.util.find_spec("skimage")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "data"


def find_stamps(packages: Path) -> dict[tuple[str, str], list[Path]]:
    """Return the stamps of each set and class."""
    folder = unpack_package(STAMPS, packages) / "usr/share/tuxpaint/stamps"
    return {
        (kind, label): sorted(
            path
            for pattern in patterns
            for path in folder.glob(f"{pattern}.png")
            if "_mirror" not in path.stem
        )
        for kind, classes in THINGS.items()
        for label, patterns in classes.items()
    }


def place(stamp: Image.Image, ground: Image.Image) -> Image.Image:
    """Return a ground with a stamp in its middle."""
    width, height = (FILLED * side for side in ground.size)
    scale = min(width / stamp.width, height / stamp.height)
    stamp = stamp.convert("RGBA").resize(
        (max(1, round(stamp.width * scale)), max(1, round(stamp.height * scale)))
    )
    placed = ground.copy()
    corner = ((ground.width - stamp.width) // 2, (ground.height - stamp.height) // 2)
    placed.paste(stamp, corner, stamp)
    return placed


def write_pictures(folder: Path, packages: Path) -> None:
    """Write the photographs, the stamps on their grounds, and ``pictures.json``."""
    photos = find_photos()
    grounds = [Image.open(photos / f"{name}.png").convert("RGB").resize(SIZE) for name in GROUNDS]
    pictures = []
    for name, labels in PHOTOS.items():
        shutil.copy(photos / name, folder / name)
        pictures.append(Picture(set=PHOTOGRAPHS, labels=labels, file=name))
    number = 0
    for (kind, label), stamps in find_stamps(packages).items():
        for stamp in stamps:
            with Image.open(stamp) as image:
                cut = image.convert("RGBA")
            for ground in (Image.new("RGB", SIZE, GREY), grounds[number % len(grounds)]):
                file = f"{len(pictures)}-{stamp.stem}.jpg"
                place(cut, ground).save(folder / file, quality=QUALITY)
                pictures.append(Picture(set=kind, labels=[label] if label else [], file=file))
            number += 1
    (folder / "pictures.json").write_text(json.dumps([asdict(picture) for picture in pictures]))


def find_pictures(cache: Path) -> tuple[list[Picture], Path]:
    """Return the pictures, and their folder; make them if need be."""
    write = partial(write_pictures, packages=cache / "packages")
    folder = make_once(cache, "pictures", __file__, write)
    described = json.loads((folder / "pictures.json").read_text())
    return [Picture(**fields) for fields in described], folder
