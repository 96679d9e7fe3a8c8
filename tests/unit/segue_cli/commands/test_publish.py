"""Publishing and locking from the command line: what is shown, and which exit codes scripts get."""

from __future__ import annotations

import pytest

PLATFORM = """
namespace: platform
contact: platform@example.org
registry: registry
jobs:
  fine:
    {run: "segue_support.jobs:fine", needs: {media: source}, writes: application/json,
     publish: true}
"""
MOODS = """
namespace: moods
contact: moods@example.org
registry: registry
jobs:
  after:
    {run: "segue_support.jobs:after", needs: {value: platform/fine}, writes: application/json}
"""
OLD, NEW = ("--graph", "platform/jobs.yaml"), ("--graph", "moods/jobs.yaml")


@pytest.fixture
def teams(folder, monkeypatch):
    monkeypatch.delenv("SEGUE_REGISTRY", raising=False)
    for name, text in (("platform", PLATFORM), ("moods", MOODS)):
        (folder / name).mkdir()
        (folder / name / "jobs.yaml").write_text(text)
    return folder


@pytest.fixture
def shared(segue, teams):
    """Both teams have published, and the one is locked to the other."""
    for arguments in (("publish", *OLD), ("lock", *NEW), ("publish", *NEW)):
        assert segue(*arguments).code == 0
    return teams


def change_platform(teams) -> None:
    text = PLATFORM.replace("publish: true", "publish: true, version: 2")
    (teams / "platform/jobs.yaml").write_text(text)


def test_a_dry_run_publishes_nothing(segue, teams):
    said = segue("publish", *OLD, "--dry-run")
    assert said.code == 0
    assert "fine" in said.out
    assert "new" in said.out
    assert "Nothing was published." in said.err
    assert not (teams / "registry").exists()


def test_what_is_published_is_shown_and_again_it_is_the_same(segue, teams):
    assert "Published platform to registry." in segue("publish", *OLD).err
    said = segue("publish", *OLD)
    assert "same" in said.out
    assert "The registry has this already." in said.err


def test_a_lock_is_written_and_checked(segue, teams):
    segue("publish", *OLD)
    checked = segue("lock", *NEW, "--check")
    assert checked.code == 4
    assert "not current; to write it: segue lock --graph moods/jobs.yaml\n" in checked.err
    assert not (teams / "moods/segue.lock").exists()
    said = segue("lock", *NEW)
    assert (said.code, "platform/fine" in said.out) == (0, True)
    assert "Wrote moods/segue.lock; commit it." in said.err
    again = segue("lock", *NEW, "--check")
    assert (again.code, again.out) == (0, "")
    assert "segue.lock is current." in again.err
    assert segue("lock", *NEW, "--json").json == {
        "lock": "moods/segue.lock",
        "current": True,
        "changes": {},
    }


def test_taking_away_what_others_use_is_refused_and_broken_on_request(segue, shared):
    change_platform(shared)
    said = segue("publish", *OLD)
    assert said.code == 2
    assert "moods is locked to platform/fine" in said.err
    dry = segue("publish", *OLD, "--dry-run")
    assert dry.code == 3
    assert "moods (moods@example.org) is locked to fine" in dry.err
    assert "It would be refused." in dry.err
    found = segue("publish", *OLD, "--break", "--json")
    assert found.code == 0
    assert found.json["changed"]
    assert [pin["namespace"] for pin in found.json["broken"]] == ["moods"]
    assert found.json["jobs"] != found.json["previous"]


def test_nothing_changes_for_a_team_until_it_locks_again(segue, shared):
    before = segue("graph", *NEW, "--json").json
    change_platform(shared)
    segue("publish", *OLD, "--break")
    assert segue("graph", *NEW, "--json").json == before
    changes = segue("lock", *NEW, "--json").json["changes"]
    assert changes["platform/fine"]["before"] == before["foreign"]["platform/fine"]["fingerprint"]
    after = segue("graph", *NEW, "--json").json
    assert after["jobs"][0]["fingerprint"] != before["jobs"][0]["fingerprint"]


@pytest.mark.parametrize("command", ["publish", "lock"])
def test_without_a_registry_the_remedy_is_named(segue, teams, command):
    for name, text in (("platform", PLATFORM), ("moods", MOODS)):
        (teams / name / "jobs.yaml").write_text(text.replace("registry: registry\n", ""))
    said = segue(command, *(OLD if command == "publish" else NEW))
    assert said.code == 2
    assert "no registry is set; write 'registry:' in" in said.err
    assert "SEGUE_REGISTRY" in said.err


@pytest.mark.parametrize("command", ["publish", "lock"])
def test_a_registry_of_another_kind_is_refused_and_no_folder_of_its_name_is_made(
    segue, teams, command
):
    said = segue(command, *(OLD if command == "publish" else NEW), "--registry", "s3://acme")
    assert said.code == 2
    assert "'s3://acme' is not a registry that Segue supports" in said.err
    assert not (teams / "s3:").exists()


def test_other_graphs_need_no_lock_and_say_nothing_of_one(segue, teams):
    assert "segue.lock is current." in segue("lock", *OLD).err
    assert not (teams / "platform/segue.lock").exists()


def test_the_tree_starts_from_other_namespaces_jobs(segue, shared):
    lines = segue("graph", *NEW).out.splitlines()
    assert lines[1].startswith("platform/fine")
    assert "└─ after" in lines[2]
    assert (
        'job_platform_fine(["platform/fine"]):::source'
        in segue("graph", *NEW, "--format", "mermaid").out
    )


def find_checks(segue, *arguments: str) -> dict[str, tuple[str, str]]:
    findings = segue("doctor", *arguments, "--json").json["findings"]
    return {f["name"]: (f["status"], f["detail"]) for f in findings}


def test_doctor_compares_the_lock_and_the_pins_with_the_registry(segue, teams, monkeypatch):
    monkeypatch.setenv("PATH", "")  # asking other programs for their versions takes seconds
    segue("publish", *OLD)
    segue("lock", *NEW)
    status, detail = find_checks(segue, *NEW)["registry"]
    assert (status, "does not know what segue.lock is locked to" in detail) == ("note", True)
    segue("publish", *NEW)
    found = find_checks(segue, *NEW)
    assert found["registry"] == ("ok", f"file://{teams}/registry")
    assert found["ledger of platform"][0] == "note"
    assert "does not exist" in found["ledger of platform"][1]
    change_platform(teams)
    segue("publish", *OLD, "--break")
    status, detail = find_checks(segue, *NEW)["registry"]
    assert (status, "something else than segue.lock" in detail) == ("note", True)


@pytest.mark.parametrize("arguments", [("--registry", "registry"), ("--registry", *OLD)])
def test_what_all_have_published_is_drawn_in_all_formats(segue, shared, arguments):
    rows = [line.split()[:2] for line in segue("graph", *arguments).out.splitlines()[1:]]
    assert rows[0][0] == "moods"
    assert rows[1][0] == "platform"
    assert rows[2] == ["└─", "fine"]
    assert rows[3] == ["└─", "moods"]
    found = segue("graph", *arguments, "--json").json
    assert found["namespaces"]["moods"]["contact"] == "moods@example.org"
    assert [(edge["job"], edge["standing"]) for edge in found["edges"]] == [
        ("platform/fine", "current")
    ]
    assert "lhead" in segue("graph", *arguments, "--format", "dot").out
    assert segue("graph", *arguments, "-o", "teams.mmd").code == 0
    assert (shared / "teams.mmd").read_text().startswith("flowchart LR")


def test_a_registry_is_drawn_without_a_lock_and_shows_who_is_locked_to_older_results(segue, shared):
    change_platform(shared)
    segue("publish", *OLD, "--break")
    (shared / "moods/segue.lock").unlink()
    said = segue("graph", *NEW, "--registry")
    (line,) = [line for line in said.out.splitlines() if "broken" in line]
    assert line.split()[:3] == ["└─", "moods", "broken"]


def test_an_unset_or_empty_registry_is_said_to_be_so(segue, teams, monkeypatch):
    said = segue("graph", "--registry")
    assert (said.code, said.out) == (2, "")
    assert "no registry is set; name one after --registry" in said.err
    assert segue("graph", "--registry", "--check", *OLD).code == 2
    monkeypatch.setenv("SEGUE_REGISTRY", "elsewhere")
    said = segue("graph", "--registry")
    assert "Nobody has published to elsewhere yet." in said.err
    assert segue("graph", "--registry", "--json").json["namespaces"] == {}


def test_explain_follows_a_file_to_what_other_namespaces_have(segue, shared):
    (shared / "music").mkdir()
    (shared / "music/song.wav").write_bytes(b"sound")
    said = segue("explain", "music/song.wav", *NEW)
    assert said.code == 0
    lines = said.out.splitlines()
    at = lines.index("Of platform  platform@example.org")
    assert "its ledger cannot be read: there is no sqlite:///" in lines[at + 1]
    assert lines[at + 2].split()[::2] == ["fine", "unknown", "moods"]
    assert "SEGUE_REGISTRY" not in said.out
    assert segue("backfill", *OLD, "--prefix", "music", "--all").code == 0
    (row,) = [
        line
        for line in segue("explain", "music/song.wav", *NEW).out.splitlines()
        if line.endswith("for moods")
    ]
    assert row.split()[2] == "done"
    found = segue("explain", "music/song.wav", *NEW, "--json").json
    (platform,) = found["namespaces"]
    assert (platform["namespace"], platform["problem"]) == ("platform", None)
    assert [(job["job"], job["state"], job["needed_by"]) for job in platform["jobs"]] == [
        ("fine", "done", ["moods"])
    ]
    assert [*found["foreign"]["platform/fine"]["artifacts"]] == platform["jobs"][0]["artifacts"]


def test_explain_says_what_to_set_to_follow_a_file_further(segue, shared):
    text = MOODS.replace("registry: registry\n", "")
    (shared / "moods/jobs.yaml").write_text(text)
    (shared / "song.wav").write_bytes(b"sound")
    said = segue("explain", "song.wav", *NEW)
    assert "set SEGUE_REGISTRY or --registry" in said.out
    assert "SEGUE_REGISTRY" not in segue("explain", "song.wav", *NEW, "--registry", "registry").out
