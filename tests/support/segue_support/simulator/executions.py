"""Counts how often each job runs, by fingerprint, and which of these runs are recorded."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from segue.model.record import FINISHED, State

if TYPE_CHECKING:
    from segue.model.record import Entry, Record

Key = tuple[str, str, str, str]  # URI, version, job, fingerprint


@dataclass(slots=True, kw_only=True)
class _Execution:
    owner: str
    state: State  # what it has found
    is_recorded: bool = False


class ExecutionCounter:
    """The executions that are recorded, or may still be.

    What was computed under a claim that has been taken over, or that had to be given up, does not
    count: ``PromiseChecker`` checks that this has a reason.
    """

    def __init__(self) -> None:
        self.permits: Counter[tuple[str, str]] = Counter()  # by URI and job: how often once more
        self.retried: set[tuple[str, str]] = set()  # failures that may run again
        self._executions: dict[Key, list[_Execution]] = defaultdict(list)
        self._claims: set[tuple[str, Key]] = set()

    def add_claim(self, owner: str, key: Key) -> None:
        """Note that an owner has claimed a job."""
        self._claims.add((owner, key))

    def add(self, owner: str, key: Key, state: State, holder: str | None) -> str | None:
        """Add an execution; return what is wrong with it, if anything."""
        if (owner, key) not in self._claims:
            return f"{owner} has not claimed {key}"
        if holder != owner:
            return None
        executions = self._executions[key]
        if any(e.owner == owner and not e.is_recorded for e in executions):
            return f"{owner} has computed {key} twice"
        executions[:] = [e for e in executions if e.is_recorded]
        executions.append(_Execution(owner=owner, state=state))
        where = (key[0], key[2])
        if where in self.retried:
            executions = [e for e in executions if e.state is not State.FAILED]
        if len(executions) > 1 + self.permits[where]:
            return f"{key} was computed {len(executions)} times"
        return None

    def settle(self, owner: str, key: Key, entry: Entry) -> str | None:
        """Note that an owner has recorded a result; return what is wrong with it, if anything."""
        executions = self._executions[key]
        own = [e for e in executions if e.owner == owner and not e.is_recorded]
        if entry.state not in FINISHED:
            for one in own:
                executions.remove(one)
            return None
        for one in own:
            one.is_recorded = True
            if one.state is not entry.state:
                return f"{key} has ended as {one.state} and is recorded as {entry.state}"
        if entry.state is State.DONE and not own:
            return f"{owner} has not computed {key}"
        return None

    def forget(self, key: Key) -> None:
        """Allow that a result is computed again, as it was removed."""
        self._executions.pop(key, None)

    def forget_refused(self, uri: str, version: str) -> None:
        """Allow that what has failed on a version of a file is tried again."""
        for key, executions in self._executions.items():
            if key[:2] == (uri, version):
                executions[:] = [e for e in executions if e.state is State.DONE]

    def is_computed(self, key: Key) -> bool:
        """Whether an execution of this has succeeded."""
        return any(e.state is State.DONE for e in self._executions[key])


def build_key(record: Record, fingerprint: str) -> Key:
    """Return the key of a result."""
    return record.uri, record.version, record.results[fingerprint].job, fingerprint
