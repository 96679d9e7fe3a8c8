"""Formats counts, sizes, times and file names for people."""

from __future__ import annotations

from datetime import datetime

UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def format_count(number: int, noun: str, plural: str = "") -> str:
    """Format a number with its noun: ``1 file``, ``1,200 files``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def format_number(value: float) -> str:
    """Format a number with two significant digits, or as an integer if it is large."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def format_cost(cost: float) -> str:
    """Format a cost with two decimals; only nothing is 0.00."""
    return "<0.01" if 0 < cost < 0.005 else f"{cost:,.2f}"


def format_size(size_bytes: float) -> str:
    """Format a size in binary units."""
    for unit in UNITS:
        if size_bytes < 1024 or unit == UNITS[-1]:
            break
        size_bytes /= 1024
    return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"


def format_duration(seconds: float) -> str:
    """Format a duration in its two largest units."""
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


def format_time(at: datetime) -> str:
    """Format a time in the local time zone."""
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def format_fraction(fraction: float) -> str:
    """Format a fraction from 0 to 1 as a percentage without decimals."""
    return f"{100 * fraction:.0f} %"


def format_percent(part: int, whole: int) -> str:
    """Format a percentage; only the whole is 100 %, and only nothing is 0 %."""
    if whole == 0:
        return "-"
    share = 100 * part / whole
    if 0 < part < whole:
        share = min(max(share, 0.1), 99.9)
    return f"{share:.0f} %" if part in (0, whole) else f"{share:.1f} %"
