"""``segue request``, ``watch``, ``ping`` and ``sweep``, on the embedded queue."""

from __future__ import annotations

import functools
import os
import re
from datetime import UTC, datetime

import pytest

from segue.adapters.connect import connect_queue
from segue.model.ledger import Change
from segue.model.message import Message, decode_message
from segue.model.queue import list_subscriptions
from segue.model.record import NOBODY, Ping, State, evolve
from segue.model.run import find_user, load_run

QUEUE = "sqlite:///.segue/queue.db"
WHERE = ("--ledger", "sqlite:///ledger.db")


def pull(project) -> list[tuple[str, Message]]:
    """Return the messages in the queue, each with its subscription."""
    queue = connect_queue(QUEUE)
    try:
        names = [s.name for s in list_subscriptions(project.graph, project.graph.pipelines)]
        pulled = queue.pull(names, limit=100)
        return [(one.subscription, decode_message(one.data)) for one in pulled]
    finally:
        queue.close()


def test_a_request_records_what_is_wanted_and_asks_the_pipeline_that_can_run_something(
    project, segue
):
    media = project.media("a.wav")
    said = segue("request", "music/a.wav", "--job", "after", *WHERE, "--json")
    assert said.code == 0, said.err
    assert said.json["files"] == 1
    assert said.json["targets"] == ["after"]
    ((name, message),) = pull(project)
    assert (message.uri, message.version) == (media.uri, media.version)
    assert (name, message.targets, message.trigger) == ("fine.inbox", ("after",), None)
    assert message.request == said.json["request"]
    assert load_run(project.artifacts, message.request).who == find_user()
    (wanted,) = project.known(media).results.values()
    assert (wanted.job, wanted.state, wanted.notify) == ("after", State.QUEUED, (NOBODY,))


def test_a_prefix_asks_for_all_media_below_it_and_nothing_else(project, segue):
    files = [project.media(name) for name in ("a.wav", "b/c.wav", "b/d.txt")]
    said = segue("request", "--prefix", "music", "--job", "fine", *WHERE)
    assert said.code == 0, said.err
    assert "2 files" in said.out
    assert {message.uri for _, message in pull(project)} == {files[0].uri, files[1].uri}


def test_what_is_asked_for_and_left_out_is_named_and_shows_in_the_exit_code(project, segue):
    project.media("a.wav")
    os.mkfifo("music/radio.wav")
    said = segue("request", "--prefix", "music", "--job", "fine", *WHERE)
    assert said.code == 3
    assert "radio.wav: it is a pipe" in said.err
    assert "1 file" in said.out


def test_force_with_parents_has_the_whole_line_computed_again(project, segue):
    media = project.media("a.wav")
    project.record(media, {job: project.entry(job, media) for job in ("fine", "after", "beside")})
    line = ("--job", "after", "--force", "--parents")
    assert segue("request", "music/a.wav", *line, *WHERE, "--json").json["targets"] == [
        "fine",
        "after",
    ]
    states = {entry.job: entry.state for entry in project.known(media).results.values()}
    assert states == {"fine": "queued", "after": "queued", "beside": "done"}
    ((name, message),) = pull(project)
    assert (name, message.targets) == ("fine.inbox", ("fine", "after"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name either files"),
        (("music/a.wav", "--prefix", "music", "--job", "fine"), "name either files"),
        (("music/a.wav",), "no job is named"),
        (("music/a.wav", "--all", "--job", "fine"), "exclude each other"),
        (("music/a.wav", "--job", "fin"), "did you mean 'fine'"),
        (("music/none.wav", "--job", "fine"), "there is no file"),
        (("music/a.wav", "--job", "fine", "--parents"), "--force"),
    ],
)
def test_what_is_wrong_is_said(project, segue, arguments, message):
    project.media("a.wav")
    said = segue("request", *arguments, *WHERE)
    assert said.code == 2
    assert message in said.err


def test_an_object_that_is_no_media_is_ignored_and_said_so(project, segue):
    project.media("notes.txt")
    said = segue("request", "music/notes.txt", "--job", "fine", *WHERE)
    assert said.code == 3
    assert "a name that matches no include pattern of the graph" in said.err


def test_a_file_in_a_folder_that_cannot_be_read_is_ignored_and_said_so(project, segue, monkeypatch):
    project.media("a.wav")
    project.media("hidden/b.wav")
    look_at = os.stat

    def refuse(path, *arguments, **options):
        if "hidden" in str(path):
            raise PermissionError(13, "Permission denied", path)
        return look_at(path, *arguments, **options)

    monkeypatch.setattr(os, "stat", refuse)
    said = segue("request", "music/hidden/b.wav", "music/a.wav", "--job", "fine", *WHERE)
    assert said.code == 3
    assert "hidden/b.wav' is not accessible (Permission denied)" in said.err
    assert "Requested fine for 1 file" in said.out


def test_a_request_is_followed_to_its_end(project, segue):
    media = project.media("a.wav")
    asked = segue("request", "music/a.wav", "--job", "fine", *WHERE, "--json").json["request"]
    said = segue("watch", asked, *WHERE, "--timeout", "1s")
    assert (said.code, "Not finished" in said.out) == (4, True)
    project.record(media, {"fine": project.entry("fine", media)})
    said = segue("watch", asked, *WHERE, "--json")
    assert (said.code, said.json["over"]) == (0, True)
    project.record(media, {"fine": project.failed("fine", media)})
    said = segue("watch", asked, *WHERE)
    assert (said.code, "timeout" in said.out) == (3, True)


def test_the_id_of_a_request_is_known_before_it_is_followed(project, segue, monkeypatch):
    project.media("a.wav")

    def interrupt(_watcher):
        raise KeyboardInterrupt

    monkeypatch.setattr("segue_cli.commands.watch.RequestWatcher.read_progress", interrupt)
    asked = ("request", "music/a.wav", "--job", "fine", "--watch", *WHERE)
    ids = []
    for options in ((), ("--json",)):
        said = segue(*asked, *options)
        assert said.code == 130
        ids += re.findall(r"\d{8}T\S+Z-[0-9a-f]{8}", said.out + said.err)
    assert [segue("watch", one, *WHERE, "--timeout", "0s").code for one in ids] == [130, 130]


def test_a_file_is_followed_by_its_path(project, segue):
    media = project.media("a.wav")
    project.record(media, {"fine": project.entry("fine", media)})
    assert segue("watch", "music/a.wav", "--job", "fine", *WHERE).code == 0
    assert segue("watch", "music/a.wav", *WHERE, "--timeout", "1s").code == 4


def test_a_deleted_file_has_no_result_unless_it_was_not_asked_for_by_name(project, segue):
    media = project.media("a.wav")
    named = segue("request", "music/a.wav", "--job", "fine", *WHERE, "--json").json["request"]
    below = segue("request", "--prefix", "music", "--job", "fine", *WHERE, "--json").json["request"]
    project.record(media, {}, deleted_at=datetime(2026, 1, 2, tzinfo=UTC))
    said = segue("watch", named, *WHERE)
    assert (said.code, "1 result of deleted files" in said.out) == (3, True)
    assert segue("watch", "music/a.wav", "--job", "fine", *WHERE).code == 3
    assert segue("watch", below, *WHERE).code == 0


def test_a_request_that_nobody_made_is_said(project, segue):
    said = segue("watch", "20260102T000000.000000Z-00000001", *WHERE)
    assert said.code == 2
    assert "no request" in said.err


def test_a_ping_goes_down_the_line_and_names_who_does_not_answer(project, segue):
    media = project.media("a.wav")
    said = segue("ping", "music/a.wav", "--job", "after", "--timeout", "1s", *WHERE, "--json")
    assert said.code == 4
    assert said.json["jobs"] == {"fine": {"waiting": 1}, "after": {"waiting": 1}}
    ((name, message),) = pull(project)
    assert (name, message.ping, message.trigger) == ("fine.inbox", True, "source")
    assert message.targets == ("after",)
    assert project.known(media).results == {}


def test_a_ping_is_answered_by_traces(project, segue, monkeypatch):
    media = project.media("a.wav")
    ping = Ping(request="20260102T000000.000000Z-00000001", at=datetime(2026, 1, 2, tzinfo=UTC))
    monkeypatch.setattr("segue.ingest.requests.build_request_id", lambda _now: ping.request)
    project.record(media, {}, pings={"fine": ping, "beside": ping, "after": ping})
    assert segue("ping", "music/a.wav", *WHERE).code == 0


def test_the_sweeper_asks_for_what_is_wanted_once(project, segue):
    media = project.media("a.wav")
    before = project.record(
        media, {"after": project.entry("after", media, State.QUEUED, notify=(NOBODY,))}
    )
    said = segue("sweep", "--dry-run", *WHERE, "--json")
    assert (said.json["pending"], said.json["dry_run"]) == (1, True)
    assert project.known(media) == before
    assert segue("sweep", *WHERE, "--json").json["pending"] == 1
    ((name, message),) = pull(project)
    assert (name, message.targets) == ("fine.inbox", ("after",))
    assert segue("sweep", *WHERE, "--json").json["pending"] == 0


def test_a_retry_notifies_the_streaming_pipelines_where_there_is_a_queue(project, segue):
    media = project.media("a.wav")
    failed = {
        "fine": project.failed("fine", media),
        "after": project.blocked("after", media, "fine"),
    }
    project.record(media, failed)
    said = segue("retry", "--yes", *WHERE, "--json")
    assert (said.json["published"], said.json["next"] is not None) == (False, True)
    project.record(media, failed)
    connect_queue(QUEUE).close()
    said = segue("retry", "--yes", *WHERE, "--json")
    assert (said.json["published"], said.json["next"]) == (True, None)
    ((name, message),) = pull(project)
    assert (name, message.targets) == ("fine.inbox", ("fine", "after"))


def test_dead_letters_are_shown_before_they_are_sent_again(project, segue, monkeypatch):
    from segue.maintenance.retry import DeadLetterReplay
    from segue.model import dead_letter
    from segue.model.dead_letter import Stage
    from segue.model.record import Failure

    hasty = functools.partial(DeadLetterReplay, wait_s=0.0)  # SQLite answers at once
    monkeypatch.setattr("segue_cli.commands.retry.DeadLetterReplay", hasty)
    assert "No dead letters match" in segue("retry", "--dead-letters", *WHERE).out
    queue = connect_queue(QUEUE, project.graph)
    dead = dead_letter.build_dead_letter(
        stage=Stage.DECODE,
        pipeline="fine",
        error=Failure(kind="unreadable_message", type="UnreadableMessage", message="no message"),
        data=b"{}",
        at=datetime(2026, 1, 2, tzinfo=UTC),
    )
    queue.publish([dead_letter.dead_letter_to_envelope(dead)])
    queue.close()
    kind = ("--kind", "unreadable_message")
    said = segue("retry", "--dead-letters", "--dry-run", *kind, *WHERE)
    assert "Would republish: 1 dead letter." in said.out
    assert segue("retry", "--dead-letters", *WHERE).code == 2  # nobody to confirm it
    found = segue("retry", "--dead-letters", "--yes", *WHERE, "--json").json
    assert found["dead_letters"] == [
        {
            "pipeline": "fine",
            "job": None,
            "stage": "decode",
            "kind": "unreadable_message",
            "count": 1,
        }
    ]
    assert found["total"] == 1
    assert segue("retry", "--dead-letters", "--yes", *WHERE, "--json").json["total"] == 0


def test_a_change_while_it_is_followed_is_seen(project, segue):
    media = project.media("a.wav")
    project.record(media, {"fine": project.entry("fine", media, State.RUNNING)})
    gone = lambda r: (evolve(r, deleted_at=datetime(2026, 1, 2, tzinfo=UTC)), None)  # noqa: E731
    project.ledger.change([Change(uri=media.uri, transition=gone)])
    assert segue("watch", "music/a.wav", "--job", "fine", *WHERE).code == 3


def test_a_request_for_a_prefix_selects_files_and_counts_the_others(project, segue):
    for name in ("a.wav", "b.wav", "c.opus", "drafts/a.wav"):
        project.media(name)
    head = "include: ['*.wav']\nexclude: ['*/drafts/*']\n"
    project.change_graph(head + (project.folder / "jobs.yaml").read_text())
    where = ("request", "--prefix", "music", "--job", "fine", "--match", "a*", *WHERE)
    said = segue(*where)
    assert said.code == 0
    assert "Requested fine for 1 file" in said.out
    assert "not included: 1 file" in said.err
    assert "add to 'include' of the graph: \"*.opus\"" in said.err
    found = segue(*where, "--json").json
    assert (found["not_included"], found["excluded"]) == ({".opus": 1}, {".wav": 1})
    assert found["not_selected"] == {"match": 1}
    assert load_run(project.artifacts, found["request"]).selection.match == ("a*",)
    assert [message.uri.rpartition("/")[2] for _, message in pull(project)] == ["a.wav"] * 2


def test_files_that_are_named_are_not_selected_from(project, segue):
    project.media("a.wav")
    said = segue("request", "music/a.wav", "--job", "fine", "--match", "a*", *WHERE)
    assert said.code == 2
    assert "options that select files need --prefix" in said.err
