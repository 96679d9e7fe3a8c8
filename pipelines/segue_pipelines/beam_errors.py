"""What a step of a pipeline raised, out of what Beam makes of it.

In this process Beam raises a copy with the step's name in its message, and the original as its
context; from another process it brings the text of the traceback.
"""

from __future__ import annotations

import re

from segue import errors
from segue.errors import SegueError

WRAPPED = re.compile(
    rf"(?:^|\n){re.escape(errors.__name__)}\.(\w+): (.*?) \[while running '[^']*'\]", re.DOTALL
)


def original(error: BaseException) -> BaseException | None:
    """Return what was raised on purpose, or by an interruption; None if it was neither."""
    found: BaseException | None = None
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, SegueError | KeyboardInterrupt):
            found = seen
        seen = seen.__cause__ or seen.__context__
    if found is not None:
        return found
    for name, message in WRAPPED.findall(str(error)):
        kind = getattr(errors, name, None)
        if isinstance(kind, type) and issubclass(kind, SegueError):
            return kind(message)
    return None
