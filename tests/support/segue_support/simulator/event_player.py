"""Plays external events: uploads, deletions, requests, retries, deployments, poison messages."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from segue.ingest.catalogue import MediaFilter
from segue.ingest.events import Arrivals, Deletions
from segue.ingest.requests import InvalidRequest, Request, Requests
from segue.maintenance.retry import JobRetry, RetrySelection
from segue.model.graph import Graph
from segue.model.media_file import MediaFile, split_uri
from segue.model.message import Message
from segue.model.queue import Envelope, format_inbox, message_to_envelope
from segue_functions import folder
from segue_support.simulator.actors import (
    Actors,
    FunctionCall,
    SimulatedBackfill,
    SimulatedCollector,
)
from segue_support.simulator.faulty_ports import FaultyStore
from segue_support.simulator.promises import Expectation, PromiseChecker, decode_messages
from segue_support.simulator.scenario import (
    BackfillStart,
    Collection,
    Deployment,
    Event,
    FileChange,
    Removal,
    Retry,
    Return,
    StrayMessage,
    Touch,
    Upload,
    UserRequest,
)
from segue_support.simulator.world import World, build_media

if TYPE_CHECKING:
    from collections.abc import Sequence

    from segue.ingest.observation import Observation
    from segue_support.simulator.folder import MemoryFolder


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
            case Upload() | Removal() | Touch() | Return():
                if self._world.folder is None:
                    self._change_bucket(event)
                else:
                    self._change_folder(self._world.folder, event)
            case UserRequest():
                self._actors.calls.append(self._build_request(event))
            case BackfillStart():
                name = f"backfill{self._world.step}"
                self._actors.runs.append(SimulatedBackfill(self._world, self._checker, name, event))
            case Retry(jobs=jobs):
                self._actors.calls.append(self._build_retry(jobs))
            case Deployment():
                self._deploy(event)
            case Collection():
                name = f"gc{self._world.step}"
                self._actors.runs.append(
                    SimulatedCollector(self._world, self._checker, name, event)
                )
            case StrayMessage():
                self._publish_stray(event)

    def _change_bucket(self, event: FileChange) -> None:
        """Change an object; the store reports a version that was overwritten as deleted, too."""
        uri = self._world.build_uri(event.file)
        before = self._world.generations.get(uri)
        calls = self._actors.calls
        match event:
            case Upload():
                calls.append(self._build_arrival(self._world.put(event.file), late=event.late))
                if before:
                    calls.append(self._build_deletion(build_media(uri, before)))
            case Removal() if before:
                self._world.generations[uri] = None
                self._world.source.delete(split_uri(uri)[1])
                calls.append(self._build_deletion(build_media(uri, before), late=event.late))

    def _change_folder(self, files: MemoryFolder, event: FileChange) -> None:
        """Change a file, and have it looked at: by several observers, perhaps."""
        rng, uri = self._world.rng, self._world.build_uri(event.file)
        name = split_uri(uri)[1]
        match event:
            case Upload():
                self._world.put(event.file)
            case Touch():
                files.touch(name)
            case Removal():
                files.remove(name)
            case Return():
                files.bring_back(name, rng)
        for _ in range(rng.choice((1, 1, 2))):
            self._actors.calls.append(self._build_look(uri, late=event.late))

    def _build_look(self, uri: str, *, late: bool) -> FunctionCall:
        expected: list[Expectation] = []

        def look(call: FunctionCall) -> bool:
            self._checker.messages.excuse(uri)
            if not expected:
                jobs = tuple(call.graph.jobs)
                expected.append(self._checker.expect(uri, jobs, is_event=True))
            arrivals = Arrivals(
                graph=call.graph, ledger=call.ledger, queue=call.queue, clock=call.clock
            )

            def announce(found: Sequence[Observation]) -> None:
                arrivals.announce(found)
                # What another deployment has computed of a known file is stale, and stays so.
                is_first = len(self._world.deployments) == 1
                for one in found:
                    record = one.snapshot.record
                    if one.arrival is None or record is None:
                        continue
                    if is_first or not record.results:
                        expected[0].version = record.version

            services: Any = SimpleNamespace(
                ledger=call.ledger,
                arrivals=SimpleNamespace(announce=announce, is_announced=arrivals.is_announced),
                deletions=Deletions(
                    graph=call.graph, ledger=call.ledger, queue=call.queue, clock=call.clock
                ),
            )
            store = FaultyStore(self._world, self._checker, call, self._world.source)
            with patch.multiple(folder, connect_store=lambda _location: store, utc_now=call.clock):
                folder.observe_file(MediaFile(uri=uri, version=""), services, {})
            return True

        name = f"look at {uri[-5]}"
        return FunctionCall(self._world, self._checker, name, look, late=late)

    def _build_arrival(self, media: MediaFile, *, late: bool) -> FunctionCall:
        expected: list[Expectation] = []

        def arrive(call: FunctionCall) -> bool:
            if expected:
                self._checker.messages.excuse(media.uri)
            else:
                expected.append(
                    self._checker.expect(media.uri, tuple(call.graph.jobs), is_event=True)
                )
            Arrivals(
                graph=call.graph,
                ledger=call.ledger,
                queue=call.queue,
                clock=call.clock,
            ).record([media])
            expected[0].version = media.version
            return True

        return FunctionCall(
            self._world,
            self._checker,
            f"arrival {media.uri[-5]}#{media.version}",
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
            Deletions(
                graph=call.graph,
                ledger=call.ledger,
                queue=call.queue,
                artifacts=artifacts,
                clock=call.clock,
            ).record(media)
            return True

        return FunctionCall(
            self._world,
            self._checker,
            f"deletion {media.uri[-5]}#{media.version}",
            delete,
            late=late,
        )

    def _build_request(self, event: UserRequest) -> FunctionCall:
        self._requests += 1
        world = self._world
        page = [Request()]
        # A single file is requested by a prefix, too: requested by name, threads would stat it.
        prefix = world.prefix if event.file is None else world.build_uri(event.file)
        expected: list[Expectation] = []
        left_out: set[str] = set()  # as they could not be read

        def send(call: FunctionCall) -> bool:
            if not call.graph.jobs.keys() >= set(event.jobs):
                return True  # it is refused
            jobs = _find_targets(call.graph, event)
            if call.calls > 1:
                for one in expected:
                    self._checker.messages.excuse(one.uri)
            if page[0].request is None:  # later pages, and repetitions, are of the same request
                expected.clear()
                left_out.clear()
                call.seen.clear()  # a file may be gone since an earlier call
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
            except InvalidRequest:
                return True  # other jobs are deployed than those that its first page was for
            finally:
                messages = decode_messages(envelopes)
                for one in expected:
                    one.request = messages[0].request if messages else one.request
            left_out.update(accepted.ignored)
            if accepted.ignored:  # perhaps after it was recorded, by the look that follows
                world.is_in_doubt = True
            for one in expected:
                one.version = None if one.uri in left_out else call.seen.get(one.uri)
            page[0] = Request(request=accepted.request, after=accepted.after)
            return accepted.after is None

        return FunctionCall(self._world, self._checker, f"request {self._requests}", send)

    def _expect(self, event: UserRequest, uri: str, jobs: tuple[str, ...]) -> Expectation:
        """Expect the results of one file, which may be computed from now on."""
        if not event.ping:
            return self._checker.expect(uri, jobs, force=event.force)
        return self._checker.expect_ping(uri, jobs)

    def _build_requests(self, call: FunctionCall) -> Requests:
        return Requests(
            graph=call.graph,
            ledger=call.ledger,
            queue=call.queue,
            media_filter=MediaFilter(excluded=("gs://a/",)),
            open_store=lambda _location: FaultyStore(
                self._world, self._checker, call, self._world.source
            ),
            artifacts=FaultyStore(self._world, self._checker, call, self._world.artifacts),
            clock=call.clock,
            lost=self._world.is_lost,
            page=2,
        )

    def _build_retry(self, jobs: tuple[str, ...]) -> FunctionCall:
        def retry(call: FunctionCall) -> bool:
            JobRetry(
                graph=call.graph,
                ledger=call.ledger,
                selection=RetrySelection(jobs=tuple(job for job in jobs if job in call.graph.jobs)),
                queue=call.queue,
                clock=call.clock,
                lost=self._world.is_lost,
            ).run()
            return True

        call = FunctionCall(self._world, self._checker, "retry", retry)
        call.retries = True
        return call

    def _deploy(self, event: Deployment) -> None:
        """Replace all processes; in a rolling deployment, some go on for now."""
        world, actors = self._world, self._actors
        before = world.graph
        self._checker.record_deployment()
        world.deploy(event)
        self._checker.forget_removed(before)
        for worker in actors.workers:
            if event.rolling and world.rng.random() < 0.6:
                continue
            if world.rng.random() < 0.5:
                worker.stop()
            else:
                worker.die()
        for run in actors.runs:
            if isinstance(run, SimulatedBackfill) and (
                not event.rolling or world.rng.random() < 0.4
            ):
                run.die()
        actors.runs[:] = [run for run in actors.runs if not run.finished]
        actors.sweep.start()

    def _publish_stray(self, event: StrayMessage) -> None:
        """Publish what is no message for this namespace, or a request to any pipeline."""
        world = self._world
        if event.job not in world.graph.jobs:
            return
        pipeline = world.graph.pipeline_of[event.job]
        uri = world.build_uri(0)
        generation = world.generations.get(uri)
        envelope = Envelope(topic=format_inbox(pipeline), data=b"{no message")
        if event.other is not None and generation:
            message = Message(
                namespace="elsewhere" if event.is_foreign else world.graph.namespace,
                uri=uri,
                version=str(generation),
                order=generation,
                targets=(event.other,),
            )
            envelope = message_to_envelope(message, pipeline)
        if event.other is None or event.is_foreign:
            self._checker.poison.append(envelope)
        elif generation:
            self._checker.expect(uri, (event.other,))
        else:
            return
        world.queue.publish([envelope])


def _find_targets(graph: Graph, event: UserRequest) -> tuple[str, ...]:
    chosen: tuple[str, ...] = event.jobs or tuple(graph.jobs)
    if event.force and event.parents:
        chosen = graph.add_ancestors(chosen)
    return tuple(job for job in graph.jobs if job in chosen)
