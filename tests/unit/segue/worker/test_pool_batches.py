"""A job that takes many files at once; the bad one among them fails alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from segue.errors import Kind
from segue.model.graph import Graph, parse
from segue.model.record import State
from segue.testing.trial import Trial, finish
from segue.worker.task import Task
from segue_support.jobs import Batched

FILES = 20


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    return Trial(str(tmp_path))


def graph_of(how: str) -> Graph:
    return parse(f"""
jobs:
  before: {{run: "segue_support.jobs:fine", needs: {{media: source}}, writes: application/json}}
  many: {{run: "segue_support.jobs:Batched", needs: {{media: source}}, writes: application/json,
         params: {{how: {how}}}, timeout_s: 0.2}}
  after: {{run: "segue_support.jobs:after", needs: {{value: many}}, writes: application/json}}
""")


@pytest.mark.parametrize(
    ("how", "kind"),
    [("raise", Kind.JOB_RAISED), ("crash", Kind.CRASHED), ("hang", Kind.TIMEOUT)],
)
def test_only_the_bad_file_of_a_batch_fails(trial: Trial, how: str, kind: str) -> None:
    names = [f"good-{n}" for n in range(FILES)]
    names[FILES // 2] = "bad"
    graph = graph_of(how)
    tasks = [
        Task(ticket=n, media=trial.add(name), run=tuple(graph.jobs)) for n, name in enumerate(names)
    ]
    with trial.pool(graph, processes=1) as pool:
        # Until a child has loaded the job, nobody knows that it takes many.
        finish(pool, [Task(ticket=FILES, media=trial.add("good"), run=tuple(graph.jobs))])
        found = finish(pool, tasks)
    bad = found.pop(FILES // 2)
    assert bad["before"].state is State.DONE
    assert bad["many"].error is not None
    assert bad["many"].error.kind == kind
    assert bad["after"].state is State.BLOCKED
    assert {r.state for f in found for r in f.values()} == {State.DONE}
    sizes = [json.loads(trial.read(f["many"]))["files"] for f in found]
    assert max(sizes) == Batched.batch_size
