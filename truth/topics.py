"""What is measured, by topic, besides beats and loudness."""

from __future__ import annotations

from collections.abc import Sequence

from truth import (
    films,
    hashes,
    language,
    letters,
    melody,
    objects,
    separation,
    speech,
    tags,
    tonal,
)
from truth.rows import Row
from truth.tables import draw_rows

TOPICS = (speech, language, melody, tonal, separation, tags, films, hashes, objects, letters)


def draw_topics(rows: Sequence[Row]) -> dict[str, str]:
    """Return the tables of the topics by the names of their markers, those of features."""
    tables = {}
    for topic in TOPICS:
        for name, columns in topic.TABLES.items():
            chosen = [row for row in rows if row["feature"] == name]
            if chosen:
                tables[name] = draw_rows(columns, chosen)
    return tables
