"""Draws the graph as SVG: one file without dependencies, for light and dark pages."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from segue.model.graph import SOURCE, Graph, Job
from segue_cli.drawing.labels import format_content_type, format_title
from segue_cli.drawing.layout import Box, build_layout

# Estimated widths of the fonts below, large enough for any machine.
NAME_WIDTH, DETAIL_WIDTH, PRINT_WIDTH = 9.4, 6.4, 6.7
PADDING, STRIPE = 14.0, 5.0
HEIGHT, SOURCE_HEIGHT = 68.0, 40.0
KINDS = {"audio": "audio", "image": "image", "json": "json"}

LIGHT = {
    "page": "#ffffff",
    "box": "#ffffff",
    "line": "#d3d9e3",
    "edge": "#939db0",
    "name": "#1b2330",
    "detail": "#566174",
    "audio": "#0d9488",
    "image": "#d6458a",
    "json": "#4f6bed",
    "data": "#c2820a",
    "source": "#1b2330",
    "on": "#ffffff",
}
DARK = {
    "page": "#0f141b",
    "box": "#18202b",
    "line": "#303c4d",
    "edge": "#6b798f",
    "name": "#e8edf4",
    "detail": "#9ca8ba",
    "audio": "#2dd4bf",
    "image": "#f27db2",
    "json": "#8ea2ff",
    "data": "#f0b429",
    "source": "#e8edf4",
    "on": "#10161f",
}
# Written out for both themes: few programs but browsers support variables.
COLORS = """\
.page {{ fill: {page} }} .box {{ fill: {box}; stroke: {line} }}
.edge {{ stroke: {edge} }} .tip {{ fill: {edge} }}
.name {{ fill: {name} }} .detail {{ fill: {detail} }}
.source .box {{ fill: {source} }} .source .name {{ fill: {on} }}
.audio .stripe {{ fill: {audio} }} .image .stripe {{ fill: {image} }}
.json .stripe {{ fill: {json} }} .data .stripe {{ fill: {data} }}
"""
SHAPES = """\
text { font-family: ui-sans-serif, system-ui, "Segoe UI", Roboto, Arial, sans-serif }
.box { stroke-width: 1.2px } .source .box { stroke: none } .source .name { text-anchor: middle }
.edge { fill: none; stroke-width: 1.5px }
.name { font-size: 14.5px; font-weight: 600 } .detail { font-size: 11.5px }
.print { font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace; font-size: 10.5px }
"""


MARKER = (
    '<defs><marker id="segue-tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
    'markerHeight="7" orient="auto"><path class="tip" d="M0 0.8 L7.4 4 L0 7.2 z"/></marker></defs>'
)


def draw_svg(graph: Graph) -> str:
    """Draw the graph as SVG."""
    jobs = graph.jobs
    sizes = {SOURCE: (len(SOURCE) * NAME_WIDTH + 2 * PADDING, SOURCE_HEIGHT)}
    sizes |= {job.name: (_compute_width(graph, job), HEIGHT) for job in jobs.values()}
    edges = [(p, j.name) for j in jobs.values() for p in dict.fromkeys(j.needs.values())]
    page = build_layout(sizes, edges)
    size = f'width="{page.width:g}" height="{page.height:g}"'
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {page.width:g} '
        f'{page.height:g}" role="img" aria-labelledby="segue-title">'
    )
    parts = [
        head,
        f'<title id="segue-title">{escape(format_title(graph))}</title>',
        f"<style>\n{_format_style()}</style>",
        MARKER,
        f'<rect class="page" {size} rx="10"/>',
        *(_draw_edge(jobs[b], a, points) for (a, b), points in page.edges.items()),
        _draw_source(page.boxes[SOURCE]),
        *(_draw_job(graph, job, page.boxes[job.name]) for job in jobs.values()),
        "</svg>\n",
    ]
    return "\n".join(parts)


def _format_style() -> str:
    dark = COLORS.format(**DARK)
    return f"{SHAPES}{COLORS.format(**LIGHT)}@media (prefers-color-scheme: dark) {{\n{dark}}}\n"


def _compute_width(graph: Graph, job: Job) -> float:
    name = len(job.name) * NAME_WIDTH
    detail = len(_format_detail(job)) * DETAIL_WIDTH
    print_ = len(graph.fingerprints[job.name]) * PRINT_WIDTH
    return round(STRIPE + 2 * PADDING + max(name, detail, print_), 1)


def _format_detail(job: Job) -> str:
    return " · ".join(filter(None, (format_content_type(job), f"v{job.version}", job.owner)))


def _draw_edge(job: Job, parent: str, points: Sequence[tuple[float, float]]) -> str:
    """Draw a line that is horizontal where it enters or leaves a layer."""
    x, y = points[0]
    path = [f"M{x:g} {y:g}"]
    for number, (x2, y2) in enumerate(points[1:]):
        bend = round((x + x2) / 2, 1)
        # Every second segment passes a layer at constant height.
        path.append(
            f"L{x2:g} {y2:g}" if number % 2 else f"C{bend:g} {y:g} {bend:g} {y2:g} {x2:g} {y2:g}"
        )
        x, y = x2, y2
    inputs = ", ".join(name for name, p in job.needs.items() if p == parent)
    title_ = f"{job.name} reads {parent} as {inputs}"
    return (
        f'<path class="edge" marker-end="url(#segue-tip)" d="{" ".join(path)}">'
        f"<title>{escape(title_)}</title></path>"
    )


def _draw_source(box: Box) -> str:
    middle = box.x + box.width / 2
    return (
        '<g class="source"><title>the media files of the catalogue</title>'
        f"{_draw_box(box, box.height / 2)}"
        f'<text class="name" x="{middle:g}" y="{box.middle + 5:g}">{SOURCE}</text></g>'
    )


def _draw_job(graph: Graph, job: Job, box: Box) -> str:
    kind = KINDS.get(format_content_type(job).partition("/")[0], "data")
    left = round(box.x + STRIPE + PADDING, 1)
    lines = (
        ("name", 24.0, job.name),
        ("detail", 41.5, _format_detail(job)),
        ("detail print", 57.0, graph.fingerprints[job.name]),
    )
    texts = "".join(
        f'<text class="{class_}" x="{left:g}" y="{box.y + down:g}">{escape(text)}</text>'
        for class_, down, text in lines
    )
    return (
        f'<g class="job {kind}"><title>{escape(job.description or job.name)}</title>'
        f"{_draw_box(box, STRIPE + 2)}{_draw_stripe(box)}{texts}</g>"
    )


def _draw_box(box: Box, radius: float) -> str:
    size = f'width="{box.width:g}" height="{box.height:g}"'
    return f'<rect class="box" x="{box.x:g}" y="{box.y:g}" {size} rx="{radius:g}"/>'


def _draw_stripe(box: Box) -> str:
    """Draw the coloured left edge of a box, with round outer corners."""
    r = f"{STRIPE:g}"
    straight = box.height - 2 * STRIPE
    path = (
        f"M{box.x + STRIPE:g} {box.y:g} v{box.height:g} a{r} {r} 0 0 1 -{r} -{r} "
        f"v-{straight:g} a{r} {r} 0 0 1 {r} -{r} z"
    )
    return f'<path class="stripe" d="{path}"/>'
