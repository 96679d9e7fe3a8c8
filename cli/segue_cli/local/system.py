"""The whole system on one machine: folder → events → functions → queue → pipelines → artifacts.

The functions run in this process, and are called with the same events as in the cloud; the
streaming pipelines are separate programs. This module replaces Cloud Storage, Eventarc and the
schedule: it watches the folder, delivers its events and triggers the regular sweep.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, Any

from segue.adapters.connect import check_writable, connect_ledger, connect_queue
from segue.clock import utc_now
from segue.errors import ConfigurationError, DatabaseReplaced, SegueError, TransientError
from segue.execution.leases import release_at_exit
from segue.log import LOGGER, Action, log_event
from segue.maintenance.retry import DeadLetterReplay, RetrySelection
from segue.model.job_code import check_code
from segue.model.lease_owner import is_lost
from segue.model.media_file import parse_location
from segue.model.queue import list_subscriptions
from segue.model.record import State
from segue.stack import load_graph
from segue_cli.local.cloud_events import build_sweep_event
from segue_cli.local.folder_events import FolderEvents
from segue_cli.local.lock import lock_ledger
from segue_cli.local.programs import build_commands, export_settings, find_catalogue_folder
from segue_cli.local.status import ActivityTotals, CountReader, SystemStatus
from segue_cli.local.supervisor import ProgramState, ProgramStatus, Supervisor

if TYPE_CHECKING:
    from segue.model.settings import Settings

UP, FUNCTIONS = "up", "functions"  # the names of this process and of the functions in its lines
SWEEP_S = 60.0
RETRY_S = 1.0
PIPELINE_GRACE_S = 30.0  # a job that runs longer is killed, and runs again at the next start
EVENT_GRACE_S = 10.0
NOTES = 3

Line = dict[str, Any]


class System:
    """Builds all parts, starts them and stops them.

    Parameters
    ----------
    settings : Settings
    processes : int or None
        The number of child processes per pipeline; None: they share the cores.
    on_line : callable
        Called with each logged line, whose ``process`` is the name of the part.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        processes: int | None,
        on_line: Callable[[Line], None],
    ) -> None:
        self._settings = settings
        self._on_line = on_line
        self.graph = load_graph(settings)
        self.folder = find_catalogue_folder(self.graph)
        commands = build_commands(self.graph.pipelines, processes=processes)
        self._supervisors = [
            Supervisor(name, command, on_line=self._handle_line, on_change=self._handle_change)
            for name, command in commands.items()
        ]
        self._opened = contextlib.ExitStack()
        self._activity = ActivityTotals()
        self._notes: list[str] = []
        self._is_up = False
        self._stopping, self._killed = threading.Event(), threading.Event()
        self._sweeper = threading.Thread(target=self._sweep, name="sweeps", daemon=True)
        self._idle_since: float | None = None
        self.failure: DatabaseReplaced | None = None  # why it cannot go on

    def start(self) -> None:
        """Start all parts; raise an error at once if the configuration is wrong."""
        check_code(self.graph)
        check_writable(parse_location(self.graph.artifacts))
        try:
            self._open()
            self._events.start()
        except BaseException:
            self._opened.close()
            raise
        for supervisor in self._supervisors:
            supervisor.thread.start()
        self._sweeper.start()

    def _open(self) -> None:
        from segue_functions import stack

        self._opened.enter_context(lock_ledger(self._settings.ledger))
        self._opened.enter_context(export_settings(self._settings))
        handler = logging.Handler()
        handler.emit = lambda record: self._handle_line(FUNCTIONS, record.__dict__["segue"])  # type: ignore[method-assign]
        LOGGER.handlers, LOGGER.propagate = [handler], False
        LOGGER.setLevel(logging.INFO)
        self._opened.callback(LOGGER.removeHandler, handler)
        services = stack.get_services()
        self._opened.callback(stack.close)
        # Of their own: a function that waits for a lock must stop neither the page nor Ctrl-C.
        ledger = connect_ledger(self._settings.ledger, self.graph.namespace)
        self._ledger = self._opened.enter_context(closing(ledger))
        self._queue = self._opened.enter_context(
            closing(connect_queue(self._settings.queue, self.graph))
        )
        with contextlib.suppress(TransientError):  # a server may be available soon
            self._ledger.read([f"file://{self.folder}/"])  # missing rights fail only on use
        self._counter = CountReader(self.graph, self._ledger, self._queue)
        self._events = FolderEvents(self.folder, services)

    def stop(self) -> None:
        """Stop watching, and let the pipelines finish running jobs."""
        self._stopping.set()
        self._events.stop()
        for supervisor in self._supervisors:
            supervisor.stop()
        if not self._join([s.thread for s in self._supervisors], PIPELINE_GRACE_S):
            self.kill()
        self._join([self._events.thread, self._sweeper], EVENT_GRACE_S)

    def _join(self, threads: list[threading.Thread], grace_s: float) -> bool:
        """Wait for threads for a while, until ``kill`` is called; return whether all have ended."""
        until = time.monotonic() + grace_s
        while any(t.is_alive() for t in threads) and time.monotonic() < until:
            if self._killed.wait(0.02):
                break
        return not any(t.is_alive() for t in threads)

    def close(self) -> None:
        """Release the leases of killed programs, close the ledger and the queue, and unlock."""
        if self.failure is None:
            release_at_exit(self._settings.ledger, self.graph.namespace, is_lost)
        if not (self._events.thread.is_alive() or self._sweeper.is_alive()):  # nothing uses them
            self._opened.close()

    def kill(self) -> None:
        """Kill all programs at once; no work is lost."""
        self._killed.set()
        for supervisor in self._supervisors:
            supervisor.kill()
        for supervisor in self._supervisors:
            supervisor.thread.join()

    @property
    def failed_program(self) -> ProgramStatus | None:
        """The program that did not start, if there is one."""
        found = (s.status for s in self._supervisors if s.status.state is ProgramState.FAILED)
        return next(found, None)

    def count_actions(self) -> dict[str, int]:
        """Return how often each action was logged since the start."""
        return self._activity.count_actions()

    def measure_idle_s(self) -> float:
        """Return for how long the system has been idle, as of the calls of this method."""
        now = time.monotonic()
        if not self._is_idle():
            self._idle_since = None
            return 0.0
        if self._idle_since is None:
            self._idle_since = now
        return now - self._idle_since

    def _is_idle(self) -> bool:
        if any(s.status.state is not ProgramState.UP for s in self._supervisors):
            return False
        if not self._events.is_idle:
            return False
        try:
            own = list_subscriptions(self.graph, self.graph.pipelines)
            depth = self._queue.measure_depth([one.name for one in own])
            if depth is not None:
                return not any(depth.values())
            counts = self._ledger.count(self.graph.accepted)
        except TransientError:
            return False
        running = sum(states.get(State.RUNNING, 0) for states in counts.jobs.values())
        return running == 0 and self._activity.idle_s > 1.0

    def read_status(self) -> SystemStatus:
        """Return the status of all parts."""
        return SystemStatus(
            folder=self.folder,
            is_lost=not os.path.isdir(self.folder),
            counts=self._counter.read(self._activity.compute_rates()),
            events=self._events.backlog,
            programs=tuple(s.status for s in self._supervisors),
            failures=self._activity.list_failures(),
            notes=tuple(self._notes),
        )

    # Called by the parts.

    def _handle_line(self, name: str, line: Line) -> None:
        line = {**line, "process": line.get("process", name)}
        self._activity.add(line)
        self._on_line(line)
        reason = line.get("error") or line.get("reason")
        if line["process"] == UP and reason:
            self._add_note(str(reason))
        elif line.get("severity") == "ERROR" and line.get("action") != Action.STOPPED:
            self._add_note(f"{name}: {reason}")

    def _handle_change(self, program: ProgramStatus) -> None:
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
        from segue_functions import stack

        services = stack.get_services()
        DeadLetterReplay(
            graph=services.graph,
            ledger=services.ledger,
            queue=services.queue,
            selection=RetrySelection(jobs=tuple(services.graph.jobs)),
            wait_s=0.0,
        ).run(dry_run=False, only=())

    def _sweep(self) -> None:
        """Trigger the sweep regularly, as the schedule does in the cloud."""
        from segue_functions.sweep import handle_sweep

        pause_s = 0.0
        while not self._stopping.wait(pause_s):
            pause_s = SWEEP_S
            try:
                handle_sweep(build_sweep_event(now=utc_now()))
                self._remove_obsolete_letters()
            except DatabaseReplaced as error:
                self.failure = error
                return
            except (TransientError, ConfigurationError):  # the function has logged it
                pause_s = RETRY_S
            except SegueError as error:
                reason = f"the sweep failed: {error}"
                log_event(Action.UNAVAILABLE, severity="WARNING", process=UP, reason=reason)
