"""A streaming process: works on the messages of one or several pipelines until it is stopped.

On Dataflow it reads and writes with Beam's Pub/Sub IO (``segue_pipelines.streaming.dataflow``);
elsewhere it has one step over the queue's port, on one worker in this process. A bundle is short
and a job may be long, so unfinished work outlives bundles: ``StreamWorker`` has it.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import apache_beam as beam
from apache_beam.io.restriction_trackers import OffsetRange, OffsetRestrictionTracker
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.core import RestrictionProvider

from segue.adapters.connect import check_writable
from segue.errors import ConfigurationError
from segue.execution.leases import release_at_exit
from segue.execution.stop_signals import stop_at_signals
from segue.execution.streaming_run import StreamingRun, open_stream_worker
from segue.log import Action, log_event
from segue.model.lease_owner import is_of_this_process
from segue.model.queue import list_subscriptions
from segue.model.settings import SETTINGS
from segue_pipelines.options import check_secrets, is_dataflow, is_local, is_single_process
from segue_pipelines.runner import run_pipeline
from segue_pipelines.streaming.process_cache import ProcessCache
from segue_pipelines.streaming.reply_metrics import report

BUNDLE_S = 1.0  # a bundle costs milliseconds
LAST = sys.maxsize - 1

stream_workers = ProcessCache(open_stream_worker)


def build(pipeline: Any, run: StreamingRun) -> None:
    """Build the pipeline over the queue's port."""
    _ = pipeline | "Start" >> beam.Impulse() | "Respond" >> beam.ParDo(Respond(run))


def execute(run: StreamingRun, options: PipelineOptions) -> None:
    """Run the pipeline: on this machine until it is stopped, on Dataflow until it is submitted.

    An error of a step is raised as it was, without Beam's wrapping.
    """
    if not is_local(options):
        run = replace(run, requires_gpus=True)
    check_secrets(run.graph, run.jobs, options)
    if is_dataflow(options):
        _submit(run, options)
        return
    if is_local(options) and not is_single_process(options):
        raise ConfigurationError(
            "a local streaming pipeline runs on one worker, which uses all cores; leave out "
            "--direct_num_workers and --direct_running_mode"
        )
    if is_local(options):
        check_writable(run.artifacts)
    try:
        with _open_worker(run) if is_local(options) else contextlib.nullcontext():
            run_pipeline(lambda pipeline: build(pipeline, run), options)
    finally:
        stream_workers.close(run.name)
        release_at_exit(run.ledger, run.graph.namespace, is_of_this_process)
    log_event(Action.STOPPED, pipelines=" ".join(run.pipelines))


def _submit(run: StreamingRun, options: PipelineOptions) -> None:
    """Submit the pipeline to Dataflow, and return once it is accepted."""
    from segue_pipelines.streaming import dataflow

    if run.until_idle_s is not None:
        raise ConfigurationError("--until-idle is for this machine; on Dataflow, drain the job")
    reachable = {"ledger": "firestore://", "queue": "pubsub://", "artifacts": "gs://"}
    for name, scheme in reachable.items():
        url = getattr(run, name)
        if not url.startswith(scheme):
            raise ConfigurationError(
                f"{name} is {url!r}, which Dataflow's workers cannot reach; name a {scheme} one "
                f"with --{name} or {SETTINGS[name].variable}"
            )
    for one in list_subscriptions(run.graph, run.pipelines):
        if one.queue is not None and not one.queue.startswith("pubsub://"):
            raise ConfigurationError(
                f"{one.topic!r} is in the queue {one.queue!r}, which Dataflow's workers cannot "
                "reach; lock to a namespace whose queue is a pubsub:// one, or run 'segue work' "
                "where that file is"
            )
    try:
        pipeline = beam.Pipeline(options=options)
    except ValueError as error:  # Beam's validation
        raise ConfigurationError(f"{error}; see Beam's documentation of its options") from error
    dataflow.build(pipeline, run)
    result = pipeline.run()
    job_id = result.job_id() if result.has_job else None  # a template has none
    names = " ".join(run.pipelines)
    log_event(Action.STARTED, pipelines=names, queue=run.queue, id=job_id)


@contextlib.contextmanager
def _open_worker(run: StreamingRun) -> Iterator[None]:
    """Open the stream worker before Beam starts, so that a signal finds it from then on."""
    with stop_at_signals() as attach, _merge_metrics_at_once():
        attach(stream_workers.get_or_open(run))
        yield


@contextlib.contextmanager
def _merge_metrics_at_once() -> Iterator[None]:
    """Keep the memory of Beam's local runner from growing with each bundle.

    It merges the metrics of each bundle with a generator that is only run at the end: each bundle
    leaves 22 KiB, and the stack overflows when the metrics are queried.
    """
    from apache_beam.runners.portability.fn_api_runner import fn_runner

    merge = fn_runner.consolidate_monitoring_infos
    fn_runner.consolidate_monitoring_infos = lambda infos: list(merge(infos))
    try:
        yield
    finally:
        fn_runner.consolidate_monitoring_infos = merge


class _Bundles(RestrictionProvider):  # type: ignore[misc]
    """Numbers the bundles; there is always a next one until the source ends."""

    def initial_restriction(self, _element: Any) -> OffsetRange:
        return OffsetRange(0, LAST + 1)

    def create_tracker(self, restriction: OffsetRange) -> OffsetRestrictionTracker:
        return OffsetRestrictionTracker(restriction)

    def restriction_size(self, _element: Any, _restriction: OffsetRange) -> int:
        return 1

    def split(self, _element: Any, restriction: OffsetRange) -> Iterator[OffsetRange]:
        yield restriction


_BUNDLES = beam.DoFn.RestrictionParam(_Bundles())


class Respond(beam.DoFn):  # type: ignore[misc]
    """Emits nothing: works on messages, bundle by bundle, with the stream worker of its process."""

    def __init__(self, run: StreamingRun) -> None:
        self._run = run

    def setup(self) -> None:
        """Open the stream worker."""
        self._worker = stream_workers.get_or_open(self._run)

    @beam.DoFn.unbounded_per_element()  # type: ignore[untyped-decorator]
    def process(self, _element: bytes, tracker: Any = _BUNDLES) -> None:
        """Work for the length of one bundle, then defer the next bundle."""
        tracker.try_claim(tracker.current_restriction().start)
        for reply in self._worker.work(BUNDLE_S):
            report(reply)
        if self._worker.is_over:
            tracker.try_claim(LAST)
        else:
            tracker.defer_remainder()

    def teardown(self) -> None:
        """Close the stream worker."""
        stream_workers.close(self._run.name)
