"""A ledger that nobody has written to yet, so that a command which only reads makes no file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from shared.errors import ConfigurationError
from shared.ledger import Change, Changed, Counts, Query, Snapshot
from shared.record import Record, State


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
