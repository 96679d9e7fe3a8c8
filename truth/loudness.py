"""Measures the loudness job: on the signals of the EBU, and against other meters on songs."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import soundfile

from truth.caller import System
from truth.debian import unpack_package
from truth.ebu import INTEGRATED, RANGE, TRUE_PEAK, write_cases
from truth.rows import Answer, Answers, Row
from truth.songs import list_songs

LOUDNESS = "segue.features.ebu_r128:loudness"
PACKAGES = ("fretsonfire-songs-muldjord", "fretsonfire-songs-sectoid")


def list_meters(python: str) -> list[System]:
    """Return the references for loudness; both are in Segue's environment."""
    return [
        System(name="ffmpeg", python=python, call="truth.references:ffmpeg_loudness"),
        System(name="pyloudnorm", python=python, call="truth.references:pyloudnorm_loudness"),
    ]


def measure_loudness(
    answers_of: Answers, systems: Sequence[System], packages: Path, ebu: Path | None = None
) -> list[Row]:
    """Return a row for each case and system, and one for each system on the recorded songs."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        cases = write_cases(Path(scratch), ebu)
        found = answers_of.ask(systems, [case.path for case in cases], "loudness")
        for name, answers in found.items():
            for case, answer in zip(cases, answers, strict=True):
                value = (answer.value or {}).get(case.key)
                rows.append(
                    {
                        "feature": "loudness",
                        "case": case.name,
                        "measures": case.key,
                        "expected": case.expected,
                        "system": name,
                        "value": value,
                        "right": None if value is None else case.accepts(value),
                        "error": answer.error,
                    }
                )
        if any(system.name == "ffmpeg" for system in systems):
            songs = decode_songs(packages, Path(scratch))
            found = answers_of.ask(systems, songs, "loudness of songs")
            rows += compare_songs(found, songs)
    return rows


def decode_songs(packages: Path, folder: Path) -> list[Path]:
    """Write the songs, without the guitar, as WAV in stereo: all meters get the same samples."""
    paths = []
    for package in PACKAGES:
        for song in list_songs(unpack_package(package, packages)):
            y, sr = soundfile.read(song / "song.ogg", dtype="float32")
            paths.append(folder / f"{song.name}.wav")
            soundfile.write(paths[-1], y, sr, "FLOAT")
    return paths


def compare_songs(found: dict[str, list[Answer]], songs: Sequence[Path]) -> list[Row]:
    """Return each system's largest difference from ffmpeg on any song, for each value."""
    seconds = sum(soundfile.info(song).duration for song in songs)
    rows = []
    for name, answers in found.items():
        row: Row = {"feature": "loudness", "set": "songs", "system": name, "files": len(songs)}
        for key in (INTEGRATED, RANGE, TRUE_PEAK):
            differences = [
                abs(answer.value[key] - other.value[key])
                for answer, other in zip(answers, found["ffmpeg"], strict=True)
                if answer.value and other.value and answer.value.get(key) is not None
            ]
            row[f"{key}_apart"] = max(differences, default=None)
        row["errors"] = [answer.error for answer in answers if answer.error]
        row["cpu_ms_per_s"] = 1000 * sum(answer.cpu_s for answer in answers) / seconds
        rows.append(row)
    return rows
