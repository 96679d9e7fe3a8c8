"""The systems of one or more graphs, which are checked, started and stopped together."""

from __future__ import annotations

import dataclasses
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

from segue.adapters.urls import find_file, identify_queue, make_url_absolute
from segue.errors import ConfigurationError, DatabaseReplaced
from segue.log import LOGGER
from segue.model.graph import GraphError
from segue.model.media_file import parse_location
from segue.stack import load_graph
from segue_cli.local.programs import share_cores
from segue_cli.local.system import FUNCTIONS, Line, System

if TYPE_CHECKING:
    from segue.model.graph import Graph
    from segue.model.settings import Settings
    from segue_cli.local.status import SystemStatus
    from segue_cli.local.supervisor import ProgramStatus

PIPELINE_GRACE_S = 30.0  # a job that runs longer is killed, and runs again at the next start
EVENT_GRACE_S = 10.0

T = TypeVar("T")
Result = TypeVar("Result")


class SystemGroup:
    """Builds a system for each graph, and starts and stops all of them.

    Parameters
    ----------
    settings : sequence of Settings
        Those of each graph.
    processes : int or None
        The number of child processes per pipeline; None: the pipelines share the cores.
    on_line : callable
        Called with each logged line.
    catch_up : bool
        Whether to request what files that are known lack.

    Raises
    ------
    ConfigurationError
        If a graph cannot be used, with what is wrong with each, or if two would write to the same
        ledger or artifacts.
    """

    def __init__(
        self,
        settings: Sequence[Settings],
        *,
        processes: int | None,
        on_line: Callable[[Line], None],
        catch_up: bool = True,
    ) -> None:
        self._on_line = on_line
        graphs = call_for_each(settings, load_graph, lambda one: one.graph)
        _check_apart(graphs)
        processes = processes or share_cores(graphs)
        pairs = list(zip(settings, graphs, strict=True))
        self.systems = call_for_each(
            pairs,
            lambda pair: System(*pair, processes=processes, on_line=on_line, catch_up=catch_up),
            lambda pair: pair[1].path,
        )
        self._by_namespace = {system.graph.namespace: system for system in self.systems}
        self._call(self._check_lock)
        self._handler = logging.Handler()
        self._handler.emit = self._emit  # type: ignore[method-assign]
        self._killed = threading.Event()
        self._idle_since: float | None = None

    @property
    def is_several(self) -> bool:
        """Whether there is more than one graph."""
        return len(self.systems) > 1

    def start(self) -> None:
        """Start all systems; raise an error at once if a configuration is wrong.

        What a graph reads of another namespace it subscribes to when it is opened. So all are open
        before a file of any is announced.
        """
        self._call(System.check)
        LOGGER.handlers, LOGGER.propagate = [self._handler], False
        LOGGER.setLevel(logging.INFO)
        try:
            self._call(System.open)
            self._call(System.start_events)
        except BaseException:
            self._abandon()
            raise
        for system in self.systems:
            system.start_programs()

    def _call(self, step: Callable[[System], None]) -> None:
        call_for_each(self.systems, step, lambda system: system.graph.path)

    def _check_lock(self, system: System) -> None:
        """Raise an error if a graph reads the results of another one from other places."""
        for namespace, manifest in system.graph.imports.items():
            above = self._by_namespace.get(namespace)
            if above is None:
                continue
            places = {"ledger": manifest.ledger, "queue": manifest.queue}
            for name, locked in places.items():
                actual = getattr(above.settings, name)
                if _resolve(locked) != _resolve(actual):
                    raise ConfigurationError(
                        f"segue.lock says that the {name} of {namespace!r} is {locked}, but here "
                        f"it is {make_url_absolute(actual)}; run 'segue publish --graph "
                        f"{above.graph.path}' in this folder, and 'segue lock --graph "
                        f"{system.graph.path}'"
                    )

    def _abandon(self) -> None:
        """Close what was opened, as no program is started."""
        for system in self.systems:
            system.request_stop()
        self._join((t for s in self.systems for t in s.threads), EVENT_GRACE_S)
        for system in self.systems:
            system.disconnect()
        LOGGER.removeHandler(self._handler)

    def stop(self) -> None:
        """Stop watching, and let the pipelines finish running jobs."""
        for system in self.systems:
            system.request_stop()
        if not self._join((t for s in self.systems for t in s.programs), PIPELINE_GRACE_S):
            self.kill()
        self._join((t for s in self.systems for t in s.threads), EVENT_GRACE_S)

    def _join(self, threads: Iterable[threading.Thread], grace_s: float) -> bool:
        """Wait for threads for a while, until ``kill`` is called; return whether all have ended."""
        waiting, until = list(threads), time.monotonic() + grace_s
        while any(t.is_alive() for t in waiting) and time.monotonic() < until:
            if self._killed.wait(0.02):
                break
        return not any(t.is_alive() for t in waiting)

    def kill(self) -> None:
        """Kill all programs at once; no work is lost."""
        self._killed.set()
        for system in self.systems:
            system.kill()
        for thread in [t for s in self.systems for t in s.programs]:
            thread.join()

    def close(self) -> None:
        """Release the leases of killed programs, and close all ledgers and queues."""
        for system in self.systems:
            system.close()
        LOGGER.removeHandler(self._handler)

    def find_changes(self) -> tuple[str, ...]:
        """Return the files of the graphs and of their jobs' code that have changed."""
        return tuple(path for system in self.systems for path in system.find_changes())

    @property
    def failure(self) -> DatabaseReplaced | None:
        """Why one of the systems cannot go on."""
        return next((s.failure for s in self.systems if s.failure is not None), None)

    @property
    def failed_program(self) -> ProgramStatus | None:
        """The program that did not start, if there is one."""
        for system in self.systems:
            if (found := system.failed_program) is not None:
                prefix = f"{system.graph.namespace} " if self.is_several else ""
                return dataclasses.replace(found, name=f"{prefix}{found.name}")
        return None

    def measure_idle_s(self) -> float:
        """Return for how long all have been idle, as of the calls of this method."""
        now = time.monotonic()
        if not all(system.is_idle() for system in self.systems):
            self._idle_since = None
            return 0.0
        if self._idle_since is None:
            self._idle_since = now
        return now - self._idle_since

    def read_status(self) -> list[SystemStatus]:
        """Return the status of each system."""
        return [system.read_status() for system in self.systems]

    def _emit(self, record: logging.LogRecord) -> None:
        """Pass on what this process logs, to the system that it is about."""
        line: Line = record.__dict__["segue"]
        system = self._by_namespace.get(line.get("namespace", ""))
        if system is not None:
            system.handle_line(FUNCTIONS, line)
        else:
            self._on_line({"process": FUNCTIONS, **line})


def call_for_each(
    items: Iterable[T], call: Callable[[T], Result], name: Callable[[T], str | None]
) -> list[Result]:
    """Call a function for each item, and report what is wrong with all of them at once.

    ``name`` returns the graph's path, which an error begins with if there are several.
    """
    items, results = list(items), []
    errors: list[str] = []
    for item in items:
        try:
            results.append(call(item))
        except ConfigurationError as error:
            if len(items) == 1:
                raise
            is_named = isinstance(error, GraphError)  # it begins with the path
            errors.append(str(error) if is_named else f"{name(item)}: {error}")
    if errors:
        raise ConfigurationError("\n".join(errors))
    return results


def _resolve(url: str) -> str:
    """Return a form that all URLs of the same ledger or queue have in common."""
    path = find_file(url)
    return identify_queue(url) if path is None else os.path.realpath(path)


def _check_apart(graphs: Sequence[Graph]) -> None:
    """Raise an error if two graphs would write to the same ledger, or the same artifacts.

    What one has written, 'segue gc' would remove as garbage of the other.
    """
    namespaces: dict[str, list[str]] = {}
    artifacts: dict[str, list[str]] = {}
    for graph in graphs:
        namespaces.setdefault(graph.namespace, []).append(str(graph.path))
        artifacts.setdefault(parse_location(graph.artifacts), []).append(str(graph.path))
    errors = [
        f"{' and '.join(paths)} have the namespace {namespace!r}; write another 'namespace:' in "
        "all but one of them, or name one only"
        for namespace, paths in namespaces.items()
        if len(paths) > 1
    ]
    errors += [
        f"{' and '.join(paths)} have their artifacts in {place}; write another 'artifacts:' in all "
        "but one of them, or leave it out for .segue/NAMESPACE/artifacts"
        for place, paths in artifacts.items()
        if len(paths) > 1 and not errors
    ]
    if errors:
        raise ConfigurationError("\n".join(errors))
