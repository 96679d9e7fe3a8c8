"""The reconcile pipeline: compares a catalogue's listing with the ledger, and repairs differences.

The pipeline is ``split prefix → compare → repair``. A file that the ledger does not have, or not in
its newest version, arrives now, as its lost event would have made it; a file whose jobs never
started is announced again; a deleted file gets a tombstone. Counts and samples are returned as Beam
metrics.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions

from segue.adapters.connect import connect_ledger, connect_queue, connect_store, open_ledger_to_read
from segue.errors import ConfigurationError, Kind
from segue.ingest.catalogue import EXCLUDED, NOT_INCLUDED, MediaFilter
from segue.ingest.observation import Observation
from segue.maintenance.reconcile import (
    Discrepancy,
    DiscrepancyFinder,
    DiscrepancyKind,
    ListedFile,
    pair_by_uri,
    repair,
)
from segue.model.graph import Graph
from segue.model.ledger import Ledger, Query, find_records
from segue.model.media_file import find_bucket_location, split_uri
from segue.model.object_store import (
    LeftOut,
    NameRange,
    ObjectStore,
    list_objects,
    split_at_slash,
    split_prefix,
)
from segue.model.passed_over import PassedOver
from segue.model.record import Record
from segue_pipelines.left_out import LeftOutReporter, read_exclusions, read_left_out
from segue_pipelines.options import is_single_process
from segue_pipelines.progress import ProgressWriter
from segue_pipelines.runner import run_pipeline
from segue_pipelines.sources import split_into_chunks

NAMESPACE = "segue.reconcile"
SAMPLES = 5  # URIs to report per kind


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcileRun:
    """One reconcile: which files, on which stack, and whether to repair anything."""

    graph: Graph
    prefix: str  # a file or folder
    media_filter: MediaFilter
    ledger: str  # URL
    queue: str  # URL
    started_at: datetime
    grace: timedelta
    dry_run: bool = True
    # Accept an empty listing, and that files are gone whose disk seems not to be mounted.
    allow_empty: bool = False
    progress: str | None = None  # a folder to which workers on this machine write their counts

    @property
    def name(self) -> str:
        """The prefix of the objects' names."""
        return split_uri(self.prefix)[1]

    def open_ledger(self) -> Ledger:
        """Connect to the ledger; a dry run does not create it."""
        connect = open_ledger_to_read if self.dry_run else connect_ledger
        return connect(self.ledger, self.graph.namespace)

    def open_catalogue(self) -> ObjectStore:
        """Connect to the store of the files."""
        return connect_store(find_bucket_location(self.prefix))


@dataclass(slots=True, kw_only=True)
class ReconcileTotals:
    """How much was compared, and the discrepancies; without a dry run they are repaired."""

    listed: int = 0  # media of the catalogue
    recorded: int = 0  # in the ledger, without tombstones
    left_out: dict[str, int] = field(default_factory=dict)  # reason → files
    left_out_names: dict[str, list[str]] = field(default_factory=dict)  # reason → first URIs
    passed_over: PassedOver = field(default_factory=PassedOver)
    files: Counter[DiscrepancyKind] = field(default_factory=Counter)
    # Some of the URIs; none from a runner that has no such metrics.
    samples: dict[DiscrepancyKind, list[str]] = field(default_factory=dict)


def build(pipeline: Any, run: ReconcileRun, *, spread: bool) -> Any:
    """Build the pipeline; return the discrepancies that a second look confirmed."""
    parts = pipeline | "Start" >> beam.Impulse() | "Split prefix" >> beam.ParDo(_Split(run, spread))
    if spread:
        parts = parts | "Spread parts" >> beam.Reshuffle()
    found = parts | "Compare" >> beam.ParDo(_Compare(run))
    if spread:
        found = found | "Spread discrepancies" >> beam.Reshuffle()
    return found | "Repair" >> beam.ParDo(_Repair(run))


def execute(run: ReconcileRun, options: PipelineOptions) -> ReconcileTotals:
    """Run the pipeline to its end, and return its totals.

    An error of a step is raised as it was, without the runner's wrapping.
    """
    if not run.dry_run and not run.allow_empty:
        _check_not_empty(run)
    spread = not is_single_process(options)
    result = run_pipeline(lambda pipeline: build(pipeline, run, spread=spread), options)
    return read_reconcile_totals(result)


def _check_not_empty(run: ReconcileRun) -> None:
    """Refuse to mark all files as deleted: a disk that is not mounted looks just like that."""
    with contextlib.closing(run.open_catalogue()) as store:
        if next(list_objects(store, run.name), None) is not None:
            return
    with contextlib.closing(open_ledger_to_read(run.ledger, run.graph.namespace)) as ledger:
        known = next(find_records(ledger, Query(prefix=run.prefix, deleted=False)), None)
    if known is not None:
        raise ConfigurationError(
            f"there are no files at {run.prefix!r}, but the ledger has some there; check that it "
            "can be read, or add --allow-empty if they were all deleted"
        )


class _Split(beam.DoFn):  # type: ignore[misc]
    """Emits ranges of names that can be compared in parallel."""

    def __init__(self, run: ReconcileRun, spread: bool) -> None:
        self._run = run
        self._spread = spread

    def process(self, _element: bytes) -> Iterator[NameRange]:
        if self._spread and split_uri(self._run.prefix)[0]:  # a folder is listed faster than split
            with contextlib.closing(self._run.open_catalogue()) as store:
                yield from split_prefix(store, self._run.name)
        else:
            yield from split_at_slash(self._run.name)


class _Compare(beam.DoFn):  # type: ignore[misc]
    """Emits chunks of discrepancies for ranges of names."""

    def __init__(self, run: ReconcileRun) -> None:
        self._run = run

    def setup(self) -> None:
        """Connect to the ledger and the catalogue."""
        run = self._run
        self._stack = contextlib.ExitStack()
        self._ledger = self._stack.enter_context(contextlib.closing(run.open_ledger()))
        self._store = self._stack.enter_context(contextlib.closing(run.open_catalogue()))
        self._finder = DiscrepancyFinder(
            graph=run.graph, started_at=run.started_at, grace=run.grace
        )

        self._listed = Metrics.counter(NAMESPACE, "listed")
        self._recorded = Metrics.counter(NAMESPACE, "recorded")
        self._left_out = LeftOutReporter()
        self._progress = ProgressWriter(run.progress) if run.progress else None

    def process(self, part: NameRange) -> Iterator[tuple[Discrepancy, ...]]:
        """Compare the listing and the ledger in one range of names."""
        yield from split_into_chunks(self._discrepancies(part))
        if self._progress is not None:
            self._progress.flush()

    def finish_bundle(self) -> None:
        """Add the names of files that are left out to the metrics."""
        self._left_out.flush()

    def teardown(self) -> None:
        """Close the connections."""
        self._stack.close()

    def _discrepancies(self, part: NameRange) -> Iterator[Discrepancy]:
        for file, record in pair_by_uri(self._list(part), self._records(part)):
            if file is not None and file.media is not None:
                self._listed.inc()
                if self._progress is not None:
                    self._progress.count_file()
            if record is not None and record.deleted_at is None:
                self._recorded.inc()
            if file is not None and (damage := self._ledger.damage.reasons.get(file.uri)):
                self._left_out.report(file.uri, Kind.DAMAGED_RECORD, damage)
                continue
            if (found := self._finder.find(file, record)) is not None:
                yield found

    def _list(self, part: NameRange) -> Iterator[ListedFile]:
        for found in part.list_objects(self._store, leave_out=self._leave_out):
            uri = self._store.uri(found.name)
            # A file that the graph no longer includes still exists, so it is not GONE.
            reason = self._run.media_filter.find_reason_to_ignore(uri)
            if reason in (NOT_INCLUDED, EXCLUDED):
                self._left_out.pass_over(found.name, reason)
            yield ListedFile(uri=uri, media=found.to_media_file(uri) if reason is None else None)

    def _leave_out(self, found: LeftOut) -> None:
        uri = self._store.uri(found.name)
        if self._run.media_filter.concerns(uri):
            self._left_out.report(uri, found.reason, found.explanation)

    def _records(self, part: NameRange) -> Iterator[Record]:
        after = self._store.uri(part.after) if part.after else ""
        query = Query(prefix=self._store.uri(part.prefix))
        for record in find_records(self._ledger, query, after=after):
            if part.until is not None and record.uri > self._store.uri(part.until):
                return
            yield record


class _Repair(beam.DoFn):  # type: ignore[misc]
    """Emits the discrepancies that a second look confirmed, after repairing them."""

    def __init__(self, run: ReconcileRun) -> None:
        self._run = run

    def setup(self) -> None:
        """Connect; a dry run needs no queue."""
        run = self._run
        self._stack = contextlib.ExitStack()
        ledger = self._stack.enter_context(contextlib.closing(run.open_ledger()))
        catalogue = self._stack.enter_context(contextlib.closing(run.open_catalogue()))
        queue = None
        if not run.dry_run:
            queue = self._stack.enter_context(
                contextlib.closing(connect_queue(run.queue, run.graph))
            )
        self._repair = partial(
            repair,
            graph=run.graph,
            catalogue=catalogue,
            ledger=ledger,
            queue=queue,
            now=run.started_at,
            trust_absence=run.allow_empty,
            leave_out=self._leave_out,
        )
        self._left_out = LeftOutReporter()
        self._sampled: Counter[DiscrepancyKind] = Counter()

    def process(self, chunk: Sequence[Discrepancy]) -> Iterator[Discrepancy]:
        """Repair a chunk, then count it."""
        for found in self._repair(chunk):
            Metrics.counter(NAMESPACE, f"files.{found.kind}").inc()
            if self._sampled[found.kind] < SAMPLES:
                self._sampled[found.kind] += 1
                Metrics.string_set(NAMESPACE, f"samples.{found.kind}").add(found.media.uri)
            yield found

    def finish_bundle(self) -> None:
        """Add the names of files that are left out to the metrics."""
        self._left_out.flush()

    def _leave_out(self, seen: Observation) -> None:
        self._left_out.report(seen.uri, seen.reason, seen.explanation)

    def teardown(self) -> None:
        """Close the connections."""
        self._stack.close()


def read_reconcile_totals(result: Any) -> ReconcileTotals:
    """Read the totals of a run from its metrics, on any runner."""
    metrics = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))
    total = ReconcileTotals()
    for metric in metrics["counters"]:
        n = metric.committed if metric.committed is not None else metric.attempted
        name, _, kind = metric.key.metric.name.partition(".")
        if name == "files":
            total.files[DiscrepancyKind(kind)] += n
        else:
            setattr(total, name, getattr(total, name) + n)
    for metric in metrics.get("string_sets", ()):
        _, _, kind = metric.key.metric.name.partition(".")
        names = metric.committed if metric.committed is not None else metric.attempted
        some = {*total.samples.get(DiscrepancyKind(kind), ()), *(names or ())}
        total.samples[DiscrepancyKind(kind)] = sorted(some)[:SAMPLES]
    total.left_out, total.left_out_names = read_left_out(result)
    total.passed_over = read_exclusions(result)
    return total
