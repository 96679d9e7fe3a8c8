"""The console of a catalogue in the cloud: a ledger in Firestore, files and results in a bucket."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import requests

from segue.adapters.connect import connect_ledger, connect_store
from segue.adapters.pubsub import PubsubQueue
from segue.model.artifact import compute_checksum
from segue.model.graph import read_graph
from segue.model.ledger import Change
from segue.model.queue import list_subscriptions, list_topics
from segue.model.record import Entry, Failure, Record, State, evolve
from segue.testing.sound import tone, write
from segue_support import emulators
from segue_support.grpc_proxy import GrpcProxy, RpcFault
from segue_support.identity_proxy import AUDIENCE, HEADER, IdentityProxy, serve_https
from segue_support.processes import Process
from segue_support.pubsub_topics import make_topics
from segue_support.results import NOW

pytestmark = pytest.mark.xdist_group("firestore")

SEGUE = os.path.join(os.path.dirname(sys.executable), "segue")
PATIENCE_S = 100.0
FILES = 3_000  # more than any page may read
GRAPH = """
catalogue: gs://{bucket}/music
artifacts: gs://{bucket}/features
jobs:
  tempo: {{run: "features:tempo", needs: {{media: source}}, writes: application/json}}
  mood: {{run: "features:mood", needs: {{tempo: tempo}}, writes: application/json}}
"""
CODE = """
def tempo(media):
    return {"times_s": [0.1, 0.2], "tempo_bpm": 120.0}

def mood(tempo):
    return {"mood": "calm" if tempo["tempo_bpm"] < 130 else "wild"}
"""
VALUE = b'{"times_s":[0.1,0.3],"tempo_bpm":99.0}'


class Cloud:
    """A project: its bucket, its ledger behind a proxy that counts, and who reads."""

    def __init__(self, folder: Path, bucket: str, ledger: str, proxy: GrpcProxy) -> None:
        self.folder, self.bucket, self.proxy = folder, bucket, proxy
        (folder / "jobs.yaml").write_text(GRAPH.format(bucket=bucket))
        (folder / "features.py").write_text(CODE)
        self.graph = read_graph(str(folder / "jobs.yaml"), {})
        self.ledger_url = ledger
        clean = {k: v for k, v in os.environ.items() if not k.startswith("SEGUE_")}
        self.environ = {
            **clean,
            emulators.FIRESTORE.variable: proxy.address,
            "GOOGLE_CLOUD_PROJECT": bucket,
            "PYTHONPATH": str(folder),
            "SEGUE_GRAPH": str(folder / "jobs.yaml"),
            "SEGUE_LEDGER": ledger,
            "XDG_CACHE_HOME": str(folder / "caches"),
        }

    def uri(self, name: str) -> str:
        return f"gs://{self.bucket}/music/{name}"

    def upload(self, name: str, data: bytes, *, replace: bool = False) -> Record:
        """Put an object into the bucket; return its record without results."""
        with closing(connect_store(f"gs://{self.bucket}")) as store:
            path = f"music/{name}"
            store.create(path, data, content_type="audio/wav", metadata={}, replace=replace)
            media = store.identify(path).to_media_file(self.uri(name))
        return Record(
            uri=media.uri,
            version=media.version,
            order=media.order,
            size_bytes=media.size_bytes,
            content_type=media.content_type,
            arrived_at=NOW,
        )

    def put(self, *records: Record) -> None:
        with closing(connect_ledger(self.ledger_url)) as ledger:
            ledger.change([Change(uri=r.uri, transition=lambda _, r=r: (r, None)) for r in records])

    def build_results(self, state: State, **more) -> dict[str, Entry]:
        entry = Entry(job="tempo", state=state, order=1, **more)
        return {self.graph.fingerprints["tempo"]: entry}

    def count_reads(self) -> int:
        """Return how many documents were read: each is a part of a reply."""
        return self.proxy.replies["RunQuery"] + self.proxy.replies["BatchGetDocuments"]


@pytest.fixture
def cloud(tmp_path, firestore_emulator, firestore_url, bucket) -> Iterator[Cloud]:
    with GrpcProxy(firestore_emulator) as proxy:
        yield Cloud(tmp_path, bucket, firestore_url, proxy)


@pytest.fixture
def song(cloud) -> Record:
    """A file with a current result."""
    path = cloud.folder / "song.wav"
    write(tone(440.0, 1.0), str(path))
    record = cloud.upload("song.wav", path.read_bytes())
    made = cloud.graph.fingerprints["tempo"]
    entry = Entry(
        job="tempo",
        state=State.DONE,
        order=record.order,
        checksums={"json": compute_checksum(VALUE)},
        finished_at=NOW,
        cpu_seconds=2.0,
    )
    record = evolve(record, results={made: entry})
    name = record.name_artifact(made, "json")
    with closing(connect_store(cloud.graph.artifacts)) as store:
        store.create(name, VALUE, content_type="application/json", metadata={})
    cloud.put(record)
    return record


class Reader:
    """Somebody who looks at a console."""

    def __init__(self, base: str, headers: dict[str, str]) -> None:
        self.base = base
        self.session = requests.Session()
        self.session.headers.update(headers)

    def get(self, path: str, headers: dict[str, str] | None = None, **given: str):
        address = f"{self.base}/default/{path}"
        return self.session.get(address, params=given, headers=headers, timeout=PATIENCE_S)

    def post(self, path: str, page: str, **fields: str):
        """Send a form as a page does."""
        csrf = re.search(r'name="csrf" value="([0-9a-f]+)"', self.get(page).text)
        assert csrf is not None
        return self.session.post(
            f"{self.base}/default/{path}",
            data={"csrf": csrf[1], **fields},
            headers={"Origin": self.base},
            timeout=PATIENCE_S,
        )

    def wait_for(self, path: str, text: str, **given: str) -> str:
        """Load a page until it has a text."""
        until_s = time.monotonic() + PATIENCE_S
        while text not in (found := self.get(path, **given).text):
            assert time.monotonic() < until_s, found
            time.sleep(0.2)
        return found


@contextmanager
def look(cloud: Cloud, *options: str) -> Iterator[Reader]:
    """Start ``segue console`` on this machine."""
    command = [SEGUE, "console", "--no-browser", "--port", "0", "--json", *options]
    with Process(command, cwd=str(cloud.folder), environ=cloud.environ) as process:
        url = process.wait_for(lambda line: "url" in line)["url"]
        reader = Reader(url.partition("/?")[0], {})
        assert reader.session.get(url, timeout=PATIENCE_S).status_code == 200
        yield reader
        assert process.terminate() == 0


def test_each_page_has_the_numbers_of_the_ledger(cloud, song):
    failure = Failure(kind="timeout", type="JobTimeout", message="it took 9 s")
    cloud.put(
        *(
            Record(
                uri=cloud.uri(f"failed/{n}.wav"),
                version="1",
                order=1,
                arrived_at=NOW,
                results=cloud.build_results(State.FAILED, error=failure),
            )
            for n in range(3)
        ),
        Record(uri=cloud.uri("new.wav"), version="1", order=1, arrived_at=NOW),
        Record(uri=cloud.uri("gone.wav"), version="1", order=1, arrived_at=NOW, deleted_at=NOW),
    )
    with look(cloud) as reader:
        text = reader.wait_for("", "1 done, 3 failed, 1 missing")
        assert "<strong data-files>5</strong>" in text
        assert "2.0 s CPU per file" in text
        text = reader.get("files").text
        assert text.count("/default/file?uri=") == 5
        assert f"{cloud.uri('failed/')}" in text
        assert "gone.wav" not in text
        assert reader.get("files", job="tempo", state="failed").text.count("/file?uri=") == 3
        assert reader.get("files", job="tempo", state="done").text.count("/file?uri=") == 1
        assert "it took 9 s" in reader.get("failures").text
        assert "3 files" in reader.get("failures").text
        assert "<p>99 in 1 result</p>" in reader.get("jobs/tempo/sample").text
        assert "all 5 files" in reader.get("jobs/mood/sample").text
        assert reader.get("runs").status_code == reader.get("plan").status_code == 200
        text = reader.get("file", uri=song.uri).text
        assert "/music/</code></a><code>song.wav</code>" in text
        (track, *_) = reader.get("file/tracks", uri=song.uri).json()["tracks"]
        assert (track["name"], track["times_s"]) == ("tempo: times", [0.1, 0.3])
        assert reader.get("file", uri=cloud.uri("gone.wav")).status_code == 404


def test_a_file_is_heard_from_the_bucket_in_parts(cloud, song):
    data = (cloud.folder / "song.wav").read_bytes()
    with look(cloud) as reader:
        whole = reader.get("media", uri=song.uri)
        assert (whole.status_code, whole.content) == (200, data)
        assert whole.headers["content-type"] == "audio/wav"
        part = reader.get("media", {"Range": "bytes=100-199"}, uri=song.uri)
        assert (part.status_code, part.content) == (206, data[100:200])
        assert part.headers["content-range"] == f"bytes 100-199/{len(data)}"
        last = reader.get("media", {"Range": "bytes=-10"}, uri=song.uri)
        assert last.content == data[-10:]
        beyond = reader.get("media", {"Range": f"bytes={len(data)}-"}, uri=song.uri)
        assert beyond.status_code == 416
        made = cloud.graph.fingerprints["tempo"]
        artifact = {"uri": song.uri, "fingerprint": made, "suffix": "json"}
        assert reader.get("artifact", **artifact).content == VALUE
        for uri in (cloud.uri("other.wav"), f"gs://{cloud.bucket}/features/x", "gs://else/a"):
            assert reader.get("media", uri=uri).status_code == 404


def test_a_file_that_was_overwritten_is_not_heard_as_what_it_was(cloud, song):
    """Its results are of the generation that the ledger has; the bucket has it no more."""
    write(tone(880.0, 2.0), str(cloud.folder / "other.wav"))
    cloud.upload("song.wav", (cloud.folder / "other.wav").read_bytes(), replace=True)
    with look(cloud) as reader:
        for headers in ({"Range": "bytes=0-9"}, {}):
            found = reader.get("media", headers, uri=song.uri)
            assert found.status_code == 404
            assert "overwritten" in found.text
        assert "The file was overwritten since" in reader.get("file", uri=song.uri).text


def test_the_waveform_of_an_object_is_computed_by_the_worker(cloud, song):
    with look(cloud) as reader:
        until_s = time.monotonic() + PATIENCE_S
        while (found := reader.get("file/waveform", uri=song.uri)).status_code == 202:
            assert time.monotonic() < until_s
            time.sleep(0.1)
        assert (found.status_code, found.json()["duration_s"]) == (200, 1.0)


def test_a_plan_counts_what_is_in_the_bucket(cloud, song):
    cloud.upload("more.wav", b"sound")
    with look(cloud) as reader:
        given = {"job": "tempo", "prefix": f"gs://{cloud.bucket}/music"}
        reader.get("plan", **given)
        text = reader.wait_for("plan", "To start it", **given)
        assert "2 files" in text
        assert '<td>tempo</td><td class="number">1</td>' in text


def test_a_request_is_computed_by_a_worker_and_seen_done(
    cloud, song, pubsub_emulator, project, monkeypatch
):
    queue = f"pubsub://{project}"
    monkeypatch.setenv(emulators.PUBSUB.variable, pubsub_emulator)
    cloud.environ |= {emulators.PUBSUB.variable: pubsub_emulator, "SEGUE_QUEUE": queue}
    graph = cloud.graph
    make_topics(PubsubQueue(queue), list_topics(graph), list_subscriptions(graph))
    with look(cloud, "--allow-changes") as reader:
        planned = reader.post("request", "files", uri=song.uri, job="mood")
        assert "<td>mood</td>" in planned.text
        form = {"uri": song.uri, "job": "mood", "planned": "mood", "confirm": "1"}
        sent = reader.post("request", "files", **form)
        assert "0 of 1 file finished" in sent.text
        run = sent.url.rpartition("/")[2]
        command = [SEGUE, "work", "--all", "--processes", "1", "--until-idle", "2"]
        with Process(command, cwd=str(cloud.folder), environ=cloud.environ) as worker:
            assert worker.wait(timeout_s=PATIENCE_S) == 0, worker.text
        reader.wait_for(f"runs/{run}", "1 of 1 file finished")
        made = graph.fingerprints["mood"]
        value = reader.get("file/value", uri=song.uri, fingerprint=made, suffix="json")
        assert "calm" in value.text


class TestReads:
    """What is read of a ledger that is larger than any page may read."""

    @pytest.fixture
    def many(self, cloud, song) -> Cloud:
        failure = Failure(kind="timeout", type="JobTimeout", message="it took 9 s")
        failed = cloud.build_results(State.FAILED, error=failure)
        records = [
            Record(
                uri=cloud.uri(f"{n % 40:02}/{n:05}.wav"),
                version="1",
                order=1,
                arrived_at=NOW,
                results=failed if n % 4 else {},
            )
            for n in range(FILES)
        ]
        cloud.put(*records)
        return cloud

    def test_no_page_reads_much_more_than_it_shows(self, many, song):
        most = {  # documents, and an empty part of each reply
            "": 500,  # for costs
            "files": 100,
            "files?prefix=01": 110,
            "files?job=tempo&state=failed": 250,
            "files?job=mood&state=stale": 2_100,  # none is, so it goes on as far as it may
            "failures": 2_600,  # the first 2,000, in the ledger's own pages
            "runs": 20,
            "plan": 0,
            "jobs/tempo": 2_600,
            "jobs/tempo/sample": 2_000,
            f"file?uri={song.uri}": 10,
            f"file/tracks?uri={song.uri}": 5,
            f"media?uri={song.uri}": 5,
        }
        assert max(most.values()) < FILES
        with look(many) as reader:
            reader.wait_for("", f"{FILES + 1:,}")
            found = {}
            for page in most:
                many.proxy.reset()
                assert reader.get(page).status_code == 200
                found[page] = many.count_reads()
        assert {page: n for page, n in found.items() if n > most[page]} == {}, found
        assert found["failures"] > 2_000, "what is counted is what is read"

    def test_a_search_without_end_goes_on_page_by_page(self, many):
        with look(many) as reader:
            text = reader.get("files", job="mood", state="stale").text
        assert text.count("/file?uri=") == 0
        assert "after=" in text, "it says where to go on"


def test_the_service_of_the_cloud_writes_nothing(cloud, song):
    """The identity that it has there may only read; the emulators refuse nobody."""
    proxy = IdentityProxy()
    pages = {"/iap/verify/public_key": json.dumps({proxy.name: proxy.public}).encode()}
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    with closing(connect_store(f"gs://{cloud.bucket}")) as store:
        before = [found.name for found in store.list()]
    with serve_https("www.gstatic.com", pages, cloud.folder) as leading:
        settings = {"PORT": str(port), "SEGUE_CONSOLE_AUDIENCE": AUDIENCE}
        command = [sys.executable, "-m", "segue_console.cloud"]
        cloud.proxy.reset()
        with Process(
            command, cwd=str(cloud.folder), environ={**cloud.environ, **leading, **settings}
        ) as process:
            process.wait_until_started()
            reader = Reader(f"http://127.0.0.1:{port}", {HEADER: proxy.sign()})
            reader.wait_for("", "1 done")
            for page in ("files", "failures", "runs", "jobs/tempo", "jobs/tempo/sample", "plan"):
                assert reader.get(page).status_code == 200
            for page in ("file", "file/tracks", "media"):
                assert reader.get(page, uri=song.uri).status_code == 200
            assert requests.get(reader.base, timeout=PATIENCE_S).status_code == 403
            assert process.terminate() == 0
    assert {"RunQuery", "RunAggregationQuery", "BatchGetDocuments"} >= cloud.proxy.calls.keys()
    with closing(connect_store(f"gs://{cloud.bucket}")) as store:
        assert [found.name for found in store.list()] == before


def test_a_ledger_that_refuses_is_told_and_found_again(cloud, song):
    with look(cloud) as reader:
        reader.wait_for("", "1 done")
        cloud.proxy.fail("RunAggregationQuery", *[RpcFault("PERMISSION_DENIED")] * 500)
        reader.wait_for("", "The ledger cannot be counted")
        assert reader.get("files").status_code == 200
        cloud.proxy.clear_faults()
        until_s = time.monotonic() + PATIENCE_S
        while "cannot be counted" in reader.get("").text:
            assert time.monotonic() < until_s
            time.sleep(0.2)


def test_a_console_ends_while_its_ledger_is_away(cloud, song):
    """A call to a server that is away is tried again for a minute."""
    with look(cloud) as reader:
        reader.wait_for("", "1 done")
        cloud.proxy.fail("RunAggregationQuery", *[RpcFault("UNAVAILABLE")] * 10_000)
        cloud.proxy.reset()
        until_s = time.monotonic() + PATIENCE_S
        while not cloud.proxy.calls["RunAggregationQuery"]:
            assert reader.get("").status_code == 200
            assert time.monotonic() < until_s


def test_a_console_ends_while_a_page_waits_for_its_ledger(cloud, song):
    with ThreadPoolExecutor(1) as pool:
        with look(cloud) as reader:  # which asserts that it ends
            cloud.proxy.fail("RunQuery", *[RpcFault("UNAVAILABLE")] * 10_000)
            cloud.proxy.reset()
            waiting = pool.submit(reader.get, "files")
            while not cloud.proxy.calls["RunQuery"]:
                assert not waiting.done()
                time.sleep(0.05)
        cut = isinstance(waiting.exception(), requests.RequestException)
    assert cut or waiting.result().status_code == 500
