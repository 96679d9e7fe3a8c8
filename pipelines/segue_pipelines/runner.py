"""Runs a pipeline on any runner, and works around what Beam's local one does badly.

If a pipeline fails while one of the local runner's worker processes is still starting, Beam 2.77
stops only the workers that are connected, and then waits for all of them: for ever, as the late one
waits for work. Of the sets of strings that several bundles add to one metric, it keeps only one.
What its worker processes log is lost.

In a notebook, Beam puts the cell's number before the label of each step. For this it imports all
that it has for notebooks, which fails with pandas 3; and steps had another label each time.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam import coders
from apache_beam.metrics import monitoring_infos
from apache_beam.options.pipeline_options import (
    GoogleCloudOptions,
    PipelineOptions,
    StandardOptions,
)
from apache_beam.runners.portability.fn_api_runner import FnApiRunner, worker_handlers

from segue import errors
from segue.errors import SegueError
from segue.log import configure
from segue_pipelines.options import has_worker_processes, is_dataflow, is_local

WRAPPED = re.compile(
    # The last error before the step's name: those before it are its causes.
    rf"(?:^|.*\n){re.escape(errors.__name__)}\.(\w+): (.*?) \[while running '[^']*'\]",
    re.DOTALL,
)
SAFE_PATH = "PYTHONSAFEPATH"
_OURS = "segue"  # any value but an empty one sets it
_STOP = worker_handlers.BeamFnControlServicer._DONE_MARKER  # noqa: SLF001 - Beam has no other way
_close = worker_handlers.ControlConnection.close


def run_pipeline(
    build: Callable[[beam.Pipeline], object],
    options: PipelineOptions,
    record_job: Callable[[str], object] = str,
) -> Any:
    """Build a pipeline, run it to its end, and return Beam's result.

    ``record_job`` gets the name of the job on Dataflow, once there is one.

    A template's launcher only builds the job description; its result has no job. An error of a step
    is raised as it was, without the runner's wrapping.
    """
    pipeline = beam.Pipeline(runner=build_runner(options), options=options)
    # For transforms in other languages, of which Segue has none; a killed process would leave it.
    os.rmdir(pipeline.local_tempdir)
    with _keep_labels():
        build(pipeline)
    try:
        with _protect_workers_path(options):
            result = pipeline.run()
            if (name := find_job_name(result, options)) is not None:
                record_job(name)
            if getattr(result, "has_job", True):
                result.wait_until_finish()
    except (Exception, KeyboardInterrupt) as error:
        if (raised := unwrap_beam_error(error)) is None or raised is error:
            raise
        raise raised from None
    return result


def find_job_name(result: Any, options: PipelineOptions) -> str | None:
    """Return the name of a job on Dataflow; None on another runner, or if none was started."""
    cloud = options.view_as(GoogleCloudOptions)
    if not is_dataflow(options) or not getattr(result, "has_job", False):
        return None
    return f"projects/{cloud.project}/locations/{cloud.region}/jobs/{result.job_id()}"


def build_runner(options: PipelineOptions) -> Any:
    """Return the runner; locally an ``FnApiRunner``, as Beam's default may download another one."""
    if not is_local(options):
        return options.view_as(StandardOptions).runner
    worker_handlers.ControlConnection.close = _close_for_late_workers
    monitoring_infos._KNOWN_COMBINERS[monitoring_infos.STRING_SET_TYPE] = _unite_sets  # noqa: SLF001
    return FnApiRunner()


@contextlib.contextmanager
def _keep_labels() -> Iterator[None]:
    """Have steps keep their labels in a notebook, too."""
    alter = beam.pipeline.alter_label_if_ipython
    beam.pipeline.alter_label_if_ipython = lambda *_: None
    try:
        yield
    finally:
        beam.pipeline.alter_label_if_ipython = alter


@contextlib.contextmanager
def _protect_workers_path(options: PipelineOptions) -> Iterator[None]:
    """Keep the local runner's worker processes from importing from the current folder.

    Beam starts them with ``python -m``, which puts that folder first on their path.
    """
    if not has_worker_processes(options) or not is_local(options) or SAFE_PATH in os.environ:
        yield
        return
    os.environ[SAFE_PATH] = _OURS
    try:
        yield
    finally:
        del os.environ[SAFE_PATH]


def prepare_worker() -> None:
    """In a worker process, restore the environment, and log to standard error, as the parent does.

    A job may start Python as it likes.
    """
    if os.environ.get(SAFE_PATH) == _OURS:
        del os.environ[SAFE_PATH]
        configure(as_json=False, stream=sys.stderr)


def _close_for_late_workers(connection: Any) -> None:
    """Close a worker's connection, and leave the order to stop for a worker that connects later."""
    _close(connection)
    connection.push(_STOP)


def _unite_sets(encoded: bytes, other: bytes) -> bytes:
    coder = coders.IterableCoder(coders.StrUtf8Coder())
    united: bytes = coder.encode(sorted({*coder.decode(encoded), *coder.decode(other)}))
    return united


def unwrap_beam_error(error: BaseException) -> BaseException | None:
    """Return the ``SegueError`` or ``KeyboardInterrupt`` behind an error of Beam, or None.

    In this process Beam raises a copy with the step's name in its message, and the original as its
    context; from another process it passes only the text of the traceback.
    """
    innermost: BaseException | None = None
    current: BaseException | None = error
    while current is not None:
        if isinstance(current, SegueError | KeyboardInterrupt):
            innermost = current
        current = current.__cause__ or current.__context__
    if innermost is not None:
        return innermost
    for name, message in WRAPPED.findall(str(error)):
        kind = getattr(errors, name, None)
        if isinstance(kind, type) and issubclass(kind, SegueError):
            return kind(message)
    return None
