"""How the result of one job on one file looks in a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from segue.model.ledger import Result
from segue_cli.preview import portrait
from segue_cli.views import text
from segue_cli.views.json_text import json_text
from segue_cli.views.output import Output

JSON = "application/json"
WIDTH = 100


def account(result: Result) -> str:
    """Say how a job went."""
    took = f"{text.duration(result.seconds or 0)}, {text.duration(result.cpu_seconds or 0)} of CPU"
    if result.error is None:
        return f"{result.job} took {took}"
    message = text.printable(result.error.message)
    return f"{result.job} failed after {took}: {result.error.kind}\n  {message}"


def described(content_type: str, data: bytes) -> Any:
    """The value of a JSON artifact, a description of any other."""
    found = portrait(content_type, data)
    return found["value"] if content_type == JSON else found


def show(output: Output, content_type: str, data: bytes, written: str | None) -> None:
    """Show a JSON artifact itself; of any other, what it holds and where it is."""
    found = described(content_type, data)
    if content_type == JSON:
        width = output.results.width if output.results.is_terminal else WIDTH
        output.print(json_text(found, width=min(width, WIDTH)))
        if written is not None:
            output.note(f"Wrote {text.printable(written)}")
        return
    for line in _lines(found):
        output.print(line)
    if written is not None:
        output.print(text.printable(written))


def _lines(found: dict[str, Any]) -> Iterator[str]:
    what = f"{found['content_type']}, {text.size(found['size_bytes'])}"
    if "duration_s" in found:
        channels = text.count(found["channels"], "channel")
        what += f": {found['duration_s']:g} s, {found['sample_rate_hz']:,} Hz, {channels}"
        what += f", peak {found['peak']:g}"
    elif "width" in found:
        what += f": {found['width']} x {found['height']} pixels"
    elif "rows" in found:
        what += f": {text.count(found['rows'], 'row')} of {', '.join(found['columns'])}"
    yield what
    for name, array in found.get("arrays", {}).items():
        yield f"  {name}: {array['dtype']}, {' x '.join(map(str, array['shape'])) or 'one value'}"
