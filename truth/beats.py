"""Measures beats, tempo and bars on the corpus."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from truth.caller import System
from truth.corpus import Item
from truth.models import fetch_model
from truth.rows import Answer, Answers, Row, list_values, mean, median, reduce
from truth.scores import score_beats, score_downbeats

WITHOUT_TEMPO = "without-tempo"
SETS = (
    *("clicks", "drums", "moving", "songs", "openttd", "grooves", "freedoom"),
    WITHOUT_TEMPO,
)
BEATS = "segue.features.rhythm:beats"
DOWNBEATS = "segue.features.metre:Downbeats"
MODEL = "beatnet@1"


def list_references(python: str) -> list[System]:
    """Return the references for beats: librosa runs in Segue's environment."""
    return [
        System(name="librosa", python=python, call="truth.references:librosa_beats"),
        System(name="BeatNet", python=sys.executable, call="truth.references:beatnet_beats"),
    ]


def fetch_downbeats(python: str) -> System:
    """Get the model of the job for bars with a checkout's ``segue``, and return the job."""
    parameters = {"model": fetch_model(python, MODEL)}
    return System(name="Segue, with bars", python=python, call=DOWNBEATS, parameters=parameters)


def measure_beats(
    answers_of: Answers, systems: Sequence[System], items: Sequence[Item], folder: Path
) -> list[Row]:
    """Return a row for each set, split and system; and for each sound without tempo."""
    with_beats = [item for item in items if item.set != WITHOUT_TEMPO]
    rows: list[Row] = []
    if with_beats:
        paths = [folder / f"{item.name}.wav" for item in with_beats]
        for name, answers in answers_of.ask(systems, paths, "beats").items():
            rows += [
                summarize_beats(name, group) for group in group_by_set(with_beats, answers).values()
            ]
    without = [item for item in items if item.set == WITHOUT_TEMPO]
    if without:
        paths = [folder / f"{item.name}.wav" for item in without]
        for name, answers in answers_of.ask(systems, paths, "sounds without tempo").items():
            rows += [
                {
                    "feature": "beats",
                    "set": item.set,
                    "sound": item.name.partition("_")[2],
                    "system": name,
                    "error": answer.error,
                    "beats": None if answer.error else len(answer.value["beat_times_s"]),
                }
                for item, answer in zip(without, answers, strict=True)
            ]
    return rows


def measure_downbeats(
    answers_of: Answers, systems: Sequence[System], items: Sequence[Item], folder: Path
) -> list[Row]:
    """Return a row for each set, split and system, of the items whose bars are known."""
    known = [item for item in items if item.downbeats is not None]
    if not known:
        return []
    paths = [folder / f"{item.name}.wav" for item in known]
    rows = []
    for name, answers in answers_of.ask(systems, paths, "downbeats").items():
        for group in group_by_set(known, answers).values():
            scores = [score_downbeats(item, answer.value) for item, answer in group if answer.value]
            rows.append(
                {
                    **describe_group("downbeats", name, group),
                    "f": reduce(mean, scores, "f"),
                    "metre_right": sum(list_values(scores, "metre_right")),
                }
            )
    return rows


Group = list[tuple[Item, Answer]]


def group_by_set(items: Sequence[Item], answers: Sequence[Answer]) -> dict[tuple[str, str], Group]:
    """Return items and answers by set and split, in the order of the table."""
    groups: dict[tuple[str, str], Group] = {}
    for item, answer in zip(items, answers, strict=True):
        groups.setdefault((item.set, item.split), []).append((item, answer))
    return dict(sorted(groups.items(), key=lambda group: (SETS.index(group[0][0]), group[0][1])))


def describe_group(feature: str, system: str, group: Group) -> Row:
    """Return what all rows of sets say."""
    seconds = sum(item.duration for item, answer in group if answer.error is None)
    first = group[0][0]
    return {
        "feature": feature,
        "set": first.set,
        "split": first.split,
        "system": system,
        "files": len(group),
        "errors": [answer.error for _, answer in group if answer.error],
        "cpu_ms_per_s": 1000 * sum(answer.cpu_s for _, answer in group) / seconds
        if seconds
        else None,
    }


def summarize_beats(system: str, group: Group) -> Row:
    """Return the row of one set, split and system; errors count as no beats."""
    nothing: dict[str, Any] = {"beat_times_s": [], "tempo_bpm": None}
    scores = [score_beats(item, answer.value or nothing) for item, answer in group]
    steady = [] if group[0][0].set == "moving" else scores  # a tempo that moves is not one number
    return {
        **describe_group("beats", system, group),
        "f": reduce(mean, scores, "f"),
        "cmlt": reduce(mean, scores, "cmlt"),
        "amlt": reduce(mean, scores, "amlt"),
        "offset_ms": reduce(median, scores, "offset_ms"),
        "tempo_right": sum(list_values(steady, "tempo_right")) if steady else None,
        "tempo_error_median": reduce(median, steady, "tempo_error"),
        "tempo_error_worst": reduce(max, steady, "tempo_error"),
        "tempo_error_at_level": reduce(median, steady, "tempo_error_at_level"),
        "items": {item.name: score for (item, _), score in zip(group, scores, strict=True)},
    }
