"""``segue up``: the whole system on this machine, on a folder."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segue.log import Action
from segue_cli.command import command
from segue_cli.context import Context
from segue_cli.exit_code import ExitCode
from segue_cli.views import text
from segue_cli.views.output import Output, is_encodable
from segue_cli.views.up import relative

if TYPE_CHECKING:
    from segue_cli.local.signals import Signals
    from segue_cli.local.supervisor import Standing
    from segue_cli.local.system import System

REFRESH_S = 0.5
IDLE_S = 0.2  # between two looks at whether all is quiet
# What a person wants of a line; a program gets all of it.
TOLD = ("process", "job", "file", "kind", "error", "reason", "seconds", "folder", "url")
SUMMED = ("arrived", "deleted", "done", "failed")
# What happens between the parts, and says nothing of a result.
INNER = {Action.WAITING, Action.FORWARDED, Action.ASKED, Action.SWEPT}


@command(
    settings=("graph", "catalogue", "artifacts", "ledger", "queue", "on_deletion"),
    examples=(
        "segue up ~/Music",
        "segue up ~/Music --processes 4 --separate",
        "segue up catalogue --until-idle 5 --json",
    ),
)
def up(
    context: Context,
    folder: Annotated[
        str | None,
        typer.Argument(
            metavar="FOLDER",
            help="The folder to watch, in place of --catalogue.",
            show_default=False,
        ),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Child processes a pipeline. By default, one a core."
        ),
    ] = None,
    separate: Annotated[
        bool,
        typer.Option(
            "--separate", help="A pipeline for each job, as in the cloud, not one for all."
        ),
    ] = False,
    until_idle: Annotated[
        float | None,
        typer.Option(
            "--until-idle",
            min=0.0,
            metavar="SECONDS",
            help="End when everything has been quiet for so long. By default, go on until stopped.",
        ),
    ] = None,
    port: Annotated[
        int,
        typer.Option(min=0, max=65535, metavar="N", help="Of the functions. 0 is any free one."),
    ] = 0,
) -> ExitCode:
    """Watch a folder, and compute what is missing of each file that arrives there.

    All of Segue runs on this machine, in the same parts as in the cloud: a file that is copied into
    the folder becomes an event, the event wakes a function, the function tells the streaming
    pipelines, and they write artifacts. What was changed while this did not run is found at the
    start. Ctrl-C lets what runs finish, and ends; a second one ends at once. Either way nothing is
    lost. With --json, each thing that happens is a line with a JSON object.
    """
    from segue_cli.local.programs import Up
    from segue_cli.local.system import System

    settings = context.settings if folder is None else replace(context.settings, catalogue=folder)
    lines = Lines(context.output)
    run = Up(settings=settings, processes=processes, separate=separate, port=port)
    system = System(run, told=lines.tell)
    lines.folder = system.folder
    # It is told by what it leads to, and each try would be told again.
    logging.getLogger("stamina").setLevel(logging.ERROR)
    return Running(context.output, system, lines, until_idle_s=until_idle).go()


class Lines:
    """Writes what happens, a line each; in a terminal, the page tells it instead."""

    def __init__(self, output: Output) -> None:
        self._as_json = output.as_json
        self._is_silent = not output.as_json and output.results.is_terminal
        self._lock = threading.Lock()
        self.folder = ""  # from which on files are named for people
        self.is_cut = False  # the reader went away

    def tell(self, line: dict[str, Any]) -> None:
        """Write one line."""
        if self._is_silent or (not self._as_json and line.get("action") in INNER):
            return
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        made = _json({"time": now, **line}) if self._as_json else _readable(line, self.folder)
        with self._lock:
            try:
                sys.stdout.write(f"{made}\n")
                sys.stdout.flush()
            except (BrokenPipeError, ValueError):
                self.is_cut = True


def _json(line: dict[str, Any]) -> str:
    made = json.dumps(line, ensure_ascii=False, default=str)
    return made if is_encodable(made) else json.dumps(line, default=str)


def _readable(line: dict[str, Any], folder: str) -> str:
    told = {name: line[name] for name in TOLD if line.get(name) is not None}
    if "file" in told:
        told["file"] = relative(str(told["file"]), folder)
    if isinstance(told.get("seconds"), float):
        told["took"] = text.duration(told.pop("seconds"))
    process = told.pop("process", "up")
    rest = "".join(f" {name}={value}" for name, value in told.items())
    mark = "" if line.get("severity", "INFO") == "INFO" else f"{str(line['severity']).lower()}: "
    rest += "".join(f" {name}={line[name]}" for name in SUMMED if name in line)
    return text.printable(f"{process}: {mark}{line.get('action', '?')}{rest}")


class Running:
    """One run: starts the system, shows it, and ends it when that is asked for."""

    def __init__(
        self, output: Output, system: System, lines: Lines, *, until_idle_s: float | None
    ) -> None:
        self._output = output
        self._system = system
        self._lines = lines
        self._until_idle_s = until_idle_s
        self._failure: Standing | None = None
        self._crash: BaseException | None = None

    def go(self) -> ExitCode:
        """Run until it is stopped, or idle, or does not work."""
        from rich.live import Live

        from segue_cli.local.signals import Signals
        from segue_cli.views.up import Phase, drawn

        console = self._output.results
        is_page = console.is_terminal and not self._output.as_json
        live = Live(console=console, auto_refresh=False) if is_page else None

        def show(phase: Phase) -> None:
            if live is not None:
                page = drawn(self._system.look(), width=console.width, phase=phase)
                live.update(page, refresh=True)

        with Signals() as signals, self._crashes_noticed():
            self._system.start()
            with contextlib.ExitStack() as opened:
                opened.callback(self._system.close)
                if live is not None:
                    opened.enter_context(live)
                self._follow(signals, lambda: show(Phase.RUNNING))
                code = self._end(signals, lambda: show(Phase.STOPPING))
                show(Phase.STOPPED)
        self._conclude(code, is_page=is_page)
        return code

    @contextlib.contextmanager
    def _crashes_noticed(self) -> Iterator[None]:
        """Let no thread die unseen: without one of its parts the system would seem to be idle."""
        before = threading.excepthook

        def noticed(crash: threading.ExceptHookArgs) -> None:
            self._crash = crash.exc_value
            before(crash)

        threading.excepthook = noticed
        try:
            yield
        finally:
            threading.excepthook = before

    def _follow(self, signals: Signals, show: Callable[[], None]) -> None:
        """Wait for the end."""
        pause_s = REFRESH_S if self._until_idle_s is None else IDLE_S
        while not signals.wait(pause_s) and not self._lines.is_cut:
            if self._system.failure is not None or self._crash is not None:
                return
            if self._until_idle_s is not None and self._system.idle_s() >= self._until_idle_s:
                return
            show()

    def _end(self, signals: Signals, show: Callable[[], None]) -> ExitCode:
        """Stop everything, at once if that is asked for."""
        self._failure = self._system.failure
        stopper = threading.Thread(target=self._system.stop, name="stop")
        asked = max(signals.count, 1)
        stopper.start()
        while stopper.is_alive():
            if signals.wait(0.1) > asked:
                self._system.kill()
                stopper.join()
                return ExitCode.INTERRUPTED
            show()
        is_well = self._failure is None and self._crash is None
        return ExitCode.OK if is_well else ExitCode.ERROR

    def _conclude(self, code: ExitCode, *, is_page: bool) -> None:
        """Say what came of it."""
        counts = {name: self._system.counts().get(name, 0) for name in SUMMED}
        self._lines.tell({"severity": "INFO", "action": "stopped", "process": "up", **counts})
        if is_page:
            told = f"Stopped: {text.count(counts['arrived'], 'file')} arrived"
            told += f", {counts['deleted']:,} deleted, {text.count(counts['done'], 'result')}"
            told += f", {counts['failed']:,} failed" if counts["failed"] else ""
            self._output.print(f"{told}.")
        if self._failure is not None:
            self._output.note(text.printable(f"{self._failure.name} {self._failure.trouble}:"))
            for line in self._failure.tail:
                self._output.note(text.printable(f"  {line}"))
        elif code is ExitCode.INTERRUPTED:
            self._output.note("What was running is worked on at the next start.")
