"""Hashes agree with imagehash, and stay nearly the same when a picture is scaled or compressed."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from segue.errors import NotApplicable
from segue.features.perceptual_hash import phash
from segue.testing import sound
from segue_support.media_seeds import run_bundled_ffmpeg
from segue_support.paths import ROOT
from segue_support.photos import CHINA, FLOWER, HOPPER, find_photo

GOLDEN = json.loads((ROOT / "tests/golden/phash.json").read_text())
PHOTOS = {photo[1].rpartition("/")[2]: photo for photo in (HOPPER, CHINA, FLOWER)}
ALIKE, CHANCE = 8, 16  # bits of 64 that differ: of copies at most, and of others at least


def count_bits(left: str, right: str) -> int:
    return (int(left, 16) ^ int(right, 16)).bit_count()


@pytest.mark.parametrize("name", GOLDEN)
def test_the_hashes_are_those_of_imagehash(open_media, tmp_path, name):
    image = Image.open(find_photo(PHOTOS[name.removesuffix(" turned")])).convert("RGB")
    if name.endswith("turned"):
        image = image.transpose(Image.Transpose.ROTATE_90)
    image.save(tmp_path / "a.png")
    [found] = phash(open_media(tmp_path / "a.png"))["frames"]
    assert found["time_s"] is None
    assert [found["phash"], found["dhash"]] == GOLDEN[name]


@pytest.mark.parametrize("name", PHOTOS)
def test_a_copy_that_is_smaller_and_compressed_has_nearly_the_same_hash(open_media, tmp_path, name):
    image = Image.open(find_photo(PHOTOS[name])).convert("RGB")
    image.resize((image.width // 3, image.height // 2)).save(tmp_path / "a.jpg", quality=30)
    [found] = phash(open_media(tmp_path / "a.jpg"))["frames"]
    for kind, expected in zip(("phash", "dhash"), GOLDEN[name], strict=True):
        assert count_bits(found[kind], expected) <= ALIKE
    others = [hashes for other, hashes in GOLDEN.items() if other != name]
    assert min(count_bits(found["phash"], other) for other, _ in others) >= CHANCE


@pytest.mark.parametrize(("value", "expected"), [(0, "0000000000000000"), (90, "8000000000000000")])
def test_a_picture_of_one_colour_or_of_one_pixel_has_a_hash(open_media, tmp_path, value, expected):
    for shape in ((30, 40, 3), (1, 1, 3)):
        Image.fromarray(np.full(shape, value, np.uint8)).save(tmp_path / "a.png")
        [found] = phash(open_media(tmp_path / "a.png"))["frames"]
        assert (found["phash"], found["dhash"]) == (expected, "0" * 16)


def test_a_film_has_the_hash_of_each_key_frame(open_media, tmp_path):
    """Of three photographs for a second each."""
    stills = [find_photo(photo) for photo in PHOTOS.values()]
    inputs = [
        part
        for still in stills
        for part in ("-loop", "1", "-framerate", "10", "-t", "1", "-i", still)
    ]
    scaled = "".join(f"[{i}]scale=320:240,setsar=1[v{i}];" for i in range(3))
    graph = scaled + "[v0][v1][v2]concat=n=3,format=yuv420p"
    film = str(tmp_path / "a.mp4")
    forced = ("-force_key_frames", "1,2", "-c:v", "libx264")
    run_bundled_ffmpeg(*inputs, "-filter_complex", graph, *forced, film)
    found = phash(open_media(film))["frames"]
    assert [frame["time_s"] for frame in found] == [0.0, 1.0, 2.0]
    for frame, name in zip(found, PHOTOS, strict=True):
        assert count_bits(frame["phash"], GOLDEN[name][0]) <= ALIKE


def test_a_song_is_not_hashed(open_media, tmp_path):
    sound.write(sound.tone(440.0, 0.5), str(tmp_path / "a.wav"))
    with pytest.raises(NotApplicable, match="it has no moving pictures"):
        phash(open_media(tmp_path / "a.wav"))
