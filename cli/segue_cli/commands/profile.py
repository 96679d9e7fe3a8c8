"""``segue profile``: show where a job's time and memory go."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click
import msgspec

from segue import text
from segue.extras import require
from segue.ingest.catalogue import find_media
from segue.worker.pool import ENVIRONMENT
from segue_cli.command import Context, command, complete_path
from segue_cli.parameters import complete_job
from segue_cli.views.output import build_table, write_file

if TYPE_CHECKING:
    from rich.console import RenderableType

    from segue.execution.job_profile import JobProfile

ROWS = 12


@command(
    settings=("graph", "catalogue", "models"),
    examples=(
        "segue profile beats music/song.flac",
        "segue profile beats music/one.flac music/two.flac -o beats.speedscope.json",
    ),
)
@click.argument("job", help="A job of the graph.  [required]", shell_complete=complete_job)
@click.argument(
    "files",
    nargs=-1,
    required=True,
    metavar="FILE...",
    help="Paths, URIs (gs://bucket/name), or paths relative to the catalogue.  [required]",
    shell_complete=complete_path,
)
@click.option(
    "--output",
    "-o",
    metavar="FILE",
    help="Also write all stacks, of time and of memory, to a file that speedscope.app opens.",
    shell_complete=complete_path,
)
@click.option(
    "--rows",
    type=click.IntRange(min=1),
    default=ROWS,
    metavar="N",
    help="How many functions and lines to show.",
)
def profile(
    context: Context, job: str, files: tuple[str, ...], output: str | None, rows: int
) -> None:
    """Show where a job's time and memory go.

    The job runs on each file three times, with one thread, as in a worker: to load what it needs,
    to sample what it executes every millisecond, and to record what it allocates. The jobs that it
    depends on run before it, and are not part of the profile. Nothing is recorded.
    """
    from segue.execution.trial_run import subgraph_for

    require("profiling a job", "profile", "audio")
    os.environ.update(ENVIRONMENT)  # before libraries that read it are imported
    graph = context.graph
    (name,) = graph.select([job])
    part = subgraph_for(graph, name, {})
    media = [find_media(file, graph.catalogue) for file in files]
    from segue.execution.job_profile import profile_job

    context.output.note(f"Profiling {name} on {text.format_count(len(media), 'file')}")
    found = profile_job(part, name, media)
    if output is not None:
        write_file(output, found.speedscope.encode())
    if context.output.as_json:
        context.output.write_json({**_to_json(found), "output": output})
    else:
        context.output.print(*_render(found, rows))
        if output is not None:
            context.output.note(f"Wrote {output}; open it at https://www.speedscope.app")


def _to_json(found: JobProfile) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.to_builtins(found)
    del document["speedscope"]  # a file of its own
    return document


def _render(found: JobProfile, rows: int) -> Iterator[RenderableType]:
    call = text.format_duration(found.call_s)
    yield (
        f"{found.job}: {call} a call; the first one took {text.format_duration(found.first_s)}, "
        f"setup {text.format_duration(found.setup_s)}"
    )
    yield ""
    whole_s = sum(function.self_s for function in found.functions)
    times = build_table(">self", ">of all", ">with calls", "function", "where")
    for function in found.functions[:rows]:
        times.add_row(
            text.format_duration(function.self_s),
            text.format_fraction(function.self_s / whole_s if whole_s else 0.0),
            text.format_duration(function.total_s),
            function.function,
            function.place,
        )
    yield times
    yield ""
    yield f"A call allocates {text.format_size(found.peak_bytes)} at once at most. At its peak:"
    memory = build_table(">size", ">of all", "function", "where")
    for place in found.memory[:rows]:
        share = place.size_bytes / found.peak_bytes if found.peak_bytes else 0.0
        memory.add_row(
            text.format_size(place.size_bytes),
            text.format_fraction(share),
            place.function,
            place.place,
        )
    yield memory
