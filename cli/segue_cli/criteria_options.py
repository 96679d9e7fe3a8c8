"""The options by which commands select some of the files that they are pointed at."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

import click

from segue.clock import utc_now
from segue.errors import ConfigurationError
from segue.model.criteria import Criteria
from segue.printable import escape

Function = TypeVar("Function", bound=Callable[..., Any])

AGE = re.compile(r"([0-9]{1,6})([smhdw])", re.ASCII)
AGES = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
DURATION = re.compile(
    r"(?=.)(?:([0-9]{1,6})h)?(?:([0-9]{1,6})m)?(?:([0-9]{1,9}(?:\.[0-9]{1,9})?)s?)?", re.ASCII
)
TAG_EXAMPLE = "write a tag and a pattern, such as artist=Queen or genre=*rock*"


def parse_time(text: str, now: datetime) -> datetime:
    """Parse a date, a date with a time, or an age such as ``7d``; local if it has no zone.

    Raises
    ------
    ConfigurationError
        If it is none of them, or out of the range of dates.
    """
    try:
        if (age := AGE.fullmatch(text)) is not None:
            return now - timedelta(**{AGES[age[2]]: int(age[1])})
        found = datetime.fromisoformat(text).astimezone(now.tzinfo)
    except (ValueError, OverflowError, OSError) as error:
        raise ConfigurationError(
            f"--newer-than is '{escape(text)}', which is neither a date nor an age; write "
            "2026-11-01, 2026-11-01T12:30, or a whole number and a unit "
            f"({', '.join(AGES)}), such as 7d"
        ) from error
    if found > now:
        raise ConfigurationError(
            f"--newer-than is '{escape(text)}', which is yet to come; write a time that is past"
        )
    return found


def parse_length(option: str, text: str) -> float:
    """Parse a length of media such as ``210``, ``3m30s`` or ``1h``; return seconds."""
    found = DURATION.fullmatch(text)
    if found is None:
        raise ConfigurationError(
            f"{option} is '{escape(text)}', which is not a length; write seconds, or hours, "
            "minutes and seconds, such as 210, 3m30s or 1h"
        )
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return 3600 * hours + 60 * minutes + seconds


def parse_tags(texts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Parse tags such as ``artist=Queen``; several of one tag are alternatives."""
    tags: dict[str, tuple[str, ...]] = {}
    for text in texts:
        name, _, pattern = text.partition("=")
        key = name.strip().casefold()
        if not key or not pattern:
            raise ConfigurationError(
                f"--tag is '{escape(text)}', which is not a tag; {TAG_EXAMPLE}"
            )
        tags[key] = (*tags.get(key, ()), pattern)
    return tags


CRITERIA_OPTIONS = (
    click.option(
        "--match",
        "patterns",
        multiple=True,
        metavar="GLOB",
        help="Only files whose names match this pattern, such as 'live*.flac'; with a slash in it, "
        "whose paths do, such as '2024/*'. Case is ignored. May be repeated: one has to match.",
    ),
    click.option(
        "--newer-than",
        metavar="TIME",
        help="Only files that were changed since then: a date such as 2026-11-01, or an age such "
        "as 7d.",
    ),
    click.option(
        "--min-duration",
        metavar="LENGTH",
        help="Only files that last at least so long, such as 90 (seconds) or 3m30s. This option "
        "and the next two read the results of the job 'probe'; with --job probe, it runs first.",
    ),
    click.option("--max-duration", metavar="LENGTH", help="Only files that last at most so long."),
    click.option(
        "--tag",
        "tags",
        multiple=True,
        metavar="KEY=GLOB",
        help="Only files with a tag that matches this pattern, such as artist=Queen, title=*live* "
        "or genre=*rock*. Case is ignored. May be repeated: of each key, one has to match.",
    ),
)


def add_criteria_options(function: Function) -> Function:
    """Add the options, and call the function with the ``criteria`` that they make."""

    @functools.wraps(function)
    def call(*args: Any, **given: Any) -> Any:
        names = ("patterns", "newer_than", "min_duration", "max_duration", "tags")
        options = {name: given.pop(name) for name in names}
        return function(*args, **given, criteria=build_criteria(**options))

    for option in reversed(CRITERIA_OPTIONS):
        call = option(call)
    return call  # type: ignore[return-value]


def build_criteria(
    *,
    patterns: Sequence[str],
    newer_than: str | None,
    min_duration: str | None,
    max_duration: str | None,
    tags: Sequence[str],
) -> Criteria:
    """Return the criteria that the options state; raise ``ConfigurationError`` for wrong ones."""
    criteria = Criteria(
        match=tuple(patterns),
        newer_than=parse_time(newer_than, utc_now()) if newer_than is not None else None,
        min_duration_s=None
        if min_duration is None
        else parse_length("--min-duration", min_duration),
        max_duration_s=None
        if max_duration is None
        else parse_length("--max-duration", max_duration),
        tags=parse_tags(tags),
    )
    criteria.check()
    return criteria
