"""numba's cache is kept for later runs, and no two processes write the same files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile

import pytest

from segue.adapters.connect import connect_store
from segue.model.graph import parse_graph
from segue.model.record import State
from segue.worker import numba_cache
from segue.worker.pool import Pool
from segue.worker.protocol import Task

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


@pytest.fixture(autouse=True)
def cache_home(tmp_path, monkeypatch):
    """A user's cache of its own, and no cache folder from the environment."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(numba_cache.VARIABLE, raising=False)


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    """A graph whose module stays where it is: numba asks for the file that it has compiled."""
    folder = tmp_path_factory.mktemp("graph")
    (folder / "numba_job.py").write_text(MODULE)
    return parse_graph(GRAPH, path=str(folder / "jobs.yaml"))


def run(graph, folder, files: int = 1) -> list[dict]:
    """Run the job on new files in a new pool, and return its results."""
    store = connect_store(str(folder))
    with Pool(graph, f"file://{folder}/artifacts", processes=2) as pool:
        for number in range(files):
            name = f"{number}.wav"
            (folder / name).write_bytes(b"x")
            media = store.identify(name).to_media_file(store.uri(name))
            pool.submit([Task(task_id=number, media=media, run=("where",))])
        results = []
        while pool.pending:
            for report in pool.collect(5.0):
                for result in report.results:
                    assert result.state is State.DONE, result.error
                    with open(folder / "artifacts" / min(result.artifacts)) as file:
                        results.append(json.load(file))
    return results


@pytest.fixture(scope="module")
def compiled(graph, tmp_path_factory):
    """The results of a first run, and the archive that it left."""
    folder = tmp_path_factory.mktemp("compiled")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        environment.delenv(numba_cache.VARIABLE, raising=False)
        return run(graph, folder, files=40), numba_cache.locate_archive()


@pytest.fixture
def archive(compiled):
    """A copy of that archive in this test's cache."""
    path = numba_cache.locate_archive()
    os.makedirs(os.path.dirname(path))
    shutil.copy(compiled[1], path)
    return path


def test_every_child_compiles_into_a_folder_of_its_own(compiled):
    results, _ = compiled
    owners = {result["own"] for result in results}
    assert 1 <= len(owners) <= 2
    assert all(own.endswith(numba_cache.NAME) for own in owners)
    assert min(result["hits"] for result in results) == 0


def test_the_next_run_finds_what_a_run_compiled(graph, tmp_path, archive, compiled):
    (result,) = run(graph, tmp_path)
    assert result["hits"] == 1
    assert result["own"] not in {earlier["own"] for earlier in compiled[0]}


def test_a_damaged_archive_is_no_worse_than_none(tmp_path, archive):
    with open(archive, "r+b") as file:
        file.truncate(700)
    code = "import sys; from segue.worker import numba_cache as c; c.use_private_cache(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "process")], check=True)
    assert (tmp_path / "process" / numba_cache.NAME).is_dir()


def test_a_folder_from_the_environment_is_copied_and_never_written(
    graph, tmp_path, archive, monkeypatch
):
    baked = tmp_path / "baked"
    with tarfile.open(archive) as file:
        file.extractall(baked, filter="data")
    os.unlink(archive)
    before = sorted(str(p) for p in baked.rglob("*"))
    monkeypatch.setenv(numba_cache.VARIABLE, str(baked))
    (result,) = run(graph, tmp_path)
    assert result["hits"] == 1
    assert sorted(str(p) for p in baked.rglob("*")) == before
    assert not os.path.exists(archive)


def test_a_smaller_cache_does_not_replace_the_archive(tmp_path):
    for count in (3, 1):
        folder = tmp_path / str(count)
        folder.mkdir()
        for i in range(count):
            (folder / str(i)).write_text(str(count))
        numba_cache.save([str(folder)])
    with tarfile.open(numba_cache.locate_archive()) as archive:
        assert sum(m.isfile() for m in archive) == 3


def test_this_process_compiles_into_its_own_folder_even_after_numba_reads_its_settings_again():
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


def test_only_one_of_several_processes_compiles_ahead_for_a_graph(tmp_path):
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
