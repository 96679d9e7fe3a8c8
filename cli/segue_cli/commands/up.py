"""``segue up``: run the whole system on this machine and watch a folder."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from segue.clock import utc_now
from segue.log import Action
from segue.printable import encode_json, escape
from segue_cli.command import Context, command, complete_path
from segue_cli.exit_code import ExitCode
from segue_cli.views import text
from segue_cli.views.output import Output
from segue_cli.views.up import strip_folder

if TYPE_CHECKING:
    from segue_cli.local.signals import Signals
    from segue_cli.local.supervisor import ProgramStatus
    from segue_cli.local.system import System

REFRESH_S = 0.5
IDLE_S = 0.2  # between two checks whether the system is idle
# The fields that people see; a program gets all of them.
SHOWN = ("process", "job", "file", "kind", "error", "reason", "seconds", "folder")
TOTALS = ("arrived", "deleted", "done", "failed")
# Events between the components, which say nothing about a result.
INTERNAL = {Action.WAITING, Action.FORWARDED, Action.ASKED, Action.DROPPED, Action.SWEPT}


@command(
    requires=("functions", "pipelines"),
    settings=("graph", "catalogue", "artifacts", "ledger", "queue", "on_deletion"),
    examples=(
        "segue up ~/Music",
        "segue up ~/Music --processes 4",
        "segue up catalogue --until-idle 5 --json",
    ),
)
@click.argument(
    "folder",
    required=False,
    help="The folder to watch; overrides --catalogue.",
    shell_complete=complete_path,
)
@click.option(
    "--processes",
    type=click.IntRange(min=1),
    metavar="N",
    help="Child processes per pipeline.  [default: one per core; with several pipelines, two per "
    "core in all, but at least one each]",
)
@click.option(
    "--until-idle",
    type=click.FloatRange(min=0.0),
    metavar="SECONDS",
    help="Stop after this long without any activity.  [default: run until stopped]",
)
def up(
    context: Context,
    folder: str | None,
    processes: int | None,
    until_idle: float | None,
) -> ExitCode:
    """Run the whole system on this machine and watch a folder.

    The components are the same as in the cloud: a file copied into the folder becomes an event, the
    event triggers a function, the function notifies the streaming pipelines, and they write
    artifacts. Each pipeline is a program of its own; to save memory, let jobs share one with
    'pipelines' in jobs.yaml. Changes made while it was not running are found at the start. Ctrl-C
    lets running jobs finish for up to 15 seconds; a second Ctrl-C stops it at once. Nothing is
    lost. With --json, each event is printed as a JSON object on its own line. Nothing listens on
    the network; to post events by hand, run 'segue serve', too.
    """
    from segue_cli.local.system import System

    settings = context.settings if folder is None else replace(context.settings, catalogue=folder)
    lines = EventLines(context.output)
    system = System(settings, processes=processes, on_line=lines.write)
    lines.folder = system.folder
    return UpRun(context.output, system, lines, until_idle_s=until_idle).run()


class EventLines:
    """Write one line per event; nothing in a terminal, where the page shows it instead."""

    def __init__(self, output: Output) -> None:
        self._as_json = output.as_json
        self._is_silent = not output.as_json and output.stdout.is_terminal
        self._lock = threading.Lock()
        self.folder = ""  # file names are shown relative to it
        self.is_closed = False  # the reader closed the pipe

    def write(self, line: dict[str, Any]) -> None:
        """Write one line."""
        if self._is_silent or (not self._as_json and line.get("action") in INTERNAL):
            return
        now = utc_now().isoformat(timespec="milliseconds")
        text_line = (
            _to_json({"time": now, **line}) if self._as_json else _to_text(line, self.folder)
        )
        with self._lock:
            try:
                sys.stdout.write(f"{text_line}\n")
                sys.stdout.flush()
            except (BrokenPipeError, ValueError):
                self.is_closed = True


def _to_json(line: dict[str, Any]) -> str:
    return encode_json(line, default=str)


def _to_text(line: dict[str, Any], folder: str) -> str:
    shown = {name: line[name] for name in SHOWN if line.get(name) is not None}
    if "file" in shown:
        shown["file"] = strip_folder(str(shown["file"]), folder)
    if isinstance(shown.get("seconds"), float):
        shown["took"] = text.format_duration(shown.pop("seconds"))
    process = shown.pop("process", "up")
    rest = "".join(f" {name}={value}" for name, value in shown.items())
    mark = "" if line.get("severity", "INFO") == "INFO" else f"{str(line['severity']).lower()}: "
    rest += "".join(f" {name}={line[name]}" for name in TOTALS if name in line)
    return escape(f"{process}: {mark}{line.get('action', '?')}{rest}")


class UpRun:
    """One run of the system: start it, show it, and stop it."""

    def __init__(
        self, output: Output, system: System, lines: EventLines, *, until_idle_s: float | None
    ) -> None:
        self._output = output
        self._system = system
        self._lines = lines
        self._until_idle_s = until_idle_s
        self._failure: ProgramStatus | None = None
        self._crash: BaseException | None = None

    def run(self) -> ExitCode:
        """Run until the system is stopped, is idle, or fails."""
        from rich.live import Live

        from segue_cli.local.signals import Signals
        from segue_cli.views.up import RunPhase, render_page

        console = self._output.stdout
        is_page = console.is_terminal and not self._output.as_json
        live = Live(console=console, auto_refresh=False) if is_page else None

        def show(phase: RunPhase) -> None:
            if live is not None:
                page = render_page(self._system.read_status(), width=console.width, phase=phase)
                live.update(page, refresh=True)

        with Signals() as signals, self._record_crashes():
            self._system.start()
            with contextlib.ExitStack() as opened:
                opened.callback(self._system.close)
                if live is not None:
                    opened.enter_context(live)
                self._follow(signals, lambda: show(RunPhase.RUNNING))
                code = self._end(signals, lambda: show(RunPhase.STOPPING))
                show(RunPhase.STOPPED)
        self._print_summary(code, is_page=is_page)
        return code

    @contextlib.contextmanager
    def _record_crashes(self) -> Iterator[None]:
        """Record the crash of any thread, because the system would otherwise appear to be idle."""
        before = threading.excepthook

        def record(crash: threading.ExceptHookArgs) -> None:
            self._crash = crash.exc_value
            before(crash)

        threading.excepthook = record
        try:
            yield
        finally:
            threading.excepthook = before

    def _follow(self, signals: Signals, show: Callable[[], None]) -> None:
        """Wait until the system should stop."""
        pause_s = REFRESH_S if self._until_idle_s is None else IDLE_S
        while not signals.wait(pause_s) and not self._lines.is_closed:
            if self._system.failed_program is not None or self._crash is not None:
                return
            if self._system.failure is not None:
                return
            if (
                self._until_idle_s is not None
                and self._system.measure_idle_s() >= self._until_idle_s
            ):
                return
            show()

    def _end(self, signals: Signals, show: Callable[[], None]) -> ExitCode:
        """Stop everything, at once on a second signal."""
        self._failure = self._system.failed_program
        stopper = threading.Thread(target=self._system.stop, name="stop")
        handled = max(signals.count, 1)
        stopper.start()
        while stopper.is_alive():
            if signals.wait(0.1) > handled:
                self._system.kill()
                stopper.join()
                return ExitCode.INTERRUPTED
            show()
        if self._crash is not None:
            return ExitCode.ERROR
        if self._system.failure is not None:
            return ExitCode.USAGE
        if self._failure is not None:
            return ExitCode.USAGE if self._failure.is_misconfigured else ExitCode.ERROR
        return ExitCode.OK

    def _print_summary(self, code: ExitCode, *, is_page: bool) -> None:
        """Print the totals, and the failure if there is one."""
        counts = {name: self._system.count_actions().get(name, 0) for name in TOTALS}
        self._lines.write({"severity": "INFO", "action": "stopped", "process": "up", **counts})
        if is_page:
            summary = f"Stopped: {text.format_count(counts['arrived'], 'file')} arrived"
            summary += f", {counts['deleted']:,} deleted"
            summary += f", {text.format_count(counts['done'], 'result')} computed"
            summary += f", {counts['failed']:,} failed" if counts["failed"] else ""
            self._output.print(f"{summary}.")
        if self._system.failure is not None:
            self._output.note(f"segue: error: {self._system.failure}")
        elif self._failure is not None:
            self._output.note(f"{self._failure.name} {self._failure.failure}:")
            for line in self._failure.tail:
                self._output.note(f"  {line}")
        elif code is ExitCode.INTERRUPTED:
            self._output.note("Jobs that were running will run again at the next start.")
