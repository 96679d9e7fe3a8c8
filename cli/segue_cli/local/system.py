"""The whole system on one machine: folder → events → functions → queue → pipelines → artifacts.

The parts are those of the cloud: the functions in one server on functions-framework, and the
streaming pipelines, each as a separate program. This module replaces Cloud Storage, Eventarc and
the schedule: it watches the folder, delivers its events and triggers the regular sweep.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from typing import Any

from segue.adapters.connect import connect_ledger, connect_queue, connect_store
from segue.clock import utc_now
from segue.errors import SegueError, TransientError, Unavailable
from segue.ingest.media_filter import build_media_filter
from segue.log import Action
from segue.model.job_code import check_code
from segue.model.queue import list_topics
from segue.model.record import State
from segue.stack import load_graph
from segue_cli.local.activity_totals import ActivityTotals
from segue_cli.local.catch_up import CatchUp
from segue_cli.local.cloud_events import EventPoster, build_published_event
from segue_cli.local.event_delivery import DeliveredEvent, EventBuilder, EventDelivery
from segue_cli.local.lock import lock_ledger
from segue_cli.local.programs import (
    FUNCTIONS,
    HOST,
    SystemConfig,
    build_programs,
    find_catalogue_folder,
)
from segue_cli.local.supervisor import ProgramState, ProgramStatus, Supervisor
from segue_cli.local.system_status import CountReader, SystemStatus
from segue_cli.local.watcher import Watcher

SWEEP_S = 60.0
SWEEP_TOPIC = "segue-sweep"
PIPELINE_GRACE_S = 30.0  # a job that runs longer is killed, and runs again at the next start
SERVER_GRACE_S = 10.0
NOTES = 3

Line = dict[str, Any]


class System:
    """Builds all parts, starts them and stops them.

    Parameters
    ----------
    up : Up
    on_line : callable
        Called with each logged line, whose ``process`` is the name of the program.
    """

    def __init__(self, up: SystemConfig, *, on_line: Callable[[Line], None]) -> None:
        self._up = up
        self._on_line = on_line
        self.graph = load_graph(up.settings)
        self.folder = find_catalogue_folder(self.graph)
        self._opened = contextlib.ExitStack()
        self._activity = ActivityTotals()
        self._notes: list[str] = []
        self._began = time.monotonic()
        self._is_up = threading.Event()
        self._stopping = threading.Event()
        self._sweeper = threading.Thread(target=self._sweep, name="sweeps", daemon=True)
        self._idle_since: float | None = None

    def start(self) -> None:
        """Start all parts; raise an error at once if the configuration is wrong."""
        settings = self._up.settings
        check_code(self.graph)
        self._opened.enter_context(lock_ledger(settings.ledger))
        try:
            self._ledger = connect_ledger(settings.ledger)
            self._opened.callback(self._ledger.close)
            self._queue = connect_queue(settings.queue)
            self._opened.callback(self._queue.close)
            with contextlib.suppress(TransientError):  # a server may be available soon
                self._ledger.read([f"file://{self.folder}/"])  # missing rights fail only on use
            self._counter = CountReader(self.graph, self._ledger, self._queue)
            self._build()
            self._watcher.start()
        except BaseException:
            self._opened.close()
            raise
        self._supervisor.start()
        self._delivery.start()
        self._catch_up.start()
        self._sweeper.start()

    def _build(self) -> None:
        files = connect_store("file:///")
        media_filter = build_media_filter(self.graph, self._up.settings)
        self._supervisor = Supervisor(
            build_programs(self._up, self.graph, self.folder),
            on_line=self._handle_line,
            on_change=self._handle_change,
        )
        builder = EventBuilder(files, self._ledger, is_lost=lambda: not os.path.isdir(self.folder))
        self._delivery = EventDelivery(
            builder, address=self.address, on_delivered=self._handle_delivery
        )
        self._watcher = Watcher(
            self.folder,
            is_wanted=lambda path: media_filter.accepts(f"file://{path}"),
            on_change=self._delivery.put,
            on_rescan=self._compare_folder,
        )
        self._catch_up = CatchUp(
            self.folder,
            graph=self.graph,
            files=files,
            ledger=self._ledger,
            media_filter=media_filter,
            watcher=self._watcher,
            delivery=self._delivery,
            on_warning=self._warn,
        )

    def stop(self) -> None:
        """Stop watching, let the pipelines finish running jobs, then stop the functions."""
        self._stopping.set()
        for part in (self._watcher, self._catch_up, self._delivery):
            part.stop()
        names = tuple(p.name for p in self._supervisor.list_statuses() if p.name != FUNCTIONS)
        self._supervisor.stop(names, grace_s=PIPELINE_GRACE_S)
        self._supervisor.stop((FUNCTIONS,), grace_s=SERVER_GRACE_S)
        self._sweeper.join(timeout=SERVER_GRACE_S)

    def close(self) -> None:
        """Close the ledger and the queue, and release the lock."""
        self._opened.close()

    def kill(self) -> None:
        """Kill all programs at once; no work is lost."""
        self._supervisor.kill()

    def address(self) -> tuple[str, int]:
        """Return host and port of the functions; raise ``Unavailable`` while they are not up."""
        found = self._supervisor.find_status(FUNCTIONS)
        if found.state is not ProgramState.UP:
            raise Unavailable("the function server is not up; the event will be sent again")
        return str(found.started.get("host", HOST)), int(found.started["port"])

    @property
    def failed_program(self) -> ProgramStatus | None:
        """The program that did not start, if there is one."""
        found = (p for p in self._supervisor.list_statuses() if p.state is ProgramState.FAILED)
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
        if any(p.state is not ProgramState.UP for p in self._supervisor.list_statuses()):
            return False
        if not (self._watcher.is_idle and self._catch_up.is_idle):
            return False
        if self._delivery.backlog:
            return False
        try:
            depth = self._queue.measure_depth(list_topics(self.graph))
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
            is_lost=self._watcher.is_lost,
            since_s=time.monotonic() - self._began,
            counts=self._counter.read(self._activity.compute_rates()),
            events=self._delivery.backlog,
            programs=tuple(self._supervisor.list_statuses()),
            failures=self._activity.list_failures(),
            notes=tuple(self._notes),
        )

    # Called by the parts.

    def _compare_folder(self, folder: str) -> None:
        self._catch_up.put(folder)

    def _handle_line(self, name: str, line: Line) -> None:
        self._activity.add(line)
        self._on_line({**line, "process": name})
        if line.get("severity") == "ERROR":
            self._add_note(f"{name}: {line.get('error') or line.get('reason')}")

    def _handle_change(self, program: ProgramStatus) -> None:
        if program.state in (ProgramState.RESTARTING, ProgramState.FAILED):
            is_restarting = program.state is ProgramState.RESTARTING
            action = "it will be restarted" if is_restarting else "it is not restarted"
            self._log(
                Action.STOPPED,
                severity="WARNING" if is_restarting else "ERROR",
                process=program.name,
                reason=f"{program.failure}; {action}",
                printed="\n".join(program.tail[-3:]) or None,
            )
            self._add_note(f"{program.name} {program.failure}; {action}")
        states = {p.state for p in self._supervisor.list_statuses()}
        if states == {ProgramState.UP} and not self._is_up.is_set():
            self._is_up.set()
            host, port = self.address()
            self._log(Action.STARTED, folder=self.folder, url=f"http://{host}:{port}")

    def _handle_delivery(self, delivered: DeliveredEvent) -> None:
        if delivered.refused is not None:
            self._log(
                Action.MALFORMED, severity="ERROR", file=delivered.uri, reason=delivered.refused
            )

    def _warn(self, text: str) -> None:
        self._log(Action.UNAVAILABLE, severity="WARNING", reason=text)
        self._add_note(text)

    def _add_note(self, note: str) -> None:
        """Keep the last notes; a repeated note, as from each retry, only with its newest time."""
        others = [old for old in self._notes if old.partition("  ")[2] != note]
        self._notes = [*others[1 - NOTES :], f"{time.strftime('%H:%M:%S')}  {note}"]

    def _log(self, action: Action, *, severity: str = "INFO", **fields: Any) -> None:
        line = {"severity": severity, "action": str(action), "process": "up", **fields}
        self._on_line({k: v for k, v in line.items() if v is not None})

    def _sweep(self) -> None:
        """Trigger the sweep regularly, as the schedule does in the cloud."""
        poster = EventPoster(self.address)
        while not self._stopping.is_set():
            event = build_published_event(project="local", topic=SWEEP_TOPIC, now=utc_now())
            pause_s = SWEEP_S
            try:
                poster.post("/sweep", event)
            except Unavailable:
                pause_s = 1.0
            except SegueError as error:
                self._warn(f"the sweep failed: {error}")
            self._stopping.wait(pause_s)
        poster.close()
