"""Checks Segue's promises at each write to the ledger, and at the end of a history."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from segue.model.artifact import parse_artifact_name
from segue.model.message import Message, decode_message
from segue.model.planner import plan_line
from segue.model.record import Entry, Lease, Record, State
from segue.model.transitions import arrive, is_current

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from segue.model.graph import Graph
    from segue.model.queue import Envelope
    from segue.worker.protocol import Task
    from segue_support.simulator.world import Caller, World

# The least time left on each lease while its worker runs: it renews them each third.
KEPT_FRACTION = 2 / 3
REFUSED = frozenset({State.FAILED, State.BLOCKED})


class BrokenPromise(AssertionError):
    """A promise was not kept."""

    def __init__(self, promise: str, message: str) -> None:
        super().__init__(f"{promise}: {message}")
        self.promise = promise


@dataclass(slots=True, kw_only=True)
class Expectation:
    """The results that were requested of one file."""

    uri: str
    targets: tuple[str, ...]
    force: bool
    retry: bool
    made_at: int  # a step of the world
    request: str | None = None
    # The version, once the request was accepted; None: it may never be.
    generation: int | None = None
    due: tuple[str, ...] = ()  # the targets without an answer yet


class PromiseChecker:
    """Observes requests, writes and messages; raises ``BrokenPromise``."""

    def __init__(self, world: World, lease_s: float) -> None:
        self._world = world
        self._lease_s = lease_s
        self.expectations: dict[str, list[Expectation]] = {}
        self.pings: list[Expectation] = []
        self.poison: list[bytes] = []
        self.published_by: dict[int, list[Envelope]] = {}  # only callers that are observed
        self._done: Counter[tuple[str, int, str, str]] = Counter()
        self._done_at: dict[tuple[str, str], tuple[int, int]] = {}  # settled, and claimed before
        self._claimed_at: dict[tuple[str, str], int] = {}
        self._claimed_for: dict[tuple[str, str], str] = {}  # the latest request at the last claim
        self._may_repeat: Counter[tuple[str, str]] = Counter()
        self._may_retry: set[tuple[str, str]] = set()

    # Requests.

    def expect(
        self,
        uri: str,
        targets: tuple[str, ...],
        *,
        force: bool = False,
        retry: bool = False,
        accepted: bool = False,
        generation: int | None = None,
    ) -> Expectation:
        """Record a request, whose jobs may run from now on."""
        expected = Expectation(
            uri=uri,
            targets=targets,
            force=force,
            retry=retry,
            made_at=self._world.step,
            generation=generation if accepted else None,
            due=targets,
        )
        self.expectations.setdefault(uri, []).append(expected)
        if force:
            self._may_repeat.update((uri, target) for target in targets)
        if retry:
            self._may_retry.update((uri, job) for job in self._world.graph.add_ancestors(targets))
        return expected

    def record_publish(self, caller: Caller, envelope: Envelope) -> None:
        """Record a message that was published."""
        if caller.sweeps:
            message = decode_message(envelope.data)
            if message.targets == (message.job,) and (message.uri, message.job) in self._claimed_at:
                # The sweep requests a lost job on its own: it cannot know for which targets.
                self.expect(message.uri, message.targets)
        if (kept := self.published_by.get(id(caller))) is not None:
            kept.append(envelope)

    def forget_answered(self, record: Record) -> None:
        """Stop expecting what has been answered: a deployment or a forced run may reset it."""
        for one in self.expectations.get(record.uri, ()):
            if one.generation is not None:
                one.due = tuple(t for t in one.due if not self._is_answered(record, one, t))

    # Writes.

    def check_write(self, caller: Caller, old: Record | None, new: Record) -> None:
        """Check one write to the ledger."""
        if old is not None:
            self._check_order(old, new)
        before = old.jobs if old is not None and old.generation == new.generation else {}
        started = []
        for job, entry in new.jobs.items():
            was = before.get(job)
            if was is entry:
                continue
            if entry.state is State.RUNNING and _is_start(was, entry):
                started.append(job)
            elif entry.state is State.DONE and (was is None or was.state is not State.DONE):
                self._record_done(new, job, entry)
            if self._world.history is not None:
                self._world.note(caller.name, _format_change(new, job, was, entry))
            self._check_fresh(new, job, entry)
        if old is not None and old.generation != new.generation:
            for job, entry in new.jobs.items():
                self._check_fresh(new, job, entry)
        if started:
            self._check_start(caller, old, new, started)

    def _check_order(self, old: Record, new: Record) -> None:
        if new.generation < old.generation:
            raise BrokenPromise(
                "fresh", f"an older generation has changed a newer record: {old}, {new}"
            )
        if old.deleted_at is None:
            return
        if new.generation == old.generation and new.deleted_at is None:
            raise BrokenPromise("fresh", f"a deleted version was restored: {new}")
        if new.deleted_at is not None and _states(new) != _states(old):
            raise BrokenPromise("narrow", f"a job of a deleted file has changed: {new}")

    def _check_fresh(self, record: Record, job: str, entry: Entry) -> None:
        """Fresh: a current result was made from exactly this version, by an accepted job."""
        graph = self._world.graph
        if job not in graph.jobs or not is_current(graph, record, job):
            return
        if entry.artifact is None:
            raise BrokenPromise("fresh", f"{job} is done and has no artifact: {record}")
        name = parse_artifact_name(entry.artifact.removeprefix(self._world.artifacts.uri("")))
        file = record.uri.rpartition("/")[2]
        found = (name.job, name.fingerprint, name.file, name.generation)
        if found != (job, entry.fingerprint, file, record.generation):
            raise BrokenPromise("fresh", f"{job} of {record} is {entry.artifact}")

    def check_inputs(
        self, graph: Graph, task: Task, job: str, artifacts: Mapping[str, str]
    ) -> None:
        """Check the parents' artifacts that a job is about to read."""
        for parent in graph.jobs[job].parents:
            uri = artifacts.get(parent)
            if uri is None:
                raise BrokenPromise("fresh", f"the task has no artifact of {parent}: {task}")
            name = parse_artifact_name(uri.removeprefix(self._world.artifacts.uri("")))
            good = name.job == parent and name.fingerprint in graph.accepted[parent]
            if not good or name.generation != task.media.generation:
                raise BrokenPromise("fresh", f"{job} was computed from {uri}: {task}")

    # Starts and ends.

    def _check_start(
        self, caller: Caller, old: Record | None, new: Record, jobs: list[str]
    ) -> None:
        before = old
        if old is None or old.generation != new.generation:
            before, _ = arrive(old, new.media, self._world.now)
        assert before is not None
        if caller.repeats:
            self.forget_answered(before)
        for job in jobs:
            self._claimed_for[new.uri, job] = new.jobs[job].request or ""
            entry = before.jobs.get(job)
            if entry is None or entry.state is not State.RUNNING:
                self._check_expected(before, job)
                self._claimed_at[new.uri, job] = self._world.step
            if entry is not None and entry.generation == new.generation:
                self._check_free(caller, new, job, entry)

    def _check_expected(self, record: Record, job: str) -> None:
        """Narrow: a job starts only if a requested target needs it."""
        graph, now = self._world.graph, self._world.now
        for one in self.expectations.get(record.uri, ()):
            if not graph.is_on_line(job, one.targets):
                continue
            for force in _list_forced(one, job):
                plan = plan_line(
                    graph,
                    record,
                    one.targets,
                    now=now,
                    force=force,
                    retry=one.retry,
                    lost=self._world.is_lost,
                )
                if job in plan.run:
                    return
        raise BrokenPromise("narrow", f"no request needs {job} of {record}: {self.expectations}")

    def _check_free(self, caller: Caller, record: Record, job: str, entry: Entry) -> None:
        """Once: no job starts that is running or done."""
        where = (record.uri, job)
        if entry.state is State.RUNNING and entry.lease is not None:
            taker = record.jobs[job].lease
            if taker is None or taker.owner != entry.lease.owner:
                self._check_lost(entry.lease, f"{caller.name} takes {job} of {record}")
        elif entry.fingerprint not in self._world.graph.accepted[job]:
            return
        elif entry.state is State.DONE and where not in self._may_repeat:
            raise BrokenPromise("once", f"{job} is done, and {caller.name} repeats it: {record}")
        elif (
            entry.state is State.FAILED
            and entry.fingerprint == self._world.graph.fingerprints[job]
            and where not in self._may_repeat
            and where not in self._may_retry
        ):
            raise BrokenPromise("once", f"{job} has failed, and {caller.name} repeats it: {record}")

    def _check_lost(self, lease: Lease, what: str) -> None:
        if self._world.is_lost(lease):
            return
        if lease.expires_at > self._world.now:
            raise BrokenPromise("once", f"{what}, which {lease.owner} holds")
        last_step_at = self._world.find_last_step(lease)
        kept_until = lease.expires_at - timedelta(seconds=KEPT_FRACTION * self._lease_s)
        if last_step_at is not None and last_step_at > kept_until:
            raise BrokenPromise("once", f"{lease.owner} is alive, and let its lease expire: {what}")

    def _record_done(self, record: Record, job: str, entry: Entry) -> None:
        key = (record.uri, record.generation, job, entry.fingerprint)
        self._done[key] += 1
        where = (record.uri, job)
        self._done_at[where] = (self._world.step, self._claimed_at.get(where, -1))
        if self._done[key] > 1 + self._may_repeat[where]:
            raise BrokenPromise("once", f"{key} was computed {self._done[key]} times")

    # The end.

    def check_end(self) -> None:
        """Check the ledger and the dead letters once no work is left."""
        world = self._world
        for record in world.ledger.records.values():
            self._check_final_generation(record)
            if record.deleted_at is None:
                self._check_nothing_unfinished(record)
        for some in self.expectations.values():
            for one in some:
                self._check_complete(one)
        for ping in self.pings:
            self._check_ping_recorded(ping)
        for record in world.ledger.records.values():
            self._check_no_other_pings(record)
        for data in self.poison:
            if not any(data in found for found in world.list_dead_payloads()):
                raise BrokenPromise("durable", f"{data!r} is not among the dead letters")

    def _check_final_generation(self, record: Record) -> None:
        """Fresh: the ledger ends with what is in the store, whatever the order of the events."""
        newest = self._world.newest_generations.get(record.uri)
        generation = self._world.generations.get(record.uri)
        if record.generation != newest or (record.deleted_at is None) != (generation is not None):
            raise BrokenPromise(
                "fresh", f"the store has {generation} (newest {newest}), not {record}"
            )

    def _check_nothing_unfinished(self, record: Record) -> None:
        for job, entry in record.jobs.items():
            if entry.pending_targets:
                raise BrokenPromise(
                    "complete", f"{entry.pending_targets} are pending at {job} of {record}"
                )
            if entry.state is State.RUNNING:
                raise BrokenPromise(
                    "complete", f"{job} is running, and no process holds it: {record}"
                )

    def _check_complete(self, one: Expectation) -> None:
        record = self._find_record(one.uri)
        if one.generation is None:
            return
        if record is None:
            raise BrokenPromise("complete", f"{one.uri} is not in the ledger: {one}")
        if record.deleted_at is not None or record.generation != one.generation:
            return
        for target in one.due:
            if not self._is_answered(record, one, target):
                raise BrokenPromise(
                    "complete", f"{target} was requested and is not done: {one}; {record}"
                )

    def _is_answered(self, record: Record, one: Expectation, target: str) -> bool:
        if record.deleted_at is not None or record.generation != one.generation:
            return True
        graph = self._world.graph
        entry = record.jobs.get(target)
        if entry is None:
            return False
        if entry.state in REFUSED:
            return entry.error is not None
        if not is_current(graph, record, target):
            return False
        return not one.force or self._is_redone(entry, one, target)

    def _is_redone(self, entry: Entry, one: Expectation, target: str) -> bool:
        settled_at, claimed_at = self._done_at.get((one.uri, target), (-1, -1))
        if settled_at < one.made_at:
            return False
        assert entry.artifact is not None
        # A forced request that comes while the job runs takes that run as its answer.
        joined = self._claimed_for.get((one.uri, target), "") < (one.request or "")
        written_at = self._world.written.get(entry.artifact, -1)
        return joined or claimed_at < one.made_at or written_at >= one.made_at

    def _check_ping_recorded(self, ping: Expectation) -> None:
        record = self._find_record(ping.uri)
        if record is None or record.deleted_at or record.generation != ping.generation:
            return
        assert ping.request is not None
        for job in self._world.graph.add_ancestors(ping.targets):
            trace = record.pings.get(job)
            if trace is None or trace.request < ping.request:
                raise BrokenPromise(
                    "complete", f"the ping is not recorded at {job}: {ping}; {record}"
                )

    def _check_no_other_pings(self, record: Record) -> None:
        graph = self._world.graph
        for job, trace in record.pings.items():
            if not any(
                p.uri == record.uri
                and p.request == trace.request
                and graph.is_on_line(job, p.targets)
                for p in self.pings
            ):
                raise BrokenPromise("narrow", f"no ping was sent to {job}: {record}")

    def _find_record(self, uri: str) -> Record | None:
        return self._world.ledger.records.get(uri)


def _states(record: Record) -> dict[str, State]:
    return {job: entry.state for job, entry in record.jobs.items()}


def _is_start(was: Entry | None, entry: Entry) -> bool:
    """Whether a job has started, rather than had its lease extended."""
    return (
        was is None
        or was.lease is None
        or was.started_at != entry.started_at
        or (entry.lease is not None and was.lease.owner != entry.lease.owner)
    )


def _list_forced(one: Expectation, job: str) -> list[Collection[str]]:
    """Return the sets of targets that a request may still have to force when a job starts."""
    if not one.force:
        return [()]
    return [(), one.targets, *([(job,)] if job in one.targets else [])]


def _format_change(record: Record, job: str, was: Entry | None, entry: Entry) -> str:
    pending = f" pending {' '.join(entry.pending_targets)}" if entry.pending_targets else ""
    lease = f" by {entry.lease.owner}" if entry.lease is not None else ""
    request = f" for {entry.request}" if entry.request is not None else ""
    return (
        f"{record.uri}#{record.generation} {job}: {was.state if was else '-'} → {entry.state}"
        f" {entry.fingerprint[:4]}{lease}{pending}{request}"
    )


def decode_messages(envelopes: Collection[Envelope]) -> list[Message]:
    """Decode the messages of some envelopes."""
    return [decode_message(one.data) for one in envelopes]
