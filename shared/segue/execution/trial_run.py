"""A trial run computes one job on one file and records nothing: for the author of the job.

The jobs above it are computed, too, from the file: results in the ledger are not used, except
those of other namespaces, whose code is not here.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from segue import codec
from segue.adapters.connect import connect_store
from segue.errors import ConfigurationError, build_error
from segue.execution.foreign import ForeignResult, find_inputs, open_foreign_ledgers
from segue.model.artifact import build_references, split_output
from segue.model.graph import Graph
from segue.model.job_code import check_code, make_importable
from segue.model.media_file import MediaFile
from segue.model.record import State
from segue.model.transitions import Result
from segue.printable import escape_lines
from segue.worker import numba_cache
from segue.worker.failure import (
    classify_error,
    describe_failure,
    format_job_traceback,
    is_clear,
)
from segue.worker.line_run import Claims, LineRun, Stores, load_job
from segue.worker.model_paths import check_models
from segue.worker.pool import Pool
from segue.worker.process import Timer
from segue.worker.protocol import Task
from segue.worker.running_job import RunningJob
from segue.worker.secrets import resolve_secrets, use_secrets

COLLECT_S = 0.5
MAX_TASKS = 100_000  # of a child process
DEBUG = "SEGUE_DEBUG"
LeaveOut = Callable[[MediaFile, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRun:
    """The results of a trial run."""

    job: str
    content_types: Mapping[str, str]  # of the job's outputs; the name of an only one is empty
    results: Mapping[str, Result]  # of the job and of all above it, parents first
    # The job's artifacts, by output; empty if it, or a job above it, has none for this file.
    artifacts: Mapping[str, bytes]

    @property
    def value(self) -> Any:
        """The job's result, as a child job would get it; of several outputs, a dict.

        Raises
        ------
        NotApplicable
            If the job, or one above it, is not for this file.
        PermanentError, TransientError
            If the job, or one above it, failed.
        """
        if self.artifacts:
            values = {
                output: codec.decode(self.content_types[output], data)
                for output, data in self.artifacts.items()
            }
            return values.get("", values)
        failed = next(r for r in self.results.values() if r.state is not State.DONE)
        assert failed.error is not None
        raise build_error(failed.error.kind, f"{failed.job}: {failed.error.message}")


def subgraph_for(graph: Graph, job: str, params: Mapping[str, Any]) -> Graph:
    """Return the graph of a job and all that it needs, with some parameters changed.

    The jobs' code is checked against it, and that the models are there.
    """
    if taken := params.keys() & graph.jobs[job].secrets.keys():
        raise ConfigurationError(
            f"{min(taken)!r} is a secret of {job!r} and no parameter; set what its reference in "
            "the graph names"
        )
    line = {name: graph.jobs[name] for name in graph.add_ancestors([job])}
    line[job] = replace(line[job], params={**line[job].params, **params})
    part = replace(graph, jobs=line)
    check_code(part)
    check_models(part, line)
    return part


def try_job(
    graph: Graph,
    job: str,
    media: MediaFile,
    *,
    isolated: bool,
    show: Callable[[Sequence[RunningJob]], None] = lambda _running: None,
) -> TrialRun:
    """Run all jobs of a graph on one file, and return the results with one job's artifact.

    Isolated, they run as in a backfill: in a child process, with their timeouts and memory limits.
    Otherwise they run in this process, where a debugger can follow. Tracebacks of their errors are
    written to standard error. Isolated, ``show`` is called now and then with what runs.
    """
    content_types = graph.jobs[job].outputs
    run = TrialRun(job=job, content_types=content_types, results={}, artifacts={})
    with tempfile.TemporaryDirectory(prefix="segue-run-") as folder:
        location = os.path.join(folder, "artifacts")
        if isolated:
            results = dict(_run_in_child(graph, location, media, show))
        else:
            with contextlib.ExitStack() as cache:
                # It is set while an image is built, to fill that image's cache.
                if numba_cache.VARIABLE not in os.environ:
                    cache.enter_context(numba_cache.use_temporary_cache())
                results = dict(_run_here(graph, location, media, folder))
        written = results[job].artifacts if job in results else {}
        with contextlib.closing(connect_store(location)) as store:
            artifacts = {
                split_output(reference)[1]: store.read(name)
                for reference, name, _ in build_references(job, written)
            }
    return replace(run, results=results, artifacts=artifacts)


def _run_in_child(
    graph: Graph,
    location: str,
    media: MediaFile,
    show: Callable[[Sequence[RunningJob]], None],
) -> Iterator[tuple[str, Result]]:
    with print_tracebacks(), Pool(graph, location, processes=1) as pool:
        pool.submit([build_task(graph, media)])
        pool.flush()
        while pool.pending:
            for report in pool.collect(COLLECT_S):
                for result in report.results:
                    yield result.job, result
            show(pool.running)


def run_files(
    graph: Graph,
    location: str,
    media: Sequence[MediaFile],
    processes: int | None = None,
    max_tasks: int = MAX_TASKS,
    leave_out: LeaveOut | None = None,
) -> Iterator[tuple[MediaFile, dict[str, Result]]]:
    """Run all jobs of a graph on some files, in child processes; yield each file once it is done.

    Artifacts are written to ``location``. With one process, files are done in their order. For
    ``leave_out`` see ``build_tasks``.
    """
    found: dict[int, dict[str, Result]] = {number: {} for number in range(len(media))}
    tasks = build_tasks(graph, media, leave_out)
    with Pool(graph, location, processes=processes, max_tasks=max_tasks) as pool:
        pool.submit(tasks)
        pool.flush()
        while pool.pending:
            for report in pool.collect(COLLECT_S):
                found[report.task_id].update({result.job: result for result in report.results})
                if report.finished:
                    yield media[report.task_id], found.pop(report.task_id)


def build_task(graph: Graph, media: MediaFile) -> Task:
    """Build a task of all jobs, with what other namespaces have computed above them."""
    (task,) = build_tasks(graph, [media])
    return task


def build_tasks(
    graph: Graph, media: Sequence[MediaFile], leave_out: LeaveOut | None = None
) -> list[Task]:
    """Build tasks of all jobs for some files, numbered from 0, with one call per namespace.

    For a file without a result of another namespace, ``leave_out`` is called with the reason;
    without it, ``ConfigurationError`` is raised.
    """
    found: Sequence[Mapping[str, ForeignResult]] = [{} for _ in media]
    with contextlib.ExitStack() as opened:
        if (ledgers := open_foreign_ledgers(graph, opened)) is not None:
            found = ledgers.read(media, [tuple(graph.jobs)] * len(media))
    tasks = []
    for number, (one, results) in enumerate(zip(media, found, strict=True)):
        if (lacking := _find_lacking(graph, results)) is None:
            tasks.append(_build_task(graph, one, results, number))
            continue
        problem = f"{lacking} has no result of this version of {one.uri}"
        if leave_out is None:
            raise ConfigurationError(f"{problem}; it has to be computed in its own namespace first")
        leave_out(one, problem)
    return tasks


def _find_lacking(graph: Graph, found: Mapping[str, ForeignResult]) -> str | None:
    """Return a job of another namespace that has no artifact for a file."""
    return next((r for r in graph.references if r not in found or not found[r].artifacts), None)


def _build_task(
    graph: Graph, media: MediaFile, found: Mapping[str, ForeignResult], task_id: int
) -> Task:
    inputs, checksums = find_inputs(graph, graph.jobs, found)
    return Task(
        task_id=task_id, media=media, run=tuple(graph.jobs), inputs=inputs, checksums=checksums
    )


@contextlib.contextmanager
def print_tracebacks() -> Iterator[None]:
    """Have the child write full tracebacks of jobs' errors to standard error."""
    before = os.environ.get(DEBUG)
    os.environ[DEBUG] = "1"
    try:
        yield
    finally:
        os.environ.pop(DEBUG) if before is None else os.environ.update({DEBUG: before})


@contextlib.contextmanager
def use_temporary(folder: str) -> Iterator[None]:
    """Have jobs write their temporary files to a folder, as in a child."""
    before, tempfile.tempdir = tempfile.tempdir, folder
    try:
        yield
    finally:
        tempfile.tempdir = before


def _run_here(
    graph: Graph, location: str, media: MediaFile, folder: str
) -> Iterator[tuple[str, Result]]:
    make_importable(graph)
    use_secrets(resolve_secrets(graph, graph.jobs))
    task = build_task(graph, media)
    with contextlib.closing(Stores(connect_store, location)) as stores, use_temporary(folder):
        line = LineRun(task, stores, tempfile.mkdtemp(), Claims())
        for name, job in graph.jobs.items():
            timer = Timer()
            result = Result(job=name, state=State.DONE)
            try:
                loaded = load_job(graph, name)
                artifacts = line.write(loaded, loaded.call(line.load_inputs(loaded)))
                result = replace(result, artifacts=artifacts)
            except ConfigurationError:
                raise
            except ImportError as error:  # as in a child, no file would fare better
                cause = classify_error(error, job.resources.memory_gib)
                raise ConfigurationError(f"job {name!r}: {cause}") from error
            except (Exception, SystemExit) as error:  # noqa: BLE001 - a job may raise anything
                trace = error.__traceback__
                error.__traceback__ = trace.tb_next if trace is not None else None  # not ours
                info = describe_failure(error, job.resources.memory_gib)
                if not is_clear(error):
                    sys.stderr.write(escape_lines(format_job_traceback(error)))
                result = replace(result, state=info.state, error=info.failure)
            seconds, cpu_seconds = timer.lap()
            yield name, replace(result, seconds=seconds, cpu_seconds=cpu_seconds)
            if result.state is not State.DONE:
                return
            del line.remaining[name]
