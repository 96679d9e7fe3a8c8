"""The pool's processes: how they start, what they share, and that all exit with the pool."""

from __future__ import annotations

import errno
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

from segue.errors import ConfigurationError, DiskFull, Kind, Unavailable
from segue.model.graph import Graph, parse_graph
from segue.model.record import State
from segue.worker.pool import MAX_LOST_SUPERVISORS
from segue.worker.protocol import Task
from segue_support.paths import ROOT
from segue_support.processes import is_alive
from segue_support.trial import Trial, run_tasks

pytestmark = pytest.mark.slow


def format_job(run: str, extra: str = "") -> str:
    run = run if ":" in run else f"segue_support.jobs:{run}"
    return f"job: {{run: '{run}', needs: {{media: source}}, writes: application/json, {extra}}}"


FINE = format_job("fine")
MODEL = format_job("Model")
# A killed process has exited by then, even on a busy machine.
EXIT_TIMEOUT_S = 10.0


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    return Trial(str(tmp_path))


def build_graph(*jobs: str, path: str = "jobs.yaml") -> Graph:
    return parse_graph("jobs:\n" + "".join(f"  {job}\n" for job in jobs), path=path)


def write_job(folder: Path, code: str, extra: str = "") -> Graph:
    """Return a graph with one job, whose module is written beside it."""
    module = f"mine_{folder.name.replace('-', '_')}"
    Path(folder, f"{module}.py").write_text(code)
    line = (
        f"job: {{run: '{module}:job', needs: {{media: source}}, writes: application/json, {extra}}}"
    )
    return build_graph(line, path=str(folder / "jobs.yaml"))


def wait_until(condition: Callable[[], bool]) -> bool:
    end_s = time.monotonic() + EXIT_TIMEOUT_S
    while not (result := condition()) and time.monotonic() < end_s:
        time.sleep(0.02)
    return result


def list_children(scratch: Path) -> list[int]:
    """Return the child processes of a pool: each has a folder of its own."""
    return [int(path.name) for path in scratch.iterdir() if path.name.isdecimal()]


def compute_values(
    trial: Trial, graph: Graph, count: int, **options: float
) -> list[dict[str, object]]:
    files = [trial.add(f"{n:04}") for n in range(count)]
    results = trial.run(graph, files, **options)
    assert {r.state for f in results for r in f.values()} == {State.DONE}
    return [json.loads(trial.read(f["job"])) for f in results]


def test_a_model_is_set_up_once_per_process(trial: Trial) -> None:
    results = compute_values(trial, build_graph(MODEL), 60, processes=2)
    assert {v["setups"] for v in results} == {1}
    assert 1 <= len({v["process"] for v in results}) <= 2


@pytest.mark.parametrize(
    ("weights", "text"),
    [
        ("missing", "job 'job' cannot start: FileNotFoundError: .*weights.bin"),
        ("crash", "job 'job' cannot start: .*exited with code 9.* second time"),
        ("hang", "job 'job' cannot start: its setup took longer than 0.5 s"),
    ],
)
def test_a_job_that_cannot_start_stops_the_run(trial: Trial, weights: str, text: str) -> None:
    graph = build_graph(format_job("Model", f"params: {{weights: {weights}}}"))
    with pytest.raises(ConfigurationError, match=text):
        trial.run(graph, [trial.add("a")], setup_s=0.5)


def test_a_setup_that_cannot_reach_a_server_is_unavailable(trial: Trial, tmp_path: Path) -> None:
    code = """
class job:
    def setup(self):
        raise ConnectionError("away")
    def __call__(self, media): ...
"""
    with pytest.raises(Unavailable, match="job 'job' cannot start: ConnectionError: away"):
        trial.run(write_job(tmp_path, code, "attempts: 1"), [trial.add("a")])


def test_a_job_that_reports_a_wrong_setup_stops_the_run(trial: Trial, tmp_path: Path) -> None:
    code = """
from segue.errors import ConfigurationError
def job(media):
    raise ConfigurationError("no ffmpeg")
"""
    with pytest.raises(ConfigurationError, match="no ffmpeg"):
        trial.run(write_job(tmp_path, code), [trial.add("a")])


def test_a_module_beside_the_graph_is_found_and_its_preloads_run_before_the_fork(
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
    assert compute_values(trial, write_job(tmp_path, code), 3) == [{"warm": True}] * 3


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
    assert compute_values(trial, write_job(tmp_path, code), 3) == [{"own": True}] * 3
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
    assert compute_values(trial, write_job(tmp_path, code), 1) == [["3", "1", "0"]]
    assert "NUMBA_NUM_THREADS" not in os.environ


def test_a_child_that_leaks_is_replaced_and_no_task_is_lost(trial: Trial) -> None:
    graph = build_graph(format_job("leak_memory", "params: {mib: 8}"))
    results = compute_values(trial, graph, 30, processes=1, max_growth_gib=1 / 16)
    assert len({v["process"] for v in results}) >= 3


def test_a_child_that_is_old_is_replaced_and_no_task_is_lost(trial: Trial) -> None:
    graph = build_graph(MODEL)
    assert (
        len({v["process"] for v in compute_values(trial, graph, 40, processes=1, max_tasks=10)})
        >= 2
    )


def test_a_late_file_delays_no_other_file(trial: Trial) -> None:
    graph = build_graph(format_job("hang", "timeout_s: 1.5"))
    names = [f"good-{n}" for n in range(400)]
    names[150] = "bad"
    with trial.pool(graph, processes=2) as pool:
        warm = [Task(task_id=-n, media=trial.add(f"warm-{n}"), run=("job",)) for n in range(1, 40)]
        run_tasks(pool, warm)  # so that many files go into one message
        tasks = [
            Task(task_id=n, media=trial.add(name), run=("job",)) for n, name in enumerate(names)
        ]
        pool.submit(tasks)
        order = []
        while pool.pending:
            order += [report.task_id for report in pool.collect(60.0)]
    assert sorted(order) == list(range(len(names)))
    assert order[-1] == 150


def test_a_job_past_its_deadline_is_killed_even_if_nobody_collects(
    trial: Trial, tmp_path: Path
) -> None:
    graph = build_graph(format_job("hang", "timeout_s: 0.3"))
    with trial.pool(graph, processes=1, scratch=str(tmp_path)) as pool:  # type: ignore[arg-type]
        pool.submit([Task(task_id=1, media=trial.add("bad"), run=("job",))])
        [folder] = tmp_path.glob("segue-pool-*")
        assert wait_until(lambda: bool(list_children(folder)))
        assert wait_until(lambda: not list_children(folder))
        [report] = pool.collect(60.0)
    assert report.results[0].state is State.FAILED


@pytest.mark.parametrize("place", ["in the current folder", "beside the graph"])
def test_no_file_hides_a_module_from_a_child(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """The names are of modules that a supervisor imports at once, or that a job may import."""
    folder = tmp_path if place == "beside the graph" else tmp_path / "downloads"
    folder.mkdir(exist_ok=True)
    for name in ("pickle", "random", "colorsys", "yaml"):
        (folder / f"{name}.py").write_text("raise SystemExit('it was imported')")
    code = """
import colorsys, pickle, random, sys, yaml
def job(media):
    return sys.path
"""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", f":{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.syspath_prepend("")
    [path] = compute_values(trial, write_job(tmp_path, code), 1)
    assert path[-1] == str(tmp_path)
    assert "" not in path
    assert str(folder) not in path[:-1]


def test_a_folder_that_is_named_is_on_the_path_even_if_it_is_the_current_one(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = tmp_path / "named"
    named.mkdir()
    monkeypatch.chdir(named)
    monkeypatch.setenv("PYTHONPATH", str(named))
    monkeypatch.syspath_prepend(str(named))
    code = "import sys\ndef job(media): return sys.path"
    [path] = compute_values(trial, write_job(tmp_path, code), 1)
    assert path[0] == str(named)


@pytest.mark.parametrize("place", ["function", "setup", "module"])
def test_a_failed_import_stops_the_run_and_is_no_failure_of_a_file(
    trial: Trial, tmp_path: Path, place: str
) -> None:
    code = {
        "function": "def job(media): import no_such_module",
        "setup": """
class job:
    def setup(self): import no_such_module
    def __call__(self, media): ...
""",
        "module": "import no_such_module\ndef job(media): ...",
    }
    with pytest.raises(ConfigurationError, match=r"job 'job'.*no_such_module"):
        trial.run(write_job(tmp_path, code[place]), [trial.add("a")])


def test_an_import_for_which_a_file_has_left_no_memory_costs_that_file(
    trial: Trial, tmp_path: Path
) -> None:
    code = """
def job(media):
    if media.uri.endswith("bad"):
        raise ImportError("libx.so: failed to map segment from shared object")
    return {}
"""
    files = [trial.add("bad"), trial.add("fine")]
    bad, fine = trial.run(write_job(tmp_path, code), files)
    assert bad["job"].error is not None
    assert bad["job"].error.kind == Kind.OUT_OF_MEMORY
    assert fine["job"].state is State.DONE


def test_a_setup_that_finds_the_disk_full_is_no_wrong_configuration(
    trial: Trial, tmp_path: Path
) -> None:
    code = """
import errno
class job:
    def setup(self): raise OSError(errno.ENOSPC, "no space is left")
    def __call__(self, media): ...
"""
    with pytest.raises(DiskFull, match="job 'job' cannot start: the disk is full"):
        trial.run(write_job(tmp_path, code), [trial.add("a")])


def test_supervisors_that_die_again_and_again_stop_the_run(trial: Trial, tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    code = f"""
import os, time
with open({str(starts)!r}, "a") as file:
    file.write("x")
    if file.tell() > 1:
        os._exit(5)
def job(media):
    time.sleep(0.5)  # so that the second one is still running when its supervisor is killed
    return {{}}
"""
    with trial.pool(write_job(tmp_path, code), processes=1) as pool:
        pool.submit([Task(task_id=1, media=trial.add("a"), run=("job",))])
        assert wait_until(starts.exists)
        pool.collect(60.0)
        pool.submit([Task(task_id=2, media=trial.add("b"), run=("job",))])
        os.kill(pool._process.pid, signal.SIGKILL)
        with pytest.raises(ConfigurationError, match=r"supervisor of .* exited with code 5"):
            pool.collect(60.0)
    assert starts.read_text() == "x" * (1 + MAX_LOST_SUPERVISORS)


def test_a_killed_supervisor_leaves_no_process_in_a_session_of_its_own(
    trial: Trial, tmp_path: Path
) -> None:
    graph = build_graph(format_job("hang_with_processes"))
    media = trial.add("bad")
    with trial.pool(graph, processes=1) as pool:
        pool.submit([Task(task_id=1, media=media, run=("job",))])
        noted = Path(trial.catalogue, "bad.processes")
        assert wait_until(lambda: noted.exists() and " " in noted.read_text())
        processes = [int(p) for p in noted.read_text().split()]
        os.kill(pool._process.pid, signal.SIGKILL)
        assert wait_until(
            lambda: pool.collect(0.01) == [] and not any(is_alive(p) for p in processes)
        )


def test_a_job_that_stops_its_parent_again_and_again_costs_its_file(
    trial: Trial, tmp_path: Path
) -> None:
    code = """
import os, signal
def job(media):
    while media.uri.endswith("bad"):
        os.kill(os.getppid(), signal.SIGSTOP)
    return {}
"""
    graph = write_job(tmp_path, code, "timeout_s: 5")
    files = [trial.add(name) for name in ("good", "bad", "fine")]
    states = [results["job"].state for results in trial.run(graph, files)]
    assert states == [State.DONE, State.FAILED, State.DONE]


@pytest.mark.parametrize("use", ["submit", "collect"])
def test_a_closed_pool_says_so(trial: Trial, use: str) -> None:
    pool = trial.pool(build_graph(FINE))
    task = Task(task_id=1, media=trial.add("a"), run=("job",))
    pool.submit([task])
    pool.kill()
    with pytest.raises(ConfigurationError, match="the pool is closed; open another"):
        pool.submit([task]) if use == "submit" else pool.collect(0.0)


def test_a_folder_for_temporary_files_that_cannot_be_written_to_is_named(
    trial: Trial, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=f"{tmp_path}/nowhere .*set TMPDIR"):
        trial.pool(build_graph(FINE), scratch=f"{tmp_path}/nowhere")  # type: ignore[arg-type]


def test_a_folder_for_temporary_files_that_is_full_is_a_full_disk(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("segue.worker.pool.pickle.dump", fail)
    with pytest.raises(DiskFull, match=r"cannot write temporary files in .*; free some space"):
        trial.pool(build_graph(FINE))


def test_supervisors_that_are_killed_now_and_then_do_not_stop_the_run(trial: Trial) -> None:
    with trial.pool(build_graph(FINE), processes=1) as pool:
        for number in range(MAX_LOST_SUPERVISORS + 2):
            pool.submit([Task(task_id=number, media=trial.add(str(number)), run=("job",))])
            assert pool.collect(60.0)[0].finished
            os.kill(pool._process.pid, signal.SIGKILL)
    assert pool.pending == 0


def test_a_killed_supervisor_costs_no_task_and_no_result_counts_twice(trial: Trial) -> None:
    sleep = format_job("sleep", "params: {seconds: 0.05}")
    graph = build_graph(sleep, sleep.replace("job:", "other:", 1))
    tasks = [Task(task_id=n, media=trial.add(str(n)), run=tuple(graph.jobs)) for n in range(20)]
    with trial.pool(graph) as pool:
        pool.submit(tasks)
        reports = pool.collect(60.0)
        assert not reports[0].finished
        os.kill(pool._process.pid, signal.SIGKILL)
        while pool.pending:
            reports += pool.collect(60.0)
    results = [(report.task_id, r.job, r.state) for report in reports for r in report.results]
    assert sorted(results) == [(n, job, State.DONE) for n in range(20) for job in graph.jobs]


def test_a_module_that_ends_the_supervisor_stops_the_run(trial: Trial, tmp_path: Path) -> None:
    pool = trial.pool(write_job(tmp_path, "import os\nos._exit(3)\n"))
    task = Task(task_id=1, media=trial.add("a"), run=("job",))
    for _ in range(2):  # it stays so
        pool.submit([task])
        with pytest.raises(ConfigurationError, match=r"supervisor of .* exited with code 3;"):
            pool.collect(60.0)
    pool.close()


@pytest.mark.parametrize("how", ["close", "kill"])
def test_a_pool_leaves_no_process_and_no_file(trial: Trial, tmp_path: Path, how: str) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    pool = trial.pool(build_graph(FINE), scratch=str(scratch))  # type: ignore[arg-type]
    tasks = [Task(task_id=n, media=trial.add(str(n)), run=("job",)) for n in range(50)]
    pool.submit(tasks)
    assert pool.collect(60.0)
    [folder] = scratch.iterdir()
    processes = [pool._process.pid, *list_children(folder)]
    getattr(pool, how)()
    assert wait_until(lambda: not any(is_alive(p) for p in processes))
    assert list(scratch.iterdir()) == []


def test_a_pool_that_nobody_collects_from_finishes_its_file_when_it_closes(
    trial: Trial, tmp_path: Path
) -> None:
    graph = build_graph(format_job("sleep", "params: {seconds: 0.5}"))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with trial.pool(graph, processes=1, scratch=str(scratch)) as pool:  # type: ignore[arg-type]
        pool.submit([Task(task_id=1, media=trial.add("a"), run=("job",))])
        [folder] = scratch.iterdir()
        assert wait_until(lambda: bool(list_children(folder)))
    assert [p for p in Path(trial.artifacts).rglob("*") if p.is_file()]


def test_collect_returns_at_once_if_nothing_is_pending(trial: Trial) -> None:
    with trial.pool(build_graph(FINE)) as pool:
        assert pool.collect(3600.0) == []


def test_a_task_for_a_job_that_is_not_in_the_graph_is_refused(trial: Trial) -> None:
    task = Task(task_id=1, media=trial.add("a"), run=("job", "nonsense"))
    with trial.pool(build_graph(FINE)) as pool, pytest.raises(ConfigurationError, match="nonsense"):
        pool.submit([task])


def test_several_threads_can_each_use_a_pool(tmp_path: Path) -> None:
    done: list[int] = []

    def work(number: int) -> None:
        folder = tmp_path / str(number)
        folder.mkdir()
        done.append(len(compute_values(Trial(str(folder)), build_graph(FINE), 20, processes=1)))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == [20] * 3


SCRIPT = """
import json, os, sys
from segue.model.graph import parse_graph
from segue_support.trial import Trial
from segue.worker.pool import MAX_LOST_SUPERVISORS
from segue.worker.protocol import Task
folder, function, scratch = sys.argv[1:]
text = "jobs: {job: {run: '%s', needs: {media: source}, writes: application/json}}" % function
graph = parse_graph(text, path=folder + "/jobs.yaml")
trial = Trial(folder)
with trial.pool(graph, processes=2, scratch=scratch) as pool:
    pool.submit([Task(task_id=n, media=trial.add(f"bad-{n}"), run=("job",)) for n in range(2)])
    while pool.pending:
        for report in pool.collect(0.1):
            print(json.dumps([report.task_id, report.results[0].state]), flush=True)
        started = [int(n) for n in os.listdir(pool._config.folder) if n.isdecimal()]
        if len(started) == 2 or "slow" in function:
            processes = [pool._process.pid, *started]
            print(json.dumps(processes), file=sys.stderr, flush=True)
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


def test_output_of_jobs_does_not_go_to_standard_output(tmp_path: Path) -> None:
    with start_script(tmp_path, "segue_support.jobs:print_much") as script:
        out, err = script.communicate(timeout=60)
    assert script.returncode == 0, err
    assert sorted(out.split("\n")) == ["", '[0, "done"]', '[1, "done"]']
    for text in ("from print", "from the descriptor", "from a process"):
        assert err.count(text) == 2


def test_children_die_with_a_parent_that_is_killed_and_the_next_pool_removes_its_files(
    tmp_path: Path,
) -> None:
    with start_script(tmp_path, "segue_support.jobs:hang_with_processes") as script:
        assert script.stderr is not None
        processes = json.loads(script.stderr.readline())
        noted = tmp_path / "home" / "catalogue"
        assert wait_until(lambda: len([*noted.glob("*.processes")]) == 2)
        for path in noted.glob("*.processes"):
            processes += [int(p) for p in path.read_text().split()]
        script.kill()
    assert len(processes) == 7
    assert wait_until(lambda: not any(is_alive(p) for p in processes))
    [left] = (tmp_path / "scratch").iterdir()
    trial = Trial(str(tmp_path))
    with trial.pool(build_graph(FINE), scratch=str(tmp_path / "scratch")):  # type: ignore[arg-type]
        assert not left.exists()


def test_children_die_with_their_supervisor_even_if_nobody_replaces_it(tmp_path: Path) -> None:
    with start_script(tmp_path, "segue_support.jobs:hang") as script:
        assert script.stderr is not None
        supervisor, *children = json.loads(script.stderr.readline())
        assert len(children) == 2
        script.send_signal(signal.SIGSTOP)
        os.kill(supervisor, signal.SIGKILL)
        have_died = wait_until(lambda: not any(is_alive(p) for p in children))
        script.kill()
    assert have_died


def test_a_supervisor_that_is_still_importing_dies_with_its_parent(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with start_script(tmp_path, "slow_to_import:job") as script:
        Path(home, "slow_to_import.py").write_text(
            "import time\nfor _ in range(3600): time.sleep(1)\ndef job(media): ..."
        )
        assert script.stderr is not None
        [supervisor] = json.loads(script.stderr.readline())
        assert wait_until(lambda: is_alive(supervisor))
        script.kill()
    assert wait_until(lambda: not is_alive(supervisor))
