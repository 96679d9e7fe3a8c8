"""Describes which jobs are paused, by whom and since when."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from segue.model.controls import EVERY_JOB, Controls
from segue.printable import escape
from segue.reports.explanation import describe_pause

if TYPE_CHECKING:
    from rich.text import Text


def list_paused(
    controls: Controls,
    name: str = "",
    format_command: Callable[..., str] = lambda *words: " ".join(("segue", *words)),
) -> list[Text]:
    """Return a line for each job that is paused, or one if all are; the name is that of a graph."""
    from rich.text import Text

    paused = controls.paused
    if EVERY_JOB in paused:
        paused = {EVERY_JOB: paused[EVERY_JOB]}
    return [
        Text(
            f"{escape(name)}{'all jobs are' if job == EVERY_JOB else f'{job} is'} "
            f"{escape(describe_pause(pause))}; to go on: "
            + format_command("resume", *([] if job == EVERY_JOB else [job])),
            style="yellow",
        )
        for job, pause in sorted(paused.items())
    ]
