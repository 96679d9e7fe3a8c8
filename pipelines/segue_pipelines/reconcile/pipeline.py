"""The batch pipeline that holds a catalogue's listing against the ledger, for events that never
came.

The pipeline is ``split the prefix → compare → mend``. A file that the ledger does not know, or not
in its newest version, arrives now, as its event would have made it arrive; one with which nobody
began is told of again; one that is gone leaves a tombstone. Counts and samples travel as Beam
metrics.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import PipelineOptions

from segue.adapters.connect import connect_ledger, connect_queue, connect_store
from segue.adapters.empty_ledger import ledger_to_read
from segue.errors import ConfigurationError
from segue.ingest.arrivals import Intake
from segue.maintenance.discrepancy import Discrepancy, Judge, Kind, Listed, side_by_side
from segue.maintenance.name_ranges import NameRange, ranges
from segue.maintenance.repair import Mender
from segue.model.graph import Graph
from segue.model.ledger import Ledger, Query
from segue.model.media_file import MediaFile, bucket_location, split_uri
from segue.model.object_store import Object, ObjectStore
from segue.model.record import Record
from segue.model.shards import Shard, split
from segue.reports.job_counts import records
from segue_pipelines.beam_errors import original
from segue_pipelines.options import runner_of, runs_here_alone
from segue_pipelines.progress import ProgressWriter
from segue_pipelines.reconcile.tally import NAMESPACE, SAMPLES, Reconciled, reconciled
from segue_pipelines.sources import chunks

COUNT_EVERY = 1000  # files


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconcile:
    """One run: which files, on which stack, and whether anything is changed."""

    graph: Graph
    prefix: str  # URI prefix
    not_below: tuple[str, ...] = ()  # locations of what Segue itself writes
    ledger: str  # URL
    queue: str  # URL
    started_at: datetime
    grace: timedelta
    dry_run: bool = True
    allow_empty: bool = False  # believe a listing of nothing at all
    progress: str | None = None  # a folder that workers on this machine count into

    @property
    def head(self) -> str:
        """What stands before an object's name in its URI."""
        location = bucket_location(self.prefix)
        return location if location.endswith("/") else f"{location}/"

    @property
    def name(self) -> str:
        """What the objects' names start with."""
        return split_uri(self.prefix)[1]

    def open_ledger(self) -> Ledger:
        """Connect to the ledger, which a dry run does not make."""
        return ledger_to_read(self.ledger) if self.dry_run else connect_ledger(self.ledger)

    def open_catalogue(self) -> ObjectStore:
        """Connect to where the files are."""
        return connect_store(bucket_location(self.prefix))


def build(pipeline: Any, run: Reconcile, *, spread: bool) -> Any:
    """Build the pipeline; returns the discrepancies that a second look confirmed."""
    parts = pipeline | "Start" >> beam.Impulse() | "Split prefix" >> beam.ParDo(_Split(run, spread))
    if spread:
        parts = parts | "Spread parts" >> beam.Reshuffle()
    found = parts | "Compare" >> beam.ParDo(_Compare(run))
    if spread:
        found = found | "Spread discrepancies" >> beam.Reshuffle()
    return found | "Mend" >> beam.ParDo(_Mend(run))


def execute(run: Reconcile, options: PipelineOptions) -> Reconciled:
    """Run the pipeline to its end and return what came of it.

    What the work raised is raised as it was, whatever the runner made of it.
    """
    if not run.dry_run and not run.allow_empty:
        _check_not_empty(run)
    pipeline = beam.Pipeline(runner=runner_of(options), options=options)
    build(pipeline, run, spread=not runs_here_alone(options))
    try:
        result = pipeline.run()
        result.wait_until_finish()
    except (Exception, KeyboardInterrupt) as error:
        if (raised := original(error)) is None or raised is error:
            raise
        raise raised from None
    return reconciled(result)


def _check_not_empty(run: Reconcile) -> None:
    """Refuse to bury all files at once: a disk that is not mounted looks just like that."""
    with contextlib.closing(run.open_catalogue()) as store:
        if next(iter(store.list(run.name)), None) is not None:
            return
    with contextlib.closing(ledger_to_read(run.ledger)) as ledger:
        known = ledger.find(Query(prefix=run.prefix, deleted=False), limit=1)
    if known:
        raise ConfigurationError(
            f"nothing at all is at {run.prefix!r}, but the ledger knows files there; see that it "
            "can be read, or say --allow-empty if they are all gone"
        )


class _Split(beam.DoFn):  # type: ignore[misc]
    """Emits ranges of names that can be compared side by side."""

    def __init__(self, run: Reconcile, spread: bool) -> None:
        self._run = run
        self._spread = spread

    def process(self, _element: bytes) -> Iterator[NameRange]:
        whole = [Shard(prefix=self._run.name)]
        if self._spread and split_uri(self._run.prefix)[0]:  # a folder is listed faster than split
            with contextlib.closing(self._run.open_catalogue()) as store:
                whole = split(store, whole[0])
        yield from ranges(self._run.name, whole)


class _Compare(beam.DoFn):  # type: ignore[misc]
    """Emits chunks of discrepancies for ranges of names."""

    def __init__(self, run: Reconcile) -> None:
        self._run = run

    def setup(self) -> None:
        """Connect."""
        run = self._run
        self._stack = contextlib.ExitStack()
        self._ledger = self._stack.enter_context(contextlib.closing(run.open_ledger()))
        self._store = self._stack.enter_context(contextlib.closing(run.open_catalogue()))
        self._judge = Judge.of(run.graph, started_at=run.started_at, grace=run.grace)
        self._intake = Intake.of(run.graph, catalogue=None, ours=run.not_below)
        self._listed = Metrics.counter(NAMESPACE, "listed")
        self._recorded = Metrics.counter(NAMESPACE, "recorded")
        self._left_out = Metrics.counter(NAMESPACE, "left_out")
        self._progress = ProgressWriter(run.progress) if run.progress else None

    def process(self, part: NameRange) -> Iterator[tuple[Discrepancy, ...]]:
        """Go through listing and ledger side by side."""
        yield from chunks(self._discrepancies(part))
        if self._progress is not None:
            self._progress.flush()

    def teardown(self) -> None:
        """Let go of the connections."""
        self._stack.close()

    def _discrepancies(self, part: NameRange) -> Iterator[Discrepancy]:
        listed = recorded = 0
        try:
            for pair in side_by_side(self._list(part), self._records(part)):
                listed += pair.listed is not None and pair.listed.media is not None
                recorded += pair.record is not None and pair.record.deleted_at is None
                if listed == COUNT_EVERY:
                    self._count(listed, recorded)
                    listed = recorded = 0
                if (found := self._judge.discrepancy(pair)) is not None:
                    yield found
        finally:
            self._count(listed, recorded)

    def _count(self, listed: int, recorded: int) -> None:
        self._listed.inc(listed)
        self._recorded.inc(recorded)
        if self._progress is not None:
            self._progress.count(listed)

    def _list(self, part: NameRange) -> Iterator[Listed]:
        head = self._run.head
        for found in part.objects(self._store):
            if not _is_text(found.name):
                self._left_out.inc()
                continue
            uri = head + found.name
            # What was recorded when the graph still included it is there all the same.
            is_ours = self._intake.refusal(uri) is None
            yield Listed(uri=uri, media=_media(uri, found) if is_ours else None)

    def _records(self, part: NameRange) -> Iterator[Record]:
        head = self._run.head
        after = head + part.after if part.after else ""
        for record in records(self._ledger, Query(prefix=self._run.prefix), after=after):
            if part.until is not None and record.uri > head + part.until:
                return
            yield record


def _media(uri: str, found: Object) -> MediaFile:
    return MediaFile(
        uri=uri,
        generation=found.generation,
        size_bytes=found.size_bytes,
        content_type=found.content_type,
        checksum=found.checksum,
    )


def _is_text(name: str) -> bool:
    """Whether a name is Unicode; a file system may hold others, which no URI can say."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


class _Mend(beam.DoFn):  # type: ignore[misc]
    """Emits the discrepancies that a second look confirmed, after mending them."""

    def __init__(self, run: Reconcile) -> None:
        self._run = run

    def setup(self) -> None:
        """Connect; a dry run needs no queue."""
        run = self._run
        self._stack = contextlib.ExitStack()
        ledger = self._stack.enter_context(contextlib.closing(run.open_ledger()))
        catalogue = self._stack.enter_context(contextlib.closing(run.open_catalogue()))
        queue = None
        if not run.dry_run:
            queue = self._stack.enter_context(contextlib.closing(connect_queue(run.queue)))
        self._mender = Mender(
            graph=run.graph, catalogue=catalogue, ledger=ledger, queue=queue, now=run.started_at
        )
        self._stack.callback(self._mender.close)
        self._counters = {kind: Metrics.counter(NAMESPACE, f"files.{kind}") for kind in Kind}
        self._samples = {kind: Metrics.string_set(NAMESPACE, f"samples.{kind}") for kind in Kind}
        self._told: Counter[Kind] = Counter()

    def process(self, chunk: Sequence[Discrepancy]) -> Iterator[Discrepancy]:
        """Count what was mended, after it was."""
        for found in self._mender.mend(chunk):
            self._counters[found.kind].inc()
            if self._told[found.kind] < SAMPLES:
                self._told[found.kind] += 1
                self._samples[found.kind].add(found.media.uri)
            yield found

    def teardown(self) -> None:
        """Let go of the connections."""
        self._stack.close()
