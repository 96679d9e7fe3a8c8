"""``segue up``: run the whole system of one or more graphs on this machine, and watch a folder."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from segue import text
from segue.errors import ConfigurationError, TransientError
from segue.extras import require
from segue.log import (
    Action,
    describe_call,
    encode_with_time,
    find_level,
    find_log_file,
    is_logged,
)
from segue.model.settings import SETTINGS, Settings
from segue.printable import escape, escape_lines
from segue_cli.command import Context, command, complete_path
from segue_cli.exit_code import ExitCode
from segue_cli.views.output import Output
from segue_cli.views.up import strip_folder

if TYPE_CHECKING:
    from segue_cli.local.signals import Signals
    from segue_cli.local.supervisor import ProgramStatus
    from segue_cli.local.system_group import SystemGroup

PORT = 8765  # of the console
REFRESH_S = 0.5
REPAIR_S = 2.0  # between two looks at a graph that is wrong, whose code is imported each time
IDLE_S = 0.2  # between two checks whether the system is idle
# The fields that people see; a program gets all of them.
SHOWN = ("process", "job", "file", "kind", "error", "reason", "seconds", "folder")
ABOVE_PAGE = {Action.PRINTED, Action.CHANGED}
TOTALS = ("arrived", "deleted", "done", "failed")
# Events between the components, which say nothing about a result.
INTERNAL = {Action.WAITING, Action.FORWARDED, Action.ASKED, Action.DROPPED, Action.SWEPT}


@command(
    requires=("functions", "pipelines"),
    settings=("graph", "catalogue", "artifacts", "models", "ledger", "queue", "on_deletion"),
    examples=(
        "segue up ~/Music",
        "segue up ~/Music --processes 4",
        "segue up catalogue --until-idle 5 --json",
        "segue up platform/jobs.yaml rhythm/jobs.yaml moods/jobs.yaml",
    ),
)
@click.argument(
    "places",
    nargs=-1,
    metavar="[FOLDER|GRAPH]...",
    help="The folder to watch, which overrides --catalogue; and the files of the graphs to run, if "
    "there are several, or instead of --graph.",
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
@click.option(
    "--catch-up/--no-catch-up",
    default=True,
    help="Also compute what files lack that were there before.",
)
@click.option(
    "--console",
    is_flag=True,
    help="Also show the catalogue in a web page, as 'segue console' does.",
)
@click.option(
    "--port",
    type=click.IntRange(min=0, max=65535),
    default=PORT,
    metavar="N",
    help="The port of the web page; 0 picks a free one.",
)
@click.option("--allow-changes", is_flag=True, help="Let the web page request, retry and cancel.")
def up(
    context: Context,
    *,
    places: tuple[str, ...],
    processes: int | None,
    until_idle: float | None,
    catch_up: bool,
    console: bool,
    port: int,
    allow_changes: bool,
) -> ExitCode:
    """Run the whole system on this machine and watch a folder.

    The components are the same as in the cloud: a file copied into the folder becomes an event, the
    event triggers a function, the function notifies the streaming pipelines, and they write
    artifacts. Each pipeline is a program of its own; to save memory, let jobs share one with
    'pipelines' in jobs.yaml. Changes made while it was not running are found at the start, and what
    known files lack is computed beside what arrives. If jobs.yaml, segue.lock or the code of a job
    changes, it starts again with that. Ctrl-C
    lets running jobs finish for up to 15 seconds; a second Ctrl-C stops it at once. Nothing is
    lost. What jobs print is shown with their names and files, in a terminal above the page. With
    --json, each event is printed as a JSON object on its own line. Nothing listens on the network;
    to post events by hand, run 'segue serve', too.

    Several graphs, each with a namespace of its own, run side by side: each has its own ledger,
    queue and artifacts in .segue/NAMESPACE/, its own pipelines, and the code beside its file. A
    graph whose files arrive in another namespace, or that has no catalogue and needs only the
    results of others, watches no folder.
    """
    from segue_cli.local.system_group import SystemGroup

    lines = EventLines(context.output)
    settings = load_settings(context.settings, places)

    def build() -> SystemGroup:
        group = SystemGroup(settings, processes=processes, on_line=lines.write, catch_up=catch_up)
        lines.folders = {s.graph.namespace: s.folder for s in group.systems if s.folder is not None}
        lines.is_several = group.is_several
        return group

    page = None
    if console:
        require("--console", "console")
        page = ConsolePage(context.output, settings, port=port, allow_changes=allow_changes)
    return UpRun(context.output, build, lines, until_idle_s=until_idle, page=page).run()


def load_settings(settings: Settings, places: Sequence[str]) -> list[Settings]:
    """Return the settings of each graph that is named, or of the one that is set."""
    graphs = [place for place in places if _is_graph(place)]
    folders = [place for place in places if place not in graphs]
    if len(folders) > 1:
        raise ConfigurationError(
            f"{' and '.join(map(repr, folders))} are not files; name one folder, and the files of "
            "graphs, such as moods/jobs.yaml"
        )
    if not graphs:
        return [replace(settings, catalogue=folders[0]) if folders else settings]
    given = _find_given(settings, ("catalogue", "artifacts", "ledger", "queue", "on_deletion"))
    if len(graphs) > 1:
        for name in ("ledger", "queue", "artifacts"):
            if name in given:
                raise ConfigurationError(
                    f"several graphs cannot share {given[name]!r}: each namespace has its own; "
                    f"leave out --{name}, and unset {SETTINGS[name].variable}"
                )
    if graphs and _find_source("graph") is ParameterSource.COMMANDLINE:
        raise ConfigurationError(
            f"--graph names a graph, and so does {graphs[0]!r}; name all of them without --graph"
        )
    if folders:
        given["catalogue"] = folders[0]
    return [Settings.load(**{**given, "graph": graph}) for graph in graphs]


def _is_graph(place: str) -> bool:
    return os.path.isfile(place) or place.endswith((".yaml", ".yml"))


def _find_given(settings: Settings, names: Sequence[str]) -> dict[str, Any]:
    """Return the settings that are not defaults: options, or environment variables."""
    sources = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)
    return {name: getattr(settings, name) for name in names if _find_source(name) in sources}


def _find_source(name: str) -> ParameterSource | None:
    return click.get_current_context().get_parameter_source(name)


class EventLines:
    """Write one line per event; in a terminal, where the page shows them, only what jobs print."""

    def __init__(self, output: Output) -> None:
        self._as_json = output.as_json
        self._console = None if output.as_json or not output.stdout.is_terminal else output.stdout
        self._file = find_log_file()
        self._level = find_level()
        self._lock = threading.Lock()
        self.folders: Mapping[str, str] = {}  # by namespace; file names are shown relative to it
        self.is_several = False  # graphs, whose namespaces are shown
        self.is_closed = False  # the reader closed the pipe

    def write(self, line: dict[str, Any]) -> None:
        """Write one line, if its severity is logged; to the log file, too."""
        if not is_logged(line):
            return
        if self._file is not None:
            self._file.append(line)
        if self._console is not None:
            if line.get("action") in ABOVE_PAGE:
                self._console.print(self._format_line(line))  # above the page
            return
        is_internal = line.get("action") in INTERNAL and self._level > logging.DEBUG
        if is_internal and not self._as_json:
            return
        text_line = encode_with_time(line) if self._as_json else self._format_line(line)
        with self._lock:
            try:
                sys.stdout.write(f"{text_line}\n")
                sys.stdout.flush()
            except (BrokenPipeError, ValueError):
                self.is_closed = True

    def _format_line(self, line: dict[str, Any]) -> str:
        namespace = str(line.get("namespace", ""))
        somewhere = next(iter(self.folders.values()), "")  # of a graph that watches no folder
        text_line = _to_text(line, self.folders.get(namespace, somewhere))
        return f"{escape(namespace)} {text_line}" if self.is_several and namespace else text_line


def _to_text(line: dict[str, Any], folder: str) -> str:
    process = line.get("process", "up")
    if (said := describe_call(line)) is not None:
        return escape_lines(f"{process}: {said}")
    shown = {name: line[name] for name in SHOWN if line.get(name) is not None}
    if "file" in shown:
        shown["file"] = strip_folder(str(shown["file"]), folder)
    if isinstance(shown.get("seconds"), float):
        shown["took"] = text.format_duration(shown.pop("seconds"))
    shown.pop("process", None)
    rest = "".join(f" {name}={value}" for name, value in shown.items())
    mark = "" if line.get("severity", "INFO") == "INFO" else f"{str(line['severity']).lower()}: "
    rest += "".join(f" {name}={line[name]}" for name in TOTALS if name in line)
    text_line = f"{process}: {mark}{line.get('action', '?')}{rest}"
    if line.get("action") == Action.CHANGED:  # about the user's own graph, in several lines
        return escape_lines(text_line).replace("\n", "\n  ")
    return escape(text_line)


class ConsolePage:
    """The web page of the systems, at one address for as long as they are started again."""

    def __init__(
        self, output: Output, settings: list[Settings], *, port: int, allow_changes: bool
    ) -> None:
        self._output = output
        self._settings = settings
        self._port = port
        self._allow_changes = allow_changes
        self._token: str | None = None

    @contextlib.contextmanager
    def serve(self) -> Iterator[None]:
        """Serve it until the end of the block; say where when that is done first."""
        from segue_console.namespace import open_namespaces
        from segue_console.security import create_token
        from segue_console.server import serve_console

        is_first = self._token is None
        self._token = self._token or create_token()
        with (
            open_namespaces(self._settings) as namespaces,
            serve_console(
                namespaces, port=self._port, allow_changes=self._allow_changes, token=self._token
            ) as server,
        ):
            self._port = server.port
            if is_first:
                show_address(self._output, server.url)
            yield


def show_address(output: Output, url: str) -> None:
    """Say where the console is; in no log, since the address has the token."""
    if output.as_json:
        sys.stdout.write(f"{encode_with_time({'action': 'console', 'url': url})}\n")
        sys.stdout.flush()
    else:
        output.print(f"Console: {url}")


class UpRun:
    """One run of all systems: start them, show them, and stop them.

    ``build`` reads the graphs and builds a group; it is called again when one of them has changed.
    """

    def __init__(
        self,
        output: Output,
        build: Callable[[], SystemGroup],
        lines: EventLines,
        *,
        until_idle_s: float | None,
        page: ConsolePage | None = None,
    ) -> None:
        self._output = output
        self._page = page
        self._build = build
        self._group = build()
        self._lines = lines
        self._until_idle_s = until_idle_s
        self._graphs = [s.graph.path for s in self._group.systems if s.graph.path is not None]
        self._changed: tuple[str, ...] = ()  # the files because of which it starts again
        self._counts: dict[str, Counter[str]] = {}  # of groups before, by namespace
        self._failure: ProgramStatus | None = None
        self._crash: BaseException | None = None

    def run(self) -> ExitCode:
        """Run until the systems are stopped, all are idle, or one fails."""
        from rich.live import Live

        from segue_cli.local.signals import Signals
        from segue_cli.views.up import RunPhase, render_page

        console = self._output.stdout
        is_page = console.is_terminal and not self._output.as_json
        live = Live(console=console, auto_refresh=False) if is_page else None

        def show(phase: RunPhase) -> None:
            if live is not None:
                page = render_page(self._group.read_status(), width=console.width, phase=phase)
                live.update(page, refresh=True)

        with Signals() as signals, self._record_crashes(), contextlib.ExitStack() as shown:
            self._group.start()
            if live is not None:
                shown.enter_context(live)
            while True:
                with contextlib.closing(self._group), self._serve_page():
                    self._follow(signals, lambda: show(RunPhase.RUNNING))
                    code = self._end(signals, lambda: show(RunPhase.STOPPING))
                    show(RunPhase.STOPPED)
                self._keep_counts()
                if not (self._changed and code is ExitCode.OK and self._start_again(signals)):
                    break
        self._print_summary(code, is_page=is_page)
        return code

    def _serve_page(self) -> AbstractContextManager[object]:
        return self._page.serve() if self._page is not None else contextlib.nullcontext()

    def _start_again(self, signals: Signals) -> bool:
        """Start with what has changed, once it is right; return False if it is stopped before."""
        names = ", ".join(map(os.path.relpath, self._changed))
        self._say_change("INFO", reason=f"{names} changed; starting again with it")
        self._changed, said = (), ""
        while not signals.count:
            try:
                self._check_graphs()
                self._group = self._build()
                self._group.start()
            except (ConfigurationError, TransientError) as error:
                if str(error) != said:
                    said = str(error)
                    reason = f"{error}\nnothing runs until that is repaired"
                    self._say_change("ERROR", error=reason)
                signals.wait(REPAIR_S)
            else:
                return True
        return False

    def _check_graphs(self) -> None:
        """Raise an error if a graph is gone; the one that ships with Segue must not replace it."""
        for path in self._graphs:
            if not os.path.isfile(path):
                raise ConfigurationError(f"{path} is gone; put it back, or stop with Ctrl-C")

    def _say_change(self, severity: str, **about: str) -> None:
        line = {"severity": severity, "action": str(Action.CHANGED), "process": "up", **about}
        self._lines.write(line)

    def _keep_counts(self) -> None:
        """Add what the group has counted to the totals."""
        for system in self._group.systems:
            kept = self._counts.setdefault(system.graph.namespace, Counter())
            kept.update(system.count_actions())

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
            if self._group.failed_program is not None or self._crash is not None:
                return
            if self._group.failure is not None:
                return
            if changed := self._group.find_changes():
                self._changed = changed
                return
            if (
                self._until_idle_s is not None
                and self._group.measure_idle_s() >= self._until_idle_s
            ):
                return
            show()

    def _end(self, signals: Signals, show: Callable[[], None]) -> ExitCode:
        """Stop everything, at once on a second signal."""
        self._failure = self._group.failed_program
        stopper = threading.Thread(target=self._group.stop, name="stop")
        handled = max(signals.count, 1)
        stopper.start()
        while stopper.is_alive():
            if signals.wait(0.1) > handled:
                self._group.kill()
                stopper.join()
                return ExitCode.INTERRUPTED
            show()
        if self._crash is not None:
            return ExitCode.ERROR
        if self._group.failure is not None:
            return ExitCode.USAGE
        if self._failure is not None:
            return ExitCode.USAGE if self._failure.is_misconfigured else ExitCode.ERROR
        return ExitCode.OK

    def _print_summary(self, code: ExitCode, *, is_page: bool) -> None:
        """Print the totals, and the failure if there is one."""
        totals = _count_totals(sum(self._counts.values(), Counter()))
        by_namespace = {name: _count_totals(counts) for name, counts in self._counts.items()}
        if self._group.is_several:
            for namespace, counts in by_namespace.items():
                self._write_totals(counts, namespace=namespace)
        self._write_totals(totals)
        if is_page:
            several = [f"{name}: {_describe_totals(each)}" for name, each in by_namespace.items()]
            lines = several if self._group.is_several else [_describe_totals(totals)]
            self._output.print(f"Stopped: {'; '.join(lines)}.")
        if self._group.failure is not None:
            self._output.note(f"segue: error: {self._group.failure}")
        elif self._failure is not None:
            self._output.note(f"{self._failure.name} {self._failure.failure}:")
            for line in self._failure.tail:
                self._output.note(f"  {line}")
        elif code is ExitCode.INTERRUPTED:
            self._output.note("Jobs that were running will run again at the next start.")

    def _write_totals(self, counts: Mapping[str, int], **about: str) -> None:
        line = {"severity": "INFO", "action": "stopped", "process": "up", **about, **counts}
        self._lines.write(line)


def _describe_totals(counts: Mapping[str, int]) -> str:
    arrived = f"{text.format_count(counts['arrived'], 'file')} arrived"
    computed = f"{text.format_count(counts['done'], 'result')} computed"
    failed = f", {counts['failed']:,} failed" if counts["failed"] else ""
    return f"{arrived}, {counts['deleted']:,} deleted, {computed}{failed}"


def _count_totals(actions: Mapping[str, int]) -> dict[str, int]:
    return {name: actions.get(name, 0) for name in TOTALS}
