"""Plays external events: uploads, deletions, requests, retries, deployments, poison messages."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from segue.ingest.catalogue import MediaFilter
from segue.ingest.events import Arrivals, Deletions
from segue.ingest.requests import InvalidRequest, Request, Requests
from segue.maintenance.erasure import Eraser
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
from segue_support.simulator.lines import expect_arrival, forget_events_below
from segue_support.simulator.orders import play_order
from segue_support.simulator.promises import decode_messages
from segue_support.simulator.scenario import (
    BackfillStart,
    CancelOrder,
    CatchUpStart,
    Collection,
    Deployment,
    Erasure,
    Event,
    FileChange,
    NamespaceEvent,
    PauseOrder,
    Removal,
    ResumeOrder,
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
    from segue_support.simulator.namespace import Namespace
    from segue_support.simulator.promises import Expectation, PromiseChecker


class EventPlayer:
    """Applies the events of a scenario to the world."""

    def __init__(self, world: World, actors: Actors) -> None:
        self._world = world
        self._actors = actors
        self._requests = 0

    def play(self, event: Event) -> None:
        """Apply one event."""
        self._world.step += 1
        self._world.note("outside", str(event))
        match event:
            case Upload() | Removal() | Touch() | Return():
                self._change_file(event)
            case UserRequest():
                self._actors.calls.append(self._build_request(self._find_home(event), event))
            case BackfillStart():
                name = f"backfill{self._world.step}"
                self._actors.runs.append(SimulatedBackfill(self._find_home(event), name, event))
            case Retry(jobs=jobs):
                self._actors.calls.append(self._build_retry(self._find_home(event), jobs))
            case Deployment():
                self._deploy(self._find_home(event), event)
            case Collection():
                name = f"gc{self._world.step}"
                self._actors.runs.append(SimulatedCollector(self._find_home(event), name, event))
            case Erasure(file=file):
                self._actors.calls.append(self._build_erasure(self._find_home(event), file))
            case StrayMessage():
                self._publish_stray(self._find_home(event), event)
            case PauseOrder() | ResumeOrder() | CancelOrder() | CatchUpStart():
                play_order(self._actors, self._find_home(event), event)

    def _find_home(self, event: NamespaceEvent) -> Namespace:
        return self._world.homes[event.namespace]

    def _list_told(self) -> list[Namespace]:
        """Return the namespaces that are told of changes of files."""
        return [home for home in self._world.homes if home.has_catalogue]

    def _change_file(self, event: FileChange) -> None:
        if self._world.folder is None:
            self._change_bucket(event)
        else:
            self._change_folder(self._world.folder, event)

    def _change_bucket(self, event: FileChange) -> None:
        """Change an object; the store reports a version that was overwritten as deleted, too."""
        uri = self._world.build_uri(event.file)
        before = self._world.generations.get(uri)
        calls = self._actors.calls
        match event:
            case Upload():
                media = self._world.put(event.file)
                for home in self._list_told():
                    calls.append(self._build_arrival(home, media, late=event.late))
                    if before:
                        calls.append(self._build_deletion(home, build_media(uri, before)))
            case Removal() if before:
                self._world.generations[uri] = None
                self._world.source.delete(split_uri(uri)[1])
                media = build_media(uri, before)
                for home in self._list_told():
                    calls.append(self._build_deletion(home, media, late=event.late))

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
        for home in self._list_told():
            for _ in range(rng.choice((1, 1, 2))):
                self._actors.calls.append(self._build_look(home, uri, late=event.late))

    def _build_look(self, home: Namespace, uri: str, *, late: bool) -> FunctionCall:
        expected: list[Expectation] = []

        def look(call: FunctionCall) -> bool:
            self._world.messages.excuse(uri)
            if not expected:
                expected.extend(expect_arrival(home, uri))
            arrivals = Arrivals(
                graph=call.graph, ledger=call.ledger, queue=call.queue, clock=call.clock
            )

            def announce(found: Sequence[Observation]) -> None:
                arrivals.announce(found)
                # What another deployment has computed of a known file is stale, and stays so.
                is_first = not self._world.was_deployed
                for one in found:
                    record = one.snapshot.record
                    if one.arrival is None or record is None:
                        continue
                    if is_first or not record.results:
                        for each in expected:
                            each.version = record.version

            services: Any = SimpleNamespace(
                ledger=call.ledger,
                deletions=Deletions(
                    graph=call.graph, ledger=call.ledger, queue=call.queue, clock=call.clock
                ),
                arrivals=SimpleNamespace(announce=announce, is_announced=arrivals.is_announced),
            )
            store = FaultyStore(call, self._world.source)
            with patch.multiple(folder, connect_store=lambda _location: store, utc_now=call.clock):
                folder.observe_file(MediaFile(uri=uri, version=""), services, {})
            return True

        name = f"look at {uri[-5]}"
        return FunctionCall(home, name, look, late=late)

    def _build_arrival(self, home: Namespace, media: MediaFile, *, late: bool) -> FunctionCall:
        expected: list[Expectation] = []

        def arrive(call: FunctionCall) -> bool:
            if expected:
                self._world.messages.excuse(media.uri)
            else:
                expected.extend(expect_arrival(home, media.uri))
            Arrivals(
                graph=call.graph,
                ledger=call.ledger,
                queue=call.queue,
                clock=call.clock,
            ).record([media])
            for each in expected:
                each.version = media.version
            return True

        name = f"arrival {media.uri[-5]}#{media.version}"
        return FunctionCall(home, name, arrive, late=late)

    def _build_deletion(
        self, home: Namespace, media: MediaFile, *, late: bool = False
    ) -> FunctionCall:
        def delete(call: FunctionCall) -> bool:
            kept = self._world.scenario.keeps_artifacts
            artifacts = None if kept else FaultyStore(call, home.artifacts)
            if call.calls > 1:
                self._world.messages.excuse(media.uri)
            Deletions(
                graph=call.graph,
                ledger=call.ledger,
                queue=call.queue,
                artifacts=artifacts,
                clock=call.clock,
            ).record(media)
            return True

        name = f"deletion {media.uri[-5]}#{media.version}"
        return FunctionCall(home, name, delete, late=late)

    def _build_erasure(self, home: Namespace, file: int) -> FunctionCall:
        uri = self._world.build_uri(file)

        def erase(call: FunctionCall) -> bool:
            self._world.messages.excuse(uri)
            Eraser(
                graph=call.graph,
                ledger=call.ledger,
                artifacts=call.artifacts,
                queue=call.queue,
                clock=call.clock,
                lost=self._world.is_lost,
            ).erase(uri)
            home.checker.record_erasure(uri)
            return True

        return FunctionCall(home, f"erase {file}", erase)

    def _build_request(self, home: Namespace, event: UserRequest) -> FunctionCall:
        self._requests += 1
        world, checker = self._world, home.checker
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
                    world.messages.excuse(one.uri)
            if page[0].request is None:  # later pages, and repetitions, are of the same request
                expected.clear()
                left_out.clear()
                call.seen.clear()  # a file may be gone since an earlier call
            known = {one.uri for one in expected}
            uris = [u for u in self._world.generations if u.startswith(prefix) and u not in known]
            expected.extend(_expect(checker, event, uri, jobs) for uri in uris)
            envelopes = checker.published_by.setdefault(id(call), [])
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
                home.is_in_doubt = True
            for one in expected:
                one.version = None if one.uri in left_out else call.seen.get(one.uri)
            page[0] = Request(request=accepted.request, after=accepted.after)
            return accepted.after is None

        return FunctionCall(home, f"request {self._requests}", send)

    def _build_requests(self, call: FunctionCall) -> Requests:
        return Requests(
            graph=call.graph,
            ledger=call.ledger,
            queue=call.queue,
            media_filter=MediaFilter(excluded=("gs://a/",)),
            open_store=call.open_source,
            artifacts=call.artifacts,
            clock=call.clock,
            lost=self._world.is_lost,
            page=2,
        )

    def _build_retry(self, home: Namespace, jobs: tuple[str, ...]) -> FunctionCall:
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

        call = FunctionCall(home, "retry", retry)
        call.retries = True
        return call

    def _deploy(self, home: Namespace, event: Deployment) -> None:
        """Replace all processes of a namespace; in a rolling deployment, some go on for now."""
        world, actors = self._world, self._actors
        before = home.graph
        home.checker.record_deployment()
        home.deploy(event)
        home.checker.forget_removed(before)
        forget_events_below(home, before)
        for worker in home.workers:
            if event.rolling and world.rng.random() < 0.6:
                continue
            if world.rng.random() < 0.5:
                worker.stop()
            else:
                worker.die()
        for run in actors.runs:
            if (
                isinstance(run, SimulatedBackfill)
                and run.home is home
                and (not event.rolling or world.rng.random() < 0.4)
            ):
                run.die()
        actors.runs[:] = [run for run in actors.runs if not run.finished]
        for sweep in actors.sweeps:
            if sweep.home is home:
                sweep.start()

    def _publish_stray(self, home: Namespace, event: StrayMessage) -> None:
        """Publish what is no message for this namespace, or a request to any pipeline."""
        world = self._world
        if event.job not in home.graph.jobs:
            return
        pipeline = home.graph.pipeline_of[event.job]
        uri = world.build_uri(0)
        generation = world.generations.get(uri)
        envelope = Envelope(topic=format_inbox(pipeline), data=b"{no message")
        if event.other is not None and generation:
            message = Message(
                namespace="elsewhere" if event.is_foreign else home.name,
                uri=uri,
                version=str(generation),
                order=generation,
                targets=(event.other,),
            )
            envelope = message_to_envelope(message, pipeline)
        if event.other is None or event.is_foreign:
            home.checker.poison.append(envelope)
        elif generation:
            home.checker.expect(uri, (event.other,))
        else:
            return
        world.queue.publish([home.place(envelope)])


def _expect(
    checker: PromiseChecker, event: UserRequest, uri: str, jobs: tuple[str, ...]
) -> Expectation:
    """Expect the results of one file, which may be computed from now on."""
    if not event.ping:
        return checker.expect(uri, jobs, force=event.force)
    return checker.expect_ping(uri, jobs)


def _find_targets(graph: Graph, event: UserRequest) -> tuple[str, ...]:
    chosen: tuple[str, ...] = event.jobs or tuple(graph.jobs)
    if event.force and event.parents:
        chosen = graph.add_ancestors(chosen)
    return tuple(job for job in graph.jobs if job in chosen)
