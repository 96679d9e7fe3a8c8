"""Ends the listing of a run's files some seconds after the run was cancelled."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from segue.adapters.connect import open_ledger_to_read
from segue.errors import TransientError
from segue.model.controls import READ_S
from segue.model.ledger import Ledger

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedRun:
    """A run whose files are listed."""

    id: str
    ledger: str  # URL
    namespace: str

    def list_until_cancelled(
        self, chunks: Iterable[T], clock_s: Callable[[], float] = time.monotonic
    ) -> Iterator[T]:
        """Yield chunks; once the run was cancelled, for a few seconds more.

        So the files that are not started are all counted, unless there are very many.
        """
        looked_s, is_cancelled = clock_s(), False
        with contextlib.ExitStack() as opened:
            ledger: Ledger | None = None
            for chunk in chunks:
                if clock_s() - looked_s >= READ_S:
                    if is_cancelled:
                        return
                    if ledger is None:
                        found = open_ledger_to_read(self.ledger, self.namespace)
                        ledger = opened.enter_context(contextlib.closing(found))
                    with contextlib.suppress(TransientError):  # then it looks again
                        is_cancelled = self.id in ledger.read_controls().cancelled
                    looked_s = clock_s()
                yield chunk
