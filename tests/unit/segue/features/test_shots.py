"""Cuts are found where they were made, with the scores of ffmpeg's own filter."""

from __future__ import annotations

import re
import subprocess

import imageio_ffmpeg
import pytest

from segue.errors import ConfigurationError, NotApplicable
from segue.features.shots import cuts
from segue_support.media_seeds import run_bundled_ffmpeg
from segue_support.photos import CHINA, find_photo

# Three shots of 2, 1 and 1.5 s that move all the time; the second has more detail.
SHOTS = ("testsrc2=s=160x90:r=20:d=2", "mandelbrot=s=160x90:r=20", "smptebars=s=160x90:r=20:d=1.5")
INPUTS = [part for shot in SHOTS for part in ("-f", "lavfi", "-i", shot)]
CONCAT = "[1]trim=duration=1,setpts=PTS-STARTPTS[b];[0][b][2]concat=n=3"
CUTS_S, LENGTHS_S = [2.0, 3.0], [2.0, 1.0, 1.5]
ROUNDING = 0.0006  # the filter prints 3 decimals

FORMATS = {
    "h264.mp4": ("-pix_fmt", "yuv420p", "-c:v", "libx264", "-bf", "3"),
    "ten.mkv": ("-pix_fmt", "yuv420p10le", "-c:v", "libx265", "-x265-params", "log-level=none"),
    "vp9.webm": ("-pix_fmt", "yuv420p", "-c:v", "libvpx-vp9", "-cpu-used", "8"),
    "mpeg4.avi": ("-pix_fmt", "yuv420p", "-c:v", "mpeg4", "-q:v", "3"),
    "mpeg2.ts": ("-pix_fmt", "yuv420p", "-r", "25", "-c:v", "mpeg2video", "-q:v", "3"),
}


def write(path: str, options: tuple[str, ...], graph: str = CONCAT) -> None:
    run_bundled_ffmpeg(*INPUTS, "-filter_complex", graph, *options, path)


@pytest.mark.parametrize("name", FORMATS)
def test_cuts_are_found_where_they_are_in_each_container(open_media, tmp_path, name):
    write(str(tmp_path / name), FORMATS[name])
    found = cuts(open_media(tmp_path / name))
    assert found["times_s"] == pytest.approx(CUTS_S, abs=0.05)
    assert found["shot_lengths_s"] == pytest.approx(LENGTHS_S, abs=0.1)
    assert sum(found["shot_lengths_s"]) == pytest.approx(found["duration_s"], abs=1e-5)
    assert all(10 <= score <= 100 for score in found["scores"])


@pytest.mark.parametrize("name", ["h264.mp4", "ten.mkv"])
def test_times_and_scores_are_those_of_the_filter_scdet(open_media, tmp_path, name):
    path = str(tmp_path / name)
    write(path, FORMATS[name])
    filters = "format=yuv420p,scdet=threshold=1,metadata=print:file=-"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", path, "-vf", filters]
    said = subprocess.run([*command, "-f", "null", "-"], check=True, capture_output=True, text=True)
    expected = re.findall(r"scd\.score=(\S+)\n.*scd\.time=(\S+)", said.stdout)
    found = cuts(open_media(path), threshold=1.0)
    assert len(expected) >= 2
    assert found["times_s"] == pytest.approx([float(time) for _, time in expected], abs=0.001)
    assert found["scores"] == pytest.approx([float(score) for score, _ in expected], abs=ROUNDING)


def test_a_film_of_one_shot_and_a_dissolve_have_no_cut(open_media, tmp_path):
    path = str(tmp_path / "a.mp4")
    run_bundled_ffmpeg(*INPUTS[:4], "-pix_fmt", "yuv420p", path)
    found = cuts(open_media(path))
    assert (found["times_s"], found["scores"]) == ([], [])
    assert found["shot_lengths_s"] == [found["duration_s"]] == pytest.approx([2.0], abs=0.001)
    dissolve = "[1]trim=duration=2,setpts=PTS-STARTPTS[b];[0][b]xfade=duration=1:offset=0.5"
    write(path, FORMATS["h264.mp4"], dissolve)
    assert cuts(open_media(path))["times_s"] == []


def test_a_single_frame_is_a_shot_without_length(open_media, tmp_path):
    path = str(tmp_path / "a.mp4")
    run_bundled_ffmpeg(*INPUTS[:4], "-frames:v", "1", "-pix_fmt", "yuv420p", path)
    assert cuts(open_media(path)) == {
        "times_s": [],
        "scores": [],
        "shot_lengths_s": [0.0],
        "duration_s": 0.0,
    }


@pytest.mark.parametrize("threshold", [0.0, -1.0, 100.5, float("nan")])
def test_a_threshold_out_of_range_is_refused(open_media, threshold):
    with pytest.raises(ConfigurationError, match="use a number above 0, up to 100"):
        cuts(open_media(find_photo(CHINA)), threshold=threshold)


def test_a_photograph_has_no_cuts(open_media):
    with pytest.raises(NotApplicable, match="it has no moving pictures"):
        cuts(open_media(find_photo(CHINA)))
