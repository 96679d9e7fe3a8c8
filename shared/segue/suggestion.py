"""Suggestions for words that are not known, for the last part of an error's message."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def suggest(
    word: str, known: Iterable[str], *, otherwise: str | None = None, limit: int = 1
) -> str:
    """Return ``did you mean 'x'?`` with similar known words, else ``otherwise`` or all of them."""
    names = list(map(str, known))
    if close := difflib.get_close_matches(word, names, n=limit):
        return f"did you mean {' or '.join(map(repr, close))}?"
    if otherwise is not None:
        return otherwise
    return f"use one of {', '.join(names)}" if names else "there are none to choose from"
