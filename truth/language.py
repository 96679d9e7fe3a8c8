"""Measures the language that is heard in a voice, and what Whisper writes, on recorded prompts."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence

import numpy as np

from truth.caller import System
from truth.choices import choose
from truth.models import fetch_model, fetch_whisper
from truth.rows import Answers, Row
from truth.speech import SPEECH_MODEL, describe_voices, group_by_set, make_voices
from truth.tables import Column, name_set, number, percent, ratio

LANGUAGE, TRANSCRIPT = "truth.jobs:SpokenLanguage", "truth.jobs:WrittenSpeech"
SPOKEN = ("speech", "speech 0 dB")
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

FEATURES = {
    "language": "the language of speech in five, alone and over music, beside Whisper alone",
    "transcript": "the text of English speech, alone and over music, beside Whisper alone",
}
TABLES: dict[str, tuple[Column, ...]] = {
    "language": (
        ("set", name_set),
        ("system", lambda row: row["system"]),
        ("right", lambda row: ratio(row["right"], row)),
        ("none named", lambda row: ratio(row["none"], row)),
        ("CPU, ms/s", lambda row: number(row["cpu_ms_per_s"], 2)),
    ),
    "transcript": (
        ("set", name_set),
        ("system", lambda row: row["system"]),
        ("words", lambda row: f"{row['words']}"),
        ("wrong words, %", lambda row: percent(row["wrong"])),
        ("CPU, ms/s", lambda row: number(row["cpu_ms_per_s"], 2)),
    ),
}


def choose_whispers(given: argparse.Namespace, call: str, *, writes: bool) -> list[System]:
    """Return a job of Segue, and Whisper alone."""
    files = fetch_whisper(given.python, given.cache)
    alone = System(
        name="Whisper-alone",
        python=given.python,
        call="truth.voice_references:WhisperAlone",
        parameters={**files, "writes": writes},
    )
    parameters = {**files, "speech": fetch_model(given.python, SPEECH_MODEL)}
    return choose(given, call, [alone], parameters=parameters)


def measure_language(given: argparse.Namespace, answers_of: Answers) -> list[Row]:
    """Return the rows of language; music without a voice has none."""
    items, folder = make_voices(given.cache)
    items = [item for item in items if item.set in (*SPOKEN, "music")]
    systems = choose_whispers(given, LANGUAGE, writes=False)
    paths = [folder / f"{item.name}.wav" for item in items]
    found = answers_of.ask(systems, paths, "language")
    rows = []
    for name, system, group in group_by_set(found, items):
        named = [(item, answer.value["language"]) for item, answer in group if answer.value]
        row = describe_voices("language", name, system, group)
        row["right"] = float(sum(item.language == code for item, code in named))
        row["none"] = float(sum(code is None for _, code in named))
        rows.append(row)
    return rows


def measure_transcript(given: argparse.Namespace, answers_of: Answers) -> list[Row]:
    """Return the rows of transcript, of those prompts whose text is known."""
    items, folder = make_voices(given.cache)
    items = [item for item in items if item.set in SPOKEN and item.text is not None]
    systems = choose_whispers(given, TRANSCRIPT, writes=True)
    paths = [folder / f"{item.name}.wav" for item in items]
    found = answers_of.ask(systems, paths, "transcript")
    rows = []
    for name, system, group in group_by_set(found, items):
        row = describe_voices("transcript", name, system, group)
        true = [list_words(item.text or "") for item, _ in group]
        written = [list_words(answer.value["text"] if answer.value else "") for _, answer in group]
        row["words"] = sum(map(len, true))
        row["wrong"] = sum(map(count_errors, true, written)) / row["words"]
        rows.append(row)
    return rows


def list_words(text: str) -> list[str]:
    """Return the words of a text, in lower case, without punctuation; digits as words."""
    spelt = re.sub(r"\d", lambda digit: f" {DIGITS[int(digit[0])]} ", text.lower())
    return re.findall(r"[^\W\d_]+", re.sub("['\u2019]", "", spelt))


def count_errors(true: Sequence[str], written: Sequence[str]) -> int:
    """Return how many words must be changed, left out or added to make the true text."""
    costs = np.arange(len(written) + 1)
    for number_of, word in enumerate(true, start=1):
        before, costs = costs, np.empty_like(costs)
        costs[0] = number_of
        for i, other in enumerate(written, start=1):
            costs[i] = min(before[i] + 1, costs[i - 1] + 1, before[i - 1] + (word != other))
    return int(costs[-1])


MEASURES: dict[str, Callable[[argparse.Namespace, Answers], list[Row]]] = {
    "language": measure_language,
    "transcript": measure_transcript,
}
