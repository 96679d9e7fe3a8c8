"""Lines are found, cut out and decoded; what the real models read is tested elsewhere.

Of the models here, one takes what is green for text, and the other reads green as ``a``, and blue
as nothing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from segue.errors import ConfigurationError, NotApplicable
from segue.features.picture_text import (
    CHARACTERS,
    DETECTION,
    HEIGHT,
    RECOGNITION,
    Rectangle,
    Text,
    cut_line,
    decode_text,
    find_rectangles,
    sort_lines,
)
from segue.models.onnx_writer import OnnxGraph
from segue.testing import sound

GREEN, BLUE = (0, 255, 0), (0, 0, 255)
PIXELS = 2.0  # that a side may be off


def make_entry(key: str, value: str) -> bytes:
    """Return an entry of an ONNX file's metadata, as a protocol buffer."""
    parts = [bytes([tag, len(text)]) + text.encode() for tag, text in ((10, key), (18, value))]
    return bytes([14 << 3 | 2, sum(map(len, parts))]) + b"".join(parts)


@pytest.fixture
def folder(tmp_path) -> Path:
    models = tmp_path / "models"
    models.mkdir()
    graph = OnnxGraph("green")
    x = graph.add_input("x", ["batch", 3, "height", "width"])
    kernel = graph.add_weight(np.array([0, 0.5, 0], np.float32).reshape(1, 3, 1, 1))
    half = graph.add_weight(np.array([0.5], np.float32))
    likely = graph.add_node("Conv", x, kernel, half, kernel_shape=[1, 1])
    graph.add_output("likely", likely, ["batch", 1, "height", "width"])
    (models / DETECTION).write_bytes(graph.encode())

    graph = OnnxGraph("letters")
    x = graph.add_input("x", ["batch", 3, HEIGHT, "width"])
    size = {"kernel_shape": [HEIGHT, 8], "strides": [HEIGHT, 8]}
    columns = graph.add_node("AveragePool", x, **size)
    flat = graph.add_node("Squeeze", columns, graph.add_weight(np.array([2], np.int64)))
    turned = graph.add_node("Transpose", flat, perm=[0, 2, 1])
    half = graph.add_weight(np.array(0.5, np.float32))
    likely = graph.add_node("Add", graph.add_node("Mul", turned, half), half)
    graph.add_output("likely", likely, ["batch", "columns", 3])
    (models / RECOGNITION).write_bytes(graph.encode() + make_entry(CHARACTERS, "a"))
    return models


def start(folder: Path, **params) -> Text:
    job = Text(model=folder, **params)
    job.setup()
    return job


def make_map(size: tuple[int, int], polygon: list[tuple[float, float]]) -> np.ndarray:
    image = Image.new("L", size)
    ImageDraw.Draw(image).polygon(polygon, fill=255)
    return np.asarray(image).astype(np.float32) / 255


def turn(rectangle: Rectangle) -> float:
    return float(np.degrees(np.arctan2(rectangle.along[1], rectangle.along[0])))


def test_a_line_is_found_read_and_placed(open_media, tmp_path, folder):
    """Two green bars on black: each is a letter, less than half as high as what is read."""
    image = Image.new("RGB", (480, 240))
    draw = ImageDraw.Draw(image)
    draw.rectangle((300, 60, 419, 89), fill=GREEN)
    draw.rectangle((40, 160, 199, 189), fill=GREEN)
    image.save(tmp_path / "a.png")
    found = start(folder, min_confidence=0.0)(open_media(tmp_path / "a.png"))
    assert found["texts"] == ["a"]
    [picture] = found["frames"]
    assert picture["time_s"] is None
    assert [line["text"] for line in picture["lines"]] == ["a", "a"]
    box = picture["lines"][0]["box"]
    added = 1.6 * 120 * 30 / (120 + 30) / 2  # on each side
    expected = [[300 - added, 60 - added], [420 + added, 60 - added]]
    assert np.array(box[:2]) * (480, 240) == pytest.approx(np.array(expected), abs=PIXELS)
    assert all(0 < line["confidence"] < 0.5 for line in picture["lines"])
    nothing = start(folder)(open_media(tmp_path / "a.png"))
    assert nothing["texts"] == []


@pytest.mark.parametrize("bar", [(100, 20, 129, 199), (20, 100, 199, 129)])
def test_a_line_that_runs_down_is_read_from_both_ends(
    open_media, tmp_path, folder, monkeypatch, bar
):
    """Whichever is more confident counts: here, what has the white end at its right."""
    image = Image.new("RGB", (220, 220))
    draw = ImageDraw.Draw(image)
    draw.rectangle(bar, fill=GREEN)
    draw.rectangle((bar[0], bar[1], bar[0] + 29, bar[1] + 29), fill="white")
    image.save(tmp_path / "a.png")
    read = []

    def look(line: Image.Image) -> tuple[str, float]:
        read.append(line.size)
        left, right = np.asarray(line)[10:-10, [30, -30], 0].mean(axis=0)
        return ("right", 0.9) if right > left else ("left", 0.6)

    job = start(folder)
    monkeypatch.setattr(job, "_read_line", look)
    is_upright = bar[2] - bar[0] < bar[3] - bar[1]
    assert job(open_media(tmp_path / "a.png"))["texts"] == (["right"] if is_upright else ["left"])
    assert len(read) == 1 + is_upright


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (100, 100)])
def test_a_picture_without_text_has_no_lines(open_media, tmp_path, folder, size):
    Image.new("RGB", size, BLUE).save(tmp_path / "a.png")
    found = start(folder)(open_media(tmp_path / "a.png"))
    assert found == {"texts": [], "frames": [{"time_s": None, "lines": []}]}


@pytest.mark.parametrize("angle", [0, 20, -35])
def test_a_rectangle_is_found_at_its_angle_and_widened(angle):
    a = np.radians(angle)
    across, down = np.array([np.cos(a), np.sin(a)]), np.array([-np.sin(a), np.cos(a)])
    centre = np.array([200, 150])
    corners = [
        centre + x * 100 * across + y * 15 * down for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))
    ]
    [found] = find_rectangles(make_map((400, 300), [tuple(c) for c in corners]))
    added = 1.6 * 200 * 30 / (200 + 30)
    assert found.centre == pytest.approx(centre, abs=PIXELS)
    assert np.hypot(*found.along) == pytest.approx(200 + added, abs=3 * PIXELS)
    assert np.hypot(*found.down) == pytest.approx(30 + added, abs=3 * PIXELS)
    assert turn(found) == pytest.approx(angle, abs=1)


def test_what_is_small_or_unlikely_is_no_line():
    likely = np.zeros((60, 80), np.float32)
    likely[10:12, 10:60] = 1.0  # thin
    likely[30:50, 10:60] = 0.4  # unlikely
    assert find_rectangles(likely) == []
    assert find_rectangles(np.zeros((60, 80), np.float32)) == []
    [everything] = find_rectangles(np.ones((60, 80), np.float32))
    assert everything.centre.tolist() == [40, 30]


def make_rectangle(x: float, y: float, width: float, height: float, angle: float = 0) -> Rectangle:
    a = np.radians(angle)
    return Rectangle(
        centre=np.array([x, y]),
        along=width * np.array([np.cos(a), np.sin(a)]),
        down=height * np.array([-np.sin(a), np.cos(a)]),
    )


def test_lines_are_sorted_from_the_top_down_and_from_left_to_right():
    places = [(300, 12), (100, 50), (100, 8), (300, 45)]
    lines = [make_rectangle(x, y, 80, 20) for x, y in places]
    found = [tuple(line.centre.astype(int).tolist()) for line in sort_lines(lines)]
    assert found == [(100, 8), (300, 12), (100, 50), (300, 45)]


@pytest.mark.parametrize("height", [24, 48, 200])
@pytest.mark.parametrize("angle", [0, 25])
def test_a_line_is_cut_out_straight(height, angle):
    """Its left half is red, and its right half white; around it is black."""
    line = make_rectangle(500, 400, 4 * height, height, angle)
    corners = line.corners
    image = Image.new("RGB", (1000, 800))
    middle = (corners[[0, 3]] + corners[[1, 2]]) / 2
    left = [tuple(c) for c in (corners[0], middle[0], middle[1], corners[3])]
    ImageDraw.Draw(image).polygon([tuple(c) for c in corners], fill="white")
    ImageDraw.Draw(image).polygon(left, fill="red")
    found = np.asarray(cut_line(np.asarray(image), line)).astype(int)
    assert found.shape == (HEIGHT, 4 * HEIGHT, 3)
    assert np.abs(found[6:-6, 6:90] - (255, 0, 0)).max() < 60
    assert np.abs(found[6:-6, 102:-6] - 255).max() < 60


def test_a_line_that_runs_down_is_turned_so_that_it_begins_at_the_left():
    rgb = np.zeros((200, 100, 3), np.uint8)
    rgb[20:100, 40:60], rgb[100:180, 40:60] = (255, 0, 0), (255, 255, 255)
    found = np.asarray(cut_line(rgb, make_rectangle(50, 100, 20, 160)))
    assert found.shape == (HEIGHT, 8 * HEIGHT, 3)
    assert found[24, 10].tolist() == [255, 0, 0]
    assert found[24, 370].tolist() == [255, 255, 255]


def test_a_line_at_the_edge_or_of_one_pixel_is_cut_out():
    rgb = np.full((10, 10, 3), 200, np.uint8)
    for line in (make_rectangle(0, 0, 30, 8), make_rectangle(9.9, 9.9, 0.5, 0.5)):
        assert cut_line(rgb, line).height == HEIGHT
    assert cut_line(rgb, make_rectangle(5, 5, 9, 0.01)).width <= 1920


def test_characters_that_follow_themselves_count_once_unless_nothing_is_between():
    characters = ["", "a", "b", " "]
    best = [0, 1, 1, 0, 1, 2, 3, 2, 0]
    likely = np.full((len(best), 4), 0.1, np.float32)
    likely[range(len(best)), best] = 0.7
    likely[2, 1] = 0.9  # follows itself: it does not count
    text, confidence = decode_text(likely, characters)
    assert text == "aab b"
    assert confidence == pytest.approx(0.7)
    assert decode_text(likely[:1], characters) == ("", 0.0)


def test_parameters_out_of_range_are_refused():
    with pytest.raises(ConfigurationError, match=r"min_confidence is 1\.5; use 0 to 1"):
        Text(model=Path("none"), min_confidence=1.5)


def test_a_song_has_no_text(open_media, tmp_path, folder):
    sound.write(sound.tone(440.0, 0.5), str(tmp_path / "a.wav"))
    with pytest.raises(NotApplicable, match="it has no moving pictures"):
        start(folder)(open_media(tmp_path / "a.wav"))
