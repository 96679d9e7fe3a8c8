"""``segue stream``: run the streaming pipelines of some or all jobs."""

from __future__ import annotations

import click

from segue_cli.command import Context, command
from segue_cli.parameters import (
    add_job_option,
    parse_beam_options,
    processes_option,
    select_targets,
)
from segue_cli.pipeline_progress import configure_log


@command(
    requires=("pipelines",),
    settings=("graph", "catalogue", "artifacts", "ledger", "queue"),
    examples=(
        "segue stream --all",
        "segue stream --job beats --job energy --processes 4",
        "segue stream --all --until-idle 5",
        "segue stream --job beats --runner DataflowRunner --project acme --region europe-west1",
    ),
    extra_options=True,
)
@add_job_option("Process the messages of this job. May be repeated.")
@click.option("--all", "everything", is_flag=True, help="Process the messages of all jobs.")
@processes_option
@click.option(
    "--until-idle",
    type=click.FloatRange(min=0.0),
    metavar="SECONDS",
    help="Stop after this long without messages.  [default: run until stopped]",
)
def stream(
    context: Context,
    jobs: tuple[str, ...],
    everything: bool,
    processes: int | None,
    until_idle: float | None,
) -> None:
    """Run the streaming pipelines of some or all jobs.

    A pipeline processes the messages of its jobs as they arrive, and notifies the jobs that depend
    on them. Ctrl-C or SIGTERM lets running jobs finish for up to 15 seconds; a second one stops it
    at once. Nothing is lost: unfinished messages are delivered again. Unknown options are passed to
    Beam, such as --runner.
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
        jobs=select_targets(graph, jobs, everything=everything),
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
