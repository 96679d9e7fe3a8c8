"""The parameters that several commands share, and what reads their values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from segue.errors import ConfigurationError, Kind
from segue_cli.command import complete_path
from segue_cli.criteria_options import add_criteria_options

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions

    from segue.execution.streaming_run import StreamingRun
    from segue.model.graph import Graph
    from segue_cli.command import Context

Function = TypeVar("Function", bound=Callable[..., Any])

LONGEST_S = 36_500 * 86400  # a time that is much longer ago has no date
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def complete_job(
    ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete a job name from the graph that the command line selects."""
    from segue.model.settings import Settings
    from segue.stack import load_graph

    try:
        graph = load_graph(Settings.load(graph=ctx.params.get("graph")))
    except ConfigurationError:
        return []
    jobs = graph.jobs.values()
    return [
        CompletionItem(j.name, help=j.description) for j in jobs if j.name.startswith(incomplete)
    ]


def complete_pipeline(
    ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete a pipeline's name from the graph that the command line selects."""
    from segue.model.settings import Settings
    from segue.stack import load_graph

    try:
        pipelines = load_graph(Settings.load(graph=ctx.params.get("graph"))).pipelines
    except ConfigurationError:
        return []
    return [
        CompletionItem(name, help=", ".join(jobs))
        for name, jobs in pipelines.items()
        if name.startswith(incomplete)
    ]


def parse_share(_ctx: click.Context, option: click.Parameter, text: str | None) -> float | None:
    """Parse a share such as ``1%`` or ``0.01``."""
    if text is None:
        return None
    try:
        share = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ConfigurationError(
            f"{option.opts[0]} is {text!r}, which is not a share; write 1% or 0.01, for example"
        )
    return share


def parse_duration(_ctx: click.Context, option: click.Parameter, text: str | None) -> float | None:
    """Parse a duration such as ``90s``, ``12h`` or ``2w``; return seconds."""
    if text is None:
        return None
    number, unit = text[:-1], text[-1:]
    if unit in SECONDS and number.isdecimal():
        seconds = float(number) * SECONDS[unit]
        if seconds <= LONGEST_S:
            return seconds
    raise ConfigurationError(
        f"{option.opts[0]} is {text!r}, which is not a duration; write a whole number and a unit "
        f"({', '.join(SECONDS)}), such as 12h"
    )


def add_job_option(help: str) -> Callable[[Function], Function]:  # noqa: A002 - as in click
    """Add the option that names jobs."""
    return click.option(
        "--job", "jobs", multiple=True, metavar="JOB", help=help, shell_complete=complete_job
    )


# Which files and jobs to report on or to retry.
job_option = add_job_option("Only this job. May be repeated.  [default: all]")
prefix_option = click.option(
    "--prefix",
    metavar="URI",
    help="Only this file, or all below this folder or URI.  [default: all files in the ledger]",
    shell_complete=complete_path,
)
kind_option = click.option(
    "--kind",
    "kinds",
    multiple=True,
    metavar="KIND",
    help=f"Only failures of this kind: {', '.join(Kind)}. May be repeated.  [default: all]",
    shell_complete=lambda _ctx, _parameter, start: [k for k in Kind if k.startswith(start)],
)

# Which files and jobs to compute.
catalogue_prefix_option = click.option(
    "--prefix",
    metavar="PREFIX",
    help="Only this file, or all below this folder or gs://bucket/folder.  [default: the whole "
    "catalogue]",
    shell_complete=complete_path,
)
target_option = add_job_option(
    "Compute this job and the missing results it depends on. May be repeated."
)
all_option = click.option(
    "--all", "everything", is_flag=True, help="Compute all jobs of the graph."
)
force_option = click.option(
    "--force",
    is_flag=True,
    help="Recompute the named jobs even if they are current, but not their parents.",
)

file_argument = click.argument(
    "file",
    help="A path, a URI (gs://bucket/name), or a path relative to the catalogue.  [required]",
    shell_complete=complete_path,
)
processes_option = click.option(
    "--processes",
    type=click.IntRange(min=1),
    metavar="N",
    help="Child processes per worker.  [default: one per core]",
)
timeout_option = click.option(
    "--timeout",
    metavar="DURATION",
    callback=parse_duration,
    help="How long to wait at most, such as 90s or 1h.",
)
yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask for confirmation.")


until_idle_option = click.option(
    "--until-idle",
    type=click.FloatRange(min=0.0),
    metavar="SECONDS",
    help="Stop after this long without messages.  [default: run until stopped]",
)
# By which ``stream`` and ``work`` select pipelines.
PIPELINE_OPTIONS = (
    click.option(
        "--pipeline",
        "pipelines",
        multiple=True,
        metavar="NAME",
        help="Run this pipeline. May be repeated.",
        shell_complete=complete_pipeline,
    ),
    add_job_option("Run the pipeline of this job. May be repeated."),
    click.option("--all", "everything", is_flag=True, help="Run all pipelines of the graph."),
)

# By which ``plan`` and ``backfill`` select files and jobs.
SELECTION_OPTIONS = (
    catalogue_prefix_option,
    click.option(
        "--uris",
        metavar="FILE",
        help="Only the files in this list: URIs or paths, one per line, or separated by NULs as "
        "'find -print0' writes them. A file that is missing is named, and the exit code is 3.",
        shell_complete=complete_path,
    ),
    click.option(
        "--from-ledger",
        metavar="failed|stale|missing|all",
        help="Select files from the ledger instead of listing the catalogue: those that 'segue "
        "status' counts as failed, as stale, as missing or queued, or all.",
    ),
    target_option,
    all_option,
    force_option,
    click.option("--retry-failed", is_flag=True, help="Retry jobs that failed before."),
    click.option(
        "--limit", type=click.IntRange(min=1), metavar="N", help="Process at most N files."
    ),
    click.option(
        "--sample",
        metavar="SHARE",
        callback=parse_share,
        help="Process a random share of the files, such as 1% or 0.01; the same ones each time.",
    ),
)


def add_selection_options(function: Function) -> Function:
    """Add the options by which ``plan`` and ``backfill`` select files and jobs."""
    function = add_criteria_options(function)
    for option in reversed(SELECTION_OPTIONS):
        function = option(function)
    return function


def add_pipeline_options(function: Function) -> Function:
    """Add the options by which ``stream`` and ``work`` select pipelines."""
    for option in reversed(PIPELINE_OPTIONS):
        function = option(function)
    return function


def parse_beam_options(
    arguments: Sequence[str] | None = None, *, streaming: bool = False
) -> PipelineOptions:
    """Parse the options that the command which runs does not know, or those given, as Beam's."""
    from segue_pipelines.options import parse_pipeline_options

    ctx = click.get_current_context()
    own = [name for parameter in ctx.command.params for name in parameter.opts]
    given = ctx.args if arguments is None else arguments
    return parse_pipeline_options(given, own, streaming=streaming)


def select_targets(graph: Graph, jobs: Sequence[str], *, everything: bool) -> tuple[str, ...]:
    """Return the named jobs, or all of them, in topological order."""
    if everything and jobs:
        raise ConfigurationError("--all and --job exclude each other; leave one out")
    if everything:
        return tuple(graph.jobs)
    if not jobs:
        raise ConfigurationError(
            f"no job is named; choose some with --job ({', '.join(graph.jobs)}) or use --all"
        )
    return graph.select(jobs)


def build_streaming_run(
    context: Context,
    pipelines: Sequence[str],
    jobs: Sequence[str],
    *,
    everything: bool,
    processes: int | None,
    until_idle_s: float | None,
) -> StreamingRun:
    """Build the run that the options of ``stream`` and ``work`` describe; check code and models."""
    from segue.execution.streaming_run import StreamingRun
    from segue.model.job_code import check_code
    from segue.model.media_file import parse_location
    from segue.worker.model_paths import check_models

    graph = context.graph
    run = StreamingRun(
        graph=graph,
        pipelines=select_pipelines(graph, pipelines, jobs, everything=everything),
        ledger=context.settings.ledger,
        artifacts=parse_location(graph.artifacts),
        queue=context.settings.queue,
        processes=processes,
        until_idle_s=until_idle_s,
    )
    check_code(graph)
    check_models(graph, run.jobs)
    return run


def select_pipelines(
    graph: Graph, pipelines: Sequence[str], jobs: Sequence[str], *, everything: bool
) -> tuple[str, ...]:
    """Return the named pipelines, and those of the named jobs, each once; or all of them."""
    if everything and (pipelines or jobs):
        raise ConfigurationError("--all excludes --pipeline and --job; leave it or them out")
    if everything:
        return tuple(graph.pipelines)
    of_jobs = graph.find_pipelines(graph.select(jobs)) if jobs else ()
    return tuple(dict.fromkeys((*pipelines, *of_jobs)))
