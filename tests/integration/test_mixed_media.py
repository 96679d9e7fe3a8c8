"""A bucket of songs, covers, films and texts, and a job with several outputs, in all three forms.

What is not sound is not applicable to the jobs that need sound, and to those below; nothing fails.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import ffmpeg
import pytest

from segue.adapters.connect import connect_ledger, connect_queue, connect_store
from segue.ingest.events import Arrivals
from segue.media.ffmpeg import find_ffmpeg
from segue.model.artifact import compute_checksum
from segue.model.graph import Graph, read_graph
from segue.model.ledger import Query
from segue.model.queue import DEAD_SUBSCRIPTION, list_subscriptions, list_topics
from segue.model.record import Record, State
from segue.model.transitions import find_entry
from segue.testing.music import music
from segue.testing.sound import write
from segue_support import emulators
from segue_support.pubsub_topics import make_topics

SEGUE = os.path.join(os.path.dirname(sys.executable), "segue")
SONGS = {"song.flac", "talk.avi", "broadcast.ts"}
OTHERS = {"cover.png", "silent.mp4", "notes.txt"}
GRAPH = """
include: ["*"]
jobs:
  split:
    run: "stems:split"
    needs: {media: source}
    accepts: [audio/*]
    writes: {left: audio/flac, right: audio/wav, lengths: application/json}
  loudness:
    run: "segue.features.ebu_r128:loudness"
    needs: {media: source}
    accepts: [audio/*]
    writes: application/json
  balance: {run: "stems:balance", needs: {a: split.left, b: split.right}, writes: application/json}
  size: {run: "stems:size", needs: {media: source}, writes: application/json}
"""
JOBS = """
import os
from segue import Audio, Media, NotApplicable

def split(media: Media) -> dict:
    audio = media.audio().mono()
    half = len(audio.y) // 2
    parts = {"left": audio.y[:half], "right": audio.y[half:]}
    made = {name: Audio(y=y, sr=audio.sr) for name, y in parts.items()}
    return {**made, "lengths": {name: len(y) for name, y in parts.items()}}

def balance(a: Audio, b: Audio) -> dict:
    if a.sr == 48000:
        raise NotApplicable("it is a broadcast")
    return {"difference": float(abs(a.y).mean() - abs(b.y).mean())}

def size(media: Media) -> dict:
    return {"bytes": os.path.getsize(media.path)}
"""


class Place:
    """A folder with a mixed catalogue, a graph, and a ledger and queue of either kind."""

    def __init__(self, folder: Path, ledger: str, queue: str) -> None:
        self.folder, self.catalogue = folder, folder / "catalogue"
        self.catalogue.mkdir()
        (folder / "jobs.yaml").write_text(GRAPH)
        (folder / "stems.py").write_text(JOBS)
        self.graph: Graph = read_graph(str(folder / "jobs.yaml"))
        self.ledger_url, self.queue_url = ledger, queue

    def segue(self, *arguments: str, code: int = 0) -> dict:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("SEGUE_")}
        urls = {"SEGUE_LEDGER": self.ledger_url, "SEGUE_QUEUE": self.queue_url}
        done = subprocess.run(
            [SEGUE, *arguments],
            cwd=self.folder,
            env=clean | urls,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout) if "--json" in arguments else {}

    def records(self) -> dict[str, Record]:
        ledger = connect_ledger(self.ledger_url)
        found = {r.uri.rpartition("/")[2]: r for r in ledger.find(Query())}
        ledger.close()
        return found

    def states(self) -> dict[str, Counter[str]]:
        records = self.records().values()
        return {
            job: Counter(entry.state for r in records if (entry := find_entry(self.graph, r, job)))
            for job in self.graph.jobs
        }

    def check_artifacts(self) -> None:
        """Each artifact has the checksum in the ledger, and a result has all its outputs."""
        store = connect_store(str(self.folder / ".segue/artifacts"))
        for record in self.records().values():
            for fingerprint, entry in record.results.items():
                done = entry.state is State.DONE
                assert len(entry.checksums) == len(self.graph.find_outputs(entry.job)) * done
                names = record.name_artifacts(fingerprint)
                for name, checksum in zip(names, entry.checksums.values(), strict=True):
                    assert compute_checksum(store.read(name)) == checksum

    def stream(self) -> None:
        """Let the files arrive, and run the pipelines until nothing comes any more."""
        store = connect_store(str(self.catalogue))
        ledger = connect_ledger(self.ledger_url)
        queue = connect_queue(self.queue_url, self.graph)
        for name in sorted(SONGS | OTHERS):
            media = store.identify(name).to_media_file(store.uri(name))
            Arrivals(graph=self.graph, ledger=ledger, queue=queue).record([media])
        ledger.close()
        self.segue("stream", "--all", "--until-idle", "2")
        assert queue.pull([DEAD_SUBSCRIPTION.name], limit=10) == []
        queue.close()


def fill(folder: Path) -> None:
    """Write songs in three containers, and files without sound."""
    sound, picture = str(folder / "song.flac"), "testsrc=s=64x64:r=5:d=2"
    write(music(1, bpm=120, duration_s=2.0), sound)
    film, song = ffmpeg.input(picture, f="lavfi"), ffmpeg.input(sound)
    outputs = [
        ffmpeg.output(film, str(folder / "cover.png"), vframes=1),
        ffmpeg.output(film, str(folder / "silent.mp4"), vcodec="mpeg4"),
        ffmpeg.output(film, song, str(folder / "talk.avi"), vcodec="mpeg4", acodec="mp3"),
        ffmpeg.output(song, str(folder / "broadcast.ts"), acodec="mp2", ar=48000),
    ]
    for output in outputs:
        output.run(cmd=find_ffmpeg(), quiet=True)
    (folder / "notes.txt").write_text("buy milk\n")


EXPECTED = {
    "split": {"done": 3, "not_applicable": 3},
    "loudness": {"done": 3, "not_applicable": 3},
    "balance": {"done": 2, "not_applicable": 4},
    "size": {"done": 6},
}


@pytest.fixture(params=["embedded", "cloud"])
def place(request, tmp_path, project, monkeypatch) -> Place:
    ledger, queue = (f"sqlite:///{tmp_path}/.segue/{name}.db" for name in ("ledger", "queue"))
    if request.param == "cloud":
        monkeypatch.setenv(emulators.PUBSUB.variable, request.getfixturevalue("pubsub_emulator"))
        ledger, queue = request.getfixturevalue("firestore_url"), f"pubsub://{project}"
    place = Place(tmp_path, ledger, queue)
    if request.param == "cloud":
        made = connect_queue(queue, place.graph)
        make_topics(made, list_topics(place.graph), list_subscriptions(place.graph))
        made.close()
    fill(place.catalogue)
    return place


def test_a_backfill_over_a_mixed_catalogue_has_no_failures(place):
    summary = place.segue("backfill", "--prefix", "catalogue", "--all", "--json")
    assert summary["failed_files"] == 0
    assert {job: found["statuses"] for job, found in summary["jobs"].items()} == EXPECTED
    assert place.states() == EXPECTED
    place.check_artifacts()
    again = place.segue("backfill", "--prefix", "catalogue", "--all", "--json")
    assert {s for found in again["jobs"].values() for s in found["statuses"]} == {
        "current",
        "not_applicable",
    }
    status = place.segue("status", "--json")
    assert status["jobs"]["loudness"]["not_applicable"] == 3
    explained = place.segue("explain", "catalogue/cover.png", "--json")
    reasons = {job["job"]: job["reason"] for job in explained["jobs"]}
    assert reasons["loudness"] == "the file is an image (image/png), and the job accepts audio/*"
    assert reasons["balance"] == "'split' above it is not for this file"


def test_a_stream_of_mixed_media_has_no_failures(place):
    place.stream()
    assert place.states() == EXPECTED
    place.check_artifacts()


def test_a_job_that_accepts_more_runs_on_just_that(tmp_path, project):
    urls = (f"sqlite:///{tmp_path}/.segue/{name}.db" for name in ("ledger", "queue"))
    place = Place(tmp_path, *urls)
    fill(place.catalogue)
    narrow = GRAPH.replace('"stems:size", ', '"stems:size", accepts: [audio/*], ')
    (tmp_path / "jobs.yaml").write_text(narrow)
    place.segue("backfill", "--prefix", "catalogue", "--job", "size", "--json")
    assert place.states()["size"] == {"done": 3, "not_applicable": 3}
    (tmp_path / "jobs.yaml").write_text(
        narrow.replace("[audio/*], needs", "[audio/*, image/*], needs")
    )
    found = place.segue("backfill", "--prefix", "catalogue", "--job", "size", "--json")
    assert found["jobs"]["size"]["statuses"] == {"current": 3, "done": 1, "not_applicable": 2}
