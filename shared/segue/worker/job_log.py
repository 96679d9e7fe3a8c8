"""Logs what jobs print, and how far they are."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from segue.log import LOGGER, Action, describe_call, log_event
from segue.worker.protocol import Line
from segue.worker.running_job import RunningJob

FIRST_S = 10.0  # that a job has been running for when its progress is logged first
AGAIN_S = 30.0


def show_line(line: Line) -> None:
    """Log a line that a job has printed; if no log is configured, write it to standard error."""
    fields: dict[str, Any] = {
        "job": line.job or None,
        "file": line.uri if line.uri and line.files == 1 else None,
        "files": line.files if line.files > 1 else None,
        "text": line.text,
    }
    if LOGGER.handlers or (LOGGER.isEnabledFor(logging.INFO) and LOGGER.hasHandlers()):
        log_event(Action.PRINTED, **fields)
        return
    with contextlib.suppress(AttributeError, OSError, ValueError):  # it may be closed
        sys.stderr.write(f"{describe_call({'action': Action.PRINTED, **fields})}\n")


class ProgressLog:
    """Logs how far long calls are, each now and then."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._due_s: dict[tuple[str, tuple[str, ...]], float] = {}

    def show(self, running: Sequence[RunningJob]) -> None:
        """Log those calls that report progress and were not logged for a while."""
        now_s = self._clock()
        self._due_s = {
            (job.job, job.uris): self._due_s.get((job.job, job.uris), now_s + FIRST_S)
            for job in running
        }
        for job in running:
            key = job.job, job.uris
            if job.fraction is None or self._due_s[key] > now_s:
                continue
            self._due_s[key] = now_s + AGAIN_S
            log_event(
                Action.PROGRESS,
                job=job.job,
                file=job.uris[0] if len(job.uris) == 1 else None,
                files=len(job.uris) if len(job.uris) > 1 else None,
                fraction=round(job.fraction, 4),
                text=job.text or None,
            )
