"""The backfill pipeline: computes the missing results of a selection of files for some targets.

It computes the targets and the jobs that they need, parents first, and no siblings. The pipeline is
``read selection → compute``. The second step has an engine with a pool of child processes, so one
worker of any runner uses all its cores. Counts are returned as Beam metrics; the results are in the
ledger.
"""

from __future__ import annotations

import contextlib
import functools
import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import apache_beam as beam
import msgspec
from apache_beam.metrics import Metrics
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.options.pipeline_options import (
    DirectOptions,
    GoogleCloudOptions,
    PipelineOptions,
    WorkerOptions,
)
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from segue.adapters.connect import (
    check_writable,
    connect_ledger,
    connect_queue,
    connect_store,
    open_ledger_to_read,
)
from segue.adapters.urls import make_url_absolute
from segue.clock import utc_now
from segue.errors import ConfigurationError, RunCancelled, TooManyFailures
from segue.execution.engine import Engine, WorkerPool
from segue.execution.foreign import open_foreign_ledgers
from segue.execution.leases import release_at_exit
from segue.execution.notifier import open_notifier
from segue.execution.pace import Pace, parse_rate
from segue.execution.reply import Reply
from segue.execution.run_recorder import RunRecorder, count
from segue.execution.work import Run
from segue.ingest.catalogue import build_media_filter
from segue.ingest.observation import Observation
from segue.ingest.probe_filter import ProbeFilter, find_probe
from segue.model.controls import forget_run
from segue.model.criteria import Criteria
from segue.model.failure_limit import FailureLimit
from segue.model.graph import Graph
from segue.model.lease_owner import build_owner, is_of_run
from segue.model.media_file import format_name, parse_location, parse_prefix, resolve_prefix
from segue.model.message import build_request_id
from segue.model.outcome import FirstFailures, Outcome, RunTotals, Status
from segue.model.queue import Queue
from segue.model.run import RunKind, RunRecord, RunSelection, RunState, find_user
from segue.model.settings import Settings
from segue.worker.pool import Pool, count_cores
from segue.worker.running_job import list_running_folders
from segue_pipelines.folder_files import FolderFiles
from segue_pipelines.left_out import LeftOutReporter, read_exclusions, read_left_out
from segue_pipelines.listing_end import ListedRun
from segue_pipelines.options import (
    check_secrets,
    find_remote_runner,
    is_local,
    is_single_process,
)
from segue_pipelines.probe_stage import ProbeStage
from segue_pipelines.progress import ProgressWriter, open_progress_folder, read_progress
from segue_pipelines.run_guard import RunGuard
from segue_pipelines.runner import prepare_worker, run_pipeline
from segue_pipelines.sources import (
    Chunk,
    LedgerQuery,
    RecordedProbes,
    Selection,
    check_list,
    check_prefix,
    read_selection,
)

NAMESPACE = "segue"
SUMS = ("files", "failed_files", "tried_files", "newly_failed_files", "not_started")
MAX_FIRST_FAILURES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class BackfillRun:
    """One backfill: which files, which targets, on which stack."""

    graph: Graph
    selection: Selection
    targets: tuple[str, ...]
    ledger: str  # URL
    artifacts: str  # location
    force: bool = False
    retry: bool = False
    dry_run: bool = False
    # The queue, if what is missing in other namespaces is to be requested there.
    queue: str | None = None
    processes: int | None = None  # child processes per worker; None: one per core
    requires_gpus: bool = False  # a job that needs a GPU does not run on a worker without one
    # Stop once so many files of a worker have failed in a job that succeeded for none; None: never.
    max_first_failures: int | None = MAX_FIRST_FAILURES
    failure_limit: FailureLimit | None = None  # stop once so many files have failed; None: never
    rate_per_s: float | None = None  # how many files to start, in all workers; None: any number
    workers: int = 1  # how many share the limits
    progress: str | None = None  # a folder to which workers on this machine write their totals
    # The id of its record; also that of a request to force or retry, and part of the names of the
    # owners of its leases. Empty: a new one when it starts.
    id: str = ""


def build_run(
    graph: Graph,
    settings: Settings,
    targets: Iterable[str] | None,
    *,
    prefix: str | None = None,
    uris: str | None = None,
    from_ledger: str | None = None,
    force: bool = False,
    retry_failed: bool = False,
    limit: int | None = None,
    sample: float | None = None,
    criteria: Criteria | None = None,
    dry_run: bool = False,
    request_parents: bool = False,
    processes: int | None = None,
    max_first_failures: int | None = MAX_FIRST_FAILURES,
    max_failures: int | str | None = None,
    rate: str | None = None,
) -> BackfillRun:
    """Build a backfill of some targets (None: all jobs) over a selection of files.

    Raises
    ------
    ConfigurationError
        If a target is not a job of the graph, or no files are selected.
    """
    selected = graph.select(targets)
    if sample is not None and not 0 <= sample <= 1:
        raise ConfigurationError(f"the sample is {sample:g}; write a share from 0 to 1")
    counts = {"limit": limit, "processes": processes, "max_first_failures": max_first_failures}
    for name, value in counts.items():
        if value is not None and value < 1:
            raise ConfigurationError(f"{name} is {value}; write 1 or more")
    if uris is not None and (prefix is not None or from_ledger is not None):
        raise ConfigurationError("--uris excludes --prefix and --from-ledger; leave it or them out")
    criteria = criteria or Criteria()
    criteria.check()
    if criteria.newer_than is not None and from_ledger is not None:
        raise ConfigurationError(
            "--newer-than excludes --from-ledger, as the ledger does not know when files were "
            "changed; leave one out"
        )
    query = None
    if from_ledger is not None:
        query = LedgerQuery(criterion=from_ledger, graph=graph, targets=selected)
    catalogue = f"{graph.catalogue.rstrip('/')}/" if graph.catalogue else None
    root = prefix or catalogue
    if root is None and uris is None and query is None:
        raise ConfigurationError(
            "no files are selected; name a folder or gs:// prefix (--prefix), or set a catalogue "
            "(SEGUE_CATALOGUE)"
        )
    return BackfillRun(
        graph=graph,
        selection=Selection(
            prefix=resolve_prefix(root) if root is not None and uris is None else None,
            uris=uris,
            ledger=query,
            media_filter=build_media_filter(graph, settings, anywhere=True),
            limit=limit,
            sample=sample,
            criteria=criteria,
            probes=_build_probes(graph, settings, criteria, selected, limit),
        ),
        targets=selected,
        ledger=settings.ledger,
        artifacts=parse_location(graph.artifacts),
        force=force,
        retry=retry_failed or from_ledger == "failed",
        dry_run=dry_run,
        queue=make_url_absolute(settings.queue) if request_parents else None,
        processes=processes,
        max_first_failures=max_first_failures,
        failure_limit=FailureLimit.parse(max_failures) if max_failures is not None else None,
        rate_per_s=parse_rate(rate) if rate is not None else None,
    )


def _build_probes(
    graph: Graph,
    settings: Settings,
    criteria: Criteria,
    targets: tuple[str, ...],
    limit: int | None,
) -> RecordedProbes | None:
    """Check that there is a probe if the criteria need one; return what a limit needs of it."""
    if not criteria.needs_probe:
        return None
    probe = find_probe(graph)
    if limit is None:
        return None
    return RecordedProbes(
        graph=graph,
        ledger=settings.ledger,
        artifacts=parse_location(graph.artifacts),
        criteria=criteria,
        keeps_unprobed=probe in targets,
    )


def build(pipeline: Any, run: BackfillRun, *, spread: bool) -> Any:
    """Build the pipeline; return its outcomes, one per file."""
    listed = ListedRun(id=run.id, ledger=run.ledger, namespace=run.graph.namespace)
    chunks = pipeline | "Read selection" >> read_selection(run.selection, listed, spread)
    return chunks | "Compute" >> beam.ParDo(ComputeMissing(run))


def execute(run: BackfillRun, options: PipelineOptions, *, notify: Sequence[str] = ()) -> RunTotals:
    """Run the pipeline to its end, and return its totals.

    They are empty in the launcher of a Flex Template, which only builds the job description. An
    error of a step is raised as it was, without the runner's wrapping. The run leaves a record
    beside the artifacts, unless it is a dry run. ``notify`` are the URLs to notify of its failures
    and its end; they are secrets, and are not a part of the run, which workers get.
    """
    if notify and options.view_as(GoogleCloudOptions).template_location:
        raise ConfigurationError(
            "--notify has no effect on a template: nobody waits for the end of its runs; leave it "
            "out, and use the alerts that Terraform creates"
        )
    if is_local(options) and not run.dry_run:
        check_writable(run.artifacts)
    if not run.dry_run:
        check_secrets(run.graph, run.graph.add_ancestors(run.targets), options)
    check_list(run.selection, options)
    catalogue = run.graph.catalogue
    if catalogue is None or run.selection.prefix != parse_prefix(catalogue.rstrip("/") + "/"):
        check_prefix(run.selection, options)
    run = replace(run, workers=_count_workers(run, options))
    if is_local(options) and run.processes is None:
        run = replace(run, processes=max(1, count_cores() // run.workers))  # which share the cores
    run = replace(
        run,
        id=run.id or build_request_id(utc_now()),
        requires_gpus=run.requires_gpus or not is_local(options),
    )
    if run.dry_run:
        return _run_to_end(run, options) or RunTotals()
    with contextlib.ExitStack() as opened:
        if run.progress is None and is_local(options):
            run = replace(run, progress=opened.enter_context(open_progress_folder()))
        read_so_far = functools.partial(read_progress, run.progress) if run.progress else RunTotals
        notifier = opened.enter_context(open_notifier(notify, run.failure_limit))
        recorder = RunRecorder(
            run.artifacts,
            describe_run(run, options),
            lambda: count(read_so_far()),
            observe=notifier.observe if notifier is not None else None,
        )
        with recorder:
            totals = _run_to_end(run, options, recorder.record_job)
            _check_end(run, totals)
            recorder.counts = count(totals) if totals is not None else None
    return totals or RunTotals()


def _count_workers(run: BackfillRun, options: PipelineOptions) -> int:
    """Return how many workers share the limits of a run: elsewhere, the most there may be."""
    if is_local(options):
        return options.view_as(DirectOptions).direct_num_workers or count_cores()
    most = options.view_as(WorkerOptions).max_num_workers
    if most is None and (run.rate_per_s is not None or run.failure_limit is not None):
        raise ConfigurationError(
            "a rate or a limit of failures is set, of which each worker gets its share, and it is "
            "not known how many workers there will be; set --max_num_workers"
        )
    return most or 1


def _check_end(run: BackfillRun, totals: RunTotals | None) -> None:
    """Raise an error if a run was stopped early, or has come to its limit of failures."""
    if totals is None:
        return
    limit = run.failure_limit
    is_over = limit is not None and limit.is_reached(totals.newly_failed_files, totals.tried_files)
    if not totals.not_started and not is_over:
        return
    if run.progress is not None:  # which has all but these, and is read after an error
        writer = ProgressWriter(run.progress)
        writer.add(
            RunTotals(
                left_out=totals.left_out,
                left_out_names=totals.left_out_names,
                passed_over=totals.passed_over,
            )
        )
        writer.flush()
    left = f"{totals.not_started:,} files that were listed were not started"
    with contextlib.closing(connect_ledger(run.ledger, run.graph.namespace)) as ledger:
        order = ledger.read_controls().cancelled.get(run.id)
        if order is not None:
            ledger.change_controls(functools.partial(forget_run, run=run.id))
    reached = (
        f"{totals.newly_failed_files:,} of {totals.tried_files:,} files failed, and the limit is "
        f"{limit}"
    )
    if not totals.not_started:
        raise TooManyFailures(
            f"{reached}; all files had already begun, so the run has finished them. "
            "'segue failures' shows the causes"
        )
    if order is not None and order.reason is None:
        raise RunCancelled(
            f"the run was cancelled by {order.by}; {left}, and what was begun is finished; to "
            "compute the rest, run the same command again",
            order.by,
        )
    raise TooManyFailures(
        f"{reached}, so the run stops; {left}. 'segue failures' shows the causes; then run the "
        "same command again, with another limit if need be"
    )


def describe_run(run: BackfillRun, options: PipelineOptions) -> RunRecord:
    """Return the record of a run that starts."""
    cloud, selection = options.view_as(GoogleCloudOptions), run.selection
    launcher = cloud.service_account_email if cloud.template_location else None
    return RunRecord(
        id=run.id,
        kind=RunKind.BACKFILL,
        state=RunState.RUNNING,
        who=launcher or find_user(),
        runner=find_remote_runner(options),
        started_at=utc_now(),
        selection=RunSelection(
            prefix=format_name(selection.prefix) if selection.prefix is not None else None,
            uris=format_name(selection.uris) if selection.uris is not None else None,
            from_ledger=selection.ledger.criterion if selection.ledger is not None else None,
            limit=selection.limit,
            sample=selection.sample,
            **msgspec.structs.asdict(selection.criteria),
        ),
        jobs=run.targets,
        force=run.force,
        retry=run.retry,
    )


def _run_to_end(
    run: BackfillRun, options: PipelineOptions, record_job: Callable[[str], object] = str
) -> RunTotals | None:
    """Run the pipeline; return its totals, or None if only a job description was built."""
    spread = not is_single_process(options)

    def release() -> None:
        if is_local(options) and not run.dry_run:
            is_own = functools.partial(is_of_run, run=run.id)
            release_at_exit(run.ledger, run.graph.namespace, is_own)

    try:
        try:
            result = run_pipeline(
                lambda pipeline: build(pipeline, run, spread=spread), options, record_job
            )
        except BaseException:
            release()
            raise
    except KeyboardInterrupt:
        release()  # Ctrl-C, pressed again, may have come before the first call ignored it
        raise
    if not getattr(result, "has_job", True):
        return None
    totals = read_totals(result)
    known = (*run.graph.references, *run.graph.jobs)
    totals.jobs = {job: totals.jobs[job] for job in known if job in totals.jobs}
    return totals


class ComputeMissing(beam.DoFn):  # type: ignore[misc]
    """Emits one ``Outcome`` per file."""

    def __init__(self, run: BackfillRun) -> None:
        self._run = run

    def setup(self) -> None:
        """Connect, and start the child processes."""
        prepare_worker()
        run = self._run
        self._stack = contextlib.ExitStack()
        connect = open_ledger_to_read if run.dry_run else connect_ledger
        self._ledger = connect(run.ledger, run.graph.namespace)
        self._stack.callback(self._ledger.close)
        pool: WorkerPool = _DryRunPool()
        if not run.dry_run:
            jobs = run.graph.add_ancestors(run.targets)
            pool = self._stack.enter_context(
                Pool(
                    run.graph,
                    run.artifacts,
                    ledger=run.ledger,
                    processes=run.processes,
                    jobs=jobs,
                    requires_gpus=run.requires_gpus,
                    show_in=[*list_running_folders(run.ledger), *filter(None, [run.progress])],
                )
            )
        artifacts = connect_store(run.artifacts)
        self._stack.callback(artifacts.close)
        self._queue: Queue | None = None
        if run.queue is not None and not run.dry_run:
            self._queue = connect_queue(run.queue, run.graph)
            self._stack.callback(self._queue.close)
        owner = build_owner(run.id)
        self._engine = Engine(
            graph=run.graph,
            ledger=self._ledger,
            pool=pool,
            artifacts=artifacts,
            foreign=open_foreign_ledgers(run.graph, self._stack),
            queue=run.queue or "",
            owner=lambda: owner,
            dry_run=run.dry_run,
            pace=Pace(rate_per_s=run.rate_per_s / run.workers) if run.rate_per_s else None,
        )
        self._guard = RunGuard(
            run=run.id,
            controls=self._engine.controls,
            limit=run.failure_limit,
            progress=run.progress,
            workers=run.workers,
        )
        engine_run = Run(
            id=run.id,
            targets=run.targets,
            force=run.force,
            retry=run.retry,
            request_parents=run.queue is not None,
        )
        self._left_out = LeftOutReporter()
        criteria = run.selection.criteria
        self._stage = ProbeStage(
            engine=self._engine,
            ledger=self._ledger,
            run=engine_run,
            probes=ProbeFilter(run.graph, artifacts, criteria) if criteria.needs_probe else None,
            unselect=self._left_out.unselect,
            leave=self._end_part,
        )
        self._folder_files = FolderFiles(
            ledger=self._ledger,
            targets=run.targets,
            leave_out=self._leave_out,
            dry_run=run.dry_run,
        )
        self._first_failures = FirstFailures()
        self._progress = ProgressWriter(run.progress) if run.progress else None
        # Beam alone is half a million objects; the collector would traverse them again and again.
        gc.collect()
        gc.freeze()
        self._stack.callback(gc.unfreeze)

    def process(self, chunk: Chunk) -> Iterator[Outcome]:
        """Add a chunk, and emit the outcomes that are ready; few chunks are in progress at once."""
        if self._guard.check():
            # They are not started.
            self._end_part(RunTotals(not_started=len(chunk)))
            return
        yield from self._count(self._work(chunk))

    def _work(self, chunk: Chunk) -> Iterator[Outcome | Reply]:
        in_folders = [media for media in chunk if media.is_in_folder]
        in_buckets = [media for media in chunk if not media.is_in_folder]
        self._stage.add(in_buckets)
        for found in self._folder_files.observe(in_folders):
            self._stage.add(found.files, found.snapshots)
            yield from found.outcomes
            yield from self._step()
        yield from self._step()
        while self._engine.room == 0:
            yield from self._step(0.25)
        self._send_requests()

    def _step(self, timeout_s: float = 0.0) -> Iterator[Outcome | Reply]:
        """Work; if the run is to stop, only on what has begun."""
        if self._guard.check():
            self._stage.withdraw()
        yield from self._stage.step(timeout_s)

    def _drain(self) -> Iterator[Outcome | Reply]:
        while self._engine.has_work:
            self._engine.flush()
            yield from self._step(0.25)

    def _send_requests(self) -> None:
        """Request what is missing in other namespaces; of what is lost here the sweep does it."""
        requests = self._engine.take_requests()
        if self._queue is not None and requests:
            self._queue.publish(requests)

    def finish_bundle(self) -> Iterator[Any]:
        """Finish all files of the bundle."""
        for outcome in self._count(self._drain()):
            yield WindowedValue(outcome, GlobalWindow().max_timestamp(), (GlobalWindow(),))
        self._send_requests()
        self._flush_progress()
        self._left_out.flush()
        self._ledger.sync()

    def _leave_out(self, seen: Observation) -> None:
        self._left_out.report(seen.uri, seen.reason, seen.explanation)

    def teardown(self) -> None:
        """Stop the child processes."""
        self._stack.close()

    def _count(self, ended: Iterator[Outcome | Reply]) -> Iterator[Outcome]:
        """Count outcomes, and raise an error if a job has failed for too many first files."""
        limit = self._run.max_first_failures
        totals = RunTotals()
        try:
            for outcome in ended:
                assert isinstance(outcome, Outcome)
                totals.add(outcome)
                self._first_failures.add(outcome)
                self._guard.add(outcome)
                if self._progress is not None:
                    self._progress.show(totals)
                yield outcome
                if limit is not None:
                    self._first_failures.check(limit)
        except BaseException:
            self._end_part(totals)
            self._flush_progress()
            raise
        self._end_part(totals)

    def _end_part(self, totals: RunTotals) -> None:
        _count(totals)
        if self._progress is not None:
            self._progress.add(totals)

    def _flush_progress(self) -> None:
        if self._progress is not None:
            self._progress.flush()


def _count(totals: RunTotals) -> None:
    """Add totals to the metrics of the calling step."""
    counts = {name: getattr(totals, name) for name in SUMS}
    for job, statuses in totals.jobs.items():
        counts |= {f"job.{job}.{status}": n for status, n in statuses.items()}
    for job, kinds in totals.failures.items():
        counts |= {f"failure.{job}.{kind}": n for kind, n in kinds.items()}
    for job, seconds in totals.cpu_seconds.items():
        counts[f"cpu_us.{job}"] = round(seconds * 1e6)
    counts |= {f"todo_files.{kind}": n for kind, n in totals.todo_files.items()}
    for kind, seconds in totals.todo_s.items():
        counts[f"todo_ms.{kind}"] = round(seconds * 1e3)
    for name, n in counts.items():
        Metrics.counter(NAMESPACE, name).inc(n)


class _DryRunPool:
    """The pool of a dry run, which never gets a task."""

    processes = 1
    batch_files = 0

    def submit(self, tasks: Sequence[Any]) -> None:  # noqa: ARG002
        raise AssertionError("a dry run submitted a task")

    def flush(self) -> None:
        """Do nothing: no task waits."""

    def collect(self, timeout_s: float) -> list[Any]:  # noqa: ARG002
        return []


def read_totals(result: Any) -> RunTotals:
    """Read a run's totals from its metrics, on any runner."""
    totals = RunTotals()
    found = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))
    for counter in found["counters"]:
        n = counter.committed if counter.committed is not None else counter.attempted
        group, _, rest = counter.key.metric.name.partition(".")
        job, _, what = rest.partition(".")
        match group:
            case _ if group in SUMS:
                totals.merge(RunTotals(**{group: n}))
            case "job":
                totals.merge(RunTotals(jobs={job: {Status(what): n}}))
            case "failure":
                totals.merge(RunTotals(failures={job: {what: n}}))
            case "cpu_us":
                totals.merge(RunTotals(cpu_seconds={rest: n / 1e6}))
            case "todo_files":
                totals.merge(RunTotals(todo_files={rest: n}))
            case "todo_ms":
                totals.merge(RunTotals(todo_s={rest: n / 1e3}))
    totals.left_out, totals.left_out_names = read_left_out(result)
    totals.passed_over = read_exclusions(result)
    return totals
