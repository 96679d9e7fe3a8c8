"""``segue stream``: work on messages as they come."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from segue_cli import selection as select
from segue_cli.command import command
from segue_cli.context import Context
from segue_cli.parameters import complete_job

Served = Annotated[
    list[str] | None,
    typer.Option(
        "--job",
        metavar="JOB",
        autocompletion=complete_job,
        help="A job whose messages to work on. May be repeated.",
    ),
]
All = Annotated[bool, typer.Option("--all", help="Work on the messages of all jobs.")]
UntilIdle = Annotated[
    float | None,
    typer.Option(
        "--until-idle",
        min=0.0,
        metavar="SECONDS",
        help="End when nothing has come for so long. By default, go on until stopped.",
    ),
]


@command(
    settings=("graph", "catalogue", "artifacts", "ledger", "queue"),
    examples=(
        "segue stream --all",
        "segue stream --job beats --job energy --processes 4",
        "segue stream --all --until-idle 5",
        "segue stream --job beats --runner DataflowRunner --project acme --region europe-west1",
    ),
    takes_more=True,
)
def stream(
    context: Context,
    ctx: typer.Context,
    jobs: Served = None,
    everything: All = False,
    processes: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Child processes a worker. By default, one a core."),
    ] = None,
    until_idle_s: UntilIdle = None,
) -> None:
    """Work on the messages of some jobs as they come, and tell the jobs below.

    Ctrl-C or SIGTERM lets what is running finish, and ends; a second one ends at once. Whatever
    way it ends, nothing is lost: what was not finished comes again. Options that are not its own
    are Beam's, such as --runner.
    """
    from segue.log import configure
    from segue.model.job_code import check
    from segue.model.location import location_of
    from segue_pipelines.options import is_local, pipeline_options
    from segue_pipelines.streaming.pipeline import Streaming, execute

    own = [o for p in ctx.command.params for o in p.opts]
    options = pipeline_options(ctx.args, own, streaming=True)
    graph = context.graph
    run = Streaming(
        graph=graph,
        jobs=select.targets_of(graph, jobs, everything=everything),
        ledger=context.settings.ledger,
        artifacts=location_of(graph.artifacts),
        queue=context.settings.queue,
        processes=processes,
        until_idle_s=until_idle_s,
    )
    check(graph)
    configure(as_json=True if context.output.as_json else None)
    if is_local(options):
        # Beam's warnings are about its own options, and its errors are told by us.
        logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
    else:
        # What a remote runner says of its job, its address and state, is all there is to see.
        logging.basicConfig(level=logging.INFO, format="%(message)s")
    execute(run, options)
