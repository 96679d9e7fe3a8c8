"""Finds in the results of a file what can be drawn along its time.

What a result is about follows from the names and shapes of its values, not from the job, so that
results of people's own jobs are drawn, too:

* numbers in a list whose name ends in ``times_s`` are ticks, such as beats; those of
  ``downbeat_times_s`` are strong ones;
* objects with ``start_s`` and ``end_s`` are segments, called by their kind, label, name or text;
* objects with ``time_s`` and a number are a curve; with ``objects`` or ``lines`` that have a
  ``box``, they are boxes in the picture at that time;
* a list of numbers beside a number ``hop_s`` is a curve, and so is a column of a table.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

MAX_POINTS = 20_000  # of one track
LARGEST = 2**63  # integers that can be sent
LABELS = ("label", "kind", "name", "text", "midi", "chord", "value")
TIMES, HOP = "times_s", "hop_s"


class TrackKind(StrEnum):
    """How a track is drawn."""

    TICKS = "ticks"
    SEGMENTS = "segments"
    CURVE = "curve"
    BOXES = "boxes"
    TEXT = "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """Something that happens along the time of a file."""

    name: str  # such as beats: beat_times_s
    kind: TrackKind
    times_s: Sequence[float]  # of ticks and curves; the beginnings of segments and boxes
    ends_s: Sequence[float] = ()  # of segments
    values: Sequence[float | None] = ()  # of a curve
    labels: Sequence[str] = ()  # of segments and text
    strong: Sequence[bool] = ()  # of ticks
    boxes: Sequence[Sequence[Mapping[str, Any]]] = field(default=())  # by time: label, corners
    is_cut: bool = False  # whether there is more than is shown


def find_tracks(job: str, value: Any) -> Iterator[Track]:
    """Yield the tracks in a result: the value of JSON, or a table's columns by name."""
    if not isinstance(value, Mapping):
        return
    yield from _find_ticks(job, value)
    for name, found in value.items():
        if isinstance(found, list) and found and all(isinstance(v, Mapping) for v in found):
            yield from _find_in_objects(f"{job}: {name}", found)
    hop_s = value.get(HOP)
    if isinstance(hop_s, int | float) and is_number(hop_s) and hop_s > 0:
        for name, found in value.items():
            if _is_curve(found):
                times = [round(n * hop_s, 6) for n in range(min(len(found), MAX_POINTS))]
                yield _cut(f"{job}: {name}", TrackKind.CURVE, times, values=found)


def _find_ticks(job: str, value: Mapping[str, Any]) -> Iterator[Track]:
    downbeats = value.get("downbeat_times_s")
    strong_times: set[float] | None = None
    if isinstance(downbeats, list) and all(map(is_number, downbeats)):
        strong_times = set(downbeats)
    for name, times in value.items():
        if not name.endswith(TIMES) or not _is_list_of_numbers(times):
            continue
        if name == "downbeat_times_s" and "beat_times_s" in value:
            continue  # they are marked among the beats
        strong: list[bool] = []
        if name == "beat_times_s" and strong_times is not None:
            strong = [t in strong_times for t in times]
        yield _cut(f"{job}: {name.removesuffix('_s')}", TrackKind.TICKS, times, strong=strong)
        for other, values in value.items():
            if other != name and _is_curve(values) and len(values) == len(times):
                yield _cut(f"{job}: {other}", TrackKind.CURVE, times, values=values)


def _find_in_objects(name: str, found: Sequence[Mapping[str, Any]]) -> Iterator[Track]:
    first = found[0]
    if is_number(first.get("start_s")) and is_number(first.get("end_s")):
        rows = [r for r in found if is_number(r.get("start_s")) and is_number(r.get("end_s"))]
        label = next((key for key in LABELS if key in first), "")
        yield _cut(
            name,
            TrackKind.TEXT if label == "text" else TrackKind.SEGMENTS,
            [r["start_s"] for r in rows],
            ends_s=[r["end_s"] for r in rows],
            labels=[str(r.get(label, "")) for r in rows],
        )
    elif "time_s" in first:
        times = [r["time_s"] if is_number(r.get("time_s")) else 0.0 for r in found]
        boxes = [_list_boxes(r) for r in found]
        if any(boxes):
            yield _cut(name, TrackKind.BOXES, times, boxes=boxes)
        for key in first:
            values = [r.get(key) for r in found]
            if key != "time_s" and all(map(is_number, values)):
                yield _cut(f"{name}.{key}", TrackKind.CURVE, times, values=values)


def _list_boxes(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what is in a picture, with its corners as parts of the width and the height."""
    boxes = []
    for things in row.values():
        for thing in things if isinstance(things, list) else ():
            if isinstance(thing, Mapping) and isinstance(thing.get("box"), list):
                label = next((str(thing[key]) for key in LABELS if key in thing), "")
                boxes.append({"label": label, "corners": _list_corners(thing["box"])})
    return [box for box in boxes if box["corners"]]


def _list_corners(box: Sequence[Any]) -> list[list[float]]:
    if len(box) == 4 and all(map(is_number, box)):
        left, top, right, bottom = box
        return [[left, top], [right, top], [right, bottom], [left, bottom]]
    if all(isinstance(p, list) and len(p) == 2 and all(map(is_number, p)) for p in box):
        return [list(point) for point in box]
    return []


def _cut(name: str, kind: TrackKind, times: Sequence[float], **series: Sequence[Any]) -> Track:
    """Build a track of what can be sent and drawn."""
    whole = max(len(times), *(len(values) for values in series.values()), 0)
    shown = {key: values[:MAX_POINTS] for key, values in series.items()}
    return Track(
        name=name,
        kind=kind,
        times_s=times[:MAX_POINTS],
        is_cut=whole > MAX_POINTS,
        **shown,
    )


def is_number(value: Any) -> bool:
    """Whether a value is a number that can be drawn; JSON may have integers of any length."""
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < LARGEST


def _is_list_of_numbers(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(is_number, value))


def _is_curve(value: Any) -> bool:
    """Whether a value is a list of numbers and nulls, with at least one number."""
    return (
        isinstance(value, list)
        and any(map(is_number, value))
        and all(v is None or is_number(v) for v in value)
    )
