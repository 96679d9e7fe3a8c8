"""Previews of artifacts."""

from __future__ import annotations

import numpy as np

from segue.codec import encode
from segue.media.audio import Audio
from segue_cli.preview import preview_artifact
from segue_cli.views.output import Output
from segue_cli.views.trial_run import print_result


def described(content_type, value):
    return preview_artifact(content_type, encode(content_type, value).data)


def shown(capsys, content_type, value):
    print_result(Output(), content_type, encode(content_type, value).data, None)
    return capsys.readouterr().out.rstrip("\n")


def test_sound_is_described_by_length_rate_channels_and_peak(capsys):
    y = np.zeros((2, 24000), np.float32)
    y[1, 7] = -0.5
    found = described("audio/wav", Audio(y=y, sr=48000))
    assert (found["duration_s"], found["sample_rate_hz"], found["channels"]) == (0.5, 48000, 2)
    assert found["peak"] == 0.5
    assert shown(capsys, "audio/wav", Audio(y=y, sr=48000)).endswith(
        "0.5 s, 48,000 Hz, 2 channels, peak 0.5"
    )


def test_a_picture_is_described_by_its_size(capsys):
    image = np.zeros((30, 40, 3), np.uint8)
    found = described("image/png", image)
    assert (found["width"], found["height"]) == (40, 30)
    assert shown(capsys, "image/png", image).endswith("40 x 30 pixels")


def test_arrays_are_described_by_name_kind_and_shape(capsys):
    arrays = {"mel": np.zeros((128, 10), np.float32), "sr": np.array(22050)}
    assert described("application/x-npz", arrays)["arrays"]["mel"] == {
        "shape": [128, 10],
        "dtype": "float32",
    }
    lines = shown(capsys, "application/x-npz", arrays).splitlines()
    assert "  mel: float32, 128 x 10" in lines
    assert "  sr: int64, one value" in lines


def test_a_table_is_described_by_rows_and_columns(capsys):
    rows = [{"start_s": 0.0, "chord": "Am"}, {"start_s": 1.0, "chord": "F"}]
    found = described("application/vnd.apache.parquet", rows)
    assert (found["rows"], found["columns"]) == (2, ["start_s", "chord"])
    assert "2 rows of start_s, chord" in shown(capsys, "application/vnd.apache.parquet", rows)


def test_bytes_are_described_by_their_number(capsys):
    assert shown(capsys, "application/octet-stream", b"1234") == "application/octet-stream, 4 B"


def test_json_is_shown_itself(capsys):
    assert shown(capsys, "application/json", {"tempo_bpm": 120.0}) == '{"tempo_bpm": 120.0}'
