"""Which pipelines ``segue stream`` runs."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from segue.errors import ConfigurationError
from segue.model.graph import parse_graph
from segue_cli.parameters import complete_pipeline, select_pipelines

TEXT = """
pipelines: {rhythm: [beats, tempo]}
jobs:
  beats: {run: "m:f", needs: {media: source}, writes: application/json}
  tempo: {run: "m:f", needs: {beats: beats}, writes: application/json}
  loudness: {run: "m:f", needs: {media: source}, writes: application/json}
"""
GRAPH = parse_graph(TEXT)


@pytest.mark.parametrize(
    ("pipelines", "jobs", "everything", "selected"),
    [
        ((), (), True, ("rhythm", "loudness")),
        (("loudness",), (), False, ("loudness",)),
        ((), ("tempo",), False, ("rhythm",)),
        (("rhythm",), ("beats", "loudness"), False, ("rhythm", "loudness")),
        ((), (), False, ()),
    ],
)
def test_pipelines_are_named_or_found_by_their_jobs(pipelines, jobs, everything, selected):
    assert select_pipelines(GRAPH, pipelines, jobs, everything=everything) == selected


def test_all_excludes_names():
    for names in ({"pipelines": ("rhythm",), "jobs": ()}, {"pipelines": (), "jobs": ("beats",)}):
        with pytest.raises(ConfigurationError, match="--all excludes --pipeline and --job"):
            select_pipelines(GRAPH, **names, everything=True)


def test_pipelines_are_completed_with_their_jobs(tmp_path):
    (tmp_path / "jobs.yaml").write_text(TEXT)
    ctx = SimpleNamespace(params={"graph": str(tmp_path / "jobs.yaml")})
    assert [(c.value, c.help) for c in complete_pipeline(ctx, None, "r")] == [
        ("rhythm", "beats, tempo")
    ]
    ctx = SimpleNamespace(params={"graph": str(tmp_path / "none.yaml")})
    assert complete_pipeline(ctx, None, "") == []
