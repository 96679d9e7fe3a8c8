"""A page on which nothing covers anything, with few crossings; the same each time."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from segue_cli.drawing.layout import Spacing, build_layout, fit_nondecreasing
from segue_cli.drawing.order import Links, count_crossings, order_layers

ROUNDING = 0.11  # places are rounded to a tenth


@some.composite
def graphs(draw):
    """Boxes of different sizes, and edges that lead forward; each but the first has one to it."""
    count = draw(some.integers(1, 14))
    sizes = {
        f"job{n}": (float(draw(some.integers(40, 300))), float(draw(some.integers(20, 90))))
        for n in range(count)
    }
    edges = []
    for n in range(1, count):
        parents = draw(some.sets(some.integers(0, n - 1), min_size=1, max_size=3))
        edges += [(f"job{p}", f"job{n}") for p in sorted(parents)]
    return sizes, edges


def overlap(a, b, gap: float) -> bool:
    apart = (
        a.x + a.width + gap <= b.x
        or b.x + b.width + gap <= a.x
        or a.y + a.height + gap <= b.y + ROUNDING
        or b.y + b.height + gap <= a.y + ROUNDING
    )
    return not apart


@given(graphs())
@settings(max_examples=60, deadline=None)
def test_no_two_boxes_touch_and_all_are_on_the_page(graph):
    page = build_layout(*graph)
    margin = Spacing().margin
    for a, b in combinations(page.boxes.values(), 2):
        assert not overlap(a, b, Spacing().nodes)
    for box in page.boxes.values():
        assert margin <= box.x
        assert box.x + box.width <= page.width - margin
        assert margin - ROUNDING <= box.y
        assert box.y + box.height <= page.height - margin + ROUNDING


@given(graphs())
@settings(max_examples=60, deadline=None)
def test_edges_run_from_box_to_box_and_pass_through_no_other(graph):
    page = build_layout(*graph)
    for (a, b), points in page.edges.items():
        assert points[0][0] == page.boxes[a].x + page.boxes[a].width
        assert points[-1][0] == page.boxes[b].x
        assert page.boxes[b].y < points[-1][1] < page.boxes[b].y + page.boxes[b].height
        assert all(x1 < x2 for (x1, _), (x2, _) in pairwise(points))
        for (x1, y1), (x2, y2) in list(pairwise(points))[1::2]:
            assert y1 == y2  # level while it passes a layer
            for box in page.boxes.values():
                beside = box.x + box.width <= x1 or x2 <= box.x
                assert beside or y1 < box.y or box.y + box.height < y1


@given(graphs())
@settings(max_examples=20, deadline=None)
def test_the_same_graph_gives_the_same_page(graph):
    assert build_layout(*graph) == build_layout(*graph)


@pytest.mark.parametrize(("crossed", "left"), [([("a", "y"), ("b", "x")], 0), ([], 0)])
def test_what_can_be_uncrossed_is(crossed, left):
    links = Links()
    for a, b in crossed:
        links.add(a, b)
    assert count_crossings(order_layers([["a", "b"], ["x", "y"]], links), links) == left


def test_what_cannot_be_uncrossed_has_the_fewest_crossings():
    links = Links()
    for a in "abc":
        for b in "xyz":
            links.add(a, b)
    # The complete bipartite graph of three and three has nine crossings in two layers.
    assert count_crossings(order_layers([list("abc"), list("xyz")], links), links) == 9


@given(some.lists(some.floats(-1e3, 1e3), min_size=1, max_size=30))
def test_spread_is_the_nearest_order_that_does_not_fall(desired):
    placed = fit_nondecreasing(desired)
    assert all(a <= b for a, b in pairwise(placed))
    assert sum(placed) == pytest.approx(sum(desired), abs=1e-6)
    cost = sum((p - w) ** 2 for p, w in zip(placed, desired, strict=True))
    for other in (sorted(desired), [sum(desired) / len(desired)] * len(desired)):
        assert cost <= sum((o - w) ** 2 for o, w in zip(other, desired, strict=True)) + 1e-6


def test_a_long_edge_is_straight_where_there_is_room():
    sizes = dict.fromkeys("sabcd", (100.0, 40.0))
    edges = [("s", "a"), ("a", "b"), ("b", "c"), ("c", "d"), ("s", "d")]
    heights = {y for _, y in build_layout(sizes, edges).edges[("s", "d")][1:-1]}
    assert len(heights) == 1
