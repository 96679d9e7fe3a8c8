"""How far a run on this machine is: each worker keeps its tally in a file, whoever wants to know
adds them up.

Files, because the workers may be threads or processes of any runner; a runner's own metrics come
only at the end.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time

import msgspec

from segue.model.outcome import Outcome, Tally

WRITE_S = 0.2


class ProgressWriter:
    """Keeps one worker's tally in a folder."""

    def __init__(self, folder: str) -> None:
        self._path = f"{folder}/{os.getpid()}-{secrets.token_hex(4)}.json"
        self._tally = Tally()
        self._written_at = 0.0

    def add(self, outcome: Outcome) -> None:
        """Count one file; the file is written a few times a second."""
        self._tally.add(outcome)
        if time.monotonic() - self._written_at > WRITE_S:
            self.flush()

    def count(self, files: int) -> None:
        """Count files of which there is nothing more to tell."""
        self._tally.files += files
        if time.monotonic() - self._written_at > WRITE_S:
            self.flush()

    def flush(self) -> None:
        """Write the tally now; a run must not fail for want of a progress bar."""
        self._written_at = time.monotonic()
        with contextlib.suppress(OSError):
            unfinished = f"{self._path}~"
            with open(unfinished, "wb") as file:
                file.write(msgspec.json.encode(self._tally))
            os.replace(unfinished, self._path)


def read_progress(folder: str) -> Tally:
    """Add up the tallies of all workers."""
    total = Tally()
    decode = msgspec.json.Decoder(Tally).decode
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            if name.endswith(".json"):
                with (
                    contextlib.suppress(OSError, msgspec.MsgspecError),
                    open(f"{folder}/{name}", "rb") as file,
                ):
                    total.merge(decode(file.read()))
    return total
