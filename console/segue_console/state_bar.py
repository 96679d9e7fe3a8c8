"""How the states of a job's files are shown: as a bar, in words, and as the share that is done."""

from __future__ import annotations

from collections.abc import Mapping

from segue import text

# In the order in which a bar shows them; with "missing" they add up to all files.
STATES = (
    ("done", "done"),
    ("not_applicable", "not applicable"),
    ("running", "running"),
    ("queued", "queued"),
    ("failed", "failed"),
    ("blocked", "blocked"),
    ("stale", "stale"),
    ("missing", "missing"),
)


def split_states(states: Mapping[str, int]) -> dict[str, int]:
    """Return the files in each state, each file in one: stale ones are not missing.

    Which of the stale ones are queued or have failed is not counted, so some may be missing.
    """
    stale = min(states["stale"], states["missing"])
    return {**states, "stale": stale, "missing": states["missing"] - stale}


def describe_states(states: Mapping[str, int]) -> str:
    """Return the states that some files are in, for people."""
    parts = split_states(states)
    told = ", ".join(f"{parts[state]:,} {label}" for state, label in STATES if parts[state])
    return told or "no files"


def format_share(states: Mapping[str, int], files: int) -> str:
    """Return the share of the files that are done, of those that the job is for."""
    return text.format_percent(states["done"], files - states["not_applicable"])
