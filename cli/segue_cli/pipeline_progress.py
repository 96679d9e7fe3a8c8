"""Runs a pipeline, and follows its progress on this machine; a terminal shows it."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from segue.clock import utc_now
from segue.log import LOGGER, Action, PrintableFormatter, configure
from segue.worker.running_job import read_running_jobs
from segue_cli.views.running import render_progress

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions
    from rich.console import Console

    from segue.worker.running_job import RunningJob
    from segue_cli.views.output import Output

Totals = TypeVar("Totals")
REFRESH_S = 0.25
LAST_LINES_S = 1.0
LEAST_ROWS = 4  # of the terminal, that are left for what is printed above the bar


def configure_log(options: PipelineOptions) -> None:
    """Show the log of a remote runner, and none of Beam's on this machine."""
    from segue_pipelines.options import is_local

    if is_local(options):
        # Beam's warnings are about its own options, and Segue reports its errors itself.
        logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
    else:
        # A remote runner logs the address and state of its job; there is no other progress to show.
        handler = logging.StreamHandler()
        handler.setFormatter(PrintableFormatter("%(message)s"))
        logging.basicConfig(level=logging.INFO, handlers=[handler])


def run_with_progress(
    output: Output,
    options: PipelineOptions,
    what: str,
    execute: Callable[[str | None], Totals],
    count_total: Callable[[Callable[[], bool]], int | None] = lambda _stop: None,
) -> Totals:
    """Call ``execute`` with the folder to which workers on this machine write their totals.

    ``count_total`` counts the files in the background, until it is told to stop.
    """
    from segue_pipelines.options import has_worker_processes, is_local
    from segue_pipelines.progress import open_progress_folder

    configure_log(options)
    if not is_local(options):
        return execute(None)
    with open_progress_folder() as folder, contextlib.ExitStack() as shown:
        has_bar = folder is not None and output.stderr.is_terminal
        if folder is not None and has_bar:
            if has_worker_processes(options):
                shown.enter_context(_print_above(output.stderr))
            shown.enter_context(_show_bar(output.stderr, folder, what, count_total))
        configure(as_json=False, stream=sys.stderr)  # it writes above the bar
        if has_bar:
            LOGGER.handlers[0].addFilter(_is_no_progress)  # which the bar shows
        return execute(folder)


@contextlib.contextmanager
def _print_above(console: Console) -> Iterator[None]:
    """Print what other processes write to standard error line by line, as the console does."""
    own, before = os.dup(2), console.file
    reading, writing = os.pipe()
    os.dup2(writing, 2)
    os.close(writing)

    def read() -> None:
        with os.fdopen(reading, encoding="utf-8", errors="backslashreplace") as lines:
            for line in lines:
                console.print(line.rstrip("\n"))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    console.file = os.fdopen(os.dup(own), "w", encoding="utf-8", errors="backslashreplace")
    try:
        yield
    finally:
        os.dup2(own, 2)
        os.close(own)
        reader.join(LAST_LINES_S)  # unless some process keeps the pipe open
        console.file = before


def _is_no_progress(record: logging.LogRecord) -> bool:
    return getattr(record, "segue", {}).get("action") != Action.PROGRESS


@contextlib.contextmanager
def _show_bar(
    console: Console,
    folder: str,
    what: str,
    count_total: Callable[[Callable[[], bool]], int | None],
) -> Iterator[None]:
    """Show how many files are done, at what rate, the remaining time, and how far long jobs are."""
    from rich.console import RenderableType
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from segue_pipelines.progress import read_progress

    class Bar(Progress):
        def get_renderables(self) -> Iterator[RenderableType]:
            yield from super().get_renderables()
            limit = max(1, console.height - LEAST_ROWS)
            yield from render_progress(running, utc_now(), limit=limit)

    done = threading.Event()
    running: list[RunningJob] = []  # the jobs that say how far they are
    progress = Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("eta"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        speed_estimate_period=60,
    )
    task = progress.add_task(what, total=None, rate="")

    def follow() -> None:
        while not done.wait(REFRESH_S):
            files = read_progress(folder).files
            running[:] = [job for job in read_running_jobs([folder]) if job.fraction is not None]
            rate = "running" if running else "starting"
            if files:
                rate = f"{files / (progress.tasks[0].elapsed or 1.0):,.1f} files/s"
            progress.update(task, completed=files, rate=rate)

    def count() -> None:
        with contextlib.suppress(Exception):  # a failure only costs the bar its total
            progress.update(task, total=count_total(done.is_set))

    follower = threading.Thread(target=follow, daemon=True)
    with progress:
        follower.start()
        threading.Thread(target=count, daemon=True).start()
        try:
            yield
        finally:
            done.set()
            follower.join()
