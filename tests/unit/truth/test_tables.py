"""The tables of docs/features.md, and the command that writes them."""

from __future__ import annotations

import re

import pytest
from truth.__main__ import FEATURES, MEASURES, parse_arguments
from truth.tables import draw_all, replace_tables

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


def test_a_page_without_markers_is_refused():
    with pytest.raises(ValueError, match="has no lines '<!-- make truth: beats -->'"):
        replace_tables("text", {"beats": "1"})


def test_the_page_has_a_place_for_each_table_and_figures_in_each():
    tables = re.findall(
        r"^<!-- make truth: (\S+) -->\n((?:\|.*\n)*)<!-- end -->$", PAGE, re.MULTILINE
    )
    assert sorted(name for name, _ in tables) == sorted(draw_all(ROWS))
    for name, table in tables:
        assert len(table.splitlines()) > 2, name
    assert PAGE.count("<!-- make truth: ") == PAGE.count("<!-- end -->") == len(tables)


def test_the_page_has_a_section_for_each_built_in_job():
    import yaml

    jobs = yaml.safe_load((ROOT / "shared/segue/features/jobs.yaml").read_text())["jobs"]
    sections = re.findall(r"^## (.+)$", PAGE, re.MULTILINE)
    assert set(jobs) <= set(sections)


def test_each_feature_that_is_listed_is_measured():
    assert list(FEATURES) == list(MEASURES)


def test_an_unknown_feature_is_refused(capsys):
    with pytest.raises(SystemExit):
        parse_arguments(["loudnes"])
    assert "no feature 'loudnes'; choose from ['beats'," in capsys.readouterr().err


def test_references_are_chosen_by_name():
    assert parse_arguments([]).references == ("librosa", "BeatNet", "ffmpeg", "pyloudnorm")
    assert parse_arguments(["--references"]).references == []
    assert parse_arguments(["--references", "librosa"]).references == ["librosa"]
