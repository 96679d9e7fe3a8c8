"""A range of seeds on the command line: ``0:500`` is 0 to 499, ``7`` is seed 7 alone."""

from __future__ import annotations

import argparse


def parse_seeds(text: str) -> range:
    """Return the seeds that a text names; for argparse's ``type``."""
    first, colon, end = text.partition(":")
    try:
        seeds = range(int(first or 0), int(end)) if colon else range(int(first), int(first) + 1)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a range of seeds such as 0:500"
        ) from None
    if not seeds:
        raise argparse.ArgumentTypeError(f"{text!r} contains no seed")
    return seeds
