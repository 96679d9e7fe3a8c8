"""``segue test``: try jobs as the system would run them, on several files and several times."""

from __future__ import annotations

import contextlib
import os
import tempfile
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click
import msgspec

from segue import text
from segue.errors import ConfigurationError
from segue.extras import require
from segue.ingest.catalogue import find_media
from segue.model.job_code import check_code
from segue.model.media_file import MediaFile
from segue_cli.command import Context, command, complete_path
from segue_cli.exit_code import ExitCode
from segue_cli.parameters import complete_job
from segue_cli.views.output import build_table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from segue.execution.job_check import GraphCheck, JobCheck


@command(
    settings=("graph", "catalogue", "models"),
    examples=(
        "segue test",
        "segue test brightness",
        "segue test brightness --file music/song.flac --file music/speech.mp3",
    ),
)
@click.argument(
    "jobs",
    nargs=-1,
    metavar="[JOB]...",
    help="The jobs; those that they need are tested, too.  [default: all]",
    shell_complete=complete_job,
)
@click.option(
    "--file",
    "files",
    multiple=True,
    metavar="FILE",
    help="A file to try them on, as a path or URI. May be repeated; name some that differ.  "
    "[default: sounds that are made: music, silence, a click, a tone at 8 kHz; and a picture]",
    shell_complete=complete_path,
)
def test(context: Context, jobs: tuple[str, ...], files: tuple[str, ...]) -> ExitCode:
    """Try jobs as the system would run them, on several files and several times.

    Each file is processed three times, in real workers with their limits of time and memory: after
    others in one process, and twice in a process of its own. The command reports jobs that fail,
    that give another result in another run or after other files, or whose results are not what
    their code declares; and it warns of slow imports, competing threads and calls near the
    timeout. Nothing is recorded.
    """
    from segue.execution.job_check import check_jobs
    from segue.execution.trial_run import subgraph_for

    require("trying jobs", "audio")
    graph = context.graph
    for name in jobs:
        if name not in graph.jobs and os.path.isfile(name):
            raise ConfigurationError(
                f"{name!r} is a file, not a job; name files with --file, as in: "
                f"{context.format_command('test', '--file', name)}"
            )
    chosen = graph.select(jobs)
    line = {name: graph.jobs[name] for name in graph.jobs if name in graph.add_ancestors(chosen)}
    part = replace(graph, jobs=line)
    check_code(part)
    for name in chosen:
        subgraph_for(part, name, {})  # its models are there
    with contextlib.ExitStack() as stack:
        media = (
            [find_media(file, graph.catalogue) for file in files]
            if files
            else make_files(stack.enter_context(tempfile.TemporaryDirectory(prefix="segue-")))
        )
        found = check_jobs(part, media, context.output.note)
    if context.output.as_json:
        context.output.write_json(_to_json(found, media))
    else:
        context.output.print(*_render(found, media))
    return ExitCode.ERROR if any(job.faults for job in found.jobs) else ExitCode.OK


def make_files(folder: str) -> list[MediaFile]:
    """Make some files that differ: music, silence, a click, a tone at 8 kHz, and a picture."""
    import numpy as np
    from PIL import Image

    from segue.testing.music import music
    from segue.testing.sound import silence, tone, write

    sounds = {
        "music.flac": music(1, duration_s=10.0),
        "silence.wav": silence(2.0),
        "click.wav": tone(1000.0, 0.05, channels=2),
        "tone 8 kHz.wav": tone(440.0, 3.0, sr=8000),
        "music again.mp3": music(2, bpm=97.0, duration_s=8.0),
    }
    paths = [write(sound, os.path.join(folder, name)) for name, sound in sounds.items()]
    pixels = np.random.default_rng(1).integers(0, 255, (48, 64, 3), np.uint8)
    paths.append(os.path.join(folder, "picture.png"))
    Image.fromarray(pixels).save(paths[-1])
    return [find_media(path, None) for path in paths]


def _to_json(found: GraphCheck, media: Sequence[MediaFile]) -> dict[str, Any]:
    return {"files": [one.uri for one in media], **msgspec.to_builtins(found)}


def _render(found: GraphCheck, media: Sequence[MediaFile]) -> Iterator[RenderableType]:
    table = build_table(
        "job", "result", ">done", ">not for", ">first call", ">longest", ">CPU", ">import"
    )
    for job in found.jobs:
        table.add_row(
            job.job,
            "FAULTS" if job.faults else "warnings" if job.warnings else "ok",
            f"{job.done}",
            f"{job.not_applicable or '·'}",
            *(
                "·" if seconds is None else text.format_duration(seconds)
                for seconds in (job.first_seconds, job.seconds, job.cpu_seconds, job.import_s)
            ),
        )
    yield table
    for job in found.jobs:
        yield from _render_findings(job)
    files = text.format_count(len(media), "file")
    yield ""
    yield f"{files}, three times. The largest process took {text.format_size(found.peak_bytes)}."


def _render_findings(job: JobCheck) -> Iterator[RenderableType]:
    from rich.text import Text

    if job.faults or job.warnings:
        yield ""
        yield Text(job.job, "bold")
    for fault in job.faults:
        yield Text.assemble(("  ✗ ", "red"), fault)
    for traceback in job.tracebacks:
        yield Text(textwrap.indent(traceback.rstrip(), "    "), "dim")
    for warning in job.warnings:
        yield Text.assemble(("  ! ", "yellow"), warning)
