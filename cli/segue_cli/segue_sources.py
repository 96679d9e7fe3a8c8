"""Finds the files of Segue that are deployed: in its source tree, or in the installed package."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

HERE = os.path.dirname(os.path.abspath(__file__))
# The wheel has copies of locks/ and infra/ here (pyproject.toml, force-include).
COPIES = os.path.join(HERE, "deployed")


@dataclass(frozen=True, slots=True)
class SegueSources:
    """Where Segue's files are."""

    folders: Mapping[str, str]  # package that functions import → the folder that it is in
    deployed: str  # the folder of locks/ and infra/


def find_sources() -> SegueSources:
    """Find the files of this Segue."""
    if os.path.isdir(COPIES):
        site = os.path.dirname(HERE)
        return SegueSources({"segue_functions": site, "segue": site}, COPIES)
    return describe_tree(os.path.dirname(os.path.dirname(HERE)))


def describe_tree(root: str) -> SegueSources:
    """Describe a source tree."""
    packages = {"segue_functions": "functions", "segue": "shared"}
    return SegueSources({p: os.path.join(root, f) for p, f in packages.items()}, root)
