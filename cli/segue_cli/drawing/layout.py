"""Places nodes and edges of a graph on a page: in layers, with few crossings and straight lines.

The layered method (Sugiyama, Tagawa and Toda, 1981): longest paths give the layers, barycentres and
swaps of neighbours the order, least squares the positions. The same graph always gives the same
page.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf

from segue_cli.drawing.order import Layers, Links, Node, order_layers

SWEEPS = 100
# The pull between two linked nodes, by how many of them are points of a long edge: straight long
# edges are more important than boxes in the middle of their neighbours.
FORCES = (1, 2, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A node, by its upper left corner."""

    x: float
    y: float
    width: float
    height: float

    @property
    def middle(self) -> float:
        """The vertical centre."""
        return self.y + self.height / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The geometry of a drawing."""

    width: float
    height: float
    boxes: Mapping[str, Box]
    # (from, to) → the points of the edge: start, both sides of each layer that it passes, end
    edges: Mapping[tuple[str, str], Sequence[tuple[float, float]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spacing:
    """Distances on the page."""

    layers: float = 64.0
    nodes: float = 22.0
    edges: float = 12.0  # between an edge and its neighbour
    tips: float = 14.0  # between edges that end at the same box
    margin: float = 20.0


def build_layout(
    sizes: Mapping[str, tuple[float, float]],
    edges: Iterable[tuple[str, str]],
    spacing: Spacing = Spacing(),
) -> Page:
    """Place nodes of given widths and heights; edges must lead forward in their order."""
    edges = list(edges)
    depth = _compute_depths(sizes, edges)
    layers, links = _build_layers(sizes, edges, depth)
    layers = order_layers(layers, links)
    return _build_page(
        sizes, edges, depth, layers, _compute_middles(layers, links, sizes, spacing), spacing
    )


def _compute_depths(nodes: Iterable[str], edges: Sequence[tuple[str, str]]) -> dict[str, int]:
    depth: dict[str, int] = {}
    for node in nodes:
        depth[node] = max((depth[a] + 1 for a, b in edges if b == node), default=0)
    return depth


def _build_layers(
    nodes: Iterable[str], edges: Sequence[tuple[str, str]], depth: Mapping[str, int]
) -> tuple[Layers, Links]:
    """Assign nodes to layers, and split edges into links from one layer to the next."""
    layers: Layers = [[] for _ in range(max(depth.values()) + 1)]
    for node in nodes:
        layers[depth[node]].append(node)
    links = Links()
    for a, b in edges:
        before: Node = a
        for layer in range(depth[a] + 1, depth[b]):
            place: Node = (a, b, layer)
            layers[layer].append(place)
            links.add(before, place)
            before = place
        links.add(before, b)
    return layers, links


def _compute_middles(
    layers: Layers,
    links: Links,
    sizes: Mapping[str, tuple[float, float]],
    spacing: Spacing,
) -> dict[Node, float]:
    """Move nodes to the middle of their neighbours, keeping order and distance within layers."""
    # The distance of each node below the first of its layer at minimum spacing.
    offsets: dict[Node, float] = {}
    for layer in layers:
        offset = 0.0
        offsets[layer[0]] = offset
        for a, b in pairwise(layer):
            heights = [sizes[n][1] if isinstance(n, str) else 0.0 for n in (a, b)]
            boxes = isinstance(a, str) and isinstance(b, str)
            offset += sum(heights) / 2 + (spacing.nodes if boxes else spacing.edges)
            offsets[b] = offset
    middles = {n: offsets[n] - offsets[layer[-1]] / 2 for layer in layers for n in layer}

    def find_desired(node: Node) -> float:
        pulls = [
            (middles[other], FORCES[(not isinstance(node, str)) + (not isinstance(other, str))])
            for other in links.of(node)
        ]
        if not pulls:
            return middles[node]
        return sum(at * force for at, force in pulls) / sum(force for _, force in pulls)

    for sweep in range(SWEEPS):
        for layer in layers if sweep % 2 == 0 else reversed(layers):
            places = fit_nondecreasing([find_desired(n) - offsets[n] for n in layer])
            middles.update({n: p + offsets[n] for n, p in zip(layer, places, strict=True)})
    _straighten(layers, links, offsets, middles)
    return middles


def _straighten(
    layers: Layers, links: Links, offsets: Mapping[Node, float], middles: dict[Node, float]
) -> None:
    """Keep a long edge at the same height for as many layers as there is room for it."""
    above: dict[Node, Node] = {}
    below: dict[Node, Node] = {}
    for layer in layers:
        for a, b in pairwise(layer):
            above[b], below[a] = a, b

    def find_range(node: Node) -> tuple[float, float]:
        over, under = above.get(node), below.get(node)
        low = -inf if over is None else middles[over] + offsets[node] - offsets[over]
        high = inf if under is None else middles[under] - offsets[under] + offsets[node]
        return low, high

    for edge in _find_long_edges(layers, links):
        left = deque(edge)
        while left:
            run = [left.popleft()]
            low, high = find_range(run[0])
            while left:
                least, most = find_range(left[0])
                if max(low, least) > min(high, most):
                    break
                low, high = max(low, least), min(high, most)
                run.append(left.popleft())
            mean = sum(middles[n] for n in run) / len(run)
            middles.update(dict.fromkeys(run, min(max(mean, low), high)))


def _find_long_edges(layers: Layers, links: Links) -> list[list[Node]]:
    """Return the points of each edge that passes layers, from left to right."""
    edges: list[list[Node]] = []
    for layer in layers:
        for node in layer:
            if isinstance(node, str) or not isinstance(links.before[node][0], str):
                continue
            edge: list[Node] = [node]
            while not isinstance(then := links.behind[edge[-1]][0], str):
                edge.append(then)
            edges.append(edge)
    return edges


def fit_nondecreasing(desired: Sequence[float]) -> list[float]:
    """Return the non-decreasing numbers nearest to the desired ones (isotonic least squares)."""
    pools: list[tuple[float, int]] = []
    for value in desired:
        total, count = value, 1
        while pools and pools[-1][0] / pools[-1][1] > total / count:
            before = pools.pop()
            total, count = total + before[0], count + before[1]
        pools.append((total, count))
    return [total / count for total, count in pools for _ in range(count)]


def _build_page(
    sizes: Mapping[str, tuple[float, float]],
    edges: Sequence[tuple[str, str]],
    depth: Mapping[str, int],
    layers: Layers,
    middles: Mapping[Node, float],
    spacing: Spacing,
) -> Page:
    widths = [max(sizes[n][0] for n in layer if isinstance(n, str)) for layer in layers]
    lefts = [spacing.margin]
    for width in widths:
        lefts.append(lefts[-1] + width + spacing.layers)
    halves = {n: sizes[n][1] / 2 if isinstance(n, str) else 0.0 for n in middles}
    down = spacing.margin - min(middles[n] - halves[n] for n in middles)

    def build_box(node: str) -> Box:
        y = round(middles[node] - halves[node] + down, 1)
        return Box(x=lefts[depth[node]], y=y, width=widths[depth[node]], height=sizes[node][1])

    boxes = {node: build_box(node) for node in sizes}
    paths = {}
    for a, b in edges:
        points = [(boxes[a].x + boxes[a].width, boxes[a].middle)]
        for layer in range(depth[a] + 1, depth[b]):
            y = round(middles[(a, b, layer)] + down, 1)
            points += [(lefts[layer], y), (lefts[layer] + widths[layer], y)]
        paths[(a, b)] = points
    for b, box_ in boxes.items():
        arriving = sorted((points[-1][1], edge) for edge, points in paths.items() if edge[1] == b)
        step = min(spacing.tips, box_.height / (len(arriving) + 1))
        for place, (_, edge) in enumerate(arriving):
            y = box_.middle + (place - (len(arriving) - 1) / 2) * step
            paths[edge].append((box_.x, round(y, 1)))
    return Page(
        width=lefts[-1] - spacing.layers + spacing.margin,
        height=round(max(middles[n] + halves[n] for n in middles) + down + spacing.margin, 1),
        boxes=boxes,
        edges=paths,
    )
