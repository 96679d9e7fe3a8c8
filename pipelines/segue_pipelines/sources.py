"""Where a backfill's files come from: a listing, a file of URIs, or the ledger. Each emits chunks
of files.

Chunks, not files, travel through the pipeline: what a runner charges for an element is then paid
once for many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam

from segue.adapters.connect import connect_store
from segue.adapters.empty_ledger import ledger_to_read
from segue.errors import ConfigurationError, MissingInput
from segue.model.ledger_query import LedgerQuery
from segue.model.location import location_of
from segue.model.media_file import MediaFile, bucket_location, includes, split_uri
from segue.model.shards import Shard, split

MAX_CHUNK = 256
Chunk = tuple[MediaFile, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which files, and how many of them."""

    prefix: str | None = None  # URI prefix of a listing, or of what the ledger is asked for
    uris: str | None = None  # a file with a URI or a path a line
    ledger: LedgerQuery | None = None  # instead of a listing
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()  # URI prefixes, such as that of our own artifacts
    limit: int | None = None
    sample: float | None = None  # the share of the files to take, the same ones each time


class ReadSelection(beam.PTransform):  # type: ignore[misc]
    """Emits the selected files as chunks.

    Parameters
    ----------
    selection : Selection
    ledger : str
        URL of the ledger, for a selection that asks it.
    spread : bool
        Whether chunks are redistributed over workers, which a runner with only one has no use for.
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
            chunks = start | "Ask the ledger" >> beam.ParDo(
                _AskLedger(self._selection, self._ledger)
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
    """Emits parts of a prefix that can be listed side by side: one listing of a bucket gives some
    thousand names a second.
    """

    def __init__(self, selection: Selection, spread: bool) -> None:
        self._selection = selection
        # A limit counts files in one place, and a folder is listed faster than it is split.
        self._split = spread and selection.limit is None

    def process(self, _element: bytes) -> Iterator[Shard]:
        assert self._selection.prefix is not None
        bucket, name = split_uri(self._selection.prefix)
        whole = Shard(prefix=name)
        if not (self._split and bucket):
            yield whole
            return
        yield from split(connect_store(bucket_location(self._selection.prefix)), whole)


class _List(beam.DoFn):  # type: ignore[misc]
    """Emits chunks of the files of a shard."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection

    def process(self, shard: Shard) -> Iterator[Chunk]:
        yield from chunks(list_files(self._selection, shard))


class _AskLedger(beam.DoFn):  # type: ignore[misc]
    """Emits chunks of the files that the ledger names."""

    def __init__(self, selection: Selection, url: str) -> None:
        self._selection = selection
        self._url = url

    def process(self, _element: bytes) -> Iterator[Chunk]:
        yield from chunks(query_files(self._selection, self._url))


class _ReadUris(beam.DoFn):  # type: ignore[misc]
    """Emits chunks of the URIs in a text file."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection

    def process(self, _element: bytes) -> Iterator[tuple[str, ...]]:
        yield from chunks(read_uris(self._selection))


class _LookUp(beam.DoFn):  # type: ignore[misc]
    """Emits chunks of files for chunks of URIs; one that does not exist is left out and counted."""

    def process(self, uris: Sequence[str]) -> Iterator[Chunk]:
        stores: dict[str, Any] = {}
        found = []
        for uri in uris:
            location = bucket_location(uri)
            store = stores.get(location) or stores.setdefault(location, connect_store(location))
            try:
                there = store.stat(split_uri(uri)[1])
            except (MissingInput, ConfigurationError):
                beam.metrics.Metrics.counter("segue", "left_out.missing").inc()
                continue
            found.append(
                MediaFile(
                    uri=uri,
                    generation=there.generation,
                    size_bytes=there.size_bytes,
                    content_type=there.content_type,
                    checksum=there.checksum,
                )
            )
        if found:
            yield tuple(found)


def chunks(items: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
    """Group items, few at first so that work starts at once and small catalogues spread evenly."""
    size, chunk = 1, []
    for item in items:
        chunk.append(item)
        if len(chunk) >= size:
            yield tuple(chunk)
            size, chunk = min(size * 2, MAX_CHUNK) if size < MAX_CHUNK else MAX_CHUNK, []
    if chunk:
        yield tuple(chunk)


def list_files(selection: Selection, shard: Shard | None = None) -> Iterator[MediaFile]:
    """List the media below a prefix, or of a shard of it."""
    assert selection.prefix is not None
    location = bucket_location(selection.prefix)
    store = connect_store(location)
    shard = shard or Shard(prefix=split_uri(selection.prefix)[1])
    wanted = includes(selection.include)
    left = selection.limit
    head = location if location.endswith("/") else f"{location}/"
    for found in shard.objects(store):
        if not wanted(found.name) or not _encodable(found.name):
            continue
        uri = head + found.name
        if selection.exclude and uri.startswith(selection.exclude):
            continue
        if selection.sample is not None and not sampled(uri, selection.sample):
            continue
        if left is not None:
            if left <= 0:
                return
            left -= 1
        yield MediaFile(
            uri=uri,
            generation=found.generation,
            size_bytes=found.size_bytes,
            content_type=found.content_type,
            checksum=found.checksum,
        )


def count_files(selection: Selection, ledger: str, *, stop: Callable[[], bool]) -> int | None:
    """Count the files of a selection, for a progress bar; None if it was told to stop."""
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
    """List the files that the ledger knows, and that lack what the selection says."""
    query = selection.ledger
    assert query is not None
    left = selection.limit
    ledger = ledger_to_read(url)
    try:
        for record in query.records(ledger, selection.prefix or ""):
            if selection.sample is not None and not sampled(record.uri, selection.sample):
                continue
            if left is not None:
                if left <= 0:
                    return
                left -= 1
            yield record.media
    finally:
        ledger.close()


def read_uris(selection: Selection) -> Iterator[str]:
    """Read URIs and paths, one a line; empty lines and those that start with # are comments."""
    assert selection.uris is not None
    left = selection.limit
    for raw in _lines(selection.uris):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        uri = line if line.startswith("gs://") else location_of(line)
        if selection.sample is not None and not sampled(uri, selection.sample):
            continue
        if left is not None:
            if left <= 0:
                return
            left -= 1
        yield uri


def _lines(place: str) -> Iterator[str]:
    location = location_of(place)
    _, name = split_uri(location)
    data = connect_store(bucket_location(location)).read(name)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"{place!r} is not UTF-8 text; write one URI or path a line"
        ) from error
    yield from text.splitlines()


def sampled(uri: str, share: float) -> bool:
    """Whether a file belongs to a sample: by the hash of its URI, so that a larger sample holds a
    smaller one.
    """
    media = MediaFile(uri=uri, generation=0)
    return int(media.id[:13], 16) < share * 16**13


def _encodable(name: str) -> bool:
    """Whether a name is Unicode text; a file system may hold others, which no URI can say."""
    if name.isascii():
        return True
    try:
        name.encode()
    except UnicodeEncodeError:
        beam.metrics.Metrics.counter("segue", "left_out.not_utf8").inc()
        return False
    return True
