"""One job on one file, in this process; integration tests run it in a child process."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime

import msgspec
import numpy as np
import pytest

from segue.adapters.connect import connect_store
from segue.codec import encode
from segue.media.audio import Audio
from segue.testing.sound import tone, write
from segue.worker.running_job import RunningJob
from segue_cli.commands.run import NOTE_S, RunningNotes
from segue_cli.views.values import describe_artifact, format_summary

GRAPH = """
artifacts: artifacts
jobs:
  fine: {run: "segue_support.jobs:fine", needs: {media: source}, writes: application/json}
  after: {run: "segue_support.jobs:after", needs: {value: fine}, writes: application/json}
  raises: {run: "segue_support.jobs:raise_error", needs: {media: source}, writes: application/json}
  below: {run: "segue_support.jobs:after", needs: {value: raises}, writes: application/json}
  prints: {run: "segue_support.jobs:print_much", needs: {media: source}, writes: application/json}
  split:
    run: segue_support.jobs:split
    needs: {media: source}
    writes: {name: application/json, bytes: application/octet-stream}
  above: {run: "segue_support.jobs:after", needs: {value: split.name}, writes: application/json}
  choosy: {run: "segue_support.jobs:decline", needs: {media: source}, writes: application/json}
  songs:
    run: segue_support.jobs:fine
    needs: {media: source}
    accepts: [image/*]
    writes: application/json
  damaged: {run: "segue_support.jobs:refuse", needs: {media: source}, writes: application/json}
  away:
    run: segue_support.jobs:be_unavailable
    needs: {media: source}
    params: {times: 99}
    writes: application/json
  downsample:
    run: segue.features.resampling:downsample
    needs: {media: source}
    params: {sample_rate_hz: 22050, channels: 1}
    writes: audio/flac
"""
HERE = "--no-isolation"


@pytest.fixture
def files(project):
    """Write a file on which jobs succeed, and one on which they fail."""
    project.change_graph(GRAPH)
    write(tone(440.0, 1.0, peak_dbfs=-6.0, channels=2), "music/good.wav")
    write(tone(440.0, 0.1), "music/bad.wav")


def test_a_job_runs_with_all_above_it_and_leaves_nothing_behind(segue, project, files):
    said = segue("run", "after", "music/good.wav", HERE)
    assert (said.code, json.loads(said.out)) == (0, {"after": {"ok": True}})
    assert "Running fine, after on file://" in said.err
    assert "after took" in said.err
    assert not (project.folder / "artifacts").exists()
    assert not (project.folder / ".segue").exists()


def test_as_json_the_result_comes_with_times_and_identity(segue, project, files):
    found = segue("run", "after", "good.wav", "--catalogue", "music", HERE, "--json").json
    assert found["result"] == {"after": {"ok": True}}
    assert found["uri"] == f"file://{project.folder}/music/good.wav"
    assert found["fingerprint"] == project.graph.fingerprints["after"]
    assert found["version"] == connect_store("music").identify("good.wav").digest
    assert [(r["job"], r["state"]) for r in found["results"]] == [
        ("fine", "done"),
        ("after", "done"),
    ]
    assert all(r["seconds"] >= 0 and r["cpu_seconds"] >= 0 for r in found["results"])


def test_what_a_job_raises_is_shown_from_its_own_code_on(segue, files):
    said = segue("run", "below", "music/bad.wav", HERE, "--json")
    assert said.code == 1
    first = said.err.partition("Traceback")[2].splitlines()[1]
    assert "segue_support/jobs.py" in first or "job.py" in first
    (result,) = said.json["results"]
    assert (result["job"], result["state"]) == ("raises", "failed")
    assert result["error"]["kind"] == "job_raised"
    assert result["error"]["traceback"].splitlines()[1].endswith("in raise_error")
    assert said.json["result"] is None


def test_what_a_job_returns_is_refused_without_a_traceback(segue, project, files):
    (project.folder / "empty.py").write_text("def nothing(media): pass\n")
    project.change_graph(
        'jobs: {nothing: {run: "empty:nothing", needs: {media: source}, writes: application/json}}'
    )
    said = segue("run", "nothing", "music/good.wav", HERE)
    assert said.code == 1
    assert "the job returned nothing" in said.err
    assert "Traceback" not in said.err


def test_a_damaged_file_is_reported_as_such(segue, files):
    said = segue("run", "damaged", "music/bad.wav", HERE)
    assert (said.code, said.out) == (1, "")
    assert "corrupt_media" in said.err


def test_a_transient_failure_says_try_again_later(segue, files, monkeypatch):
    assert segue("run", "away", "music/bad.wav", HERE).code == 5


def test_what_a_job_prints_is_no_part_of_the_json(segue, files):
    assert segue("run", "prints", "music/good.wav", HERE, "--json").json["result"]


def test_sound_is_described_and_written_to_a_file(segue, files):
    said = segue("run", "downsample", "music/good.wav", HERE)
    first, path = said.out.splitlines()
    assert first.startswith("audio/flac")
    assert "1 s, 22,050 Hz, 1 channel, peak 0.5" in first
    assert os.path.basename(path) == "good.downsample.flac"
    assert os.path.getsize(path) > 0


def test_parameters_can_be_changed_for_a_run(segue, files):
    found = segue(
        *("run", "downsample", "music/good.wav", HERE, "--json"),
        *("--param", "sample_rate_hz=16000", "--output", "out.flac"),
    ).json
    assert found["params"] == {"sample_rate_hz": 16000, "channels": 1}
    assert found["result"]["sample_rate_hz"] == 16000
    assert found["output"] == os.path.abspath("out.flac")
    assert os.path.exists("out.flac")


@pytest.mark.parametrize(
    ("param", "said"),
    [
        ("sample_rate", "write NAME=VALUE"),
        ("no such=1", "write NAME=VALUE"),
        ("sample_rate_hz=[", "not valid YAML"),
        ("sample_rate_hz=1e4", """write \"sample_rate_hz='…'\""""),
        ("rate=1", "takes no parameter 'rate'"),
        ("sample_rate_hz=fast", "sample_rate_hz"),
    ],
)
def test_a_parameter_that_is_wrong_is_refused(segue, files, param, said):
    refused = segue("run", "downsample", "music/good.wav", HERE, "--param", param)
    assert refused.code == 2
    assert said in refused.err


def test_an_unknown_job_and_a_missing_file_are_refused(segue, files):
    assert "did you mean 'after'?" in segue("run", "aftr", "music/good.wav").err
    said = segue("run", "after", "music/none.wav")
    assert said.code == 2
    assert "check the path" in said.err


def describe(content_type, value):
    return describe_artifact(content_type, encode(content_type, value).data)


def summarise(content_type, value):
    return "\n".join(format_summary(describe(content_type, value)))


def test_sound_is_described_by_length_rate_channels_and_peak():
    y = np.zeros((2, 24000), np.float32)
    y[1, 7] = -0.5
    found = describe("audio/wav", Audio(y=y, sr=48000))
    assert (found["duration_s"], found["sample_rate_hz"], found["channels"]) == (0.5, 48000, 2)
    assert found["peak"] == 0.5
    assert summarise("audio/wav", Audio(y=y, sr=48000)).endswith(
        "0.5 s, 48,000 Hz, 2 channels, peak 0.5"
    )


@pytest.mark.parametrize("content_type", ["image/png", "image/jpeg"])
def test_a_picture_is_described_by_its_size(content_type):
    image = np.zeros((30, 40, 3), np.uint8)
    found = describe(content_type, image)
    assert (found["width"], found["height"]) == (40, 30)
    assert summarise(content_type, image).endswith("40 x 30 pixels")


def test_arrays_are_described_by_name_kind_and_shape():
    arrays = {"mel": np.zeros((128, 10), np.float32), "sr": np.array(22050)}
    assert describe("application/x-npz", arrays)["arrays"]["mel"] == {
        "shape": [128, 10],
        "dtype": "float32",
    }
    lines = summarise("application/x-npz", arrays).splitlines()
    assert "  mel: float32, 128 x 10" in lines
    assert "  sr: int64, one value" in lines


def test_a_table_is_described_by_rows_and_columns():
    rows = [{"start_s": 0.0, "chord": "Am"}, {"start_s": 1.0, "chord": "F"}]
    found = describe("application/vnd.apache.parquet", rows)
    assert (found["rows"], found["columns"]) == (2, ["start_s", "chord"])
    assert "2 rows of start_s, chord" in summarise("application/vnd.apache.parquet", rows)


def test_bytes_are_described_by_their_number():
    assert summarise("application/octet-stream", b"1234") == "application/octet-stream, 4 B"


def test_each_output_is_shown_and_written_to_a_file(segue, project, files):
    said = segue("run", "split", "music/good.wav", HERE)
    assert said.code == 0
    assert 'name:\n{\n  "of": "good.wav"\n}\nbytes:\napplication/octet-stream, 2 B' in said.out
    assert said.out.endswith("/good.split.bytes.bin\n")
    found = segue("run", "split", "music/good.wav", HERE, "--output", "out", "--json").json
    assert found["result"]["name"] == {"of": "good.wav"}
    assert found["result"]["bytes"]["size_bytes"] == 2
    names = {"name": "good.split.name.json", "bytes": "good.split.bytes.bin"}
    assert found["output"] == {o: str(project.folder / "out" / n) for o, n in names.items()}
    assert (project.folder / "out/good.split.bytes.bin").read_bytes() == b"12"
    said = segue("run", "above", "music/good.wav", HERE)
    assert json.loads(said.out) == {"after": {"of": "good.wav"}}


def test_several_outputs_do_not_fit_into_one_stream(segue, files):
    said = segue("run", "split", "music/good.wav", HERE, "--output", "-")
    assert said.code == 2
    assert "'split' has several outputs (name, bytes); name a folder" in said.err
    assert "took" not in said.err


@pytest.mark.parametrize(
    ("job", "file", "reason"),
    [
        ("choosy", "bad", "there is nothing in it"),
        ("songs", "good", "the file is sound (audio/wav), and the job accepts image/*"),
    ],
)
def test_a_job_that_is_not_for_the_file_has_not_failed(segue, files, job, file, reason):
    said = segue("run", job, f"music/{file}.wav", HERE)
    assert (said.code, said.out) == (0, "")
    assert f"{job} is not for this file" in said.err
    assert reason in said.err
    assert "Traceback" not in said.err
    found = segue("run", job, f"music/{file}.wav", HERE, "--json").json
    assert (found["result"], found["results"][0]["state"]) == (None, "not_applicable")


def test_without_a_terminal_progress_is_a_note_now_and_then():
    job = RunningJob(
        job="fine",
        uris=("file:///a.wav",),
        since=datetime(2026, 1, 2, tzinfo=UTC),
        fraction=0.25,
        text="working",
    )
    silent = msgspec.structs.replace(job, fraction=None)
    notes, now_s, counts = [], [0.0], []
    shown = RunningNotes(notes.append, clock=lambda: now_s[0])
    for now_s[0] in (0.0, NOTE_S - 1, NOTE_S, NOTE_S + 1, 2 * NOTE_S):
        shown.show([silent])
        shown.show([silent, job])
        counts.append(len(notes))
    assert counts == [0, 0, 1, 1, 2]
    assert notes[0] == "fine a.wav: 25 % working"
