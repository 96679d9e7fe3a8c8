"""A job that takes many files at once; the bad one among them fails alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shared.errors import Kind
from shared.graph import Graph, parse
from shared.record import State
from shared.testing.jobs import Batched
from shared.testing.trial import Trial, finish
from shared.worker.work import Task

FILES = 20


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    return Trial(str(tmp_path))


def graph_of(how: str) -> Graph:
    return parse(f"""
jobs:
  before: {{run: "shared.testing.jobs:fine", needs: {{media: source}}, writes: application/json}}
  many: {{run: "shared.testing.jobs:Batched", needs: {{media: source}}, writes: application/json,
         params: {{how: {how}}}, timeout_s: 0.2}}
  after: {{run: "shared.testing.jobs:after", needs: {{value: many}}, writes: application/json}}
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
