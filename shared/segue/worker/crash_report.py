"""What the death of a child means: whose fault it was, and what becomes of its tasks."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, NamedTuple

from segue.errors import ConfigurationError, Kind
from segue.model.record import Failure
from segue.worker.shared_state import Phase

if TYPE_CHECKING:
    from collections.abc import Mapping

    from segue.model.graph import Graph
    from segue.worker.shared_state import Place
    from segue.worker.task_table import Docket, Item
    from segue.worker.timeouts import Deadlines

# So many children may die near a task, but in none of its jobs, before the next job is blamed.
MAX_DEATHS = 3
# So many may die in a row without having done anything, before there is no sense in another.
MAX_STILLBIRTHS = 5


class Remains(NamedTuple):
    """What a dead child leaves."""

    status: int  # exit code, or minus the signal
    place: Place | None  # where it was
    taken: int  # the last order that it took up
    items: Mapping[int, Item]  # what it had not finished, by serial
    killed: tuple[Place, float] | None  # if we killed it: where it was then, and since how long
    has_worked: bool


class Inquest:
    """Judges deaths, one after the other."""

    def __init__(self, graph: Graph, docket: Docket, deadlines: Deadlines) -> None:
        self._graph = graph
        self._names = tuple(graph.jobs)
        self._docket = docket
        self._deadlines = deadlines
        self._stillbirths = 0
        self._failed_setups: set[str] = set()

    def worked(self, job: str) -> None:
        """A job gave a result: what went wrong at a start before was no rule."""
        self._stillbirths = 0
        if self._failed_setups:
            self._failed_setups.discard(job)

    def hold(self, remains: Remains) -> ConfigurationError | None:
        """Blame the job whose fault it was, if any; answers with an error if going on is vain."""
        place = remains.place
        if place is not None and place.phase is Phase.SETUP:
            return self._in_setup(self._names[place.job], remains)
        if place is None:
            return self._between_jobs(remains)
        item, job = remains.items.get(place.serial), self._names[place.job]
        if remains.killed is not None and remains.killed[0] != place:
            return None  # it was done just before it was killed, and was at the next job already
        if remains.killed is not None and place.phase is Phase.COLD:
            self._deadlines.warmed(job)
        if place.files > 1:
            for serial, other in remains.items.items():
                other.alone = other.alone or serial <= remains.taken
        elif item is None or job in item.results:
            return self._between_jobs(remains)
        elif remains.killed is not None:
            limit_s, ran_s = self._graph.jobs[job].timeout_s, remains.killed[1]
            self._docket.fail(item, job, timeout(ran_s, limit_s), seconds=ran_s)
        else:
            self._docket.fail(item, job, crash(remains.status))
        return None

    def _in_setup(self, job: str, remains: Remains) -> ConfigurationError | None:
        """Nothing can be done without the job; but once may have been another's fault."""
        start = f"job {job!r} cannot start: its setup"
        if remains.killed is not None:
            return ConfigurationError(
                f"{start} took longer than {self._deadlines.setup_s:g} s; make it faster"
            )
        if job in self._failed_setups:
            return ConfigurationError(f"{start}'s process was {ended(remains.status)}, twice")
        self._failed_setups.add(job)
        return None

    def _between_jobs(self, remains: Remains) -> ConfigurationError | None:
        """No job was being run: somebody killed it, say. If that goes on, blame the next job."""
        self._stillbirths += not remains.has_worked
        if self._stillbirths > MAX_STILLBIRTHS:
            return ConfigurationError(
                f"{self._stillbirths} child processes in a row were {ended(remains.status)}, "
                "before they had done anything; their standard error may tell why"
            )
        for serial, item in remains.items.items():
            if serial <= remains.taken and not item.finished:
                item.deaths += 1
                if item.deaths > MAX_DEATHS:
                    job = next(j for j in item.task.run if j not in item.results)
                    self._docket.fail(item, job, crash(remains.status))
                break
        return None


def timeout(ran_s: float, limit_s: float) -> Failure:
    """A job was stopped at its deadline."""
    message = (
        f"it ran for {ran_s:.1f} s and was stopped; its timeout_s is {limit_s:g}: raise it, "
        "or find out what it waits for"
    )
    return Failure(kind=Kind.TIMEOUT, type="JobTimeout", message=message)


def crash(status: int) -> Failure:
    """A job's process died by itself."""
    return Failure(kind=Kind.CRASHED, type="JobCrashed", message=f"its process was {ended(status)}")


def ended(status: int) -> str:
    """Say how a process ended, after "was"."""
    if status >= 0:
        return f"ended by exit code {status}; the job, or something that it calls, exits"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = "unknown"
    text = f"killed by signal {-status} ({name})"
    if -status == signal.SIGKILL:
        return f"{text}, not by Segue: most likely the kernel ran out of memory; see dmesg"
    return text
