"""``segue doctor``: check the installation, the settings and the connections."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer

from segue_cli.command import command
from segue_cli.context import Context
from segue_cli.exit_code import ExitCode
from segue_cli.views import text

if TYPE_CHECKING:
    from rich.console import RenderableType

    from segue_cli.health_checks.check import Finding

MARKS = {"ok": ("✓", "green"), "note": ("·", "yellow"), "fault": ("✗", "bold red")}

Limit = Annotated[
    float,
    typer.Option(
        "--limit",
        metavar="SECONDS",
        min=0.1,
        help="How long to wait for each check.",
        show_default=True,
    ),
]
Cloud = Annotated[
    bool,
    typer.Option("--cloud", help="Also compare a deployed environment with the graph."),
]


@command(
    settings=("graph", "catalogue", "artifacts", "ledger", "queue"),
    examples=(
        "segue doctor",
        "segue doctor --ledger firestore://acme --limit 5 --json",
        "segue doctor --cloud --queue pubsub://acme --ledger firestore://acme/segue",
    ),
)
def doctor(context: Context, cloud: Cloud = False, limit: Limit = 20.0) -> ExitCode:
    """Check the installation, the settings and the connections.

    The checks cover packages and programs, the graph and its code, catalogue, artifacts, ledger,
    emulators and disk space; each fault comes with a hint. --cloud also checks that a deployed
    environment has what the graph needs: topics, subscriptions, indexes, and request documents.
    Nothing is changed.
    """
    from segue_cli.health_checks.check import CheckStatus, run_checks
    from segue_cli.health_checks.cloud import list_cloud_checks
    from segue_cli.health_checks.installed import list_installed_checks
    from segue_cli.health_checks.places import list_place_checks

    checks = [*list_installed_checks(), *list_place_checks(context.settings)]
    if cloud:
        checks += list_cloud_checks(context.settings)
    findings = run_checks(checks, limit_s=limit)
    faults = sum(f.result.status is CheckStatus.FAULT for f in findings)
    if context.output.as_json:
        context.output.write_json(
            {
                "ok": faults == 0,
                "findings": [
                    {
                        "group": f.group,
                        "name": f.name,
                        "status": f.result.status,
                        "detail": f.result.detail,
                        "remedy": f.result.hint or None,
                    }
                    for f in findings
                ],
            }
        )
    else:
        context.output.print(*_render(findings, faults))
    return ExitCode.ERROR if faults else ExitCode.OK


def _render(findings: Sequence[Finding], faults: int) -> list[RenderableType]:
    from rich.table import Table
    from rich.text import Text

    rows = Table.grid(padding=(0, 2, 0, 0))
    rows.add_column(no_wrap=True)
    rows.add_column(no_wrap=True)
    rows.add_column(overflow="fold")
    for group, some in groupby(findings, key=lambda f: f.group):
        if rows.row_count:
            rows.add_row("")
        rows.add_row("", Text(group, style="bold"))
        for finding in some:
            result = finding.result
            said = Text("\n".join(map(text.escape, result.detail.splitlines())))
            if result.hint:
                said.append(f"\n→ {result.hint}", style="cyan")
            mark, style = MARKS[result.status]
            rows.add_row(Text(mark, style=style), finding.name, said)
    if faults:
        end = Text(f"{text.format_count(faults, 'fault')}.", style="bold red")
    else:
        end = Text("No faults found.", style="green")
    return [rows, Text(), end]
