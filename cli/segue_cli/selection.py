"""The options that ``plan`` and ``backfill`` share: which files, and which jobs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from segue.errors import ConfigurationError
from segue.model.location import prefix_uri
from segue_cli.context import Context
from segue_cli.parameters import complete_job, known_jobs

if TYPE_CHECKING:
    from segue.model.graph import Graph
    from segue.model.ledger_query import LedgerQuery
    from segue_pipelines.backfill import Backfill

Prefix = Annotated[
    str | None,
    typer.Option(
        "--prefix",
        metavar="PLACE",
        help="Files below a folder or gs:// prefix. By default, the whole catalogue.",
    ),
]
Uris = Annotated[
    str | None,
    typer.Option(
        "--uris", metavar="FILE", help="Files listed in a text file, a URI or path a line."
    ),
]
FromLedger = Annotated[
    str | None,
    typer.Option(
        "--from-ledger",
        metavar="failed|stale|missing|all",
        help="Files that the ledger knows, without listing the catalogue: on which something "
        "failed, whose jobs were changed since, or were never run; or all.",
    ),
]
Jobs = Annotated[
    list[str] | None,
    typer.Option(
        "--job",
        metavar="JOB",
        autocompletion=complete_job,
        help="A job to bring up to date, with what is missing above it. May be repeated.",
    ),
]
All = Annotated[bool, typer.Option("--all", help="Bring all jobs of the graph up to date.")]
Limit = Annotated[
    int | None, typer.Option("--limit", min=1, metavar="N", help="Look at no more than N files.")
]
Sample = Annotated[
    str | None,
    typer.Option(
        "--sample",
        metavar="SHARE",
        help="Look at a share of the files, such as 1% or 0.01: the same ones each time.",
    ),
]
Force = Annotated[
    bool,
    typer.Option(
        "--force", help="Compute the jobs even if they are current; not what is above them."
    ),
]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Try again what failed before.")]


def targets_of(graph: Graph, jobs: list[str] | None, *, everything: bool) -> tuple[str, ...]:
    """The jobs that are named, in the graph's order."""
    if everything and jobs:
        raise ConfigurationError("--all means all jobs; leave it out, or leave out --job")
    if everything:
        return tuple(graph.jobs)
    if not jobs:
        raise ConfigurationError(
            f"no job is named; name some of {', '.join(graph.jobs)} with --job, or all with --all"
        )
    return known_jobs(graph, jobs)


def run_of(
    context: Context,
    *,
    prefix: str | None,
    uris: str | None,
    from_ledger: str | None,
    jobs: list[str] | None,
    everything: bool,
    force: bool,
    retry_failed: bool,
    limit: int | None,
    sample: str | None,
    dry_run: bool,
    processes: int | None = None,
) -> Backfill:
    """The run that the options mean."""
    from segue.model.location import location_of
    from segue_pipelines.backfill import Backfill
    from segue_pipelines.sources import Selection

    graph = context.graph
    targets = targets_of(graph, jobs, everything=everything)
    if uris is not None and (prefix is not None or from_ledger is not None):
        raise ConfigurationError(
            "--uris names the files by itself; leave --prefix and --from-ledger out"
        )
    query = _query(graph, targets, from_ledger)
    place = prefix or graph.catalogue
    if place is None and uris is None and query is None:
        raise ConfigurationError(
            "no files are named; name a folder or gs:// prefix with --prefix, or a catalogue with "
            "SEGUE_CATALOGUE"
        )
    artifacts = location_of(graph.artifacts)
    return Backfill(
        graph=graph,
        selection=Selection(
            prefix=existing(place) if place is not None and uris is None else None,
            uris=uris,
            ledger=query,
            include=graph.include,
            # What we made ourselves is no media: neither artifacts nor anything else in .segue.
            exclude=(artifacts.rstrip("/") + "/", location_of(".segue") + "/"),
            limit=limit,
            sample=share_of(sample, "--sample") if sample is not None else None,
        ),
        targets=targets,
        ledger=context.settings.ledger,
        artifacts=artifacts,
        force=force,
        retry=retry_failed or from_ledger == "failed",
        dry_run=dry_run,
        processes=processes,
    )


def _query(graph: Graph, targets: tuple[str, ...], what: str | None) -> LedgerQuery | None:
    from segue.model.ledger_query import WHATS, LedgerQuery

    if what is None:
        return None
    known = next((w for w in WHATS if w == what), None)
    if known is None:
        raise ConfigurationError(f"--from-ledger is {what!r}; write one of {', '.join(WHATS)}")
    return LedgerQuery(what=known, graph=graph, targets=targets)


def existing(place: str) -> str:
    """The URI prefix that a place means; one on this machine must be the beginning of something."""
    uri = prefix_uri(place)
    path = uri.removeprefix("file://")
    if uri.startswith("file://") and not os.path.exists(path):
        folder, begin = os.path.split(path)
        names = os.listdir(folder) if os.path.isdir(folder) else []
        if not begin or not any(name.startswith(begin) for name in names):
            raise ConfigurationError(
                f"nothing is at {place!r}, nor does any name begin so; look at the path"
            )
    return uri


def share_of(text: str, option: str) -> float:
    """Read a share: ``1%`` or ``0.01``."""
    try:
        share = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ConfigurationError(f"{option} is {text!r}; write a share such as 1% or 0.01")
    return share
