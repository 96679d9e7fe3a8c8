"""One job on one file, with nothing recorded: for the person who writes the job.

The jobs above it are computed, too, from the file and not from what the ledger may have of them.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from segue.adapters.connect import connect_store
from segue.errors import ConfigurationError
from segue.model.graph import Graph
from segue.model.job_code import check, make_importable
from segue.model.ledger import Result
from segue.model.media_file import MediaFile
from segue.model.record import State
from segue.worker import numba_cache as compiled
from segue.worker.failure import own_traceback, trouble
from segue.worker.line_run import LineRun, Stores
from segue.worker.loaded_job import load_step
from segue.worker.pool import Pool
from segue.worker.protocol import Order
from segue.worker.task import Task

PATIENCE_S = 1.0
DEBUG = "SEGUE_DEBUG"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """What came of it."""

    results: Mapping[str, Result]  # of the job and of all above it, parents first
    data: bytes | None  # the job's artifact; None if it did not come to that


def cut(graph: Graph, job: str, params: Mapping[str, Any]) -> Graph:
    """A job and all that it needs, with some parameters changed; its code is held against it."""
    line = {name: graph.jobs[name] for name in graph.upward([job])}
    line[job] = replace(line[job], params={**line[job].params, **params})
    part = replace(graph, jobs=line)
    check(part)
    return part


def rehearse(
    graph: Graph,
    job: str,
    media: MediaFile,
    *,
    isolated: bool,
) -> Rehearsal:
    """Run all jobs of a graph, of which one is wanted, on one file.

    Isolated, they run as in a backfill: in a child process, with their deadlines and memory bounds.
    Otherwise they run in this process, where a debugger can follow. Tracebacks of what they raise
    are written to standard error.
    """
    with tempfile.TemporaryDirectory(prefix="segue-run-") as folder:
        artifacts = os.path.join(folder, "artifacts")
        if isolated:
            results = dict(_in_child(graph, artifacts, media))
        else:
            with contextlib.ExitStack() as own:
                if compiled.VARIABLE not in os.environ:  # as while an image is built, to be filled
                    own.enter_context(compiled.own_for_this_process())
                results = dict(_here(graph, artifacts, media, folder))
        made = results[job].artifact if job in results else None
        if made is None:
            return Rehearsal(results=results, data=None)
        with contextlib.closing(connect_store(artifacts)) as store:
            data = store.read(made.removeprefix(f"{store.location}/"))
    return Rehearsal(results=results, data=data)


def _in_child(graph: Graph, artifacts: str, media: MediaFile) -> Iterator[tuple[str, Result]]:
    with _telling(), Pool(graph, artifacts, processes=1) as pool:
        pool.submit([Task(ticket=1, media=media, run=tuple(graph.jobs))])
        while pool.pending:
            for report in pool.collect(PATIENCE_S):
                for result in report.results:
                    yield result.job, result


@contextlib.contextmanager
def _telling() -> Iterator[None]:
    """Have the child write the whole traceback of what a job raises to standard error."""
    before = os.environ.get(DEBUG)
    os.environ[DEBUG] = "1"
    try:
        yield
    finally:
        os.environ.pop(DEBUG) if before is None else os.environ.update({DEBUG: before})


def _here(
    graph: Graph,
    artifacts: str,
    media: MediaFile,
    folder: str,
) -> Iterator[tuple[str, Result]]:
    make_importable(graph)
    order = Order(1, media.uri, media.generation, tuple(graph.jobs))
    with contextlib.closing(Stores(connect_store, artifacts)) as stores:
        line = LineRun(order, stores, _made(os.path.join(folder, "file")))
        for name, job in graph.jobs.items():
            start_s, start_cpu_s = time.monotonic(), _cpu_s()
            result = Result(job=name, state=State.DONE)
            try:
                step = load_step(graph, name)
                uri, checksum = line.write(step, step.call(line.inputs(step)))
                result = replace(result, artifact=uri, checksum=checksum)
            except ConfigurationError:
                raise
            except (Exception, SystemExit) as error:  # noqa: BLE001 - a job may raise anything
                trace = error.__traceback__
                error.__traceback__ = trace.tb_next if trace is not None else None  # not ours
                sys.stderr.write(own_traceback(error))
                why = trouble(error, job.resources.memory_gib)
                state = State.FAILED if why.permanent else State.QUEUED
                result = replace(result, state=state, error=why.failure)
            seconds, cpu_seconds = time.monotonic() - start_s, _cpu_s() - start_cpu_s
            yield name, replace(result, seconds=seconds, cpu_seconds=cpu_seconds)
            if result.state is not State.DONE:
                return
            del line.left[name]


def _made(folder: str) -> str:
    os.makedirs(folder)
    return folder


def _cpu_s() -> float:
    below = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + below.ru_utime + below.ru_stime
