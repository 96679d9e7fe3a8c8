"""Plays external events: uploads, deletions, requests, retries, deployments, poison messages."""

from __future__ import annotations

from collections.abc import Callable

from segue.ingest.catalogue import MediaFilter
from segue.ingest.events import Arrivals, Deletions
from segue.ingest.requests import Request, Requests
from segue.model.ledger import Change
from segue.model.media_file import MediaFile
from segue.model.message import Message
from segue.model.queue import Envelope, Lane, format_topic, message_to_envelope
from segue.model.record import Record
from segue.model.transitions import add_pending, requeue
from segue_support.simulator.actors import Actors, FunctionCall, SimulatedBackfill
from segue_support.simulator.faulty_ports import FaultyStore
from segue_support.simulator.promises import Expectation, PromiseChecker, decode_messages
from segue_support.simulator.scenario import (
    BackfillStart,
    Deployment,
    Event,
    PoisonMessage,
    Removal,
    Retry,
    Upload,
    UserRequest,
    build_graph,
)
from segue_support.simulator.world import PREFIX, World, build_uri


class EventPlayer:
    """Applies the events of a scenario to the world."""

    def __init__(self, world: World, checker: PromiseChecker, actors: Actors) -> None:
        self._world = world
        self._checker = checker
        self._actors = actors
        self._requests = 0

    def play(self, event: Event) -> None:
        """Apply one event."""
        self._world.step += 1
        self._world.note("outside", str(event))
        match event:
            case Upload(file=file, late=late):
                uri = build_uri(file)
                before = self._world.generations.get(uri)
                media = self._world.put(file)
                self._actors.calls.append(self._build_arrival(media, late=late))
                if before:  # the store reports the overwritten version as deleted, too
                    self._actors.calls.append(
                        self._build_deletion(MediaFile(uri=uri, generation=before))
                    )
            case Removal(file=file, late=late):
                uri = build_uri(file)
                if generation := self._world.generations.get(uri):
                    self._world.generations[uri] = None
                    self._world.source.delete(uri.rpartition("/")[2])
                    gone = MediaFile(uri=uri, generation=generation)
                    self._actors.calls.append(self._build_deletion(gone, late=late))
            case UserRequest():
                self._actors.calls.append(self._build_request(event))
            case BackfillStart():
                name = f"backfill{self._world.step}"
                self._actors.backfills.append(
                    SimulatedBackfill(self._world, self._checker, name, event)
                )
            case Retry(jobs=jobs):
                self._actors.calls.append(self._build_retry(jobs))
            case Deployment():
                self._deploy(event)
            case PoisonMessage(job=job, other=other):
                self._publish_poison(job, other)

    def _build_arrival(self, media: MediaFile, *, late: bool) -> FunctionCall:
        def arrive(call: FunctionCall) -> bool:
            jobs = tuple(self._world.graph.jobs)
            expected = self._checker.expect(media.uri, jobs)
            Arrivals(
                graph=self._world.graph,
                ledger=call.ledger,
                queue=call.queue,
                clock=self._world.clock,
            ).record([media])
            expected.generation = media.generation
            return True

        return FunctionCall(
            self._world,
            self._checker,
            f"arrival {media.uri[-1]}#{media.generation}",
            arrive,
            late=late,
        )

    def _build_deletion(self, media: MediaFile, *, late: bool = False) -> FunctionCall:
        def delete(call: FunctionCall) -> bool:
            kept = self._world.scenario.keeps_artifacts
            artifacts = (
                None
                if kept
                else FaultyStore(self._world, self._checker, call, self._world.artifacts)
            )
            Deletions(ledger=call.ledger, artifacts=artifacts, clock=self._world.clock).record(
                media
            )
            existing = {
                self._world.artifacts.uri(found.name) for found in self._world.artifacts.list()
            }
            for uri in [u for u in self._world.written if u not in existing]:
                del self._world.written[uri]
            return True

        return FunctionCall(
            self._world,
            self._checker,
            f"deletion {media.uri[-1]}#{media.generation}",
            delete,
            late=late,
        )

    def _build_request(self, event: UserRequest) -> FunctionCall:
        self._requests += 1
        page = [Request()]
        # A single file is requested by a prefix, too: requested by name, threads would stat it.
        prefix = PREFIX if event.file is None else build_uri(event.file)
        expected: list[Expectation] = []
        jobs = self._find_targets(event)

        def send(call: FunctionCall) -> bool:
            if page[0].request is None:  # later pages, and repetitions, are of the same request
                expected.clear()
            known = {one.uri for one in expected}
            uris = [u for u in self._world.generations if u.startswith(prefix) and u not in known]
            expected.extend(self._expect(event, uri, jobs) for uri in uris)
            envelopes = self._checker.published_by.setdefault(id(call), [])
            envelopes.clear()
            try:
                accepted = self._build_requests(call).accept(
                    Request(
                        prefix=prefix,
                        jobs=event.jobs,
                        force=event.force,
                        parents=event.parents,
                        ping=event.ping,
                        request=page[0].request,
                        after=page[0].after,
                    )
                )
            finally:
                messages = decode_messages(envelopes)
                for one in expected:
                    one.request = messages[0].request if messages else one.request
            for message in messages:
                for one in expected:
                    if one.uri == message.uri:
                        one.generation = message.generation
            page[0] = Request(request=accepted.request, after=accepted.after)
            return accepted.after is None

        return FunctionCall(self._world, self._checker, f"request {self._requests}", send)

    def _expect(self, event: UserRequest, uri: str, jobs: tuple[str, ...]) -> Expectation:
        """Expect the results of one file, which may be computed from now on."""
        if not event.ping:
            return self._checker.expect(uri, jobs, force=event.force)
        ping = Expectation(
            uri=uri, targets=jobs, force=False, retry=False, made_at=self._world.step
        )
        self._checker.pings.append(ping)
        return ping

    def _find_targets(self, event: UserRequest) -> tuple[str, ...]:
        chosen: tuple[str, ...] = event.jobs or tuple(self._world.graph.jobs)
        if event.force and event.parents:
            chosen = self._world.graph.add_ancestors(chosen)
        return tuple(job for job in self._world.graph.jobs if job in chosen)

    def _build_requests(self, call: FunctionCall) -> Requests:
        return Requests(
            graph=self._world.graph,
            ledger=call.ledger,
            queue=call.queue,
            media_filter=MediaFilter(excluded=("gs://a/",)),
            open_store=lambda _location: FaultyStore(
                self._world, self._checker, call, self._world.source
            ),
            artifacts=FaultyStore(self._world, self._checker, call, self._world.artifacts),
            clock=self._world.clock,
            page=2,
        )

    def _build_retry(self, jobs: tuple[str, ...]) -> FunctionCall:
        """Reset failures, record the jobs as pending, then publish; a crash loses neither."""

        def retry(call: FunctionCall) -> bool:
            for uri in self._world.ledger.records:
                (changed,) = call.ledger.change(
                    [Change(uri=uri, transition=self._build_requeue(uri, jobs))]
                )
                record = changed.snapshot.record
                if record is None or not changed.answer:
                    continue
                call.queue.publish(
                    [
                        message_to_envelope(
                            Message(
                                uri=uri,
                                generation=record.generation,
                                job=job,
                                targets=(job,),
                                lane=Lane.REQUESTS.value,
                            )
                        )
                        for job in changed.answer
                    ]
                )
            return True

        return FunctionCall(self._world, self._checker, "retry", retry)

    def _build_requeue(
        self, uri: str, jobs: tuple[str, ...]
    ) -> Callable[[Record | None], tuple[Record | None, tuple[str, ...]]]:
        def transition(found: Record | None) -> tuple[Record | None, tuple[str, ...]]:
            if found is None or found.deleted_at is not None:
                return None, ()
            record, again = requeue(found, jobs)
            if record is None:
                return None, ()
            for job in again:
                record = add_pending(record, self._world.graph, job, (job,), self._world.now)
                self._checker.expect(
                    uri, (job,), retry=True, accepted=True, generation=found.generation
                )
                for key in [k for k in self._world.job_failures if k[0] == uri and k[2] == job]:
                    del self._world.job_failures[key]
            return record, again

        return transition

    def _deploy(self, event: Deployment) -> None:
        for record in self._world.ledger.records.values():
            self._checker.forget_answered(record)
        world = self._world
        world.versions[ord(event.job) - ord("a")] += 1
        world.accepting = world.accepting.replace(event.job, "") + event.job * event.accepts_old
        world.graph = build_graph(world.scenario.shape, tuple(world.versions), world.accepting)
        for worker in self._actors.workers:
            if self._world.rng.random() < 0.5:
                worker.stop()
            else:
                worker.die()
        for backfill in self._actors.backfills:
            backfill.die()
        self._actors.backfills[:] = [b for b in self._actors.backfills if not b.finished]
        self._actors.sweep.start()

    def _publish_poison(self, job: str, other: str | None) -> None:
        """Publish bytes that are not a message, or a message for a job of another worker."""
        data = b"{no message"
        if other is not None:
            served = [w.jobs for w in self._actors.workers if job in w.jobs]
            if any(other in jobs for jobs in served):
                return
            data = message_to_envelope(Message(uri=build_uri(0), generation=1, job=other)).data
        self._checker.poison.append(data)
        self._world.queue.publish([Envelope(topic=format_topic(job, Lane.LIVE), data=data)])
