"""The jobs that ship with Segue are listed, and each says what it returns."""

from __future__ import annotations

from segue.model.graph import read_graph
from segue.model.shipped_graphs import DEFAULT_PATH
from segue_cli.commands.jobs import complete_name


def test_the_list_has_every_job_of_every_shipped_graph(segue):
    said = segue("jobs")
    assert said.code == 0
    lines = said.out.splitlines()
    for job in read_graph(DEFAULT_PATH, {}).jobs.values():
        (line,) = [line for line in lines if line.split()[0] == job.name]
        assert "default" in line
    assert lines[0].split()[:4] == ["job", "graph", "needs", "writes"]


def test_the_list_as_json_has_schemas(segue):
    jobs = {one["job"]: one for one in segue("jobs", "--json").json["jobs"]}
    assert jobs["energy"]["needs"] == {"audio": "downsample", "beats": "beats"}
    assert jobs["energy"]["schema"]["properties"]["rms_dbfs"]["type"] == "number"
    assert jobs["downsample"]["schema"] is None
    assert jobs["downsample"]["outputs"] == {"": "audio/flac"}


def test_models_that_only_a_graph_lists_have_their_licences_too(segue):
    found = segue("jobs", "language", "--json").json
    assert found["models"][0] == "whisper_base@1"
    assert found["licences"] == ["MIT"] * len(found["models"])
    assert "whisper_base@1 (MIT)" in segue("jobs", "language").out


def test_one_job_is_shown_with_its_result_and_its_documentation(segue):
    said = segue("jobs", "energy")
    assert said.code == 0
    assert "run     segue.features.dynamics:energy" in said.out
    assert "lead_in_rms_dbfs  number or null" in said.out
    assert "Measure the RMS energy of a file" in said.out
    assert segue("jobs", "energy", "--json").json["schema"]["title"] == "Energy"


def test_a_job_that_does_not_ship_is_refused_with_a_suggestion(segue):
    said = segue("jobs", "enrgy")
    assert said.code == 2
    assert "'enrgy'" in said.err
    assert "'energy'" in said.err


def test_names_are_completed():
    assert [item.value for item in complete_name(None, None, "ener")] == ["energy"]
