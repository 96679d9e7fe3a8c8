"""Reads the files of a backfill: from a listing, a file of URIs, or the ledger.

Each source emits chunks of files, because runners have a cost per element.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, TypeVar

import apache_beam as beam

from segue.adapters.connect import connect_store, open_ledger_to_read
from segue.errors import ConfigurationError, MissingInput
from segue.ingest.catalogue import MediaFilter
from segue.model.graph import Graph
from segue.model.ledger import Ledger, Query, find_records, find_records_by_state
from segue.model.media_file import (
    MediaFile,
    find_bucket_location,
    is_unicode,
    parse_location,
    split_uri,
    uri_to_file_id,
)
from segue.model.object_store import NameRange, split_prefix
from segue.model.record import Record, State
from segue.model.transitions import is_current

MAX_CHUNK = 256
Chunk = tuple[MediaFile, ...]
CRITERIA = ("failed", "stale", "missing", "all")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerQuery:
    """Finds the files whose targets meet a criterion."""

    criterion: str  # one of CRITERIA
    graph: Graph
    targets: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.criterion not in CRITERIA:
            known = ", ".join(CRITERIA)
            raise ConfigurationError(
                f"{self.criterion!r} is not a ledger query; write one of {known}"
            )

    def find_records(self, ledger: Ledger, prefix: str) -> Iterator[Record]:
        """Yield the records in the order of their URIs, without tombstones.

        An index finds failures. Whether a result is stale or missing depends on the current graph,
        which no index knows, so all records below the prefix are read.
        """
        if self.criterion != "failed":
            yield from filter(
                self._matches, find_records(ledger, Query(prefix=prefix, deleted=False))
            )
            return
        jobs = self.graph.add_ancestors(self.targets)
        yield from find_records_by_state(ledger, jobs, (State.FAILED,), prefix)

    def _matches(self, record: Record) -> bool:
        entries = [(job, record.jobs.get(job)) for job in self.targets]
        if self.criterion == "missing":
            return any(entry is None or entry.state is State.QUEUED for _, entry in entries)
        if self.criterion == "stale":
            return any(
                entry is not None
                and entry.state is State.DONE
                and not is_current(self.graph, record, job)
                for job, entry in entries
            )
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which files to process, and how many of them."""

    prefix: str | None = None  # URI prefix of the listing or of the ledger query
    uris: str | None = None  # a file with one URI or path per line
    ledger: LedgerQuery | None = None  # instead of a listing
    media_filter: MediaFilter = field(default_factory=MediaFilter)
    limit: int | None = None
    sample: float | None = None  # the fraction of the files to take, the same ones each time

    def take(self, items: Iterable[T], uri: Callable[[T], str]) -> Iterator[T]:
        """Yield the items that are in the sample, up to the limit."""
        if (share := self.sample) is not None:
            items = (item for item in items if is_in_sample(uri(item), share))
        return itertools.islice(items, self.limit)


@beam.ptransform_fn  # type: ignore[untyped-decorator]
def read_selection(pipeline: Any, selection: Selection, ledger: str, spread: bool) -> Any:
    """Read the selected files as chunks.

    Parameters
    ----------
    pipeline : beam.Pipeline
    selection : Selection
    ledger : str
        URL of the ledger, for a selection that queries it.
    spread : bool
        Whether chunks are redistributed over workers; a waste on a runner with only one.
    """
    start = pipeline | "Start" >> beam.Impulse()
    if selection.uris is not None:
        lines = start | "Read URIs" >> beam.FlatMap(_chunk_uris, selection)
        if spread:
            lines = lines | "Spread URIs" >> beam.Reshuffle()
        return lines | "Look up generations" >> beam.FlatMap(_look_up)
    if selection.ledger is not None:
        chunks = start | "Query ledger" >> beam.FlatMap(_chunk_records, selection, ledger)
    else:
        ranges = start | "Split prefix" >> beam.FlatMap(_split_into_ranges, selection, spread)
        if spread:
            ranges = ranges | "Spread shards" >> beam.Reshuffle()
        chunks = ranges | "List" >> beam.FlatMap(_chunk_range, selection)
    return chunks | "Spread files" >> beam.Reshuffle() if spread else chunks


def _chunk_uris(_element: bytes, selection: Selection) -> Iterator[tuple[str, ...]]:
    return split_into_chunks(read_uris(selection))


def _look_up(uris: Sequence[str]) -> Iterator[Chunk]:
    """Look up the files of URIs; count and skip those that do not exist."""
    connect = functools.cache(connect_store)
    found = []
    for uri in uris:
        store = connect(find_bucket_location(uri))
        try:
            there = store.stat(split_uri(uri)[1])
        except (MissingInput, ConfigurationError):
            beam.metrics.Metrics.counter("segue", "left_out.missing").inc()
            continue
        found.append(there.to_media_file(uri))
    if found:
        yield tuple(found)


def _chunk_records(_element: bytes, selection: Selection, ledger: str) -> Iterator[Chunk]:
    return split_into_chunks(query_files(selection, ledger))


def _split_into_ranges(_element: bytes, selection: Selection, spread: bool) -> Iterator[NameRange]:
    """Split a prefix so that it can be listed in parallel: one listing of a bucket gives only a few
    thousand names per second.
    """
    assert selection.prefix is not None
    bucket, name = split_uri(selection.prefix)
    # A limit needs one count of all files, and a folder is listed faster than it is split.
    if spread and selection.limit is None and bucket:
        yield from split_prefix(connect_store(find_bucket_location(selection.prefix)), name)
    else:
        yield NameRange(prefix=name)


def _chunk_range(part: NameRange, selection: Selection) -> Iterator[Chunk]:
    return split_into_chunks(list_files(selection, part))


def split_into_chunks(items: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
    """Group items into tuples, small at first: work starts at once and spreads evenly."""
    size, rest = 1, iter(items)
    while chunk := tuple(itertools.islice(rest, size)):
        yield chunk
        size = min(2 * size, MAX_CHUNK)


def list_files(selection: Selection, part: NameRange | None = None) -> Iterator[MediaFile]:
    """List the media files below a prefix, or in one part of it."""
    assert selection.prefix is not None
    store = connect_store(find_bucket_location(selection.prefix))
    part = part or NameRange(prefix=split_uri(selection.prefix)[1])

    def find_media() -> Iterator[MediaFile]:
        for found in part.list_objects(store):
            uri = store.uri(found.name)
            if not selection.media_filter.accepts(uri):
                continue
            if is_unicode(found.name):
                yield found.to_media_file(uri)
            else:
                beam.metrics.Metrics.counter("segue", "left_out.not_utf8").inc()

    return selection.take(find_media(), attrgetter("uri"))


def count_files(selection: Selection, ledger: str, *, stop: Callable[[], bool]) -> int | None:
    """Count the files of a selection for a progress bar; return None if ``stop`` is true."""
    if selection.uris is not None:
        files: Iterator[object] = read_uris(selection)
    elif selection.ledger is not None:
        files = query_files(selection, ledger)
    else:
        files = list_files(selection)
    total = 0
    for total, _ in enumerate(files, start=1):
        if total % 1000 == 0 and stop():
            return None
    return total


def query_files(selection: Selection, url: str) -> Iterator[MediaFile]:
    """List the files that match the selection's ledger query."""
    query = selection.ledger
    assert query is not None
    with contextlib.closing(open_ledger_to_read(url)) as ledger:
        for record in selection.take(
            (
                record
                for record in query.find_records(ledger, selection.prefix or "")
                if selection.media_filter.accepts(record.uri)
            ),
            attrgetter("uri"),
        ):
            yield record.media


def read_uris(selection: Selection) -> Iterator[str]:
    """Read URIs and paths, one per line; skip empty lines and those that start with #."""
    assert selection.uris is not None
    path = selection.uris

    def find_uris() -> Iterator[str]:
        for raw in _read_lines(path):
            line = raw.strip()
            if not line or line.startswith("#"):
                continue
            uri = line if line.startswith("gs://") else parse_location(line)
            if selection.media_filter.accepts(uri):
                yield uri
            else:
                beam.metrics.Metrics.counter("segue", "left_out.not_media").inc()

    return selection.take(find_uris(), str)


def _read_lines(path: str) -> list[str]:
    location = parse_location(path)
    _, name = split_uri(location)
    data = connect_store(find_bucket_location(location)).read(name)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"{path!r} is not UTF-8 text; write one URI or path per line"
        ) from error
    return text.splitlines()


def is_in_sample(uri: str, share: float) -> bool:
    """Whether a file is in a sample, by the hash of its URI: a larger sample includes a smaller
    one.
    """
    return int(uri_to_file_id(uri)[:13], 16) < share * 16**13
