"""``segue run``: run one job on one file and show the result."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click
import msgspec

from segue import text
from segue.clock import utc_now
from segue.errors import ConfigurationError
from segue.ingest.catalogue import find_media
from segue.model.media_file import MediaFile
from segue.model.record import State
from segue.model.transitions import Result
from segue.model.yaml_document import YamlError, parse_yaml
from segue.printable import encode_json, make_printable
from segue_cli.command import Context, command, complete_path
from segue_cli.exit_code import ExitCode
from segue_cli.parameters import complete_job, file_argument
from segue_cli.views.output import Output, write_file
from segue_cli.views.running import describe_running_job, render_progress
from segue_cli.views.values import describe_artifact, format_summary

if TYPE_CHECKING:
    from segue.worker.running_job import RunningJob

if TYPE_CHECKING:
    from segue.execution.trial_run import TrialRun

STANDARD_OUTPUT = "-"
JSON = "application/json"
NOTE_S = 10.0  # between two lines about how far a job is


@command(
    settings=("graph", "catalogue", "models"),
    examples=(
        "segue run energy music/song.flac",
        "segue run downsample music/song.flac --param sample_rate_hz=16000 --output song.flac",
        "segue run beats gs://acme-audio/masters/song.flac --no-isolation",
    ),
)
@click.argument("job", help="A job of the graph.  [required]", shell_complete=complete_job)
@file_argument
@click.option(
    "--param",
    "params",
    multiple=True,
    metavar="NAME=VALUE",
    help="Override a parameter of the job, as in jobs.yaml. May be repeated.",
)
@click.option(
    "--output",
    "-o",
    metavar="FILE",
    help="Write the result to this file, or to standard output (-); of a job with several outputs, "
    "to this folder.  [default: show JSON, write anything else to a temporary file]",
    shell_complete=complete_path,
)
@click.option(
    "--no-isolation",
    is_flag=True,
    help="Run in this process, for debugging, without a timeout or a memory limit.",
)
def run(
    context: Context,
    job: str,
    file: str,
    params: tuple[str, ...],
    output: str | None,
    no_isolation: bool,
) -> ExitCode:
    """Run one job on one file and show the result.

    Use it to develop a job. The jobs it depends on run as well, and nothing is written to the
    ledger or the artifacts. As in a backfill, each job runs in a child process with a timeout and a
    memory limit, unless --no-isolation is given. Anything the job prints goes to standard error,
    and so does how far it says that it is.
    """
    from segue.execution.trial_run import subgraph_for, try_job

    (name,) = context.graph.select([job])
    part = subgraph_for(context.graph, name, dict(map(_parse_param, params)))
    media = find_media(file, context.graph.catalogue)
    if output == STANDARD_OUTPUT and "" not in part.jobs[name].outputs:
        several = ", ".join(part.jobs[name].outputs)
        raise ConfigurationError(f"{name!r} has several outputs ({several}); name a folder")
    context.output.note(f"Running {', '.join(part.jobs)} on {media.uri}")
    with show_progress(context.output) as show, _redirect_stdout():
        done = try_job(part, name, media, isolated=not no_isolation, show=show)
    for result in done.results.values():
        if result.state is not State.BLOCKED:
            context.output.note(_format_result(result))
    unfinished = next((r for r in done.results.values() if r.state is not State.DONE), None)
    values = {
        each: describe_artifact(done.content_types[each], data)
        for each, data in done.artifacts.items()
    }
    written = _write_artifacts(output, done, media)
    if context.output.as_json:
        context.output.write_json(
            {
                "job": name,
                "uri": media.uri,
                "version": media.version,
                "params": dict(part.jobs[name].params),
                "fingerprint": part.fingerprints[name],
                "results": [
                    {
                        "job": result.job,
                        "state": result.state,
                        "seconds": result.seconds,
                        "cpu_seconds": result.cpu_seconds,
                        "error": msgspec.to_builtins(result.error),
                    }
                    for result in done.results.values()
                ],
                "output": written.get("", written or None),
                "result": values.get("", values or None),
            }
        )
    elif output != STANDARD_OUTPUT:
        for each, value in values.items():
            if each:
                context.output.print(f"{each}:")
            _show_output(context, done.content_types[each], value, written.get(each))
    if unfinished is None or unfinished.state is State.NOT_APPLICABLE:
        return ExitCode.OK
    return ExitCode.ERROR if unfinished.state is State.FAILED else ExitCode.UNAVAILABLE


def _show_output(context: Context, content_type: str, value: Any, written: str | None) -> None:
    if content_type == JSON:
        context.output.print(encode_json(value, indent=2))
        if written is not None:
            context.output.note(f"Wrote {written}")
    else:
        context.output.print(*format_summary(value))
        if written is not None:
            context.output.print(written)


@contextlib.contextmanager
def show_progress(output: Output) -> Iterator[Callable[[Sequence[RunningJob]], None]]:
    """Show how far the jobs say that they are: in a terminal as it changes, else now and then."""
    if not output.stderr.is_terminal:
        yield RunningNotes(output.note).show
        return
    from rich.console import Group
    from rich.live import Live

    with Live(console=output.stderr, auto_refresh=False, transient=True) as live:

        def show(running: Sequence[RunningJob]) -> None:
            told = [job for job in running if job.fraction is not None]
            live.update(Group(*render_progress(told, utc_now(), limit=len(told))), refresh=True)

        yield show


class RunningNotes:
    """Writes a line about the jobs that report progress, once in a while."""

    def __init__(
        self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._write = write
        self._clock = clock
        self._next_s = clock() + NOTE_S

    def show(self, running: Sequence[RunningJob]) -> None:
        """Write what runs if it is time to."""
        told = [describe_running_job(job) for job in running if job.fraction is not None]
        if told and self._clock() >= self._next_s:
            self._next_s = self._clock() + NOTE_S
            self._write("; ".join(told))


def _parse_param(text: str) -> tuple[str, Any]:
    """Parse ``name=value``, the value as in ``jobs.yaml``."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise ConfigurationError(f"--param is {text!r}; write NAME=VALUE, such as start_bpm=100.0")
    try:
        return name, parse_yaml(value).value
    except YamlError as error:
        message = error.faults[0].message
        if "quotes" in message:
            message += f"; for the quotes to pass the shell, write \"{name}='…'\""
        raise ConfigurationError(f"--param {name}: {message}") from error


@contextlib.contextmanager
def _redirect_stdout() -> Iterator[None]:
    """Send anything that a job prints to standard error; standard output is for the result."""
    sys.stdout.flush()
    own = os.dup(1)
    os.dup2(2, 1)
    try:
        said = make_printable(sys.stderr)
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            yield
    finally:
        os.dup2(own, 1)
        os.close(own)


def _format_result(result: Result) -> str:
    """Return how long a job took, and its error if it failed."""
    cpu = text.format_duration(result.cpu_seconds or 0)
    took = f"{text.format_duration(result.seconds or 0)}, {cpu} of CPU"
    if result.error is None:
        return f"{result.job} took {took}"
    if result.state is State.NOT_APPLICABLE:
        return f"{result.job} is not for this file, after {took}:\n  {result.error.message}"
    return f"{result.job} failed after {took}: {result.error.kind}\n  {result.error.message}"


def _write_artifacts(path: str | None, done: TrialRun, media: MediaFile) -> dict[str, str]:
    """Write the artifacts, and return the paths of the files by output.

    The path is that of the file, or of the folder of a job with several outputs; without one, what
    cannot be shown goes to a temporary folder.
    """
    from segue.codec import find_extension

    if path == STANDARD_OUTPUT:
        for data in done.artifacts.values():
            sys.stdout.buffer.write(data)
        return {}
    stem = os.path.splitext(os.path.basename(media.name))[0]
    folder = path if path is not None and "" not in done.content_types else None
    written: dict[str, str] = {}
    for output, data in done.artifacts.items():
        content_type = done.content_types[output]
        if path is None and content_type == JSON:
            continue
        target = path
        if path is None or folder is not None:
            folder = folder or tempfile.mkdtemp(prefix="segue-")
            os.makedirs(folder, exist_ok=True)
            parts = (stem, done.job, output, find_extension(content_type))
            target = os.path.join(folder, ".".join(filter(None, parts)))
        assert target is not None
        write_file(target, data)
        written[output] = os.path.abspath(target)
    return written
