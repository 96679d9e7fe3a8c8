"""The parts of the corpus that are computed, and which part is for tests alone."""

from __future__ import annotations

import numpy as np
import pytest
from truth import synthesis
from truth.corpus import make_clicks, make_drums, make_item, make_piece, read_items, split_of
from truth.songs import find_shift, onset_strength

# A rise is seen before the centre of its window of 12 ms: by 4 ms for drums in silence.
ALIGNMENT_S = 0.005


def test_what_was_tuned_on_is_never_a_test():
    for name in ("clicks", "drums", "moving", "songs", "openttd", "without-tempo"):
        assert {split_of(name, str(number)) for number in range(50)} == {"development"}


def test_other_sets_are_halved_by_name_for_good():
    splits = [split_of("grooves", f"stdlib/{number}") for number in range(1000)]
    assert 450 < splits.count("test") < 550
    assert split_of("grooves", "stdlib/bossanova") == split_of("grooves", "stdlib/bossanova")
    assert [split_of("freedoom", name) for name in ("freedoom1/E1M1", "freedoom1/E1M4")] == [
        *("test", "development")
    ]


@pytest.mark.parametrize("bpm", [60, 174])
def test_clicks_begin_on_the_beats(bpm):
    item, y = make_clicks(bpm)
    assert item.bpm == pytest.approx(bpm, abs=0.05)
    for beat in item.beats[:-1]:
        near = round(beat * synthesis.SAMPLE_RATE_HZ)
        assert not y[near - 100 : near - 1].any()
        assert np.abs(y[near : near + 50]).max() > 0.5


@pytest.mark.parametrize("pattern", synthesis.PATTERNS)
def test_drums_begin_on_the_beats(pattern):
    beats = synthesis.steady_beats(100)
    y = synthesis.drums(pattern, beats)
    shift = find_shift(beats[4:-4] + 0.03, *onset_strength(y))
    assert shift == pytest.approx(-0.03, abs=ALIGNMENT_S)


def test_a_bar_is_known_only_if_it_is_heard():
    beats = synthesis.steady_beats(120)
    rock, _ = make_drums("drums", "a", "rock", beats)
    assert rock.beats_per_bar == 4
    assert rock.downbeats == rock.beats[::4]
    eighths, _ = make_drums("drums", "a", "eighths", beats)
    assert eighths.downbeats is None


def test_tempi_move_as_their_names_say():
    moving = synthesis.list_moving()
    tempi = {name: 60 / np.diff(beats) for name, beats in moving.items()}
    assert tempi["ramp-100-140"][0] == pytest.approx(100, abs=1)
    assert tempi["ramp-100-140"][-1] == pytest.approx(139, abs=1)
    assert set(tempi["jump-120-128"].round()) == {120, 128}
    assert np.ptp(tempi["sine-4-percent"]) == pytest.approx(9.6, abs=0.2)
    assert np.std(moving["jitter-20-ms"] - synthesis.steady_beats(120)) == pytest.approx(
        0.02, rel=0.2
    )


def test_sounds_without_tempo_are_what_they_are_called():
    sounds = synthesis.list_without_tempo()
    assert not sounds["silence"].any()
    assert np.count_nonzero(sounds["one-sample"]) == 1
    power = np.abs(np.fft.rfft(sounds["pink-noise"])) ** 2
    octaves = [power[2**k : 2 ** (k + 1)].sum() for k in range(8, 18)]
    assert max(octaves) < 1.5 * min(
        octaves
    )  # as loud in each octave, up to the chance of the lowest


def test_an_item_is_read_as_it_was_written(tmp_path):
    import json
    from dataclasses import asdict

    item = make_item((make_clicks, (120,)), tmp_path)
    assert (tmp_path / "clicks_120.wav").exists()
    (tmp_path / "items.json").write_text(json.dumps([asdict(item)]))
    (tmp_path / "items-test.json").write_text("[]")
    assert read_items(tmp_path) == [item]


def test_a_piece_off_its_own_beats_is_left_out(tmp_path):
    import io

    import mido

    track = mido.MidiTrack()
    for _ in range(40):
        track.append(mido.Message("note_on", note=60, time=300))
        track.append(mido.Message("note_off", note=60, time=37))
    piece = mido.MidiFile(ticks_per_beat=480)
    piece.tracks.append(track)
    data = io.BytesIO()
    piece.save(file=data)
    assert make_piece("freedoom", "a", data.getvalue(), tmp_path / "no-font.sf2") is None
