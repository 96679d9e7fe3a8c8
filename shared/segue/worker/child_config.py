"""The settings that a pool gives to its fork server and all its children."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from segue.model.graph import Graph


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildConfig:
    """Settings that are equal for all children of a pool."""

    graph: Graph
    jobs: frozenset[str]  # preloaded by the fork server; children load others when needed
    artifacts: str
    saves_numba_cache: bool  # keep what numba compiles for later runs
    folder: str  # for the temporary files of all children
    max_growth_gib: float
    max_tasks: int
