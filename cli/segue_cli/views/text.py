"""Values as people read them: counts, sizes, times, and names that are safe to show."""

from __future__ import annotations

from datetime import datetime

UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def printable(text: str) -> str:
    """Escape what a terminal would act upon: a file's name is somebody else's text."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def count(number: int, noun: str, plural: str = "") -> str:
    """Say how many: ``1 file``, ``1,200 files``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def figure(value: float) -> str:
    """Say a number with two digits that count, however small; a large one whole."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def size(size_bytes: float) -> str:
    """Say how big, in binary units."""
    for unit in UNITS:
        if size_bytes < 1024 or unit == UNITS[-1]:
            break
        size_bytes /= 1024
    return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"


def duration(seconds: float) -> str:
    """Say how long, in the two units that matter."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def moment(at: datetime) -> str:
    """Say when, in this machine's time."""
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def percent(part: int, whole: int) -> str:
    """Say what part; what is not all is never shown as 100 %, what is not nothing never as 0 %."""
    if whole == 0:
        return "-"
    share = 100 * part / whole
    if 0 < part < whole:
        share = min(max(share, 0.1), 99.9)
    return f"{share:.0f} %" if part in (0, whole) else f"{share:.1f} %"
