"""``segue stream``: run the streaming pipelines of some or all jobs."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from segue_cli import selection as select
from segue_cli.command import command
from segue_cli.context import Context
from segue_cli.parameters import complete_job

StreamJobs = Annotated[
    list[str] | None,
    typer.Option(
        "--job",
        metavar="JOB",
        autocompletion=complete_job,
        help="Process the messages of this job. May be repeated.",
    ),
]
All = Annotated[bool, typer.Option("--all", help="Process the messages of all jobs.")]
UntilIdle = Annotated[
    float | None,
    typer.Option(
        "--until-idle",
        min=0.0,
        metavar="SECONDS",
        help="Stop after this long without messages.  [default: run until stopped]",
    ),
]


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
def stream(
    context: Context,
    ctx: typer.Context,
    jobs: StreamJobs = None,
    everything: All = False,
    processes: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Child processes per worker.  [default: one per core]"
        ),
    ] = None,
    until_idle_s: UntilIdle = None,
) -> None:
    """Run the streaming pipelines of some or all jobs.

    A pipeline processes the messages of its jobs as they arrive, and notifies the jobs that depend
    on them. Ctrl-C or SIGTERM stops it after the running jobs have finished; a second one stops it
    at once. Nothing is lost: unfinished messages are delivered again. Unknown options are passed to
    Beam, such as --runner.
    """
    from segue.log import configure
    from segue.model.job_code import check_code
    from segue.model.location import parse_location
    from segue_pipelines.options import is_local, parse_pipeline_options
    from segue_pipelines.streaming.pipeline import execute
    from segue_pipelines.streaming.streaming_run import StreamingRun

    own = [o for p in ctx.command.params for o in p.opts]
    options = parse_pipeline_options(ctx.args, own, streaming=True)
    graph = context.graph
    run = StreamingRun(
        graph=graph,
        jobs=select.select_targets(graph, jobs, everything=everything),
        ledger=context.settings.ledger,
        artifacts=parse_location(graph.artifacts),
        queue=context.settings.queue,
        processes=processes,
        until_idle_s=until_idle_s,
    )
    check_code(graph)
    configure(as_json=True if context.output.as_json else None)
    if is_local(options):
        # Beam's warnings are about its own options, and Segue reports its errors itself.
        logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
    else:
        # A remote runner logs the address and state of its job; there is no other progress to show.
        logging.basicConfig(level=logging.INFO, format="%(message)s")
    execute(run, options)
