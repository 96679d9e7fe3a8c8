"""Renders what runs now, and how far it is, a line for each call of a job."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from segue import text
from segue.printable import escape
from segue_cli.views.output import draw_bar

if TYPE_CHECKING:
    from rich.text import Text

    from segue.worker.running_job import RunningJob

WHOLE = 1000  # parts of a bar


def render_progress(
    jobs: Sequence[RunningJob], now: datetime, *, limit: int, prefix: str = ""
) -> list[Text]:
    """Render a line for each call, at most so many; none is wrapped."""
    return [_render_job(job, now, prefix) for job in jobs[:limit]]


def describe_running_job(job: RunningJob) -> str:
    """Return a job's name and file, and how far it says that it is."""
    return ": ".join(filter(None, (_name(job), describe_progress(job))))


def describe_progress(job: RunningJob) -> str:
    """Return how far a job says that it is, and what it is doing; nothing if it does not."""
    if job.fraction is None:
        return ""
    return f"{text.format_fraction(job.fraction)} {escape(job.text)}".rstrip()


def _name(job: RunningJob) -> str:
    if len(job.uris) > 1:
        return f"{job.job} {text.format_count(len(job.uris), 'file')}"
    return " ".join((job.job, *(escape(uri.rpartition("/")[2]) for uri in job.uris)))


def _render_job(job: RunningJob, now: datetime, prefix: str) -> Text:
    from rich.text import Text

    line = Text(no_wrap=True, overflow="ellipsis")
    if job.fraction is not None:
        line.append_text(draw_bar(round(WHOLE * job.fraction), WHOLE))
        line.append(f" {text.format_fraction(job.fraction):>5}  ", "cyan")
    line.append(f"{prefix}{_name(job)}")
    if job.text:
        line.append(f"  {escape(job.text)}", "cyan")
    seconds = max(0.0, (now - job.since).total_seconds())
    return line.append(f"  {text.format_duration(round(seconds))}", "dim")
