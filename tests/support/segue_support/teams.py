"""Several namespaces in one process: a ``Stream`` each, and queues that reach one another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from segue.execution.foreign import ForeignLedgers
from segue.execution.reply import Reply
from segue.model.graph import parse_graph
from segue.model.manifest import Manifest
from segue.model.queue import Envelope, Subscription
from segue.model.settings import Settings
from segue.registry.locking import build_lock
from segue.registry.publication import build_manifest
from segue_support.stream import Clock, CountingQueue, Stream


def format_url(namespace: str) -> str:
    """Return the URL of a namespace's queue."""
    return f"pubsub://{namespace}-project/segue"


class TeamQueue(CountingQueue):
    """A namespace's queue: has its subscriptions, also those to other namespaces' topics."""

    def __init__(self, url: str, queues: dict[str, TeamQueue]) -> None:
        super().__init__()
        self._url = url
        self._queues = queues
        queues[url] = self

    def subscribe(self, subscriptions: Sequence[Subscription]) -> None:
        """Create subscriptions; a topic is known by its queue's URL, too."""
        super().subscribe(
            [
                replace(one, topic=f"{one.queue}/{one.topic}") if one.queue is not None else one
                for one in subscriptions
            ]
        )

    def publish(self, envelopes: Sequence[Envelope]) -> None:
        """Store envelopes for each subscription to their topics, whoever has it."""
        self.published.update(envelope.topic for envelope in envelopes)
        for envelope in envelopes:
            url = envelope.queue or self._url
            for name, queue in self._queues.items():
                topic = envelope.topic if name == url else f"{url}/{envelope.topic}"
                queue.store(replace(envelope, topic=topic, queue=None))

    def store(self, envelope: Envelope) -> None:
        """Store an envelope for the subscriptions that this queue has to its topic."""
        if envelope.topic in self._readers:
            super(CountingQueue, self).publish([envelope])


@dataclass
class Teams:
    """Namespaces by name, in the order in which they were added."""

    clock: Clock = field(default_factory=Clock)
    teams: dict[str, Stream] = field(default_factory=dict)
    manifests: dict[str, Manifest] = field(default_factory=dict)
    queues: dict[str, TeamQueue] = field(default_factory=dict)

    def add(self, namespace: str, jobs: str, settings: str = "") -> Stream:
        """Add a namespace, locked to what the others publish at this moment."""
        text = f"namespace: {namespace}\nartifacts: gs://{namespace}\n{settings}jobs:\n{jobs}"
        needed = [word for word in text.replace("}", " ").replace(",", " ").split() if "/" in word]
        references = [word for word in needed if word.partition("/")[0] in self.manifests]
        graph = parse_graph(text, lock=build_lock(references, self.manifests))
        url = format_url(namespace)
        team = Stream(
            graph=graph,
            clock=self.clock,
            queue=self.queues.get(url) or TeamQueue(url, self.queues),
            url=url,
            foreign=ForeignLedgers(graph, lambda _url, name: self.teams[name].ledger),
        )
        if namespace in self.teams:  # deployed anew
            team = replace(team, ledger=self.teams[namespace].ledger)
        self.teams[namespace] = team
        self.publish(namespace)
        return team

    def publish(self, namespace: str) -> None:
        """Publish the manifest of a namespace."""
        settings = Settings(ledger=f"firestore://{namespace}", queue=format_url(namespace))
        self.manifests[namespace] = build_manifest(self.teams[namespace].graph, settings)

    def __getitem__(self, namespace: str) -> Stream:
        """Return a namespace's stream."""
        return self.teams[namespace]

    def run(self) -> Mapping[str, list[Reply]]:
        """Deliver messages in turn until none is left anywhere."""
        replies: dict[str, list[Reply]] = {name: [] for name in self.teams}
        while waiting := [name for name, team in self.teams.items() if team.messages]:
            for name in waiting:
                replies[name].append(self.teams[name].deliver())
        return replies
