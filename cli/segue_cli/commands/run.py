"""``segue run``: one job on one file, and its result."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from segue.errors import ConfigurationError, Unavailable
from segue.ingest.media_stat import sight
from segue.model.ledger import Result
from segue.model.location import file_uris
from segue.model.media_file import MediaFile
from segue.model.record import State
from segue_cli.command import command
from segue_cli.context import Context
from segue_cli.exit_code import ExitCode
from segue_cli.files import write_file
from segue_cli.parameters import File, complete_job, known_jobs
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
        help="Another value for a parameter of the job, as in jobs.yaml; can be given several "
        "times.",
    ),
]
OutputFile = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Write the result there, or to standard output (-).  [default: JSON is shown, the "
        "rest written to a temporary file]",
    ),
]
NoIsolation = Annotated[
    bool,
    typer.Option(
        "--no-isolation",
        help="Run in this process, for debuggers: no deadline, no memory bound.",
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
    """Run one job on one file, and show the result.

    For the person who writes the job: the jobs above it are computed from the file, too, and
    nothing is left in the ledger or among the artifacts. It runs as in a backfill, in a child
    process with its deadline and memory bound, unless --no-isolation is given. What the job prints
    goes to standard error.
    """
    from segue.execution.trial_run import cut, rehearse
    from segue_cli.views import trial_run as run_view

    (name,) = known_jobs(context.graph, [job])
    part = cut(context.graph, name, dict(map(_parameter, params or ())))
    media = _media(file, context.graph.catalogue)
    context.output.note(f"Running {', '.join(part.jobs)} on {text.printable(media.uri)}")
    with _prints_to_standard_error():
        done = rehearse(part, name, media, isolated=not no_isolation)
    for result in done.results.values():
        if result.state is not State.BLOCKED:
            context.output.note(run_view.account(result))
    failed = next((r for r in done.results.values() if r.state is not State.DONE), None)
    written = None
    content_type = part.jobs[name].writes
    if done.data is not None:
        written = _write(output_file, done.data, name, media, content_type)
    if context.output.as_json:
        context.output.json(
            {
                "job": name,
                "uri": media.uri,
                "generation": media.generation,
                "params": dict(part.jobs[name].params),
                "fingerprint": part.fingerprints[name],
                "results": [_item(result) for result in done.results.values()],
                "output": written,
                "result": None
                if done.data is None
                else run_view.described(content_type, done.data),
            }
        )
    elif done.data is not None and output_file != STANDARD_OUTPUT:
        run_view.show(context.output, content_type, done.data, written)
    if failed is None:
        return ExitCode.OK
    return ExitCode.ERROR if failed.state is State.FAILED else ExitCode.UNAVAILABLE


def _parameter(given: str) -> tuple[str, Any]:
    """Read ``name=value``, the value as in ``jobs.yaml``."""
    import yaml

    name, equals, value = given.partition("=")
    if not equals or not name.isidentifier():
        raise ConfigurationError(f"--param is {given!r}; write NAME=VALUE, such as hop_length=256")
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigurationError(
            f"--param {name} is {value!r}, which is not YAML: {error}"
        ) from error


def _media(file: str, catalogue: str | None) -> MediaFile:
    uris = file_uris(file, catalogue)
    looks = [sight(uri) for uri in uris]
    for look in looks:
        if look.media is not None:
            return look.media
        if look.unknown:
            raise Unavailable(look.unknown)
    places = " or ".join(map(repr, uris))
    raise ConfigurationError(f"there is no file {places}; name one that exists")


@contextlib.contextmanager
def _prints_to_standard_error() -> Iterator[None]:
    """Keep standard output for the result: what a job writes there, in any way, goes elsewhere."""
    sys.stdout.flush()
    own = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(own, 1)
        os.close(own)


def _item(result: Result) -> dict[str, Any]:
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


def _write(
    output_file: str | None, data: bytes, job: str, media: MediaFile, content_type: str
) -> str | None:
    """Write the artifact where it is wanted; what cannot be shown is written anyway."""
    if output_file == STANDARD_OUTPUT:
        sys.stdout.buffer.write(data)
        return None
    if output_file is None and content_type == "application/json":
        return None
    if output_file is None:
        from segue.codec import extension

        stem = os.path.splitext(os.path.basename(media.name))[0]
        output_file = os.path.join(
            tempfile.mkdtemp(prefix="segue-"), f"{stem}.{job}.{extension(content_type)}"
        )
    write_file(output_file, data)
    return os.path.abspath(output_file)
