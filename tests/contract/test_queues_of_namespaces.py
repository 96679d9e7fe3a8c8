"""A parent's namespace and two children's, each with a queue of its own: in SQLite, in Pub/Sub, and
in one of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace

import pytest

from segue.adapters.connect import connect_queue
from segue.model.graph import Graph
from segue.model.manifest import Manifest, PublishedJob
from segue.model.queue import (
    Envelope,
    Queue,
    ReceivedEnvelope,
    list_subscriptions,
    list_topics,
)
from segue_support import emulators
from segue_support.pubsub_topics import make_topics
from segue_support.stream import build_graph

DONE = "mood.platform.done-down"
INBOX = "mood.inbox"
PARENT = build_graph({"down": ""})
PARENT = replace(
    PARENT, namespace="platform", jobs={"down": replace(PARENT.jobs["down"], publish=True)}
)


@dataclass
class Namespaces:
    """The queues' URLs by namespace; the children have a pipeline of the same name."""

    urls: dict[str, str]
    opened: ExitStack = field(default_factory=ExitStack)

    def open(self, namespace: str) -> Queue:
        """Open the queue of a namespace; in Pub/Sub it is deployed before."""
        graph = PARENT if namespace == "platform" else self._build_child(namespace)
        queue = self.opened.enter_context(closing(connect_queue(self.urls[namespace], graph)))
        if self.urls[namespace].startswith("pubsub://"):
            subscriptions = list_subscriptions(graph)
            files = [one for one in subscriptions if (one.queue or "").startswith("sqlite://")]
            made = [one for one in subscriptions if one not in files]
            make_topics(queue, list_topics(graph), made)
        return queue

    def _build_child(self, namespace: str) -> Graph:
        down = PublishedJob(fingerprint="0" * 12, writes="audio/flac", pipeline="down")
        platform = Manifest(
            namespace="platform",
            ledger="",
            queue=self.urls["platform"],
            artifacts="",
            jobs={"down": down},
        )
        graph = build_graph({"mood": ["platform/down"]})
        return replace(graph, namespace=namespace, imports={"platform": platform})


KINDS = {
    "sqlite": "sqlite:///{folder}/{name}/queue.db",
    "projects": "pubsub://{project}-{name}",
    "prefixes": "pubsub://{project}/{name}",
}
PUBSUB = pytest.mark.xdist_group("pubsub")


@pytest.fixture(
    params=[
        pytest.param("sqlite"),
        pytest.param("projects", marks=PUBSUB),
        pytest.param("prefixes", marks=PUBSUB),
        pytest.param("mixed", marks=PUBSUB),  # the parent's is a file
    ]
)
def namespaces(request, tmp_path, project, monkeypatch):
    if request.param != "sqlite":
        address = request.getfixturevalue("pubsub_emulator")
        monkeypatch.setenv(emulators.PUBSUB.variable, address)
    kinds = {"platform": "sqlite", "moods": "projects", "charts": "projects"}
    found = Namespaces(
        {
            name: KINDS[kind if request.param == "mixed" else request.param].format(
                folder=tmp_path, project=project, name=name
            )
            for name, kind in kinds.items()
        }
    )
    with found.opened:
        yield found


def envelopes(first: int, number: int, **fields: str) -> list[Envelope]:
    fields = {"topic": "done-down", **fields}
    return [Envelope(data=b"%d" % i, **fields) for i in range(first, first + number)]


def gather(queue: Queue, number: int, *names: str) -> list[ReceivedEnvelope]:
    """Pull a number of envelopes."""
    gathered: list[ReceivedEnvelope] = []
    while len(gathered) < number:
        pulled = queue.pull(names or (DONE,), limit=number - len(gathered), wait_s=30)
        assert pulled
        gathered += pulled
    return gathered


def read_bodies(pulled: Sequence[ReceivedEnvelope]) -> list[int]:
    return sorted(int(one.data) for one in pulled)


def test_a_child_gets_what_its_parent_publishes_from_its_subscription_on(namespaces):
    parent = namespaces.open("platform")
    parent.publish(envelopes(0, 3))
    child = namespaces.open("moods")
    parent.publish(envelopes(3, 20))
    pulled = gather(child, 20)
    assert read_bodies(pulled) == [*range(3, 23)]
    assert {one.subscription for one in pulled} == {DONE}
    child.acknowledge(pulled)
    assert child.pull([DONE, INBOX], limit=9, wait_s=0.5) == []


def test_what_comes_while_a_child_waits_is_in_its_hands_at_once(namespaces):
    parent, child = namespaces.open("platform"), namespaces.open("moods")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(child.pull, [INBOX, DONE], limit=9, wait_s=30)
        parent.publish(envelopes(0, 1))
        assert read_bodies(waiting.result()) == [0]


def test_children_of_two_namespaces_get_each_envelope_and_acknowledge_only_their_own(namespaces):
    parent = namespaces.open("platform")
    children = [namespaces.open(name) for name in ("moods", "charts")]
    parent.publish(envelopes(0, 10))
    held = [gather(child, 10) for child in children]
    assert [read_bodies(each) for each in held] == [[*range(10)]] * 2
    children[0].acknowledge(held[0])
    children[1].extend(held[1], 0)
    assert read_bodies(gather(children[1], 10)) == [*range(10)]
    assert children[0].pull([DONE], limit=10, wait_s=0.5) == []


def test_each_writes_to_the_inbox_of_the_other(namespaces):
    parent, child = namespaces.open("platform"), namespaces.open("moods")
    child.publish(envelopes(0, 5, topic="inbox-down", queue=namespaces.urls["platform"]))
    parent.publish(
        [
            *envelopes(10, 5, topic="inbox-mood", queue=namespaces.urls["moods"]),
            *envelopes(20, 5),
            *envelopes(30, 5, topic="inbox-down"),
        ]
    )
    assert read_bodies(gather(parent, 10, "down.inbox")) == [*range(5), *range(30, 35)]
    assert read_bodies(gather(child, 10, INBOX, DONE)) == [*range(10, 15), *range(20, 25)]
    child.sync()
    parent.sync()


def test_pulls_take_equal_shares_of_both_queues(namespaces):
    parent, child = namespaces.open("platform"), namespaces.open("moods")
    parent.publish(envelopes(0, 50))
    child.publish(envelopes(0, 50, topic="inbox-mood"))
    pulled = child.pull([INBOX, DONE], limit=20, wait_s=30)
    assert [one.subscription for one in pulled].count(DONE) == 10
    assert len(pulled) == 20


def test_the_readers_of_a_child_share_what_it_gets(namespaces):
    parent = namespaces.open("platform")
    readers = [namespaces.open("moods") for _ in range(2)] * 2

    def consume(reader: Queue) -> list[int]:
        mine: list[ReceivedEnvelope] = []
        while pulled := reader.pull([DONE, INBOX], limit=7, wait_s=1):
            reader.acknowledge(pulled)
            mine += pulled
        return read_bodies(mine)

    parent.publish(envelopes(0, 100))
    with ThreadPoolExecutor(4) as pool:
        shares = list(pool.map(consume, readers))
    assert sorted(x for share in shares for x in share) == [*range(100)]
