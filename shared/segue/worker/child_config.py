"""What every child of a pool is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from segue.model.graph import Graph


@dataclass(frozen=True, slots=True, kw_only=True)
class Upbringing:
    """The same for all children, from the first to the last."""

    graph: Graph
    jobs: frozenset[str]  # that are to be loaded ahead; others are loaded when they are needed
    artifacts: str
    leaves_compiled: bool  # whether what is compiled is kept for later runs
    folder: str  # for the temporary files of all
    max_growth_gib: float
    max_tasks: int
