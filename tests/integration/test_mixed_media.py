"""A bucket of songs, covers, films and texts, in backfill and stream, embedded and on emulators.

One graph has all that a job may be: with several outputs, with a model and in batches, for images
or films only, or for any file. What a job is not for is not applicable, and nothing fails.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
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
from segue_support.onnx_models import make_scale
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
  info: {run: "segue.features.headers:probe", needs: {media: source}, writes: application/json}
  palette:
    run: stems:palette
    needs: {media: source}
    accepts: [image/*]
    writes: application/json
  shots: {run: "stems:shots", needs: {media: source}, accepts: [video/*], writes: image/png}
  level:
    run: stems:Level
    needs: {audio: split.left}
    params: {model: scale@1}
    writes: application/json
models:
  scale@1: {source: scale.onnx, sha256: "SHA256", licence: ours}
"""
JOBS = """
import os
from pathlib import Path
import segue
from segue import Audio, Media, NotApplicable
from segue.models import open_onnx

def palette(media: Media) -> dict:
    return {"colour": media.image().mean(axis=(0, 1)).round(3).tolist()}

def shots(media: Media):
    return next(rgb for _, rgb in media.frames())

class Level:
    batch_size = 3
    batch_wait_s = 1.0

    def __init__(self, *, model: Path) -> None:
        self.model = model

    def setup(self) -> None:
        self.session = open_onnx(self.model)

    def __call__(self, audio: Audio) -> dict:
        return self.batch([{"audio": audio}])[0]

    def batch(self, inputs: list) -> list:
        print(f"a batch of {len(inputs)}")
        segue.progress(0.5, "listening")
        runs = [self.session.run(["mean"], {"x": abs(i["audio"].y)}) for i in inputs]
        return [{"level": round(float(mean[0]), 6)} for (mean,) in runs]

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
        model = make_scale(2.0)
        (folder / "scale.onnx").write_bytes(model)
        self.write_graph(GRAPH)
        (folder / "stems.py").write_text(JOBS)
        self.graph: Graph = read_graph(str(folder / "jobs.yaml"))
        self.ledger_url, self.queue_url = ledger, queue

    def write_graph(self, text: str) -> None:
        digest = hashlib.sha256((self.folder / "scale.onnx").read_bytes()).hexdigest()
        (self.folder / "jobs.yaml").write_text(text.replace("SHA256", digest))

    def segue(self, *arguments: str, code: int = 0) -> dict:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("SEGUE_")}
        urls = {"SEGUE_LEDGER": self.ledger_url, "SEGUE_QUEUE": self.queue_url}
        urls["SEGUE_MODELS"] = str(self.folder / "models")
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
        self.said = done.stdout + done.stderr
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

    def read(self, job: str) -> dict[str, bytes]:
        """The artifact of a job's only output for each file that has one, by the file's name."""
        store = connect_store(str(self.folder / ".segue/artifacts"))
        found = {}
        for name, record in self.records().items():
            for artifact in record.name_artifacts(self.graph.fingerprints[job]):
                found[name] = store.read(artifact)
        return found

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
        self.segue("stream", "--all", "--until-idle", "3")
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
    "info": {"done": 6},
    "palette": {"done": 1, "not_applicable": 5},
    "shots": {"done": 2, "not_applicable": 4},
    "level": {"done": 3, "not_applicable": 3},
}


def check_values(place: Place) -> None:
    info = {name: json.loads(data) for name, data in place.read("info").items()}
    assert info["song.flac"]["duration_s"] == pytest.approx(2.0, abs=0.01)
    assert {s["kind"] for s in info["talk.avi"]["streams"]} == {"audio", "video"}
    assert info["notes.txt"]["streams"] == []
    assert set(place.read("palette")) == {"cover.png"}
    assert set(place.read("shots")) == {"silent.mp4", "talk.avi"}
    levels = {name: json.loads(data)["level"] for name, data in place.read("level").items()}
    assert set(levels) == SONGS
    assert levels["talk.avi"] == pytest.approx(levels["song.flac"], rel=0.15)


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
    place.segue("backfill", "--prefix", "catalogue", "--all", code=2)
    assert "run 'segue models get scale@1'" in place.said
    place.segue("models", "get")
    summary = place.segue("backfill", "--prefix", "catalogue", "--all", "--json")
    assert summary["failed_files"] == 0
    assert {job: found["statuses"] for job, found in summary["jobs"].items()} == EXPECTED
    assert place.states() == EXPECTED
    place.check_artifacts()
    check_values(place)
    assert re.search(r"level .*: a batch of [123]", place.said)
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
    place.segue("models", "get")
    place.stream()
    assert place.states() == EXPECTED
    place.check_artifacts()
    check_values(place)
    assert "a batch of" in place.said


def test_a_job_that_accepts_more_runs_on_just_that(tmp_path, project):
    urls = (f"sqlite:///{tmp_path}/.segue/{name}.db" for name in ("ledger", "queue"))
    place = Place(tmp_path, *urls)
    fill(place.catalogue)
    narrow = GRAPH.replace('"stems:size", ', '"stems:size", accepts: [audio/*], ')
    place.write_graph(narrow)
    place.segue("backfill", "--prefix", "catalogue", "--job", "size", "--json")
    assert place.states()["size"] == {"done": 3, "not_applicable": 3}
    wide = narrow.replace("[audio/*], needs", "[audio/*, image/*], needs")
    place.write_graph(wide)
    found = place.segue("backfill", "--prefix", "catalogue", "--job", "size", "--json")
    assert found["jobs"]["size"]["statuses"] == {"current": 3, "done": 1, "not_applicable": 2}
