"""Reports the progress of a run on this machine: each worker writes its totals to a file.

Files, because the workers may be threads or processes of any runner, and a runner's own metrics are
available only at the end.
"""

from __future__ import annotations

import contextlib
import glob
import os
import secrets
import time
from collections.abc import Iterator

import msgspec

from segue.model.outcome import RunTotals
from segue.worker.process import Scratch

WRITE_S = 0.2

_decode_totals = msgspec.json.Decoder(RunTotals).decode


class ProgressWriter:
    """Writes one worker's totals to a file in a folder."""

    def __init__(self, folder: str) -> None:
        self._path = f"{folder}/{os.getpid()}-{secrets.token_hex(4)}.json"
        self._totals = RunTotals()
        self._written_at = 0.0
        self._has_failed = False

    def show(self, current: RunTotals) -> None:
        """Write the totals, a few times per second, with those of a part that has not ended yet.

        The first failure is written at once: the next file may take long.
        """
        is_first = not self._has_failed and current.newly_failed_files > 0
        if is_first or time.monotonic() - self._written_at > WRITE_S:
            self._has_failed = self._has_failed or is_first
            self._write(current)

    def add(self, totals: RunTotals) -> None:
        """Add the totals of a part that has ended."""
        self._totals.merge(totals)
        self.show(RunTotals())

    def count_file(self) -> None:
        """Count a file that has no outcome."""
        self._totals.files += 1
        self.show(RunTotals())

    def flush(self) -> None:
        """Write the totals of the parts that have ended now."""
        self._write(RunTotals())

    def _write(self, current: RunTotals) -> None:
        """Write the sum; ignore errors, as a run must not fail because of a progress bar."""
        self._written_at = time.monotonic()
        totals = RunTotals()
        totals.merge(self._totals)
        totals.merge(current)
        with contextlib.suppress(OSError):
            unfinished = f"{self._path}~"
            with open(unfinished, "wb") as file:
                file.write(msgspec.json.encode(totals))
            os.replace(unfinished, self._path)


@contextlib.contextmanager
def open_progress_folder() -> Iterator[str | None]:
    """Create a folder for a while; None if there is no room for temporary files."""
    try:
        scratch = Scratch()
    except OSError:
        yield None
        return
    try:
        yield scratch.path
    finally:
        scratch.remove()


def read_progress(folder: str) -> RunTotals:
    """Add up the totals of all workers."""
    total = RunTotals()
    for path in glob.glob(f"{glob.escape(folder)}/*.json"):
        with contextlib.suppress(OSError, msgspec.MsgspecError), open(path, "rb") as file:
            total.merge(_decode_totals(file.read()))
    return total
