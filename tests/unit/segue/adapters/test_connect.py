from __future__ import annotations

import errno
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from segue.adapters.connect import (
    check_credentials,
    check_writable,
    connect_ledger,
    connect_queue,
    ledger_exists,
    open_ledger_to_read,
)
from segue.errors import ConfigurationError, DiskFull
from segue.model.ledger import Change, Query, Snapshot
from segue.model.queue import Envelope, list_subscriptions
from segue.model.record import Record
from segue_support.stream import build_graph

URI = "gs://acme-audio/a.flac"
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def put(ledger, uri: str = URI) -> None:
    record = Record(uri=uri, version="v1", order=1, arrived_at=NOW)
    ledger.change([Change(uri=uri, transition=lambda _: (record, None))])


class TestQueue:
    def test_the_subscriptions_of_a_graph_exist_once_it_is_connected(self, tmp_path):
        graph = build_graph({"a": "", "b": "a"})
        url = f"sqlite:///{tmp_path}/queue.db"
        queue = connect_queue(url)
        queue.publish([Envelope(topic="source", data=b"lost")])
        connect_queue(url, graph).close()
        topics = ("source", "done-a", "inbox-a", "inbox-b", "dead")
        queue.publish([Envelope(topic=topic, data=topic.encode()) for topic in topics])
        names = [one.name for one in list_subscriptions(graph)]
        pulled = queue.pull(names, limit=100)
        assert {one.subscription: one.data for one in pulled} == {
            "a.source": b"source",
            "a.inbox": b"inbox-a",
            "b.done-a": b"done-a",
            "b.inbox": b"inbox-b",
            "dead": b"dead",
        }
        queue.close()


class TestReading:
    def test_a_ledger_that_does_not_exist_yet_is_empty_and_stays_so(self, tmp_path):
        url = f"sqlite:///{tmp_path}/made/ledger.db"
        ledger = open_ledger_to_read(url)
        assert ledger.read([URI]) == [Snapshot(record=None)]
        assert ledger.find(Query()) == []
        counts = ledger.count({"beats": ["0a"]})
        assert counts.files == counts.deleted == 0
        assert set(counts.jobs["beats"].values()) == {0}
        ledger.close()
        assert not ledger_exists(url)
        assert list(tmp_path.iterdir()) == []

    def test_threads_share_it(self, tmp_path):
        ledger = open_ledger_to_read(f"sqlite:///{tmp_path}/ledger.db")
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda i: put(ledger, f"gs://acme-audio/{i:02d}.flac"), range(20)))
        assert len(ledger.find(Query())) == 20
        ledger.close()

    def test_one_that_exists_is_read(self, tmp_path):
        url = f"sqlite:///{tmp_path}/ledger.db"
        ledger = connect_ledger(url)
        put(ledger)
        ledger.close()
        assert ledger_exists(url)
        ledger = open_ledger_to_read(url)
        assert [record.uri for record in ledger.find(Query())] == [URI]
        ledger.close()

    def test_one_of_another_namespace_is_not_read(self, tmp_path):
        url = f"sqlite:///{tmp_path}/ledger.db"
        connect_ledger(url, "moods").close()
        with pytest.raises(ConfigurationError, match="'moods', and this graph is of 'default'"):
            open_ledger_to_read(url)
        open_ledger_to_read(url, "moods").close()

    def test_one_in_the_cloud_is_assumed_to_exist(self):
        assert ledger_exists("firestore://acme-audio")
        assert ledger_exists("pubsub://acme-audio")


@pytest.mark.parametrize("open_", [connect_ledger, open_ledger_to_read])
def test_a_url_of_another_scheme_is_refused(open_):
    with pytest.raises(ConfigurationError, match="write firestore://project/database or sqlite"):
        open_("mysql://acme/ledger")


@pytest.mark.parametrize(
    ("url", "client"),
    [
        ("firestore://acme-audio", "google.cloud.firestore_v1"),
        ("pubsub://acme-audio", "google.pubsub_v1"),
        ("gs://acme-audio", "google.cloud.storage"),
        ("sqlite:///ledger.db", None),
    ],
)
def test_only_the_clients_of_the_given_urls_are_preloaded(url, client):
    clients = ("google.cloud.firestore_v1", "google.pubsub_v1", "google.cloud.storage")
    code = (
        f"import sys; from segue.adapters.connect import preload_clients; "
        f"preload_clients([{url!r}]); print([m for m in {clients} if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == str([client] if client else [])


def test_missing_credentials_are_named_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(ConfigurationError, match="gcloud auth application-default login"):
        check_credentials()


class TestCheckWritable:
    def test_a_folder_that_can_be_written_to_is_left_as_it_was(self, tmp_path):
        for location in (tmp_path, tmp_path / "a/b", f"file://{tmp_path}/a"):
            check_writable(str(location))
        assert list(tmp_path.iterdir()) == []

    def test_a_bucket_is_not_tried(self):
        check_writable("gs://there-is-no-such-bucket/a")

    @pytest.mark.skipif(not os.path.isdir("/proc/1"), reason="only Linux has /proc")
    def test_a_place_where_nothing_can_be_made_is_told_with_the_remedy(self):
        with pytest.raises(
            ConfigurationError, match=r"'/proc/a/b' is not writable .* another place"
        ):
            check_writable("/proc/a/b")

    def test_a_file_is_no_folder(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(ConfigurationError, match="is not writable"):
            check_writable(f"{tmp_path}/file/a")

    def test_a_full_disk_is_told_as_such(self, tmp_path, monkeypatch):
        def write(**_arguments):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("tempfile.TemporaryFile", write)
        with pytest.raises(DiskFull, match="no room is left"):
            check_writable(str(tmp_path))
