"""What comes from outside: uploads, deletions, requests, retries, deployments, and rubbish."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from segue.ingest.arrivals import Arrivals, Intake
from segue.ingest.deletions import Deletions
from segue.ingest.requests import Request, Requests
from segue.model.ledger import Change, requeue, want
from segue.model.media_file import MediaFile
from segue.model.message import Message
from segue.model.queue import Lane, Letter, letter, topic_of
from segue.model.record import Record
from segue_support.simulator.actors import Call, Filler
from segue_support.simulator.chaos import ChaoticStore
from segue_support.simulator.promises import Asked, messages_in
from segue_support.simulator.scenario import (
    Ask,
    Deploy,
    Event,
    Fill,
    Poison,
    Remove,
    Retry,
    Upload,
    graph_of,
)

if TYPE_CHECKING:
    from segue_support.simulator.world import World

BUCKET = "gs://c"
PREFIX = f"{BUCKET}/f"


def uri_of(file: int) -> str:
    """The URI of a file."""
    return f"{PREFIX}{file}.wav"


class Outside:
    """Lets the events of a scenario happen."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._requests = 0

    def happen(self, event: Event) -> None:
        """One of them."""
        self._world.step += 1
        self._world.note("outside", str(event))
        match event:
            case Upload(file=file, late=late):
                uri = uri_of(file)
                before = self._world.generations.get(uri)
                media = self._world.put(file)
                self._world.bus.append(self._arrival(media, late=late))
                if before:  # the store tells of the version that is gone, too
                    self._world.bus.append(self._deletion(MediaFile(uri=uri, generation=before)))
            case Remove(file=file, late=late):
                uri = uri_of(file)
                if generation := self._world.generations.get(uri):
                    self._world.generations[uri] = None
                    self._world.source.delete(uri.rpartition("/")[2])
                    gone = MediaFile(uri=uri, generation=generation)
                    self._world.bus.append(self._deletion(gone, late=late))
            case Ask():
                self._world.bus.append(self._asking(event))
            case Fill():
                filler = Filler(self._world, f"fill{self._world.step}", event)
                self._world.fillers.append(filler)
            case Retry(jobs=jobs):
                self._world.bus.append(self._retrying(jobs))
            case Deploy():
                self._deploy(event)
            case Poison(job=job, other=other):
                self._poison(job, other)

    def _arrival(self, media: MediaFile, *, late: bool) -> Call:
        def arrive(call: Call) -> bool:
            jobs = tuple(self._world.graph.jobs)
            asked = self._world.watch.ask(media.uri, jobs)
            Arrivals(
                graph=self._world.graph,
                ledger=call.ledger,
                queue=call.queue,
                clock=self._world.clock,
            ).take([media])
            asked.generation = media.generation
            return True

        return Call(self._world, f"arrival {media.uri[-1]}#{media.generation}", arrive, late=late)

    def _deletion(self, media: MediaFile, *, late: bool = False) -> Call:
        def delete(call: Call) -> bool:
            kept = self._world.scenario.keeps_artifacts
            artifacts = None if kept else ChaoticStore(self._world, call, self._world.artifacts)
            Deletions(ledger=call.ledger, artifacts=artifacts, clock=self._world.clock).take(media)
            there = {
                self._world.artifacts.uri(found.name) for found in self._world.artifacts.list()
            }
            for uri in [u for u in self._world.written if u not in there]:
                del self._world.written[uri]
            return True

        return Call(self._world, f"deletion {media.uri[-1]}#{media.generation}", delete, late=late)

    def _asking(self, event: Ask) -> Call:
        self._requests += 1
        page = [Request()]
        # A file is named by a prefix, too: named as such, threads would look at it.
        prefix = PREFIX if event.file is None else uri_of(event.file)
        asked: list[Asked] = []
        jobs = self._targets(event)

        def ask(call: Call) -> bool:
            if page[0].request is None:  # later pages, and repetitions, are of the same request
                asked.clear()
            known = {one.uri for one in asked}
            uris = [u for u in self._world.generations if u.startswith(prefix) and u not in known]
            asked.extend(self._noted(event, uri, jobs) for uri in uris)
            letters = self._world.watch.published_by.setdefault(id(call), [])
            letters.clear()
            try:
                accepted = self._requests_for(call).take(
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
                messages = messages_in(letters)
                for one in asked:
                    one.request = messages[0].request if messages else one.request
            for message in messages:
                for one in asked:
                    if one.uri == message.uri:
                        one.generation = message.generation
            page[0] = Request(request=accepted.request, after=accepted.after)
            return accepted.after is None

        return Call(self._world, f"request {self._requests}", ask)

    def _noted(self, event: Ask, uri: str, jobs: tuple[str, ...]) -> Asked:
        """What is asked of one file, which may be done from now on."""
        if not event.ping:
            return self._world.watch.ask(uri, jobs, force=event.force)
        ping = Asked(uri=uri, targets=jobs, force=False, retry=False, made_at=self._world.step)
        self._world.watch.pings.append(ping)
        return ping

    def _targets(self, event: Ask) -> tuple[str, ...]:
        chosen: tuple[str, ...] = event.jobs or tuple(self._world.graph.jobs)
        if event.force and event.parents:
            chosen = self._world.graph.upward(chosen)
        return tuple(job for job in self._world.graph.jobs if job in chosen)

    def _requests_for(self, call: Call) -> Requests:
        return Requests(
            graph=self._world.graph,
            ledger=call.ledger,
            queue=call.queue,
            intake=Intake(below=None, not_below=("gs://a/",), include=lambda _name: True),
            open_store=lambda _location: ChaoticStore(self._world, call, self._world.source),
            artifacts=ChaoticStore(self._world, call, self._world.artifacts),
            clock=self._world.clock,
            page=2,
        )

    def _retrying(self, jobs: tuple[str, ...]) -> Call:
        """Forget failures, leave word, and publish: whoever dies in between leaves the word."""

        def again(call: Call) -> bool:
            for uri in self._world.ledger.records:
                (changed,) = call.ledger.change(
                    [Change(uri=uri, transition=self._forgetting(uri, jobs))]
                )
                record = changed.snapshot.record
                if record is None or not changed.answer:
                    continue
                call.queue.publish(
                    [
                        letter(
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

        return Call(self._world, "retry", again)

    def _forgetting(
        self, uri: str, jobs: tuple[str, ...]
    ) -> Callable[[Record | None], tuple[Record | None, tuple[str, ...]]]:
        def transition(found: Record | None) -> tuple[Record | None, tuple[str, ...]]:
            if found is None or found.deleted_at is not None:
                return None, ()
            record, again = requeue(found, jobs)
            if record is None:
                return None, ()
            for job in again:
                record = want(record, self._world.graph, job, (job,), self._world.now)
                self._world.watch.ask(
                    uri, (job,), retry=True, accepted=True, generation=found.generation
                )
                for key in [k for k in self._world.fates if k[0] == uri and k[2] == job]:
                    del self._world.fates[key]
            return record, again

        return transition

    def _deploy(self, event: Deploy) -> None:
        for record in self._world.ledger.records.values():
            self._world.watch.forget_answered(record)
        world = self._world
        world.versions[ord(event.job) - ord("a")] += 1
        world.accepting = world.accepting.replace(event.job, "") + event.job * event.accepts_old
        world.graph = graph_of(world.scenario.shape, tuple(world.versions), world.accepting)
        for worker in self._world.workers:
            if self._world.rng.random() < 0.5:
                worker.stop()
            else:
                worker.die()
        for filler in self._world.fillers:
            filler.die()
        self._world.fillers = [f for f in self._world.fillers if not f.finished]
        self._world.sweeping.start()

    def _poison(self, job: str, other: str | None) -> None:
        """Bytes that are no message; or, for another job, which its own worker must not see."""
        data = b"{no message"
        if other is not None:
            served = [w.jobs for w in self._world.workers if job in w.jobs]
            if any(other in jobs for jobs in served):
                return
            data = letter(Message(uri=uri_of(0), generation=1, job=other)).data
        self._world.watch.poison.append(data)
        self._world.queue.publish([Letter(topic=topic_of(job, Lane.LIVE), data=data)])
