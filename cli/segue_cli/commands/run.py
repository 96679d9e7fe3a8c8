"""``segue run``: run one job on one file and show the result."""

from __future__ import annotations

import contextlib
import os
import struct
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import click
import msgspec

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
from segue_cli.views import text
from segue_cli.views.output import write_file

STANDARD_OUTPUT = "-"
JSON = "application/json"
PNG_SIZE = struct.Struct(">II")  # follows the signature and the header of the first chunk


@command(
    settings=("graph", "catalogue"),
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
    help="Write the result to this file, or to standard output (-).  [default: show JSON, write "
    "anything else to a temporary file]",
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
    memory limit, unless --no-isolation is given. Anything the job prints goes to standard error.
    """
    from segue.execution.trial_run import subgraph_for, try_job

    (name,) = context.graph.select([job])
    part = subgraph_for(context.graph, name, dict(map(_parse_param, params)))
    media = find_media(file, context.graph.catalogue)
    context.output.note(f"Running {', '.join(part.jobs)} on {media.uri}")
    with _redirect_stdout():
        done = try_job(part, name, media, isolated=not no_isolation)
    for result in done.results.values():
        if result.state is not State.BLOCKED:
            context.output.note(_format_result(result))
    failed = next((r for r in done.results.values() if r.state is not State.DONE), None)
    content_type = part.jobs[name].writes
    value: Any = None
    written = None
    if done.data is not None:
        value = describe_artifact(content_type, done.data)
        written = _write_artifact(output, done.data, name, media, content_type)
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
                "output": written,
                "result": value,
            }
        )
    elif done.data is not None and output != STANDARD_OUTPUT:
        if content_type == JSON:
            context.output.print(encode_json(value, indent=2))
            if written is not None:
                context.output.note(f"Wrote {written}")
        else:
            context.output.print(*format_summary(value))
            if written is not None:
                context.output.print(written)
    if failed is None:
        return ExitCode.OK
    return ExitCode.ERROR if failed.state is State.FAILED else ExitCode.UNAVAILABLE


def _parse_param(text: str) -> tuple[str, Any]:
    """Parse ``name=value``, the value as in ``jobs.yaml``."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise ConfigurationError(f"--param is {text!r}; write NAME=VALUE, such as hop_length=256")
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
    return f"{result.job} failed after {took}: {result.error.kind}\n  {result.error.message}"


def _write_artifact(
    output_file: str | None, data: bytes, job: str, media: MediaFile, content_type: str
) -> str | None:
    """Write the artifact to the output file, or to a temporary file if it cannot be shown."""
    if output_file == STANDARD_OUTPUT:
        sys.stdout.buffer.write(data)
        return None
    if output_file is None and content_type == JSON:
        return None
    if output_file is None:
        from segue.codec import find_extension

        stem = os.path.splitext(os.path.basename(media.name))[0]
        output_file = os.path.join(
            tempfile.mkdtemp(prefix="segue-"), f"{stem}.{job}.{find_extension(content_type)}"
        )
    write_file(output_file, data)
    return os.path.abspath(output_file)


def describe_artifact(content_type: str, data: bytes) -> Any:
    """Return the value of a JSON artifact, or a summary of any other, such as its length."""
    from segue.codec import decode
    from segue.media.audio import Audio

    if content_type == JSON:
        return decode(content_type, data)
    summary: dict[str, Any] = {"content_type": content_type, "size_bytes": len(data)}
    if content_type == "image/png":
        width, height = PNG_SIZE.unpack_from(data, 16)
        return {**summary, "width": width, "height": height}
    if content_type == "application/octet-stream":
        return summary
    value = decode(content_type, data)
    if isinstance(value, Audio):
        peak = float(abs(value.y).max()) if value.y.size else 0.0
        return {
            **summary,
            "duration_s": round(value.duration_s, 3),
            "sample_rate_hz": value.sr,
            "channels": value.channels,
            "peak": round(peak, 4),
        }
    if isinstance(value, dict):
        arrays = {n: {"shape": list(a.shape), "dtype": str(a.dtype)} for n, a in value.items()}
        return {**summary, "arrays": arrays}
    return {**summary, "rows": value.num_rows, "columns": list(value.column_names)}


def format_summary(found: dict[str, Any]) -> Iterator[str]:
    """Format the summary of an artifact that is not JSON."""
    what = f"{found['content_type']}, {text.format_size(found['size_bytes'])}"
    if "duration_s" in found:
        channels = text.format_count(found["channels"], "channel")
        what += f": {found['duration_s']:g} s, {found['sample_rate_hz']:,} Hz, {channels}"
        what += f", peak {found['peak']:g}"
    elif "width" in found:
        what += f": {found['width']} x {found['height']} pixels"
    elif "rows" in found:
        what += f": {text.format_count(found['rows'], 'row')} of {', '.join(found['columns'])}"
    yield what
    for name, array in found.get("arrays", {}).items():
        yield f"  {name}: {array['dtype']}, {' x '.join(map(str, array['shape'])) or 'one value'}"
