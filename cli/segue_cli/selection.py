"""The options by which ``plan`` and ``backfill`` select files and jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from segue.errors import ConfigurationError
from segue_cli.context import Context
from segue_cli.parameters import complete_job

if TYPE_CHECKING:
    from segue.model.graph import Graph
    from segue_pipelines.backfill import BackfillRun

Prefix = Annotated[
    str | None,
    typer.Option(
        "--prefix",
        metavar="PREFIX",
        help="Only files below this folder or gs:// prefix.  [default: the whole catalogue]",
    ),
]
Uris = Annotated[
    str | None,
    typer.Option(
        "--uris", metavar="FILE", help="Only files listed in a text file, one URI or path per line."
    ),
]
FromLedger = Annotated[
    str | None,
    typer.Option(
        "--from-ledger",
        metavar="failed|stale|missing|all",
        help="Select files from the ledger instead of listing the catalogue: those with failed "
        "jobs, with stale results, with missing results, or all.",
    ),
]
Jobs = Annotated[
    list[str] | None,
    typer.Option(
        "--job",
        metavar="JOB",
        autocompletion=complete_job,
        help="Compute this job and the missing results it depends on. May be repeated.",
    ),
]
All = Annotated[bool, typer.Option("--all", help="Compute all jobs of the graph.")]
Limit = Annotated[
    int | None, typer.Option("--limit", min=1, metavar="N", help="Process at most N files.")
]
Sample = Annotated[
    str | None,
    typer.Option(
        "--sample",
        metavar="SHARE",
        help="Process a random share of the files, such as 1% or 0.01; the same ones each time.",
    ),
]
Force = Annotated[
    bool,
    typer.Option(
        "--force", help="Recompute the named jobs even if they are current, but not their parents."
    ),
]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Retry jobs that failed before.")]


def select_targets(graph: Graph, jobs: list[str] | None, *, everything: bool) -> tuple[str, ...]:
    """Return the named jobs, or all of them, in topological order."""
    if everything and jobs:
        raise ConfigurationError("--all and --job exclude each other; leave one out")
    if everything:
        return tuple(graph.jobs)
    if not jobs:
        raise ConfigurationError(
            f"no job is named; choose some with --job ({', '.join(graph.jobs)}) or use --all"
        )
    return graph.select(jobs)


def build_backfill(
    context: Context,
    *,
    jobs: list[str] | None,
    everything: bool,
    sample: str | None,
    **options: Any,
) -> BackfillRun:
    """Build the backfill that the options describe; the rest of them go to `build_run`."""
    from segue_pipelines.backfill import build_run

    return build_run(
        context.graph,
        context.settings,
        select_targets(context.graph, jobs, everything=everything),
        sample=parse_share(sample, "--sample") if sample is not None else None,
        **options,
    )


def parse_share(text: str, option: str) -> float:
    """Parse a share such as ``1%`` or ``0.01``."""
    try:
        share = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ConfigurationError(
            f"{option} is {text!r}, which is not a share; write 1% or 0.01, for example"
        )
    return share
