"""The system of one graph on one machine: folder → events → functions → queue → pipelines.

The functions run in this process, and are called with the same events as in the cloud; the
streaming pipelines are separate programs. This module replaces Cloud Storage, Eventarc and the
schedule: it watches the folder, delivers its events and triggers the regular sweep.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from segue.adapters.connect import check_writable, connect_ledger, connect_queue
from segue.clock import utc_now
from segue.errors import ConfigurationError, DatabaseReplaced, SegueError, TransientError
from segue.execution.leases import release_at_exit
from segue.ingest.catch_up import CatchUp
from segue.log import FILE, LEVEL, Action, add_common_fields, log_event
from segue.maintenance.retry import DeadLetterReplay, RetrySelection
from segue.model.graph import find_lock
from segue.model.lease_owner import is_lost
from segue.model.media_file import parse_location
from segue.model.queue import list_subscriptions
from segue.model.record import State
from segue.model.settings import Settings
from segue.model.shipped_graphs import DEFAULT_PATH
from segue.reports.job_states import count_jobs
from segue.worker.model_paths import check_models
from segue.worker.running_job import list_running_folders, read_running_jobs
from segue.worker.secrets import resolve_secrets
from segue_cli.local.catch_up import (
    CatchUpThread,
    count_gaps,
    describe_gaps,
    leave_out_requests,
)
from segue_cli.local.cloud_events import build_sweep_event
from segue_cli.local.code_watch import CodeWatch
from segue_cli.local.folder_events import FolderEvents
from segue_cli.local.lock import lock_ledger
from segue_cli.local.pauses import PauseReporter
from segue_cli.local.programs import (
    build_commands,
    build_variables,
    check_code_alone,
    find_catalogue_folder,
)
from segue_cli.local.status import ActivityTotals, CountReader, SystemStatus
from segue_cli.local.supervisor import ProgramState, ProgramStatus, Supervisor

if TYPE_CHECKING:
    from segue.model.graph import Graph

UP, FUNCTIONS = "up", "functions"  # the names of this process and of the functions in its lines
SWEEP_S = 60.0
RETRY_S = 1.0
NOTES = 3

Line = dict[str, Any]


class System:
    """The parts of one graph; a ``SystemGroup`` starts and stops them.

    Parameters
    ----------
    settings : Settings
    graph : Graph
        The one that the settings select.
    processes : int
        The number of child processes per pipeline.
    on_line : callable
        Called with each logged line, whose ``process`` is the name of the part, and ``namespace``
        the graph's.
    catch_up : bool
        Whether to request what files that are known lack.
    """

    def __init__(
        self,
        settings: Settings,
        graph: Graph,
        *,
        processes: int,
        on_line: Callable[[Line], None],
        catch_up: bool = True,
    ) -> None:
        self.graph = graph
        self.folder = find_catalogue_folder(graph)
        self.settings = settings = replace(settings, graph=graph.path)
        self._on_line = on_line
        commands = build_commands(graph, processes=processes)
        environ = {**os.environ, **build_variables(settings)}
        for name in (LEVEL, FILE):  # this process needs all lines, and writes those that are wanted
            environ.pop(name, None)
        self._supervisors = [
            Supervisor(
                name,
                command,
                environ=environ,
                on_line=self.handle_line,
                on_change=self._handle_change,
            )
            for name, command in commands.items()
        ]
        self._opened = contextlib.ExitStack()
        self._activity = ActivityTotals()
        self._notes: list[str] = []
        self._is_up = False
        self._stopping = threading.Event()
        self._sweeper = threading.Thread(target=self._sweep, name="sweeps", daemon=True)
        self._events: FolderEvents | None = None
        self._is_catching_up = catch_up
        self._catch_up: CatchUpThread | None = None  # None: nothing is missing, or it is turned off
        self._code = CodeWatch([graph.path, find_lock(graph.path)] if graph.path else ())
        self.failure: DatabaseReplaced | None = None  # why it cannot go on

    def check(self) -> None:
        """Raise an error if the jobs' code, a model or the place of the artifacts is wrong."""
        self._code.add(check_code_alone(self.graph))
        check_models(self.graph, self.graph.jobs)
        resolve_secrets(self.graph, self.graph.jobs)
        check_writable(parse_location(self.graph.artifacts))

    def open(self) -> None:
        """Lock the ledger, and connect; from then on the graph's subscriptions exist."""
        from segue_functions.stack import build_services

        self._opened.enter_context(lock_ledger(self.settings.ledger))
        self._services = self._opened.enter_context(closing(build_services(self.settings)))
        # Of their own: a function that waits for a lock must stop neither the page nor Ctrl-C.
        ledger = connect_ledger(self.settings.ledger, self.graph.namespace)
        self._ledger = self._opened.enter_context(closing(ledger))
        self._queue = self._opened.enter_context(
            closing(connect_queue(self.settings.queue, self.graph))
        )
        with contextlib.suppress(TransientError):  # a server may be available soon
            self._ledger.read([f"file://{self.folder or ''}/"])  # missing rights fail only on use
        self._counter = CountReader(self.graph, self._ledger, self._queue)
        self._pauses = PauseReporter(self.graph, self._ledger)
        if self.folder is not None:
            self._events = FolderEvents(
                self.folder, self._services, is_outdated=lambda: bool(self.find_changes())
            )
        if self._is_catching_up:
            self._catch_up = self._build_catch_up()

    def _build_catch_up(self) -> CatchUpThread:
        compared = threading.Event()
        if self._events is None:
            compared.set()
        catch_up = CatchUp(
            graph=self.graph,
            ledger=self._services.ledger,
            queue=self._services.queue,
            media_filter=self._services.media_filter,
            prefix=f"file://{self.folder.rstrip('/')}/" if self.folder is not None else "",
        )
        return CatchUpThread(
            catch_up,
            compared=self._events.compared if self._events is not None else compared,
            stopping=self._stopping,
        )

    def find_changes(self) -> tuple[str, ...]:
        """Return the files of the graph and of its jobs' code that have changed since the start."""
        return self._code.find_changes()

    def start_events(self) -> None:
        """Say what is missing, watch the folder, and announce what differs from the ledger."""
        with self._label_events():
            self._report_gaps()
        if self._events is not None:
            self._events.start()

    def _report_gaps(self) -> None:
        """Log how many files of the ledger lack results that nobody has requested, and why."""
        try:
            counts = count_jobs(self._ledger, self.graph)
        except TransientError:  # a server may be available soon
            return
        gaps = count_gaps(self.graph, counts)
        if not gaps:
            self._catch_up = None  # no record needs to be read
        if not (gaps := leave_out_requests(gaps, counts)):
            return
        place = f"of those in {self.folder}, they" if self.folder else "they"
        then = (
            f"{place} are requested now, a few at a time; --no-catch-up leaves them"
            if self._catch_up is not None
            else f"to compute them: {self._format_backfill()}"
        )
        log_event(
            Action.MISSING,
            severity="INFO" if self._catch_up is not None else "WARNING",
            process=UP,
            reason=f"files that were known before lack results, by job: {describe_gaps(gaps)}; "
            f"{then}",
        )

    def _format_backfill(self) -> str:
        """Return the command that computes what is missing, with the settings that it needs."""
        path = self.graph.path
        words = ["--graph", path] if path is not None and path != DEFAULT_PATH else []
        found = Settings.load(graph=self.settings.graph)
        for name in ("ledger", "artifacts"):
            if (value := getattr(self.settings, name)) != getattr(found, name):
                words += [f"--{name}", value]
        return shlex.join(["segue", "backfill", *words, "--prefix", self.folder or "", "--all"])

    def start_programs(self) -> None:
        """Start the pipelines and the sweeps."""
        for supervisor in self._supervisors:
            supervisor.thread.start()
        self._sweeper.start()
        if self._catch_up is not None:
            self._catch_up.thread.start()

    def request_stop(self) -> None:
        """Stop watching, and let the pipelines finish running jobs."""
        self._stopping.set()
        if self._events is not None:
            self._events.stop()
        for supervisor in self._supervisors:
            supervisor.stop()

    def kill(self) -> None:
        """Kill all programs at once; no work is lost."""
        for supervisor in self._supervisors:
            supervisor.kill()

    @property
    def programs(self) -> list[threading.Thread]:
        """The threads that keep the programs running."""
        return [supervisor.thread for supervisor in self._supervisors]

    @property
    def threads(self) -> list[threading.Thread]:
        """The threads of this process that use the ledger and the queue."""
        parts = [part.thread for part in (self._events, self._catch_up) if part is not None]
        return [*parts, self._sweeper]

    def close(self) -> None:
        """Release the leases of killed programs, close the ledger and the queue, and unlock."""
        if self.failure is None:
            release_at_exit(self.settings.ledger, self.graph.namespace, is_lost)
        self.disconnect()

    def disconnect(self) -> None:
        """Close the ledger and the queue, and unlock, unless a thread still uses them."""
        if not any(thread.is_alive() for thread in self.threads):
            self._opened.close()

    @property
    def failed_program(self) -> ProgramStatus | None:
        """The program that did not start, if there is one."""
        found = (s.status for s in self._supervisors if s.status.state is ProgramState.FAILED)
        return next(found, None)

    def count_actions(self) -> dict[str, int]:
        """Return how often each action was logged since the start."""
        return self._activity.count_actions()

    def is_idle(self) -> bool:
        """Whether nothing waits or runs."""
        if any(s.status.state is not ProgramState.UP for s in self._supervisors):
            return False
        if any(part and not part.is_idle for part in (self._events, self._catch_up)):
            return False
        try:
            own = list_subscriptions(self.graph, self.graph.pipelines)
            depth = self._queue.measure_depth([one.name for one in own])
            if depth is not None:
                return not any(depth.values())
            with self._label_events():
                counts = self._ledger.count(self.graph.accepted)
        except TransientError:
            return False
        running = sum(states.get(State.RUNNING, 0) for states in counts.jobs.values())
        return running == 0 and self._activity.idle_s > 1.0

    def read_status(self) -> SystemStatus:
        """Return the status of all parts."""
        with self._label_events():
            counts = self._counter.read(self._activity.compute_rates())
        return SystemStatus(
            namespace=self.graph.namespace,
            folder=self.folder,
            is_lost=self.folder is not None and not os.path.isdir(self.folder),
            counts=counts,
            events=self._events.backlog if self._events is not None else 0,
            programs=tuple(s.status for s in self._supervisors),
            failures=self._activity.list_failures(),
            notes=tuple(self._notes),
            running=tuple(read_running_jobs(list_running_folders(self.settings.ledger))),
        )

    # Called by the parts.

    def handle_line(self, name: str, line: Line) -> None:
        """Count a line that a part has logged, and pass it on."""
        named = {"process": line.get("process", name), "namespace": self.graph.namespace}
        line = {**line, **named}
        self._activity.add(line)
        self._on_line(line)
        reason = line.get("error") or line.get("reason")
        if line.get("action") == Action.PAUSED:
            return  # the page shows it for as long as it holds
        if line["process"] == UP and reason:
            self._add_note(str(reason))
        elif line.get("severity") == "ERROR" and line.get("action") != Action.STOPPED:
            self._add_note(f"{name}: {reason}")

    def _label_events(self) -> AbstractContextManager[None]:
        return add_common_fields(namespace=self.graph.namespace)

    def _handle_change(self, program: ProgramStatus) -> None:
        with self._label_events():
            self._report_change(program)

    def _report_change(self, program: ProgramStatus) -> None:
        if program.state in (ProgramState.RESTARTING, ProgramState.FAILED):
            is_restarting = program.state is ProgramState.RESTARTING
            action = "it will be restarted" if is_restarting else "it is not restarted"
            log_event(
                Action.STOPPED,
                severity="WARNING" if is_restarting else "ERROR",
                process=program.name,
                reason=f"{program.failure}; {action}",
                printed="\n".join(program.tail[-3:]) or None,
            )
            self._add_note(f"{program.name} {program.failure}; {action}")
        states = {s.status.state for s in self._supervisors}
        if states == {ProgramState.UP} and not self._is_up:
            self._is_up = True
            log_event(Action.STARTED, process=UP, folder=self.folder)

    def _add_note(self, note: str) -> None:
        """Keep the last notes; a repeated note, as from each retry, only with its newest time."""
        others = [old for old in self._notes if old.partition("  ")[2] != note]
        self._notes = [*others[1 - NOTES :], f"{time.strftime('%H:%M:%S')}  {note}"]

    def _remove_obsolete_letters(self) -> None:
        """Remove the dead letters about files that have been overwritten or deleted since."""
        DeadLetterReplay(
            graph=self.graph,
            ledger=self._services.ledger,
            queue=self._services.queue,
            selection=RetrySelection(jobs=tuple(self.graph.jobs)),
            wait_s=0.0,
        ).run(dry_run=False, only=())

    def _sweep(self) -> None:
        """Trigger the sweep regularly, as the schedule does in the cloud."""
        with self._label_events():
            pause_s = 0.0
            while not self._stopping.wait(pause_s):
                pause_s = self._sweep_once()

    def _sweep_once(self) -> float:
        """Sweep, and return after how many seconds to do it again."""
        from segue_functions.sweep import handle_sweep

        try:
            self._pauses.report(process=UP)
            handle_sweep(build_sweep_event(now=utc_now()), self._services)
            self._remove_obsolete_letters()
        except DatabaseReplaced as error:
            self.failure = error
            self._stopping.set()
        except (TransientError, ConfigurationError):  # the function has logged it
            return RETRY_S
        except SegueError as error:
            reason = f"the sweep failed: {error}"
            log_event(Action.UNAVAILABLE, severity="WARNING", process=UP, reason=reason)
        return SWEEP_S
