"""The streaming pipeline: work on messages for one job, or for several, for as long as it is let.

On Dataflow it reads and writes with Beam's Pub/Sub IO (``segue_pipelines.streaming.pubsub_io``);
elsewhere it is ``Receive → Respond → Publish`` over the queue's port, on one worker in this
process.
"""

from __future__ import annotations

import contextlib
import secrets
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from segue.errors import ConfigurationError
from segue.log import Action, say
from segue.model.graph import Graph
from segue.model.settings import SETTINGS
from segue_pipelines.beam_errors import original
from segue_pipelines.options import is_dataflow, is_local, runner_of, runs_here_alone
from segue_pipelines.streaming.queue_source import Publish, Receive, Respond
from segue_pipelines.streaming.stream_worker import stations


@dataclass(frozen=True, slots=True, kw_only=True)
class Streaming:
    """One pipeline: which jobs, on which stack."""

    graph: Graph
    jobs: tuple[str, ...]  # that are served
    ledger: str  # URL
    artifacts: str  # location
    queue: str  # URL
    processes: int | None = None  # child processes a worker; None: one a core
    until_idle_s: float | None = None  # end when nothing came for so long
    name: str = field(default_factory=lambda: secrets.token_hex(8))  # of this run

    def __post_init__(self) -> None:
        unknown = [job for job in self.jobs if job not in self.graph.jobs]
        if unknown or not self.jobs:
            known = ", ".join(self.graph.jobs)
            what = f"{unknown[0]!r} is no job of the graph" if unknown else "no job is named"
            raise ConfigurationError(f"{what}; name some of {known} with --job, or all with --all")


def build(pipeline: Any, run: Streaming) -> None:
    """Build the pipeline over the queue's port."""
    _ = (
        pipeline
        | "Start" >> beam.Impulse()
        | "Receive" >> beam.ParDo(Receive(run))
        | "Respond" >> beam.ParDo(Respond(run))
        | "Publish" >> beam.ParDo(Publish(run))
    )


def execute(run: Streaming, options: PipelineOptions) -> None:
    """Run the pipeline, on this machine until it is told to stop.

    What the work raised is raised as it was.
    """
    if is_dataflow(options):
        _submit(run, options)
        return
    if is_local(options) and not runs_here_alone(options):
        raise ConfigurationError(
            "a local streaming pipeline runs on one worker, which uses all cores; leave out "
            "--direct_num_workers and --direct_running_mode"
        )
    pipeline = beam.Pipeline(runner=runner_of(options), options=options)
    build(pipeline, run)
    try:
        with _signals(run.name), _metrics_are_merged_at_once():
            pipeline.run().wait_until_finish()
    except (Exception, KeyboardInterrupt) as error:
        if (raised := original(error)) is None or raised is error:
            raise
        raise raised from None
    finally:
        stations.close(run.name)
    say(Action.STOPPED, jobs=" ".join(run.jobs))


def _submit(run: Streaming, options: PipelineOptions) -> None:
    """Have Dataflow run the pipeline; returns once it does."""
    from segue_pipelines.streaming import pubsub_io

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
    try:
        pipeline = beam.Pipeline(options=options)
    except ValueError as error:  # Beam's validation
        raise ConfigurationError(f"{error}; see Beam's documentation of its options") from error
    pubsub_io.build(pipeline, run)
    result = pipeline.run()
    job_id = result.job_id() if result.has_job else None  # a template has none
    say(Action.STARTED, jobs=" ".join(run.jobs), queue=run.queue, id=job_id)


@contextlib.contextmanager
def _signals(name: str) -> Iterator[None]:
    """Stop gently at the first SIGTERM or SIGINT, and at once at the second."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _frame: FrameType | None) -> None:
        for each in before:
            signal.signal(each, signal.default_int_handler)
        if station := stations.find(name):
            station.stop()
        else:  # nothing was pulled yet
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(0)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _metrics_are_merged_at_once() -> Iterator[None]:
    """Keep Beam's local runner from growing with each bundle.

    It merges the metrics of a bundle into those before with a generator that nobody runs before the
    end, so that 22 KiB a bundle stay, and the stack overflows when they are asked for.
    """
    from apache_beam.runners.portability.fn_api_runner import fn_runner

    merge = fn_runner.consolidate_monitoring_infos
    fn_runner.consolidate_monitoring_infos = lambda infos: list(merge(infos))
    try:
        yield
    finally:
        fn_runner.consolidate_monitoring_infos = merge
