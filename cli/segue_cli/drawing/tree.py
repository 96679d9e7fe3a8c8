"""Draws the graph as a tree: each job is shown in full once, below a job that it needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from segue.model.graph import SOURCE, Graph


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """One line of the tree."""

    guide: str  # the lines before the name, such as "│  └─ "
    name: str
    again: bool  # whether the job and all below it are shown above


def walk_tree(graph: Graph) -> Iterator[Branch]:
    """Yield the lines of the tree, from the source; a job is expanded below its first parent."""
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
