"""Describes the files that a graph passes over since no ``include`` pattern matches their names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

from segue.model.graph import INCLUDE

OTHER = "other"  # names without a suffix, or with one that is none, such as a date
SHOWN = 8  # suffixes in a description

_SUFFIX = re.compile(r".*[^/](\.(?=[0-9]*[a-z])[a-z0-9]{1,5})", re.DOTALL)


def find_suffix(name: str) -> str:
    """Return the suffix by which a name is counted, such as ``.opus``, or ``OTHER``."""
    found = _SUFFIX.fullmatch(name.lower())
    return found[1] if found else OTHER


def suggest_patterns(counts: Mapping[str, int]) -> list[str]:
    """Return the patterns that would include the files that may be sounds or films."""
    return [pattern for pattern in INCLUDE if pattern.removeprefix("*") in counts]


def describe_exclusions(counts: Mapping[str, int]) -> str:
    """Return how many files are passed over, by suffix, and what to write to include them."""
    total = sum(counts.values())
    most = Counter(counts).most_common(SHOWN)
    kinds = [f"{n:,} {suffix}" for suffix, n in most]
    if rest := total - sum(n for _, n in most):
        kinds.append(f"{rest:,} more")
    files = f"{total:,} file{'s' * (total != 1)}"
    text = f"not included: {files} whose names match no pattern of the graph ({', '.join(kinds)})"
    if patterns := suggest_patterns(counts):
        quoted = ", ".join(f'"{pattern}"' for pattern in patterns)
        text += f"; to process those that may have sound, add to 'include' of the graph: {quoted}"
    return text
