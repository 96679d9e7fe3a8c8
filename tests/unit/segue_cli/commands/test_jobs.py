"""The jobs that ship with Segue are listed, and each says what it returns."""

from __future__ import annotations

import re

from segue.model.graph import read_graph
from segue.model.shipped_graphs import list_shipped_graphs
from segue_cli.commands.jobs import complete_name


def test_the_list_has_every_job_of_every_shipped_graph(segue):
    said = segue("jobs")
    assert said.code == 0
    for path in list_shipped_graphs().values():
        for job in read_graph(path, {}).jobs.values():
            assert re.search(
                rf"^  {job.name} +{re.escape(job.description)}$", said.out, re.MULTILINE
            )
    assert "downsample -> image/png" in said.out
    assert re.search(r"-> json; .*whisper_base_vocabulary@1 \(MIT\)", said.out)
    assert "also in melody, rhythm" in said.out


def test_a_job_is_listed_under_the_graph_of_its_name(segue):
    jobs = {one["job"]: one for one in segue("jobs", "--json").json["jobs"]}
    assert jobs["speech"]["graphs"][0] == "speech"
    assert jobs["downsample"]["graphs"][0] == "default"


def test_the_fields_of_inner_objects_are_shown(segue):
    out = segue("jobs", "pitch").out
    assert re.search(r"summary.median_hz +number or null +fundamental frequency, in Hz", out)
    assert re.search(r"segments\[\].text +string +what is said", segue("jobs", "transcript").out)


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
    assert "whisper_base@1, whisper_base_config@1" in segue("jobs", "language").out


def test_one_job_is_shown_with_its_result_and_its_documentation(segue):
    said = segue("jobs", "energy")
    assert said.code == 0
    assert "run     segue.features.dynamics:energy" in said.out
    assert "lead_in_rms_dbfs  number or null" in said.out
    assert "Measure the RMS energy of a file" in said.out
    assert segue("jobs", "energy", "--json").json["schema"]["title"] == "Energy"


def test_a_job_that_is_a_class_is_shown_with_what_its_call_says(segue):
    said = segue("jobs", "pitch")
    assert said.code == 0
    assert "Where a pitch is looked for" in said.out
    assert "Row n of" in said.out


def test_a_job_that_does_not_ship_is_refused_with_a_suggestion(segue):
    said = segue("jobs", "enrgy")
    assert said.code == 2
    assert "'enrgy'" in said.err
    assert "'energy'" in said.err


def test_names_are_completed():
    assert [item.value for item in complete_name(None, None, "ener")] == ["energy"]


def test_the_name_of_a_graph_lists_its_jobs(segue):
    jobs = [one["job"] for one in segue("jobs", "rhythm", "--json").json["jobs"]]
    assert jobs == ["downsample", "downbeats"]
    out = segue("jobs", "rhythm").out
    assert "downbeats" in out
    assert "loudness" not in out
