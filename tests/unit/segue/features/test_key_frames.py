"""Key frames are listed with times and sizes, upright, and nothing but films has any."""

from __future__ import annotations

import pytest

from segue.errors import CorruptMedia, NotApplicable, TooLarge
from segue.features import key_frames
from segue.features.key_frames import frames
from segue_support.media_seeds import run_bundled_ffmpeg
from segue_support.photos import CHINA, find_photo

PICTURE = ("-f", "lavfi", "-i", "testsrc=s=64x48:d=3:r=10", "-pix_fmt", "yuv420p")


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_times_and_sizes_are_listed(open_media, tmp_path, name):
    path = str(tmp_path / name)
    run_bundled_ffmpeg(*PICTURE, "-c:v", "libx264", "-force_key_frames", "1,2.5", path)
    found = frames(open_media(path))
    assert found["times_s"] == [0.0, 1.0, 2.5]
    assert (found["width"], found["height"]) == (64, 48)
    assert len(found["sizes_bytes"]) == 3
    assert min(found["sizes_bytes"]) > 100


def test_the_size_is_that_of_the_upright_picture(open_media, tmp_path):
    source, path = str(tmp_path / "b.mp4"), str(tmp_path / "a.mp4")
    run_bundled_ffmpeg(*PICTURE, "-c:v", "libx264", source)
    run_bundled_ffmpeg("-display_rotation", "90", "-i", source, "-c", "copy", path)
    found = frames(open_media(path))
    assert (found["width"], found["height"]) == (48, 64)


def test_more_key_frames_than_the_limit_are_too_many(open_media, tmp_path, monkeypatch):
    path = str(tmp_path / "a.avi")
    run_bundled_ffmpeg(*PICTURE, "-c:v", "mjpeg", path)
    monkeypatch.setattr(key_frames, "MAX_FRAMES", 30)
    assert len(frames(open_media(path))["times_s"]) == 30
    monkeypatch.setattr(key_frames, "MAX_FRAMES", 29)
    with pytest.raises(TooLarge, match="more than 29 key frames; cut it into parts"):
        frames(open_media(path))


def test_a_photograph_has_none_and_a_film_that_is_cut_off_is_damaged(open_media, tmp_path):
    with pytest.raises(NotApplicable, match="it has no moving pictures"):
        frames(open_media(find_photo(CHINA)))
    path = tmp_path / "a.mkv"
    run_bundled_ffmpeg(*PICTURE, "-c:v", "libx264", str(path))
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(CorruptMedia):
        frames(open_media(path))
