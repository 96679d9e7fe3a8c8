"""The ways to read results that docs/reading-results.md shows."""

from __future__ import annotations

import json
import re

import segue
from segue_cli.main import main
from segue_support.paths import ROOT
from segue_support.results import OLD

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
