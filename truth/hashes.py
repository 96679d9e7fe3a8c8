"""Measures perceptual hashes: of copies of a picture, and of pictures that are no copies."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path

from PIL import Image, ImageEnhance, ImageOps

from truth.caller import System
from truth.choices import choose
from truth.photographs import GREY, NOTHING, PHOTOS, find_photos, find_stamps, place
from truth.rows import Answer, Answers, Row, mean, median
from truth.tables import Column, number, ratio

PACKAGE = "imagehash"
ORIGINAL, OTHERS = "none", "another picture"
ALIKE = 10  # bits, at most, of what is taken for a copy
SIDE = 640
KINDS = ("phash", "dhash")


def crop(image: Image.Image) -> Image.Image:
    """Return a picture without a twentieth on each side."""
    return ImageOps.crop(image, round(min(image.size) / 20))


# Change → what makes it, and how it is saved.
CHANGES: dict[str, tuple[Callable[[Image.Image], Image.Image], dict[str, object]]] = {
    ORIGINAL: (lambda image: image, {"format": "PNG", "compress_level": 1}),
    "half the size": (lambda image: image.reduce(2), {"format": "PNG"}),
    "JPEG of quality 30": (lambda image: image, {"format": "JPEG", "quality": 30}),
    "WebP of quality 30, a third of the size": (
        lambda image: image.reduce(3),
        {"format": "WEBP", "quality": 30},
    ),
    "a fifth brighter": (
        lambda image: ImageEnhance.Brightness(image).enhance(1.2),
        {"format": "PNG"},
    ),
    "a twentieth cut off on each side": (crop, {"format": "PNG"}),
    "mirrored": (ImageOps.mirror, {"format": "PNG"}),
}

FEATURES = {"phash": "copies of pictures, and other pictures, beside imagehash"}
TABLES: dict[str, tuple[Column, ...]] = {
    "phash": (
        ("change", lambda row: row["set"]),
        ("pairs", lambda row: str(row["files"])),
        *(
            column
            for kind in KINDS
            for column in (
                (f"`{kind}`: median", lambda row, kind=kind: number(row[f"{kind}_median"], 0)),
                ("least", lambda row, kind=kind: number(row[f"{kind}_least"], 0)),
                ("most", lambda row, kind=kind: number(row[f"{kind}_most"], 0)),
                (f"at most {ALIKE}", lambda row, kind=kind: number(row[f"{kind}_alike"], 0)),
            )
        ),
    ),
    "phash-equal": (
        ("system", lambda row: row["system"]),
        ("`phash` as Segue's", lambda row: ratio(row["phash_equal"], row)),
        ("`dhash` as Segue's", lambda row: ratio(row["dhash_equal"], row)),
        ("CPU, ms a picture", lambda row: number(row["cpu_ms"], 1)),
    ),
}


def count_bits(one: str, other: str) -> int:
    """Return how many bits of two hashes differ, in hexadecimal digits."""
    return (int(one, 16) ^ int(other, 16)).bit_count()


def read_pictures(packages: Path) -> list[Image.Image]:
    """Return the photographs and the stamps of all classes, on grey."""
    pictures = [Image.open(find_photos() / name).convert("RGB") for name in PHOTOS]
    ground = Image.new("RGB", (SIDE, SIDE * 3 // 4), GREY)
    for (kind, _), stamps in find_stamps(packages).items():
        if kind != NOTHING:
            pictures += [place(Image.open(stamp), ground) for stamp in stamps]
    return pictures


def write_copies(pictures: Sequence[Image.Image], folder: Path) -> dict[str, list[Path]]:
    """Write each picture in each change; return the paths by the change."""
    paths: dict[str, list[Path]] = {change: [] for change in CHANGES}
    for index, picture in enumerate(pictures):
        for number_of, (change, (make, options)) in enumerate(CHANGES.items()):
            path = folder / f"{index}-{number_of}.{str(options['format']).lower()}"
            make(picture).save(path, **options)
            paths[change].append(path)
    return paths


def measure_phash(given: argparse.Namespace, answers_of: Answers) -> list[Row]:
    """Return a row for each change, one of different pictures, and one for each system."""
    call = "truth.picture_references:hash_picture"
    references = [System(name=PACKAGE, python=sys.executable, call=call, file=True)]
    systems = choose(given, "segue.features.perceptual_hash:phash", references, media=True)
    with tempfile.TemporaryDirectory() as scratch:
        paths = write_copies(read_pictures(given.cache / "packages"), Path(scratch))
        every = [path for copies in paths.values() for path in copies]
        found = answers_of.ask(systems, every, "phash")
    count = len(paths[ORIGINAL])
    hashes = {
        change: [answer.value["frames"][0] for answer in answers if answer.value]
        for change, answers in (
            (change, found["Segue"][index * count : (index + 1) * count])
            for index, change in enumerate(paths)
        )
    }
    originals = hashes.pop(ORIGINAL)
    pairs = {change: list(zip(originals, copies, strict=True)) for change, copies in hashes.items()}
    pairs[OTHERS] = list(combinations(originals, 2))
    rows = [describe_pairs(change, chosen) for change, chosen in pairs.items()]
    return rows + [count_equal(name, answers, found["Segue"]) for name, answers in found.items()]


def describe_pairs(change: str, pairs: Sequence[tuple[dict[str, str], dict[str, str]]]) -> Row:
    """Return the row of a change: how many bits differ."""
    row: Row = {"feature": "phash", "set": change, "files": len(pairs)}
    for kind in KINDS:
        bits = [count_bits(one[kind], other[kind]) for one, other in pairs]
        row[f"{kind}_median"], row[f"{kind}_least"] = median(bits), min(bits)
        row[f"{kind}_most"], row[f"{kind}_alike"] = max(bits), sum(n <= ALIKE for n in bits)
    return row


def count_equal(system: str, answers: Sequence[Answer], segue: Sequence[Answer]) -> Row:
    """Return the row of a system: how many of its hashes are equal to Segue's."""
    row: Row = {
        "feature": "phash-equal",
        "system": system,
        "files": len(answers),
        "errors": [answer.error for answer in answers if answer.error],
        "cpu_ms": 1000 * mean([answer.cpu_s for answer in answers]),
    }
    for kind in KINDS:
        row[f"{kind}_equal"] = sum(
            one.value["frames"][0][kind] == other.value["frames"][0][kind]
            for one, other in zip(answers, segue, strict=True)
            if one.value and other.value
        )
    return row


MEASURES: dict[str, Callable[[argparse.Namespace, Answers], list[Row]]] = {"phash": measure_phash}
