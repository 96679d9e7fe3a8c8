"""Recovers the error that a step raised from the one that Beam raises.

In this process Beam raises a copy with the step's name in its message, and the original as its
context; from another process it passes only the text of the traceback.
"""

from __future__ import annotations

import re

from segue import errors
from segue.errors import SegueError

WRAPPED = re.compile(
    rf"(?:^|\n){re.escape(errors.__name__)}\.(\w+): (.*?) \[while running '[^']*'\]", re.DOTALL
)


def unwrap_beam_error(error: BaseException) -> BaseException | None:
    """Return the ``SegueError`` or ``KeyboardInterrupt`` behind an error of Beam, or None."""
    innermost: BaseException | None = None
    current: BaseException | None = error
    while current is not None:
        if isinstance(current, SegueError | KeyboardInterrupt):
            innermost = current
        current = current.__cause__ or current.__context__
    if innermost is not None:
        return innermost
    for name, message in WRAPPED.findall(str(error)):
        kind = getattr(errors, name, None)
        if isinstance(kind, type) and issubclass(kind, SegueError):
            return kind(message)
    return None
