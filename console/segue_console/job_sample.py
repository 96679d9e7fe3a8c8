"""What a job has written, on a sample of the files: its versions, its slowest files, its numbers.

A sample, because a catalogue of millions cannot be read for a page. The files are those that follow
some places spread over the names of the catalogue, always the same ones: a folder with many files
counts no more than one with few, so the page says that it is a sample.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from segue.adapters.connect import connect_store
from segue.errors import MissingInput
from segue.ingest.observation import map_in_threads
from segue.model.graph import Graph
from segue.model.ledger import Ledger, Query
from segue.model.object_store import ObjectStore
from segue.model.record import Record, State
from segue.model.transitions import find_current
from segue.stack import Stack
from segue_console.file_search import find_common_folder
from segue_console.tracks import is_number

FIRST = 500  # files from the beginning; a smaller catalogue is looked at as a whole
PLACES = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
PER_PLACE = 20  # files
VALUES = 200  # results whose values are read
MAX_VALUE_BYTES = 1 << 20
BINS = 24
TIMES = 48  # bars of the results over time
SLOWEST = 10
TEXTS = 12  # different texts of a field that are counted
MAX_TEXT = 200  # characters of one
FIELDS = 200  # whose distributions are shown: the keys of a result may be words, not names


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionUse:
    """How many files of the sample have a result of one version of a job, and since when."""

    fingerprint: str
    is_present: bool
    files: int
    first: datetime | None
    last: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """How many results of the sample were finished over time, by version."""

    first: datetime
    last: datetime
    # From first to last, each with the results of each version in the order of the versions.
    bars: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """How a number, or a text, of a job's results is distributed over the sample."""

    field: str
    files: int  # that have it
    missing: int  # in whose result it is null
    low: float = 0.0
    high: float = 0.0
    median: float = 0.0
    bins: tuple[int, ...] = ()  # of numbers, from low to high
    texts: tuple[tuple[str, int], ...] = ()  # the most frequent ones


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSample:
    """What a sample of files says of a job."""

    files: int  # that were looked at
    is_whole: bool  # they are all that there are
    versions: tuple[VersionUse, ...]  # the latest first
    slowest: tuple[tuple[str, float], ...]  # URI and seconds
    timeline: Timeline | None  # None if no result says when it was finished
    values: int  # results that were read
    distributions: tuple[Distribution, ...]
    more: int = 0  # fields whose distributions are left out


def sample_job(stack: Stack, job: str) -> JobSample:
    """Look at a job's results on a sample of the files."""
    records, is_whole = sample_records(stack.ledger)
    graph = stack.graph
    uses: dict[str, list[datetime | None]] = defaultdict(list)
    slow: list[tuple[str, float]] = []
    for record in records:
        for fingerprint, entry in record.results.items():
            if entry.job != job or entry.state is not State.DONE:
                continue
            uses[fingerprint].append(entry.finished_at)
            if entry.seconds is not None and fingerprint in graph.accepted[job]:
                slow.append((record.uri, entry.seconds))
    values = _read_values(stack, records, job)
    versions = _sum_versions(graph, job, uses)
    distributions = tuple(find_distributions(values))
    return JobSample(
        files=len(records),
        is_whole=is_whole,
        versions=versions,
        slowest=tuple(sorted(slow, key=lambda one: -one[1])[:SLOWEST]),
        timeline=_build_timeline([uses[version.fingerprint] for version in versions]),
        values=len(values),
        distributions=distributions[:FIELDS],
        more=max(len(distributions) - FIELDS, 0),
    )


def sample_records(ledger: Ledger) -> tuple[list[Record], bool]:
    """Return some records of files that exist, by URI, and whether they are all."""
    query = Query(deleted=False)
    first = ledger.find(query, limit=FIRST)
    if len(first) < FIRST:
        return first, True
    found = {record.uri: record for record in first}
    start = find_common_folder(ledger)
    for place in PLACES:
        for record in ledger.find(query, after=start + place, limit=PER_PLACE):
            found[record.uri] = record
    return [found[uri] for uri in sorted(found)], False


def _sum_versions(
    graph: Graph, job: str, uses: Mapping[str, Sequence[datetime | None]]
) -> tuple[VersionUse, ...]:
    versions = []
    for fingerprint, times in uses.items():
        known = sorted(at for at in times if at is not None)
        versions.append(
            VersionUse(
                fingerprint=fingerprint,
                is_present=fingerprint == graph.fingerprints[job],
                files=len(times),
                first=known[0] if known else None,
                last=known[-1] if known else None,
            )
        )
    return tuple(sorted(versions, key=lambda v: v.last.timestamp() if v.last else 0, reverse=True))


def _build_timeline(versions: Sequence[Sequence[datetime | None]]) -> Timeline | None:
    """Count the results of each version in equal parts of the time from the first to the last."""
    known = [[at for at in times if at is not None] for times in versions]
    every = [at for times in known for at in times]
    if not every:
        return None
    first, last = min(every), max(every)
    length_s = (last - first).total_seconds()
    bars = [[0] * len(known) for _ in range(TIMES if length_s else 1)]
    for version, times in enumerate(known):
        for at in times:
            place = int((at - first).total_seconds() / length_s * TIMES) if length_s else 0
            bars[min(place, len(bars) - 1)][version] += 1
    return Timeline(first=first, last=last, bars=tuple(map(tuple, bars)))


def _read_values(stack: Stack, records: Sequence[Record], job: str) -> list[tuple[str, Any]]:
    """Read current results in JSON, of files spread over the sample: the output and the value."""
    names = list(_list_names(stack.graph, records, job))
    step = max(len(names) // VALUES, 1)
    with closing(connect_store(stack.graph.artifacts)) as store:
        read = map_in_threads(
            lambda one: (one[0], _read_json(store, one[1])), names[::step][:VALUES]
        )
        return [(output, value) for output, value in read if value is not None]


def _list_names(graph: Graph, records: Sequence[Record], job: str) -> Iterator[tuple[str, str]]:
    """Yield the output and the name of each artifact in JSON."""
    for record in records:
        fingerprint = find_current(graph, record, job)
        if fingerprint is None:
            continue
        for suffix in record.results[fingerprint].checksums:
            output, _, extension = suffix.rpartition(".")
            if extension == "json":
                yield output, record.name_artifact(fingerprint, suffix)


def _read_json(store: ObjectStore, name: str) -> Any:
    try:
        data = store.read_part(name, start=0, length=MAX_VALUE_BYTES + 1)
        return msgspec.json.decode(data) if len(data) <= MAX_VALUE_BYTES else None
    except (MissingInput, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def find_distributions(values: Sequence[tuple[str, Any]]) -> Iterator[Distribution]:
    """Yield the distribution of each number and each short text, in the order of the fields."""
    fields: dict[str, list[Any]] = {}
    for output, value in values:
        for name, field in _iterate_leaves(value, output):
            fields.setdefault(name, []).append(field)
    for name, found in fields.items():
        missing = sum(field is None for field in found)
        numbers = sorted(float(v) for v in found if is_number(v))
        texts = Counter(str(v)[:MAX_TEXT] for v in found if isinstance(v, str | bool))
        if numbers:
            yield _count_numbers(name, numbers, missing)
        elif texts and len(texts) <= max(TEXTS, len(found) // 4):
            yield Distribution(
                field=name,
                files=texts.total(),
                missing=missing,
                texts=tuple(texts.most_common(TEXTS)),
            )


def _count_numbers(name: str, numbers: Sequence[float], missing: int) -> Distribution:
    low, high = numbers[0], numbers[-1]
    span = high / 2 - low / 2  # the difference of two numbers may be no number
    bins = [0] * (BINS if span > 0 else 1)
    for number in numbers:
        place = int((number / 2 - low / 2) / span * BINS) if span > 0 else 0
        bins[min(place, len(bins) - 1)] += 1
    return Distribution(
        field=name,
        files=len(numbers),
        missing=missing,
        low=low,
        high=high,
        # The half of each, as the sum of two numbers may be no number.
        median=numbers[(len(numbers) - 1) // 2] / 2 + numbers[len(numbers) // 2] / 2,
        bins=tuple(bins),
    )


def _iterate_leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, field in value.items():
            yield from _iterate_leaves(field, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        yield f"{name} (length)", len(value)
    else:
        yield name or "(value)", value
