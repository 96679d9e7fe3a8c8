"""Images of all kinds, honest, broken and hostile, as RGB pixels."""

from __future__ import annotations

import io
import os
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from segue.errors import CorruptMedia, MissingInput, NotApplicable, TooLarge
from segue.media.decode import LocalMedia
from segue.media.image import FORMATS, MAX_PIXELS
from segue.testing import sound
from segue_support.media_seeds import run_bundled_ffmpeg
from segue_support.mutated_media import mutate

HEIGHT, WIDTH = 24, 40
# JPEG and WebP change a smooth picture by a few of 255 steps.
LOSSY_ERROR = 12


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """A smooth picture in which each corner has a colour of its own."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.stack([y * 10, x * 6, (y + x) * 3], axis=-1).astype(np.uint8)


def save(pixels: np.ndarray, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, **options)
    return buffer.getvalue()


@pytest.fixture
def decode(tmp_path, open_media):
    """Decode the bytes of an image, under a name that says nothing."""

    def decode(data: bytes) -> np.ndarray:
        (tmp_path / "cover").write_bytes(data)
        return open_media(tmp_path / "cover").image()

    return decode


@pytest.mark.parametrize("form", FORMATS)
def test_each_format_gives_its_pixels(decode, picture, form):
    options = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"quality": 95}}.get(form, {})
    pixels = decode(save(picture, form, **options))
    assert (pixels.shape, pixels.dtype) == ((HEIGHT, WIDTH, 3), np.uint8)
    error = np.abs(pixels.astype(int) - picture.astype(int)).max()
    assert error <= (0 if form in ("PNG", "TIFF", "BMP") else 40 if form == "GIF" else LOSSY_ERROR)
    assert type(pixels) is np.ndarray
    with pytest.raises(ValueError, match="read-only"):
        pixels[0, 0] = 0


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_compressed_tiff_is_read(decode, picture, compression):
    assert np.array_equal(decode(save(picture, "TIFF", compression=compression)), picture)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF"])
def test_a_photograph_is_upright(decode, picture, orientation, form):
    # What a camera stores, so that this orientation makes the picture of it.
    turns = {
        1: picture,
        2: picture[:, ::-1],
        3: np.rot90(picture, 2),
        4: picture[::-1],
        5: picture.transpose(1, 0, 2),
        6: np.rot90(picture),
        7: np.rot90(picture, 2).transpose(1, 0, 2),
        8: np.rot90(picture, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(turns[orientation])
    options = {"quality": 95, "subsampling": 0} if form == "JPEG" else {}
    pixels = decode(save(stored, form, exif=exif, **options))
    assert pixels.shape == picture.shape
    assert np.abs(pixels.astype(int) - picture.astype(int)).max() <= LOSSY_ERROR


@pytest.mark.parametrize("orientation", [0, 9, 65_535])
def test_an_orientation_that_is_none_changes_nothing(decode, picture, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert np.array_equal(decode(save(picture, "PNG", exif=exif)), picture)


@pytest.mark.parametrize("form", ["PNG", "WEBP", "JPEG"])
def test_damaged_exif_data_are_no_damage_of_the_pixels(decode, picture, form):
    data = save(picture, form, exif=b"Exif\0\0no TIFF header")
    assert decode(data).shape == picture.shape


def test_what_is_transparent_is_shown_on_white(decode):
    rgba = np.zeros((2, 3, 4), np.uint8)
    rgba[0, 0] = (255, 0, 0, 255)
    rgba[0, 1] = (255, 0, 0, 0)
    rgba[0, 2] = (0, 0, 0, 128)
    pixels = decode(save(rgba, "PNG"))
    assert pixels[0].tolist() == [[255, 0, 0], [255, 255, 255], [127, 127, 127]]
    palette = Image.new("P", (1, 1), 0)
    palette.putpalette([9, 9, 9, 0, 0, 0])
    buffer = io.BytesIO()
    palette.save(buffer, "GIF", transparency=0)
    assert decode(buffer.getvalue()).tolist() == [[[255, 255, 255]]]


def test_grey_images_have_three_equal_channels(decode):
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    expected = np.repeat(grey[..., np.newaxis], 3, axis=2)
    assert np.array_equal(decode(save(grey, "PNG")), expected)
    wide = grey.astype(np.uint16) * 257
    assert np.array_equal(decode(save(wide, "PNG")), expected)
    assert np.array_equal(decode(save(wide, "TIFF")), expected)


def test_an_animation_gives_its_first_picture(decode):
    pictures = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    for form in ("GIF", "WEBP", "PNG"):
        buffer = io.BytesIO()
        pictures[0].save(buffer, form, save_all=True, append_images=pictures[1:])
        assert np.abs(decode(buffer.getvalue())[0, 0].astype(int) - (255, 0, 0)).max() <= 5


def test_numbers_without_a_range_are_no_colours(decode):
    with pytest.raises(CorruptMedia, match="numbers of 32 bits, whose range is not known"):
        decode(save(np.ones((4, 4), np.float32), "TIFF"))


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_truncated_image_is_corrupt(decode, form, share):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = save(noise, form)
    with pytest.raises(CorruptMedia, match=r"damaged or truncated|not an image"):
        decode(data[: int(len(data) * share)])


def test_a_wrong_checksum_is_damage(decode, picture):
    data = bytearray(save(picture, "PNG"))
    data[data.index(b"IDAT") + 10] ^= 1
    with pytest.raises(CorruptMedia, match=r"/cover: damaged or truncated: "):
        decode(bytes(data))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty file"),
        (b"not an image\n" * 50, "not an image that Segue recognises"),
        (bytes(5000), "not an image that Segue recognises"),
        (b"\x89PNG\r\n\x1a\n", "not an image that Segue recognises"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR", "damaged|cannot be read"),
    ],
)
def test_what_is_damaged_or_nothing_is_corrupt(decode, data, message):
    with pytest.raises(CorruptMedia, match=message):
        decode(data)


def test_an_image_of_another_format_says_so(decode, picture):
    with pytest.raises(CorruptMedia, match=r"an image \(image/avif\) that cannot be read: convert"):
        decode(save(picture, "AVIF"))


def test_what_is_no_image_is_not_for_a_job_that_needs_one(open_media, tmp_path):
    song = sound.write(sound.tone(duration_s=0.1), str(tmp_path / "cover.png"), "flac")
    with pytest.raises(NotApplicable, match=r"/cover.png is sound \(audio/flac\), not an image"):
        open_media(song).image()
    film = str(tmp_path / "a.mp4")
    run_bundled_ffmpeg("-f", "lavfi", "-i", "testsrc=d=0.2:s=32x32", "-c:v", "mpeg4", film)
    with pytest.raises(NotApplicable, match=r"a film without sound \(video/mp4\), not an image"):
        open_media(film).image()


def test_what_is_no_file_is_not_waited_for(open_media, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CorruptMedia, match="a pipe or a device"):
        open_media(tmp_path / "pipe").image()
    with pytest.raises(MissingInput, match="No such file"):
        open_media(tmp_path / "gone").image()


# Hostile images


def png_chunk(name: bytes, body: bytes) -> bytes:
    checksum = zlib.crc32(name + body)
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", checksum)


def png(width: int, height: int, *chunks: bytes) -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + png_chunk(b"IEND", b"")


def zeros(count: int) -> bytes:
    """Compress many zeros to a thousandth of them."""
    compressor = zlib.compressobj(9)
    block = bytes(1 << 20)
    parts = [compressor.compress(block) for _ in range(count >> 20)]
    return b"".join(parts) + compressor.flush()


BOMBS = {
    "PNG": png(50_000, 50_000, png_chunk(b"IDAT", zeros(64 << 20))),
    "PNG, just above": png(MAX_PIXELS + 1, 1, png_chunk(b"IDAT", zeros(1 << 20))),
    "GIF": b"GIF89a\xff\xff\xff\xff\x80\0\0" + bytes(6) + b",\0\0\0\0\xff\xff\xff\xff\0\2\2D\1\0;",
    "BMP": b"BM"
    + struct.pack("<IHHIIiiHHIIiiII", 154, 0, 0, 54, 40, 30_000, 30_000, 1, 24, 0, 0, 0, 0, 0, 0)
    + bytes(100),
}


@pytest.mark.parametrize("data", BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_too_large_before_it_goes_off(decode, bound_memory, data):
    bound_memory(0.25)
    with pytest.raises(TooLarge, match=r"[\dy] pixels; the limit is 178,956,970 pixels: scale"):
        decode(data)


def test_what_needs_more_memory_than_the_job_has_is_too_large(decode, bound_memory):
    data = png(8_000, 8_000, png_chunk(b"IDAT", zeros(1 << 20)))
    bound_memory(0.25)
    with pytest.raises(TooLarge, match=r"8,000 x 8,000 pixels, needs up to 0\.95 GiB of memory"):
        decode(data)


def test_a_canvas_of_webp_that_does_not_fit_is_too_large(decode, bound_memory):
    canvas = struct.pack("<I", 16_382)[:3] * 2
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + canvas
    body += save(np.zeros((1, 1, 3), np.uint8), "WEBP")[12:]
    bound_memory(0.25)
    with pytest.raises((TooLarge, CorruptMedia)):
        decode(b"RIFF" + struct.pack("<I", len(body)) + body)


@pytest.fixture(scope="module")
def packed() -> bytes:
    return zeros(320 << 20)


@pytest.mark.parametrize("name", [b"zTXt", b"iTXt", b"iCCP"])
def test_a_bomb_in_metadata_is_not_unpacked(decode, bound_memory, packed, name):
    body = {
        b"zTXt": b"a\0\0" + packed,
        b"iTXt": b"a\0\1\0\0\0" + packed,
        b"iCCP": b"a\0\0" + packed,
    }[name]
    bound_memory(0.25)
    data = png(1, 1, png_chunk(name, body), png_chunk(b"IDAT", zlib.compress(bytes(4))))
    try:
        assert decode(data).tolist() == [[[0, 0, 0]]]
    except CorruptMedia as error:
        assert "too large" in str(error)  # noqa: PT017 - both are right


@pytest.fixture(scope="module")
def seeds(picture) -> dict[str, bytes]:
    found = {f"a.{form.lower()}": save(picture, form) for form in FORMATS}
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    found["exif.jpeg"] = save(picture, "JPEG", exif=exif, progressive=True)
    found["exif.png"] = save(picture, "PNG", exif=exif)
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "jpeg"):
        found[f"{compression}.tiff"] = save(picture, "TIFF", compression=compression)
    return found


@pytest.mark.slow
@settings(max_examples=500)
@given(seed=st.integers(0, 2**32))
def test_a_damaged_image_is_decoded_or_corrupt(seeds, tmp_path_factory, seed):
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(mutate(seed, seeds)[1])
    media = LocalMedia(uri="file:///a", version="1", path=str(path), folder=str(path.parent))
    try:
        pixels = media.image()
    except (CorruptMedia, TooLarge, NotApplicable):
        return
    assert (pixels.ndim, pixels.shape[2], pixels.dtype) == (3, 3, np.uint8)
