"""Releases leases at the end of a run, so that the ledger shows nothing as running."""

from __future__ import annotations

import contextlib
import functools
import signal
import threading
from collections.abc import Callable

from segue.adapters.connect import connect_ledger, ledger_exists
from segue.errors import SegueError
from segue.model.ledger import Change, Ledger, find_records_by_terms
from segue.model.record import LEASED, Lease
from segue.model.transitions import release

BATCH = 256


def release_leases(ledger: Ledger, owns: Callable[[Lease], bool]) -> int:
    """Release the leases that meet a condition, and return the number of files."""
    transition = functools.partial(release, owns=owns)
    held = [
        Change(uri=record.uri, transition=transition)
        for record in find_records_by_terms(ledger, (LEASED,))
        if any(entry.lease is not None and owns(entry.lease) for entry in record.results.values())
    ]
    released = 0
    for start in range(0, len(held), BATCH):
        changed = ledger.change(held[start : start + BATCH])
        released += sum(1 for change in changed if change.answer)
    return released


def release_at_exit(url: str, namespace: str, owns: Callable[[Lease], bool]) -> None:
    """Release leases while a run ends; Ctrl-C waits, and errors leave them to expire."""
    if not ledger_exists(url):
        return
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if is_main else None
    try:
        with (
            contextlib.suppress(SegueError),
            contextlib.closing(connect_ledger(url, namespace)) as ledger,
        ):
            release_leases(ledger, owns)
    finally:
        if is_main:
            signal.signal(signal.SIGINT, before)
