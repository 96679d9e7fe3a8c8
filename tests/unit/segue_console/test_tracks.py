"""What is drawn along the time of a file follows from names and shapes alone."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue_console.tracks import MAX_POINTS, TrackKind, find_tracks


def find(value, job="job"):
    return {track.name: track for track in find_tracks(job, value)}


def test_beats_are_ticks_with_the_first_of_each_bar_strong():
    found = find(
        {
            "beat_times_s": [0.5, 1.0, 1.5],
            "beat_positions": [1, 2, 1],
            "downbeat_times_s": [0.5, 1.5],
            "tempo_bpm": 120.0,
        },
        "downbeats",
    )
    beats = found["downbeats: beat_times"]
    assert (beats.kind, beats.times_s, beats.strong) == (
        TrackKind.TICKS,
        [0.5, 1.0, 1.5],
        [True, False, True],
    )
    assert found["downbeats: beat_positions"].kind is TrackKind.CURVE
    assert "downbeats: downbeat_times" not in found


@pytest.mark.parametrize("downbeats", [[[0.5]], [{}], ["x"], None, 1.0])
def test_downbeats_that_are_no_times_are_none(downbeats):
    value = {"beat_times_s": [0.5, 1.0], "downbeat_times_s": downbeats}
    (track,) = find_tracks("beats", value)
    assert not any(track.strong)


@pytest.mark.parametrize("time", [None, "x", [1.0], True])
def test_a_time_that_is_none_is_the_beginning(time):
    (track,) = find_tracks("levels", {"levels": [{"time_s": time, "level": 1.0}]})
    assert track.times_s == [0.0]


def test_values_of_the_same_times_are_a_curve():
    found = find({"times_s": [1.0, 2.0], "scores": [5.0, None], "lengths_s": [1.0, 1.0, 1.0]})
    assert found["job: scores"].values == [5.0, None]
    assert "job: lengths_s" not in found


def test_objects_with_a_beginning_and_an_end_are_segments():
    segments = [{"start_s": 0.0, "end_s": 1.5, "kind": "speech"}, {"start_s": 1, "end_s": 2}]
    (track,) = find({"segments": segments}).values()
    assert (track.kind, track.times_s, track.ends_s, track.labels) == (
        TrackKind.SEGMENTS,
        [0.0, 1],
        [1.5, 2],
        ["speech", ""],
    )


def test_segments_of_text_are_text():
    (track,) = find({"segments": [{"start_s": 0.0, "end_s": 1.0, "text": "hello"}]}).values()
    assert (track.kind, track.labels) == (TrackKind.TEXT, ["hello"])


@pytest.mark.parametrize(
    ("box", "corners"),
    [
        ([0.1, 0.2, 0.3, 0.4], [[0.1, 0.2], [0.3, 0.2], [0.3, 0.4], [0.1, 0.4]]),
        ([[0, 0], [1, 0], [1, 1]], [[0, 0], [1, 0], [1, 1]]),
    ],
)
def test_things_in_pictures_are_boxes(box, corners):
    frames = [{"time_s": None, "objects": [{"label": "cat", "score": 0.9, "box": box}]}]
    (track,) = find({"frames": frames}).values()
    assert (track.kind, track.times_s) == (TrackKind.BOXES, [0.0])
    assert track.boxes == [[{"label": "cat", "corners": corners}]]


def test_numbers_of_pictures_are_a_curve():
    frames = [{"time_s": 0.0, "adult": 0.1}, {"time_s": 2.0, "adult": 0.3}]
    (track,) = find({"frames": frames}).values()
    assert (track.name, track.times_s, track.values) == (
        "job: frames.adult",
        [0.0, 2.0],
        [0.1, 0.3],
    )


def test_a_list_beside_its_hop_is_a_curve():
    (track,) = find({"hop_s": 0.25, "f0_hz": [None, 440.0, 441.0]}).values()
    assert (track.times_s, track.values) == ([0.0, 0.25, 0.5], [None, 440.0, 441.0])


def test_what_is_too_long_to_draw_is_cut_and_says_so():
    (track,) = find({"onset_times_s": [n / 100 for n in range(MAX_POINTS + 1)]}).values()
    assert len(track.times_s) == MAX_POINTS
    assert track.is_cut


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        7,
        "text",
        {"tempo_bpm": 120.0},
        {"beat_times_s": []},
        {"beat_times_s": ["1"]},
        {"beat_times_s": [math.nan]},
        {"beat_times_s": [True]},
        {"beat_times_s": None},
        {"segments": [{"start_s": None, "end_s": 1.0}]},
        {"segments": [{"start_s": 0.0}, 5]},
        {"frames": [{"time_s": 0.0, "objects": [{"box": ["a", "b", "c", "d"]}]}]},
        {"frames": [{"time_s": 0.0, "objects": [{"box": [[1, 2, 3]]}]}]},
        {"hop_s": 0.0, "f0_hz": [1.0]},
        {"hop_s": "1", "f0_hz": [1.0]},
        {"hop_s": 1.0, "names": ["a"]},
    ],
)
def test_whatever_else_a_job_writes_is_not_drawn(value):
    assert find(value) == {}


# Names that mean something, so that what is drawn is drawn of odd values, too.
NAMES = st.sampled_from(
    ["times_s", "beat_times_s", "downbeat_times_s", "start_s", "end_s", "time_s", "hop_s", "box"]
) | st.text(max_size=3)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
)


@given(st.dictionaries(NAMES, JSON, max_size=5))
def test_any_value_can_be_sent(value):
    tracks = list(find_tracks("job", value))
    assert len(msgspec.json.decode(msgspec.json.encode(tracks))) == len(tracks)
    for track in tracks:
        assert len(track.times_s) >= max(len(track.values), len(track.boxes), len(track.labels))


@pytest.mark.parametrize("number", [10**400, 2**63, math.inf, math.nan, True, "1"])
def test_what_cannot_be_drawn_is_no_number(number):
    assert find({"times_s": [1.0, number], "hop_s": 0.1, "values": [number]}) == {}
