"""The batch pipeline: compute what a selection of files lacks for some targets, parents first,
never a sibling.

The pipeline is ``read the selection → work off``. The second step holds an executor with a pool of
child processes, so that one worker of any runner uses every core it has. Counts travel as Beam
metrics; the ledger holds the results.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from segue.adapters.connect import connect_ledger
from segue.adapters.empty_ledger import ledger_to_read
from segue.errors import ConfigurationError
from segue.execution.executor import Crew, Executor
from segue.model.graph import Graph
from segue.model.lease_owner import is_lost, new_owner
from segue.model.outcome import Outcome, Status, Tally
from segue.worker.pool import Pool, available_cores
from segue_pipelines.beam_errors import original
from segue_pipelines.options import is_local, runner_of, runs_here_alone
from segue_pipelines.progress import ProgressWriter
from segue_pipelines.sources import Chunk, ReadSelection, Selection

NAMESPACE = "segue"


@dataclass(frozen=True, slots=True, kw_only=True)
class Backfill:
    """One run: which files, which targets, on which stack."""

    graph: Graph
    selection: Selection
    targets: tuple[str, ...]
    ledger: str  # URL
    artifacts: str  # location
    force: bool = False
    retry: bool = False
    dry_run: bool = False
    processes: int | None = None  # child processes a worker; None: one a core
    progress: str | None = None  # a folder that workers on this machine write their tallies to

    def __post_init__(self) -> None:
        unknown = [t for t in self.targets if t not in self.graph.jobs]
        if unknown or not self.targets:
            known = ", ".join(self.graph.jobs)
            what = f"{unknown[0]!r} is no job of the graph" if unknown else "no job is named"
            raise ConfigurationError(f"{what}; name some of {known} with --job, or all with --all")


def build(pipeline: Any, run: Backfill, *, spread: bool) -> Any:
    """Build the pipeline; returns the outcomes, one a file."""
    chunks = pipeline | "Read selection" >> ReadSelection(
        run.selection, ledger=run.ledger, spread=spread
    )
    return chunks | "Work off" >> beam.ParDo(WorkOff(run))


def execute(run: Backfill, options: PipelineOptions) -> Tally:
    """Run the pipeline to its end and return what came of it.

    The launcher of a Flex Template only wants the job's description, of which nothing comes yet.
    What the work raised is raised as it was, whatever the runner made of it.
    """
    spread = not runs_here_alone(options)
    if is_local(options) and run.processes is None:
        workers = options.view_as(DirectOptions).direct_num_workers or available_cores()
        run = replace(run, processes=max(1, available_cores() // workers))  # they share the cores
    pipeline = beam.Pipeline(runner=runner_of(options), options=options)
    build(pipeline, run, spread=spread)
    try:
        result = pipeline.run()
        if not getattr(result, "has_job", True):
            return Tally()
        result.wait_until_finish()
    except (Exception, KeyboardInterrupt) as error:
        if (raised := original(error)) is None or raised is error:
            raise
        raise raised from None
    tally = tally_of(result)
    tally.jobs = {job: tally.jobs[job] for job in run.graph.jobs if job in tally.jobs}
    return tally


class WorkOff(beam.DoFn):  # type: ignore[misc]
    """Emits an ``Outcome`` for each file of the chunks that it gets."""

    def __init__(self, run: Backfill) -> None:
        self._run = run
        self._executor: Executor | None = None
        self._counters: dict[str, Any] = {}

    def setup(self) -> None:
        """Connect, and start the child processes."""
        run = self._run
        self._stack = contextlib.ExitStack()
        ledger = ledger_to_read(run.ledger) if run.dry_run else connect_ledger(run.ledger)
        self._stack.callback(ledger.close)
        crew: Crew = _Nobody()
        if not run.dry_run:
            crew = self._stack.enter_context(
                Pool(
                    run.graph,
                    run.artifacts,
                    processes=run.processes,
                    jobs=run.graph.upward(run.targets),
                )
            )
        self._executor = Executor(
            graph=run.graph,
            ledger=ledger,
            crew=crew,
            targets=run.targets,
            owner=new_owner(),
            force=run.force,
            retry=run.retry,
            dry_run=run.dry_run,
            lost=is_lost,
        )
        self._progress = ProgressWriter(run.progress) if run.progress else None
        # Beam alone is half a million objects; the collector would go through them again and again.
        gc.collect()
        gc.freeze()
        self._stack.callback(gc.unfreeze)

    def process(self, chunk: Chunk) -> Iterator[Outcome]:
        """Take a chunk in, and emit what is ready; at most a few chunks are under way."""
        assert self._executor is not None
        yield from self._count(self._executor.add(chunk))

    def finish_bundle(self) -> Iterator[Any]:
        """Finish all that is under way: a bundle is not done before its files are."""
        assert self._executor is not None
        for outcome in self._count(self._executor.drain()):
            yield WindowedValue(outcome, GlobalWindow().max_timestamp(), (GlobalWindow(),))

    def teardown(self) -> None:
        """Stop the child processes."""
        if self._executor is not None:
            self._stack.close()
            self._executor = None

    def _count(self, outcomes: Iterator[Outcome]) -> Iterator[Outcome]:
        tally = Tally()
        try:
            for outcome in outcomes:
                tally.add(outcome)
                if self._progress is not None:
                    self._progress.add(outcome)
                yield outcome
        finally:
            self._publish(tally)
            if self._progress is not None:
                self._progress.flush()

    def _publish(self, tally: Tally) -> None:
        self._add("files", tally.files)
        self._add("failed_files", tally.failed_files)
        for job, statuses in tally.jobs.items():
            for status, n in statuses.items():
                self._add(f"job.{job}.{status}", n)
        for job, kinds in tally.failures.items():
            for kind, n in kinds.items():
                self._add(f"failure.{job}.{kind}", n)
        for job, seconds in tally.cpu_seconds.items():
            self._add(f"cpu_us.{job}", round(seconds * 1e6))

    def _add(self, name: str, n: int) -> None:
        counter = self._counters.get(name)
        if counter is None:
            counter = self._counters[name] = Metrics.counter(NAMESPACE, name)
        counter.inc(n)


class _Nobody:
    """The crew of a dry run."""

    processes = 1

    def submit(self, tasks: Sequence[Any]) -> None:  # noqa: ARG002
        raise AssertionError("a dry run gave work away")

    def collect(self, timeout_s: float) -> list[Any]:  # noqa: ARG002
        return []


def tally_of(result: Any) -> Tally:
    """Read a run's tally from its metrics, on any runner."""
    tally = Tally()
    found = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))
    for counter in found["counters"]:
        n = counter.committed if counter.committed is not None else counter.attempted
        group, _, rest = counter.key.metric.name.partition(".")
        job, _, what = rest.partition(".")
        match group:
            case "files":
                tally.merge(Tally(files=n))
            case "failed_files":
                tally.merge(Tally(failed_files=n))
            case "job":
                tally.merge(Tally(jobs={job: {Status(what): n}}))
            case "failure":
                tally.merge(Tally(failures={job: {what: n}}))
            case "cpu_us":
                tally.merge(Tally(cpu_seconds={rest: n / 1e6}))
            case "left_out":
                tally.merge(Tally(left_out={rest: n}))
    return tally
