"""The pictures that a job looks at, of what is an image, a film or neither."""

from __future__ import annotations

import pytest

from segue.errors import CorruptMedia
from segue.features.pictures import iterate_pictures


@pytest.mark.parametrize("name", ["cover.jpg", "clip.mp4", "page"])
def test_what_is_neither_an_image_nor_a_film_is_called_neither(open_media, tmp_path, name):
    path = tmp_path / name
    path.write_text("<!DOCTYPE html>")
    with pytest.raises(CorruptMedia, match="neither an image nor a film that Segue reads"):
        next(iterate_pictures(open_media(path), min_gap_s=0.0, max_frames=1))


def test_an_empty_file_is_called_empty(open_media, tmp_path):
    (tmp_path / "cover.jpg").touch()
    with pytest.raises(CorruptMedia, match="empty file"):
        next(iterate_pictures(open_media(tmp_path / "cover.jpg"), min_gap_s=0.0, max_frames=1))
