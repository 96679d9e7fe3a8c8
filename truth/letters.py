"""Measures the reading of text that is drawn in three fonts, on one colour and on a photograph."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from truth.caller import ROOT, System
from truth.choices import choose
from truth.debian import unpack_package
from truth.models import fetch_model
from truth.photographs import find_photos
from truth.rows import Answer, Answers, Row, mean
from truth.tables import Column, number

PACKAGE = "rapidocr"
# Package → the file of a font.
FONTS = {
    "fonts-dejavu-core": "usr/share/fonts/truetype/dejavu/DejaVuSans.ttf",
    "fonts-liberation2": "usr/share/fonts/truetype/liberation2/LiberationSerif-Regular.ttf",
    "fonts-ebgaramond": "usr/share/fonts/opentype/ebgaramond/EBGaramond12-Italic.otf",
}
SIZES = (9, 12, 18, 32)  # of the font, in pixels
SIZE, LEFT, TOP, WIDTH = (1280, 720), 60, 30, 950
LINES = 6
PLAIN, PHOTOGRAPH = "one colour", "a photograph"
BLUE = (30, 60, 90)
PHOTO = "chelsea.png"

FEATURES = {"text": "text that is drawn in three fonts, beside rapidocr"}
TABLES: dict[str, tuple[Column, ...]] = {
    "text": (
        ("letters on", lambda row: row["set"]),
        ("size, pixels", lambda row: str(row["size"])),
        ("characters", lambda row: str(row["characters"])),
        ("system", lambda row: row["system"]),
        ("wrong, %", lambda row: number(100 * row["wrong"], 2)),
        ("CPU, s a picture", lambda row: number(row["cpu_s"], 2)),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A picture with lines of text, what is under them, and the size of its font."""

    set: str
    size: int
    lines: tuple[str, ...]
    path: Path


def count_edits(found: str, truth: str) -> int:
    """Return how many characters must be inserted, deleted or replaced (Levenshtein)."""
    row = list(range(len(truth) + 1))
    for index, one in enumerate(found):
        before, row[0] = row[0], index + 1
        for place, other in enumerate(truth):
            before, row[place + 1] = (
                row[place + 1],
                min(row[place] + 1, row[place + 1] + 1, before + (one != other)),
            )
    return row[-1]


def break_lines(
    words: Iterator[str], fonts: Sequence[ImageFont.FreeTypeFont]
) -> list[tuple[str, ImageFont.FreeTypeFont]]:
    """Return lines of the words that follow, as wide as the column, in each font in turn."""
    lines = []
    for index in range(LINES):
        font = fonts[index % len(fonts)]
        line = next(words)
        while font.getlength(line) < WIDTH:
            line = f"{line} {next(words)}"
        lines.append((line, font))
    return lines


def iterate_words() -> Iterator[str]:
    """Yield words, numbers and addresses of the licence of Segue, again and again."""
    words = (ROOT / "LICENSE").read_text().split()
    while True:
        yield from words


def draw_page(
    ground: Image.Image, lines: Sequence[tuple[str, ImageFont.FreeTypeFont]]
) -> Image.Image:
    """Return a ground with lines of white letters."""
    page = ground.copy()
    pen = ImageDraw.Draw(page)
    for index, (line, font) in enumerate(lines):
        pen.text((LEFT, TOP + index * (SIZE[1] - 2 * TOP) // LINES), line, "white", font)
    return page


def write_pages(packages: Path, folder: Path) -> list[Page]:
    """Write a page for each ground and size."""
    photo = Image.open(find_photos() / PHOTO).convert("RGB").resize(SIZE)
    # White letters on white fur are no test of anything.
    dark = Image.fromarray((np.asarray(photo) * 0.6).astype(np.uint8))
    grounds = {PLAIN: Image.new("RGB", SIZE, BLUE), PHOTOGRAPH: dark}
    words = iterate_words()
    files = [unpack_package(package, packages) / file for package, file in FONTS.items()]
    pages = []
    for kind, ground in grounds.items():
        for size in SIZES:
            lines = break_lines(words, [ImageFont.truetype(file, size) for file in files])
            path = folder / f"{len(pages)}.png"
            draw_page(ground, lines).save(path, compress_level=1)
            texts = tuple(line for line, _ in lines)
            pages.append(Page(set=kind, size=size, lines=texts, path=path))
    return pages


def measure_text(given: argparse.Namespace, answers_of: Answers) -> list[Row]:
    """Return a row for each ground, size and system."""
    parameters = {"model": fetch_model(given.python, "pp_ocr@1")}
    call = "truth.picture_references:read_text"
    references = [System(name=PACKAGE, python=sys.executable, call=call, file=True)]
    call = "truth.media_jobs:ReadText"
    systems = choose(given, call, references, parameters=parameters, media=True)
    with tempfile.TemporaryDirectory() as scratch:
        pages = write_pages(given.cache / "packages", Path(scratch))
        found = answers_of.ask(systems, [page.path for page in pages], "text")
    return [
        summarize(
            name,
            [
                (page, answer)
                for page, answer in zip(pages, answers, strict=True)
                if (page.set, page.size) == group
            ],
        )
        for group in dict.fromkeys((page.set, page.size) for page in pages)
        for name, answers in found.items()
    ]


def summarize(system: str, group: Sequence[tuple[Page, Answer]]) -> Row:
    """Return the row of one ground, size and system; what is not read is wrong."""
    characters = edits = 0
    for page, answer in group:
        truth = " ".join(page.lines)
        characters += len(truth)
        edits += count_edits(" ".join(answer.value["texts"]) if answer.value else "", truth)
    return {
        "feature": "text",
        "set": group[0][0].set,
        "size": group[0][0].size,
        "system": system,
        "characters": characters,
        "errors": [answer.error for _, answer in group if answer.error],
        "wrong": edits / characters,
        "cpu_s": mean([answer.cpu_s for _, answer in group]),
    }


MEASURES: dict[str, Callable[[argparse.Namespace, Answers], list[Row]]] = {"text": measure_text}
