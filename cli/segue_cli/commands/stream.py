"""``segue stream``: run some or all streaming pipelines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from segue.errors import ConfigurationError
from segue_cli.command import Context, command
from segue_cli.parameters import add_job_option, parse_beam_options, processes_option
from segue_cli.pipeline_progress import configure_log

if TYPE_CHECKING:
    from collections.abc import Sequence

    from segue.model.graph import Graph


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


@command(
    requires=("pipelines",),
    settings=("graph", "catalogue", "artifacts", "ledger", "queue"),
    examples=(
        "segue stream --all",
        "segue stream --pipeline beats --pipeline energy --processes 4",
        "segue stream --all --until-idle 5",
        "segue stream --pipeline beats --runner DataflowRunner --project acme --region us-east1",
    ),
    extra_options=True,
)
@click.option(
    "--pipeline",
    "pipelines",
    multiple=True,
    metavar="NAME",
    help="Run this pipeline. May be repeated.",
    shell_complete=complete_pipeline,
)
@add_job_option("Run the pipeline of this job. May be repeated.")
@click.option("--all", "everything", is_flag=True, help="Run all pipelines of the graph.")
@processes_option
@click.option(
    "--until-idle",
    type=click.FloatRange(min=0.0),
    metavar="SECONDS",
    help="Stop after this long without messages.  [default: run until stopped]",
)
def stream(
    context: Context,
    pipelines: tuple[str, ...],
    jobs: tuple[str, ...],
    everything: bool,
    processes: int | None,
    until_idle: float | None,
) -> None:
    """Run some or all streaming pipelines in one process.

    A pipeline processes messages about files as they arrive, runs its jobs, and notifies the
    pipelines whose jobs depend on them. Each job has a pipeline of its own, with the same name,
    unless 'pipelines' in jobs.yaml groups it with others; a pipeline is always run as a whole.
    Ctrl-C or SIGTERM lets running jobs finish for up to 15 seconds; a second one stops it at once.
    Nothing is lost: unfinished messages are delivered again. Unknown options are passed to Beam,
    such as --runner.
    """
    from segue.log import configure
    from segue.model.job_code import check_code
    from segue.model.media_file import parse_location
    from segue_pipelines.streaming.pipeline import execute
    from segue_pipelines.streaming.streaming_run import StreamingRun

    options = parse_beam_options(streaming=True)
    graph = context.graph
    run = StreamingRun(
        graph=graph,
        pipelines=select_pipelines(graph, pipelines, jobs, everything=everything),
        ledger=context.settings.ledger,
        artifacts=parse_location(graph.artifacts),
        queue=context.settings.queue,
        processes=processes,
        until_idle_s=until_idle,
    )
    check_code(graph)
    configure(as_json=True if context.output.as_json else None)
    configure_log(options)
    execute(run, options)


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
