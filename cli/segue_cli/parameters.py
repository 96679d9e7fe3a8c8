"""The parameters that several commands share."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from segue.errors import ConfigurationError, Kind

if TYPE_CHECKING:
    from segue.model.graph import Graph


SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def complete_job(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Offer the jobs of the graph that the command line means so far."""
    from segue.model.settings import Settings
    from segue.stack import load_graph

    try:
        graph = load_graph(Settings.of(graph=ctx.params.get("graph")))
    except ConfigurationError:
        return []
    jobs = graph.jobs.values()
    return [(j.name, j.description) for j in jobs if j.name.startswith(incomplete)]


Jobs = Annotated[
    list[str] | None,
    typer.Option(
        "--job",
        metavar="JOB",
        help="Only this job; can be given several times.  [default: all]",
        autocompletion=complete_job,
    ),
]
Prefix = Annotated[
    str | None,
    typer.Option(
        "--prefix",
        metavar="URI",
        help="Only files below this URI or folder.  [default: all in the ledger]",
    ),
]
Kinds = Annotated[
    list[str] | None,
    typer.Option(
        "--kind",
        metavar="KIND",
        help=f"Only failures of this kind; can be given several times: {', '.join(Kind)}.  "
        "[default: all]",
        autocompletion=lambda incomplete: [k for k in Kind if k.startswith(incomplete)],
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")]
File = Annotated[
    str,
    typer.Argument(
        metavar="FILE",
        help="A path, a URI (gs://bucket/name), or a name below the catalogue.",
        show_default=False,
    ),
]
AskedFiles = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="FILE",
        help="Paths, URIs (gs://bucket/name), or names below the catalogue.",
        show_default=False,
    ),
]
AskedPrefix = Annotated[
    str | None,
    typer.Option("--prefix", metavar="PLACE", help="All files below a folder or gs:// prefix."),
]
TargetJobs = Annotated[
    list[str] | None,
    typer.Option(
        "--job",
        metavar="JOB",
        autocompletion=complete_job,
        help="A job whose result is wanted, with what is missing above it. May be repeated.",
    ),
]
Timeout = Annotated[
    str | None,
    typer.Option(
        "--timeout", metavar="SPAN", help="Wait so long and no longer, such as 90s or 1h."
    ),
]


def known_jobs(graph: Graph, names: Iterable[str] | None) -> tuple[str, ...]:
    """Return the jobs that are meant, in topological order: all of the graph, if none is named."""
    wanted = set(names or graph.jobs)
    for name in sorted(wanted - set(graph.jobs)):
        raise ConfigurationError(
            f"{name!r} is no job of this graph; {guess(name, list(graph.jobs))}"
        )
    return tuple(name for name in graph.jobs if name in wanted)


def known_kinds(names: Iterable[str] | None) -> frozenset[str]:
    """Return the kinds of failures that are meant; none means all."""
    for name in names or ():
        if name not in set(Kind):
            raise ConfigurationError(f"{name!r} is no kind of failure; {guess(name, list(Kind))}")
    return frozenset(names or ())


def guess(word: str, known: Sequence[str]) -> str:
    """Say which known word was meant, or list them."""
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean '{close[0]}'?" if close else f"use one of {', '.join(known)}"


def seconds_of(span: str, option: str) -> float:
    """Read a span of time such as ``90s``, ``12h`` or ``2w``."""
    number, unit = span[:-1], span[-1:]
    if unit in SECONDS and number.isdecimal():
        return float(number) * SECONDS[unit]
    raise ConfigurationError(
        f"{option} is {span!r}, which is no span of time; write a whole number and one of "
        f"{', '.join(SECONDS)}, such as 12h"
    )
