"""Reads the files of a backfill: from a listing, a file of URIs, or the ledger.

Each source emits chunks of files, because runners have a cost per element.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam

from segue.adapters.connect import connect_store
from segue.adapters.empty_ledger import open_ledger_to_read
from segue.errors import ConfigurationError, MissingInput
from segue.ingest.media_filter import MediaFilter
from segue.model.ledger_query import LedgerQuery
from segue.model.location import parse_location
from segue.model.media_file import MediaFile, find_bucket_location, split_uri
from segue.model.shards import Shard, split

MAX_CHUNK = 256
Chunk = tuple[MediaFile, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which files to process, and how many of them."""

    prefix: str | None = None  # URI prefix of the listing or of the ledger query
    uris: str | None = None  # a file with one URI or path per line
    ledger: LedgerQuery | None = None  # instead of a listing
    media_filter: MediaFilter = field(default_factory=MediaFilter)
    limit: int | None = None
    sample: float | None = None  # the fraction of the files to take, the same ones each time


class ReadSelection(beam.PTransform):  # type: ignore[misc]
    """Emits the selected files as chunks.

    Parameters
    ----------
    selection : Selection
    ledger : str
        URL of the ledger, for a selection that queries it.
    spread : bool
        Whether chunks are redistributed over workers; a waste on a runner with only one.
    """

    def __init__(self, selection: Selection, *, ledger: str, spread: bool) -> None:
        super().__init__()
        self._selection = selection
        self._ledger = ledger
        self._spread = spread

    def expand(self, pipeline: Any) -> Any:
        """Build the read."""
        start = pipeline | "Start" >> beam.Impulse()
        if self._selection.uris is not None:
            lines = start | "Read URIs" >> beam.ParDo(_ReadUris(self._selection))
            if self._spread:
                lines = lines | "Spread URIs" >> beam.Reshuffle()
            return lines | "Look up generations" >> beam.ParDo(_LookUp())
        if self._selection.ledger is not None:
            chunks = start | "Query ledger" >> beam.ParDo(
                _QueryLedger(self._selection, self._ledger)
            )
        else:
            shards = start | "Split prefix" >> beam.ParDo(
                _SplitPrefix(self._selection, self._spread)
            )
            if self._spread:
                shards = shards | "Spread shards" >> beam.Reshuffle()
            chunks = shards | "List" >> beam.ParDo(_List(self._selection))
        return chunks | "Spread files" >> beam.Reshuffle() if self._spread else chunks


class _SplitPrefix(beam.DoFn):  # type: ignore[misc]
    """Emits shards of a prefix that can be listed in parallel: one listing of a bucket gives only
    a few thousand names per second.
    """

    def __init__(self, selection: Selection, spread: bool) -> None:
        self._selection = selection
        # A limit needs one count of all files, and a folder is listed faster than it is split.
        self._split = spread and selection.limit is None

    def process(self, _element: bytes) -> Iterator[Shard]:
        assert self._selection.prefix is not None
        bucket, name = split_uri(self._selection.prefix)
        whole = Shard(prefix=name)
        if not (self._split and bucket):
            yield whole
            return
        yield from split(connect_store(find_bucket_location(self._selection.prefix)), whole)


class _List(beam.DoFn):  # type: ignore[misc]
    """Emits chunks of the files of a shard."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection

    def process(self, shard: Shard) -> Iterator[Chunk]:
        yield from split_into_chunks(list_files(self._selection, shard))


class _QueryLedger(beam.DoFn):  # type: ignore[misc]
    """Emits chunks of the files that match a ledger query."""

    def __init__(self, selection: Selection, url: str) -> None:
        self._selection = selection
        self._url = url

    def process(self, _element: bytes) -> Iterator[Chunk]:
        yield from split_into_chunks(query_files(self._selection, self._url))


class _ReadUris(beam.DoFn):  # type: ignore[misc]
    """Emits chunks of the URIs in a text file."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection

    def process(self, _element: bytes) -> Iterator[tuple[str, ...]]:
        yield from split_into_chunks(read_uris(self._selection))


class _LookUp(beam.DoFn):  # type: ignore[misc]
    """Emits chunks of files for chunks of URIs; counts and skips those that do not exist."""

    def process(self, uris: Sequence[str]) -> Iterator[Chunk]:
        stores: dict[str, Any] = {}
        found = []
        for uri in uris:
            location = find_bucket_location(uri)
            store = stores.get(location) or stores.setdefault(location, connect_store(location))
            try:
                there = store.stat(split_uri(uri)[1])
            except (MissingInput, ConfigurationError):
                beam.metrics.Metrics.counter("segue", "left_out.missing").inc()
                continue
            found.append(there.to_media_file(uri))
        if found:
            yield tuple(found)


def split_into_chunks(items: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
    """Group items into tuples, small at first: work starts at once and spreads evenly."""
    size, chunk = 1, []
    for item in items:
        chunk.append(item)
        if len(chunk) >= size:
            yield tuple(chunk)
            size, chunk = min(size * 2, MAX_CHUNK) if size < MAX_CHUNK else MAX_CHUNK, []
    if chunk:
        yield tuple(chunk)


def list_files(selection: Selection, shard: Shard | None = None) -> Iterator[MediaFile]:
    """List the media files below a prefix, or in one shard of it."""
    assert selection.prefix is not None
    location = find_bucket_location(selection.prefix)
    store = connect_store(location)
    shard = shard or Shard(prefix=split_uri(selection.prefix)[1])
    left = selection.limit
    head = location if location.endswith("/") else f"{location}/"
    for found in shard.list_objects(store):
        uri = head + found.name
        if not selection.media_filter.accepts(uri) or not _is_text(found.name):
            continue
        if selection.sample is not None and not is_in_sample(uri, selection.sample):
            continue
        if left is not None:
            if left <= 0:
                return
            left -= 1
        yield found.to_media_file(uri)


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
    left = selection.limit
    ledger = open_ledger_to_read(url)
    try:
        for record in query.records(ledger, selection.prefix or ""):
            if not selection.media_filter.accepts(record.uri):
                continue
            if selection.sample is not None and not is_in_sample(record.uri, selection.sample):
                continue
            if left is not None:
                if left <= 0:
                    return
                left -= 1
            yield record.media
    finally:
        ledger.close()


def read_uris(selection: Selection) -> Iterator[str]:
    """Read URIs and paths, one per line; skip empty lines and those that start with #."""
    assert selection.uris is not None
    left = selection.limit
    for raw in _read_lines(selection.uris):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        uri = line if line.startswith("gs://") else parse_location(line)
        if not selection.media_filter.accepts(uri):
            beam.metrics.Metrics.counter("segue", "left_out.not_media").inc()
            continue
        if selection.sample is not None and not is_in_sample(uri, selection.sample):
            continue
        if left is not None:
            if left <= 0:
                return
            left -= 1
        yield uri


def _read_lines(path: str) -> Iterator[str]:
    location = parse_location(path)
    _, name = split_uri(location)
    data = connect_store(find_bucket_location(location)).read(name)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"{path!r} is not UTF-8 text; write one URI or path per line"
        ) from error
    yield from text.splitlines()


def is_in_sample(uri: str, share: float) -> bool:
    """Whether a file is in a sample, by the hash of its URI: a larger sample includes a smaller
    one.
    """
    media = MediaFile(uri=uri, generation=0)
    return int(media.id[:13], 16) < share * 16**13


def _is_text(name: str) -> bool:
    """Whether a name is Unicode text; a file system may have others, which no URI can represent."""
    if name.isascii():
        return True
    try:
        name.encode()
    except UnicodeEncodeError:
        beam.metrics.Metrics.counter("segue", "left_out.not_utf8").inc()
        return False
    return True
