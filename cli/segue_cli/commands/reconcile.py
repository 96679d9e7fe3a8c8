"""``segue reconcile``: find and mend what events that never came have left undone."""

from __future__ import annotations

import contextlib
import logging
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segue.errors import ConfigurationError
from segue.maintenance.discrepancy import Kind
from segue.model.location import location_of
from segue_cli.command import command
from segue_cli.context import Context
from segue_cli.parameters import Yes, seconds_of
from segue_cli.selection import Prefix, existing
from segue_cli.views import text
from segue_cli.views.table import table

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions
    from rich.console import RenderableType

    from segue_pipelines.reconcile.pipeline import Reconcile
    from segue_pipelines.reconcile.tally import Reconciled

MEANINGS = {
    Kind.UNRECORDED: "there, but never recorded",
    Kind.OVERWRITTEN: "overwritten since it was recorded",
    Kind.UNSTARTED: "recorded, but never begun",
    Kind.GONE: "recorded, but no longer there",
}
MENDED = {
    Kind.UNRECORDED: "recorded, and its jobs told",
    Kind.OVERWRITTEN: "recorded anew, and its jobs told",
    Kind.UNSTARTED: "its jobs told again",
    Kind.GONE: "marked as deleted",
}

OlderThan = Annotated[
    str,
    typer.Option(
        "--older-than",
        metavar="SPAN",
        help="Tell again of a file that nobody began with if it was recorded so long ago, such "
        "as 90m, 12h or 1d.",
        show_default=True,
    ),
]
Apply = Annotated[bool, typer.Option("--apply", help="Mend it; without, it is only counted.")]
AllowEmpty = Annotated[
    bool,
    typer.Option(
        "--allow-empty",
        help="Believe it if there is nothing at all: all files of the ledger are gone, then.",
    ),
]


@command(
    settings=("graph", "catalogue", "artifacts", "ledger", "queue"),
    examples=(
        "segue reconcile",
        "segue reconcile --prefix gs://acme/masters/ --apply",
        "segue reconcile --apply --yes --runner DataflowRunner --project acme",
    ),
    takes_more=True,
)
def reconcile(
    context: Context,
    ctx: typer.Context,
    prefix: Prefix = None,
    older_than: OlderThan = "1h",
    apply: Apply = False,
    yes: Yes = False,
    allow_empty: AllowEmpty = False,
) -> None:
    """Hold the catalogue against the ledger, for events that never came.

    Files that the ledger does not know in their newest version are recorded, and their jobs are
    told, as an arrival does; files with which nobody began are told of again; files that are gone
    are marked as deleted, and 'segue gc' then removes what was made of them. Nothing is changed
    unless --apply is given: counts are shown first, and confirmed. Options that are not its own are
    Beam's, such as --runner.
    """
    from segue_pipelines.options import pipeline_options

    grace = timedelta(seconds=seconds_of(older_than, "--older-than"))
    options = pipeline_options(ctx.args, [o for p in ctx.command.params for o in p.opts])
    if apply and not yes and not sys.stdin.isatty():
        raise ConfigurationError(
            "--apply asks before it changes anything, and there is no terminal to ask in; say --yes"
        )
    run = _run_of(context, prefix, grace=grace, allow_empty=allow_empty)
    mended = apply and yes
    found = _run_with_progress(context, replace(run, dry_run=not mended), options)
    if apply and not yes and found.files:
        for part in _counted(found, MEANINGS):
            context.output.talk.print(part)
        typer.confirm("Mend this?", abort=True, err=True)
        found = _run_with_progress(context, replace(run, dry_run=False), options)
        mended = True
    if context.output.as_json:
        context.output.json(_document(found, dry_run=not mended))
    else:
        context.output.print(*_drawn(found, mended=mended))


def _run_of(
    context: Context, prefix: str | None, *, grace: timedelta, allow_empty: bool
) -> Reconcile:
    from segue_pipelines.reconcile.pipeline import Reconcile

    graph = context.graph
    place = prefix or graph.catalogue
    if place is None:
        raise ConfigurationError(
            "no files are named; name a folder or gs:// prefix with --prefix, or a catalogue with "
            "SEGUE_CATALOGUE"
        )
    return Reconcile(
        graph=graph,
        prefix=existing(place),
        not_below=(location_of(graph.artifacts), location_of(".segue")),
        ledger=context.settings.ledger,
        queue=context.settings.queue,
        started_at=datetime.now(UTC),
        grace=grace,
        allow_empty=allow_empty,
    )


def _run_with_progress(context: Context, run: Reconcile, options: PipelineOptions) -> Reconciled:
    """Run the pipeline, and say in a terminal how far it is where the workers are on this machine.

    A remote runner says of its job what there is to see.
    """
    from segue_pipelines.options import is_local
    from segue_pipelines.reconcile.pipeline import execute

    if not is_local(options):
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        return execute(run, options)
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)  # its errors are told by us
    if not context.output.talk.is_terminal:
        return execute(run, options)
    with (
        tempfile.TemporaryDirectory(prefix="segue-progress-") as folder,
        _progress(context, folder),
    ):
        return execute(replace(run, progress=folder), options)


@contextlib.contextmanager
def _progress(context: Context, folder: str) -> Iterator[None]:
    """Say how many files have been compared."""
    from segue_pipelines.progress import read_progress

    done = threading.Event()
    with context.output.talk.status("") as status:

        def follow() -> None:
            while not done.wait(0.25):
                status.update(f"{text.count(read_progress(folder).files, 'file')} compared")

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def _counted(found: Reconciled, meanings: dict[Kind, str]) -> Iterator[RenderableType]:
    """How many files of each kind, with the names of some."""
    from rich.text import Text

    rows = table(">files", "what", "such as")
    for kind in Kind:
        if n := found.files[kind]:
            first, *more = found.samples.get(kind) or [""]
            rows.add_row(f"{n:,}", meanings[kind], text.printable(first))
            for uri in more:
                rows.add_row("", "", text.printable(uri))
    yield rows
    yield Text()


def _drawn(found: Reconciled, *, mended: bool) -> Iterator[RenderableType]:
    from rich.text import Text

    looked_at = f"{text.count(found.listed, 'file')} there, {found.recorded:,} recorded"
    if found.left_out:
        names = text.count(found.left_out, "file")
        yield Text(f"Left out: {names} whose names are no text.", style="yellow")
    if not found.files:
        yield Text(f"Nothing to mend: {looked_at}.")
        return
    yield from _counted(found, MENDED if mended else MEANINGS)
    total = text.count(found.files.total(), "file")
    if mended:
        yield Text(f"Mended {total}; {looked_at}.")
    else:
        yield Text(f"{total} to mend; {looked_at}. Say --apply to mend them.")


def _document(found: Reconciled, *, dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "listed": found.listed,
        "recorded": found.recorded,
        "left_out": found.left_out,
        "kinds": {
            kind: {"files": found.files[kind], "samples": found.samples.get(kind, [])}
            for kind in Kind
        },
        "total": found.files.total(),
    }
