"""A ledger that does not exist yet; commands that only read use it and create no file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from segue.adapters.connect import connect_ledger
from segue.errors import ConfigurationError
from segue.model.ledger import Change, Changed, Ledger, LedgerCounts, Query, Snapshot
from segue.model.record import Record, State

EMBEDDED = "sqlite:///"


class EmptyLedger:
    """A ledger that has no records and cannot be changed."""

    def __init__(self, url: str) -> None:
        self._url = url

    def read(self, uris: Sequence[str]) -> list[Snapshot]:
        """Return a snapshot without a record for each file."""
        return [Snapshot(record=None) for _ in uris]

    def change(self, changes: Sequence[Change[Any]]) -> list[Changed[Any]]:
        """Raise an error, unless there is nothing to change."""
        if changes:
            raise ConfigurationError(
                f"there is no ledger {self._url} to change; name another with --ledger"
            )
        return []

    def count(self, accepted: Mapping[str, Iterable[str]]) -> LedgerCounts:
        """Return zero counts."""
        states = (*State, "stale")
        return LedgerCounts(
            files=0, deleted=0, jobs={job: {str(s): 0 for s in states} for job in accepted}
        )

    def find(self, query: Query, *, after: str = "", limit: int = 500) -> list[Record]:  # noqa: ARG002
        """Return no records."""
        return []

    def close(self) -> None:
        """Do nothing; nothing is open."""


def open_ledger_to_read(url: str) -> Ledger:
    """Open a ledger for reading; one that does not exist yet is empty, and is not created."""
    return connect_ledger(url) if ledger_exists(url) else EmptyLedger(url)


def ledger_exists(url: str) -> bool:
    """Whether a ledger exists; one in the cloud is assumed to."""
    if not url.startswith(EMBEDDED):
        return True
    return os.path.exists(os.path.expanduser(url.removeprefix(EMBEDDED)))
