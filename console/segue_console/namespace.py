"""One graph whose ledger and artifacts the console shows, and what was last counted there."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from statistics import fmean

from segue.adapters.urls import find_file
from segue.errors import ConfigurationError, SegueError
from segue.model.graph import Graph, find_lock
from segue.model.settings import Settings
from segue.reports.estimate import measure_jobs
from segue.reports.job_states import JobCounts, count_jobs
from segue.stack import Stack, load_graph, open_stack

COUNT_S = 1.0  # between two counts, while somebody looks
COUNT_SHARE = 5  # a count that takes a second is made at most every 5 seconds
READS_PER_HOUR = 1_000_000  # of Firestore, for counting while somebody looks: 0.30 US dollars
WATCHED_S = 20.0  # after which nobody looks any more
STOP_S = 1.0  # that the end waits for a count; one of a ledger that is away is given up
FIRST_S = 0.03  # that a page waits for the first count
COSTS_S = 60.0  # for which measured costs are kept
HISTORY = 600  # counts, of which throughput is shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """The counts of the ledger at one moment."""

    counts: JobCounts
    at: float  # time.time()
    pause_s: float = COUNT_S  # until the next count
    # Results per second of each job, over the last counts.
    rates: Mapping[str, float] = field(default_factory=dict)


class Namespace:
    """A graph with its ledger and its artifacts, which are opened once.

    Parameters
    ----------
    settings : Settings
        Those that select the graph.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.graph: Graph = load_graph(settings)
        self.problem: str | None = None  # why a graph that has changed cannot be shown
        self._paths = [self.graph.path, find_lock(self.graph.path)] if self.graph.path else []
        self._read = _read_stats(self._paths)
        self._opened = contextlib.ExitStack()
        self._stack: Stack | None = None
        self._ledger_file: tuple[int, int] | None = None  # that is open
        self._lock = threading.Lock()
        self._costs: dict[str, float] = {}  # by job
        self._costs_at: float | None = None
        self.name = self.graph.namespace
        self.live = LiveCounts(self)

    def refresh(self) -> None:
        """Read the graph again if its file, or its lock, has changed."""
        found = _read_stats(self._paths)
        with self._lock:
            if found == self._read:
                return
            self._read = found
            if found[:1] == [None]:  # by its name, another would be found than the one meant
                self.problem = f"{self._paths[0]} does not exist any more"
                return
            try:
                graph = load_graph(self.settings)
            except ConfigurationError as error:
                self.problem = str(error)
                return
            if graph.namespace != self.name:
                self.problem = f"its namespace is {graph.namespace!r} now; start the console again"
                return
            self.graph, self.problem = graph, None
            self._costs_at = None
            if self._stack is not None and self._stack.graph.artifacts == graph.artifacts:
                self._stack = replace(self._stack, graph=graph)
            else:
                self._stack = None
        self.live.forget()

    @property
    def version(self) -> str:
        """Which version of the graph's file, and of its lock, was read last."""
        return hashlib.sha256(repr(self._read).encode()).hexdigest()[:12]

    @property
    def stack(self) -> Stack:
        """The open stack; of a ledger that was created or replaced since, a new one."""
        with self._lock:
            found = _identify(self.settings.ledger)
            if self._stack is None or found not in (None, self._ledger_file):
                # What was open before stays open until the end: another page may be reading it.
                opened = open_stack(self.settings, graph=self.graph, create=False)
                self._stack = self._opened.enter_context(opened)
                self._ledger_file = found
            return self._stack

    def measure_costs(self) -> Mapping[str, float]:
        """Return the mean CPU time in seconds that jobs took for a few files, by job."""
        now = time.monotonic()
        if self._costs_at is None or now - self._costs_at > COSTS_S:
            samples = measure_jobs(self.graph, self.stack.ledger, list(self.graph.jobs), "")
            costs = {
                j: fmean(s.cpu_seconds for s in found) for j, found in samples.items() if found
            }
            self._costs, self._costs_at = costs, now
        return self._costs

    def close(self) -> None:
        """Stop counting, and close the ledger."""
        self.live.stop()
        with self._lock:
            self._opened.close()
            self._stack = None


class LiveCounts:
    """Counts the ledger again and again, in a thread, as long as somebody looks at a page."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._wanted, self._stopping = threading.Event(), threading.Event()
        self._first = threading.Event()
        self._watched_at = 0.0
        self._history: deque[Counted] = deque(maxlen=HISTORY)
        self.error: str | None = None  # why the last count failed
        name = f"counts-{namespace.name}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to count."""
        self.watch()
        self._thread.start()

    def stop(self) -> None:
        """Stop counting."""
        self._stopping.set()
        self._wanted.set()
        if self._thread.is_alive():
            self._thread.join(STOP_S)

    def watch(self) -> Counted | None:
        """Return the latest counts, and go on counting for a while; None if there are none yet."""
        self._watched_at = time.monotonic()
        self._wanted.set()
        self._first.wait(FIRST_S)
        history = self.list_history()
        return history[-1] if history else None

    def forget(self) -> None:
        """Forget the counts, which are of another graph."""
        self._history.clear()

    @property
    def is_stopped(self) -> bool:
        """Whether it counts no more."""
        return self._stopping.is_set()

    def list_history(self) -> list[Counted]:
        """Return the counts since the console was opened, oldest first."""
        return list(self._history)

    def _run(self) -> None:
        while self._wanted.wait() and not self._stopping.is_set():
            began = time.monotonic()
            if began - self._watched_at > WATCHED_S:
                self._wanted.clear()
                continue
            pause_s = COUNT_S
            try:
                stack = self._namespace.stack
                counts = count_jobs(stack.ledger, stack.graph)
            except SegueError as error:  # a server is away; it is tried again
                self.error = str(error)
            else:
                self.error = None
                took_s = time.monotonic() - began
                pause_s = find_pause_s(took_s, counts.reads)
                if stack.graph is self._namespace.graph:  # else these are of the one before
                    self._add(counts, pause_s)
            self._first.set()
            self._stopping.wait(pause_s)

    def _add(self, counts: JobCounts, pause_s: float) -> None:
        now = time.time()
        rates: dict[str, float] = {}
        recent = [one for one in list(self._history) if now - one.at <= 10 * pause_s]
        if recent and now > recent[0].at:
            before = recent[0]
            for job, states in counts.jobs.items():
                more = states["done"] - before.counts.jobs.get(job, states)["done"]
                rates[job] = max(more, 0) / (now - before.at)
        self._history.append(Counted(counts=counts, at=now, pause_s=pause_s, rates=rates))


def find_pause_s(took_s: float, reads: int) -> float:
    """Return how long to wait after a count that took so long, and that cost so many reads."""
    return max(COUNT_S, COUNT_SHARE * took_s, 3600.0 * reads / READS_PER_HOUR)


def _identify(ledger: str) -> tuple[int, int] | None:
    """Return what tells the file of a ledger from another of its name; None if there is none."""
    path = find_file(ledger)
    if path is None:  # a server has it
        return 0, 0
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _read_stats(paths: list[str]) -> list[tuple[int, int, int] | None]:
    """Return what tells whether files have changed; None of those that are not there."""
    found: list[tuple[int, int, int] | None] = []
    for path in paths:
        try:
            stat = os.stat(path)
        except OSError:
            found.append(None)
        else:
            found.append((stat.st_ino, stat.st_size, stat.st_mtime_ns))
    return found


@contextlib.contextmanager
def open_namespaces(settings: list[Settings]) -> Iterator[dict[str, Namespace]]:
    """Open the graphs that some settings select, by name, and close them at the end.

    Raises
    ------
    ConfigurationError
        If a graph or a setting is wrong, or two graphs are of one namespace.
    """
    with contextlib.ExitStack() as opened:
        namespaces: dict[str, Namespace] = {}
        for one in settings:
            namespace = Namespace(one)
            opened.callback(namespace.close)
            if (other := namespaces.get(namespace.name)) is not None:
                raise ConfigurationError(
                    f"{other.graph.path} and {namespace.graph.path} are both of the namespace "
                    f"{namespace.name!r}, of which the console shows one graph; leave one out"
                )
            namespaces[namespace.name] = namespace
        for namespace in namespaces.values():
            _ = namespace.stack  # whether its settings make sense is known before a page is open
            namespace.live.start()
        yield namespaces
