"""Pages of what is not there: files, results, jobs of the past; and of other namespaces."""

from __future__ import annotations

from contextlib import closing

import pytest

from segue.adapters.connect import connect_ledger, connect_store
from segue.model.artifact import compute_checksum
from segue.model.ledger import Change
from segue.model.manifest import Lock, Manifest, PublishedJob, encode_manifest
from segue.model.record import Entry, Record, State
from segue.model.settings import Settings
from segue.model.shipped_graphs import list_shipped_graphs, locate_graph
from segue_support.results import NOW

PAGES = ("", "files", "runs", "failures", "plan", "jobs/beats", "jobs/beats/sample")
MOODS = """
namespace: moods
artifacts: moods
jobs:
  mood:
    run: "segue_support.jobs:fine"
    needs: {beats: default/beats}
    writes: application/json
"""


class TestNoFiles:
    @pytest.mark.parametrize("page", PAGES)
    def test_a_ledger_without_files_has_all_pages(self, console, writer, page):
        assert console.get(f"/default/{page}").status_code == 200

    @pytest.mark.parametrize("page", PAGES)
    def test_a_folder_without_a_ledger_has_all_pages(self, console, namespace, writer, page):
        namespace.settings = Settings(
            graph=namespace.settings.graph,
            ledger=f"sqlite:///{writer.folder}/none.db",
            queue=f"sqlite:///{writer.folder}/none-queue.db",
        )
        namespace._stack, namespace._has_ledger = None, False
        assert console.get(f"/default/{page}").status_code == 200
        assert not (writer.folder / "none.db").exists()
        assert not (writer.folder / "none-queue.db").exists()

    def test_a_search_without_results_says_so(self, console, writer):
        writer.write("a.wav", plain={})
        text = console.get("/default/files", job="beats", state="failed").text
        assert "<tbody>" in text
        assert "a.wav" not in text


class TestDeletedFile:
    @pytest.fixture
    def uri(self, writer) -> str:
        for name in ("gone.wav", "kept.wav"):
            (writer.folder / "music" / name).write_bytes(b"sound")
            writer.write(name, beats={"tempo_bpm": 120.0})
        writer.delete("gone.wav")
        return writer.uri("gone.wav")

    @pytest.mark.parametrize(
        "page", ["file", "file/tracks", "file/waveform", "file/value", "media", "artifact"]
    )
    def test_nothing_of_it_is_shown(self, console, writer, uri, page):
        made = writer.graph.fingerprints["beats"]
        found = console.get(f"/default/{page}", uri=uri, fingerprint=made, suffix="json")
        assert found.status_code == 404
        assert b"120" not in found.content

    def test_it_is_not_compared(self, console, writer, uri):
        made = writer.graph.fingerprints["beats"]
        found = console.get("/default/file/comparison", uri=uri, old=made, new=made, suffix="json")
        assert found.status_code == 404

    def test_it_is_in_no_list(self, console, writer, uri):
        for page in ("files", "files?state=done&job=beats", "jobs/beats/sample"):
            text = console.client.get(f"/default/{page}").text
            assert "gone.wav" not in text
        assert "kept.wav" in console.get("/default/files").text

    def test_it_is_not_requested(self, writable, writer, uri):
        planned = writable.post("/default/request", "/default/files", uri=uri, job="plain")
        assert planned.status_code == 200
        assert "<td>plain</td>" not in planned.text


class TestJobOfThePast:
    @pytest.fixture
    def uri(self, writer) -> str:
        """A file with results of a job that the graph has no more, and a failure of another."""
        data = b'{"mood": "calm"}'
        entries = {
            "aaaaaaaaaaaa": Entry(
                job="mood",
                state=State.DONE,
                order=1,
                checksums={"json": compute_checksum(data)},
                finished_at=NOW,
            ),
            "bbbbbbbbbbbb": Entry(job="lyrics", state=State.FAILED, order=1),
        }
        uri = writer.uri("a.wav")
        writer.put(Record(uri=uri, version="1", order=1, arrived_at=NOW, results=entries))
        return uri

    def test_its_page_is_not_found(self, console, uri):
        for page in ("jobs/mood", "jobs/mood/sample", "jobs/mood/throughput"):
            assert console.get(f"/default/{page}").status_code == 404

    @pytest.mark.parametrize("page", PAGES)
    def test_other_pages_do_without_it(self, console, uri, page):
        found = console.get(f"/default/{page}")
        assert found.status_code == 200
        assert "lyrics" not in found.text

    def test_the_page_of_its_file_keeps_it_apart(self, console, uri):
        found = console.get("/default/file", uri=uri)
        assert found.status_code == 200
        assert "Jobs that are no longer in the graph" in found.text
        _, _, rest = found.text.partition("Jobs that are no longer in the graph")
        assert all(text in rest for text in ("mood", "lyrics", "failed"))
        assert console.get("/default/file/tracks", uri=uri).json()["tracks"] == []

    def test_a_list_of_its_files_is_refused(self, console, uri):
        assert console.get("/default/files", job="mood").status_code == 400


class TestOtherNamespace:
    """A graph whose job reads the results of another one."""

    @pytest.fixture
    def folder(self, writer):
        beats = PublishedJob(
            fingerprint=writer.graph.fingerprints["beats"],
            writes="application/json",
            pipeline="beats",
            owner="platform team",
        )
        manifest = Manifest(
            namespace="default",
            ledger=writer.url,
            queue=f"sqlite:///{writer.folder}/queue.db",
            artifacts=f"file://{writer.folder}/artifacts",
            jobs={"beats": beats},
        )
        found = writer.folder / "moods"
        found.mkdir()
        (found / "jobs.yaml").write_text(MOODS)
        lock = encode_manifest(Lock(namespaces={"default": manifest}))
        (found / "segue.lock").write_bytes(lock)
        return found

    @pytest.fixture
    def moods(self, writer, folder) -> Settings:
        (writer.folder / "music" / "a.wav").write_bytes(b"sound")
        settings = Settings(
            graph=str(folder / "jobs.yaml"),
            ledger=f"sqlite:///{folder}/ledger.db",
            queue=f"sqlite:///{folder}/queue.db",
        )
        record = Record(
            uri=writer.uri("a.wav"),
            version=identify(writer, "a.wav"),
            order=1,
            arrived_at=NOW,
        )
        with closing(connect_ledger(settings.ledger, "moods")) as ledger:
            ledger.change([Change(uri=record.uri, transition=lambda _: (record, None))])
        return settings

    def test_it_is_in_the_picture_with_its_owner(self, open_console, moods):
        text = open_console(moods).get("/moods/").text
        assert 'data-node="default/beats"' in text
        assert "platform team" in text
        assert 'data-needs="default/beats"' in text

    @pytest.mark.parametrize("page", ["", "files", "runs", "failures", "plan", "jobs/mood"])
    def test_all_pages_are_there(self, open_console, moods, page):
        assert open_console(moods).get(f"/moods/{page}").status_code == 200

    def test_a_job_says_what_it_needs(self, open_console, moods):
        assert "default/beats" in open_console(moods).get("/moods/jobs/mood").text

    def test_a_job_of_the_other_graph_has_no_page_here(self, open_console, moods):
        assert open_console(moods).get("/moods/jobs/default%2Fbeats").status_code == 404

    def test_a_file_says_what_the_other_graph_has_of_it(self, open_console, moods, writer):
        console = open_console(moods)
        text = console.get("/moods/file", uri=writer.uri("a.wav")).text
        assert "Of default" in text
        assert '<span class="state missing">' in text
        version = identify(writer, "a.wav")
        writer.write("a.wav", version, beats={"times_s": [1.0]})
        text = console.get("/moods/file", uri=writer.uri("a.wav")).text
        assert '<span class="state done">' in text
        assert console.get("/moods/file/tracks", uri=writer.uri("a.wav")).json()["tracks"] == []

    def test_a_ledger_of_the_other_graph_that_is_away_is_told(self, open_console, moods, folder):
        lock = folder / "segue.lock"
        text = lock.read_text()
        lock.write_text(text.replace("sqlite:///", "nosuch:///"))
        console = open_console(moods)
        found = console.get("/moods/file", uri=f"file://{folder.parent}/music/a.wav")
        assert found.status_code == 200
        assert "nosuch:" in found.text

    def test_a_file_is_found_in_the_namespace_that_has_it(self, open_console, moods, writer):
        """The other ledger has the file, too; each has its own record of it."""
        writer.write("a.wav", beats={"times_s": [1.0]})
        writer.write("b.wav", beats={"times_s": [1.0]})
        both = (Settings(graph=str(writer.folder / "jobs.yaml"), ledger=writer.url), moods)
        console = open_console(*both)
        assert 'href="/moods/"' in console.get("/default/").text
        assert "b.wav" in console.get("/default/files").text
        assert "b.wav" not in console.get("/moods/files").text
        assert console.get("/default/file/tracks", uri=writer.uri("b.wav")).json()["tracks"] != []
        for page in ("file", "media"):
            assert console.get(f"/moods/{page}", uri=writer.uri("b.wav")).status_code == 404

    def test_a_lock_that_has_changed_is_read_again(self, open_console, moods, folder):
        console = open_console(moods)
        lock = folder / "segue.lock"
        lock.write_bytes(lock.read_bytes().replace(b"platform team", b"rhythm team"))
        assert "rhythm team" in console.get("/moods/").text
        lock.unlink()
        assert "The graph has changed and is not shown" in console.get("/moods/").text


def identify(writer, name: str) -> str:
    """Return the version of a file as it is."""
    with closing(connect_store(f"{writer.folder}/music")) as store:
        return store.identify(name).to_media_file(writer.uri(name)).version


@pytest.mark.parametrize("graph", list_shipped_graphs())
def test_the_graphs_that_ship_have_all_pages(open_console, writer, graph):
    settings = Settings(
        graph=locate_graph(graph),
        ledger=f"sqlite:///{writer.folder}/ledger-{graph}.db",
        queue=f"sqlite:///{writer.folder}/queue.db",
    )
    console = open_console(settings)
    (name,) = console.client.app._app.state.namespaces
    jobs = console.client.app._app.state.namespaces[name].graph.jobs
    for page in ("", "files", "failures", "plan", *(f"jobs/{job}" for job in jobs)):
        assert console.get(f"/{name}/{page}").status_code == 200
