"""``segue show``: show the results of one file as values."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click
import msgspec

from segue import text
from segue.codec import decode, find_extension
from segue.errors import ConfigurationError
from segue.extras import require
from segue.printable import escape
from segue.reports.explanation import find_file
from segue.reports.results import (
    ArtifactReader,
    FileResult,
    check_reference,
    list_references,
    select_results,
)
from segue_cli.command import Context, command
from segue_cli.commands.export import complete_reference
from segue_cli.exit_code import ExitCode
from segue_cli.parameters import file_argument
from segue_cli.views.output import write_file
from segue_cli.views.values import JSON, render_value, summarize

if TYPE_CHECKING:
    from rich.console import RenderableType

    from segue.ingest.observation import Look
    from segue.model.record import Record

ROWS = 10
MAX_STEM = 40  # characters of a file's name; with what follows, a name may have 255 bytes


@command(
    settings=("graph", "catalogue", "artifacts", "ledger"),
    examples=(
        "segue show music/song.flac",
        "segue show music/song.flac beats key",
        "segue show music/song.flac spectrogram --open",
        "segue show gs://acme-audio/masters/song.flac loudness --json",
    ),
)
@file_argument
@click.argument(
    "jobs",
    nargs=-1,
    metavar="[JOB]...",
    help="The jobs; of one with several outputs, an output, as JOB.OUTPUT.  [default: all]",
    shell_complete=complete_reference,
)
@click.option(
    "--rows",
    type=click.IntRange(min=1),
    default=ROWS,
    metavar="N",
    help="How many rows of a table to show.",
)
@click.option(
    "--open",
    "opens",
    is_flag=True,
    help="Open the result of the named job in the program for its type, such as a picture viewer.",
)
def show(context: Context, file: str, jobs: tuple[str, ...], rows: int, opens: bool) -> None:
    """Show the results of one file as values.

    Only results that are current are shown: of the file as it is now, and of the jobs as the graph
    has them. Long lists of numbers are shown as their range and a curve; 'segue export' writes all
    values of many files.
    """
    require("reading results", "audio")
    if opens and len(jobs) != 1:
        raise ConfigurationError("--open opens one result; name one job")
    graph = context.graph
    references = [check_reference(graph, name) for name in jobs] or list_references(graph)
    with context.open() as stack:
        look, record = find_file(stack, file)
    results: Mapping[str, FileResult] = {}
    if record is not None and record.deleted_at is None and _is_same(look, record):
        reader = ArtifactReader(graph.artifacts)
        results = select_results(graph, record, references, reader).results
    missing = [name for name in references if name not in results] if jobs else []
    if opens and results:
        _open(context, results[references[0]])
    elif context.output.as_json:
        context.output.write_json(
            {"uri": look.uri, "results": {k: _to_json(r) for k, r in results.items()}}
        )
    else:
        context.output.print(escape(look.uri), *_render(results, rows))
    if missing or not results:
        what = f"of {', '.join(missing)}" if missing else "of any job"
        explain = context.format_command("explain", file)
        context.output.note(f"No current result {what}; to see why: {explain}")
        raise SystemExit(ExitCode.UNFINISHED)


def _is_same(look: Look, record: Record) -> bool:
    """Whether the file is what the ledger says, as far as it can be seen."""
    return look.media is None or look.media.version == record.version


def _to_json(result: FileResult) -> dict[str, Any]:
    data = result.read()
    value = decode(result.content_type, data)
    return {
        "version": result.version,
        "fingerprint": result.fingerprint,
        "finished_at": msgspec.to_builtins(result.finished_at),
        "artifact": result.artifact,
        "value": value
        if result.content_type == JSON
        else summarize(result.content_type, len(data), value),
    }


def _render(results: Mapping[str, FileResult], rows: int) -> Iterator[RenderableType]:
    from rich.text import Text

    for reference, result in results.items():
        yield ""
        when = text.format_time(result.finished_at) if result.finished_at else ""
        yield Text.assemble((reference, "bold"), f"  {when}")
        data = result.read()
        value = decode(result.content_type, data)
        yield from render_value(result.content_type, len(data), value, rows)


def _open(context: Context, result: FileResult) -> None:
    """Open a copy of an artifact, under a name that says what it is of."""
    stem = os.path.splitext(os.path.basename(result.uri))[0][:MAX_STEM]
    parts = (stem, result.job, result.output, find_extension(result.content_type))
    path = os.path.join(tempfile.mkdtemp(prefix="segue-"), ".".join(filter(None, parts)))
    write_file(path, result.read())
    # On Linux, what starts the program returns at once, and tells whether there is one.
    if click.launch(path, wait=sys.platform == "linux") != 0:
        raise ConfigurationError(
            f"no program opens {escape(path)} here; open it elsewhere, or read it with "
            "'segue show' or segue.results()"
        )
    context.output.note(f"Opened {path}, a copy.")
