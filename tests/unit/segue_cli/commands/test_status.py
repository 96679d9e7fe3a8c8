"""The progress of each job, as numbers and as bars."""

from __future__ import annotations

from segue.model.record import State


def fill(project):
    """Record four files and a tombstone with known numbers per job."""
    for name in ("a/1.wav", "a/2.wav", "b/3.wav", "b/4.wav", "b/gone.wav"):
        project.media(name)
    one, two, three, four, gone = (
        project.media(n) for n in ("a/1.wav", "a/2.wav", "b/3.wav", "b/4.wav", "b/gone.wav")
    )
    done = {media.uri: {"fine": project.entry("fine", media)} for media in (one, three, gone)}
    project.record(one, {**done[one.uri], "after": project.failed("after", one)})
    project.record(two, {"0" * 12: project.entry("fine", two)})
    project.record(three, {**done[three.uri], "after": project.blocked("after", three, "fine")})
    project.record(
        four,
        {
            "fine": project.entry("fine", four, State.QUEUED),
            "beside": project.entry("beside", four, State.NOT_APPLICABLE),
        },
    )
    project.record(gone, done[gone.uri], deleted_at=project.known(one).arrived_at)


def test_each_job_is_counted_by_state_and_the_states_add_up(segue, project):
    fill(project)
    found = segue("status", "--ledger", "sqlite:///ledger.db", "--json").json
    assert (found["files"], found["deleted"]) == (4, 1)
    jobs = found["jobs"]
    assert [jobs[job].pop("stale") for job in ("fine", "after", "beside")] == [1, 0, 0]
    assert jobs["fine"] == {
        "done": 2,
        "not_applicable": 0,
        "failed": 0,
        "blocked": 0,
        "running": 0,
        "queued": 1,
        "missing": 1,
    }
    assert jobs["after"]["failed"] == jobs["after"]["blocked"] == 1
    assert (jobs["beside"]["not_applicable"], jobs["beside"]["missing"]) == (1, 3)
    assert all(sum(states.values()) == 4 for states in jobs.values())


def test_a_prefix_counts_what_is_below_it(segue, project):
    fill(project)
    found = segue("status", "--ledger", "sqlite:///ledger.db", "--prefix", "music/b", "--json").json
    assert found["prefix"] == f"file://{project.folder}/music/b/"
    assert (found["files"], found["deleted"]) == (2, 1)
    assert found["jobs"]["fine"]["done"] == found["jobs"]["fine"]["queued"] == 1
    assert found["jobs"]["beside"]["missing"] == 1


def test_in_a_pipe_each_job_has_a_line_with_all_columns(segue, project):
    fill(project)
    said = segue("status", "--ledger", "sqlite:///ledger.db")
    assert said.code == 0
    lines = [line.split() for line in said.out.splitlines()]
    assert lines[0][:2] == ["4", "files,"]
    states = ["not_applicable", "failed", "blocked", "running", "queued", "missing", "stale"]
    assert lines[2] == ["job", "done", *states]
    assert lines[3] == ["fine", "2", "50.0", "%", "0", "0", "0", "0", "1", "1", "1"]


def test_a_ledger_that_is_not_there_is_empty_and_is_not_made(segue, project):
    said = segue("status", "--ledger", "sqlite:///nothing/here.db", "--json")
    assert said.code == 0
    assert said.json["files"] == 0
    assert "There is no ledger sqlite:///nothing/here.db yet" in said.err
    assert not (project.folder / "nothing").exists()


def test_watching_and_json_exclude_each_other(segue, project):
    said = segue("status", "--watch", "1", "--json")
    assert (said.code, said.out) == (2, "")
    assert "--watch" in said.err


def test_the_ledger_comes_from_the_environment_too(segue, project, monkeypatch):
    fill(project)
    monkeypatch.setenv("SEGUE_LEDGER", "sqlite:///ledger.db")
    assert segue("status", "--json").json["files"] == 4


def test_a_ledger_of_an_unknown_kind_is_refused(segue, project):
    said = segue("status", "--ledger", "mysql://server")
    assert said.code == 2
    assert "sqlite:///path" in said.err


def test_a_file_that_is_no_ledger_is_refused(segue, project):
    (project.folder / "noise.db").write_bytes(b"noise" * 1000)
    said = segue("status", "--ledger", "sqlite:///noise.db")
    assert said.code == 2
    assert "is not a ledger" in said.err


def test_artifacts_that_are_gone_are_said_with_the_remedy(segue, project):
    ledger = ("--ledger", "sqlite:///ledger.db")
    for number in range(3):
        media = project.media(f"{number}.wav")
        project.write("fine", media)
        project.record(media, {"fine": project.entry("fine", media)})
    assert "artifacts" not in segue("status", *ledger).out
    (project.folder / "artifacts").rename(project.folder / "moved")
    said = segue("status", *ledger)
    assert said.code == 0
    assert "3 of 3 artifacts that were looked at are not in artifacts" in said.out
    assert "--artifacts" in said.out
    found = segue("status", *ledger, "--json").json
    assert (found["artifacts_looked_at"], found["artifacts_gone"]) == (3, 3)
    assert "looked at" not in segue("status", *ledger, "--artifacts", "moved").out


def test_files_that_were_all_moved_are_said(segue, project):
    media = project.media("a.wav")
    project.record(media, {})
    (project.folder / "music").rename(project.folder / "songs")
    assert "No file exists of the 1 that" in segue("status", "--ledger", "sqlite:///ledger.db").out
