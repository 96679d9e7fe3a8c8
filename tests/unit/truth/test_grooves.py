"""Which grooves of MMA's libraries are played, and how their beats are counted."""

from __future__ import annotations

import pytest
from truth.grooves import FROM_LIBRARY, choose_grooves, read_groove


def write(folder, name, time="4", grooves=("Main",)):
    file = folder / f"{name}.mma"
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"Time {time}", *(f"DefGroove {groove}  Text." for groove in grooves)]
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.mark.parametrize(
    ("name", "time", "per_beat", "per_bar"),
    [
        ("stdlib/bossanova", "4", 1, 4),
        ("stdlib/waltz", "3", 1, 3),
        ("stdlib/polka", "4", 2, 2),  # cut time
        ("stdlib/68swing", "6", 3, 2),
        ("zoom/blues68", "6/8", 3, 2),
        ("stdlib/afro-cuban", "3", 1.5, 2),  # in 6/8, counted as three quarters
    ],
)
def test_a_beat_is_what_the_library_says(tmp_path, name, time, per_beat, per_bar):
    groove = read_groove(write(tmp_path, name, time))
    assert groove.name == name
    assert groove.quarters_per_beat == per_beat
    assert groove.beats_per_bar == per_bar


@pytest.mark.parametrize("name", ["stdlib/metronome", "casio/polka", "stdlib/ballad68"])
def test_what_has_no_certain_beat_is_left_out(tmp_path, name):
    assert read_groove(write(tmp_path, name)) is None


def test_the_first_groove_that_is_no_introduction_is_played(tmp_path):
    names = ("SalsaIntroA", "SalsaFillAA", "SalsaMainA", "SalsaMainB")
    assert read_groove(write(tmp_path, "yamaha/salsa", grooves=names)).groove == "SalsaMainA"
    assert read_groove(write(tmp_path, "yamaha/end", grooves=("RockEnding",))) is None


@pytest.mark.parametrize(("name", "low", "high"), [("dnb", 165, 178), ("slowblues", 58, 84)])
def test_a_tempo_fits_the_style_and_never_changes(tmp_path, name, low, high):
    first, second = (read_groove(write(tmp_path, f"zoom/{name}")) for _ in range(2))
    assert low <= first.bpm <= high
    assert first == second


def test_each_library_gives_so_many(tmp_path):
    for number in range(70):
        write(tmp_path, f"stdlib/style{number}")
    write(tmp_path, "kara/happy")
    chosen = choose_grooves(tmp_path)
    assert len(chosen) == FROM_LIBRARY["stdlib"] + 1
    assert [groove.name for groove in chosen] == sorted(groove.name for groove in chosen)
