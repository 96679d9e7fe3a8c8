"""The options by which commands select files."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from segue.errors import ConfigurationError
from segue_cli.criteria_options import parse_length, parse_tags, parse_time

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


@pytest.fixture
def berlin(monkeypatch):
    monkeypatch.setenv("TZ", "CET-1")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7d", NOW - timedelta(days=7)),
        ("0s", NOW),
        ("90m", NOW - timedelta(minutes=90)),
        ("12h", NOW - timedelta(hours=12)),
        ("2w", NOW - timedelta(weeks=2)),
        ("2026-03-01", datetime(2026, 2, 28, 23, tzinfo=UTC)),
        ("2026-03-01T12:30", datetime(2026, 3, 1, 11, 30, tzinfo=UTC)),
        ("2026-03-01 12:30:05Z", datetime(2026, 3, 1, 12, 30, 5, tzinfo=UTC)),
        ("2026-03-01T12:30-05:00", datetime(2026, 3, 1, 17, 30, tzinfo=UTC)),
    ],
)
def test_a_time_is_an_age_or_a_date_that_is_local_without_a_zone(berlin, text, expected):
    assert parse_time(text, NOW) == expected


@pytest.mark.parametrize(
    "text",
    ["nonsense", "", "7", "7y", "-7d", "7.5d", "2026-13-01", "999999w", "\x1b[31m", "\u0667d"],
)
def test_what_is_no_time_is_refused_with_an_example(text):
    with pytest.raises(ConfigurationError, match=r"neither a date nor an age; .* such as 7d") as e:
        parse_time(text, NOW)
    assert "\x1b" not in str(e.value)


def test_a_time_that_is_yet_to_come_is_refused():
    with pytest.raises(ConfigurationError, match="'2027-01-01', which is yet to come"):
        parse_time("2027-01-01", NOW)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("210", 210.0),
        ("90s", 90.0),
        ("3m30s", 210.0),
        ("3m30", 210.0),
        ("1h", 3600.0),
        ("1h2m3.5s", 3723.5),
        ("0.25", 0.25),
    ],
)
def test_a_length_is_in_seconds_or_in_hours_minutes_and_seconds(text, seconds):
    assert parse_length("--min-duration", text) == seconds


@pytest.mark.parametrize(
    "text", ["", "-3", "3:30", "30s3m", "1e3", "inf", "m", "s", "3d", "\u0663"]
)
def test_what_is_no_length_is_refused_with_an_example(text):
    with pytest.raises(ConfigurationError, match=r"--min-duration is .* such as 210, 3m30s or 1h"):
        parse_length("--min-duration", text)


def test_several_patterns_of_a_tag_are_alternatives():
    tags = parse_tags(["Artist=Queen", " artist =ABBA", "genre=a=b"])
    assert tags == {"artist": ("Queen", "ABBA"), "genre": ("a=b",)}


@pytest.mark.parametrize("text", ["", "artist", "=x", "artist=", " =x"])
def test_what_is_no_tag_is_refused_with_an_example(text):
    with pytest.raises(ConfigurationError, match=r"--tag is .*, such as artist=Queen"):
        parse_tags([text])
