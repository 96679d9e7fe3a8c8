"""The header of a WAV file."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import soundfile

from segue.media import riff


def chunk(name: bytes, body: bytes, size: int | None = None) -> bytes:
    return name + struct.pack("<I", len(body) if size is None else size) + body


FMT = struct.pack("<HHIIHH", riff.PCM, 2, 44100, 44100 * 4, 4, 16)


def wav(*chunks: bytes, kind: bytes = b"RIFF") -> io.BytesIO:
    body = b"WAVE" + b"".join(chunks)
    return io.BytesIO(kind + struct.pack("<I", len(body)) + body)


def test_a_header_of_another_program_is_understood(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros((100, 3), np.float32), 48000, "FLOAT")
    with open(path, "rb") as file:
        header = riff.read_header(file)
        file.seek(header.offset_bytes)
        rest = file.read()
    assert (header.format_tag, header.channels, header.bits) == (riff.IEEE_FLOAT, 3, 32)
    assert (header.sample_rate_hz, header.size_bytes) == (48000, 1200)
    assert len(rest) == 1200


def test_another_program_understands_our_header():
    samples = np.arange(12, dtype=np.float32).reshape(6, 2)
    header = riff.build_float32_header(channels=2, sample_rate_hz=32000, frames=6)
    read, rate = soundfile.read(io.BytesIO(header + samples.tobytes()), dtype="float32")
    assert rate == 32000
    assert np.array_equal(read, samples)


def test_our_own_header_is_read_back():
    data = riff.build_float32_header(channels=2, sample_rate_hz=32000, frames=6)
    assert riff.read_header(io.BytesIO(data)) == riff.Header(
        format_tag=riff.IEEE_FLOAT,
        channels=2,
        sample_rate_hz=32000,
        bits=32,
        offset_bytes=len(data),
        size_bytes=48,
    )


def test_the_size_beyond_4_gib_stands_in_its_own_chunk():
    ds64 = struct.pack("<QQQI", 6 * 2**30, 5 * 2**30, 0, 0)
    file = wav(
        chunk(b"ds64", ds64), chunk(b"fmt ", FMT), chunk(b"data", b"", 2**32 - 1), kind=b"RF64"
    )
    assert riff.read_header(file).size_bytes == 5 * 2**30


def test_odd_chunks_before_the_samples_are_passed_over():
    file = wav(chunk(b"LIST", b"abc") + b"\0", chunk(b"fmt ", FMT), chunk(b"data", b"\1\0\2\0"))
    header = riff.read_header(file)
    assert file.getvalue()[header.offset_bytes :] == b"\1\0\2\0"


@pytest.mark.parametrize("size", [0, 2**32 - 1, 0x7FFFF000, 0x7FFFF000 - 3, 2**31])
def test_a_size_that_a_pipe_left_open_is_unknown(size):
    assert riff.read_header(wav(chunk(b"fmt ", FMT), chunk(b"data", b"", size))).size_bytes is None


@pytest.mark.parametrize("size", [4, 2**20, 0x7FFFF000 - 4, 2**31 + 4])
def test_any_other_size_is_believed(size):
    assert riff.read_header(wav(chunk(b"fmt ", FMT), chunk(b"data", b"", size))).size_bytes == size


NO_WAV = {
    "empty": io.BytesIO(b""),
    "text": io.BytesIO(b"RIFF is a word, and so is WAVE"),
    "no format": wav(chunk(b"data", b"\0\0")),
    "no samples": wav(chunk(b"fmt ", FMT)),
    "a short format": wav(chunk(b"fmt ", FMT[:8]), chunk(b"data", b"")),
    "a million chunks": wav(chunk(b"junk", b"") * 1_000_000, chunk(b"data", b"")),
}


@pytest.mark.parametrize("file", NO_WAV.values(), ids=NO_WAV)
def test_what_is_no_wav_file_has_no_header(file):
    assert riff.read_header(file) is None


def test_an_extensible_header_tells_the_format_of_its_samples():
    sub_format = struct.pack("<HHIH", 22, 16, 3, riff.IEEE_FLOAT) + bytes(14)
    extensible = struct.pack("<HHIIHH", riff.EXTENSIBLE, 1, 8000, 32000, 4, 32) + sub_format
    header = riff.read_header(wav(chunk(b"fmt ", extensible), chunk(b"data", b"")))
    assert header.format_tag == riff.IEEE_FLOAT


def test_what_does_not_fit_into_4_gib_has_no_header():
    with pytest.raises(ValueError, match="frames"):
        riff.build_float32_header(channels=2, sample_rate_hz=48000, frames=2**29)
