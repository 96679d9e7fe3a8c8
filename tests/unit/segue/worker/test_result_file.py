"""What jobs return in place of a value: nothing, tables, and files, in real child processes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from segue.codec import decode
from segue.errors import Kind
from segue.model.graph import parse_graph
from segue.model.record import State
from segue.model.transitions import Result
from segue.worker.protocol import Task
from segue_support.trial import Trial, run_tasks

JOBS = """
from __future__ import annotations
import gzip, io, os, pathlib, tempfile
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from nowhere import Answer

def nothing(media): pass
def says_none(media) -> dict[str, float | None]: return None
def optional(media) -> dict | None: return None
def unknown(media) -> Answer | None: return None
class One:
    def __call__(self, media) -> float | None: return None
class Many:
    def batch(self, inputs) -> list[dict | None]: return [None for _ in inputs]
class ManyNothing:
    def batch(self, inputs): return [None for _ in inputs]

def _write(data=b"data", folder=None, suffix=""):
    number, name = tempfile.mkstemp(dir=folder, suffix=suffix)
    os.write(number, data)
    os.close(number)
    return pathlib.Path(name)

def path(media): return _write()
def value(media): return _write()
def folder_path(media): return _write(folder=tempfile.mkdtemp())
def named(media):
    file = tempfile.NamedTemporaryFile()
    file.write(b"data")
    return file
def unnamed(media):
    file = tempfile.TemporaryFile()
    file.write(b"data")
    return file
def spooled(media):
    file = tempfile.SpooledTemporaryFile()
    file.write(b"data")
    return file
def reader(media): return open(_write(), "rb")
def closed(media):
    with open(_write(), "ab") as file:
        return file
def buffer(media):
    file = io.BytesIO()
    file.write(b"data")
    return file
def source(media): return pathlib.Path(media.path)
def source_file(media): return open(media.path, "rb")
def two(media): return {"left": _write(b"left"), "right": _write(b"right")}

def outside(media): return pathlib.Path("/etc/passwd")
def outside_file(media): return open("/etc/passwd", "rb")
def link(media):
    name = os.path.join(tempfile.mkdtemp(), "result")
    os.symlink("/etc/passwd", name)
    return pathlib.Path(name)
def dots(media): return pathlib.Path(tempfile.gettempdir(), *[".."] * 20, "etc/passwd")
def disguised(media):
    file = open("/etc/passwd", "rb", buffering=0)
    os.dup2(file.fileno(), 200)
    return os.fdopen(200, "rb")
def swapped(media):
    name = _write()
    file = open(name, "rb")
    os.link(name, f"{name}.kept")
    os.replace(_write(b"other"), name)
    return file
def hard_link(media):
    folder = os.path.dirname(os.path.dirname(tempfile.gettempdir()))
    outside = _write(b"outside", folder=folder)
    name = os.path.join(tempfile.mkdtemp(), "result")
    os.link(outside, name)
    return pathlib.Path(name)
def gone(media): return pathlib.Path(tempfile.gettempdir(), "gone")
def folder(media): return pathlib.Path(tempfile.mkdtemp())
def pipe(media):
    name = os.path.join(tempfile.mkdtemp(), "pipe")
    os.mkfifo(name)
    return pathlib.Path(name)
def text(media): return open(_write(), "r")
def named_text(media): return tempfile.NamedTemporaryFile("w")
def packed(media):
    file = gzip.open(_write(), "wb")
    file.write(b"data")
    return file
def closed_buffer(media):
    with io.BytesIO(b"data") as file:
        return file
def null(media): return pathlib.Path("result\\0.bin")
def unreadable(media):
    name = _write()
    file = open(name, "wb", buffering=0)
    name.unlink()
    return file
def relative(media): return pathlib.Path("result.bin")
def huge(media):
    name = _write()
    os.truncate(name, 2**32)
    return name
def no_picture(media): return _write(b"no picture", suffix=".png")
def list_files(media):
    folder = tempfile.gettempdir()
    return [os.path.join(p, f) for p, _, files in os.walk(folder) for f in files]
"""
JSON, BYTES = "application/json", "application/octet-stream"
NOTHING = ("nothing", "says_none", "ManyNothing")
NULL = ("optional", "unknown", "One", "Many")
FILES = ("path", "folder_path", "named", "unnamed", "spooled", "reader", "closed", "buffer")
ENDS = {
    "outside": r"'/etc/passwd', which is neither in the job's temporary folder nor its input: wr",
    "outside_file": r"'/etc/passwd', which is neither",
    "link": r"result', which is neither",
    "dots": r"which is neither",
    "disguised": r"which is no file: write results below tempfile.gettempdir\(\)",
    "swapped": r"is not at its path any more",
    "hard_link": r"result', a file that has another name elsewhere, too: return a copy of it",
    "gone": r"gone', which cannot be read \(No such file or directory\)",
    "folder": r"which is a folder: return a file",
    "pipe": r"which is no regular file",
    "text": r"opened as text: open it with 'b'",
    "named_text": r"opened as text: open it with 'b'",
    "packed": r"GzipFile .*has no bytes that are those of a file: close it and return its path",
    "closed_buffer": r"has no bytes that are those of a file",
    "null": r"which is no path: write results below",
    "unreadable": r"'a file without a name', opened for writing only: open it with 'w\+b'",
    "relative": r"'result.bin', which is neither",
}
WRITES = {
    **dict.fromkeys((*NOTHING, *NULL, "value", "list_files"), JSON),
    **dict.fromkeys((*FILES, *ENDS, "source", "source_file", "huge"), BYTES),
    "no_picture": "image/png",
    "two": f"{{left: {BYTES}, right: {BYTES}}}",
}


class Run:
    """One process that runs all jobs of the module, each on the same file."""

    def __init__(self, folder: Path) -> None:
        (folder / "result_jobs.py").write_text(JOBS)
        self.trial = Trial(str(folder))
        self.media = self.trial.add("a.wav", b"the source")
        shared = "needs: {media: source}, resources: {memory_gib: 0.5}"
        jobs = [
            f"  job_{name.lower()}: {{run: 'result_jobs:{name}', writes: {writes}, {shared}}}"
            for name, writes in WRITES.items()
        ]
        graph = parse_graph("\n".join(["jobs:", *jobs]), path=str(folder / "jobs.yaml"))
        self.pool = self.trial.pool(graph, processes=1)
        self.count = 0

    def __call__(self, name: str) -> tuple[Result, list[str]]:
        """Return the result of a job, and the temporary files that it has left."""
        before = self._list_files()
        result = self._run(f"job_{name.lower()}")
        assert Path(self.trial.catalogue, "a.wav").read_bytes() == b"the source"
        return result, sorted(self._list_files() - before)

    def _list_files(self) -> set[str]:
        return set(decode(JSON, self.trial.read(self._run("job_list_files"))))

    def _run(self, job: str) -> Result:
        self.count += 1
        [found] = run_tasks(self.pool, [Task(task_id=self.count, media=self.media, run=(job,))])
        return found[job]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    found = Run(tmp_path_factory.mktemp("results"))
    with found.pool:
        yield found


@pytest.mark.parametrize("name", NOTHING)
def test_a_job_that_returns_nothing_fails_and_is_told_how_to_return_null(run, name):
    result, _ = run(name)
    assert (result.state, result.error.kind) == (State.FAILED, Kind.BAD_OUTPUT)
    assert result.error.message == (
        "the job returned nothing: return a value; annotate the return type with '| None', as in "
        "'-> dict | None', if null is a result"
    )


@pytest.mark.parametrize("name", NULL)
def test_a_job_that_is_annotated_so_may_return_null(run, name):
    result, _ = run(name)
    assert run.trial.read(result) == b"null"


@pytest.mark.parametrize("name", FILES)
def test_a_file_becomes_an_artifact_of_its_bytes_and_is_removed(run, name):
    result, left = run(name)
    assert result.error is None
    assert run.trial.read(result) == b"data"
    assert left == []


@pytest.mark.parametrize("name", ["source", "source_file"])
def test_the_input_may_be_the_result_and_is_not_removed(run, name):
    result, _ = run(name)
    assert run.trial.read(result) == b"the source"


def test_each_output_may_be_a_file(run):
    result, left = run("two")
    assert result.error is None
    assert [name.rpartition(".")[0].rpartition(".")[2] for name in result.artifacts] == [
        "left",
        "right",
    ]
    assert left == []


@pytest.mark.parametrize(("name", "message"), ENDS.items())
def test_no_other_file_becomes_an_artifact(run, name, message):
    result, _ = run(name)
    assert (result.state, result.error.kind) == (State.FAILED, Kind.BAD_OUTPUT)
    assert result.artifacts == {}
    assert re.search(message, result.error.message)


def test_a_file_that_does_not_fit_into_the_jobs_memory_is_not_read(run):
    result, left = run("huge")
    assert (result.state, result.error.kind) == (State.FAILED, Kind.TOO_LARGE)
    assert "of 4,294,967,296 bytes needs up to 4.00 GiB of memory" in result.error.message
    assert left == []


def test_bytes_of_a_file_are_checked_like_others(run):
    result, left = run("no_picture")
    assert "bytes that are not a PNG image" in result.error.message
    assert left == []


def test_a_file_is_no_value_of_other_content_types(run):
    result, _ = run("value")
    assert result.error.kind == Kind.BAD_OUTPUT
    assert "application/json holds values, and a file only application/octet-" in (
        result.error.message
    )
