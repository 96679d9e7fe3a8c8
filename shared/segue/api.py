"""What the command line does, as functions.

The stack is given by keyword arguments, as on the command line: ``graph`` is a loaded graph or the
path of a ``jobs.yaml``, ``ledger`` a URL. Without them, the environment variables (``SEGUE_GRAPH``,
``SEGUE_LEDGER`` …) and the defaults of the command line apply.

Examples
--------
>>> import segue
>>> segue.backfill("beats", prefix="~/Music")  # doctest: +SKIP
>>> segue.explain("~/Music/song.flac").run  # doctest: +SKIP
()
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from segue import stack
from segue.errors import ConfigurationError
from segue.extras import require
from segue.model.graph import Graph
from segue.model.media_file import parse_prefix
from segue.model.settings import Settings

if TYPE_CHECKING:
    from segue.execution.trial_run import TrialRun
    from segue.model.criteria import Criteria
    from segue.model.outcome import RunTotals
    from segue.reports.estimate import Estimate
    from segue.reports.explanation import Explanation
    from segue.reports.job_states import FailedJob, JobCounts
    from segue.reports.result_set import Results

Jobs = str | Iterable[str] | None
GraphLike = Graph | str | os.PathLike[str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BackfillPlan:
    """What a backfill would compute, and what that takes."""

    totals: RunTotals  # files and jobs by status; `Status.TODO` is what would be computed
    estimate: Estimate  # vCPU-hours, cost and time, as far as they were measured


def load_graph(
    path: str | os.PathLike[str] | None = None,
    *,
    catalogue: str | None = None,
    artifacts: str | None = None,
) -> Graph:
    """Load a graph: the named file, else ``./jobs.yaml``, else the one that ships with Segue.

    Parameters
    ----------
    path : path, optional
        By default ``SEGUE_GRAPH``.
    catalogue, artifacts : str, optional
        A folder or ``gs://bucket/prefix`` instead of those that the graph names.

    Raises
    ------
    ConfigurationError
        If the graph has faults; the message lists all of them.
    """
    given = None if path is None else os.fspath(path)
    return stack.load_graph(Settings.load(graph=given, catalogue=catalogue, artifacts=artifacts))


def check_code(graph: GraphLike = None) -> None:
    """Check that the code of all jobs can be imported, and fits the graph's inputs and parameters.

    Raises
    ------
    ConfigurationError
        If not; the message lists every fault.
    """
    from segue.model import job_code

    job_code.check_code(_resolve_graph(graph))


def plan(
    jobs: Jobs = None,
    *,
    prefix: str | None = None,
    uris: str | None = None,
    from_ledger: str | None = None,
    graph: GraphLike = None,
    ledger: str | None = None,
    force: bool = False,
    retry_failed: bool = False,
    limit: int | None = None,
    sample: float | None = None,
    criteria: Criteria | None = None,
    price: float | None = None,
    vcpus: int | None = None,
    beam_options: Sequence[str] = (),
) -> BackfillPlan:
    """Count what a backfill would compute, and estimate its cost; nothing is computed or written.

    Parameters
    ----------
    jobs, prefix, uris, from_ledger, graph, ledger, force, retry_failed, limit, sample, criteria, \
    beam_options
        As for `backfill`.
    price : float > 0, optional
        Price of a vCPU-hour.
    vcpus : int > 0, optional
        How many vCPUs the estimated duration assumes; by default those of this machine.
    """
    require("segue.plan", "pipelines")
    from segue.reports.estimate import estimate
    from segue_pipelines.backfill import build_run, execute
    from segue_pipelines.options import parse_pipeline_options

    settings = Settings.load(ledger=ledger, price=price, vcpus=vcpus)
    loaded = _resolve_graph(graph)
    run = build_run(
        loaded,
        settings,
        _to_names(jobs),
        prefix=prefix,
        uris=uris,
        from_ledger=from_ledger,
        force=force,
        retry_failed=retry_failed,
        limit=limit,
        sample=sample,
        criteria=criteria,
        dry_run=True,
    )
    totals = execute(run, parse_pipeline_options(beam_options))
    with stack.open_stack(settings, graph=loaded, create=False) as opened:
        estimated = estimate(
            loaded,
            opened.ledger,
            totals,
            vcpus=settings.vcpus or os.cpu_count() or 1,
            price=settings.price,
            prefix=parse_prefix(prefix) if prefix else "",
        )
    return BackfillPlan(totals=totals, estimate=estimated)


def backfill(
    jobs: Jobs = None,
    *,
    prefix: str | None = None,
    uris: str | None = None,
    from_ledger: str | None = None,
    graph: GraphLike = None,
    ledger: str | None = None,
    force: bool = False,
    retry_failed: bool = False,
    limit: int | None = None,
    sample: float | None = None,
    criteria: Criteria | None = None,
    processes: int | None = None,
    max_first_failures: int | None = 200,
    max_failures: int | str | None = None,
    rate: str | None = None,
    beam_options: Sequence[str] = (),
) -> RunTotals:
    """Compute the missing results of some jobs, and of the jobs that they need, for some files.

    Parameters
    ----------
    jobs : str or iterable of str, optional
        The target jobs; by default all jobs of the graph.
    prefix : str, optional
        A file, or a folder (a path or ``gs://bucket/folder``); by default the graph's catalogue.
    uris : str, optional
        A list of URIs or paths, instead of a prefix: one per line, or separated by NULs.
    from_ledger : {"failed", "stale", "missing", "all"}, optional
        Take files from the ledger instead of listing the catalogue.
    graph : Graph or path, optional
    ledger : str, optional
        ``firestore://project/database`` or ``sqlite:///path``.
    force : bool
        Compute the target jobs even if they are current.
    retry_failed : bool
        Compute jobs again that failed before.
    limit : int > 0, optional
        Process at most so many files.
    sample : float in [0, 1], optional
        Process a share of the files; the same ones each time.
    criteria : Criteria, optional
        Which of the files to process, by name, time, duration and tags. Files without a probe are
        counted, and left out unless the job ``probe`` is a target, which then runs first.
    processes : int > 0, optional
        Child processes per worker; by default one per core.
    max_first_failures : int > 0, optional
        Stop if so many files have failed in a job that has not succeeded for any; None: never.
        Files that cannot be decoded do not count.
    max_failures : int > 0 or str, optional
        Stop if so many files have failed in this run, or a share of those that were tried, such as
        ``"1%"``, which counts from 100 files on.
    rate : str, optional
        How many files to start at most, such as ``"2/s"``, ``"30/min"`` or ``"100/h"``.
    beam_options : sequence of str
        Options of Beam, such as ``--runner=DataflowRunner``.

    Returns
    -------
    RunTotals
        Files and jobs by status, failures by kind, CPU seconds, and files that were left out. A
        failed job is recorded in the ledger and does not raise.

    Raises
    ------
    ConfigurationError
        If the graph, its code, a job's name or an option is wrong, a model is missing, or a job
        cannot be imported or set up.
    TooManyFailures
        If the first files all failed in the same job, or ``max_failures`` was reached; the failures
        are recorded.
    RunCancelled
        If somebody cancelled the run; what was finished is recorded.
    Unavailable
        If the ledger or a bucket cannot be reached; what is finished is recorded.
    """
    require("segue.backfill", "pipelines")
    from segue.worker.model_paths import check_models
    from segue_pipelines.backfill import build_run, execute
    from segue_pipelines.options import parse_pipeline_options

    loaded = _resolve_graph(graph)
    run = build_run(
        loaded,
        Settings.load(ledger=ledger),
        _to_names(jobs),
        prefix=prefix,
        uris=uris,
        from_ledger=from_ledger,
        force=force,
        retry_failed=retry_failed,
        limit=limit,
        sample=sample,
        criteria=criteria,
        processes=processes,
        max_first_failures=max_first_failures,
        max_failures=max_failures,
        rate=rate,
    )
    check_code(loaded)
    check_models(loaded, loaded.add_ancestors(run.targets))
    return execute(run, parse_pipeline_options(beam_options))


def run_job(
    job: str,
    file: str | os.PathLike[str],
    *,
    params: Mapping[str, Any] | None = None,
    graph: GraphLike = None,
    isolated: bool = True,
) -> TrialRun:
    """Run one job, and the jobs that it needs, on one file; nothing is recorded.

    Parameters
    ----------
    job : str
    file : path or str
        A path, a URI, or a path relative to the catalogue.
    params : mapping, optional
        Values for some of the job's parameters, instead of those in the graph.
    graph : Graph or path, optional
    isolated : bool
        Run in a child process with timeout and memory limit, as a backfill does; otherwise run in
        this process, where a debugger can follow.

    Returns
    -------
    TrialRun
        ``value`` is the job's result; ``results`` tells what became of each job.

    Raises
    ------
    ConfigurationError
        If there is no such job or file, a model is missing, or the code does not fit the graph.
    """
    from segue.execution.trial_run import subgraph_for, try_job
    from segue.ingest.catalogue import find_media

    loaded = _resolve_graph(graph)
    (name,) = loaded.select([job])
    part = subgraph_for(loaded, name, params or {})
    media = find_media(os.fspath(file), loaded.catalogue)
    return try_job(part, name, media, isolated=isolated)


def status(
    *, prefix: str | None = None, graph: GraphLike = None, ledger: str | None = None
) -> JobCounts:
    """Count the files of each job by state, in the ledger.

    The states are done, not_applicable, failed, blocked, running, queued and missing, and add up to
    all files. Beside them, stale counts the files that have a result of an earlier version of the
    job only. With a prefix, every record below it is read; without one, the ledger's own counts are
    used.
    """
    from segue.reports.job_states import count_jobs

    with _open(graph, ledger) as opened:
        return count_jobs(opened.ledger, opened.graph, parse_prefix(prefix) if prefix else "")


def explain(
    file: str | os.PathLike[str],
    jobs: Jobs = None,
    *,
    graph: GraphLike = None,
    ledger: str | None = None,
) -> Explanation:
    """Explain one file: the state of each job, why, its results, and what a backfill would do.

    Parameters
    ----------
    file : path or str
        A path, a URI, or a path relative to the catalogue.
    jobs : str or iterable of str, optional
        The targets of the backfill; by default all jobs of the graph.

    Raises
    ------
    ConfigurationError
        If the file is neither in the ledger nor in its folder or bucket.
    """
    from segue.reports import explanation

    with _open(graph, ledger) as opened:
        targets = opened.graph.select(_to_names(jobs))
        return explanation.explain(opened, os.fspath(file), targets)


def failures(
    jobs: Jobs = None,
    *,
    kinds: str | Collection[str] = (),
    prefix: str | None = None,
    graph: GraphLike = None,
    ledger: str | None = None,
) -> Iterator[FailedJob]:
    """Stream the failures of the jobs' present versions, in the order of their files' URIs.

    Parameters
    ----------
    jobs : str or iterable of str, optional
        By default all jobs of the graph.
    kinds : str or collection of str
        Kinds of failures, such as ``corrupt_media``; none means all.
    prefix : str, optional
        A folder or ``gs://bucket/prefix``; by default all files in the ledger.
    """
    from segue.reports.job_states import find_failures, select_kinds

    with _open(graph, ledger) as opened:
        yield from find_failures(
            opened.ledger,
            opened.graph,
            jobs=opened.graph.select(_to_names(jobs)),
            kinds=select_kinds([kinds] if isinstance(kinds, str) else kinds),
            prefix=parse_prefix(prefix) if prefix else "",
        )


def results(
    job: str,
    *,
    prefix: str | None = None,
    graph: GraphLike = None,
    ledger: str | None = None,
) -> Results:
    """Return the current results of a job: at most one for each file.

    Parameters
    ----------
    job : str
        A job or, if it has several outputs, one of them as ``job.output``; of another namespace
        that the graph needs, ``namespace/job``.
    prefix : str, optional
        A file, a folder or ``gs://bucket/prefix``; by default all files in the ledger.

    Returns
    -------
    Results
        A loop over it yields one `FileResult` at a time, with ``uri``, ``version``,
        ``fingerprint`` and ``finished_at``, which opens as ``value``, ``audio()``, ``array()``,
        ``image()`` or ``path()``. ``to_pandas()``, ``to_arrow()`` and ``to_batches()`` make a
        table.

    Raises
    ------
    ConfigurationError
        If the graph has no such job or output, or the job has several and none is named; and from
        the loop, if the prefix is a path that neither exists nor is in the ledger. Of another
        prefix without files, the loop warns.
    """
    from segue.reports.result_set import Results
    from segue.reports.results import check_reference

    loaded = _resolve_graph(graph)
    return Results(
        graph=loaded,
        ledger=Settings.load(ledger=ledger).ledger,
        reference=check_reference(loaded, job),
        prefix=parse_prefix(prefix) if prefix else "",
    )


@contextlib.contextmanager
def _open(graph: GraphLike, ledger: str | None) -> Iterator[stack.Stack]:
    settings = Settings.load(ledger=ledger)
    with stack.open_stack(settings, graph=_resolve_graph(graph), create=False) as opened:
        yield opened


def _resolve_graph(graph: GraphLike) -> Graph:
    return graph if isinstance(graph, Graph) else load_graph(graph)


def _to_names(jobs: Jobs) -> list[str] | None:
    if jobs is None:
        return None
    names = [jobs] if isinstance(jobs, str) else list(jobs)
    if not names:
        raise ConfigurationError("no job is named; name at least one, or None for all jobs")
    return names
