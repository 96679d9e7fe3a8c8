"""A ledger that nobody has written to yet, so that a command which only reads makes no file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from segue.adapters.connect import connect_ledger
from segue.errors import ConfigurationError
from segue.model.ledger import Change, Changed, Counts, Ledger, Query, Snapshot
from segue.model.record import Record, State

EMBEDDED = "sqlite:///"


class EmptyLedger:
    """Knows no file, and cannot be written."""

    def __init__(self, url: str) -> None:
        self._url = url

    def read(self, uris: Sequence[str]) -> list[Snapshot]:
        """Answer that each file is unknown."""
        return [Snapshot(record=None) for _ in uris]

    def change(self, changes: Sequence[Change[Any]]) -> list[Changed[Any]]:
        """Refuse, unless there is nothing to change."""
        if changes:
            raise ConfigurationError(
                f"there is no ledger {self._url} to change; name another with --ledger"
            )
        return []

    def count(self, accepted: Mapping[str, Iterable[str]]) -> Counts:
        """Count nothing."""
        states = (*State, "stale")
        return Counts(
            files=0, deleted=0, jobs={job: {str(s): 0 for s in states} for job in accepted}
        )

    def find(self, query: Query, *, after: str = "", limit: int = 500) -> list[Record]:  # noqa: ARG002
        """Find nothing."""
        return []

    def close(self) -> None:
        """Nothing is held open."""


def ledger_to_read(url: str) -> Ledger:
    """Open a ledger that is only read: one that does not exist yet is empty, and stays unmade."""
    return connect_ledger(url) if ledger_exists(url) else EmptyLedger(url)


def ledger_exists(url: str) -> bool:
    """Whether a ledger has been made; one in the cloud is believed to exist."""
    if not url.startswith(EMBEDDED):
        return True
    return os.path.exists(os.path.expanduser(url.removeprefix(EMBEDDED)))
