"""The parameters that several commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from segue.errors import ConfigurationError, Kind

if TYPE_CHECKING:
    pass


SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def complete_job(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Complete a job name from the graph that the command line selects."""
    from segue.model.settings import Settings
    from segue.stack import load_graph

    try:
        graph = load_graph(Settings.load(graph=ctx.params.get("graph")))
    except ConfigurationError:
        return []
    jobs = graph.jobs.values()
    return [(j.name, j.description) for j in jobs if j.name.startswith(incomplete)]


Jobs = Annotated[
    list[str] | None,
    typer.Option(
        "--job",
        metavar="JOB",
        help="Only this job. May be repeated.  [default: all]",
        autocompletion=complete_job,
    ),
]
Prefix = Annotated[
    str | None,
    typer.Option(
        "--prefix",
        metavar="URI",
        help="Only files below this URI or folder.  [default: all files in the ledger]",
    ),
]
Kinds = Annotated[
    list[str] | None,
    typer.Option(
        "--kind",
        metavar="KIND",
        help=f"Only failures of this kind: {', '.join(Kind)}. May be repeated.  [default: all]",
        autocompletion=lambda incomplete: [k for k in Kind if k.startswith(incomplete)],
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
File = Annotated[
    str,
    typer.Argument(
        metavar="FILE",
        help="A path, a URI (gs://bucket/name), or a path relative to the catalogue.",
        show_default=False,
    ),
]
RequestFiles = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="FILE",
        help="Paths, URIs (gs://bucket/name), or paths relative to the catalogue.",
        show_default=False,
    ),
]
RequestPrefix = Annotated[
    str | None,
    typer.Option("--prefix", metavar="PREFIX", help="All files below a folder or gs:// prefix."),
]
TargetJobs = Annotated[
    list[str] | None,
    typer.Option(
        "--job",
        metavar="JOB",
        autocompletion=complete_job,
        help="Compute this job and the missing results it depends on. May be repeated.",
    ),
]
Timeout = Annotated[
    str | None,
    typer.Option(
        "--timeout", metavar="DURATION", help="How long to wait at most, such as 90s or 1h."
    ),
]


def parse_duration(text: str, option: str) -> float:
    """Parse a duration such as ``90s``, ``12h`` or ``2w``; return seconds."""
    number, unit = text[:-1], text[-1:]
    if unit in SECONDS and number.isdecimal():
        return float(number) * SECONDS[unit]
    raise ConfigurationError(
        f"{option} is {text!r}, which is not a duration; write a whole number and a unit "
        f"({', '.join(SECONDS)}), such as 12h"
    )
