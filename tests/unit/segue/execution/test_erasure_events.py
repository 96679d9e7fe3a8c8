"""A file that was erased: what pipelines remove, and that they compute nothing for it again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from segue.errors import ConfigurationError, Unavailable
from segue.execution.reply import Reply
from segue.execution.work import ReceivedMessage, Run
from segue.ingest.events import Arrivals
from segue.log import Action
from segue.maintenance.erasure import Eraser
from segue.model.artifact import Lineage
from segue.model.dead_letter import Stage
from segue.model.ledger import Change, Snapshot
from segue.model.media_file import MediaFile
from segue.model.message import Message, encode_message
from segue.model.outcome import Status
from segue.model.record import State, evolve
from segue.model.transitions import Result
from segue.worker.protocol import Task
from segue_support.recording_pool import complete_jobs
from segue_support.stream import URI, Stream, build_graph, is_lost
from segue_support.teams import Teams

PLATFORM = "  down: {run: 'm:f', needs: {media: source}, writes: audio/flac, publish: true}\n"
MOODS = """
  mood: {run: 'm:f', needs: {audio: platform/down}, writes: application/json}
  hook: {run: 'm:f', needs: {mood: mood}, writes: application/json, publish: true}
"""
CHARTS = "  chart: {run: 'm:f', needs: {hook: moods/hook}, writes: application/json}\n"
NAMES = ("platform", "moods", "charts")


def write_artifacts(team: Stream) -> Callable[[Task], tuple[Result, ...]]:
    """Return an answer for a team's pool that leaves artifacts as its jobs do."""

    def answer(task: Task) -> tuple[Result, ...]:
        for job in task.run:
            made, media = team.graph.fingerprints[job], task.media
            lineage = Lineage(job=job, fingerprint=made, uri=media.uri, version=media.version)
            team.artifacts.create(
                f"{job}/{made}/{media.name}/{media.version}.json",
                b"{}",
                content_type="application/json",
                metadata=lineage.to_metadata(),
            )
        return complete_jobs(task)

    return answer


@pytest.fixture
def teams() -> Teams:
    """Three namespaces, one below the other, in which the file has its results."""
    teams = Teams()
    for name, jobs in zip(NAMES, (PLATFORM, MOODS, CHARTS), strict=True):
        team = teams.add(name, jobs)
        team.answer = write_artifacts(team)
    teams["platform"].arrive()
    teams.run()
    assert count_artifacts(teams) == {"platform": 1, "moods": 2, "charts": 1}
    return teams


def count_artifacts(teams: Teams) -> dict[str, int]:
    return {name: len(list(teams[name].artifacts.list())) for name in NAMES}


NOTHING = dict.fromkeys(NAMES, 0)


def erase(teams: Teams, namespace: str = "platform") -> None:
    team = teams[namespace]
    Eraser(
        graph=team.graph,
        ledger=team.ledger,
        artifacts=team.artifacts,
        queue=team.queue,
        clock=teams.clock,
        lost=is_lost,
    ).erase(URI)


def is_clean(teams: Teams) -> bool:
    """Whether every namespace has the tombstone, and nothing else of the file."""
    records = [teams[name].record for name in NAMES]
    assert all(record.erased and record.deleted_at is not None for record in records)
    return not any(record.results for record in records) and count_artifacts(teams) == NOTHING


def test_an_erasure_removes_results_and_artifacts_in_every_namespace_below(teams):
    erase(teams)
    replies = teams.run()
    assert is_clean(teams)
    [moods] = [reply for reply in replies["moods"] if reply.action is Action.DELETED]
    assert moods.reason == "artifacts removed: 2"
    assert not any(team.dead for team in teams.teams.values())


def test_an_erasure_reaches_namespaces_that_do_not_know_the_file():
    teams = Teams()
    for name, jobs in zip(NAMES, (PLATFORM, MOODS, CHARTS), strict=True):
        teams.add(name, jobs)
    erase(teams)
    teams.run()
    assert is_clean(teams)


def test_an_erasure_reaches_those_that_read_the_file_itself():
    teams = Teams()
    teams.add("platform", PLATFORM)
    one = "  r: {run: 'm:f', needs: {media: platform/source}, writes: application/json}\n"
    readers = teams.add("readers", one)
    readers.answer = write_artifacts(readers)
    teams["platform"].arrive()
    teams.run()
    assert len(list(readers.artifacts.list())) == 1
    erase(teams)
    teams.run()
    assert is_clean_of(readers)


def test_an_erasure_that_is_repeated_goes_all_the_way_again(teams):
    erase(teams)
    teams["moods"].deliver()
    teams["charts"].drop_messages()  # what moods has passed on is lost
    assert not teams["charts"].record.erased
    erase(teams)
    teams.run()
    assert is_clean(teams)


def test_a_namespace_that_erases_a_file_by_itself_tells_those_below_and_none_above(teams):
    erase(teams, "moods")
    teams.run()
    assert count_artifacts(teams) == {"platform": 1, "moods": 0, "charts": 0}
    assert not teams["platform"].record.erased
    erase(teams)
    teams.run()
    assert is_clean(teams)


@pytest.mark.parametrize("order", [1, 2])
def test_events_that_come_late_compute_nothing(teams, order):
    teams["platform"].arrive(order=2)  # its events are overtaken
    late = teams["platform"].messages[0][1]
    erase(teams)
    teams.run()
    computed = {name: dict(teams[name].computed) for name in NAMES}
    teams["platform"].publish(evolve(late, arrived=None), ["down"])
    teams["platform"].arrive(order=order)
    told = Message(namespace="platform", uri=URI, version="2", order=2, trigger="down")
    teams["moods"].publish(told, ["mood"])
    teams.run()
    assert {name: dict(teams[name].computed) for name in NAMES} == computed
    assert is_clean(teams)


def test_a_new_upload_is_not_announced(teams):
    erase(teams)
    teams.run()
    team = teams["platform"]
    arrivals = Arrivals(graph=team.graph, ledger=team.ledger, queue=team.queue)
    [said] = arrivals.record([MediaFile(uri=URI, version="9", order=9)])
    assert said == "stale"
    assert team.messages == []
    assert is_clean(teams)


def test_the_sweep_finds_nothing_to_do(teams):
    teams["moods"].hold("hook")
    for name in NAMES:
        erase(teams, name)
    for name in NAMES:
        teams[name].drop_messages()
        teams[name].sweep()
        assert teams[name].messages == []


def test_a_request_of_another_namespace_is_answered_with_the_tombstone():
    teams = Teams()
    teams.add("platform", PLATFORM)
    moods = teams.add("moods", MOODS)
    erase(teams)
    moods.drop_messages()
    moods.request("hook")
    teams.run()
    assert moods.record.erased
    assert moods.record.results == {}
    assert not moods.computed


def test_the_results_of_a_job_that_was_running_are_removed_when_it_ends(teams):
    team = teams["moods"]
    write = write_artifacts(team)

    def answer(task: Task) -> tuple[Result, ...]:
        erase(teams, "moods")
        assert [e.job for e in team.record.results.values()] == ["mood"], "it is known to run"
        return write(task)

    team.request("mood", force=True)
    team.answer = answer
    teams.run()
    assert (team.record.erased, team.record.results) == (True, {})
    assert count_artifacts(teams)["moods"] == 0


def test_what_a_worker_has_written_before_it_died_is_removed_once_its_message_comes_again(
    teams, monkeypatch
):
    team = teams["moods"]
    team.request("mood", force=True)
    [message] = [m for _, m in team.messages]
    team.drop_messages()
    team.hold("mood", owner="other")
    erase(teams, "moods")
    task = Task(task_id=1, media=team.record.media, run=("mood",))
    write_artifacts(team)(task)
    teams.clock.advance(team.lease_s)
    team.publish(message, ["mood"])
    teams.run()
    assert is_clean_of(team)
    with monkeypatch.context() as patched:
        patched.setattr(team.artifacts, "list", None)  # from now on, a late message costs nothing
        team.publish(message, ["mood"])
        teams.run()


def is_clean_of(team: Stream) -> bool:
    return team.record.erased and not team.record.results and not list(team.artifacts.list())


@pytest.mark.parametrize("force", [False, True])
def test_a_backfill_computes_nothing_and_is_not_unfinished(force):
    stream = Stream(graph=build_graph({"a": ()}))
    stream.answer = write_artifacts(stream)
    stream.arrive()
    stream.run()
    teams = Teams(teams={"one": stream})
    erase(teams, "one")
    engine = stream.build_engine(None)
    run = Run(id="r", targets=("a",), force=force, retry=True)
    files = [MediaFile(uri=URI, version=str(n), order=n) for n in (1, 2)]
    for media in files:
        engine.add_files([media], run)
    outcomes = list(engine.drain())
    assert [outcome.jobs for outcome in outcomes] == [{"a": Status.ERASED}] * 2
    assert stream.computed == {"a": 1}
    assert is_clean_of(stream)


def test_a_backfill_whose_file_is_erased_meanwhile_leaves_nothing():
    stream = Stream(graph=build_graph({"a": ()}))
    teams = Teams(teams={"one": stream})
    write = write_artifacts(stream)

    def answer(task: Task) -> tuple[Result, ...]:
        erase(teams, "one")
        return write(task)

    stream.answer = answer
    engine = stream.build_engine(None)
    engine.add_files([MediaFile(uri=URI, version="1", order=1)], Run(id="r", targets=("a",)))
    [outcome] = engine.drain()
    assert outcome.jobs == {"a": Status.LOST}
    assert is_clean_of(stream)


def test_a_damaged_record_becomes_a_tombstone(teams):
    for name in ("platform", "moods"):
        damaged = Snapshot(record=None, revision="99", damage="it is cut off")
        teams[name].ledger._snapshots[URI] = damaged
    erase(teams)
    teams.run()
    assert is_clean(teams)


def test_artifacts_that_may_not_be_removed_are_a_dead_letter_and_can_be_retried(teams, monkeypatch):
    team = teams["moods"]

    def forbid(*_arguments, **_options):
        raise ConfigurationError("not for you")

    with monkeypatch.context() as patched:
        patched.setattr(team.artifacts, "delete", forbid)
        erase(teams)
        teams.run()
    [letter] = team.dead
    assert (letter.stage, letter.pipeline, letter.error) == (Stage.RUN, "mood", "not for you")
    assert teams["charts"].record.erased, "it is told nevertheless"
    assert count_artifacts(teams) == {"platform": 0, "moods": 2, "charts": 0}
    engine = team.engines["mood"]
    engine.add_messages([ReceivedMessage(pipeline="mood", data=letter.data)])
    [reply] = engine.drain()
    assert reply.reason == "artifacts removed: 2"
    assert is_clean(teams)


def test_while_artifacts_cannot_be_reached_the_message_is_not_acknowledged(teams, monkeypatch):
    team = teams["moods"]
    erase(teams)
    with monkeypatch.context() as patched:

        def fail(*_arguments, **_options):
            raise Unavailable("away")

        patched.setattr(team.artifacts, "delete", fail)
        engine = team.engines["mood"]
        [(_, envelope)] = team._list_envelopes()
        engine.add_messages([ReceivedMessage(pipeline="mood", data=envelope.data)])
        for _ in range(3):
            with pytest.raises(Unavailable):
                engine.step()
        assert engine.pending == 1
    [reply] = engine.drain()
    assert isinstance(reply, Reply)
    assert reply.reason == "artifacts removed: 2"
    assert count_artifacts(teams)["moods"] == 0
    assert engine.pending == 0


def test_work_that_is_abandoned_while_artifacts_are_removed_is_forgotten(teams, monkeypatch):
    team = teams["moods"]
    erase(teams)

    def fail(*_arguments, **_options):
        raise Unavailable("away")

    monkeypatch.setattr(team.artifacts, "delete", fail)
    engine = team.engines["mood"]
    [(_, envelope)] = team._list_envelopes()
    engine.add_messages([ReceivedMessage(pipeline="mood", data=envelope.data)])
    with pytest.raises(Unavailable):
        engine.step()
    assert len(engine.abandon()) == 1
    assert engine.pending == 0


def test_a_namespace_below_cannot_erase_a_file_of_those_above(teams):
    forged = Message(
        namespace="platform",
        uri=URI,
        version="1",
        order=1,
        targets=("down",),
        fingerprint=teams["platform"].graph.fingerprints["down"],
        reply_to="moods/mood@pubsub://moods-project/segue",
        is_deleted=True,
        is_erased=True,
    )
    for one in (forged, evolve(forged, namespace="moods", trigger="mood")):
        engine = teams["platform"].engines["down"]
        engine.add_messages([ReceivedMessage(pipeline="down", data=encode_message(one))])
        [reply] = engine.drain()
        assert reply.action in (Action.DROPPED, Action.DEAD_LETTERED)
    assert not teams["platform"].record.erased
    assert count_artifacts(teams)["platform"] == 1


def test_a_file_in_a_folder_that_is_away_is_erased_without_a_look_at_it():
    uri = "file:///nowhere/a.wav"
    teams = Teams()
    platform, moods = teams.add("platform", PLATFORM), teams.add("moods", MOODS)
    Eraser(
        graph=platform.graph,
        ledger=platform.ledger,
        artifacts=platform.artifacts,
        queue=platform.queue,
        clock=teams.clock,
    ).erase(uri)

    def fail(_location):
        raise Unavailable("its disk is away")

    moods.engines["mood"].open_store = fail
    teams.run()
    record = moods.ledger.records[uri]
    assert record.erased
    assert record.deleted_at is not None


def test_a_result_that_failed_is_forgotten_too(teams):
    team = teams["charts"]

    def damage(found):
        results = {f: evolve(e, state=State.FAILED) for f, e in found.results.items()}
        return evolve(found, results=results), None

    team.ledger.change([Change(uri=URI, transition=damage)])
    erase(teams)
    teams.run()
    assert is_clean(teams)
