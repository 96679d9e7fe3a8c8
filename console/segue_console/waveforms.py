"""The waveforms of files, which the job ``peaks`` computes in a worker, and a folder keeps.

This process never decodes media. The worker is the one of backfills: a child process with bounded
time and memory, whose failure costs the picture of one file.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections import OrderedDict
from contextlib import closing
from dataclasses import dataclass

from segue.adapters.connect import connect_store
from segue.errors import MissingInput, SegueError
from segue.execution.trial_run import build_task
from segue.model.artifact import build_artifact_name
from segue.model.graph import read_graph
from segue.model.media_file import MediaFile, split_uri
from segue.model.record import State
from segue.model.shipped_graphs import locate_graph
from segue.models.library import find_user_folder
from segue.worker.pool import Pool

JOB = "peaks"
KEPT_FAILURES = 1000
FAILED_S = 60.0  # for which a failure is told; then it is tried again
COLLECT_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class PeaksAnswer:
    """The waveform of a file, or why there is none."""

    data: bytes | None = None  # JSON, as the job wrote it
    error: str | None = None
    is_pending: bool = False  # it is being computed


class Waveforms:
    """Finds the waveforms of files in a folder, and has those that are missing computed.

    Parameters
    ----------
    folder : str, optional
        By default one in this user's folder for caches.
    """

    def __init__(self, folder: str | None = None) -> None:
        base = os.path.dirname(find_user_folder())
        self._folder = folder or os.path.join(base, "waveforms")
        self._graph = read_graph(locate_graph(JOB), {"SEGUE_ARTIFACTS": self._folder})
        self._wanted: queue.LifoQueue[MediaFile | None] = queue.LifoQueue()  # the latest first
        self._pending: set[str] = set()
        # By artifact: when it failed, and why.
        self._failures: OrderedDict[str, tuple[float, str]] = OrderedDict()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def find(self, media: MediaFile) -> PeaksAnswer:
        """Return a file's waveform, or that it is being computed, which begins with the call."""
        name = self._name(media)
        with closing(connect_store(self._folder)) as store:
            try:
                return PeaksAnswer(data=store.read(name))
            except MissingInput:
                pass
        with self._lock:
            failed_at, error = self._failures.get(name, (0.0, None))
            if error is not None and time.monotonic() - failed_at < FAILED_S:
                return PeaksAnswer(error=error)
            if name not in self._pending:
                self._pending.add(name)
                self._wanted.put(media)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="waveforms", daemon=True)
                self._thread.start()
        return PeaksAnswer(is_pending=True)

    def close(self) -> None:
        """Stop the worker at once."""
        self._is_closed = True
        if self._thread is not None:
            self._wanted.put(None)
            self._thread.join()

    def _name(self, media: MediaFile) -> str:
        fingerprint = self._graph.fingerprints[JOB]
        return build_artifact_name(JOB, fingerprint, split_uri(media.uri)[1], media.version, "json")

    def _run(self) -> None:
        media = self._wanted.get()
        while media is not None:
            try:
                with Pool(self._graph, self._folder, processes=1) as pool:
                    while media is not None:
                        self._note(media, self._compute(pool, media))
                        media = self._wanted.get()
            except (SegueError, OSError) as error:  # the next file gets another worker
                if media is not None:
                    self._note(media, str(error))
                    media = self._wanted.get()

    def _note(self, media: MediaFile, error: str | None) -> None:
        """Note that a waveform is there, or why not."""
        name = self._name(media)
        with self._lock:
            self._pending.discard(name)
            self._failures.pop(name, None)
            if error is not None:
                self._failures[name] = time.monotonic(), error
                while len(self._failures) > KEPT_FAILURES:
                    self._failures.popitem(last=False)

    def _compute(self, pool: Pool, media: MediaFile) -> str | None:
        """Compute one waveform; return why there is none."""
        pool.submit([build_task(self._graph, media)])
        pool.flush()
        error = None
        while pool.pending:
            if self._is_closed:
                pool.kill()
                return "the console was stopped"
            for report in pool.collect(COLLECT_S):
                for result in report.results:
                    if result.state is not State.DONE:
                        error = result.error.message if result.error is not None else "unknown"
        return error
