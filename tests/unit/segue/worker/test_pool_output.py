"""What jobs print and report comes out of a real pool, whatever becomes of their processes."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest

from segue.errors import ConfigurationError, Kind
from segue.model.graph import Graph, parse_graph
from segue.model.record import State
from segue.worker import pool as pools
from segue.worker.job_output import LAST_LINES, MAX_LINES
from segue.worker.pool import Pool
from segue.worker.protocol import Line, Task
from segue.worker.running_job import RunningJob, read_running_jobs
from segue_support.trial import Trial, run_tasks

pytestmark = pytest.mark.slow

CODE = """
import ctypes, logging, os, signal, subprocess, sys, threading, time
import segue

def every_way(media):
    print("from print")
    sys.stdout.write("written ")
    sys.stdout.write("in parts\\n")
    sys.stderr.write("to stderr\\n")
    logging.getLogger("job").warning("from logging")
    os.write(1, b"from the descriptor\\n")
    os.write(2, b"not \\xff text \\x1b[31m\\n")
    ctypes.CDLL(None).puts(b"from C")
    subprocess.run(["echo", "from a process"], check=True)
    print("without an end", end="")
    return {}

def quiet(media):
    return {}

def name(media):
    print(media.uri)
    return {}

def dies(media):
    print("the last")
    print("words", end="")
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGSEGV)

def hangs(media):
    print("it hangs now")
    while True:
        segue.progress(0.5, "hanging")
        time.sleep(0.01)

def prints_a_gigabyte(media):
    block = b"a line that is 32 bytes long....\\n" * 32768
    for _ in range(1000):
        os.write(1, block)
    print("all is printed")
    return {}

def leaves_a_process(media):
    os.write(1, b"before\\n")
    subprocess.Popen("sleep 3600; echo never", shell=True, start_new_session=True)
    os._exit(5)

def closes_all(media):
    print("it closes all")
    os.closerange(0, 256)
    return {}

def reports(media):
    segue.progress(0.25, "in the \\x1b[31mred")
    while not os.path.exists(media.uri.removeprefix("file://") + ".go"):
        time.sleep(0.01)
    return {}

def calls_often(media):
    until = time.monotonic() + 0.6
    n = 0
    while time.monotonic() < until:
        for _ in range(1000):
            n += 1
            segue.progress(n % 1000 / 1000, f"{n}")
    return {"calls": n}

def import_loudly():
    print("at import")
    print("partly ", end="")
    ctypes.CDLL(None).printf(b"from C, without an end")

if "import_loudly" in __name__:
    import_loudly()

if "import_fatally" in __name__:
    print("before")
    os.kill(os.getpid(), signal.SIGSEGV)

class Model:
    batch_size = 8
    def __init__(self):
        pass
    def setup(self):
        print("loading")
    def __call__(self, media):
        return self.batch([{"media": media}])[0]
    def batch(self, inputs):
        print("called with", len(inputs))
        return [{} for _ in inputs]

class Uneven(Model):
    def batch(self, inputs):
        if len(inputs) > 1:
            raise ValueError("lengths differ")
        return [{}]

class Short(Model):
    def batch(self, inputs):
        return [{}]

class Broken:
    def __init__(self):
        pass
    def setup(self):
        print("no weights here")
        raise RuntimeError("no weights")
    def __call__(self, media):
        return {}
"""


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    return Trial(str(tmp_path))


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str]]:
    """The lines that pools of this process show: job, name of the file (or how many), text."""
    found: list[tuple[str, str, str]] = []

    def show(line: Line) -> None:
        name = line.uri.rpartition("/")[2] if line.files <= 1 else f"{line.files} files"
        found.append((line.job, name, line.text))

    monkeypatch.setattr(pools, "show_line", show)
    return found


def build_graph(folder: Path, *jobs: str, extra: str = "") -> Graph:
    module = f"prints_{folder.name.replace('-', '_')}"
    (folder / f"{module}.py").write_text(CODE)
    lines = [
        f"  {job.lower()}: {{run: '{module}:{job}', needs: {{media: source}}, "
        f"writes: application/json{extra}}}\n"
        for job in jobs
    ]
    return parse_graph("jobs:\n" + "".join(lines), path=str(folder / "jobs.yaml"))


def watch(pool: Pool, until: str) -> list[tuple[RunningJob, ...]]:
    """Collect until a job has reported a text; return what ran, each time that it has changed."""
    seen: list[tuple[RunningJob, ...]] = [()]
    end_s = time.monotonic() + 60
    while not any(until in job.text for job in seen[-1]):
        assert time.monotonic() < end_s
        pool.collect(0.05)
        if pool.running != seen[-1]:
            seen.append(pool.running)
    return seen


def test_each_line_has_the_label_of_its_job_however_it_was_printed(
    trial: Trial, tmp_path: Path, printed: list[tuple[str, str, str]]
) -> None:
    graph = build_graph(tmp_path, "every_way", "quiet", "name")
    trial.run(graph, [trial.add("a.wav"), trial.add("b.wav")], processes=2)
    for name in ("a.wav", "b.wav"):
        texts = [text for job, file, text in printed if (job, file) == ("every_way", name)]
        assert texts == [
            *("from print", "written in parts", "to stderr", "from logging"),
            *("from the descriptor", "not \\xff text \\x1b[31m", "from C", "from a process"),
            "without an end",
        ]
        [(_, _, uri)] = [line for line in printed if line[:2] == ("name", name)]
        assert uri.endswith(name)
    assert len(printed) == 2 * 10


def test_no_line_gets_the_label_of_another_file(
    trial: Trial, tmp_path: Path, printed: list[tuple[str, str, str]]
) -> None:
    files = [trial.add(f"{n}.wav") for n in range(200)]
    trial.run(build_graph(tmp_path, "quiet", "name"), files, processes=2)
    assert len(printed) == len(files)
    assert all(job == "name" and uri.endswith(f"/{file}") for job, file, uri in printed)


def test_a_job_that_dies_leaves_its_last_words_and_where_it_died(
    trial: Trial, tmp_path: Path, printed: list[tuple[str, str, str]]
) -> None:
    [result] = trial.run(build_graph(tmp_path, "dies"), [trial.add("a.wav")])
    assert result["dies"].error is not None
    assert result["dies"].error.kind == Kind.CRASHED
    assert {line[:2] for line in printed} == {("dies", "a.wav")}
    texts = [text for _, _, text in printed]
    assert texts[0] == "the last"
    assert texts[1] == "wordsFatal Python error: Segmentation fault"
    assert any(text.endswith(" in dies") for text in texts)


def test_progress_gives_a_job_no_more_time(
    trial: Trial, tmp_path: Path, printed: list[tuple[str, str, str]]
) -> None:
    graph = build_graph(tmp_path, "hangs", extra=", timeout_s: 1")
    [result] = trial.run(graph, [trial.add("a.wav")])
    assert result["hangs"].error is not None
    assert result["hangs"].error.kind == Kind.TIMEOUT
    assert printed == [("hangs", "a.wav", "it hangs now")]


def test_of_a_gigabyte_the_first_and_the_last_lines_are_shown(
    trial: Trial, tmp_path: Path, printed: list[tuple[str, str, str]]
) -> None:
    # It prints for longer than a window on a slow machine, after which a few more are shown.
    graph = build_graph(tmp_path, "prints_a_gigabyte", "quiet", extra=", timeout_s: 300")
    [result] = trial.run(graph, [trial.add("a.wav")])
    assert {r.state for r in result.values()} == {State.DONE}
    count = Counter(text for _, _, text in printed)
    assert printed[-1] == ("prints_a_gigabyte", "a.wav", "all is printed")
    assert MAX_LINES + LAST_LINES - 1 <= count["a line that is 32 bytes long...."] < 50 * MAX_LINES
    assert any("lines are left out here" in text for text in count)


def test_a_process_that_keeps_the_output_open_holds_up_nothing(
    trial: Trial, tmp_path: Path, printed: list[tuple[str, str, str]]
) -> None:
    [result] = trial.run(build_graph(tmp_path, "leaves_a_process"), [trial.add("a.wav")])
    assert result["leaves_a_process"].error is not None
    assert "exited" in result["leaves_a_process"].error.message
    assert printed == [("leaves_a_process", "a.wav", "before")]


def test_a_job_that_closes_its_output_harms_only_itself(
    trial: Trial, tmp_path: Path, printed: list[tuple[str, str, str]]
) -> None:
    graph = build_graph(tmp_path, "closes_all", "name")
    results = trial.run(graph, [trial.add("a.wav")], run=["closes_all"])
    results += trial.run(graph, [trial.add("b.wav")], run=["name"])
    assert ("closes_all", "a.wav", "it closes all") in printed
    assert results[1]["name"].state is State.DONE


def test_a_batch_is_labelled_with_its_number_of_files(
    trial: Trial, tmp_path: Path, printed: list[tuple[str, str, str]]
) -> None:
    graph = build_graph(tmp_path, "Model")
    files = [trial.add(f"{n}.wav") for n in range(33)]
    tasks = [Task(task_id=n, media=file, run=("model",)) for n, file in enumerate(files)]
    with trial.pool(graph, processes=1) as pool:
        run_tasks(pool, tasks[:1])
        run_tasks(pool, tasks[1:])
    assert printed[0] == ("model", "", "loading")
    assert printed[1] == ("model", "0.wav", "called with 1")
    assert ("model", "8 files", "called with 8") in printed


@pytest.mark.parametrize(
    ("job", "reason"),
    [
        ("Uneven", "ValueError: lengths differ"),
        ("Short", "batch() did not return one value per file"),
    ],
)
def test_a_batch_that_fails_says_why_its_files_run_alone(
    trial: Trial, tmp_path: Path, printed: list[tuple[str, str, str]], job: str, reason: str
) -> None:
    graph = build_graph(tmp_path, job)
    tasks = [Task(task_id=n, media=trial.add(f"{n}.wav"), run=(job.lower(),)) for n in range(8)]
    with trial.pool(graph, processes=1) as pool:
        results = run_tasks(pool, tasks)
    assert {r.state for found in results for r in found.values()} == {State.DONE}
    text = f"segue: each of 8 files runs alone, as {reason}"
    assert [line for line in printed if line[2].startswith("segue")] == [
        (job.lower(), "8 files", text)
    ]


def test_what_a_module_prints_when_it_is_imported_is_shown_once(
    trial: Trial, tmp_path: Path, printed: list[tuple[str, str, str]]
) -> None:
    folder = tmp_path / "import_loudly"
    folder.mkdir()
    files = [trial.add("a.wav"), trial.add("b.wav")]
    trial.run(build_graph(folder, "quiet"), files, processes=2)
    assert printed == [("", "", "at import"), ("", "", "partly from C, without an end")]


def test_an_import_that_crashes_leaves_its_last_words(
    trial: Trial, tmp_path: Path, printed: list[tuple[str, str, str]]
) -> None:
    folder = tmp_path / "import_fatally"
    folder.mkdir()
    with pytest.raises(ConfigurationError, match="see what it has printed"):
        trial.run(build_graph(folder, "quiet"), [trial.add("a.wav")])
    texts = [text for _, _, text in printed]
    assert texts[:2] == ["before", "Fatal Python error: Segmentation fault"]
    assert any("import_fatally.py" in text for text in texts)


def test_what_a_setup_prints_is_shown_before_its_error(
    trial: Trial, tmp_path: Path, printed: list[tuple[str, str, str]]
) -> None:
    with pytest.raises(ConfigurationError, match="no weights"):
        trial.run(build_graph(tmp_path, "Broken"), [trial.add("a.wav")])
    assert ("broken", "", "no weights here") in printed


def test_the_pool_knows_what_runs_and_how_far_it_is(trial: Trial, tmp_path: Path) -> None:
    folder = tmp_path / "shown"
    media = trial.add("a.wav")
    with trial.pool(build_graph(tmp_path, "reports"), show_in=[str(folder)]) as pool:
        pool.submit([Task(task_id=1, media=media, run=("reports",))])
        [running] = watch(pool, until="red")[-1]
        assert (running.job, running.uris) == ("reports", (media.uri,))
        assert (running.fraction, running.text) == (0.25, "in the \\x1b[31mred")
        assert read_running_jobs([str(folder)]) == [running]
        Path(media.uri.removeprefix("file://") + ".go").touch()
        while pool.pending:
            pool.collect(60)
        # Nobody collects any more, and yet nobody sees a job that has ended.
        assert pool.running == ()
        assert not folder.exists()


def test_a_killed_supervisor_leaves_nothing_running(trial: Trial, tmp_path: Path) -> None:
    folder = tmp_path / "shown"
    media = trial.add("a.wav")
    with trial.pool(build_graph(tmp_path, "reports"), show_in=[str(folder)]) as pool:
        pool.submit([Task(task_id=1, media=media, run=("reports",))])
        watch(pool, until="red")
        pool._process.kill()
        Path(media.uri.removeprefix("file://") + ".go").touch()
        while pool.pending:
            pool.collect(60)
        assert pool.running == ()


def test_a_pool_that_is_killed_removes_its_file(trial: Trial, tmp_path: Path) -> None:
    folder = tmp_path / "shown"
    with trial.pool(build_graph(tmp_path, "reports"), show_in=[str(folder)]) as pool:
        pool.submit([Task(task_id=1, media=trial.add("a.wav"), run=("reports",))])
        watch(pool, until="red")
        assert folder.exists()
        pool.kill()
    assert pool.running == ()
    assert not folder.exists()


def test_a_hot_loop_may_report_as_often_as_it_likes(trial: Trial, tmp_path: Path) -> None:
    [result] = trial.run(build_graph(tmp_path, "calls_often"), [trial.add("a.wav")])
    assert result["calls_often"].state is State.DONE
