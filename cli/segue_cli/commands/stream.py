"""``segue stream``: run some or all streaming pipelines."""

from __future__ import annotations

from segue_cli.command import Context, command
from segue_cli.parameters import (
    add_pipeline_options,
    build_streaming_run,
    parse_beam_options,
    processes_option,
    until_idle_option,
)
from segue_cli.pipeline_progress import configure_log


@command(
    requires=("pipelines",),
    settings=("graph", "catalogue", "artifacts", "models", "ledger", "queue"),
    examples=(
        "segue stream --all",
        "segue stream --pipeline beats --pipeline energy --processes 4",
        "segue stream --all --until-idle 5",
        "segue stream --pipeline beats --runner DataflowRunner --project acme --region us-east1",
    ),
    extra_options=True,
)
@add_pipeline_options
@processes_option
@until_idle_option
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
    from segue_pipelines.streaming.pipeline import execute

    options = parse_beam_options(streaming=True)
    run = build_streaming_run(
        context,
        pipelines,
        jobs,
        everything=everything,
        processes=processes,
        until_idle_s=until_idle,
    )
    configure(as_json=True if context.output.as_json else None)
    configure_log(options)
    execute(run, options)
