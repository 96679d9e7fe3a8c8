"""Checks Segue's promises at each write to the ledger, and at the end of a history."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from segue.log import Action
from segue.maintenance.erasure import find_below
from segue.model.artifact import ARTIFACT, parse_artifact_name
from segue.model.controls import READ_S
from segue.model.manifest import split_reference
from segue.model.message import Message, decode_message
from segue.model.outcome import Outcome, Status
from segue.model.planner import plan
from segue.model.queue import format_inbox, list_published_topics, list_subscriptions
from segue.model.record import EVERYONE, FINISHED, Entry, Lease, Record, State, evolve, is_inbox
from segue.model.transitions import find_current, find_entry, is_current
from segue_support.simulator.deployments import list_manifests
from segue_support.simulator.executions import ExecutionCounter, build_key
from segue_support.simulator.faults import BrokenPromise
from segue_support.simulator.lines import list_started

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from segue.execution.reply import Reply
    from segue.model.graph import Graph
    from segue.model.media_file import MediaFile
    from segue.model.queue import Envelope, ReceivedEnvelope
    from segue.worker.protocol import Task
    from segue_support.simulator.namespace import Namespace
    from segue_support.simulator.world import Caller

# The least time left on each lease while its worker runs: it renews them each third.
KEPT_FRACTION = 2 / 3
REFUSED = frozenset({State.FAILED, State.BLOCKED, State.NOT_APPLICABLE})


@dataclass(slots=True, kw_only=True)
class Expectation:
    """The results that were requested of one file."""

    uri: str
    targets: tuple[str, ...]
    force: bool
    retry: bool
    is_redone: bool  # what is done before does not count
    graph: Graph = field(repr=False)  # as it was deployed
    is_event: bool  # all that is wanted is in a message
    is_replaced: bool = False  # a request, and its version was replaced: if it is back, an event is
    made_at: int  # a step of the world
    request: str | None = None  # of a ping
    # The version, once the request was accepted; None: it may never be.
    version: str | None = None
    line: tuple[str, ...] = ()  # of a ping: the jobs that it is to reach
    is_void: bool = False  # a ping, and the version that it was for was replaced
    due: tuple[str, ...] = ()  # the targets without an answer yet


class PromiseChecker:
    """Observes requests, writes and messages; raises ``BrokenPromise``."""

    def __init__(self, home: Namespace, lease_s: float) -> None:
        self._home = home
        self._world = home.world
        self._lease_s = lease_s
        self.expectations: dict[str, list[Expectation]] = {}
        self.pings: list[Expectation] = []
        self.poison: list[Envelope] = []
        self.erased: dict[str, frozenset[str]] = {}  # by URI: the namespaces below
        self.published_by: dict[int, list[Envelope]] = {}  # only callers that are observed
        self.executions = ExecutionCounter()
        self.messages = home.world.messages
        self._settled_at: dict[tuple[str, str], int] = {}  # by URI and job
        self._claimed: set[tuple[str, str]] = set()  # URI and job
        # Owners whose file was deleted meanwhile: they give up, and their leases stay until they
        # expire if the file comes back.
        self._interrupted: set[str] = set()
        self._gone: set[str] = set()  # artifacts that are gone and were not garbage

    # Requests.

    def expect(
        self,
        uri: str,
        targets: tuple[str, ...],
        *,
        force: bool = False,
        retry: bool = False,
        version: str | None = None,
        is_event: bool = False,
        graph: Graph | None = None,
    ) -> Expectation:
        """Record a request, whose jobs may run from now on; with a version, it is accepted."""
        graph = graph or self._home.graph
        expected = Expectation(
            uri=uri,
            targets=targets,
            force=force,
            retry=retry,
            is_redone=force,
            graph=graph,
            is_event=is_event,
            made_at=self._world.step,
            version=version,
            due=targets,
        )
        self.expectations.setdefault(uri, []).append(expected)
        self.messages.ask(self._home.name, uri)
        if force or retry:  # those below are told again
            self.messages.excuse(uri)
        if force:
            self.executions.permits.update((uri, target) for target in targets)
        if retry:
            line = graph.add_ancestors(targets)
            self.executions.retried.update((uri, job) for job in line)
        if not is_event:
            self._permit_parents(uri, targets, graph)
        return expected

    def expect_of_others(self, caller: Caller, media: MediaFile, targets: tuple[str, ...]) -> None:
        """Expect that others continue with what a backfill has found under way, or requested.

        They may have finished it since the backfill has found that.
        """
        self.expect(media.uri, targets, version=media.version, graph=caller.graph)
        record = self._find_record(media.uri)
        if record is not None and caller.graph is not self._home.graph:
            self._forget_replaced(caller, record)

    def _permit_parents(self, uri: str, targets: tuple[str, ...], graph: Graph) -> None:
        """Let other namespaces compute what they may be asked for, and whatever that needs."""
        for reference in graph.find_foreign(targets):
            namespace, job = split_reference(reference)
            self._world.find_home(namespace).checker.expect(uri, (job,))

    def expect_ping(self, uri: str, targets: tuple[str, ...]) -> Expectation:
        """Record a ping, which may go to all jobs above its targets from now on."""
        graph = self._home.graph
        ping = Expectation(
            uri=uri,
            targets=targets,
            force=False,
            retry=False,
            is_redone=False,
            graph=graph,
            is_event=True,
            made_at=self._world.step,
            line=tuple(_list_below_source(graph, graph.add_ancestors(targets))),
        )
        self.pings.append(ping)
        return ping

    def record_publish(self, caller: Caller, envelope: Envelope) -> None:
        """Record a message that was published."""
        if caller.sweeps:
            message = decode_message(envelope.data)
            started = caller.graph.select_on_arrival(message.targets)
            if started and self._is_sweep_needless():
                raise BrokenPromise("prompt", f"nothing went wrong, and still it sends {message}")
            lost = tuple(t for t in message.targets if (message.uri, t) in self._claimed)
            if lost:  # the sweep requests a lost job on its own: it cannot know for which targets
                self.expect(message.uri, lost, graph=caller.graph)
        if (kept := self.published_by.get(id(caller))) is not None:
            kept.append(envelope)
        if not caller.serves:
            uri = decode_message(envelope.data).uri
            for home in self._world.homes:  # a pipeline may pass it on to those above
                self.messages.ask(home.name, uri)
        else:
            self._check_right(caller, envelope)
        wrong = self.messages.add(envelope, caller)
        if wrong is not None:
            raise BrokenPromise("bounded", f"{caller.name}: {wrong}")

    def _is_sweep_needless(self) -> bool:
        """Whether nothing has happened that leaves anything to the sweep."""
        world = self._world
        if any(home.left_to_sweep for home in world.homes):
            return False
        # What waits for a paused job has waited long when that is resumed.
        return world.scenario.is_calm and (world.is_quiet or not world.scenario.pauses)

    def _check_right(self, caller: Caller, envelope: Envelope) -> None:
        """Rights: a worker publishes to its own topics, to its parents' inboxes, and responds."""
        graph = caller.graph
        if envelope.queue is None:
            allowed = envelope.topic in list_published_topics(graph, caller.serves)
        else:
            is_response = decode_message(envelope.data).is_response
            inboxes = {
                (graph.imports[split_reference(r)[0]].queue, format_inbox(job.pipeline))
                for r, job in graph.foreign.items()
            }
            allowed = is_response or (envelope.queue, envelope.topic) in inboxes
        if not allowed:
            raise BrokenPromise(
                "rights", f"{caller.name} has no right to publish to {envelope.topic}"
            )

    def record_loss(self, name: str) -> None:
        """Allow that an artifact is computed again that is gone."""
        found = parse_artifact_name(name)
        self._gone.add(name)
        uri = self._world.source.uri(found.file)
        self._forget_answered(self._home.graph, self._home.ledger.records[uri])
        self.executions.permits[uri, found.job] += 1
        self.messages.ask(self._home.name, uri)
        self.messages.excuse(uri)

    def excuse_delivery(self, envelope: Envelope | ReceivedEnvelope) -> None:
        """Allow what follows from a message that is delivered once more."""
        if all(envelope.data != one.data for one in self.poison):
            self.messages.excuse(decode_message(envelope.data).uri)

    def check_reply(self, caller: Caller, reply: Reply) -> None:
        """Note what may follow from a reply."""
        message = reply.message
        record = self._find_record(message.uri) if message is not None else None
        if record is None:
            return
        if reply.action in (Action.LOST, Action.DEFERRED):  # the message is sent again
            self.messages.excuse(record.uri)
        for one in reply.clear.notified if reply.clear is not None else ():
            entry = record.results.get(one.fingerprint)
            if entry is None:
                continue
            if entry.triggered_by is None or any(map(is_inbox, entry.notify)):
                # Others may notify of the same before it is cleared: it is no event's.
                self.messages.excuse(record.uri)
        if caller.graph is not self._home.graph:
            self._forget_replaced(caller, record)

    def record_deployment(self) -> None:
        """Expect no more of what was answered before, and nothing to be computed again."""
        for record in self._home.ledger.records.values():
            self._forget_answered(self._home.graph, record)
        for some in self.expectations.values():
            for one in some:
                one.is_redone = False

    def forget_removed(self, before: Graph) -> None:
        """Stop expecting what only removed jobs could do, and pings that may have met a gap."""
        removed = before.jobs.keys() - self._home.graph.jobs
        for some in self.expectations.values():
            for one in some:
                one.due = tuple(target for target in one.due if target not in removed)
        for ping in self.pings if removed else ():
            ping.version = None

    def forget_events(self, is_cut_off: Callable[[str, str, str | None], bool]) -> None:
        """Stop expecting of events what is cut off from them, by job, URI and version."""
        for some in self.expectations.values():
            for one in some:
                if one.is_event or one.is_replaced:
                    one.due = tuple(t for t in one.due if not is_cut_off(t, one.uri, one.version))

    def _forget_answered(self, graph: Graph, record: Record) -> None:
        for one in self.expectations.get(record.uri, ()):
            if one.version is not None:
                one.due = tuple(t for t in one.due if not self._is_answered(graph, record, one, t))

    def _forget_replaced(self, caller: Caller, record: Record) -> None:
        """Stop expecting what is answered as it was deployed when it was requested.

        A worker of another deployment may answer an event.
        """
        deployed = self._home.graph
        for one in self.expectations.get(record.uri, ()):
            for graph in (one.graph, caller.graph) if one.is_event else (one.graph,):
                if graph is deployed:
                    continue
                one.due = tuple(t for t in one.due if not self._is_answered(graph, record, one, t))

    # Writes.

    def check_write(self, caller: Caller, old: Record | None, new: Record) -> None:
        """Check one write to the ledger."""
        if old is not None:
            self._note_replaced(old, new)
            self._check_order(caller, old, new)
            if caller.repeats or caller.collects:
                self._forget_answered(self._home.graph, old)
            if caller.collects:
                self._check_collected(caller, old, new)
        before = old.results if old is not None and old.version == new.version else {}
        started = [
            fingerprint
            for fingerprint, entry in new.results.items()
            if entry is not before.get(fingerprint)
            # Otherwise it is of a version that was overwritten and then deleted.
            and entry.order == new.order
            and self._check_change(caller, new, fingerprint, before.get(fingerprint))
        ]
        for fingerprint, was in before.items():
            if fingerprint not in new.results and not caller.collects and not new.erased:
                self._check_removed(caller, new, fingerprint, was)
        self._check_fresh(new)
        if started:
            self._check_start(caller, before, new, started)
        if self._world.scenario.deployments:
            self._forget_replaced(caller, new)

    def _note_replaced(self, old: Record, new: Record) -> None:
        """Note what a file that is deleted or overwritten leaves behind, as it may come back."""
        if new.deleted_at is not None:
            leases = [entry.lease for entry in old.results.values()]
            self._interrupted.update(one.owner for one in leases if one is not None)
        if old.version != new.version:  # only what is done is kept
            self.executions.forget_refused(old.uri, old.version)
            self._forget_requests(old.uri)
        if new.deleted_at is not None or old.version != new.version:
            for ping in self.pings:
                ping.is_void = ping.is_void or ping.uri == old.uri

    def _forget_requests(self, uri: str) -> None:
        """Stop expecting what no arrival starts: it is wanted of the new version instead."""
        for one in self.expectations.get(uri, ()):
            if not one.is_event:
                one.is_replaced = True
                started = list_started(self._home)
                one.due = tuple(target for target in one.due if target in started)

    def _check_change(
        self, caller: Caller, record: Record, fingerprint: str, was: Entry | None
    ) -> bool:
        """Check the change of one result; return whether its job has started."""
        entry = record.results[fingerprint]
        if self._world.history is not None:
            self._world.note(caller.name, _format_change(record, fingerprint, was))
        if entry.state is State.DONE and (was is None or was.state is not State.DONE):
            self._check_artifacts(record, record.name_artifacts(fingerprint))
        if entry.state is State.RUNNING:
            return _is_start(was, entry)
        if entry.triggered_by is not None and entry.triggered_by != EVERYONE:
            self.messages.note_trigger(
                self._home.name, record.uri, record.version, fingerprint, entry.triggered_by
            )
        if was is not None and was.lease is not None:
            self._check_settled(caller, record, fingerprint, was.lease)
        elif caller.retries and was is not None and was.state in REFUSED:
            self.expect(
                record.uri, (entry.job,), retry=True, version=record.version, graph=caller.graph
            )
            self._home.forget_failures(record.uri, entry.job)
        return False

    def _check_removed(self, caller: Caller, record: Record, fingerprint: str, was: Entry) -> None:
        what = f"{caller.name} removes {was.job} {fingerprint[:4]} of {record}"
        if self._world.history is not None:
            self._world.note(caller.name, f"{record.uri} {was.job} {fingerprint[:4]}: removed")
        if was.lease is not None and was.lease.owner.partition("/")[0] != caller.name:
            self._check_lost(caller, was.lease, what)
        if was.state is State.DONE and not self.executions.permits[record.uri, was.job]:
            raise BrokenPromise("once", what)

    def _check_collected(self, caller: Caller, old: Record, new: Record) -> None:
        """Once: nothing is collected that counts, or of a file that somebody works on."""
        graph = caller.graph
        for version, results in {old.version: old.results, **old.earlier}.items():
            left = new.results if version == old.version else new.earlier.get(version, {})
            for fingerprint, was in results.items():
                if fingerprint in left:
                    continue
                what = f"{caller.name} removes {was.job} {fingerprint[:4]} of {old}"
                if self._world.history is not None:
                    self._world.note(caller.name, f"{old.uri} {was.job} {fingerprint[:4]}: removed")
                for entry in old.results.values():
                    if entry.lease is not None:
                        self._check_lost(caller, entry.lease, what)
                is_current = old.deleted_at is None and version == old.version
                is_accepted = fingerprint in graph.accepted.get(was.job, ())
                is_accepted |= fingerprint in caller.pinned
                if is_current and is_accepted and was.state is State.DONE:
                    raise BrokenPromise("once", what)
                self.executions.forget((old.uri, version, was.job, fingerprint))
                self.messages.excuse(old.uri)

    def check_deletion(self, caller: Caller, name: str) -> None:
        """Fresh: no artifact is collected whose result is done."""
        if not caller.collects:
            self._gone.add(name)
            return
        for record in self._home.ledger.records.values():
            if name in _list_artifacts(record):
                raise BrokenPromise("fresh", f"{caller.name} removes {name} of {record}")

    def record_artifact(self, name: str) -> None:
        """Note that an artifact was written."""
        self._home.written[name] = None
        self._gone.discard(name)

    def _check_artifacts(self, record: Record, names: Collection[str]) -> None:
        """Fresh: what is done has its artifacts, unless they are lost."""
        for name in names:
            if name not in self._gone and not self._home.artifacts.has(name):
                raise BrokenPromise("fresh", f"{name} is not there: {record}")

    def _check_order(self, caller: Caller, old: Record, new: Record) -> None:
        if new.order < old.order:
            raise BrokenPromise(
                "fresh", f"an older version has changed a newer record: {old}, {new}"
            )
        if old.deleted_at is None:
            return
        is_restored = new.order == old.order and new.deleted_at is None
        if is_restored and self._world.folder is None:
            raise BrokenPromise("fresh", f"a deleted version was restored: {new}")
        was = _states(old)
        if caller.collects or new.erased:
            was = {f: state for f, state in was.items() if f in new.results}
        if new.deleted_at is not None and _states(new) != was:
            raise BrokenPromise("narrow", f"a job of a deleted file has changed: {new}")

    def _check_fresh(self, record: Record) -> None:
        """Fresh: what is done was made from exactly this version, by a job as it was deployed."""
        if record.deleted_at is not None:
            return
        for fingerprint, entry in record.results.items():
            if entry.state is not State.DONE:
                continue
            key = build_key(record, fingerprint)
            if entry.order != record.order or not self.executions.is_computed(key):
                raise BrokenPromise("fresh", f"{key} is done, and was not computed: {record}")
            if not entry.checksums:
                raise BrokenPromise("fresh", f"{key} is done, and has no artifact: {record}")

    def check_inputs(
        self, graph: Graph, task: Task, job: str, artifacts: Mapping[str, str]
    ) -> None:
        """Check the parents' artifacts that a job is about to read."""
        for parent in graph.jobs[job].parents:
            if parent not in artifacts:
                raise BrokenPromise("fresh", f"the task has no artifact of {parent}: {task}")
            if parent not in graph.jobs:
                self._check_foreign_input(graph, task, parent, artifacts[parent])
                continue
            name = parse_artifact_name(artifacts[parent])
            good = name.job == parent and name.fingerprint in graph.accepted[parent]
            if not good or name.version != task.media.version:
                raise BrokenPromise("fresh", f"{job} was computed from {name}: {task}")

    def _check_foreign_input(self, graph: Graph, task: Task, reference: str, uri: str) -> None:
        """Fresh: a job reads what its graph is locked to, or what stands for that."""
        namespace, job = split_reference(reference)
        home = self._world.find_home(namespace)
        name = parse_artifact_name(uri.removeprefix(f"{home.artifacts.location}/"))
        is_locked = not home.list_stood_for(job, name.fingerprint).isdisjoint(
            graph.foreign[reference].accepted
        )
        if name.job != job or not is_locked or name.version != task.media.version:
            raise BrokenPromise("fresh", f"{reference} of {task} is {uri}")

    def is_foreign_artifact_there(self, uri: str) -> bool:
        """Whether an artifact of another namespace is there; fresh: it was, at some time."""
        location, _, name = uri.removeprefix("gs://").partition("/")
        stores = {home.artifacts.location: home for home in self._world.homes}
        home = stores[f"gs://{location}"]
        if name not in home.written:
            raise BrokenPromise("fresh", f"{uri} was never computed")
        return home.artifacts.has(name)

    def check_source(self, caller: Caller, uri: str, version: str) -> None:
        """Fresh: a job reads the version of a file that it is about to be computed from."""
        content = self._world.find_content(uri)
        if content != version:
            raise BrokenPromise("fresh", f"{caller.name} takes {content} for {version} of {uri}")

    # Starts and ends.

    def record_execution(
        self, caller: Caller, task: Task, job: str, fingerprint: str, state: State
    ) -> None:
        """Once: count a run of a job that has ended, well or badly."""
        if self._world.history is not None:
            self._world.note(caller.name, f"computes {job} {fingerprint[:4]}: {state}")
        record = self._home.ledger.records[task.media.uri]
        entry = record.results.get(fingerprint) if record.version == task.media.version else None
        holder = entry.lease.owner if entry is not None and entry.lease is not None else None
        key = (task.media.uri, task.media.version, job, fingerprint)
        if (wrong := self.executions.add(task.owner, key, state, holder)) is not None:
            raise BrokenPromise("once", wrong)

    def _check_start(
        self, caller: Caller, before: Mapping[str, Entry], new: Record, started: list[str]
    ) -> None:
        results = {f: e for f, e in new.results.items() if f not in started}
        results |= {f: before[f] for f in started if f in before}
        then = evolve(new, results=results)
        for fingerprint in started:
            entry = new.results[fingerprint]
            lease, was = entry.lease, before.get(fingerprint)
            assert lease is not None
            self.executions.add_claim(lease.owner, build_key(new, fingerprint))
            if caller.graph.fingerprints[entry.job] != fingerprint:
                raise BrokenPromise("fresh", f"{caller.name} computes {entry} of another graph")
            if caller.serves and caller.graph.pipeline_of[entry.job] not in caller.serves:
                raise BrokenPromise("rights", f"{caller.name} does not serve {entry.job}")
            if was is not None:
                self._check_free(caller, new, fingerprint, was)
            self._check_obeyed(caller, new.uri, entry.job)
            self._check_expected(caller, then, entry.job, lease.owner)
            self._claimed.add((new.uri, entry.job))

    def _check_obeyed(self, caller: Caller, uri: str, job: str) -> None:
        """Obeyed: within seconds, no paused job starts, and a cancelled run begins no file."""
        if caller.step_began_at is None:
            return
        noticed = caller.step_began_at - timedelta(seconds=READ_S)
        paused_at = self._home.paused_since.get(job)
        if paused_at is not None and paused_at < noticed:
            raise BrokenPromise("obeyed", f"{caller.name} starts {job} of {uri}, which is paused")
        cancelled_at = self._home.cancelled_since.get(caller.name)
        if cancelled_at is not None and cancelled_at < noticed and uri not in caller.begun:
            raise BrokenPromise("obeyed", f"{caller.name} was cancelled, and begins {uri}")
        caller.begun.add(uri)

    def check_run_ended(self, caller: Caller) -> None:
        """Durable: a run that ends, also early, leaves nothing claimed of files that exist."""
        for record in self._home.ledger.records.values():
            leases = [entry.lease for entry in record.results.values()]
            held = {lease.owner for lease in leases if lease is not None} - self._interrupted
            if any(owner.startswith(f"{caller.name}/") for owner in held):
                raise BrokenPromise("durable", f"{caller.name} has ended, and holds {record}")

    def _check_expected(self, caller: Caller, record: Record, job: str, owner: str) -> None:
        """Narrow: a job starts only if a requested target needs it."""
        graph = caller.graph
        expectations = self.expectations.get(record.uri, ())
        states = dict.fromkeys(graph.references, State.DONE)
        for one in expectations:
            # An event means all jobs of whoever gets it.
            targets = graph.select_on_arrival(graph.jobs) if one.is_event else one.targets
            if not graph.is_on_line(job, targets):
                continue
            for then in (record, *self._list_possible(graph, record, one, job)):
                planned = plan(
                    graph,
                    then,
                    states,
                    targets,
                    caller.clock(),
                    owner,
                    lost=self._world.is_lost,
                )
                if job in planned.run:
                    return
        raise BrokenPromise("narrow", f"no request needs {job} of {record}: {expectations}")

    def _list_possible(
        self, graph: Graph, record: Record, one: Expectation, job: str
    ) -> Iterator[Record]:
        """Yield the record as it may have been left before a job started in the same write."""
        if one.force:
            yield _drop(graph, record, one.targets)
            yield _drop(graph, record, [job])
        if one.retry:
            line = [j for j in graph.jobs if graph.is_on_line(j, one.targets)]
            yield _drop(graph, record, [j for j in line if _is_refused(graph, record, j)])
        if self._world.scenario.faults.losses:
            yield _drop(graph, record, [j for j in graph.jobs if self._is_lost(graph, record, j)])

    def _is_lost(self, graph: Graph, record: Record, job: str) -> bool:
        """Whether the artifact of a result is gone."""
        current = find_current(graph, record, job)
        names = record.name_artifacts(current) if current is not None else []
        return any(not self._home.artifacts.has(name) for name in names)

    def _check_free(self, caller: Caller, record: Record, fingerprint: str, was: Entry) -> None:
        """Once: no job starts that is running or done."""
        where = (record.uri, was.job)
        if was.lease is not None:
            taker = record.results[fingerprint].lease
            if taker is None or taker.owner != was.lease.owner:
                self._check_lost(caller, was.lease, f"{caller.name} takes {was.job} of {record}")
        elif was.state is State.DONE and not self.executions.permits[where]:
            raise BrokenPromise(
                "once", f"{was.job} is done, and {caller.name} repeats it: {record}"
            )
        elif (
            was.state is State.FAILED
            and not self.executions.permits[where]
            and where not in self.executions.retried
        ):
            raise BrokenPromise(
                "once", f"{was.job} has failed, and {caller.name} repeats it: {record}"
            )

    def _check_settled(
        self, caller: Caller, record: Record, fingerprint: str, lease: Lease
    ) -> None:
        """Once: only who holds a lease ends it, with what was computed."""
        what = f"{caller.name} ends {fingerprint[:4]} of {record}"
        if lease.owner.partition("/")[0] != caller.name:
            self._check_lost(caller, lease, what)
            return
        entry, key = record.results[fingerprint], build_key(record, fingerprint)
        if (wrong := self.executions.settle(lease.owner, key, entry)) is not None:
            raise BrokenPromise("fresh", f"{what}: {wrong}")
        if entry.state in FINISHED:
            self._settled_at[record.uri, entry.job] = self._world.step

    def _check_lost(self, caller: Caller, lease: Lease, what: str) -> None:
        if self._world.is_lost(lease):
            return
        if lease.expires_at > caller.clock():
            raise BrokenPromise("once", f"{what}, which {lease.owner} holds")
        if lease.owner in self._interrupted:
            return
        last_step_at = self._world.find_last_step(lease)
        kept_until = lease.expires_at - timedelta(seconds=KEPT_FRACTION * self._lease_s)
        if last_step_at is not None and last_step_at > kept_until:
            raise BrokenPromise("once", f"{lease.owner} is alive, and let its lease expire: {what}")

    def check_outcome(self, graph: Graph, outcome: Outcome) -> None:
        """Fresh: what a backfill says is done was computed."""
        media = outcome.media
        for job, status in outcome.jobs.items():
            if job not in graph.jobs:
                continue
            keys = [(media.uri, media.version, job, f) for f in graph.accepted[job]]
            is_done = status in (Status.DONE, Status.CURRENT)
            if is_done and not any(map(self.executions.is_computed, keys)):
                raise BrokenPromise("fresh", f"{job} is {status}, and was not computed: {outcome}")

    # The end.

    def check_freed(self) -> None:
        """Freed: after the last collection, there are artifacts of what counts, and no others."""
        needed: set[str] = set()
        graph, pinned = self._home.graph, self._home.find_pins()
        for record in self._home.ledger.records.values():
            names = _list_artifacts(record)
            self._check_artifacts(record, names)
            if record.deleted_at is None:
                needed.update(
                    name
                    for fingerprint, entry in record.results.items()
                    if fingerprint in graph.accepted.get(entry.job, ()) or fingerprint in pinned
                    for name in record.name_artifacts(fingerprint)
                )
        for found in self._home.artifacts.list():
            if ARTIFACT.fullmatch(found.name) and found.name not in needed:
                raise BrokenPromise("freed", f"nobody needs {found.name}")

    def check_unpaused(self) -> None:
        """Complete: what is not below a paused job does not wait for it."""
        graph, paused = self._home.graph, frozenset(self._home.paused_since)
        for some in self.expectations.values():
            for one in some:
                free = tuple(
                    target
                    for target in one.due
                    if paused.isdisjoint(graph.add_ancestors((target,)))
                    and not graph.find_foreign((target,))
                )
                self._check_complete(replace(one, due=free))

    def check_end(self) -> None:
        """Check the ledger and the dead letters once no work is left."""
        records = self._home.ledger.records.values()
        for record in records:
            self._check_final_version(record)
            if record.deleted_at is None:
                self._check_nothing_unfinished(record)
        for some in self.expectations.values():
            for one in some:
                self._check_complete(one)
        for ping in self.pings:
            self._check_ping_recorded(ping)
        for record in records:
            self._check_no_other_pings(record)
        self._check_all_erased()
        dead = set(self._home.list_dead_payloads())
        read = {one.topic for one in list_subscriptions(self._home.graph)}
        for poison in self.poison:
            if poison.topic in read and poison.data not in dead:
                raise BrokenPromise("durable", f"{poison} is not among the dead letters")

    def record_erasure(self, uri: str) -> None:
        """Note that a file was erased, in this namespace and those below."""
        self.erased[uri] = self._find_below()

    def _find_below(self) -> frozenset[str]:
        manifests = list_manifests(home.graph for home in self._world.homes)
        return find_below(self._home.graph, manifests)

    def _check_all_erased(self) -> None:
        below = self._find_below()  # of those whose jobs were removed, nobody reads the event
        for uri, known in self.erased.items():
            for home in self._world.homes:
                if home is self._home or home.name in known & below:
                    home.checker.check_erased(uri, is_below=home is not self._home)

    def check_erased(self, uri: str, *, is_below: bool) -> None:
        """Freed: nothing is left of a file that was erased, and nothing is computed for it."""
        record = self._find_record(uri)
        entries = record.results.values() if record is not None else ()
        if is_below and entries and all(entry.lease is not None for entry in entries):
            return  # a worker has died, and 'segue erase' says that its job still runs
        if record is None or not record.erased or entries:
            raise BrokenPromise("freed", f"{uri} was erased, and there is {record}")
        left = [
            found.name
            for found in self._home.artifacts.list()
            if ARTIFACT.fullmatch(found.name)
            and self._world.source.uri(parse_artifact_name(found.name).file) == uri
        ]
        if left:
            raise BrokenPromise("freed", f"{uri} was erased, and there is {left}: {record}")

    def _check_final_version(self, record: Record) -> None:
        """Fresh: the ledger ends with what is in the store, whatever the order of the events."""
        if record.erased:
            return
        if self._world.folder is not None and not self._home.is_told_of(record.uri):
            return
        if not self._home.follows_changes:
            is_gone = self._world.find_content(record.uri) is None
            if is_gone and record.deleted_at is None and self._home.hears_of_deletions:
                raise BrokenPromise("fresh", f"there is no tombstone of {record}")
            return
        if self._world.folder is not None:
            content = self._world.find_content(record.uri)
            if content != (record.version if record.deleted_at is None else None):
                raise BrokenPromise("fresh", f"the folder has {content}, not {record}")
            return
        newest = self._world.newest_generations.get(record.uri)
        generation = self._world.generations.get(record.uri)
        if record.order != newest or (record.deleted_at is None) != (generation is not None):
            raise BrokenPromise(
                "fresh", f"the store has {generation} (newest {newest}), not {record}"
            )

    def _check_nothing_unfinished(self, record: Record) -> None:
        made = self._home.graph.fingerprints
        for fingerprint, entry in record.results.items():
            if entry.job not in made:
                continue
            if entry.notify:
                raise BrokenPromise("complete", f"{entry.job} has still to notify: {record}")
            if entry.state is State.RUNNING and made[entry.job] == fingerprint:
                raise BrokenPromise(
                    "complete", f"{entry.job} is running, and no process holds it: {record}"
                )

    def _check_complete(self, one: Expectation) -> None:
        record = self._find_record(one.uri)
        if one.version is None or not one.due:
            return
        is_there = self._world.find_content(one.uri) == one.version
        if not is_there and not self._home.is_told_of(one.uri):
            return  # nobody above knew of what is gone
        if record is None and not is_there and self._world.folder is not None:
            return  # whoever looked did not find it any more
        if record is None:
            raise BrokenPromise("complete", f"{one.uri} is not in the ledger: {one}")
        for target in one.due:
            if not self._is_answered(self._home.graph, record, one, target):
                raise BrokenPromise(
                    "complete", f"{target} was requested and is not done: {one}; {record}"
                )

    def _is_answered(self, graph: Graph, record: Record, one: Expectation, target: str) -> bool:
        if record.deleted_at is not None or record.version != one.version:
            return True
        if target not in graph.jobs:
            # A worker that does not know the job yet does not notify it of an event.
            return one.is_event or graph is self._home.graph
        if is_current(graph, record, target):
            settled_at = self._settled_at.get((one.uri, target), -1)
            return not one.is_redone or settled_at >= one.made_at
        entry = find_entry(graph, record, target)
        return entry is not None and entry.state in REFUSED

    def _check_ping_recorded(self, ping: Expectation) -> None:
        record = self._find_record(ping.uri)
        if record is None or record.deleted_at or record.version != ping.version or ping.is_void:
            return
        if ping.request is None and self._world.folder is not None:
            return  # the file was not there at that time
        for job in ping.line:
            trace = record.pings.get(job)
            if trace is None or ping.request not in (trace.request, *trace.before):
                raise BrokenPromise(
                    "complete", f"the ping is not recorded at {job}: {ping}; {record}"
                )

    def _check_no_other_pings(self, record: Record) -> None:
        sent = {(p.request, job) for p in self.pings if p.uri == record.uri for job in p.line}
        for job, trace in record.pings.items():
            for request in (trace.request, *trace.before):
                if (request, job) not in sent:
                    raise BrokenPromise("narrow", f"ping {request} was not sent to {job}: {record}")

    def _find_record(self, uri: str) -> Record | None:
        return self._home.ledger.records.get(uri)


def _list_artifacts(record: Record) -> set[str]:
    """Return the names of the artifacts of all that is done, of earlier contents, too."""
    names: set[str] = set()
    # Others are of a version that was overwritten and then deleted.
    own = {f: entry for f, entry in record.results.items() if entry.order == record.order}
    for version, results in {**record.earlier, record.version: own}.items():
        then = evolve(record, version=version, results=results)
        done = [f for f, entry in results.items() if entry.state is State.DONE]
        names.update(name for fingerprint in done for name in then.name_artifacts(fingerprint))
    return names


def _states(record: Record) -> dict[str, State]:
    return {fingerprint: entry.state for fingerprint, entry in record.results.items()}


def _is_start(was: Entry | None, entry: Entry) -> bool:
    """Whether a job has started, rather than had its lease extended."""
    return (
        was is None
        or was.lease is None
        or was.started_at != entry.started_at
        or (entry.lease is not None and was.lease.owner != entry.lease.owner)
    )


def _list_below_source(graph: Graph, line: Collection[str]) -> Iterator[str]:
    """Yield the jobs of a line that a ping reaches: those below the source, in this namespace."""
    reached: set[str] = set()
    for job in line:
        if graph.jobs[job].reads_source or not reached.isdisjoint(graph.jobs[job].parents):
            reached.add(job)
            yield job


def _is_refused(graph: Graph, record: Record, job: str) -> bool:
    entry = find_entry(graph, record, job)
    return entry is not None and entry.state in REFUSED


def _drop(graph: Graph, record: Record, jobs: Collection[str]) -> Record:
    """Return a record without the results of some jobs."""
    gone = {fingerprint for job in jobs for fingerprint in graph.accepted.get(job, ())}
    return evolve(record, results={f: e for f, e in record.results.items() if f not in gone})


def _format_change(record: Record, fingerprint: str, was: Entry | None) -> str:
    entry = record.results[fingerprint]
    notify = f" notify {' '.join(entry.notify)}" if entry.notify else ""
    lease = f" by {entry.lease.owner}" if entry.lease is not None else ""
    event = f" of {entry.triggered_by}" if entry.triggered_by is not None else ""
    requests = f" for {' '.join(entry.requests)}" if entry.requests else ""
    return (
        f"{record.uri}#{record.version} {entry.job} {fingerprint[:4]}: "
        f"{was.state if was else '-'} → {entry.state}{lease}{notify}{event}{requests}"
    )


def decode_messages(envelopes: Collection[Envelope]) -> list[Message]:
    """Decode the messages of some envelopes."""
    return [decode_message(one.data) for one in envelopes]
