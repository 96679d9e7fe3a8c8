"""``segue doctor``: what is installed, and what can be reached."""

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
        help="How long to wait for answers.",
        show_default=True,
    ),
]
Cloud = Annotated[
    bool,
    typer.Option("--cloud", help="Hold a deployed environment against the graph, too."),
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
    """Check what is installed, and what can be reached.

    Packages and programs with their versions, the graph and its code, catalogue, artifacts and
    ledger, emulators, room on the disk; and what to do about what is missing. With --cloud also
    whether an environment has what the graph needs: topics, subscriptions, indexes, and the
    documents of requests. Nothing is changed.
    """
    from segue_cli.health_checks.check import Status, look_at
    from segue_cli.health_checks.cloud import cloud as deployed
    from segue_cli.health_checks.installed import installed
    from segue_cli.health_checks.places import places

    looks = [*installed(), *places(context.settings)]
    if cloud:
        looks += deployed(context.settings)
    findings = look_at(looks, limit_s=limit)
    faults = sum(f.seen.status is Status.FAULT for f in findings)
    if context.output.as_json:
        context.output.json(
            {
                "ok": faults == 0,
                "findings": [
                    {
                        "group": f.group,
                        "name": f.name,
                        "status": f.seen.status,
                        "detail": f.seen.detail,
                        "remedy": f.seen.remedy or None,
                    }
                    for f in findings
                ],
            }
        )
    else:
        context.output.print(*_drawn(findings, faults))
    return ExitCode.ERROR if faults else ExitCode.OK


def _drawn(findings: Sequence[Finding], faults: int) -> list[RenderableType]:
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
            seen = finding.seen
            said = Text("\n".join(map(text.printable, seen.detail.splitlines())))
            if seen.remedy:
                said.append(f"\n→ {seen.remedy}", style="cyan")
            mark, style = MARKS[seen.status]
            rows.add_row(Text(mark, style=style), finding.name, said)
    if faults:
        end = Text(f"{text.count(faults, 'fault')}.", style="bold red")
    else:
        end = Text("All that is needed is there.", style="green")
    return [rows, Text(), end]
