"""If a batch contains a bad file, only that file fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from segue.errors import Kind
from segue.model.graph import Graph, parse_graph
from segue.model.record import State
from segue.worker.protocol import Task
from segue_support.jobs import Batched
from segue_support.trial import Trial, run_tasks

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


def test_a_batch_is_not_computed_twice_if_a_setup_delays_it(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(tmp_path, "slow_setup.py").write_text("""
import os, time
class job:
    batch_size = 4
    def setup(self):
        time.sleep(0.5)
    def batch(self, inputs):
        with open(os.environ["COMPUTED"], "a") as file:
            file.writelines(f"{i['media'].uri}\\n" for i in inputs)
        return [{} for _ in inputs]
""")
    text = "job: {run: 'slow_setup:job', needs: {media: source}, writes: application/json}"
    graph = parse_graph(f"jobs: {{{text}}}", path=str(tmp_path / "jobs.yaml"))
    monkeypatch.setenv("COMPUTED", str(tmp_path / "computed"))
    files = [trial.add(str(n)) for n in range(17)]
    tasks = [Task(task_id=n, media=media, run=("job",)) for n, media in enumerate(files)]
    with trial.pool(graph, processes=2) as pool:
        run_tasks(
            pool, tasks[:1]
        )  # so that both children get a batch, one of them before its setup
        run_tasks(pool, tasks[1:])
    computed = Path(tmp_path, "computed").read_text().split()
    assert sorted(computed) == sorted(media.uri for media in files)
