"""One namespace of a history: its graph, ledger, artifacts and topics."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from segue.model import dead_letter
from segue.model.manifest import split_reference
from segue.model.queue import list_subscriptions
from segue.model.record import State
from segue_support.ledger import MemoryLedger
from segue_support.simulator.deployments import (
    Deployed,
    build_graph,
    change_lock,
    change_version,
    format_artifacts,
    format_queue,
    list_manifests,
)
from segue_support.simulator.scenario import NAMES, NAMESPACES, Deployment, Version
from segue_support.simulator.store import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from segue.model.controls import ControlChange, Controls
    from segue.model.graph import Graph
    from segue.model.media_file import MediaFile
    from segue.model.queue import Envelope, Subscription
    from segue_support.simulator.actors import Worker
    from segue_support.simulator.promises import PromiseChecker
    from segue_support.simulator.world import World


class Namespace:
    """What the processes of one namespace share, and others only read."""

    checker: PromiseChecker  # set by the simulation
    workers: list[Worker]  # likewise

    def __init__(self, world: World, number: int, deployed: Deployed) -> None:
        self.world = world
        self.name = NAMESPACES[number]
        self.queue = format_queue(self.name)
        self.ledger = MemoryLedger()
        self.artifacts = MemoryStore(format_artifacts(number), clock=world.clock)
        self.dead_letters: list[Envelope] = []
        # By URI, version, job and fingerprint: how the job ends on that version of the file.
        self.fates: dict[tuple[str, str, str, str], State] = {}
        self.written: dict[str, None] = {}  # artifacts' names
        # Whether somebody who looked at files in a folder may have died before the last look.
        self.is_in_doubt = False
        self.deployments: list[Deployed] = []
        self.graphs: list[Graph] = []  # that were ever deployed
        self.paused_since: dict[str, datetime] = {}  # by job
        self.cancelled_since: dict[str, datetime] = {}  # by the name of a backfill
        self.pauses = 0
        # Jobs that were paused, and have not been resumed by a command that was not interrupted.
        self.left_to_sweep: set[str] = set()
        self._number = number
        self._layout = world.scenario.layouts[number]
        self._deploy(deployed)

    @property
    def has_catalogue(self) -> bool:
        """Whether it is told of files that arrive, and not only by other namespaces."""
        return self._layout.reads_source and self._layout.source is None

    @property
    def follows_changes(self) -> bool:
        """Whether its ledger ends with what is in the store."""
        if self.has_catalogue:
            return True
        if self.world.scenario.deployments:
            return False
        live = self.graph.select_on_arrival(self.graph.jobs)
        above = self._find_parents(live)
        return any(home.follows_changes for home in above)

    @property
    def hears_of_deletions(self) -> bool:
        """Whether its ledger has a tombstone of each file that is gone, also for what is requested.

        A namespace that was deployed again may have heard of nothing meanwhile.
        """
        if self.has_catalogue:
            return True
        if self.world.scenario.deployments:
            return False
        return any(home.hears_of_deletions for home in self._find_parents(self.graph.jobs))

    def change_controls(self, change: ControlChange) -> Controls:
        """Change the controls, and note when orders were given."""
        now, controls = self.world.now, self.ledger.change_controls(change)
        paused = [job for job in NAMES if controls.find_pause(job) is not None]
        self.paused_since = {job: self.paused_since.get(job, now) for job in paused}
        for run in controls.cancelled:
            self.cancelled_since.setdefault(run, now)
        return controls

    def _find_parents(self, jobs: Iterable[str]) -> list[Namespace]:
        """Return the namespaces of which some jobs read results or files."""
        chosen = list(jobs)
        found = {split_reference(reference)[0] for reference in self.graph.find_foreign(chosen)}
        if self._layout.source and any(self.graph.jobs[job].reads_source for job in chosen):
            found.add(self._layout.source)
        return [self.world.find_home(namespace) for namespace in sorted(found)]

    def is_told_of(self, uri: str) -> bool:
        """Whether it is told of changes of a file in a folder: by those above that know it."""
        if self.has_catalogue:
            return uri in self.ledger.records
        parents = self._find_parents(self.graph.jobs)
        return any(uri in home.ledger.records and home.is_told_of(uri) for home in parents)

    def find_above(self) -> set[str]:
        """Return the namespaces above, whatever is deployed."""
        found: set[str] = set()
        left = [self]
        while left:
            layout = left.pop()._layout
            sources = [layout.source] if layout.source and layout.reads_source else []
            for namespace in (*sources, *(split_reference(r)[0] for r in layout.references)):
                if namespace not in found:
                    found.add(namespace)
                    left.append(self.world.find_home(namespace))
        return found

    def deploy(self, event: Deployment) -> None:
        """Change what is deployed; processes that are started from now on use it."""
        latest = self.deployments[-1]
        match event.version:
            case Version.BACK:
                if len(self.deployments) > 1:
                    self.deployments.pop()
                    self._deploy(self.deployments.pop())
            case Version.LOCK:
                manifests = list_manifests(home.graph for home in self.world.homes)
                self._deploy(change_lock(self._number, self._layout, latest, manifests))
            case _:
                changed = change_version(self._number, self._layout, latest, event)
                if self._keeps_inboxes(build_graph(self._number, self._layout, changed)):
                    self._deploy(changed)

    def _keeps_inboxes(self, graph: Graph) -> bool:
        """Whether a graph has all pipelines that other namespaces send requests to."""
        return all(
            job.pipeline in graph.pipelines
            for home in self.world.homes
            for reference, job in home.graph.foreign.items()
            if split_reference(reference)[0] == self.name
        )

    def _deploy(self, deployed: Deployed) -> None:
        self.deployments.append(deployed)
        self.graph: Graph = build_graph(self._number, self._layout, deployed)
        self.graphs.append(self.graph)
        subscriptions = [self._place(one) for one in list_subscriptions(self.graph)]
        self.world.topics.update(one.topic for one in subscriptions)
        self.world.queue.subscribe(subscriptions)

    def find_pins(self) -> frozenset[str]:
        """Return the fingerprints that other namespaces are locked to."""
        return frozenset(
            fingerprint
            for home in self.world.homes
            for reference, fingerprint in home.graph.pins.items()
            if split_reference(reference)[0] == self.name
        )

    def list_stood_for(self, job: str, fingerprint: str) -> set[str]:
        """Return the fingerprints that a result stood for, whenever it was computed."""
        return {
            fingerprint,
            *(
                old
                for graph in self.graphs
                if job in graph.jobs and graph.fingerprints[job] == fingerprint
                for old in graph.accepted[job]
            ),
        }

    # Topics and subscriptions, of which the one queue in memory has those of all namespaces.

    def list_subscriptions(self, graph: Graph, pipelines: Iterable[str] | None) -> list[str]:
        """Return the names of the subscriptions of some pipelines, or of all."""
        return [self._place(one).name for one in list_subscriptions(graph, pipelines)]

    def _place(self, subscription: Subscription) -> Subscription:
        topic = place_topic(subscription.queue or self.queue, subscription.topic)
        return replace(subscription, name=f"{self.name}:{subscription.name}", topic=topic)

    def place(self, envelope: Envelope) -> Envelope:
        """Return an envelope on its way to a topic of the one queue."""
        return replace(envelope, topic=place_topic(envelope.queue or self.queue, envelope.topic))

    def list_dead_payloads(self) -> list[bytes]:
        """Return the messages inside the dead letters."""
        return [dead_letter.decode_dead_letter(one.data).data for one in self.dead_letters]

    # How jobs end.

    def find_fate(self, media: MediaFile, job: str, fingerprint: str) -> State:
        """Return how a job ends on a version of a file; constant until it is retried."""
        scenario = self.world.scenario
        if not scenario.failing and not scenario.inapplicable:
            return State.DONE
        key = (media.uri, media.version, job, fingerprint)
        if key not in self.fates:
            r = self.world.rng.random()
            fate = State.DONE
            if r < scenario.failing:
                fate = State.FAILED
            elif r < scenario.failing + scenario.inapplicable:
                fate = State.NOT_APPLICABLE
            self.fates[key] = fate
        return self.fates[key]

    def forget_failures(self, uri: str, job: str) -> None:
        """Let a failed job succeed, or fail again, when it is retried."""
        for key, fate in list(self.fates.items()):
            if key[0] == uri and key[2] == job and fate is State.FAILED:
                del self.fates[key]


def place_topic(queue: str, topic: str) -> str:
    """Return the name that a topic of a queue has in the one queue in memory."""
    return f"{queue}/{topic}"


def parse_placed(subscription: str) -> str:
    """Return the name that a subscription has in its own namespace."""
    return subscription.partition(":")[2]
