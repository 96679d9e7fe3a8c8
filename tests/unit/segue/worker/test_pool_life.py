"""The pool's processes: how they start, what they share, and that none is ever left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from segue.errors import ConfigurationError, Unavailable
from segue.model.graph import Graph, parse
from segue.model.record import State
from segue.testing.trial import Trial, finish
from segue.worker.task import Task
from segue_support.paths import ROOT


def job_line(run: str, extra: str = "") -> str:
    run = run if ":" in run else f"segue_support.jobs:{run}"
    return f"job: {{run: '{run}', needs: {{media: source}}, writes: application/json, {extra}}}"


FINE = job_line("fine")
MODEL = job_line("Model")
# A process that was told to die is gone by then, even on a busy machine.
PATIENCE_S = 10.0


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    return Trial(str(tmp_path))


def graph_of(*jobs: str, path: str = "jobs.yaml") -> Graph:
    return parse("jobs:\n" + "".join(f"  {job}\n" for job in jobs), path=path)


def own_job(folder: Path, code: str, extra: str = "") -> Graph:
    """A graph whose one job stands in a module beside it."""
    module = f"mine_{folder.name.replace('-', '_')}"
    Path(folder, f"{module}.py").write_text(code)
    line = (
        f"job: {{run: '{module}:job', needs: {{media: source}}, writes: application/json, {extra}}}"
    )
    return graph_of(line, path=str(folder / "jobs.yaml"))


def until(happens: Callable[[], bool]) -> bool:
    end_s = time.monotonic() + PATIENCE_S
    while not (happened := happens()) and time.monotonic() < end_s:
        time.sleep(0.02)
    return happened


def alive(process: int) -> bool:
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def values(trial: Trial, graph: Graph, count: int, **options: float) -> list[dict[str, object]]:
    files = [trial.add(f"{n:04}") for n in range(count)]
    found = trial.run(graph, files, **options)
    assert {r.state for f in found for r in f.values()} == {State.DONE}
    return [json.loads(trial.read(f["job"])) for f in found]


def test_a_model_is_set_up_once_a_process(trial: Trial) -> None:
    found = values(trial, graph_of(MODEL), 60, processes=2)
    assert {v["setups"] for v in found} == {1}
    assert 1 <= len({v["process"] for v in found}) <= 2


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ("missing", "job 'job' cannot start: FileNotFoundError: .*weights.bin"),
        ("crash", "job 'job' cannot start: .*exit code 9.*twice"),
        ("hang", "job 'job' cannot start: its setup took longer than 0.5 s"),
    ],
)
def test_a_job_that_cannot_start_stops_the_run(trial: Trial, weights: str, said: str) -> None:
    graph = graph_of(job_line("Model", f"params: {{weights: {weights}}}"))
    with pytest.raises(ConfigurationError, match=said):
        trial.run(graph, [trial.add("a")], setup_s=0.5)


def test_a_setup_that_lacks_a_server_says_so(trial: Trial, tmp_path: Path) -> None:
    code = """
class job:
    def setup(self):
        raise ConnectionError("away")
    def __call__(self, media): ...
"""
    with pytest.raises(Unavailable, match="job 'job' cannot start: ConnectionError: away"):
        trial.run(own_job(tmp_path, code, "attempts: 1"), [trial.add("a")])


def test_a_job_that_finds_the_set_up_wrong_stops_the_run(trial: Trial, tmp_path: Path) -> None:
    code = """
from segue.errors import ConfigurationError
def job(media):
    raise ConfigurationError("no ffmpeg")
"""
    with pytest.raises(ConfigurationError, match="no ffmpeg"):
        trial.run(own_job(tmp_path, code), [trial.add("a")])


def test_a_module_beside_the_graph_is_found_and_what_it_names_is_loaded_before_the_fork(
    trial: Trial, tmp_path: Path
) -> None:
    code = f"""
import os
PRELOAD = ("wave", "mine_{tmp_path.name.replace("-", "_")}:warm_up")
warmed_by = None
def warm_up():
    global warmed_by
    warmed_by = os.getpid()
def job(media):
    return {{"warm": warmed_by == os.getppid()}}
"""
    assert values(trial, own_job(tmp_path, code), 3) == [{"warm": True}] * 3


def test_a_module_that_starts_threads_is_not_loaded_before_the_fork(
    trial: Trial, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code = """
import os, threading
threading.Thread(target=threading.Event().wait, daemon=True).start()
loaded_by = os.getpid()
def job(media):
    return {"own": loaded_by == os.getpid()}
"""
    assert values(trial, own_job(tmp_path, code), 3) == [{"own": True}] * 3
    assert "starts threads" in capfd.readouterr().err


def test_each_child_has_one_thread_and_equal_hashes_unless_the_user_says_otherwise(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    code = """
import os
NAMES = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "PYTHONHASHSEED")
def job(media):
    return [os.environ[name] for name in NAMES]
"""
    assert values(trial, own_job(tmp_path, code), 1) == [["3", "1", "0"]]
    assert "NUMBA_NUM_THREADS" not in os.environ


def test_a_child_that_leaks_is_replaced_and_no_task_is_lost(trial: Trial) -> None:
    graph = graph_of(job_line("leak_memory", "params: {mib: 8}"))
    found = values(trial, graph, 30, processes=1, max_growth_gib=1 / 16)
    assert len({v["process"] for v in found}) >= 3


def test_a_child_that_is_old_is_replaced_and_no_task_is_lost(trial: Trial) -> None:
    graph = graph_of(MODEL)
    assert len({v["process"] for v in values(trial, graph, 40, processes=1, max_tasks=10)}) >= 2


def test_a_late_file_holds_nobody_up(trial: Trial) -> None:
    graph = graph_of(job_line("hang", "timeout_s: 1.5"))
    names = [f"good-{n}" for n in range(400)]
    names[150] = "bad"
    with trial.pool(graph, processes=2) as pool:
        warm = [Task(ticket=-n, media=trial.add(f"warm-{n}"), run=("job",)) for n in range(1, 40)]
        finish(pool, warm)  # so that many files go into one message
        tasks = [
            Task(ticket=n, media=trial.add(name), run=("job",)) for n, name in enumerate(names)
        ]
        pool.submit(tasks)
        order = []
        while pool.pending:
            order += [report.ticket for report in pool.collect(60.0)]
    assert sorted(order) == list(range(len(names)))
    assert order[-1] == 150


def test_the_death_of_the_nursery_costs_nothing(trial: Trial) -> None:
    graph = graph_of(job_line("sleep", "params: {seconds: 0.05}"))
    tasks = [Task(ticket=n, media=trial.add(str(n)), run=("job",)) for n in range(20)]
    with trial.pool(graph) as pool:
        pool.submit(tasks)
        reports = pool.collect(60.0)
        os.kill(pool._nursery._process.pid, signal.SIGKILL)
        while pool.pending:
            reports += pool.collect(60.0)
    assert sorted(r.ticket for r in reports) == list(range(20))
    assert {r.results[0].state for r in reports} == {State.DONE}


@pytest.mark.parametrize("how", ["close", "kill"])
def test_nothing_is_left_of_a_pool(trial: Trial, tmp_path: Path, how: str) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    pool = trial.pool(graph_of(FINE), scratch=str(scratch))  # type: ignore[arg-type]
    tasks = [Task(ticket=n, media=trial.add(str(n)), run=("job",)) for n in range(50)]
    pool.submit(tasks)
    assert pool.collect(60.0)
    processes = [link.process for link in pool._links.values() if link.process]
    processes.append(pool._nursery._process.pid)
    assert len(list(scratch.iterdir())) == 1
    getattr(pool, how)()
    assert until(lambda: not any(alive(p) for p in processes))
    assert list(scratch.iterdir()) == []


def test_with_nothing_pending_there_is_nothing_to_wait_for(trial: Trial) -> None:
    with trial.pool(graph_of(FINE)) as pool:
        assert pool.collect(3600.0) == []


def test_a_task_for_a_job_that_is_not_in_the_graph_is_refused(trial: Trial) -> None:
    task = Task(ticket=1, media=trial.add("a"), run=("job", "nonsense"))
    with trial.pool(graph_of(FINE)) as pool, pytest.raises(ConfigurationError, match="nonsense"):
        pool.submit([task])


def test_a_pool_is_hungry_for_what_its_children_can_do(trial: Trial) -> None:
    with trial.pool(graph_of(FINE), processes=2) as pool:
        before = pool.hungry
        assert before >= 2
        tasks = [Task(ticket=n, media=trial.add(str(n)), run=("job",)) for n in range(40)]
        finish(pool, tasks)
        assert pool.hungry > before


def test_threads_have_pools_of_their_own(tmp_path: Path) -> None:
    done: list[int] = []

    def work(number: int) -> None:
        folder = tmp_path / str(number)
        folder.mkdir()
        done.append(len(values(Trial(str(folder)), graph_of(FINE), 20, processes=1)))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == [20] * 3


SCRIPT = """
import json, os, sys
from segue.model.graph import parse
from segue.testing.trial import Trial
from segue.worker.task import Task
folder, function, scratch = sys.argv[1:]
text = "jobs: {job: {run: '%s', needs: {media: source}, writes: application/json}}" % function
graph = parse(text, path=folder + "/jobs.yaml")
trial = Trial(folder)
with trial.pool(graph, processes=2, scratch=scratch) as pool:
    pool.submit([Task(ticket=n, media=trial.add(f"bad-{n}"), run=("job",)) for n in range(2)])
    while pool.pending:
        for report in pool.collect(0.1):
            print(json.dumps([report.ticket, report.results[0].state]), flush=True)
        born = [link.process for link in pool._links.values() if link.process]
        if len(born) == 2 or "slow" in function:
            print(json.dumps([pool._nursery._process.pid, *born]), file=sys.stderr, flush=True)
"""


def start_script(folder: Path, function: str) -> subprocess.Popen[str]:
    scratch = folder / "scratch"
    scratch.mkdir()
    home = folder / "home"
    home.mkdir()
    arguments = [sys.executable, "-W", "error", "-c", SCRIPT, str(home), function, str(scratch)]
    return subprocess.Popen(
        arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_what_jobs_print_is_not_on_standard_output(tmp_path: Path) -> None:
    with start_script(tmp_path, "segue_support.jobs:print_much") as script:
        out, err = script.communicate(timeout=60)
    assert script.returncode == 0, err
    assert sorted(out.split("\n")) == ["", '[0, "done"]', '[1, "done"]']
    for said in ("from print", "from the handle", "from a process"):
        assert err.count(said) == 2


def test_children_die_with_a_parent_that_is_killed_and_the_next_pool_removes_its_files(
    tmp_path: Path,
) -> None:
    with start_script(tmp_path, "segue_support.jobs:hang_with_family") as script:
        assert script.stderr is not None
        processes = json.loads(script.stderr.readline())
        noted = tmp_path / "home" / "catalogue"
        assert until(lambda: len([*noted.glob("*.processes")]) == 2)
        for path in noted.glob("*.processes"):
            processes += [int(p) for p in path.read_text().split()]
        script.kill()
    assert len(processes) == 7
    assert until(lambda: not any(alive(p) for p in processes))
    [left] = (tmp_path / "scratch").iterdir()
    trial = Trial(str(tmp_path))
    with trial.pool(graph_of(FINE), scratch=str(tmp_path / "scratch")):  # type: ignore[arg-type]
        assert not left.exists()


def test_a_nursery_that_is_still_importing_dies_with_its_parent(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with start_script(tmp_path, "slow_to_import:job") as script:
        Path(home, "slow_to_import.py").write_text(
            "import time\nfor _ in range(3600): time.sleep(1)\ndef job(media): ..."
        )
        assert script.stderr is not None
        [nursery] = json.loads(script.stderr.readline())
        assert until(lambda: alive(nursery))
        script.kill()
    assert until(lambda: not alive(nursery))
