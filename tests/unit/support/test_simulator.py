"""The promises hold in thousands of histories, and the simulator finds planted faults."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from dataclasses import replace

import pytest

from segue.errors import TransientError
from segue.execution import message_transitions, reply, responder
from segue.ingest import events as ingest_events
from segue.ingest import sweep
from segue.model import planner, transitions
from segue.model.planner import decide
from segue.model.queue import message_to_envelope
from segue.model.record import Lease, State, evolve
from segue.model.transitions import arrive, claim, settle
from segue_support.simulator import actors, simulation
from segue_support.simulator.__main__ import main
from segue_support.simulator.actors import Worker
from segue_support.simulator.promises import BrokenPromise
from segue_support.simulator.scenario import (
    FaultBudget,
    Scenario,
    Upload,
    UserRequest,
    draw_scenario,
)
from segue_support.simulator.shrinker import find_broken_promise, shrink
from segue_support.simulator.simulation import Simulation

pytestmark = pytest.mark.slow

HISTORIES = 2_000
CHUNK = 500
MAX_SEEDS = 1_000  # within which a planted fault must break a promise
STORM = FaultBudget(crashes=6, outages=6, duplicates=4, stalls=3, transient_errors=2, full_disks=1)

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


# --- what Klio gets wrong --------------------------------------------------------------------


def list_computed(scenario: Scenario) -> set[str]:
    simulation = Simulation(scenario)
    simulation.run()
    (record,) = simulation.world.ledger.records.values()
    return {job for job, entry in record.jobs.items() if entry.state is State.DONE}


@pytest.mark.parametrize("seed", range(50))
def test_if_c_is_requested_and_a_and_b_are_missing_d_does_not_run(seed):
    scenario = Scenario(
        seed=seed,
        shape=KLIO[:4],
        files=1,
        events=(UserRequest(file=0, jobs=("c",)),),
        teams=(tuple("abcd"),),
    )
    assert list_computed(scenario) == {"a", "b", "c"}


@pytest.mark.parametrize("seed", range(50))
def test_if_c_is_requested_e_below_it_does_not_run(seed):
    scenario = Scenario(
        seed=seed,
        shape=((), ("a",), ("a",), (), ("c",)),
        files=1,
        events=(UserRequest(file=0, jobs=("c",)),),
        teams=(("a",), ("b",), ("c",), ("d",), ("e",)),
    )
    assert list_computed(scenario) == {"a", "c"}


@pytest.mark.parametrize("seed", range(50))
def test_an_upload_runs_everything(seed):
    scenario = Scenario(seed=seed, shape=KLIO, events=(Upload(file=0),), teams=(tuple("abcde"),))
    assert list_computed(scenario) == set("abcde")


# --- planted faults --------------------------------------------------------------------------


class AcknowledgesFirst(Worker):
    def send(self) -> None:
        replies = self.unsent.copy()
        with contextlib.suppress(TransientError):
            self.queue.acknowledge([r.received.handle for r in replies])
            reply.send(replies, queue=self.queue, ledger=self.ledger, clock=self.world.clock)
            self.unsent.clear()


def clears_pending_first(replies, *, queue, ledger, clock):
    reply.clear_pending(
        [r.clear for r in replies if r.clear is not None], ledger=ledger, now=clock()
    )
    queue.publish([envelope for r in replies for envelope in r.envelopes])


def never_clears_pending(replies, *, queue, ledger, clock):
    queue.publish([envelope for r in replies for envelope in r.envelopes])


class NeverExtends(responder.Responder):
    def _extend(self) -> None:
        pass


class LosesItsInbox(responder.Responder):
    def step(self, timeout_s: float = 0.0):
        try:
            return super().step(timeout_s)
        except TransientError:
            if self._inbox:
                self._inbox.pop()
            raise


class NeverSweepsExpired(sweep.Sweeper):
    def _find_expired(self, record, now):
        return {}


class NeverSweepsPending(sweep.Sweeper):
    def _find_pending(self, record, now):
        return {}


def requests_as_klio_does(message, job, targets):
    """A parent is requested without the targets."""
    return message_to_envelope(evolve(message, job=job, targets=None, attempt=1))


def passes_on_only_the_next(message, job, targets):
    """The child that is notified becomes the only target."""
    return message_to_envelope(evolve(message, job=job, targets=(job,), attempt=1))


def settle_for_any_owner(record, *, generation, owner, results, claimed=None):
    """A late result is recorded all the same."""
    if record is not None:
        late = Lease(owner=owner, expires_at=record.arrived_at)
        jobs = {
            r.job: evolve(record.jobs[r.job], lease=late) for r in results if r.job in record.jobs
        }
        record = evolve(record, jobs={**record.jobs, **jobs}, deleted_at=None)
        generation = record.generation
    return settle(record, generation=generation, owner=owner, results=results)


def settle_that_forgets(record, **more):
    """Pending targets are cleared at once, though the message may not be redelivered."""
    changed, settled = settle(record, **more)
    if changed is not None:
        jobs = {r.job: evolve(changed.jobs[r.job], pending_targets=()) for r in more["results"]}
        changed = evolve(changed, jobs={**changed.jobs, **jobs})
    return changed, settled


def claim_without_pending(record, graph, jobs, **more):
    claimed = claim(record, graph, jobs, **more)
    return evolve(
        claimed,
        jobs={**claimed.jobs, **{j: evolve(claimed.jobs[j], pending_targets=()) for j in jobs}},
    )


def adds_no_pending(graph, record, message, decision, now):
    return record


def decide_on_pings_as_on_work(graph, record, message, now, **more):
    return decide(graph, record, evolve(message, ping=False), now, **more)


def decide_without_leases(graph, record, message, now, **more):
    return decide(graph, record, message, now, **(more | {"lost": lambda _lease: True}))


def arrive_of_any_generation(record, media, now):
    older = record is not None and media.generation < record.generation
    return arrive(None if older else record, media, now)


def always_forced(record, message, target):
    return message.force


def delete_nothing(record, media, now):
    return record, False


FAULTS: dict[str, tuple[str, object, str, object]] = {
    "acknowledges before it publishes": ("complete", simulation, "Worker", AcknowledgesFirst),
    "clears pending targets before it publishes": (
        "complete",
        reply,
        "send",
        clears_pending_first,
    ),
    "never clears pending targets": ("complete", reply, "send", never_clears_pending),
    "lets leases expire": ("once", responder, "Responder", NeverExtends),
    "loses a message when the ledger is away": ("durable", responder, "Responder", LosesItsInbox),
    "requests as Klio does": ("narrow", responder, "forward", requests_as_klio_does),
    "passes on only the next job": ("complete", responder, "forward", passes_on_only_the_next),
    "records late results": ("fresh", transitions, "settle", settle_for_any_owner),
    "clears what another message added": ("complete", transitions, "settle", settle_that_forgets),
    "clears pending targets at the claim": (
        "complete",
        transitions,
        "claim",
        claim_without_pending,
    ),
    "adds no pending targets": (
        "complete",
        message_transitions,
        "register_targets",
        adds_no_pending,
    ),
    "works for pings": ("narrow", planner, "decide", decide_on_pings_as_on_work),
    "ignores leases": ("once", planner, "decide", decide_without_leases),
    "forces at each repetition": ("once", planner, "is_forced", always_forced),
    "takes an older version for a newer": (
        "fresh",
        ingest_events,
        "arrive",
        arrive_of_any_generation,
    ),
    "leaves no tombstone": ("fresh", ingest_events, "delete", delete_nothing),
    "sweeps no expired leases": ("complete", actors, "Sweeper", NeverSweepsExpired),
    "sweeps no pending targets": ("complete", actors, "Sweeper", NeverSweepsPending),
}
# Two requests that wait for one missing job: it has many pending targets, and little else happens.
PENDING = Scenario(
    seed=0,
    shape=((), ("a",), ("a",)),
    files=1,
    events=(UserRequest(file=0, jobs=("b",)), UserRequest(file=0, jobs=("c",))),
    teams=(("a",), ("b", "c")),
    faults=FaultBudget(crashes=4, outages=4, duplicates=2),
)


def plant(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, module, name, planted = FAULTS[fault]
    monkeypatch.setattr(module, name, planted)


def find_first_broken() -> tuple[Scenario, BrokenPromise] | None:
    for seed in range(MAX_SEEDS):
        for scenario in (replace(draw_scenario(seed), faults=STORM), replace(PENDING, seed=seed)):
            if (error := find_broken_promise(scenario)) is not None:
                return scenario, error
    return None


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault, monkeypatch):
    plant(fault, monkeypatch)
    found = find_first_broken()
    assert found is not None
    assert found[1].promise == FAULTS[fault][0]


# --- what a failure looks like ---------------------------------------------------------------


def test_a_broken_history_shrinks_to_a_few_steps_and_still_breaks(monkeypatch):
    plant("requests as Klio does", monkeypatch)
    scenario, error = find_first_broken()
    small = shrink(scenario)
    assert len(small.shape) <= 3
    assert len(small.events) == 1
    assert small.faults.total == 0
    assert find_broken_promise(small).promise == error.promise


def test_a_seed_is_printed_as_a_history(capsys):
    assert main(["--seed", "7"]) == 0
    printed = capsys.readouterr().out
    assert "all promises are kept" in printed
    assert "arrival" in printed or "request" in printed


def test_a_broken_seed_is_printed_with_the_broken_promise(capsys, monkeypatch):
    plant("requests as Klio does", monkeypatch)
    assert main(["--seed", "0", "--shrink"]) == 1
    assert "BROKEN narrow" in capsys.readouterr().out


def test_a_seed_gives_the_same_history_in_every_process():
    def play(hash_seed: str) -> str:
        command = [sys.executable, "-m", "segue_support.simulator", "--seed", "65"]
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return re.sub(r"Z-[0-9a-f]{8}", "", ended.stdout)  # ids end in random digits

    assert play("1") == play("2")


def test_many_histories_are_run_by_several_processes(capsys):
    assert main(["--seeds", "0:20", "--jobs", "2"]) == 0
    assert "20 histories: 0 broke a promise" in capsys.readouterr().out
