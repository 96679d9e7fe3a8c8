"""Files are selected by name, time, duration and tags: real sound, in folders and buckets."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

import segue
from segue.adapters.connect import connect_ledger, connect_store
from segue.model.graph import read_graph
from segue.model.ledger import Query, find_records
from segue.model.run import load_run
from segue_cli.main import main

SEGUE = os.path.join(os.path.dirname(sys.executable), "segue")
GRAPH = """
exclude: ["*/drafts/*", "*.TMP.wav"]
jobs:
  probe: {run: "segue.features.headers:probe", needs: {media: source}, writes: application/json}
  loudness: {run: "segue.features.ebu_r128:loudness", needs: {media: source}, writes: application/json}
  sibling: {run: "segue_support.jobs:fine", needs: {media: source}, writes: application/json}
"""  # noqa: E501
HOSTILE = "ev\x07il \x1b[31m=*?[a]"
YEAR_2001 = 1_000_000_000.0


def write_sound(path: Path, duration_s: float, **tags: str) -> None:
    import soundfile

    path.parent.mkdir(parents=True, exist_ok=True)
    with soundfile.SoundFile(path, "w", 8000, 1) as file:
        for key, value in tags.items():
            setattr(file, key, value)
        file.write(0.1 * np.sin(np.arange(int(8000 * duration_s))))


class Place:
    """A catalogue, a ledger and artifacts, in folders or in the cloud."""

    def __init__(self, folder: Path, *, bucket: str = "", ledger: str = "", more=()) -> None:
        self.folder = folder
        (folder / "jobs.yaml").write_text(GRAPH)
        self.graph = read_graph(str(folder / "jobs.yaml"), {})
        self.prefix = f"gs://{bucket}/music/" if bucket else f"{folder}/music/"
        self.artifacts = f"gs://{bucket}/features" if bucket else f"{folder}/artifacts"
        self.ledger = ledger or f"sqlite:///{folder}/ledger.db"
        self.bucket, self.more = bucket, more
        write_sound(folder / "music/one.flac", 1.0, artist="Abba", genre="Pop")
        write_sound(folder / "music/two.flac", 2.0, artist="Queen", genre="Rock", title=HOSTILE)
        write_sound(folder / "music/live/three [x].flac", 3.0, artist="queen")
        write_sound(folder / "music/live/four.wav", 4.0)
        write_sound(folder / "music/drafts/five.wav", 5.0)
        write_sound(folder / "music/six.tmp.wav", 6.0)
        (folder / "music/notes.txt").write_text("no sound")
        os.utime(folder / "music/one.flac", (YEAR_2001, YEAR_2001))
        if bucket:
            self.upload()

    def upload(self) -> None:
        here = connect_store(str(self.folder / "music"))
        with closing(connect_store(self.prefix)) as there:
            for found in list(here.list()):
                data = here.read(found.name)
                there.create(found.name, data, content_type="audio/x", metadata={})
        shutil.rmtree(self.folder / "music")

    def run(self, command: str, *arguments: str, code: int = 0) -> dict:
        where = ("--ledger", self.ledger, "--artifacts", self.artifacts, *self.more)
        clean = {k: v for k, v in os.environ.items() if not k.startswith("SEGUE_")}
        done = subprocess.run(
            [SEGUE, command, *arguments, *where, "--json"],
            cwd=self.folder,
            env=clean,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout)

    def plan(self, capfd, *arguments: str) -> dict:
        """Plan in this process."""
        graph = ("--graph", f"{self.folder}/jobs.yaml", "--artifacts", self.artifacts)
        capfd.readouterr()
        code = main(("plan", *arguments, *graph, "--ledger", self.ledger, "--json"))
        out, err = capfd.readouterr()
        assert code == 0, err
        return json.loads(out)

    def select(self, *arguments: str, code: int = 0, command: str = "plan") -> dict:
        return self.run(command, "--prefix", self.prefix, *arguments, code=code)

    def list_computed(self) -> dict[str, list[str]]:
        """The last parts of the names of the files that each job has done."""
        done: dict[str, list[str]] = {}
        names = {print_: job for job, print_ in self.graph.fingerprints.items()}
        with closing(connect_ledger(self.ledger)) as ledger:
            for record in find_records(ledger, Query()):
                for print_ in record.results:
                    done.setdefault(names[print_], []).append(record.uri.rpartition("/")[2])
        return {job: sorted(found) for job, found in done.items()}


@pytest.fixture(params=["folder", "cloud"])
def place(request, tmp_path) -> Place:
    if request.param == "folder":
        return Place(tmp_path)
    bucket = request.getfixturevalue("bucket")
    return Place(tmp_path, bucket=bucket, ledger=request.getfixturevalue("firestore_url"))


@pytest.fixture
def here(tmp_path) -> Place:
    return Place(tmp_path)


LENGTHY = ("--job", "loudness", "--min-duration", "2", "--max-duration", "3.5")


def test_the_probe_runs_first_if_it_is_requested_and_nothing_else_runs_for_the_others(place):
    planned = place.select(*LENGTHY, "--job", "probe")
    assert planned["not_selected"] == {"undecided": 4}
    assert planned["jobs"]["probe"]["statuses"] == {"todo": 4}
    found = place.select(*LENGTHY, "--job", "probe", command="backfill")
    assert found["not_selected"] == {"duration": 2}
    assert (found["not_included"], found["excluded"]) == ({".txt": 1}, {".wav": 2})
    assert {job: one["statuses"] for job, one in found["jobs"].items()} == {
        "probe": {"done": 4},
        "loudness": {"done": 2},
    }
    assert place.list_computed() == {
        "loudness": ["three [x].flac", "two.flac"],
        "probe": ["four.wav", "one.flac", "three [x].flac", "two.flac"],
    }
    with closing(connect_store(place.artifacts)) as store:
        run = load_run(store, found["run"])
    assert (run.selection.min_duration_s, run.selection.max_duration_s) == (2.0, 3.5)
    counts = run.counts
    assert (counts.not_selected, counts.excluded) == ({"duration": 2}, {".wav": 2})


def test_several_workers_select_alike(tmp_path):
    mode = ("--direct_running_mode", "multi_processing", "--direct_num_workers", "2")
    place = Place(tmp_path, more=mode)
    place.select(*LENGTHY, "--job", "probe", command="backfill")
    again = place.select(*LENGTHY, "--job", "probe", command="backfill")
    assert again["jobs"]["loudness"]["statuses"] == {"current": 2}
    assert (again["files"], again["not_selected"]) == (2, {"duration": 2})


def test_files_without_a_probe_are_counted_and_left_out(place):
    assert place.select(*LENGTHY, code=3)["not_selected"] == {"no_probe": 4}
    place.select("--job", "probe", "--match", "live/*", command="backfill")
    found = place.select(*LENGTHY, command="backfill", code=3)
    assert found["not_selected"] == {"duration": 1, "no_probe": 2}
    assert place.list_computed() == {
        "loudness": ["three [x].flac"],
        "probe": ["four.wav", "three [x].flac"],
    }
    place.select(*LENGTHY, "--tolerate", "70%", command="backfill")


@pytest.mark.parametrize(
    ("options", "files"),
    [
        (("--tag", "artist=QUEEN"), 2),
        (("--tag", "artist=queen", "--tag", "artist=ab*"), 3),
        (("--tag", "artist=queen", "--tag", "genre=rock"), 1),
        (("--tag", r"title=ev\x07il*"), 1),  # probes escape what a terminal would obey
        (("--tag", "title=ev\x07il*"), 0),
        (("--match", "three [[]x].flac"), 1),
        (("--match", "three [x].flac"), 1),
        (("--match", "t[hw]*"), 2),
        (("--match", "live/*", "--min-duration", "3.5"), 1),
        (("--newer-than", "2002-01-01"), 3),
        (("--newer-than", "2000-01-01"), 4),
        (("--from-ledger", "all", "--tag", "artist=queen"), 2),
        (("--min-duration", "1.5", "--limit", "2"), 2),
        (("--min-duration", "3.5", "--limit", "2"), 1),
        (("--from-ledger", "all", "--min-duration", "3.5", "--limit", "1"), 1),
    ],
)
def test_files_are_selected_before_a_limit_counts_them(probed, options, files, capfd):
    found = probed.plan(capfd, "--prefix", probed.prefix, "--job", "loudness", *options)
    assert found["files"] == files
    assert found["not_included"] == ({} if "--from-ledger" in options else {".txt": 1})


@pytest.fixture(scope="module")
def probed(tmp_path_factory) -> Place:
    made = Place(tmp_path_factory.mktemp("probed"))
    made.select("--job", "probe", command="backfill")
    return made


def test_a_list_is_selected_from(probed, capfd):
    uris = str(probed.folder / "list")
    names = ("one.flac", "two.flac", "live/four.wav")
    Path(uris).write_text("".join(f"{probed.prefix}{name}\n" for name in names))
    for options, files in (
        (("--newer-than", "2002-01-01"), 2),
        (("--match", "*.flac"), 2),
        (("--min-duration", "2"), 2),
        (("--min-duration", "2", "--limit", "1"), 1),
    ):
        found = probed.plan(capfd, "--uris", uris, "--job", "loudness", *options)
        assert found["files"] == files


def test_python_selects_by_the_same_criteria(probed):
    graph = segue.load_graph(f"{probed.folder}/jobs.yaml", artifacts=probed.artifacts)
    criteria = segue.Criteria(min_duration_s=2, tags={"artist": ("queen",)})
    where = {"prefix": probed.prefix, "graph": graph, "ledger": probed.ledger}
    found = segue.plan("loudness", **where, criteria=criteria).totals
    assert found.files == 2
    assert found.passed_over.not_selected == {"duration": 1, "tags": 1}
    assert found.passed_over.excluded == {".wav": 2}


def test_a_limit_counts_files_that_are_to_be_probed(here):
    found = here.select(*LENGTHY, "--job", "probe", "--limit", "2", command="backfill")
    assert found["jobs"]["probe"]["statuses"] == {"done": 2}


def test_a_probe_that_fails_is_a_failure_of_its_file(here):
    own = '"segue_support.jobs:raise_error", params: {when: "."}'
    text = GRAPH.replace('"segue.features.headers:probe"', own)
    (here.folder / "jobs.yaml").write_text(text)
    found = here.select(*LENGTHY, "--job", "probe", command="backfill", code=3)
    assert {job: one["statuses"] for job, one in found["jobs"].items()} == {"probe": {"failed": 4}}
    assert found["not_selected"] == {}


def test_a_probe_that_is_not_for_a_file_leaves_it_out(here):
    text = GRAPH.replace("segue.features.headers:probe", "segue_support.jobs:fine")
    text = text.replace("probe: {", "probe: {accepts: [image/*], ")
    (here.folder / "jobs.yaml").write_text(text)
    found = here.select(*LENGTHY, "--job", "probe", command="backfill", code=3)
    assert {job: one["statuses"] for job, one in found["jobs"].items()} == {
        "probe": {"not_applicable": 4}
    }
    assert found["not_selected"] == {"no_probe": 4}


def test_a_request_selects_by_recorded_probes(place):
    place.select("--job", "probe", "--match", "*.flac", command="backfill")
    where = ("--queue", f"sqlite:///{place.folder}/queue.db")
    found = place.select(*LENGTHY, *where, command="request", code=3)
    assert found["files"] == 2
    assert found["not_selected"] == {"duration": 1, "no_probe": 1}
    assert (found["not_included"], found["excluded"]) == ({".txt": 1}, {".wav": 2})
    with closing(connect_store(place.artifacts)) as store:
        assert load_run(store, found["request"]).selection.max_duration_s == 3.5
    assert place.list_computed()["loudness"] == ["three [x].flac", "two.flac"]  # queued
