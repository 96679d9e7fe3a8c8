"""The promises, looked after at each write of the ledger, and once all is quiet."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from segue.model.artifact import parse_artifact_name
from segue.model.ledger import arrive, current
from segue.model.message import Message, decode
from segue.model.planner import line
from segue.model.record import Entry, Lease, Record, State

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from segue.model.graph import Graph
    from segue.model.queue import Letter
    from segue.worker.task import Task
    from segue_support.simulator.actors import Actor
    from segue_support.simulator.world import World

# What a worker that goes on keeps of each of its leases, at least: it renews them each third.
KEPT = 2 / 3
REFUSED = frozenset({State.FAILED, State.BLOCKED})


class Broken(AssertionError):
    """A promise was not kept."""

    def __init__(self, promise: str, message: str) -> None:
        super().__init__(f"{promise}: {message}")
        self.promise = promise


@dataclass(slots=True, kw_only=True)
class Asked:
    """What somebody asked for, of one file."""

    uri: str
    targets: tuple[str, ...]
    force: bool
    retry: bool
    made_at: int  # a step of the world
    request: str | None = None
    # Of which version, once whoever asked was told that it will be done; None: perhaps of none.
    generation: int | None = None
    due: tuple[str, ...] = ()  # the targets that are still to be answered


class Watch:
    """Looks on, and raises ``Broken``."""

    def __init__(self, world: World, lease_s: float) -> None:
        self._world = world
        self._lease_s = lease_s
        self.asked: dict[str, list[Asked]] = {}
        self.pings: list[Asked] = []
        self.poison: list[bytes] = []
        self.published_by: dict[int, list[Letter]] = {}  # while somebody wants to know
        self._done: Counter[tuple[str, int, str, str]] = Counter()
        self._done_at: dict[tuple[str, str], tuple[int, int]] = {}  # settled, and claimed before
        self._claimed_at: dict[tuple[str, str], int] = {}
        self._claimed_for: dict[tuple[str, str], str] = {}  # the latest request at the last claim
        self._may_repeat: Counter[tuple[str, str]] = Counter()
        self._may_retry: set[tuple[str, str]] = set()

    # What is asked for.

    def ask(
        self,
        uri: str,
        targets: tuple[str, ...],
        *,
        force: bool = False,
        retry: bool = False,
        accepted: bool = False,
        generation: int | None = None,
    ) -> Asked:
        """Somebody begins to ask; from now on it may be done."""
        asked = Asked(
            uri=uri,
            targets=targets,
            force=force,
            retry=retry,
            made_at=self._world.step,
            generation=generation if accepted else None,
            due=targets,
        )
        self.asked.setdefault(uri, []).append(asked)
        if force:
            self._may_repeat.update((uri, target) for target in targets)
        if retry:
            self._may_retry.update((uri, job) for job in self._world.graph.upward(targets))
        return asked

    def published(self, actor: Actor, letter: Letter) -> None:
        """Somebody publishes a letter."""
        if actor.sweeps:
            message = decode(letter.data)
            if message.targets == (message.job,) and (message.uri, message.job) in self._claimed_at:
                # What was begun, and lost, is asked for on its own: for whom is not known.
                self.ask(message.uri, message.targets)
        if (kept := self.published_by.get(id(actor))) is not None:
            kept.append(letter)

    def forget_answered(self, record: Record) -> None:
        """What has been answered by now need not stay so: a deployment, or force, comes."""
        for one in self.asked.get(record.uri, ()):
            if one.generation is not None:
                one.due = tuple(t for t in one.due if not self._answered(record, one, t))

    # Writes.

    def wrote(self, actor: Actor, old: Record | None, new: Record) -> None:
        """Look at one write."""
        if old is not None:
            self._keeps_order(old, new)
        before = old.jobs if old is not None and old.generation == new.generation else {}
        started = []
        for job, entry in new.jobs.items():
            was = before.get(job)
            if was is entry:
                continue
            if entry.state is State.RUNNING and _is_new(was, entry):
                started.append(job)
            elif entry.state is State.DONE and (was is None or was.state is not State.DONE):
                self._finished(new, job, entry)
            if self._world.history is not None:
                self._world.note(actor.name, _told(new, job, was, entry))
            self._is_fresh(new, job, entry)
        if old is not None and old.generation != new.generation:
            for job, entry in new.jobs.items():
                self._is_fresh(new, job, entry)
        if started:
            self._may_start(actor, old, new, started)

    def _keeps_order(self, old: Record, new: Record) -> None:
        if new.generation < old.generation:
            raise Broken("fresh", f"an older generation has changed a newer record: {old}, {new}")
        if old.deleted_at is None:
            return
        if new.generation == old.generation and new.deleted_at is None:
            raise Broken("fresh", f"a tombstone has come to life: {new}")
        if new.deleted_at is not None and _states(new) != _states(old):
            raise Broken("narrow", f"something is done about a file that is deleted: {new}")

    def _is_fresh(self, record: Record, job: str, entry: Entry) -> None:
        """Whatever counts as current was made from just this version, by an accepted job."""
        graph = self._world.graph
        if job not in graph.jobs or not current(graph, record, job):
            return
        if entry.artifact is None:
            raise Broken("fresh", f"{job} is done and has no artifact: {record}")
        name = parse_artifact_name(entry.artifact.removeprefix(self._world.artifacts.uri("")))
        file = record.uri.rpartition("/")[2]
        said = (name.job, name.fingerprint, name.file, name.generation)
        if said != (job, entry.fingerprint, file, record.generation):
            raise Broken("fresh", f"{job} of {record} is {entry.artifact}")

    def reads(self, graph: Graph, task: Task, job: str, artifacts: Mapping[str, str]) -> None:
        """A job reads its parents' artifacts."""
        for parent in graph.jobs[job].parents:
            uri = artifacts.get(parent)
            if uri is None:
                raise Broken("fresh", f"nobody said where the artifact of {parent} is: {task}")
            name = parse_artifact_name(uri.removeprefix(self._world.artifacts.uri("")))
            good = name.job == parent and name.fingerprint in graph.accepted[parent]
            if not good or name.generation != task.media.generation:
                raise Broken("fresh", f"{job} was computed from {uri}: {task}")

    # Starts and ends.

    def _may_start(self, actor: Actor, old: Record | None, new: Record, jobs: list[str]) -> None:
        before = old
        if old is None or old.generation != new.generation:
            before, _ = arrive(old, new.media, self._world.now)
        assert before is not None
        if actor.repeats:
            self.forget_answered(before)
        for job in jobs:
            self._claimed_for[new.uri, job] = new.jobs[job].request or ""
            entry = before.jobs.get(job)
            if entry is None or entry.state is not State.RUNNING:
                self._is_asked_for(before, job)
                self._claimed_at[new.uri, job] = self._world.step
            if entry is not None and entry.generation == new.generation:
                self._is_free(actor, new, job, entry)

    def _is_asked_for(self, record: Record, job: str) -> None:
        """Narrow: what starts stands in the line of something that was asked for."""
        graph, now = self._world.graph, self._world.now
        for one in self.asked.get(record.uri, ()):
            if not graph.on_line(job, one.targets):
                continue
            for force in _forces(one, job):
                plan = line(
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
        raise Broken("narrow", f"nobody asked for {job} of {record}: {self.asked}")

    def _is_free(self, actor: Actor, record: Record, job: str, entry: Entry) -> None:
        """Once: what is being done, or is done, is left alone."""
        where = (record.uri, job)
        if entry.state is State.RUNNING and entry.lease is not None:
            taker = record.jobs[job].lease
            if taker is None or taker.owner != entry.lease.owner:
                self._is_lost(entry.lease, f"{actor.name} takes {job} of {record}")
        elif entry.fingerprint not in self._world.graph.accepted[job]:
            return
        elif entry.state is State.DONE and where not in self._may_repeat:
            raise Broken("once", f"{job} is done, and {actor.name} does it again: {record}")
        elif (
            entry.state is State.FAILED
            and entry.fingerprint == self._world.graph.fingerprints[job]
            and where not in self._may_repeat
            and where not in self._may_retry
        ):
            raise Broken("once", f"{job} has failed, and {actor.name} does it again: {record}")

    def _is_lost(self, lease: Lease, what: str) -> None:
        if self._world.is_lost(lease):
            return
        if lease.expires_at > self._world.now:
            raise Broken("once", f"{what}, which {lease.owner} is at")
        stepped_at = self._world.stepped_at(lease)
        kept_until = lease.expires_at - timedelta(seconds=KEPT * self._lease_s)
        if stepped_at is not None and stepped_at > kept_until:
            raise Broken("once", f"{lease.owner} went on, and let its lease run out: {what}")

    def _finished(self, record: Record, job: str, entry: Entry) -> None:
        key = (record.uri, record.generation, job, entry.fingerprint)
        self._done[key] += 1
        where = (record.uri, job)
        self._done_at[where] = (self._world.step, self._claimed_at.get(where, -1))
        if self._done[key] > 1 + self._may_repeat[where]:
            raise Broken("once", f"{key} was computed {self._done[key]} times")

    # When all is quiet.

    def is_quiet(self) -> None:
        """Look at how it ended."""
        world = self._world
        for record in world.ledger.records.values():
            self._ended_right(record)
            if record.deleted_at is None:
                self._nothing_is_left(record)
        for some in self.asked.values():
            for one in some:
                self._is_complete(one)
        for ping in self.pings:
            self._left_a_trace(ping)
        for record in world.ledger.records.values():
            self._no_other_traces(record)
        for data in self.poison:
            if not any(data in found for found in world.dead_payloads()):
                raise Broken("durable", f"{data!r} is not among the dead letters")

    def _ended_right(self, record: Record) -> None:
        """Whatever the order of the events, the ledger ends with what is in the store."""
        newest = self._world.newest(record.uri)
        generation = self._world.generation(record.uri)
        if record.generation != newest or (record.deleted_at is None) != (generation is not None):
            raise Broken("fresh", f"the store has {generation} (newest {newest}), not {record}")

    def _nothing_is_left(self, record: Record) -> None:
        for job, entry in record.jobs.items():
            if entry.wanted:
                raise Broken("complete", f"{entry.wanted} are owed at {job} of {record}")
            if entry.state is State.RUNNING:
                raise Broken("complete", f"nobody is at {job} of {record}")

    def _is_complete(self, one: Asked) -> None:
        record = self._record(one.uri)
        if one.generation is None:
            return
        if record is None:
            raise Broken("complete", f"the ledger has no {one.uri}, of which was asked {one}")
        if record.deleted_at is not None or record.generation != one.generation:
            return
        for target in one.due:
            if not self._answered(record, one, target):
                raise Broken("complete", f"{target} was asked for: {one}; and is not done {record}")

    def _answered(self, record: Record, one: Asked, target: str) -> bool:
        if record.deleted_at is not None or record.generation != one.generation:
            return True
        graph = self._world.graph
        entry = record.jobs.get(target)
        if entry is None:
            return False
        if entry.state in REFUSED:
            return entry.error is not None
        if not current(graph, record, target):
            return False
        return not one.force or self._was_redone(entry, one, target)

    def _was_redone(self, entry: Entry, one: Asked, target: str) -> bool:
        settled_at, claimed_at = self._done_at.get((one.uri, target), (-1, -1))
        if settled_at < one.made_at:
            return False
        assert entry.artifact is not None
        # A force that comes while the job is being computed takes that for its answer.
        joined = self._claimed_for.get((one.uri, target), "") < (one.request or "")
        written_at = self._world.written_at(entry.artifact)
        return joined or claimed_at < one.made_at or written_at >= one.made_at

    def _left_a_trace(self, ping: Asked) -> None:
        record = self._record(ping.uri)
        if record is None or record.deleted_at or record.generation != ping.generation:
            return
        assert ping.request is not None
        for job in self._world.graph.upward(ping.targets):
            trace = record.pings.get(job)
            if trace is None or trace.request < ping.request:
                raise Broken("complete", f"{ping} has left no trace at {job}: {record}")

    def _no_other_traces(self, record: Record) -> None:
        graph = self._world.graph
        for job, trace in record.pings.items():
            if not any(
                p.uri == record.uri and p.request == trace.request and graph.on_line(job, p.targets)
                for p in self.pings
            ):
                raise Broken("narrow", f"no ping asked for {job}: {record}")

    def _record(self, uri: str) -> Record | None:
        return self._world.ledger.records.get(uri)


def _states(record: Record) -> dict[str, State]:
    return {job: entry.state for job, entry in record.jobs.items()}


def _is_new(was: Entry | None, entry: Entry) -> bool:
    """Whether this is a start: one that began before is the same, extended."""
    return (
        was is None
        or was.lease is None
        or was.started_at != entry.started_at
        or (entry.lease is not None and was.lease.owner != entry.lease.owner)
    )


def _forces(one: Asked, job: str) -> list[Collection[str]]:
    """What of a request may still have to be forced when a job starts."""
    if not one.force:
        return [()]
    return [(), one.targets, *([(job,)] if job in one.targets else [])]


def _told(record: Record, job: str, was: Entry | None, entry: Entry) -> str:
    wanted = f" wanted {' '.join(entry.wanted)}" if entry.wanted else ""
    lease = f" by {entry.lease.owner}" if entry.lease is not None else ""
    request = f" for {entry.request}" if entry.request is not None else ""
    return (
        f"{record.uri}#{record.generation} {job}: {was.state if was else '-'} → {entry.state}"
        f" {entry.fingerprint[:4]}{lease}{wanted}{request}"
    )


def messages_in(letters: Collection[Letter]) -> list[Message]:
    """The messages among letters."""
    return [decode(one.data) for one in letters]
