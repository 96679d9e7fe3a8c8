"""The graph as a tree: each job stands once, below one that it needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from segue.model.graph import SOURCE, Graph


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """One line of the tree."""

    guide: str  # what leads to the name, such as "│  └─ "
    name: str
    again: bool  # whether the job has been shown before, with all below it


def branches(graph: Graph) -> Iterator[Branch]:
    """Walk the tree from the source; a job is shown below the first of its parents that is met."""
    shown: set[str] = set()

    def walk(name: str, guide: str, below: str) -> Iterator[Branch]:
        again = name in shown
        yield Branch(guide=guide, name=name, again=again)
        if again:
            return
        shown.add(name)
        children = graph.children[name]
        for child in children:
            last = child == children[-1]
            yield from walk(
                child, below + ("└─ " if last else "├─ "), below + ("   " if last else "│  ")
            )

    yield from walk(SOURCE, "", "")
