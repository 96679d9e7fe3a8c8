"""The whole system on one machine: folder → events → functions → queue → pipelines → artifacts.

The parts are those of the cloud: the functions on functions-framework, as one server, and the
streaming pipelines, each a program of its own. What Cloud Storage, Eventarc and the schedule do
there is done here: a watched folder, its events, and a sweep now and then.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from segue.adapters.connect import connect_ledger, connect_queue, connect_store
from segue.errors import SegueError, TransientError, Unavailable
from segue.log import Action
from segue.model.job_code import check
from segue.model.queue import topics_of
from segue.model.record import State as JobState
from segue.stack import load_graph
from segue_cli.local.catch_up import CatchUp
from segue_cli.local.cloud_events import Poster, published
from segue_cli.local.event_delivery import Delivered, Delivery, EventMaker
from segue_cli.local.lock import only_one
from segue_cli.local.look import Counter, Look
from segue_cli.local.programs import (
    FUNCTIONS,
    HOST,
    Up,
    catalogue_folder,
    check_installed,
    intake_of,
    programs,
)
from segue_cli.local.supervisor import Standing, State, Supervisor
from segue_cli.local.tally import Tally
from segue_cli.local.watcher import Watcher

SWEEP_S = 60.0
SWEEP_TOPIC = "segue-sweep"
PIPELINE_GRACE_S = 30.0  # what runs longer is given up, and worked on at the next start
SERVER_GRACE_S = 10.0
NOTES = 3

Line = dict[str, Any]


class System:
    """Puts the parts together, starts them and stops them.

    Parameters
    ----------
    up : Up
    told : callable
        Is told each line that is logged, with ``process`` saying by whom.
    """

    def __init__(self, up: Up, *, told: Callable[[Line], None]) -> None:
        self._up = up
        self._told = told
        self.graph = load_graph(up.settings)
        self.folder = catalogue_folder(self.graph)
        self._opened = contextlib.ExitStack()
        self._tally = Tally()
        self._notes: list[str] = []
        self._began = time.monotonic()
        self._is_up = threading.Event()
        self._stopping = threading.Event()
        self._sweeper = threading.Thread(target=self._sweep, name="sweeps", daemon=True)
        self._quiet_since: float | None = None

    def start(self) -> None:
        """Open everything and start all parts; what cannot work raises at once."""
        settings = self._up.settings
        check_installed()
        check(self.graph)
        self._opened.enter_context(only_one(settings.ledger))
        try:
            self._ledger = connect_ledger(settings.ledger)
            self._opened.callback(self._ledger.close)
            self._queue = connect_queue(settings.queue)
            self._opened.callback(self._queue.close)
            with contextlib.suppress(TransientError):  # it may be there in a moment
                self._ledger.read([f"file://{self.folder}/"])  # no rights show at the first use
            self._counter = Counter(self.graph, self._ledger, self._queue)
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
        intake = intake_of(self.graph, self._up.settings)
        self._supervisor = Supervisor(
            programs(self._up, self.graph, self.folder), heard=self._hear, changed=self._change
        )
        maker = EventMaker(files, self._ledger, is_lost=lambda: not os.path.isdir(self.folder))
        self._delivery = Delivery(maker, address=self.address, told=self._deliver)
        self._watcher = Watcher(
            self.folder,
            wanted=lambda path: intake.refusal(f"file://{path}") is None,
            changed=self._delivery.put,
            doubtful=self._doubt,
        )
        self._catch_up = CatchUp(
            self.folder,
            graph=self.graph,
            files=files,
            ledger=self._ledger,
            intake=intake,
            watcher=self._watcher,
            delivery=self._delivery,
            note=self._note,
        )

    def stop(self) -> None:
        """Stop the watch, let the pipelines finish what runs, then stop the functions."""
        self._stopping.set()
        for part in (self._watcher, self._catch_up, self._delivery):
            part.stop()
        names = tuple(p.name for p in self._supervisor.standing() if p.name != FUNCTIONS)
        self._supervisor.stop(names, grace_s=PIPELINE_GRACE_S)
        self._supervisor.stop((FUNCTIONS,), grace_s=SERVER_GRACE_S)
        self._sweeper.join(timeout=SERVER_GRACE_S)

    def close(self) -> None:
        """Let go of ledger, queue and lock."""
        self._opened.close()

    def kill(self) -> None:
        """End all programs at once; nothing is lost by that."""
        self._supervisor.kill()

    def address(self) -> tuple[str, int]:
        """Where the functions are; raises ``Unavailable`` while they are not up."""
        found = self._supervisor.look(FUNCTIONS)
        if found.state is not State.UP:
            raise Unavailable("the functions are not up; the event is sent again")
        return str(found.started.get("host", HOST)), int(found.started["port"])

    @property
    def failure(self) -> Standing | None:
        """The program that does not come up, if one does not."""
        found = (p for p in self._supervisor.standing() if p.state is State.FAILED)
        return next(found, None)

    def counts(self) -> dict[str, int]:
        """How often each action was told of since the start."""
        return self._tally.counts()

    def idle_s(self) -> float:
        """For how long everything has been quiet."""
        now = time.monotonic()
        if not self._is_quiet():
            self._quiet_since = None
            return 0.0
        if self._quiet_since is None:
            self._quiet_since = now
        return now - self._quiet_since

    def _is_quiet(self) -> bool:
        if any(p.state is not State.UP for p in self._supervisor.standing()):
            return False
        if not (self._watcher.is_quiet and self._catch_up.is_quiet):
            return False
        if self._delivery.backlog:
            return False
        try:
            depth = self._queue.depth(topics_of(self.graph))
            if depth is not None:
                return not any(depth.values())
            counts = self._ledger.count(self.graph.accepted)
        except TransientError:
            return False
        running = sum(states.get(JobState.RUNNING, 0) for states in counts.jobs.values())
        return running == 0 and self._tally.quiet_s > 1.0

    def look(self) -> Look:
        """Look at everything."""
        return Look(
            folder=self.folder,
            is_lost=self._watcher.is_lost,
            since_s=time.monotonic() - self._began,
            counted=self._counter.counted(self._tally.rates()),
            events=self._delivery.backlog,
            programs=tuple(self._supervisor.standing()),
            troubles=self._tally.troubles(),
            notes=tuple(self._notes),
        )

    # What the parts say.

    def _doubt(self, folder: str) -> None:
        self._catch_up.put(folder)

    def _hear(self, name: str, line: Line) -> None:
        self._tally.hear(line)
        self._told({**line, "process": name})
        if line.get("severity") == "ERROR":
            self._keep(f"{name}: {line.get('error') or line.get('reason')}")

    def _change(self, program: Standing) -> None:
        if program.state in (State.RESTARTING, State.FAILED):
            way_out = "it is started again" if program.state is State.RESTARTING else "given up"
            self._say(
                Action.STOPPED,
                severity="WARNING" if program.state is State.RESTARTING else "ERROR",
                process=program.name,
                reason=f"{program.trouble}; {way_out}",
                printed="\n".join(program.tail[-3:]) or None,
            )
            self._keep(f"{program.name} {program.trouble}; {way_out}")
        states = {p.state for p in self._supervisor.standing()}
        if states == {State.UP} and not self._is_up.is_set():
            self._is_up.set()
            host, port = self.address()
            self._say(Action.STARTED, folder=self.folder, url=f"http://{host}:{port}")

    def _deliver(self, delivered: Delivered) -> None:
        if delivered.refused is not None:
            self._say(
                Action.MALFORMED, severity="ERROR", file=delivered.uri, reason=delivered.refused
            )

    def _note(self, text: str) -> None:
        self._say(Action.UNAVAILABLE, severity="WARNING", reason=text)
        self._keep(text)

    def _keep(self, note: str) -> None:
        """Keep the last notes; the same one again, as after each try, only with its newest time."""
        others = [kept for kept in self._notes if kept.partition("  ")[2] != note]
        self._notes = [*others[1 - NOTES :], f"{time.strftime('%H:%M:%S')}  {note}"]

    def _say(self, action: Action, *, severity: str = "INFO", **fields: Any) -> None:
        line = {"severity": severity, "action": str(action), "process": "up", **fields}
        self._told({k: v for k, v in line.items() if v is not None})

    def _sweep(self) -> None:
        """Wake the sweeper as the schedule does in the cloud."""
        poster = Poster(self.address)
        while not self._stopping.is_set():
            event = published(project="local", topic=SWEEP_TOPIC, now=datetime.now(UTC))
            pause_s = SWEEP_S
            try:
                poster.post("/sweep", event)
            except Unavailable:
                pause_s = 1.0
            except SegueError as error:
                self._note(f"the sweep does not work: {error}")
            self._stopping.wait(pause_s)
        poster.close()
