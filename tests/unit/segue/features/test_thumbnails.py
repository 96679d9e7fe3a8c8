"""A thumbnail is small, upright, and shows something."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from segue.errors import ConfigurationError, NotApplicable, TooLarge
from segue.features import pictures
from segue.features.thumbnails import thumbnail
from segue.media import film
from segue.testing import sound
from segue_support.media_seeds import run_bundled_ffmpeg
from segue_support.photos import CHINA, FLOWER, find_photo

COLOUR_ERROR = 12  # of the codec, and of scaling


def make_film(path: str, shots: list[tuple[str, ...]], filters: str = "") -> str:
    """Write a film of shots of a second each, with a key frame at each cut."""
    inputs = [part for shot in shots for part in shot]
    scaled = [f"[{i}]scale=320:240,setsar=1,trim=duration=1[v{i}];" for i in range(len(shots))]
    graph = "".join(scaled) + "".join(f"[v{i}]" for i in range(len(shots)))
    graph += f"concat=n={len(shots)},format=yuv420p{filters}"
    forced = ",".join(str(i) for i in range(len(shots)))
    options = ("-force_key_frames", forced, "-c:v", "libx264", path)
    run_bundled_ffmpeg(*inputs, "-filter_complex", graph, *options)
    return path


def show(photo: tuple[str, str]) -> tuple[str, ...]:
    return ("-loop", "1", "-framerate", "10", "-t", "1", "-i", find_photo(photo))


def colour(name: str) -> tuple[str, ...]:
    return ("-f", "lavfi", "-i", f"color={name}:s=320x240:d=1:r=10")


def read(photo: tuple[str, str], size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.open(find_photo(photo)).convert("RGB").resize(size)).astype(int)


def test_a_photograph_is_made_small_and_keeps_its_shape(open_media):
    found = thumbnail(open_media(find_photo(CHINA)), size=160)
    assert (found.shape, found.dtype) == ((107, 160, 3), np.uint8)
    assert np.abs(found - read(CHINA, (160, 107))).mean() < COLOUR_ERROR


def test_a_small_picture_is_not_enlarged_and_a_narrow_one_keeps_a_pixel(open_media, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(thumbnail(open_media(tmp_path / "a.png")), pixels)
    Image.fromarray(pixels[:1].repeat(100, axis=1)).save(tmp_path / "b.png")
    assert thumbnail(open_media(tmp_path / "b.png"), size=10).shape == (1, 10, 3)


def test_a_film_is_shown_by_a_frame_that_is_neither_black_nor_grey_nor_blurred(
    open_media, tmp_path
):
    """Among shots of black, white and a blurred photograph, it is the sharp photograph."""
    shots = [colour("black"), show(FLOWER), colour("white"), show(CHINA), show(FLOWER)]
    blurred = ",boxblur=8:enable='lt(t,3)+gte(t,4)'"
    film = make_film(str(tmp_path / "a.mp4"), shots, blurred)
    found = thumbnail(open_media(film), size=320)
    assert found.shape == (240, 320, 3)
    assert np.abs(found - read(CHINA, (320, 240))).mean() < COLOUR_ERROR


def test_a_film_that_is_all_black_has_a_thumbnail(open_media, tmp_path):
    film = make_film(str(tmp_path / "a.mp4"), [colour("black"), colour("black")])
    assert thumbnail(open_media(film), size=64).max() < COLOUR_ERROR


def test_a_film_of_a_telephone_is_upright(open_media, tmp_path):
    source, path = make_film(str(tmp_path / "b.mp4"), [show(CHINA)]), str(tmp_path / "a.mp4")
    run_bundled_ffmpeg("-display_rotation", "90", "-i", source, "-c", "copy", path)
    found = thumbnail(open_media(path), size=320)
    assert found.shape == (320, 240, 3)
    assert np.abs(found - np.rot90(read(CHINA, (320, 240)))).mean() < COLOUR_ERROR


def test_no_more_frames_are_looked_at_than_asked_for(open_media, tmp_path):
    """They are spread over the film: of five, the first, the third and the last."""
    film = make_film(str(tmp_path / "a.mp4"), [colour("red")] * 5)
    media = open_media(film)

    def list_times(min_gap_s: float, max_frames: int) -> list[float | None]:
        found = pictures.iterate_pictures(media, min_gap_s=min_gap_s, max_frames=max_frames)
        return [time_s for time_s, _ in found]

    assert list_times(0.0, 5) == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert list_times(0.0, 3) == [0.0, 2.0, 4.0]
    assert list_times(0.0, 1) == [0.0]
    assert list_times(3.0, 5) == [0.0, 3.0]


def test_a_film_may_have_more_key_frames_than_are_ever_decoded(open_media, tmp_path, monkeypatch):
    """Of Motion JPEG and ProRes, each frame is one."""
    path = str(tmp_path / "a.avi")
    run_bundled_ffmpeg(*colour("red"), "-c:v", "mjpeg", path)
    monkeypatch.setattr(film, "MAX_FRAMES", 5)
    found = pictures.iterate_pictures(open_media(path), min_gap_s=0.0, max_frames=4)
    assert [time_s for time_s, _ in found] == [0.0, 0.3, 0.6, 0.9]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"size": 0}, "size is 0; use 1 to 2,048 pixels"),
        ({"size": 3000}, "size is 3000"),
        ({"max_frames": 0}, "max_frames is 0; use 1 to 1,000"),
        ({"max_frames": 1001}, "max_frames is 1001"),
        ({"min_gap_s": -1.0}, r"min_gap_s is -1\.0; use seconds from 0 on"),
        ({"min_gap_s": float("nan")}, "min_gap_s is nan"),
    ],
)
def test_parameters_out_of_range_are_refused(open_media, params, message):
    with pytest.raises(ConfigurationError, match=message):
        thumbnail(open_media(find_photo(CHINA)), **params)


def test_a_picture_that_does_not_fit_into_memory_is_refused(open_media, monkeypatch):
    def refuse(size_bytes: float, purpose: str) -> None:
        raise TooLarge(f"{purpose} needs {size_bytes}")

    monkeypatch.setattr("segue.features.thumbnails.require_memory", refuse)
    with pytest.raises(TooLarge, match=f"the thumbnail of .* needs {640 * 427 * 5}"):
        thumbnail(open_media(find_photo(CHINA)))


def test_a_song_has_no_thumbnail(open_media, tmp_path):
    sound.write(sound.tone(440.0, 0.5), str(tmp_path / "a.wav"))
    with pytest.raises(NotApplicable, match="it has no moving pictures"):
        thumbnail(open_media(tmp_path / "a.wav"))
