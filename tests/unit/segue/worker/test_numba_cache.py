"""numba's cache is kept for later runs, and no two processes write the same files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile

import pytest

from segue.model.graph import parse_graph
from segue.model.media_file import MediaFile
from segue.model.record import State
from segue.worker import numba_cache
from segue.worker.pool import Pool
from segue.worker.task import Task

pytestmark = pytest.mark.slow

MODULE = '''
def where(media):
    """Compile a function; return the cache folder of this process, and how often it hit."""
    import numba

    @numba.njit(cache=True)
    def double(x):
        return 2 * x

    assert double(21) == 42
    hits = sum(double.stats.cache_hits.values())
    return {"own": numba.config.CACHE_DIR, "hits": hits}
'''
GRAPH = 'jobs: {where: {run: "numba_job:where", needs: {media: source}, writes: application/json}}'


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(numba_cache.VARIABLE, raising=False)
    (tmp_path / "numba_job.py").write_text(MODULE)
    graph = parse_graph(GRAPH, path=str(tmp_path / "jobs.yaml"))
    numbers = iter(range(100))

    def run(files: int = 1) -> list[dict]:
        number = next(numbers)
        media = []
        for i in range(files):
            path = tmp_path / f"{number}-{i}.wav"
            path.write_bytes(b"x")
            generation = path.stat().st_ctime_ns
            media.append(MediaFile(uri=f"file://{path}", generation=generation))
        results = []
        with Pool(graph, f"file://{tmp_path}/artifacts", processes=2) as pool:
            for task_id, one in enumerate(media):
                pool.submit([Task(task_id=task_id, media=one, run=("where",))])
            while pool.pending:
                for report in pool.collect(5.0):
                    for result in report.results:
                        assert result.state is State.DONE, result.error
                        with open(result.artifact.removeprefix("file://")) as file:
                            results.append(json.load(file))
        return results

    return run


def test_the_next_run_finds_what_a_run_compiled(run):
    (first,) = run()
    assert first["hits"] == 0
    (second,) = run()
    assert second["hits"] == 1
    assert second["own"] != first["own"]


def test_every_child_has_a_folder_of_its_own(run):
    results = run(files=40)
    owners = {t["own"] for t in results}
    assert 1 <= len(owners) <= 2
    assert all(own.endswith(numba_cache.NAME) for own in owners)


def test_a_damaged_archive_is_no_worse_than_none(run):
    run()
    with open(numba_cache.locate_archive(), "r+b") as file:
        file.truncate(700)
    (results,) = run()
    assert results["hits"] == 0


def test_a_folder_from_the_environment_is_copied_and_never_written(run, tmp_path, monkeypatch):
    run()
    baked = tmp_path / "baked"
    with tarfile.open(numba_cache.locate_archive()) as archive:
        archive.extractall(baked, filter="data")
    os.unlink(numba_cache.locate_archive())
    before = sorted(str(p) for p in baked.rglob("*"))
    monkeypatch.setenv(numba_cache.VARIABLE, str(baked))
    (results,) = run()
    assert results["hits"] == 1
    assert sorted(str(p) for p in baked.rglob("*")) == before
    assert not os.path.exists(numba_cache.locate_archive())


def test_a_smaller_cache_does_not_replace_the_archive(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for count in (3, 1):
        folder = tmp_path / str(count)
        folder.mkdir()
        for i in range(count):
            (folder / str(i)).write_text(str(count))
        numba_cache.save([str(folder)])
    with tarfile.open(numba_cache.locate_archive()) as archive:
        assert sum(m.isfile() for m in archive) == 3


def test_this_process_compiles_into_its_own_folder_even_after_numba_reads_its_settings_again(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(numba_cache.VARIABLE, raising=False)
    code = (
        "import os, numba\n"
        "from segue.worker import numba_cache\n"
        "with numba_cache.use_temporary_cache() as own:\n"
        "    numba.njit(lambda x: x)(1)\n"
        "    assert numba.config.CACHE_DIR == own, numba.config.CACHE_DIR\n"
        "assert not os.path.exists(own)\n"
        "assert numba_cache.VARIABLE not in os.environ\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_only_one_of_several_processes_compiles_ahead_for_a_graph(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(numba_cache.VARIABLE, raising=False)
    (tmp_path / "ahead.py").write_text(
        MODULE + "\nPRELOAD = ('ahead:warm_up',)\n\ndef warm_up():\n"
        "    print(where(None)['hits'], flush=True)\n"
    )
    path = tmp_path / "jobs.yaml"
    path.write_text(GRAPH.replace("numba_job", "ahead"))
    command = [sys.executable, "-m", "segue.worker.numba_cache", str(path)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert sorted(p.communicate()[0].strip() for p in both) == ["0", "1"]
    assert [p.returncode for p in both] == [0, 0]
