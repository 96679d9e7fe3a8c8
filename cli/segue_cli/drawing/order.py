"""The order of nodes within their layers, such that few edges cross."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

SWEEPS = 24

Node = str | tuple[str, str, int]  # a node, or the place of an edge in a layer that it passes
Layers = list[list[Node]]


@dataclass(frozen=True, slots=True)
class Links:
    """Which nodes are joined, each to nodes of the next layer."""

    before: dict[Node, list[Node]] = field(default_factory=dict)
    behind: dict[Node, list[Node]] = field(default_factory=dict)

    def add(self, a: Node, b: Node) -> None:
        """Join a node to one of the next layer."""
        self.behind.setdefault(a, []).append(b)
        self.before.setdefault(b, []).append(a)

    def of(self, node: Node) -> list[Node]:
        """All that a node is joined to."""
        return self.before.get(node, []) + self.behind.get(node, [])


def ordered(layers: Layers, links: Links) -> Layers:
    """Sweep back and forth, sorting each layer by its neighbours; keep the best order seen."""
    best, fewest = layers, crossings(layers, links)
    for sweep in range(SWEEPS):
        if fewest == 0:
            break
        layers = [list(layer) for layer in layers]
        forward = sweep % 2 == 0
        joined = links.before if forward else links.behind
        for layer in layers if forward else reversed(layers):
            _sort(layer, joined, _places(layers))
        _exchange(layers, links)
        found = crossings(layers, links)
        if found < fewest:
            best, fewest = layers, found
    return best


def crossings(layers: Layers, links: Links) -> int:
    """How many pairs of links cross."""
    place = _places(layers)
    return sum(
        _crossing(a, b, links.behind, place) for layer in layers for a, b in combinations(layer, 2)
    )


def _places(layers: Layers) -> dict[Node, int]:
    return {node: place for layer in layers for place, node in enumerate(layer)}


def _sort(layer: list[Node], joined: dict[Node, list[Node]], place: dict[Node, int]) -> None:
    def key(node: Node) -> float:
        others = joined.get(node)
        return sum(place[o] for o in others) / len(others) if others else place[node]

    layer.sort(key=key)


def _exchange(layers: Layers, links: Links) -> None:
    """Exchange neighbours while that removes crossings."""
    place = _places(layers)
    for layer in layers:
        better = True
        while better:
            better = False
            for i in range(len(layer) - 1):
                a, b = layer[i : i + 2]
                sides = (links.before, links.behind)
                now = sum(_crossing(a, b, side, place) for side in sides)
                then = sum(_crossing(b, a, side, place) for side in sides)
                if then < now:
                    layer[i : i + 2] = b, a
                    place[a], place[b] = i + 1, i
                    better = True


def _crossing(a: Node, b: Node, joined: dict[Node, list[Node]], place: dict[Node, int]) -> int:
    """How many links of ``a`` cross links of ``b``, which stands behind it in its layer."""
    others: Sequence[Node] = joined.get(b, ())
    return sum(place[x] > place[y] for x in joined.get(a, ()) for y in others)
