"""The tables of docs/features.md, and the command that writes them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from truth import films, hashes, letters, objects, separation, tags
from truth.__main__ import FEATURES, MEASURES, parse_arguments
from truth.tables import draw_all, replace_tables
from truth.topics import TOPICS, draw_topics

from segue.model.shipped_graphs import list_shipped_graphs
from segue_support.paths import ROOT

PAGE = (ROOT / "docs" / "features.md").read_text()

BEATS = {
    "feature": "beats",
    "set": "songs",
    "split": "development",
    "system": "Segue",
    "files": 8,
    "f": 0.5,
    "cmlt": 0.25,
    "amlt": None,
    "offset_ms": 1.25,
    "tempo_right": 7.0,
    "tempo_error_median": 0.00123,
    "tempo_error_worst": 0.5,
    "cpu_ms_per_s": 2.0,
}
VOICES = {
    "set": "speech",
    "split": "development",
    "system": "Segue",
    "files": 30,
    "cpu_ms_per_s": 2.0,
    "right": 29.0,
}
PICTURES = {
    **dict.fromkeys(("set", "split", "system", "level"), "cats"),
    **dict.fromkeys(
        ("files", "objects", "true", "found", "false", "right", "size", "characters"), 6
    ),
    **dict.fromkeys(("vocals_db", "vocals_gain_db", "accompaniment_db"), 1.0),
    **dict.fromkeys(("accompaniment_gain_db", "mean", "off_ms", "highest", "median", "apart"), 0.5),
    **dict.fromkeys(("first", "of_3", "of_5", "rank", "above", "phash_equal", "dhash_equal"), 2.0),
    **dict.fromkeys(("found_0.3", "wrong_0.3", "found_0.5", "wrong_0.5"), 3),
    **dict.fromkeys(("cpu_s_per_min", "cpu_ms", "cpu_s"), 0.25),
    **{f"{a}_{b}": 4 for a in ("phash", "dhash") for b in ("median", "least", "most", "alike")},
    "wrong": 0.1234,
}
TOPIC_ROWS = [
    {**VOICES, "feature": "speech", "recall": 0.5, "false_alarms": 0.25, "f": None},
    {
        **VOICES,
        "feature": "instrumentalness",
        "speechiness": 0.5,
        "singing_share": 0.25,
        "music_share": 0.0,
    },
    {**VOICES, "feature": "language", "none": 1.0},
    {**VOICES, "feature": "transcript", "words": 300, "wrong": 0.123},
    {
        **VOICES,
        "feature": "pitch",
        "found": 0.5,
        "right": None,
        "false": 0.25,
        "error_cents": 2.0,
    },
    {**VOICES, "feature": "notes", "precision": 0.5, "recall": 0.5, "f": 0.5, "f_with_ends": 0.25},
    {
        **VOICES,
        "feature": "key",
        "split": "test",
        "related": 1.0,
        "none": 0.0,
        "score": 0.75,
        "right_if_sure": "5 of 6",
        "tuning_median": 1.0,
        "tuning_worst": None,
    },
    {**VOICES, "feature": "danceability", "median": 1.5, "apart": 0.00001},
    {**VOICES, "feature": "fingerprint", "equal": 30.0},
    *(
        {**PICTURES, "feature": name}
        for topic in (separation, tags, films, hashes, objects, letters)
        for name in topic.TABLES
    ),
]
ROWS = [
    BEATS,
    {**BEATS, "set": "grooves", "split": "test"},
    {**BEATS, "system": "librosa"},
    {"feature": "beats", "sound": "silence", "system": "Segue", "beats": 0, "error": None},
    {"feature": "beats", "sound": "silence", "system": "librosa", "beats": None, "error": "no"},
    {**BEATS, "feature": "downbeats", "metre_right": 6.0},
    {
        "feature": "loudness",
        "case": "3341-1",
        "measures": "integrated_lufs",
        "expected": -23,
        "system": "Segue",
        "value": -23.5,
        "right": False,
    },
    {
        "feature": "loudness",
        "set": "songs",
        "system": "Segue",
        "cpu_ms_per_s": 1.0,
        "integrated_lufs_apart": 0.01,
        "range_lu_apart": None,
        "true_peak_dbtp_apart": 0.1,
    },
]


def test_rows_of_a_set_are_together_and_rounded():
    lines = draw_all(ROWS)["beats"].splitlines()
    assert lines[1] == "|-|-|-|-|-|-|-|-|-|-|"
    row = "| 0.500 | 0.250 | - | +1.2 | 7 of 8 | 0.12 | 50 | 2.00 |"
    assert lines[2:] == [
        f"| songs | Segue {row}",
        f"| songs | librosa {row}",
        f"| grooves (test) | Segue {row}",
    ]


def test_a_column_for_each_system():
    tables = draw_all(ROWS)
    assert tables["without-tempo"].splitlines()[::2] == [
        *("| sound | Segue | librosa |", "| silence | 0 | error |")
    ]
    assert tables["loudness"].splitlines()[-1] == "| 3341-1 | integrated_lufs | -23 | **-23.50** |"


def test_tables_are_replaced_between_their_markers_alone():
    page = "a\n<!-- make truth: x -->\nold\n<!-- end -->\nb\n<!-- make truth: y -->\n<!-- end -->\n"
    written = replace_tables(page, {"x": "1", "y": "2"})
    assert written == page.replace("old", "1").replace("y -->\n", "y -->\n2\n")
    assert replace_tables(written, {"x": "1"}) == written


def test_topics_have_a_table_for_each_feature():
    tables = draw_topics([*ROWS, *TOPIC_ROWS])
    assert list(tables) == [name for topic in TOPICS for name in topic.TABLES]
    assert tables["key"].splitlines()[-1] == (
        "| speech (test) | Segue | 29 of 30 | 1 of 30 | 0 of 30 | 0.750 | 5 of 6 | 1.0 | - | 2.00 |"
    )
    assert tables["frames"].splitlines()[-1] == "| cats | cats | 6 of 6 | 6 | 0.5 | 0.250 |"
    assert tables["text"].splitlines()[-1] == "| cats | 6 | 6 | cats | 12.34 | 0.25 |"
    assert tables["transcript"].splitlines()[-1] == "| speech | Segue | 300 | 12 | 2.00 |"


def test_a_page_without_markers_is_refused():
    with pytest.raises(ValueError, match="has no lines '<!-- make truth: beats -->'"):
        replace_tables("text", {"beats": "1"})


def test_the_page_has_a_place_for_each_table_and_figures_in_each():
    tables = re.findall(
        r"^<!-- make truth: (\S+) -->\n((?:\|.*\n)*)<!-- end -->$", PAGE, re.MULTILINE
    )
    drawn = {**draw_all(ROWS), **draw_topics(TOPIC_ROWS)}
    assert sorted(name for name, _ in tables) == sorted(drawn)
    for name, table in tables:
        assert len(table.splitlines()) > 2, name
    assert PAGE.count("<!-- make truth: ") == PAGE.count("<!-- end -->") == len(tables)


def test_the_page_has_a_section_for_each_shipped_job():
    texts = [Path(path).read_text() for path in list_shipped_graphs().values()]
    jobs = {name: job for text in texts for name, job in yaml.safe_load(text)["jobs"].items()}
    # Those that resample are variants of one.
    resampled = {name for name, job in jobs.items() if job["run"].endswith(":downsample")}
    sections = re.findall(r"^## (.+)$", PAGE, re.MULTILINE)
    assert set(jobs) - resampled | {"downsample"} == set(sections) - {"How it is measured"}
    assert all(f"`{name}`" in PAGE for name in resampled - {"downsample"})


def test_each_feature_that_is_listed_is_measured():
    assert list(FEATURES) == list(MEASURES)


def test_an_unknown_feature_is_refused(capsys):
    with pytest.raises(SystemExit):
        parse_arguments(["loudnes"])
    assert "no feature 'loudnes'; choose from ['beats'," in capsys.readouterr().err


def test_references_are_chosen_by_name():
    assert {"librosa", "BeatNet", "ffmpeg", "fpcalc"} < set(parse_arguments([]).references)
    assert parse_arguments(["--references"]).references == []
    assert parse_arguments(["--references", "librosa"]).references == ["librosa"]
