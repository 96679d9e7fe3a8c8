"""Objects are found where the heat map has its peaks; what the real model sees is tested elsewhere.

The model here takes red for persons and green for bicycles, whose boxes are 40 pixels wide and 20
pixels high.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segue.errors import ConfigurationError, NotApplicable
from segue.features.coco_objects import Objects, drop_overlaps, find_peaks
from segue.models.centernet import CELLS, CLASSES, SIDE, STRIDE
from segue.models.onnx_writer import OnnxGraph
from segue.testing import sound
from segue_support.media_seeds import run_bundled_ffmpeg

REACH = (20, 10, 20, 10)
BLUR = 0.06  # of scaling, on a dot of two cells
ROUNDING = 0.02  # of a part: half a cell, and the blur of scaling


def write_model(path: Path) -> Path:
    graph = OnnxGraph("colours")
    images = graph.add_input("images", ["batch", 3, SIDE, SIDE])
    kernel = np.zeros((len(CLASSES), 3, STRIDE, STRIDE), np.float32)
    kernel[0, 0] = kernel[1, 1] = 1 / STRIDE**2 / 255
    square = {"kernel_shape": [STRIDE, STRIDE], "strides": [STRIDE, STRIDE]}
    heat = graph.add_node("Conv", images, graph.add_weight(kernel), **square)
    nothing = graph.add_weight(np.zeros((4, 3, STRIDE, STRIDE), np.float32))
    bias = graph.add_weight(np.array(REACH, np.float32))
    reach = graph.add_node("Conv", images, nothing, bias, **square)
    graph.add_output("heat", heat, ["batch", len(CLASSES), CELLS, CELLS])
    graph.add_output("reach", reach, ["batch", 4, CELLS, CELLS])
    path.write_bytes(graph.encode())
    return path


@pytest.fixture
def model(tmp_path) -> Path:
    return write_model(tmp_path / "colours.onnx")


def start(model: Path, **params) -> Objects:
    job = Objects(model=model, **params)
    job.setup()
    return job


def draw(height: int, width: int, dots: dict[tuple[int, int], tuple[int, int, int]]) -> np.ndarray:
    """Return a black picture with a square of 16 pixels at each place (row, column)."""
    rgb = np.zeros((height, width, 3), np.uint8)
    for (row, column), colour in dots.items():
        rgb[row - 8 : row + 8, column - 8 : column + 8] = colour
    return rgb


def test_objects_are_found_with_their_boxes_as_parts_of_the_picture(open_media, tmp_path, model):
    """The picture is twice as large as what the model sees, and half as high as wide."""
    dots = {(200, 300): (255, 0, 0), (400, 800): (0, 200, 0)}
    Image.fromarray(draw(512, 1024, dots)).save(tmp_path / "a.png")
    found = start(model)(open_media(tmp_path / "a.png"))
    [picture] = found["frames"]
    assert picture["time_s"] is None
    assert [one["label"] for one in picture["objects"]] == ["person", "bicycle"]
    person, bicycle = picture["objects"]
    assert (person["score"], bicycle["score"]) == pytest.approx((1.0, 200 / 255), abs=BLUR)
    assert found["labels"] == {"bicycle": bicycle["score"], "person": person["score"]}
    for one, (y, x) in zip(picture["objects"], dots, strict=True):
        expected = [(x - 40) / 1024, (y - 20) / 512, (x + 40) / 1024, (y + 20) / 512]
        assert one["box"] == pytest.approx(expected, abs=ROUNDING)


def test_a_box_ends_at_the_edge_of_the_picture(open_media, tmp_path, model):
    Image.fromarray(draw(512, 512, {(8, 504): (255, 0, 0)})).save(tmp_path / "a.png")
    [picture] = start(model)(open_media(tmp_path / "a.png"))["frames"]
    left, top, right, bottom = picture["objects"][0]["box"]
    assert (top, right) == (0.0, 1.0)
    assert 0 < bottom < left < 1


def test_what_is_below_the_threshold_is_left_out(open_media, tmp_path, model):
    Image.fromarray(draw(512, 512, {(100, 100): (128, 0, 0)})).save(tmp_path / "a.png")
    media = open_media(tmp_path / "a.png")
    assert start(model, threshold=0.4)(media)["labels"].keys() == {"person"}
    assert start(model, threshold=0.6)(media) == {
        "labels": {},
        "frames": [{"time_s": None, "objects": []}],
    }


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1)])
def test_a_picture_of_any_shape_is_looked_at(open_media, tmp_path, model, size):
    Image.new("RGB", size).save(tmp_path / "a.png")
    assert start(model)(open_media(tmp_path / "a.png"))["labels"] == {}


def test_each_key_frame_of_a_film_is_looked_at(open_media, tmp_path, model):
    colours = ("black", "red", "lime")
    inputs = [
        part for name in colours for part in ("-f", "lavfi", "-i", f"color={name}:s=64x64:d=3:r=10")
    ]
    graph = "[0][1][2]concat=n=3,format=yuv420p"
    film = str(tmp_path / "a.mp4")
    forced = ("-force_key_frames", "1,3,6")
    run_bundled_ffmpeg(*inputs, "-filter_complex", graph, "-c:v", "libx264", *forced, film)
    found = start(model)(open_media(film))
    assert [one["time_s"] for one in found["frames"]] == [0.0, 3.0, 6.0]
    labels = [{one["label"] for one in frame["objects"]} for frame in found["frames"]]
    assert labels == [set(), {"person"}, {"bicycle"}]
    found = start(model, max_frames=2)(open_media(film))
    assert [one["time_s"] for one in found["frames"]] == [0.0, 6.0]


def test_a_peak_is_above_its_neighbours_and_the_highest_comes_first():
    heat, reach = np.zeros((2, 5, 6), np.float32), np.zeros((4, 5, 6), np.float32)
    heat[0, 1, 1], heat[0, 1, 2], heat[1, 4, 5], heat[1, 1, 1] = 0.5, 0.6, 0.9, 0.3
    reach[:, 4, 5] = (1, 2, 3, 4)
    classes, scores, boxes = find_peaks(heat, reach, 0.2)
    assert classes.tolist() == [1, 0, 1]
    assert scores.tolist() == pytest.approx([0.9, 0.6, 0.3])
    assert boxes[0].tolist() == [20 - 1, 16 - 2, 20 + 3, 16 + 4]
    assert len(find_peaks(heat, reach, 0.95)[0]) == 0


def test_no_side_of_a_box_is_beyond_its_centre():
    heat, reach = np.full((1, 1, 1), 0.9, np.float32), np.full((4, 1, 1), -8.5, np.float32)
    assert find_peaks(heat, reach, 0.5)[2].tolist() == [[0, 0, 0, 0]]


def test_no_more_than_100_objects_are_found_in_a_picture():
    heat = np.zeros((1, 60, 60), np.float32)
    heat[0, ::3, ::3] = np.linspace(0.4, 0.9, 400).reshape(20, 20)
    _, scores, _ = find_peaks(heat, np.ones((4, 60, 60), np.float32), 0.3)
    assert len(scores) == 100
    assert scores.min() == pytest.approx(0.4 + 0.5 * 300 / 399)


def test_of_boxes_of_a_class_that_overlap_the_first_stays():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [1, 0, 11, 10], [6, 0, 16, 10]], float)
    assert drop_overlaps(np.array([3, 3, 4, 3]), boxes) == [0, 2, 3]
    assert drop_overlaps(np.array([], int), boxes[:0]) == []


@pytest.mark.parametrize("threshold", [0.0, 1.0, -1.0, float("nan")])
def test_a_threshold_out_of_range_is_refused(threshold):
    with pytest.raises(ConfigurationError, match="use a number between 0 and 1"):
        Objects(model=Path("none"), threshold=threshold)


def test_a_song_has_no_objects(open_media, tmp_path, model):
    sound.write(sound.tone(440.0, 0.5), str(tmp_path / "a.wav"))
    with pytest.raises(NotApplicable, match="it has no moving pictures"):
        start(model)(open_media(tmp_path / "a.wav"))
