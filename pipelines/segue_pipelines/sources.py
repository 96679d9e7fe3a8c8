"""Reads the files of a backfill: from a listing, a file of URIs, or the ledger.

Each source emits chunks of files, because runners have a cost per element.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import functools
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, TypeVar

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from segue.adapters.connect import connect_store, open_ledger_to_read
from segue.errors import ConfigurationError, MissingInput, SegueError
from segue.ingest.catalogue import EXCLUDED, NOT_INCLUDED, MediaFilter
from segue.ingest.probe_filter import ProbeFilter
from segue.model.criteria import Criteria, Unselected
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
from segue.model.object_store import (
    REMEDIES,
    LeftOut,
    LeftOutReason,
    NameRange,
    list_objects,
    split_at_slash,
    split_prefix,
)
from segue.model.record import Record, State
from segue.model.transitions import find_entry, is_current
from segue_pipelines.left_out import LeftOutReporter
from segue_pipelines.listing_end import ListedRun
from segue_pipelines.options import has_worker_processes, is_local

MAX_CHUNK = 256
Chunk = tuple[MediaFile, ...]
CRITERIA = ("failed", "stale", "missing", "all")
T = TypeVar("T")
Report = Callable[[str, LeftOutReason, str], None]  # URI, reason, explanation
PassOver = Callable[[str, str], None]  # name, reason
Unselect = Callable[[Unselected], None]


def ignore(uri: str, reason: LeftOutReason, explanation: str) -> None:
    """Report nothing."""


def ignore_name(name: str, reason: str) -> None:
    """Do not count a name."""


def ignore_reason(reason: Unselected) -> None:
    """Do not count a file that is not selected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedProbes:
    """Selects files by their recorded probes before a limit counts them."""

    graph: Graph
    ledger: str  # URL
    artifacts: str  # location
    criteria: Criteria
    keeps_unprobed: bool  # the run probes them

    def select(
        self, items: Iterable[T], uri: Callable[[T], str], unselect: Unselect
    ) -> Iterator[T]:
        """Yield the items that meet the criteria, as far as it is known."""
        rest = iter(items)
        with contextlib.ExitStack() as opened:
            ledger = opened.enter_context(
                contextlib.closing(open_ledger_to_read(self.ledger, self.graph.namespace))
            )
            artifacts = opened.enter_context(contextlib.closing(connect_store(self.artifacts)))
            probes = ProbeFilter(self.graph, artifacts, self.criteria)
            while chunk := tuple(itertools.islice(rest, MAX_CHUNK)):
                snapshots = ledger.read([uri(item) for item in chunk])
                reasons = probes.find_reasons([None] * len(chunk), snapshots)
                for item, reason in zip(chunk, reasons, strict=True):
                    is_kept = reason is Unselected.NO_PROBE and self.keeps_unprobed
                    if reason is None or is_kept:
                        yield item
                    else:
                        unselect(reason)


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
        yield from find_records_by_state(ledger, self.graph, jobs, (State.FAILED,), prefix)

    def _matches(self, record: Record) -> bool:
        if self.criterion == "all":
            return True
        lacking = [job for job in self.targets if not is_current(self.graph, record, job)]
        if self.criterion == "missing":
            return any(self._is_missing(record, job) for job in lacking)
        done = {entry.job for entry in record.results.values() if entry.state is State.DONE}
        return not done.isdisjoint(lacking)

    def _is_missing(self, record: Record, job: str) -> bool:
        entry = find_entry(self.graph, record, job)
        return entry is None or entry.state is State.QUEUED


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which files to process, and how many of them."""

    prefix: str | None = None  # URI prefix of the listing or of the ledger query
    uris: str | None = None  # a list of URIs and paths, as `read_uris` reads it
    ledger: LedgerQuery | None = None  # instead of a listing
    media_filter: MediaFilter = field(default_factory=MediaFilter)
    limit: int | None = None
    sample: float | None = None  # the fraction of the files to take, the same ones each time
    criteria: Criteria = field(default_factory=Criteria)
    probes: RecordedProbes | None = None  # with a limit, if the criteria need probes

    def take(
        self, items: Iterable[T], uri: Callable[[T], str], unselect: Unselect = ignore_reason
    ) -> Iterator[T]:
        """Yield the items that are in the sample, up to the limit."""
        if (share := self.sample) is not None:
            items = (item for item in items if is_in_sample(uri(item), share))
        if self.probes is not None:
            items = self.probes.select(items, uri, unselect)
        return itertools.islice(items, self.limit)

    def is_selected(self, name: str, updated_at: float | None, unselect: Unselect) -> bool:
        """Whether a file meets the criteria that its name and time decide; count it if not."""
        reason = self.criteria.find_reason(name, updated_at)
        if reason is not None:
            unselect(reason)
        return reason is None


def check_list(selection: Selection, options: PipelineOptions) -> None:
    """Raise ``ConfigurationError`` if the selection's list is one that the workers cannot read."""
    if selection.uris is None or not has_worker_processes(options) or not is_pipe(selection.uris):
        return
    raise ConfigurationError(
        f"{selection.uris!r} is a pipe, which other processes cannot read; write the list to a file"
    )


def check_prefix(selection: Selection, options: PipelineOptions) -> None:
    """Raise ``ConfigurationError`` if nothing in a bucket has the selection's prefix.

    For another runner this is not known: only its workers may be allowed to list the bucket.
    """
    if selection.prefix is None or selection.ledger is not None or not is_local(options):
        return
    bucket, name = split_uri(selection.prefix)
    if not bucket or not name:
        return
    with contextlib.closing(connect_store(find_bucket_location(selection.prefix))) as store:
        if next(list_objects(store, name), None) is None:
            raise ConfigurationError(
                f"there is no object {selection.prefix!r}, and none below it; check the prefix"
            )


@beam.ptransform_fn  # type: ignore[untyped-decorator]
def read_selection(pipeline: Any, selection: Selection, run: ListedRun, spread: bool) -> Any:
    """Read the selected files as chunks, until soon after the run was cancelled.

    Parameters
    ----------
    pipeline : beam.Pipeline
    selection : Selection
    run : ListedRun
        Its ledger is also that of a selection that queries it.
    spread : bool
        Whether chunks are redistributed over workers; a waste on a runner with only one.
    """
    start = pipeline | "Start" >> beam.Impulse()
    if selection.uris is not None:
        lines = start | "Read URIs" >> beam.FlatMap(_chunk_uris, selection, run)
        if spread:
            lines = lines | "Spread URIs" >> beam.Reshuffle()
        return lines | "Look up files" >> beam.ParDo(_LookUp(selection))
    if selection.ledger is not None:
        chunks = start | "Query ledger" >> beam.FlatMap(_chunk_records, selection, run)
    else:
        ranges = start | "Split prefix" >> beam.FlatMap(_split_into_ranges, selection, spread)
        if spread:
            ranges = ranges | "Spread shards" >> beam.Reshuffle()
        chunks = ranges | "List" >> beam.FlatMap(_chunk_range, selection, run)
    return chunks | "Spread files" >> beam.Reshuffle() if spread else chunks


def _chunk_uris(_element: bytes, selection: Selection, run: ListedRun) -> Iterator[tuple[str, ...]]:
    left_out = LeftOutReporter()
    found = read_uris(selection, report=left_out.report, unselect=left_out.unselect)
    yield from run.list_until_cancelled(split_into_chunks(found))
    left_out.flush()


class _LookUp(beam.DoFn):  # type: ignore[misc]
    """Emits the files of URIs; reports those that do not exist."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection

    def setup(self) -> None:
        """Prepare to connect to the files' buckets."""
        self._connect = functools.cache(connect_store)
        self._left_out = LeftOutReporter()

    def process(self, uris: Sequence[str]) -> Iterator[Chunk]:
        """Look up a chunk."""
        found = []
        for uri in uris:
            store = self._connect(find_bucket_location(uri))
            try:
                there = store.stat(split_uri(uri)[1])
            except (MissingInput, ConfigurationError) as error:
                self._left_out.report(uri, _find_reason(error), str(error))
                continue
            if self._selection.is_selected(there.name, there.updated_at, self._left_out.unselect):
                found.append(there.to_media_file(uri))
        if found:
            yield tuple(found)

    def finish_bundle(self) -> None:
        """Add the names of those that do not exist to the metrics."""
        self._left_out.flush()


def _find_reason(error: SegueError) -> LeftOutReason:
    cause = error.__cause__
    if isinstance(cause, PermissionError):
        return LeftOutReason.UNREADABLE
    if isinstance(cause, OSError) and cause.errno == errno.ENAMETOOLONG:
        return LeftOutReason.TOO_LONG
    return LeftOutReason.MISSING


def _chunk_records(_element: bytes, selection: Selection, run: ListedRun) -> Iterator[Chunk]:
    left_out = LeftOutReporter()
    found = query_files(
        selection, run.ledger, pass_over=left_out.pass_over, unselect=left_out.unselect
    )
    yield from run.list_until_cancelled(split_into_chunks(found))
    left_out.flush()


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
        yield from split_at_slash(name)


def _chunk_range(part: NameRange, selection: Selection, run: ListedRun) -> Iterator[Chunk]:
    left_out = LeftOutReporter()
    found = list_files(
        selection,
        [part],
        report=left_out.report,
        pass_over=left_out.pass_over,
        unselect=left_out.unselect,
    )
    yield from run.list_until_cancelled(split_into_chunks(found))
    left_out.flush()


def split_into_chunks(items: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
    """Group items into tuples, small at first: work starts at once and spreads evenly."""
    size, rest = 1, iter(items)
    while chunk := tuple(itertools.islice(rest, size)):
        yield chunk
        size = min(2 * size, MAX_CHUNK)


def list_files(
    selection: Selection,
    parts: Iterable[NameRange] | None = None,
    *,
    report: Report = ignore,
    pass_over: PassOver = ignore_name,
    unselect: Unselect = ignore_reason,
) -> Iterator[MediaFile]:
    """List the media files below a prefix, or in some parts of it, and report those left out.

    ``pass_over`` gets the names that the graph does not include, or excludes.
    """
    assert selection.prefix is not None
    store = connect_store(find_bucket_location(selection.prefix))
    name = split_uri(selection.prefix)[1]

    def leave_out(found: LeftOut) -> None:
        uri = store.uri(found.name)
        if selection.media_filter.concerns(uri):
            report(uri, found.reason, found.explanation)

    def find_media() -> Iterator[MediaFile]:
        for part in parts or split_at_slash(name):
            for found in part.list_objects(store, leave_out=leave_out):
                uri = store.uri(found.name)
                reason = selection.media_filter.find_reason_to_ignore(uri)
                if reason is None:
                    if selection.is_selected(found.name, found.updated_at, unselect):
                        yield found.to_media_file(uri)
                elif found.name == name and not name.endswith("/"):  # it was named
                    report(uri, LeftOutReason.NOT_MEDIA, f"it is {reason}")
                elif reason in (NOT_INCLUDED, EXCLUDED):
                    pass_over(found.name, reason)

    return selection.take(find_media(), attrgetter("uri"), unselect)


def count_files(selection: Selection, ledger: str, *, stop: Callable[[], bool]) -> int | None:
    """Count the files of a selection for a progress bar; return None if ``stop`` is true.

    A list that comes through a pipe can be read only once, and is not counted. How many files meet
    criteria about probes is known only at the end.
    """
    if selection.criteria.needs_probe or (selection.uris is not None and is_pipe(selection.uris)):
        return None
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


def query_files(
    selection: Selection,
    url: str,
    *,
    pass_over: PassOver = ignore_name,
    unselect: Unselect = ignore_reason,
) -> Iterator[MediaFile]:
    """List the files that match the selection's ledger query; those in folders may have changed."""
    query = selection.ledger
    assert query is not None
    with contextlib.closing(open_ledger_to_read(url, query.graph.namespace)) as ledger:

        def find_media() -> Iterator[Record]:
            for record in query.find_records(ledger, selection.prefix or ""):
                name = record.media.name
                reason = selection.media_filter.find_reason_to_ignore(record.uri)
                if reason is None:
                    if selection.is_selected(name, None, unselect):
                        yield record
                elif reason in (NOT_INCLUDED, EXCLUDED):
                    pass_over(name, reason)

        for record in selection.take(find_media(), attrgetter("uri"), unselect):
            media = record.media
            yield media if media.bucket else MediaFile(uri=media.uri, version="")


def read_uris(
    selection: Selection, *, report: Report = ignore, unselect: Unselect = ignore_reason
) -> Iterator[str]:
    """Read the URIs and paths of a list, each once, and report those that cannot be media files.

    They are separated by line feeds: white space around them, empty lines and those that start with
    # are skipped. If the list has a NUL, as ``find -print0`` writes it, they are separated by NULs,
    and taken as they are: so a list can carry every name.
    """
    assert selection.uris is not None
    data = _read_list(selection.uris)
    read_items = _read_items if b"\0" in data else _read_lines

    def find_uris() -> Iterator[str]:
        for item in dict.fromkeys(read_items(data)):
            if not is_unicode(item):
                report(item, LeftOutReason.NOT_UTF8, REMEDIES[LeftOutReason.NOT_UTF8])
                continue
            reason = selection.media_filter.find_reason_to_ignore(item)
            if reason is not None:
                report(item, LeftOutReason.NOT_MEDIA, f"it is {reason}")
            elif selection.is_selected(split_uri(item)[1], None, unselect):
                yield item

    return selection.take(find_uris(), str, unselect)


def _read_list(path: str) -> bytes:
    data, problem, location = b"", "", parse_location(path)
    if is_pipe(path):
        with open(location.removeprefix("file://"), "rb") as file:
            data = file.read()
    else:
        try:
            data = connect_store(find_bucket_location(location)).read(split_uri(location)[1])
        except MissingInput as error:
            problem = str(error)
    if problem:  # only here, as the innermost error of a step is the one that is reported
        raise ConfigurationError(problem)
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ConfigurationError(f"{path!r} is UTF-16; save it as UTF-8 text")
    return data.removeprefix(codecs.BOM_UTF8)


def is_pipe(path: str) -> bool:
    """Whether a list is a pipe, as a shell writes for ``<(find ...)``, or standard input."""
    local = parse_location(path).removeprefix("file://")
    return not os.path.isfile(local) and not os.path.isdir(local) and os.path.exists(local)


def _read_lines(data: bytes) -> Iterator[str]:
    for line in data.split(b"\n"):
        item = line.strip(b" \t\r").decode(errors="surrogateescape")
        if item and not item.startswith("#"):
            yield _to_uri(os.path.expanduser(item))


def _read_items(data: bytes) -> Iterator[str]:
    for item in data.split(b"\0"):
        if item:
            yield _to_uri(item.decode(errors="surrogateescape"))


def _to_uri(item: str) -> str:
    if item.startswith("gs://"):
        return item
    return "file://" + os.path.abspath(
        item.removeprefix("file://") if item.startswith("file:///") else item
    )


def is_in_sample(uri: str, share: float) -> bool:
    """Whether a file is in a sample, by the hash of its URI: a larger sample includes a smaller
    one.
    """
    return int(uri_to_file_id(uri)[:13], 16) < share * 16**13
