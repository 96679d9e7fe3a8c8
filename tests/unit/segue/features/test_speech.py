"""Segments and shares are those of sounds that a tiny network takes for speech, song and music."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segue.errors import ConfigurationError, TooLarge
from segue.features import speech as module
from segue.features.filter_bank import BANDS, compute_log_mel
from segue.features.speech import Speech
from segue.media import memory
from segue.media.audio import Audio
from segue.models.onnx_writer import OnnxGraph

SR = 16_000
# A tone in one of these is taken for the kind.
TONES_HZ = {"speech": 500.0, "singing": 1500.0, "music": 5000.0}
SHARE_TOLERANCE = 0.01  # of the time: a frame that is half in a sound, on either side
EDGE_S = 0.03


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A network for which a kind is probable where its tone is within 20 dB of what is usual."""
    graph = OnnxGraph("tones")
    features = graph.add_input("features", ["frames", BANDS])
    weights, bias = np.zeros((BANDS, 3), np.float32), np.zeros(3, np.float32)
    for column, frequency_hz in enumerate(TONES_HZ.values()):
        usual = np.sqrt(2) * 0.1 * np.sin(2 * np.pi * frequency_hz * np.arange(SR) / SR)
        energies = compute_log_mel(usual.astype(np.float32)).mean(axis=0)
        band = int(energies.argmax())
        weights[band, column] = 2.0
        bias[column] = -2.0 * (energies[band] - np.log(100))
    value = graph.add_node("Gemm", features, graph.add_weight(weights), graph.add_weight(bias))
    graph.add_output("probabilities", graph.add_node("Sigmoid", value), ["frames", 3])
    path = tmp_path_factory.mktemp("model") / "tones.onnx"
    path.write_bytes(graph.encode())
    return path


def make(model: Path, **params) -> Speech:
    job = Speech(model=model, **params)
    job.setup()
    return job


def play(*parts: tuple[str, float], level: float = 0.1) -> Audio:
    """Return tones of kinds and silence, one after the other; a plus joins two at once."""
    sounds = []
    for kinds, duration_s in parts:
        times = np.arange(round(duration_s * SR)) / SR
        tones = [np.sin(2 * np.pi * TONES_HZ[k] * times) for k in kinds.split("+") if k]
        sounds.append(level * np.sqrt(2) * sum(tones, np.zeros(len(times))))
    return Audio(y=np.concatenate(sounds).astype(np.float32), sr=SR)


def list_kinds(result: dict) -> list[str]:
    return [segment["kind"] for segment in result["segments"]]


def test_segments_and_shares_are_those_of_the_sounds(model):
    found = make(model)(
        play(("", 1), ("speech", 2), ("", 1), ("singing+music", 3), ("music", 2), ("", 1))
    )
    expected = [(1, 3, "speech"), (4, 7, "singing"), (4, 9, "music")]
    assert len(found["segments"]) == len(expected)
    by_kind = sorted(found["segments"], key=lambda s: (s["start_s"] > 3, s["kind"] != "singing"))
    for segment, (start, end, kind) in zip(by_kind, expected, strict=True):
        assert segment["kind"] == kind
        assert segment["start_s"] == pytest.approx(start, abs=EDGE_S)
        assert segment["end_s"] == pytest.approx(end, abs=EDGE_S)
    assert found["speechiness"] == pytest.approx(0.2, abs=SHARE_TOLERANCE)
    assert found["singing_share"] == pytest.approx(0.3, abs=SHARE_TOLERANCE)
    assert found["music_share"] == pytest.approx(0.5, abs=SHARE_TOLERANCE)
    assert found["reason"] is None
    starts = [segment["start_s"] for segment in found["segments"]]
    assert starts == sorted(starts)


def test_a_segment_reaches_to_the_ends_of_the_file(model):
    audio = play(("speech", 2.0123))
    (segment,) = make(model)(audio)["segments"]
    assert (segment["start_s"], segment["end_s"]) == (0.0, 2.012)
    assert make(model)(audio)["speechiness"] == pytest.approx(1.0, abs=1e-3)


def test_a_voice_either_speaks_or_sings(model):
    found = make(model)(play(("speech", 3), ("singing", 3), ("speech", 3)))
    assert list_kinds(found) == ["speech", "singing", "speech"]
    ends = [segment["end_s"] for segment in found["segments"]]
    starts = [segment["start_s"] for segment in found["segments"]]
    assert ends[:-1] == starts[1:]


def test_short_gaps_are_filled_and_short_sounds_dropped(model):
    audio = play(("speech", 1), ("", 0.3), ("speech", 1), ("", 1), ("speech", 0.3), ("", 1))
    assert len(make(model)(audio)["segments"]) == 3
    assert len(make(model, min_gap_s=0.5)(audio)["segments"]) == 2
    found = make(model, min_gap_s=0.5, min_duration_s=0.5)(audio)
    (segment,) = found["segments"]
    assert segment["end_s"] == pytest.approx(2.3, abs=EDGE_S)


def test_what_is_found_does_not_depend_on_the_level(model):
    quiet, loud = (play(("", 1), ("speech", 2), ("", 2), level=level) for level in (1e-3, 10.0))
    assert make(model)(quiet) == make(model)(loud)
    assert list_kinds(make(model)(quiet)) == ["speech"]


def test_a_short_sound_in_long_silence_is_found(model):
    found = make(model)(play(("", 100), ("speech", 1), ("", 200), level=0.01))
    (segment,) = found["segments"]
    assert segment["start_s"] == pytest.approx(100, abs=EDGE_S)


def test_silence_has_no_segments(model):
    for y in (np.zeros(5 * SR), np.full(5 * SR, 1e-5)):
        found = make(model)(Audio(y=y.astype(np.float32), sr=SR))
        assert found == {
            "speechiness": 0.0,
            "singing_share": 0.0,
            "music_share": 0.0,
            "segments": [],
            "reason": None,
        }


@pytest.mark.parametrize("samples", [1, 399])
def test_less_than_a_frame_is_a_reason(model, samples):
    found = make(model)(Audio(y=np.ones(samples, np.float32), sr=SR))
    assert found["speechiness"] is found["singing_share"] is found["music_share"] is None
    assert found["reason"] == "the file is shorter than 0.025 s"


def test_one_frame_is_enough(model):
    found = make(model, min_duration_s=0.0)(play(("speech", 0.025)))
    assert found["speechiness"] == 1.0


def test_several_channels_are_averaged(model):
    audio = play(("", 1), ("speech", 2), ("", 1))
    eight = Audio(y=np.tile(audio.y, (8, 1)), sr=SR)
    assert make(model)(eight) == make(model)(audio)


def test_windows_do_not_show(model, monkeypatch):
    audio = play(*[("speech", 0.7), ("", 0.5), ("singing+music", 0.9)] * 4)
    whole = make(model)(audio)
    assert len(whole["segments"]) > 8
    for frames in (37, 160, 500):
        monkeypatch.setattr(module, "WINDOW_FRAMES", frames)
        assert make(model)(audio) == whole


def test_audio_at_another_rate_is_refused(model):
    with pytest.raises(ConfigurationError, match="22050 Hz: it must be at 16000"):
        make(model)(Audio(y=np.zeros(22_050, np.float32), sr=22_050))


@pytest.mark.parametrize(
    "params",
    [{"threshold": 0.0}, {"threshold": 1.0}, {"min_duration_s": -0.1}, {"min_gap_s": -0.1}],
)
def test_parameters_out_of_range_are_refused(params):
    with pytest.raises(ConfigurationError, match="speech: "):
        Speech(model=Path("unused"), **params)


def test_a_bound_on_memory_refuses_a_long_file(model, monkeypatch):
    job = make(model)
    monkeypatch.setattr(memory.resource, "getrlimit", lambda _: (2**20, 2**20))
    with pytest.raises(TooLarge, match=r"speech of 5\.0 s needs up to"):
        job(play(("speech", 5)))
