"""Events, requests, responses and tombstones between namespaces, each with its own ledger."""

from __future__ import annotations

from pathlib import Path

import pytest

from segue.adapters.connect import connect_store
from segue.errors import Unavailable
from segue.execution.foreign import ForeignLedgers
from segue.execution.reply import Reply
from segue.execution.work import ReceivedMessage, Run
from segue.ingest.events import Arrivals, Deletions
from segue.ingest.observation import Observation, observe
from segue.log import Action
from segue.model.ledger import Change
from segue.model.media_file import MediaFile
from segue.model.message import Message, encode_message
from segue.model.outcome import Outcome, Status
from segue.model.record import NOBODY, Failure, State
from segue.model.transitions import Result, erase
from segue.reports.job_states import count_requests
from segue_support.recording_pool import complete_jobs
from segue_support.simulator.store import MemoryStore
from segue_support.stream import URI, Stream
from segue_support.teams import Teams, format_url

PLATFORM = "  down: {run: 'm:f', needs: {media: source}, writes: audio/flac, publish: true}\n"
MOODS = """
  mood: {run: 'm:f', needs: {audio: platform/down}, writes: application/json, publish: true}
  hook: {run: 'm:f', needs: {mood: mood}, writes: application/json}
"""
CHARTS = "  chart: {run: 'm:f', needs: {mood: moods/mood}, writes: application/json}\n"


def build() -> Teams:
    teams = Teams()
    teams.add("platform", PLATFORM)
    teams.add("moods", MOODS)
    teams.add("charts", CHARTS)
    return teams


def list_states(teams: Teams, namespace: str) -> dict[str, State]:
    record = teams[namespace].ledger.records.get(URI)
    return {} if record is None else {e.job: e.state for e in record.results.values()}


def count_costs(teams: Teams) -> tuple[int, int]:
    streams = teams.teams.values()
    return sum(s.ledger.reads for s in streams), sum(s.ledger.writes for s in streams)


def test_an_arrival_goes_down_through_all_namespaces():
    teams = build()
    teams["platform"].arrive()
    teams.run()
    assert list_states(teams, "platform") == {"down": "done"}
    assert list_states(teams, "moods") == {"mood": "done", "hook": "done"}
    assert list_states(teams, "charts") == {"chart": "done"}
    assert teams["platform"].queue.published == {"source": 1, "done-down": 1}
    assert teams["platform"].ledger.reads == teams["charts"].ledger.reads == 0


def test_a_child_in_one_pipeline_costs_two_writes_and_no_read():
    teams = Teams()
    teams.add("platform", PLATFORM)
    one = "{run: 'm:f', needs: {audio: platform/down}, writes: application/json}"
    for number in range(5):
        teams.add(f"team-{number}", f"  a: {one}\n  b: {one}\npipelines: {{main: [a, b]}}")
    teams["platform"].arrive()
    teams.run()
    assert count_costs(teams) == (0, 3 + 5 * 2)
    assert teams["platform"].queue.published == {"source": 1, "done-down": 1}
    assert sum(team.delivered for team in teams.teams.values()) == 1 + 5


def test_a_request_goes_up_and_its_response_comes_to_whoever_asked():
    teams = build()
    other = "  o: {run: 'm:f', needs: {audio: platform/down}, writes: application/json}\n"
    teams.add("others", other)
    teams["moods"].request("hook")
    teams.run()
    assert list_states(teams, "platform") == {"down": "done"}
    assert list_states(teams, "moods") == {"mood": "done", "hook": "done"}
    assert list_states(teams, "charts") == {}
    assert list_states(teams, "others") == {}
    assert not any(e.notify for e in teams["moods"].record.results.values())


def test_a_request_through_two_namespaces_in_one_pipeline_each():
    teams = Teams()
    line = "{{run: 'm:f', needs: {{x: {}}}, writes: application/json, publish: true}}"
    upper = f"  a: {line.format('source')}\n  b: {line.format('a')}\n"
    lower = f"  c: {line.format('platform/b')}\n  d: {line.format('c')}\n"
    teams.add("platform", f"{upper}pipelines: {{main: [a, b]}}")
    teams.add("moods", f"{lower}pipelines: {{main: [c, d]}}")
    teams["moods"].ledger.reads += 1  # of the acceptance, which here knows nothing
    teams["moods"].request("d")
    teams["moods"].ledger.reads -= 1
    teams.run()
    assert list_states(teams, "moods") == {"c": "done", "d": "done"}
    reads, writes = count_costs(teams)
    assert (reads, writes) == (4, 5)
    assert sum(team.delivered for team in teams.teams.values()) == 3


def test_many_requests_for_one_missing_parent_compute_it_once():
    teams = Teams()
    teams.add("platform", PLATFORM)
    one = "  a: {run: 'm:f', needs: {audio: platform/down}, writes: application/json}\n"
    names = [f"team-{number}" for number in range(10)]
    for name in names:
        teams.add(name, one)
    for name in names:
        teams[name].request("a")
    teams.run()
    assert teams["platform"].computed == {"down": 1}
    assert all(list_states(teams, name) == {"a": "done"} for name in names)


def test_requests_that_a_worker_has_at_the_same_time_cost_two_writes_and_no_read():
    teams = Teams()
    teams.add("platform", PLATFORM)
    names = [f"team-{number}" for number in range(10)]
    for name in names:
        teams.add(name, "  a: {run: 'm:f', needs: {x: platform/down}, writes: application/json}\n")
        teams[name].request("a")
        teams[name].deliver()
    platform = teams["platform"]
    platform.ledger.reads = 0  # of the children
    engine = platform.engines["down"]
    engine.add_messages(
        [
            ReceivedMessage(pipeline="down", data=encode_message(message))
            for _, message in platform.messages
        ]
    )
    replies = [reply for reply in engine.drain() if isinstance(reply, Reply)]
    assert [len(reply.envelopes) for reply in replies] == [1] * 10
    assert platform.computed == {"down": 1}
    assert (platform.ledger.reads, platform.ledger.writes) == (0, 2)


def test_a_request_for_what_is_being_computed_is_answered_once_it_is_done():
    teams = build()
    teams["platform"].arrive()
    teams["platform"].hold("down")
    teams["moods"].request("hook")
    teams["platform"].drop_messages()
    teams.run()
    [entry] = teams["platform"].record.results.values()
    assert entry.notify == ("moods/mood@pubsub://moods-project/segue",)
    teams["platform"].sweep()
    teams.run()
    assert list_states(teams, "moods") == {"mood": "done", "hook": "done"}
    [entry] = teams["platform"].record.results.values()
    assert entry.notify == ()


def test_a_failure_crosses_as_a_state():
    teams = build()
    teams["moods"].request("hook")
    error = Failure(kind="corrupt_media", type="CorruptMedia", message="not audio")
    teams["platform"].answer = lambda task: tuple(
        Result(job=job, state=State.FAILED, error=error) for job in task.run
    )
    teams.run()
    assert list_states(teams, "moods") == {"mood": "blocked", "hook": "blocked"}


def test_a_retry_that_succeeds_unblocks_the_namespaces_below():
    teams = build()
    platform = teams["platform"]
    error = Failure(kind="corrupt_media", type="CorruptMedia", message="not audio")
    platform.answer = lambda task: tuple(
        Result(job=job, state=State.FAILED, error=error) for job in task.run
    )
    platform.arrive()
    teams.run()
    assert list_states(teams, "charts") == {"chart": "blocked"}
    platform.answer = complete_jobs
    platform.request("down", force=True)
    teams.run()
    assert list_states(teams, "moods") == {"mood": "done", "hook": "done"}
    assert list_states(teams, "charts") == {"chart": "done"}


def test_a_request_for_an_old_version_is_answered_with_the_new_one():
    teams = build()
    teams["platform"].arrive(order=2)
    teams["platform"].drop_messages()
    teams["moods"].request("hook", order=1)
    teams.run()
    assert teams["moods"].record.order == 2
    assert list_states(teams, "moods") == {"mood": "done", "hook": "done"}


def test_a_request_for_what_nobody_computes_any_more_says_so():
    teams = build()
    teams.add("platform", PLATFORM.replace("publish: true", "publish: true, version: 2"))
    teams["moods"].request("hook")
    teams.run()
    assert list_states(teams, "moods") == {"mood": "blocked", "hook": "blocked"}
    entry = next(e for e in teams["moods"].record.results.values() if e.job == "mood")
    assert entry.error is not None
    assert "run 'segue lock'" in entry.error.message
    teams.add("moods", MOODS)  # locked again
    teams["moods"].request("hook")
    teams.run()
    states = [e.state for e in teams["moods"].record.results.values()]
    assert sorted(states) == ["blocked", "blocked", "done", "done"]


def test_it_is_said_also_of_a_version_that_is_yet_to_arrive_there():
    teams = build()
    teams["platform"].arrive(order=1)
    teams["platform"].run()
    teams.add("platform", PLATFORM.replace("publish: true", "publish: true, version: 2"))
    teams["moods"].drop_messages()
    teams["moods"].request("hook", order=2)
    teams.run()
    assert teams["moods"].record.order == 2
    assert list_states(teams, "moods") == {"mood": "blocked", "hook": "blocked"}


def test_a_request_for_a_file_that_was_taken_down_is_answered_with_that():
    teams = build()
    teams["platform"].arrive()
    teams.run()
    media = teams["platform"].record.media
    take_down = Change(uri=URI, transition=lambda found: erase(found, media, teams.clock()))
    teams["platform"].ledger.change([take_down])
    teams["moods"].request("hook", order=2)
    teams.run()
    assert teams["moods"].record.erased


def observe_in(team: Stream, path: Path) -> Observation:
    file = MediaFile(uri=f"file://{path}", version="")
    return observe(connect_store("file:///"), team.ledger, [file], team.clock())[0]


def announce_arrival(teams: Teams, path: Path) -> Observation:
    team = teams["platform"]
    seen = observe_in(team, path)
    Arrivals(graph=team.graph, ledger=team.ledger, queue=team.queue).announce([seen])
    return seen


def test_a_namespace_that_does_not_see_a_file_is_not_asked_again_and_again(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(b"music")
    teams = build()
    moods, platform = teams["moods"], teams["platform"]
    for engine in platform.engines.values():
        engine.open_store = lambda _location: MemoryStore("file:///")
    seen = observe_in(moods, path)
    assert seen.media is not None
    engine = moods.build_engine(None)
    run = Run(id="r1", targets=("hook",), request_parents=True)
    engine.add_files([seen.media], run, [seen.snapshot])
    list(engine.drain())
    moods.queue.publish(engine.take_requests())
    for team in (platform, moods):
        team.deliver()
    assert not moods.messages
    assert not platform.messages
    assert moods.ledger.records[seen.uri].deleted_at is None


def test_what_is_not_locked_changes_nothing_below():
    teams = build()
    teams.add("platform", PLATFORM.replace("publish: true", "publish: true, version: 2"))
    teams["platform"].arrive()
    teams.run()
    assert list_states(teams, "platform") == {"down": "done"}
    assert list_states(teams, "moods") == {}
    assert teams["platform"].ledger.reads == teams["moods"].ledger.reads == 0


def test_what_a_newer_version_fails_at_is_told_below_and_requested_again():
    """The parent's team moves on in a compatible way, sees a file fail, and goes back."""
    teams = build()
    old = teams["platform"].graph.fingerprints["down"]
    newer = f"publish: true, version: 2, equivalents: ['{old}']"
    platform = teams.add("platform", PLATFORM.replace("publish: true", newer))
    error = Failure(kind="corrupt_media", type="CorruptMedia", message="not audio")
    platform.answer = lambda _task: (Result(job="down", state=State.FAILED, error=error),)
    platform.arrive()
    teams.run()
    blocked = {"mood": "blocked", "hook": "blocked"}
    assert list_states(teams, "moods") == blocked
    teams["moods"].request("hook")
    teams.run()
    assert list_states(teams, "moods") == blocked
    teams.add("platform", PLATFORM)
    teams["moods"].request("hook")
    teams.run()
    assert list_states(teams, "moods") == {"mood": "done", "hook": "done"}


def test_a_deletion_reaches_every_namespace_below_once():
    teams = build()
    teams["platform"].arrive()
    teams.run()
    delete(teams, "platform")
    replies = teams.run()
    for name in ("moods", "charts"):
        assert teams[name].record.deleted_at is not None
        actions = [reply.action for reply in replies[name]]
        assert actions.count(Action.DELETED) == 1


def test_a_deletion_goes_round_once_where_namespaces_depend_on_one_another():
    """Only the namespaces below are told of it, and then one of them tells that of the file."""
    teams = Teams()
    teams.add("platform", PLATFORM)
    one = "{{run: 'm:f', needs: {{x: {}}}, writes: application/json, publish: true}}"
    moods = teams.add("moods", f"  mood: {one.format('platform/down')}\n")
    platform = teams.add("platform", f"{PLATFORM}  back: {one.format('moods/mood')}\n")
    platform.arrive()
    teams.run()
    deletion = Message(
        namespace="platform", uri=URI, version="1", order=1, trigger="down", is_deleted=True
    )
    moods.publish(deletion, ["mood"])
    for team in (platform, moods):
        team.queue.published.clear()
    teams.run()
    assert platform.queue.published == {"done-down": 1, "done-back": 1}
    assert moods.queue.published == {"done-mood": 1}
    assert [team.record.deleted_by for team in (moods, platform)] == [
        "platform/down:deleted:0@mood",
        "moods/mood:deleted:1@back",
    ]


def delete(teams: Teams, namespace: str) -> None:
    team = teams[namespace]
    deletions = Deletions(graph=team.graph, ledger=team.ledger, queue=team.queue, clock=teams.clock)
    deletions.record(team.record.media)


def test_a_wanted_result_of_another_namespace_is_requested_again_by_the_sweep():
    teams = build()
    teams["moods"].request("hook")
    teams["moods"].deliver()
    teams["platform"].drop_messages()
    entries = teams["moods"].record.results.values()
    assert [e.notify for e in entries] == [(NOBODY,)]
    teams["moods"].sweep()
    teams.run()
    assert list_states(teams, "moods") == {"mood": "done", "hook": "done"}


def test_a_namespace_that_requests_too_much_waits_for_the_sweep_and_others_do_not():
    teams = Teams()
    teams.add("platform", PLATFORM, "requests_per_minute: 1\n")
    one = "  a: {run: 'm:f', needs: {audio: platform/down}, writes: application/json}\n"
    other = "  b: {run: 'm:f', needs: {audio: platform/down}, writes: application/json}\n"
    teams.add("greedy", one)
    teams.add("modest", other)
    for uri in ("gs://b/1.wav", "gs://b/2.wav", "gs://b/3.wav"):
        ask(teams, "greedy", uri)
    ask(teams, "modest", "gs://b/4.wav")
    while teams["platform"].messages:
        teams["platform"].deliver()
    states = {
        uri: [entry.state for entry in record.results.values()]
        for uri, record in teams["platform"].ledger.records.items()
    }
    assert states == {
        "gs://b/1.wav": ["done"],
        "gs://b/2.wav": ["queued"],
        "gs://b/3.wav": ["queued"],
        "gs://b/4.wav": ["done"],
    }
    assert count_requests(teams["platform"].ledger).files == {"greedy": 2}
    teams["platform"].sweep()
    teams.run()
    assert teams["platform"].computed == {"down": 4}
    assert count_requests(teams["platform"].ledger).files == {}
    assert len(teams["greedy"].messages) == 0


def ask(teams: Teams, namespace: str, uri: str) -> None:
    """Send the request of another namespace for a file, as its pipeline does."""
    parent = teams["platform"]
    message = Message(
        namespace="platform",
        uri=uri,
        version="1",
        order=1,
        targets=("down",),
        fingerprint=parent.graph.fingerprints["down"],
        reply_to=f"{namespace}/a@{format_url(namespace)}",
    )
    parent.publish(message, ["down"])


def test_a_backfill_requests_what_is_missing_above_only_if_it_is_to():
    teams = build()
    team = teams["moods"]
    for request_parents in (False, True):
        engine = team.build_engine(None)
        run = Run(id="r1", targets=("hook",), request_parents=request_parents)
        engine.add_files([MediaFile(uri=URI, version="1", order=1)], run)
        [outcome] = list(engine.drain())
        assert isinstance(outcome, Outcome)
        assert outcome.jobs["platform/down"] is Status.WAITING
        requests = engine.take_requests()
        assert bool(requests) == request_parents
        assert (URI in team.ledger.records) == request_parents
    team.queue.publish(requests)
    teams.run()
    assert list_states(teams, "moods") == {"mood": "done", "hook": "done"}
    assert list_states(teams, "charts") == {}


def test_a_team_may_read_the_files_of_another_namespace():
    teams = build()
    covers = "  cover: {run: 'm:f', needs: {media: platform/source}, writes: image/png}\n"
    graph = teams.add("covers", covers).graph
    assert graph.jobs["cover"].reads_source
    teams["platform"].arrive()
    teams.run()
    assert list_states(teams, "covers") == {"cover": "done"}
    assert (teams["covers"].ledger.reads, teams["covers"].ledger.writes) == (0, 2)
    delete(teams, "platform")
    teams.run()
    assert teams["covers"].record.deleted_at is not None


def test_a_tombstone_is_passed_on_by_whichever_pipeline_gets_it():
    teams = Teams()
    teams.add("platform", PLATFORM)
    one = "{run: 'm:f', needs: {audio: platform/down}, writes: application/json, publish: true}"
    teams.add("moods", f"  a: {one}\n  b: {one}\n")
    teams.add("charts", "  c: {run: 'm:f', needs: {x: moods/a}, writes: application/json}\n")
    teams["platform"].arrive()
    teams.run()
    delete(teams, "platform")
    while teams["platform"].messages:
        teams["platform"].deliver()
    teams["moods"].deliver(1)  # b's first
    teams.run()
    assert teams["charts"].record.deleted_at is not None


def test_a_dead_letter_of_a_file_in_a_folder_has_the_order_of_its_own_ledger(tmp_path):
    path = tmp_path / "a.wav"
    teams = build()
    moods, platform = teams["moods"], teams["platform"]
    for content in (b"old", b"music"):
        path.write_bytes(content)
        observe_in(moods, path)
    seen = announce_arrival(teams, path)
    error = Failure(kind="corrupt_media", type="CorruptMedia", message="not audio")
    moods.answer = lambda task: tuple(
        Result(job=job, state=State.FAILED, error=error) for job in task.run
    )
    teams.run()
    [dead] = moods.dead
    assert platform.ledger.records[seen.uri].order == 1
    assert dead.order == moods.ledger.records[seen.uri].order == 2


def test_a_tombstone_of_a_file_in_a_folder_goes_down_through_all_namespaces(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(b"music")
    teams = build()
    platform = teams["platform"]
    seen = announce_arrival(teams, path)
    teams.run()
    assert list(teams["charts"].ledger.records) == [seen.uri]
    path.unlink()
    record = observe_in(platform, path).snapshot.record
    assert record is not None
    for _ in range(2):
        Deletions(graph=platform.graph, ledger=platform.ledger, queue=platform.queue).announce(
            [record]
        )
        teams.run()
    assert teams["moods"].ledger.records[seen.uri].deleted_at is not None
    assert teams["charts"].ledger.records[seen.uri].deleted_at is not None


def test_a_file_that_cannot_be_read_stops_no_other(tmp_path):
    teams = build()
    moods, platform = teams["moods"], teams["platform"]
    path = tmp_path / "a.wav"
    path.write_bytes(b"music")
    observe_in(platform, path)
    path.unlink()
    path.symlink_to(tmp_path / "nowhere")
    event = Message(
        namespace="platform", uri=f"file://{path}", version="a", order=1, trigger="down"
    )
    moods.publish(event, ["mood"])
    *deferred, reply = moods.run()
    assert [one.action for one in deferred] == [Action.DEFERRED] * 4
    assert reply.action is Action.DEAD_LETTERED
    [dead] = moods.dead
    assert "a link that leads nowhere" in dead.error


def test_what_is_damaged_below_a_parent_elsewhere_is_computed_again():
    teams = build()
    moods = teams["moods"]
    error = Failure(kind="damaged_input", type="DamagedInput", message="it is gone")
    damaged = Result(job="hook", state=State.QUEUED, error=error, damaged="mood")

    def find_damage(task):
        is_damaged = task.run == ("hook",) and moods.computed["hook"] == 1
        return (damaged,) if is_damaged else complete_jobs(task)

    moods.answer = find_damage
    teams["platform"].arrive()
    teams.run()
    assert list_states(teams, "moods") == {"mood": "done", "hook": "done"}
    assert moods.computed == {"mood": 2, "hook": 2}


def test_a_result_that_others_finish_while_a_job_runs_is_found():
    teams = Teams()
    teams.add("platform", PLATFORM)
    join = """
  a: {run: 'm:f', needs: {media: platform/source}, writes: application/json}
  b: {run: 'm:f', needs: {a: a, audio: platform/down}, writes: application/json}
pipelines: {main: [a, b]}
"""
    moods = teams.add("moods", join)

    def finish_parent_meanwhile(task):
        if task.run == ("a",):
            platform = teams["platform"]
            while platform.messages:
                platform.deliver()
            other = moods.build_engine(frozenset(["a", "b"]))
            envelopes = [e for e in moods.queue.queued.values() if "done-down" in e.topic]
            received = [ReceivedMessage(pipeline="main", data=e.data) for e in envelopes]
            other.add_messages(received)
            [reply] = list(other.drain())
            assert reply.action is Action.WAITING
        return complete_jobs(task)

    moods.answer = finish_parent_meanwhile
    teams["platform"].arrive()
    moods.deliver()
    assert list_states(teams, "moods") == {"a": "done", "b": "done"}


class LateLedgers(ForeignLedgers):
    """Something happens before what is needed of others is read."""

    meanwhile = staticmethod(list)

    def look_up(self, files, needed):
        if any(needed):
            self.meanwhile()
        return super().look_up(files, needed)


def test_an_event_tells_nothing_of_what_others_have_requested_meanwhile():
    teams = Teams()
    teams.add("platform", PLATFORM)
    jobs = """
  mood: {run: 'm:f', needs: {audio: platform/down}, writes: application/json, publish: true}
  cover: {run: 'm:f', needs: {media: platform/source}, writes: image/png}
"""
    moods = teams.add("moods", jobs)
    teams.add("charts", CHARTS)
    error = Failure(kind="corrupt_media", type="CorruptMedia", message="not audio")
    failed = Result(job="mood", state=State.FAILED, error=error)
    moods.answer = lambda task: (failed,) if task.run == ("mood",) else complete_jobs(task)
    moods.request("mood")
    moods.deliver()  # requests platform/down

    def respond():
        teams["platform"].deliver()
        moods.deliver()

    ledgers = LateLedgers(moods.graph, lambda _url, name: teams[name].ledger)
    ledgers.meanwhile = respond
    engine = moods.engines["cover"]
    engine.foreign = ledgers
    event = Message(namespace="platform", uri=URI, version="1", order=1, trigger="source")
    engine.add_messages([ReceivedMessage(pipeline="cover", data=encode_message(event))])
    list(engine.drain())
    assert list_states(teams, "moods") == {"mood": "failed", "cover": "done"}
    assert list_states(teams, "charts") == {}
    teams["platform"].arrive()
    teams.run()
    assert list_states(teams, "charts") == {"chart": "blocked"}


class FlakyLedgers(ForeignLedgers):
    """Cannot be read at one of the calls."""

    calls = 0
    fails_at = 2

    def look_up(self, files, needed):
        self.calls += 1
        if self.calls == self.fails_at:
            raise Unavailable("the ledger of another namespace is away")
        return super().look_up(files, needed)


def test_nothing_is_lost_if_the_ledger_of_another_namespace_is_away_after_a_job():
    teams = Teams()
    teams.add("platform", PLATFORM)
    join = """
  a: {run: 'm:f', needs: {media: platform/source}, writes: application/json}
  b: {run: 'm:f', needs: {a: a, audio: platform/down}, writes: application/json}
pipelines: {main: [a, b]}
"""
    moods = teams.add("moods", join)
    ledgers = FlakyLedgers(moods.graph, lambda _url, name: teams[name].ledger)
    engine = moods.engines["main"]
    engine.foreign = ledgers

    def finish_parent_meanwhile(task):
        while teams["platform"].messages:
            teams["platform"].deliver()
        return complete_jobs(task)

    moods.answer = finish_parent_meanwhile
    teams["platform"].arrive()
    [event, *_] = moods.queue.queued.values()
    engine.add_messages([ReceivedMessage(pipeline="main", data=event.data)])
    with pytest.raises(Unavailable):
        list(engine.drain())
    assert engine.pending == 1
    [reply] = list(engine.drain())
    assert reply.action is Action.DONE
    assert list_states(teams, "moods") == {"a": "done", "b": "done"}
    assert engine.pending == 0


def test_an_event_that_takes_a_file_as_new_finds_what_another_pipeline_has_finished():
    teams = Teams()
    teams.add("platform", PLATFORM)
    join = """
  a: {run: 'm:f', needs: {media: platform/source}, writes: application/json}
  b: {run: 'm:f', needs: {a: a, audio: platform/down}, writes: application/json}
"""
    moods = teams.add("moods", join)
    teams["platform"].arrive()
    moods.run()
    assert list_states(teams, "moods") == {"a": "done"}
    teams.run()
    assert list_states(teams, "moods") == {"a": "done", "b": "done"}


def test_a_request_reaches_every_pipeline_that_can_begin():
    teams = Teams()
    jobs = """
  a: {run: 'm:f', needs: {media: source}, writes: application/json}
  b: {run: 'm:f', needs: {media: source}, writes: application/json}
  c: {run: 'm:f', needs: {a: a, b: b}, writes: application/json, publish: true}
pipelines: {main: [a, c]}
"""
    teams.add("platform", jobs)
    teams.add("moods", "  d: {run: 'm:f', needs: {c: platform/c}, writes: application/json}\n")
    teams["moods"].request("d")
    teams.run()
    assert list_states(teams, "moods") == {"d": "done"}


def test_requests_do_not_multiply_from_one_namespace_to_the_next():
    teams = Teams()
    teams.add("platform", PLATFORM)
    above = "platform/down"
    for name in ("x", "y", "z"):
        one = f"{{run: 'm:f', needs: {{i: {above}}}, writes: application/json, publish: true}}"
        join = "{run: 'm:f', needs: {a: a, b: b}, writes: application/json, publish: true}"
        teams.add(name, f"  a: {one}\n  b: {one}\n  j: {join}\n")
        above = f"{name}/j"
    teams["z"].request("j")
    teams.run()
    assert list_states(teams, "z") == {"a": "done", "b": "done", "j": "done"}
    assert teams["platform"].computed == {"down": 1}
    asked = [sum(teams[name].queue.published.values()) for name in ("z", "y", "x", "platform")]
    assert max(asked) <= 12, asked


def test_another_namespace_gets_nothing_from_outside_of_the_catalogue():
    teams = Teams()
    teams.add("platform", PLATFORM, "catalogue: gs://b/music\n")
    teams.add("moods", MOODS)
    for uri, expected in (("gs://b/music/1.wav", {"down": 1}), ("gs://b/music-2/1.wav", {})):
        ask(teams, "moods", uri)
        reply = teams["platform"].deliver()
        assert teams["platform"].computed == expected, uri
        teams["platform"].computed.clear()
    assert reply.action is Action.DEAD_LETTERED
    assert reply.reason is not None
    assert "not below the catalogue gs://b/music/" in reply.reason


def test_what_a_parent_comes_to_accept_is_told_to_those_who_were_told_that_it_did_not():
    teams = build()
    error = Failure(kind="not_accepted", type="video/* video/mp4", message="m")
    platform = teams["platform"]
    refusal = Result(job="down", state=State.NOT_APPLICABLE, error=error)
    platform.answer = lambda _task: (refusal,)
    teams.add("platform", PLATFORM.replace("needs:", "accepts: [audio/*], needs:"))
    teams["platform"].answer = platform.answer
    teams["platform"].arrive()
    teams.run()
    below = {"mood": "not_applicable", "hook": "not_applicable"}
    assert list_states(teams, "moods") == below
    teams["platform"].request("down")
    teams.run()
    assert list_states(teams, "moods") == below
    assert teams["platform"].computed == {"down": 1}

    teams.add("platform", PLATFORM.replace("needs:", "accepts: [audio/*, video/*], needs:"))
    teams["platform"].request("down")
    teams.run()
    assert list_states(teams, "platform") == {"down": "done"}
    assert list_states(teams, "moods") == {"mood": "done", "hook": "done"}
    assert list_states(teams, "charts") == {"chart": "done"}
