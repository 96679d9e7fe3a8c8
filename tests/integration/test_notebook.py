"""The example notebook runs from its first cell to its last, and shows what it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from segue_support.paths import ROOT

pytestmark = pytest.mark.xdist_group("frames")


def list_outputs(notebook):
    """Return what each cell of code shows, as the names of the types and the plain text."""
    return [
        ({kind for output in cell["outputs"] for kind in output.get("data", ())},
         "".join("".join(o.get("data", {}).get("text/plain", "")) for o in cell["outputs"]))
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
    ]  # fmt: skip


def test_it_runs_and_shows_what_the_repository_has(frames, tmp_path):
    made = tmp_path / "made.ipynb"
    command = [sys.executable, "-m", "segue_support.notebook", "--output", made]
    done = subprocess.run(
        command,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(frames)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    shown = list_outputs(json.loads(made.read_text()))
    stored = list_outputs(json.loads((ROOT / "docs/results.ipynb").read_text()))
    totals, table, plot, picture, sound, fast = shown
    assert totals[1] == "11"
    assert table[0] == {"text/plain", "text/html"}
    assert "Minuit.flac    120.003" in table[1]
    assert "image/png" in plot[0] & picture[0]
    assert sound[1] == "((441000,), 22050)"
    assert fast[1] == "2"
    assert stored == shown  # of the folder's name nothing is shown
