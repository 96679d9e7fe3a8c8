"""The export pipeline: writes the current results of jobs as Parquet, from a large ledger.

The pipeline is ``split ledger → read results → write``. It reads the ledger by ranges of URIs, as
many at once as there are workers. Where the catalogue has files decides where a range ends; files
elsewhere are in the first or the last one. All files have the columns and types that the first
results have, and those that the jobs declare.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions

from segue.adapters.connect import connect_store, open_ledger_to_read
from segue.errors import ConfigurationError, Kind
from segue.model.graph import Graph
from segue.model.ledger import Ledger, Query, find_pages
from segue.model.media_file import find_bucket_location, parse_location, resolve_prefix, split_uri
from segue.model.object_store import split_prefix
from segue.model.record import Record
from segue.reports.result_table import (
    ArrowColumns,
    ResultColumns,
    ResultRow,
    RowReader,
    TypeMismatch,
    drop_nulls,
    read_ahead,
    split_batches,
)
from segue.reports.results import ArtifactReader, FileResults, ResultFinder, find_results
from segue.reports.table_keys import TableKeys, clean_name, is_due
from segue_pipelines.left_out import LeftOutReporter, read_left_out
from segue_pipelines.options import is_single_process
from segue_pipelines.runner import prepare_worker, run_pipeline

if TYPE_CHECKING:
    import pyarrow as pa

NAMESPACE = "segue.export"
KEYS = "keys"
# The rows of a row group, of which each worker keeps one in memory.
GROUP_ROWS = 20_000
GROUP_BYTES = 32 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRun:
    """One export: which results, and where they go."""

    graph: Graph
    references: tuple[str, ...]
    ledger: str  # URL
    prefix: str  # of the files' URIs; "": all
    output: str  # a folder or gs:// prefix
    since: datetime | None = None  # only files with a result that was finished then or later
    # For BigQuery: write the keys of all results, too, and name the columns as it allows.
    with_keys: bool = False
    schema: Any = None  # the columns of the table

    @property
    def clean(self) -> Callable[[str], str]:
        """What makes a column's name one that is allowed."""
        return clean_name if self.with_keys else str

    @property
    def rows_prefix(self) -> str:
        """What the paths of the files with rows begin with."""
        return f"{self._folder}/rows"

    @property
    def keys_prefix(self) -> str:
        """What the paths of the files with keys begin with."""
        return f"{self._folder}/keys"

    @property
    def _folder(self) -> str:
        return parse_location(self.output).removeprefix("file://").rstrip("/")


@dataclass(slots=True, kw_only=True)
class ExportTotals:
    """How much was exported."""

    files: int = 0
    rows: int = 0
    unchanged: int = 0  # files whose results are older than ``since``
    results: Counter[str] = field(default_factory=Counter)  # by reference
    unreadable: Counter[str] = field(default_factory=Counter)
    left_out_names: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class UriRange:
    """The URIs behind one, up to and including another."""

    after: str = ""
    until: str | None = None  # None: to the last


def execute(run: ExportRun, options: PipelineOptions) -> ExportTotals:
    """Run the pipeline to its end, and return its totals.

    Raises
    ------
    ConfigurationError
        If there is something at the output, or a value does not fit its column.
    """
    with contextlib.closing(connect_store(run.output)) as store:
        found = next(iter(store.list("")), None)
    if found is not None:
        raise ConfigurationError(
            f"{run.output!r} has {found.name!r}, and rows beside older ones would be there twice; "
            "name another place, or remove what is there"
        )
    spread = not is_single_process(options)
    sampled = _sample(run)
    result = run_pipeline(lambda pipeline: build(pipeline, sampled, spread=spread), options)
    return read_export_totals(result) if getattr(result, "has_job", True) else ExportTotals()


def build(pipeline: Any, run: ExportRun, *, spread: bool) -> Any:
    """Build the pipeline; return the paths of the files with rows."""
    ranges = (
        pipeline | "Start" >> beam.Impulse() | "Split ledger" >> beam.FlatMap(_split, run, spread)
    )
    if spread:
        ranges = ranges | "Spread ranges" >> beam.Reshuffle()
    read = ranges | "Read results" >> beam.ParDo(_ReadResults(run)).with_outputs(KEYS, main="rows")
    if run.with_keys:
        schema = TableKeys(run.references).arrow_schema
        _ = read[KEYS] | "Write keys" >> _write(run.keys_prefix, schema)
    return read["rows"] | "Write rows" >> _write(run.rows_prefix, run.schema)


def _write(prefix: str, schema: pa.Schema) -> Any:
    """Write tables; Beam gives files their names once they are complete, each once."""
    return beam.io.WriteToParquetBatched(prefix, schema, codec="zstd", file_name_suffix=".parquet")


def _sample(run: ExportRun) -> ExportRun:
    """Return a run with the columns of the first results."""
    reader = RowReader(run.references, run.clean)
    arrow = ArrowColumns(ResultColumns(run.graph, run.references, run.clean))
    artifacts = ArtifactReader(run.graph.artifacts)
    with contextlib.closing(open_ledger_to_read(run.ledger, run.graph.namespace)) as ledger:
        files = find_results(ledger, run.graph, run.references, artifacts, run.prefix)
        some = (file for file in files if file.results)
        rows = (row for _, row in read_ahead(run.graph, some, reader.read))
        first = next(split_batches(rows), [])
    return replace(run, schema=drop_nulls(arrow.build(first).schema))


def _split(_element: bytes, run: ExportRun, spread: bool) -> Iterator[UriRange]:
    root = run.prefix or (resolve_prefix(f"{run.graph.catalogue}/") if run.graph.catalogue else "")
    points: list[str] = []
    if spread and root:
        with contextlib.closing(connect_store(find_bucket_location(root))) as store:
            parts = split_prefix(store, split_uri(root)[1])
            points = sorted({store.uri(part.after) for part in parts if part.after})
    for after, until in pairwise(["", *points, None]):
        yield UriRange(after=after or "", until=until)


def find_pages_of(ledger: Ledger, prefix: str, part: UriRange) -> Iterator[list[Record]]:
    """Yield the records of a range that exist, in pages."""
    for page in find_pages(ledger, Query(prefix=prefix, deleted=False), after=part.after):
        if part.until is not None and page[-1].uri > part.until:
            yield [record for record in page if record.uri <= part.until]
            return
        yield page


class _ReadResults(beam.DoFn):  # type: ignore[misc]
    """Emits tables of rows, and of keys."""

    def __init__(self, run: ExportRun) -> None:
        self._run = run

    def setup(self) -> None:
        """Connect to the ledger."""
        prepare_worker()
        run = self._run
        self._stack = contextlib.ExitStack()
        ledger = open_ledger_to_read(run.ledger, run.graph.namespace)
        self._ledger = self._stack.enter_context(contextlib.closing(ledger))
        artifacts = ArtifactReader(run.graph.artifacts)
        self._finder = ResultFinder(run.graph, run.references, artifacts, self._stack)
        self._reader = RowReader(run.references, run.clean)
        self._keys = TableKeys(run.references)
        columns = ResultColumns(run.graph, run.references, run.clean)
        self._arrow = ArrowColumns(columns, schema=run.schema)
        self._left_out = LeftOutReporter()

    def process(self, part: UriRange) -> Iterator[Any]:
        """Read the results of a range, a page of the ledger at a time."""
        rows: list[pa.RecordBatch] = []
        keys: list[dict[str, Any]] = []
        for page in find_pages_of(self._ledger, self._run.prefix, part):
            due = self._select(page, keys)
            for batch in split_batches(self._read(due)):
                rows.append(self._build(batch))
                keys += map(self._keys.select, batch)
                if is_group(rows):
                    yield from self._flush(rows, [])
            if len(keys) >= GROUP_ROWS:
                yield from self._flush([], keys)
        yield from self._flush(rows, keys)

    def finish_bundle(self) -> None:
        """Add the names of files that are left out to the metrics."""
        self._left_out.flush()

    def teardown(self) -> None:
        """Close the connections."""
        self._stack.close()

    def _build(self, rows: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
        known = frozenset(self._run.schema.names)
        cells = [  # a field that was null in all of the first results has no column
            {name: value for name, value in row.items() if name in known or value not in (None, {})}
            for row in rows
        ]
        try:
            return self._arrow.build(cells)
        except TypeMismatch as error:
            problem = f"{error}, or export without a pipeline, which widens types as needed"
        # Only here, as the innermost error of a step is the one that is reported.
        raise ConfigurationError(problem)

    def _flush(self, rows: list[pa.RecordBatch], keys: list[dict[str, Any]]) -> Iterator[Any]:
        import pyarrow as pa

        if rows:
            yield pa.Table.from_batches(rows)
            rows.clear()
        if keys:
            table = pa.Table.from_pylist(keys, self._keys.arrow_schema)
            yield beam.pvalue.TaggedOutput(KEYS, table)
            keys.clear()

    def _select(self, page: Sequence[Record], keys: list[dict[str, Any]]) -> list[FileResults]:
        """Return the files that are due, and add the keys of the others."""
        due = []
        for file in self._finder.find(page):
            _count("files")
            if is_due(file, self._run.since):
                due.append(file)
            elif file.results:
                _count("unchanged")
                keys.append(self._keys.build(file))
                for reference in file.results:
                    _count(f"results.{reference}")
        return due

    def _read(self, files: Sequence[FileResults]) -> Iterator[ResultRow]:
        for file, row in read_ahead(self._run.graph, files, self._reader.read):
            for reference, fault in row.faults.items():
                _count(f"unreadable.{reference}")
                self._left_out.report(file.uri, Kind.MISSING_INPUT, fault)
            readable = file.results.keys() - row.faults.keys()
            for reference in readable:
                _count(f"results.{reference}")
            if readable:
                _count("rows")
                yield row


def is_group(batches: Sequence[pa.RecordBatch]) -> bool:
    """Whether some batches are enough for a row group."""
    rows: int = sum(batch.num_rows for batch in batches)
    size_bytes: int = sum(batch.nbytes for batch in batches)
    return rows >= GROUP_ROWS or size_bytes >= GROUP_BYTES


def _count(name: str) -> None:
    Metrics.counter(NAMESPACE, name).inc()


def read_export_totals(result: Any) -> ExportTotals:
    """Read the totals of a run from its metrics, on any runner."""
    metrics = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))
    total = ExportTotals()
    for metric in metrics["counters"]:
        n = metric.committed if metric.committed is not None else metric.attempted
        name, _, reference = metric.key.metric.name.partition(".")
        if reference:
            getattr(total, name)[reference] += n
        else:
            setattr(total, name, getattr(total, name) + n)
    _, total.left_out_names = read_left_out(result)
    return total
