"""Tries jobs as the system would run them, on several files and several times.

A job that is right on one file on its author's machine may still be wrong in a catalogue: its
result changes from run to run, depends on the files before, is not what the code declares, or takes
the cores of the jobs beside it. Three runs in real workers tell: all files in one process, in
their order, then each in a process of its own, twice.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from segue import codec
from segue.adapters.connect import connect_store
from segue.execution.trial_run import run_files
from segue.model.artifact import build_references, split_output
from segue.model.graph import Graph, Job
from segue.model.job_code import find_callable, make_importable
from segue.model.media_file import MediaFile
from segue.model.record import State
from segue.model.result_schema import find_mismatch
from segue.model.transitions import Result
from segue.worker.pool import ENVIRONMENT
from segue.worker.secrets import hide_variables

JSON = "application/json"
MANY_THREADS = 1.5  # CPU time by wall time; a job has one core
SHORT_S = 0.2  # too short to tell
NEAR_TIMEOUT = 0.5  # of timeout_s
SLOW_IMPORT_S = 1.0
NAMED = 3  # files of a fault
IMPORTED = 3  # packages that are named
RANDOM = (
    "two runs on it give different results: seed what is random, and keep times, paths and the "
    "order of sets out of the result"
)
LEAK = "its result depends on the files before it: keep nothing between calls that changes"
_IMPORT = """
import os, sys, threading
sys.path += sys.argv[2:]
__import__(sys.argv[1])
tasks = "/proc/self/task"  # with those of libraries
count = len(os.listdir(tasks)) if os.path.exists(tasks) else threading.active_count()
print(f"\\nsegue: threads {count}")  # a module may print before it, and at its exit
"""
_THREADS = re.compile(r"^segue: threads (\d+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCheck:
    """What became of a job on all files."""

    job: str
    done: int
    not_applicable: int
    faults: tuple[str, ...]  # what has to be repaired
    tracebacks: tuple[str, ...]  # of what it raised, each once
    warnings: tuple[str, ...]  # what costs time, or may surprise
    seconds: float | None  # the longest call, once the process is warm
    first_seconds: float | None  # the first call in a process
    cpu_seconds: float | None  # of the longest call
    import_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphCheck:
    """What became of some jobs and those that they need."""

    jobs: tuple[JobCheck, ...]  # parents first
    peak_bytes: int  # of the largest process


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """The results of one run, by file and job, and where its artifacts are."""

    location: str
    results: Mapping[str, Mapping[str, Result]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Import:
    """What the import of a module takes."""

    seconds: float | None
    warnings: tuple[str, ...] = ()


def check_jobs(
    graph: Graph, media: Sequence[MediaFile], note: Callable[[str], None] = lambda _text: None
) -> GraphCheck:
    """Try all jobs of a graph on some files.

    Parameters
    ----------
    graph : Graph
        The jobs to test, and those above them, as of `trial_run.subgraph_for`.
    media : sequence of MediaFile
        One suffices to compare runs; two or more show whether files influence one another.
    note : callable, optional
        Told what is tried next.

    Raises
    ------
    ConfigurationError
        If a job cannot be imported or set up.
    """
    with tempfile.TemporaryDirectory(prefix="segue-test-") as folder:
        runs = []
        for name, max_tasks, what in (
            ("together", len(media), "all files in one process"),
            ("alone", 1, "each file in a process of its own"),
            ("again", 1, "the same again"),
        ):
            note(f"{what}: {len(media)} files")
            runs.append(_run(graph, os.path.join(folder, name), media, max_tasks))
        peak_bytes = _read_peak_bytes()
        make_importable(graph)
        # As in a worker, where libraries have one thread.
        environment = hide_variables({**os.environ, **ENVIRONMENT}, graph)
        imports: dict[str, _Import] = {}
        for job in graph.jobs.values():
            module = job.run.partition(":")[0]
            if module not in imports:
                imports[module] = _examine_import(module, environment)
        return GraphCheck(
            jobs=tuple(
                _examine(graph, job, media, runs, imports[job.run.partition(":")[0]])
                for job in graph.jobs.values()
            ),
            peak_bytes=peak_bytes,
        )


def _run(graph: Graph, location: str, media: Sequence[MediaFile], max_tasks: int) -> _Run:
    done = run_files(graph, location, media, processes=1, max_tasks=max_tasks)
    return _Run(location=location, results={one.uri: results for one, results in done})


def _read_peak_bytes() -> int:
    """Return what the largest process that has ended below this one held at most."""
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _examine(
    graph: Graph, job: Job, media: Sequence[MediaFile], runs: Sequence[_Run], imported: _Import
) -> JobCheck:
    together, alone, again = runs
    results = [together.results[one.uri].get(job.name) for one in media]
    known = [r for r in results if r is not None]
    done = [r for r in known if r.state is State.DONE]
    timed = [r for r in done if r.seconds is not None]
    longest = max(timed[1:] or timed, key=lambda r: r.seconds or 0.0, default=None)
    found = [
        *_list_failures(job, media, runs),
        *_compare(graph, job, media, together, alone, again),
        *_check_schema(job, media, together),
    ]
    return JobCheck(
        job=job.name,
        done=len(done),
        not_applicable=sum(r.state is State.NOT_APPLICABLE for r in known),
        faults=tuple(_join_by_fault(found)),
        tracebacks=_list_tracebacks(job, runs),
        warnings=(*_list_costs(job, timed), *imported.warnings),
        seconds=longest.seconds if longest is not None else None,
        first_seconds=timed[0].seconds if timed else None,
        cpu_seconds=longest.cpu_seconds if longest is not None else None,
        import_s=imported.seconds,
    )


def _join_by_fault(found: Iterable[tuple[MediaFile, str]]) -> Iterator[str]:
    """Yield each fault once, after the names of its files."""
    files: dict[str, dict[str, None]] = {}
    for media, fault in found:
        files.setdefault(fault, {})[os.path.basename(media.name)] = None
    for fault, names in files.items():
        shown = ", ".join([*names][:NAMED])
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        yield f"{shown}{more}: {fault}"


def _list_failures(
    job: Job, media: Sequence[MediaFile], runs: Iterable[_Run]
) -> Iterator[tuple[MediaFile, str]]:
    for run in runs:
        for one in media:
            result = run.results[one.uri].get(job.name)
            if result is not None and result.state is State.FAILED and result.error is not None:
                yield one, f"{result.error.kind}: {result.error.message}"


def _list_tracebacks(job: Job, runs: Iterable[_Run]) -> tuple[str, ...]:
    found = [
        results[job.name] for run in runs for results in run.results.values() if job.name in results
    ]
    errors = [result.error for result in found if result.state is State.FAILED]
    return tuple(dict.fromkeys(e.traceback for e in errors if e is not None and e.traceback))


def _compare(
    graph: Graph, job: Job, media: Sequence[MediaFile], together: _Run, alone: _Run, again: _Run
) -> Iterator[tuple[MediaFile, str]]:
    """Yield the files whose results differ between runs, where those of the parents do not."""
    above = [name for name in graph.add_ancestors([job.name]) if name != job.name]
    for one in media:
        for first, second, remedy in ((alone, again, RANDOM), (together, alone, LEAK)):
            if any(_differ(name, one.uri, first, second) for name in above):
                break
            if _differ(job.name, one.uri, first, second):
                yield one, remedy
                break


def _differ(job: str, uri: str, first: _Run, second: _Run) -> bool:
    """Whether two runs have made different artifacts for a file."""
    one, other = first.results[uri].get(job), second.results[uri].get(job)
    if one is None or other is None or {one.state, other.state} != {State.DONE}:
        return False
    return one.artifacts != other.artifacts


def _check_schema(
    job: Job, media: Sequence[MediaFile], run: _Run
) -> Iterator[tuple[MediaFile, str]]:
    target = find_callable(job.run)
    with contextlib.closing(connect_store(run.location)) as store:
        for one in media:
            result = run.results[one.uri].get(job.name)
            written = result.artifacts if result is not None else {}
            for reference, name, _ in build_references(job.name, written):
                output = split_output(reference)[1]
                if job.outputs[output] != JSON:
                    continue
                wrong = find_mismatch(target, output, codec.decode(JSON, store.read(name)))
                if wrong is not None:
                    yield one, f"{reference} is not what its code declares: {wrong}"


def _list_costs(job: Job, timed: Sequence[Result]) -> Iterator[str]:
    for result in timed:
        seconds, cpu = result.seconds or 0.0, result.cpu_seconds or 0.0
        if seconds > SHORT_S and cpu > MANY_THREADS * seconds:
            yield (
                f"uses {cpu / seconds:.1f} cores at once: a worker runs a process on each core, so "
                "have its library use one thread"
            )
            break
    for result in timed[1:]:
        if (result.seconds or 0.0) > NEAR_TIMEOUT * job.timeout_s:
            yield (
                f"takes {result.seconds:.0f} s of the {job.timeout_s:g} s that it may: longer "
                "files will fail; raise timeout_s"
            )
            break


def _examine_import(module: str, environment: Mapping[str, str]) -> _Import:
    """Import a module in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-P", "-X", "importtime", "-c", _IMPORT, module, *sys.path],
        check=False, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL,
        env=environment,
    )  # fmt: skip
    found = _THREADS.search(done.stdout)
    if done.returncode != 0 or found is None:
        return _Import(
            seconds=None,
            warnings=(f"its module cannot be imported by itself: {_last_line(done.stderr)}",),
        )
    total_s, packages = read_import_times(done.stderr, module)
    warnings = []
    if total_s > SLOW_IMPORT_S:
        named = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in packages[:IMPORTED])
        warnings.append(
            f"its import takes {total_s:.1f} s ({named}): import what is heavy inside the "
            "function, and list it in PRELOAD"
        )
    threads = int(found[1])
    if threads > 1:
        warnings.append(
            f"its import starts threads ({threads - 1}), so each of a worker's processes "
            "imports it anew: import inside the function what starts them"
        )
    return _Import(seconds=total_s, warnings=tuple(warnings))


def _last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if not line.startswith("import time:")]
    return lines[-1] if lines else "it ended without a message"


def read_import_times(report: str, module: str) -> tuple[float, list[tuple[str, float]]]:
    """Read the report of ``-X importtime``: a module's time, and the packages that take most of it.

    The time of a package is that of all its modules, without what they import of others.
    """
    total_us = 0
    own_us: dict[str, int] = {}
    pending: dict[str, int] = {}  # since the last module that begins no deeper
    for line in report.splitlines():
        if not line.startswith("import time:") or "self [us]" in line:
            continue
        own, cumulative, name = line.removeprefix("import time:").split("|")
        package = name.strip().partition(".")[0]
        pending[package] = pending.get(package, 0) + int(own)
        if name.strip() == module:
            total_us = int(cumulative)
            own_us = dict(pending)
        if not name.startswith("   "):  # of the first level: what follows is another import's
            pending = {}
    packages = sorted(own_us.items(), key=lambda item: -item[1])
    return total_us / 1e6, [(name, us / 1e6) for name, us in packages]
