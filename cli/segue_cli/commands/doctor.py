"""``segue doctor``: check the installation, the settings and the connections."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import click

from segue import text
from segue.printable import escape
from segue_cli.command import Context, command
from segue_cli.exit_code import ExitCode

if TYPE_CHECKING:
    from rich.console import RenderableType

    from segue_cli.health_checks.check import Check, CheckResult

MARKS = {"ok": ("✓", "green"), "note": ("·", "yellow"), "fault": ("✗", "bold red")}


@command(
    settings=("graph", "catalogue", "artifacts", "models", "ledger", "queue"),
    examples=(
        "segue doctor",
        "segue doctor --ledger firestore://acme --limit 5 --json",
        "segue doctor --cloud --queue pubsub://acme --ledger firestore://acme/segue",
    ),
)
@click.option("--cloud", is_flag=True, help="Also compare a deployed environment with the graph.")
@click.option(
    "--limit",
    type=click.FloatRange(min=0.1),
    default=20.0,
    metavar="SECONDS",
    help="How long to wait for each check.",
)
def doctor(context: Context, cloud: bool, limit: float) -> ExitCode:
    """Check the installation, the settings and the connections.

    The checks cover packages and programs, the graph and its code, catalogue, artifacts, ledger,
    emulators and disk space; each fault comes with a hint. --cloud also checks that a deployed
    environment has what the graph needs: topics, subscriptions, indexes, and records of runs.
    Nothing is changed.
    """
    from segue_cli.health_checks.check import run_checks
    from segue_cli.health_checks.cloud import list_cloud_checks
    from segue_cli.health_checks.installed import list_installed_checks
    from segue_cli.health_checks.places import list_place_checks

    checks = [*list_installed_checks(), *list_place_checks(context.settings)]
    if cloud:
        checks += list_cloud_checks(context.settings)
    found = run_checks(checks, limit_s=limit)
    faults = sum(result.status == "fault" for _, result in found)
    if context.output.as_json:
        findings = [
            {
                "group": check.group,
                "name": check.name,
                "status": result.status,
                "detail": result.detail,
                "remedy": result.hint or None,
            }
            for check, result in found
        ]
        context.output.write_json({"ok": faults == 0, "findings": findings})
    else:
        context.output.print(*_render(found, faults))
    return ExitCode.ERROR if faults else ExitCode.OK


def _render(found: Sequence[tuple[Check, CheckResult]], faults: int) -> Iterator[RenderableType]:
    from rich.table import Table
    from rich.text import Text

    rows = Table.grid(padding=(0, 2, 0, 0))
    rows.add_column(no_wrap=True)
    rows.add_column(no_wrap=True)
    rows.add_column(overflow="fold")
    for group, some in groupby(found, key=lambda one: one[0].group):
        if rows.row_count:
            rows.add_row("")
        rows.add_row("", Text(group, style="bold"))
        for check, result in some:
            said = Text("\n".join(map(escape, result.detail.splitlines())))
            if result.hint:
                said.append(f"\n→ {result.hint}", style="cyan")
            mark, style = MARKS[result.status]
            rows.add_row(Text(mark, style=style), check.name, said)
    yield rows
    yield Text()
    if faults:
        yield Text(f"{text.format_count(faults, 'fault')}.", style="bold red")
    else:
        yield Text("No faults found.", style="green")
