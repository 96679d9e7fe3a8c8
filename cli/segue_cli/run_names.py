"""Completes the names of runs in a shell."""

from __future__ import annotations

from contextlib import closing

import click
from click.shell_completion import CompletionItem

from segue.adapters.connect import connect_store
from segue.errors import SegueError
from segue.model.settings import Settings
from segue.reports.run_history import list_runs, shorten_id
from segue.stack import load_graph

NEWEST = 20


def complete_run(
    ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete the name of one of the newest runs, which are described by kind, start and state."""
    given = {name: ctx.params.get(name) for name in ("graph", "artifacts")}
    try:
        location = load_graph(Settings.load(**given)).artifacts
        with closing(connect_store(location)) as artifacts:
            runs = list_runs(artifacts, NEWEST).runs
    except SegueError:
        return []
    return [
        CompletionItem(name, help=f"{run.kind} of {run.started_at:%Y-%m-%d %H:%M}, {run.state}")
        for run in runs
        if (name := shorten_id(run.id)).startswith(incomplete)
    ]
