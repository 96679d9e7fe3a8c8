"""Pictures are prepared as the model expects, and rated one by one.

The model here measures how red a picture is; what the real one says is tested elsewhere.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segue.errors import ConfigurationError, NotApplicable
from segue.features.adult_content import MEAN_BGR, SEEN, Moderation, prepare
from segue.models.onnx_writer import OnnxGraph
from segue.testing import sound
from segue_support.media_seeds import run_bundled_ffmpeg

CODEC_ERROR = 0.02  # of a colour, as a part of 255


@pytest.fixture
def job(tmp_path) -> Moderation:
    """Its second output is the mean red, from 0 to 1."""
    graph = OnnxGraph("red")
    images = graph.add_input("images", ["batch", SEEN, SEEN, 3])
    colours = graph.add_node("ReduceMean", images, axes=[1, 2], keepdims=0)
    weights = np.array([[0, 0], [0, 0], [0, 1 / 255]], np.float32)
    bias = np.array([0, MEAN_BGR[2] / 255], np.float32)
    given = [graph.add_weight(array) for array in (weights, bias)]
    graph.add_output("rated", graph.add_node("Gemm", colours, *given), ["batch", 2])
    (tmp_path / "red.onnx").write_bytes(graph.encode())
    job = Moderation(model=tmp_path / "red.onnx", max_frames=3)
    job.setup()
    return job


def test_an_image_is_rated_alone(open_media, tmp_path, job):
    Image.new("RGB", (300, 200), (153, 0, 0)).save(tmp_path / "a.png")
    found = job(open_media(tmp_path / "a.png"))
    assert found["frames"] == [{"time_s": None, "adult": found["adult_max"]}]
    assert found["adult_mean"] == found["adult_max"] == pytest.approx(0.6, abs=CODEC_ERROR)


def test_a_film_has_the_highest_and_the_mean_of_its_key_frames(open_media, tmp_path, job):
    colours = ("black", "0xff0000", "0x800000")
    inputs = [
        part for name in colours for part in ("-f", "lavfi", "-i", f"color={name}:s=64x64:d=3:r=10")
    ]
    film, forced = str(tmp_path / "a.mp4"), ("-force_key_frames", "3,6")
    graph = "[0][1][2]concat=n=3,format=yuv420p"
    run_bundled_ffmpeg(*inputs, "-filter_complex", graph, "-c:v", "libx264", *forced, film)
    found = job(open_media(film))
    assert [frame["time_s"] for frame in found["frames"]] == [0.0, 3.0, 6.0]
    rated = [frame["adult"] for frame in found["frames"]]
    assert rated == pytest.approx([0.0, 1.0, 0.5], abs=CODEC_ERROR)
    assert found["adult_max"] == max(rated)
    assert found["adult_mean"] == pytest.approx(sum(rated) / 3, abs=1e-4)


def test_the_middle_of_a_picture_is_seen_blue_first_without_the_mean():
    """A blue frame, of a sixteenth of the width on each side, is cut off."""
    rgb = np.full((512, 1024, 3), (200, 100, 50), np.uint8)
    rgb[:30], rgb[-30:], rgb[:, :60], rgb[:, -60:] = ((0, 0, 255),) * 4
    found = prepare(rgb)
    assert (found.shape, found.dtype) == ((1, SEEN, SEEN, 3), np.float32)
    expected = np.array([50, 100, 200]) - np.array(MEAN_BGR)
    assert np.abs(found[0, 4:-4, 4:-4] - expected).max() <= 4  # of JPEG


def test_parameters_out_of_range_are_refused(open_media, tmp_path):
    Image.new("RGB", (3, 2)).save(tmp_path / "a.png")
    with pytest.raises(ConfigurationError, match="max_frames is 0"):
        Moderation(model=Path("none"), max_frames=0)(open_media(tmp_path / "a.png"))


def test_a_song_is_not_rated(open_media, tmp_path, job):
    sound.write(sound.tone(440.0, 0.5), str(tmp_path / "a.wav"))
    with pytest.raises(NotApplicable, match="it has no moving pictures"):
        job(open_media(tmp_path / "a.wav"))
