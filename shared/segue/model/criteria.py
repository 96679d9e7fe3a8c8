"""The criteria by which a run selects some of the files that it is for.

``match`` and ``newer_than`` are about what a listing says of a file; durations and tags are about
its ``probe``. A file has to meet all of them.
"""

from __future__ import annotations

import functools
import math
import unicodedata
from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import Annotated

import msgspec

from segue.errors import ConfigurationError
from segue.model.media_file import build_name_filter, format_name, is_unicode

Time = Annotated[datetime, msgspec.Meta(tz=True)]


class Unselected(StrEnum):
    """Why a file is not selected."""

    MATCH = "match"  # its name matches none of the patterns
    NEWER_THAN = "newer_than"  # it was last changed before that time
    DURATION = "duration"  # it is shorter or longer, or has no duration
    TAGS = "tags"
    NO_PROBE = "no_probe"  # it has no current result of the probe, or none that can be read
    UNDECIDED = "undecided"  # a dry run does not compute the probe


class MediaFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a probe found that criteria are about; other fields of its result are ignored."""

    duration_s: float | None = None
    tags: dict[str, str] = {}


class Criteria(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Selects files; those that are None or empty select all.

    >>> jazz = Criteria(match=("*.flac",), min_duration_s=90, tags={"genre": ("*jazz*",)})
    """

    match: tuple[str, ...] = ()  # patterns, of which a name has to match one
    newer_than: Time | None = None  # it was last changed then or later
    min_duration_s: float | None = None
    max_duration_s: float | None = None
    tags: dict[str, tuple[str, ...]] = {}  # by tag: patterns, of which its value has to match one

    @property
    def needs_probe(self) -> bool:
        """Whether some are about the result of the probe."""
        return self.min_duration_s is not None or self.max_duration_s is not None or bool(self.tags)

    @property
    def criteria(self) -> Criteria:
        """These criteria alone, of what has others beside them."""
        return Criteria(**{name: getattr(self, name) for name in Criteria.__struct_fields__})

    def check(self) -> None:
        """Raise ``ConfigurationError`` if no file could meet them, or they mean nothing."""
        given: list[object] = [self.match, *self.tags.values()]
        for patterns in given:
            if isinstance(patterns, str):
                raise ConfigurationError(f"{patterns!r} is one text; write patterns, as a tuple")
        if self.newer_than is not None and self.newer_than.tzinfo is None:
            raise ConfigurationError(
                f"newer_than is {self.newer_than}, which has no time zone; add one, such as UTC"
            )
        self._check_texts()
        self._check_durations()

    def _check_texts(self) -> None:
        patterns = [*self.match, *(p for found in self.tags.values() for p in found)]
        for text in (*patterns, *self.tags):
            if not text or not is_unicode(text):
                raise ConfigurationError(
                    f"'{format_name(text)}' is not a pattern or tag; write some text in UTF-8, "
                    "such as *.flac"
                )
        for key, found in self.tags.items():
            if not found:
                raise ConfigurationError(f"the tag {key!r} has no pattern; write at least one")

    def _check_durations(self) -> None:
        shortest, longest = self.min_duration_s, self.max_duration_s
        for seconds in (shortest, longest):
            if seconds is not None and not (math.isfinite(seconds) and seconds >= 0):
                raise ConfigurationError(f"the duration is {seconds:g} s; write 0 s or more")
        if shortest is not None and longest is not None and shortest > longest:
            raise ConfigurationError(
                f"no file lasts at least {shortest:g} s and at most {longest:g} s; exchange them"
            )

    def find_reason(self, name: str, updated_at: float | None) -> Unselected | None:
        """Return why a file is not selected, as far as its name and time tell.

        Parameters
        ----------
        name : str
            The object's name, or its path.
        updated_at : float or None
            When it was last changed, in seconds since the epoch; None: it is not known yet.
        """
        if self.match and not _build_path_filter(self.match)(name):
            return Unselected.MATCH
        if self.newer_than is not None and updated_at is not None:
            return None if updated_at >= self.newer_than.timestamp() else Unselected.NEWER_THAN
        return None

    def find_reason_by_probe(self, facts: MediaFacts | None) -> Unselected | None:
        """Return why a file is not selected, as far as its probe tells; None: it has none."""
        if not self.needs_probe:
            return None
        if facts is None:
            return Unselected.NO_PROBE
        shortest, longest = self.min_duration_s, self.max_duration_s
        if shortest is not None or longest is not None:
            seconds = facts.duration_s
            if seconds is None or not (shortest or 0) <= seconds <= (
                math.inf if longest is None else longest
            ):
                return Unselected.DURATION
        return None if self._has_tags(facts.tags) else Unselected.TAGS

    def _has_tags(self, found: dict[str, str]) -> bool:
        values = {normalize(key).casefold(): normalize(value) for key, value in found.items()}
        return all(
            (value := values.get(normalize(key).casefold())) is not None
            and _build_filter(patterns)(value)
            for key, patterns in self.tags.items()
        )


def normalize(text: str) -> str:
    """Return a text such that accented letters compare equal, however they are composed."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


@functools.lru_cache(maxsize=64)
def _build_filter(patterns: tuple[str, ...]) -> Callable[[str], bool]:
    return build_name_filter([normalize(pattern) for pattern in patterns])


@functools.lru_cache(maxsize=8)
def _build_path_filter(patterns: tuple[str, ...]) -> Callable[[str], bool]:
    """Return a filter for names: a pattern without a slash is for the last part of a name.

    One with a slash is for the whole name, or for what follows any slash in it. The very name of a
    file matches, too: ``[live]`` in it would be one letter otherwise.
    """
    literal = frozenset(normalize(p).casefold() for p in patterns)
    parts = [normalize(p) for p in patterns if "/" not in p]
    paths = [normalize(p) for p in patterns if "/" in p]
    is_part = build_name_filter(parts) if parts else None
    is_path = build_name_filter([*paths, *(f"*/{p}" for p in paths)]) if paths else None

    def matches(name: str) -> bool:
        text = normalize(name).removeprefix("/")
        last = text.rpartition("/")[2]
        if last.casefold() in literal or (is_part is not None and is_part(last)):
            return True
        return is_path is not None and (is_path(text) or is_path(f"/{text}"))

    return matches
