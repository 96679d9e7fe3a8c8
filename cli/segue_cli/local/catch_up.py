"""Catches up at the start of ``segue up``: requests what the ledger lacks, a few files at once.

It begins once the folder has been compared with the ledger, so what has changed or gone meanwhile
is known. Requests wait in the pipelines' inboxes, of which arrivals, on subscriptions of their own,
get an equal share; only so many are sent that the pipelines do not run dry.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from segue.errors import DatabaseReplaced, SegueError, TransientError
from segue.log import Action, add_common_fields, log_event
from segue.model.queue import Queue
from segue.model.record import State
from segue.reports.job_states import MISSING, STALE, JobCounts

if TYPE_CHECKING:
    from segue.ingest.catch_up import CatchUp
    from segue.model.graph import Graph

MOST_WAITING = 500  # messages in the inboxes, at which no more are sent
CHECK_S = 0.5
RETRY_S = 2.0


def count_gaps(graph: Graph, counts: JobCounts) -> dict[str, tuple[int, int]]:
    """Return how many files lack a job's result, and how many of these have a stale one, by job.

    Only of jobs that run when a file arrives.
    """
    jobs = graph.select_on_arrival(counts.jobs)
    gaps = {job: (counts.jobs[job][MISSING], counts.jobs[job][STALE]) for job in jobs}
    return {j: (missing, min(stale, missing)) for j, (missing, stale) in gaps.items() if missing}


def leave_out_requests(
    gaps: Mapping[str, tuple[int, int]], counts: JobCounts
) -> dict[str, tuple[int, int]]:
    """Return the gaps of which nobody has requested anything: what is below may be missing, too."""
    n = sum(states[State.QUEUED] + states[State.RUNNING] for states in counts.jobs.values())
    left = {job: (missing - n, stale) for job, (missing, stale) in gaps.items() if missing > n}
    return {job: (missing, min(stale, missing)) for job, (missing, stale) in left.items()}


def describe_gaps(gaps: Mapping[str, tuple[int, int]]) -> str:
    """Say how many files lack a result, by job, and how many of them have a stale one."""
    return ", ".join(
        f"{job} {missing:,}{f' ({stale:,} stale)' if stale else ''}"
        for job, (missing, stale) in gaps.items()
    )


class CatchUpThread:
    """Requests page after page, in a thread, while few requests wait.

    Parameters
    ----------
    catch_up : CatchUp
        Its ledger and queue are used by this thread.
    compared : threading.Event
        Set once the folder has been compared with the ledger.
    stopping : threading.Event
        Set when the system stops.
    most_waiting : int
        The number of messages in the inboxes at which no more are sent.
    """

    def __init__(
        self,
        catch_up: CatchUp,
        *,
        compared: threading.Event,
        stopping: threading.Event,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        self._catch_up = catch_up
        self._compared = compared
        self._stopping = stopping
        self._most_waiting = most_waiting
        self._is_done = False
        self.files = 0  # of which results were requested
        self.thread = threading.Thread(target=self._run, name="catch-up", daemon=True)

    @property
    def is_idle(self) -> bool:
        """Whether it has finished, or waits for a folder that is missing."""
        return self._is_done or not self._compared.is_set()

    def _run(self) -> None:
        with add_common_fields(namespace=self._catch_up.graph.namespace):
            try:
                self._request_all()
            except DatabaseReplaced:  # the sweep ends the system
                pass
            except SegueError as error:
                reason = f"what is missing could not be requested: {error}"
                log_event(Action.UNAVAILABLE, severity="WARNING", process="up", reason=reason)
            self._is_done = True

    def _request_all(self) -> None:
        while not self._compared.is_set():
            if self._stopping.wait(CHECK_S):
                return
        after: str | None = ""
        while after is not None and not self._stopping.is_set():
            try:
                if self._is_full():
                    self._stopping.wait(CHECK_S)
                    continue
                page = self._catch_up.request_page(after)
            except TransientError:  # a server is away; the page is requested again
                self._stopping.wait(RETRY_S)
                continue
            after = page.last if page is not None else None
            self.files += page.files if page is not None else 0
        if after is None and self.files:
            reason = f"caught up: the missing results of {self.files:,} files are requested"
            log_event(Action.REQUESTED, process="up", reason=reason)

    def _is_full(self) -> bool:
        """Whether enough requests wait; a queue that cannot tell is asked by way of the ledger."""
        graph, queue = self._catch_up.graph, self._catch_up.queue
        waiting = _measure_inboxes(graph, queue)
        if waiting is None:
            jobs = self._catch_up.ledger.count(graph.accepted).jobs
            waiting = sum(states.get(State.QUEUED, 0) for states in jobs.values())
        return waiting >= self._most_waiting


def _measure_inboxes(graph: Graph, queue: Queue) -> int | None:
    depth = queue.measure_depth([f"{name}.inbox" for name in graph.pipelines])
    return None if depth is None else sum(depth.values())
