"""Orders the nodes within their layers so that few edges cross."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

SWEEPS = 24

Node = str | tuple[str, str, int]  # a node, or the point of an edge in a layer that it passes
Layers = list[list[Node]]


@dataclass(frozen=True, slots=True)
class Links:
    """The links between nodes of adjacent layers."""

    before: dict[Node, list[Node]] = field(default_factory=dict)
    behind: dict[Node, list[Node]] = field(default_factory=dict)

    def add(self, a: Node, b: Node) -> None:
        """Link a node to one of the next layer."""
        self.behind.setdefault(a, []).append(b)
        self.before.setdefault(b, []).append(a)

    def of(self, node: Node) -> list[Node]:
        """Return all nodes that a node is linked to."""
        return self.before.get(node, []) + self.behind.get(node, [])


def order_layers(layers: Layers, links: Links) -> Layers:
    """Sort each layer by its neighbours, in sweeps back and forth; return the best order."""
    best, fewest = layers, count_crossings(layers, links)
    for sweep in range(SWEEPS):
        if fewest == 0:
            break
        layers = [list(layer) for layer in layers]
        forward = sweep % 2 == 0
        linked = links.before if forward else links.behind
        for layer in layers if forward else reversed(layers):
            _sort(layer, linked, _places(layers))
        _swap_neighbours(layers, links)
        found = count_crossings(layers, links)
        if found < fewest:
            best, fewest = layers, found
    return best


def count_crossings(layers: Layers, links: Links) -> int:
    """Count the pairs of links that cross."""
    place = _places(layers)
    return sum(
        _count_crossings_between(a, b, links.behind, place)
        for layer in layers
        for a, b in combinations(layer, 2)
    )


def _places(layers: Layers) -> dict[Node, int]:
    return {node: place for layer in layers for place, node in enumerate(layer)}


def _sort(layer: list[Node], linked: dict[Node, list[Node]], place: dict[Node, int]) -> None:
    def key(node: Node) -> float:
        others = linked.get(node)
        return sum(place[o] for o in others) / len(others) if others else place[node]

    layer.sort(key=key)


def _swap_neighbours(layers: Layers, links: Links) -> None:
    """Swap neighbours while that removes crossings."""
    place = _places(layers)
    for layer in layers:
        better = True
        while better:
            better = False
            for i in range(len(layer) - 1):
                a, b = layer[i : i + 2]
                sides = (links.before, links.behind)
                now = sum(_count_crossings_between(a, b, side, place) for side in sides)
                then = sum(_count_crossings_between(b, a, side, place) for side in sides)
                if then < now:
                    layer[i : i + 2] = b, a
                    place[a], place[b] = i + 1, i
                    better = True


def _count_crossings_between(
    a: Node, b: Node, linked: dict[Node, list[Node]], place: dict[Node, int]
) -> int:
    """Count the links of ``a`` that cross links of ``b``, a later node of the same layer."""
    others: Sequence[Node] = linked.get(b, ())
    return sum(place[x] > place[y] for x in linked.get(a, ()) for y in others)
