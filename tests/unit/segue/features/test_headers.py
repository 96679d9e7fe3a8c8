"""The job that describes any file."""

from __future__ import annotations

from segue import codec
from segue.features.headers import probe
from segue.testing import sound


def test_the_job_writes_json_that_describes_a_song(open_media, tmp_path):
    path = sound.write(sound.tone(duration_s=0.5, sr=8000), str(tmp_path / "a.wav"))
    value = codec.encode("application/json", probe(open_media(path))).value
    assert (value["container"], value["content_types"]) == ("wav", ["audio/wav"])
    assert (value["size_bytes"], value["duration_s"], value["tags"]) == (8044, 0.5, {})
    [stream] = value["streams"]
    assert stream == {
        "kind": "audio",
        "codec": "pcm_s16le",
        "duration_s": 0.5,
        "bit_rate_bps": 128_000,
        "sample_rate_hz": 8000,
        "channels": 1,
        "width": None,
        "height": None,
        "frame_rate_hz": None,
        "language": None,
    }


def test_the_job_does_not_fail_for_a_file_that_is_not_media(open_media, tmp_path):
    for data in (b"", b"text\n" * 100, b"%PDF-1.7\n", bytes(1000)):
        (tmp_path / "a").write_bytes(data)
        value = codec.encode("application/json", probe(open_media(tmp_path / "a"))).value
        assert value["streams"] == []
        assert value["container"] is None
