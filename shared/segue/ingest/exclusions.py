"""Describes the files that are passed over: not included by the graph, excluded, not selected."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

from segue.model.criteria import Unselected
from segue.model.graph import INCLUDE
from segue.model.passed_over import PassedOver

OTHER = "other"  # names without a suffix, or with one that is none, such as a date
SHOWN = 8  # suffixes in a description
MEANINGS = {
    Unselected.MATCH: "with another name",
    Unselected.NEWER_THAN: "older",
    Unselected.DURATION: "with another duration",
    Unselected.TAGS: "without these tags",
    Unselected.NO_PROBE: "without a probe",
    Unselected.UNDECIDED: "to be probed first",
}

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
    what = "whose names match no pattern of the graph"
    text = f"not included: {_count(counts)} {what} ({_list_suffixes(counts)})"
    if patterns := suggest_patterns(counts):
        quoted = ", ".join(f'"{pattern}"' for pattern in patterns)
        text += f"; to process those that may have sound, add to 'include' of the graph: {quoted}"
    return text


def describe_passed_over(found: PassedOver) -> list[str]:
    """Return a line for each group of files, with what to do for them to be processed."""
    lines = []
    if found.not_included:
        lines.append(describe_exclusions(found.not_included))
    if found.excluded:
        lines.append(
            f"excluded: {_count(found.excluded)} whose names match a pattern of 'exclude' in the "
            f"graph ({_list_suffixes(found.excluded)})"
        )
    if found.not_selected:
        kinds = ", ".join(f"{n:,} {MEANINGS[Unselected(r)]}" for r, n in found.not_selected.items())
        lines.append(f"not selected: {_count(found.not_selected)} ({kinds})")
    if found.without_probe:
        lines.append(
            "without a probe, duration and tags are unknown: compute the job 'probe' first, or in "
            "a backfill add --job probe"
        )
    return lines


def to_json(found: PassedOver) -> dict[str, object]:
    """Return the counts as commands write them, and the patterns to add to ``include``."""
    return {
        "not_included": dict(sorted(found.not_included.items())),
        "include_suggested": suggest_patterns(found.not_included),
        "excluded": dict(sorted(found.excluded.items())),
        "not_selected": dict(sorted(found.not_selected.items())),
    }


def _count(counts: Mapping[str, int]) -> str:
    total = sum(counts.values())
    return f"{total:,} file{'s' * (total != 1)}"


def _list_suffixes(counts: Mapping[str, int]) -> str:
    most = Counter(counts).most_common(SHOWN)
    kinds = [f"{n:,} {suffix}" for suffix, n in most]
    if rest := sum(counts.values()) - sum(n for _, n in most):
        kinds.append(f"{rest:,} more")
    return ", ".join(kinds)
