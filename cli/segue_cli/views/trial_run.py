"""Renders the result of one job on one file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from segue.model.transitions import Result
from segue_cli.preview import preview_artifact
from segue_cli.views import text
from segue_cli.views.json_text import format_json
from segue_cli.views.output import Output

JSON = "application/json"
WIDTH = 100


def format_result(result: Result) -> str:
    """Return how long a job took, and its error if it failed."""
    cpu = text.format_duration(result.cpu_seconds or 0)
    took = f"{text.format_duration(result.seconds or 0)}, {cpu} of CPU"
    if result.error is None:
        return f"{result.job} took {took}"
    message = text.escape(result.error.message)
    return f"{result.job} failed after {took}: {result.error.kind}\n  {message}"


def describe_artifact(content_type: str, data: bytes) -> Any:
    """Return the value of a JSON artifact, or a summary of any other."""
    found = preview_artifact(content_type, data)
    return found["value"] if content_type == JSON else found


def print_result(output: Output, content_type: str, data: bytes, written: str | None) -> None:
    """Print a JSON artifact, or a summary of any other and its path."""
    found = describe_artifact(content_type, data)
    if content_type == JSON:
        width = output.stdout.width if output.stdout.is_terminal else WIDTH
        output.print(format_json(found, width=min(width, WIDTH)))
        if written is not None:
            output.note(f"Wrote {text.escape(written)}")
        return
    for line in _format_preview(found):
        output.print(line)
    if written is not None:
        output.print(text.escape(written))


def _format_preview(found: dict[str, Any]) -> Iterator[str]:
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
