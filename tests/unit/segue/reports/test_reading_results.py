"""The ways to read results that docs/reading-results.md shows."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3

import numpy as np

import segue
from segue.adapters.firestore_document import build_fields
from segue_cli.main import main
from segue_support.paths import ROOT
from segue_support.results import OLD

SOUND = segue.Audio(y=np.zeros(100, np.float32), sr=8000)
PAGE = (ROOT / "docs/reading-results.md").read_text()


def test_the_function_that_needs_no_segue_finds_the_same_results(writer, tmp_path, capfd):
    writer.write("a.wav", "a1", beats={"n": 1})
    writer.write("a.wav", "b2", order=2, beats={"n": 2})
    writer.write("b/c d.wav", fingerprint=OLD, beats={"n": 3})
    writer.write("e.wav", fingerprint="f" * 12, beats={"n": 4})
    writer.write("g.wav", beats={"n": 5})
    writer.delete("g.wav")
    assert main(["graph", "--graph", "jobs.yaml", "--json"]) == 0
    jobs = json.loads(capfd.readouterr().out)["jobs"]
    (accepted,) = (job["accepted"] for job in jobs if job["name"] == "beats")
    (code,) = re.findall(r"^```python\n(import json.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    names: dict = {}
    exec(code, names)
    found = list(names["find_results"](tmp_path / "ledger.db", "artifacts", "beats", accepted))
    expected = segue.results("beats", graph=writer.graph, ledger=writer.url)
    assert found == [(r.uri, r.value) for r in expected]
    assert [value["n"] for _, value in found] == [2, 3]


def test_both_ledgers_have_the_fields_that_the_page_guarantees(writer):
    writer.write("a.wav", "a1", stems__summary={"peaks": []}, stems__vocals=SOUND)
    found = writer.ledger.read([writer.uri("a.wav")])[0].record
    with sqlite3.connect(f"file:{writer.folder}/ledger.db?mode=ro", uri=True) as connection:
        (row,) = connection.execute("SELECT uri, deleted, record FROM files").fetchall()
    connection.close()
    document = build_fields(found)
    assert (row[0], row[1]) == (document["uri"], document["deleted"]) == (found.uri, False)
    assert row[2].decode() == document["record"]
    record = json.loads(row[2])
    assert (record["format"], record["version"], record["order"]) == (2, "a1", 1)
    (entry,) = record["results"].values()
    assert (entry["job"], entry["state"], entry["order"]) == ("stems", "done", 1)
    assert entry["finished_at"] == "2026-01-02T03:04:05Z"
    for suffix, checksum in entry["checksums"].items():
        (path,) = (writer.folder / "artifacts/stems").rglob(f"a1.{suffix}")
        assert checksum == f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    assert {*entry["checksums"]} == {"summary.json", "vocals.wav"}
