"""Batches are full, as far as the memory allows, and only a bad file in one fails."""

from __future__ import annotations

import json
import textwrap
import time
from collections import Counter
from pathlib import Path

import msgspec
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
        results = run_tasks(pool, tasks)
    bad = results.pop(FILES // 2)
    assert bad["before"].state is State.DONE
    assert bad["many"].error is not None
    assert bad["many"].error.kind == kind
    assert bad["after"].state is State.BLOCKED
    assert {r.state for f in results for r in f.values()} == {State.DONE}
    sizes = [json.loads(trial.read(f["many"]))["files"] for f in results]
    # One batch was tried file by file, the others were full.
    assert Counter(sizes) == {
        1: Batched.batch_size - 1,
        Batched.batch_size: Batched.batch_size,
        4: 4,
    }


def write_job(folder: Path, name: str, code: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a module with a class ``job``, and return the file to which it may write lines."""
    Path(folder, f"{name}.py").write_text("import os, time, numpy\n" + textwrap.dedent(code))
    noted = folder / "noted"
    noted.touch()
    monkeypatch.setenv("NOTED", str(noted))
    return noted


def build_chain_text(run: str) -> str:
    """Return a graph of a job that takes batches, between two others."""
    return f"""
jobs:
  before: {{run: "segue_support.jobs:fine", needs: {{media: source}}, writes: application/json}}
  job: {{run: "{run}", needs: {{value: before}}, writes: application/json}}
  after: {{run: "segue_support.jobs:after", needs: {{value: job}}, writes: application/json}}
"""


def build_chain(folder: Path, run: str) -> Graph:
    return parse_graph(build_chain_text(run), path=str(folder / "jobs.yaml"))


def build_tasks(trial: Trial, graph: Graph, count: int) -> list[Task]:
    return [
        Task(task_id=n, media=trial.add(f"{n:03}"), run=tuple(graph.jobs)) for n in range(count)
    ]


FULL = """
class job:
    batch_size = 16
    def setup(self):
        with open(os.environ["NOTED"], "a") as file:
            file.write(f"setup {os.getpid()}\\n")
    def batch(self, inputs):
        with open(os.environ["NOTED"], "a") as file:
            file.write(f"{len(inputs)} {os.getpid()}\\n")
        return [{"value": i["value"]} for i in inputs]
"""


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("starts_threads", [False, True])
def test_batches_are_full_and_a_model_is_loaded_once_per_child(
    trial: Trial,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    processes: int,
    starts_threads: bool,
) -> None:
    thread = (
        "import threading\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()"
    )
    code = f"{thread if starts_threads else ''}\n{FULL}"
    noted = write_job(tmp_path, f"full_{processes}_{starts_threads}", code, monkeypatch)
    graph = build_chain(tmp_path, f"full_{processes}_{starts_threads}:job")
    with trial.pool(graph, processes=processes) as pool:
        results = run_tasks(pool, build_tasks(trial, graph, 48))
    assert all(r.state is State.DONE for found in results for r in found.values())
    names = [json.loads(trial.read(found["job"]))["value"] for found in results]
    assert names == [json.loads(trial.read(found["before"])) for found in results]
    lines = [line.split() for line in noted.read_text().splitlines()]
    assert [size for size, _ in lines if size != "setup"] == ["16"] * 3
    setups = [process for what, process in lines if what == "setup"]
    assert len(set(setups)) == len(setups) <= processes


@pytest.mark.parametrize("processes", [1, 2])
def test_the_pool_asks_for_files_as_far_as_batches_have_some(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    write_job(tmp_path, f"asks_{processes}", FULL, monkeypatch)
    graph = build_chain(tmp_path, f"asks_{processes}:job")
    tasks = build_tasks(trial, graph, 50)
    with trial.pool(graph, processes=processes) as pool:
        run_tasks(pool, tasks[:1])  # the supervisor has imported the job
        assert pool.batch_files == 0
        pool.submit([msgspec.structs.replace(task, run=("before",)) for task in tasks[:10]])
        assert pool.batch_files == 0  # these would only wait here
        pool.submit(tasks[10:12])
        assert pool.batch_files == 4
        pool.submit(tasks[12:])
        assert pool.batch_files == (processes + 1) * 16


def test_a_message_of_different_jobs_is_no_batch(trial: Trial) -> None:
    graph = build_graph("fine")
    with trial.pool(graph, processes=1, jobs=["before"]) as pool:  # type: ignore[arg-type]
        files = [trial.add(str(n)) for n in range(40)]
        run_tasks(pool, [Task(task_id=0, media=files[0], run=("before",))])
        jobs = ["many", *["before", "many"] * 19]  # short, so several are sent at a time
        results = run_tasks(
            pool,
            [
                Task(task_id=n, media=media, run=(job,))
                for n, (media, job) in enumerate(zip(files[1:], jobs, strict=True))
            ],
        )
    assert [list(found) for found in results] == [[job] for job in jobs]
    assert {r.state for found in results for r in found.values()} == {State.DONE}


def test_a_model_whose_first_call_takes_memory_is_loaded_once(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
    class job:
        batch_size = 2
        buffers = None
        def setup(self):
            with open(os.environ["NOTED"], "a") as file:
                file.write("setup\\n")
        def batch(self, inputs):
            if self.buffers is None:
                self.buffers = numpy.ones(2**26 // 8)
            time.sleep(0.05)  # so that the memory is looked at
            return [{} for _ in inputs]
    """
    noted = write_job(tmp_path, "grows", code, monkeypatch)
    graph = build_chain(tmp_path, "grows:job")
    with trial.pool(graph, processes=1, max_growth_gib=0.04) as pool:
        run_tasks(pool, build_tasks(trial, graph, 12))
    assert noted.read_text().split() == ["setup"]


def test_a_file_that_comes_after_a_pause_waits_for_others(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
    class job:
        batch_size = 4
        batch_wait_s = 2.0
        def batch(self, inputs):
            with open(os.environ["NOTED"], "a") as file:
                file.write(f"{len(inputs)}\\n")
            return [{} for _ in inputs]
    """
    noted = write_job(tmp_path, "paused", code, monkeypatch)
    text = "job: {run: 'paused:job', needs: {media: source}, writes: application/json}"
    graph = parse_graph(f"jobs: {{{text}}}", path=str(tmp_path / "jobs.yaml"))
    tasks = build_tasks(trial, graph, 8)
    with trial.pool(graph, processes=1) as pool:
        run_tasks(pool, tasks[:4])
        time.sleep(2.1)  # longer than a file waits
        pool.submit(tasks[4:5])
        pool.collect(0.1)
        pool.submit(tasks[5:])
        while pool.pending:
            pool.collect(60.0)
    assert noted.read_text().split() == ["4", "4"]


def test_a_batch_of_one_is_given_the_same_as_one_file(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted = write_job(tmp_path, "single", FULL, monkeypatch)
    graph = build_chain(tmp_path, "single:job")
    with trial.pool(graph, processes=1) as pool:
        pool.submit(build_tasks(trial, graph, 1))
        pool.flush()  # nothing else comes
        while pool.pending:
            pool.collect(60.0)
    assert [line.split()[0] for line in noted.read_text().splitlines()] == ["setup", "1"]


@pytest.mark.parametrize(
    ("returns", "sizes"),
    [
        ("inputs", [4]),
        ("[inputs.pop(0) for _ in range(len(inputs))]", [4]),
        ("inputs[1:] or inputs", [4, 1, 1, 1, 1]),  # too few: each is tried alone
        ("{'not': 'a list'} if len(inputs) > 1 else inputs", [4, 1, 1, 1, 1]),
    ],
)
def test_a_batch_returns_a_value_for_each_input(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, returns: str, sizes: list[int]
) -> None:
    code = f"""
    class job:
        batch_size = 4
        def batch(self, inputs):
            with open(os.environ["NOTED"], "a") as file:
                file.write(f"{{len(inputs)}}\\n")
            return {returns}
    """
    name = f"returns_{abs(hash(returns))}"
    noted = write_job(tmp_path, name, code, monkeypatch)
    graph = build_chain(tmp_path, f"{name}:job")
    with trial.pool(graph, processes=1) as pool:
        results = run_tasks(pool, build_tasks(trial, graph, 4))
    assert {r.state for found in results for r in found.values()} == {State.DONE}
    assert [int(size) for size in noted.read_text().split()] == sizes


def test_an_exception_in_the_place_of_a_value_is_the_failure_of_that_file(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = FULL.replace("batch_size = 16", "batch_size = 4").replace(
        'return [{"value": i["value"]} for i in inputs]',
        'return [ValueError("no"), *({} for _ in inputs[1:])]',
    )
    noted = write_job(tmp_path, "refuses", code, monkeypatch)
    graph = build_chain(tmp_path, "refuses:job")
    with trial.pool(graph, processes=1) as pool:
        bad, *good = run_tasks(pool, build_tasks(trial, graph, 4))
    assert bad["job"].error is not None
    assert bad["job"].error.kind == Kind.JOB_RAISED
    assert bad["after"].state is State.BLOCKED
    assert {r.state for found in good for r in found.values()} == {State.DONE}
    # It is not called again, and its process goes on.
    assert [line.split()[0] for line in noted.read_text().splitlines()] == ["setup", "4"]


def test_a_batch_that_kills_the_supervisor_is_tried_without_a_wait(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
    import signal
    def name(media):
        return media.uri
    class job:
        batch_wait_s = 600
        def batch(self, inputs):
            if any("001" in i["value"] for i in inputs):
                os.kill(os.getppid(), signal.SIGKILL)
                time.sleep(60)
            return [{} for _ in inputs]
    """
    write_job(tmp_path, "kills", code, monkeypatch)
    graph = parse_graph(
        build_chain_text("kills:job").replace("segue_support.jobs:fine", "kills:name"),
        path=str(tmp_path / "jobs.yaml"),
    )
    kinds = {}
    with trial.pool(graph, processes=1) as pool:
        pool.submit(build_tasks(trial, graph, 2))
        pool.flush()
        while pool.pending:
            for report in pool.collect(1.0):
                for result in report.results:
                    if result.job == "job":
                        kinds[report.task_id] = result.error and result.error.kind
    assert kinds == {0: None, 1: Kind.CRASHED}


def test_the_inputs_of_a_batch_take_half_of_the_memory_and_the_rest_is_cut_off(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
    def large(media):
        return {"a": numpy.ones(2**24 // 8), "n": numpy.array(int(media.path[-3:]))}  # 16 MiB
    class job:
        batch_size = 16
        def batch(self, inputs):
            with open(os.environ["NOTED"], "a") as file:
                file.write(f"{len(inputs)}\\n")
            return [{"n": int(i["value"]["n"])} for i in inputs]
    """
    noted = write_job(tmp_path, "hungry", code, monkeypatch)
    graph = parse_graph(
        """
jobs:
  large: {run: "hungry:large", needs: {media: source}, writes: application/x-npz}
  job: {run: "hungry:job", needs: {value: large}, writes: application/json,
        resources: {memory_gib: 0.16}}
""",
        path=str(tmp_path / "jobs.yaml"),
    )
    with trial.pool(graph, processes=1) as pool:
        results = run_tasks(pool, build_tasks(trial, graph, 17))
    found = [json.loads(trial.read(result["job"]))["n"] for result in results]
    assert found == list(range(17))
    assert noted.read_text().split() == ["5", "5", "5", "1", "1"]


def test_a_damaged_input_of_a_batch_costs_only_its_file(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted = write_job(tmp_path, "damaged", FULL, monkeypatch)
    graph = build_chain(tmp_path, "damaged:job")
    with trial.pool(graph, processes=1) as pool:
        tasks = build_tasks(trial, graph, 4)
        first = [msgspec.structs.replace(task, run=("before",)) for task in tasks]
        made = [dict(found["before"].artifacts) for found in run_tasks(pool, first)]
        names = [next(iter(artifacts)) for artifacts in made]
        Path(trial.artifacts, names[1]).write_text("{}")
        results = run_tasks(
            pool,
            [
                msgspec.structs.replace(
                    task,
                    task_id=10 + task.task_id,
                    run=("job",),
                    inputs={"before": names[task.task_id]},
                    checksums={"before": made[task.task_id][names[task.task_id]]},
                )
                for task in tasks
            ],
        )
    states = [found["job"].state for found in results]
    assert states == [State.DONE, State.QUEUED, State.DONE, State.DONE]
    assert results[1]["job"].damaged == "before"
    sizes = [line.split()[0] for line in noted.read_text().splitlines()]
    assert sizes == ["setup", "3"]


def test_a_file_in_the_middle_of_a_batch_that_crashes_costs_no_other_its_result(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = FULL.replace(
        "return [", 'any("007" in str(i["value"]) for i in inputs) and os.abort()\n        return ['
    )
    noted = write_job(tmp_path, "crashes", code, monkeypatch)
    graph = parse_graph(
        build_chain_text("crashes:job").replace("segue_support.jobs:fine", "crashes:name"),
        path=str(tmp_path / "jobs.yaml"),
    )
    with open(tmp_path / "crashes.py", "a") as file:
        file.write("def name(media):\n    return media.uri\n")
    with trial.pool(graph, processes=2) as pool:
        results = run_tasks(pool, build_tasks(trial, graph, 32))
    bad = results.pop(7)
    assert bad["job"].error is not None
    assert bad["job"].error.kind == Kind.CRASHED
    assert bad["after"].state is State.BLOCKED
    assert {r.state for found in results for r in found.values()} == {State.DONE}
    sizes = Counter(line.split()[0] for line in noted.read_text().splitlines())
    assert sizes["16"] == 2  # one of which crashed
    assert sizes["1"] == 16


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
