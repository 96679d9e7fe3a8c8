"""If a batch contains a bad file, only that file fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from segue.errors import Kind
from segue.model.graph import Graph, parse_graph
from segue.model.record import State
from segue.testing.trial import Trial, run_tasks
from segue.worker.task import Task
from segue_support.jobs import Batched

FILES = 20


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    return Trial(str(tmp_path))


def build_graph(how: str) -> Graph:
    return parse_graph(f"""
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
    graph = build_graph(how)
    tasks = [
        Task(task_id=n, media=trial.add(name), run=tuple(graph.jobs))
        for n, name in enumerate(names)
    ]
    with trial.pool(graph, processes=1) as pool:
        # The pool knows that the job takes batches only once a child has loaded it.
        run_tasks(pool, [Task(task_id=FILES, media=trial.add("good"), run=tuple(graph.jobs))])
        results = run_tasks(pool, tasks)
    bad = results.pop(FILES // 2)
    assert bad["before"].state is State.DONE
    assert bad["many"].error is not None
    assert bad["many"].error.kind == kind
    assert bad["after"].state is State.BLOCKED
    assert {r.state for f in results for r in f.values()} == {State.DONE}
    sizes = [json.loads(trial.read(f["many"]))["files"] for f in results]
    assert max(sizes) == Batched.batch_size
