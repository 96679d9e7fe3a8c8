"""What the Cloud Storage adapter sends, and what it makes of the answers that no emulator gives."""

from __future__ import annotations

import http.server
import json
import socket
import threading
import urllib.parse
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from segue.adapters.cloud_storage import CloudStorage
from segue.adapters.cloud_storage_client import compute_crc32c
from segue.errors import ConfigurationError, CorruptMedia, DiskFull, MissingInput, Unavailable
from segue.model.artifact import Lineage
from segue_support import emulators

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.xdist_group("storage")

ONE_RETRY_S = 30.0  # the client waits up to a second before it tries again


@dataclass
class Request:
    """What the server was asked."""

    method: str
    path: str
    query: dict[str, str]
    body: bytes


@dataclass
class Scripted:
    """A server that gives the answers it was told to give, the last one again and again."""

    url: str
    answers: deque[tuple[int, dict[str, str], bytes]] = field(default_factory=deque)
    requests: list[Request] = field(default_factory=list)

    def answer(self, status: int, body: bytes | dict = b"", **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {k.replace("_", "-"): v for k, v in headers.items()}
        self.answers.append((status, {"Content-Length": str(len(data)), **named}, data))


@pytest.fixture
def server(monkeypatch) -> Iterator[Scripted]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def __getattr__(self, name: str):  # do_GET, do_POST and so on
            if name.startswith("do_"):
                return self.answer
            raise AttributeError(name)

        def answer(self) -> None:
            url = urllib.parse.urlsplit(self.path)
            query = dict(urllib.parse.parse_qsl(url.query))
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            scripted.requests.append(Request(self.command, url.path, query, body))
            answers = scripted.answers
            status, headers, data = answers.popleft() if len(answers) > 1 else answers[0]
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        scripted = Scripted(url=f"http://127.0.0.1:{listening.server_port}")
        monkeypatch.setenv(emulators.STORAGE.variable, scripted.url)
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        yield scripted
        listening.shutdown()
        thread.join()


@pytest.fixture
def store(server) -> Iterator[CloudStorage]:
    store = CloudStorage("gs://acme-audio/masters", deadline_s=0.2)
    yield store
    store.close()


OBJECT = {
    "name": "masters/a.flac",
    "generation": "7",
    "size": "5",
    "crc32c": compute_crc32c(b"sound"),
}
SOUND = {"x_goog_generation": "7", "x_goog_hash": f"crc32c={compute_crc32c(b'sound')}"}


class TestRequests:
    def test_reading_is_one_request_for_one_generation(self, server, store):
        server.answer(200, b"sound", **SOUND)
        assert store.read("a.flac", generation=7) == b"sound"
        (request,) = server.requests
        assert request.path.endswith("/b/acme-audio/o/masters%2Fa.flac")
        assert request.query["generation"] == "7"

    def test_downloading_is_one_request_for_one_generation(self, server, store, tmp_path):
        server.answer(200, b"sound", **SOUND)
        for _ in range(2):  # the second finds the file
            store.fetch("a.flac", version="7", stat=None, folder=str(tmp_path))
        assert [r.query["generation"] for r in server.requests] == ["7"]

    @pytest.mark.parametrize("size_bytes", [5, 20 << 20])
    def test_writing_is_one_request_that_only_creates(self, server, store, size_bytes):
        server.answer(200, OBJECT)
        data = bytes(size_bytes)
        assert store.create("a.flac", data, content_type="audio/flac", metadata={"k": "é"})
        (request,) = server.requests
        assert request.query == {"uploadType": "multipart", "ifGenerationMatch": "0"}
        described = json.loads(request.body.split(b"\r\n\r\n")[1].split(b"\r\n")[0])
        assert described == {
            "name": "masters/a.flac",
            "contentType": "audio/flac",
            "metadata": {"k": "é"},
            "crc32c": compute_crc32c(data),
        }
        assert data in request.body

    def test_replacing_has_no_condition(self, server, store):
        server.answer(200, OBJECT)
        store.create("a", b"", content_type="audio/flac", metadata={}, replace=True)
        assert server.requests[0].query == {"uploadType": "multipart"}

    def test_replacing_a_generation_is_one_request_with_this_condition(self, server, store):
        server.answer(200, OBJECT)
        server.answer(412, {"error": {"message": "another generation"}})
        about = {"content_type": "audio/flac", "metadata": {}, "replace": True, "generation": 6}
        assert store.create("a", b"", **about)
        assert not store.create("a", b"", **about)
        assert [r.query["ifGenerationMatch"] for r in server.requests] == ["6", "6"]

    def test_looking_is_one_request(self, server, store):
        server.answer(200, OBJECT)
        assert store.stat("a.flac").checksum == f"crc32c:{compute_crc32c(b'sound')}"
        assert len(server.requests) == 1

    def test_deleting_is_bound_to_the_generation(self, server, store):
        server.answer(204)
        assert store.delete("a.flac", generation=7)
        server.answer(412)
        server.answers.popleft()
        assert not store.delete("a.flac", generation=6)
        assert [r.query["ifGenerationMatch"] for r in server.requests] == ["7", "6"]

    def test_listing_takes_a_page_at_a_time_and_few_fields(self, server, store):
        page = lambda *names: [{**OBJECT, "name": f"masters/{n}"} for n in names]  # noqa: E731
        server.answer(200, {"items": page("a", "b"), "nextPageToken": "2"})
        server.answer(200, {"items": page("c"), "nextPageToken": "3"})
        server.answer(200, {"items": page("d")})
        listing = store.list("", after="a")
        assert next(listing).name == "b"
        assert len(server.requests) == 1
        assert [o.name for o in listing] == ["c", "d"]
        assert [r.query.get("pageToken") for r in server.requests] == [None, "2", "3"]
        for request in server.requests:
            assert request.query["prefix"] == "masters/"
            assert request.query["startOffset"] == "masters/a"
            assert request.query["maxResults"] == "1000"
            assert "metadata" not in request.query["fields"]

    def test_opening_asks_nothing(self, server):
        CloudStorage("gs://acme-audio").close()
        assert server.requests == []


class TestAnswers:
    def everything(self, store, tmp_path):
        written = {"content_type": "audio/flac", "metadata": {}}
        return [
            lambda: list(store.list()),
            lambda: store.stat("a.flac"),
            lambda: store.read("a.flac"),
            lambda: store.fetch("a.flac", version="7", stat=None, folder=str(tmp_path)),
            lambda: store.create("a.flac", b"", **written),
            lambda: store.delete("a.flac"),
        ]

    @pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
    def test_a_server_in_trouble_is_unavailable(self, server, store, tmp_path, status):
        server.answer(status)
        for call in self.everything(store, tmp_path):
            with pytest.raises(Unavailable, match=r"gs://acme-audio/masters.*try again later"):
                call()
        assert list(tmp_path.iterdir()) == []

    def test_a_missing_right_is_a_matter_of_configuration(self, server, store, tmp_path):
        server.answer(403, {"error": {"code": 403, "message": "no storage.objects.get"}})
        for call in self.everything(store, tmp_path):
            with pytest.raises(ConfigurationError, match=r"roles/storage\.objectUser"):
                call()
        assert len(server.requests) == 6  # and is not tried again

    def test_credentials_that_do_not_count_are_a_matter_of_configuration(self, server, store):
        server.answer(401)
        with pytest.raises(ConfigurationError, match="gcloud auth application-default login"):
            store.stat("a.flac")

    def test_a_missing_bucket_is_a_matter_of_configuration(self, server, store, tmp_path):
        server.answer(404)
        for call in self.everything(store, tmp_path):
            with pytest.raises(ConfigurationError, match="the bucket 'acme-audio' does not exist"):
                call()

    def test_whether_the_bucket_is_there_is_asked_once(self, server, store):
        server.answer(404)
        server.answer(200, {})
        server.answer(404)
        for _ in range(3):
            with pytest.raises(MissingInput):
                store.stat("a.flac")
        assert len(server.requests) == 4

    def test_what_passes_is_tried_again(self, server):
        patient = CloudStorage("gs://acme-audio/masters", deadline_s=ONE_RETRY_S)
        server.answer(503)
        server.answer(200, b"sound", **SOUND)
        assert patient.read("a.flac") == b"sound"
        patient.close()

    def test_damage_on_the_way_is_found(self, server, store, tmp_path):
        server.answer(200, b"s0und", **SOUND)
        with pytest.raises(Unavailable, match="try again later"):
            store.read("a.flac")
        with pytest.raises(Unavailable, match="try again later"):
            store.fetch("a.flac", version="7", stat=None, folder=str(tmp_path))
        assert list(tmp_path.iterdir()) == []

    def test_a_connection_that_breaks_off_is_unavailable(self, server, store, tmp_path):
        server.answer(200, b"sou", **SOUND, Content_Length="5")
        with pytest.raises(Unavailable):
            store.read("a.flac")
        with pytest.raises(Unavailable):
            store.fetch("a.flac", version="7", stat=None, folder=str(tmp_path))
        assert list(tmp_path.iterdir()) == []

    def test_an_object_beyond_the_bound_is_not_downloaded(self, server, tmp_path):
        server.answer(200, bytes(10_000), x_goog_generation="7")
        bounded = CloudStorage("gs://acme-audio", max_download_bytes=9_999)
        with pytest.raises(CorruptMedia, match="more than 9999 bytes"):
            bounded.fetch("a.flac", version="7", stat=None, folder=str(tmp_path))
        assert list(tmp_path.iterdir()) == []
        bounded.close()

    def test_a_full_disk_is_said_to_be_full(self, store):
        with (
            pytest.raises(DiskFull, match="no room is left"),
            store._translate_errors("a.flac"),
            open("/dev/full", "wb", buffering=0) as full,
        ):
            full.write(b"sound")

    def test_a_server_that_is_away_is_unavailable(self, monkeypatch, tmp_path):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))  # nobody listens, and nobody else gets the port
            monkeypatch.setenv(emulators.STORAGE.variable, address(unused))
            self.assert_unavailable(tmp_path)

    def test_a_server_that_never_answers_is_unavailable(self, monkeypatch, tmp_path):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            monkeypatch.setenv(emulators.STORAGE.variable, address(silent))
            self.assert_unavailable(tmp_path)

    def assert_unavailable(self, tmp_path):
        store = CloudStorage("gs://acme-audio", deadline_s=0.2)
        for call in self.everything(store, tmp_path):
            with pytest.raises(Unavailable, match="try again later"):
                call()
        store.close()


def address(listener: socket.socket) -> str:
    host, port = listener.getsockname()
    return f"{host}:{port}"


class TestNames:
    """A catalogue's names are whatever people uploaded."""

    @pytest.mark.parametrize(
        "name", ["a//b", "/a.flac", "a/../b.flac", "./a.flac", "a/", "a\nb", "..a", "%2F", "a?b#c"]
    )
    def test_any_name_is_listed_and_read(self, bucket, tmp_path, name):
        writer = CloudStorage(f"gs://{bucket}")
        writer._open_connection.upload(
            name, b"sound", content_type="audio/flac", metadata={}, only_if_generation=0
        )
        (found,) = writer.list()
        assert found.name == name
        assert writer.read(name, generation=found.generation) == b"sound"
        path = writer.fetch(name, version=str(found.generation), stat=None, folder=str(tmp_path))
        assert path.startswith(f"{tmp_path}/")
        assert writer.stat(name).size_bytes == 5
        assert writer.delete(name)
        writer.close()

    def test_the_marker_of_a_folder_is_not_listed_in_it(self, bucket):
        store = CloudStorage(f"gs://{bucket}")
        for name in ("masters/", "masters/a.flac", "masters2/b.flac"):
            store._open_connection.upload(
                name, b"", content_type="text/plain", metadata={}, only_if_generation=0
            )
        assert [o.name for o in CloudStorage(f"gs://{bucket}/masters/").list()] == ["a.flac"]
        store.close()

    def test_lineage_travels_with_the_object(self, bucket):
        store = CloudStorage(f"gs://{bucket}/artifacts")
        lineage = Lineage(job="beats", fingerprint="0" * 12, uri="gs://é/\U0001f3b5", version="1")
        store.create("a", b"{}", content_type="application/json", metadata=lineage.to_metadata())
        assert Lineage.from_metadata(store.stat("a").metadata) == lineage
        store.close()

    def test_more_metadata_than_an_object_may_have_is_refused(self, bucket):
        store = CloudStorage(f"gs://{bucket}")
        with pytest.raises(ConfigurationError, match=r"has 8197 bytes.* may have 8192"):
            store.create("a", b"", content_type="a/b", metadata={"segue": "x" * 8192})
        store.close()


class TestOpening:
    @pytest.mark.parametrize("location", ["file:///folder", "gs://", "s3://bucket", "folder"])
    def test_what_is_no_bucket_is_refused(self, location):
        with pytest.raises(ConfigurationError, match="gs://bucket"):
            CloudStorage(location)

    @pytest.mark.parametrize(
        ("location", "uri"),
        [
            ("gs://acme-audio", "gs://acme-audio/a b%.flac"),
            ("gs://acme-audio/", "gs://acme-audio/a b%.flac"),
            ("gs://acme-audio/masters", "gs://acme-audio/masters/a b%.flac"),
            ("gs://acme-audio/masters/2024/", "gs://acme-audio/masters/2024/a b%.flac"),
        ],
    )
    def test_uris_start_with_the_location(self, location, uri):
        store = CloudStorage(location)
        assert store.uri("a b%.flac") == uri
        assert uri == f"{store.location}/a b%.flac"

    def test_without_credentials_it_says_how_to_get_them(self, monkeypatch, tmp_path):
        monkeypatch.delenv(emulators.STORAGE.variable, raising=False)
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
        with pytest.raises(ConfigurationError, match="gcloud auth application-default login"):
            CloudStorage("gs://acme-audio").stat("a")

    def test_by_default_it_is_google_that_is_asked(self, monkeypatch, user_credentials):
        monkeypatch.delenv(emulators.STORAGE.variable, raising=False)
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", user_credentials)
        store = CloudStorage("gs://acme-audio")
        assert store._open_connection.client.api_endpoint == "https://storage.googleapis.com"
        store.close()
