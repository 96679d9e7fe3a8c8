"""The signals and tolerances of EBU Tech 3341 and 3342."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from truth.ebu import FILES, INTEGRATED, RANGE, TRUE_PEAK, Case, write_cases


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    return {case.name: case for case in write_cases(tmp_path_factory.mktemp("ebu"))}


def test_what_numbers_describe_is_synthesised(cases):
    numbers = "1 2 3 4 5 6 9 10.01 10.10 10.20 12 13.01 13.10 13.20 15 16 17 18 19"
    assert list(cases) == [
        *(f"3341-{number}" for number in numbers.split()),
        *(f"3342-{number}" for number in (1, 2, 3, 4)),
    ]


def test_a_signal_has_its_levels_for_as_long_as_they_last(cases):
    y, sr = soundfile.read(cases["3341-5"].path)
    assert y.shape == (round(60.1 * sr), 2)
    for start_s, end_s, level in ((0, 20, -26), (20, 40.1, -20), (40.1, 60.1, -26)):
        part = y[round(start_s * sr) : round(end_s * sr)]
        assert np.abs(part).max() == pytest.approx(10 ** (level / 20), rel=1e-3)


def test_the_samples_of_a_peak_miss_it(cases):
    y, _ = soundfile.read(cases["3341-16"].path)
    assert np.abs(y).max() == pytest.approx(0.5 * np.sqrt(0.5), rel=1e-4)


def test_surround_has_five_levels(cases):
    y, _ = soundfile.read(cases["3341-6"].path)
    levels = 20 * np.log10(np.abs(y).max(axis=0))
    assert levels == pytest.approx([-28, -28, -24, -30, -30], abs=0.01)


@pytest.mark.parametrize(
    ("key", "expected", "right", "wrong"),
    [
        (INTEGRATED, -23.0, (-23.1, -22.9), (-23.11, -22.89, None)),
        (RANGE, 10.0, (9.0, 11.0), (8.99, 11.01)),
        (TRUE_PEAK, -6.0, (-6.4, -5.8), (-6.41, -5.79)),
    ],
)
def test_a_tolerance_ends_where_the_document_says(key, expected, right, wrong):
    case = Case(name="a", key=key, expected=expected, path=Path("a.wav"))
    assert [case.accepts(value) for value in right] == [True] * len(right)
    assert [case.accepts(value) for value in wrong] == [False] * len(wrong)


def test_the_files_of_the_ebu_are_measured_if_they_are_named(tmp_path):
    ebu = tmp_path / "ebu"
    ebu.mkdir()
    names = [
        *("seq-3341-7_seq-3342-5-24bit.wav", "seq-3341-2011-8_seq-3342-6-24bit-v02.wav"),
        *(f"seq-3341-{number}-24bit.wav.wav" for number in (20, 21, 22, 23)),
        "seq-3341-2-16bit.wav",
    ]
    for name in names:
        (ebu / name).touch()
    found = {case.name: case.path.name for case in write_cases(tmp_path, ebu)}
    assert {name: found[name] for name in FILES} == {
        "3341-7": names[0],
        "3341-8": names[1],
        **{f"3341-{number}": f"seq-3341-{number}-24bit.wav.wav" for number in (20, 21, 22, 23)},
        "3342-5": names[0],
        "3342-6": names[1],
    }


def test_a_folder_that_lacks_a_file_of_the_ebu_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no file seq-3341-7\*"):
        write_cases(tmp_path, tmp_path)
