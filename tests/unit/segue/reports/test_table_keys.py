"""The statements that keep a table up to date; an engine for SQL has confirmed what they do."""

from __future__ import annotations

import pytest

from segue.reports.table_keys import MergeStatements, TableKeys, clean_name


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [
        ("beats.tempo_bpm", "beats_tempo_bpm"),
        ("platform/pitch.summary.x", "platform_pitch_summary_x"),
        ("24-bit", "_24_bit"),
        ("größe", "gr__e"),
        ("uri", "uri"),
    ],
)
def test_names_of_columns_are_those_that_bigquery_allows(name, cleaned):
    assert clean_name(name) == cleaned


@pytest.fixture
def statements():
    return MergeStatements(
        table="`p.d.t`",
        keys_table="`p.d.k`",
        rows_table="`p.d.r`",
        keys=TableKeys(["beats"]),
        is_partial=True,
    )


def test_rows_are_replaced_inserted_and_removed_in_one_statement(statements):
    columns = ["uri", "version", "fingerprint", "finished_at", "order"]
    assert (
        statements.merge(columns, [*columns, "old"])
        == """\
-- Segue: merge
MERGE INTO `p.d.t` AS t
USING (
  SELECT k.`uri` AS `key_of_uri`, k.`version` AS `key_of_version`, \
k.`fingerprint` AS `key_of_fingerprint`, k.`finished_at` AS `key_of_finished_at`, r.*
  FROM `p.d.k` AS k
  LEFT JOIN `p.d.r` AS r ON r.uri = k.uri
) AS s
ON t.uri = s.key_of_uri
WHEN MATCHED AND s.uri IS NOT NULL THEN
  UPDATE SET `uri` = s.`uri`, `version` = s.`version`, `fingerprint` = s.`fingerprint`, \
`finished_at` = s.`finished_at`, `order` = s.`order`, `old` = NULL
WHEN MATCHED AND (t.`uri` IS DISTINCT FROM s.`key_of_uri` OR \
t.`version` IS DISTINCT FROM s.`key_of_version` OR \
t.`fingerprint` IS DISTINCT FROM s.`key_of_fingerprint` OR \
t.`finished_at` IS DISTINCT FROM s.`key_of_finished_at`) THEN
  DELETE
WHEN NOT MATCHED BY TARGET AND s.uri IS NOT NULL THEN
  INSERT (`uri`, `version`, `fingerprint`, `finished_at`, `order`)
  VALUES (s.`uri`, s.`version`, s.`fingerprint`, s.`finished_at`, s.`order`)
WHEN NOT MATCHED BY SOURCE AND (t.uri = @prefix OR STARTS_WITH(t.uri, @folder)) THEN
  DELETE"""
    )


def test_the_newest_result_is_that_of_any_job():
    keys = TableKeys(["beats", "key"])
    found = MergeStatements(
        table="`t`", keys_table="`k`", rows_table="`r`", keys=keys, is_partial=False
    )
    assert found.find_newest.endswith("WHERE TRUE")
    for time in ("beats_finished_at", "key_finished_at"):
        assert f"IFNULL(MAX(t.`{time}`), TIMESTAMP '0001-01-01" in found.find_newest
        assert f"IFNULL(k.`{time}`, TIMESTAMP '9999-12-31" in found.find_missing
