"""Measures how well the voice is separated from music, and what tells instrumentals from songs."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from truth.caller import System
from truth.choices import choose
from truth.mixes import mix_voice
from truth.models import fetch_model
from truth.recordings import (
    GROWLED,
    SAMPLE_RATE_HZ,
    list_electronic,
    list_music,
    list_rock,
    read_singing,
    read_speech,
    read_stereo,
)
from truth.rows import Answer, Answers, Row, mean, reduce
from truth.tables import Column, number, ratio

if TYPE_CHECKING:
    from numpy.typing import NDArray

PLAIN = "plain"
SPLEETER, FIRERED = "spleeter@1", "firered_aed@1"
FIND_VOICE = "truth.media_jobs:FindVoice"
LEVELS_DB = (5, 0, -5)
QUIET_DB = -40
START_S = 40.0  # of music: past its beginning
STRIDE = 3  # so that both kinds of music are heard
EXCERPT_S = 10.0
WITHOUT, GROWLS, OVER_MUSIC, ALONE = (
    *("no voice", "growled metal", "singing over music"),
    "singing alone",
)
HALF = 0.5

FEATURES = {
    "separation": "singing and speech over music, beside a plain call of Spleeter's networks",
    "instrumentalness_by_vocals": "the same and music alone, beside the job without the vocals",
}
TABLES: dict[str, tuple[Column, ...]] = {
    "separation": (
        ("voice", lambda row: row["set"]),
        ("above the music, dB", lambda row: row["level"]),
        ("mixes", lambda row: str(row["files"])),
        ("system", lambda row: row["system"]),
        ("vocals, dB", lambda row: number(row["vocals_db"], 1)),
        ("gain", lambda row: number(row["vocals_gain_db"], 1, sign=True)),
        ("accompaniment, dB", lambda row: number(row["accompaniment_db"], 1)),
        ("gain", lambda row: number(row["accompaniment_gain_db"], 1, sign=True)),
        ("CPU, s/min", lambda row: number(row["cpu_s_per_min"], 2)),
    ),
    "instrumentalness_by_vocals": (
        ("sound", lambda row: row["set"]),
        ("job", lambda row: row["system"]),
        ("right", lambda row: ratio(row["right"], row)),
        ("mean", lambda row: number(row["mean"], 2)),
        ("CPU, s/min", lambda row: number(row["cpu_s_per_min"], 2)),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """A sound that was made of a voice and music, and its set and level in the table."""

    set: str
    level: str
    path: Path


def write_mixes(packages: Path, folder: Path) -> list[Mix]:
    """Write all mixes as WAV with four channels: the mix, and the voice in it."""
    music = list_music(packages)
    spoken = read_speech(packages)
    voices = [("singing", read_singing(packages))] * len(spoken)
    voices += [("speech", y) for y in spoken]
    mixes = []
    for index, (kind, voice) in enumerate(voices):
        chosen = music[STRIDE * index % len(music)]
        rest = read_stereo(chosen, START_S, voice.shape[1] / SAMPLE_RATE_HZ)
        for above_db, level_db in (*((db, 0) for db in LEVELS_DB), (0, QUIET_DB)):
            level = f"{above_db:+d}" if above_db else "0"
            level += f", and {-level_db} dB quieter" if level_db else ""
            path = folder / f"{len(mixes)}.wav"
            y = mix_voice(voice, rest, above_db, level_db)
            soundfile.write(path, y.T, SAMPLE_RATE_HZ, "FLOAT")
            mixes.append(Mix(set=kind, level=level, path=path))
    return mixes


def measure_separation(given: argparse.Namespace, answers_of: Answers) -> list[Row]:
    """Return a row for each kind of voice, level and system."""
    parameters = {"model": fetch_model(given.python, SPLEETER)}
    call = "truth.plain_calls:PlainSpleeter"
    references = [System(name=PLAIN, python=given.python, call=call, parameters=parameters)]
    systems = choose(given, "truth.media_jobs:SeparateMix", references, parameters=parameters)
    with tempfile.TemporaryDirectory() as scratch:
        mixes = write_mixes(given.cache / "packages", Path(scratch))
        found = answers_of.ask(systems, [mix.path for mix in mixes], "separation")
        groups = [
            (kind, level, name, select(mixes, answers, kind, level))
            for kind, level in dict.fromkeys((mix.set, mix.level) for mix in mixes)
            for name, answers in found.items()
        ]
        return [
            {"feature": "separation", "set": kind, "level": level, **summarize(name, group)}
            for kind, level, name, group in groups
        ]


def select(
    mixes: Sequence[Mix], answers: Sequence[Answer], kind: str, level: str
) -> list[tuple[Path, Answer]]:
    """Return the mixes of a kind of voice and a level, with their answers."""
    return [
        (mix.path, answer)
        for mix, answer in zip(mixes, answers, strict=True)
        if (mix.set, mix.level) == (kind, level)
    ]


def summarize(system: str, group: Sequence[tuple[Path, Answer]]) -> Row:
    """Return what a row says of mixes: means of dB."""
    values = [answer.value for _, answer in group if answer.value]
    keys = ("vocals_db", "vocals_gain_db", "accompaniment_db", "accompaniment_gain_db")
    return {**count(system, group), **{key: reduce(mean, values, key) for key in keys}}


def count(system: str, group: Sequence[tuple[Path, Answer]]) -> Row:
    """Return what all rows say: how many files, which errors, and the CPU time."""
    seconds = sum(soundfile.info(path).duration for path, answer in group if not answer.error)
    return {
        "system": system,
        "files": len(group),
        "errors": [answer.error for _, answer in group if answer.error],
        "cpu_s_per_min": 60 * sum(answer.cpu_s for _, answer in group) / seconds
        if seconds
        else None,
    }


def write_excerpts(packages: Path, folder: Path) -> list[tuple[str, Path]]:
    """Write sound with and without a voice; return the name of its set and its path."""
    excerpts = []
    for kind, y in iterate_excerpts(packages):
        excerpts.append((kind, folder / f"excerpt-{len(excerpts)}.wav"))
        soundfile.write(excerpts[-1][1], y.T, SAMPLE_RATE_HZ, "FLOAT")
    return excerpts


def iterate_excerpts(packages: Path) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield the name of a set, and a sound of it on two channels."""
    for path in list_electronic(packages) + list_rock(packages):
        yield WITHOUT, read_stereo(path, START_S, EXCERPT_S)
    for path in list_rock(packages, GROWLED):
        yield GROWLS, read_stereo(path, START_S, EXCERPT_S)
    music = list_music(packages)
    length = round(EXCERPT_S * SAMPLE_RATE_HZ)
    singing = read_singing(packages)
    for voice in (singing[:, :length], singing[:, length : 2 * length]):
        yield ALONE, voice
        for path in music[::8]:
            rest = read_stereo(path, START_S, EXCERPT_S)
            for above_db in LEVELS_DB:
                yield OVER_MUSIC, mix_voice(voice, rest, above_db)[:2]


def measure_instrumentalness(given: argparse.Namespace, answers_of: Answers) -> list[Row]:
    """Return a row for each kind of sound, for the job with the vocals and the one without."""
    speech = {"speech": fetch_model(given.python, FIRERED)}
    both = {**speech, "separation": fetch_model(given.python, SPLEETER)}
    jobs = {"instrumentalness": speech, "instrumentalness_by_vocals": both}
    systems = [
        System(name=name, python=given.python, call=FIND_VOICE, parameters=parameters)
        for name, parameters in jobs.items()
    ]
    with tempfile.TemporaryDirectory() as scratch:
        excerpts = write_excerpts(given.cache / "packages", Path(scratch))
        found = answers_of.ask(systems, [path for _, path in excerpts], "voices")
        return [
            count_right(kind, name, excerpts, answers)
            for kind in (WITHOUT, GROWLS, OVER_MUSIC, ALONE)
            for name, answers in found.items()
        ]


def count_right(
    kind: str, system: str, excerpts: Sequence[tuple[str, Path]], answers: Sequence[Answer]
) -> Row:
    """Return the row of a kind of sound and a job."""
    group = [
        (path, answer) for (one, path), answer in zip(excerpts, answers, strict=True) if one == kind
    ]
    values = [answer.value["instrumentalness"] for _, answer in group if answer.value]
    numbers = [value for value in values if value is not None]
    return {
        "feature": "instrumentalness_by_vocals",
        "set": kind,
        **count(system, group),
        "right": sum((value >= HALF) == (kind == WITHOUT) for value in numbers),
        "mean": mean(numbers) if numbers else None,
    }


MEASURES: dict[str, Callable[[argparse.Namespace, Answers], list[Row]]] = {
    "separation": measure_separation,
    "instrumentalness_by_vocals": measure_instrumentalness,
}
