"""What each page says, and what its forms do."""

from __future__ import annotations

import html
import re
from contextlib import closing
from dataclasses import replace
from datetime import timedelta

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from segue.adapters.connect import connect_store
from segue.clock import utc_now
from segue.model.controls import pause_jobs
from segue.model.record import Entry, Failure, Record, State
from segue.model.run import RunCounts, RunKind, RunRecord, RunSelection, RunState, save_run
from segue_console.live import describe_counts
from segue_console.namespace import LiveCounts, Namespace
from segue_console.pages.failures import SHOWN
from segue_support.results import NOW, OLD

RUN = "20260102T030405.000000Z-0a1b2c3d"


def put(writer, name: str, job: str, state: State, **more) -> str:
    entry = Entry(job=job, state=state, order=1, **more)
    results = {writer.graph.fingerprints[job]: entry}
    uri = writer.uri(name)
    writer.put(Record(uri=uri, version="1", order=1, arrived_at=NOW, results=results))
    return uri


def fail(writer, name: str, message: str) -> str:
    error = Failure(kind="timeout", type="JobTimeout", message=message, traceback="line 1")
    return put(writer, name, "beats", State.FAILED, error=error, attempts=1)


def save(writer, **changes) -> RunRecord:
    values = {
        "id": RUN,
        "kind": RunKind.BACKFILL,
        "state": RunState.RUNNING,
        "who": "ann@studio",
        "started_at": utc_now() - timedelta(seconds=100),
        "updated_at": utc_now(),
        "selection": RunSelection(),
        "jobs": ("beats",),
        "counts": RunCounts(files=50, jobs={"beats": {"done": 50}}, cpu_seconds={"beats": 7200.0}),
    }
    run = RunRecord(**{**values, **changes})
    save_run(writer.artifacts, run, replace=True)
    return run


def count_again(namespace: Namespace) -> None:
    """Count the ledger now."""
    namespace.live.stop()
    namespace.live = LiveCounts(namespace)
    namespace.live.start()


class TestCatalogue:
    def test_an_empty_ledger_says_what_to_do(self, console):
        assert "segue backfill --prefix FOLDER --all" in console.get("/default/").text

    def test_each_job_has_its_counts(self, console, writer, namespace):
        writer.write("a.wav", beats={})
        fail(writer, "b.wav", "too long")
        count_again(namespace)
        text = console.get("/default/").text
        assert "1 done, 1 failed" in text
        assert 'data-needs="source"' in text

    def test_the_share_is_that_of_the_files_that_a_job_is_for(self, console, writer, namespace):
        writer.write("a.wav", beats={})
        put(writer, "b.wav", "beats", State.NOT_APPLICABLE)
        fail(writer, "c.wav", "too long")
        count_again(namespace)
        (node,) = re.findall(r'(?s)data-node="beats".*?</li>', console.get("/default/").text)
        assert '<span class="share" data-share>50.0 %</span>' in node
        assert "1 done, 1 not applicable, 1 failed" in node
        assert "<strong data-share>50.0 %</strong>" in console.get("/default/jobs/beats").text
        counted = namespace.live.watch()
        assert describe_counts(counted)["jobs"]["beats"]["share"] == "50.0 %"

    def test_the_first_address_leads_to_the_first_namespace(self, console):
        found = console.client.get("/", follow_redirects=False)
        assert found.headers["location"] == "/default/"

    @pytest.mark.parametrize("path", ["/other/", "/default/none", "/default/jobs/none"])
    def test_what_does_not_exist_is_not_found(self, console, path):
        found = console.get(path)
        assert found.status_code == 404
        assert "Not found" in found.text

    def test_a_page_that_does_not_exist_leads_to_one_that_does(self, console):
        text = console.get("/default/none").text
        assert "There is no such page." in text
        assert '<a href="/">' in text

    def test_why_a_part_of_a_page_cannot_be_shown_is_text(self, console):
        found = console.client.get("/default/jobs/<b>/sample", headers={"HX-Request": "true"})
        assert found.status_code == 404
        assert found.headers["content-type"].startswith("text/plain")
        assert found.text == "The graph has no job '<b>'.\n"

    def test_a_graph_that_has_changed_is_shown_as_it_is(self, console, writer):
        path = writer.folder / "jobs.yaml"
        before = path.read_text()
        path.write_text(before.replace("  absent:", "  new_one:"))
        text = console.get("/default/").text
        assert 'data-node="new_one"' in text
        assert 'data-node="absent"' not in text
        assert console.get("/default/jobs/new_one").status_code == 200

    def test_a_graph_whose_file_is_gone_stays(self, console, writer, namespace):
        path = writer.folder / "jobs.yaml"
        namespace.settings = replace(namespace.settings, graph=None)  # the one of the folder
        before = path.read_text()
        path.unlink()
        text = console.get("/default/").text
        assert "jobs.yaml does not exist any more" in text
        assert 'data-node="absent"' in text
        path.write_text(before)
        assert "does not exist any more" not in console.get("/default/").text

    def test_a_graph_that_is_wrong_is_told_and_the_old_one_shown(self, console, writer):
        path = writer.folder / "jobs.yaml"
        before = path.read_text()
        path.write_text("jobs: [1]")
        text = console.get("/default/").text
        assert "The graph has changed and is not shown" in text
        assert 'data-node="absent"' in text
        path.write_text(before + "\n")
        assert "The graph has changed" not in console.get("/default/").text


class TestFile:
    def test_everything_about_each_job_is_told(self, console, writer):
        uri = fail(writer, "a.wav", "it took 9 s")
        text = console.get("/default/file", uri=uri).text
        assert "it took 9 s" in text
        assert "line 1" in text
        assert "What to do: raise the job" in text
        assert "it has never been requested" in text
        assert "The file does not exist any more" in text
        assert "version <code>1</code>" in text

    def test_what_a_file_needs_next_is_said_before_its_jobs(self, console, writer):
        uri = fail(writer, "a.wav", "it took 9 s")
        (writer.folder / "music" / "a.wav").write_bytes(b"sound")
        text = console.get("/default/file", uri=uri).text
        assert "A backfill would compute beats, plain" in text
        assert "The file was overwritten since" in text

    def test_results_of_jobs_that_left_the_graph_are_shown(self, console, writer, namespace):
        writer.write("a.wav", beats={"tempo_bpm": 60.0})
        path = writer.folder / "jobs.yaml"
        path.write_text(path.read_text().replace("  beats:", "  pulse:"))
        text = console.get("/default/file", uri=writer.uri("a.wav")).text
        assert "Jobs that are no longer in the graph" in text

    def test_the_name_of_the_file_is_not_repeated_in_its_messages(self, console, writer):
        uri = fail(writer, "a.wav", f"{writer.uri('a.wav')}: empty file")
        text = console.get("/default/file", uri=uri).text
        assert "</strong> empty file" in text

    def test_results_are_requested_from_the_page_of_a_file(self, writable, writer):
        writer.write("a.wav", beats={})
        page = f"/default/file?uri={writer.uri('a.wav')}"
        assert "Request results" in writable.get(page).text
        asked = writable.post("/default/request", page, uri=writer.uri("a.wav"))
        assert "1 file" in asked.text

    def test_an_artifact_that_is_gone_is_told(self, console, writer):
        writer.write("a.wav", beats={"tempo_bpm": 60.0})
        (path,) = (writer.folder / "artifacts" / "beats").rglob("*.json")
        path.unlink()
        text = console.get("/default/file", uri=writer.uri("a.wav")).text
        assert "this object is gone" in text

    def test_a_file_that_was_overwritten_is_told(self, console, writer):
        path = writer.folder / "music" / "a.wav"
        path.write_bytes(b"sound")
        with closing(connect_store(str(path.parent))) as store:
            version = store.identify("a.wav").to_media_file("").version
        writer.write("a.wav", version, beats={})
        note = "The file was overwritten since"
        assert note not in console.get("/default/file", uri=writer.uri("a.wav")).text
        path.write_bytes(b"another sound")
        assert note in console.get("/default/file", uri=writer.uri("a.wav")).text

    def test_a_deleted_file_is_not_found(self, console, writer):
        writer.write("a.wav", beats={})
        writer.delete("a.wav")
        assert console.get("/default/file", uri=writer.uri("a.wav")).status_code == 404

    def test_tracks_are_those_of_the_current_results(self, console, writer):
        writer.write("a.wav", fingerprint=OLD, beats={"times_s": [9.0]})
        writer.write("a.wav", beats={"times_s": [1.0, 2.0], "tempo_bpm": 60.0})
        found = console.get("/default/file/tracks", uri=writer.uri("a.wav")).json()
        (track,) = found["tracks"]
        assert found["left_out"] == 0
        assert (track["name"], track["kind"]) == ("beats: times", "ticks")
        assert track["times_s"] == [1.0, 2.0]

    def test_of_very_many_tracks_the_first_are_drawn(self, console, writer):
        columns = {f"e{n:03}": [0.0, 1.0] for n in range(512)}
        writer.write("a.wav", table=pa.table({"times_s": [0.0, 0.5], **columns}))
        found = console.get("/default/file/tracks", uri=writer.uri("a.wav")).json()
        assert (len(found["tracks"]), found["left_out"]) == (40, 473)

    def test_a_result_that_was_changed_is_not_drawn(self, console, writer):
        writer.write("a.wav", beats={"times_s": [1.0]})
        (path,) = (writer.folder / "artifacts" / "beats").rglob("*.json")
        path.write_text('{"times_s": [2.0]}')
        found = console.get("/default/file/tracks", uri=writer.uri("a.wav")).json()
        assert found["tracks"] == []

    def test_a_value_is_a_table_and_json(self, console, writer):
        writer.write("a.wav", beats={"tempo_bpm": 120.5, "labels": {"x": 1.0}})
        made = writer.graph.fingerprints["beats"]
        found = console.get(
            "/default/file/value", uri=writer.uri("a.wav"), fingerprint=made, suffix="json"
        )
        assert "labels.x" in found.text
        assert "120.5" in found.text

    def test_the_largest_numbers_are_shown(self, console, writer):
        writer.write("a.wav", beats={"times_s": [1e308, -1e308] * 10})
        made = writer.graph.fingerprints["beats"]
        found = console.get(
            "/default/file/value", uri=writer.uri("a.wav"), fingerprint=made, suffix="json"
        )
        assert "20 values, -1e+308 to 1e+308" in found.text

    def test_of_a_large_value_the_beginning_is_shown(self, console, writer):
        words = {f"word{n}": "x" * 9000 for n in range(700)}
        writer.write("a.wav", beats=words)
        made = writer.graph.fingerprints["beats"]
        found = console.get(
            "/default/file/value", uri=writer.uri("a.wav"), fingerprint=made, suffix="json"
        )
        assert "JSON, its beginning" in found.text
        assert len(found.text) < 2_000_000

    def test_a_table_has_times_of_any_unit(self, console, writer):
        at = pa.array([1_700_000_000_000_000_001], pa.timestamp("ns", "UTC"))
        writer.write("a.wav", table=pa.table({"at": at, "level": [float("nan")]}))
        made = writer.graph.fingerprints["table"]
        found = console.get(
            "/default/file/value", uri=writer.uri("a.wav"), fingerprint=made, suffix="parquet"
        )
        assert "2023-11-14T22:13:20" in found.text

    def test_a_small_table_with_very_many_rows_is_not_read(self, console, writer):
        rows = pa.repeat(pa.scalar(1.0), 1_000_001)
        writer.write("a.wav", table=pa.table({"level": rows}))
        uri, made = writer.uri("a.wav"), writer.graph.fingerprints["table"]
        found = console.get("/default/file/value", uri=uri, fingerprint=made, suffix="parquet")
        assert "too large to show" in found.text
        assert console.get("/default/file/tracks", uri=uri).json()["tracks"] == []

    def test_versions_are_compared_side_by_side(self, console, writer):
        uri = writer.uri("a.wav")
        writer.write("a.wav", fingerprint=OLD, beats={"tempo_bpm": 60.0, "count": 4})
        writer.write("a.wav", beats={"tempo_bpm": 120.0, "count": 4})
        assert "What changed since" in console.get("/default/file", uri=uri).text
        new = writer.graph.fingerprints["beats"]
        found = console.get(
            "/default/file/comparison", uri=uri, old=OLD, new=new, suffix="json"
        ).text
        assert "tempo_bpm" in found
        assert "1 other field unchanged" in found

    def test_a_result_that_is_lost_is_not_compared(self, console, writer):
        writer.write("a.wav", fingerprint=OLD, beats={"tempo_bpm": 60.0})
        writer.write("a.wav", beats={"tempo_bpm": 120.0})
        new = writer.graph.fingerprints["beats"]
        for path in (writer.folder / "artifacts" / "beats" / OLD).rglob("*.json"):
            path.unlink()
        found = console.get(
            "/default/file/comparison", uri=writer.uri("a.wav"), old=OLD, new=new, suffix="json"
        )
        assert "One of the two is lost" in found.text

    def test_null_is_a_value(self, console, writer):
        writer.write("a.wav", plain=None)
        made = writer.graph.fingerprints["plain"]
        found = console.get(
            "/default/file/value", uri=writer.uri("a.wav"), fingerprint=made, suffix="json"
        )
        assert ">null</pre>" in found.text

    def test_pictures_are_compared_by_looking(self, console, writer):
        uri = writer.uri("a.wav")
        for made, grey in ((OLD, 0), (None, 9)):
            picture = np.full((4, 4), grey, np.uint8)
            writer.write("a.wav", fingerprint=made, picture=picture)
        new = writer.graph.fingerprints["picture"]
        found = console.get("/default/file/comparison", uri=uri, old=OLD, new=new, suffix="png")
        assert found.text.count("<img") == 2

    @pytest.mark.parametrize("old", ["", "none", "../.."])
    def test_what_is_no_result_is_not_compared(self, console, writer, old):
        writer.write("a.wav", beats={})
        new = writer.graph.fingerprints["beats"]
        found = console.get(
            "/default/file/comparison", uri=writer.uri("a.wav"), old=old, new=new, suffix="json"
        )
        assert found.status_code == 404


class TestJob:
    def test_numbers_and_texts_are_distributed(self, console, writer):
        for n in range(10):
            value = {"tempo_bpm": 100.0 + n, "key": "C" if n < 7 else None, "beats": [1] * n}
            writer.write(f"{n}.wav", beats=value)
        text = console.get("/default/jobs/beats/sample").text
        assert "all 10 files" in text
        assert "tempo_bpm: 100 to 109, median 104.5" in text
        assert "null in 3" in text
        assert "beats (length)" in text

    def test_versions_are_shown_over_time(self, console, writer):
        made = writer.graph.fingerprints["beats"]
        for n, (fingerprint, hour) in enumerate([(OLD, 0), (OLD, 1), (made, 1), (made, 2)]):
            at = NOW + timedelta(hours=hour)
            entry = Entry(job="beats", state=State.DONE, order=1, finished_at=at)
            uri = writer.uri(f"{n}.wav")
            record = Record(uri=uri, version="1", order=1, arrived_at=NOW)
            writer.put(msgspec.structs.replace(record, results={fingerprint: entry}))
        text = console.get("/default/jobs/beats/sample").text
        assert text.count(f"<title>1 result of {OLD}</title>") == 2
        assert text.count(f"<title>1 result of {made}</title>") == 2
        assert 'y="0.0" height="5.0"' in text  # the second of two in the same bar is on the first

    def test_one_moment_is_not_drawn_over_time(self, console, writer):
        writer.write("a.wav", beats={})
        assert "Results over time" not in console.get("/default/jobs/beats/sample").text

    def test_what_to_do_about_a_failure_is_told(self, console, writer):
        fail(writer, "a.wav", "it took 9 s")
        assert "What to do: raise the job" in console.get("/default/jobs/beats").text

    def test_each_state_leads_to_its_files(self, console, writer, namespace):
        fail(writer, "a.wav", "it took 9 s")
        count_again(namespace)
        text = console.get("/default/jobs/beats").text
        assert 'data-state="failed" >' in text
        assert 'data-state="done" hidden>' in text
        assert "/default/files?job=beats&amp;state=failed" in text

    def test_numbers_may_be_as_far_apart_as_can_be(self, console, writer):
        for n, tempo in enumerate((-1e308, 0.0, 1e308)):
            writer.write(f"{n}.wav", beats={"tempo_bpm": tempo})
        text = console.get("/default/jobs/beats/sample").text
        assert "tempo_bpm: -1e+308 to 1e+308, median 0" in text

    def test_of_very_many_fields_the_first_are_shown(self, console, writer):
        writer.write("a.wav", beats={f"word{n:04}": n for n in range(5000)})
        text = console.get("/default/jobs/beats/sample").text
        assert text.count("<figure") == 200
        assert "And 4,800 other fields" in text

    def test_each_output_has_fields_of_its_own(self, console, writer):
        writer.write("a.wav", stems__summary={"peaks": 0.5})
        assert "summary.peaks" in console.get("/default/jobs/stems/sample").text

    def test_failures_are_counted_by_kind_and_message(self, console, writer):
        for n in range(3):
            fail(writer, f"{n}.wav", f"{writer.uri(f'{n}.wav')}: it took 9 s")
        text = console.get("/default/jobs/beats").text
        assert text.count(">it took 9 s<") == 1

    def test_throughput_is_json(self, console):
        assert console.get("/default/jobs/beats/throughput").json().keys() == {"times", "rates"}


class TestFiles:
    def test_none_says_what_to_do(self, console):
        assert "segue backfill --prefix FOLDER --all" in console.get("/default/files").text
        assert "No files match" in console.get("/default/files", prefix="x").text

    @pytest.mark.parametrize(
        ("prefix", "parent"),
        [
            ("file:///music/a/b/", "prefix=file%3A%2F%2F%2Fmusic%2Fa%2F"),
            ("file:///music/", None),
            ("gs://bucket/a/", "prefix=gs%3A%2F%2Fbucket%2F"),
            ("gs://bucket/", None),
            ("music", None),
        ],
    )
    def test_a_folder_leads_to_the_one_above(self, console, prefix, parent):
        text = console.get("/default/files", prefix=prefix).text
        assert ("The folder above" in text) == (parent is not None)
        assert parent is None or parent in text


class TestRuns:
    def test_none_says_what_starts_one(self, console):
        assert "segue backfill" in console.get("/default/runs").text

    def test_a_run_has_its_rate_and_what_is_left(self, console, writer, namespace):
        for n in range(100):
            put(writer, f"{n:02}.wav", "beats", State.DONE)
        count_again(namespace)
        save(writer)
        text = console.get(f"/default/runs/{RUN}").text
        assert "0.5 files per second" in text
        assert "2 h 00 min, which cost" in text
        assert "hx-trigger" in text
        assert "1 min 40 s left" in text
        assert '<progress max="100" value="50"' in text

    def test_the_list_is_asked_again_while_one_is_running(self, console, writer):
        save(writer)
        assert "hx-trigger" in console.get("/default/runs").text
        save(writer, state=RunState.DONE, ended_at=utc_now())
        assert "hx-trigger" not in console.get("/default/runs").text

    def test_one_that_has_ended_is_not_asked_again(self, console, writer):
        save(writer, state=RunState.DONE, ended_at=utc_now())
        assert "hx-trigger" not in console.get(f"/default/runs/{RUN}").text

    @pytest.mark.parametrize("limit", ["", "0", "-1", "x", "\u0663", "9" * 5000, "1e9", "\0"])
    def test_any_limit_lists_them(self, console, writer, limit):
        save(writer)
        found = console.get("/default/runs", limit=limit)
        assert found.status_code == 200
        assert "ann@studio" in found.text

    @pytest.mark.parametrize("run", ["none", "../../jobs.yaml", "a" * 200])
    def test_another_is_an_error(self, console, run):
        assert console.get(f"/default/runs/{run}").status_code in (400, 404)

    def test_a_backfill_is_cancelled(self, writable, writer):
        save(writer)
        found = writable.post(f"/default/runs/{RUN}/cancel", f"/default/runs/{RUN}")
        assert found.status_code == 200
        assert writer.ledger.read_controls().cancelled.keys() == {RUN}
        assert "it is being cancelled" in found.text
        assert "<form" not in found.text

    def test_one_elsewhere_is_recorded_as_cancelled(self, writable, writer, monkeypatch):
        asked: list[str] = []
        monkeypatch.setattr("segue.maintenance.cancellation.cancel_job", asked.append)
        job = "projects/p/locations/r/jobs/1"
        save(writer, runner="DataflowRunner", runner_job=job)
        found = writable.post(f"/default/runs/{RUN}/cancel", f"/default/runs/{RUN}")
        assert asked == [job]
        assert "<span>by " in found.text
        assert "Cancel the run" not in found.text

    def test_one_whose_process_was_killed_cannot_be_cancelled(self, writable, writer):
        save(writer, updated_at=utc_now() - timedelta(days=1))
        found = writable.post(f"/default/runs/{RUN}/cancel", "/default/files")
        assert found.status_code == 400

    def test_one_that_has_ended_cannot_be_cancelled(self, writable, writer):
        save(writer, state=RunState.DONE, ended_at=utc_now())
        found = writable.post(f"/default/runs/{RUN}/cancel", "/default/files")
        assert found.status_code == 400
        assert writer.ledger.read_controls().cancelled == {}


class TestFailures:
    def test_they_are_grouped_with_what_to_do(self, console, writer):
        for n in range(5):
            fail(writer, f"{n}.wav", f"{writer.uri(f'{n}.wav')}: it took 9 s")
        fail(writer, "x.wav", "it took 8 s")
        text = console.get("/default/failures").text
        assert text.count("it took 9 s") == 1
        assert "5 files" in text
        assert "timeout_s" in text
        assert "<form" not in text

    def test_only_the_largest_groups_are_shown(self, console, writer):
        for n in range(SHOWN + 2):
            fail(writer, f"{n}.wav", f"problem {n}")
        text = console.get("/default/failures").text
        assert "2 smaller groups not shown" in text

    def test_a_retry_is_shown_before_it_is_done(self, writable, writer):
        uri = fail(writer, "a.wav", "it took 9 s")
        preview = writable.post("/default/failures/retry", "/default/failures", job="beats")
        assert "Retry 1 file" in preview.text
        (found,) = writer.ledger.read([uri])
        made = writer.graph.fingerprints["beats"]
        assert found.record.results[made].state is State.FAILED
        done = writable.post(
            "/default/failures/retry", "/default/failures", job="beats", confirm="1"
        )
        assert "Retried" in done.text
        (found,) = writer.ledger.read([uri])
        assert found.record.results[made].state is State.QUEUED
        assert "retry" in writable.get("/default/runs").text

    @pytest.mark.parametrize("given", [{"job": "none"}, {"job": "beats", "kind": "none"}])
    def test_what_does_not_exist_cannot_be_retried(self, writable, writer, given):
        fail(writer, "a.wav", "it took 9 s")
        found = writable.post("/default/failures/retry", "/default/failures", **given)
        assert found.status_code == 400


class TestRequest:
    def test_no_job_is_told(self, writable, writer):
        writer.write("a.wav", beats={})
        fields = {"uri": writer.uri("a.wav"), "plan": "1"}
        assert (
            "at least one job" in writable.post("/default/request", "/default/files", **fields).text
        )
        assert "at least one job" in writable.get("/default/plan", prefix="").text
        assert "at least one job" not in writable.get("/default/plan").text

    def test_it_is_planned_before_it_is_sent(self, writable, writer):
        (writer.folder / "music" / "a.wav").write_bytes(b"sound")
        writer.write("a.wav", beats={})
        uri = writer.uri("a.wav")
        page = "/default/files"
        assert "Choose" in writable.get(page).text
        asked = writable.post("/default/request", page, uri=uri)
        assert "Show what that would compute" in asked.text
        planned = writable.post("/default/request", page, uri=uri, job="plain")
        assert "<td>plain</td>" in planned.text
        current = writable.post("/default/request", page, uri=uri, job="beats")
        assert "All that is current already" in current.text
        given = {"uri": uri, "job": "plain", "planned": "plain", "confirm": "1"}
        sent = writable.post("/default/request", page, **given)
        assert "0 of 1 file finished" in sent.text

    def test_the_plan_is_what_a_request_has_computed(self, writable, writer):
        """A request tries a failed job again only with force, and no paused job."""
        (writer.folder / "music" / "a.wav").write_bytes(b"sound")
        uri, page = fail(writer, "a.wav", "it took 9 s"), "/default/files"
        found = writable.post("/default/request", page, uri=uri, job="beats")
        assert "All that is current already, or cannot be computed now" in found.text
        found = writable.post("/default/request", page, uri=uri, job="beats", force="on")
        assert "<td>beats</td>" in found.text
        writer.ledger.change_controls(
            lambda controls: pause_jobs(controls, ["beats"], by=None, now=utc_now())
        )
        found = writable.post("/default/request", page, uri=uri, job="beats", force="on")
        assert "<td>beats</td>" not in found.text
        writer.delete("a.wav")
        found = writable.post("/default/request", page, uri=uri, job="beats", force="on")
        assert "1 file not in the ledger" in found.text

    @pytest.mark.parametrize(
        "given",
        [
            {"job": "plain"},
            {"job": ["plain", "beats"], "planned": "plain"},
            {"job": "plain", "planned": "plain", "force": "on"},
            {"planned": "plain"},
            {"planned": ""},
        ],
    )
    def test_what_was_not_planned_is_not_sent(self, writable, writer, given):
        writer.write("a.wav", beats={})
        given = {"uri": writer.uri("a.wav"), "confirm": "1", **given}
        found = writable.post("/default/request", "/default/files", **given)
        assert "<h1>Request results</h1>" in found.text
        assert ("The choice has changed" in found.text) == ("job" in given)
        assert "0 runs" in writable.get("/default/runs").text

    @pytest.mark.parametrize(
        "name", ["a\nb.wav", "a\u202eb\x1b.wav", "100%25.wav", "\u96e8 ' \".wav"]
    )
    def test_a_file_of_any_name_can_be_chosen(self, writable, writer, name):
        (writer.folder / "music" / name).write_bytes(b"sound")
        writer.write(name, beats={})
        (chosen,) = re.findall(r'name="uri" value="([^"]*)"', writable.get("/default/files").text)
        found = writable.post(
            "/default/request", "/default/files", uri=html.unescape(chosen), job="plain"
        )
        assert "<td>plain</td>" in found.text
        page = writable.get("/default/file", uri=writer.uri(name))
        for text in (found.text, page.text):
            assert re.findall(r'name="uri" value="([^"]*)"', text) == [chosen]

    @pytest.mark.parametrize(
        "given",
        [
            {},
            {"uri": "file:///a.wav", "prefix": "music"},
            {"uri": "file:///a.wav", "job": "none"},
            {"uri": [f"file:///{n}.wav" for n in range(1001)]},
        ],
    )
    def test_a_wrong_one_is_refused(self, writable, given):
        assert writable.post("/default/request", "/default/files", **given).status_code == 400


class TestPlan:
    def test_nothing_is_planned_without_jobs(self, console):
        text = console.get("/default/plan", prefix="music").text
        assert 'id="plan"' not in text

    def test_an_unknown_job_is_an_error(self, console):
        assert console.get("/default/plan", job="none").status_code == 400
