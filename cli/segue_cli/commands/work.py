"""``segue work``: run streaming pipelines without Beam."""

from __future__ import annotations

import click

from segue.execution.plain_worker import work as run_worker
from segue.log import configure
from segue_cli.command import Context, command
from segue_cli.parameters import (
    add_pipeline_options,
    build_streaming_run,
    processes_option,
    until_idle_option,
)


@command(
    settings=("graph", "catalogue", "artifacts", "models", "ledger", "queue"),
    examples=("segue work --all", "segue work --pipeline beats --health-port 8080"),
)
@add_pipeline_options
@processes_option
@until_idle_option
@click.option(
    "--health-port",
    type=click.IntRange(1, 65535),
    metavar="PORT",
    help="Serve the worker's health here: GET / responds 200 while it works, or else 503.",
)
def work(
    context: Context,
    pipelines: tuple[str, ...],
    jobs: tuple[str, ...],
    everything: bool,
    processes: int | None,
    until_idle: float | None,
    health_port: int | None,
) -> None:
    """Run some or all streaming pipelines in one process, without Beam.

    It does what 'segue stream' does on one machine, and starts faster: for pools of containers or
    machines, on Cloud Run, Kubernetes or in a lab. Start as many as there is work for; each message
    goes to one of them. Ctrl-C or SIGTERM lets running jobs finish for up to 15 seconds; a second
    one stops it at once. Nothing is lost: unfinished messages are delivered again.
    """
    run = build_streaming_run(
        context,
        pipelines,
        jobs,
        everything=everything,
        processes=processes,
        until_idle_s=until_idle,
    )
    configure(as_json=True if context.output.as_json else None)
    run_worker(run, port=health_port)
