"""A file in a folder is its content: the same bytes are computed once, and other bytes always.

Whatever is done to times, links, permissions and folders, with backfills and with ``segue up``.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from segue.adapters.connect import connect_ledger, connect_store
from segue.model.graph import read_graph
from segue.model.ledger import Query
from segue.model.outcome import RunTotals, Status
from segue.model.record import Record
from segue.model.settings import Settings
from segue.model.transitions import find_current
from segue_pipelines.backfill import build_run, execute
from segue_pipelines.options import parse_pipeline_options

SEGUE = os.path.join(os.path.dirname(sys.executable), "segue")
PATIENCE_S = 60.0
GRAPH = """
catalogue: music
artifacts: artifacts
include: ["*.wav"]
jobs:
  said: {run: "noted_jobs:said", needs: {media: source}, writes: application/json}
  again: {run: "noted_jobs:again", needs: {x: said}, writes: application/json}
"""
JOBS = """
def note(job, text):
    with open(RUNS, "a") as file:
        file.write(f"{job} {text}\\n")

def said(media):
    text = open(media.path).read()
    note("said", text)
    return text

def again(x):
    note("again", x)
    return x
"""
WITHOUT_ROOT = [
    *("setpriv", "--bounding-set=-dac_override,-dac_read_search"),
    "--inh-caps=-dac_override,-dac_read_search",
]


class Place:
    """A project with a folder of music, and what was computed of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.music = folder / "music"
        self.runs = folder / "runs"
        self.runs.touch()
        (folder / "jobs.yaml").write_text(GRAPH)
        (folder / "noted_jobs.py").write_text(f"RUNS = {str(self.runs)!r}\n{JOBS}")
        self.graph = read_graph(str(folder / "jobs.yaml"), {})
        self.settings = Settings(ledger=f"sqlite:///{folder}/.segue/ledger.db")
        for name in ("album/a.wav", "album/b.wav", "c.wav"):
            self.write(name, name)

    def write(self, name: str, text: str) -> None:
        path = self.folder / "music" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def backfill(self, **options) -> RunTotals:
        run = build_run(
            self.graph, self.settings, None, prefix=str(self.music), processes=1, **options
        )
        return execute(run, parse_pipeline_options())

    def count_runs(self) -> int:
        return len(self.runs.read_text().splitlines())

    def records(self) -> dict[str, Record]:
        ledger = connect_ledger(self.settings.ledger)
        found = {r.uri.partition("/music/")[2]: r for r in ledger.find(Query())}
        ledger.close()
        return found

    def results(self, job: str = "again") -> dict[str, str | None]:
        """Return what counts as a job's result for each file that is recorded."""
        store = connect_store(str(self.folder / "artifacts"))
        found: dict[str, str | None] = {}
        for name, record in self.records().items():
            if record.deleted_at is not None:
                continue
            fingerprint = find_current(self.graph, record, job)
            artifacts = record.name_artifacts(fingerprint) if fingerprint else []
            found[name] = json.loads(store.read(artifacts[0])) if artifacts else None
        return found

    def contents(self) -> dict[str, str]:
        return {str(p.relative_to(self.music)): p.read_text() for p in self.music.rglob("*.wav")}


@pytest.fixture
def place(tmp_path, monkeypatch) -> Place:
    for name in list(os.environ):
        if name.startswith("SEGUE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return Place(tmp_path)


def copy_over(music: Path) -> None:
    shutil.copy2(music / "c.wav", music / "copy")
    os.rename(music / "copy", music / "c.wav")


def move_away_and_back(music: Path) -> None:
    os.rename(music / "album", music.parent / "away")
    os.rename(music.parent / "away", music / "album")


def restore_from_a_backup(music: Path) -> None:
    shutil.copytree(music, music.parent / "backup")
    shutil.rmtree(music)
    os.rename(music.parent / "backup", music)


CHANGES_OF_NO_BYTE = {
    "chmod": lambda music: os.chmod(music / "c.wav", 0o600),
    "hard link": lambda music: os.link(music / "c.wav", music.parent / "link.wav"),
    "touch": lambda music: os.utime(music / "c.wav"),
    "the same bytes copied over": copy_over,
    "a folder moved away and back": move_away_and_back,
    "all files restored from a backup": restore_from_a_backup,
}


def test_what_changes_no_byte_computes_nothing(place):
    assert place.backfill().jobs["again"] == {Status.DONE: 3}
    assert place.count_runs() == 6
    before = {name: (r.version, r.order, r.results) for name, r in place.records().items()}
    for what, change in CHANGES_OF_NO_BYTE.items():
        change(place.music)
        assert place.backfill().jobs["again"] == {Status.CURRENT: 3}, what
        after = {name: (r.version, r.order, r.results) for name, r in place.records().items()}
        assert after == before, what
    assert place.count_runs() == 6


def test_other_bytes_are_computed_and_earlier_ones_are_remembered(place):
    shutil.copytree(place.music / "album", place.folder / "newer")
    (place.folder / "newer/a.wav").write_text("new a")
    place.backfill()
    swaps = [("older", "newer"), ("newer", "older"), ("older", "newer")]
    for number, (out, come) in enumerate(swaps):  # with files whose change times are older
        os.rename(place.music / "album", place.folder / out)
        os.rename(place.folder / come, place.music / "album")
        statuses = place.backfill().jobs["again"]
        assert statuses == ({Status.DONE: 1, Status.CURRENT: 2} if number == 0 else {"current": 3})
        assert place.results() == place.contents()
    assert place.count_runs() == 8
    assert place.records()["album/a.wav"].order == 4
    assert place.records()["album/b.wav"].order == 1


def test_what_is_changed_in_place_with_its_times_restored_is_computed(place):
    place.backfill()
    path = place.music / "c.wav"
    times, size = path.stat(), path.stat().st_size
    path.write_text("x" * size)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert place.backfill().jobs["again"] == {Status.DONE: 1, Status.CURRENT: 2}
    assert place.results() == place.contents()


def test_a_dry_run_says_the_same_and_writes_nothing(place):
    assert place.backfill(dry_run=True).jobs["again"] == {Status.TODO: 3}
    assert not (place.folder / ".segue/ledger.db").exists()
    place.backfill()
    before = place.records()
    place.write("c.wav", "other")
    os.utime(place.music / "album/a.wav")
    assert place.backfill(dry_run=True).jobs["again"] == {Status.TODO: 1, Status.CURRENT: 2}
    assert place.records() == before


def test_a_backfill_from_the_ledger_looks_at_the_files(place):
    place.backfill()
    (place.music / "c.wav").unlink()
    place.write("album/a.wav", "other")
    totals = place.backfill(from_ledger="all")
    assert totals.jobs["again"] == {Status.DONE: 1, Status.CURRENT: 1, Status.DELETED: 1}
    assert place.results() == place.contents()


def test_what_cannot_be_read_is_left_out_by_name_and_nothing_is_deleted(place):
    place.backfill()
    place.write("album/b.wav", "other")
    (place.music / "locked").mkdir()
    place.write("locked/d.wav", "d")
    (place.music / "album/a.wav").chmod(0)
    (place.music / "locked").chmod(0)
    prefix = WITHOUT_ROOT if os.geteuid() == 0 else []
    if prefix and subprocess.run([*prefix, "true"], check=False).returncode != 0:
        pytest.skip("root can read everything here")

    def segue(*arguments: str) -> tuple[int, dict]:
        done = subprocess.run(
            [*prefix, SEGUE, *arguments, "--json"],
            cwd=place.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, json.loads(done.stdout)

    code, report = segue("backfill", "--all")
    assert (code, report["left_out"]) == (3, {"unreadable": 2})
    names = [name.partition("/music/")[2] for name in report["left_out_names"]["unreadable"]]
    assert names == ["album/a.wav", "locked/"]
    assert report["jobs"]["again"]["statuses"] == {"done": 1, "current": 1}
    code, report = segue("reconcile", "--apply", "--yes")
    assert report["left_out"] == {"unreadable": 2}
    assert all(record.deleted_at is None for record in place.records().values())
    for path in (place.music / "album/a.wav", place.music / "locked"):
        path.chmod(0o700)
    assert place.backfill().jobs["again"] == {Status.DONE: 1, Status.CURRENT: 3}
    assert place.results() == place.contents()


def test_files_that_come_back_after_a_reconciliation_are_current(place):
    place.backfill()
    os.rename(place.music / "album", place.folder / "away")
    command = [SEGUE, "reconcile", "--apply", "--yes", "--json"]
    for _ in range(2):
        subprocess.run(command, cwd=place.folder, capture_output=True, check=True)
        if (place.folder / "away").exists():
            assert set(place.results()) == {"c.wav"}
            os.rename(place.folder / "away", place.music / "album")
    assert place.results() == place.contents()
    assert place.backfill().jobs["again"] == {Status.CURRENT: 3}
    assert place.count_runs() == 6


def test_segue_up_computes_other_bytes_once_and_the_same_never(place):
    up = subprocess.Popen(
        [SEGUE, "up", "--json", "--processes", "1"],
        cwd=place.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def wait_until_current() -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not is_current():
            assert time.monotonic() < deadline, (place.results(), place.contents())
            time.sleep(0.2)

    def is_current() -> bool:
        if not (place.folder / ".segue/ledger.db").exists():
            return False
        stats = {name: r.stat for name, r in place.records().items() if r.deleted_at is None}
        store = connect_store(str(place.music))
        here = {found.name: found.stat for found in store.list()}
        return stats == here and place.results() == place.contents()

    try:
        wait_until_current()
        shutil.copytree(place.music / "album", place.folder / "newer")
        (place.folder / "newer/a.wav").write_text("new a")
        for what in ("hard link", "chmod", "touch", "the same bytes copied over"):
            CHANGES_OF_NO_BYTE[what](place.music)
            if what != "hard link":  # of which the system tells nobody
                wait_until_current()
        assert place.count_runs() == 6
        os.rename(place.music / "album", place.folder / "older")
        wait_until_current()
        os.rename(place.folder / "newer", place.music / "album")
        wait_until_current()
        os.rename(place.music / "album", place.folder / "newer")
        os.rename(place.folder / "older", place.music / "album")
        wait_until_current()
    finally:
        up.send_signal(signal.SIGINT)
        up.wait(PATIENCE_S)
    runs = Counter(place.runs.read_text().splitlines())
    assert set(runs.values()) == {1}
    assert len(runs) == 8
