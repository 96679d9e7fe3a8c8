"""The promises hold in thousands of histories, and the simulator finds planted faults."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from segue.errors import TransientError
from segue.execution import engine, foreign, reply, work
from segue.ingest import acceptance, catch_up, control_reader, observation, requests, sweep
from segue.ingest import events as ingest_events
from segue.ingest.events import Deletions
from segue.maintenance import garbage
from segue.maintenance.garbage import GarbageCollector
from segue.model import controls, transitions
from segue.model.message import decode_message
from segue.model.planner import Verdict, plan
from segue.model.queue import event_to_envelope
from segue.model.record import EVERYONE, FINISHED, Lease, State, evolve
from segue.model.transitions import arrive, claim, move_wanted, reopen, settle, want
from segue_cli.commands import resume
from segue_pipelines import run_guard
from segue_support.simulator import actors, simulation
from segue_support.simulator.__main__ import main
from segue_support.simulator.actors import Worker
from segue_support.simulator.drawing import MAX_CLOCK_ERROR_S, build_lattice, draw_scenario
from segue_support.simulator.faults import BrokenPromise
from segue_support.simulator.scenario import (
    BackfillStart,
    CancelOrder,
    CatchUpStart,
    Collection,
    Deployment,
    Erasure,
    FaultBudget,
    Layout,
    PauseOrder,
    Removal,
    ResumeOrder,
    Return,
    Scenario,
    Touch,
    Upload,
    UserRequest,
    Version,
)
from segue_support.simulator.shrinker import find_broken_promise, shrink
from segue_support.simulator.simulation import Simulation

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

HISTORIES = 4_000
CHUNK = 500
MAX_SEEDS = 1_000  # within which a planted fault must break a promise
STORM = FaultBudget(
    crashes=6, outages=6, duplicates=4, stalls=3, transient_errors=2, full_disks=1, losses=1
)

# a → b → {c, d}, c → e
KLIO = ((), ("a",), ("b",), ("b",), ("c",))


@pytest.mark.parametrize("first", range(0, HISTORIES, CHUNK))
def test_all_promises_are_kept(first):
    for seed in range(first, first + CHUNK):
        try:
            Simulation(draw_scenario(seed)).run()
        except BrokenPromise as error:
            command = f"python -m segue_support.simulator --seed {seed} --shrink"
            raise AssertionError(f"{error}\n{command}") from error


# --- what is computed, and what is sent ------------------------------------------------------


def build_layout(*shape, groups=(), teams=None, **more) -> Layout:
    """Return a namespace with a worker for each job, or one for each group."""
    grouped = {job for group in groups for job in group}
    jobs = "abcdefghi"[: len(shape)]
    teams = teams or (*groups, *((job,) for job in jobs if job not in grouped))
    return Layout(shape=shape, groups=groups, teams=teams, **more)


def build_scenario(shape, *events, groups=(), teams=None, **more) -> Scenario:
    """Return a scenario of one namespace."""
    layouts = (build_layout(*shape, groups=groups, teams=teams),)
    return Scenario(**{"seed": 0} | more, layouts=layouts, events=events)


def play(scenario: Scenario) -> Simulation:
    simulation = Simulation(scenario)
    simulation.run()
    return simulation


def list_computed(scenario: Scenario) -> set[str]:
    [home] = play(scenario).world.homes
    [record] = home.ledger.records.values()
    return {entry.job for entry in record.results.values() if entry.state is State.DONE}


@pytest.mark.parametrize("seed", range(50))
def test_if_c_is_requested_and_a_and_b_are_missing_d_does_not_run(seed):
    request = UserRequest(file=0, jobs=("c",))
    scenario = build_scenario(KLIO[:4], request, groups=(tuple("abcd"),), seed=seed)
    assert list_computed(scenario) == {"a", "b", "c"}


@pytest.mark.parametrize("seed", range(50))
def test_if_c_is_requested_e_below_it_does_not_run(seed):
    shape = ((), ("a",), ("a",), (), ("c",))
    scenario = build_scenario(shape, UserRequest(file=0, jobs=("c",)), seed=seed)
    assert list_computed(scenario) == {"a", "c"}


@pytest.mark.parametrize("groups", [(), (tuple("abcde"),), (("a", "c"), ("b", "e"))])
@pytest.mark.parametrize("seed", range(20))
def test_an_upload_runs_everything(seed, groups):
    scenario = build_scenario(KLIO, Upload(file=0), groups=groups, files=0, seed=seed)
    assert list_computed(scenario) == set("abcde")


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("layers", [2, 3])
def test_an_arrival_costs_one_message_for_itself_and_each_job_that_others_wait_for(
    layers, seed, monkeypatch
):
    published = count_published(monkeypatch)
    play(build_scenario(build_lattice(3, layers), Upload(file=0), files=0, seed=seed))
    assert len(published) == 1 + 3 * (layers - 1)
    assert all(message.trigger is not None for message in published)


@pytest.mark.parametrize("seed", range(20))
def test_a_request_costs_one_message_for_each_job(seed, monkeypatch):
    published = count_published(monkeypatch)
    play(build_scenario(build_lattice(3, 3), UserRequest(file=0, jobs=("i",)), seed=seed))
    assert len(published) == 3 + 3 + 1
    assert all(message.trigger is None for message in published)


def count_published(monkeypatch):
    published = []
    add = simulation.PromiseChecker.record_publish

    def record(checker, caller, envelope):
        published.append(decode_message(envelope.data))
        add(checker, caller, envelope)

    monkeypatch.setattr(simulation.PromiseChecker, "record_publish", record)
    return published


PARENT = build_layout((), published=("a",))
CHILD = build_layout(("default/a",), published=("a",))
GRANDCHILD = build_layout(("moods/a",))
SIBLING = build_layout(("default/a",))


def build_teams(*layouts, events, **more) -> Scenario:
    """Return a scenario of several namespaces."""
    return Scenario(**{"seed": 0} | more, layouts=layouts, events=events)


ASKED = build_teams(PARENT, CHILD, events=(UserRequest(file=0, jobs=("a",), namespace=1),))
ASKED_TWICE = build_teams(
    PARENT, CHILD, GRANDCHILD, events=(UserRequest(file=0, jobs=("a",), namespace=2),)
)


def list_computed_of_all(scenario: Scenario) -> dict[str, set[str]]:
    return {
        home.name: {
            entry.job
            for record in home.ledger.records.values()
            for entry in record.results.values()
            if entry.state is State.DONE
        }
        for home in play(scenario).world.homes
    }


@pytest.mark.parametrize("seed", range(50))
def test_a_request_computes_its_line_in_all_namespaces_and_nothing_beside_it(seed):
    above = build_layout((), ("a",), (), published=("b", "c"))
    below = build_layout(("default/b",), ("a",), ("default/c",), published=("a",))
    beside = build_layout(("default/b", "moods/a"))
    request = UserRequest(file=0, jobs=("b",), namespace=1)
    scenario = build_teams(above, below, beside, events=(request,), seed=seed)
    assert list_computed_of_all(scenario) == {
        "default": {"a", "b"},
        "moods": {"a", "b"},
        "charts": set(),
    }


@pytest.mark.parametrize("seed", range(50))
def test_an_arrival_runs_everything_in_all_namespaces_but_what_runs_on_request(seed):
    child = build_layout(("default/a",), ("a",), published=("a",), on_request=("b",))
    grandchild = build_layout(("moods/a",))
    scenario = build_teams(PARENT, child, grandchild, events=(Upload(file=0),), files=0, seed=seed)
    assert list_computed_of_all(scenario) == {"default": {"a"}, "moods": {"a"}, "charts": {"a"}}


@pytest.mark.parametrize("seed", range(20))
def test_a_published_job_costs_one_message_however_many_namespaces_read_it(seed, monkeypatch):
    published = count_published(monkeypatch)
    children = [SIBLING] * 3
    play(build_teams(PARENT, *children, events=(Upload(file=0),), files=0, seed=seed))
    assert len(published) == 2


@pytest.mark.parametrize("seed", range(20))
def test_a_request_to_another_namespace_costs_one_message_there_and_one_back(seed, monkeypatch):
    published = count_published(monkeypatch)
    play(replace(ASKED_TWICE, seed=seed))
    assert [message.is_response for message in published] == [False] * 3 + [True] * 2


# --- planted faults --------------------------------------------------------------------------


class AcknowledgesFirst(Worker):
    def send(self) -> None:
        replies = self.unsent.copy()
        with contextlib.suppress(TransientError):
            self.queue.acknowledge([r.received.handle for r in replies])
            reply.send(replies, queue=self.queue, ledger=self.ledger)
            self.unsent.clear()


def clear_first(replies, *, queue, ledger):
    reply.clear_all([r.clear for r in replies if r.clear is not None], ledger=ledger)
    queue.publish([envelope for r in replies for envelope in r.envelopes])


def never_clear(replies, *, queue, ledger):
    queue.publish([envelope for r in replies for envelope in r.envelopes])


class NeverExtends(engine.Engine):
    def _extend(self) -> None:
        pass


class LosesItsInbox(engine.Engine):
    def step(self, timeout_s: float = 0.0):
        try:
            return super().step(timeout_s)
        except TransientError:
            if self._inbox:
                self._inbox.pop()
            raise


class NeverSweepsExpired(sweep.Sweeper):
    def _want_expired(self, record, now):
        return record


def want_for_everyone(record, graph, jobs, whom, now):
    """Those below are notified of what was only requested."""
    return want(record, graph, jobs, EVERYONE, now)


def want_nothing(record, graph, jobs, whom, now):
    return record


def settle_for_any_owner(record, graph, *, owner, order, results, now, **more):
    """A late result is recorded all the same."""
    if record is not None:
        late = Lease(owner=owner, expires_at=now)
        entries = dict(record.results)
        for one in results:
            fingerprint = graph.fingerprints[one.job]
            if fingerprint in entries:
                entries[fingerprint] = evolve(entries[fingerprint], lease=late)
        record = evolve(record, results=entries, deleted_at=None)
        order = record.order
    return settle(record, graph, owner=owner, order=order, results=results, now=now, **more)


def settle_that_forgets(record, graph, **more):
    """Those to notify are cleared at once, though the message may not be redelivered."""
    changed, late = settle(record, graph, **more)
    if changed is not None:
        settled = {graph.fingerprints[result.job] for result in more["results"]}
        entries = {
            f: evolve(e, notify=()) if f in settled and e.state in FINISHED else e
            for f, e in changed.results.items()
        }
        changed = evolve(changed, results=entries)
    return changed, late


def settle_by_job(record, graph, **more):
    """A job has one result: the latest."""
    changed, late = settle(record, graph, **more)
    if changed is not None:
        settled = {result.job for result in more["results"]}
        entries = {
            f: e
            for f, e in changed.results.items()
            if e.job not in settled or f == graph.fingerprints[e.job]
        }
        changed = evolve(changed, results=entries)
    return changed, late


def claim_that_forgets(record, graph, jobs, **more):
    claimed = claim(record, graph, jobs, **more)
    entries = dict(claimed.results)
    for job in jobs:
        fingerprint = graph.fingerprints[job]
        entries[fingerprint] = evolve(entries[fingerprint], notify=())
    return evolve(claimed, results=entries)


def move_nothing(record, graph, now, lost):
    return record


build_start = work.Steps.build_start


def start_and_move(steps, one, now):
    """A worker of an earlier deployment has everything computed as it was defined then."""
    start = build_start(steps, one, now)

    def transition(found):
        return start(found and move_wanted(found, steps.graph, now, steps.lost))

    return transition


def decode_pings_as_work(data):
    return evolve(decode_message(data), ping=False)


def plan_without_leases(
    graph, record, states, targets, now, owner=None, served=None, lost=None, **more
):
    return plan(graph, record, states, targets, now, owner, served, lambda _lease: True, **more)


def plan_for_all(graph, record, states, targets, now, owner=None, served=None, lost=None, **more):
    return plan(graph, record, states, targets, now, owner, None, lost, **more)


def reopen_each_time(record, graph, jobs, *, request, **more):
    """The same request forces a result as often as it comes."""
    return reopen(record, graph, jobs, request=f"{request} {next(numbers)}", **more)


numbers = itertools.count()


def arrive_of_any_version(record, media, now):
    older = record is not None and media.order < record.order
    return arrive(None if older else record, media, now)


def delete_nothing(record, media, now):
    return record, False


def delete_any_generation(collector, found):
    return collector.artifacts.delete(found.artifact.object.name)


find_reason = GarbageCollector._find_reason


def find_reason_by_own_fingerprint(collector, name, record):
    """Only what the graph makes itself counts, and nothing that is equivalent."""
    own = {job: (fingerprint,) for job, fingerprint in collector.graph.fingerprints.items()}
    graph = SimpleNamespace(jobs=collector.graph.jobs, accepted=own)
    return find_reason(replace(collector, graph=graph), name, record)


def find_reason_of_known_job(collector, name, record):
    return find_reason(collector, name, record) if name.job in collector.graph.jobs else None


look = observation.look
is_to_be_written = observation._Watch.is_to_be_written


def is_to_be_written_once(watch):
    return not watch.arrivals and not watch.is_deleted and is_to_be_written(watch)


def is_another_content(watch):
    """A content that is recorded already is nothing new, whatever became of it since."""
    record, media = watch.snapshot.record, watch.look.media
    if record is not None and media is not None and record.version == media.version:
        return False
    return is_to_be_written(watch)


def look_at_stat(store, file, known=None, **options):
    """What has another stat is another version."""
    seen = look(store, file, known, **options)
    if seen.media is None or not seen.media.stat:
        return seen
    return replace(seen, media=evolve(seen.media, version=seen.media.stat.replace(":", "")))


replace_content = transitions._replace_content


def replace_content_for_ever(record, media, now):
    """A content that comes back is computed again."""
    return replace_content(evolve(record, earlier={}), media, now)


def reopen_what_is_older(record, graph, jobs, *, now, **more):
    """What was finished after the request, by its clock, is as good as computed again."""
    finished = {entry.job: entry.finished_at or now for entry in record.results.values()}
    older = [job for job in jobs if finished.get(job, now) <= now]
    return reopen(record, graph, older, now=now, **more)


def arrive_although_erased(record, media, now):
    """A newer version of a file that was taken down is a file like any other."""
    return arrive(record and evolve(record, erased=False), media, now)


read_result = foreign._read_result


def read_any_result(manifest, job, name, result, media):
    """What a parent makes now is as good as what the lock says."""
    return read_result(manifest, evolve(job, fingerprint=result.fingerprint), name, result, media)


look_up = foreign.ForeignLedgers.look_up


def look_up_what_may_be_there(ledgers, files, needed):
    """Whatever a parent is locked to is done."""
    found, unknown = look_up(ledgers, files, needed)
    for media, results, references in zip(files, found, needed, strict=True):
        for reference in references:
            namespace, job = reference.split("/")
            result = foreign.PublishedResult(
                state=State.DONE,
                fingerprint=ledgers._graph.foreign[reference].fingerprint,
                checksums={"json": ""},
            )
            manifest, locked = ledgers._graph.imports[namespace], ledgers._graph.foreign[reference]
            results[reference] = read_result(manifest, locked, job, result, media)
    return found, unknown


def take_any_state_for_done(work_of_file):
    """The state of a parent is not looked at, only whether there is one."""
    return dict.fromkeys(work_of_file.foreign, State.DONE)


def respond_to_nobody(builder, one, record, notified):
    return iter(())


def respond_to_everyone(response, address):
    """A response is published as the job's event."""
    return event_to_envelope(evolve(response, is_response=False))


list_waiting = work.Steps._list_waiting


def list_waiting_for_own(steps, record, planned, one):
    """What waits for another namespace leaves no mark."""
    waiting = list_waiting(steps, record, planned, one)
    return [job for job in waiting if planned.verdicts[job] is not Verdict.FOREIGN]


def read_result_of_locked(manifest, job, name, result, media):
    """A newer version's results stand for nothing."""
    return read_result(manifest, job, name, evolve(result, equivalents=()), media)


find_told_result = foreign.find_told_result


def find_told_result_of_first(graph, message):
    """Once its first job has another version, a namespace is told of nothing."""
    return find_told_result(graph, message) if graph.jobs["a"].version == 1 else None


find_foreign_result = foreign.find_foreign_result


def find_no_newer_failure(manifest, job, record, media):
    """What a newer version has failed at may yet be done."""
    found = find_foreign_result(manifest, job, record, media)
    return None if found is not None and found.is_of_newer else found


name_cause = work.Work.cause.fget


def name_cause_without_hops(one):
    """A deletion that comes round again is taken for the one that has brought the tombstone."""
    return re.sub(r":deleted:\d+", ":deleted", name_cause(one))


def pass_nothing(builder, one):
    return iter(())


def find_reason_without_pins(collector, name, record):
    """What other namespaces are locked to is garbage like anything else."""
    return find_reason(replace(collector, pinned=frozenset()), name, record)


class ExtendsLate(engine.Engine):
    """Leases are extended when they have almost expired, by the clock of their owner."""

    def _extend(self) -> None:
        soon = self.clock() + timedelta(seconds=self.lease_s / 20)
        if any(work.leased_until <= soon for work in (*self._running.values(), *self._finished)):
            super()._extend()


def list_waiting_for_no_pause(steps, record, planned, one):
    """The message of a paused job is acknowledged, and forgotten."""
    waiting = list_waiting(steps, record, planned, one)
    return [job for job in waiting if planned.verdicts[job] is not Verdict.PAUSED]


def plan_without_pauses(*arguments, paused=(), **more):
    return plan(*arguments, **more)


def plan_below_pauses(*arguments, paused=(), **more):
    """What is below a paused job is computed without it."""
    planned = plan(*arguments, **more)
    return evolve(planned, run=tuple(job for job in planned.run if job not in paused))


def read_once(reader):
    if reader._read_at is None:
        reader._found, reader._read_at = reader.ledger.read_controls(), reader.clock()
    return reader._found


def select_all(controls, jobs):
    """If a job is paused, all are."""
    return frozenset(jobs if controls.paused else ())


class ForgetsWhatRuns(engine.Engine):
    def withdraw(self):
        left = super().withdraw()
        for part in (self._running, self._finished, self._under_way):
            part.clear()
        return left


request_page = catch_up.CatchUp.request_page


def request_first_page(one, after=""):
    return request_page(one, after) if not after else None


@dataclass(frozen=True, kw_only=True)
class Fault:
    promise: str
    places: tuple[tuple[Any, str], ...]
    planted: Any
    scenario: Scenario | None = None  # None: any


LATTICE = build_scenario(build_lattice(2, 4), Upload(file=0), files=0)
JOINS = build_scenario(
    build_lattice(3, 3),
    UserRequest(file=0, jobs=("i",)),
    UserRequest(file=0, jobs=("h",)),
    faults=FaultBudget(duplicates=4),
)
# Two requests that wait for one missing job: many results are wanted, and little else happens.
WAITING = build_scenario(
    ((), ("a",), ("a",)),
    UserRequest(file=0, jobs=("b",)),
    UserRequest(file=0, jobs=("c",)),
    groups=(("b", "c"),),
    faults=FaultBudget(crashes=4, outages=4, duplicates=2),
)
# A message is delivered again while its job, which takes longer than a lease, still runs.
LONG = build_scenario(
    ((),),
    Upload(file=0),
    files=0,
    teams=(("a",), ("a",)),
    faults=FaultBudget(stalls=6, duplicates=6),
)
# A request computes what an arrival waits for.
OVERTAKEN = build_scenario(
    ((), ("a",)),
    Upload(file=0),
    UserRequest(file=0, jobs=("a",)),
    files=0,
    teams=(("a",), ("a",), ("b",)),
    faults=FaultBudget(crashes=4),
)
REPLACED = build_scenario(((), ("a",)), UserRequest(file=0, jobs=("b",)), Deployment(job="a"))
ROLLING_JOIN = build_scenario(
    ((), (), ("a", "b")),
    Deployment(job="a", version=Version.COMPATIBLE, rolling=True),
    Upload(file=0),
    files=0,
    teams=(("a",), ("b",), ("c",)) * 2,
)
ROLLING_REQUEST = build_scenario(
    ((), ("a",)),
    BackfillStart(jobs=("b",)),
    Deployment(job="a", rolling=True),
    UserRequest(file=0, jobs=("b",)),
    teams=(("a",), ("b",)) * 2,
)
FORCED_JOIN = build_teams(
    build_layout((), (), published=("a", "b"), teams=(("a", "b"),)),
    build_layout(("default/a", "default/b")),
    events=(Upload(file=0), UserRequest(file=0, jobs=("a", "b"), force=True)),
    files=0,
)
# One process serves the pipelines of a and b, and both get the event of the arrival.
TWO_IN_ONE = build_scenario(
    ((), (), ("a", "b")), Upload(file=0), files=0, teams=(("a", "b"), ("c",))
)
FORCED = build_scenario(
    ((),),
    BackfillStart(jobs=("a",)),
    UserRequest(file=0, jobs=("a",), force=True),
    faults=FaultBudget(duplicates=4),
)
ROLLED_BACK = build_scenario(
    ((), ("a",)),
    BackfillStart(jobs=("b",)),
    Deployment(job="a"),
    BackfillStart(jobs=("b",)),
    Deployment(job="a", version=Version.BACK),
    BackfillStart(jobs=("b",)),
)
CALM = build_scenario(((), ("a",)), UserRequest(file=0, jobs=("b",)))
OVERWRITTEN = build_scenario(((),), Upload(file=0), Upload(file=0), files=0)
# The old version of a job is collected, and computed again at the same time.
COLLECTED = build_scenario(
    ((),),
    BackfillStart(jobs=("a",)),
    Deployment(job="a"),
    Collection(),
    Deployment(job="a", version=Version.BACK),
    BackfillStart(jobs=("a",)),
)
EQUIVALENT = build_scenario(
    ((),),
    BackfillStart(jobs=("a",)),
    Deployment(job="a", version=Version.COMPATIBLE),
    Collection(),
)
REMOVED = build_scenario(
    ((), ("a",)),
    BackfillStart(jobs=("b",)),
    Collection(),
    Deployment(job="b", version=Version.NONE),
)
# Artifacts are written, and not recorded yet.
UNRECORDED = build_scenario(
    ((), ("a",)),
    Upload(file=0),
    *(Collection(),) * 4,
    files=0,
    groups=(("a", "b"),),
    faults=FaultBudget(stalls=8),
    detects_dead_processes=False,
)
SWAPPED = build_scenario(
    ((),),
    Upload(file=0),
    Upload(file=0),
    Return(file=0),
    Removal(file=0),
    Return(file=0),
    files=0,
    in_folder=True,
)
TOUCHED = build_scenario(((),), Upload(file=0), Touch(file=0), files=0, in_folder=True)

ASKED_BESIDE = build_teams(
    PARENT, CHILD, SIBLING, events=(UserRequest(file=0, jobs=("a",), namespace=1),)
)
ASKED_TOO_LATE = build_teams(
    replace(PARENT, on_request=("a",)),
    replace(CHILD, on_request=("a",)),
    events=(UserRequest(file=0, jobs=("a",), namespace=1), Upload(file=0)),
)
REFUSED = build_teams(PARENT, CHILD, events=(Upload(file=0),), files=0, failing=0.5)
TOLD = build_teams(
    replace(PARENT, teams=(("a",), ("a",))),
    CHILD,
    events=(Upload(file=0), UserRequest(file=0, jobs=("a",))),
    files=0,
    faults=FaultBudget(crashes=4),
)
UNLOCKED = build_teams(PARENT, CHILD, events=(Deployment(job="a"), Upload(file=0)), files=0)
PINNED = build_teams(
    PARENT, CHILD, events=(BackfillStart(jobs=("a",)), Deployment(job="a"), Collection())
)
DELETED = build_teams(PARENT, CHILD, GRANDCHILD, events=(Upload(file=0), Removal(file=0)), files=0)
ERASED = build_teams(
    PARENT, CHILD, events=(Upload(file=0), Erasure(file=0), Upload(file=0)), files=0
)
# Each of two namespaces needs the other one.
CIRCLE = build_teams(
    build_layout((), ("moods/a",), published=("a",)), CHILD, events=(Upload(file=0),), files=0
)
COMPATIBLE = Deployment(job="a", version=Version.COMPATIBLE)
FAILED_NEWER = build_teams(
    PARENT,
    build_layout(("default/a",), ("a",)),
    events=(COMPATIBLE, Upload(file=0)),
    files=0,
    inapplicable=0.5,
)
# Each of two parents of a job, one of them of another namespace, is finished while the other runs.
RACE = build_teams(
    PARENT,
    build_layout((), ("a", "default/a"), teams=(("a", "b"), ("a", "b"))),
    events=(Upload(file=0),),
    files=0,
)
CHAIN = ((), ("a",), ("b",))
RESUMED = build_scenario(
    CHAIN,
    PauseOrder(jobs=("a",)),
    UserRequest(file=0, jobs=("c",)),
    ResumeOrder(jobs=("a",)),
)
PAUSED_LINE = build_scenario(
    CHAIN, PauseOrder(jobs=("b",)), Upload(file=0), groups=(("a", "b", "c"),), files=0
)
PAUSED = build_scenario(
    ((), ("a",), ("a",)),
    Upload(file=0),
    PauseOrder(jobs=("b",)),
    *(Upload(file=file) for file in (1, 0, 1, 2)),
    files=0,
)
CANCELLED = build_scenario(
    ((), ("a",)), BackfillStart(jobs=("b",)), Upload(file=8), CancelOrder(), files=8
)
LIMITED = build_scenario(
    ((), ("a",)), BackfillStart(jobs=("b",), max_failures=1), files=12, failing=0.5
)
CAUGHT_UP = build_scenario(
    ((), ("a",)),
    BackfillStart(jobs=("a",)),
    UserRequest(file=0, jobs=("a",)),
    CatchUpStart(),
    files=5,
)

FAULTS: dict[str, Fault] = {
    "forgets what has found its job paused": Fault(
        promise="complete",
        places=((work.Steps, "_list_waiting"),),
        planted=list_waiting_for_no_pause,
        scenario=PAUSED,
    ),
    "ignores pauses": Fault(
        promise="obeyed", places=((work, "plan"),), planted=plan_without_pauses, scenario=PAUSED
    ),
    "reads the controls once": Fault(
        promise="obeyed",
        places=((control_reader.ControlReader, "read"),),
        planted=read_once,
        scenario=PAUSED,
    ),
    "computes what is below a paused job": Fault(
        promise="fresh", places=((work, "plan"),), planted=plan_below_pauses, scenario=PAUSED_LINE
    ),
    "pauses everything with a job": Fault(
        promise="complete",
        places=((controls.Controls, "select_paused"),),
        planted=select_all,
        scenario=PAUSED,
    ),
    "requests what was paused before all have noticed": Fault(
        promise="prompt", places=((resume, "NOTICE_S"),), planted=0.0, scenario=RESUMED
    ),
    "requests only what was resumed, and nothing below": Fault(
        promise="prompt",
        places=((resume, "find_below"),),
        planted=lambda _graph, jobs: frozenset(jobs),
        scenario=RESUMED,
    ),
    "loses what a cancelled run has claimed": Fault(
        promise="durable",
        places=((engine, "Engine"),),
        planted=ForgetsWhatRuns,
        scenario=CANCELLED,
    ),
    "goes on with a cancelled run": Fault(
        promise="obeyed",
        places=((run_guard.RunGuard, "check"),),
        planted=lambda _guard: False,
        scenario=CANCELLED,
    ),
    "goes on although too many files have failed": Fault(
        promise="obeyed",
        places=((run_guard.RunGuard, "_has_failed"),),
        planted=lambda _guard: False,
        scenario=LIMITED,
    ),
    "catches up with a few files": Fault(
        promise="complete",
        places=((catch_up.CatchUp, "request_page"),),
        planted=request_first_page,
        scenario=CAUGHT_UP,
    ),
    "takes any state of another namespace's job for done": Fault(
        promise="fresh",
        places=((work.Work, "parent_states"),),
        planted=property(take_any_state_for_done),
        scenario=REFUSED,
    ),
    "takes what another namespace has not computed for done": Fault(
        promise="fresh",
        places=((foreign.ForeignLedgers, "look_up"),),
        planted=look_up_what_may_be_there,
        scenario=ASKED,
    ),
    "takes any result of another namespace's job": Fault(
        promise="fresh",
        places=((foreign, "_read_result"),),
        planted=read_any_result,
        scenario=UNLOCKED,
    ),
    "responds to no other namespace": Fault(
        promise="prompt",
        places=((reply.ReplyBuilder, "_respond_to_all"),),
        planted=respond_to_nobody,
        scenario=ASKED,
    ),
    "responds to everyone": Fault(
        promise="narrow",
        places=((reply, "respond_to_envelope"),),
        planted=respond_to_everyone,
        scenario=ASKED_BESIDE,
    ),
    "notes nothing that waits for another namespace": Fault(
        promise="prompt",
        places=((work.Steps, "_list_waiting"),),
        planted=list_waiting_for_own,
        scenario=ASKED_TWICE,
    ),
    "does not respond that a file has another version": Fault(
        promise="bounded",
        places=((reply.ReplyBuilder, "_refuse"),),
        planted=lambda _builder, _work, _message: iter(()),
        scenario=ASKED_TOO_LATE,
    ),
    "clears before it publishes to other namespaces": Fault(
        promise="complete", places=((reply, "send"),), planted=clear_first, scenario=TOLD
    ),
    "passes no tombstone on": Fault(
        promise="fresh",
        places=((reply.ReplyBuilder, "_pass_deletion"),),
        planted=pass_nothing,
        scenario=DELETED,
    ),
    "collects what other namespaces are locked to": Fault(
        promise="once",
        places=((GarbageCollector, "_find_reason"),),
        planted=find_reason_without_pins,
        scenario=PINNED,
    ),
    "does not look again at other namespaces": Fault(
        promise="prompt",
        places=((engine.Engine, "_waits_for_others"),),
        planted=lambda _engine, _work: False,
        scenario=RACE,
    ),
    "ignores what a newer version of another namespace stands for": Fault(
        promise="complete",
        places=((foreign, "_read_result"),),
        planted=read_result_of_locked,
        scenario=replace(CIRCLE, events=(Upload(file=0), COMPATIBLE)),
    ),
    "drops what other namespaces have finished before a new version": Fault(
        promise="complete",
        places=((engine, "find_told_result"),),
        planted=find_told_result_of_first,
        scenario=replace(CIRCLE, events=(Upload(file=0), Deployment(job="a"))),
    ),
    "waits for what a newer version of another namespace has failed at": Fault(
        promise="complete",
        places=((foreign, "find_foreign_result"),),
        planted=find_no_newer_failure,
        scenario=FAILED_NEWER,
    ),
    "lets a deletion go round": Fault(
        promise="bounded",
        places=((work.Work, "cause"),),
        planted=property(name_cause_without_hops),
        scenario=replace(
            CIRCLE,
            events=(Removal(file=0), Upload(file=0), Removal(file=0, late=True)),
            files=1,
            in_folder=True,
        ),
    ),
    "computes a newer version of an erased file": Fault(
        promise="freed",
        places=((ingest_events, "arrive"),),
        planted=arrive_although_erased,
        scenario=ERASED,
    ),
    "leaves what is written for a file while it is erased": Fault(
        promise="freed",
        places=((work.Work, "is_to_be_cleaned"),),
        planted=False,
        scenario=ERASED,
    ),
    "erases a file here only": Fault(
        promise="freed",
        places=((Deletions, "announce"),),
        planted=lambda _deletions, _records: None,
        scenario=ERASED,
    ),
    "acknowledges before it publishes": Fault(
        promise="complete", places=((simulation, "Worker"),), planted=AcknowledgesFirst
    ),
    "clears before it publishes": Fault(
        promise="complete", places=((reply, "send"),), planted=clear_first, scenario=OVERTAKEN
    ),
    "never clears": Fault(promise="bounded", places=((reply, "send"),), planted=never_clear),
    "lets leases expire": Fault(
        promise="once", places=((engine, "Engine"),), planted=NeverExtends, scenario=LONG
    ),
    "loses a message when the ledger is away": Fault(
        promise="durable", places=((engine, "Engine"),), planted=LosesItsInbox
    ),
    "tells everyone of what was only requested": Fault(
        promise="narrow", places=((work, "want"), (acceptance, "want")), planted=want_for_everyone
    ),
    "notes nothing that is wanted": Fault(
        promise="complete", places=((work, "want"), (acceptance, "want")), planted=want_nothing
    ),
    "records late results": Fault(
        promise="fresh",
        places=((work, "settle"),),
        planted=settle_for_any_owner,
        scenario=replace(OVERWRITTEN, events=(Upload(file=0),) * 3),
    ),
    "clears what another message added": Fault(
        promise="complete", places=((work, "settle"),), planted=settle_that_forgets
    ),
    "clears at the claim": Fault(
        promise="complete", places=((work, "claim"),), planted=claim_that_forgets
    ),
    "keys results by job": Fault(
        promise="once", places=((work, "settle"),), planted=settle_by_job, scenario=ROLLED_BACK
    ),
    "works for pings": Fault(
        promise="complete", places=((engine, "decode_message"),), planted=decode_pings_as_work
    ),
    "ignores leases": Fault(promise="once", places=((work, "plan"),), planted=plan_without_leases),
    "forces at each repetition": Fault(
        promise="once", places=((requests, "reopen"),), planted=reopen_each_time, scenario=FORCED
    ),
    "takes an older version for a newer": Fault(
        promise="fresh",
        places=((ingest_events, "arrive"),),
        planted=arrive_of_any_version,
        scenario=OVERWRITTEN,
    ),
    "leaves no tombstone": Fault(
        promise="fresh", places=((ingest_events, "delete"),), planted=delete_nothing
    ),
    "sweeps no expired leases": Fault(
        promise="complete", places=((actors, "Sweeper"),), planted=NeverSweepsExpired
    ),
    "sweeps nothing that is wanted": Fault(
        promise="complete", places=((sweep, "PENDING"),), planted="!nothing"
    ),
    "forgets whose event it was": Fault(
        promise="bounded",
        places=((work.Work, "event"),),
        planted=property(lambda one: one.trigger and "any"),
        scenario=LATTICE,
    ),
    "takes the events of two pipelines for one": Fault(
        promise="bounded",
        places=((work.Work, "event"),),
        planted=property(lambda one: one.trigger),
        scenario=TWO_IN_ONE,
    ),
    "does not go on": Fault(
        promise="prompt",
        places=((work.Steps, "find_next_jobs"),),
        planted=lambda _steps, _work: (),
        scenario=CALM,
    ),
    "lets each parent of a join ask for it": Fault(
        promise="bounded",
        places=((work.Steps, "_is_next"),),
        planted=lambda _steps, _work, _record, _job: True,
        scenario=JOINS,
    ),
    "computes what it does not serve": Fault(
        promise="rights", places=((work, "plan"),), planted=plan_for_all
    ),
    "publishes without a right to": Fault(
        promise="rights",
        places=((work.Steps, "leads_to"),),
        planted=lambda _steps, _job: True,
    ),
    "leaves what is wanted to the fingerprint of before": Fault(
        promise="complete",
        places=((acceptance, "move_wanted"),),
        planted=move_nothing,
        scenario=REPLACED,
    ),
    "brings what is wanted back to the fingerprint of before": Fault(
        promise="complete",
        places=((work.Steps, "build_start"),),
        planted=start_and_move,
        scenario=ROLLING_REQUEST,
    ),
    "forgets who waits for a result that is forced": Fault(
        promise="complete",
        places=((transitions, "_is_awaited_elsewhere"),),
        planted=lambda _graph, _job: False,
        scenario=FORCED_JOIN,
    ),
    "collects without a claim": Fault(
        promise="fresh",
        places=((GarbageCollector, "_claim"),),
        planted=lambda _collector, batch: list(batch),
        scenario=COLLECTED,
    ),
    "collects whatever was written since": Fault(
        promise="fresh",
        places=((GarbageCollector, "_delete"),),
        planted=delete_any_generation,
        scenario=COLLECTED,
    ),
    "collects what is equivalent": Fault(
        promise="once",
        places=((GarbageCollector, "_find_reason"),),
        planted=find_reason_by_own_fingerprint,
        scenario=EQUIVALENT,
    ),
    "collects what somebody is about to record": Fault(
        promise="once",
        places=((GarbageCollector, "_is_under_way"),),
        planted=lambda _collector, _record: False,
        scenario=UNRECORDED,
    ),
    "collects what a slow worker has written, and lets it record that": Fault(
        promise="fresh",
        places=((garbage, "release"),),
        planted=lambda _record, owns: (None, ()),
        scenario=UNRECORDED,
    ),
    "keeps the artifacts of removed jobs": Fault(
        promise="freed",
        places=((GarbageCollector, "_find_reason"),),
        planted=find_reason_of_known_job,
        scenario=REMOVED,
    ),
    "looks once": Fault(
        promise="fresh",
        places=((observation._Watch, "is_to_be_written"),),
        planted=is_to_be_written_once,
        scenario=SWAPPED,
    ),
    "takes another stat for another content": Fault(
        promise="fresh",
        places=((observation, "look"),),
        planted=look_at_stat,
        scenario=TOUCHED,
    ),
    "ignores a content that comes back": Fault(
        promise="fresh",
        places=((observation._Watch, "is_to_be_written"),),
        planted=is_another_content,
        scenario=SWAPPED,
    ),
    "computes a content that comes back": Fault(
        promise="once",
        places=((transitions, "_replace_content"),),
        planted=replace_content_for_ever,
        scenario=SWAPPED,
    ),
    "forces what is older by its clock": Fault(
        promise="complete",
        places=((requests, "reopen"),),
        planted=reopen_what_is_older,
        scenario=replace(FORCED, clock_error_s=MAX_CLOCK_ERROR_S),
    ),
    "extends leases at the last moment of its clock": Fault(
        promise="once",
        places=((engine, "Engine"),),
        planted=ExtendsLate,
        scenario=replace(
            LONG,
            events=tuple(Upload(file=file) for file in range(3)),
            faults=FaultBudget(stalls=12, duplicates=12),
            clock_error_s=MAX_CLOCK_ERROR_S,
        ),
    ),
    "forgets what another deployment has told": Fault(
        promise="complete",
        places=((work.Steps, "_list_notified_elsewhere"),),
        planted=lambda _steps, _record: set(),
        scenario=ROLLING_JOIN,
    ),
}


def plant(name: str, monkeypatch: pytest.MonkeyPatch) -> Fault:
    fault = FAULTS[name]
    for place, attribute in fault.places:
        monkeypatch.setattr(place, attribute, fault.planted)
    return fault


def list_scenarios(fault: Fault) -> Iterator[Scenario]:
    if fault.scenario is not None:
        yield from (replace(fault.scenario, seed=seed) for seed in range(3 * MAX_SEEDS))
        return
    for seed in range(MAX_SEEDS):
        drawn = draw_scenario(2 * seed)  # of one namespace
        yield drawn
        yield replace(drawn, faults=STORM)
        yield replace(WAITING, seed=seed)


def is_found(fault: Fault) -> bool:
    """Whether some history breaks the promise that the fault makes impossible to keep."""
    broken = map(find_broken_promise, list_scenarios(fault))
    return any(error is not None and error.promise == fault.promise for error in broken)


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(name, monkeypatch):
    assert is_found(plant(name, monkeypatch))


@pytest.mark.parametrize("fault", [f for f in FAULTS.values() if f.scenario is not None])
def test_without_a_fault_its_scenario_keeps_all_promises(fault):
    for seed in range(100):
        play(replace(fault.scenario, seed=seed))


@pytest.mark.parametrize("version", list(Version))
def test_a_new_version_at_any_place_in_a_circle_keeps_all_promises(version):
    for seed, namespace in itertools.product(range(200), (0, 1)):
        deployment = Deployment(job="a", version=version, namespace=namespace)
        play(replace(CIRCLE, seed=seed, events=(Upload(file=0), deployment)))


def test_an_outage_of_another_namespace_loses_no_message():
    for seed in range(200):
        play(replace(RACE, seed=seed, faults=FaultBudget(outages=4)))


# --- what a failure looks like ---------------------------------------------------------------

SHRUNK = "notes nothing that is wanted"


def find_first_drawn() -> tuple[Scenario, BrokenPromise]:
    drawn = map(draw_scenario, itertools.count())
    return next((one, error) for one in drawn if (error := find_broken_promise(one)) is not None)


def test_a_broken_history_shrinks_to_a_few_steps_and_still_breaks(monkeypatch):
    plant(SHRUNK, monkeypatch)
    scenario, error = find_first_drawn()
    small = shrink(scenario)
    assert sum(len(layout.shape) for layout in small.layouts) <= 3
    assert len(small.events) <= 3
    assert small.faults.total <= 1
    assert find_broken_promise(small).promise == error.promise


def test_a_seed_is_printed_as_a_history(capsys):
    assert main(["--seed", "1"]) == 0
    printed = capsys.readouterr().out
    assert "all promises are kept" in printed
    assert "arrival" in printed or "request" in printed


def test_a_broken_seed_is_printed_with_the_broken_promise(capsys, monkeypatch):
    plant(SHRUNK, monkeypatch)
    scenario, _ = find_first_drawn()
    assert main(["--seed", str(scenario.seed), "--shrink"]) == 1
    assert "BROKEN complete" in capsys.readouterr().out


def test_a_seed_gives_the_same_history_in_every_process():
    def play_in_a_process(hash_seed: str) -> str:
        command = [sys.executable, "-m", "segue_support.simulator", "--seed", "65"]
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return re.sub(r"Z-[0-9a-f]{8}", "", ended.stdout)  # ids end in random digits

    assert play_in_a_process("1") == play_in_a_process("2")


def test_many_histories_are_run_by_several_processes(capsys):
    assert main(["--seeds", "0:20", "--jobs", "2"]) == 0
    assert "20 histories: 0 broke a promise" in capsys.readouterr().out
