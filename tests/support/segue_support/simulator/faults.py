"""What can go wrong in one call of a port, and in a history."""

from __future__ import annotations

from enum import Enum, auto


class Killed(BaseException):  # no handler may survive it
    """The process that made this call is dead."""


class BrokenPromise(AssertionError):
    """A promise was not kept."""

    def __init__(self, promise: str, message: str) -> None:
        super().__init__(f"{promise}: {message}")
        self.promise = promise


class CallFault(Enum):
    """The fault that is injected into one call of a port."""

    NONE = auto()
    CRASH_BEFORE = auto()
    CRASH_AFTER = auto()
    OUTAGE_BEFORE = auto()
    OUTAGE_AFTER = auto()  # the call takes effect, and the caller sees an error


CRASHES = frozenset({CallFault.CRASH_BEFORE, CallFault.CRASH_AFTER})
AFTER_EFFECT = frozenset({CallFault.CRASH_AFTER, CallFault.OUTAGE_AFTER})
