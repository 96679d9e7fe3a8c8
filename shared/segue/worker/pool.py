"""A pool of child processes that runs tasks on every core, whatever the jobs do to it.

One thread and no polling: ``submit`` hands tasks to children, ``collect`` waits for what they tell,
holds them to their deadlines, buries the dead, and gives their work to others. A hang, a crash or
an exhausted memory costs one job of one file; the file's other jobs, and all other files, go on.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import time
from typing import TYPE_CHECKING, Self

from segue.errors import ConfigurationError, SegueError, Unavailable
from segue.model.ledger import Result
from segue.worker import numba_cache as compiled
from segue.worker.batch_size import LATE_S, LEAST, Pace
from segue.worker.child_config import Upbringing
from segue.worker.child_handle import READ, WRITE, Link
from segue.worker.crash_report import Inquest, Remains, ended
from segue.worker.fork_server_client import Birth, Nursery
from segue.worker.protocol import Built, Done, Leaving, Order, Returned
from segue.worker.scratch import Scratch
from segue.worker.task_table import Docket
from segue.worker.timeouts import Deadlines

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from types import TracebackType

    from segue.model.graph import Graph
    from segue.worker.protocol import Frame
    from segue.worker.shared_state import Place
    from segue.worker.task import Report, Task
    from segue.worker.task_table import Item

IMPORT_S = 600.0
SETUP_S = 600.0
WARMUP_S = 60.0
GRACE_S = 5.0
# Less work than this is done before it has been moved.
WORTH_MOVING_S = 0.01
MAX_LOST_NURSERIES = 3


def available_cores() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Pool:
    """Child processes, and the tasks that they work on.

    Parameters
    ----------
    graph : Graph
    artifacts : str
        Where artifacts are written: ``gs://bucket/prefix`` or a folder.
    processes : int > 0, optional
        How many children at most; by default one for each processor. They are started when there is
        work for them.
    jobs : collection of str, optional
        The jobs that will be asked for, to be loaded once before children are forked; by default
        all of the graph. Any other can be asked for, too, and is then loaded in each child.
    setup_s : float > 0
        How long a job may take to be imported, constructed and set up, once in a process. There is
        no memory bound meanwhile: what a job loads then is part of what the process holds.
    warmup_s : float >= 0
        What a job's first call in a process gets beyond its ``timeout_s``, for things that compile
        or load. Once one such call has ended, later ones get twice the longest that was seen.
    max_growth_gib : float > 0
        A child that holds so much more than when its jobs were set up leaks, and is replaced.
    max_tasks : int > 0
        A child is replaced after so many.
    scratch : str, optional
        The folder in which temporary files are put; by default the system's.
    """

    def __init__(
        self,
        graph: Graph,
        artifacts: str,
        *,
        processes: int | None = None,
        jobs: Collection[str] | None = None,
        setup_s: float = SETUP_S,
        warmup_s: float = WARMUP_S,
        max_growth_gib: float = 1.0,
        max_tasks: int = 100_000,
        scratch: str | None = None,
    ) -> None:
        self.graph = graph
        self.processes = processes or available_cores()
        self._deadlines = Deadlines(graph, setup_s=setup_s, warmup_s=warmup_s)
        self._docket = Docket(graph)
        self._inquest = Inquest(graph, self._docket, self._deadlines)
        self._pace = Pace()
        self._links: dict[int, Link] = {}
        self._serial = self._born = 0
        self._lost_nurseries = 0
        self._hopeless: SegueError | None = None
        self._is_closed = False
        self._watch_at_s = 0.0
        # What begins now is not late earlier.
        self._watch_s = min(LATE_S, self._deadlines.shortest_s)
        self._selector = selectors.DefaultSelector()
        self._scratch = Scratch(scratch)
        self._upbringing = Upbringing(
            graph=graph,
            jobs=frozenset(graph.jobs if jobs is None else jobs),
            artifacts=artifacts,
            leaves_compiled=compiled.VARIABLE not in os.environ,
            folder=self._scratch.path,
            max_growth_gib=max_growth_gib,
            max_tasks=max_tasks,
        )
        try:
            self._open_nursery()
        except BaseException:
            self._selector.close()
            self._scratch.remove()
            raise

    def _open_nursery(self) -> None:
        self._nursery = Nursery(self._upbringing)
        self._opened_s = time.monotonic()
        self._selector.register(self._nursery.channel, READ)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.kill()

    @property
    def pending(self) -> int:
        """How many tasks were submitted and are not finished."""
        return self._docket.pending

    @property
    def hungry(self) -> int:
        """How many more tasks are wanted now, so that no child will have to wait for one."""
        return max(0, 3 * self.processes * self._pace.message() - self.pending)

    def submit(self, tasks: Sequence[Task]) -> None:
        """Take over tasks; reports will tell of each of their jobs once."""
        for run in {task.run for task in tasks}:
            unknown = [name for name in run if name not in self.graph.jobs]
            if unknown or not run:
                raise ConfigurationError(
                    f"a task's jobs are {run}, of which {unknown or 'none'} is no job of the graph"
                )
        self._docket.add(tasks)
        self._deal()

    def collect(self, timeout_s: float) -> list[Report]:
        """Return what has become of tasks, as soon as there is anything, or nothing after a time.

        It must be called again and again while tasks are pending: deadlines are watched in here.
        With nothing pending it returns at once.

        Raises
        ------
        ConfigurationError
            If a job cannot be started, or says that the set-up is wrong: no file could be worked
            on.
        Unavailable
            If a job's setup needs something that stays away.
        """
        end_s = time.monotonic() + timeout_s
        while True:
            self._turn(0.0 if self._docket.news else end_s - time.monotonic())
            if reports := self._docket.reports():
                return reports
            if self._hopeless is not None:
                raise self._hopeless
            if not self._docket.pending or time.monotonic() >= end_s:
                return []

    def close(self) -> None:
        """End the children once they are done with their files, at most some seconds from now."""
        if self._is_closed:
            return
        self._docket.queue.clear()
        for link in self._links.values():
            link.hang_up()
        end_s = time.monotonic() + GRACE_S
        self._is_closed = True
        while self._links and (left_s := end_s - time.monotonic()) > 0:
            self._turn(left_s)
        if self._upbringing.leaves_compiled and not self._links:
            with os.scandir(self._scratch.path) as entries:
                compiled.leave([os.path.join(e.path, compiled.NAME) for e in entries])
        self._let_go()

    def kill(self) -> None:
        """End the children at once, and drop what they have not told."""
        if not self._is_closed:
            self._is_closed = True
            self._let_go()

    def _let_go(self) -> None:
        self._nursery.close(gently=self._nursery.has_borne)
        for link in self._links.values():
            link.close()
        self._links.clear()
        self._selector.close()
        self._scratch.remove()

    # Work goes out.

    def _deal(self) -> None:
        """Give children what they can take: one message to work on, and one to go on with."""
        while self._docket.queue and not self._is_closed and self._hopeless is None:
            link = self._hungriest()
            if link is None:
                return
            self._give(link)

    def _hungriest(self) -> Link | None:
        best = None
        for link in self._links.values():
            if link.is_late or link.leaves_by_s or link.killed:
                continue
            load = link.load
            if load == 0:
                return link
            if load == 1 and best is None:
                best = link
        if len(self._links) >= self.processes:
            return best
        self._born += 1
        link = Link(self._born, self._nursery, self._selector, jobs=len(self.graph.jobs))
        self._links[self._born] = link
        return link

    def _give(self, link: Link) -> None:
        """Send one message: some time's worth of work, and no more than a fair share."""
        queue, pace = self._docket.queue, self._pace
        fair = -(-len(queue) // (2 * self.processes))
        orders: list[Order] = []
        items: list[Item] = []
        filled = 0.0
        while queue and filled < 1.0 and (len(orders) < fair or filled < LEAST):
            item = queue.popleft()
            if item.alone and orders:
                queue.appendleft(item)
                break
            self._serial += 1
            task = item.task
            orders.append(
                Order(
                    self._serial,
                    task.media.uri,
                    task.media.generation,
                    item.run,
                    dict(item.inputs),
                    task.force,
                    item.alone,
                )
            )
            items.append(item)
            filled += 1.0 if item.alone else pace.share(item.run)
        link.give(orders, items)

    # Word comes in.

    def _turn(self, wait_s: float) -> None:
        """Wait until something happens, at most so long, and deal with it."""
        self._deal()
        now_s = time.monotonic()
        if now_s >= self._watch_at_s:
            self._watch(now_s)
        wait_s = max(0.0, min(wait_s, self._watch_at_s - now_s))
        for key, events in self._selector.select(wait_s):
            if key.data is None:
                self._hear()
            elif key.data.number in self._links:
                if events & WRITE:
                    key.data.send()
                for frame in key.data.receive() if events & READ else ():
                    self._note(key.data, frame)
        self._deal()
        self._balance()

    def _note(self, link: Link, frame: Frame) -> None:
        """Take note of what a child tells."""
        link.is_late = False
        if isinstance(frame, Done):
            self._done(link, frame)
        elif isinstance(frame, Returned):
            items = [link.items.pop(s) for s in frame.serials if s in link.items]
            self._docket.give_back(items)
        elif isinstance(frame, Built):
            self._pace.learn_batch(frame.job, frame.batch_size)
        elif isinstance(frame, Leaving):
            link.leaves_by_s = time.monotonic() + GRACE_S
        elif self._hopeless is None:
            self._hopeless = (Unavailable if frame.transient else ConfigurationError)(frame.message)

    def _done(self, link: Link, frame: Done) -> None:
        item = link.items.get(frame.serial)
        if item is None or frame.job in item.results:
            return
        link.has_worked = True
        self._inquest.worked(frame.job)
        item.seconds += frame.seconds
        if frame.cold:
            item.learnt = False
            self._deadlines.warmed(frame.job, frame.seconds)
        result = Result(
            job=frame.job,
            state=frame.state,
            artifact=frame.artifact,
            checksum=frame.checksum,
            error=frame.error,
            seconds=frame.seconds,
            cpu_seconds=frame.cpu_seconds,
        )
        if self._docket.record(item, result):
            del link.items[frame.serial]
            if item.learnt:
                self._pace.learn(item.run, item.seconds)

    def _hear(self) -> None:
        """Take note of births and deaths."""
        notices = self._nursery.notices()
        if notices is None:
            self._lose_nursery()
            return
        for notice in notices:
            link = self._links.get(notice.child)
            if link is None:
                continue
            if isinstance(notice, Birth):
                link.process = notice.process
            else:
                self._bury(link, notice.status)

    # What goes wrong.

    def _watch(self, now_s: float) -> None:
        """Kill what is past its deadline; what waits behind a job that is late goes to others."""
        barren = self._links and not self._nursery.has_borne
        if barren and now_s - self._opened_s > IMPORT_S:
            self._hopeless = self._hopeless or ConfigurationError(
                f"the jobs' modules took longer than {IMPORT_S:g} s to import; make them faster"
            )
        next_s = now_s + self._watch_s
        for link in self._links.values():
            if link.is_garbled or (link.leaves_by_s and now_s > link.leaves_by_s):
                self._nursery.kill(link.number)
            place = link.place()
            if place is None or link.killed:
                continue
            limit_s, ran_s = self._deadlines.limit_s(place), now_s - place.since_s
            if ran_s > limit_s:
                link.killed = (place, ran_s)
                self._nursery.kill(link.number)
            elif link.items and ran_s > self._late_s(link, place):
                for frame in link.overhear():
                    self._note(link, frame)
                if behind := link.take_back():
                    self._docket.give_back(behind)
                    link.is_late = True
            next_s = min(next_s, place.since_s + limit_s)
        self._watch_at_s = max(next_s, now_s + 0.001)

    def _late_s(self, link: Link, place: Place) -> float:
        return self._pace.late_s(next(iter(link.items.values())).run) * place.files

    def _balance(self) -> None:
        """When a child has nothing to do, let it have what waits behind others."""
        if self._docket.queue or self._is_closed:
            return
        if len(self._links) >= self.processes and all(link.items for link in self._links.values()):
            return
        for link in self._links.values():
            if len(link.items) > 1 and not link.killed:
                last = link.items[next(reversed(link.items))]
                seconds = self._pace.seconds(last.run)
                if seconds is None or seconds * (len(link.items) - 1) > WORTH_MOVING_S:
                    self._docket.give_back(link.take_back())

    def _bury(self, link: Link, status: int, *, innocent: bool = False) -> None:
        """Take note of a death: what was told last, whose fault it was, what is left to do."""
        for frame in link.last_words():
            self._note(link, frame)
        remains = Remains(
            status, link.place(), link.cell.taken, link.items, link.killed, link.has_worked
        )
        del self._links[link.number]
        link.close()
        if self._is_closed or self._hopeless is not None:
            return
        if not (innocent or link.leaves_by_s):
            self._hopeless = self._inquest.hold(remains)
        self._docket.give_back(link.items.values())

    def _lose_nursery(self) -> None:
        """The nursery is dead, and so are its children; begin anew with another."""
        self._selector.unregister(self._nursery.channel)
        status = self._nursery.close(gently=False)
        for link in tuple(self._links.values()):
            if link.process is not None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(link.process, signal.SIGKILL)
            self._bury(link, -signal.SIGKILL, innocent=True)
        self._lost_nurseries += 1
        if not self._nursery.has_borne or self._lost_nurseries > MAX_LOST_NURSERIES:
            self._hopeless = ConfigurationError(
                f"the process that starts child processes was {ended(status)}; "
                "its standard error may tell why"
            )
        if not self._is_closed and self._hopeless is None:
            self._open_nursery()
