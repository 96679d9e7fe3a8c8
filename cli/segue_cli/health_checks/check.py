"""Many things looked at, at once, and what was seen."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from segue.errors import ConfigurationError, SegueError


class Status(StrEnum):
    """What a look found."""

    OK = "ok"
    NOTE = "note"  # not there, and not always needed
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look saw."""

    status: Status
    detail: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    group: str
    name: str
    seen: Seen


@dataclass(frozen=True, slots=True)
class Look:
    """Something to look at, and how; what is raised is what is seen."""

    group: str
    name: str
    look: Callable[[], Seen]


def look_at(looks: Sequence[Look], *, limit_s: float) -> list[Finding]:
    """Look at everything, each in a thread; what does not answer in time is a fault."""
    seen: dict[int, Seen] = {}

    def run(number: int, look: Look) -> None:
        seen[number] = _looked(look)

    threads = [
        threading.Thread(target=run, args=(number, look), daemon=True)
        for number, look in enumerate(looks)
    ]
    for thread in threads:
        thread.start()
    end_s = time.monotonic() + limit_s
    for thread in threads:
        thread.join(max(0.0, end_s - time.monotonic()))
    slow = Seen(Status.FAULT, f"no answer in {limit_s:g} s", "see that it can be reached")
    return [
        Finding(look.group, look.name, seen.get(number, slow)) for number, look in enumerate(looks)
    ]


def _looked(look: Look) -> Seen:
    try:
        return look.look()
    except ConfigurationError as error:
        return Seen(Status.FAULT, str(error))
    except SegueError as error:
        return Seen(Status.FAULT, str(error), "see that it is there and can be reached")
    except Exception as error:  # noqa: BLE001 - clients raise anything; the thread ends here
        return Seen(Status.FAULT, f"{type(error).__name__}: {error}")
