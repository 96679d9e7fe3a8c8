"""What a job returned, as bytes, and back."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import math
import os
import subprocess
import sys
import zipfile
import zlib

import numpy as np
import pyarrow as pa
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from PIL import Image

import segue.media.samples
from segue import codec
from segue.errors import BadOutput, ConfigurationError, CorruptMedia
from segue.media.audio import BLOCK_FRAMES, Audio
from segue.model.graph import CONTENT_TYPES
from segue.testing import sound

FLAC, WAV, JSON = "audio/flac", "audio/wav", "application/json"
NPZ, PARQUET = "application/x-npz", "application/vnd.apache.parquet"
PNG, JPEG = "image/png", "image/jpeg"
MIDI, OCTETS = "audio/midi", "application/octet-stream"

# One sample step of 16 bits: what quantisation may move a sample by, at most half of it.
STEP = 1 / 32768

unhurried = settings(deadline=None, max_examples=60)
plain_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
samples = st_numpy.arrays(
    np.float32,
    st.tuples(st.integers(1, 300)) | st.tuples(st.integers(2, 8), st.integers(9, 300)),
    elements=st.floats(-1.5, 1.5, width=32),
)
named_arrays = st.dictionaries(
    st.text("abcxyz_", min_size=1, max_size=5),
    st_numpy.arrays(
        st_numpy.integer_dtypes(endianness="<") | st_numpy.floating_dtypes(endianness="<"),
        st_numpy.array_shapes(max_dims=3, max_side=5),
    ),
    max_size=3,
)
pixels = st_numpy.arrays(
    np.uint8,
    st.tuples(st.integers(1, 20), st.integers(1, 20))
    | st.tuples(st.integers(1, 20), st.integers(1, 20), st.sampled_from([3, 4])),
)
rows = st.lists(
    st.fixed_dictionaries(
        {"name": st.text(max_size=5), "score": st.floats(allow_nan=False) | st.none()},
        optional={"beat": st.integers(-(2**63), 2**63 - 1)},
    ),
    min_size=1,
    max_size=5,
)


def audio_of(*shape: int) -> Audio:
    y = np.random.default_rng(0).uniform(-1.2, 1.2, shape).astype(np.float32)
    return Audio(y=y, sr=22050)


def examples() -> dict[str, object]:
    """One value of each content type."""
    rng = np.random.default_rng(0)
    return {
        FLAC: audio_of(2, 3000),
        WAV: audio_of(3000),
        JSON: {"tempo_bpm": 120.5, "beats": [0.5, 1.0], "ok": True, "of": {"b": None, "a": "é"}},
        NPZ: {"mfcc": rng.normal(size=(3, 4)).astype(np.float32), "n": np.arange(5)},
        PNG: rng.integers(0, 256, (20, 30, 3)).astype(np.uint8),
        JPEG: rng.integers(0, 256, (20, 30, 3)).astype(np.uint8),
        PARQUET: [{"start_s": 0.5, "label": "verse"}, {"start_s": 1.5, "label": None}],
        MIDI: b"MThd\x00\x00\x00\x06\x00\x00\x00\x01\x01\xf4MTrk\x00\x00\x00\x04\x00\xff\x2f\x00",
        OCTETS: b"\x00\x01\xff",
    }


def same(left: object, right: object) -> bool:
    """Whether two values agree in type, bits and layout."""
    if isinstance(left, Audio) and isinstance(right, Audio):
        return left.sr == right.sr and same(left.y, right.y)
    if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        about = [(a.dtype, a.shape, a.strides, a.flags.writeable) for a in (left, right)]
        return about[0] == about[1] and left.tobytes() == right.tobytes()
    if isinstance(left, dict) and isinstance(right, dict):
        return list(left) == list(right) and all(same(left[k], right[k]) for k in left)
    if isinstance(left, pa.Table) and isinstance(right, pa.Table):
        return left.equals(right, check_metadata=True)
    return type(left) is type(right) and left == right


@pytest.mark.parametrize("content_type", codec.CODECS)
def test_the_value_that_comes_with_the_bytes_is_what_decoding_them_gives(content_type):
    encoded = codec.encode(content_type, examples()[content_type])
    assert same(encoded.value, codec.decode(content_type, encoded.data))


@pytest.mark.parametrize("content_type", [t for t in codec.CODECS if t != JPEG])
def test_encoding_what_was_decoded_gives_the_same_bytes(content_type):
    encoded = codec.encode(content_type, examples()[content_type])
    assert codec.encode(content_type, encoded.value).data == encoded.data


@given(samples, st.sampled_from([FLAC, WAV]))
@unhurried
def test_any_sound_comes_back_as_the_value_that_was_handed_on(y, content_type):
    encoded = codec.encode(content_type, Audio(y=y, sr=8000))
    assert same(encoded.value, codec.decode(content_type, encoded.data))


@given(plain_values)
@unhurried
def test_any_plain_value_comes_back_equal(value):
    encoded = codec.encode(JSON, value)
    assert encoded.value == value
    assert same(encoded.value, codec.decode(JSON, encoded.data))


@given(named_arrays)
@unhurried
def test_any_arrays_come_back_bit_by_bit(arrays):
    encoded = codec.encode(NPZ, arrays)
    assert same(encoded.value, codec.decode(NPZ, encoded.data))
    assert {name: a.tobytes() for name, a in encoded.value.items()} == {
        name: arrays[name].tobytes() for name in arrays
    }


@given(pixels)
@unhurried
def test_any_pixels_come_back_bit_by_bit(image):
    encoded = codec.encode(PNG, image)
    assert same(encoded.value, codec.decode(PNG, encoded.data))
    assert np.array_equal(encoded.value, image)


@given(rows)
@unhurried
def test_any_rows_come_back_with_nulls_for_what_they_lack(table):
    names = dict.fromkeys(name for row in table for name in row)
    encoded = codec.encode(PARQUET, table)
    assert encoded.value.to_pylist() == [{name: row.get(name) for name in names} for row in table]
    assert same(encoded.value, codec.decode(PARQUET, encoded.data))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits private memory")
@pytest.mark.parametrize("content_type", [JSON, PARQUET, NPZ])
def test_a_value_that_does_not_fit_into_memory_is_a_memory_error(content_type):
    """Not a crash, nor a value that the content type cannot hold."""
    program = f"""
import numpy, pyarrow.parquet, resource
from segue import codec
from segue.worker.failure import describe_failure
numbers = numpy.random.default_rng(0).random(2**22)
small = {{"x": numbers[:9]}}
value = {{
    {JSON!r}: {{"x": "a" * 2**25}},
    {PARQUET!r}: pyarrow.table({{"x": numbers}}),
    {NPZ!r}: {{"x": numbers}},
}}[{content_type!r}]
codec.encode({content_type!r}, small if {content_type!r} != {PARQUET!r} else pyarrow.table(small))
with open("/proc/self/statm") as file:
    used = int(file.read().split()[5]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_DATA, (used + 2**24, -1))
try:
    codec.encode({content_type!r}, value)
except Exception as error:
    print(describe_failure(error, 1.0).failure.kind)
"""
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == "out_of_memory"


def test_the_same_value_gives_the_same_bytes_in_every_process():
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_codec as t; print(t.digests())"
    )
    expected = digests()
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "TZ": f"UTC+{hash_seed}"}
        told = subprocess.run(
            [sys.executable, "-c", program, os.path.dirname(__file__)],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            cwd=os.getcwd(),
        )
        assert told.stdout.strip() == expected


def digests() -> str:
    digest = {
        content_type: hashlib.sha256(codec.encode(content_type, value).data).hexdigest()[:12]
        for content_type, value in examples().items()
    }
    return str(digest)


def test_importing_the_codecs_imports_neither_numpy_nor_what_is_built_on_it():
    heavy = ("numpy", "soundfile", "pyarrow", "PIL")
    program = f"import sys, segue.codec; print([m for m in {heavy} if m in sys.modules])"
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == "[]"


def test_an_unknown_content_type_is_a_mistake_that_lists_the_known_ones():
    for use in (
        lambda: codec.encode("audio/mp3", b""),
        lambda: codec.decode("audio/mp3", b""),
        lambda: codec.find_extension("audio/mp3"),
    ):
        with pytest.raises(
            ConfigurationError, match=r"'audio/mp3' is unknown.*audio/flac.*parquet"
        ):
            use()


def test_there_is_a_codec_for_each_content_type_that_a_graph_may_name():
    assert tuple(codec.CODECS) == CONTENT_TYPES


def test_every_content_type_has_an_extension_of_its_own():
    extensions = [codec.find_extension(content_type) for content_type in codec.CODECS]
    assert extensions == ["flac", "wav", "mid", "json", "npz", "png", "jpg", "parquet", "bin"]


@pytest.mark.parametrize("content_type", [t for t in codec.CODECS if t != OCTETS])
def test_damaged_bytes_are_refused_by_name_and_never_otherwise(content_type):
    data = codec.encode(content_type, examples()[content_type]).data
    rng = np.random.default_rng(1)
    broken = [b"", b"no such thing", b"PK\x03\x04"]
    broken += [data[:n] for n in rng.integers(0, len(data), 40)]
    for _ in range(60):
        flipped = bytearray(data)
        flipped[rng.integers(len(data))] ^= 1 << rng.integers(8)
        broken.append(bytes(flipped))
    refusals = [why for bad in broken if (why := refusal(content_type, bad)) is not None]
    assert all(content_type in why for why in refusals)
    assert len(refusals) >= 40  # a changed bit of plain samples or text is as good as another


def refusal(content_type: str, data: bytes) -> str | None:
    try:
        codec.decode(content_type, data)
    except CorruptMedia as error:
        return str(error)
    return None


# Sound


def test_flac_rounds_to_16_bits_and_clips_beyond_full_scale():
    y = np.array([0, 0.4 * STEP, 0.6 * STEP, -0.6 * STEP, 1.0, 1.5, -1.0, -1.5, 0.25], np.float32)
    decoded = codec.encode(FLAC, Audio(y=y, sr=8000)).value.y
    full = 32767 * STEP
    assert decoded.tolist() == [0, 0, STEP, -STEP, full, full, -1.0, -1.0, 0.25]
    assert not np.signbit(decoded[:2]).any()


def test_flac_moves_no_sample_by_more_than_half_a_step():
    y = np.linspace(-1, 32767 * STEP, 10_000, dtype=np.float32)
    decoded = codec.encode(FLAC, Audio(y=y, sr=8000)).value.y
    assert np.abs(decoded - y).max() <= STEP / 2


def test_flac_is_16_bit_flac_to_others():
    data = codec.encode(FLAC, audio_of(2, 3000)).data
    info = soundfile.info(io.BytesIO(data))
    assert (info.format, info.subtype, info.channels, info.samplerate, info.frames) == (
        "FLAC",
        "PCM_16",
        2,
        22050,
        3000,
    )


def test_wav_keeps_every_float_and_is_float_wav_to_others():
    audio = audio_of(2, 3000)
    encoded = codec.encode(WAV, audio)
    read, rate = soundfile.read(io.BytesIO(encoded.data), dtype="float32")
    assert rate == 22050
    assert np.array_equal(read.T, audio.y)
    assert np.array_equal(encoded.value.y, audio.y)


def test_decoded_samples_cannot_be_changed_by_one_child_for_the_next():
    for content_type in (FLAC, WAV):
        encoded = codec.encode(content_type, audio_of(100))
        for audio in (encoded.value, codec.decode(content_type, encoded.data)):
            with pytest.raises(ValueError, match="read-only"):
                audio.y[0] = 0.0


def test_the_value_is_not_touched_by_what_the_job_does_to_its_array_afterwards():
    audio = audio_of(100)
    encoded = codec.encode(WAV, audio)
    audio.y[:] = 0.0
    assert same(encoded.value, codec.decode(WAV, encoded.data))


def test_one_row_is_mono():
    assert codec.encode(FLAC, audio_of(1, 100)).value.y.shape == (100,)


FLAT = np.zeros(10, np.float32)
BAD_AUDIO = {
    "float64": (Audio(y=np.zeros(10), sr=8000), r"an array of float64.*\.astype\(np\.float32\)"),
    "int16": (Audio(y=np.zeros(10, np.int16), sr=8000), r"an array of int16.*full scale"),
    "list": (Audio(y=[0.0, 0.1], sr=8000), r"the samples are list \[0\.0, 0\.1\]"),
    "samples first": (Audio(y=np.zeros((100, 2), np.float32), sr=8000), r"\(100, 2\).*Use y\.T"),
    "empty": (Audio(y=FLAT[:0], sr=8000), r"\(0,\).*at least one sample"),
    "three dimensions": (Audio(y=np.zeros((1, 1, 9), np.float32), sr=8000), r"\(1, 1, 9\)"),
    "NaN": (Audio(y=np.array([0, np.nan], np.float32), sr=8000), r"sample 1 is infinite or not"),
    "infinity": (
        Audio(y=np.array([[0, 0, 0], [0, 0, -np.inf]], np.float32), sr=8000), r"sample 2 is inf",
    ),
    "fractional rate": (Audio(y=FLAT, sr=22050.5), r"the rate is float 22050\.5"),
    "no rate": (Audio(y=FLAT, sr=0), r"the rate is int 0"),
    "array alone": (FLAT, r"the job returned ndarray.*Audio\(y=samples, sr=rate\)"),
    "nothing": (None, r"the job returned NoneType None"),
}  # fmt: skip


@pytest.mark.parametrize(("value", "message"), BAD_AUDIO.values(), ids=BAD_AUDIO)
@pytest.mark.parametrize("content_type", [FLAC, WAV])
def test_what_is_not_sound_is_refused_with_a_remedy(content_type, value, message):
    with pytest.raises(BadOutput, match=message):
        codec.encode(content_type, value)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("large_bytes", [0, 1 << 30], ids=["file", "memory"])
def test_long_flac_is_written_and_read_in_blocks_without_seams(monkeypatch, channels, large_bytes):
    monkeypatch.setattr(segue.media.samples, "LARGE_BYTES", large_bytes)
    audio = sound.noise(0, (2 * BLOCK_FRAMES + 12_345) / 44100, sr=44100, channels=channels)
    encoded = codec.encode(FLAC, audio)
    at_once = io.BytesIO()
    samples = np.rint(audio.y.T * 32768).astype(np.int16)
    soundfile.write(at_once, samples, 44100, format="FLAC", subtype="PCM_16")
    assert encoded.data == at_once.getvalue()
    for y in (encoded.value.y, codec.decode(FLAC, encoded.data).y):
        assert np.array_equal(y, samples.T.astype(np.float32) / 32768)


def test_flac_names_its_limits_and_the_way_out():
    with pytest.raises(BadOutput, match=r"9 channels; FLAC holds 8.*audio/wav"):
        codec.encode(FLAC, audio_of(9, 100))
    for rate in (655_351, 70_001):
        with pytest.raises(BadOutput, match=rf"{rate} Hz; FLAC holds up to 655350 Hz.*audio/wav"):
            codec.encode(FLAC, Audio(y=FLAT, sr=rate))
    assert codec.encode(FLAC, Audio(y=FLAT, sr=655_350)).value.sr == 655_350
    assert codec.encode(WAV, audio_of(9, 100)).value.channels == 9


# JSON


def test_json_is_compact_and_sorted():
    assert codec.encode(JSON, {"b": 1, "a": [True, None, "é", 0.1]}).data == (
        '{"a":[true,null,"é",0.1],"b":1}'.encode()
    )


@dataclasses.dataclass
class Beat:
    time_s: float
    bands: np.ndarray


def test_json_makes_numpy_tuples_and_dataclasses_plain():
    value = {
        "number": np.float32(0.5),
        "integer": np.int64(3),
        "flag": np.bool_(True),
        "array": np.arange(4).reshape(2, 2),
        "text": np.array(["a", "b"]),
        "pair": (1, 2),
        "beat": Beat(time_s=np.float64(1.5), bands=np.zeros(1)),
    }
    plain = {
        "array": [[0, 1], [2, 3]],
        "beat": {"bands": [0.0], "time_s": 1.5},
        "flag": True,
        "integer": 3,
        "number": 0.5,
        "pair": [1, 2],
        "text": ["a", "b"],
    }
    encoded = codec.encode(JSON, value)
    assert same(encoded.value, plain)
    assert type(encoded.value["number"]) is float


CIRCLE: list[object] = []
CIRCLE.append(CIRCLE)
BAD_JSON = {
    "NaN": ({"a": {"b": [0.0, math.nan]}}, r"^\$\.a\.b\[1\] is nan; .*None"),
    "infinity": ([-math.inf], r"^\$\[0\] is -inf"),
    "NaN in an array": ({"x": np.array([1, np.nan])}, r"^\$\.x\[1\] is nan"),
    "NaN of numpy": ([np.float32("nan")], r"^\$\[0\] is nan"),
    "integer key": ({"a": {1: 2}}, r"a key of \$\.a is int 1.*str\(key\)"),
    "tuple key": ({(1, 2): 3}, r"a key of \$ is tuple \(1, 2\)"),
    "bytes": ({"a": b"xy"}, r"\$\.a is 2 bytes"),
    "set": ([{1}], r"\$\[0\] is set \{1\}"),
    "complex": ([1j], r"\$\[0\] is complex 1j"),
    "complex array": ([np.ones(2, complex)], r"\$\[0\] is an array of complex128.*two arrays"),
    "object": ({"model": object()}, r"\$\.model is object <object object>"),
    "surrogate": (["\ud800"], r"\$\[0\] is '\\ud800', which is not valid Unicode"),
    "surrogate key": ({"\ud800": 1}, r"'\\ud800'"),
    "circle": (CIRCLE, r"levels deep, or contains itself"),
    "enormous integer": (10**5000, r"the value cannot be JSON"),
}


@pytest.mark.parametrize(("value", "message"), BAD_JSON.values(), ids=BAD_JSON)
def test_json_says_where_the_value_is_that_it_cannot_hold(value, message):
    with pytest.raises(BadOutput, match=message):
        codec.encode(JSON, value)


def test_json_may_be_100_levels_deep():
    value: object = 1.0
    for _ in range(100):
        value = [value]
    assert codec.encode(JSON, value).value == value
    with pytest.raises(BadOutput, match="more than 100 levels deep"):
        codec.encode(JSON, [value])


def test_the_value_of_json_is_a_copy():
    value = {"beats": [1.0]}
    encoded = codec.encode(JSON, value)
    value["beats"].append(2.0)
    assert encoded.value == {"beats": [1.0]}


# Arrays


def test_npz_opens_with_numpy_and_holds_no_date():
    data = codec.encode(NPZ, {"b": np.arange(3), "a": np.float32(1.5)}).data
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        assert archive.files == ["a", "b"]
        assert archive["b"].tolist() == [0, 1, 2]
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_npz_bytes_do_not_depend_on_the_order_of_names_or_of_memory():
    array = np.arange(6).reshape(2, 3)
    one = codec.encode(NPZ, {"a": array, "b": array[0]}).data
    other = codec.encode(NPZ, {"b": array[0], "a": np.asfortranarray(array)}).data
    assert one == other


BAD_NPZ = {
    "list": ([1, 2], r"the job returned list \[1, 2\].*dict of arrays"),
    "objects": ({"a": np.array([object()])}, r"'a' is .*Python objects.*no pickles"),
    "ragged": ({"a": [[1], [1, 2]]}, r"'a' is list .*not an array"),
    "masked": ({"a": np.ma.array([1, 2], mask=[0, 1])}, r"'a' is a masked array.*\.filled"),
    "path": ({"../a": np.zeros(1)}, r"an array is named str '\.\./a'.*identifiers"),
    "number": ({1: np.zeros(1)}, r"an array is named int 1"),
}


@pytest.mark.parametrize(("value", "message"), BAD_NPZ.values(), ids=BAD_NPZ)
def test_npz_says_what_it_cannot_hold(value, message):
    with pytest.raises(BadOutput, match=message):
        codec.encode(NPZ, value)


# Images


def png_of(mode: str) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("mode", "shape"),
    [("L", (5, 7)), ("RGB", (5, 7, 3)), ("RGBA", (5, 7, 4)), ("P", (5, 7, 4)), ("1", (5, 7))],
)
def test_png_bytes_are_kept_and_read(mode, shape):
    data = png_of(mode)
    encoded = codec.encode(PNG, data)
    assert encoded.data == data
    assert encoded.value.shape == shape
    assert encoded.value.dtype == np.uint8


def photo_like() -> np.ndarray:
    ramp = np.linspace(0, 200, 64) + np.linspace(0, 40, 48)[:, np.newaxis]
    return (ramp[..., np.newaxis] + np.random.default_rng(0).normal(0, 3, 3)).astype(np.uint8)


PICTURES = {
    "flat": np.full((9, 40, 3), 200, np.uint8),
    "noise": np.random.default_rng(1).integers(0, 256, (30, 20, 4)).astype(np.uint8),
    "photo": photo_like(),
    "mask": np.eye(50, dtype=np.uint8) * 255,
    "one pixel": np.zeros((1, 1), np.uint8),
}


@pytest.mark.parametrize("pixels", PICTURES.values(), ids=PICTURES)
def test_pixels_come_back_and_any_zlib_writes_the_same_bytes(pixels):
    data = codec.encode(PNG, pixels).data
    assert np.array_equal(codec.decode(PNG, data), pixels)
    start = data.index(b"IDAT") + 4
    stored = data[start : start + int.from_bytes(data[start - 8 : start - 4])]
    # Runs of one byte are the only repetitions: a search for others depends on the implementation.
    compressor = zlib.compressobj(6, zlib.DEFLATED, 15, 9, zlib.Z_RLE)
    assert stored == compressor.compress(zlib.decompress(stored)) + compressor.flush()


BAD_PNG = {
    "float": (np.zeros((4, 4)), r"an array of float64.*astype\(np\.uint8\)"),
    "colours first": (np.zeros((3, 9, 9), np.uint8), r"\(3, 9, 9\).*colours first"),
    "empty": (np.zeros((0, 9), np.uint8), r"\(0, 9\)"),
    "no PNG": (b"GIF89a", r"not a PNG image: 6 bytes that begin with b'GIF89a'"),
    "cut": (png_of("RGB")[:-40], r"not a PNG image.*truncated"),
    "16 bits": (png_of("I;16"), r"its mode is I;16; save it with 8 bits"),
    "nothing": (None, r"the job returned NoneType None"),
}


@pytest.mark.parametrize(("value", "message"), BAD_PNG.values(), ids=BAD_PNG)
def test_png_says_what_it_cannot_hold(value, message):
    with pytest.raises(BadOutput, match=message):
        codec.encode(PNG, value)


def jpeg_of(mode: str) -> bytes:
    ramp = np.arange(9 * 16).reshape(9, 16).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(ramp).convert(mode).save(buffer, "JPEG")
    return buffer.getvalue()


# Of a smooth picture: the largest step of the quantisation at quality 85 is far below it.
JPEG_ERROR = 12


@pytest.mark.parametrize("shape", [(40, 60), (40, 60, 3)])
def test_a_smooth_picture_comes_back_nearly_the_same_from_jpeg(shape):
    y, x = np.mgrid[:40, :60]
    image = np.broadcast_to((2 * y + 2 * x)[(...,) + (None,) * (len(shape) - 2)], shape)
    encoded = codec.encode(JPEG, image.astype(np.uint8))
    assert encoded.value.shape == shape
    assert np.abs(encoded.value.astype(int) - image).max() < JPEG_ERROR


@pytest.mark.parametrize(
    ("mode", "shape"), [("L", (9, 16)), ("RGB", (9, 16, 3)), ("CMYK", (9, 16, 3))]
)
def test_jpeg_bytes_are_kept_and_read(mode, shape):
    data = jpeg_of(mode)
    encoded = codec.encode(JPEG, data)
    assert encoded.data == data
    assert encoded.value.shape == shape
    assert encoded.value.dtype == np.uint8


BAD_JPEG = {
    "float": (np.zeros((4, 4)), r"an array of float64.*astype\(np\.uint8\)"),
    "transparency": (np.zeros((3, 9, 4), np.uint8), r"\(3, 9, 4\).*leave transparency out"),
    "a number": (np.array(1, np.uint8), r"the shape \(\)"),
    "empty": (np.zeros((0, 9), np.uint8), r"\(0, 9\)"),
    "too long": (np.zeros((1, 65_501), np.uint8), r"of up to 65,500 pixels a side"),
    "too large": (np.broadcast_to(np.uint8(0), (9_460, 9_459)), r"and 89,478,485 in all: .*scale"),
    "no JPEG": (b"GIF89a", r"not a JPEG image: 6 bytes that begin with b'GIF89a'"),
    "cut": (jpeg_of("RGB")[:-40], r"not a JPEG image.*[Tt]runcated"),
    "nothing": (None, r"the job returned NoneType None"),
}


@pytest.mark.parametrize(("value", "message"), BAD_JPEG.values(), ids=BAD_JPEG)
def test_jpeg_says_what_it_cannot_hold(value, message):
    with pytest.raises(BadOutput, match=message):
        codec.encode(JPEG, value)


# Tables


def test_a_table_comes_back_as_it_was():
    table = pa.table({"a": [1, 2], "b": [[1.0], [2.0, 3.0]]})
    assert codec.encode(PARQUET, table).value.equals(table)


def test_numbers_of_numpy_are_numbers_in_a_table():
    table = codec.encode(PARQUET, [{"x": np.float32(0.5), "n": np.int64(2)}]).value
    assert table.to_pylist() == [{"x": 0.5, "n": 2}]


@pytest.mark.parametrize(
    "build",
    [
        lambda table: table.to_reader(max_chunksize=1),
        lambda table: table.to_batches()[0],
        lambda table: type("Frame", (), {"to_arrow": lambda _self: table})(),
        lambda table: type(
            "Stream", (), {"__arrow_c_stream__": lambda _self, _=None: table.__arrow_c_stream__()}
        )(),
    ],
    ids=["reader", "batch", "frame", "stream"],
)
def test_whatever_can_be_read_as_arrow_is_a_table_with_the_same_bytes(build):
    table = pa.table({"a": [1, 2], "b": [[1.0], [2.0, 3.0]]})
    named = table.replace_schema_metadata({"made by": "a package"})
    assert codec.encode(PARQUET, build(named)).data == codec.encode(PARQUET, table).data


BAD_PARQUET = {
    "column": (
        pa.array([1]),
        r"the job returned Int64Array, which is no table with one type per column",
    ),
    "no rows": ([], r"the job returned list \[\].*schema"),
    "dict": ({"a": 1}, r"the job returned dict.*list of dicts"),
    "nested": ([{"a": 1}, {"a": [1]}], r"row 1, column 'a' is list \[1\].*flat"),
    "array": ([{"a": np.zeros(2)}], r"row 0, column 'a' is ndarray"),
    "mixed": ([{"a": 1}, {"a": "x"}], r"column 'a' mixes types"),
    "too large": ([{"a": 2**70}], r"column 'a' mixes types or does not fit"),
    "number as name": ([{1: 1}], r"a column is named int 1"),
    "surrogate": ([{"a": "\udcff"}], r"column 'a' mixes types or does not fit.*surrogates"),
    "surrogate as name": ([{"\udcff": 1}], r"is named '\\udcff', which is not valid Unicode"),
    "twice": (pa.table([[1], [2]], names=["a", "a"]), r"more than one column is named 'a'"),
    "object": ([{"a": object()}], r"Could not convert <object object> with"),
}


@pytest.mark.parametrize(("value", "message"), BAD_PARQUET.values(), ids=BAD_PARQUET)
def test_parquet_says_what_it_cannot_hold(value, message):
    with pytest.raises(BadOutput, match=message):
        codec.encode(PARQUET, value)


def test_bytes_of_any_kind_are_bytes():
    for value in (b"ab", bytearray(b"ab"), memoryview(b"ab")):
        assert codec.encode(OCTETS, value) == codec.Encoded(b"ab", b"ab")
    with pytest.raises(BadOutput, match=r"the job returned str 'ab'.*return bytes"):
        codec.encode(OCTETS, "ab")


def test_midi_is_bytes_with_the_header_of_a_file():
    data = examples()[MIDI]
    assert codec.encode(MIDI, bytearray(data)) == codec.Encoded(data, data)
    for wrong, message in (
        (b"RIFF", "4 bytes that begin with b'RIFF' is not audio/midi: it does not start"),
        (data[:-1], "is not audio/midi: its last chunk is cut off"),
        ("MThd", "str 'MThd'; audio/midi holds bytes"),
    ):
        with pytest.raises(BadOutput, match=message):
            codec.encode(MIDI, wrong)
