"""What numba compiles is kept for later runs, and no two processes write the same files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile

import pytest

from segue.model.graph import parse
from segue.model.media_file import MediaFile
from segue.model.record import State
from segue.worker import numba_cache as compiled
from segue.worker.pool import Pool
from segue.worker.task import Task

MODULE = '''
def where(media):
    """Say where this process keeps what it compiles, compile something, and say what was there."""
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
    monkeypatch.delenv(compiled.VARIABLE, raising=False)
    (tmp_path / "numba_job.py").write_text(MODULE)
    graph = parse(GRAPH, path=str(tmp_path / "jobs.yaml"))
    numbers = iter(range(100))

    def run(files: int = 1) -> list[dict]:
        number = next(numbers)
        media = []
        for i in range(files):
            path = tmp_path / f"{number}-{i}.wav"
            path.write_bytes(b"x")
            generation = path.stat().st_ctime_ns
            media.append(MediaFile(uri=f"file://{path}", generation=generation))
        told = []
        with Pool(graph, f"file://{tmp_path}/artifacts", processes=2) as pool:
            for ticket, one in enumerate(media):
                pool.submit([Task(ticket=ticket, media=one, run=("where",))])
            while pool.pending:
                for report in pool.collect(5.0):
                    for result in report.results:
                        assert result.state is State.DONE, result.error
                        with open(result.artifact.removeprefix("file://")) as file:
                            told.append(json.load(file))
        return told

    return run


def test_what_a_run_compiles_is_there_for_the_next(run):
    (first,) = run()
    assert first["hits"] == 0
    (second,) = run()
    assert second["hits"] == 1
    assert second["own"] != first["own"]


def test_every_child_has_a_folder_of_its_own(run):
    told = run(files=40)
    owners = {t["own"] for t in told}
    assert 1 <= len(owners) <= 2
    assert all(own.endswith(compiled.NAME) for own in owners)


def test_a_damaged_archive_is_no_worse_than_none(run):
    run()
    with open(compiled.archive_path(), "r+b") as file:
        file.truncate(700)
    (told,) = run()
    assert told["hits"] == 0


def test_a_folder_that_the_user_gives_is_copied_from_and_never_written(run, tmp_path, monkeypatch):
    run()
    baked = tmp_path / "baked"
    with tarfile.open(compiled.archive_path()) as archive:
        archive.extractall(baked, filter="data")
    os.unlink(compiled.archive_path())
    before = sorted(str(p) for p in baked.rglob("*"))
    monkeypatch.setenv(compiled.VARIABLE, str(baked))
    (told,) = run()
    assert told["hits"] == 1
    assert sorted(str(p) for p in baked.rglob("*")) == before
    assert not os.path.exists(compiled.archive_path())


def test_less_than_there_is_replaces_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for count in (3, 1):
        folder = tmp_path / str(count)
        folder.mkdir()
        for i in range(count):
            (folder / str(i)).write_text(str(count))
        compiled.leave([str(folder)])
    with tarfile.open(compiled.archive_path()) as archive:
        assert sum(m.isfile() for m in archive) == 3


def test_this_process_compiles_into_its_own_folder_even_after_numba_reads_its_settings_again(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(compiled.VARIABLE, raising=False)
    code = (
        "import os, numba\n"
        "from segue.worker import numba_cache as compiled\n"
        "with compiled.own_for_this_process() as own:\n"
        "    numba.njit(lambda x: x)(1)\n"
        "    assert numba.config.CACHE_DIR == own, numba.config.CACHE_DIR\n"
        "assert not os.path.exists(own)\n"
        "assert compiled.VARIABLE not in os.environ\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_a_graph_needs_is_compiled_ahead_by_one_process_of_several(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(compiled.VARIABLE, raising=False)
    (tmp_path / "ahead.py").write_text(
        MODULE + "\nPRELOAD = ('ahead:warm_up',)\n\ndef warm_up():\n"
        "    print(where(None)['hits'], flush=True)\n"
    )
    path = tmp_path / "jobs.yaml"
    path.write_text(GRAPH.replace("numba_job", "ahead"))
    fill = [sys.executable, "-m", "segue.worker.numba_cache", str(path)]
    both = [subprocess.Popen(fill, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert sorted(p.communicate()[0].strip() for p in both) == ["0", "1"]
    assert [p.returncode for p in both] == [0, 0]
