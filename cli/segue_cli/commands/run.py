"""``segue run``: run one job on one file and show the result."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from segue.errors import ConfigurationError
from segue.ingest.media_stat import find_media
from segue.model.media_file import MediaFile
from segue.model.record import State
from segue.model.transitions import Result
from segue_cli.command import command
from segue_cli.context import Context
from segue_cli.exit_code import ExitCode
from segue_cli.files import write_file
from segue_cli.parameters import File, complete_job
from segue_cli.views import text

STANDARD_OUTPUT = "-"

JobName = Annotated[
    str,
    typer.Argument(metavar="JOB", help="A job of the graph.", autocompletion=complete_job),
]
Params = Annotated[
    list[str] | None,
    typer.Option(
        "--param",
        metavar="NAME=VALUE",
        help="Override a parameter of the job, as in jobs.yaml. May be repeated.",
    ),
]
OutputFile = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Write the result to this file, or to standard output (-).  [default: show JSON, "
        "write anything else to a temporary file]",
    ),
]
NoIsolation = Annotated[
    bool,
    typer.Option(
        "--no-isolation",
        help="Run in this process, for debugging, without a timeout or a memory limit.",
    ),
]


@command(
    settings=("graph", "catalogue"),
    examples=(
        "segue run energy music/song.flac",
        "segue run downsample music/song.flac --param sample_rate_hz=16000 --output song.flac",
        "segue run beats gs://acme-audio/masters/song.flac --no-isolation",
    ),
)
def run(
    context: Context,
    job: JobName,
    file: File,
    params: Params = None,
    output_file: OutputFile = None,
    no_isolation: NoIsolation = False,
) -> ExitCode:
    """Run one job on one file and show the result.

    Use it to develop a job. The jobs it depends on run as well, and nothing is written to the
    ledger or the artifacts. As in a backfill, each job runs in a child process with a timeout and a
    memory limit, unless --no-isolation is given. Anything the job prints goes to standard error.
    """
    from segue.execution.trial_run import subgraph_for, try_job
    from segue_cli.views import trial_run as run_view

    (name,) = context.graph.select([job])
    part = subgraph_for(context.graph, name, dict(map(_parse_param, params or ())))
    media = find_media(file, context.graph.catalogue)
    context.output.note(f"Running {', '.join(part.jobs)} on {text.escape(media.uri)}")
    with _redirect_stdout():
        done = try_job(part, name, media, isolated=not no_isolation)
    for result in done.results.values():
        if result.state is not State.BLOCKED:
            context.output.note(run_view.format_result(result))
    failed = next((r for r in done.results.values() if r.state is not State.DONE), None)
    written = None
    content_type = part.jobs[name].writes
    if done.data is not None:
        written = _write_artifact(output_file, done.data, name, media, content_type)
    if context.output.as_json:
        context.output.write_json(
            {
                "job": name,
                "uri": media.uri,
                "generation": media.generation,
                "params": dict(part.jobs[name].params),
                "fingerprint": part.fingerprints[name],
                "results": [_to_json(result) for result in done.results.values()],
                "output": written,
                "result": None
                if done.data is None
                else run_view.describe_artifact(content_type, done.data),
            }
        )
    elif done.data is not None and output_file != STANDARD_OUTPUT:
        run_view.print_result(context.output, content_type, done.data, written)
    if failed is None:
        return ExitCode.OK
    return ExitCode.ERROR if failed.state is State.FAILED else ExitCode.UNAVAILABLE


def _parse_param(text: str) -> tuple[str, Any]:
    """Parse ``name=value``, the value as in ``jobs.yaml``."""
    import yaml

    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise ConfigurationError(f"--param is {text!r}; write NAME=VALUE, such as hop_length=256")
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigurationError(
            f"--param {name} is {value!r}, which is not valid YAML: {error}"
        ) from error


@contextlib.contextmanager
def _redirect_stdout() -> Iterator[None]:
    """Send anything that a job prints to standard error; standard output is for the result."""
    sys.stdout.flush()
    own = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(own, 1)
        os.close(own)


def _to_json(result: Result) -> dict[str, Any]:
    error = result.error
    return {
        "job": result.job,
        "state": result.state,
        "seconds": result.seconds,
        "cpu_seconds": result.cpu_seconds,
        "error": None
        if error is None
        else {"kind": error.kind, "type": error.type, "message": error.message},
    }


def _write_artifact(
    output_file: str | None, data: bytes, job: str, media: MediaFile, content_type: str
) -> str | None:
    """Write the artifact to the output file, or to a temporary file if it cannot be shown."""
    if output_file == STANDARD_OUTPUT:
        sys.stdout.buffer.write(data)
        return None
    if output_file is None and content_type == "application/json":
        return None
    if output_file is None:
        from segue.codec import find_extension

        stem = os.path.splitext(os.path.basename(media.name))[0]
        output_file = os.path.join(
            tempfile.mkdtemp(prefix="segue-"), f"{stem}.{job}.{find_extension(content_type)}"
        )
    write_file(output_file, data)
    return os.path.abspath(output_file)
