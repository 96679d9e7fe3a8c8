"""Measures key and tuning, danceability, and the fingerprint."""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import mir_eval
import numpy as np
import soundfile

from truth import keys
from truth.caller import System
from truth.choices import choose, find_items, make_once
from truth.debian import unpack_package
from truth.keys import KeyedPiece
from truth.loudness import PACKAGES
from truth.rows import Answer, Answers, Row, describe, list_values, mean, median
from truth.songs import list_songs
from truth.tables import Column, name_set, number, ratio

KEY = "segue.features.tonality:key"
DANCEABILITY = "segue.features.fluctuation:danceability"
FINGERPRINT = "segue.features.chromaprint:fingerprint"
SURE = 0.3
DANCED = ("clicks", "songs")
ENCODERS = {"mp3": "libmp3lame", "flac": "flac", "ogg": "libvorbis", "m4a": "aac"}
FINGERPRINTED_S = 150

FEATURES = {
    "key": "accompaniments in a known key and tuning, beside librosa",
    "danceability": "clicks and songs, beside a plain computation",
    "fingerprint": "songs in four formats, beside fpcalc",
}
TABLES: dict[str, tuple[Column, ...]] = {
    "key": (
        ("set", name_set),
        ("system", lambda row: row["system"]),
        ("right", lambda row: ratio(row["right"], row)),
        ("relative or a fifth away", lambda row: ratio(row["related"], row)),
        ("none", lambda row: ratio(row["none"], row)),
        ("score", lambda row: number(row["score"], 3)),
        ("right if sure", lambda row: row["right_if_sure"]),
        ("tuning, cents", lambda row: number(row["tuning_median"], 1)),
        ("worst of 95 %, cents", lambda row: number(row["tuning_worst"], 1)),
        ("CPU, ms/s", lambda row: number(row["cpu_ms_per_s"], 2)),
    ),
    "danceability": (
        ("set", name_set),
        ("system", lambda row: row["system"]),
        ("danceability", lambda row: number(row["median"], 2)),
        ("apart", lambda row: number(row["apart"], 5)),
        ("CPU, ms/s", lambda row: number(row["cpu_ms_per_s"], 2)),
    ),
    "fingerprint": (
        ("set", name_set),
        ("system", lambda row: row["system"]),
        ("equal", lambda row: ratio(row["equal"], row)),
        ("CPU, ms/s", lambda row: number(row["cpu_ms_per_s"], 2)),
    ),
}


def measure_key(given: argparse.Namespace, answers_of: Answers) -> list[Row]:
    """Return the rows of key."""
    write = partial(keys.write_keys, packages=given.cache / "packages")
    folder = make_once(given.cache, "keys", keys.__file__, write)
    items = keys.read_keys(folder)
    reference = System(
        name="librosa", python=given.python, call="truth.tonal_references:librosa_key"
    )
    systems = choose(given, KEY, [reference])
    found = answers_of.ask(systems, [folder / f"{item.name}.wav" for item in items], "key")
    rows = []
    for name in sorted({item.set for item in items}):
        for system, answers in found.items():
            pairs = zip(items, answers, strict=True)
            group = [(item, answer) for item, answer in pairs if item.set == name]
            seconds = sum(item.duration for item, _ in group)
            names = {"set": name, "split": "test"}
            row = describe("key", names, system, [answer for _, answer in group], seconds)
            scores = [score_key(item, answer.value) for item, answer in group if answer.value]
            rows.append({**row, **summarize_keys(scores)})
    return rows


def score_key(truth: KeyedPiece, value: dict[str, Any]) -> dict[str, float | None]:
    """Return the score of a key by mir_eval, its confidence, and the error of the tuning.

    The score is 1 if the key is right, 0.5 if it is a fifth away, 0.3 if it is the relative, and
    0.2 if it is the parallel one. The error is in cents, at most 50: a semitone is a circle.
    """
    if value["key"] is None:
        return {"score": 0.0, "confidence": None, "tuning_error": None, "none": 1.0}
    named, true = f"{value['key']} {value['mode']}", f"{truth.tonic} {truth.mode}"
    apart = (value["tuning_cents"] - truth.tuning_cents + 50) % 100 - 50
    return {
        "score": float(mir_eval.key.weighted_score(true, named)),
        "confidence": value["confidence"],
        "tuning_error": abs(apart),
        "none": 0.0,
    }


def summarize_keys(scores: Sequence[dict[str, Any]]) -> Row:
    """Return the columns of a set."""
    sure = [one["score"] == 1 for one in scores if (one["confidence"] or 0) >= SURE]
    errors = list_values(scores, "tuning_error")
    return {
        "right": float(sum(one["score"] == 1 for one in scores)),
        "related": float(sum(0.3 <= one["score"] <= 0.5 for one in scores)),
        "none": float(sum(one["none"] for one in scores)),
        "score": mean(list_values(scores, "score")) if scores else None,
        "right_if_sure": f"{sum(sure)} of {len(sure)}" if sure else "-",
        "tuning_median": median(errors) if errors else None,
        "tuning_worst": float(np.percentile(errors, 95)) if errors else None,
    }


def measure_danceability(given: argparse.Namespace, answers_of: Answers) -> list[Row]:
    """Return the rows of danceability: how far each system is from the plain computation."""
    items, folder = find_items(given)
    items = [item for item in items if item.set in DANCED]
    reference = System(
        name="plain", python=given.python, call="truth.tonal_references:plain_danceability"
    )
    systems = choose(given, DANCEABILITY, [reference])
    paths = [folder / f"{item.name}.wav" for item in items]
    found = answers_of.ask(systems, paths, "danceability")
    rows = []
    for name in dict.fromkeys(item.set for item in items):
        places = [i for i, item in enumerate(items) if item.set == name]
        seconds = sum(items[i].duration for i in places)
        for system, answers in found.items():
            group = [answers[i] for i in places]
            row = describe("danceability", {"set": name}, system, group, seconds)
            values = list_values([one.value or {} for one in group], "danceability")
            plain = [found["plain"][i] for i in places] if "plain" in found else []
            row["median"] = median(values) if values else None
            row["apart"] = find_largest(group, plain) if system != "plain" else None
            rows.append(row)
    return rows


def find_largest(answers: Sequence[Answer], others: Sequence[Answer]) -> float | None:
    """Return the largest difference between two systems' danceability."""
    return max(
        (
            abs(one.value["danceability"] - other.value["danceability"])
            for one, other in zip(answers, others, strict=False)
            if one.value and other.value and one.value["danceability"] is not None
        ),
        default=None,
    )


def measure_fingerprint(given: argparse.Namespace, answers_of: Answers) -> list[Row]:
    """Return the rows of fingerprint: how many are equal, to the bit, to fpcalc's."""
    packages = given.cache / "packages"
    program = unpack_package("libchromaprint-tools", packages, runs=True)
    reference = System(
        name="fpcalc",
        python=given.python,
        call="truth.tonal_references:Fpcalc",
        parameters={"package": str(program)},
        media=True,
    )
    systems = choose(given, FINGERPRINT, [reference], media=True)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        groups = encode_songs(given.python, packages, Path(scratch))
        paths = [path for group in groups.values() for path in group]
        found = answers_of.ask(systems, paths, "fingerprint")
        seconds = {name: sum(map(measure_duration, group)) for name, group in groups.items()}
    for name, group in groups.items():
        for system, answers in found.items():
            chosen = [one for path, one in zip(paths, answers, strict=True) if path in group]
            row = describe("fingerprint", {"set": name}, system, chosen, seconds[name])
            row["equal"] = count_equal(chosen, found, [path in group for path in paths])
            rows.append(row)
    return rows


def count_equal(
    chosen: Sequence[Answer], found: dict[str, list[Answer]], places: Sequence[bool]
) -> float | None:
    """Return how many fingerprints are those of fpcalc; None without it."""
    if "fpcalc" not in found:
        return None
    others = [one for one, inside in zip(found["fpcalc"], places, strict=True) if inside]
    pairs = [
        (one.value["fingerprint"], other.value["fingerprint"])
        for one, other in zip(chosen, others, strict=True)
        if one.value and other.value
    ]
    return float(sum(one == other for one, other in pairs))


def encode_songs(python: str, packages: Path, folder: Path) -> dict[str, list[Path]]:
    """Write the first minutes of the songs in four formats, by a checkout's ffmpeg."""
    find = "from segue.media.ffmpeg import find_ffmpeg; print(find_ffmpeg())"
    done = subprocess.run([python, "-P", "-c", find], check=True, capture_output=True, text=True)
    ffmpeg = [done.stdout.strip(), "-v", "error", "-nostdin"]
    songs = [song for package in PACKAGES for song in list_songs(unpack_package(package, packages))]
    groups: dict[str, list[Path]] = {name: [] for name in ENCODERS}
    for song in songs:
        sr = soundfile.info(song / "song.ogg").samplerate
        y, _ = soundfile.read(song / "song.ogg", frames=FINGERPRINTED_S * sr)
        source = folder / f"{song.name}.wav"
        soundfile.write(source, y, sr, "PCM_16")
        for name, encoder in ENCODERS.items():
            target = folder / f"{song.name}.{name}"
            subprocess.run([*ffmpeg, "-i", source, "-c:a", encoder, target], check=True)
            groups[name].append(target)
    return groups


def measure_duration(path: Path) -> float:
    """Return how long an encoded song is."""
    return float(soundfile.info(path.with_suffix(".wav")).duration)


MEASURES: dict[str, Callable[[argparse.Namespace, Answers], list[Row]]] = {
    "key": measure_key,
    "danceability": measure_danceability,
    "fingerprint": measure_fingerprint,
}
