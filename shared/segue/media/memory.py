"""Refuses work that would need more memory than the process may use."""

from __future__ import annotations

import math
import resource

from segue.errors import TooLarge

# ffmpeg needs less than this for headers and sound. If it was refused memory although it had as
# much, that was the file's doing.
AMPLE_MEMORY_BYTES = 2**30


def has_ample_memory() -> bool:
    """Return whether so much memory is allowed that only a file that lies could need more."""
    soft, _ = resource.getrlimit(resource.RLIMIT_DATA)
    return soft == resource.RLIM_INFINITY or soft >= AMPLE_MEMORY_BYTES


def require_memory(size_bytes: float, purpose: str) -> None:
    """Check that the process's memory bound leaves room, before the work begins.

    Where nothing bounds the memory, as in a notebook or on macOS, there is always room.

    Parameters
    ----------
    size_bytes : float
        An upper estimate of the memory that the work needs.
    purpose : str
        The job, and the length of the audio, for the message.

    Raises
    ------
    TooLarge
        If there is less.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
    if limit == resource.RLIM_INFINITY:
        return
    left_gib, needed_gib = max(0, limit - _measure_data_bytes()) / 2**30, size_bytes / 2**30
    if needed_gib > left_gib:
        raise TooLarge(
            f"{purpose} needs up to {needed_gib:.2f} GiB of memory, and the job's bound leaves "
            f"{left_gib:.2f}: raise its resources.memory_gib to {math.ceil(needed_gib + 0.5)}, or "
            "cut the file into parts"
        )


def format_duration(duration_s: float) -> str:
    """Return a duration for people, such as ``3.0 hours`` or ``4.2 s``."""
    return f"{duration_s / 3600:.1f} hours" if duration_s >= 3600 else f"{duration_s:.1f} s"


def _measure_data_bytes() -> int:
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[5]) * resource.getpagesize()
    except OSError:  # not Linux, where a job's memory is not bounded
        return 0
