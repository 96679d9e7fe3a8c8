"""``segue lock``: lock a graph to what other teams publish now."""

from __future__ import annotations

from contextlib import ExitStack, closing

import click

from segue.errors import ConfigurationError
from segue.model.graph import UNRESOLVED, read_graph
from segue.model.manifest import LOCK_FILE
from segue.model.settings import DEFAULT_GRAPH
from segue.registry.locking import compare_lock
from segue.registry.publication import open_registry
from segue_cli.command import Context, command
from segue_cli.exit_code import ExitCode
from segue_cli.views.output import build_table


@command(settings=("graph", "registry"), examples=("segue lock", "segue lock --check"))
@click.option(
    "--check",
    is_flag=True,
    help="Change nothing; the exit code is 4 if the lock is not what the registry has now.",
)
def lock(context: Context, check: bool) -> ExitCode | None:
    """Lock this graph to what other teams publish now.

    The jobs of other teams that the graph needs, as namespace/job, are looked up in the registry
    and written to segue.lock beside the graph; commit it. Everything else reads only that file, so
    a parent's new version changes nothing here until the graph is locked again: then exactly the
    results below it are stale.
    """
    path = context.settings.graph or DEFAULT_GRAPH
    location = context.settings.registry or read_graph(path, lock=UNRESOLVED).registry
    with ExitStack() as opened:
        registry = None
        if location is not None:
            registry = opened.enter_context(closing(open_registry(location)))
        comparison = compare_lock(path, registry)
    if not check and not comparison.is_current:
        try:
            comparison.write()
        except OSError as error:
            raise ConfigurationError(
                f"{comparison.path!r} cannot be written ({error.strerror})"
            ) from error
    if context.output.as_json:
        context.output.write_json(
            {
                "lock": comparison.path,
                "current": comparison.is_current,
                "changes": {
                    c.reference: {"before": c.before, "after": c.after} for c in comparison.changes
                },
            }
        )
    else:
        if comparison.changes:
            rows = build_table("job", "before", "now")
            for change in comparison.changes:
                rows.add_row(change.reference, change.before or "", change.after or "")
            context.output.print(rows)
        if comparison.is_current:
            context.output.note(f"{LOCK_FILE} is current.")
        elif check:
            again = context.format_command("lock")
            context.output.note(f"{LOCK_FILE} is not current; to write it: {again}")
        else:
            context.output.note(f"Wrote {comparison.path}; commit it.")
    return ExitCode.UNFINISHED if check and not comparison.is_current else None
